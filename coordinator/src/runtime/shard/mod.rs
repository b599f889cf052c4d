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
    Error, RETRY_AFTER, Shared,
    active::{ActiveTransaction, Busy, QUEUE},
    clock::Clock,
    context::TaskContext,
    inbox::{Completion, Control, Purpose, Report, TaskRequest, Work},
    load::guarded,
    turn::{Turn, aside, rest_after, worked},
};
use crate::{
    journal::{AppendOutcome, Done, Journal, Landed},
    store::NodeId,
};

/// Overlong turns of one transaction until it is set aside.
const OVERLONG: u32 = 3;
/// Messages of one kind taken in one turn.
const TURN: usize = 512;
/// Between two looks at whether leaving shards are at rest.
const LEAVING_CHECK: Duration = Duration::from_millis(20);
/// An idle task looks around at least this often (leases, leavers).
const IDLE: Duration = Duration::from_millis(500);

/// The receiving ends of a task.
pub(super) struct Inbox {
    pub(super) requests: mpsc::Receiver<TaskRequest>,
    pub(super) completions: mpsc::Receiver<Completion>,
    pub(super) done: mpsc::UnboundedReceiver<Done>,
    pub(super) control: mpsc::UnboundedReceiver<Control>,
}

/// What others may know of a task without asking.
#[derive(Debug, Default)]
pub(super) struct Load {
    pub(super) active: AtomicUsize,
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
    shared: Arc<Shared>,
    clock: Arc<Clock>,
    journal: Journal,
    control: mpsc::UnboundedSender<Control>,
    reports: mpsc::UnboundedSender<Report>,
    cancel: CancellationToken,
    load: Arc<Load>,
    active: HashMap<Gid, Box<ActiveTransaction>>,
    /// Being loaded, with what came for them meanwhile.
    loading: HashMap<Gid, Vec<Work>>,
    /// To be loaded at once: somebody waits.
    urgent: Vec<Gid>,
    /// To be loaded as there is room.
    backlog: VecDeque<(Timestamp, Gid)>,
    /// Sweeps that wait until the backlog is short.
    sweeps_waiting: Vec<oneshot::Sender<()>>,
    loads: usize,
    leaving: Vec<Leaving>,
    check_leaving_at: Instant,
    tickets: u64,
    max_held: usize,
    /// Taken in, and left over by a turn that was over.
    waiting: VecDeque<TaskRequest>,
    /// When one may have a turn by itself.
    alone_from: Instant,
    /// What this thread had worked when the turn began.
    worked: Duration,
    context: TaskContext,
}

/// What a task is made of.
pub(super) struct TaskParts {
    pub(super) number: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) node: NodeId,
    pub(super) clock: Arc<Clock>,
    pub(super) journal: Journal,
    pub(super) control: mpsc::UnboundedSender<Control>,
    pub(super) places: mpsc::Sender<Completion>,
    pub(super) reports: mpsc::UnboundedSender<Report>,
    pub(super) cancel: CancellationToken,
    pub(super) load: Arc<Load>,
}

impl ShardTask {
    pub(super) fn new(parts: TaskParts) -> Self {
        let TaskParts { number, shared, node, clock, journal, control, places, reports, cancel, load } = parts;
        Self {
            number,
            journal,
            control,
            reports,
            cancel,
            load,
            active: HashMap::new(),
            loading: HashMap::new(),
            urgent: Vec::new(),
            backlog: VecDeque::new(),
            sweeps_waiting: Vec::new(),
            loads: 0,
            leaving: Vec::new(),
            check_leaving_at: Instant::now(),
            tickets: 0,
            waiting: VecDeque::new(),
            alone_from: Instant::now(),
            worked: Duration::ZERO,
            max_held: shared.options.max_in_memory / shared.options.tasks,
            context: TaskContext::new(Arc::clone(&shared), node, Arc::clone(&clock), places),
            clock,
            shared,
        }
    }

