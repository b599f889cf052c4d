//! What follows from the state by itself: decisions, settlement, suspension.

use skald_protocol::{BranchStatus, Decision, ErrorView, OperationStatus, Status, Timestamp};

use super::{
    Decided, Transaction,
    state::{Deadline, Slot},
};
use crate::event::Event;

impl Transaction {
    /// Folds one event of this node's own making.
    ///
    /// # Panics
    /// If it does not fit: an event is only made where the state allows it.
    pub(super) fn emit(&mut self, out: &mut Decided, event: Event, now: Timestamp) {
        self.emit_minor(out, event, now);
        out.record = true;
    }

    /// The same, for an event that need not be made durable alone.
    pub(super) fn emit_minor(&mut self, out: &mut Decided, event: Event, now: Timestamp) {
        self.fold(&event, now).expect("an event that fits the state it was made from");
        out.events.push(event);
    }

    /// Adds what follows until nothing more does, and counts the record.
    pub(super) fn follow(&mut self, out: &mut Decided, now: Timestamp) {
        while let Some(event) = self.next() {
            self.emit(out, event, now);
        }
        if out.record {
            self.state.records += 1;
        }
    }

    fn next(&self) -> Option<Event> {
        if self.state.settled.is_some() {
            return None;
        }
        match self.state.decision {
            None => self.next_decision(),
            Some(Decision::Abort) => self.next_halt().or_else(|| self.next_settlement()),
            Some(Decision::Commit) => self.next_settlement(),
        }
        .or_else(|| self.next_suspension())
    }

    fn next_decision(&self) -> Option<Event> {
        let commit = Event::Decided { decision: Decision::Commit, error: None };
        let pivots = self.plan.pivots();
        if pivots.iter().any(|pivot| self.has_happened(*pivot)) {
            return Some(commit);
        }
        let reason = self.abort_reason();
        if reason.is_some() && pivots.iter().all(|pivot| self.cannot_happen(*pivot)) {
            return Some(Event::Decided { decision: Decision::Abort, error: reason });
        }
        let head_done = self.head.of(BranchStatus::Done) + self.head.of(BranchStatus::Skipped) == self.head_size()
            && !self.plan.open;
        (pivots.is_empty() && reason.is_none() && self.state.failing.is_none() && head_done).then_some(commit)
    }

    fn head_size(&self) -> usize {
        BranchStatus::ALL.iter().map(|status| self.head.of(*status)).sum()
    }

    fn has_happened(&self, pivot: usize) -> bool {
        self.slot_state(pivot, Slot::Forward).is_some_and(|op| match op.status {
            OperationStatus::Succeeded => true,
            OperationStatus::Skipped => !op.clean,
            OperationStatus::Owed
            | OperationStatus::Pending
            | OperationStatus::Refused
            | OperationStatus::Exhausted => false,
        })
    }

    /// The pivot is never guessed: an abort waits until no attempt of it can have run, which only its holder knows.
    fn cannot_happen(&self, pivot: usize) -> bool {
        let Some(op) = self.slot_state(pivot, Slot::Forward) else { return true };
        let in_flight = !self.holding || self.flights.contains_key(&(pivot, Slot::Forward));
        !op.may_have_run() && !(op.awaits() && in_flight)
    }

    fn abort_reason(&self) -> Option<ErrorView> {
        let plain = |code: &str, message: Option<String>| ErrorView { step: None, code: code.to_owned(), message };
        if self.state.failed {
            return self.state.failing.clone();
        }
        if let Some(cancel) = &self.state.cancel {
            return Some(plain("cancelled", cancel.reason.clone()));
        }
        let passed = self.state.deadline == Deadline::Passed;
        passed.then(|| plain("deadline", Some("the transaction's timeout passed before its decision".to_owned())))
    }

    /// Forward calls that are owed and not in flight will not be made any more.
    fn next_halt(&self) -> Option<Event> {
        if !self.holding {
            return None;
        }
        let rests = |branch: &usize| {
            self.state.branches[*branch].status == BranchStatus::Running
                && !self.flights.contains_key(&(*branch, Slot::Forward))
        };
        let branches: Vec<usize> = self.running.iter().copied().filter(rests).collect();
        (!branches.is_empty()).then_some(Event::Halted { branches })
    }

    fn next_settlement(&self) -> Option<Event> {
        use BranchStatus::{Confirming, Running, Stuck, Undoing, Waiting};
        if !self.head.none_of(&[Running, Confirming, Undoing, Stuck]) || !self.tail.none_of(&[Running, Stuck]) {
            return None;
        }
        if self.state.decision == Some(Decision::Abort) {
            return Some(Event::Settled { status: Status::Compensated, output: None, error: None });
        }
        if self.tail.of(Waiting) > 0 || self.head.of(Waiting) > 0 {
            return None;
        }
        let (output, error) = match self.final_output() {
            Ok(output) => (output, None),
            Err(error) => {
                let error =
                    ErrorView { step: None, code: "expression_failed".to_owned(), message: Some(error.to_string()) };
                (None, Some(error))
            }
        };
        Some(Event::Settled { status: Status::Succeeded, output, error })
    }

    /// Suspended: something needs a person, and nothing moves without one. In flight is known to the holder alone.
    fn next_suspension(&self) -> Option<Event> {
        let paused = self.state.deadline == Deadline::Paused;
        let stuck = self.head.of(BranchStatus::Stuck) + self.tail.of(BranchStatus::Stuck) > 0;
        let rests = self.holding && self.flights.is_empty() && (paused || self.wakes.is_empty());
        (!self.state.suspended && rests && (paused || stuck)).then_some(Event::Suspended)
    }
}
