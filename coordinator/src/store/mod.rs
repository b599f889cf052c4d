//! What is durable, behind one seam: Postgres and SQLite.
//!
//! Every write of a node carries both fences in its own database transaction: the node's row must still be this node's
//! (`batch` as expected, not `dead`), and `(gid, seq)` must be free. A write that meets a dead node changes nothing at
//! all; one that meets a taken `(gid, seq)` drops that one append and keeps the rest.

mod sql;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use skald_protocol::{Gid, Status, Timestamp, TransactionSummary, WorkflowRef};
use tokio::sync::watch;

pub use sql::{Finding, Options, SqlStore, Weight};

/// A node's life; a new one each time it joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub uuid::Uuid);

/// A shard as its owner holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shard {
    pub id: i32,
    pub epoch: i64,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This node was deposed: everything it holds in memory is stale. Drop it all and join again.
    #[error("this node was deposed")]
    Deposed,
    /// The database could not be asked, or takes no writes for now (no room, a standby). Of a write: it may have landed;
    /// `resolve` tells.
    #[error("the database cannot be reached: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// The database refuses (a statement that is wrong, a row that cannot be): retrying does not help.
    #[error("{0}")]
    Refused(String),
    /// A URL, a path or a schema that an operator must set right.
    #[error("{0}")]
    Misconfigured(String),
    /// The database's file is damaged, or is not there any more: what was written last may be lost, and nothing is written
    /// any more until a restart.
    #[error("{0}")]
    Damaged(Arc<str>),
}

/// What is wrong with the database's file, once that is known.
pub type Damage = Option<Arc<str>>;

#[derive(Debug, Clone)]
pub struct Joined {
    pub node: NodeId,
    /// Database time.
    pub now: Timestamp,
    /// How far that is behind what a node was told before: the database's clock was set back.
    pub behind: Duration,
    /// Shards of earlier lives at the same address, taken at once.
    pub shards: Vec<Shard>,
    /// The newest journal format that all live nodes read.
    pub format: u32,
}

#[derive(Debug, Clone)]
pub struct Beat {
    pub now: Timestamp,
    /// The shards this node holds, as the database has them.
    pub shards: Vec<Shard>,
    pub shards_total: usize,
    /// Live nodes that are not draining, this one included unless it drains.
    pub nodes: usize,
    pub format: u32,
    /// The number of this node's last commit.
    pub batch: i64,
}

/// One record to be made durable.
#[derive(Debug, Clone)]
pub struct Append {
    pub gid: Gid,
    pub seq: u64,
    pub record: Vec<u8>,
    /// With the first record (`seq` 0).
    pub begin: Option<Box<Begin>>,
    /// The writer does not hold the transaction (or it was parked): the same commit makes it due now and marks it, so
    /// that its owner looks.
    pub foreign: bool,
}

/// A transaction's row.
#[derive(Debug, Clone)]
pub struct Begin {
    pub shard: i32,
    pub workflow: Option<WorkflowRef>,
    /// SHA-256 of the RFC 8785 form of the request without its gid.
    pub request_digest: [u8; 32],
    pub labels: BTreeMap<String, String>,
    pub created_at: Timestamp,
    pub plan: [u8; 32],
    /// Absent when this node knows the plan to be stored.
    pub store_plan: Option<StoredPlan>,
}

#[derive(Debug, Clone)]
pub struct StoredPlan {
    pub digest: [u8; 32],
    pub format: u32,
    pub definition: Option<String>,
    pub plan: Vec<u8>,
}

/// A definition to be published.
#[derive(Debug, Clone)]
pub struct Publish {
    /// A DNS label and a SemVer version.
    pub workflow: WorkflowRef,
    /// SHA-256 of the definition's RFC 8785 form.
    pub digest: [u8; 32],
    /// As it was sent.
    pub definition: String,
    pub plan: StoredPlan,
}

/// What became of it; the row is the one that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    New(WorkflowRow),
    /// The same content was published before.
    Same(WorkflowRow),
    /// The version is taken by other content.
    Conflict(WorkflowRow),
}

