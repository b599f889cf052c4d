//! Folding an event into the value: the one place where recorded state changes, for live work and for replay alike.
//!
//! A fold reads nothing but the event, its time and the recorded state. Beside the state it keeps what can be counted
//! from it (wakes, counts, idle branches), so that deciding costs what changes and not what is there. An event that does
//! not fit (`validate`) is refused before anything changes.

use skald_protocol::{BranchStatus, Decision, ErrorView, OperationStatus, ResolvedOutcome, Timestamp};

use super::Transaction;
use crate::{
    call::Response,
    journal::{
        Enlistment, Error, Event, FailureClass, about_operation, about_transaction, about_turn,
        encoding::millis,
        state::{BranchState, Cancel, Deadline, Settled, Signal, Slot},
    },
    plan::{OnExhausted, OnTimeout},
};

impl Transaction {
    /// `Err`: no decision makes this event of this state.
    pub(super) fn apply(&mut self, event: &Event, at: Timestamp) -> Result<(), String> {
        self.fits(event)?;
        self.state.updated_at = at.0;
        match (event.subject(), event.turn()) {
            (Some((branch, operation)), _) => {
                if let Some(slot) = Slot::of(operation) {
                    self.apply_operation(event, branch, slot, at);
                }
            }
            (None, Some(branch)) => self.apply_turn(event, branch, at),
            (None, None) => self.apply_whole(event, at),
        }
        self.rest_blocks();
        Ok(())
    }

    /// What became of one operation.
    fn apply_operation(&mut self, event: &Event, branch: usize, slot: Slot, at: Timestamp) {
        match event {
            Event::Succeeded { .. }
            | Event::Refused { .. }
            | Event::Exhausted { .. }
            | Event::Skipped { .. }
            | Event::Resolved { .. } => (self.state.evaluated, self.state.made) = (0, 0),
            Event::Failed { .. }
            | Event::NotFound { .. }
            | Event::Pended { .. }
            | Event::Heartbeat { .. }
            | Event::Polled { .. }
            | Event::Stuck { .. }
            | Event::LateCallback { .. }
            | about_turn!()
            | about_transaction!() => {}
        }
        match event {
            Event::Failed { .. } => self.apply_failed(event, branch, slot, at),
            Event::NotFound { attempt, cleared, delay_ms, .. } => self.touch(branch, slot, |op| {
                op.attempts = *attempt;
                // A poll takes no attempt's number.
                if op.status != OperationStatus::Pending {
                    op.uncounted = op.uncounted.saturating_add(1);
                }
                op.resend(at);
                if *cleared {
                    (op.unknown, op.adopted, op.asking) = (false, false, false);
                }
                op.wait(at, *delay_ms);
            }),
            Event::Pended { attempt, .. } => self.apply_pended(branch, slot, *attempt, at),
            Event::Polled { delay_ms, error, .. } => self.touch(branch, slot, |op| {
                op.polls = op.polls.saturating_add(1);
                op.error.clone_from(error);
                let rest = millis(at.until(Timestamp(op.pending_until)));
                op.wait(at, rest.min(*delay_ms));
            }),
            // What is polled is asked at its own pace.
            Event::Heartbeat { .. } if self.polls(branch, slot) => {}
            Event::Heartbeat { .. } => {
                let heartbeat = self.operation(branch, slot).and_then(|spec| spec.pending.as_ref()?.heartbeat);
                self.touch(branch, slot, |op| {
                    let rest = millis(at.until(Timestamp(op.pending_until)));
                    op.wait(at, heartbeat.map_or(rest, |heartbeat| millis(heartbeat).min(rest)));
                });
            }
            Event::Succeeded { attempt, response, output, unmapped, barrier, .. } => {
                self.touch(branch, slot, |op| {
                    op.attempts = *attempt;
                    op.response = Some(response.clone());
                    op.output.clone_from(output);
                });
                if barrier.is_some() {
                    self.note_barrier(branch, slot);
                }
                self.succeed(branch, slot, OperationStatus::Succeeded, unmapped.as_ref(), at);
            }
            Event::Refused { attempt, error, clean, .. } => {
                self.touch(branch, slot, |op| op.attempts = *attempt);
                self.refuse(branch, error, *clean, at);
            }
            Event::Exhausted { error, .. } => self.exhaust(branch, slot, error, at),
            Event::Stuck { error, .. } => {
                self.touch(branch, slot, |op| {
                    op.status = OperationStatus::Exhausted;
                    op.error = Some(error.clone());
                    op.finished_at = Some(at.0);
                });
                self.set_status(branch, BranchStatus::Stuck);
            }
            Event::LateCallback { .. } => self.touch(branch, slot, |op| op.late_callback = true),
            Event::Skipped { .. } => self.succeed(branch, slot, OperationStatus::Skipped, None, at),
            Event::Resolved { outcome: ResolvedOutcome::Succeeded, output, .. } => {
                self.touch(branch, slot, |op| {
                    op.output.clone_from(output);
                    op.response = Some(Response { body: output.clone(), ..Response::default() });
                });
                self.succeed(branch, slot, OperationStatus::Succeeded, None, at);
            }
            Event::Resolved { outcome: ResolvedOutcome::Refused, reason, .. } => {
                self.refuse(branch, &Error::new("refused", reason.clone()), true, at);
            }
            about_turn!() | about_transaction!() => debug_assert!(false, "an operation's event"),
        }
    }

