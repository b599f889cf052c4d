//! `POST /v1/transactions`.
//!
//! A begin is compared by what was sent, before any of it is compiled or resolved: the same request again is answered
//! with the transaction that it began, even by a node whose compiler would refuse it today.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Extension,
    extract::{Request, State},
    response::Response,
};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::Digest;
use skald_engine::{
    limit,
    value::pointer::escape,
    value::{Canonical, Value, canonical},
};
use skald_protocol::{Begin, Fault, Gid, Json, TransactionView, duration_text, parse_duration};

use super::{
    Api, body,
    definitions::{self, Definition, Inline},
    error::Error,
    json::{self, DigestFormat, as_sent},
    middleware::Admission,
    params,
    response::{self, Waited},
    trace, workflows,
};
use crate::runtime::{self, Begun, NewTransaction};

/// The members of a begin, each as it was sent (`null` too): what it is compared by.
#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct BeginBody<'a> {
    #[serde(borrow, default, deserialize_with = "as_sent")]
    gid: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "as_sent")]
    workflow: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "as_sent")]
    version: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "as_sent")]
    definition: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "as_sent")]
    input: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "as_sent")]
    labels: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "as_sent")]
    timeout: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "as_sent")]
    open: Option<&'a RawValue>,
}

/// What runs.
#[derive(Debug, PartialEq)]
enum Subject<'a> {
    Open,
    Inline(&'a str),
    Named { name: String, version: Option<String> },
}

struct BeginRequest<'a> {
    sent: BeginBody<'a>,
    gid: Option<Gid>,
    subject: Subject<'a>,
    input: Option<&'a RawValue>,
    labels: BTreeMap<String, String>,
    timeout: Option<Duration>,
}

