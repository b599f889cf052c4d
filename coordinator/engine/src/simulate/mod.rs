//! A workflow before there is a server: the real engine on a virtual clock, scripted participants, faults.
//!
//! `Stage` says what is played: a plan, its input, what participants answer, whether they have the barrier (PARTICIPANT.md).
//! `play` runs one transaction to its end under faults; `explore` lists every single fault worth a run; `judge` says of an
//! end whether it is fully done, fully undone or neither, from the participants' ledgers alone. No clock and no random
//! numbers: the same stage and faults are the same run.

mod answer;
mod diagram;
mod explore;
mod fault;
mod input;
mod lookup;
mod participant;
mod pattern;
mod place;
mod synthetic_answers;
mod timeline;
mod verdict;
mod world;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use skald_protocol::{Decision, Gid, Json, OperationKind, Status, Timestamp, TransactionView};

use self::world::{Point, World};
pub use self::{
    answer::{Answers, Callback, CallbackOutcome, ScriptedAnswer, Unscriptable},
    diagram::diagram,
    explore::{Scenarios, explore},
    fault::{Fate, InjectedFault, Strike, When},
    input::sample,
    lookup::named,
    participant::{How, Ledger},
    place::pointer,
    timeline::{Attempt, TimelineEntry, What, condensed},
    verdict::{End, Flaw, Verdict, judge},
};
use crate::plan::Plan;

/// What is played.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Stage {
    pub plan: Arc<Plan>,
    pub input: Option<Json>,
    /// What expressions read as `config`.
    pub config: Option<Json>,
    pub answers: Answers,
    /// Participants have the barrier; else they execute whatever arrives.
    pub barrier: bool,
    /// What outsiders send; a signal that is not among them comes soon after a step begins to wait for it.
    pub signals: Vec<Signal>,
    gid: Gid,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Signal {
    pub name: String,
    pub payload: Option<Json>,
    /// Since the begin.
    pub after: Duration,
}

/// How a run came out.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Run {
    /// Nothing moves any more; else it was given up.
    pub finished: bool,
    pub status: Status,
    pub decision: Option<Decision>,
    pub view: TransactionView,
    /// By branch.
    pub ledgers: BTreeMap<String, Ledger>,
    /// What should never be, whatever the end: branch (or nothing) and what.
    pub wrongs: Vec<(String, String)>,
    /// Calls whose expressions failed.
    pub unrenderable: Vec<(String, OperationKind, String)>,
    /// An operator let it go on after its deadline.
    pub resumed: bool,
    /// In virtual time.
    pub took: Duration,
    /// Signals that steps waited for.
    pub signals: Vec<String>,
    /// When each record was appended.
    pub records: Vec<Timestamp>,
    points: Vec<Point>,
    pub calls: usize,
    /// Only where it was asked for.
    pub timeline: Vec<TimelineEntry>,
}

impl Stage {
    #[must_use]
    pub fn new(plan: Arc<Plan>, input: Option<Json>, answers: Answers) -> Self {
        Self { plan, input, config: None, answers, barrier: true, signals: Vec::new(), gid: world::gid() }
    }

    #[must_use]
    pub fn without_barrier(self) -> Self {
        Self { barrier: false, ..self }
    }

    /// Plays one transaction to its end.
    #[must_use]
    pub fn play(&self, faults: &[InjectedFault]) -> Run {
        World::play(self, faults, false)
    }

    /// The same, and tells what happened.
    #[must_use]
    pub fn play_recorded(&self, faults: &[InjectedFault]) -> Run {
        World::play(self, faults, true)
    }
}
