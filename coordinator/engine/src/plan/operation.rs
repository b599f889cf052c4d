//! What goes out to a participant, and how often: operations and their retries.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use skald_protocol::OperationKind;

use super::is_default;
use crate::template::Template;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operation {
    pub kind: OperationKind,
    pub method: String,
    /// A name of `Plan::services` or, in an open plan, of the server's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    pub target: Target,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub query: BTreeMap<String, Template>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Template>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub body: Body,
    /// Of one attempt, its body included.
    #[serde(with = "ms", rename = "timeout_ms")]
    pub timeout: Duration,
    pub retry: Retry,
    /// Of a pivot: the policy once an attempt of it may have run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settle: Option<Retry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<Pending>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_check: Option<Box<Operation>>,
    /// The first that matches an answer says what it means.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outcome: Vec<Rule>,
    /// Something of the branch reads `self.response.headers`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub keep_headers: bool,
    /// A resend's answer may be trusted.
    #[serde(default, skip_serializing_if = "is_default")]
    pub idempotent: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_exhausted: OnExhausted,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Appended to the service's URL.
    Path(Template),
    Url(Template),
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    #[default]
    None,
    /// The transaction's input.
    Input,
    /// What the branch's forward operation was sent.
    Forward,
    Given(Template),
}

/// What an answer means where its condition, over `response`, is true. Without the data that it reads it is not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub when: Template,
    pub is: Means,
    /// The code of a refusal or a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What is told of it, over `response`; else the answer's own message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Template>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Means {
    Succeeded,
    Refused,
    Pending,
    Unknown,
    Unsent,
    /// Of a question alone: it did not run.
    NotFound,
}

/// An asynchronous operation: 202 means pending.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pending {
    #[serde(with = "ms", rename = "timeout_ms")]
    pub timeout: Duration,
    #[serde(default, with = "ms_option", rename = "heartbeat_ms", skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll: Option<Box<Poll>>,
}

/// A pending operation is asked about, at growing intervals, whether it has finished.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Poll {
    pub operation: Operation,
    #[serde(with = "ms", rename = "interval_ms")]
    pub interval: Duration,
    #[serde(with = "ms", rename = "max_interval_ms")]
    pub max_interval: Duration,
}

impl Poll {
    /// Before the question after `asked` ones: the interval doubles up to its cap.
    #[must_use]
    pub fn pause(&self, asked: u32) -> Duration {
        self.interval.saturating_mul(1 << asked.min(20)).min(self.max_interval.max(self.interval))
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnExhausted {
    /// Before the commit: abort. After it, and of a pivot that may have run: the same as `Suspend`.
    #[default]
    Compensate,
    Suspend,
    /// Of a retriable step: go on without it.
    Ignore,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Unlimited if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    #[serde(with = "ms", rename = "initial_ms")]
    pub initial_interval: Duration,
    pub backoff_coefficient: f64,
    #[serde(with = "ms", rename = "max_ms")]
    pub max_interval: Duration,
    pub jitter: Jitter,
    /// From the first attempt, pending time not counted.
    #[serde(default, with = "ms_option", rename = "max_elapsed_ms", skip_serializing_if = "Option::is_none")]
    pub max_elapsed: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Jitter {
    Full,
    None,
}

impl Retry {
    #[must_use]
    pub fn forward() -> Self {
        Self {
            max_attempts: Some(5),
            initial_interval: Duration::from_millis(200),
            backoff_coefficient: 2.0,
            max_interval: Duration::from_secs(10),
            jitter: Jitter::Full,
            max_elapsed: None,
        }
    }

    #[must_use]
    pub fn settling() -> Self {
        Self {
            max_attempts: None,
            max_interval: Duration::from_secs(60),
            max_elapsed: Some(Duration::from_secs(24 * 3600)),
            ..Self::forward()
        }
    }

    /// The pause after the `attempt`th failure (from 1). Full jitter draws from `[0, backoff]` (AWS Architecture Blog,
    /// "Exponential Backoff and Jitter"); the draw is a hash of `seed`, so every node draws the same.
    #[must_use]
    pub fn delay(&self, attempt: u32, seed: &[&[u8]]) -> Duration {
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let backoff = self.initial_interval.as_secs_f64() * self.backoff_coefficient.powi(exponent);
        let capped = backoff.min(self.max_interval.as_secs_f64()).max(0.0);
        let share = match self.jitter {
            Jitter::None => 1.0,
            Jitter::Full => {
                let mut hash = Sha256::new();
                for part in seed {
                    hash.update(part);
                    hash.update([0]);
                }
                hash.update(attempt.to_be_bytes());
                let digest = hash.finalize();
                let draw = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
                f64::from(draw) / f64::from(u32::MAX)
            }
        };
        Duration::from_secs_f64(capped * share)
    }
}

/// Durations as whole milliseconds.
pub(super) mod ms {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

pub(super) mod ms_option {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => super::ms::serialize(value, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_millis))
    }
}
