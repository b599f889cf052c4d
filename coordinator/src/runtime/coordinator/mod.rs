//! The coordinator as the API sees it.
//!
//! What a task of this node holds is asked there; all else is read from the database, and commands to it are decided here
//! and appended past the owner, who learns of them by the mark that such an append leaves.

mod life;
mod registry;

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use skald_engine::{Budget, Command, Event, Input, Plan, Record, Request, Transaction, limit, transaction::Continuity};
use skald_protocol::{
    BranchId, ErrorView, Gid, OperationKind, PublicEvent, Status, TransactionSummary, TransactionView,
};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
    time::{sleep, timeout},
};

use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    Audit, Begun, Dependencies, Error, Filter, NewTransaction, Options, RETRY_AFTER, Shared, Until,
    active::{SHOWN, dry_run, is_satisfied},
    clock::Moment,
    inbox::{Refusal, Responder, TaskRequest, Work},
    load::{self, Found, LoadError, Plans, Replayed, guarded},
    membership::{Drain, Membership},
    session::NodeSession,
};
use crate::{
    dispatch::{Withheld, token::CallbackTokens},
    journal::{AppendOutcome, Claim, Closed},
    store::{self, Append, Damage, Row},
};

/// Of a write that was withdrawn.
const NOT_TAKEN: &str = "the database did not take it in time, so it was withdrawn and will not be made: send it again";
/// How often a command to a transaction held elsewhere is decided anew because something else came first.
const OVERTAKEN: usize = 32;
/// How long a list waits for the rows of what this node reported.
const PROJECTED_WITHIN: Duration = Duration::from_millis(500);
/// Between two looks at a transaction that is not held here.
const POLL: Duration = Duration::from_millis(50);
const POLL_MAX: Duration = Duration::from_secs(1);

/// Cheap to clone. Once the last clone is dropped all stops where it stands, as in a crash; `drain` comes before where
/// that matters.
#[derive(Clone)]
pub struct Coordinator {
    inner: Arc<Inner>,
    _alive: Arc<DropGuard>,
}

struct Inner {
    shared: Arc<Shared>,
    /// `None`: between two tenures.
    current: watch::Sender<Option<Arc<NodeSession>>>,
    drains: mpsc::Sender<Drain>,
    callback_tokens: Arc<CallbackTokens>,
    draining: AtomicBool,
    damage: watch::Receiver<Damage>,
}

impl Coordinator {
    /// Joins the other nodes and starts to serve; returns once joined.
    pub async fn start(foundation: Dependencies, options: Options) -> Result<Self, Error> {
        options.validate().map_err(|faults| Error::Store(store::Error::Misconfigured(faults)))?;
        let Dependencies { store, membership, dispatcher, callback_tokens, metrics, spans } = foundation;
        let (threads, plans) = (Handle::current(), Plans::default());
        let shared = Arc::new(Shared { store, membership, threads, dispatcher, metrics, spans, options, plans });
        let keeper =
            shared.membership.as_ref().map_or(&shared.threads, |membership| membership.thread.handle()).clone();
        let (drains, drained) = mpsc::channel(1);
        let inner = Arc::new(Inner {
            shared: Arc::clone(&shared),
            current: watch::Sender::new(None),
            drains,
            callback_tokens,
            draining: AtomicBool::new(false),
            damage: shared.store.damage(),
        });
        let timeline = shared.members().timeline().await;
        let asked = Moment::now();
        let joined = shared.store.join(&shared.options.address, shared.options.lease).await.map_err(Error::Store)?;
        let stop = CancellationToken::new();
        let membership = Membership::open(Arc::clone(&shared), &joined, asked, stop.child_token());
        inner.current.send_replace(Some(membership.session()));
        inner.observe();
        let live = Arc::clone(&inner).live(membership, timeline, drained, stop.clone());
        keeper.spawn(stop.clone().run_until_cancelled_owned(live));
        tokio::spawn(stop.clone().run_until_cancelled_owned(Arc::clone(&inner).retain()));
        Ok(Self { inner, _alive: Arc::new(stop.drop_guard()) })
    }

