//! What can be counted from recorded state, kept beside it so that nothing is scanned.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use skald_protocol::{BranchStatus, Decision, OperationStatus, Timestamp};

use super::Transaction;
use crate::{
    journal::state::{OperationState, Slot, State},
    plan::{Block, Operation, Phase},
};

/// How many branches stand in each status.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts([usize; BranchStatus::ALL.len()]);

impl Counts {
    pub(super) fn of(&self, status: BranchStatus) -> usize {
        self.0[status as usize]
    }

    pub(super) fn none_of(&self, statuses: &[BranchStatus]) -> bool {
        statuses.iter().all(|status| self.of(*status) == 0)
    }
}

impl Transaction {
    /// Recomputes everything from the state: after a snapshot.
    pub(super) fn reindex(&mut self) {
        self.wakes.clear();
        self.idle.clear();
        self.timers.clear();
        self.ready.clear();
        self.active = BTreeMap::new();
        (self.head, self.tail) = (Counts::default(), Counts::default());
        (self.on_abort, self.on_end) = (Counts::default(), Counts::default());
        for branch in 0..self.state.branches.len() {
            self.count(branch, 1);
            for slot in Slot::ALL {
                self.index(branch, slot);
            }
            self.index_block(branch);
        }
    }

    pub(super) fn operation(&self, branch: usize, slot: Slot) -> Option<&Operation> {
        if branch >= self.state.branches.len() {
            return None;
        }
        let spec = self.spec(branch);
        match slot {
            Slot::Forward => spec.forward.as_ref(),
            Slot::Confirm => spec.confirm.as_ref(),
            Slot::Undo => spec.undo.as_ref(),
        }
    }

    pub(super) fn slot_state(&self, branch: usize, slot: Slot) -> Option<&OperationState> {
        self.state.branches.get(branch).and_then(|state| state.slot(slot))
    }

    pub(super) fn polls(&self, branch: usize, slot: Slot) -> bool {
        let pending = self.operation(branch, slot).and_then(|spec| spec.pending.as_ref());
        pending.is_some_and(|pending| pending.poll.is_some())
    }

    /// A forward operation whose transaction is aborted: its outcome only says whether there is something to undo.
    pub(super) fn is_aborting(&self, branch: usize, slot: Slot) -> bool {
        slot == Slot::Forward && self.state.decision == Some(Decision::Abort) && self.spec(branch).phase == Phase::Main
    }

    /// Driven until done: confirm, undo, and every operation after the commit or of a phase that follows.
    pub(super) fn is_settling(&self, branch: usize, slot: Slot) -> bool {
        slot != Slot::Forward || self.spec(branch).tail || self.state.decision == Some(Decision::Commit)
    }

    /// The one way to change an operation.
    pub(super) fn touch(&mut self, branch: usize, slot: Slot, change: impl FnOnce(&mut OperationState)) {
        self.unindex(branch, slot);
        if let Some(op) = self.state.branches[branch].slot_mut(slot) {
            change(op);
        }
        self.index(branch, slot);
    }

    pub(super) fn owe(&mut self, branch: usize, slot: Slot, mut op: OperationState) {
        // What settles sees the state as of the decision, and a retry what the first attempt saw.
        op.seen = if slot == Slot::Forward { self.state.signals.len() } else { self.state.seen };
        *self.state.branches[branch].slot_mut(slot) = Some(Box::new(op));
        self.index(branch, slot);
    }

    /// A call in flight has no wake: its reply is the wake. Nor has an undo whose forward call is in flight.
    pub(super) fn index(&mut self, branch: usize, slot: Slot) {
        let Some(op) = self.slot_state(branch, slot) else { return };
        // A poll in flight leaves the end of the pending time to wake for.
        let polled = op.status == OperationStatus::Pending && self.flights.contains_key(&(branch, slot));
        let due = if polled { op.pending_until } else { op.due_at };
        let waits = match op.status {
            OperationStatus::Pending => true,
            OperationStatus::Owed => {
                let forward = self.flights.get(&(branch, Slot::Forward));
                let races = slot == Slot::Undo && forward.is_some_and(|flight| !flight.poll);
                !(races || self.flights.contains_key(&(branch, slot)))
            }
            OperationStatus::Succeeded
            | OperationStatus::Refused
            | OperationStatus::Exhausted
            | OperationStatus::Skipped => false,
        };
        let main = self.spec(branch).phase == Phase::Main;
        let idle = main && slot == Slot::Forward && waits && op.status == OperationStatus::Owed;
        if waits && !self.has_given_up(branch, slot) {
            self.wakes.insert((due, branch, slot));
        }
        if idle {
            self.idle.insert(branch);
        } else if slot == Slot::Forward {
            self.idle.remove(&branch);
        }
    }

