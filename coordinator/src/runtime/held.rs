//! One transaction in memory: the cycle decide → append → (durable) → reply → drive.
//!
//! The engine folds its events when it decides them, so while an append is in flight the value is ahead of what is
//! durable: nothing derived from it may leave, and whatever comes in waits. Once durable, those who waited are answered
//! first, then the owed calls go out, then all that came in meanwhile is decided together in the next append.

use std::{mem::take, time::Duration};

use skald_engine::{
    Event, Input, Record, Rejection, Request, Transaction, Word, limit,
    transaction::{Continuity, Decided},
};
use skald_protocol::{BranchStatus, Gid, Status, Timestamp, TransactionView};
use tokio::sync::oneshot;

use super::{
    Begun, Error, NewTransaction, Until,
    inbox::{Answer, Refusal, Slot, Work, call_of},
    load::Replayed,
    outlet::Outlet,
};
use crate::{
    dispatch::Outgoing,
    journal::Entry,
    store::{Append, Begin, Projection, StoredPlan},
};

/// Requests that may wait for one transaction's append; more are refused.
pub(super) const QUEUE: usize = 1024;

/// Between two looks at one that is due; longer while its calls cannot go out.
const LEAST_PAUSE: Duration = Duration::from_millis(10);
const BLOCKED_PAUSE: Duration = Duration::from_secs(1);

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
enum Verdict {
    /// The begin that made the transaction.
    Began,
    Taken,
    Rejected(Rejection),
}

#[derive(Debug)]
pub(super) struct Held {
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
    carried: Vec<(Work, Verdict)>,
    waiters: Vec<(Until, Answer<TransactionView>)>,
    watchers: Vec<oneshot::Sender<()>>,
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
    /// Calls that dispatch gave back unsent.
    pub(super) withheld: usize,
    /// Waits in the task's queue for a place.
    starved: bool,
}

