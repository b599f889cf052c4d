//! What happened to a transaction, as it is recorded.
#![deny(clippy::wildcard_enum_match_arm)]

use serde::{Deserialize, Serialize};
use skald_protocol::{Decision, ErrorView, Json, OperationKind, ResolvedOutcome, Status};

use super::{Began, Enlistment, Error, FailureClass, State, encoding::is_default};
use crate::{
    call::{Barrier, Response},
    plan::Phase,
};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    Began(Box<Began>),
    Enlisted(Box<Enlistment>),
    /// An attempt that did not end its operation; the next is due `delay_ms` later.
    Failed {
        branch: usize,
        operation: OperationKind,
        attempt: u32,
        /// Of the `status_check`.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        ask: bool,
        class: FailureClass,
        error: Error,
        delay_ms: u64,
        /// How long the participant may still be at work on it: the rest of the attempt's timeout.
        #[serde(default, skip_serializing_if = "is_default")]
        live_ms: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        barrier: Option<Barrier>,
    },
    /// `status_check`: it did not run; `cleared`: and none of its attempts can still be under way.
    NotFound {
        branch: usize,
        operation: OperationKind,
        attempt: u32,
        cleared: bool,
        delay_ms: u64,
    },
    Pended {
        branch: usize,
        operation: OperationKind,
        attempt: u32,
    },
    Heartbeat {
        branch: usize,
        operation: OperationKind,
    },
    Succeeded {
        branch: usize,
        operation: OperationKind,
        attempt: u32,
        #[serde(default, skip_serializing_if = "is_default")]
        response: Response,
        /// Where the branch maps its output; else the response's body is the output.
        #[serde(default, deserialize_with = "crate::journal::encoding::said", skip_serializing_if = "Option::is_none")]
        output: Option<Json>,
        /// It ran, but the branch's `output` mapping fails on its answer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unmapped: Option<Error>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        barrier: Option<Barrier>,
    },
    /// `clean`: no attempt of it can have run, so it is not undone.
    Refused {
        branch: usize,
        operation: OperationKind,
        attempt: u32,
        error: Error,
        clean: bool,
    },
    Exhausted {
        branch: usize,
        operation: OperationKind,
        error: Error,
    },
    Stuck {
        branch: usize,
        operation: OperationKind,
        error: Error,
    },
    /// A callback that came too late to matter.
    LateCallback {
        branch: usize,
        operation: OperationKind,
        outcome: ResolvedOutcome,
    },
    CancelRequested {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    DeadlinePassed,
    /// The journal reached its limit before the decision.
    JournalFull,
    Decided {
        decision: Decision,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<ErrorView>,
    },
    /// Of an aborted transaction: none of these branches' forward calls is in flight, and none will be sent. Only the
    /// holder knows.
    Halted {
        branches: Vec<usize>,
    },
    /// A signal's first arrival; it stays.
    Signalled {
        name: String,
        #[serde(default, deserialize_with = "crate::journal::encoding::said", skip_serializing_if = "Option::is_none")]
        payload: Option<Json>,
    },
    /// Its `when` is true: its operation is owed.
    Admitted {
        branch: usize,
    },
    /// Skipped by its `when` or, with a reason, by an operator; with it all that stands behind it as a gate.
    Passed {
        branch: usize,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A pure branch is done; with a reason, by an operator's command.
    Computed {
        branch: usize,
        #[serde(default, deserialize_with = "crate::journal::encoding::said", skip_serializing_if = "Option::is_none")]
        output: Option<Json>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    Chosen {
        branch: usize,
        arm: usize,
    },
    /// A wait began, and ends at the latest `delay_ms` from here.
    Armed {
        branch: usize,
        delay_ms: u64,
        /// The names it waits for, the first of which ends it.
        #[serde(
            default,
            with = "crate::journal::encoding::names",
            rename = "signal",
            skip_serializing_if = "Vec::is_empty"
        )]
        signals: Vec<String>,
    },
    /// A wait's time is over, and it goes on.
    Elapsed {
        branch: usize,
    },
    /// A map's items, fixed from here on.
    Mapped {
        branch: usize,
        items: Vec<Json>,
    },
    /// A pure branch (or a `when`) cannot be evaluated, waited in vain, or says `fail`.
    Faulted {
        branch: usize,
        error: Error,
    },
    /// A poll was answered with nothing new.
    Polled {
        branch: usize,
        operation: OperationKind,
        delay_ms: u64,
        /// Why its answer says nothing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<Error>,
    },
    Suspended,
    /// A loader that did not hold the transaction before: any call then owed may have been made by another.
    Adopted,
    Retried {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        branch: Option<usize>,
    },
    Skipped {
        branch: usize,
        operation: OperationKind,
        reason: String,
    },
    Resolved {
        branch: usize,
        operation: OperationKind,
        outcome: ResolvedOutcome,
        #[serde(default, deserialize_with = "crate::journal::encoding::said", skip_serializing_if = "Option::is_none")]
        output: Option<Json>,
        reason: String,
    },
    Resumed,
    Settled {
        status: Status,
        #[serde(default, deserialize_with = "crate::journal::encoding::said", skip_serializing_if = "Option::is_none")]
        output: Option<Json>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<ErrorView>,
    },
    /// The whole state before it: replay may start here.
    Snapshot(Box<State>),
    /// What the decision evaluated, in thousands of steps, and what came of it, in KiB.
    Evaluated {
        #[serde(default, skip_serializing_if = "is_default")]
        cost: u64,
        #[serde(default, skip_serializing_if = "is_default")]
        made: u64,
    },
    /// A request with a key of its own was taken; what it did stands beside it.
    KeyTaken {
        key: String,
        digest: String,
    },
    /// Everything before the phase rests.
    PhaseStarted {
        phase: Phase,
    },
}

