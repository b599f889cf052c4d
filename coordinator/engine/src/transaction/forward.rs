//! Forwards: what starts when what it waits for is done, what a failure stops, what a commit sets going.

use std::collections::BTreeSet;

use skald_protocol::{BranchStatus, Decision, OperationStatus, Timestamp};

use super::Transaction;
use crate::{
    journal::Error,
    journal::state::{OperationState, Slot},
    plan::{Fail, Phase, Role},
};

impl Transaction {
    /// The branch is done (or skipped): what waited for it alone starts, and blocks pass it on.
    pub(super) fn finish(&mut self, branch: usize, status: BranchStatus, at: Timestamp) {
        self.set_status(branch, status);
        self.pass_on(vec![branch], at);
    }

    /// What `work` has finished lets what waited for it start.
    pub(super) fn pass_on(&mut self, mut work: Vec<usize>, at: Timestamp) {
        while let Some(branch) = work.pop() {
            for index in 0..self.successors(branch).1.len() {
                let (base, successors) = self.successors(branch);
                let successor = base + successors[index];
                self.arrive(successor, at, &mut work);
            }
            if let Some((map, item)) = self.item_of(branch) {
                self.leave(map, item, at, &mut work);
            }
        }
    }

    /// One of those that the branch waits for is there.
    pub(super) fn arrive(&mut self, branch: usize, at: Timestamp, work: &mut Vec<usize>) {
        let state = &mut self.state.branches[branch];
        state.waits = state.waits.saturating_sub(1);
        if state.waits == 0 && state.status == BranchStatus::Waiting && self.may_start(branch) {
            self.start_one(branch, at, work);
        }
    }

    pub(super) fn start(&mut self, branch: usize, at: Timestamp) {
        let mut work = Vec::new();
        self.start_one(branch, at, &mut work);
        self.pass_on(work, at);
    }

    pub(super) fn owe_forward(&mut self, branch: usize, at: Timestamp) {
        self.set_status(branch, BranchStatus::Running);
        self.owe(branch, Slot::Forward, OperationState::owed(at));
    }

    /// Without anything to do (a `parallel` block, a branch whose client calls its own try) it is done at once.
    fn start_one(&mut self, branch: usize, at: Timestamp, done: &mut Vec<usize>) {
        let spec = self.spec(branch);
        if spec.when.is_some() || spec.block.is_some() {
            self.set_status(branch, BranchStatus::Running);
            self.ready.insert(branch);
        } else if spec.forward.is_some() {
            self.owe_forward(branch, at);
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

    pub(super) fn may_start(&self, branch: usize) -> bool {
        match self.state.decision {
            Some(_) if self.spec(branch).phase != Phase::Main => self.spec(branch).phase == self.state.phase,
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
            if self.spec(branch).phase == Phase::OnAbort {
                self.set_status(branch, BranchStatus::Skipped);
                continue;
            }
            let confirms = self.spec(branch).confirm.is_some();
            let state = &self.state.branches[branch];
            let unmapped = state.forward.as_ref().is_some_and(|op| op.unmapped);
            let pure = self.is_pure(branch);
            let failed = match state.status {
                BranchStatus::Refused => !self.plan.open && (state.forward.is_some() || pure),
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
            if failed && pure {
                self.turn_again(branch);
            } else if failed {
                self.set_status(branch, BranchStatus::Running);
                self.touch(branch, Slot::Forward, |op| op.owe_again(at));
            } else if state.status == BranchStatus::Done && unmapped {
                self.set_status(branch, BranchStatus::Stuck);
            } else if state.status == BranchStatus::Done && confirms {
                self.set_status(branch, BranchStatus::Confirming);
                self.owe(branch, Slot::Confirm, OperationState::owed(at));
            }
        }
        let running = |branch: &usize| {
            self.state.branches[*branch].map().is_some() && self.state.branches[*branch].status == BranchStatus::Running
        };
        let maps: Vec<usize> =
            if self.plan.has_maps() { (0..self.state.branches.len()).filter(running).collect() } else { Vec::new() };
        self.start_all(at);
        for map in maps {
            let mut work = Vec::new();
            self.fill(map, at, &mut work);
            self.pass_on(work, at);
        }
    }

    /// A branch failed before the decision: the failure leaves `fast` blocks at once and `wait_all` ones when the rest
    /// of them rests. In an open transaction it decides nothing.
    pub(super) fn fail(&mut self, branch: usize, error: &Error) {
        if self.plan.open {
            return;
        }
        let error = error.at(&self.spec(branch).step);
        self.state.failing.get_or_insert(error);
        self.fail_outwards(self.block_around(branch));
    }

    fn fail_outwards(&mut self, mut block: Option<usize>) {
        while let Some(around) = block {
            if self.spec(around).role == (Role::Parallel { fail: Fail::WaitAll }) {
                self.state.resting.insert(around);
                return;
            }
            self.state.halted.insert(around);
            block = self.block_around(around);
        }
        self.state.failed = true;
    }

    pub(super) fn rest_blocks(&mut self) {
        while let Some(block) = self.state.resting.iter().copied().find(|block| self.rests(*block)) {
            self.state.resting.remove(&block);
            self.state.halted.insert(block);
            self.fail_outwards(self.block_around(block));
        }
    }

    /// Nothing in the block runs, or has its turn at this moment.
    fn rests(&self, block: usize) -> bool {
        let holds = |branch: &usize| self.blocks_around(*branch).any(|around| around == block);
        !self.active.contains_key(&block) && !self.ready.iter().any(holds)
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
