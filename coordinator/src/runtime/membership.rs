//! A node's life: join, heartbeat, claim, hand over, until it leaves or is deposed.
//!
//! Everything of a session ends with it: its tasks, its journal, all that is in memory. A deposed node joins again under a
//! new id and finds its way back by the same sweep that a start makes.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{JoinHandle, JoinSet},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Shared,
    clock::{Clock, Moment},
    inbox::{Control, Report},
    session::{NodeSession, TaskHandle},
    shard::{Inbox, ShardTask, TaskParts},
    sweep::Sweeper,
};
use crate::{
    journal::{Ended, Journal},
    store::{Beat, Damage, Error, Joined, Shard},
};

/// How long shards that are handed over wait for their calls in flight.
const HAND_OVER: Duration = Duration::from_secs(3);
/// Of a drain, kept for writing and leaving.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Deposed,
    /// The database's file is damaged: there is nothing to come back to.
    Damaged,
    Left,
}

/// Leave within this time, and say when that is done.
#[derive(Debug)]
pub(super) struct Drain {
    pub(super) within: Duration,
    pub(super) done: oneshot::Sender<()>,
}

struct Deposed;

/// Keeps the node's row and its shards' rows, for one session.
pub(super) struct Membership {
    shared: Arc<Shared>,
    session: Arc<NodeSession>,
    tasks: JoinSet<()>,
    writer: JoinHandle<Ended>,
    reports: mpsc::UnboundedReceiver<Report>,
    gained: mpsc::UnboundedSender<Vec<i32>>,
    owned: BTreeMap<i32, i64>,
    /// Being handed over.
    leaving: BTreeSet<i32>,
    /// Left by every task, not yet given up in the database.
    left: Vec<i32>,
    /// Given up because something in them is newer than this build.
    avoided: BTreeSet<i32>,
    handovers: JoinSet<Vec<i32>>,
    last_beat: Instant,
    claim_from: Instant,
    draining: bool,
}

impl Membership {
    /// Starts all that a session consists of and ends with `cancel`; `asked`: when the join was asked for.
    pub(super) fn open(shared: Arc<Shared>, joined: &Joined, asked: Moment, cancel: CancellationToken) -> Self {
        let clock = Arc::new(Clock::new(asked, joined.now, shared.options.lease));
        if let Some(jump) = clock.starts_behind(joined.behind) {
            shared.clock_jumped(jump);
        }
        let options = &shared.options;
        let (reports, reported) = mpsc::unbounded_channel();
        let mut dones = Vec::new();
        let mut inboxes = Vec::new();
        let mut handles = Vec::new();
        for _ in 0..options.tasks {
            let (requests, requests_in) = mpsc::channel(options.inbox);
            let (places, completions_in) = mpsc::channel((options.max_calls / options.tasks).max(1));
            let (done, done_in) = mpsc::unbounded_channel();
            let (control, control_in) = mpsc::unbounded_channel();
            dones.push(done);
            inboxes.push((
                places,
                Inbox { requests: requests_in, completions: completions_in, done: done_in, control: control_in },
            ));
            handles.push(TaskHandle { requests, control, load: Arc::default() });
        }
        let (journal, writer) =
            Journal::open(Arc::clone(&shared.store), joined.node, Arc::clone(&shared.metrics), dones);
        let mut tasks = JoinSet::new();
        for (number, (places, inbox)) in inboxes.into_iter().enumerate() {
            let task = ShardTask::new(TaskParts {
                number,
                shared: Arc::clone(&shared),
                node: joined.node,
                clock: Arc::clone(&clock),
                journal: journal.clone(),
                control: handles[number].control.clone(),
                places,
                reports: reports.clone(),
                cancel: cancel.clone(),
                load: Arc::clone(&handles[number].load),
            });
            tasks.spawn_on(task.run(inbox), &shared.threads);
        }
        let writer = shared.threads.spawn({
            let cancel = cancel.clone();
            async move { cancel.run_until_cancelled(writer.run()).await.unwrap_or(Ended::Closed) }
        });
        let session = Arc::new(NodeSession {
            node: joined.node,
            clock,
            journal,
            cancel,
            tasks: handles,
            owned: RwLock::default(),
        });
        let (gained, gained_in) = mpsc::unbounded_channel();
        let sweeper = Sweeper { shared: Arc::clone(&shared), session: Arc::clone(&session), gained: gained_in };
        shared.threads.spawn(session.cancel.clone().run_until_cancelled_owned(sweeper.run()));
        let mut membership = Self {
            shared,
            session,
            tasks,
            writer,
            reports: reported,
            gained,
            owned: BTreeMap::new(),
            leaving: BTreeSet::new(),
            left: Vec::new(),
            avoided: BTreeSet::new(),
            handovers: JoinSet::new(),
            last_beat: Instant::now(),
            claim_from: Instant::now(),
            draining: false,
        };
        membership.gain(&joined.shards);
        membership
    }