/// A published definition, all but its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkflowRow {
    pub workflow: WorkflowRef,
    pub digest: [u8; 32],
    pub plan: [u8; 32],
    /// Database time.
    pub published_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workflow {
    pub row: WorkflowRow,
    pub definition: String,
}

/// What became of one append of a batch that was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    Durable,
    /// `(gid, seq)` was taken: another node moved first. Of a `begin`: the gid exists (or existed: a tombstone).
    Conflict,
}

/// A change of a transaction's row; it may lag the journal, only to the safe side.
///
/// The holder's word: void if the node does not own the transaction's shard, or the transaction was set aside or taken by
/// retention. Beside an append of the same transaction in its batch it lands if that does; beside its begin it is void.
#[derive(Debug, Clone)]
pub struct Projection {
    pub gid: Gid,
    /// The next free seq as the writer knows it: a foreign append at or beyond it makes the change void.
    pub seq: u64,
    pub status: Status,
    /// `None`: nothing wakes it but a word.
    pub next_wake_at: Option<Timestamp>,
    /// The holder and its shard's epoch, when parking with nothing in flight.
    pub parked_by: Option<(NodeId, i64)>,
    pub settled_at: Option<Timestamp>,
}

/// One database commit.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    pub appends: Vec<Append>,
    pub projections: Vec<Projection>,
}

#[derive(Debug, Clone)]
pub struct Loaded {
    pub row: Row,
    /// In order; empty once retention has taken them (or `quarantined`).
    pub records: Vec<StoredRecord>,
}

#[derive(Debug, Clone)]
pub struct StoredRecord {
    pub seq: u64,
    pub format: u32,
    pub bytes: Vec<u8>,
}

#[derive(Debug, Clone)]
pub struct Row {
    pub gid: Gid,
    pub shard: i32,
    pub status: Status,
    pub workflow: Option<WorkflowRef>,
    pub request_digest: [u8; 32],
    pub created_at: Timestamp,
    pub next_wake_at: Option<Timestamp>,
    pub parked_by: Option<(NodeId, i64)>,
    pub settled_at: Option<Timestamp>,
    pub plan: [u8; 32],
    /// Retention took the journal: only this row is left.
    pub expired: bool,
    /// Set aside: `status` is `suspended`, the journal is left alone.
    pub quarantined: Option<String>,
    pub labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub status: Vec<Status>,
    pub workflow: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub gid_prefix: Option<String>,
    pub created_after: Option<Timestamp>,
    pub created_before: Option<Timestamp>,
    /// Strictly older than this `(created_at, gid)`: the list is newest first.
    pub before: Option<(Timestamp, Gid)>,
    pub limit: usize,
}

