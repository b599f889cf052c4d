//! Words from outside: clients, participants' callbacks, operators.

use skald_protocol::{
    BranchId, BranchStatus, CallbackVerdict, Decision, Json, OperationKind, OperationStatus, ResolvedOutcome, Status,
    Timestamp,
};

use super::{
    Decided, Rejection, Transaction, Word,
    reply::Failure,
    state::{Deadline, Slot},
};
use crate::{
    call::{Call, Response},
    event::{Enlistment, Error, Event, FailureClass},
    limit,
    plan::Block,
    value::same,
};

type Worded = Result<(), Rejection>;

impl Transaction {
    pub(super) fn word(&mut self, word: Word, now: Timestamp, out: &mut Decided) -> Worded {
        match word {
            Word::Enlist(enlistment) => self.enlist(enlistment, now, out),
            Word::Commit => self.commit(now, out),
            Word::Cancel { reason } => self.cancel(reason, now, out),
            Word::Signal { name, payload } => self.take_signal(name, payload, now, out),
            Word::Callback { branch, operation, verdict, output, error } => {
                let at = self.find(&branch).ok_or_else(|| Rejection::UnknownBranch { branch: branch.clone() })?;
                let slot = Slot::of(operation).filter(|slot| {
                    let spec = self.operation(at, *slot);
                    spec.is_some_and(|spec| spec.kind == operation && spec.pending.is_some())
                });
                let slot = slot.ok_or(Rejection::NotAwaited { branch, operation })?;
                self.callback(at, slot, operation, Answer { verdict, output, error }, now, out)
            }
            Word::Once { key, digest, word } => self.once(key, digest, *word, now, out),
            Word::Retry { branch } => self.retry(branch, now, out),
            Word::Skip { branch, reason } => {
                self.unsettled()?;
                if let Some(branch) = self.stuck_block(&branch) {
                    self.emit(out, Event::Passed { branch, reason: Some(reason) }, now);
                    return Ok(());
                }
                let (branch, slot) = self.stuck(&branch)?;
                let operation = self.kind(branch, slot);
                self.emit(out, Event::Skipped { branch, operation, reason }, now);
                Ok(())
            }
            Word::Resolve { branch, outcome, output, reason } => {
                self.unsettled()?;
                self.resolve(&branch, outcome, output, reason, now, out)
            }
            Word::Fail { reason } => self.end_as_failed(reason, now, out),
            Word::Resume => self.resume(now, out),
            Word::JournalFull => {
                if self.state.decision.is_none() && self.state.settled.is_none() && !self.state.failed {
                    self.emit(out, Event::JournalFull, now);
                }
                Ok(())
            }
        }
    }

    fn unsettled(&self) -> Worded {
        if self.state.settled.is_some() { Err(Rejection::Settled) } else { Ok(()) }
    }

    /// A word that its sender may send again because its answer was lost: it is taken once, also after it ended the
    /// transaction.
    fn once(&mut self, key: String, digest: String, word: Word, now: Timestamp, out: &mut Decided) -> Worded {
        if let Some(known) = self.state.keys.get(&key) {
            return if *known == digest { Ok(()) } else { Err(Rejection::KeyConflict { key }) };
        }
        self.unsettled()?;
        if self.state.keys.len() >= limit::IDEMPOTENCY_KEYS {
            return Err(Rejection::TooManyKeys { limit: limit::IDEMPOTENCY_KEYS });
        }
        let updated_at = self.state.updated_at;
        // Before the word, which may end the transaction.
        self.emit(out, Event::KeyTaken { key: key.clone(), digest }, now);
        let taken = self.word(word, now, out);
        if taken.is_err() {
            self.state.keys.remove(&key);
            self.state.updated_at = updated_at;
        }
        taken
    }

    fn take_signal(&mut self, name: String, payload: Option<Json>, now: Timestamp, out: &mut Decided) -> Worded {
        if self.plan.open {
            return Err(Rejection::OpenTakesNoSignals);
        }
        let payload = payload.filter(|payload| !payload.is_null());
        if let Some(known) = self.signal(&name) {
            let same = is_same(self.state.signals[known].payload.as_ref(), payload.as_ref());
            return if same { Ok(()) } else { Err(Rejection::SignalConflict { name }) };
        }
        self.unsettled()?;
        if self.state.signals.len() >= limit::SIGNALS {
            return Err(Rejection::TooManySignals { limit: limit::SIGNALS });
        }
        self.emit(out, Event::Signalled { name, payload }, now);
        Ok(())
    }

    /// A branch that is stuck without an operation.
    fn stuck_block(&self, id: &BranchId) -> Option<usize> {
        let branch = self.find(id)?;
        (self.state.branches[branch].status == BranchStatus::Stuck && self.is_pure(branch)).then_some(branch)
    }

    fn kind(&self, branch: usize, slot: Slot) -> OperationKind {
        self.kind_of(branch, slot).unwrap_or(OperationKind::Action)
    }

