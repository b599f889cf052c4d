//! Group commit: many transactions' events, one database commit.
//!
//! An append resolves only when its row is durable. Appends to one `Gid` resolve in the order they were made; across gids
//! no order is promised. A batch closes when the previous commit returns, so batches grow exactly as fast as the database
//! is slow and an idle coordinator adds no delay.
//!
//! A journal lives as long as its node's tenure: once the node is deposed nothing is answered any more, and whoever
//! waits learns that the journal is closed.

mod claim;
mod health;
mod recent;
mod writer;

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use skald_protocol::Gid;
use tokio::sync::{mpsc, oneshot};

use crate::{
    store::{Append, NodeId, Projection, Store},
    telemetry::Metrics,
};

pub use claim::Claim;
pub use health::{Health, Stalled};
use recent::Recent;
pub use recent::{Acknowledged, Since};
pub use writer::{Ended, Writer};

/// What became of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendOutcome {
    Durable,
    /// Another node moved first, or the gid of a begin is taken.
    Conflict,
    /// The database takes everything but this one, or nothing at all (full, read-only). Nothing was written.
    Refused,
    /// Nobody waited for it any more. Nothing was written.
    Withdrawn,
}

/// The node was deposed or has left: whether the append landed is not known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the journal is closed")]
pub struct Closed;

/// An append with the mark by which whoever made it knows it again.
#[derive(Debug)]
pub struct PendingAppend {
    pub append: Append,
    pub ticket: u64,
    /// Of those who wait for it: if one is withdrawn, it is not written.
    pub claims: Vec<Claim>,
}

/// What one commit brought to one of the journal's clients.
#[derive(Debug, Default)]
pub struct Done {
    pub appends: Vec<Landed>,
    /// Projections that are written (or void), with the `seq` they were made at.
    pub projected: Vec<(Gid, u64)>,
}

#[derive(Debug)]
pub struct Landed {
    pub gid: Gid,
    pub ticket: u64,
    pub outcome: AppendOutcome,
}

/// What a client makes in one turn.
#[derive(Debug)]
struct Submission {
    client: usize,
    appends: Vec<PendingAppend>,
    projections: Vec<Projection>,
}

#[derive(Debug)]
enum Outside {
    Append(Box<Append>, Claim, oneshot::Sender<AppendOutcome>),
    Flush(oneshot::Sender<()>),
    Project(oneshot::Sender<()>),
}

/// The way in; cheap to clone.
#[derive(Debug, Clone)]
pub struct Journal {
    submissions: mpsc::UnboundedSender<Submission>,
    outside: mpsc::Sender<Outside>,
    depth: Arc<AtomicUsize>,
    health: Arc<Health>,
    recent: Arc<Mutex<Recent>>,
}

/// Appends from outside that may wait before the next one has to.
const OUTSIDE: usize = 1024;

impl Journal {
    /// `clients`: where each client hears of its own appends, by its number.
    #[must_use]
    pub fn open(
        store: Arc<dyn Store>,
        node: NodeId,
        metrics: Arc<Metrics>,
        clients: Vec<mpsc::UnboundedSender<Done>>,
    ) -> (Self, Writer) {
        // Unbounded here, bounded by those who submit: each has at most one append in flight per transaction it holds.
        let (submissions, submitted) = mpsc::unbounded_channel();
        let (outside, asked) = mpsc::channel(OUTSIDE);
        let depth = Arc::new(AtomicUsize::new(0));
        let writer = Writer::new(store, node, metrics, clients, submitted, asked, Arc::clone(&depth));
        let (health, recent) = (writer.health(), writer.recent());
        (Self { submissions, outside, depth, health, recent }, writer)
    }

    /// Hands over what one turn made; the answers come as `Done`. A closed journal drops it: its client ends with it.
    pub fn submit(&self, client: usize, appends: Vec<PendingAppend>, projections: Vec<Projection>) {
        self.depth.fetch_add(appends.len(), Ordering::Relaxed);
        let _ = self.submissions.send(Submission { client, appends, projections });
    }

    /// An append by one who does not hold the transaction.
    pub async fn append(&self, append: Append, claim: Claim) -> Result<AppendOutcome, Closed> {
        let (answer, answered) = oneshot::channel();
        self.depth.fetch_add(1, Ordering::Relaxed);
        self.outside.send(Outside::Append(Box::new(append), claim, answer)).await.map_err(|_| Closed)?;
        answered.await.map_err(|_| Closed)
    }

    /// Returns when every append and projection submitted before is written.
    pub async fn flush(&self) -> Result<(), Closed> {
        let (answer, answered) = oneshot::channel();
        self.outside.send(Outside::Flush(answer)).await.map_err(|_| Closed)?;
        answered.await.map_err(|_| Closed)
    }

    /// Returns when every projection submitted before is written, whatever comes meanwhile.
    pub async fn project(&self) -> Result<(), Closed> {
        let (answer, answered) = oneshot::channel();
        self.outside.send(Outside::Project(answer)).await.map_err(|_| Closed)?;
        answered.await.map_err(|_| Closed)
    }

    /// Whether a write sent now would be taken.
    pub fn check(&self) -> Result<(), Stalled> {
        self.health.check()
    }

    /// The number of the last commit that was acknowledged; none that the database tells later may be lower.
    #[must_use]
    pub fn batch(&self) -> i64 {
        locked(&self.recent).batch()
    }

    /// What was acknowledged with later commits than this one.
    #[must_use]
    pub fn since(&self, batch: i64) -> Since {
        locked(&self.recent).since(batch)
    }

    /// Appends that wait for their commit.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.depth.load(Ordering::Relaxed)
    }
}

fn locked(recent: &Mutex<Recent>) -> MutexGuard<'_, Recent> {
    recent.lock().unwrap_or_else(PoisonError::into_inner)
}
