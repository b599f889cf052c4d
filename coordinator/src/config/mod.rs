//! One TOML file over built-in defaults, `SKALD_…` over it, flags over that; unknown keys are errors.
//!
//! All faults are said at once, each with the place it comes from. Everything here is plain values: the components get
//! theirs from `server`, which is the only reader. A default is the component's own, and so is what is the least of it.

mod load;
mod value;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use skald_engine::plan::{Auth, Value};

use crate::{
    api, dispatch,
    runtime::{self, LEAST_COMMIT_TIMEOUT, LEAST_LEASE},
    store,
};
pub use load::{ConfigFault, Error, Loaded, Origin, Setting, Sources, load};

pub use value::{DatabaseUrl, Destination, HttpUrl, Secret, Span};

const LEAST_CONNECTIONS: u32 = 5;
/// Of a node's connections to Postgres those of its membership: a heartbeat, and one more where the database does not
/// answer it.
pub(crate) const MEMBERSHIP_CONNECTIONS: u32 = 2;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the API answers.
    pub listen: SocketAddr,
    /// The base of the URLs that participants call back at; `http://<listen>` if absent (with the host's name
    /// where that is every address).
    pub public_url: Option<HttpUrl>,
    /// What this node's next life is known by: it takes over at once what this one leaves behind. No two nodes may share
    /// one. `<host name>:<port>` if absent.
    pub node_address: Option<String>,
    pub database: Database,
    /// Postgres is reached through a pooler in transaction mode (PgBouncer): nothing is kept on a connection, so each
    /// commit takes several round trips in place of one.
    pub transaction_pooler: bool,
    /// Signs callback URLs; all nodes of one database share it. If absent, it is made once and kept in the database.
    pub callback_key: Option<Secret>,
    /// A node that is silent for this long loses its transactions to the others.
    pub lease: Span,
    /// How long a request that changes something waits for its commit. What was not handed to the database by then is not made.
    pub commit_timeout: Span,
    /// How long a node that was told to stop waits for the calls and requests under way.
    pub drain: Span,
    pub log: Log,
    pub telemetry: Telemetry,
    pub limits: Limits,
    pub retention: Retention,
    pub egress: Egress,
    /// Where the services of definitions answer here: what is set replaces the definition's.
    pub services: BTreeMap<String, Service>,
    /// What definitions read as `config.<name>`, here. A transaction keeps what it was at its begin.
    pub workflow_config: BTreeMap<String, serde_json::Value>,
    /// Where each secret may go when a definition names it; nowhere without a section. Services that are set here with their
    /// URL get the secrets that they name here.
    pub secrets: BTreeMap<String, SecretRelease>,
    /// `{"secret": name}` stands for the variable `SKALD_SECRET_<NAME>`, else for the file of that name in here.
    pub secrets_directory: Option<PathBuf>,
    /// Where lists are written of what a database lost; the working directory if absent.
    pub reports_directory: Option<PathBuf>,
}

/// A bare URL stands for `{ url = … }`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Database {
    pub url: DatabaseUrl,
    /// Connections to Postgres that this node opens; SQLite takes no notice.
    pub max_connections: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,skald::dispatch=debug`.
    pub level: String,
    pub format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One line for a person.
    Text,
    /// One JSON object per line.
    Json,
}

impl LogFormat {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// An OpenTelemetry collector's gRPC endpoint (`http://127.0.0.1:4317`); no spans are exported without one.
    pub otlp_endpoint: Option<HttpUrl>,
    /// A file of PEM certificates that an https endpoint's is verified with, in place of the system's.
    pub otlp_certificate: Option<PathBuf>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Unsettled transactions that a node holds; over it a begin is answered 503.
    pub in_memory: usize,
    /// Calls under way at once to one destination, where its service states no `max_concurrency`.
    pub per_destination: usize,
    /// Calls under way at once altogether: each may hold a connection.
    pub calls: usize,
    /// Connections to the API; for one more, one that is idle is closed, and if none is, it is answered 503 and closed.
    pub connections: usize,
    /// Connections to the API from one address (one /64 of IPv6); one more is answered 503 and closed. A proxy in front
    /// is one address: with one it may be as many as `connections`.
    pub connections_per_peer: usize,
    /// Requests to the API being served at once; those that only wait, or whose body is still to come, aside; one more
    /// is answered 503.
    pub requests: usize,
    /// Requests that wait at once (`Prefer: wait`, event streams); over it they are answered without waiting.
    pub waiting: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// How long a settled transaction's journal is kept.
    pub journals: Span,
    /// How long its gid and final status are known, so that a late repetition of its begin is answered and not run.
    pub tombstones: Span,
}

