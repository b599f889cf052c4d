//! Skald's own contract: PARTICIPANT.md's headers out, docs/workflows.md's "What an answer means" back.

use std::{
    collections::BTreeMap,
    fmt::{Display, Write as _},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use skald_engine::{
    Barrier, Dropped, Error, Outcome, Reply, Response, SpanId, limit,
    outcome::Answered,
    plan::{Means, Rule},
    text::shortened,
};
use skald_protocol::{self as protocol, Json, OperationKind};

use super::{Contract, HttpAnswer, Message, Outgoing, Payload, Sending, Unsendable};
use crate::dispatch::transport::Shared;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static(protocol::IDEMPOTENCY_KEY);
const TRANSACTION: HeaderName = HeaderName::from_static(protocol::SKALD_TRANSACTION);
const BRANCH: HeaderName = HeaderName::from_static(protocol::SKALD_BRANCH);
const OPERATION: HeaderName = HeaderName::from_static(protocol::SKALD_OPERATION);
const ATTEMPT: HeaderName = HeaderName::from_static(protocol::SKALD_ATTEMPT);
const BEGAN: HeaderName = HeaderName::from_static(protocol::SKALD_BEGAN);
const DEADLINE: HeaderName = HeaderName::from_static(protocol::SKALD_DEADLINE);
const CALLBACK: HeaderName = HeaderName::from_static(protocol::SKALD_CALLBACK);
const BARRIER: HeaderName = HeaderName::from_static(protocol::SKALD_BARRIER);
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const BAGGAGE: HeaderName = HeaderName::from_static("baggage");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// They frame the message: a definition does not set them.
const FRAMING: [&str; 9] = [
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// No participant may put its transaction to sleep for longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// What of a refusal is kept, in characters.
const LONGEST_CODE: usize = 128;
const LONGEST_MESSAGE: usize = 1_024;
/// Of an answer, in bytes.
const LONGEST_HEADERS: usize = 16 << 10;

#[derive(Debug, Clone, Copy)]
pub struct Native;

impl Native {
    pub const NAME: &str = "native";
}

impl Contract for Native {
    fn encode(&self, sending: &Sending<'_>) -> Result<Message, Unsendable> {
        let Outgoing { gid, call, request, trace, began_at, .. } = sending.outgoing;
        let method = Method::from_bytes(request.method.as_bytes())
            .map_err(|_| Unsendable::never("invalid_request", format!("`{}` is no method", request.method)))?;
        let mut headers = HeaderMap::with_capacity(24);
        headers.insert(ACCEPT, JSON);
        if request.body.is_some() {
            headers.insert(CONTENT_TYPE, JSON);
        }
        for (name, value) in &request.headers {
            let header = HeaderName::try_from(name.as_str()).map_err(|_| unwritable(name))?;
            if !FRAMING.contains(&header.as_str()) {
                headers.insert(header, HeaderValue::try_from(value).map_err(|_| unwritable(name))?);
            }
        }
        let operation = if call.ask { OperationKind::Status } else { call.operation };
        headers.insert(OPERATION, HeaderValue::from_static(operation.as_str()));
        headers.insert(ATTEMPT, call.attempt.into());
        let mut own = Own::default();
        own.add(IDEMPOTENCY_KEY, &request.idempotency_key);
        own.add(TRANSACTION, gid);
        own.add(BRANCH, &request.branch);
        own.add(BEGAN, began_at);
        own.add(DEADLINE, sending.deadline);
        if let Some(callback) = &sending.callback {
            own.add(CALLBACK, callback);
        }
        if let Some(traceparent) = trace.traceparent(SpanId::of_call(gid, call, request)) {
            own.add(TRACEPARENT, traceparent);
            pass_on(&mut headers, TRACESTATE, &trace.state);
        }
        own.put(&mut headers)?;
        pass_on(&mut headers, BAGGAGE, &trace.baggage);
        Ok(Message { method, headers, body: request.body.clone().map(|body| Shared(body).into()) })
    }

    fn classify(&self, outgoing: &Outgoing, answer: HttpAnswer) -> Reply {
        let retry_after = answer.headers.get(RETRY_AFTER).and_then(|value| pause(value, SystemTime::now()));
        let barrier = answer.headers.get(BARRIER).and_then(barrier);
        let request = &outgoing.request;
        let judged = if request.outcome.is_empty() { None } else { judged(&request.outcome, &answer) };
        let mut outcome = match judged {
            Some(outcome) => outcome,
            None if outgoing.call.ask => status_outcome(answer.status, answer.body),
            None => outcome(answer.status, answer.body, request.asynchronous),
        };
        if let Outcome::Succeeded(response) = &mut outcome
            && request.keep_headers
        {
            response.headers = texts(&answer.headers);
        }
        Reply { outcome, retry_after, barrier }
    }
}

fn unwritable(name: &str) -> Unsendable {
    Unsendable::never("invalid_request", format!("header `{name}` would hold what no header can"))
}

/// Values written side by side, so that all of them together, and every copy that is made of them on their way, cost one
/// allocation.
struct Own {
    text: String,
    /// Where each value ends.
    ends: Vec<(HeaderName, usize)>,
}

impl Default for Own {
    fn default() -> Self {
        Self { text: String::with_capacity(384), ends: Vec::with_capacity(8) }
    }
}

impl Own {
    fn add(&mut self, name: HeaderName, value: impl Display) {
        write!(self.text, "{value}").expect("a String takes any text");
        self.ends.push((name, self.text.len()));
    }

    fn put(self, headers: &mut HeaderMap) -> Result<(), Unsendable> {
        let text = Bytes::from(self.text);
        let mut start = 0;
        for (name, end) in self.ends {
            let value =
                HeaderValue::from_maybe_shared(text.slice(start..end)).map_err(|_| unwritable(name.as_str()))?;
            headers.insert(name, value);
            start = end;
        }
        Ok(())
    }
}

/// These came from outside: what no header can hold is left out.
fn pass_on(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let (false, Ok(value)) = (value.is_empty(), HeaderValue::from_str(value)) {
        headers.insert(name, value);
    }
}

/// What the definition's own rules say; `None`: nothing.
fn judged(rules: &[Rule], answer: &HttpAnswer) -> Option<Outcome> {
    let (status, body) = (answer.status, &answer.body);
    let response = success(status, body.clone());
    let answered = Answered::new(status.as_u16(), texts(&answer.headers), response.body.as_ref());
    let judged = answered.judge(rules)?;
    Some(match judged.is {
        Means::Succeeded => Outcome::Succeeded(response),
        Means::Refused => Outcome::Refused(judged.error(refusal(status, body))),
        Means::Pending => Outcome::Pending,
        Means::Unknown => Outcome::Unknown(judged.error(failed(status, body))),
        Means::Unsent => Outcome::Unsent(judged.error(failed(status, body))),
        Means::NotFound => Outcome::NotFound,
    })
}

/// Headers as expressions read them; what is no text is left out.
fn texts(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut room = LONGEST_HEADERS;
    let texts = headers.iter().filter_map(|(name, value)| {
        let value = value.to_str().ok()?;
        room = room.checked_sub(name.as_str().len() + value.len())?;
        Some((name.as_str().to_owned(), value.to_owned()))
    });
    texts.collect()
}

fn outcome(status: StatusCode, body: Payload, asynchronous: bool) -> Outcome {
    match status.as_u16() {
        202 if asynchronous => Outcome::Pending,
        200..300 => Outcome::Succeeded(success(status, body)),
        429 => Outcome::Unsent(failed(status, &body)),
        408 | 425 => Outcome::Unknown(failed(status, &body)),
        400..500 => Outcome::Refused(refusal(status, &body)),
        _ => Outcome::Unknown(failed(status, &body)),
    }
}

fn success(status: StatusCode, body: Payload) -> Response {
    let status = status.as_u16();
    let empty = Response { status, ..Response::default() };
    match body {
        Payload::Whole(bytes) if bytes.is_empty() => empty,
        Payload::Whole(bytes) => match json(bytes) {
            Ok(body) => Response { body: Some(body), ..empty },
            Err(why) => empty.dropped(why),
        },
        Payload::TooLarge => empty.dropped(Dropped::TooLarge),
    }
}

/// The body as it came, if it is JSON that everyone can read; else why it is not.
fn json(bytes: Vec<u8>) -> Result<Json, Dropped> {
    let text = String::from_utf8(bytes).map_err(|_| Dropped::NotJson)?;
    // The parser that keeps text as it is has no limit of its own.
    if limit::too_deep(text.as_bytes()).is_some() {
        return Err(Dropped::TooDeep);
    }
    Json::from_text(text).map_err(|_| Dropped::NotJson)
}

/// `{code, message}` or problem+json with a `code`; else `refused`, the status line and what the body says.
fn refusal(status: StatusCode, body: &Payload) -> Error {
    match error_of(body) {
        Some((Some(code), message)) => Error { code, message },
        Some((None, Some(message))) => Error::new("refused", format!("{status}: {message}")),
        Some((None, None)) | None => Error::new("refused", status.to_string()),
    }
}

/// The code is ours: what a participant says while it fails is only for people.
fn failed(status: StatusCode, body: &Payload) -> Error {
    let (code, message) = error_of(body).unwrap_or_default();
    let told: Vec<_> = [Some(status.to_string()), code, message].into_iter().flatten().collect();
    Error::new(format!("http_{}", status.as_u16()), told.join(": "))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ErrorBody {
    code: Option<serde_json::Value>,
    message: Option<serde_json::Value>,
    detail: Option<serde_json::Value>,
    error: Option<serde_json::Value>,
    title: Option<serde_json::Value>,
}

impl ErrorBody {
    /// A code and a message.
    fn words(self) -> (Option<String>, Option<String>) {
        let text = |value: Option<serde_json::Value>, longest: usize| match value {
            Some(serde_json::Value::String(text)) if !text.is_empty() => Some(shortened(&text, longest).into_owned()),
            _ => None,
        };
        let message = [self.message, self.detail, self.error, self.title];
        (text(self.code, LONGEST_CODE), message.into_iter().find_map(|value| text(value, LONGEST_MESSAGE)))
    }

    fn error(self) -> Option<(String, Option<String>)> {
        let (code, message) = self.words();
        code.map(|code| (code, message))
    }
}

/// What an answer that is no success says: the usual members of an object, else the text as it is.
fn error_of(body: &Payload) -> Option<(Option<String>, Option<String>)> {
    let Payload::Whole(bytes) = body else { return None };
    match serde_json::from_slice::<ErrorBody>(bytes).map(ErrorBody::words) {
        Ok((None, None)) | Err(_) => {
            // Of a long text its beginning is enough.
            let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * LONGEST_MESSAGE)]);
            let line = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
            let line = line.collect::<Vec<_>>().join(" ");
            (!line.is_empty()).then(|| (None, Some(shortened(&line, LONGEST_MESSAGE).into_owned())))
        }
        Ok(words) => Some(words),
    }
}

