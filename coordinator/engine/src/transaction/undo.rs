//! Backwards: what an abort undoes, in which order, and when an undo may go out.

use skald_protocol::{BranchStatus, OperationStatus, Timestamp};

use super::Transaction;
use crate::{
    journal::state::{OperationState, Slot},
    plan::Phase,
};

impl Transaction {
    pub(super) fn begin_abort(&mut self, at: Timestamp) {
        self.ready.clear();
        self.timers.clear();
        let is_main = |branch: &usize| self.spec(*branch).phase == Phase::Main;
        let main: Vec<usize> = (0..self.state.branches.len()).filter(is_main).collect();
        for branch in main.iter().copied() {
            let waits = self.successors(branch).1.len();
            // An item's last branches wait for what comes after the map.
            let last = waits == 0 && self.item_of(branch).is_some();
            self.state.branches[branch].undo_waits = waits + usize::from(last);
            let state = &self.state.branches[branch];
            let undoable = self.spec(branch).undo.is_some();
            let may_have_run = state.may_have_run(self.spec(branch));
            if state.map().is_some() {
                self.set_status(branch, BranchStatus::Undoing);
                continue;
            }
            match state.status {
                BranchStatus::Running if state.forward.is_none() => self.set_status(branch, BranchStatus::Skipped),
                BranchStatus::Waiting => self.set_status(branch, BranchStatus::Skipped),
                BranchStatus::Running
                    if state.forward.as_ref().is_some_and(|op| op.status == OperationStatus::Pending) =>
                {
                    let status = if undoable { BranchStatus::Undoing } else { BranchStatus::Skipped };
                    self.set_status(branch, status);
                    self.unindex(branch, Slot::Forward);
                }
                BranchStatus::Done | BranchStatus::Refused if may_have_run && undoable => {
                    self.set_status(branch, BranchStatus::Undoing);
                }
                BranchStatus::Stuck => {
                    let status = if may_have_run && undoable { BranchStatus::Undoing } else { BranchStatus::Skipped };
                    self.set_status(branch, status);
                }
                BranchStatus::Running
                | BranchStatus::Done
                | BranchStatus::Refused
                | BranchStatus::Skipped
                | BranchStatus::Confirming
                | BranchStatus::Confirmed
                | BranchStatus::Undoing
                | BranchStatus::Undone => {}
            }
        }
        for branch in main.into_iter().rev() {
            self.advance_undo(branch, at);
        }
    }

    /// Of an aborted transaction: the branch's forward operation rests, whatever became of it.
    pub(super) fn rest_forward(&mut self, branch: usize, at: Timestamp) {
        let undoable = self.spec(branch).undo.is_some();
        let mut refused = false;
        let mut may_have_run = false;
        self.touch(branch, Slot::Forward, |op| {
            may_have_run = op.may_have_run();
            refused = op.status == OperationStatus::Refused;
            if op.status == OperationStatus::Owed {
                op.status = if may_have_run { OperationStatus::Exhausted } else { OperationStatus::Skipped };
                op.clean = !may_have_run;
                op.finished_at = Some(at.0);
            }
        });
        self.unindex(branch, Slot::Forward);
        let status = match (may_have_run && undoable, refused) {
            (true, _) => BranchStatus::Undoing,
            (false, true) => BranchStatus::Refused,
            (false, false) => BranchStatus::Skipped,
        };
        self.set_status(branch, status);
        self.advance_undo(branch, at);
    }

    /// Owes the branch's undo, or passes on that nothing of it is left to undo, as soon as its successors' are finished.
    pub(super) fn advance_undo(&mut self, branch: usize, at: Timestamp) {
        let mut work = vec![branch];
        while let Some(branch) = work.pop() {
            let state = &self.state.branches[branch];
            if state.undo_finished || state.undo_waits > 0 {
                continue;
            }
            match state.status {
                BranchStatus::Undoing if state.map().is_some() => self.release_items(branch, &mut work),
                BranchStatus::Undoing if state.undo.is_none() => {
                    let mut undo = OperationState::owed(at);
                    undo.wait(at, self.grace(branch, at));
                    self.owe(branch, Slot::Undo, undo);
                }
                BranchStatus::Undoing | BranchStatus::Running | BranchStatus::Stuck | BranchStatus::Confirming => {}
                BranchStatus::Undone
                | BranchStatus::Skipped
                | BranchStatus::Refused
                | BranchStatus::Done
                | BranchStatus::Waiting
                | BranchStatus::Confirmed => {
                    self.state.branches[branch].undo_finished = true;
                    for predecessor in self.predecessors(branch) {
                        let waits = &mut self.state.branches[predecessor].undo_waits;
                        *waits = waits.saturating_sub(1);
                        work.push(predecessor);
                    }
                    if let Some((map, _)) = self.item_of(branch) {
                        self.undid_of_map(map, &mut work);
                    }
                }
            }
        }
    }

