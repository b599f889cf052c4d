//! A global transaction: a value folded from its journal.
//!
//! `decide` takes an input, folds the events it leads to into the value and returns them. Whoever calls it must make
//! them durable before anything derived from the new value (a reply, a call, a view) leaves. What only the node that
//! holds the transaction can know (calls in flight, attempts too minor to record) lives beside the recorded state, is
//! never encoded and is lost with the node; `load` says so in the journal before the first call of a new holder.
#![deny(clippy::wildcard_enum_match_arm)]

mod apply;
mod block;
mod command;
mod consequence;
mod decide;
mod forward;
mod index;
mod layout;
mod render;
mod reply;
mod undo;
mod validate;
mod view;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use skald_protocol::{BranchId, BranchStatus, Decision, Gid, OperationKind, OperationStatus, Status, Timestamp};

use self::{
    block::Gathered,
    consequence::Tally,
    index::{Counts, Wakes},
    layout::Layout,
};
use crate::{
    budget::Budget,
    call::{Call, Reply},
    definition::InputSchema,
    journal::{
        Began, Event, Record, State,
        state::{Deadline, Slot},
    },
    limit,
    plan::{Branch, Plan},
    template::Unrenderable,
    value::{Unreadable, Value},
};

pub use self::{command::Command, render::Unrendered};

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
    Command(Command),
}

/// Why a command was not taken; nothing changed.
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
    #[error("the signal `{name}` came before with another payload, which stands")]
    SignalConflict { name: String },
    #[error("an open transaction has no steps that could wait for a signal")]
    OpenTakesNoSignals,
    #[error("the transaction already has {limit} signals")]
    TooManySignals { limit: usize },
    #[error("the key `{key}` came before with another request: an Idempotency-Key stands for one")]
    KeyConflict { key: String },
    #[error("the transaction already has {limit} requests with a key of their own")]
    TooManyKeys { limit: usize },
    #[error("branch `{branch}` is stuck at a choice, a map or a condition: retry or skip it")]
    NotResolvable { branch: BranchId },
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
            Self::SignalConflict { .. } => "signal_conflict",
            Self::OpenTakesNoSignals => "no_signals",
            Self::TooManySignals { .. } => "too_many_signals",
            Self::NotResolvable { .. } => "not_resolvable",
            Self::KeyConflict { .. } => "idempotency_key_conflict",
            Self::TooManyKeys { .. } => "too_many_idempotency_keys",
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

/// A global transaction as one node sees it.
#[derive(Debug, Clone)]
pub struct Transaction {
    gid: Gid,
    plan: Arc<Plan>,
    state: State,
    // Counted from the state:
    layout: Layout,
    wakes: Wakes,
    /// Waits under way, by the end of their time.
    timers: BTreeSet<(i64, usize)>,
    /// Branches whose turn has come, and that do something without an operation.
    ready: BTreeSet<usize>,
    /// Branches whose forward operation is owed and not in flight.
    idle: BTreeSet<usize>,
    active: BTreeMap<usize, usize>,
    head: Counts,
    tail: Counts,
    on_abort: Counts,
    on_end: Counts,
    deadline: Option<Timestamp>,
    /// The input, where many branches read of it.
    parsed: OnceLock<Result<Value, Unreadable>>,
    /// What included workflows take, by their name and version.
    schemas: Arc<Mutex<BTreeMap<String, Option<InputSchema>>>>,
    // Known to the holder alone:
    holding: bool,
    /// A time of day is this much ahead of the holder's `now`.
    ahead_ms: i64,
    flights: BTreeMap<(usize, Slot), Flight>,
    /// The last of each that was answered.
    landed: BTreeMap<(usize, Slot), Flight>,
    /// Of the decisions to come.
    budget: Budget,
    /// The last decision ended because its budget did.
    goes_on: bool,
    gathered: Option<Gathered>,
    /// Evaluated by the decision under way.
    tally: Tally,
}

