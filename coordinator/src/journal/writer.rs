//! The one task that writes.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use skald_protocol::Gid;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, sleep_until},
};

use super::{AppendOutcome, Claim, Done, Health, Landed, Outside, PendingAppend, Recent, Submission, locked};
use crate::{
    store::{Append, Appended, Batch, Error, NodeId, Projection, Store},
    telemetry::Metrics,
};

/// Beyond these a batch gains nothing and only delays those who wait for it.
const BATCH_APPENDS: usize = 1000;
const BATCH_BYTES: usize = 4 << 20;
/// Lists lag by at most a second; within half of it most transactions change more than once and cost one update.
const PROJECTION_AGE: Duration = Duration::from_millis(500);
/// An update costs three appends, so a batch takes only so many.
const PROJECTIONS: usize = 256;
const BACKOFF: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Why a writer came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Nobody can submit any more, and all that was submitted is written.
    Closed,
    Deposed,
    /// The database's file is damaged: whether what waits was written is not known.
    Damaged,
}

#[derive(Debug)]
enum Origin {
    Client { client: usize, ticket: u64 },
    Outside(oneshot::Sender<AppendOutcome>),
}

#[derive(Debug)]
struct Queued {
    append: Append,
    origin: Origin,
    claims: Vec<Claim>,
}

/// One commit to be: a batch, who waits for each append, and whose the projections are.
#[derive(Debug, Default)]
struct PendingCommit {
    batch: Batch,
    origins: Vec<Origin>,
    owners: Vec<usize>,
}

#[derive(Debug, Default)]
struct Counts {
    taken: u64,
    done: u64,
}

/// A projection that waits; a later one of the same transaction takes its place in the queue.
#[derive(Debug)]
struct Waiting {
    client: usize,
    projection: Projection,
}

pub struct Writer {
    store: Arc<dyn Store>,
    node: NodeId,
    metrics: Arc<Metrics>,
    clients: Vec<mpsc::UnboundedSender<Done>>,
    submitted: mpsc::UnboundedReceiver<Submission>,
    asked: mpsc::Receiver<Outside>,
    depth: Arc<AtomicUsize>,
    health: Arc<Health>,
    recent: Arc<Mutex<Recent>>,
    /// The node's `batch`, as the database has it.
    batch: i64,
    appends: VecDeque<Queued>,
    projections: HashMap<Gid, Waiting>,
    /// Projections in the order of their first submission, and when that was.
    order: VecDeque<(Instant, Gid)>,
    flushes: Vec<oneshot::Sender<()>>,
    /// Projections that ever waited, and that no longer do.
    projected: Counts,
    /// Who waits until so many no longer do.
    readers: VecDeque<(u64, oneshot::Sender<()>)>,
    /// Nobody submits any more: what is left goes out whatever its age.
    closing: bool,
    /// After a refusal: not everything at once again.
    pause: Duration,
}

impl Writer {
    pub(super) fn new(
        store: Arc<dyn Store>,
        node: NodeId,
        metrics: Arc<Metrics>,
        clients: Vec<mpsc::UnboundedSender<Done>>,
        submitted: mpsc::UnboundedReceiver<Submission>,
        asked: mpsc::Receiver<Outside>,
        depth: Arc<AtomicUsize>,
    ) -> Self {
        Self {
            store,
            node,
            metrics,
            clients,
            submitted,
            asked,
            depth,
            health: Arc::default(),
            recent: Arc::default(),
            batch: 0,
            appends: VecDeque::new(),
            projections: HashMap::new(),
            order: VecDeque::new(),
            flushes: Vec::new(),
            projected: Counts::default(),
            readers: VecDeque::new(),
            closing: false,
            pause: Duration::ZERO,
        }
    }

    pub(super) fn health(&self) -> Arc<Health> {
        Arc::clone(&self.health)
    }

    pub(super) fn recent(&self) -> Arc<Mutex<Recent>> {
        Arc::clone(&self.recent)
    }

