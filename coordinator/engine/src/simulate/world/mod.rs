//! One transaction, its coordinator, the network and the participants on a virtual clock.
//!
//! The engine is the real one; what a node does around it (render, send, append, replay) is done here in the same order.
//! Everything is a function of the stage and the faults, so a run that went wrong can be run again and told.

mod network;
mod node;
mod outside;
mod recorder;
mod stand_ins;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use skald_protocol::{BranchStatus, Gid, OperationKind, OperationStatus, Status, Timestamp};

use super::{
    Run, Stage,
    fault::{InjectedFault, Strike, When},
    participant::Ledger,
    timeline::{Attempt, TimelineEntry, What},
};
use crate::{
    call::{Call, Reply, Request, Response},
    journal::{Began, Error, Record, TraceContext},
    transaction::{Command, Decided, Input, Transaction},
};

/// When every virtual transaction begins: 2026-01-01T00:00:00Z.
pub(super) const START: Timestamp = Timestamp(1_767_225_600_000);
/// One way through the network.
const WAY_MS: i64 = 5;
/// From a kill to the other node's load.
const TAKE_OVER_MS: i64 = 1_000;
/// An asynchronous operation takes so long where nothing else is said.
const WORK_MS: i64 = 1_000;
/// More than any timeout and any settling retry of a sensible definition.
const LONGEST_MS: i64 = 800 * 24 * 3_600 * 1_000;
/// From this attempt on a participant that fails for ever asks for patience (`Retry-After`), or a day of it would be a
/// hundred thousand attempts.
const PATIENCE: u32 = 24;
const PATIENCE_MS: u64 = 3_600 * 1_000;
/// Happenings of one run.
const MOST: usize = 400_000;

struct Message {
    call: Call,
    of: Attempt,
    service: String,
    asynchronous: bool,
    holder: u32,
    /// The holder that sent it still waits.
    awaited: bool,
    strike: Option<Strike>,
}

enum Happening {
    /// `answered`: its answer reaches the coordinator.
    Arrive {
        message: usize,
        answered: bool,
    },
    Answer {
        message: usize,
        reply: Reply,
    },
    Expire {
        message: usize,
    },
    Finish {
        message: usize,
        end: Box<Result<Response, Error>>,
    },
    Command(Box<Command>),
    Load,
}

/// A call that could be struck: where, and at which record it was owed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Point {
    pub(super) branch: String,
    pub(super) operation: OperationKind,
    pub(super) ask: bool,
    pub(super) attempt: u32,
    pub(super) asynchronous: bool,
}

pub(super) struct World<'s> {
    stage: &'s Stage,
    faults: &'s [InjectedFault],
    tx: Transaction,
    journal: Vec<Record>,
    now: Timestamp,
    queue: BTreeMap<(Timestamp, u64), Happening>,
    next: u64,
    messages: Vec<Message>,
    /// Messages that hang in the network until all is over.
    held: Vec<usize>,
    ledgers: BTreeMap<String, Ledger>,
    holder: u32,
    down: bool,
    crash: Option<When>,
    cancels: BTreeSet<bool>,
    struck_at: BTreeMap<usize, Timestamp>,
    first: BTreeMap<(usize, OperationKind, Option<OperationStatus>), Request>,
    points: Vec<Point>,
    records: Vec<Timestamp>,
    /// Signals that are on their way, or will never be.
    signals: Vec<String>,
    wrongs: Vec<(String, String)>,
    unrenderable: Vec<(String, OperationKind, String)>,
    resumed: bool,
    happened: usize,
    told: usize,
    timeline: Option<Vec<TimelineEntry>>,
}

impl<'s> World<'s> {
    /// `tell`: keep what happens.
    pub(super) fn play(stage: &'s Stage, faults: &'s [InjectedFault], tell: bool) -> Run {
        let deadline = faults.iter().find_map(|fault| match fault {
            InjectedFault::Deadline { after_ms } => Some(*after_ms),
            _ => None,
        });
        let began = Began {
            plan: String::new(),
            contract: "native".to_owned(),
            input: stage.input.clone(),
            config: stage.config.clone(),
            labels: BTreeMap::new(),
            timeout_ms: deadline,
            trace: TraceContext::default(),
        };
        let (tx, events) = Transaction::begin(stage.gid.clone(), Arc::clone(&stage.plan), began, START);
        let mut world = World {
            stage,
            faults,
            tx,
            journal: Vec::new(),
            now: START,
            queue: BTreeMap::new(),
            next: 0,
            messages: Vec::new(),
            held: Vec::new(),
            ledgers: BTreeMap::new(),
            holder: 0,
            down: false,
            crash: None,
            cancels: BTreeSet::new(),
            struck_at: BTreeMap::new(),
            first: BTreeMap::new(),
            points: Vec::new(),
            records: Vec::new(),
            signals: Vec::new(),
            wrongs: Vec::new(),
            unrenderable: Vec::new(),
            resumed: false,
            happened: 0,
            told: 0,
            timeline: tell.then(Vec::new),
        };
        world.announce();
        world.record(Decided { events, record: true });
        let finished = world.run();
        world.end(finished)
    }

    fn run(&mut self) -> bool {
        loop {
            self.strike_the_node();
            if !self.down {
                self.send();
                self.strike_after_sending();
            }
            self.happened += 1;
            if self.happened > MOST || self.now.0 - START.0 > LONGEST_MS {
                return false;
            }
            let wake = if self.down { None } else { self.tx.next_wake() };
            let next = self.queue.keys().next().copied();
            match (next, wake) {
                (Some(key), wake) if wake.is_none_or(|wake| key.0 <= wake) => self.happen(key),
                (_, Some(wake)) => {
                    self.now = self.now.max(wake);
                    self.decide(Input::Tick);
                }
                _ if self.wait_is_over() => {}
                _ => return true,
            }
        }
    }

    /// Nothing moves by itself: an operator resumes what waits at its deadline, and at last the network delivers what
    /// hung in it.
    fn wait_is_over(&mut self) -> bool {
        let stuck = (0..self.tx.branch_count()).any(|branch| self.tx.branch_status(branch) == BranchStatus::Stuck);
        if self.tx.status() == Status::Suspended && !stuck && !self.resumed {
            self.resumed = true;
            self.note(|| What::Resumed);
            self.decide(Input::Command(Command::Resume));
            return true;
        }
        let held = std::mem::take(&mut self.held);
        let any = !held.is_empty();
        for message in held {
            self.after(1_000, Happening::Arrive { message, answered: false });
        }
        any
    }

    fn end(mut self, finished: bool) -> Run {
        self.record_events();
        Run {
            finished,
            status: self.tx.status(),
            decision: self.tx.decision(),
            view: self.tx.view(0..usize::MAX),
            ledgers: self.ledgers,
            wrongs: self.wrongs,
            unrenderable: self.unrenderable,
            resumed: self.resumed,
            took: START.until(self.tx.settled_at().unwrap_or(self.now)),
            signals: self.signals,
            records: self.records,
            points: self.points,
            calls: self.messages.len(),
            timeline: self.timeline.unwrap_or_default(),
        }
    }
}

fn millis(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The gid of every virtual transaction.
pub(super) fn gid() -> Gid {
    Gid::new("simulated").expect("a gid")
}
