//! What follows from the state by itself: decisions, settlement, suspension.

use skald_protocol::{BranchStatus, Decision, ErrorView, OperationStatus, Status, Timestamp};

use super::{Decided, Transaction, index::Counts};
use crate::{
    cel::Meter,
    journal::{
        Error, Event,
        state::{Deadline, Slot},
    },
    limit,
    plan::Phase,
};

/// Steps that an event takes beside what it was evaluated from.
const ONE_EVENT: u64 = 16;
/// The same, of each branch that a map's items bring.
const ONE_BRANCH: u64 = 4;

/// What follows from a state.
pub(super) enum Next {
    Event(Event),
    /// Something that takes more than is left of the budget.
    Later,
}

/// What was evaluated, in thousands of steps and in KiB: what is less at once is too little to be counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) cost: u64,
    pub(super) made: u64,
}

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
        self.apply(&event, now).expect("an event that fits the state it was made from");
        out.events.push(event);
    }

    /// Adds what follows until nothing more does or the budget is spent, and counts the record. What is left then follows
    /// from the state by itself, whoever decides next.
    pub(super) fn consequence(&mut self, out: &mut Decided, now: Timestamp) {
        self.goes_on = false;
        while let Some(next) = self.next(now) {
            let Next::Event(event) = next else {
                self.goes_on = true;
                break;
            };
            let made = event.made() as u64;
            self.budget.spend(ONE_EVENT + made / 16 + self.brings(&event) * ONE_BRANCH);
            self.tally.made += made >> 10;
            let too_much = self.state.made + self.tally.made > (limit::JOURNAL >> 10) as u64;
            let event = if too_much { self.too_much(event) } else { event };
            self.emit(out, event, now);
        }
        let Tally { cost, made } = std::mem::take(&mut self.tally);
        if cost + made > 0 && self.state.settled.is_none() {
            self.emit(out, Event::Evaluated { cost, made }, now);
        }
        if out.record {
            self.state.records += 1;
        }
    }

    /// Branches that come into being with it.
    fn brings(&self, event: &Event) -> u64 {
        let Event::Mapped { branch, items } = event else { return 0 };
        items.len().saturating_mul(self.map_of(*branch).map_or(0, |map| map.branches.len())) as u64
    }

    /// What follows from one call's outcome is no longer than a journal may be.
    fn too_much(&self, event: Event) -> Event {
        match event.turn() {
            Some(_) if self.state.decision.is_none() && !self.state.failed => Event::JournalFull,
            Some(branch) => {
                let message = "what follows at once is more than a transaction's journal holds";
                Event::Faulted { branch, error: Error::new("journal_full", message) }
            }
            None => event,
        }
    }

    fn next(&mut self, now: Timestamp) -> Option<Next> {
        if self.state.settled.is_some() {
            return None;
        }
        match self.state.decision {
            None => self.next_decision().map(Next::Event).or_else(|| self.next_block(now)),
            Some(Decision::Abort) => {
                let halt = self.next_halt().map(Next::Event);
                halt.or_else(|| self.next_block(now)).or_else(|| self.next_settlement())
            }
            Some(Decision::Commit) => self.next_block(now).or_else(|| self.next_settlement()),
        }
        .or_else(|| self.next_suspension().map(Next::Event))
    }

    fn next_decision(&self) -> Option<Event> {
        if self.may_commit() {
            return Some(Event::Decided { decision: Decision::Commit, error: None });
        }
        let reason = self.abort_reason();
        let aborts = reason.is_some() && self.plan.pivots().iter().all(|pivot| self.cannot_happen(*pivot));
        aborts.then_some(Event::Decided { decision: Decision::Abort, error: reason })
    }

    /// The branch that has ended it well early.
    pub(super) fn ended(&self) -> Option<usize> {
        self.plan.ends().iter().copied().find(|end| self.state.branches[*end].status == BranchStatus::Done)
    }

    /// A closed transaction commits by itself: a `succeed` was come to, its pivot has happened or, without one, all
    /// before the tail is done.
    pub(super) fn may_commit(&self) -> bool {
        if self.ended().is_some() {
            return true;
        }
        let pivots = self.plan.pivots();
        if !pivots.is_empty() {
            return pivots.iter().any(|pivot| self.has_happened(*pivot));
        }
        let head_done = self.head.of(BranchStatus::Done) + self.head.of(BranchStatus::Skipped) == self.head_size();
        !self.plan.open && head_done && self.state.failing.is_none() && self.abort_reason().is_none()
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
        !(op.may_have_run() || op.awaits() && in_flight)
    }

    pub(super) fn abort_reason(&self) -> Option<ErrorView> {
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
        let halts = self.holding && !self.idle.is_empty();
        halts.then(|| Event::Halted { branches: self.idle.iter().copied().collect() })
    }

    /// How it ends, if nothing of it is left to do.
    pub(super) fn end(&self) -> Option<Status> {
        self.outcome().filter(|_| self.is_at_rest() && self.next_phase().is_none())
    }

    /// How it will end, an operator's `fail` aside.
    pub(super) fn outcome(&self) -> Option<Status> {
        Some(match self.state.decision? {
            Decision::Abort => Status::Compensated,
            Decision::Commit => Status::Succeeded,
        })
    }

    /// What begins now that all before it rests.
    pub(super) fn next_phase(&self) -> Option<Phase> {
        let phases = [(Phase::OnAbort, &self.on_abort), (Phase::OnEnd, &self.on_end)];
        // Nothing waits of a phase that is over, or that the commit skipped.
        let next = phases.into_iter().find(|(phase, of)| *phase > self.state.phase && of.of(BranchStatus::Waiting) > 0);
        next.map(|(phase, _)| phase).filter(|_| self.outcome().is_some() && self.is_at_rest())
    }

    /// Nothing is left to do of the phases that began.
    fn is_at_rest(&self) -> bool {
        use BranchStatus::{Confirming, Running, Stuck, Undoing, Waiting};
        let committed = self.state.decision == Some(Decision::Commit);
        let done = |of: &Counts| of.none_of(&[Waiting, Running, Stuck]);
        self.head.none_of(&[Running, Confirming, Undoing, Stuck])
            && self.tail.none_of(&[Running, Stuck])
            && (!committed || self.head.of(Waiting) + self.tail.of(Waiting) == 0)
            && (self.state.phase != Phase::OnAbort || done(&self.on_abort))
            && (self.state.phase != Phase::OnEnd || done(&self.on_end))
    }

    pub(super) fn is_stuck(&self) -> bool {
        [&self.head, &self.tail, &self.on_abort, &self.on_end].iter().any(|of| of.of(BranchStatus::Stuck) > 0)
    }

    fn next_settlement(&mut self) -> Option<Next> {
        if let Some(phase) = self.next_phase() {
            return Some(Next::Event(Event::PhaseStarted { phase }));
        }
        if self.end()? == Status::Compensated {
            return Some(Next::Event(Event::Settled { status: Status::Compensated, output: None, error: None }));
        }
        if self.plan.output.is_some() && self.ended().is_none() && self.budget.left() == 0 {
            return Some(Next::Later);
        }
        let mut meter = Meter::within(&self.budget);
        let output = self.final_output(&mut meter);
        self.budget.spend(meter.work());
        if meter.is_cut() {
            return Some(Next::Later);
        }
        let (output, error) = match output {
            Ok(output) => (output, None),
            Err(error) => {
                let error =
                    ErrorView { step: None, code: "expression_failed".to_owned(), message: Some(error.to_string()) };
                (None, Some(error))
            }
        };
        Some(Next::Event(Event::Settled { status: Status::Succeeded, output, error }))
    }

    /// Suspended: something needs a person, and nothing moves without one. In flight is known to the holder alone.
    fn next_suspension(&self) -> Option<Event> {
        let paused = self.state.deadline == Deadline::Paused;
        let stuck = self.is_stuck();
        let rests =
            self.holding && self.flights.is_empty() && (paused || self.wakes.is_empty() && self.timers.is_empty());
        (!self.state.suspended && rests && (paused || stuck)).then_some(Event::Suspended)
    }
}