    pub async fn run(mut self) -> Ended {
        loop {
            if self.appends.is_empty() && !self.projections_due() && !self.wait().await {
                if self.order.is_empty() {
                    return Ended::Closed;
                }
                self.closing = true;
            }
            self.gather();
            let part = self.close();
            if !part.batch.appends.is_empty() || !part.batch.projections.is_empty() {
                if let Err(ended) = self.commit(part).await {
                    return ended;
                }
                if !self.pause.is_zero() {
                    sleep(std::mem::take(&mut self.pause)).await;
                }
            }
            while let Some((_, reader)) = self.readers.pop_front_if(|(count, _)| *count <= self.projected.done) {
                let _ = reader.send(());
            }
            if self.appends.is_empty() && self.order.is_empty() {
                for flush in self.flushes.drain(..) {
                    let _ = flush.send(());
                }
            }
        }
    }

    fn projections_due(&self) -> bool {
        match self.order.front() {
            None => false,
            Some((since, _)) => {
                self.closing
                    || !self.flushes.is_empty()
                    || !self.readers.is_empty()
                    || self.order.len() >= PROJECTIONS
                    || since.elapsed() >= PROJECTION_AGE
            }
        }
    }

    /// Until there is something to write; false when nobody is left who could submit.
    async fn wait(&mut self) -> bool {
        loop {
            let due = self.order.front().map(|(since, _)| *since + PROJECTION_AGE);
            tokio::select! {
                submission = self.submitted.recv() => match submission {
                    Some(submission) => self.take(submission),
                    None => return false,
                },
                Some(outside) = self.asked.recv() => self.take_outside(outside),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => return true,
            }
            let asked = !self.flushes.is_empty() || !self.readers.is_empty();
            if !self.appends.is_empty() || self.projections_due() || asked {
                return true;
            }
        }
    }

    /// What came during the last commit.
    fn gather(&mut self) {
        self.gather_submissions();
        while let Ok(outside) = self.asked.try_recv() {
            self.take_outside(outside);
        }
    }

    fn gather_submissions(&mut self) {
        while let Ok(submission) = self.submitted.try_recv() {
            self.take(submission);
        }
    }

    fn take(&mut self, submission: Submission) {
        let Submission { client, appends, projections } = submission;
        self.appends.extend(appends.into_iter().map(|PendingAppend { append, ticket, claims }| {
            let origin = Origin::Client { client, ticket };
            Queued { append, origin, claims }
        }));
        for projection in projections {
            self.project(client, projection);
        }
    }

    fn take_outside(&mut self, outside: Outside) {
        match outside {
            Outside::Append(append, claim, answer) => {
                let (append, origin, claims) = (*append, Origin::Outside(answer), vec![claim]);
                self.appends.push_back(Queued { append, origin, claims });
            }
            Outside::Flush(answer) => self.flushes.push(answer),
            Outside::Project(answer) => {
                // What was submitted before may stand in the other channel.
                self.gather_submissions();
                self.readers.push_back((self.projected.taken, answer));
            }
        }
    }

    fn project(&mut self, client: usize, projection: Projection) {
        let gid = projection.gid.clone();
        if self.projections.insert(gid.clone(), Waiting { client, projection }).is_none() {
            self.order.push_back((Instant::now(), gid));
            self.projected.taken += 1;
        }
    }

