//! `Store` on Postgres and SQLite. Every statement stands once, in the module of its purpose; what the two databases say
//! differently is in `dialect`, and the one statement that is truly two (a batch's) in `append_postgres` and
//! `append_sqlite`.
//!
//! Postgres: no advisory locks, and no session state where `transaction_pooler` is set, so it works behind one. Rare
//! statements are not kept prepared, because a plan from when the tables were empty scans them when they are full.
//! SQLite: one writer connection; a lock file keeps a second process out.

mod append;
mod append_postgres;
mod append_sqlite;
mod batch;
mod connect;
mod dialect;
mod doctor;
mod error;
mod files;
mod kept_session;
mod membership;
mod read;
mod registry;
mod retention;
mod schema;
mod session;

use std::{future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use skald_protocol::{Gid, Timestamp, TransactionSummary, WorkflowRef};
use tokio::sync::watch;

pub use self::doctor::{Finding, Weight};
use self::{dialect::Kind, session::Pool};
use super::{
    Appended, Audit, Batch, Beat, Damage, Error, Filter, Joined, Loaded, NodeId, Publish, Published, Shard, Store,
    StoredPlan, Workflow, WorkflowRow,
};

#[derive(Debug, Clone)]
pub struct Options {
    /// To Postgres, in all; a third of them, and no more than a few, are kept for commits.
    pub connections: u32,
    /// How long to wait for a free or new connection.
    pub acquire_timeout: Duration,
    /// How long a statement on Postgres may take until it counts as lost.
    pub statement_timeout: Duration,
    /// Postgres is reached through a pooler in transaction mode that does not keep prepared statements apart.
    pub transaction_pooler: bool,
    /// Lets the commits of a deposed node through, so that tests can show what the fence is for.
    #[cfg(feature = "mutations")]
    #[doc(hidden)]
    pub without_node_fence: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connections: 12,
            acquire_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(15),
            transaction_pooler: false,
            #[cfg(feature = "mutations")]
            without_node_fence: false,
        }
    }
}

/// Cheap to clone; the database is left when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct SqlStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Commits, leases: what must not wait behind reads.
    writer: Pool,
    reader: Pool,
    options: Options,
    kept: kept_session::KeptSession,
    damage: Arc<watch::Sender<Damage>>,
    /// Of a SQLite file.
    anchor: Option<connect::Anchor>,
}

impl SqlStore {
    /// `sqlite://<path>` (made if missing), `sqlite::memory:`, `postgres://…`. Does not look at the schema: `ready` does.
    pub async fn connect(url: &str, options: Options) -> Result<Self, Error> {
        connect::connect(url, options).await.map(|inner| Self(Arc::new(inner)))
    }

    /// Brings the schema to this build's; nothing to do is fine.
    pub async fn migrate(&self) -> Result<(), Error> {
        schema::migrate(&self.0.writer).await
    }

    /// Closes every connection; what is under way ends first.
    pub async fn close(&self) {
        self.0.reader.close().await;
        tokio::join!(self.0.writer.close(), async { self.0.kept.clear() });
        if let Some(anchor) = &self.0.anchor {
            anchor.close().await;
        }
    }

    fn kind(&self) -> Kind {
        self.0.writer.kind()
    }

    fn fenced(&self) -> bool {
        #[cfg(feature = "mutations")]
        return !self.0.options.without_node_fence;
        #[cfg(not(feature = "mutations"))]
        true
    }

    /// A network may swallow an answer for ever; a file does not.
    async fn within<T>(&self, work: impl Future<Output = Result<T, Error>> + Send) -> Result<T, Error> {
        match self.kind() {
            Kind::Sqlite => work.await,
            Kind::Postgres => tokio::time::timeout(self.0.options.statement_timeout, work)
                .await
                .unwrap_or_else(|_| Err(Error::timed_out())),
        }
    }
}

#[async_trait]
impl Store for SqlStore {
    async fn join(&self, address: &str, lease: Duration) -> Result<Joined, Error> {
        self.within(membership::join(&self.0.writer, address, lease)).await
    }

    async fn heartbeat(&self, node: NodeId, lease: Duration, draining: bool) -> Result<Beat, Error> {
        self.within(membership::heartbeat(&self.0.writer, node, lease, draining)).await
    }

    async fn claim(&self, node: NodeId, want: usize) -> Result<Vec<Shard>, Error> {
        self.within(membership::claim(&self.0.writer, node, want)).await
    }

    async fn release(&self, node: NodeId, shards: &[i32]) -> Result<(), Error> {
        self.within(membership::release(&self.0.writer, node, shards)).await
    }

