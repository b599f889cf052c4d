//! What is recorded of a transaction. A snapshot holds one, so every field is part of the journal's promise.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use skald_protocol::{BranchStatus, Decision, ErrorView, Json, OperationKind, OperationStatus, Status, Timestamp};

use crate::{
    call::Response,
    journal::{Began, Enlistment, Error, FailureClass},
    plan::{Branch, Phase, Plan},
};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    pub(crate) began: Began,
    pub(crate) began_at: i64,
    pub(crate) updated_at: i64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) enlisted: Vec<Enlistment>,
    pub(crate) branches: Vec<BranchState>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) decision: Option<Decision>,
    /// Why it was aborted, or ended as failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<ErrorView>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) cancel: Option<Cancel>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) deadline: Deadline,
    /// The first failure that leads to an abort; `parallel` blocks may hold the abort back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failing: Option<ErrorView>,
    /// The failure has left every block that held it back.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) failed: bool,
    /// Blocks in which nothing new starts.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) halted: BTreeSet<usize>,
    /// `wait_all` blocks with a failure inside, until their other branches rest.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) resting: BTreeSet<usize>,
    /// Services that answered that have the barrier.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) barriers: BTreeSet<String>,
    /// In the order of their arrival, each name once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) signals: Vec<Signal>,
    /// How many of them had arrived when it was decided.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) seen: usize,
    /// What requests with a key of their own said, by the key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) keys: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) suspended: bool,
    /// The last that began.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) phase: Phase,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) settled: Option<Settled>,
    /// Of what was evaluated since a call's last outcome: thousands of steps, ...
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) evaluated: u64,
    /// ... and KiB that came of it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) made: u64,
    /// Records folded since the last snapshot.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) records: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cancel {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Signal {
    pub(crate) name: String,
    #[serde(default, deserialize_with = "crate::journal::encoding::said", skip_serializing_if = "Option::is_none")]
    pub(crate) payload: Option<Json>,
}

/// Of the decision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Deadline {
    #[default]
    Ahead,
    Passed,
    /// Passed, and nothing new is sent until an operator's `resume`.
    Paused,
    /// An operator resumed after it: it does nothing any more.
    Lifted,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settled {
    pub(crate) status: Status,
    pub(crate) at: i64,
    #[serde(default, deserialize_with = "crate::journal::encoding::said", skip_serializing_if = "Option::is_none")]
    pub(crate) output: Option<Json>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BranchState {
    pub(crate) status: BranchStatus,
    /// Predecessors that are not done.
    pub(crate) waits: usize,
    /// After an abort: successors whose undoing is not finished.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) undo_waits: usize,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) undo_finished: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) forward: Option<Box<OperationState>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) confirm: Option<Box<OperationState>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) undo: Option<Box<OperationState>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) block: Option<Box<BlockState>>,
}

/// What is known of a branch that does something without an operation, or of its `when`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BlockState {
    #[serde(default, deserialize_with = "crate::journal::encoding::said", skip_serializing_if = "Option::is_none")]
    pub(crate) output: Option<Json>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) arm: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) waits: Option<Waiting>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) map: Option<MapState>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<Error>,
}

