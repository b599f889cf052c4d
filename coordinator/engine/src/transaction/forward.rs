//! Forwards: what starts when what it waits for is done, what a failure stops, what a commit sets going.

use std::collections::BTreeSet;

use skald_protocol::{BranchStatus, Decision, OperationStatus, Timestamp};

use super::{
    Transaction,
    state::{OperationState, Slot},
};
use crate::{
    event::Error,
    plan::{Fail, Role},
};

impl Transaction {
    /// The branch is done (or skipped): what waited for it alone starts, and blocks pass it on.
    pub(super) fn finish(&mut self, branch: usize, status: BranchStatus, at: Timestamp) {
        self.set_status(branch, status);
        let mut work = vec![branch];
        while let Some(branch) = work.pop() {
            for index in 0..self.plan.successors(branch).len() {
                let successor = self.plan.successors(branch)[index];
                let state = &mut self.state.branches[successor];
                state.waits = state.waits.saturating_sub(1);
                if state.waits == 0 && state.status == BranchStatus::Waiting && self.may_start(successor) {
                    self.start_one(successor, at, &mut work);
                }
            }
        }
    }

    pub(super) fn start(&mut self, branch: usize, at: Timestamp) {
        let mut work = Vec::new();
        self.start_one(branch, at, &mut work);
        if let Some(block) = work.pop() {
            self.finish(block, BranchStatus::Done, at);
        }
    }

    /// Without a forward operation (a block, a branch whose client calls its own try) it is done at once.
    fn start_one(&mut self, branch: usize, at: Timestamp, done: &mut Vec<usize>) {
        if self.spec(branch).forward.is_some() {
            self.set_status(branch, BranchStatus::Running);
            self.owe(branch, Slot::Forward, OperationState::owed(at));
        } else {
            self.set_status(branch, BranchStatus::Done);
            done.push(branch);
        }
    }

    pub(super) fn start_all(&mut self, at: Timestamp) {
        for branch in 0..self.state.branches.len() {
            let state = &self.state.branches[branch];
            if state.waits == 0 && state.status == BranchStatus::Waiting && self.may_start(branch) {
                self.start(branch, at);
            }
        }
    }

    fn may_start(&self, branch: usize) -> bool {
        match self.state.decision {
            Some(decision) => decision == Decision::Commit,
            None => {
                !self.spec(branch).tail
                    && !self.state.failed
                    && (self.state.halted.is_empty()
                        || self.blocks_around(branch).all(|block| !self.state.halted.contains(&block)))
            }
        }
    }

    /// Everything left is driven until done. What failed beside a pivot that succeeded (only a step without an effect
    /// can stand there) is no reason to abort any more: it is driven like the tail.
    pub(super) fn begin_commit(&mut self, at: Timestamp) {
        (self.state.failing, self.state.failed) = (None, false);
        (self.state.halted, self.state.resting) = (BTreeSet::new(), BTreeSet::new());
        for branch in 0..self.state.branches.len() {
            let confirms = self.spec(branch).confirm.is_some();
            let state = &self.state.branches[branch];
            let unmapped = state.forward.as_ref().is_some_and(|op| op.unmapped);
            let failed = match state.status {
                BranchStatus::Refused => !self.plan.open && state.forward.is_some(),
                BranchStatus::Waiting
                | BranchStatus::Running
                | BranchStatus::Done
                | BranchStatus::Skipped
                | BranchStatus::Confirming
                | BranchStatus::Confirmed
                | BranchStatus::Undoing
                | BranchStatus::Undone
                | BranchStatus::Stuck => false,
            };
            if failed {
                self.set_status(branch, BranchStatus::Running);
                self.touch(branch, Slot::Forward, |op| op.owe_again(at));
            } else if state.status == BranchStatus::Done && unmapped {
                self.set_status(branch, BranchStatus::Stuck);
            } else if state.status == BranchStatus::Done && confirms {
                self.set_status(branch, BranchStatus::Confirming);
                self.owe(branch, Slot::Confirm, OperationState::owed(at));
            }
        }
        self.start_all(at);
    }

    /// A branch failed before the decision: the failure leaves `fast` blocks at once and `wait_all` ones when the rest
    /// of them rests. In an open transaction it decides nothing.
    pub(super) fn fail(&mut self, branch: usize, error: &Error) {
        if self.plan.open {
            return;
        }
        let error = error.at(&self.spec(branch).step);
        self.state.failing.get_or_insert(error);
        self.fail_outwards(self.spec(branch).within);
    }

    fn fail_outwards(&mut self, mut block: Option<usize>) {
        while let Some(around) = block {
            if self.spec(around).role == (Role::Parallel { fail: Fail::WaitAll }) {
                self.state.resting.insert(around);
                return;
            }
            self.state.halted.insert(around);
            block = self.spec(around).within;
        }
        self.state.failed = true;
    }

    pub(super) fn rest_blocks(&mut self) {
        while let Some(block) = self.state.resting.iter().copied().find(|block| !self.active.contains_key(block)) {
            self.state.resting.remove(&block);
            self.state.halted.insert(block);
            self.fail_outwards(self.spec(block).within);
        }
    }

    /// The branch's forward operation is owed or pending, or an operator could make it so again.
    pub(super) fn is_answerable(&self, branch: usize, slot: Slot) -> bool {
        let Some(op) = self.slot_state(branch, slot) else { return false };
        let awaited = match op.status {
            OperationStatus::Owed | OperationStatus::Pending => !self.has_given_up(branch, slot),
            OperationStatus::Succeeded
            | OperationStatus::Refused
            | OperationStatus::Exhausted
            | OperationStatus::Skipped => false,
        };
        awaited || self.state.branches[branch].stuck_slot() == Some(slot)
    }
}
