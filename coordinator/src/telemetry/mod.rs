//! Spans over OTLP and metrics for Prometheus. Ids are fields; payloads never are.

mod metrics;

pub use metrics::Metrics;
