//! Calls to participants over HTTP: one shared client, a total deadline per attempt, a queue per destination.
//!
//! A call that waits here for a free place at its destination is no attempt: its deadline runs from when it is sent.
//! Every call that was taken is answered exactly once, through the place in the caller's inbox that it came with, unless it
//! is withheld, by `drain` or because its `Permit` no longer holds: then it was no attempt, and its place is given back unused.

pub mod contract;
mod egress;
mod lanes;
mod permit;
mod secret;
mod service;
#[cfg(test)]
mod tests;
pub mod token;
mod transport;

use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use futures_util::FutureExt as _;
use skald_engine::{Call, Outcome, Plan, Reply, Request, TraceContext};
use skald_protocol::{Gid, Timestamp};
use tokio::sync::Notify;

use contract::{Contract, Native, Sending, Unsendable};
use lanes::Lanes;
use service::{Destination, Services};
use token::CallbackTokens;
use transport::{Failure, Transport, Unanswered};

pub use egress::EgressPolicy;
pub use permit::Permit;
pub use secret::Secrets;
pub use service::{ServiceSettings, Withheld};
pub use transport::install_tls;

/// A rendered call with all that travels beside it.
#[derive(Debug, Clone)]
pub struct Outgoing {
    pub gid: Gid,
    pub call: Call,
    pub request: Request,
    /// What the request's service is, unless the server's configuration says otherwise.
    pub plan: Arc<Plan>,
    pub trace: TraceContext,
    pub began_at: Timestamp,
    /// The contract's name of `Began`.
    pub contract: String,
    pub permit: Permit,
}

/// What comes back: the call, its answer, and how it went.
#[derive(Debug)]
pub struct Incoming {
    pub gid: Gid,
    pub call: Call,
    pub reply: Reply,
}

/// Where an answer goes. The place was reserved before the call was sent, so this neither waits nor fails.
pub trait ReplySlot: Send + 'static {
    fn put(self: Box<Self>, incoming: Incoming);
}

/// One attempt that was made, for those who watch.
#[derive(Debug)]
pub struct Attempt<'a> {
    pub outgoing: &'a Outgoing,
    pub started: SystemTime,
    pub took: Duration,
    /// Of the answer, where there was one.
    pub status: Option<u16>,
    pub reply: &'a Reply,
}