/// Object-safe; `SqlStore` is the one implementation, a fault decorator in tests the other.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Registers a new life of the node at `address`. Every earlier one at the same address (on SQLite, every other row)
    /// is set `dead` first, and its shards are taken.
    async fn join(&self, address: &str, lease: Duration) -> Result<Joined, Error>;

    /// Extends the lease. `Deposed` if the row is dead or gone.
    async fn heartbeat(&self, node: NodeId, lease: Duration, draining: bool) -> Result<Beat, Error>;

    /// Takes up to `want` shards that nobody holds, or whose owner's lease has expired (or was given by a clock that was set
    /// back since; that owner is set `dead` first, in the same database transaction), each at its epoch + 1.
    async fn claim(&self, node: NodeId, want: usize) -> Result<Vec<Shard>, Error>;

    /// Gives shards up, for whoever claims them next.
    async fn release(&self, node: NodeId, shards: &[i32]) -> Result<(), Error>;

    /// Leaves for good: the row is dead, its shards are free.
    async fn leave(&self, node: NodeId) -> Result<(), Error>;

    /// Makes a batch durable in one commit, both fences in it; the answers are in the order of `appends`. `expected` is the
    /// node's `batch` before: after success it is one more.
    async fn append(&self, node: NodeId, expected: i64, batch: &Batch) -> Result<Vec<Appended>, Error>;

    /// After `append` gave `Unavailable`: waits for the lost statement by locking the node's row and tells whether it landed
    /// (`None`: it did not). `Deposed` also when the database went back behind what was acknowledged.
    async fn resolve(&self, node: NodeId, expected: i64, batch: &Batch) -> Result<Option<Vec<Appended>>, Error>;

    /// The number of the last commit of this life of a node, also after it was deposed; `None`: the database does not know it.
    async fn batch(&self, node: NodeId) -> Result<Option<i64>, Error>;

    /// Which of its histories the database is in, where it tells (Postgres): another one after a fail-over.
    async fn timeline(&self) -> Option<u32>;

    /// Unsettled transactions of these shards whose `next_wake_at` has come, earliest first, or that a foreign append marked.
    /// `after`: the last one of the page before.
    async fn due(
        &self,
        shards: &[i32],
        now: Timestamp,
        after: Option<(Timestamp, Gid)>,
        limit: usize,
    ) -> Result<Vec<(Timestamp, Gid)>, Error>;

    /// Transactions of these shards that a foreign append marked and no projection has seen since, with that append's seq.
    async fn foreign(&self, shards: &[i32], limit: usize) -> Result<Vec<(Gid, u64)>, Error>;

    /// Rows and journals; unknown gids are absent from the answer.
    async fn load(&self, gids: &[Gid]) -> Result<Vec<Loaded>, Error>;

    async fn plan(&self, digest: &[u8; 32]) -> Result<Option<StoredPlan>, Error>;

    async fn list(&self, filter: &Filter) -> Result<Vec<TransactionSummary>, Error>;

    /// Publishes a definition with its plan, unless its version is taken. Durable before it returns; of several nodes that
    /// publish one version at once, one is the first.
    async fn publish(&self, new: &Publish) -> Result<Published, Error>;

    async fn workflow(&self, wanted: &WorkflowRef) -> Result<Option<Workflow>, Error>;

    /// The highest version of this name by SemVer's precedence; a pre-release only where there is nothing else.
    async fn latest(&self, name: &str) -> Result<Option<String>, Error>;

    /// The latest version of each name behind `after`, in the order of names.
    async fn workflows(&self, after: &str, limit: usize) -> Result<Vec<WorkflowRow>, Error>;

    /// The versions of one name, the latest first. `after`: the last one of the page before.
    async fn versions(&self, name: &str, after: Option<&str>, limit: usize) -> Result<Vec<WorkflowRow>, Error>;

    /// Sets a transaction aside that cannot be read or panicked; its journal is left alone.
    async fn quarantine(&self, gid: &Gid, reason: &str) -> Result<(), Error>;

    /// Ends a quarantined transaction as `failed`, by an operator's command.
    async fn fail_quarantined(&self, gid: &Gid, at: Timestamp) -> Result<bool, Error>;

    async fn audit(&self, entry: &Audit) -> Result<(), Error>;

    /// The value under `name`, made by this first caller if there was none.
    async fn setting(&self, name: &str, value: &[u8]) -> Result<Vec<u8>, Error>;

    /// Retention: removes up to `limit` journals of transactions settled before `journals`, and tombstones before
    /// `tombstones`. How many of each.
    async fn prune_plans(&self, unused: Duration) -> Result<usize, Error>;
    async fn prune(&self, journals: Timestamp, tombstones: Timestamp, limit: usize) -> Result<(usize, usize), Error>;

    /// Reachable, and the schema is this build's.
    async fn ready(&self) -> Result<(), Error>;

    /// Tells of damage as soon as it is found, whoever met it; from then on every call ends with it.
    fn damage(&self) -> watch::Receiver<Damage>;
}

/// An operator's command, kept for those who ask later.
#[derive(Debug, Clone)]
pub struct Audit {
    pub gid: Gid,
    pub id: uuid::Uuid,
    pub at: Timestamp,
    pub command: String,
    pub branch: Option<String>,
    pub reason: Option<String>,
}