/// A wait under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Waiting {
    pub(crate) due_at: i64,
    pub(crate) delay_ms: u64,
    #[serde(
        default,
        with = "crate::journal::encoding::names",
        rename = "signal",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) signals: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MapState {
    pub(crate) items: Vec<Json>,
    /// The index of the first item's first branch.
    pub(crate) base: usize,
    /// Items that were started, in order.
    pub(crate) started: usize,
    pub(crate) finished: usize,
    /// By item: branches that are neither done nor skipped.
    pub(crate) left: Vec<usize>,
    /// After an abort: branches whose undoing is not finished, once it may begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) undoing: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OperationState {
    pub(crate) status: OperationStatus,
    /// The last attempt's number.
    pub(crate) attempts: u32,
    /// Attempts that do not count against the retry policy: before an operator's retry, or of another holder.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) uncounted: u32,
    /// Since when the retry policy counts its time; pending time pushes it on.
    pub(crate) since: i64,
    pub(crate) started_at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) finished_at: Option<i64>,
    /// While owed: when the next attempt is due; while pending: when that is over. Recorded as a delay from `since`-like
    /// moments of the writer's clock, so a loader never waits longer than `delay_ms` from its load.
    pub(crate) due_at: i64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) delay_ms: u64,
    /// While pending: when the whole pending time is over.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) pending_until: i64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) pending_since: i64,
    /// While pending: polls that were answered with nothing new.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) polls: u32,
    /// Signals that its expressions see: those that had arrived when it was first owed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) seen: usize,
    /// Some attempt of this node's ended as unknown.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) unknown: bool,
    /// Another holder may have made the call.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) adopted: bool,
    /// The next call asks `status_check`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) asking: bool,
    /// Until when an unanswered attempt may still be at work at the participant.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) live_until: i64,
    /// An undo of this branch waits until then: another holder's call may be under way.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) grace_until: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) class: Option<FailureClass>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<Error>,
    /// Of a refusal, or of a call withdrawn by the abort: no attempt can have run.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) clean: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) late_callback: bool,
    /// It ran, but the branch's `output` mapping fails on its answer.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) unmapped: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) response: Option<Response>,
    #[serde(default, deserialize_with = "crate::journal::encoding::said", skip_serializing_if = "Option::is_none")]
    pub(crate) output: Option<Json>,
}

/// Which of a branch's operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Slot {
    Forward,
    Confirm,
    Undo,
}

impl Slot {
    pub(crate) const ALL: [Self; 3] = [Self::Forward, Self::Confirm, Self::Undo];

    /// `None` for `status`, which is no operation of a branch.
    pub(crate) const fn of(kind: OperationKind) -> Option<Self> {
        match kind {
            OperationKind::Action | OperationKind::Try => Some(Self::Forward),
            OperationKind::Confirm => Some(Self::Confirm),
            OperationKind::Compensate | OperationKind::Cancel => Some(Self::Undo),
            OperationKind::Status => None,
        }
    }
}

impl OperationState {
    pub(crate) fn owed(at: Timestamp) -> Self {
        Self {
            status: OperationStatus::Owed,
            attempts: 0,
            uncounted: 0,
            since: at.0,
            started_at: at.0,
            finished_at: None,
            due_at: at.0,
            delay_ms: 0,
            pending_until: 0,
            pending_since: 0,
            polls: 0,
            seen: 0,
            unknown: false,
            adopted: false,
            asking: false,
            live_until: 0,
            grace_until: 0,
            class: None,
            error: None,
            clean: false,
            late_callback: false,
            unmapped: false,
            response: None,
            output: None,
        }
    }

    /// As far as the journal knows: an attempt may have had its effect.
    pub(crate) fn may_have_run(&self) -> bool {
        match self.status {
            OperationStatus::Succeeded | OperationStatus::Pending => true,
            OperationStatus::Refused | OperationStatus::Skipped => !self.clean,
            OperationStatus::Owed | OperationStatus::Exhausted => self.unknown || self.adopted,
        }
    }

    pub(crate) fn awaits(&self) -> bool {
        matches!(self.status, OperationStatus::Owed | OperationStatus::Pending)
    }

    /// What the holder knew of minor attempts that the journal does not.
    pub(crate) fn learn(&mut self, known: &Self) {
        let waits = self.status == OperationStatus::Owed && known.status == OperationStatus::Owed;
        if !waits || known.attempts <= self.attempts {
            return;
        }
        self.attempts = known.attempts;
        self.error.clone_from(&known.error);
        self.live_until = self.live_until.max(known.live_until);
        // Whichever wait began later counts: an operator's `retry` is in the journal alone.
        if known.waits_since() > self.waits_since() {
            (self.due_at, self.delay_ms) = (known.due_at, known.delay_ms);
        }
    }

