//! All that a held transaction may reach: where its appends, projections, calls and wakes go.
//!
//! It is kept apart from the transactions themselves, so that one of them can be worked on while it gives to this.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use quick_cache::unsync::Cache;
use skald_engine::{Plan, Transaction};
use skald_protocol::{Gid, Json, Timestamp};
use tokio::sync::mpsc;

use super::{Error, PreparedPlan, Shared, clock::Clock, inbox::Completion, timer::Timers, turn::Turn};
use crate::{
    dispatch::Dispatcher,
    journal::PendingAppend,
    store::{NodeId, Projection, Shard},
};

/// A plan that was stored longer ago is stored once more, so that retention sees that it is used.
const KNOWN_FOR: Duration = Duration::from_secs(12 * 3600);
/// Digests that a task remembers as stored; those longest unused make room, and are then stored once more.
const KNOWN_PLANS: usize = 4096;

/// A shard as this task sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owned {
    epoch: i64,
    pub(super) leaving: bool,
}

pub(super) struct TaskContext {
    shared: Arc<Shared>,
    node: NodeId,
    pub(super) clock: Arc<Clock>,
    pub(super) dispatcher: Dispatcher,
    places: mpsc::Sender<Completion>,
    /// Of this turn.
    pub(super) now: Timestamp,
    pub(super) entries: Vec<PendingAppend>,
    pub(super) projections: Vec<Projection>,
    /// Those with something to decide.
    pub(super) ready: VecDeque<Gid>,
    /// Those that have their turns by themselves.
    pub(super) heavy: VecDeque<(Gid, u64)>,
    pub(super) turn: Turn,
    /// Those that owe a call for whose answer there was no place.
    pub(super) awaiting_permit: VecDeque<(Gid, u64)>,
    pub(super) timers: Timers,
    /// Settled ones, and when they leave memory.
    pub(super) retiring: VecDeque<(Timestamp, Gid, u64)>,
    pub(super) shards: HashMap<i32, Owned>,
    /// Where begins go, in turn.
    begin_on: Vec<i32>,
    begins: usize,
    /// Calls may go out.
    pub(super) driving: bool,
    known_plans: Cache<[u8; 32], (Arc<Plan>, Instant)>,
    pub(super) park_beyond: Duration,
    pub(super) linger: Duration,
    pub(super) lookahead: Duration,
}

impl TaskContext {
    pub(super) fn new(shared: Arc<Shared>, node: NodeId, clock: Arc<Clock>, places: mpsc::Sender<Completion>) -> Self {
        let options = &shared.options;
        Self {
            node,
            clock,
            dispatcher: shared.dispatcher.clone(),
            places,
            now: Timestamp::default(),
            entries: Vec::new(),
            projections: Vec::new(),
            ready: VecDeque::new(),
            heavy: VecDeque::new(),
            turn: Turn::shared(),
            awaiting_permit: VecDeque::new(),
            timers: Timers::default(),
            retiring: VecDeque::new(),
            shards: HashMap::new(),
            begin_on: Vec::new(),
            begins: 0,
            driving: true,
            known_plans: Cache::new(KNOWN_PLANS),
            park_beyond: options.park_beyond,
            linger: options.linger,
            lookahead: options.lookahead(),
            shared,
        }
    }

    pub(super) fn own(&mut self, shards: &[Shard]) {
        for shard in shards {
            self.shards.insert(shard.id, Owned { epoch: shard.epoch, leaving: false });
        }
        self.spread();
    }

    pub(super) fn leave(&mut self, shards: &[i32]) {
        for shard in shards {
            if let Some(owned) = self.shards.get_mut(shard) {
                owned.leaving = true;
            }
        }
        self.spread();
    }

    pub(super) fn lose(&mut self, shards: &[i32]) {
        self.shards.retain(|shard, _| !shards.contains(shard));
        self.spread();
    }

    fn spread(&mut self) {
        self.begin_on = self.shards.iter().filter(|(_, owned)| !owned.leaving).map(|(shard, _)| *shard).collect();
        self.begin_on.sort_unstable();
    }

    /// The shard of the next begin.
    pub(super) fn shard_for_begin(&mut self) -> Option<i32> {
        self.begins = self.begins.wrapping_add(1);
        self.begin_on.get(self.begins.checked_rem(self.begin_on.len())?).copied()
    }

    pub(super) fn holds(&self, shard: i32) -> bool {
        self.shards.get(&shard).is_some_and(|owned| !owned.leaving)
    }

    pub(super) fn drives(&self, shard: i32) -> bool {
        self.driving && self.holds(shard)
    }

    /// What a row says that this node parked in this session of its shard.
    pub(super) fn parked_by(&self, shard: i32) -> Option<(NodeId, i64)> {
        self.shards.get(&shard).map(|owned| (self.node, owned.epoch))
    }

    /// A place for a call's answer.
    pub(super) fn place(&self) -> Option<mpsc::OwnedPermit<Completion>> {
        self.places.clone().try_reserve_owned().ok()
    }

    /// One value for all transactions of the same plan.
    pub(super) fn plan(&self, prepared: &PreparedPlan) -> Arc<Plan> {
        Arc::clone(self.known_plans.get(&prepared.digest).map_or(&prepared.plan, |(plan, _)| plan))
    }

    /// What a transaction of this plan keeps of the configuration.
    pub(super) fn config(&self, plan: &Plan) -> Option<Json> {
        self.shared.options.config.clone().filter(|_| plan.reads_config)
    }

    pub(super) fn knows(&self, plan: &[u8; 32]) -> bool {
        self.known_plans.get(plan).is_some_and(|(_, stored)| stored.elapsed() < KNOWN_FOR)
    }

    /// A begin is durable, and with it its plan.
    pub(super) fn begun(&mut self, prepared: &PreparedPlan, tx: &Transaction) {
        self.shared.metrics.begun();
        self.shared.spans.began(tx.gid(), &tx.began().trace, tx.plan().workflow.as_ref(), tx.began_at());
        if !self.knows(&prepared.digest) {
            self.known_plans.insert(prepared.digest, (self.plan(prepared), Instant::now()));
            self.shared.plans.keep(prepared.digest, Arc::clone(&prepared.plan));
        }
    }

    pub(super) fn settled(&self, tx: &Transaction, settled_at: Timestamp) {
        let (status, began_at) = (tx.status(), tx.began_at());
        self.shared.metrics.settled(status, began_at.until(settled_at));
        self.shared.spans.settled(tx.gid(), &tx.began().trace, status, began_at, settled_at);
    }

    pub(super) fn retire(&mut self, gid: &Gid, ticket: u64) {
        self.retiring.push_back((self.now.plus(self.shared.options.settled_grace), gid.clone(), ticket));
    }

    pub(super) fn overloaded(&self) -> Error {
        Error::Overloaded { retry_after: super::RETRY_AFTER }
    }
}
