//! What happened in a run, in order.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use skald_protocol::{BranchId, CallOutcome, CallbackVerdict, Json, OperationKind, PublicEvent, PublicEventKind};

use super::participant::How;
use crate::{call::Barrier, journal::Error};

#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct TimelineEntry {
    /// Since the begin, in virtual time.
    pub at_ms: u64,
    #[serde(flatten)]
    pub what: What,
}

/// A call, as it is spoken of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attempt {
    pub branch: BranchId,
    pub operation: OperationKind,
    pub attempt: u32,
    /// Its `status_check` instead.
    pub ask: bool,
}

#[derive(Debug, Clone, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
#[non_exhaustive]
pub enum What {
    /// A call went out.
    Call {
        #[serde(flatten)]
        of: Attempt,
        service: String,
        method: String,
        /// With the query.
        target: String,
        body: Option<Json>,
    },
    /// It reached its participant.
    Arrival {
        #[serde(flatten)]
        of: Attempt,
        service: String,
        how: How,
        /// Nobody waits for the answer any more.
        late: bool,
    },
    /// What the coordinator saw of it.
    Answer {
        #[serde(flatten)]
        of: Attempt,
        service: String,
        outcome: CallOutcome,
        status: Option<u16>,
        error: Option<Error>,
        body: Option<Json>,
        barrier: Option<Barrier>,
    },
    Unrenderable {
        #[serde(flatten)]
        of: Attempt,
        reason: String,
    },
    CalledBack {
        branch: BranchId,
        operation: OperationKind,
        service: String,
        verdict: CallbackVerdict,
    },
    Event {
        event: PublicEvent,
    },
    Killed {
        /// Its last append was not durable.
        lost: bool,
    },
    TakenOver,
    Cancelled,
    /// By an operator, after its deadline.
    Resumed,
    /// Left out: attempts of one operation that came to the same.
    More {
        #[serde(flatten)]
        of: Attempt,
        attempts: u32,
    },
    Signal {
        name: String,
        payload: Option<Json>,
    },
}

/// Attempts of one operation that are told before the rest is left out, the last aside.
const TOLD: u32 = 3;

/// Without the middle of long rows of attempts.
#[must_use]
pub fn condensed(timeline: Vec<TimelineEntry>) -> Vec<TimelineEntry> {
    let mut last: BTreeMap<(BranchId, OperationKind), u32> = BTreeMap::new();
    for entry in &timeline {
        if let What::Call { of, .. } = &entry.what {
            let most = last.entry((of.branch.clone(), of.operation)).or_default();
            *most = (*most).max(of.attempt);
        }
    }
    let is_middle = |of: &Attempt| {
        let most = last.get(&(of.branch.clone(), of.operation)).copied().unwrap_or(0);
        most > TOLD + 2 && of.attempt > TOLD && of.attempt < most
    };
    let mut said = BTreeSet::new();
    let mut kept = Vec::new();
    for entry in timeline {
        let of = match &entry.what {
            What::Call { of, .. } | What::Arrival { of, .. } | What::Answer { of, .. } => Some(of.clone()),
            What::Event { event } => match &event.kind {
                PublicEventKind::AttemptFailed { branch, operation, attempt, .. } => {
                    Some(Attempt { branch: branch.clone(), operation: *operation, attempt: *attempt, ask: false })
                }
                _ => None,
            },
            _ => None,
        };
        match of.filter(is_middle) {
            None => kept.push(entry),
            Some(of) => {
                let key = (of.branch.clone(), of.operation);
                let attempts = last.get(&key).copied().unwrap_or(0).saturating_sub(TOLD + 1);
                if said.insert(key) {
                    kept.push(TimelineEntry { at_ms: entry.at_ms, what: What::More { of, attempts } });
                }
            }
        }
    }
    kept
}
