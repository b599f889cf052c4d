use std::{error::Error, fmt::Write as _};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::Full;
use skald_protocol::{Json, SKALD_BARRIER};

use super::{InvalidCall, Refusal};

/// The value of `Skald-Barrier` in an answer: what the barrier made of the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BarrierWord {
    /// The effect happened now.
    Executed,
    /// It was decided before; the same answer again.
    Stored,
    /// An undo of what never ran. It never will.
    Empty,
    /// A forward call that came after its undo.
    Superseded,
    /// The transaction began before what the barrier still remembers.
    Expired,
}

impl BarrierWord {
    /// As it stands in the header.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Executed => "executed",
            Self::Stored => "stored",
            Self::Empty => "empty",
            Self::Superseded => "superseded",
            Self::Expired => "expired",
        }
    }
}

/// What a call is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Answer {
    /// The operation is done; its output, if it has one.
    Succeeded(Option<Json>, BarrierWord),
    /// The operation is refused for good.
    Refused(Refusal, BarrierWord),
    /// What a status check is told: `succeeded`, `refused` or `not_found`.
    Status(Json),
    /// The effect failed and was rolled back: the coordinator calls again.
    Failed(String),
    /// The deadline of the attempt passed before the effect was committed: nothing was done.
    TooLate,
    /// No call of this participant.
    Invalid(StatusCode, String),
}

impl Answer {
    pub(crate) fn superseded() -> Self {
        let refusal = Refusal::new("superseded").message("the undo of this operation came first");
        Self::Refused(refusal, BarrierWord::Superseded)
    }

    pub(crate) fn expired() -> Self {
        let refusal = Refusal::new("barrier_expired")
            .message("the transaction began before what this participant's barrier still remembers");
        Self::Refused(refusal, BarrierWord::Expired)
    }

    /// The failure with all its causes.
    pub(crate) fn failed(error: &(dyn Error + 'static)) -> Self {
        let mut text = error.to_string();
        for cause in std::iter::successors(error.source(), |cause: &&(dyn Error + 'static)| (*cause).source()) {
            let cause = cause.to_string();
            if !text.contains(&cause) {
                // A String takes any text.
                let _written = write!(text, ": {cause}");
            }
        }
        Self::Failed(text)
    }

    /// The status, body and `Skald-Barrier` header of PARTICIPANT.md.
    pub fn into_response(self) -> Response<Full<Bytes>> {
        let (status, body, word) = match self {
            Self::Succeeded(Some(output), word) => (StatusCode::OK, Some(output.text().to_owned()), Some(word)),
            Self::Succeeded(None, word) => (StatusCode::NO_CONTENT, None, Some(word)),
            Self::Refused(refusal, word) => {
                let status = match word {
                    BarrierWord::Superseded | BarrierWord::Expired => StatusCode::CONFLICT,
                    BarrierWord::Executed | BarrierWord::Stored | BarrierWord::Empty => {
                        StatusCode::UNPROCESSABLE_ENTITY
                    }
                };
                (status, Some(Json::of(&refusal).text().to_owned()), Some(word))
            }
            Self::Status(status) => (StatusCode::OK, Some(status.text().to_owned()), None),
            Self::Failed(message) => (StatusCode::INTERNAL_SERVER_ERROR, Some(problem("failed", &message)), None),
            Self::TooLate => {
                let message = "the deadline of this attempt has passed by this participant's clock; nothing was done";
                (StatusCode::REQUEST_TIMEOUT, Some(problem("deadline_passed", message)), None)
            }
            Self::Invalid(status, message) => (status, Some(problem("invalid_call", &message)), None),
        };
        let mut response = Response::new(Full::new(Bytes::from(body.unwrap_or_default())));
        *response.status_mut() = status;
        if status != StatusCode::NO_CONTENT {
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(word) = word {
            response.headers_mut().insert(SKALD_BARRIER, HeaderValue::from_static(word.as_str()));
        }
        response
    }
}

impl From<InvalidCall> for Answer {
    fn from(invalid: InvalidCall) -> Self {
        Self::Invalid(StatusCode::BAD_REQUEST, invalid.to_string())
    }
}

fn problem(code: &str, message: &str) -> String {
    serde_json::json!({"code": code, "message": message}).to_string()
}
