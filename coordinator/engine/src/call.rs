//! What goes out to a participant and what comes back.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use skald_protocol::{BranchId, Json, OperationKind};

use crate::{journal::Error, plan::Rule};

/// A call that recorded state owes. `ask`: the operation's `status_check` instead of the operation itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Call {
    /// The branch's index in the transaction.
    pub branch: usize,
    pub operation: OperationKind,
    /// From 1, over restarts as far as attempts are recorded.
    pub attempt: u32,
    pub ask: bool,
}

/// A rendered call: all that dispatch needs, but for the service's base URL, authentication and headers.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    pub branch: BranchId,
    pub operation: OperationKind,
    pub method: String,
    pub service: Option<String>,
    pub target: Target,
    pub query: Vec<(String, String)>,
    pub headers: BTreeMap<String, String>,
    pub body: Option<Json>,
    pub timeout: Duration,
    pub outcome: Vec<Rule>,
    /// Something reads the answer's headers.
    pub keep_headers: bool,
    /// Bytes of an answer that are read: more than are kept where an `output` takes its part of them.
    pub largest_answer: usize,
    /// 202 means pending, and the participant is told where to call back.
    pub asynchronous: bool,
    /// `<gid>/<branch>/<operation>`.
    pub idempotency_key: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Percent-encoded, to be appended to the service's URL.
    Path(String),
    Url(String),
}

/// A participant's answer as the coordinator understood it.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    pub outcome: Outcome,
    /// `Retry-After`: the pace the participant asks for.
    pub retry_after: Option<Duration>,
    pub barrier: Option<Barrier>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Succeeded(Response),
    Refused(Error),
    Pending,
    /// It may have run.
    Unknown(Error),
    /// Not a byte of the request was written, or 429: it did not run.
    Unsent(Error),
    /// Of a `status_check` alone: it did not run.
    NotFound,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Response {
    pub status: u16,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "crate::journal::encoding::said", skip_serializing_if = "Option::is_none")]
    pub body: Option<Json>,
    /// The body was too large or not JSON.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub output_dropped: bool,
    /// Journals of earlier builds do not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped: Option<Dropped>,
}

/// Why nothing is kept of an answer that had a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dropped {
    NotJson,
    TooDeep,
    TooLarge,
}

impl Dropped {
    #[must_use]
    pub const fn why(self) -> &'static str {
        match self {
            Self::NotJson => "the answer is not JSON",
            Self::TooDeep => "the answer nests deeper than 64 levels",
            Self::TooLarge => "the answer is over 256 KiB, or over 4 MiB where an `output` takes its part of it",
        }
    }
}

/// What the SDK's barrier says (`Skald-Barrier`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Barrier {
    Executed,
    Stored,
    Empty,
    Superseded,
    Expired,
}

impl Barrier {
    /// Whether an answer after unknown attempts may be believed (PARTICIPANT.md).
    #[must_use]
    pub const fn is_trusted(self) -> bool {
        matches!(self, Self::Executed | Self::Stored | Self::Superseded)
    }
}

impl Response {
    /// Without its body, which nothing could be done with.
    #[must_use]
    pub fn dropped(self, why: Dropped) -> Self {
        Self { body: None, output_dropped: true, dropped: Some(why), ..self }
    }

    /// Why there is no output.
    #[must_use]
    pub fn error(&self) -> Option<Error> {
        let why = self.dropped.map_or("the answer was too large or not JSON", Dropped::why);
        self.output_dropped.then(|| Error::new("output_dropped", why))
    }
}

impl Reply {
    #[must_use]
    pub const fn of(outcome: Outcome) -> Self {
        Self { outcome, retry_after: None, barrier: None }
    }
}