/// Which addresses participants may have. Link-local ones (cloud metadata among them) never.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Egress {
    pub loopback: bool,
    /// RFC 1918, RFC 4193 and RFC 6598.
    pub private: bool,
    /// A file of PEM certificates that are trusted beside the system's.
    pub extra_roots: Option<PathBuf>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Service {
    pub url: Option<HttpUrl>,
    #[serde(serialize_with = "value::redact_headers")]
    pub headers: BTreeMap<String, Value>,
    pub auth: Option<Auth>,
    /// Names of secrets: keys (`whsec_…`) that its calls are signed with, as Standard Webhooks says; several while one is
    /// replaced.
    pub signing: Vec<String>,
    pub max_concurrency: Option<u32>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SecretRelease {
    /// Services of this configuration: their origins are destinations.
    pub services: Vec<String>,
    /// `pay.example.com`, `*.example.com:8443`, `http://localhost:8080`; https unless it says otherwise.
    pub hosts: Vec<Destination>,
}

impl Default for Config {
    fn default() -> Self {
        let runtime = runtime::Options::default();
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7410)),
            public_url: None,
            node_address: None,
            database: Database::default(),
            transaction_pooler: false,
            callback_key: None,
            lease: Span(runtime.lease),
            commit_timeout: Span(runtime.commit_timeout),
            drain: Span(Duration::from_secs(25)),
            log: Log::default(),
            telemetry: Telemetry::default(),
            limits: Limits::default(),
            retention: Retention::default(),
            egress: Egress::default(),
            services: BTreeMap::new(),
            workflow_config: BTreeMap::new(),
            secrets: BTreeMap::new(),
            secrets_directory: None,
            reports_directory: None,
        }
    }
}

impl Default for Database {
    fn default() -> Self {
        Self {
            url: DatabaseUrl::default(),
            max_connections: store::Options::default().connections + MEMBERSHIP_CONNECTIONS,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Text }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let (api, connections) = (api::Options::default(), api::Connections::default());
        Self {
            in_memory: runtime::Options::default().max_in_memory,
            per_destination: dispatch::PER_DESTINATION,
            calls: dispatch::CALLS,
            connections: connections.most,
            connections_per_peer: connections.per_peer,
            requests: api.max_requests,
            waiting: api.max_waiting,
        }
    }
}

impl Default for Retention {
    fn default() -> Self {
        let runtime::Options { keep_journals, keep_tombstones, .. } = runtime::Options::default();
        Self { journals: Span(keep_journals), tombstones: Span(keep_tombstones) }
    }
}

impl Default for Egress {
    fn default() -> Self {
        Self { loopback: true, private: true, extra_roots: None }
    }
}

impl Config {
    /// What no single value shows to be wrong: the keys that contradict each other, and the message.
    fn contradictions(&self) -> Vec<(Vec<String>, String)> {
        let mut found = Vec::new();
        let mut wrong = |keys: &[&str], message: String| {
            found.push((keys.iter().map(|key| (*key).to_owned()).collect(), message));
        };
        if self.lease.0 < LEAST_LEASE {
            wrong(
                &["lease"],
                format!("`{}` is too short to be renewed in time: {} is the least", self.lease, Span(LEAST_LEASE)),
            );
        }
        if self.commit_timeout.0 < LEAST_COMMIT_TIMEOUT {
            let least = Span(LEAST_COMMIT_TIMEOUT);
            let message = format!("`{}` is shorter than a commit may take: {least} is the least", self.commit_timeout);
            wrong(&["commit_timeout"], message);
        }
        let Retention { journals, tombstones } = self.retention;
        if tombstones.0 < journals.0 {
            wrong(
                &["retention.tombstones", "retention.journals"],
                format!("tombstones (`{tombstones}`) must be kept at least as long as journals (`{journals}`)"),
            );
        }
        for (key, value) in [
            ("limits.in_memory", self.limits.in_memory),
            ("limits.per_destination", self.limits.per_destination),
            ("limits.calls", self.limits.calls),
            ("limits.connections", self.limits.connections),
            ("limits.connections_per_peer", self.limits.connections_per_peer),
            ("limits.requests", self.limits.requests),
            ("limits.waiting", self.limits.waiting),
        ] {
            if value == 0 {
                wrong(&[key], "must be at least 1".into());
            }
        }
        if self.database.max_connections < LEAST_CONNECTIONS {
            let message = format!("at least {LEAST_CONNECTIONS}: for heartbeats, commits and reads");
            wrong(&["database.max_connections"], message);
        }
        for (name, service) in &self.services {
            if !service.signing.is_empty() && service.url.is_none() {
                let message =
                    "only calls to a `url` that is set here are signed: elsewhere somebody could collect them";
                wrong(&[&format!("services.{name}.signing")], message.to_owned());
            }
        }
        for (name, release) in &self.secrets {
            for service in &release.services {
                if self.services.get(service).is_none_or(|service| service.url.is_none()) {
                    let message = format!("`{service}` is no service that this configuration sets the `url` of");
                    wrong(&[&format!("secrets.{name}.services")], message);
                }
            }
        }
        if let Err(error) = self.log.level.parse::<tracing_subscriber::EnvFilter>() {
            wrong(&["log.level"], format!("`{}` is no level nor list of directives: {error}", self.log.level));
        }
        found
    }
}