    /// What became of the transaction.
    fn apply_whole(&mut self, event: &Event, at: Timestamp) {
        match event {
            Event::Enlisted(enlistment) => self.apply_enlisted(enlistment, at),
            Event::CancelRequested { reason } => self.state.cancel = Some(Cancel { reason: reason.clone() }),
            Event::DeadlinePassed => {
                self.state.deadline = match self.plan.on_timeout {
                    OnTimeout::Compensate => Deadline::Passed,
                    OnTimeout::Suspend => Deadline::Paused,
                };
            }
            Event::JournalFull => {
                let full = ErrorView {
                    step: None,
                    code: "journal_full".to_owned(),
                    message: Some("the transaction's journal reached its limit before its decision".to_owned()),
                };
                self.state.failing = Some(full);
                self.state.failed = true;
            }
            Event::Decided { decision, error } => {
                self.state.decision = Some(*decision);
                self.state.error.clone_from(error);
                self.state.suspended = false;
                self.state.seen = self.state.signals.len();
                if self.state.deadline == Deadline::Paused {
                    self.state.deadline = Deadline::Lifted;
                }
                match decision {
                    Decision::Commit => self.begin_commit(at),
                    Decision::Abort => self.begin_abort(at),
                }
            }
            Event::Halted { branches } => {
                for branch in branches {
                    self.rest_forward(*branch, at);
                }
            }
            Event::Signalled { name, payload } => {
                self.state.signals.push(Signal { name: name.clone(), payload: payload.clone() });
                let waits = self.timers.iter().map(|(_, branch)| *branch).collect::<Vec<_>>();
                for branch in waits {
                    self.index_block(branch);
                }
                self.state.suspended = false;
            }
            Event::Evaluated { cost, made } => {
                self.state.evaluated = self.state.evaluated.saturating_add(*cost);
                self.state.made = self.state.made.saturating_add(*made);
            }
            Event::KeyTaken { key, digest } => drop(self.state.keys.insert(key.clone(), digest.clone())),
            Event::PhaseStarted { phase } => {
                self.state.phase = *phase;
                self.start_all(at);
            }
            Event::Suspended => self.state.suspended = true,
            Event::Adopted => self.adopt(at),
            Event::Retried { branch } => {
                (self.state.evaluated, self.state.made) = (0, 0);
                self.apply_retried(*branch, at);
            }
            Event::Resumed => {
                if self.state.deadline == Deadline::Paused {
                    self.state.deadline = Deadline::Lifted;
                }
                self.state.suspended = false;
            }
            Event::Settled { status, output, error } => {
                self.state.settled = Some(Settled { status: *status, at: at.0, output: output.clone() });
                if error.is_some() {
                    self.state.error.clone_from(error);
                }
                self.state.suspended = false;
                self.wakes.clear();
                self.timers.clear();
                self.ready.clear();
            }
            // The first of a journal, and what stands in place of all before it, are not applied.
            Event::Began(_) | Event::Snapshot(_) => {}
            about_operation!() | about_turn!() => debug_assert!(false, "the transaction's event"),
        }
    }

    fn apply_enlisted(&mut self, enlistment: &Enlistment, at: Timestamp) {
        self.state.enlisted.push(enlistment.clone());
        self.state.branches.push(BranchState::waiting(0));
        self.state.suspended = false;
        let branch = self.state.branches.len() - 1;
        self.count(branch, 1);
        self.start(branch, at);
    }

    fn apply_failed(&mut self, event: &Event, branch: usize, slot: Slot, at: Timestamp) {
        let Event::Failed { attempt, ask, class, error, delay_ms, live_ms, barrier, .. } = event else { return };
        let can_ask = self.operation(branch, slot).is_some_and(|spec| spec.status_check.is_some());
        self.touch(branch, slot, |op| {
            op.resend(at);
            op.attempts = *attempt;
            op.class = Some(*class);
            op.error = Some(error.clone());
            match class {
                FailureClass::Unknown => {
                    op.unknown = true;
                    op.live_until = op.live_until.max(at.plus(std::time::Duration::from_millis(*live_ms)).0);
                }
                // A status_check knows: it did not run, so it is sent again and not asked about for ever.
                FailureClass::Refused if *ask => (op.unknown, op.adopted) = (false, false),
                FailureClass::Refused | FailureClass::Unsent => {}
            }
            op.asking = can_ask && (op.unknown || op.adopted);
            op.wait(at, *delay_ms);
        });
        if barrier.is_some() {
            self.note_barrier(branch, slot);
        }
    }