    fn enlist(&mut self, enlistment: Box<Enlistment>, now: Timestamp, out: &mut Decided) -> Worded {
        if !self.plan.open {
            return Err(Rejection::NotOpen);
        }
        if let Some(branch) = self.find(&enlistment.branch.id) {
            let same = self.enlisted_digest(branch) == Some(enlistment.digest.as_str());
            return if same { Ok(()) } else { Err(Rejection::BranchConflict { branch: enlistment.branch.id }) };
        }
        if self.state.decision.is_some() || self.state.settled.is_some() {
            return Err(Rejection::Decided);
        }
        if self.state.branches.len() >= limit::STEPS {
            return Err(Rejection::TooManyBranches { limit: limit::STEPS });
        }
        self.emit(out, Event::Enlisted(enlistment), now);
        Ok(())
    }

    fn commit(&mut self, now: Timestamp, out: &mut Decided) -> Worded {
        if !self.plan.open {
            return Err(Rejection::NotOpen);
        }
        match (self.state.decision, self.status()) {
            (Some(Decision::Commit), _) => return Ok(()),
            (Some(Decision::Abort), _) => return Err(Rejection::AlreadyCancelled),
            (None, Status::Failed) => return Err(Rejection::Settled),
            (None, _) => {}
        }
        for (index, branch) in self.state.branches.iter().enumerate() {
            let why = match branch.status {
                BranchStatus::Done => continue,
                BranchStatus::Refused if !branch.may_have_run(self.spec(index)) => continue,
                BranchStatus::Refused => "its try was refused or gave up, but may have run; cancel instead",
                _ => "its try has no outcome yet; wait for it or cancel",
            };
            return Err(Rejection::BranchUnsettled { branch: self.spec(index).id.clone(), why });
        }
        self.emit(out, Event::Decided { decision: Decision::Commit, error: None }, now);
        Ok(())
    }

    fn cancel(&mut self, reason: Option<String>, now: Timestamp, out: &mut Decided) -> Worded {
        match (self.state.decision, self.status()) {
            (Some(Decision::Commit), _) => Err(Rejection::AlreadyCommitted),
            (Some(Decision::Abort), _) => Ok(()),
            (None, _) if self.state.cancel.is_some() => Ok(()),
            (None, Status::Failed) => Err(Rejection::Settled),
            (None, _) => {
                self.emit(out, Event::CancelRequested { reason }, now);
                Ok(())
            }
        }
    }

    fn callback(
        &mut self,
        branch: usize,
        slot: Slot,
        operation: OperationKind,
        answer: Answer,
        now: Timestamp,
        out: &mut Decided,
    ) -> Worded {
        let Some(op) = self.slot_state(branch, slot) else {
            return Err(Rejection::NotAwaited { branch: self.spec(branch).id.clone(), operation });
        };
        // What was recorded is told as long as it is known.
        match (op.status, answer.verdict) {
            (OperationStatus::Succeeded, CallbackVerdict::Succeeded) => {
                let recorded = op.response.as_ref().and_then(|response| response.body.as_ref());
                let output = answer.output.as_ref().filter(|output| !output.is_null());
                // Who sends no output has none to lose.
                let agrees = output.is_none() || is_same(recorded.filter(|body| !body.is_null()), output);
                return if agrees { Ok(()) } else { Err(Rejection::CallbackConflict) };
            }
            (OperationStatus::Refused, CallbackVerdict::Refused) => return Ok(()),
            (OperationStatus::Succeeded, CallbackVerdict::Refused)
            | (OperationStatus::Refused, CallbackVerdict::Succeeded) => return Err(Rejection::CallbackConflict),
            _ => {}
        }
        self.unsettled()?;
        let outcome = match answer.verdict {
            CallbackVerdict::Succeeded => ResolvedOutcome::Succeeded,
            CallbackVerdict::Refused => ResolvedOutcome::Refused,
            CallbackVerdict::Pending => {
                if op.status == OperationStatus::Pending && !self.has_given_up(branch, slot) {
                    self.emit(out, Event::Heartbeat { branch, operation }, now);
                }
                return Ok(());
            }
        };
        // Driven to its end whatever a person was called for: the refusal of a stuck one tells nothing new.
        let useless = outcome == ResolvedOutcome::Refused && !op.awaits() && self.is_settling(branch, slot);
        if useless || !self.is_answerable(branch, slot) {
            if !op.late_callback {
                self.emit(out, Event::LateCallback { branch, operation, outcome }, now);
            }
            return Ok(());
        }
        let attempt = if op.status == OperationStatus::Owed { op.attempts.saturating_add(1) } else { op.attempts };
        let call = Call { branch, operation, attempt, ask: false };
        let error = answer.error.unwrap_or_else(|| Error { code: "refused".to_owned(), message: None });
        match outcome {
            ResolvedOutcome::Succeeded => {
                let response = Response { status: 200, body: answer.output, ..Response::default() };
                self.succeeded(call, response, None, now, out);
            }
            ResolvedOutcome::Refused if self.is_settling(branch, slot) => {
                self.failed(Failure::new(branch, slot, attempt, FailureClass::Refused, error), now, out);
            }
            ResolvedOutcome::Refused => self.refused(call, error, true, now, out),
        }
        Ok(())
    }