    pub(super) async fn run(mut self, mut inbox: Inbox) {
        let cancel = self.cancel.clone();
        let mut requests = Vec::with_capacity(TURN);
        let mut completions = Vec::with_capacity(TURN);
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
            let left_over = !self.waiting.is_empty() || !self.context.ready.is_empty();
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                message = inbox.control.recv() => control = message,
                message = inbox.done.recv() => done = message,
                _ = inbox.completions.recv_many(&mut completions, TURN) => {}
                _ = inbox.requests.recv_many(&mut requests, TURN), if self.waiting.len() < TURN => {}
                () = &mut timer => {}
                // The thread's other tasks first.
                () = yield_now(), if left_over => {}
            }
            self.worked = worked();
            self.context.turn = Turn::shared();
            self.context.now = self.clock.now();
            self.context.driving = self.clock.may_send();
            while let Some(message) = control.take().or_else(|| inbox.control.try_recv().ok()) {
                self.control(message);
            }
            while let Some(message) = done.take().or_else(|| inbox.done.try_recv().ok()) {
                self.done(message);
            }
            while completions.len() < TURN {
                let Ok(completion) = inbox.completions.try_recv() else { break };
                completions.push(completion);
            }
            while requests.len() + self.waiting.len() < TURN {
                let Ok(request) = inbox.requests.try_recv() else { break };
                requests.push(request);
            }
            completions.drain(..).for_each(|completion| self.on_completion(completion));
            self.waiting.extend(requests.drain(..));
            while !self.context.turn.is_over()
                && let Some(request) = self.waiting.pop_front()
            {
                self.request(request);
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
        let mut next = Instant::now() + if self.leaving.is_empty() { IDLE } else { LEAVING_CHECK };
        let retiring = self.context.retiring.front().map(|(at, ..)| *at);
        if !self.context.heavy.is_empty() {
            next = next.min(self.alone_from);
        }
        for at in [self.context.timers.next(), retiring].into_iter().flatten() {
            next = next.min(Instant::now() + self.clock.until(at));
        }
        next
    }

    /// Works on one held transaction; whatever panics there sets that one aside.
    fn with(&mut self, gid: &Gid, work: impl FnOnce(&mut ActiveTransaction, &mut TaskContext)) {
        let Some(active) = self.active.get_mut(gid) else { return };
        let context = &mut self.context;
        let began = Instant::now();
        let mut done = guarded("the transaction", || work(active, context));
        let most = self.shared.options.longest_turn;
        if began.elapsed() > most && worked().saturating_sub(self.worked) > most {
            active.overlong += 1;
            tracing::warn!(%gid, took = ?began.elapsed(), "a turn of a transaction took too long");
            if active.overlong >= OVERLONG && done.is_ok() {
                done = Err(format!("{OVERLONG} of its turns took more than {most:?} of a processor each"));
            }
        }
        if let Err(reason) = done {
            self.quarantine(gid, reason);
        }
    }

    fn quarantine(&mut self, gid: &Gid, reason: String) {
        self.context.entries.retain(|entry| entry.append.gid != *gid);
        self.context.projections.retain(|projection| projection.gid != *gid);
        if let Some(active) = self.active.remove(gid) {
            active.dismiss();
        }
        self.shared.quarantine(gid.clone(), reason);
    }