/// A call on its way.
#[derive(Debug, Clone, Copy)]
struct Flight {
    call: Call,
    since: Timestamp,
    /// It asks a pending operation whether it has finished.
    poll: bool,
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
        Self::begin_within(Budget::unlimited(), 0, gid, plan, began, now)
    }

    /// The same; the budget is that of its first decision, and `ahead_ms` as `set_ahead` says.
    pub fn begin_within(
        budget: Budget,
        ahead_ms: i64,
        gid: Gid,
        plan: Arc<Plan>,
        began: Began,
        now: Timestamp,
    ) -> (Self, Vec<Event>) {
        let mut transaction = Self::new(gid, plan, began.clone(), now);
        transaction.budget = budget;
        transaction.ahead_ms = ahead_ms;
        transaction.holding = true;
        let mut out = Decided { events: vec![Event::Began(Box::new(began))], record: true };
        transaction.consequence(&mut out, now);
        (transaction, out.events)
    }

    fn new(gid: Gid, plan: Arc<Plan>, began: Began, at: Timestamp) -> Self {
        let mut transaction = Self::of(gid, State::new(&plan, began, at), plan, Layout::default());
        transaction.start_all(at);
        transaction
    }

    fn of(gid: Gid, state: State, plan: Arc<Plan>, layout: Layout) -> Self {
        let mut transaction = Self {
            gid,
            plan,
            state,
            layout,
            wakes: Wakes::new(),
            timers: BTreeSet::new(),
            ready: BTreeSet::new(),
            idle: BTreeSet::new(),
            active: BTreeMap::new(),
            head: Counts::default(),
            tail: Counts::default(),
            on_abort: Counts::default(),
            on_end: Counts::default(),
            deadline: None,
            parsed: OnceLock::new(),
            schemas: Arc::default(),
            holding: false,
            ahead_ms: 0,
            flights: BTreeMap::new(),
            landed: BTreeMap::new(),
            budget: Budget::unlimited(),
            goes_on: false,
            gathered: None,
            tally: Tally::default(),
        };
        transaction.deadline = transaction.timeout().map(|timeout| transaction.began_at().plus(timeout));
        transaction.reindex();
        transaction
    }

    fn timeout(&self) -> Option<Duration> {
        self.state.began.timeout_ms.map(Duration::from_millis).or(self.plan.timeout)
    }

    /// Folds a journal, from its last snapshot on. Pure: `load` follows before the transaction is driven.
    #[allow(clippy::needless_pass_by_value, reason = "a journal is read to be folded, and its events move in")]
    pub fn replay(gid: Gid, plan: Arc<Plan>, records: Vec<Record>) -> Result<Self, Corrupt> {
        let snapshot = records.iter().rposition(|record| record.events.iter().any(|e| matches!(e, Event::Snapshot(_))));
        let mut transaction = None;
        for (seq, record) in (0..).zip(records) {
            if usize::try_from(seq).is_ok_and(|seq| snapshot.is_some_and(|snapshot| seq < snapshot)) {
                continue;
            }
            let corrupt = |reason| Corrupt { seq, reason };
            let mut record = record;
            if snapshot.is_some() && transaction.is_none() {
                let last = record.events.iter().rposition(|event| matches!(event, Event::Snapshot(_)));
                record.events.drain(..last.unwrap_or(0));
            }
            transaction = Some(Self::apply_record(transaction, &gid, &plan, record).map_err(corrupt)?);
        }
        transaction.ok_or_else(|| Corrupt { seq: 0, reason: "the journal is empty".to_owned() })
    }

    fn apply_record(so_far: Option<Self>, gid: &Gid, plan: &Arc<Plan>, record: Record) -> Result<Self, String> {
        let at = Timestamp(record.at);
        let mut transaction = so_far;
        for event in record.events {
            match (&mut transaction, event) {
                (None, Event::Began(began)) => {
                    transaction = Some(Self::new(gid.clone(), Arc::clone(plan), *began, at));
                }
                (_, Event::Snapshot(state)) => {
                    let layout = state.fits(plan)?;
                    transaction = Some(Self::of(gid.clone(), *state, Arc::clone(plan), layout));
                }
                (None, _) => return Err("the journal does not start with its begin".to_owned()),
                (Some(transaction), event) => transaction.apply(&event, at)?,
            }
        }
        let mut transaction = transaction.ok_or("a record without events")?;
        transaction.state.records += 1;
        Ok(transaction)
    }

    /// What the decisions to come may take, until the next call of this. Without one they take what they need.
    ///
    /// A decision that meets its end stops there: what it came to so far is its events, and `Input::Tick` goes on.
    pub fn allow(&mut self, budget: Budget) {
        self.budget = budget;
    }

    /// What is left of it.
    #[must_use]
    pub const fn budget(&self) -> &Budget {
        &self.budget
    }

    /// The last decision stopped at the end of its budget, and more follows from the state.
    #[must_use]
    pub const fn goes_on(&self) -> bool {
        self.goes_on
    }

    /// What a new holder does after `replay` and before the first `owed`: recorded delays are counted from now at most,
    /// and a broken continuity is recorded (`Adopted`). To be appended, if `record`, before anything is driven.
    pub fn load(&mut self, continuity: Continuity, now: Timestamp) -> Decided {
        self.holding = true;
        self.clamp(now);
        let mut out = Decided::default();
        if continuity == Continuity::Broken && self.state.settled.is_none() && self.may_be_called() {
            self.emit(&mut out, Event::Adopted, now);
        }
        self.consequence(&mut out, now);
        out
    }

    /// After a reload by the node that holds the transaction (another node's command changed it): keeps what `held` knew of
    /// calls in flight and of minor attempts. Instead of `load`; what follows from it is to be appended, if `record`.
    ///
    /// Of answers that `held` decided and could not append it keeps nothing: whoever decides them again says
    /// with `unanswered` that they are in flight before it calls this.
    pub fn inherit(&mut self, held: &Self, now: Timestamp) -> Decided {
        self.holding = true;
        self.flights.clone_from(&held.flights);
        self.flights.retain(|(branch, _), _| *branch < self.state.branches.len());
        for branch in 0..self.state.branches.len() {
            for slot in Slot::ALL {
                if let Some(known) = held.slot_state(branch, slot) {
                    self.touch(branch, slot, |op| op.learn(known));
                }
            }
            self.reindex_branch(branch);
        }
        self.clamp(now);
        let mut out = Decided::default();
        self.consequence(&mut out, now);
        out
    }

    /// The calls to make now: owed, due and not in flight. Costs what it returns.
    #[must_use]
    pub fn owed(&self, now: Timestamp) -> Vec<Call> {
        if self.state.settled.is_some() || self.state.deadline == Deadline::Paused {
            return Vec::new();
        }
        let due = self.wakes.range(..(now.0.saturating_add(1), 0, Slot::Forward));
        due.filter_map(|(_, branch, slot)| {
            let op = self.slot_state(*branch, *slot)?;
            let operation = self.operation(*branch, *slot)?;
            let call = |attempt, ask| Call { branch: *branch, operation: operation.kind, attempt, ask };
            match op.status {
                OperationStatus::Owed => Some(call(op.attempts.saturating_add(1), op.asking)),
                OperationStatus::Pending => {
                    let polls = operation.pending.as_ref().is_some_and(|pending| pending.poll.is_some());
                    let asks = polls && now.0 < op.pending_until && !self.flights.contains_key(&(*branch, *slot));
                    asks.then(|| call(op.attempts.saturating_add(op.polls), true))
                }
                OperationStatus::Succeeded
                | OperationStatus::Refused
                | OperationStatus::Exhausted
                | OperationStatus::Skipped => None,
            }
        })
        .collect()
    }

    /// The call is on its way; `Input::Replied` (or `Unrenderable`) takes it back.
    pub fn sent(&mut self, call: Call, now: Timestamp) {
        let Some(slot) = Slot::of(call.operation) else { return };
        self.landed.remove(&(call.branch, slot));
        let pending = self.slot_state(call.branch, slot).is_some_and(|op| op.status == OperationStatus::Pending);
        self.flights.insert((call.branch, slot), Flight { call, since: now, poll: call.ask && pending });
        self.reindex_branch(call.branch);
    }

    /// A time of day that an expression gives is compared with `now` and this much. All else is a duration, which no clock
    /// that is set may change, so `now` need not be the time of day.
    pub fn set_ahead(&mut self, ahead_ms: i64) {
        self.ahead_ms = ahead_ms;
    }

    /// The call was never sent, and is owed as if it had not been tried.
    pub fn withheld(&mut self, call: Call) {
        let Some(slot) = Slot::of(call.operation) else { return };
        if self.flights.get(&(call.branch, slot)).is_some_and(|flight| flight.call == call) {
            self.flights.remove(&(call.branch, slot));
            self.reindex_branch(call.branch);
        }
    }

    /// The call's answer was decided in vain (its append lost against another node's) and will be decided again: until
    /// then the call counts as in flight, since when it was.
    pub fn unanswered(&mut self, call: Call) {
        let landed = Slot::of(call.operation).and_then(|slot| self.landed.remove_entry(&(call.branch, slot)));
        if let Some((key, flight)) = landed.filter(|(_, flight)| flight.call == call) {
            self.flights.insert(key, flight);
            self.reindex_branch(call.branch);
        }
    }

    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// When `owed` or `Input::Tick` next has something to do; `None`: only a reply or a command moves it.
    #[must_use]
    pub fn next_wake(&self) -> Option<Timestamp> {
        if self.state.settled.is_some() {
            return None;
        }
        let call = if self.state.deadline == Deadline::Paused {
            // Nothing is asked while it is paused.
            let pending = self.wakes.iter().filter_map(|(due, branch, slot)| {
                let op = self.slot_state(*branch, *slot).filter(|op| op.status == OperationStatus::Pending)?;
                Some(Timestamp(if self.polls(*branch, *slot) { op.pending_until } else { *due }))
            });
            pending.min()
        } else {
            self.earliest().map(Timestamp)
        };
        if self.goes_on {
            return Some(Timestamp(self.state.updated_at));
        }
        let timer = self.timers.first().map(|(due, _)| Timestamp(*due));
        [call, timer, self.deadline_ahead()].into_iter().flatten().min()
    }

    fn deadline_ahead(&self) -> Option<Timestamp> {
        let undecided = self.state.decision.is_none() && self.state.settled.is_none();
        let ahead = undecided && self.state.deadline == Deadline::Ahead;
        self.deadline.filter(|_| ahead)
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
        &self.state.began
    }

    #[must_use]
    pub fn began_at(&self) -> Timestamp {
        Timestamp(self.state.began_at)
    }

    #[must_use]
    pub fn status(&self) -> Status {
        match (&self.state.settled, self.state.suspended, self.state.decision) {
            (Some(settled), ..) => settled.status,
            (None, true, _) => Status::Suspended,
            (None, false, None) => Status::Running,
            (None, false, Some(Decision::Commit)) => Status::Confirming,
            (None, false, Some(Decision::Abort)) => Status::Compensating,
        }
    }

    #[must_use]
    pub fn decision(&self) -> Option<Decision> {
        self.state.decision
    }

    #[must_use]
    pub fn settled_at(&self) -> Option<Timestamp> {
        self.state.settled.as_ref().map(|settled| Timestamp(settled.at))
    }

    #[must_use]
    pub fn branch_count(&self) -> usize {
        self.state.branches.len()
    }

    /// The branch as it was planned or enlisted.
    #[must_use]
    pub fn branch(&self, branch: usize) -> &Branch {
        self.spec(branch)
    }

    #[must_use]
    pub fn branch_status(&self, branch: usize) -> BranchStatus {
        self.state.branches[branch].status
    }

    /// The digest an enlisted branch was sent with.
    #[must_use]
    pub fn enlisted_digest(&self, branch: usize) -> Option<&str> {
        let index = branch.checked_sub(self.plan.branches.len())?;
        self.state.enlisted.get(index).map(|enlistment| enlistment.digest.as_str())
    }

    /// Enough records since the last snapshot for a new one. A snapshot is as long as there are branches, so with many of
    /// them it comes more seldom: the journal stays linear in what happened.
    #[must_use]
    pub fn snapshot_due(&self) -> bool {
        let every = limit::SNAPSHOT_EVERY.max(self.state.branches.len() as u64);
        self.state.records >= every && self.state.settled.is_none()
    }

    /// The state as it stands, to be appended with what led to it.
    #[must_use]
    pub fn snapshot(&mut self) -> Event {
        self.state.records = 1;
        Event::Snapshot(Box::new(self.state_for_snapshot()))
    }
}