    /// What came after the map is undone: its items are next, each from its last branches on.
    fn release_items(&mut self, map: usize, work: &mut Vec<usize>) {
        let Some(stride) = self.map_of(map).map(|map| map.branches.len()) else { return };
        let Some(state) = self.state.branches[map].map_mut().filter(|state| state.undoing.is_none()) else { return };
        let branches = state.base..state.base + stride * state.items.len();
        state.undoing = Some(branches.len());
        if branches.is_empty() {
            self.set_status(map, BranchStatus::Done);
            work.push(map);
        }
        for branch in branches {
            if self.successors(branch).1.is_empty() {
                let waits = &mut self.state.branches[branch].undo_waits;
                *waits = waits.saturating_sub(1);
                work.push(branch);
            }
        }
    }

    fn undid_of_map(&mut self, map: usize, work: &mut Vec<usize>) {
        let Some(state) = self.state.branches[map].map_mut() else { return };
        state.undoing = state.undoing.map(|left| left.saturating_sub(1));
        if state.undoing == Some(0) {
            self.set_status(map, BranchStatus::Undone);
            work.push(map);
        }
    }

    /// How long an undo waits for another holder's forward call; not at all where the participant has the barrier.
    pub(super) fn grace(&self, branch: usize, at: Timestamp) -> u64 {
        let until = self.state.branches[branch].forward.as_ref().map_or(0, |forward| forward.grace_until);
        let service = self.spec(branch).forward.as_ref().and_then(|forward| forward.service.as_ref());
        if service.is_some_and(|service| self.state.barriers.contains(service)) {
            return 0;
        }
        crate::journal::encoding::millis(at.until(Timestamp(until)))
    }

    /// Whether another holder may have calls under way: one is owed, or a callback finished a forward operation before
    /// its call was answered.
    pub(super) fn may_be_called(&self) -> bool {
        let owed = |(_, branch, slot): &(i64, usize, Slot)| {
            self.slot_state(*branch, *slot).is_some_and(|op| op.status == OperationStatus::Owed)
        };
        self.wakes.iter().any(owed) || (0..self.state.branches.len()).any(|branch| self.may_be_answered_late(branch))
    }

    fn may_be_answered_late(&self, branch: usize) -> bool {
        let asynchronous = self.operation(branch, Slot::Forward).is_some_and(|spec| spec.pending.is_some());
        let state = &self.state.branches[branch];
        asynchronous
            && self.spec(branch).undo.is_some()
            && state.forward.as_ref().is_some_and(|op| !op.awaits() && op.may_have_run())
            && state.undo.as_ref().is_none_or(|op| op.awaits())
            && self.state.decision != Some(skald_protocol::Decision::Commit)
    }

    /// Any call owed now may have been made by another holder, and may still be under way.
    pub(super) fn adopt(&mut self, at: Timestamp) {
        let owed: Vec<(usize, Slot)> = self.wakes.iter().map(|(_, branch, slot)| (*branch, *slot)).collect();
        for (branch, slot) in owed {
            let Some(spec) = self.operation(branch, slot) else { continue };
            let (until, can_ask) = (at.plus(spec.timeout).0, spec.status_check.is_some());
            self.touch(branch, slot, |op| {
                if op.status == OperationStatus::Owed {
                    op.adopted = true;
                    op.attempts = op.attempts.saturating_add(1);
                    op.uncounted = op.uncounted.saturating_add(1);
                    op.asking = can_ask;
                    op.live_until = op.live_until.max(until);
                    op.grace_until = until;
                }
            });
        }
        for branch in 0..self.state.branches.len() {
            if self.may_be_answered_late(branch) {
                let timeout = self.operation(branch, Slot::Forward).map_or_else(Default::default, |spec| spec.timeout);
                self.touch(branch, Slot::Forward, |op| op.grace_until = at.plus(timeout).0);
                let grace = self.grace(branch, at);
                self.touch(branch, Slot::Undo, |op| {
                    if op.status == OperationStatus::Owed && op.due_at < at.0.saturating_add_unsigned(grace) {
                        op.wait(at, grace);
                    }
                });
            }
        }
    }
}
