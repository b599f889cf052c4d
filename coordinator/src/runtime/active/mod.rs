//! One transaction in memory: the cycle decide → append → (durable) → reply → drive.
//!
//! The engine folds its events when it decides them, so while an append is in flight the value is ahead of what is
//! durable: nothing derived from it may leave, and whatever comes in waits. Once durable, those who waited are answered
//! first, then the owed calls go out, then all that came in meanwhile is decided together in the next append.

mod drive;
mod respond;

use std::{mem::take, sync::Arc, time::Instant};

use skald_engine::{
    Budget, Command, Event, Input, Record, Rejection, Transaction, limit,
    transaction::{Continuity, Decided},
};
use skald_protocol::{Gid, Status, Timestamp, TransactionView};
use tokio::sync::oneshot;

pub(super) use respond::{SHOWN, dry_run, is_satisfied};

use super::{
    Begun, NewTransaction, Until,
    context::TaskContext,
    inbox::{Responder, Work, call_of},
    load::Replayed,
};
use crate::{
    journal::{Claim, PendingAppend},
    store::{Append, Begin, Projection, StoredPlan},
};

/// Requests that may wait for one transaction's append; more are refused.
pub(super) const QUEUE: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Busy {
    No,
    /// An append is in flight.
    Appending,
    /// Another node moved it: the value is stale until it is loaded again.
    Reloading,
}

/// What the append in flight is, or the last one was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Appending {
    Begin,
    /// What `load` had to say before anything may be driven.
    Adoption,
    Decision,
}

/// What was decided of a work whose answer waits for the append.
#[derive(Debug)]
enum WorkOutcome {
    /// The begin that made the transaction.
    Began,
    Taken,
    Rejected(Rejection),
}

#[derive(Debug)]
pub(super) struct ActiveTransaction {
    pub(super) tx: Transaction,
    pub(super) shard: i32,
    /// Tells this stay in memory from earlier ones.
    pub(super) ticket: u64,
    pub(super) busy: Busy,
    pub(super) append: Appending,
    pub(super) next_seq: u64,
    pub(super) ready: bool,
    queue: Vec<Work>,
    /// What the append in flight carries, to be answered or decided again.
    carried: Vec<(Work, WorkOutcome)>,
    waiters: Vec<(Until, Responder<TransactionView>)>,
    watchers: Vec<oneshot::Sender<()>>,
    /// When it last changed as others see it.
    changed_at: Instant,
    request_digest: [u8; 32],
    bytes: usize,
    /// `JournalFull` was said.
    full: bool,
    /// The wake that is in the task's heap.
    pub(super) armed: Timestamp,
    touched: Timestamp,
    /// The row's status, as last sent.
    projected: Status,
    /// Settled, and on its way out of memory.
    retired: bool,
    /// The row may sleep longer than this transaction does: the next append wakes it in the same commit.
    row_sleeps: bool,
    /// The row carries another's mark (or this node's own): a projection takes it off.
    marked: bool,
    /// Parking waits for the projection made at this seq.
    pub(super) parking: Option<u64>,
    /// Gone when this stay in memory ends: calls that still wait then are not sent.
    stay: Arc<()>,
    /// Waits in the task's queue for a place.
    awaiting_permit: bool,
    /// A call is owed that the turn had nothing left for.
    undriven: bool,
    /// It took more than one may among others: it has its turns by itself.
    heavy: bool,
    /// Waits for such a turn.
    pub(super) waits_alone: bool,
    /// Turns that took longer than a turn may.
    pub(super) overlong: u32,
}

impl ActiveTransaction {
    fn new(tx: Transaction, shard: i32, ticket: u64, request_digest: [u8; 32], context: &TaskContext) -> Self {
        Self {
            tx,
            shard,
            ticket,
            busy: Busy::No,
            append: Appending::Decision,
            next_seq: 0,
            ready: false,
            queue: Vec::new(),
            carried: Vec::new(),
            waiters: Vec::new(),
            watchers: Vec::new(),
            changed_at: Instant::now(),
            request_digest,
            bytes: 0,
            full: false,
            armed: Timestamp::NEVER,
            touched: context.now,
            projected: Status::Running,
            retired: false,
            row_sleeps: false,
            marked: false,
            parking: None,
            stay: Arc::default(),
            awaiting_permit: false,
            undriven: false,
            heavy: false,
            waits_alone: false,
            overlong: 0,
        }
    }