#[derive(Deserialize)]
struct StatusBody<'a> {
    outcome: &'a str,
    #[serde(borrow, default)]
    output: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<ErrorBody>,
}

/// What a `status_check` was told. Anything but a clear word leaves the outcome unknown.
fn status_outcome(status: StatusCode, body: Payload) -> Outcome {
    let unclear = |message: String| Outcome::Unknown(Error::new("status_unclear", message));
    let bytes = match body {
        Payload::Whole(bytes) if status == StatusCode::OK => bytes,
        body @ Payload::Whole(_) if status == StatusCode::TOO_MANY_REQUESTS => {
            return Outcome::Unsent(failed(status, &body));
        }
        body => return Outcome::Unknown(failed(status, &body)),
    };
    let body = match json(bytes) {
        Ok(body) => body,
        Err(dropped) => return unclear(dropped.why().to_owned()),
    };
    let told = match serde_json::from_str::<StatusBody<'_>>(body.text()) {
        Ok(told) => told,
        Err(error) => return unclear(plain(&error.to_string())),
    };
    match told.outcome {
        "succeeded" => {
            let output =
                told.output.filter(|output| output.get() != "null").map(|output| Json::from(output.to_owned()));
            Outcome::Succeeded(Response { status: status.as_u16(), body: output, ..Response::default() })
        }
        "refused" => Outcome::Refused(match told.error.and_then(ErrorBody::error) {
            Some((code, message)) => Error { code, message },
            None => Error { code: "refused".to_owned(), message: None },
        }),
        "pending" => Outcome::Pending,
        "not_found" => Outcome::NotFound,
        other => unclear(format!("`{}` is no outcome", shortened(other, LONGEST_CODE))),
    }
}

