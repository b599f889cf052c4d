//! A global transaction: a value folded from its journal.
//!
//! `decide` takes an input, folds the events it leads to into the value and returns them. Whoever calls it must make
//! them durable before anything derived from the new value (a reply, a call, a view) leaves. What only the node that
//! holds the transaction can know (calls in flight, attempts too minor to record) lives beside the recorded state, is
//! never encoded and is lost with the node; `load` says so in the journal before the first call of a new holder.

use std::{sync::Arc, time::Duration};

use skald_protocol::{
    BranchId, BranchStatus, CallbackVerdict, Decision, Gid, Json, OperationKind, PublicEvent, ResolvedOutcome, Status,
    Timestamp, TransactionView,
};

use crate::{
    call::{Call, Reply, Request},
    event::{Began, Enlistment, Error, Event, Record},
    plan::Plan,
    template::Unrenderable,
};

/// What can happen to a transaction.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    Replied {
        call: Call,
        reply: Reply,
    },
    /// `render` refused a call that is owed.
    Unrenderable {
        call: Call,
        error: Unrenderable,
    },
    /// Time passed: deadlines, pending operations.
    Tick,
    Word(Word),
}

/// What comes from outside; any node may decide it, holding the transaction or not.
#[derive(Debug, Clone, PartialEq)]
pub enum Word {
    Enlist(Box<Enlistment>),
    Commit,
    Cancel {
        reason: Option<String>,
    },
    Callback {
        branch: BranchId,
        operation: OperationKind,
        verdict: CallbackVerdict,
        output: Option<Json>,
        error: Option<Error>,
    },
    Retry {
        branch: Option<BranchId>,
    },
    Skip {
        branch: BranchId,
        reason: String,
    },
    Resolve {
        branch: BranchId,
        outcome: ResolvedOutcome,
        output: Option<Json>,
        reason: String,
    },
    Fail {
        reason: String,
    },
    Resume,
    /// The journal reached its limit.
    JournalFull,
}

/// Why a word was not taken; nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    #[error("the transaction is committed already")]
    AlreadyCommitted,
    #[error("the transaction is cancelled already")]
    AlreadyCancelled,
    #[error("the transaction is decided already")]
    Decided,
    #[error("the transaction has settled")]
    Settled,
    #[error("the transaction decides by itself: only an open one is enlisted into and committed")]
    NotOpen,
    #[error("branch `{branch}` is not settled: {why}")]
    BranchUnsettled { branch: BranchId, why: &'static str },
    #[error("branch `{branch}` exists with other content")]
    BranchConflict { branch: BranchId },
    #[error("there is no branch `{branch}`")]
    UnknownBranch { branch: BranchId },
    #[error("branch `{branch}` has no operation `{operation}` that could be called back")]
    NotAwaited { branch: BranchId, operation: OperationKind },
    #[error("another outcome was recorded before")]
    CallbackConflict,
    #[error("branch `{branch}` is not stuck")]
    NotStuck { branch: BranchId },
    #[error("branch `{branch}`: a confirm or an undo cannot be resolved as refused, only succeeded or skipped")]
    NotRefusable { branch: BranchId },
    #[error("nothing of the transaction waits for an operator")]
    NotSuspended,
    #[error("the transaction already has {limit} branches")]
    TooManyBranches { limit: usize },
}

impl Rejection {
    /// The stable code of API.md.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::AlreadyCommitted => "already_committed",
            Self::AlreadyCancelled => "already_cancelled",
            Self::Decided => "decided",
            Self::Settled => "settled",
            Self::NotOpen => "not_open",
            Self::BranchUnsettled { .. } => "branch_unsettled",
            Self::BranchConflict { .. } => "branch_conflict",
            Self::UnknownBranch { .. } => "unknown_branch",
            Self::NotAwaited { .. } => "not_awaited",
            Self::CallbackConflict => "callback_conflict",
            Self::NotStuck { .. } => "not_stuck",
            Self::NotRefusable { .. } => "not_refusable",
            Self::NotSuspended => "not_suspended",
            Self::TooManyBranches { .. } => "too_many_branches",
        }
    }
}

/// A journal that no sequence of decisions can have written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("corrupt journal at record {seq}: {reason}")]
pub struct Corrupt {
    pub seq: u64,
    pub reason: String,
}

/// The events of one decision. `record` is false when all are too minor to be made durable: then nothing need be
/// appended, and what was derived may leave at once.
#[derive(Debug, Clone, Default, PartialEq)]
#[must_use]
pub struct Decided {
    pub events: Vec<Event>,
    pub record: bool,
}

