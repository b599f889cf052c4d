//! A task that solely owns the transactions whose gid falls to it, whatever shard their rows are in.
//!
//! A turn takes all that has come in, notes it with the transactions it is for, lets each of these decide once, and hands
//! the appends of all of them to the journal in one piece. Nothing here waits for the database or for a participant.

mod loads;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use skald_engine::Input;
use skald_protocol::{Gid, Timestamp};
use tokio::{
    sync::{mpsc, oneshot},
    task::yield_now,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    Error, House, RETRY_AFTER,
    clock::Clock,
    held::{Busy, Held, QUEUE},
    inbox::{Ask, Back, Control, Purpose, Report, Work},
    load::guarded,
    outlet::Outlet,
    turn::{Turn, aside, rest_after, worked},
};
use crate::{
    journal::{Done, Journal, Landed, Outcome},
    store::NodeId,
};

/// Overlong turns of one transaction until it is set aside.
const OVERLONG: u32 = 3;
/// Messages of one kind taken in one turn.
const TURN: usize = 512;
/// Between two looks at whether leaving shards are at rest.
const LEAVERS: Duration = Duration::from_millis(20);
/// An idle task looks around at least this often (leases, leavers).
const IDLE: Duration = Duration::from_millis(500);

/// The receiving ends of a task.
pub(super) struct Inbox {
    pub(super) asks: mpsc::Receiver<Ask>,
    pub(super) backs: mpsc::Receiver<Back>,
    pub(super) done: mpsc::UnboundedReceiver<Done>,
    pub(super) control: mpsc::UnboundedReceiver<Control>,
}

/// What others may know of a task without asking.
#[derive(Debug, Default)]
pub(super) struct Load {
    pub(super) held: AtomicUsize,
    /// How late the first of those is that wait to be loaded.
    pub(super) overdue_ms: AtomicU64,
}

struct Leaving {
    shards: HashSet<i32>,
    until: Instant,
    left: Option<oneshot::Sender<()>>,
}

pub(super) struct ShardTask {
    number: usize,
    house: Arc<House>,
    clock: Arc<Clock>,
    journal: Journal,
    control: mpsc::UnboundedSender<Control>,
    reports: mpsc::UnboundedSender<Report>,
    cancel: CancellationToken,
    load: Arc<Load>,
    held: HashMap<Gid, Box<Held>>,
    /// Being loaded, with what came for them meanwhile.
    loading: HashMap<Gid, Vec<Work>>,
    /// To be loaded at once: somebody waits.
    urgent: Vec<Gid>,
    /// To be loaded as there is room.
    backlog: VecDeque<(Timestamp, Gid)>,
    /// Sweeps that wait until the backlog is short.
    hungry: Vec<oneshot::Sender<()>>,
    loads: usize,
    leaving: Vec<Leaving>,
    look_at_leavers: Instant,
    tickets: u64,
    max_held: usize,
    /// Taken in, and left over by a turn that was over.
    waiting: VecDeque<Ask>,
    /// When one may have a turn by itself.
    alone_from: Instant,
    /// What this thread had worked when the turn began.
    worked: Duration,
    out: Outlet,
}

/// What a task is made of.
pub(super) struct Parts {
    pub(super) number: usize,
    pub(super) house: Arc<House>,
    pub(super) node: NodeId,
    pub(super) clock: Arc<Clock>,
    pub(super) journal: Journal,
    pub(super) control: mpsc::UnboundedSender<Control>,
    pub(super) places: mpsc::Sender<Back>,
    pub(super) reports: mpsc::UnboundedSender<Report>,
    pub(super) cancel: CancellationToken,
    pub(super) load: Arc<Load>,
}