    fn ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    fn request(&mut self, TaskRequest { gid, work }: TaskRequest) {
        if work.is_withdrawn() {
            return;
        }
        if let Some(active) = self.active.get_mut(&gid) {
            return active.push(work, &mut self.context);
        }
        if let Some(works) = self.loading.get_mut(&gid) {
            if works.len() < QUEUE {
                works.push(work);
            } else {
                work.fail(self.context.overloaded());
            }
            return;
        }
        match work {
            Work::Begin(new, claim, responder) => {
                if self.active.len() + self.loading.len() >= self.max_held {
                    return Work::Begin(new, claim, responder).fail(self.context.overloaded());
                }
                let Some(shard) = self.context.shard_for_begin() else {
                    return Work::Begin(new, claim, responder).fail(Error::not_ready("this node holds no shards yet"));
                };
                let ticket = self.ticket();
                let context = &mut self.context;
                match guarded("begin", || ActiveTransaction::begin(&gid, shard, ticket, new, claim, responder, context))
                {
                    Ok(active) => drop(self.active.insert(gid, Box::new(active))),
                    Err(reason) => tracing::error!(%gid, reason, "a begin panicked"),
                }
            }
            // Its owner may be here or elsewhere; loading tells.
            command @ Work::Command(..) => {
                if self.loading.len() >= self.max_held {
                    return command.fail(self.context.overloaded());
                }
                self.loading.insert(gid.clone(), vec![command]);
                self.urgent.push(gid);
            }
            other => other.refuse(),
        }
    }

    fn on_completion(&mut self, completion: Completion) {
        match completion {
            Completion::Reply { ticket, incoming } => {
                let (gid, call, reply) = (incoming.gid, incoming.call, incoming.reply);
                // A call of an earlier stay in memory: its answer decides nothing.
                if let Some(active) = self.active.get_mut(&gid).filter(|active| active.ticket == ticket) {
                    active.push(Work::Input(Input::Replied { call, reply }), &mut self.context);
                }
            }
            Completion::Withheld { ticket, gid, call } => {
                if self.active.get(&gid).is_some_and(|active| active.ticket == ticket) {
                    self.with(&gid, |active, context| active.withheld(call, context));
                }
            }
        }
        // A place is free again.
        if let Some((gid, ticket)) = self.context.awaiting_permit.pop_front()
            && self.active.get(&gid).is_some_and(|active| active.ticket == ticket)
        {
            self.with(&gid, ActiveTransaction::on_permit);
        }
    }

    fn done(&mut self, done: Done) {
        for Landed { gid, ticket, outcome } in done.appends {
            if self.active.get(&gid).is_none_or(|active| active.ticket != ticket) {
                continue;
            }
            match outcome {
                AppendOutcome::Durable => self.with(&gid, ActiveTransaction::durable),
                AppendOutcome::Conflict => self.overtaken(gid, Duration::ZERO),
                AppendOutcome::Refused => self.refused(gid),
                AppendOutcome::Withdrawn => self.withdrawn(&gid),
            }
        }
        for (gid, seq) in done.projected {
            let Some(active) = self.active.get_mut(&gid) else { continue };
            if active.parking.is_some() {
                if active.parked(seq) {
                    if let Some(active) = self.active.remove(&gid) {
                        active.dismiss();
                    }
                } else {
                    self.with(&gid, ActiveTransaction::rest);
                }
            }
        }
    }