    /// Whatever of the branch waits for a call in flight, or no longer does.
    pub(super) fn reindex_branch(&mut self, branch: usize) {
        for slot in Slot::ALL {
            self.unindex(branch, slot);
            self.index(branch, slot);
        }
    }

    pub(super) fn unindex(&mut self, branch: usize, slot: Slot) {
        if let Some(op) = self.slot_state(branch, slot) {
            let (due, until) = (op.due_at, op.pending_until);
            self.wakes.remove(&(due, branch, slot));
            self.wakes.remove(&(until, branch, slot));
        }
    }

    /// The transaction is aborted and the forward operation no longer matters: its branch is, or need not be, undone.
    pub(super) fn has_given_up(&self, branch: usize, slot: Slot) -> bool {
        self.is_aborting(branch, slot) && self.state.branches[branch].status != BranchStatus::Running
    }

    pub(super) fn set_status(&mut self, branch: usize, status: BranchStatus) {
        if self.state.branches[branch].status != status {
            self.count(branch, -1);
            self.state.branches[branch].status = status;
            self.count(branch, 1);
        }
    }

    pub(super) fn count(&mut self, branch: usize, by: isize) {
        let status = self.state.branches[branch].status;
        let spec = self.spec(branch);
        let counts = match (spec.phase, spec.tail) {
            (Phase::Main, false) => &mut self.head,
            (Phase::Main, true) => &mut self.tail,
            (Phase::OnAbort, _) => &mut self.on_abort,
            (Phase::OnEnd, _) => &mut self.on_end,
        };
        let count = &mut counts.0[status as usize];
        *count = count.saturating_add_signed(by);
        // A map runs as long as its items do, which are counted themselves.
        if status == BranchStatus::Running && !matches!(self.spec(branch).block, Some(Block::Map(_))) {
            let blocks: Vec<usize> = self.blocks_around(branch).collect();
            for block in blocks {
                let active = self.active.entry(block).or_insert(0_usize);
                *active = active.saturating_add_signed(by);
                if *active == 0 {
                    self.active.remove(&block);
                }
            }
        }
    }

    /// A loader never waits longer than the recorded delay from its load, whatever the writer's clock said.
    pub(super) fn clamp(&mut self, now: Timestamp) {
        let planned: Vec<(usize, Slot)> = self.wakes.iter().map(|(_, branch, slot)| (*branch, *slot)).collect();
        for (branch, slot) in planned {
            let Some(spec) = self.operation(branch, slot) else { continue };
            let live = now.plus(spec.timeout).0;
            let pending = spec.pending.as_ref().map_or(now, |pending| now.plus(pending.timeout)).0;
            self.touch(branch, slot, |op| {
                op.due_at = op.due_at.min(now.plus(Duration::from_millis(op.delay_ms)).0);
                op.live_until = op.live_until.min(live);
                op.since = op.since.min(now.0);
                if op.status == OperationStatus::Pending {
                    op.pending_until = op.pending_until.min(pending);
                }
            });
        }
        for (due, branch) in std::mem::take(&mut self.timers) {
            let waits = self.state.branches[branch].block.as_mut().and_then(|block| block.waits.as_mut());
            if let Some(waits) = waits {
                waits.due_at = due.min(now.plus(Duration::from_millis(waits.delay_ms)).0);
            }
            self.index_block(branch);
        }
        if let (Some(deadline), Some(timeout)) = (self.deadline, self.timeout()) {
            self.deadline = Some(deadline.min(now.plus(timeout)));
        }
    }

    pub(super) fn earliest(&self) -> Option<i64> {
        self.wakes.first().map(|(due, ..)| *due)
    }

    pub(super) fn state_for_snapshot(&self) -> State {
        State { records: 0, ..self.state.clone() }
    }
}

pub(super) type Wakes = BTreeSet<(i64, usize, Slot)>;