    /// Takes the next batch from the queues. A gid stands in it once: two rows with one key could not be told apart in the
    /// database's answer, and a projection must not overtake an append of its own transaction.
    fn close(&mut self) -> PendingCommit {
        let mut bytes = 0;
        let mut taken = Vec::with_capacity(self.appends.len().min(BATCH_APPENDS));
        while taken.len() < BATCH_APPENDS && bytes < BATCH_BYTES {
            let Some(queued) = self.appends.pop_front() else { break };
            bytes += queued.append.record.len();
            taken.push(queued);
        }
        taken.sort_by(|a, b| a.append.gid.cmp(&b.append.gid));
        let mut part = PendingCommit::default();
        part.batch.appends.reserve(taken.len());
        part.origins.reserve(taken.len());
        let (mut again, mut withdrawn) = (Vec::new(), Vec::new());
        for queued in taken {
            if part.batch.appends.last().is_some_and(|last| last.gid == queued.append.gid) {
                again.push(queued);
            } else if queued.hand_over() {
                part.batch.appends.push(queued.append);
                part.origins.push(queued.origin);
            } else {
                withdrawn.push(queued);
            }
        }
        if !withdrawn.is_empty() {
            self.withdraw(withdrawn);
        }
        for twin in again.into_iter().rev() {
            self.appends.push_front(twin);
        }
        if self.projections_due() {
            for _ in 0..PROJECTIONS {
                let Some((_, gid)) = self.order.pop_front() else { break };
                if let Some(Waiting { client, projection }) = self.projections.remove(&gid) {
                    part.batch.projections.push(projection);
                    part.owners.push(client);
                }
            }
        }
        part
    }

    fn withdraw(&self, withdrawn: Vec<Queued>) {
        let mut done: Vec<Done> = self.clients.iter().map(|_| Done::default()).collect();
        self.depth.fetch_sub(withdrawn.len(), Ordering::Relaxed);
        for Queued { append, origin, .. } in withdrawn {
            origin.report(append.gid, AppendOutcome::Withdrawn, &mut done);
        }
        self.send(done);
    }

    /// Writes a part; one that the database refuses is halved until the culprits are found.
    async fn commit(&mut self, part: PendingCommit) -> Result<(), Ended> {
        let mut parts = vec![part];
        while let Some(part) = parts.pop() {
            self.health.commit_started();
            let written = self.write(&part.batch).await;
            self.health.commit_ended();
            match written? {
                Some(answers) => self.answer(part, answers),
                None => {
                    self.pause = BACKOFF_MAX / 4;
                    match part.split() {
                        Ok(halves) => parts.extend(halves),
                        Err(single) => self.refuse(single),
                    }
                }
            }
        }
        Ok(())
    }

    /// `None`: refused, and nothing of it is written.
    async fn write(&mut self, batch: &Batch) -> Result<Option<Vec<Appended>>, Ended> {
        let mut pause = BACKOFF;
        loop {
            let started = Instant::now();
            let written = match self.store.append(self.node, self.batch, batch).await {
                Err(Error::Unavailable(error)) => {
                    self.metrics.journal_commit_failed();
                    tracing::warn!(%error, appends = batch.appends.len(), "a commit's answer is lost");
                    self.health.commit_failed(error.to_string());
                    self.resolve(batch).await?
                }
                Ok(answers) => Some(answers),
                Err(Error::Deposed) => return Err(Ended::Deposed),
                Err(Error::Damaged(_)) => return Err(Ended::Damaged),
                Err(error @ (Error::Refused(_) | Error::Misconfigured(_))) => {
                    self.metrics.journal_commit_failed();
                    tracing::error!(%error, appends = batch.appends.len(), "the database refused a commit");
                    return Ok(None);
                }
            };
            if let Some(answers) = written {
                self.batch += 1;
                self.metrics.journal_commit(batch.appends.len(), started.elapsed());
                return Ok(Some(answers));
            }
            sleep(pause).await;
            pause = (pause * 2).min(BACKOFF_MAX);
        }
    }

    /// Asks until it is known whether the batch landed.
    async fn resolve(&self, batch: &Batch) -> Result<Option<Vec<Appended>>, Ended> {
        let mut pause = BACKOFF;
        loop {
            match self.store.resolve(self.node, self.batch, batch).await {
                Ok(known) => return Ok(known),
                Err(Error::Deposed) => return Err(Ended::Deposed),
                Err(Error::Damaged(_)) => return Err(Ended::Damaged),
                Err(error @ (Error::Unavailable(_) | Error::Refused(_) | Error::Misconfigured(_))) => {
                    tracing::debug!(%error, "a lost commit cannot be resolved yet");
                    sleep(pause).await;
                    pause = (pause * 2).min(BACKOFF_MAX);
                }
            }
        }
    }