type Watch = Arc<dyn Fn(&Attempt<'_>) + Send + Sync>;

pub struct Options {
    /// What `Skald-Callback` starts with.
    pub public_url: String,
    /// Signs callback URLs.
    pub callback_tokens: Arc<CallbackTokens>,
    /// The server's own services by name; each may override a plan's.
    pub services: BTreeMap<String, ServiceSettings>,
    pub secrets: Secrets,
    pub egress: EgressPolicy,
    /// Calls in flight to one scheme, host and port; a service's `max_concurrency` goes before it.
    pub per_destination: usize,
    /// Calls in flight altogether: each may hold a connection.
    pub total: usize,
    pub connect_timeout: Duration,
    /// PEM certificates trusted beside the system's.
    pub extra_roots: Option<PathBuf>,
    /// Further contracts beside `native`.
    pub contracts: BTreeMap<String, Arc<dyn Contract>>,
    /// Sees every attempt after it was answered, before the answer is put.
    pub watch: Option<Watch>,
}

/// Calls under way at once to one destination, and altogether, where nothing else is set.
pub const PER_DESTINATION: usize = 256;
pub const CALLS: usize = 2_048;

impl Options {
    #[must_use]
    pub fn new(public_url: impl Into<String>, callback_tokens: Arc<CallbackTokens>) -> Self {
        Self {
            public_url: public_url.into(),
            callback_tokens,
            services: BTreeMap::new(),
            secrets: Secrets::default(),
            egress: EgressPolicy::default(),
            per_destination: PER_DESTINATION,
            total: CALLS,
            connect_timeout: Duration::from_secs(5),
            extra_roots: None,
            contracts: BTreeMap::new(),
            watch: None,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting that an operator must set right.
    #[error("{0}")]
    Misconfigured(String),
    #[error("the HTTP client cannot be built: {0}")]
    Client(#[source] reqwest::Error),
}

#[derive(Clone)]
pub struct Dispatcher(Arc<Inner>);

struct Inner {
    lanes: Mutex<Lanes<Job>>,
    /// Told when the last call in flight ended.
    idle: Notify,
    runtime: tokio::runtime::Handle,
    transport: Transport,
    services: Services,
    secrets: Secrets,
    contracts: BTreeMap<String, Arc<dyn Contract>>,
    tokens: Arc<CallbackTokens>,
    public_url: String,
    per_destination: usize,
    watch: Option<Watch>,
}

struct Job {
    outgoing: Outgoing,
    place: Destination,
    slot: Box<dyn ReplySlot>,
}

impl Dispatcher {
    /// Calls run on the runtime this is called on.
    pub fn start(options: Options) -> Result<Self, Error> {
        install_tls();
        let mut contracts = options.contracts;
        contracts.insert(Native::NAME.to_owned(), Arc::new(Native));
        Ok(Self(Arc::new(Inner {
            lanes: Mutex::new(Lanes::new(options.total)),
            idle: Notify::new(),
            runtime: tokio::runtime::Handle::current(),
            transport: Transport::new(
                options.egress,
                options.connect_timeout,
                options.per_destination,
                options.extra_roots.as_deref(),
            )?,
            services: Services::new(options.services)?,
            secrets: options.secrets,
            contracts,
            tokens: options.callback_tokens,
            public_url: options.public_url.trim_end_matches('/').to_owned(),
            per_destination: options.per_destination,
            watch: options.watch,
        })))
    }

    /// Neither waits nor fails. A call that cannot be sent at all is answered, or withheld, before this returns.
    pub fn send(&self, outgoing: Outgoing, slot: Box<dyn ReplySlot>) {
        if !outgoing.permit.holds() {
            return;
        }
        let place = match self.0.services.locate(&outgoing) {
            Ok(place) => place,
            Err(unsendable) => {
                let reply = unsendable.reply(outgoing.call.ask);
                return slot.put(Incoming { gid: outgoing.gid, call: outgoing.call, reply });
            }
        };
        let lane = place.lane.clone();
        let limit = place.max_concurrency.unwrap_or(self.0.per_destination);
        let now = self.0.lanes().offer(&lane, limit, Job { outgoing, place, slot });
        if let Some(job) = now {
            self.launch(job);
        }
    }

    /// Withholds every call that waits and all that are sent from now on, then gives those in flight time to finish.
    /// Returns how many are still in flight.
    pub async fn drain(&self, within: Duration) -> usize {
        // Slots are given back outside of the lock.
        drop(self.0.lanes().close());
        let deadline = tokio::time::Instant::now() + within;
        loop {
            let idle = self.0.idle.notified();
            let left = self.in_flight();
            if left == 0 || tokio::time::timeout_at(deadline, idle).await.is_err() {
                return self.in_flight();
            }
        }
    }

    /// The secrets that the plan names for places where they may not go: calls that need one are not sent.
    #[must_use]
    pub fn withheld_secrets<'a>(&self, plan: &'a Plan) -> Vec<Withheld<'a>> {
        self.0.services.withheld(plan, &self.0.secrets)
    }

    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.0.lanes().in_flight()
    }

    /// Calls that wait for a place at their destination.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.lanes().waiting()
    }

    fn launch(&self, job: Job) {
        let this = self.clone();
        self.0.runtime.spawn(async move {
            let _taken = Taken { dispatcher: this.clone(), lane: job.place.lane.clone() };
            this.0.perform(job).await;
        });
    }
}

/// A call in flight. Its end, however it comes, lets the next one go.
struct Taken {
    dispatcher: Dispatcher,
    lane: Arc<str>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        let inner = &self.dispatcher.0;
        if inner.lanes().done(&self.lane) == 0 {
            inner.idle.notify_waiters();
        }
        loop {
            let next = inner.lanes().next();
            let Some(job) = next else { return };
            self.dispatcher.launch(job);
        }
    }
}