/// All events about one operation of a branch. With the two below it names every event, so a match that ends with them
/// and without `_` does not compile once there is a new one.
macro_rules! about_operation {
    () => {
        $crate::Event::Failed { .. }
            | $crate::Event::NotFound { .. }
            | $crate::Event::Pended { .. }
            | $crate::Event::Heartbeat { .. }
            | $crate::Event::Polled { .. }
            | $crate::Event::Succeeded { .. }
            | $crate::Event::Refused { .. }
            | $crate::Event::Exhausted { .. }
            | $crate::Event::Stuck { .. }
            | $crate::Event::LateCallback { .. }
            | $crate::Event::Skipped { .. }
            | $crate::Event::Resolved { .. }
    };
}

/// About a branch whose own turn it is: its `when`, or what it does without an operation.
macro_rules! about_turn {
    () => {
        $crate::Event::Admitted { .. }
            | $crate::Event::Passed { .. }
            | $crate::Event::Computed { .. }
            | $crate::Event::Chosen { .. }
            | $crate::Event::Armed { .. }
            | $crate::Event::Elapsed { .. }
            | $crate::Event::Mapped { .. }
            | $crate::Event::Faulted { .. }
    };
}

/// About the transaction as a whole.
macro_rules! about_transaction {
    () => {
        $crate::Event::Began(_)
            | $crate::Event::Enlisted(_)
            | $crate::Event::CancelRequested { .. }
            | $crate::Event::DeadlinePassed
            | $crate::Event::JournalFull
            | $crate::Event::Decided { .. }
            | $crate::Event::Halted { .. }
            | $crate::Event::Signalled { .. }
            | $crate::Event::Suspended
            | $crate::Event::Adopted
            | $crate::Event::Retried { .. }
            | $crate::Event::Resumed
            | $crate::Event::Settled { .. }
            | $crate::Event::Snapshot(_)
            | $crate::Event::Evaluated { .. }
            | $crate::Event::KeyTaken { .. }
            | $crate::Event::PhaseStarted { .. }
    };
}