    fn apply_pended(&mut self, branch: usize, slot: Slot, attempt: u32, at: Timestamp) {
        let Some(pending) = self.operation(branch, slot).and_then(|spec| spec.pending.as_ref()) else { return };
        let first = pending.poll.as_ref().map(|poll| poll.interval).or(pending.heartbeat);
        let (timeout, first) = (millis(pending.timeout), first.map(millis));
        self.touch(branch, slot, |op| {
            op.status = OperationStatus::Pending;
            op.attempts = attempt;
            op.asking = false;
            op.pending_since = at.0;
            op.pending_until = at.0.saturating_add(i64::try_from(timeout).unwrap_or(i64::MAX));
            op.polls = 0;
            op.wait(at, first.map_or(timeout, |first| first.min(timeout)));
        });
        if self.is_aborting(branch, slot) {
            self.rest_forward(branch, at);
        }
    }

    fn note_barrier(&mut self, branch: usize, slot: Slot) {
        if let Some(service) = self.operation(branch, slot).and_then(|spec| spec.service.clone()) {
            self.state.barriers.insert(service);
        }
    }

    /// An operation did its work, or is to be treated so.
    fn succeed(&mut self, branch: usize, slot: Slot, how: OperationStatus, unmapped: Option<&Error>, at: Timestamp) {
        self.touch(branch, slot, |op| {
            op.status = how;
            op.clean = false;
            op.unmapped = unmapped.is_some();
            op.finished_at = Some(at.0);
            if let Some(error) = unmapped {
                op.error = Some(error.clone());
            }
        });
        self.state.suspended = false;
        match slot {
            Slot::Forward if self.is_aborting(branch, slot) => self.rest_forward(branch, at),
            Slot::Forward => match unmapped {
                Some(_) if self.is_settling(branch, slot) => {
                    self.set_status(branch, BranchStatus::Stuck);
                }
                Some(error) => {
                    self.set_status(branch, BranchStatus::Done);
                    self.fail(branch, error);
                }
                None => self.finish(branch, BranchStatus::Done, at),
            },
            Slot::Confirm => self.set_status(
                branch,
                if how == OperationStatus::Skipped { BranchStatus::Skipped } else { BranchStatus::Confirmed },
            ),
            Slot::Undo => {
                let status = if how == OperationStatus::Skipped { BranchStatus::Skipped } else { BranchStatus::Undone };
                self.set_status(branch, status);
                self.advance_undo(branch, at);
            }
        }
    }

    /// A forward operation was refused.
    fn refuse(&mut self, branch: usize, error: &Error, clean: bool, at: Timestamp) {
        self.touch(branch, Slot::Forward, |op| {
            op.status = OperationStatus::Refused;
            op.clean = clean;
            op.error = Some(error.clone());
            op.finished_at = Some(at.0);
        });
        self.state.suspended = false;
        if self.is_aborting(branch, Slot::Forward) {
            self.rest_forward(branch, at);
        } else {
            self.set_status(branch, BranchStatus::Refused);
            self.fail(branch, error);
        }
    }

    fn exhaust(&mut self, branch: usize, slot: Slot, error: &Error, at: Timestamp) {
        let ignore = self.operation(branch, slot).is_some_and(|spec| spec.on_exhausted == OnExhausted::Ignore);
        self.touch(branch, slot, |op| {
            op.status = OperationStatus::Exhausted;
            op.error = Some(error.clone());
            op.finished_at = Some(at.0);
        });
        if ignore {
            self.finish(branch, BranchStatus::Skipped, at);
        } else {
            self.set_status(branch, BranchStatus::Refused);
            self.fail(branch, error);
        }
    }

    fn apply_retried(&mut self, branch: Option<usize>, at: Timestamp) {
        for branch in branch.map_or(0..self.state.branches.len(), |branch| branch..branch + 1) {
            let stuck = self.state.branches[branch].stuck_slot();
            if stuck.is_none() && self.state.branches[branch].status == BranchStatus::Stuck {
                self.turn_again(branch);
            }
            if let Some(slot) = stuck {
                let status = match slot {
                    Slot::Forward => BranchStatus::Running,
                    Slot::Confirm => BranchStatus::Confirming,
                    Slot::Undo => BranchStatus::Undoing,
                };
                self.set_status(branch, status);
                let seen = self.state.signals.len();
                self.touch(branch, slot, |op| {
                    // Nothing was sent that the next attempt could differ from.
                    if op.error.as_ref().is_some_and(|error| error.code == "expression_failed") {
                        op.seen = seen;
                    }
                    op.owe_again(at);
                });
            }
            // Even a person does not let an undo race what it undoes.
            let grace = self.grace(branch, at);
            for slot in Slot::ALL {
                if self.slot_state(branch, slot).is_some_and(|op| op.status == OperationStatus::Owed) {
                    self.touch(branch, slot, |op| op.wait(at, if slot == Slot::Undo { grace } else { 0 }));
                }
            }
        }
        self.state.suspended = false;
    }
}