    /// A new transaction with its first append under way.
    pub(super) fn begin(
        gid: &Gid,
        shard: i32,
        ticket: u64,
        mut new: Box<NewTransaction>,
        claim: Claim,
        responder: Responder<Begun>,
        context: &mut TaskContext,
    ) -> Self {
        let plan = context.plan(&new.plan);
        let began = skald_engine::Began {
            plan: hex::encode(new.plan.digest),
            contract: "native".to_owned(),
            input: new.input.take(),
            config: context.config(&new.plan.plan),
            labels: new.labels.clone(),
            timeout_ms: new.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
            trace: take(&mut new.trace),
        };
        let lent = context.turn.lend();
        let ahead_ms = context.clock.ahead_ms();
        let (tx, events) = Transaction::begin_within(lent.clone(), ahead_ms, gid.clone(), plan, began, context.now);
        let mut active = Self::new(tx, shard, ticket, new.request_digest, context);
        active.give_back(&lent, context);
        let begin = Begin {
            shard,
            workflow: new.workflow.take(),
            request_digest: new.request_digest,
            labels: take(&mut new.labels),
            created_at: context.now,
            plan: new.plan.digest,
            store_plan: (!context.knows(&new.plan.digest)).then(|| StoredPlan {
                digest: new.plan.digest,
                format: skald_engine::plan::FORMAT,
                definition: new.plan.definition.clone(),
                plan: new.plan.encoded.clone(),
            }),
        };
        active.carried.push((Work::Begin(new, claim, responder), WorkOutcome::Began));
        active.append = Appending::Begin;
        active.record(events, Some(Box::new(begin)), context);
        active
    }

    /// A loaded one; `works` came while it was loaded.
    pub(super) fn load(loaded: Replayed, ticket: u64, works: Vec<Work>, context: &mut TaskContext) -> Self {
        let Replayed { tx, row, next_seq, bytes } = loaded;
        let mut active = Self::new(tx, row.shard, ticket, row.request_digest, context);
        active.next_seq = next_seq;
        active.bytes = bytes;
        active.projected = row.status;
        active.row_sleeps = row.next_wake_at.is_none_or(|at| at > context.now.plus(context.lookahead));
        active.queue = works;
        active.tx.set_ahead(context.clock.ahead_ms());
        let continuity = if row.parked_by.is_some() && row.parked_by == context.parked_by(row.shard) {
            Continuity::Unbroken
        } else {
            Continuity::Broken
        };
        let lent = active.borrow(context);
        let mut events = recorded(active.tx.load(continuity, context.now));
        active.give_back(&lent, context);
        // What became due while nobody held it (a deadline) is decided before anything is called.
        if let Ok(decided) = active.decide(Input::Tick, context) {
            events.extend(recorded(decided));
        }
        if row.settled_at.is_some() {
            active.retire(context);
        }
        if events.is_empty() {
            active.on_change(context);
        } else {
            active.append = Appending::Adoption;
            active.record(events, None, context);
        }
        active.again(context);
        active
    }

    /// Takes what another node made of it, keeping what only this one knows, and does its works again.
    pub(super) fn reload(&mut self, loaded: Replayed, context: &mut TaskContext) {
        let works: Vec<_> = take(&mut self.carried).into_iter().map(|(work, _)| work).collect();
        for call in works.iter().filter_map(call_of) {
            self.tx.unanswered(call);
        }
        let Replayed { mut tx, row, next_seq, bytes } = loaded;
        let lent = context.turn.lend();
        tx.allow(lent.clone());
        tx.set_ahead(context.clock.ahead_ms());
        let decided = tx.inherit(&self.tx, context.now);
        self.tx = tx;
        self.give_back(&lent, context);
        self.busy = Busy::No;
        self.next_seq = next_seq;
        self.bytes = bytes;
        self.projected = row.status;
        self.marked = true;
        self.notify_watchers();
        self.queue.splice(0..0, works);
        if decided.record {
            self.append = Appending::Decision;
            self.record(decided.events, None, context);
        } else {
            self.on_change(context);
        }
        self.again(context);
    }

    pub(super) fn push(&mut self, work: Work, context: &mut TaskContext) {
        if self.queue.len() >= QUEUE && !matches!(work, Work::Input(_)) {
            return work.fail(context.overloaded());
        }
        self.queue.push(work);
        self.again(context);
    }

    /// Asks for a turn where there is something to do.
    fn again(&mut self, context: &mut TaskContext) {
        if self.queue.is_empty() && !self.tx.goes_on() && !self.undriven {
            self.heavy = false;
        } else if self.heavy {
            if !std::mem::replace(&mut self.waits_alone, true) {
                context.heavy.push_back((self.tx.gid().clone(), self.ticket));
            }
        } else if !std::mem::replace(&mut self.ready, true) {
            context.ready.push_back(self.tx.gid().clone());
        }
    }

    /// Its turn among others.
    pub(super) fn turn(&mut self, context: &mut TaskContext) {
        self.ready = false;
        if !self.heavy {
            self.work(context);
        }
    }

    /// Its turn by itself.
    pub(super) fn turn_alone(&mut self, context: &mut TaskContext) {
        self.waits_alone = false;
        self.work(context);
    }

    fn borrow(&mut self, context: &TaskContext) -> Budget {
        let lent = context.turn.lend();
        self.tx.allow(lent.clone());
        lent
    }