    /// Durable before it returns.
    pub async fn begin(&self, mut new: NewTransaction) -> Result<Begun, Error> {
        let gid = match new.gid.take() {
            Some(gid) => gid,
            None => Gid::new(uuid::Uuid::now_v7().hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()))
                .map_err(|invalid| Error::not_ready(&invalid.to_string()))?,
        };
        // A trace that starts here is only told to participants as sampled where its spans are exported.
        new.trace.sampled &= new.trace.parent_span_id.is_some() || self.inner.shared.spans.is_on();
        let digest = new.request_digest;
        let asked = |claim| self.request(&gid, |responder| Work::Begin(Box::new(new), claim, responder), Changes::Yes);
        if let Some(begun) = self.written(&gid, asked).await? {
            return Ok(begun);
        }
        // The gid is taken by what is not in memory here.
        match self.stored(&gid, &digest).await? {
            Some(view) => Ok(Begun::Existing(Box::new(view))),
            None => Err(Error::not_ready("what had this gid is just being removed")),
        }
    }

    /// What a begin with this gid and digest meets: `Ok(None)` if the gid is free.
    pub async fn existing(&self, gid: &Gid, request_digest: &[u8; 32]) -> Result<Option<TransactionView>, Error> {
        match self.asked_to_show(gid, |responder| Work::Compare(*request_digest, responder)).await? {
            Some(view) => Ok(Some(view)),
            None => self.stored(gid, request_digest).await,
        }
    }

    async fn stored(&self, gid: &Gid, request_digest: &[u8; 32]) -> Result<Option<TransactionView>, Error> {
        let found = self.load(gid).await?;
        let row = match &found {
            Found::Missing => return Ok(None),
            Found::Here(replayed) => &replayed.row,
            Found::Expired(row) | Found::Quarantined(row) | Found::Newer(row) | Found::Corrupt(row, _) => row,
        };
        if row.request_digest == *request_digest {
            self.show(gid, found, 0..SHOWN).map(Some)
        } else {
            Err(Error::GidConflict(gid.clone()))
        }
    }

    /// Durable before it returns; the transaction as it stands then.
    pub async fn command(&self, gid: &Gid, command: Command) -> Result<TransactionView, Error> {
        self.written(gid, |claim| self.decided(gid, command, claim)).await
    }

    async fn decided(&self, gid: &Gid, command: Command, claim: Claim) -> Result<TransactionView, Error> {
        match self
            .request(gid, |responder| Work::Command(command.clone(), claim.clone(), responder), Changes::Yes)
            .await?
        {
            Some(view) => Ok(view),
            None => self.foreign_command(gid, command, claim).await,
        }
    }

    /// A command to a transaction that this node does not hold.
    async fn foreign_command(&self, gid: &Gid, command: Command, claim: Claim) -> Result<TransactionView, Error> {
        for _ in 0..OVERTAKEN {
            let session = self.session()?;
            let now = session.clock.now();
            let Replayed { mut tx, next_seq, bytes: _, row } = match self.load(gid).await? {
                Found::Here(replayed) => *replayed,
                Found::Quarantined(_) if command.fails() => {
                    self.inner.shared.store.fail_quarantined(gid, now).await.map_err(unreachable)?;
                    return self.get(gid, 0..0).await;
                }
                found @ (Found::Missing
                | Found::Expired(_)
                | Found::Quarantined(_)
                | Found::Newer(_)
                | Found::Corrupt(..)) => {
                    return Err(self.why_not(gid, found));
                }
            };
            // What a command sets off is its owner's to evaluate.
            tx.allow(Budget::of(0));
            tx.set_ahead(session.clock.ahead_ms());
            let decided = guarded("the transaction", || tx.decide(Input::Command(command.clone()), now))
                .map_err(|_| Error::Quarantined(gid.clone()))??;
            if decided.record {
                let append = foreign(gid, next_seq, decided.events, now);
                match session.journal.append(append, claim.clone()).await.map_err(|Closed| self.lost_place())? {
                    AppendOutcome::Durable => {}
                    AppendOutcome::Conflict => continue,
                    // Whoever withdrew it is not there to be told.
                    AppendOutcome::Withdrawn => return Err(Error::not_ready(NOT_TAKEN)),
                    AppendOutcome::Refused => {
                        return Err(Error::Store(store::Error::Refused("the command was not stored".to_owned())));
                    }
                }
            }
            tracing::debug!(%gid, shard = row.shard, "a command was decided here for a transaction that another node drives");
            return Ok(tx.view(0..SHOWN));
        }
        Err(Error::not_ready("the transaction moves too fast to be reached"))
    }

    /// What the command would call, were it taken now; nothing changes.
    pub async fn dry_run(&self, gid: &Gid, command: Command) -> Result<Vec<Request>, Error> {
        if let Some(requests) = self.asked_to_show(gid, |responder| Work::DryRun(command.clone(), responder)).await? {
            return Ok(requests);
        }
        match self.load(gid).await? {
            Found::Here(mut replayed) => {
                let now = self.session()?.clock.now();
                let dry_run = tokio::task::spawn_blocking(move || {
                    replayed.tx.allow(Budget::of(limit::EVALUATED));
                    let _ = replayed.tx.load(Continuity::Broken, now);
                    dry_run(replayed.tx, command, now)
                });
                dry_run.await.unwrap_or_else(|_| Err(Error::Quarantined(gid.clone())))
            }
            found @ (Found::Missing
            | Found::Expired(_)
            | Found::Quarantined(_)
            | Found::Newer(_)
            | Found::Corrupt(..)) => Err(self.why_not(gid, found)),
        }
    }

    /// `branches`: the page of branches to show.
    pub async fn get(&self, gid: &Gid, branches: Range<usize>) -> Result<TransactionView, Error> {
        match self.asked_to_show(gid, |responder| Work::View(branches.clone(), responder)).await? {
            Some(view) => Ok(view),
            None => {
                let found = self.load(gid).await?;
                self.show(gid, found, branches)
            }
        }
    }

    /// The plan, and what became of it as recorded.
    pub async fn planned(&self, gid: &Gid) -> Result<(Arc<Plan>, TransactionView), Error> {
        match self.load(gid).await? {
            Found::Here(replayed) => {
                Ok((Arc::clone(replayed.tx.plan()), replayed.tx.view(0..replayed.tx.branch_count())))
            }
            found @ (Found::Missing
            | Found::Expired(_)
            | Found::Quarantined(_)
            | Found::Newer(_)
            | Found::Corrupt(..)) => Err(self.why_not(gid, found)),
        }
    }

    /// Returns when `until` is met or the time is over, whichever comes first.
    pub async fn wait(&self, gid: &Gid, until: Until, within: Duration) -> Result<TransactionView, Error> {
        match timeout(within, self.wait_for(gid, &until)).await {
            Ok(view) => view,
            Err(_) => self.get(gid, 0..SHOWN).await,
        }
    }

    async fn wait_for(&self, gid: &Gid, until: &Until) -> Result<TransactionView, Error> {
        let mut pause = POLL;
        loop {
            if let Some(view) = self.request(gid, |responder| Work::Wait(until.clone(), responder), Changes::No).await?
            {
                return Ok(view);
            }
            match self.load(gid).await? {
                Found::Here(replayed) if !is_satisfied(&replayed.tx, until) => {}
                found @ (Found::Here(_)
                | Found::Missing
                | Found::Expired(_)
                | Found::Quarantined(_)
                | Found::Newer(_)
                | Found::Corrupt(..)) => {
                    return self.show(gid, found, 0..SHOWN);
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(POLL_MAX);
        }
    }

    /// The public events after `after` (`<seq>.<index>`), as recorded so far.
    pub async fn events(&self, gid: &Gid, after: Option<(u64, usize)>) -> Result<Vec<PublicEvent>, Error> {
        let shared = &self.inner.shared;
        let mut loaded = shared.store.load(std::slice::from_ref(gid)).await.map_err(unreachable)?;
        let loaded = loaded.pop().ok_or_else(|| Error::UnknownGid(gid.clone()))?;
        if loaded.row.expired {
            return Err(Error::Expired { gid: gid.clone(), status: loaded.row.status });
        }
        if loaded.row.quarantined.is_some() {
            return Err(Error::Quarantined(gid.clone()));
        }
        let published = match load::plan_of(&shared.plans, &*shared.store, &loaded.row).await {
            Ok(plan) => {
                let (gid, bytes) = (gid.clone(), load::bytes(&loaded.records));
                load::unhurried(bytes, move || {
                    let records = load::decode(&loaded.records)?;
                    guarded("publish", || Transaction::publish(&gid, &plan, &records))
                        .map_err(LoadError::Corrupt)?
                        .map_err(|corrupt| LoadError::Corrupt(corrupt.to_string()))
                })
                .await
            }
            Err(fault) => Err(fault),
        };
        match published {
            Ok(mut events) => {
                if let Some(after) = after {
                    events.retain(|event| place(&event.id).is_none_or(|place| place > after));
                }
                Ok(events)
            }
            Err(LoadError::Newer) => Err(Error::not_ready("the transaction was written by a newer build")),
            Err(LoadError::Corrupt(reason)) => {
                shared.quarantine(gid.clone(), reason);
                Err(Error::Quarantined(gid.clone()))
            }
            Err(LoadError::Store(error)) => Err(unreachable(error)),
        }
    }

    /// Resolves when something of the transaction may have been recorded since the call (not since the first poll), or
    /// after a second or so.
    pub fn changed(&self, gid: &Gid) -> impl Future<Output = ()> + Send + use<> {
        let (responder, changed) = oneshot::channel();
        let since = Instant::now();
        let work = Work::Change(since, responder);
        let asked = self.session().is_ok_and(|session| session.submit(TaskRequest { gid: gid.clone(), work }).is_ok());
        async move {
            // Nobody would notify: it is not in memory here.
            if !asked || !matches!(timeout(POLL_MAX, changed).await, Ok(Ok(()))) {
                sleep((10 * POLL).saturating_sub(since.elapsed())).await;
            }
        }
    }

    /// Shows at least what this node has reported of its transactions so far, unless the database is slow.
    pub async fn list(&self, filter: &Filter) -> Result<Vec<TransactionSummary>, Error> {
        if let Ok(session) = self.session() {
            let _ = timeout(PROJECTED_WITHIN, session.journal.project()).await;
        }
        self.inner.shared.store.list(filter).await.map_err(unreachable)
    }

    /// Keeps an operator's command for those who ask later.
    pub async fn audit(&self, entry: &Audit) -> Result<(), Error> {
        self.stored_within(self.inner.shared.store.audit(entry)).await
    }

    /// The secrets that a plan names for places where this server does not let them go.
    #[must_use]
    pub fn withheld_secrets<'a>(&self, plan: &'a Plan) -> Vec<Withheld<'a>> {
        self.inner.shared.dispatcher.withheld_secrets(plan)
    }

    /// The operation that a callback's token stands for; `None`: no token of this system.
    #[must_use]
    pub fn callback_target(&self, token: &str) -> Option<(Gid, BranchId, OperationKind)> {
        self.inner.callback_tokens.read(token)
    }

    /// A begin sent now would be taken: the journal takes writes, the database is reachable, its schema current, shards are
    /// held, and the node is not draining.
    pub async fn ready(&self) -> Result<(), Error> {
        if self.inner.draining.load(Ordering::Acquire) {
            return Err(Error::not_ready("draining"));
        }
        let session = self.session()?;
        if !session.clock.may_send() {
            return Err(Error::not_ready("the lease has run out"));
        }
        if session.owned().is_empty() {
            return Err(Error::not_ready("this node holds no shards yet"));
        }
        session.journal.check().map_err(|stalled| Error::not_ready(&stalled.to_string()))?;
        self.inner.shared.store.ready().await.map_err(unreachable)
    }

    /// Takes no more work, waits for calls in flight, writes what is left, hands the shards over and leaves. Reads still
    /// answer; nothing else does afterwards.
    pub async fn drain(&self, within: Duration) {
        self.inner.draining.store(true, Ordering::Release);
        let (done, drained) = oneshot::channel();
        if self.inner.drains.send(Drain { within, done }).await.is_ok() {
            let _ = drained.await;
        }
    }

    fn session(&self) -> Result<Arc<NodeSession>, Error> {
        self.inner.current.borrow().clone().ok_or_else(|| self.without("the database is out of reach"))
    }

    fn lost_place(&self) -> Error {
        self.without("this node lost its place; the request may have been taken")
    }

    /// A session, and why.
    fn without(&self, reason: &str) -> Error {
        self.inner.damage.borrow().clone().map_or_else(|| Error::not_ready(reason), Error::Damaged)
    }

    /// A write, unless none would be taken now. What was not handed to the database when its time is over, or when nobody
    /// waits for it any more, is withdrawn: it is never made.
    async fn written<T, F>(&self, gid: &Gid, write: impl FnOnce(Claim) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        self.check_journal()?;
        let waited = self.inner.shared.options.commit_timeout;
        let caller = Caller(Claim::default());
        match timeout(waited, write(caller.0.clone())).await {
            Ok(written) => written,
            Err(_) if caller.0.withdraw() => Err(Error::not_ready(NOT_TAKEN)),
            Err(_) => Err(Error::Unknown { gid: gid.clone(), waited, retry_after: RETRY_AFTER }),
        }
    }

    /// What goes to the database past the journal, no longer than a commit may take.
    async fn stored_within<T>(&self, store: impl Future<Output = Result<T, store::Error>>) -> Result<T, Error> {
        self.check_journal()?;
        let stored = timeout(self.inner.shared.options.commit_timeout, store).await;
        stored.map_or_else(
            |_| Err(Error::not_ready("the database may still take it: send the same again")),
            |stored| stored.map_err(unreachable),
        )
    }

    fn check_journal(&self) -> Result<(), Error> {
        self.session()?.journal.check().map_err(|stalled| Error::not_ready(&stalled.to_string()))
    }

    /// What is being written of a transaction is not shown before it is durable: that is not waited for without end.
    async fn asked_to_show<T>(&self, gid: &Gid, work: impl FnOnce(Responder<T>) -> Work) -> Result<Option<T>, Error> {
        let asked = timeout(self.inner.shared.options.commit_timeout, self.request(gid, work, Changes::No));
        let reason = "the database has not taken yet what was last decided of the transaction";
        asked.await.unwrap_or_else(|_| Err(Error::not_ready(reason)))
    }

    /// Asks the task that would hold the transaction; `None`: it does not.
    async fn request<T>(
        &self,
        gid: &Gid,
        work: impl FnOnce(Responder<T>) -> Work,
        changes: Changes,
    ) -> Result<Option<T>, Error> {
        let session = match changes {
            Changes::Yes if self.inner.draining.load(Ordering::Acquire) => return Err(Error::not_ready("draining")),
            Changes::Yes => self.session()?,
            Changes::No => match self.session() {
                Ok(session) => session,
                Err(_) => return Ok(None),
            },
        };
        let (responder, answered) = oneshot::channel();
        if session.submit(TaskRequest { gid: gid.clone(), work: work(responder) }).is_err() {
            return Err(Error::Overloaded { retry_after: RETRY_AFTER });
        }
        match (answered.await, changes) {
            (Ok(Ok(responder)), _) => Ok(Some(responder)),
            (Ok(Err(Refusal::NotHeld)), _) => Ok(None),
            (Ok(Err(Refusal::Failed(error))), _) => Err(error),
            // The session ended: what became of a change is not known, a read goes to the database.
            (Err(_), Changes::Yes) => Err(self.lost_place()),
            (Err(_), Changes::No) => Ok(None),
        }
    }

    async fn load(&self, gid: &Gid) -> Result<Found, Error> {
        let shared = &self.inner.shared;
        load::load_one(&shared.plans, &*shared.store, gid).await.map_err(unreachable)
    }

    fn show(&self, gid: &Gid, found: Found, branches: Range<usize>) -> Result<TransactionView, Error> {
        match found {
            Found::Here(replayed) => {
                let end = branches.end.min(replayed.tx.branch_count());
                Ok(replayed.tx.view(branches.start.min(end)..end))
            }
            Found::Quarantined(row) => Ok(set_aside(row)),
            found @ (Found::Missing | Found::Expired(_) | Found::Newer(_) | Found::Corrupt(..)) => {
                Err(self.why_not(gid, found))
            }
        }
    }

    fn why_not(&self, gid: &Gid, found: Found) -> Error {
        match found {
            Found::Missing => Error::UnknownGid(gid.clone()),
            Found::Expired(row) => Error::Expired { gid: gid.clone(), status: row.status },
            Found::Newer(_) => Error::not_ready("the transaction was written by a newer build"),
            Found::Corrupt(_, reason) => {
                self.inner.shared.quarantine(gid.clone(), reason);
                Error::Quarantined(gid.clone())
            }
            Found::Quarantined(_) | Found::Here(_) => Error::Quarantined(gid.clone()),
        }
    }
}