    fn control(&mut self, control: Control) {
        match control {
            Control::Own(shards) => self.context.own(&shards),
            Control::Leave { shards, within, left } => {
                self.context.leave(&shards);
                let shards = shards.into_iter().collect();
                self.leaving.push(Leaving { shards, until: Instant::now() + within, left: Some(left) });
            }
            Control::Due(due, more) => {
                for (at, gid) in due {
                    self.load_later(at, gid);
                }
                self.sweeps_waiting.push(more);
            }
            Control::Foreign(on_change) => {
                for (gid, seq) in on_change {
                    let Some(active) = self.active.get_mut(&gid) else {
                        // It sleeps, and was made due by a clock that may be far from this node's.
                        self.load_later(self.context.now, gid);
                        continue;
                    };
                    // One with an append in flight learns of it by the conflict.
                    if active.busy != Busy::No {
                        continue;
                    }
                    if active.next_seq <= seq {
                        active.busy = Busy::Reloading;
                        self.spawn_load(Purpose::Reload, vec![gid], Duration::ZERO);
                    } else {
                        self.with(&gid, ActiveTransaction::unmark);
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
                            self.backlog.push_back((self.context.now, gid));
                        }
                    }
                }
            }
            Control::Drive => {
                let gids: Vec<_> = self.active.keys().cloned().collect();
                for gid in gids {
                    self.with(&gid, ActiveTransaction::on_change);
                }
            }
        }
    }

    /// To be loaded, unless it is here or on its way.
    fn load_later(&mut self, due: Timestamp, gid: Gid) {
        if !self.active.contains_key(&gid) && !self.loading.contains_key(&gid) {
            self.loading.insert(gid.clone(), Vec::new());
            self.backlog.push_back((due, gid));
        }
    }

    fn timers(&mut self) {
        while let Some((at, gid, ticket)) = self.context.timers.pop_due(self.context.now) {
            if self.active.get(&gid).is_some_and(|active| active.ticket == ticket && active.armed == at) {
                self.with(&gid, ActiveTransaction::wake);
            }
        }
        while let Some((_, gid, ticket)) = self.context.retiring.pop_front_if(|(at, ..)| *at <= self.context.now) {
            if self.active.get(&gid).is_some_and(|active| active.ticket == ticket)
                && let Some(active) = self.active.remove(&gid)
            {
                active.dismiss();
            }
        }
        let active = &self.active;
        self.context.timers.compact(active.len(), |at, gid, ticket| {
            active.get(gid).is_some_and(|active| active.ticket == ticket && active.armed == at)
        });
    }

    fn decide(&mut self) {
        // A decision may make its own transaction ready again (an unrenderable call): until nothing is, or the turn over.
        while !self.context.turn.is_over()
            && let Some(gid) = self.context.ready.pop_front()
        {
            self.with(&gid, ActiveTransaction::turn);
        }
    }

    /// Those that take more than one may among others, as far as a turn goes.
    fn decide_alone(&mut self) {
        if self.context.heavy.is_empty() || Instant::now() < self.alone_from {
            return;
        }
        let began = std::time::Instant::now();
        aside(|| {
            self.worked = worked();
            self.context.turn = Turn::alone();
            while !self.context.turn.is_over()
                && let Some((gid, ticket)) = self.context.heavy.pop_front()
            {
                if self.active.get(&gid).is_some_and(|active| active.ticket == ticket) {
                    self.with(&gid, ActiveTransaction::turn_alone);
                }
            }
        });
        self.alone_from = rest_after(began).into();
        self.hand_over();
    }

    fn leave(&mut self) {
        let now = Instant::now();
        if self.leaving.is_empty() || now < self.check_leaving_at {
            return;
        }
        self.check_leaving_at = now + LEAVING_CHECK;
        let mut leaving = std::mem::take(&mut self.leaving);
        leaving.retain_mut(|leaving_shards| {
            let there = || self.active.values().filter(|active| leaving_shards.shards.contains(&active.shard));
            if now < leaving_shards.until && !there().all(|active| active.at_rest()) {
                return true;
            }
            let gone: Vec<_> = there().map(|active| active.tx.gid().clone()).collect();
            for gid in gone {
                if let Some(active) = self.active.remove(&gid) {
                    active.dismiss();
                }
            }
            let shards: Vec<_> = leaving_shards.shards.iter().copied().collect();
            self.context.lose(&shards);
            if let Some(left) = leaving_shards.left.take() {
                let _ = left.send(());
            }
            false
        });
        self.leaving = leaving;
    }

    /// What the turn made, in one piece.
    fn hand_over(&mut self) {
        self.load.active.store(self.active.len(), Ordering::Relaxed);
        let late = self.backlog.front().map_or(Duration::ZERO, |(due, _)| due.until(self.context.now));
        self.load.overdue_ms.store(u64::try_from(late.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        if !self.context.entries.is_empty() || !self.context.projections.is_empty() {
            let entries = std::mem::take(&mut self.context.entries);
            let projections = std::mem::take(&mut self.context.projections);
            self.journal.submit(self.number, entries, projections);
        }
    }
}

impl Error {
    pub(super) fn not_ready(reason: &str) -> Self {
        Self::NotReady { reason: reason.to_owned(), retry_after: RETRY_AFTER }
    }
}
