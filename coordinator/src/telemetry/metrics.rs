//! What an operator watches, in Prometheus' conventions: `skald_` first, base units, counters end in `_total`.
//!
//! Recording costs well under a microsecond and never blocks. What another part already counts (the depth of a queue,
//! the number of calls in flight) is not counted twice: it is read by a hook just before a scrape.

use std::{
    fmt,
    sync::{Mutex, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use skald_engine::{Call, Outcome};
use skald_protocol::{OperationKind, Status};

use super::outcome_label;

/// One label: its name and one of few values.
type Label = (&'static str, &'static str);
type Route = [(&'static str, String); 3];
type Hook = Box<dyn Fn(&Metrics) + Send>;

/// A gauge of seconds.
type Seconds = Gauge<f64, AtomicU64>;

/// Gauges are set by whoever knows; everything else is recorded through a method.
pub struct Metrics {
    registry: Registry,
    hooks: Mutex<Vec<Hook>>,

    begun: Counter,
    settled: Family<[Label; 1], Counter>,
    duration: Family<[Label; 1], Histogram>,
    attempts: Family<[Label; 2], Counter>,
    attempt_seconds: Family<[Label; 1], Histogram>,
    batch_size: Histogram,
    commit_seconds: Histogram,
    commit_failures: Counter,
    append_conflicts: Counter,
    takeovers: Counter,
    deposed: Counter,
    damaged: Counter,
    rewinds: Counter,
    rewound: Counter,
    clock_jumps: Family<[Label; 1], Counter>,
    quarantined: Counter,
    export_failures: Counter,
    http_requests: Family<Route, Counter>,
    http_seconds: Family<[(&'static str, String); 1], Histogram>,

    /// Transactions that wait for an operator.
    pub suspended: Gauge,
    /// Unsettled transactions that this node holds in memory.
    pub in_memory: Gauge,
    /// How late the oldest due work is.
    pub overdue: Seconds,
    pub inbox_depth: Gauge,
    pub journal_depth: Gauge,
    /// Calls that wait for a free place at their destination.
    pub dispatch_depth: Gauge,
    pub calls_in_flight: Gauge,
    pub shards_held: Gauge,
}

/// From 0.5 ms to about 4 minutes, doubling.
fn call_buckets() -> Histogram {
    Histogram::new((0..20).map(|n| 0.000_5 * f64::from(1u32 << n)))
}

/// From 1 ms to about 3 days, by threes.
fn transaction_buckets() -> Histogram {
    Histogram::new((0..18).map(|n| 0.001 * 3f64.powi(n)))
}

fn batch_buckets() -> Histogram {
    Histogram::new((0..13).map(|n| f64::from(1u32 << n)))
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    #[must_use]
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("skald"),
            hooks: Mutex::default(),
            begun: Counter::default(),
            settled: Family::default(),
            duration: Family::new_with_constructor(transaction_buckets),
            attempts: Family::default(),
            attempt_seconds: Family::new_with_constructor(call_buckets),
            batch_size: batch_buckets(),
            commit_seconds: call_buckets(),
            commit_failures: Counter::default(),
            append_conflicts: Counter::default(),
            takeovers: Counter::default(),
            deposed: Counter::default(),
            damaged: Counter::default(),
            rewinds: Counter::default(),
            rewound: Counter::default(),
            clock_jumps: Family::default(),
            quarantined: Counter::default(),
            export_failures: Counter::default(),
            http_requests: Family::default(),
            http_seconds: Family::new_with_constructor(call_buckets),
            suspended: Gauge::default(),
            in_memory: Gauge::default(),
            overdue: Seconds::default(),
            inbox_depth: Gauge::default(),
            journal_depth: Gauge::default(),
            dispatch_depth: Gauge::default(),
            calls_in_flight: Gauge::default(),
            shards_held: Gauge::default(),
        };
        metrics.register_transactions();
        metrics.register_node();
        metrics
    }

    fn register_transactions(&mut self) {
        let r = &mut self.registry;
        r.register("transactions_begun", "Transactions begun at this node", self.begun.clone());
        r.register("transactions_settled", "Transactions settled by this node, by final status", self.settled.clone());
        r.register("transaction_duration_seconds", "From begin to settlement, by final status", self.duration.clone());
        r.register("transactions_suspended", "Held transactions that wait for an operator", self.suspended.clone());
        r.register("transactions_in_memory", "Unsettled transactions in this node's memory", self.in_memory.clone());
        r.register("transactions_quarantined", "Transactions set aside as unreadable", self.quarantined.clone());
        r.register("overdue_seconds", "How late the oldest due work of this node is", self.overdue.clone());
        r.register("attempts", "Calls to participants, by operation and outcome", self.attempts.clone());
        r.register("attempt_duration_seconds", "Time of one call, body included", self.attempt_seconds.clone());
        r.register("calls_in_flight", "Calls to participants under way", self.calls_in_flight.clone());
    }

    fn register_node(&mut self) {
        let r = &mut self.registry;
        r.register("journal_batch_appends", "Appends made durable in one commit", self.batch_size.clone());
        r.register("journal_commit_seconds", "Time of one journal commit", self.commit_seconds.clone());
        r.register("journal_commit_failures", "Journal commits that failed", self.commit_failures.clone());
        r.register("journal_conflicts", "Appends that another node overtook", self.append_conflicts.clone());
        r.register("inbox_depth", "Inputs that wait for a shard", self.inbox_depth.clone());
        r.register("journal_depth", "Appends that wait for a commit", self.journal_depth.clone());
        r.register("dispatch_depth", "Calls that wait for their destination", self.dispatch_depth.clone());
        r.register("shards_held", "Shards this node holds", self.shards_held.clone());
        r.register("shard_takeovers", "Shards taken from an expired or free owner", self.takeovers.clone());
        r.register("node_deposed", "Times this node lost its place and joined again", self.deposed.clone());
        r.register("database_damaged", "Times the database's file was found damaged or gone", self.damaged.clone());
        let help = "Times the database was found to lack what this node had acknowledged";
        r.register("database_rewinds", help, self.rewinds.clone());
        let help = "Acknowledged records that the database lost, as far as this node remembers";
        r.register("acknowledged_records_lost", help, self.rewound.clone());
        let help = "Times the database's clock was set by more than a second, by direction";
        r.register("clock_jumps", help, self.clock_jumps.clone());
        r.register("telemetry_export_failures", "Span batches that no collector took", self.export_failures.clone());
        r.register("http_requests", "Requests to the API", self.http_requests.clone());
        r.register("http_request_duration_seconds", "Time until the API answered", self.http_seconds.clone());
    }

    pub fn begun(&self) {
        self.begun.inc();
    }

    /// `took`: since the begin.
    pub fn settled(&self, status: Status, took: Duration) {
        let label = [("status", status.as_str())];
        self.settled.get_or_create(&label).inc();
        self.duration.get_or_create(&label).observe(took.as_secs_f64());
    }

    /// A `status_check` counts as the operation `status`.
    pub fn attempt(&self, call: &Call, outcome: &Outcome, took: Duration) {
        let operation = if call.ask { OperationKind::Status } else { call.operation };
        let operation = ("operation", operation.as_str());
        self.attempts.get_or_create(&[operation, ("outcome", outcome_label(outcome).as_str())]).inc();
        self.attempt_seconds.get_or_create(&[operation]).observe(took.as_secs_f64());
    }

    pub fn journal_commit(&self, appends: usize, took: Duration) {
        self.batch_size.observe(f64::from(u32::try_from(appends).unwrap_or(u32::MAX)));
        self.commit_seconds.observe(took.as_secs_f64());
    }

    pub fn journal_commit_failed(&self) {
        self.commit_failures.inc();
    }

    pub fn append_conflict(&self) {
        self.append_conflicts.inc();
    }

    pub fn shards_taken(&self, shards: usize) {
        self.takeovers.inc_by(shards as u64);
    }

    /// `direction`: `forward` or `back`.
    pub fn clock_jumped(&self, direction: &'static str) {
        self.clock_jumps.get_or_create(&[("direction", direction)]).inc();
    }

    pub fn deposed(&self) {
        self.deposed.inc();
    }

    pub fn database_damaged(&self) {
        self.damaged.inc();
    }

    /// `lost`: of what this node had acknowledged.
    pub fn database_rewound(&self, lost: usize) {
        self.rewinds.inc();
        self.rewound.inc_by(lost as u64);
    }

    pub fn quarantined(&self) {
        self.quarantined.inc();
    }

    pub fn export_failed(&self) {
        self.export_failures.inc();
    }

    /// `route`: the matched pattern (`/v1/transactions/{gid}`), never the path.
    pub fn http_request(&self, method: &str, route: &str, status: u16, took: Duration) {
        let labels = [("method", method.to_owned()), ("route", route.to_owned()), ("status", status.to_string())];
        self.http_requests.get_or_create(&labels).inc();
        self.http_seconds.get_or_create(&[("route", route.to_owned())]).observe(took.as_secs_f64());
    }

    /// `hook` runs before every `render`, to set what is cheaper to read than to keep.
    pub fn before_render(&self, hook: impl Fn(&Self) + Send + 'static) {
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(hook));
    }

    /// The scrape, in OpenMetrics text (`application/openmetrics-text; version=1.0.0; charset=utf-8`).
    #[must_use]
    pub fn render(&self) -> String {
        for hook in self.hooks.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            hook(self);
        }
        let mut text = String::with_capacity(8 << 10);
        encode(&mut text, &self.registry).expect("a String takes any text");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_shows_what_was_recorded_under_conventional_names() {
        let metrics = Metrics::new();
        metrics.begun();
        metrics.settled(Status::Compensated, Duration::from_millis(1500));
        let call = Call { branch: 0, operation: OperationKind::Action, attempt: 1, ask: false };
        let refused = Outcome::Refused(skald_engine::Error::new("sold_out", "none left"));
        metrics.attempt(&call, &refused, Duration::from_millis(3));
        metrics.http_request("POST", "/v1/transactions", 202, Duration::from_millis(2));
        metrics.before_render(|metrics| {
            metrics.dispatch_depth.set(7);
        });
        let text = metrics.render();
        for line in [
            "skald_transactions_begun_total 1",
            "skald_transactions_settled_total{status=\"compensated\"} 1",
            "skald_transaction_duration_seconds_sum{status=\"compensated\"} 1.5",
            "skald_attempts_total{operation=\"action\",outcome=\"refused\"} 1",
            "skald_attempt_duration_seconds_count{operation=\"action\"} 1",
            "skald_http_requests_total{method=\"POST\",route=\"/v1/transactions\",status=\"202\"} 1",
            "skald_dispatch_depth 7",
            "skald_transactions_suspended 0",
        ] {
            assert!(text.lines().any(|l| l == line), "`{line}` is missing in:\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