impl Held {
    fn new(tx: Transaction, shard: i32, ticket: u64, request_digest: [u8; 32], out: &Outlet) -> Self {
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
            request_digest,
            bytes: 0,
            full: false,
            armed: Timestamp::NEVER,
            touched: out.now,
            projected: Status::Running,
            retired: false,
            row_sleeps: false,
            marked: false,
            parking: None,
            withheld: 0,
            starved: false,
        }
    }

    /// A new transaction with its first append under way.
    pub(super) fn begin(
        gid: &Gid,
        shard: i32,
        ticket: u64,
        mut new: Box<NewTransaction>,
        answer: Answer<Begun>,
        out: &mut Outlet,
    ) -> Self {
        let plan = out.plan(&new.plan);
        let began = skald_engine::Began {
            plan: hex::encode(new.plan.digest),
            contract: "native".to_owned(),
            input: new.input.take(),
            labels: new.labels.clone(),
            timeout_ms: new.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
            trace: take(&mut new.trace),
        };
        let (tx, events) = Transaction::begin(gid.clone(), plan, began, out.now);
        let mut held = Self::new(tx, shard, ticket, new.request_digest, out);
        let begin = Begin {
            shard,
            workflow: new.workflow.take(),
            request_digest: new.request_digest,
            labels: take(&mut new.labels),
            created_at: out.now,
            plan: new.plan.digest,
            store_plan: (!out.knows(&new.plan.digest)).then(|| StoredPlan {
                digest: new.plan.digest,
                format: skald_engine::plan::FORMAT,
                definition: new.plan.definition.clone(),
                plan: new.plan.encoded.clone(),
            }),
        };
        held.carried.push((Work::Begin(new, answer), Verdict::Began));
        held.append = Appending::Begin;
        held.record(events, Some(Box::new(begin)), out);
        held
    }

    /// A loaded one; `works` came while it was loaded.
    pub(super) fn load(loaded: Replayed, ticket: u64, works: Vec<Work>, out: &mut Outlet) -> Self {
        let Replayed { tx, row, next_seq, bytes } = loaded;
        let mut held = Self::new(tx, row.shard, ticket, row.request_digest, out);
        held.next_seq = next_seq;
        held.bytes = bytes;
        held.projected = row.status;
        held.row_sleeps = row.next_wake_at.is_none_or(|at| at > out.now.plus(out.lookahead));
        held.queue = works;
        let continuity = if row.parked_by.is_some() && row.parked_by == out.parked_by(row.shard) {
            Continuity::Unbroken
        } else {
            Continuity::Broken
        };
        let mut events = recorded(held.tx.load(continuity, out.now));
        // What became due while nobody held it (a deadline) is decided before anything is called.
        if let Ok(decided) = held.tx.decide(Input::Tick, out.now) {
            events.extend(recorded(decided));
        }
        if row.settled_at.is_some() {
            held.retire(out);
        }
        if events.is_empty() {
            held.moved(out);
        } else {
            held.append = Appending::Adoption;
            held.record(events, None, out);
        }
        if !held.queue.is_empty() {
            out.ready(&mut held);
        }
        held
    }

    /// Takes what another node made of it, keeping what only this one knows, and does its works again.
    pub(super) fn reload(&mut self, loaded: Replayed, out: &mut Outlet) {
        let works: Vec<_> = take(&mut self.carried).into_iter().map(|(work, _)| work).collect();
        // Their answers are decided again: until then they count as in flight.
        for call in works.iter().filter_map(call_of) {
            self.tx.sent(call, out.now);
        }
        let Replayed { mut tx, row, next_seq, bytes } = loaded;
        let decided = tx.inherit(&self.tx, out.now);
        self.tx = tx;
        self.busy = Busy::No;
        self.next_seq = next_seq;
        self.bytes = bytes;
        self.projected = row.status;
        self.marked = true;
        self.withheld = 0;
        self.tell_watchers();
        self.queue.splice(0..0, works);
        if decided.record {
            self.append = Appending::Decision;
            self.record(decided.events, None, out);
        } else {
            self.moved(out);
        }
        if !self.queue.is_empty() {
            out.ready(self);
        }
    }

    pub(super) fn push(&mut self, work: Work, out: &mut Outlet) {
        if self.queue.len() >= QUEUE && !matches!(work, Work::Input(_)) {
            return work.fail(out.overloaded());
        }
        self.queue.push(work);
        out.ready(self);
    }

    /// Decides all that waits, in one append if anything of it is to be recorded.
    pub(super) fn turn(&mut self, out: &mut Outlet) {
        if self.busy != Busy::No || self.queue.is_empty() {
            return;
        }
        self.touched = out.now;
        let mut events = Vec::new();
        for work in take(&mut self.queue) {
            let input = match &work {
                Work::Input(input) => Some(input.clone()),
                Work::Word(word, _) => Some(Input::Word(word.clone())),
                Work::Begin(..) | Work::DryRun(..) | Work::View(..) => None,
                Work::Compare(..) | Work::Wait(..) | Work::Change(_) => None,
            };
            let verdict = match input.map(|input| self.tx.decide(input, out.now)) {
                None => Verdict::Taken,
                Some(Ok(decided)) => {
                    events.extend(recorded(decided));
                    Verdict::Taken
                }
                Some(Err(rejection)) => Verdict::Rejected(rejection),
            };
            self.carried.push((work, verdict));
        }
        if events.is_empty() {
            self.answer(out);
            self.moved(out);
        } else {
            self.append = Appending::Decision;
            self.record(events, None, out);
        }
    }

    fn record(&mut self, mut events: Vec<Event>, begin: Option<Box<Begin>>, out: &mut Outlet) {
        if self.tx.snapshot_due() {
            events.push(self.tx.snapshot());
        }
        let record = Record::new(out.now, events).encode();
        self.bytes += record.len();
        self.busy = Busy::Appending;
        let foreign = take(&mut self.row_sleeps);
        self.marked |= foreign;
        self.parking = None;
        let append = Append { gid: self.tx.gid().clone(), seq: self.next_seq, record, begin, foreign };
        self.next_seq += 1;
        out.entries.push(Entry { append, ticket: self.ticket });
    }

    /// The append is durable.
    pub(super) fn durable(&mut self, out: &mut Outlet) {
        self.busy = Busy::No;
        self.answer(out);
        self.tell_watchers();
        self.moved(out);
        if !self.queue.is_empty() {
            out.ready(self);
        }
    }

    fn tell_watchers(&mut self) {
        for watcher in self.watchers.drain(..) {
            let _ = watcher.send(());
        }
    }

    fn whole(&self) -> TransactionView {
        self.tx.view(0..self.tx.branch_count())
    }

    fn answer(&mut self, out: &mut Outlet) {
        for (work, verdict) in take(&mut self.carried) {
            match work {
                Work::Input(_) => {}
                Work::Begin(new, answer) => {
                    let begun = if matches!(verdict, Verdict::Began) {
                        out.begun(&new.plan, &self.tx);
                        Ok(Begun::New(Box::new(self.whole())))
                    } else if new.request_digest == self.request_digest {
                        Ok(Begun::Existing(Box::new(self.whole())))
                    } else {
                        Err(self.conflict())
                    };
                    drop(answer.send(begun));
                }
                Work::Word(_, answer) => drop(answer.send(match verdict {
                    Verdict::Began | Verdict::Taken => Ok(self.whole()),
                    Verdict::Rejected(rejection) => Err(Refusal::Failed(Error::Rejected(rejection))),
                })),
                Work::DryRun(word, answer) => {
                    drop(answer.send(dry_run(self.tx.clone(), word, out.now).map_err(Refusal::Failed)));
                }
                Work::View(branches, answer) => {
                    let end = branches.end.min(self.tx.branch_count());
                    drop(answer.send(Ok(self.tx.view(branches.start.min(end)..end))));
                }
                Work::Compare(digest, answer) => {
                    let same = digest == self.request_digest;
                    drop(answer.send(if same { Ok(self.whole()) } else { Err(self.conflict()) }));
                }
                Work::Wait(until, answer) => self.waiters.push((until, answer)),
                Work::Change(answer) => self.watchers.push(answer),
            }
        }
    }

    /// What follows from the durable state: its row, its waiters, its calls, its next wake.
    pub(super) fn moved(&mut self, out: &mut Outlet) {
        self.project(out);
        if !self.waiters.is_empty() {
            self.tell_waiters();
        }
        if self.bytes > limit::JOURNAL && !self.full && self.tx.decision().is_none() {
            self.full = true;
            self.push(Work::Input(Input::Word(Word::JournalFull)), out);
        }
        self.drive(out);
        self.rest(out);
    }

    fn tell_waiters(&mut self) {
        for (until, answer) in take(&mut self.waiters) {
            if met(&self.tx, &until) {
                drop(answer.send(Ok(self.whole())));
            } else if !answer.is_closed() {
                self.waiters.push((until, answer));
            }
        }
    }

    /// The row still carries a mark that this value has seen.
    pub(super) fn unmark(&mut self, out: &mut Outlet) {
        self.marked = true;
        self.project(out);
    }

    fn project(&mut self, out: &mut Outlet) {
        let status = self.tx.status();
        if let Some(settled_at) = self.tx.settled_at() {
            if !self.retired {
                self.projected = status;
                self.submit(None, None, Some(settled_at), out);
                out.settled(&self.tx, settled_at);
                self.retire(out);
            }
        } else if self.projected != status || self.marked {
            self.projected = status;
            // Too early is safe: it is held, and who takes it over looks at once.
            self.submit(Some(out.now), None, None, out);
        }
    }

    fn submit(
        &mut self,
        next_wake_at: Option<Timestamp>,
        parked_by: Option<(crate::store::NodeId, i64)>,
        settled_at: Option<Timestamp>,
        out: &mut Outlet,
    ) {
        self.marked = false;
        out.projections.push(Projection {
            gid: self.tx.gid().clone(),
            seq: self.next_seq,
            status: self.tx.status(),
            next_wake_at,
            parked_by,
            settled_at,
        });
    }

    fn retire(&mut self, out: &mut Outlet) {
        self.retired = true;
        out.retire(self.tx.gid(), self.ticket);
    }

    /// Sends what is owed and due, as far as this node may and there are places for the answers.
    pub(super) fn drive(&mut self, out: &mut Outlet) {
        if self.busy != Busy::No || self.retired || !out.drives(self.shard) {
            return;
        }
        for call in self.tx.owed(out.now) {
            let Some(permit) = out.place() else {
                if !std::mem::replace(&mut self.starved, true) {
                    out.starved.push_back((self.tx.gid().clone(), self.ticket));
                }
                return;
            };
            self.tx.sent(call, out.now);
            match self.tx.render(call) {
                Ok(request) => {
                    let began = self.tx.began();
                    let service = request.service.as_ref();
                    let outgoing = Outgoing {
                        gid: self.tx.gid().clone(),
                        call,
                        service: service.and_then(|service| self.tx.plan().services.get(service)).cloned(),
                        request,
                        trace: began.trace.clone(),
                        began_at: self.tx.began_at(),
                        contract: began.contract.clone(),
                    };
                    let slot = Slot::new(permit, self.ticket, self.tx.gid().clone());
                    out.dispatcher.send(outgoing, slot);
                }
                Err(error) => self.push(Work::Input(Input::Unrenderable { call, error }), out),
            }
        }
    }

    /// A place may be free for one that starved.
    pub(super) fn fed(&mut self, out: &mut Outlet) {
        self.starved = false;
        self.drive(out);
        if !self.queue.is_empty() {
            out.ready(self);
        }
    }

    /// Arms the next wake, or leaves memory if it is far.
    pub(super) fn rest(&mut self, out: &mut Outlet) {
        if self.retired || self.busy != Busy::No {
            return;
        }
        let wake = self.tx.next_wake();
        let far = wake.is_none_or(|wake| wake > out.now.plus(out.park_beyond));
        self.watchers.retain(|watcher| !watcher.is_closed());
        self.waiters.retain(|(_, answer)| !answer.is_closed());
        if far && self.tx.in_flight() == 0 && self.queue.is_empty() && self.parking.is_none() {
            let leave_at = self.touched.plus(out.linger);
            if out.now >= leave_at && self.waiters.is_empty() && self.watchers.is_empty() {
                self.parking = Some(self.next_seq);
                self.row_sleeps = true;
                return self.submit(wake, out.parked_by(self.shard), None, out);
            }
            return self.arm(leave_at.max(out.now.plus(out.linger / 2)), out);
        }
        if let Some(wake) = wake {
            self.arm(wake, out);
        }
    }

    fn arm(&mut self, at: Timestamp, out: &mut Outlet) {
        // What is due already and was not done now (no place, no lease) is not asked for in a circle.
        let blocked = self.starved || !out.drives(self.shard);
        let at = at.max(out.now.plus(if blocked { BLOCKED_PAUSE } else { LEAST_PAUSE }));
        if at < self.armed {
            self.armed = at;
            out.timers.push(at, self.tx.gid().clone(), self.ticket);
        }
    }

    /// Its timer fired.
    pub(super) fn wake(&mut self, out: &mut Outlet) {
        self.armed = Timestamp::NEVER;
        if self.busy != Busy::No || self.retired {
            return;
        }
        if self.tx.next_wake().is_some_and(|wake| wake <= out.now) {
            self.push(Work::Input(Input::Tick), out);
        } else {
            self.rest(out);
        }
    }

    /// Its parking projection is written (or void): whether it may leave memory now.
    pub(super) fn parked(&mut self, seq: u64) -> bool {
        let parked = self.parking == Some(seq)
            && self.next_seq == seq
            && self.busy == Busy::No
            && self.queue.is_empty()
            && self.waiters.is_empty()
            && self.tx.in_flight() == 0;
        self.parking = None;
        parked
    }

    /// Nothing of it is under way here.
    pub(super) fn at_rest(&self) -> bool {
        self.busy == Busy::No && self.queue.is_empty() && self.tx.in_flight() <= self.withheld
    }

    /// What it was asked and did not do.
    pub(super) fn into_works(self) -> Vec<Work> {
        self.carried.into_iter().map(|(work, _)| work).chain(self.queue).collect()
    }

    /// Whoever waits here has to ask elsewhere.
    pub(super) fn dismiss(mut self) {
        for (_, answer) in self.waiters.drain(..) {
            drop(answer.send(Err(Refusal::NotHeld)));
        }
        self.into_works().into_iter().for_each(Work::refuse);
    }

    /// The database does not take its begin.
    pub(super) fn fail(self, error: impl Fn() -> Error) {
        self.into_works().into_iter().for_each(|work| work.fail(error()));
    }

    fn conflict(&self) -> Refusal {
        Refusal::Failed(Error::GidConflict(self.tx.gid().clone()))
    }
}

fn recorded(decided: Decided) -> Vec<Event> {
    if decided.record { decided.events } else { Vec::new() }
}

/// What the word would call; nothing of it is kept.
pub(super) fn dry_run(mut tx: Transaction, word: Word, now: Timestamp) -> Result<Vec<Request>, Error> {
    let _ = tx.decide(Input::Word(word), now)?;
    Ok(tx.owed(now).into_iter().filter_map(|call| tx.render(call).ok()).collect())
}

/// Settlement and suspension end every wait.
pub(super) fn met(tx: &Transaction, until: &Until) -> bool {
    if tx.status().is_final() || tx.status() == Status::Suspended {
        return true;
    }
    match until {
        Until::Settled => false,
        Until::Branch(branch) => tx
            .find(branch)
            .is_none_or(|branch| !matches!(tx.branch_status(branch), BranchStatus::Waiting | BranchStatus::Running)),
    }
}