    fn waits_since(&self) -> i64 {
        self.due_at.saturating_sub(i64::try_from(self.delay_ms).unwrap_or(i64::MAX))
    }

    /// Owed once more; the time that it was pending does not count.
    pub(crate) fn resend(&mut self, at: Timestamp) {
        if self.status == OperationStatus::Pending {
            self.since = self.since.saturating_add(at.0.saturating_sub(self.pending_since));
        }
        self.status = OperationStatus::Owed;
    }

    /// With a fresh retry policy.
    pub(crate) fn owe_again(&mut self, at: Timestamp) {
        self.status = OperationStatus::Owed;
        self.finished_at = None;
        self.clean = false;
        self.unmapped = false;
        self.uncounted = self.attempts;
        self.since = at.0;
        self.wait(at, 0);
    }

    pub(crate) fn wait(&mut self, at: Timestamp, delay_ms: u64) {
        self.delay_ms = delay_ms;
        self.due_at = at.0.saturating_add(i64::try_from(delay_ms).unwrap_or(i64::MAX));
    }
}

impl BranchState {
    pub(crate) fn waiting(waits: usize) -> Self {
        Self {
            status: BranchStatus::Waiting,
            waits,
            undo_waits: 0,
            undo_finished: false,
            forward: None,
            confirm: None,
            undo: None,
            block: None,
        }
    }

    pub(crate) fn block_mut(&mut self) -> &mut BlockState {
        self.block.get_or_insert_default()
    }

    pub(crate) fn map(&self) -> Option<&MapState> {
        self.block.as_ref()?.map.as_ref()
    }

    pub(crate) fn map_mut(&mut self) -> Option<&mut MapState> {
        self.block.as_mut()?.map.as_mut()
    }

    pub(crate) fn slot(&self, slot: Slot) -> Option<&OperationState> {
        match slot {
            Slot::Forward => self.forward.as_deref(),
            Slot::Confirm => self.confirm.as_deref(),
            Slot::Undo => self.undo.as_deref(),
        }
    }

    pub(crate) fn slot_mut(&mut self, slot: Slot) -> &mut Option<Box<OperationState>> {
        match slot {
            Slot::Forward => &mut self.forward,
            Slot::Confirm => &mut self.confirm,
            Slot::Undo => &mut self.undo,
        }
    }

    /// A branch whose client calls its own try may have run from the moment it is enlisted.
    pub(crate) fn may_have_run(&self, spec: &Branch) -> bool {
        match &self.forward {
            Some(forward) => forward.may_have_run(),
            None => spec.forward.is_none() && spec.undo.is_some(),
        }
    }

    /// The operation that an operator would be asked about.
    pub(crate) fn stuck_slot(&self) -> Option<Slot> {
        if self.status != BranchStatus::Stuck {
            return None;
        }
        Slot::ALL.into_iter().rev().find(|slot| self.slot(*slot).is_some())
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl State {
    pub(crate) fn new(plan: &Plan, began: Began, at: Timestamp) -> Self {
        Self {
            branches: plan.branches.iter().map(|branch| BranchState::waiting(branch.after.len())).collect(),
            began,
            began_at: at.0,
            updated_at: at.0,
            enlisted: Vec::new(),
            decision: None,
            error: None,
            cancel: None,
            deadline: Deadline::Ahead,
            failing: None,
            failed: false,
            halted: BTreeSet::new(),
            resting: BTreeSet::new(),
            barriers: BTreeSet::new(),
            signals: Vec::new(),
            keys: BTreeMap::new(),
            seen: 0,
            suspended: false,
            phase: Phase::Main,
            settled: None,
            evaluated: 0,
            made: 0,
            records: 0,
        }
    }
}
