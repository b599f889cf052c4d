//! What must hold at every moment, and at the end.

use std::collections::BTreeSet;

use skald_engine::{
    Input, Record, Transaction,
    plan::{OnExhausted, OnTimeout, Phase, Role},
};
use skald_protocol::{BranchStatus, OperationKind, OperationStatus, Status, Timestamp};

use crate::world::{World, state};

type Key = (usize, OperationKind, bool);

fn keys(tx: &Transaction) -> BTreeSet<Key> {
    tx.owed(Timestamp::NEVER).into_iter().map(|call| (call.branch, call.operation, call.ask)).collect()
}

impl World {
    /// Whoever is not told of a moment to wake at has something in flight, needs a person, or is over.
    pub(crate) fn check_now(&self) {
        let status = self.tx.status();
        if self.tx.settled_at().is_some() {
            self.ensure(self.tx.owed(Timestamp::NEVER).is_empty(), "a settled one owes a call");
            return self.ensure(self.tx.next_wake().is_none(), "a settled one wakes");
        }
        let paused = self.plan.on_timeout == OnTimeout::Suspend;
        if status == Status::Suspended && !paused {
            self.ensure(self.tx.owed(Timestamp::NEVER).is_empty(), "a suspended one owes a call");
        }
        if self.tx.goes_on() {
            return self.ensure(self.tx.next_wake().is_some_and(|wake| wake <= self.now), "what goes on is not due");
        }
        let moves = self.tx.in_flight() > 0 || !self.tx.owed(self.now).is_empty();
        if !moves && status != Status::Suspended {
            let wake = self.tx.next_wake();
            self.ensure(wake.is_some_and(|wake| wake > self.now), "it does not say when it goes on");
            let before = wake.map_or(self.now, |wake| Timestamp(wake.0 - 1));
            self.ensure(self.tx.owed(before).is_empty(), "a call is owed before it wakes");
            if self.air.len().is_multiple_of(4) {
                let mut early = self.tx.clone();
                let decided = early.decide(Input::Tick, before).unwrap();
                self.ensure(decided.events.is_empty(), "a tick decides something before it wakes");
            }
        }
    }

    /// The journal says what the holder says, but for minor attempts; with those, to the letter.
    pub(crate) fn check_replay(&self) {
        let encoded = self.journal.iter().map(|record| Record::decode(&record.encode()).unwrap());
        let replayed = self.replay(&encoded.collect::<Vec<_>>());
        let statuses = |tx: &Transaction| {
            let view = tx.view(0..usize::MAX);
            let branches = view.branches.iter().map(|branch| {
                let operations = branch.operations.iter().map(|op| (op.operation, op.status));
                (branch.branch.clone(), branch.status, operations.collect::<Vec<_>>())
            });
            (view.status, view.decision, view.cancel_requested, view.error.clone(), branches.collect::<Vec<_>>())
        };
        self.ensure(statuses(&replayed) == statuses(&self.tx), "the journal tells another story");
        let (recorded, held) = (keys(&replayed), keys(&self.tx));
        self.ensure(held.is_subset(&recorded), "a call is owed that recorded state does not owe");
        let in_flight = |key: &&Key| self.air.iter().any(|message| message.awaited && message.call.branch == key.0);
        self.ensure(
            recorded.difference(&held).all(|key| in_flight(&key)),
            "recorded state owes a call that is not owed",
        );
        let exact = self.replay(&self.all);
        self.ensure(state(&exact) == state(&self.tx), "replaying every event gives another state");
        if self.from_start {
            let bare = self.all.iter().map(|record| {
                let events = record.events.iter().filter(|event| !Self::is_snapshot(event));
                Record { at: record.at, events: events.cloned().collect() }
            });
            let bare: Vec<Record> = bare.filter(|record| !record.events.is_empty()).collect();
            self.ensure(
                state(&self.replay(&bare)) == state(&exact),
                "a snapshot tells another story than what led to it",
            );
        }
    }