/// Begin a transaction
///
/// Durable before the answer. The same body under the same gid again gives the same transaction; nothing runs twice.
#[utoipa::path(
    post, path = "/v1/transactions", tag = "transactions", request_body = Begin,
    params(
        ("prefer" = Option<String>, Header, description = "`wait=30`: answer once it settled or was suspended, or that many seconds later; 60 at most"),
        ("traceparent" = Option<String>, Header, description = "W3C trace context: the transaction's trace goes on from it"),
    ),
    responses(
        (status = 202, description = "Begun, or begun before by the same request", body = TransactionView, headers(("location" = String))),
        (status = 200, description = "Settled or suspended within the time it was waited for; an open transaction that was begun before", body = TransactionView),
        (status = 201, description = "An open transaction begun", body = TransactionView, headers(("location" = String))),
        (status = 403, description = "`secret_withheld`: the definition sends secrets where this server does not let them go", body = skald_protocol::Problem, content_type = "application/problem+json"),
        (status = 409, description = "`gid_conflict`, `gid_expired`", body = skald_protocol::Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_request`, `invalid_definition`, `invalid_input`, `unknown_workflow`, `definition_too_large`, `input_too_large`", body = skald_protocol::Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn begin(
    State(api): State<Api>,
    Extension(place): Extension<Admission>,
    request: Request,
) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    let wait = params::wait(&parts.headers);
    let body = body::whole(&parts.headers, body).await?;
    json::check_depth(&body)?;
    let request = BeginRequest::read(&body)?;
    let is_open = request.subject == Subject::Open;
    let begun = request.carry_out(&api, &parts.headers).await?;
    let (view, is_new) = match begun {
        Begun::New(view) => (view, true),
        Begun::Existing(view) => (view, false),
    };
    let location = format!("/v1/transactions/{}", view.gid);
    let mut response = if is_open {
        response::view(if is_new { StatusCode::CREATED } else { StatusCode::OK }, *view, 0)
    } else {
        let Waited { view, rested } = response::settled(&api, &place, *view, wait).await?;
        response::waited(if rested { StatusCode::OK } else { StatusCode::ACCEPTED }, view, wait)
    };
    if let Ok(location) = location.try_into() {
        response.headers_mut().insert(http::header::LOCATION, location);
    }
    Ok(response)
}

impl<'a> BeginRequest<'a> {
    fn read(body: &'a [u8]) -> Result<Self, Error> {
        let sent: BeginBody<'a> = serde_json::from_slice(body).map_err(|error| json::explain::<Begin>(body, &error))?;
        json::check_object(body)?;
        let wrong = |error: serde_json::Error| json::explain::<Begin>(body, &error);
        let gid = text(sent.gid).map_err(wrong)?.map(Gid::new).transpose()?;
        let workflow = text(sent.workflow).map_err(wrong)?;
        let version = text(sent.version).map_err(wrong)?;
        let timeout = text(sent.timeout).map_err(wrong)?;
        let open = member::<bool>(sent.open).map_err(wrong)?.unwrap_or_default();
        let labels = member::<BTreeMap<String, String>>(sent.labels).map_err(wrong)?.unwrap_or_default();
        let definition = given(sent.definition);
        let input = given(sent.input);

        let mut faults = labels_faults(&labels);
        let timeout = timeout
            .and_then(|text| timeout_of(&text).map_err(|message| faults.push(Fault::at("/timeout", message))).ok());
        if version.is_some() && workflow.is_none() {
            faults.push(Fault::at("/version", "goes with `workflow`; a definition states its own"));
        }
        let subject = match (open, definition, workflow) {
            (true, None, None) => {
                if sent.timeout.is_none() {
                    faults.push(Fault::at(
                        "/timeout",
                        "an open transaction needs one: when it passes, the transaction is cancelled",
                    ));
                }
                if input.is_some() {
                    faults.push(Fault::at(
                        "/input",
                        "an open transaction takes none: its branches bring their own bodies",
                    ));
                }
                Some(Subject::Open)
            }
            (false, Some(definition), None) => Some(Subject::Inline(definition.get())),
            (false, None, Some(name)) => Some(Subject::Named { name, version }),
            (false, None, None) => {
                faults.push(Fault::at("", "says nothing to run: send `definition`, `workflow`, or `open: true`"));
                None
            }
            (_, _, _) => {
                faults.push(Fault::at("", "takes one of `definition`, `workflow` and `open: true`"));
                None
            }
        };
        match subject {
            Some(subject) if faults.is_empty() => Ok(Self { sent, gid, subject, input, labels, timeout }),
            _ => Err(Error::InvalidRequest(faults)),
        }
    }

    async fn carry_out(self, api: &Api, headers: &HeaderMap) -> Result<Begun, Error> {
        let input = self.sent.input.map(|raw| json::value(raw.get().as_bytes(), "/input")).transpose()?;
        let canonical_input = input.as_ref().map(canonical);
        let (plan, own, digest) = match &self.subject {
            Subject::Open => {
                (api.open_plan.clone(), BTreeMap::new(), self.sent.digest(DigestFormat::Digits, None, None)?)
            }
            Subject::Named { name, version } => {
                let digest = self.sent.digest(DigestFormat::Digits, None, canonical_input.as_ref())?;
                let found = workflows::to_begin(api, name, version.as_deref()).await;
                match found.and_then(|found| self.check_input(&found, input.as_ref()).map(|()| found)) {
                    Ok(found) => (found.plan.clone(), found.labels.clone(), digest),
                    Err(error) => return self.before(api, &digest).await?.ok_or(error),
                }
            }
            Subject::Inline(source) => {
                let (inline, digest) = match self.inline(api, source, canonical_input.as_ref()).await? {
                    Found::Inline(inline, digest) => (inline, digest),
                    Found::Before(begun) => return Ok(begun),
                };
                if let Err(error) = self.check_input(&inline.definition, input.as_ref()) {
                    return self.before(api, &digest).await?.ok_or(error);
                }
                (inline.definition.plan.clone(), inline.definition.labels.clone(), digest)
            }
        };
        let (sent, gid) = (self.sent, self.gid.clone());
        let labels = labelled(own, self.labels)?;
        let begun = api.coordinator.begin(NewTransaction {
            gid: self.gid,
            workflow: plan.plan.workflow.clone(),
            plan,
            input: self.input.map(|raw| Json::from(raw.to_owned())),
            labels,
            timeout: self.timeout,
            request_digest: digest,
            trace: trace::of_transaction(headers),
        });
        match (begun.await, gid) {
            (Err(runtime::Error::GidConflict(_)), Some(gid)) => sent.before_this_build(api, &gid).await,
            (begun, _) => begun.map_err(response::of_begin),
        }
    }

    /// The definition, compiled, with the request's digest; or what the same request began before.
    async fn inline(&self, api: &Api, source: &str, canonical_input: Option<&Canonical>) -> Result<Found, Error> {
        if let Some(inline) = api.definitions.inline(source) {
            let digest = self.sent.digest(DigestFormat::Digits, Some(&inline.canonical), canonical_input)?;
            return Ok(Found::Inline(inline, digest));
        }
        if source.len() > limit::DEFINITION {
            return Err(Error::DefinitionTooLarge);
        }
        let value = match json::value(source.as_bytes(), "/definition") {
            Ok(value) => value,
            Err(error) => return Err(definitions::diagnose("/definition", source, error)),
        };
        let canonical = Arc::new(canonical(&value));
        let digest = self.sent.digest(DigestFormat::Digits, Some(&canonical), canonical_input)?;
        if let Some(begun) = self.before(api, &digest).await? {
            return Ok(Found::Before(begun));
        }
        Ok(Found::Inline(api.definitions.compile(&api.coordinator, source, canonical).await?, digest))
    }

    fn check_input(&self, definition: &Definition, input: Option<&Value>) -> Result<(), Error> {
        if self.input.is_some_and(|raw| raw.get().len() > limit::INPUT) {
            return Err(Error::InputTooLarge);
        }
        let Some(schema) = &definition.input else { return Ok(()) };
        schema
            .check(input.unwrap_or(&Value::Null))
            .map_err(|faults| Error::InvalidInput(definitions::to_faults("/input", faults)))
    }

    /// What an equal earlier request under this gid began.
    async fn before(&self, api: &Api, digest: &[u8; 32]) -> Result<Option<Begun>, Error> {
        let Some(gid) = &self.gid else { return Ok(None) };
        match api.coordinator.existing(gid, digest).await {
            Err(runtime::Error::GidConflict(_)) => self.sent.before_this_build(api, gid).await.map(Some),
            existing => Ok(existing.map_err(response::of_begin)?.map(|view| Begun::Existing(Box::new(view)))),
        }
    }
}

impl BeginBody<'_> {
    /// What this begin began, if that was by an earlier build.
    async fn before_this_build(&self, api: &Api, gid: &Gid) -> Result<Begun, Error> {
        let digest = self.digest(DigestFormat::Doubles, None, None)?;
        let existing = api.coordinator.existing(gid, &digest).await.map_err(response::of_begin)?;
        let view = existing.ok_or_else(|| Error::from(runtime::Error::GidConflict(gid.clone())))?;
        Ok(Begun::Existing(Box::new(view)))
    }

    /// Of the body without `gid`, put together from the forms of its members; those that are known need not be read again.
    fn digest(
        &self,
        format: DigestFormat,
        definition: Option<&Canonical>,
        input: Option<&Canonical>,
    ) -> Result<[u8; 32], Error> {
        let mut hash = format.start();
        let mut opening = "{\"";
        // In the order of their names.
        for (name, base, known, sent) in [
            ("definition", "/definition", definition, self.definition),
            ("input", "/input", input, self.input),
            ("labels", "/labels", None, self.labels),
            ("open", "/open", None, self.open),
            ("timeout", "/timeout", None, self.timeout),
            ("version", "/version", None, self.version),
            ("workflow", "/workflow", None, self.workflow),
        ] {
            let Some(raw) = sent else { continue };
            let form = match known {
                Some(form) => Cow::Borrowed(form),
                None => Cow::Owned(canonical(&json::value(raw.get().as_bytes(), base)?)),
            };
            hash.update(opening);
            hash.update(name);
            hash.update("\":");
            hash.update(format.form(&form));
            opening = ",\"";
        }
        hash.update("}");
        Ok(hash.finalize().into())
    }
}

enum Found {
    Inline(Arc<Inline>, [u8; 32]),
    Before(Begun),
}

fn member<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>) -> Result<Option<T>, serde_json::Error> {
    raw.map_or(Ok(None), |raw| serde_json::from_str(raw.get()))
}

fn text(raw: Option<&RawValue>) -> Result<Option<String>, serde_json::Error> {
    member(raw)
}

/// `null` is as good as nothing.
fn given(raw: Option<&RawValue>) -> Option<&RawValue> {
    raw.filter(|raw| raw.get() != "null")
}

fn timeout_of(text: &str) -> Result<Duration, String> {
    let timeout = parse_duration(text)?;
    if timeout.is_zero() || timeout > limit::TIMEOUT {
        return Err(format!("must be longer than nothing and at most {}", duration_text(limit::TIMEOUT)));
    }
    Ok(timeout)
}

/// A begin's labels over its definition's own.
fn labelled(
    mut own: BTreeMap<String, String>,
    sent: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Error> {
    own.extend(sent);
    let faults = labels_faults(&own);
    if faults.is_empty() { Ok(own) } else { Err(Error::InvalidRequest(faults)) }
}

fn labels_faults(labels: &BTreeMap<String, String>) -> Vec<Fault> {
    let mut faults = Vec::new();
    if labels.len() > limit::LABELS {
        let message = format!("a transaction may have {} labels, the definition's included", limit::LABELS);
        faults.push(Fault::at("/labels", message));
    }
    for (key, value) in labels {
        let pointer = || format!("/labels/{}", escape(key));
        if key.is_empty() || key.chars().count() > limit::LABEL_KEY {
            faults.push(Fault::at(pointer(), format!("a label's key has 1 to {} characters", limit::LABEL_KEY)));
        }
        if value.chars().count() > limit::LABEL_VALUE {
            faults.push(Fault::at(pointer(), format!("a label's value has at most {} characters", limit::LABEL_VALUE)));
        }
        if key.contains('\0') || value.contains('\0') {
            faults.push(Fault::at(pointer(), "a label cannot hold U+0000"));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use sha2::Sha256;

    use super::*;

    fn pointers(body: &str) -> Vec<String> {
        match BeginRequest::read(body.as_bytes()) {
            Err(Error::InvalidRequest(faults)) => faults.into_iter().map(|fault| fault.pointer).collect(),
            Err(other) => panic!("{other}"),
            Ok(_) => Vec::new(),
        }
    }

    fn digest_of(format: DigestFormat, body: &str) -> [u8; 32] {
        let request = BeginRequest::read(body.as_bytes()).unwrap_or_else(|error| panic!("{error}: {body}"));
        let form = |raw: Option<&RawValue>| raw.map(|raw| canonical(&json::value(raw.get().as_bytes(), "").unwrap()));
        let known =
            request.sent.digest(format, form(request.sent.definition).as_ref(), form(request.sent.input).as_ref());
        assert_eq!(known.as_ref().unwrap(), &request.sent.digest(format, None, None).unwrap());
        known.unwrap()
    }

    fn digest(body: &str) -> [u8; 32] {
        digest_of(DigestFormat::Digits, body)
    }

    #[test]
    fn the_digest_is_that_of_the_whole_body_without_its_gid() {
        let body = r#"{"timeout": "5s", "gid": "g", "input": {"b": 1.0, "a": "\u00e9"}, "definition": {"x": [1e2]},
            "labels": {"z": "1", "a": "2"}, "open": false, "version": null}"#;
        let mut value: serde_json::Value = serde_json::from_str(body).unwrap();
        value.as_object_mut().unwrap().remove("gid");
        let form = serde_json_canonicalizer::to_string(&value).unwrap();
        assert_eq!(digest_of(DigestFormat::Doubles, body), <[u8; 32]>::from(Sha256::digest(&form)));
        assert_eq!(digest(body), <[u8; 32]>::from(Sha256::digest(["\u{2}", &form].concat())));
    }

    #[test]
    fn a_number_counts_with_all_its_digits_whichever_came_first() {
        let body = |number: &str| format!(r#"{{"input": {{"n": {number}}}, "workflow": "w"}}"#);
        let of = |format, number| digest_of(format, &body(number));
        let (one, other) = ("9007199254740993", "9007199254740992");
        assert_ne!(of(DigestFormat::Digits, one), of(DigestFormat::Digits, other));
        assert_eq!(of(DigestFormat::Doubles, one), of(DigestFormat::Doubles, other), "what earlier builds stored");
        for number in [one, other] {
            assert_ne!(
                of(DigestFormat::Digits, number),
                of(DigestFormat::Doubles, one),
                "nor does one pass for the other"
            );
        }
    }

    #[test]
    fn a_gid_or_a_spelling_does_not_change_what_a_begin_is_compared_by() {
        let one = digest(r#"{"definition": {"a": 1, "b": 2}, "input": 1}"#);
        assert_eq!(one, digest(r#"{"gid": "x", "input": 1.0, "definition": {"b": 2, "a": 1}}"#));
        assert_ne!(one, digest(r#"{"definition": {"a": 1, "b": 2}, "input": 2}"#));
        assert_ne!(one, digest(r#"{"definition": {"a": 1, "b": 2}}"#));
        assert_ne!(one, digest(r#"{"definition": {"a": 1, "b": 2}, "input": 1, "timeout": null}"#));
    }

    #[test]
    fn a_begin_says_what_runs_and_only_that() {
        assert!(pointers(r#"{"definition": {}}"#).is_empty());
        assert!(pointers(r#"{"open": true, "timeout": "1m"}"#).is_empty());
        assert!(pointers(r#"{"workflow": "a", "version": "1.0.0", "definition": null}"#).is_empty());
        assert_eq!(pointers("{}"), [""]);
        assert_eq!(pointers(r#"{"definition": {}, "workflow": "a"}"#), [""]);
        assert_eq!(pointers(r#"{"definition": {}, "version": "1.0.0"}"#), ["/version"]);
        assert_eq!(pointers(r#"{"open": true}"#), ["/timeout"]);
        assert_eq!(pointers(r#"{"open": true, "timeout": "1m", "input": 1}"#), ["/input"]);
        assert_eq!(pointers(r#"{"open": true, "definition": {}}"#), [""]);
    }

    #[test]
    fn limits_are_told_with_their_place() {
        for timeout in ["", "5", "0s", "366d", "1y", "99999999999999999999s"] {
            assert_eq!(
                pointers(&format!(r#"{{"definition": {{}}, "timeout": "{timeout}"}}"#)),
                ["/timeout"],
                "{timeout}"
            );
        }
        let label = |key: &str, value: &str| format!(r#"{{"definition": {{}}, "labels": {{"{key}": "{value}"}}}}"#);
        assert!(pointers(&label(&"é".repeat(63), &"é".repeat(255))).is_empty());
        assert_eq!(pointers(&label(&"k".repeat(64), "v")), [format!("/labels/{}", "k".repeat(64))]);
        assert_eq!(pointers(&label("a/b", &"v".repeat(256))), ["/labels/a~1b"]);
        assert_eq!(pointers(&label("a", "\\u0000")), ["/labels/a"]);
        let many: Vec<_> = (0..17).map(|n| format!("\"k{n}\": \"v\"")).collect();
        assert_eq!(pointers(&format!(r#"{{"definition": {{}}, "labels": {{{}}}}}"#, many.join(","))), ["/labels"]);
    }

    #[test]
    fn members_of_the_wrong_kind_are_told_with_their_place() {
        assert_eq!(pointers(r#"{"definition": {}, "labels": {"a": 1}}"#), ["/labels/a"]);
        assert_eq!(pointers(r#"{"definition": {}, "open": "yes"}"#), ["/open"]);
        assert_eq!(pointers(r#"{"definition": {}, "timeout": 5, "inputt": 1}"#), ["/inputt", "/timeout"]);
        assert!(matches!(BeginRequest::read(br#"{"definition": {}, "gid": "a b"}"#), Err(Error::InvalidGid(_))));
        assert!(matches!(
            BeginRequest::read(br#"{"definition": {}, "definition": {}}"#),
            Err(Error::DuplicateKey { .. })
        ));
    }
}
