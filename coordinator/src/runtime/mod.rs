//! Shards, timers, leases, recovery. What the API may ask of a coordinator is `Coordinator`, and nothing else.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use skald_engine::{Plan, Rejection, Request, TraceContext, Word};
use skald_protocol::{
    BranchId, Gid, Json, OperationKind, PublicEvent, Status, TransactionSummary, TransactionView, WorkflowRef,
};

pub use crate::store::{Audit, Filter};

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
    #[error("transaction `{0}` is quarantined: its journal cannot be read")]
    Quarantined(Gid),
    #[error("too much work is waiting")]
    Overloaded { retry_after: Duration },
    /// No shards yet, draining, or the database is out of reach.
    #[error("not ready: {reason}")]
    NotReady { reason: String, retry_after: Duration },
    #[error("the database refused: {0}")]
    Store(#[source] crate::store::Error),
}

#[derive(Clone)]
pub struct Coordinator {}

impl Coordinator {
    /// Durable before it returns.
    pub async fn begin(&self, new: NewTransaction) -> Result<Begun, Error> {
        let _ = new;
        unimplemented!()
    }

    /// What a begin with this gid and digest meets: `Ok(None)` if the gid is free.
    pub async fn existing(&self, gid: &Gid, request_digest: &[u8; 32]) -> Result<Option<TransactionView>, Error> {
        let _ = (gid, request_digest);
        unimplemented!()
    }

    /// Durable before it returns; the transaction as it stands then.
    pub async fn word(&self, gid: &Gid, word: Word) -> Result<TransactionView, Error> {
        let _ = (gid, word);
        unimplemented!()
    }

    /// What the word would call, were it taken now; nothing changes.
    pub async fn dry_run(&self, gid: &Gid, word: Word) -> Result<Vec<Request>, Error> {
        let _ = (gid, word);
        unimplemented!()
    }

    /// `branches`: the page of branches to show.
    pub async fn get(&self, gid: &Gid, branches: std::ops::Range<usize>) -> Result<TransactionView, Error> {
        let _ = (gid, branches);
        unimplemented!()
    }

    /// Returns when `until` is met or the time is over, whichever comes first.
    pub async fn wait(&self, gid: &Gid, until: Until, timeout: Duration) -> Result<TransactionView, Error> {
        let _ = (gid, until, timeout);
        unimplemented!()
    }

    /// The public events after `after` (`<seq>.<index>`), as recorded so far.
    pub async fn events(&self, gid: &Gid, after: Option<(u64, usize)>) -> Result<Vec<PublicEvent>, Error> {
        let _ = (gid, after);
        unimplemented!()
    }

    /// Returns when something of the transaction may have been recorded since the call, or after a second or so.
    pub async fn changed(&self, gid: &Gid) {
        let _ = gid;
        unimplemented!()
    }

    pub async fn list(&self, filter: &Filter) -> Result<Vec<TransactionSummary>, Error> {
        let _ = filter;
        unimplemented!()
    }

    /// Who an operator's word came to, kept for those who ask later.
    pub async fn audit(&self, entry: &Audit) -> Result<(), Error> {
        let _ = entry;
        unimplemented!()
    }

    /// The operation that a callback's token stands for; `None`: no token of this system.
    #[must_use]
    pub fn callback_target(&self, token: &str) -> Option<(Gid, BranchId, OperationKind)> {
        let _ = token;
        unimplemented!()
    }

    /// Database reachable, schema current, shards held, not draining.
    pub async fn ready(&self) -> Result<(), Error> {
        unimplemented!()
    }
}