    pub(super) fn session(&self) -> Arc<NodeSession> {
        Arc::clone(&self.session)
    }

    pub(super) async fn run(mut self, drains: &mut mpsc::Receiver<Drain>) -> End {
        let mut tick = interval(self.shared.options.lease / 4);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut drained: Option<JoinHandle<()>> = None;
        let mut waiting = None;
        let mut damage = self.shared.store.damage();
        let end = loop {
            let kept = tokio::select! {
                biased;
                () = found(&mut damage) => break End::Damaged,
                _ = tick.tick() => self.beat().await,
                ended = &mut self.writer => {
                    tracing::error!(?ended, "the journal ended");
                    Err(Deposed)
                }
                Some(ended) = self.tasks.join_next() => {
                    tracing::error!(?ended, "a shard task ended");
                    Err(Deposed)
                }
                Some(report) = self.reports.recv() => {
                    self.on_report(&report);
                    Ok(())
                }
                Some(shards) = self.handovers.join_next() => {
                    self.left.extend(shards.unwrap_or_default());
                    self.release().await
                }
                Some(Drain { within, done }) = drains.recv(), if drained.is_none() => {
                    self.draining = true;
                    waiting = Some(done);
                    drained = Some(self.drain(within));
                    self.beat().await
                }
                () = finished(&mut drained), if drained.is_some() => break self.leave().await,
            };
            if kept.is_err() {
                break if drained.is_some() { End::Left } else { End::Deposed };
            }
        };
        self.session.cancel.cancel();
        if let Some(done) = waiting {
            let _ = done.send(());
        }
        end
    }

    async fn beat(&mut self) -> Result<(), Deposed> {
        let lease = self.shared.options.lease;
        let (asked, acknowledged) = (Moment::now(), self.session.journal.batch());
        let beat = timeout(lease / 2, self.shared.members().heartbeat(self.session.node, lease, self.draining)).await;
        let beat = match beat {
            Ok(Ok(beat)) => beat,
            Ok(Err(Error::Deposed)) => return Err(Deposed),
            // `run` hears of it.
            Ok(Err(Error::Damaged(_))) => return Ok(()),
            Ok(Err(error @ (Error::Unavailable(_) | Error::Refused(_) | Error::Misconfigured(_)))) => {
                tracing::warn!(%error, "a heartbeat failed");
                return Ok(());
            }
            Err(_) => {
                tracing::warn!("a heartbeat was not answered in time");
                return Ok(());
            }
        };
        if beat.batch < acknowledged {
            return Err(Deposed);
        }
        let withheld = !self.session.clock.may_send();
        if let Some(jump) = self.session.clock.beat(asked, beat.now) {
            self.shared.clock_jumped(jump);
        }
        if self.last_beat.elapsed() > lease / 2 {
            // Others may be no worse off than this node was: they get the time to say so.
            self.claim_from = Instant::now() + lease;
        }
        self.last_beat = Instant::now();
        if withheld {
            for task in 0..self.session.tasks.len() {
                self.session.send_control(task, Control::Drive);
            }
        }
        self.reconcile(&beat).await
    }

    /// What the database says of who holds what, and this node's fair part of it.
    async fn reconcile(&mut self, beat: &Beat) -> Result<(), Deposed> {
        let theirs: BTreeMap<_, _> = beat.shards.iter().map(|shard| (shard.id, shard.epoch)).collect();
        let lost: Vec<_> =
            self.owned.iter().filter(|(id, epoch)| theirs.get(id) != Some(epoch)).map(|(id, _)| *id).collect();
        let lost: Vec<_> = lost.into_iter().filter(|id| !self.leaving.contains(id)).collect();
        if !lost.is_empty() {
            tracing::warn!(?lost, "shards were lost");
            self.hand_over(lost, Duration::ZERO);
        }
        self.release().await?;
        let gained: Vec<_> = beat.shards.iter().filter(|shard| !self.owned.contains_key(&shard.id)).copied().collect();
        if !self.draining {
            self.gain(&gained);
        }
        if self.draining {
            return Ok(());
        }
        let fair = beat.shards_total.div_ceil(beat.nodes.max(1));
        let held = self.owned.len() - self.leaving.len();
        if held > fair {
            let surplus: Vec<_> =
                self.owned.keys().rev().filter(|id| !self.leaving.contains(id)).take(held - fair).copied().collect();
            tracing::info!(shards = surplus.len(), nodes = beat.nodes, "handing shards over");
            self.hand_over(surplus, HAND_OVER);
        } else if held + self.avoided.len() < fair && Instant::now() >= self.claim_from {
            match self.shared.members().claim(self.session.node, fair - held - self.avoided.len()).await {
                Ok(shards) => {
                    if !shards.is_empty() {
                        tracing::info!(shards = shards.len(), "took shards");
                        self.shared.metrics.shards_taken(shards.len());
                    }
                    self.gain(&shards);
                }
                Err(Error::Deposed) => return Err(Deposed),
                Err(Error::Damaged(_)) => {}
                Err(error @ (Error::Unavailable(_) | Error::Refused(_) | Error::Misconfigured(_))) => {
                    tracing::warn!(%error, "shards cannot be claimed");
                }
            }
        }
        Ok(())
    }