/// Without the words of the parser for types of its own.
fn plain(message: &str) -> String {
    match message.split_once("expected struct ") {
        Some((before, _)) => format!("{before}expected an object with `outcome`"),
        None => format!("the answer cannot be read: {message}"),
    }
}

/// RFC 9110, 10.2.3: seconds or a date.
fn pause(value: &HeaderValue, now: SystemTime) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    let pause = if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() {
        text.parse().map_or(LONGEST_PAUSE, Duration::from_secs)
    } else {
        httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default()
    };
    Some(pause.min(LONGEST_PAUSE))
}

fn barrier(value: &HeaderValue) -> Option<Barrier> {
    match value.as_bytes() {
        b"executed" => Some(Barrier::Executed),
        b"stored" => Some(Barrier::Stored),
        b"empty" => Some(Barrier::Empty),
        b"superseded" => Some(Barrier::Superseded),
        b"expired" => Some(Barrier::Expired),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_read_as_seconds_or_as_any_date_of_http_and_is_bounded() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777); // Sun, 06 Nov 1994 08:49:37 GMT
        let read = |text: &'static str| pause(&HeaderValue::from_static(text), now).map(|pause| pause.as_secs());
        assert_eq!(read("120"), Some(120));
        assert_eq!(read("0"), Some(0));
        for half_a_minute in
            ["Sun, 06 Nov 1994 08:50:07 GMT", "Sunday, 06-Nov-94 08:50:07 GMT", "Sun Nov  6 08:50:07 1994"]
        {
            assert_eq!(read(half_a_minute), Some(30), "{half_a_minute}");
        }
        assert_eq!(read("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0), "a date that has passed");
        assert_eq!(read("Sat, 06 Nov 2094 08:00:00 GMT"), Some(3600));
        for long in ["86400", "99999999999999999999999"] {
            assert_eq!(read(long), Some(3600));
        }
        for wrong in ["", "soon", "-1", "1.5", "1e3"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
