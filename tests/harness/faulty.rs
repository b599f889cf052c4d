//! The real store behind faults that a test asks for.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use skald::store::{
    Appended, Audit, Batch, Beat, Damage, Error, Filter, Joined, Loaded, NodeId, Publish, Published, Shard, SqlStore,
    Store, StoredPlan, Workflow, WorkflowRow,
};
use skald_protocol::{Gid, Timestamp, TransactionSummary, WorkflowRef};
use tokio::sync::watch;

/// Which way a commit's answer is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// It never reached the database.
    Before,
    /// It was written.
    After,
}

#[derive(Clone)]
pub struct Faulty {
    store: SqlStore,
    commits: Arc<Mutex<VecDeque<Lost>>>,
    refused: Arc<Mutex<BTreeSet<String>>>,
    cut_off: Arc<AtomicBool>,
    stalled: watch::Sender<bool>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn gone() -> Error {
    Error::Unavailable(sqlx::Error::PoolTimedOut)
}

impl Faulty {
    #[must_use]
    pub fn over(store: SqlStore) -> Self {
        Self {
            store,
            commits: Arc::default(),
            refused: Arc::default(),
            cut_off: Arc::default(),
            stalled: watch::Sender::new(false),
        }
    }

    /// The answers of the next commits get lost.
    pub fn lose(&self, commits: impl IntoIterator<Item = Lost>) {
        locked(&self.commits).extend(commits);
    }

    /// Every commit that holds an append of this gid is refused.
    pub fn refuse(&self, gid: &str) {
        locked(&self.refused).insert(gid.to_owned());
    }

    pub fn accept(&self) {
        locked(&self.refused).clear();
    }

    /// Whether the database can be reached at all.
    pub fn cut_off(&self, cut_off: bool) {
        self.cut_off.store(cut_off, Ordering::SeqCst);
    }

    /// Whether commits wait.
    pub fn stall(&self, stalled: bool) {
        self.stalled.send_replace(stalled);
    }

    fn reach(&self) -> Result<(), Error> {
        if self.cut_off.load(Ordering::SeqCst) { Err(gone()) } else { Ok(()) }
    }
}

#[async_trait]
impl Store for Faulty {
    async fn join(&self, address: &str, lease: Duration) -> Result<Joined, Error> {
        self.reach()?;
        self.store.join(address, lease).await
    }

    async fn heartbeat(&self, node: NodeId, lease: Duration, draining: bool) -> Result<Beat, Error> {
        self.reach()?;
        self.store.heartbeat(node, lease, draining).await
    }

    async fn claim(&self, node: NodeId, want: usize) -> Result<Vec<Shard>, Error> {
        self.reach()?;
        self.store.claim(node, want).await
    }

    async fn release(&self, node: NodeId, shards: &[i32]) -> Result<(), Error> {
        self.reach()?;
        self.store.release(node, shards).await
    }

    async fn leave(&self, node: NodeId) -> Result<(), Error> {
        self.reach()?;
        self.store.leave(node).await
    }

    async fn append(&self, node: NodeId, expected: i64, batch: &Batch) -> Result<Vec<Appended>, Error> {
        self.reach()?;
        drop(self.stalled.subscribe().wait_for(|stalled| !stalled).await);
        if batch.appends.iter().any(|append| locked(&self.refused).contains(append.gid.as_str())) {
            return Err(Error::Refused("told to refuse it".to_owned()));
        }
        let fault = locked(&self.commits).pop_front();
        match fault {
            None => self.store.append(node, expected, batch).await,
            Some(Lost::Before) => Err(gone()),
            Some(Lost::After) => {
                self.store.append(node, expected, batch).await?;
                Err(gone())
            }
        }
    }

    async fn resolve(&self, node: NodeId, expected: i64, batch: &Batch) -> Result<Option<Vec<Appended>>, Error> {
        self.reach()?;
        self.store.resolve(node, expected, batch).await
    }

    async fn batch(&self, node: NodeId) -> Result<Option<i64>, Error> {
        self.reach()?;
        self.store.batch(node).await
    }

    async fn timeline(&self) -> Option<u32> {
        self.store.timeline().await
    }

    async fn due(
        &self,
        shards: &[i32],
        now: Timestamp,
        after: Option<(Timestamp, Gid)>,
        limit: usize,
    ) -> Result<Vec<(Timestamp, Gid)>, Error> {
        self.reach()?;
        self.store.due(shards, now, after, limit).await
    }

    async fn foreign(&self, shards: &[i32], limit: usize) -> Result<Vec<(Gid, u64)>, Error> {
        self.reach()?;
        self.store.foreign(shards, limit).await
    }

    async fn load(&self, gids: &[Gid]) -> Result<Vec<Loaded>, Error> {
        self.reach()?;
        self.store.load(gids).await
    }

    async fn plan(&self, digest: &[u8; 32]) -> Result<Option<StoredPlan>, Error> {
        self.reach()?;
        self.store.plan(digest).await
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<TransactionSummary>, Error> {
        self.reach()?;
        self.store.list(filter).await
    }

    async fn publish(&self, new: &Publish) -> Result<Published, Error> {
        self.reach()?;
        self.store.publish(new).await
    }

    async fn workflow(&self, wanted: &WorkflowRef) -> Result<Option<Workflow>, Error> {
        self.reach()?;
        self.store.workflow(wanted).await
    }

    async fn latest(&self, name: &str) -> Result<Option<String>, Error> {
        self.reach()?;
        self.store.latest(name).await
    }

    async fn workflows(&self, after: &str, limit: usize) -> Result<Vec<WorkflowRow>, Error> {
        self.reach()?;
        self.store.workflows(after, limit).await
    }

    async fn versions(&self, name: &str, after: Option<&str>, limit: usize) -> Result<Vec<WorkflowRow>, Error> {
        self.reach()?;
        self.store.versions(name, after, limit).await
    }

    async fn quarantine(&self, gid: &Gid, reason: &str) -> Result<(), Error> {
        self.reach()?;
        self.store.quarantine(gid, reason).await
    }

    async fn fail_quarantined(&self, gid: &Gid, at: Timestamp) -> Result<bool, Error> {
        self.reach()?;
        self.store.fail_quarantined(gid, at).await
    }

    async fn audit(&self, entry: &Audit) -> Result<(), Error> {
        self.reach()?;
        self.store.audit(entry).await
    }

    async fn setting(&self, name: &str, value: &[u8]) -> Result<Vec<u8>, Error> {
        self.reach()?;
        self.store.setting(name, value).await
    }

    async fn prune_plans(&self, unused: Duration) -> Result<usize, Error> {
        self.store.prune_plans(unused).await
    }

    async fn prune(&self, journals: Timestamp, tombstones: Timestamp, limit: usize) -> Result<(usize, usize), Error> {
        self.reach()?;
        self.store.prune(journals, tombstones, limit).await
    }

    async fn ready(&self) -> Result<(), Error> {
        self.reach()?;
        self.store.ready().await
    }

    fn damage(&self) -> watch::Receiver<Damage> {
        self.store.damage()
    }
}