impl ShardTask {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { number, house, node, clock, journal, control, places, reports, cancel, load } = parts;
        Self {
            number,
            journal,
            control,
            reports,
            cancel,
            load,
            held: HashMap::new(),
            loading: HashMap::new(),
            urgent: Vec::new(),
            backlog: VecDeque::new(),
            hungry: Vec::new(),
            loads: 0,
            leaving: Vec::new(),
            look_at_leavers: Instant::now(),
            tickets: 0,
            waiting: VecDeque::new(),
            alone_from: Instant::now(),
            worked: Duration::ZERO,
            max_held: house.options.max_in_memory / house.options.tasks,
            out: Outlet::new(Arc::clone(&house), node, Arc::clone(&clock), places),
            clock,
            house,
        }
    }

    pub(super) async fn run(mut self, mut inbox: Inbox) {
        let cancel = self.cancel.clone();
        let mut asks = Vec::with_capacity(TURN);
        let mut backs = Vec::with_capacity(TURN);
        let timer = sleep(Duration::ZERO);
        tokio::pin!(timer);
        loop {
            let wake = self.next_wake();
            // Waking too early costs an idle turn, moving the timer with every turn costs more.
            if timer.is_elapsed() || wake < timer.deadline() {
                timer.as_mut().reset(wake);
            }
            let mut done = None;
            let mut control = None;
            let left_over = !self.waiting.is_empty() || !self.out.ready.is_empty();
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                message = inbox.control.recv() => control = message,
                message = inbox.done.recv() => done = message,
                _ = inbox.backs.recv_many(&mut backs, TURN) => {}
                _ = inbox.asks.recv_many(&mut asks, TURN), if self.waiting.len() < TURN => {}
                () = &mut timer => {}
                // The thread's other tasks first.
                () = yield_now(), if left_over => {}
            }
            self.worked = worked();
            self.out.turn = Turn::shared();
            self.out.now = self.clock.now();
            self.out.driving = self.clock.may_send();
            while let Some(message) = control.take().or_else(|| inbox.control.try_recv().ok()) {
                self.control(message);
            }
            while let Some(message) = done.take().or_else(|| inbox.done.try_recv().ok()) {
                self.done(message);
            }
            while backs.len() < TURN {
                let Ok(back) = inbox.backs.try_recv() else { break };
                backs.push(back);
            }
            while asks.len() + self.waiting.len() < TURN {
                let Ok(ask) = inbox.asks.try_recv() else { break };
                asks.push(ask);
            }
            backs.drain(..).for_each(|back| self.back(back));
            self.waiting.extend(asks.drain(..));
            while !self.out.turn.is_over()
                && let Some(ask) = self.waiting.pop_front()
            {
                self.ask(ask);
            }
            self.timers();
            self.decide();
            self.leave();
            self.start_loads();
            self.hand_over();
            self.decide_alone();
        }
    }

    fn next_wake(&self) -> Instant {
        let mut next = Instant::now() + if self.leaving.is_empty() { IDLE } else { LEAVERS };
        let retiring = self.out.retiring.front().map(|(at, ..)| *at);
        if !self.out.heavy.is_empty() {
            next = next.min(self.alone_from);
        }
        for at in [self.out.timers.next(), retiring].into_iter().flatten() {
            next = next.min(Instant::now() + self.clock.until(at));
        }
        next
    }

    /// Works on one held transaction; whatever panics there sets that one aside.
    fn with(&mut self, gid: &Gid, work: impl FnOnce(&mut Held, &mut Outlet)) {
        let Some(held) = self.held.get_mut(gid) else { return };
        let out = &mut self.out;
        let began = Instant::now();
        let mut done = guarded("the transaction", || work(held, out));
        let most = self.house.options.longest_turn;
        if began.elapsed() > most && worked().saturating_sub(self.worked) > most {
            held.overlong += 1;
            tracing::warn!(%gid, took = ?began.elapsed(), "a turn of a transaction took too long");
            if held.overlong >= OVERLONG && done.is_ok() {
                done = Err(format!("{OVERLONG} of its turns took more than {most:?} of a processor each"));
            }
        }
        if let Err(reason) = done {
            self.quarantine(gid, reason);
        }
    }

    fn quarantine(&mut self, gid: &Gid, reason: String) {
        self.out.entries.retain(|entry| entry.append.gid != *gid);
        self.out.projections.retain(|projection| projection.gid != *gid);
        if let Some(held) = self.held.remove(gid) {
            held.dismiss();
        }
        self.house.quarantine(gid.clone(), reason);
    }

    fn ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    fn ask(&mut self, Ask { gid, work }: Ask) {
        if work.is_withdrawn() {
            return;
        }
        if let Some(held) = self.held.get_mut(&gid) {
            return held.push(work, &mut self.out);
        }
        if let Some(works) = self.loading.get_mut(&gid) {
            if works.len() < QUEUE {
                works.push(work);
            } else {
                work.fail(self.out.overloaded());
            }
            return;
        }
        match work {
            Work::Begin(new, claim, answer) => {
                if self.held.len() + self.loading.len() >= self.max_held {
                    return Work::Begin(new, claim, answer).fail(self.out.overloaded());
                }
                let Some(shard) = self.out.shard_for_begin() else {
                    return Work::Begin(new, claim, answer).fail(Error::not_ready("this node holds no shards yet"));
                };
                let ticket = self.ticket();
                let out = &mut self.out;
                match guarded("begin", || Held::begin(&gid, shard, ticket, new, claim, answer, out)) {
                    Ok(held) => drop(self.held.insert(gid, Box::new(held))),
                    Err(reason) => tracing::error!(%gid, reason, "a begin panicked"),
                }
            }
            // Its owner may be here or elsewhere; loading tells.
            word @ Work::Word(..) => {
                if self.loading.len() >= self.max_held {
                    return word.fail(self.out.overloaded());
                }
                self.loading.insert(gid.clone(), vec![word]);
                self.urgent.push(gid);
            }
            other => other.refuse(),
        }
    }

    fn back(&mut self, back: Back) {
        match back {
            Back::Reply { ticket, incoming } => {
                let (gid, call, reply) = (incoming.gid, incoming.call, incoming.reply);
                // A call of an earlier stay in memory: its answer decides nothing.
                if let Some(held) = self.held.get_mut(&gid).filter(|held| held.ticket == ticket) {
                    held.push(Work::Input(Input::Replied { call, reply }), &mut self.out);
                }
            }
            Back::Withheld { ticket, gid, call } => {
                if self.held.get(&gid).is_some_and(|held| held.ticket == ticket) {
                    self.with(&gid, |held, out| held.withheld(call, out));
                }
            }
        }
        // A place is free again.
        if let Some((gid, ticket)) = self.out.starved.pop_front()
            && self.held.get(&gid).is_some_and(|held| held.ticket == ticket)
        {
            self.with(&gid, Held::fed);
        }
    }

    fn done(&mut self, done: Done) {
        for Landed { gid, ticket, outcome } in done.appends {
            if self.held.get(&gid).is_none_or(|held| held.ticket != ticket) {
                continue;
            }
            match outcome {
                Outcome::Durable => self.with(&gid, Held::durable),
                Outcome::Conflict => self.overtaken(gid, Duration::ZERO),
                Outcome::Refused => self.refused(gid),
                Outcome::Withdrawn => self.withdrawn(&gid),
            }
        }
        for (gid, seq) in done.projected {
            let Some(held) = self.held.get_mut(&gid) else { continue };
            if held.parking.is_some() {
                if held.parked(seq) {
                    if let Some(held) = self.held.remove(&gid) {
                        held.dismiss();
                    }
                } else {
                    self.with(&gid, Held::rest);
                }
            }
        }
    }

    fn control(&mut self, control: Control) {
        match control {
            Control::Own(shards) => self.out.own(&shards),
            Control::Leave { shards, within, left } => {
                self.out.leave(&shards);
                let shards = shards.into_iter().collect();
                self.leaving.push(Leaving { shards, until: Instant::now() + within, left: Some(left) });
            }
            Control::Due(due, more) => {
                for (at, gid) in due {
                    self.sleeper(at, gid);
                }
                self.hungry.push(more);
            }
            Control::Foreign(moved) => {
                for (gid, seq) in moved {
                    let Some(held) = self.held.get_mut(&gid) else {
                        // It sleeps, and was made due by a clock that may be far from this node's.
                        self.sleeper(self.out.now, gid);
                        continue;
                    };
                    // One with an append in flight learns of it by the conflict.
                    if held.busy != Busy::No {
                        continue;
                    }
                    if held.next_seq <= seq {
                        held.busy = Busy::Reloading;
                        self.spawn_load(Purpose::Reload, vec![gid], Duration::ZERO);
                    } else {
                        self.with(&gid, Held::unmark);
                    }
                }
            }
            Control::Loaded(purpose, found) => {
                if purpose == Purpose::Hold {
                    self.loads = self.loads.saturating_sub(1);
                }
                for (gid, found) in found {
                    self.loaded(purpose, gid, found);
                }
            }
            Control::LoadFailed(purpose, gids, reason) => {
                if purpose == Purpose::Hold {
                    self.loads = self.loads.saturating_sub(1);
                }
                for gid in gids {
                    match purpose {
                        Purpose::Reload => self.spawn_load(Purpose::Reload, vec![gid], Duration::ZERO),
                        Purpose::Hold => {
                            for work in self.loading.get_mut(&gid).map(std::mem::take).unwrap_or_default() {
                                work.fail(Error::not_ready(&reason));
                            }
                            self.backlog.push_back((self.out.now, gid));
                        }
                    }
                }
            }
            Control::Drive => {
                let gids: Vec<_> = self.held.keys().cloned().collect();
                for gid in gids {
                    self.with(&gid, Held::moved);
                }
            }
        }
    }

    /// To be loaded, unless it is here or on its way.
    fn sleeper(&mut self, due: Timestamp, gid: Gid) {
        if !self.held.contains_key(&gid) && !self.loading.contains_key(&gid) {
            self.loading.insert(gid.clone(), Vec::new());
            self.backlog.push_back((due, gid));
        }
    }

    fn timers(&mut self) {
        while let Some((at, gid, ticket)) = self.out.timers.pop_due(self.out.now) {
            if self.held.get(&gid).is_some_and(|held| held.ticket == ticket && held.armed == at) {
                self.with(&gid, Held::wake);
            }
        }
        while let Some((_, gid, ticket)) = self.out.retiring.pop_front_if(|(at, ..)| *at <= self.out.now) {
            if self.held.get(&gid).is_some_and(|held| held.ticket == ticket)
                && let Some(held) = self.held.remove(&gid)
            {
                held.dismiss();
            }
        }
        let held = &self.held;
        self.out.timers.compact(held.len(), |at, gid, ticket| {
            held.get(gid).is_some_and(|held| held.ticket == ticket && held.armed == at)
        });
    }

    fn decide(&mut self) {
        // A decision may make its own transaction ready again (an unrenderable call): until nothing is, or the turn over.
        while !self.out.turn.is_over()
            && let Some(gid) = self.out.ready.pop_front()
        {
            self.with(&gid, Held::turn);
        }
    }

    /// Those that take more than one may among others, as far as a turn goes.
    fn decide_alone(&mut self) {
        if self.out.heavy.is_empty() || Instant::now() < self.alone_from {
            return;
        }
        let began = std::time::Instant::now();
        aside(|| {
            self.worked = worked();
            self.out.turn = Turn::alone();
            while !self.out.turn.is_over()
                && let Some((gid, ticket)) = self.out.heavy.pop_front()
            {
                if self.held.get(&gid).is_some_and(|held| held.ticket == ticket) {
                    self.with(&gid, Held::turn_alone);
                }
            }
        });
        self.alone_from = rest_after(began).into();
        self.hand_over();
    }

    fn leave(&mut self) {
        let now = Instant::now();
        if self.leaving.is_empty() || now < self.look_at_leavers {
            return;
        }
        self.look_at_leavers = now + LEAVERS;
        let mut leaving = std::mem::take(&mut self.leaving);
        leaving.retain_mut(|leaver| {
            let there = || self.held.values().filter(|held| leaver.shards.contains(&held.shard));
            if now < leaver.until && !there().all(|held| held.at_rest()) {
                return true;
            }
            let gone: Vec<_> = there().map(|held| held.tx.gid().clone()).collect();
            for gid in gone {
                if let Some(held) = self.held.remove(&gid) {
                    held.dismiss();
                }
            }
            let shards: Vec<_> = leaver.shards.iter().copied().collect();
            self.out.lose(&shards);
            if let Some(left) = leaver.left.take() {
                let _ = left.send(());
            }
            false
        });
        self.leaving = leaving;
    }

    /// What the turn made, in one piece.
    fn hand_over(&mut self) {
        self.load.held.store(self.held.len(), Ordering::Relaxed);
        let late = self.backlog.front().map_or(Duration::ZERO, |(due, _)| due.until(self.out.now));
        self.load.overdue_ms.store(u64::try_from(late.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        if !self.out.entries.is_empty() || !self.out.projections.is_empty() {
            let entries = std::mem::take(&mut self.out.entries);
            let projections = std::mem::take(&mut self.out.projections);
            self.journal.submit(self.number, entries, projections);
        }
    }
}

impl Error {
    pub(super) fn not_ready(reason: &str) -> Self {
        Self::NotReady { reason: reason.to_owned(), retry_after: RETRY_AFTER }
    }
}