pub(crate) use {about_operation, about_transaction, about_turn};

impl Event {
    /// The operation that it is about, where it is about one.
    #[must_use]
    pub const fn subject(&self) -> Option<(usize, OperationKind)> {
        match self {
            Self::Failed { branch, operation, .. }
            | Self::NotFound { branch, operation, .. }
            | Self::Pended { branch, operation, .. }
            | Self::Heartbeat { branch, operation }
            | Self::Polled { branch, operation, .. }
            | Self::Succeeded { branch, operation, .. }
            | Self::Refused { branch, operation, .. }
            | Self::Exhausted { branch, operation, .. }
            | Self::Stuck { branch, operation, .. }
            | Self::LateCallback { branch, operation, .. }
            | Self::Skipped { branch, operation, .. }
            | Self::Resolved { branch, operation, .. } => Some((*branch, *operation)),
            about_turn!() | about_transaction!() => None,
        }
    }

    /// The branch whose own turn it is about: its `when`, or what it does without an operation.
    #[must_use]
    pub const fn turn(&self) -> Option<usize> {
        match self {
            Self::Admitted { branch }
            | Self::Passed { branch, .. }
            | Self::Computed { branch, .. }
            | Self::Chosen { branch, .. }
            | Self::Armed { branch, .. }
            | Self::Elapsed { branch }
            | Self::Mapped { branch, .. }
            | Self::Faulted { branch, .. } => Some(*branch),
            about_operation!() | about_transaction!() => None,
        }
    }

    /// Bytes of JSON that came of expressions.
    pub(crate) fn made(&self) -> usize {
        match self {
            Self::Computed { output, .. } => output.as_ref().map_or(0, |output| output.text().len()),
            Self::Mapped { items, .. } => items.iter().map(|item| item.text().len()).sum(),
            Self::Admitted { .. }
            | Self::Passed { .. }
            | Self::Chosen { .. }
            | Self::Armed { .. }
            | Self::Elapsed { .. }
            | Self::Faulted { .. }
            | about_operation!()
            | about_transaction!() => 0,
        }
    }

    /// As its encoding is tagged.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Began(_) => "began",
            Self::Enlisted(_) => "enlisted",
            Self::Failed { .. } => "failed",
            Self::NotFound { .. } => "not_found",
            Self::Pended { .. } => "pended",
            Self::Heartbeat { .. } => "heartbeat",
            Self::Succeeded { .. } => "succeeded",
            Self::Refused { .. } => "refused",
            Self::Exhausted { .. } => "exhausted",
            Self::Stuck { .. } => "stuck",
            Self::LateCallback { .. } => "late_callback",
            Self::CancelRequested { .. } => "cancel_requested",
            Self::DeadlinePassed => "deadline_passed",
            Self::JournalFull => "journal_full",
            Self::Decided { .. } => "decided",
            Self::Halted { .. } => "halted",
            Self::Signalled { .. } => "signalled",
            Self::Admitted { .. } => "admitted",
            Self::Passed { .. } => "passed",
            Self::Computed { .. } => "computed",
            Self::Chosen { .. } => "chosen",
            Self::Armed { .. } => "armed",
            Self::Elapsed { .. } => "elapsed",
            Self::Mapped { .. } => "mapped",
            Self::Faulted { .. } => "faulted",
            Self::Polled { .. } => "polled",
            Self::Suspended => "suspended",
            Self::Adopted => "adopted",
            Self::Retried { .. } => "retried",
            Self::Skipped { .. } => "skipped",
            Self::Resolved { .. } => "resolved",
            Self::Resumed => "resumed",
            Self::Settled { .. } => "settled",
            Self::Snapshot(_) => "snapshot",
            Self::Evaluated { .. } => "evaluated",
            Self::KeyTaken { .. } => "key_taken",
            Self::PhaseStarted { .. } => "phase_started",
        }
    }
}