    async fn leave(&self, node: NodeId) -> Result<(), Error> {
        self.within(membership::leave(&self.0.writer, node)).await
    }

    async fn append(&self, node: NodeId, expected: i64, batch: &Batch) -> Result<Vec<Appended>, Error> {
        // Large, and on its way through `within` it would be moved often.
        let work = Box::pin(append::append(&self.0.writer, self.fenced(), &self.0.kept, node, expected, batch));
        self.within(work).await
    }

    async fn resolve(&self, node: NodeId, expected: i64, batch: &Batch) -> Result<Option<Vec<Appended>>, Error> {
        self.within(append::resolve(&self.0.writer, node, expected, batch)).await
    }

    async fn batch(&self, node: NodeId) -> Result<Option<i64>, Error> {
        self.within(membership::batch(&self.0.writer, node)).await
    }

    async fn timeline(&self) -> Option<u32> {
        let told = self.within(membership::timeline(&self.0.writer)).await;
        told.inspect_err(|error| tracing::debug!(%error, "the database does not tell its timeline")).ok().flatten()
    }

    async fn due(
        &self,
        shards: &[i32],
        now: Timestamp,
        after: Option<(Timestamp, Gid)>,
        limit: usize,
    ) -> Result<Vec<(Timestamp, Gid)>, Error> {
        self.within(read::due(&self.0.reader, shards, now, after, limit)).await
    }

    async fn foreign(&self, shards: &[i32], limit: usize) -> Result<Vec<(Gid, u64)>, Error> {
        self.within(read::foreign(&self.0.reader, shards, limit)).await
    }

    async fn load(&self, gids: &[Gid]) -> Result<Vec<Loaded>, Error> {
        self.within(read::load(&self.0.reader, gids)).await
    }

    async fn plan(&self, digest: &[u8; 32]) -> Result<Option<StoredPlan>, Error> {
        self.within(read::plan(&self.0.reader, digest)).await
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<TransactionSummary>, Error> {
        self.within(read::list(&self.0.reader, filter)).await
    }

    async fn publish(&self, new: &Publish) -> Result<Published, Error> {
        self.within(registry::publish(&self.0.writer, new)).await
    }

    async fn workflow(&self, wanted: &WorkflowRef) -> Result<Option<Workflow>, Error> {
        self.within(registry::workflow(&self.0.reader, wanted)).await
    }

    async fn latest(&self, name: &str) -> Result<Option<String>, Error> {
        self.within(registry::latest(&self.0.reader, name)).await
    }

    async fn workflows(&self, after: &str, limit: usize) -> Result<Vec<WorkflowRow>, Error> {
        self.within(registry::workflows(&self.0.reader, after, limit)).await
    }

    async fn versions(&self, name: &str, after: Option<&str>, limit: usize) -> Result<Vec<WorkflowRow>, Error> {
        self.within(registry::versions(&self.0.reader, name, after, limit)).await
    }

    async fn quarantine(&self, gid: &Gid, reason: &str) -> Result<(), Error> {
        self.within(retention::quarantine(&self.0.writer, gid, reason)).await
    }

    async fn fail_quarantined(&self, gid: &Gid, at: Timestamp) -> Result<bool, Error> {
        self.within(retention::fail_quarantined(&self.0.writer, gid, at)).await
    }

    async fn audit(&self, entry: &Audit) -> Result<(), Error> {
        self.within(retention::audit(&self.0.writer, entry)).await
    }

    async fn setting(&self, name: &str, value: &[u8]) -> Result<Vec<u8>, Error> {
        self.within(retention::setting(&self.0.writer, name, value)).await
    }

    async fn prune_plans(&self, unused: Duration) -> Result<usize, Error> {
        self.within(retention::prune_plans(&self.0.writer, unused)).await
    }

    async fn prune(&self, journals: Timestamp, tombstones: Timestamp, limit: usize) -> Result<(usize, usize), Error> {
        self.within(retention::prune(&self.0.writer, journals, tombstones, limit)).await
    }

    async fn ready(&self) -> Result<(), Error> {
        self.within(schema::check(&self.0.reader)).await
    }

    fn damage(&self) -> watch::Receiver<Damage> {
        self.0.damage.subscribe()
    }
}

fn rows(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn seq_column(seq: u64) -> Result<i64, Error> {
    i64::try_from(seq).map_err(|_| Error::Refused(format!("seq {seq} is beyond what a journal can hold")))
}

fn unsigned<T: TryFrom<S>, S: std::fmt::Display + Copy>(value: S) -> Result<T, Error> {
    T::try_from(value).map_err(|_| Error::Refused(format!("the database holds {value} where no such number can be")))
}