    fn stuck(&self, id: &BranchId) -> Result<(usize, Slot), Rejection> {
        let branch = self.find(id).ok_or_else(|| Rejection::UnknownBranch { branch: id.clone() })?;
        let slot = self.state.branches[branch].stuck_slot();
        slot.map(|slot| (branch, slot)).ok_or_else(|| Rejection::NotStuck { branch: id.clone() })
    }

    /// Stuck operations, and those that wait for their next attempt, are due now.
    fn retry(&mut self, id: Option<BranchId>, now: Timestamp, out: &mut Decided) -> Worded {
        self.unsettled()?;
        let retriable = |branch: usize| {
            self.state.branches[branch].status == BranchStatus::Stuck
                || Slot::ALL.into_iter().any(|slot| {
                    self.slot_state(branch, slot).is_some_and(|op| {
                        op.status == OperationStatus::Owed && !self.flights.contains_key(&(branch, slot))
                    })
                })
        };
        let branch = match id {
            Some(id) => {
                let branch = self.find(&id).ok_or_else(|| Rejection::UnknownBranch { branch: id.clone() })?;
                if !retriable(branch) {
                    return Err(Rejection::NotStuck { branch: id });
                }
                Some(branch)
            }
            None if (0..self.state.branches.len()).any(retriable) => None,
            None => return Err(Rejection::NotSuspended),
        };
        self.emit(out, Event::Retried { branch }, now);
        Ok(())
    }

    fn resolve(
        &mut self,
        id: &BranchId,
        outcome: ResolvedOutcome,
        output: Option<Json>,
        reason: String,
        now: Timestamp,
        out: &mut Decided,
    ) -> Worded {
        let branch = self.find(id).ok_or_else(|| Rejection::UnknownBranch { branch: id.clone() })?;
        if self.stuck_block(id).is_some() {
            let spec = self.spec(branch);
            let chooses = matches!(
                spec.block,
                Some(Block::Choose(_) | Block::Map(_) | Block::Fail { .. } | Block::Succeed { .. })
            );
            // Nor has a condition: what it admits has.
            if chooses || spec.forward.is_some() {
                return Err(Rejection::NotResolvable { branch: id.clone() });
            }
            if outcome == ResolvedOutcome::Refused {
                return Err(Rejection::NotRefusable { branch: id.clone() });
            }
            self.emit(out, Event::Computed { branch, output, reason: Some(reason) }, now);
            return Ok(());
        }
        let pending = Slot::ALL.into_iter().find(|slot| {
            let awaited = self.slot_state(branch, *slot).is_some_and(|op| op.status == OperationStatus::Pending);
            awaited && !self.has_given_up(branch, *slot)
        });
        let slot = self.state.branches[branch].stuck_slot().or(pending);
        let slot = slot.ok_or_else(|| Rejection::NotStuck { branch: id.clone() })?;
        if outcome == ResolvedOutcome::Refused && self.is_settling(branch, slot) {
            return Err(Rejection::NotRefusable { branch: id.clone() });
        }
        let operation = self.kind(branch, slot);
        self.emit(out, Event::Resolved { branch, operation, outcome, output, reason }, now);
        Ok(())
    }

    fn end_as_failed(&mut self, reason: String, now: Timestamp, out: &mut Decided) -> Worded {
        match self.status() {
            Status::Failed => Ok(()),
            Status::Succeeded | Status::Compensated => Err(Rejection::Settled),
            Status::Running | Status::Confirming | Status::Compensating | Status::Suspended => {
                let error = Error::new("failed_by_operator", reason);
                let error = Some(skald_protocol::ErrorView { step: None, code: error.code, message: error.message });
                self.emit(out, Event::Settled { status: Status::Failed, output: None, error }, now);
                Ok(())
            }
        }
    }

    fn resume(&mut self, now: Timestamp, out: &mut Decided) -> Worded {
        self.unsettled()?;
        let stuck = self.state.branches.iter().any(|branch| branch.status == BranchStatus::Stuck);
        if self.state.deadline != Deadline::Paused && !stuck {
            return Err(Rejection::NotSuspended);
        }
        self.emit(out, Event::Resumed, now);
        if stuck {
            self.emit(out, Event::Retried { branch: None }, now);
        }
        Ok(())
    }
}

fn is_same(known: Option<&Json>, sent: Option<&Json>) -> bool {
    match (known, sent) {
        (Some(known), Some(sent)) => same(known, sent),
        (known, sent) => known.is_none() && sent.is_none(),
    }
}

struct Answer {
    verdict: CallbackVerdict,
    output: Option<Json>,
    error: Option<Error>,
}
