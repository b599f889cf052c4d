//! Shards, timers, leases, recovery. What the API may ask of a coordinator is `Coordinator`, and nothing else.
//!
//! A node joins, keeps its lease and leaves (`membership`); what it has meanwhile is its `session`, with a few tasks
//! (`shard`), each the sole owner of the transactions (`active`) whose gid falls to it: no locks, nothing waited for. A
//! shard of the database says which node drives a transaction; which task of the node does, its gid alone says. What is
//! not in memory is found by polling (`sweep`) or because somebody asks for it, and both come in through one door
//! (`load`): recovery is no path of its own.

mod active;
mod clock;
mod context;
mod coordinator;
mod inbox;
mod load;
mod membership;
mod membership_thread;
mod options;
mod rewind;
mod session;
mod shard;
mod sweep;
mod timer;
mod turn;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use skald_engine::{Plan, Rejection, TraceContext};
use skald_protocol::{BranchId, Gid, Json, Status, TransactionView, WorkflowRef};
use tokio::runtime::Handle;

use crate::{
    dispatch::{Dispatcher, token::CallbackTokens},
    store::Store,
    telemetry::{Metrics, Spans},
};

pub use crate::store::{Audit, Filter, Published, Workflow, WorkflowRow};
pub use coordinator::Coordinator;
pub use membership_thread::{MembershipStore, MembershipThread};
pub use options::{LEAST_COMMIT_TIMEOUT, LEAST_LEASE, Options};

/// What a refused client is told to wait.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What a coordinator stands on.
pub struct Dependencies {
    pub store: Arc<dyn Store>,
    /// Absent: it is kept as all else is.
    pub membership: Option<MembershipStore>,
    pub dispatcher: Dispatcher,
    /// The dispatcher's.
    pub callback_tokens: Arc<CallbackTokens>,
    pub metrics: Arc<Metrics>,
    pub spans: Spans,
}

/// What outlives a session.
struct Shared {
    store: Arc<dyn Store>,
    membership: Option<MembershipStore>,
    /// The threads that decide.
    threads: Handle,
    dispatcher: Dispatcher,
    metrics: Arc<Metrics>,
    spans: Spans,
    options: Options,
    plans: load::Plans,
}

impl Shared {
    /// For what is said of this node and its shards.
    fn members(&self) -> &dyn Store {
        self.membership.as_ref().map_or(&*self.store, |membership| &*membership.store)
    }
}

/// A plan with what storing it takes, computed once per definition and shared.
#[derive(Debug)]
pub struct PreparedPlan {
    pub plan: Arc<Plan>,
    pub digest: [u8; 32],
    pub encoded: Vec<u8>,
    /// The definition's source text, kept beside the plan.
    pub definition: Option<String>,
}

impl PreparedPlan {
    #[must_use]
    pub fn new(plan: Plan, definition: Option<String>) -> Self {
        let encoded = plan.encode();
        Self { digest: Plan::digest(&encoded), encoded, plan: Arc::new(plan), definition }
    }
}

/// A validated begin.
#[derive(Debug, Clone)]
pub struct NewTransaction {
    /// Made here (UUIDv7) if absent.
    pub gid: Option<Gid>,
    pub plan: Arc<PreparedPlan>,
    pub workflow: Option<WorkflowRef>,
    pub input: Option<Json>,
    pub labels: BTreeMap<String, String>,
    pub timeout: Option<Duration>,
    /// SHA-256 of the RFC 8785 form of the request without its gid.
    pub request_digest: [u8; 32],
    pub trace: TraceContext,
}

#[derive(Debug)]
pub enum Begun {
    New(Box<TransactionView>),
    /// The same request came before: nothing was run twice.
    Existing(Box<TransactionView>),
}

/// What a waiter waits for; each also ends at the transaction's settlement or suspension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Until {
    Settled,
    /// The branch's forward operation has an outcome.
    Branch(BranchId),
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("there is no transaction `{0}`")]
    UnknownGid(Gid),
    /// Retention took the journal; the final status is left.
    #[error("transaction `{gid}` ended as `{status}` and was removed by retention")]
    Expired { gid: Gid, status: Status },
    #[error("transaction `{0}` exists with other content")]
    GidConflict(Gid),
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// A transaction that was set aside: only `fail` ends it.
    #[error("transaction `{0}` is quarantined: it cannot be driven")]
    Quarantined(Gid),
    #[error("too much work is waiting")]
    Overloaded { retry_after: Duration },
    /// No shards yet, draining, or the database is out of reach.
    #[error("not ready: {reason}")]
    NotReady { reason: String, retry_after: Duration },
    /// It was waited for as long as a write may take; it may still land.
    #[error(
        "the write was not durable within {} s and whether it will be is not known yet: ask for transaction `{gid}`, or send the same again with this gid",
        .waited.as_secs_f64()
    )]
    Unknown { gid: Gid, waited: Duration, retry_after: Duration },
    /// Of the database's file, until a restart: whether the request was taken is not known.
    #[error("{0}")]
    Damaged(Arc<str>),
    #[error("the database refused: {0}")]
    Store(#[source] crate::store::Error),
}
