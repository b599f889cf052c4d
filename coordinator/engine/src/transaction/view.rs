//! What the world sees: API.md's transaction, and the public events of a journal.

use std::sync::Arc;

use skald_protocol::{
    BranchId, BranchStatus, BranchView, CallOutcome, ErrorView, Gid, OperationStatus, OperationView, PublicEvent,
    PublicEventKind, ResolvedOutcome, Timestamp, TransactionView,
};

use super::{Corrupt, Transaction};
use crate::{
    journal::{
        Error, Event, FailureClass, Record, about_operation, about_transaction, about_turn,
        state::{OperationState, Slot},
    },
    plan::Plan,
};

impl Transaction {
    /// The whole of API.md's transaction, with this page of its branches.
    #[must_use]
    pub fn view(&self, branches: std::ops::Range<usize>) -> TransactionView {
        let state = &self.state;
        let end = branches.end.min(state.branches.len());
        TransactionView {
            gid: self.gid.clone(),
            status: self.status(),
            decision: state.decision,
            cancel_requested: state.cancel.is_some(),
            workflow: self.plan.workflow.clone(),
            digest: state.began.plan.clone(),
            input: state.began.input.clone(),
            output: state.settled.as_ref().and_then(|settled| settled.output.clone()),
            error: state.error.clone().or_else(|| state.failing.clone()),
            labels: state.began.labels.clone(),
            created_at: self.began_at(),
            updated_at: Timestamp(state.updated_at),
            settled_at: self.settled_at(),
            deadline: self.deadline,
            next_wake_at: self.next_wake(),
            trace_id: Some(state.began.trace.trace_id.clone()).filter(|trace| !trace.is_empty()),
            branches: (branches.start.min(end)..end)
                .filter(|branch| !self.is_hidden(*branch))
                .map(|branch| self.branch_view(branch))
                .collect(),
            branches_next_cursor: (end < state.branches.len()).then(|| end.to_string()),
        }
    }

    #[must_use]
    pub fn branch_view(&self, branch: usize) -> BranchView {
        let spec = self.spec(branch);
        let operations = Slot::ALL.into_iter().filter_map(|slot| {
            let op = self.slot_state(branch, slot)?;
            Some(self.operation_view(branch, slot, op))
        });
        let block = self.state.branches[branch].block.as_deref();
        let waits = block.and_then(|block| block.waits.as_ref());
        let waits = waits.filter(|_| self.branch_status(branch) == BranchStatus::Running);
        let pure = self.slot_state(branch, Slot::Forward).is_none();
        let (one, several) = waits.map(|waits| one_or_several(&waits.signals)).unwrap_or_default();
        BranchView {
            branch: self.branch_id(branch),
            step: spec.step.clone(),
            status: self.branch_status(branch),
            operations: operations.collect(),
            output: block.filter(|_| pure).and_then(|block| block.output.clone()),
            error: block.and_then(|block| block.error.as_ref()).map(|error| error.at(&spec.step)),
            signal: one.cloned(),
            signals: several.to_vec(),
            waits_until: waits.map(|waits| Timestamp(waits.due_at)),
            items: block.and_then(|block| block.map.as_ref()).map(|map| map.items.len()),
        }
    }

    /// The gate of a block, which has the block's step for its name.
    fn is_hidden(&self, branch: usize) -> bool {
        self.branch_status(branch) != BranchStatus::Stuck && self.spec(branch).id.as_str().ends_with('~')
    }

    fn operation_view(&self, branch: usize, slot: Slot, op: &OperationState) -> OperationView {
        let waits = op.status == OperationStatus::Owed && !self.flights.contains_key(&(branch, slot));
        let output = match slot {
            Slot::Forward => self.output_of(branch).map(std::borrow::Cow::into_owned),
            Slot::Confirm | Slot::Undo => op.response.as_ref().and_then(|response| response.body.clone()),
        };
        OperationView {
            operation: self.operation(branch, slot).map_or(skald_protocol::OperationKind::Action, |spec| spec.kind),
            status: op.status,
            attempts: op.attempts,
            last_error: op
                .error
                .clone()
                .or_else(|| op.response.as_ref()?.error())
                .map(|error| error.at(&self.spec(branch).step)),
            next_attempt_at: waits.then_some(Timestamp(op.due_at)),
            output,
            started_at: Some(Timestamp(op.started_at)),
            finished_at: op.finished_at.map(Timestamp),
        }
    }

