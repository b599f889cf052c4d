use std::{
    fmt,
    time::{Duration, SystemTime},
};

use reqwest::{StatusCode, header::HeaderMap};
use skald_protocol::{ErrorView, Problem, TransactionView};

use crate::proxy::Through;

/// Why a call to the coordinator did not come to what it was made for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL or the token cannot be used at all.
    #[error("{0}")]
    Misconfigured(String),
    /// No answer came, also after retries. The request may have been taken: make the same call again, with the same gid.
    #[error("no answer from {url}{}", Through(.proxy.as_deref(), .url))]
    Unreachable {
        /// Where the coordinator should be.
        url: String,
        /// The proxy that the call went through.
        proxy: Option<String>,
        /// What happened to the connection.
        source: reqwest::Error,
    },
    /// There is no such transaction, or no such workflow.
    #[error("{}", Told(.0))]
    NotFound(Box<Problem>),
    /// Retention took it; the problem's detail names its final status.
    #[error("{}", Told(.0))]
    Expired(Box<Problem>),
    /// It contradicts what was recorded before; `code` says what.
    #[error("{}", Told(.0))]
    Conflict(Box<Problem>),
    /// The request itself is wrong: sending it again gives the same answer.
    #[error("{}", Told(.0))]
    Rejected(Box<Problem>),
    /// Nothing was taken: try again, after `retry_after` if it is told.
    #[error("{}", Told(.problem))]
    Unavailable {
        /// What the coordinator said.
        problem: Box<Problem>,
        /// When it is worth trying again.
        retry_after: Option<Duration>,
    },
    /// The coordinator failed.
    #[error("{}", Told(.0))]
    Failed(Box<Problem>),
    /// The transaction came to another end than success, or waits for a person; what there is to know of it is in the view.
    #[error("{}", Ended(.0))]
    Unsuccessful(Box<TransactionView>),
    /// A participant refused the try of a branch.
    #[error("branch `{branch}` was refused: {}", .error.message.as_deref().unwrap_or(&.error.code))]
    Refused {
        /// The branch's name.
        branch: String,
        /// The participant's reason.
        error: Box<ErrorView>,
    },
    /// The answer is none of this API: something else answers at the URL, or a much newer coordinator.
    #[error("the answer of {url}{} is not a Skald coordinator's: {reason}", Through(.proxy.as_deref(), .url))]
    Unintelligible {
        /// Where the answer came from.
        url: String,
        /// The proxy that the call went through.
        proxy: Option<String>,
        /// What is odd about it.
        reason: String,
    },
}

impl Error {
    /// What the coordinator said, where it said something.
    #[must_use]
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::NotFound(problem)
            | Self::Expired(problem)
            | Self::Conflict(problem)
            | Self::Rejected(problem)
            | Self::Failed(problem)
            | Self::Unavailable { problem, .. } => Some(problem),
            Self::Misconfigured(_)
            | Self::Unreachable { .. }
            | Self::Unintelligible { .. }
            | Self::Refused { .. }
            | Self::Unsuccessful(_) => None,
        }
    }

    /// The stable code of API.md.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.problem().map(|problem| problem.code.as_str())
    }

    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Unavailable { .. } => true,
            Self::Misconfigured(_)
            | Self::NotFound(_)
            | Self::Expired(_)
            | Self::Conflict(_)
            | Self::Rejected(_)
            | Self::Failed(_)
            | Self::Refused { .. }
            | Self::Unsuccessful(_)
            | Self::Unintelligible { .. } => false,
        }
    }

    /// `unintelligible`: the error of an answer that is no coordinator's, for this reason.
    pub(crate) fn of_answer(
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        unintelligible: impl FnOnce(String) -> Self,
    ) -> Self {
        let problem = match serde_json::from_slice::<Problem>(body) {
            Ok(problem) => Box::new(problem),
            Err(_) => {
                let said: String = String::from_utf8_lossy(body).chars().take(200).collect();
                let error = unintelligible(format!("{status} `{said}`"));
                if !status.is_server_error() {
                    return error;
                }
                // A proxy in front of the coordinator answers in its own words, and its 502 or 503 passes.
                Box::new(foreign(status, error.to_string()))
            }
        };
        match status {
            StatusCode::NOT_FOUND => Self::NotFound(problem),
            StatusCode::GONE => Self::Expired(problem),
            StatusCode::CONFLICT => Self::Conflict(problem),
            StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Self::Unavailable { problem, retry_after: retry_after(headers) },
            _ if status.is_client_error() => Self::Rejected(problem),
            _ => Self::Failed(problem),
        }
    }
}

fn foreign(status: StatusCode, detail: String) -> Problem {
    Problem {
        r#type: "about:blank".into(),
        title: status.canonical_reason().unwrap_or("Failed").into(),
        status: status.as_u16(),
        code: "foreign".into(),
        detail,
        errors: Vec::new(),
        final_status: None,
        trace_id: None,
    }
}

/// RFC 9110, 10.2.3: seconds or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(reqwest::header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(text).ok()?;
    Some(at.duration_since(SystemTime::now()).unwrap_or_default())
}

/// A problem for a person: what happened, then every fault on its own line.
struct Told<'a>(&'a Problem);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { title, detail, code, errors, .. } = self.0;
        let said = if detail.is_empty() { title } else { detail };
        write!(f, "{said} ({code})")?;
        for fault in errors {
            f.write_str("\n  ")?;
            if let Some(code) = &fault.code {
                write!(f, "{code} ")?;
            }
            write!(f, "{}: {}", if fault.pointer.is_empty() { "/" } else { &fault.pointer }, fault.message)?;
            if let Some(help) = &fault.help {
                write!(f, "\n    {help}")?;
            }
        }
        Ok(())
    }
}

/// An end for a person: the status, and the error where there is one.
struct Ended<'a>(&'a TransactionView);

impl fmt::Display for Ended<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TransactionView { gid, status, error, .. } = self.0;
        write!(f, "transaction {gid} is {status}")?;
        let Some(error) = error else { return Ok(()) };
        if let Some(step) = &error.step {
            write!(f, ": step `{step}`")?;
        }
        write!(f, ": {}", error.message.as_deref().unwrap_or(&error.code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_read_as_seconds_or_as_any_date_of_http() {
        let read = |text: &str| {
            let headers = [(reqwest::header::RETRY_AFTER, text.parse().unwrap())];
            retry_after(&headers.into_iter().collect()).map(|pause| pause.as_secs())
        };
        assert_eq!(read("120"), Some(120));
        for passed in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(read(passed), Some(0), "{passed}");
        }
        let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(60));
        assert!(read(&soon).is_some_and(|pause| (58..=60).contains(&pause)), "{soon}");
        for wrong in ["", "soon", "-1", "1.5"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
