//! Whether an event fits the state it meets: what no decision can have made is a corrupt journal, never a guess.
//!
//! The rules are those by which decisions make events, read backwards, as far as recorded state tells. A record that is
//! missing, twice there or in the wrong place is found where it leaves something unexplained.

use skald_protocol::{BranchStatus, Decision, OperationKind, OperationStatus, ResolvedOutcome, Status};

use super::{
    Transaction,
    state::{Deadline, Slot, State},
};
use crate::{
    event::{Enlistment, Event},
    plan::{Branch, Operation, Plan, Role},
};

/// An event that does not fit the state it meets.
type Fits = Result<(), String>;

fn ensure(fits: bool, otherwise: impl FnOnce() -> String) -> Fits {
    if fits { Ok(()) } else { Err(otherwise()) }
}

impl Transaction {
    pub(super) fn fits(&self, event: &Event) -> Fits {
        ensure(self.state.settled.is_none(), || "something happened after the settlement".to_owned())?;
        match event.subject() {
            Some((branch, operation)) => {
                let slot = self.slot_of(branch, operation)?;
                let fits = self.operation_fits(event, branch, slot);
                ensure(fits, || format!("{} of branch {branch}, which its state does not allow", event.name()))
            }
            None => self.whole_fits(event),
        }
    }

    fn operation_fits(&self, event: &Event, branch: usize, slot: Slot) -> bool {
        let (Some(op), Some(spec)) = (self.slot_state(branch, slot), self.operation(branch, slot)) else {
            return false;
        };
        let given_up = self.has_given_up(branch, slot);
        let owed = op.status == OperationStatus::Owed && !given_up;
        let pending = op.status == OperationStatus::Pending && !given_up;
        let refusable = slot == Slot::Forward && !self.is_settling(branch, slot);
        match event {
            Event::Failed { .. } => owed || pending,
            Event::NotFound { .. } => owed && spec.status_check.is_some(),
            Event::Pended { .. } => owed && spec.pending.is_some(),
            Event::Heartbeat { .. } => pending,
            Event::Succeeded { .. } => self.is_answerable(branch, slot),
            Event::Refused { .. } => refusable && self.is_answerable(branch, slot),
            Event::Exhausted { .. } => slot == Slot::Forward && owed && !self.is_aborting(slot),
            Event::Stuck { .. } => owed || pending,
            Event::LateCallback { .. } => spec.pending.is_some() && !op.late_callback,
            Event::Skipped { .. } => self.state.branches[branch].stuck_slot() == Some(slot),
            Event::Resolved { outcome, .. } => {
                (pending || self.state.branches[branch].stuck_slot() == Some(slot))
                    && (*outcome == ResolvedOutcome::Succeeded || refusable)
            }
            Event::Began(_)
            | Event::Enlisted(_)
            | Event::CancelRequested { .. }
            | Event::DeadlinePassed
            | Event::JournalFull
            | Event::Decided { .. }
            | Event::Halted { .. }
            | Event::Suspended
            | Event::Adopted
            | Event::Retried { .. }
            | Event::Resumed
            | Event::Settled { .. }
            | Event::Snapshot(_) => false,
        }
    }

    fn whole_fits(&self, event: &Event) -> Fits {
        let undecided = self.state.decision.is_none();
        let paused = self.state.deadline == Deadline::Paused;
        let stuck = self.head.of(BranchStatus::Stuck) + self.tail.of(BranchStatus::Stuck) > 0;
        let fits = match event {
            Event::Enlisted(enlistment) => {
                undecided && self.plan.open && self.find(&enlistment.branch.id).is_none() && enlistment.fits()
            }
            Event::CancelRequested { .. } => undecided && self.state.cancel.is_none(),
            Event::DeadlinePassed => undecided && self.timeout().is_some() && self.state.deadline == Deadline::Ahead,
            Event::JournalFull => undecided && !self.state.failed,
            Event::Decided { decision: Decision::Commit, .. } => undecided && (self.plan.open || self.may_commit()),
            Event::Decided { decision: Decision::Abort, .. } => {
                undecided && self.abort_reason().is_some() && {
                    let mut pivots = self.plan.pivots().iter();
                    pivots.all(|pivot| self.slot_state(*pivot, Slot::Forward).is_none_or(|op| !op.may_have_run()))
                }
            }
            Event::Halted { branches } => {
                self.state.decision == Some(Decision::Abort)
                    && branches.iter().all(|branch| {
                        self.slot_state(*branch, Slot::Forward).is_some_and(|op| op.status == OperationStatus::Owed)
                            && self.state.branches[*branch].status == BranchStatus::Running
                    })
            }
            Event::Suspended => !self.state.suspended && (paused || stuck),
            Event::Adopted => true,
            Event::Retried { branch: Some(branch) } => *branch < self.state.branches.len(),
            Event::Retried { branch: None } => true,
            Event::Resumed => paused || stuck,
            Event::Settled { status: Status::Failed, .. } => true,
            Event::Settled { status, .. } => self.end() == Some(*status),
            Event::Began(_)
            | Event::Snapshot(_)
            | Event::Failed { .. }
            | Event::NotFound { .. }
            | Event::Pended { .. }
            | Event::Heartbeat { .. }
            | Event::Succeeded { .. }
            | Event::Refused { .. }
            | Event::Exhausted { .. }
            | Event::Stuck { .. }
            | Event::LateCallback { .. }
            | Event::Skipped { .. }
            | Event::Resolved { .. } => false,
        };
        ensure(fits, || format!("{}, which the transaction's state does not allow", event.name()))
    }

    fn slot_of(&self, branch: usize, operation: OperationKind) -> Result<Slot, String> {
        let wrong = || format!("branch {branch} has no {operation}");
        let slot = Slot::of(operation).ok_or_else(wrong)?;
        self.slot_state(branch, slot).ok_or_else(wrong)?;
        self.operation(branch, slot).filter(|spec| spec.kind == operation).map(|_| slot).ok_or_else(wrong)
    }
}

impl Enlistment {
    /// A branch of an open transaction stands alone, before the decision.
    fn fits(&self) -> bool {
        let Branch { after, within, tail, role, forward, confirm, undo, .. } = &self.branch;
        let operations = [(forward, Slot::Forward), (confirm, Slot::Confirm), (undo, Slot::Undo)];
        let placed = |(operation, slot): (&Option<Operation>, Slot)| {
            operation.as_ref().is_none_or(|operation| Slot::of(operation.kind) == Some(slot))
        };
        after.is_empty() && within.is_none() && !tail && *role == Role::Tcc && operations.into_iter().all(placed)
    }
}

impl State {
    /// Whether a snapshot can be of this plan: nothing in it points beside the plan's branches and operations.
    pub(super) fn fits(&self, plan: &Plan) -> Fits {
        let specs = plan.branches.iter().chain(self.enlisted.iter().map(|enlistment| &enlistment.branch));
        let count = plan.branches.len() + self.enlisted.len();
        let fits = self.branches.len() == count
            && (plan.open || self.enlisted.is_empty())
            && self.enlisted.iter().all(Enlistment::fits)
            && self.halted.iter().chain(&self.resting).all(|block| *block < plan.branches.len())
            && self.branches.iter().zip(specs).all(|(state, spec)| {
                (state.forward.is_none() || spec.forward.is_some())
                    && (state.confirm.is_none() || spec.confirm.is_some())
                    && (state.undo.is_none() || spec.undo.is_some())
            });
        ensure(fits, || "the snapshot is of another plan".to_owned())
    }
}