    /// The public events of a journal, in order, with ids `<seq>.<index>`.
    pub fn publish(gid: &Gid, plan: &Arc<Plan>, records: &[(u64, Record)]) -> Result<Vec<PublicEvent>, Corrupt> {
        let mut published = Vec::new();
        let mut transaction: Option<Self> = None;
        for (seq, record) in records {
            let corrupt = |reason| Corrupt { seq: *seq, reason };
            let at = Timestamp(record.at);
            for (index, event) in record.events.iter().enumerate() {
                let one = Record { at: record.at, events: vec![event.clone()] };
                let folded = Self::apply_record(transaction.take(), gid, plan, one).map_err(corrupt)?;
                if let Some(kind) = folded.public(event, at) {
                    published.push(PublicEvent { id: format!("{seq}.{index}"), at, kind });
                }
                transaction = Some(folded);
            }
        }
        Ok(published)
    }

    /// `None`: nothing that the world need know.
    fn public(&self, event: &Event, at: Timestamp) -> Option<PublicEventKind> {
        let id = |branch: &usize| self.public_id(*branch);
        let view = |branch: &usize, error: &Error| error.at(&self.spec(*branch).step);
        Some(match event {
            Event::Began(_) => PublicEventKind::Began,
            Event::Enlisted(enlistment) => PublicEventKind::Enlisted { branch: enlistment.branch.id.clone() },
            Event::Failed { branch, operation, attempt, class, error, delay_ms, .. } => {
                PublicEventKind::AttemptFailed {
                    branch: id(branch),
                    operation: *operation,
                    attempt: *attempt,
                    outcome: match class {
                        FailureClass::Refused => CallOutcome::Refused,
                        FailureClass::Unknown => CallOutcome::Unknown,
                        FailureClass::Unsent => CallOutcome::Unsent,
                    },
                    error: view(branch, error),
                    next_attempt_at: at.plus(std::time::Duration::from_millis(*delay_ms)),
                }
            }
            Event::NotFound { branch, operation, attempt, delay_ms, .. } => PublicEventKind::AttemptFailed {
                branch: id(branch),
                operation: *operation,
                attempt: *attempt,
                outcome: CallOutcome::Unknown,
                error: view(branch, &Error::new("not_found", "the status check found that it did not run")),
                next_attempt_at: at.plus(std::time::Duration::from_millis(*delay_ms)),
            },
            Event::Pended { branch, operation, .. } => {
                PublicEventKind::OperationPending { branch: id(branch), operation: *operation }
            }
            Event::Succeeded { branch, operation, attempt, response, output, .. } => {
                PublicEventKind::OperationSucceeded {
                    branch: id(branch),
                    operation: *operation,
                    attempt: *attempt,
                    output: output.as_ref().or(response.body.as_ref()).and_then(skald_protocol::Json::non_null),
                    output_error: response.error().map(|error| view(branch, &error)),
                }
            }
            Event::Refused { branch, operation, attempt, error, .. } => PublicEventKind::OperationRefused {
                branch: id(branch),
                operation: *operation,
                attempt: *attempt,
                error: view(branch, error),
            },
            Event::Exhausted { branch, operation, error } => PublicEventKind::OperationExhausted {
                branch: id(branch),
                operation: *operation,
                error: view(branch, error),
            },
            Event::Stuck { branch, operation, error } => {
                PublicEventKind::BranchStuck { branch: id(branch), operation: *operation, error: view(branch, error) }
            }
            Event::CancelRequested { reason } => PublicEventKind::CancelRequested { reason: reason.clone() },
            Event::DeadlinePassed => PublicEventKind::DeadlinePassed,
            Event::Decided { decision, error } => {
                PublicEventKind::Decided { decision: *decision, error: error.clone() }
            }
            Event::Signalled { name, payload } => PublicEventKind::Signalled {
                name: name.clone(),
                payload: payload.as_ref().and_then(skald_protocol::Json::non_null),
            },
            Event::Suspended => PublicEventKind::Suspended,
            Event::Resumed => PublicEventKind::Resumed,
            Event::Adopted => PublicEventKind::Adopted,
            Event::Retried { branch } => intervened("retry", branch.as_ref().map(id), None),
            Event::Skipped { branch, reason, .. } => intervened("skip", Some(id(branch)), Some(reason)),
            Event::Resolved { branch, outcome, reason, .. } => {
                let command = match outcome {
                    ResolvedOutcome::Succeeded => "resolve succeeded",
                    ResolvedOutcome::Refused => "resolve refused",
                };
                intervened(command, Some(id(branch)), Some(reason))
            }
            Event::Settled { status, output, .. } => PublicEventKind::Settled {
                status: *status,
                output: output.as_ref().and_then(skald_protocol::Json::non_null),
            },
            about_turn!() => return self.public_turn(event, at),
            Event::Heartbeat { .. }
            | Event::Polled { .. }
            | Event::LateCallback { .. }
            | Event::JournalFull
            | Event::Halted { .. }
            | Event::Snapshot(_)
            | Event::Evaluated { .. }
            | Event::KeyTaken { .. }
            | Event::PhaseStarted { .. } => return None,
        })
    }