    fn gain(&mut self, shards: &[Shard]) {
        if shards.is_empty() {
            return;
        }
        self.owned.extend(shards.iter().map(|shard| (shard.id, shard.epoch)));
        for task in 0..self.session.tasks.len() {
            self.session.send_control(task, Control::Own(shards.to_vec()));
        }
        self.publish();
        let _ = self.gained.send(shards.iter().map(|shard| shard.id).collect());
    }

    fn hand_over(&mut self, shards: Vec<i32>, within: Duration) {
        self.leaving.extend(&shards);
        self.publish();
        let left = request_leave(&self.session, &shards, within);
        let journal = self.session.journal.clone();
        self.handovers.spawn(async move {
            left.await;
            // Rows are this node's to change only until they are given up.
            let _ = timeout(LAST_WORDS, journal.flush()).await;
            shards
        });
    }

    fn publish(&self) {
        let serving: Vec<_> = self.owned.keys().filter(|id| !self.leaving.contains(id)).copied().collect();
        self.shared.metrics.shards_held.set(i64::try_from(serving.len()).unwrap_or(i64::MAX));
        *self.session.owned.write().unwrap_or_else(PoisonError::into_inner) = serving;
    }

    /// Gives up in the database what every task has left; tried again with each beat.
    async fn release(&mut self) -> Result<(), Deposed> {
        if self.left.is_empty() {
            return Ok(());
        }
        match self.shared.members().release(self.session.node, &self.left).await {
            Ok(()) => {
                for shard in self.left.drain(..) {
                    self.owned.remove(&shard);
                    self.leaving.remove(&shard);
                }
                Ok(())
            }
            Err(Error::Deposed) => Err(Deposed),
            Err(Error::Damaged(_)) => Ok(()),
            Err(error @ (Error::Unavailable(_) | Error::Refused(_) | Error::Misconfigured(_))) => {
                tracing::warn!(%error, "shards cannot be released yet");
                Ok(())
            }
        }
    }

    fn on_report(&mut self, report: &Report) {
        let Report::Unreadable { shard } = *report;
        if self.owned.contains_key(&shard) && self.leaving.insert(shard) {
            tracing::warn!(shard, "the shard holds what a newer build wrote: leaving it to others");
            self.avoided.insert(shard);
            self.hand_over(vec![shard], HAND_OVER);
        }
    }

    /// Withholds what is not sent, waits for what is, and writes what is left.
    fn drain(&self, within: Duration) -> JoinHandle<()> {
        let shards: Vec<_> = self.owned.keys().copied().collect();
        let left = request_leave(&self.session, &shards, within);
        let (dispatcher, journal) = (self.shared.dispatcher.clone(), self.session.journal.clone());
        tokio::spawn(async move {
            tokio::join!(dispatcher.drain(within), left);
            let _ = timeout(LAST_WORDS, journal.flush()).await;
        })
    }

    async fn leave(&mut self) -> End {
        match timeout(LAST_WORDS, self.shared.members().leave(self.session.node)).await {
            Ok(Ok(())) => tracing::info!("left"),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the database could not be told that this node leaves: its shards are free once its lease is over")
            }
            Err(_) => tracing::warn!(
                "the database does not answer, so it was not told that this node leaves: its shards are free once its lease is over"
            ),
        }
        End::Left
    }
}

/// Resolves when every task has forgotten the shards.
fn request_leave(session: &NodeSession, shards: &[i32], within: Duration) -> impl Future<Output = ()> + Send + use<> {
    let left: Vec<_> = (0..session.tasks.len())
        .map(|task| {
            let (left, gone) = oneshot::channel();
            session.send_control(task, Control::Leave { shards: shards.to_vec(), within, left });
            gone
        })
        .collect();
    async move {
        for gone in left {
            let _ = gone.await;
        }
    }
}

async fn found(damage: &mut watch::Receiver<Damage>) {
    if damage.wait_for(Option::is_some).await.is_err() {
        pending::<()>().await;
    }
}

async fn finished(drained: &mut Option<JoinHandle<()>>) {
    if let Some(drained) = drained {
        let _ = drained.await;
    }
}