/// Of a write that its caller, or its connection, no longer waits for.
struct Caller(Claim);

impl Drop for Caller {
    fn drop(&mut self) {
        let _ = self.0.withdraw();
    }
}

/// Whether a request may change the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Changes {
    Yes,
    No,
}

fn foreign(gid: &Gid, seq: u64, events: Vec<Event>, now: skald_protocol::Timestamp) -> Append {
    Append { gid: gid.clone(), seq, record: Record::new(now, events).encode(), begin: None, foreign: true }
}

/// All that is known of a quarantined transaction is its row.
fn set_aside(row: Row) -> TransactionView {
    let settled = row.settled_at.filter(|_| row.status.is_final());
    TransactionView {
        gid: row.gid,
        status: if settled.is_some() { row.status } else { Status::Suspended },
        decision: None,
        cancel_requested: false,
        workflow: row.workflow,
        digest: hex::encode(row.plan),
        input: None,
        output: None,
        error: Some(ErrorView { step: None, code: "quarantined".to_owned(), message: row.quarantined }),
        labels: row.labels,
        created_at: row.created_at,
        updated_at: settled.unwrap_or(row.created_at),
        settled_at: settled,
        deadline: None,
        next_wake_at: None,
        trace_id: None,
        branches: Vec::new(),
        branches_next_cursor: None,
    }
}

/// `<seq>.<index>`.
fn place(id: &str) -> Option<(u64, usize)> {
    let (seq, index) = id.split_once('.')?;
    Some((seq.parse().ok()?, index.parse().ok()?))
}

fn unreachable(error: store::Error) -> Error {
    match error {
        store::Error::Unavailable(_) | store::Error::Deposed => Error::not_ready(&error.to_string()),
        store::Error::Damaged(told) => Error::Damaged(told),
        store::Error::Refused(_) | store::Error::Misconfigured(_) => Error::Store(error),
    }
}
