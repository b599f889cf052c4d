//! Whether an event fits the state it meets: what no decision can have made is a corrupt journal, never a guess.
//!
//! The rules are those by which decisions make events, read backwards, as far as recorded state tells. A record that is
//! missing, twice there or in the wrong place is found where it leaves something unexplained.

use skald_protocol::{BranchStatus, Decision, OperationKind, OperationStatus, ResolvedOutcome, Status};

use super::{Transaction, layout::Layout};
use crate::{
    journal::{
        Enlistment, Event, about_operation, about_transaction, about_turn,
        state::{Deadline, Slot, State},
    },
    limit,
    plan::{Block, Branch, Map, Operation, Phase, Plan, Role},
};

/// An event that does not fit the state it meets.
type Fits = Result<(), String>;

fn ensure(fits: bool, otherwise: impl FnOnce() -> String) -> Fits {
    if fits { Ok(()) } else { Err(otherwise()) }
}

impl Transaction {
    pub(super) fn fits(&self, event: &Event) -> Fits {
        ensure(self.state.settled.is_none(), || "something happened after the settlement".to_owned())?;
        if let Some(branch) = event.turn() {
            let fits = branch < self.state.branches.len() && self.turn_fits(event, branch);
            return ensure(fits, || format!("{} of branch {branch}, which its state does not allow", event.name()));
        }
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
        let polls = spec.pending.as_ref().is_some_and(|pending| pending.poll.is_some());
        let refusable = slot == Slot::Forward && !self.is_settling(branch, slot);
        match event {
            Event::Failed { .. } => owed || pending,
            Event::NotFound { .. } => owed && spec.status_check.is_some() || pending && polls,
            Event::Polled { .. } => pending && polls,
            Event::Pended { .. } => owed && spec.pending.is_some(),
            Event::Heartbeat { .. } => pending,
            Event::Succeeded { .. } => self.is_answerable(branch, slot),
            Event::Refused { .. } => refusable && self.is_answerable(branch, slot),
            Event::Exhausted { .. } => slot == Slot::Forward && owed && !self.is_aborting(branch, slot),
            Event::Stuck { .. } => owed || pending,
            Event::LateCallback { .. } => spec.pending.is_some() && !op.late_callback,
            Event::Skipped { .. } => self.state.branches[branch].stuck_slot() == Some(slot),
            Event::Resolved { outcome, .. } => {
                (pending || self.state.branches[branch].stuck_slot() == Some(slot))
                    && (*outcome == ResolvedOutcome::Succeeded || refusable)
            }
            about_turn!() | about_transaction!() => false,
        }
    }

    /// Of a branch whose own turn it is, or that an operator acts on.
    fn turn_fits(&self, event: &Event, branch: usize) -> bool {
        let (spec, state) = (self.spec(branch), &self.state.branches[branch]);
        let ready = self.ready.contains(&branch);
        let fresh = ready && state.block.is_none();
        let stuck = state.status == BranchStatus::Stuck && self.is_pure(branch);
        let waits = state.block.as_ref().and_then(|block| block.waits.as_ref());
        let times = waits.is_some_and(|waits| self.timers.contains(&(waits.due_at, branch)));
        match event {
            Event::Admitted { .. } => fresh && spec.when.is_some() && spec.forward.is_some(),
            Event::Passed { reason: None, .. } => fresh && spec.when.is_some(),
            Event::Passed { reason: Some(_), .. } => stuck,
            Event::Computed { reason, .. } => match &spec.block {
                Some(Block::Set(_)) | None => spec.forward.is_none() && (fresh || reason.is_some() && stuck),
                Some(Block::Wait(_)) => ready || reason.is_some() && stuck,
                Some(Block::Map(_)) => ready && state.map().is_some() && spec.output.is_some(),
                Some(Block::Succeed { .. }) => fresh && reason.is_none(),
                Some(Block::Choose(_) | Block::Fail { .. }) => false,
            },
            Event::Chosen { arm, .. } => {
                fresh && matches!(&spec.block, Some(Block::Choose(conditions)) if *arm <= conditions.len())
            }
            Event::Armed { signals, .. } => match &spec.block {
                Some(Block::Wait(wait)) => fresh && wait.signals().len() == signals.len(),
                _ => false,
            },
            Event::Elapsed { .. } => times,
            Event::Mapped { items, .. } => {
                let takes = |map: &Map| {
                    let branches = items.len().saturating_mul(map.branches.len());
                    items.len() <= map.max_items && self.state.branches.len() + branches <= limit::BRANCHES
                };
                fresh && matches!(&spec.block, Some(Block::Map(map)) if takes(map))
            }
            Event::Faulted { .. } => ready || times,
            about_operation!() | about_transaction!() => false,
        }
    }