    fn give_back(&mut self, lent: &Budget, context: &mut TaskContext) {
        self.heavy |= context.turn.take_back(lent, self.tx.budget());
    }

    fn decide(&mut self, input: Input, context: &mut TaskContext) -> Result<Decided, Rejection> {
        let lent = self.borrow(context);
        let decided = self.tx.decide(input, context.now);
        self.give_back(&lent, context);
        decided
    }

    /// Decides what waits, in one append if anything of it is to be recorded; as far as the turn goes.
    fn work(&mut self, context: &mut TaskContext) {
        let waits = !self.queue.is_empty() || self.tx.goes_on() || self.undriven;
        if self.busy != Busy::No || self.retired && self.queue.is_empty() || !waits {
            return;
        }
        self.touched = context.now;
        self.tx.set_ahead(context.clock.ahead_ms());
        let mut events = Vec::new();
        if self.queue.is_empty() && self.tx.goes_on() {
            self.queue.push(Work::Input(Input::Tick));
        }
        let mut works = take(&mut self.queue).into_iter();
        while !context.turn.is_over()
            && let Some(work) = works.next()
        {
            if work.is_withdrawn() {
                continue;
            }
            let input = match &work {
                Work::Input(input) => Some(input.clone()),
                Work::Command(command, ..) => Some(Input::Command(command.clone())),
                Work::Begin(..) | Work::DryRun(..) | Work::View(..) => None,
                Work::Compare(..) | Work::Wait(..) | Work::Change(..) => None,
            };
            let verdict = match input.map(|input| self.decide(input, context)) {
                None => WorkOutcome::Taken,
                Some(Ok(decided)) => {
                    events.extend(recorded(decided));
                    WorkOutcome::Taken
                }
                Some(Err(rejection)) => WorkOutcome::Rejected(rejection),
            };
            self.carried.push((work, verdict));
        }
        self.queue = works.collect();
        if events.is_empty() {
            self.respond(context);
            self.on_change(context);
        } else {
            self.append = Appending::Decision;
            self.record(events, None, context);
        }
    }

    fn record(&mut self, mut events: Vec<Event>, begin: Option<Box<Begin>>, context: &mut TaskContext) {
        if self.tx.snapshot_due() {
            events.push(self.tx.snapshot());
        }
        let record = Record::new(context.now, events).encode();
        self.bytes += record.len();
        self.busy = Busy::Appending;
        let foreign = take(&mut self.row_sleeps);
        self.marked |= foreign;
        self.parking = None;
        let append = Append { gid: self.tx.gid().clone(), seq: self.next_seq, record, begin, foreign };
        self.next_seq += 1;
        let claims = self.carried.iter().filter_map(|(work, _)| work.claim().cloned()).collect();
        context.entries.push(PendingAppend { append, ticket: self.ticket, claims });
    }

    /// The append is durable.
    pub(super) fn durable(&mut self, context: &mut TaskContext) {
        self.busy = Busy::No;
        self.respond(context);
        self.notify_watchers();
        self.on_change(context);
    }

    /// What follows from the durable state: its row, its waiters, its calls, its next wake.
    pub(super) fn on_change(&mut self, context: &mut TaskContext) {
        self.project(context);
        if !self.waiters.is_empty() {
            self.notify_waiters();
        }
        if self.bytes > limit::JOURNAL && !self.full && self.tx.decision().is_none() {
            self.full = true;
            self.push(Work::Input(Input::Command(Command::JournalFull)), context);
        }
        self.drive(context);
        self.rest(context);
        self.again(context);
    }

    /// The row still carries a mark that this value has seen.
    pub(super) fn unmark(&mut self, context: &mut TaskContext) {
        self.marked = true;
        self.project(context);
    }

    fn project(&mut self, context: &mut TaskContext) {
        let status = self.tx.status();
        if let Some(settled_at) = self.tx.settled_at() {
            if !self.retired {
                self.projected = status;
                self.submit(None, None, Some(settled_at), context);
                context.settled(&self.tx, settled_at);
                self.retire(context);
            }
        } else if self.projected != status || self.marked {
            self.projected = status;
            // Too early is safe: it is held, and who takes it over looks at once.
            self.submit(Some(context.now), None, None, context);
        }
    }

    fn submit(
        &mut self,
        next_wake_at: Option<Timestamp>,
        parked_by: Option<(crate::store::NodeId, i64)>,
        settled_at: Option<Timestamp>,
        context: &mut TaskContext,
    ) {
        self.marked = false;
        context.projections.push(Projection {
            gid: self.tx.gid().clone(),
            seq: self.next_seq,
            status: self.tx.status(),
            next_wake_at,
            parked_by,
            settled_at,
        });
    }

    fn retire(&mut self, context: &mut TaskContext) {
        self.retired = true;
        context.retire(self.tx.gid(), self.ticket);
    }
}

fn recorded(decided: Decided) -> Vec<Event> {
    if decided.record { decided.events } else { Vec::new() }
}
