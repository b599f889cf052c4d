//! Spans over OTLP, metrics for Prometheus, logs on stderr. Ids are fields; payloads never are.

mod logs;
mod metrics;
mod spans;

use skald_engine::Outcome;
use skald_protocol::CallOutcome;

pub use logs::{LogFormat, start_logs};
pub use metrics::Metrics;
pub use spans::{AttemptSpan, Spans};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting that an operator must set right.
    #[error("{0}")]
    Misconfigured(String),
}

/// How metrics and spans call what became of a call; a question that was answered `not_found` succeeded.
const fn outcome_label(outcome: &Outcome) -> CallOutcome {
    match outcome {
        Outcome::Succeeded(_) | Outcome::NotFound => CallOutcome::Succeeded,
        Outcome::Refused(_) => CallOutcome::Refused,
        Outcome::Pending => CallOutcome::Pending,
        Outcome::Unknown(_) => CallOutcome::Unknown,
        Outcome::Unsent(_) => CallOutcome::Unsent,
    }
}