/// What is recorded; a snapshot holds one.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct State {}

#[derive(Debug, Clone)]
pub struct Transaction {
    gid: Gid,
    plan: Arc<Plan>,
}

/// How a loader comes to hold a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Continuity {
    /// This node parked it with nothing in flight and its shard's epoch is unchanged: nobody else drove.
    Unbroken,
    /// Another holder may have made every call that is owed.
    Broken,
}

impl Transaction {
    /// A transaction's first events, already folded.
    pub fn begin(gid: Gid, plan: Arc<Plan>, began: Began, now: Timestamp) -> (Self, Vec<Event>) {
        unimplemented!()
    }

    /// Folds a journal, from its last snapshot on. Pure: `load` follows before the transaction is driven.
    pub fn replay(gid: Gid, plan: Arc<Plan>, records: Vec<Record>) -> Result<Self, Corrupt> {
        unimplemented!()
    }

    /// What a new holder does after `replay` and before the first `owed`: recorded delays are counted from now at most,
    /// and a broken continuity is recorded (`Adopted`). To be appended, if `record`, before anything is driven.
    pub fn load(&mut self, continuity: Continuity, now: Timestamp) -> Decided {
        unimplemented!()
    }

    /// After a reload by the node that holds the transaction (another node's word moved it): keeps what `held` knew of
    /// calls in flight and of minor attempts. Instead of `load`.
    pub fn inherit(&mut self, held: &Self) {
        unimplemented!()
    }

    /// The events that an input leads to, already folded. No events and no error: nothing was left to do (the same
    /// word again, a reply that no longer matters).
    pub fn decide(&mut self, input: Input, now: Timestamp) -> Result<Decided, Rejection> {
        unimplemented!()
    }

    /// The calls to make now: owed, due and not in flight. Costs what it returns.
    #[must_use]
    pub fn owed(&self, now: Timestamp) -> Vec<Call> {
        unimplemented!()
    }

    /// The call is on its way; `Input::Replied` (or `Unrenderable`) takes it back.
    pub fn sent(&mut self, call: Call, now: Timestamp) {
        unimplemented!()
    }

    /// A pure function of recorded state.
    pub fn render(&self, call: Call) -> Result<Request, Unrenderable> {
        unimplemented!()
    }

    #[must_use]
    pub fn in_flight(&self) -> usize {
        unimplemented!()
    }

    /// When `owed` or `Input::Tick` next has something to do; `None`: only a reply or a word moves it.
    #[must_use]
    pub fn next_wake(&self) -> Option<Timestamp> {
        unimplemented!()
    }

    #[must_use]
    pub fn gid(&self) -> &Gid {
        &self.gid
    }

    #[must_use]
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    #[must_use]
    pub fn began(&self) -> &Began {
        unimplemented!()
    }

    #[must_use]
    pub fn began_at(&self) -> Timestamp {
        unimplemented!()
    }

    #[must_use]
    pub fn status(&self) -> Status {
        unimplemented!()
    }

    #[must_use]
    pub fn decision(&self) -> Option<Decision> {
        unimplemented!()
    }

    #[must_use]
    pub fn settled_at(&self) -> Option<Timestamp> {
        unimplemented!()
    }

    #[must_use]
    pub fn branch_count(&self) -> usize {
        unimplemented!()
    }

    #[must_use]
    pub fn find(&self, branch: &BranchId) -> Option<usize> {
        unimplemented!()
    }

    #[must_use]
    pub fn branch_id(&self, branch: usize) -> &BranchId {
        unimplemented!()
    }

    #[must_use]
    pub fn branch_status(&self, branch: usize) -> BranchStatus {
        unimplemented!()
    }

    /// The digest an enlisted branch was sent with.
    #[must_use]
    pub fn enlisted_digest(&self, branch: usize) -> Option<&str> {
        unimplemented!()
    }

    /// Records since the last snapshot call for a new one.
    #[must_use]
    pub fn snapshot_due(&self) -> bool {
        unimplemented!()
    }

    #[must_use]
    pub fn snapshot(&self) -> Event {
        unimplemented!()
    }

    /// The whole of API.md's transaction, but for what only a node knows.
    #[must_use]
    pub fn view(&self, branches: std::ops::Range<usize>) -> TransactionView {
        unimplemented!()
    }

    /// The public events of a journal, in order, with ids `<seq>.<index>`.
    pub fn publish(gid: &Gid, plan: &Arc<Plan>, records: &[(u64, Record)]) -> Result<Vec<PublicEvent>, Corrupt> {
        unimplemented!()
    }
}
