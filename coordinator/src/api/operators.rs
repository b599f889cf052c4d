//! An operator's commands for a transaction that cannot move without one.
//!
//! Each is first tried out, then written to the audit, then spoken: none takes effect unaudited, and one that is refused
//! leaves no entry. With `?dry_run=true` only the first happens.

use std::time::SystemTime;

use axum::{
    Json, RequestExt,
    extract::{FromRequest, Request},
    response::{IntoResponse, Response},
};
use http::HeaderMap;
use sha2::{Digest, Sha256};
use skald_engine::{Command, Target, value::canonical};
use skald_protocol::{
    DryRun, FailRequest, Fault, Gid, OwedCall, Problem, ResolveRequest, RetryRequest, SkipRequest, Timestamp,
    TransactionView, duration_text,
};
use uuid::Uuid;

use super::{
    Api, body,
    error::Error,
    json,
    middleware::Admission,
    open_transactions::{self, Nothing, check_reason, optional},
    params::{self, InPath, Query},
};
use crate::runtime::{self, Audit};

const LONGEST_KEY: usize = 255;

/// Retry what is stuck, or waits for its next attempt, now
#[utoipa::path(
    post, path = "/v1/transactions/{gid}/retry", tag = "operators", request_body = Option<RetryRequest>,
    params(("gid" = String, Path), Key, TriedOut),
    responses(Answers)
)]
pub(super) async fn retry(request: OperatorRequest) -> Result<Response, Error> {
    request
        .carry_out(|body| {
            let RetryRequest { branch } = optional(body)?;
            Ok(Command::Retry { branch })
        })
        .await
}

/// Treat a stuck operation as done
#[utoipa::path(
    post, path = "/v1/transactions/{gid}/skip", tag = "operators", request_body = SkipRequest,
    params(("gid" = String, Path), Key, TriedOut),
    responses(Answers)
)]
pub(super) async fn skip(request: OperatorRequest) -> Result<Response, Error> {
    request
        .carry_out(|body| {
            let SkipRequest { branch, reason } = json::read(body)?;
            Ok(Command::Skip { branch, reason })
        })
        .await
}

/// Give a stuck operation its outcome
#[utoipa::path(
    post, path = "/v1/transactions/{gid}/resolve", tag = "operators", request_body = ResolveRequest,
    params(("gid" = String, Path), Key, TriedOut),
    responses(Answers)
)]
pub(super) async fn resolve(request: OperatorRequest) -> Result<Response, Error> {
    request
        .carry_out(|body| {
            json::check_depth(body)?;
            let ResolveRequest { branch, outcome, output, reason } = json::read(body)?;
            if output.as_ref().is_some_and(|output| output.text().len() > skald_engine::limit::OUTPUT) {
                return Err(Error::OutputTooLarge);
            }
            Ok(Command::Resolve { branch, outcome, output, reason })
        })
        .await
}

/// End a transaction as `failed`
#[utoipa::path(
    post, path = "/v1/transactions/{gid}/fail", tag = "operators", request_body = FailRequest,
    params(("gid" = String, Path), Key, TriedOut),
    responses(Answers)
)]
pub(super) async fn fail(request: OperatorRequest) -> Result<Response, Error> {
    request
        .carry_out(|body| {
            let FailRequest { reason } = json::read(body)?;
            Ok(Command::Fail { reason })
        })
        .await
}

/// Leave `suspended`
#[utoipa::path(
    post, path = "/v1/transactions/{gid}/resume", tag = "operators", request_body = Option<Nothing>,
    params(("gid" = String, Path), Key, TriedOut),
    responses(Answers)
)]
pub(super) async fn resume(request: OperatorRequest) -> Result<Response, Error> {
    request
        .carry_out(|body| {
            let _: Nothing = optional(body)?;
            Ok(Command::Resume)
        })
        .await
}

/// What each of them may say beside its body.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it describes what is read by hand")]
struct Key {
    /// The same request under the same key is taken once
    #[param(rename = "idempotency-key")]
    idempotency_key: Option<String>,
}

#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it describes what is read by hand")]
struct TriedOut {
    /// Answer what would be called (`DryRun`); change nothing
    dry_run: Option<bool>,
}

#[derive(utoipa::IntoResponses)]
#[expect(dead_code, reason = "it describes what is answered")]
enum Answers {
    /// Taken, and still driven
    #[response(status = 202)]
    Driven(TransactionView),
    /// Settled, suspended, or a dry run
    #[response(status = 200)]
    AtRest(TransactionView),
    /// `unknown_gid`, `unknown_branch`
    #[response(status = 404, content_type = "application/problem+json")]
    Unknown(Problem),
    /// `not_stuck`, `not_suspended`, `settled`, `idempotency_key_conflict`
    #[response(status = 409, content_type = "application/problem+json")]
    Conflict(Problem),
}