impl Inner {
    fn lanes(&self) -> MutexGuard<'_, Lanes<Job>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn perform(&self, job: Job) {
        let Job { outgoing, place, slot } = job;
        let (started, clock) = (SystemTime::now(), Instant::now());
        // A call that was taken is answered, even where our own code breaks.
        let attempt = AssertUnwindSafe(self.attempt(&outgoing, place, started)).catch_unwind().await;
        let (status, reply) = match attempt {
            Ok(Some(answered)) => answered,
            Ok(None) => return,
            Err(_) => {
                tracing::error!(gid = %outgoing.gid, branch = %outgoing.request.branch, "a call panicked");
                let error = skald_engine::Error::new("panicked", "the coordinator failed while it made the call");
                (None, Reply::of(Outcome::Unknown(error)))
            }
        };
        if let Some(watch) = &self.watch {
            watch(&Attempt { outgoing: &outgoing, started, took: clock.elapsed(), status, reply: &reply });
        }
        slot.put(Incoming { gid: outgoing.gid, call: outgoing.call, reply });
    }

    /// `None`: it was withheld.
    async fn attempt(
        &self,
        outgoing: &Outgoing,
        place: Destination,
        started: SystemTime,
    ) -> Option<(Option<u16>, Reply)> {
        // It may have waited, here or for a thread.
        if !outgoing.permit.holds() {
            return None;
        }
        let ask = outgoing.call.ask;
        let (contract, message) = match self.encode(outgoing, &place, started) {
            Ok(encoded) => encoded,
            Err(unsendable) => return Some((None, unsendable.reply(ask))),
        };
        let exchange = self.transport.exchange(place.url, message, outgoing.request.largest_answer, &outgoing.permit);
        let failure = match tokio::time::timeout(outgoing.request.timeout, exchange).await {
            Ok(Ok(answer)) => {
                let status = answer.status.as_u16();
                return Some((Some(status), contract.classify(outgoing, answer)));
            }
            Ok(Err(Unanswered::Withheld)) => return None,
            Ok(Err(Unanswered::Failed(failure))) => failure,
            Err(_) => Failure::TimedOut(outgoing.request.timeout),
        };
        Some((None, failure.reply(ask)))
    }

    fn encode(
        &self,
        outgoing: &Outgoing,
        place: &Destination,
        started: SystemTime,
    ) -> Result<(&dyn Contract, contract::Message), Unsendable> {
        let Some(contract) = self.contracts.get(&outgoing.contract) else {
            let message = format!("this node does not know the contract `{}`", outgoing.contract);
            return Err(Unsendable::later("unknown_contract", message));
        };
        let callback = (outgoing.request.asynchronous && !outgoing.call.ask).then(|| {
            let token = self.tokens.mint(&outgoing.gid, &outgoing.request.branch, outgoing.call.operation);
            format!("{}/v1/callbacks/{token}", self.public_url)
        });
        let deadline = timestamp(started).plus(outgoing.request.timeout);
        let mut message = contract.encode(&Sending { outgoing, deadline, callback })?;
        place.authenticate(&mut message.headers, &self.secrets)?;
        place.sign(&mut message, &outgoing.request.idempotency_key, &self.secrets)?;
        Ok((contract.as_ref(), message))
    }
}

fn timestamp(at: SystemTime) -> Timestamp {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

impl Unsendable {
    /// Of a question, nothing local may pass for the participant's answer.
    fn reply(self, ask: bool) -> Reply {
        Reply::of(match self {
            Self::Never(error) if !ask => Outcome::Refused(error),
            Self::Never(error) | Self::Later(error) => Outcome::Unsent(error),
        })
    }
}

impl Failure {
    fn reply(self, ask: bool) -> Reply {
        let (code, message) = (self.code(), self.to_string());
        let error = skald_engine::Error::new(code, message);
        match self {
            Self::Denied(_) => Unsendable::Never(error).reply(ask),
            Self::NotSent(_) => Reply::of(Outcome::Unsent(error)),
            Self::Lost(_) | Self::TimedOut(_) => Reply::of(Outcome::Unknown(error)),
        }
    }
}
