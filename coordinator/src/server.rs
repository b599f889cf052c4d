//! Wiring: store, journal, dispatch, runtime and API of one process, by hand, in one place.
//!
//! A `Server` owns all it started and nothing global, so several live in one process.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::{
    api,
    config::{self, Config, MEMBERSHIP_CONNECTIONS},
    dispatch::{self, Attempt, Dispatcher, EgressPolicy, Secrets, ServiceSettings, token::CallbackTokens},
    runtime::{self, Coordinator, Dependencies, MembershipStore},
    store::{self, SqlStore, Store},
    telemetry::{self, AttemptSpan, LogFormat, Metrics, Spans},
};

/// The name under which the database keeps the key that it made for its nodes.
const CALLBACK_KEY: &str = "callback_key";
/// For the answers that are still being read when all of the time to drain is over.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("{database}: {source}")]
    Store { database: String, source: store::Error },
    #[error(transparent)]
    Dispatch(#[from] dispatch::Error),
    #[error(transparent)]
    Telemetry(#[from] telemetry::Error),
    #[error(transparent)]
    Runtime(#[from] runtime::Error),
    #[error("no thread to keep this node's place: {0}")]
    MembershipThread(#[source] io::Error),
    #[error("the API ended: {0}")]
    Serve(#[source] io::Error),
}

/// What to do about a database whose schema is not this build's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schema {
    Migrate,
    /// Refuse to start.
    Check,
}

pub struct Server {
    address: SocketAddr,
    coordinator: Coordinator,
    store: SqlStore,
    spans: Spans,
    drain: config::Span,
    draining: CancellationToken,
    closing: CancellationToken,
    serving: JoinHandle<io::Result<()>>,
}

impl Server {
    /// Returns once requests are answered.
    pub async fn start(config: Config, schema: Schema) -> Result<Self, Error> {
        let listener = listen(config.listen).await?;
        let address = listener.local_addr().map_err(|source| Error::Listen { address: config.listen, source })?;
        let node_address = config.node_address.clone().unwrap_or_else(|| format!("{}:{}", host(), address.port()));

        let metrics = Arc::new(Metrics::new());
        let spans = match &config.telemetry.otlp_endpoint {
            Some(endpoint) => {
                let roots = config.telemetry.otlp_certificate.as_deref();
                Spans::start(endpoint.as_str(), roots, &node_address, Arc::clone(&metrics))?
            }
            None => Spans::off(),
        };

        let store = open(&config, config.database.max_connections - MEMBERSHIP_CONNECTIONS).await?;
        let current = match schema {
            Schema::Migrate => store.migrate().await,
            Schema::Check => store.ready().await,
        };
        current.map_err(|source| at(&config, source))?;
        let tokens = Arc::new(CallbackTokens::new(&callback_key(&config, &store).await?));

        let mut outward = dispatch::Options::new(public_url(&config, address), Arc::clone(&tokens));
        outward.services = services(&config);
        outward.secrets = Secrets::new(config.secrets_directory.clone(), destinations(&config));
        outward.egress = EgressPolicy { loopback: config.egress.loopback, private: config.egress.private };
        outward.extra_roots.clone_from(&config.egress.extra_roots);
        outward.per_destination = config.limits.per_destination;
        outward.total = config.limits.calls;
        outward.watch = Some(watch(Arc::clone(&metrics), spans.clone()));
        let dispatcher = Dispatcher::start(outward)?;
        observe(&metrics, dispatcher.clone());

        let inward = runtime::Options {
            address: node_address,
            config: Some(skald_protocol::Json::of(&config.workflow_config)),
            lease: config.lease.0,
            commit_timeout: config.commit_timeout.0,
            max_in_memory: config.limits.in_memory,
            keep_journals: config.retention.journals.0,
            keep_tombstones: config.retention.tombstones.0,
            reports: config.reports_directory.clone().unwrap_or_else(|| ".".into()),
            ..runtime::Options::default()
        };
        let foundation = Dependencies {
            store: Arc::new(store.clone()),
            membership: membership(&config).await?,
            dispatcher,
            callback_tokens: tokens,
            metrics: Arc::clone(&metrics),
            spans: spans.clone(),
        };
        let coordinator = Coordinator::start(foundation, inward).await?;

        let (draining, closing) = (CancellationToken::new(), CancellationToken::new());
        let options = api::Options {
            services: callable(&config),
            max_requests: config.limits.requests,
            max_waiting: config.limits.waiting,
            ..api::Options::default()
        };
        let connections = api::Connections {
            most: config.limits.connections,
            per_peer: config.limits.connections_per_peer,
            ..api::Connections::default()
        };
        let handles = api::Handles { metrics, drain: draining.clone() };
        let router = api::router(coordinator.clone(), options, handles);
        let serving = tokio::spawn(api::serve(listener, router, connections, closing.clone().cancelled_owned()));
        settle_in(&coordinator, 3 * config.lease.0).await;
        Ok(Self { address, coordinator, store, spans, drain: config.drain, draining, closing, serving })
    }

    /// Where the API answers: the real port, also where port 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Takes nothing new, finishes what is under way (no longer than `drain`), hands the rest over.
    pub async fn shutdown(self) -> Result<(), Error> {
        let over = Instant::now() + self.drain.0;
        // Waits and streams end first: their clients go on with another node, or come back to this one's next life.
        self.draining.cancel();
        self.coordinator.drain(self.drain.0).await;
        // The API answers until here: what a client asked for it was told, or told to ask again.
        self.closing.cancel();
        let abort = self.serving.abort_handle();
        let left = over.saturating_duration_since(Instant::now()).max(LAST_ANSWERS);
        let served = match tokio::time::timeout(left, self.serving).await {
            Ok(Ok(served)) => served.map_err(Error::Serve),
            Ok(Err(panicked)) => Err(Error::Serve(io::Error::other(panicked))),
            Err(_) => {
                abort.abort();
                tracing::warn!("some requests were cut off: they took longer than the time to drain");
                Ok(())
            }
        };
        self.store.close().await;
        self.spans.shutdown().await;
        served
    }
}

/// Brings the database's schema to this build's.
pub async fn migrate(config: &Config) -> Result<(), Error> {
    let store = open(config, config.database.max_connections).await?;
    let migrated = store.migrate().await.map_err(|source| at(config, source));
    store.close().await;
    migrated
}

/// What is to be said of the database before it holds transactions. One that is not there is not made.
pub async fn examine(config: &Config) -> Result<Vec<store::Finding>, Error> {
    let url = config.database.url.expose();
    let file = url.strip_prefix("sqlite:").map(|path| path.strip_prefix("//").unwrap_or(path));
    if file.is_some_and(|path| path != ":memory:" && !std::path::Path::new(path).exists()) {
        return Err(at(config, store::Error::Misconfigured("there is no such file".into())));
    }
    let store = open(config, config.database.max_connections).await?;
    let findings = store.examine().await.map_err(|source| at(config, source));
    store.close().await;
    findings
}

/// The log of the whole process; a second call changes nothing.
pub fn start_logs(config: &Config) -> Result<(), Error> {
    let format = match config.log.format {
        config::LogFormat::Text => LogFormat::Text,
        config::LogFormat::Json => LogFormat::Json,
    };
    Ok(telemetry::start_logs(&config.log.level, format)?)
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
}

/// Waits for the first shards, so that who comes after the ready line is not sent away. Where other nodes hold all of them
/// that may take longer than it is worth: `/readyz` tells.
async fn settle_in(coordinator: &Coordinator, within: Duration) {
    let ready = async {
        while coordinator.ready().await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    if tokio::time::timeout(within, ready).await.is_err() {
        tracing::info!("no shards yet: this node waits for its share");
    }
}

/// On a file there is one node, whose place nobody takes.
async fn membership(config: &Config) -> Result<Option<MembershipStore>, Error> {
    if config.database.url.is_sqlite() {
        return Ok(None);
    }
    let thread = runtime::MembershipThread::start().map_err(Error::MembershipThread)?;
    let config = config.clone();
    let opened = thread.handle().spawn(async move { open(&config, MEMBERSHIP_CONNECTIONS).await }).await;
    let store = opened.map_err(|error| Error::MembershipThread(io::Error::other(error)))??;
    Ok(Some(MembershipStore { store: Arc::new(store), thread }))
}

async fn open(config: &Config, connections: u32) -> Result<SqlStore, Error> {
    let transaction_pooler = config.transaction_pooler;
    let options = store::Options { connections, transaction_pooler, ..store::Options::default() };
    SqlStore::connect(config.database.url.expose(), options).await.map_err(|source| at(config, source))
}

fn at(config: &Config, source: store::Error) -> Error {
    Error::Store { database: config.database.url.to_string(), source }
}

async fn callback_key(config: &Config, store: &SqlStore) -> Result<Vec<u8>, Error> {
    match &config.callback_key {
        Some(key) => Ok(key.expose().as_bytes().to_vec()),
        None => store.setting(CALLBACK_KEY, &rand::random::<[u8; 32]>()).await.map_err(|source| at(config, source)),
    }
}

/// Every address is none that a participant could call.
fn public_url(config: &Config, address: SocketAddr) -> String {
    match &config.public_url {
        Some(url) => url.to_string(),
        None if address.ip().is_unspecified() => format!("http://{}:{}", host(), address.port()),
        None => format!("http://{address}"),
    }
}

fn host() -> String {
    whoami::hostname().unwrap_or_else(|_| "localhost".into())
}

/// Services that a branch may be enlisted on: those that this configuration says the place of.
fn callable(config: &Config) -> BTreeSet<String> {
    config.services.iter().filter(|(_, service)| service.url.is_some()).map(|(name, _)| name.clone()).collect()
}

fn services(config: &Config) -> BTreeMap<String, ServiceSettings> {
    let settings = |service: &config::Service| ServiceSettings {
        url: service.url.as_ref().map(ToString::to_string),
        headers: service.headers.clone(),
        auth: service.auth.clone(),
        signing: service.signing.clone(),
        max_concurrency: service.max_concurrency,
    };
    config.services.iter().map(|(name, service)| (name.clone(), settings(service))).collect()
}

fn destinations(config: &Config) -> BTreeMap<String, Vec<Url>> {
    let of_service = |name: &String| config.services.get(name)?.url.as_ref()?.as_str().parse().ok();
    let of_secret = |release: &config::SecretRelease| {
        let hosts = release.hosts.iter().map(|host| host.url().clone());
        hosts.chain(release.services.iter().filter_map(of_service)).collect()
    };
    config.secrets.iter().map(|(name, release)| (name.clone(), of_secret(release))).collect()
}

/// What dispatch knows by itself, read when somebody looks.
fn observe(metrics: &Metrics, dispatcher: Dispatcher) {
    metrics.before_render(move |metrics| {
        let count = |calls: usize| i64::try_from(calls).unwrap_or(i64::MAX);
        metrics.dispatch_depth.set(count(dispatcher.waiting()));
        metrics.calls_in_flight.set(count(dispatcher.in_flight()));
    });
}

/// Who sees every attempt that was made.
fn watch(metrics: Arc<Metrics>, spans: Spans) -> Arc<dyn Fn(&Attempt<'_>) + Send + Sync> {
    Arc::new(move |attempt| {
        let dispatch::Outgoing { gid, call, request, trace, .. } = attempt.outgoing;
        metrics.attempt(call, &attempt.reply.outcome, attempt.took);
        spans.attempt(&AttemptSpan {
            gid,
            trace,
            call,
            request,
            started: attempt.started,
            took: attempt.took,
            status: attempt.status,
            reply: attempt.reply,
        });
    })
}