pub(super) struct OperatorRequest {
    api: Api,
    admission: Admission,
    gid: Gid,
    request: Request,
}

impl FromRequest<Api> for OperatorRequest {
    type Rejection = Error;

    async fn from_request(mut request: Request, api: &Api) -> Result<Self, Error> {
        let admission = request.extensions().get::<Admission>().cloned().expect("an admitted request");
        let InPath(gid) = request.extract_parts_with_state::<InPath, Api>(api).await?;
        Ok(Self { api: api.clone(), admission, gid, request })
    }
}

impl OperatorRequest {
    async fn carry_out(self, read: impl FnOnce(&[u8]) -> Result<Command, Error>) -> Result<Response, Error> {
        let Self { api, admission, gid, request } = self;
        let (parts, body) = request.into_parts();
        let mut query = Query::of(&parts);
        let is_dry_run = query.flag("dry_run")?;
        query.end()?;
        let wait = params::wait(&parts.headers);
        let key = idempotency_key(&parts.headers)?;
        let body = body::whole(&parts.headers, body).await?;
        let command = read(&body)?;
        let mut entry = audit_of(&gid, &command)?;
        let command = match key {
            Some(key) => {
                let digest = digest(&entry.command, &body)?;
                entry.id = id_of(&gid, &key);
                Command::Once { key, digest, command: Box::new(command) }
            }
            None => command,
        };
        let calls = match api.coordinator.dry_run(&gid, command.clone()).await {
            Ok(calls) => calls,
            // What cannot be read cannot be tried out either; it may still be ended.
            Err(runtime::Error::Quarantined(_)) if command.fails() => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        if is_dry_run {
            return Ok(Json(DryRun { calls: calls.into_iter().map(owed).collect() }).into_response());
        }
        api.coordinator.audit(&entry).await?;
        let view = api.coordinator.command(&gid, command).await?;
        open_transactions::decided(&api, &admission, view, wait).await
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Error> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let is_key = |text: &&str| (1..=LONGEST_KEY).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    let text = value.to_str().ok().filter(is_key);
    let message = format!("a key has 1 to {LONGEST_KEY} visible characters of ASCII");
    let key = text.ok_or(Error::InvalidHeader { name: "idempotency-key", message })?;
    Ok(Some(key.to_owned()))
}

/// By what a request is compared with an earlier one of the same key.
fn digest(command: &str, body: &[u8]) -> Result<String, Error> {
    let mut hash = Sha256::new();
    hash.update(command);
    if !body.is_empty() {
        hash.update(canonical(&json::value(body, "")?).form);
    }
    Ok(hex::encode(hash.finalize()))
}

/// The same for the same request: it stands in the audit once.
fn id_of(gid: &Gid, key: &str) -> Uuid {
    let hash = Sha256::new().chain_update(gid.as_str()).chain_update("\n").chain_update(key).finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

/// The audit's entry of a command, whose reason must say something.
fn audit_of(gid: &Gid, command: &Command) -> Result<Audit, Error> {
    let (name, branch, reason) = match command {
        Command::Retry { branch } => ("retry", branch.as_ref(), None),
        Command::Skip { branch, reason } => ("skip", Some(branch), Some(reason)),
        Command::Resolve { branch, reason, .. } => ("resolve", Some(branch), Some(reason)),
        Command::Fail { reason } => ("fail", None, Some(reason)),
        Command::Resume => ("resume", None, None),
        Command::Enlist(_)
        | Command::Commit
        | Command::Cancel { .. }
        | Command::Signal { .. }
        | Command::Callback { .. }
        | Command::JournalFull
        | Command::Once { .. } => unreachable!("not an operator's command"),
    };
    check_reason(reason.map(String::as_str))?;
    if reason.is_some_and(|reason| reason.trim().is_empty()) {
        return Err(Error::InvalidRequest(vec![Fault::at("/reason", "says why, for those who read the audit")]));
    }
    Ok(Audit {
        gid: gid.clone(),
        id: Uuid::now_v7(),
        at: now(),
        command: name.to_owned(),
        branch: branch.map(ToString::to_string),
        reason: reason.cloned(),
    })
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(0).plus(since)
}

fn owed(request: skald_engine::Request) -> OwedCall {
    let (url, path) = match request.target {
        Target::Url(url) => (Some(url), None),
        Target::Path(path) => (None, Some(path)),
    };
    OwedCall {
        branch: request.branch,
        operation: request.operation,
        method: request.method,
        service: request.service,
        url,
        path,
        query: request.query,
        headers: request.headers,
        body: request.body,
        timeout: duration_text(request.timeout),
        idempotency_key: request.idempotency_key,
    }
}
