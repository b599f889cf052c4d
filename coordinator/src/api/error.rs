//! What the API answers when it does not do what was asked: one mapping from causes to problems (RFC 9457).
//!
//! `Error::verdict` decides the status, the stable code and how loudly it is logged. An `Error` becomes a response
//! without a body; `middleware::answer` writes the problem and the log line, once, where the request's trace is known.

use std::{borrow::Cow, sync::Arc, time::Duration};

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use skald_engine::{Rejection, limit};
use skald_protocol::{Fault, Gid, Problem, Status, WorkflowRef};
use tracing::Level;

use super::slow_peers;
use crate::runtime;

/// How many faults one problem lists.
const FAULTS_SHOWN: usize = 100;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("a body must be JSON: send `Content-Type: application/json`, without a `Content-Encoding`")]
    UnsupportedMediaType,
    #[error("a body may have {} KiB", limit::REQUEST_BODY >> 10)]
    BodyTooLarge,
    #[error(
        "of the body {received} B came in {} s, which is too slow: it may take {} s and a second more for each KiB, {} s in all",
        .after.as_secs(), slow_peers::BODY_GRACE.as_secs(), slow_peers::BODY_TIMEOUT.as_secs()
    )]
    BodyTimeout { received: usize, after: Duration },
    #[error("the body was cut off: {0}")]
    BodyCut(#[source] axum::Error),
    #[error("the body nests deeper than {} at line {line} column {column}", limit::JSON_DEPTH)]
    TooDeep { line: usize, column: usize },
    #[error("the body is not JSON: {message}")]
    InvalidJson { message: String },
    #[error("`{pointer}` is given twice")]
    DuplicateKey { pointer: String },
    #[error("the body is not what this call takes: see `errors`")]
    InvalidRequest(Vec<Fault>),
    #[error("{0}")]
    InvalidGid(#[from] skald_protocol::InvalidId),
    #[error("query parameter `{name}`: {message}")]
    InvalidQuery { name: String, message: String },
    #[error("the cursor is not one that this list gave: start without one")]
    BadCursor,
    #[error("header `{name}`: {message}")]
    InvalidHeader { name: &'static str, message: String },
    #[error("there is nothing at this address: /docs lists what there is")]
    UnknownRoute,
    #[error("this address does not take that method: `Allow` lists those it takes")]
    MethodNotAllowed,
    /// Of a begin: its body is wrong.
    #[error("{0}")]
    UnknownWorkflow(String),
    /// At this address.
    #[error("{0}")]
    NoWorkflow(String),
    #[error("version {} of workflow `{}` was published with other content, and a version never changes: choose another", .0.version, .0.name)]
    VersionConflict(WorkflowRef),
    #[error("a definition may have {} KiB", limit::DEFINITION >> 10)]
    DefinitionTooLarge,
    #[error("the definition was refused: see `errors`")]
    InvalidDefinition(Vec<Fault>),
    #[error("the definition sends secrets where this server does not let them go: see `errors`")]
    SecretWithheld(Vec<Fault>),
    #[error("an input may have {} KiB", limit::INPUT >> 10)]
    InputTooLarge,
    #[error("the input is not what the definition's `input` schema asks for: see `errors`")]
    InvalidInput(Vec<Fault>),
    #[error("the branch was refused: see `errors`")]
    InvalidBranch(Vec<Fault>),
    #[error("the server's configuration has no such service: see `errors`")]
    UnknownService(Vec<Fault>),
    #[error("an output may have {} KiB", limit::OUTPUT >> 10)]
    OutputTooLarge,
    #[error("a signal's payload may have {} KiB", limit::OUTPUT >> 10)]
    PayloadTooLarge,
    #[error("a signal's name has letters, digits and `_.~-`, at most {}", limit::SIGNAL_NAME)]
    InvalidSignal,
    #[error("transaction `{gid}` existed, ended as `{status}` and was removed by retention: choose another gid")]
    GidExpired { gid: Gid, status: Status },
    #[error("this callback address was not given by this system")]
    UnknownCallback,
    #[error("the transaction is over: callbacks are no longer taken")]
    CallbackGone,
    #[error("{what}")]
    Busy { what: Cow<'static, str>, retry_after: Duration },
    #[error("this node is going down: ask another one")]
    Draining { retry_after: Duration },
    #[error("something went wrong that should not: the server's log has more under this trace id")]
    Panicked,
    #[error(transparent)]
    Coordinator(#[from] runtime::Error),
}

/// What a cause comes to.
struct ProblemKind {
    status: StatusCode,
    code: &'static str,
    level: Level,
}

/// For those that were turned away.
pub(super) const SHED_RETRY: Duration = Duration::from_secs(1);

impl Error {
    pub(super) fn busy(what: &'static str) -> Self {
        Self::Busy { what: what.into(), retry_after: SHED_RETRY }
    }

    fn verdict(&self) -> ProblemKind {
        let problem = |status, code| ProblemKind { status, code, level: Level::DEBUG };
        let loud = |status, code| ProblemKind { status, code, level: Level::WARN };
        let broken = |code| ProblemKind { status: StatusCode::INTERNAL_SERVER_ERROR, code, level: Level::ERROR };
        match self {
            Self::UnsupportedMediaType => problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type"),
            Self::BodyTooLarge => problem(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            Self::BodyTimeout { .. } => problem(StatusCode::REQUEST_TIMEOUT, "body_timeout"),
            Self::BodyCut(_) => problem(StatusCode::BAD_REQUEST, "body_cut_off"),
            Self::TooDeep { .. } => problem(StatusCode::BAD_REQUEST, "too_deep"),
            Self::InvalidJson { .. } => problem(StatusCode::BAD_REQUEST, "invalid_json"),
            Self::DuplicateKey { .. } => problem(StatusCode::BAD_REQUEST, "duplicate_key"),
            Self::InvalidRequest(_) => problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request"),
            Self::InvalidGid(_) => problem(StatusCode::BAD_REQUEST, "invalid_gid"),
            Self::InvalidQuery { .. } => problem(StatusCode::BAD_REQUEST, "invalid_query"),
            Self::BadCursor => problem(StatusCode::BAD_REQUEST, "bad_cursor"),
            Self::InvalidHeader { .. } => problem(StatusCode::BAD_REQUEST, "invalid_header"),
            Self::UnknownRoute => problem(StatusCode::NOT_FOUND, "unknown_route"),
            Self::MethodNotAllowed => problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::UnknownWorkflow(_) => problem(StatusCode::UNPROCESSABLE_ENTITY, "unknown_workflow"),
            Self::NoWorkflow(_) => problem(StatusCode::NOT_FOUND, "unknown_workflow"),
            Self::VersionConflict(_) => problem(StatusCode::CONFLICT, "version_conflict"),
            Self::DefinitionTooLarge => problem(StatusCode::UNPROCESSABLE_ENTITY, "definition_too_large"),
            Self::InvalidDefinition(_) => problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid_definition"),
            Self::SecretWithheld(_) => loud(StatusCode::FORBIDDEN, "secret_withheld"),
            Self::InputTooLarge => problem(StatusCode::UNPROCESSABLE_ENTITY, "input_too_large"),
            Self::InvalidInput(_) => problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid_input"),
            Self::InvalidBranch(_) => problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid_branch"),
            Self::UnknownService(_) => problem(StatusCode::UNPROCESSABLE_ENTITY, "unknown_service"),
            Self::OutputTooLarge => problem(StatusCode::UNPROCESSABLE_ENTITY, "output_too_large"),
            Self::PayloadTooLarge => problem(StatusCode::UNPROCESSABLE_ENTITY, "payload_too_large"),
            Self::InvalidSignal => problem(StatusCode::BAD_REQUEST, "invalid_signal"),
            Self::GidExpired { .. } => problem(StatusCode::CONFLICT, "gid_expired"),
            Self::UnknownCallback => problem(StatusCode::NOT_FOUND, "unknown_callback"),
            Self::CallbackGone => problem(StatusCode::GONE, "settled"),
            Self::Busy { .. } => loud(StatusCode::SERVICE_UNAVAILABLE, "overloaded"),
            Self::Draining { .. } => problem(StatusCode::SERVICE_UNAVAILABLE, "draining"),
            Self::Panicked => broken("internal"),
            Self::Coordinator(error) => match error {
                runtime::Error::UnknownGid(_) => problem(StatusCode::NOT_FOUND, "unknown_gid"),
                runtime::Error::Expired { .. } => problem(StatusCode::GONE, "expired"),
                runtime::Error::GidConflict(_) => problem(StatusCode::CONFLICT, "gid_conflict"),
                runtime::Error::Rejected(rejection) => problem(rejection_status(rejection), rejection.code()),
                runtime::Error::Quarantined(_) => problem(StatusCode::CONFLICT, "quarantined"),
                runtime::Error::Overloaded { .. } => loud(StatusCode::SERVICE_UNAVAILABLE, "overloaded"),
                runtime::Error::NotReady { .. } => loud(StatusCode::SERVICE_UNAVAILABLE, "not_ready"),
                runtime::Error::Unknown { .. } => loud(StatusCode::SERVICE_UNAVAILABLE, "outcome_unknown"),
                // The runtime says it once, and loudly.
                runtime::Error::Damaged(_) => problem(StatusCode::SERVICE_UNAVAILABLE, "database_damaged"),
                runtime::Error::Store(_) => broken("internal"),
            },
        }
    }

    /// Where it is worth trying again, and when.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after, .. }
            | Self::Draining { retry_after }
            | Self::Coordinator(
                runtime::Error::Overloaded { retry_after }
                | runtime::Error::NotReady { retry_after, .. }
                | runtime::Error::Unknown { retry_after, .. },
            ) => Some(*retry_after),
            _ => None,
        }
    }

    fn faults(&self) -> &[Fault] {
        match self {
            Self::InvalidRequest(faults)
            | Self::InvalidDefinition(faults)
            | Self::SecretWithheld(faults)
            | Self::InvalidInput(faults)
            | Self::InvalidBranch(faults)
            | Self::UnknownService(faults) => faults,
            _ => &[],
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        self.verdict().status
    }

    pub(super) fn level(&self) -> Level {
        self.verdict().level
    }

    /// The body; what an operator alone should read stays in the log.
    pub(super) fn problem(&self, trace_id: &str) -> Problem {
        let ProblemKind { status, code, .. } = self.verdict();
        let detail = match self {
            Self::Coordinator(runtime::Error::Store(_)) => Self::Panicked.to_string(),
            _ => self.to_string(),
        };
        let final_status = match self {
            Self::Coordinator(runtime::Error::Expired { status, .. }) | Self::GidExpired { status, .. } => {
                Some(*status)
            }
            _ => None,
        };
        let mut errors: Vec<_> = self.faults().iter().take(FAULTS_SHOWN).cloned().collect();
        if let Self::DuplicateKey { pointer } = self {
            errors.push(Fault::at(pointer, "given twice"));
        }
        Problem {
            r#type: format!("urn:skald:problem:{code}"),
            title: title(code),
            status: status.as_u16(),
            code: code.to_owned(),
            detail,
            errors,
            final_status,
            trace_id: Some(trace_id.to_owned()),
        }
    }
}

/// Most commands come at the wrong time.
fn rejection_status(rejection: &Rejection) -> StatusCode {
    match rejection {
        Rejection::UnknownBranch { .. } => StatusCode::NOT_FOUND,
        Rejection::TooManyBranches { .. } | Rejection::TooManySignals { .. } | Rejection::TooManyKeys { .. } => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        _ => StatusCode::CONFLICT,
    }
}

fn title(code: &str) -> String {
    let mut title = code.replace('_', " ");
    title[..1].make_ascii_uppercase();
    title
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gid_that_retention_took_is_told_with_its_final_status() {
        let gid = Gid::new("g").unwrap();
        let problem = Error::from(runtime::Error::Expired { gid, status: Status::Compensated }).problem("t");
        assert_eq!((problem.status, problem.final_status), (410, Some(Status::Compensated)));
        assert_eq!(problem.title, "Expired");
    }
}
