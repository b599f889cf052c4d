//! What an operator does about a transaction that cannot move by itself.

use skald_protocol::{
    BranchId, BranchStatus, Json, OperationKind, OperationStatus, ResolvedOutcome, Status, Timestamp,
};

use super::Commanded;
use crate::{
    journal::{
        Error, Event,
        state::{Deadline, Slot},
    },
    plan::Block,
    transaction::{Decided, Rejection, Transaction},
};

impl Transaction {
    /// A branch that is stuck without an operation.
    fn stuck_block(&self, id: &BranchId) -> Option<usize> {
        let branch = self.find(id)?;
        (self.state.branches[branch].status == BranchStatus::Stuck && self.is_pure(branch)).then_some(branch)
    }

    fn kind(&self, branch: usize, slot: Slot) -> OperationKind {
        self.kind_of(branch, slot).unwrap_or(OperationKind::Action)
    }

    fn stuck(&self, id: &BranchId) -> Result<(usize, Slot), Rejection> {
        let branch = self.find(id).ok_or_else(|| Rejection::UnknownBranch { branch: id.clone() })?;
        let slot = self.state.branches[branch].stuck_slot();
        slot.map(|slot| (branch, slot)).ok_or_else(|| Rejection::NotStuck { branch: id.clone() })
    }

    /// Stuck operations, and those that wait for their next attempt, are due now.
    pub(super) fn retry(&mut self, id: Option<BranchId>, now: Timestamp, out: &mut Decided) -> Commanded {
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

    pub(super) fn skip(&mut self, branch: &BranchId, reason: String, now: Timestamp, out: &mut Decided) -> Commanded {
        self.unsettled()?;
        if let Some(branch) = self.stuck_block(branch) {
            self.emit(out, Event::Passed { branch, reason: Some(reason) }, now);
            return Ok(());
        }
        let (branch, slot) = self.stuck(branch)?;
        let operation = self.kind(branch, slot);
        self.emit(out, Event::Skipped { branch, operation, reason }, now);
        Ok(())
    }

    pub(super) fn resolve(
        &mut self,
        id: &BranchId,
        outcome: ResolvedOutcome,
        output: Option<Json>,
        reason: String,
        now: Timestamp,
        out: &mut Decided,
    ) -> Commanded {
        self.unsettled()?;
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

    pub(super) fn end_as_failed(&mut self, reason: String, now: Timestamp, out: &mut Decided) -> Commanded {
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

    pub(super) fn resume(&mut self, now: Timestamp, out: &mut Decided) -> Commanded {
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