    pub(crate) fn judge(&self) {
        let status = self.tx.status();
        if status == Status::Succeeded && !self.plan.open {
            for (branch, spec) in self.specs.iter().enumerate() {
                let never = self.is_dead(branch);
                let status = self.tx.branch_status(branch);
                let ran = matches!(status, BranchStatus::Done | BranchStatus::Confirmed);
                let left_out = status == BranchStatus::Skipped;
                self.ensure(if never { left_out } else { ran || left_out }, "succeeded, and a branch is in between");
                // What has operations is judged by its ledger.
                let excused = self.ledgers[branch].excused || spec.forward.is_some() || spec.phase == Phase::OnAbort;
                self.ensure(never || excused || ran, "succeeded without a step that was to run");
            }
        }
        self.judge_phases(status);
        for (branch, ledger) in self.ledgers.iter().enumerate() {
            let is_late = self.specs.get(branch).is_some_and(|spec| spec.phase != Phase::Main);
            let untouched = self.tx.branch_view(branch).operations.is_empty() && !ledger.may;
            if ledger.excused || untouched || is_late && status == Status::Compensated {
                continue;
            }
            let part = &ledger.part;
            let view = self.tx.branch_view(branch);
            let undone =
                view.operations.iter().any(|op| op.operation.is_undo() && op.status == OperationStatus::Succeeded);
            let spec = self.specs.get(branch);
            let confirms = spec.is_none_or(|spec| spec.confirm.is_some());
            let tail = spec.is_some_and(|spec| spec.tail);
            self.ensure(!(part.confirmed && part.undone > 0), "both confirmed and undone");
            let told = |what: &str| format!("{what}: {}", view.branch);
            match status {
                Status::Failed => {}
                Status::Succeeded => {
                    let ignored = spec.and_then(|spec| spec.forward.as_ref());
                    let ignored = ignored.is_some_and(|spec| spec.on_exhausted == OnExhausted::Ignore);
                    let left_out = (ignored && view.status == BranchStatus::Skipped)
                        || (self.plan.open && view.status == BranchStatus::Refused);
                    self.ensure(part.undone == 0, &told("succeeded, but undone"));
                    self.ensure(!ledger.undo_sent, &told("succeeded, but an undo was sent"));
                    if !self.plan.open {
                        self.ensure(part.effect || left_out, &told("succeeded without its effect"));
                    }
                    self.ensure(part.confirmed == (confirms && !left_out), &told("confirmed wrongly"));
                }
                Status::Compensated => {
                    self.ensure(!tail, &told("compensated, but the tail began"));
                    self.ensure(!part.confirmed, &told("compensated, but confirmed"));
                    if spec.is_some_and(|spec| spec.role == Role::Pivot) {
                        self.ensure(!part.effect && !part.working, &told("compensated, but the pivot happened"));
                    }
                    if self.is_undoable(branch) {
                        self.ensure(!part.effect && !part.working, &told("compensated, but an effect is left"));
                        self.ensure(undone == ledger.may, &told("undone wrongly"));
                    }
                }
                Status::Running | Status::Confirming | Status::Compensating | Status::Suspended => {
                    self.fail("it is not over");
                }
            }
        }
    }

    /// What follows the decision ran exactly where it should, and stands.
    fn judge_phases(&self, status: Status) {
        for (branch, spec) in self.specs.iter().enumerate().filter(|(_, spec)| spec.phase != Phase::Main) {
            let (view, ledger) = (self.tx.branch_view(branch), &self.ledgers[branch]);
            let never = self.is_dead(branch) || status == Status::Succeeded && spec.phase == Phase::OnAbort;
            let ignored = spec.forward.as_ref().is_some_and(|spec| spec.on_exhausted == OnExhausted::Ignore);
            let left_out = ignored && view.status == BranchStatus::Skipped;
            if never && status != Status::Failed {
                let idle = view.operations.is_empty() && view.status == BranchStatus::Skipped;
                self.ensure(idle, "something ran of a phase that was not to begin");
            } else if status == Status::Compensated && !ledger.excused {
                let done = view.status == BranchStatus::Done && (spec.forward.is_none() || ledger.part.effect);
                self.ensure(done || left_out, "compensated, and something of a phase after it is not done");
            }
        }
    }
}