    /// A gate goes by the name of its block.
    fn public_id(&self, branch: usize) -> BranchId {
        match self.branch_id(branch) {
            gate if gate.as_str().ends_with('~') => {
                BranchId::new(gate.as_str().trim_end_matches('~')).expect("a shorter path")
            }
            id => id,
        }
    }

    /// Of steps without an operation.
    fn public_turn(&self, event: &Event, at: Timestamp) -> Option<PublicEventKind> {
        let id = |branch: &usize| self.public_id(*branch);
        Some(match event {
            Event::Passed { branch, reason: Some(reason) } => intervened("skip", Some(id(branch)), Some(reason)),
            Event::Computed { branch, reason: Some(reason), .. } => {
                intervened("resolve succeeded", Some(id(branch)), Some(reason))
            }
            Event::Passed { branch, reason: None } => PublicEventKind::StepSkipped { branch: id(branch) },
            Event::Computed { branch, reason: None, .. } if self.is_hidden(*branch) => return None,
            Event::Computed { branch, output, reason: None } => PublicEventKind::StepDone {
                branch: id(branch),
                output: output.as_ref().and_then(skald_protocol::Json::non_null),
            },
            Event::Elapsed { branch } => PublicEventKind::StepDone { branch: id(branch), output: None },
            Event::Chosen { branch, arm } => PublicEventKind::ArmChosen { branch: id(branch), arm: *arm },
            Event::Armed { branch, delay_ms, signals } => {
                let (one, several) = one_or_several(signals);
                PublicEventKind::WaitBegan {
                    branch: id(branch),
                    signal: one.cloned(),
                    signals: several.to_vec(),
                    until: at.plus(std::time::Duration::from_millis(*delay_ms)),
                }
            }
            Event::Mapped { branch, items } => PublicEventKind::MapBegan { branch: id(branch), items: items.len() },
            Event::Faulted { branch, error } => {
                PublicEventKind::StepFailed { branch: id(branch), error: error.at(&self.spec(*branch).step) }
            }
            Event::Admitted { .. } | about_operation!() | about_transaction!() => return None,
        })
    }

    /// Why the transaction is not simply succeeding, if it is not.
    #[must_use]
    pub fn error(&self) -> Option<&ErrorView> {
        self.state.error.as_ref()
    }
}

fn one_or_several(signals: &[String]) -> (Option<&String>, &[String]) {
    match signals {
        [one] => (Some(one), &[]),
        several => (None, several),
    }
}

fn intervened(command: &str, branch: Option<skald_protocol::BranchId>, reason: Option<&String>) -> PublicEventKind {
    PublicEventKind::Intervened { command: command.to_owned(), branch, reason: reason.cloned() }
}