    fn answer(&mut self, part: PendingCommit, answers: Vec<Appended>) {
        debug_assert_eq!(part.batch.appends.len(), answers.len());
        let mut done: Vec<Done> = self.clients.iter().map(|_| Done::default()).collect();
        self.depth.fetch_sub(part.origins.len(), Ordering::Relaxed);
        self.projected.done += part.owners.len() as u64;
        // First: whoever hears of it may lose it at once.
        let landed = part.batch.appends.iter().zip(&answers).filter(|(_, answer)| **answer == Appended::Durable);
        locked(&self.recent).add(self.batch, landed.map(|(append, _)| (append.gid.clone(), append.seq)));
        let rows = part.batch.appends.into_iter().zip(part.origins).zip(answers);
        for ((append, origin), answer) in rows {
            let outcome = match answer {
                Appended::Durable => AppendOutcome::Durable,
                Appended::Conflict => {
                    self.metrics.append_conflict();
                    AppendOutcome::Conflict
                }
            };
            origin.report(append.gid, outcome, &mut done);
        }
        for (projection, client) in part.batch.projections.into_iter().zip(part.owners) {
            done[client].projected.push((projection.gid, projection.seq));
        }
        self.send(done);
    }

    /// A single append that the database does not take; projections are tried again later.
    fn refuse(&mut self, part: PendingCommit) {
        let mut done: Vec<Done> = self.clients.iter().map(|_| Done::default()).collect();
        self.depth.fetch_sub(part.origins.len(), Ordering::Relaxed);
        self.projected.done += part.owners.len() as u64;
        for (append, origin) in part.batch.appends.into_iter().zip(part.origins) {
            origin.report(append.gid, AppendOutcome::Refused, &mut done);
        }
        for (projection, client) in part.batch.projections.into_iter().zip(part.owners) {
            if !self.projections.contains_key(&projection.gid) {
                self.project(client, projection);
            }
        }
        self.send(done);
    }

    fn send(&self, done: Vec<Done>) {
        for (client, done) in self.clients.iter().zip(done) {
            if !done.appends.is_empty() || !done.projected.is_empty() {
                let _ = client.send(done);
            }
        }
    }
}

impl Queued {
    /// `false`: somebody gave up who waited for it.
    fn hand_over(&self) -> bool {
        !self.claims.iter().any(Claim::is_withdrawn) && self.claims.iter().all(Claim::hand_over)
    }
}

impl Origin {
    fn report(self, gid: Gid, outcome: AppendOutcome, done: &mut [Done]) {
        match self {
            Self::Client { client, ticket } => done[client].appends.push(Landed { gid, ticket, outcome }),
            Self::Outside(answer) => {
                let _ = answer.send(outcome);
            }
        }
    }
}

impl PendingCommit {
    /// Halves to be written first half first (the vector is a stack); `Err`: there is nothing to halve.
    fn split(mut self) -> Result<[Self; 2], Self> {
        let appends = self.batch.appends.len();
        if appends > 0 && !self.batch.projections.is_empty() {
            let projections = Self {
                batch: Batch { appends: Vec::new(), projections: std::mem::take(&mut self.batch.projections) },
                origins: Vec::new(),
                owners: std::mem::take(&mut self.owners),
            };
            return Ok([projections, self]);
        }
        if appends < 2 {
            return Err(self);
        }
        let second = Self {
            batch: Batch { appends: self.batch.appends.split_off(appends / 2), projections: Vec::new() },
            origins: self.origins.split_off(appends / 2),
            owners: Vec::new(),
        };
        Ok([second, self])
    }
}