    fn whole_fits(&self, event: &Event) -> Fits {
        let undecided = self.state.decision.is_none();
        let paused = self.state.deadline == Deadline::Paused;
        let stuck = self.is_stuck();
        let fits = match event {
            Event::Enlisted(enlistment) => {
                undecided && self.plan.open && self.find(&enlistment.branch.id).is_none() && enlistment.fits()
            }
            Event::CancelRequested { .. } => undecided && self.state.cancel.is_none(),
            Event::DeadlinePassed => undecided && self.timeout().is_some() && self.state.deadline == Deadline::Ahead,
            Event::JournalFull => undecided && !self.state.failed,
            Event::Decided { decision: Decision::Commit, .. } => undecided && (self.plan.open || self.may_commit()),
            Event::Decided { decision: Decision::Abort, .. } => {
                undecided && self.abort_reason().is_some() && self.ended().is_none() && {
                    let mut pivots = self.plan.pivots().iter();
                    pivots.all(|pivot| self.slot_state(*pivot, Slot::Forward).is_none_or(|op| !op.may_have_run()))
                }
            }
            Event::Halted { branches } => {
                self.state.decision == Some(Decision::Abort)
                    && branches.iter().all(|branch| {
                        self.slot_state(*branch, Slot::Forward).is_some_and(|op| op.status == OperationStatus::Owed)
                            && self.is_aborting(*branch, Slot::Forward)
                            && self.state.branches[*branch].status == BranchStatus::Running
                    })
            }
            Event::PhaseStarted { phase } => self.next_phase() == Some(*phase),
            Event::Suspended => !self.state.suspended && (paused || stuck),
            Event::Adopted | Event::Evaluated { .. } => true,
            Event::Retried { branch: Some(branch) } => *branch < self.state.branches.len(),
            Event::Retried { branch: None } => true,
            Event::Signalled { name, .. } => {
                self.signal(name).is_none() && self.state.signals.len() < limit::SIGNALS && !self.plan.open
            }
            Event::KeyTaken { key, .. } => {
                !self.state.keys.contains_key(key) && self.state.keys.len() < limit::IDEMPOTENCY_KEYS
            }
            Event::Resumed => paused || stuck,
            Event::Settled { status: Status::Failed, .. } => true,
            Event::Settled { status, .. } => self.end() == Some(*status),
            Event::Began(_) | Event::Snapshot(_) | about_operation!() | about_turn!() => false,
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
        let Branch { after, within, tail, phase, role, when, arm, saga, block, forward, confirm, undo, .. } =
            &self.branch;
        let alone = when.is_none() && arm.is_none() && saga.is_none() && block.is_none();
        let operations = [(forward, Slot::Forward), (confirm, Slot::Confirm), (undo, Slot::Undo)];
        let placed = |(operation, slot): (&Option<Operation>, Slot)| {
            operation.as_ref().is_none_or(|operation| Slot::of(operation.kind) == Some(slot))
        };
        alone
            && after.is_empty()
            && within.is_none()
            && !tail
            && *phase == Phase::Main
            && *role == Role::Tcc
            && operations.into_iter().all(placed)
    }
}

impl State {
    /// Whether a snapshot can be of this plan: nothing in it points beside the plan's branches and operations.
    pub(super) fn fits(&self, plan: &Plan) -> Result<Layout, String> {
        let layout = Layout::of(self, plan)?;
        let planned = plan.branches.len();
        let spec = |branch| match layout.spot(plan, branch) {
            Some(spot) => Some(spot.spec()),
            None => self.enlisted.get(branch - planned).map(|enlistment| &enlistment.branch),
        };
        let fits = (plan.open || self.enlisted.is_empty())
            && (!plan.open || plan.branches.is_empty())
            && self.enlisted.iter().all(Enlistment::fits)
            && (self.phase == Phase::Main || self.decision.is_some())
            && self.seen <= self.signals.len()
            && self.halted.iter().chain(&self.resting).all(|block| *block < self.branches.len())
            && self.branches.iter().enumerate().all(|(branch, state)| {
                spec(branch).is_some_and(|spec| {
                    let seen = [&state.forward, &state.confirm, &state.undo];
                    let map = state.map();
                    seen.into_iter().flatten().all(|op| op.seen <= self.signals.len())
                        && map.is_none_or(|map| map.finished <= map.started && map.started <= map.items.len())
                        && (state.forward.is_none() || spec.forward.is_some())
                        && (state.confirm.is_none() || spec.confirm.is_some())
                        && (state.undo.is_none() || spec.undo.is_some())
                        && (state.block.is_none() || spec.block.is_some() || spec.when.is_some())
                })
            });
        ensure(fits, || "the snapshot is of another plan".to_owned())?;
        Ok(layout)
    }
}
