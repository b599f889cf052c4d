//! Open transactions: branches are enlisted, the client decides. `cancel` also takes closed ones back.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Extension, Json,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use skald_engine::{Branch, Command, Enlistment, Rejection, definition};
use skald_protocol::{
    BranchRequest, BranchView, CallOutcome, EnlistedView, Fault, OperationKind, OperationStatus, ParticipantError,
    Problem, ReasonRequest, TransactionView,
};

use super::{
    Api, body, definitions,
    error::Error,
    json::{self, DigestFormat, suggest},
    middleware::Admission,
    params::{self, InPath},
    response,
};
use crate::runtime;

/// How long a try is waited for where the client says nothing.
const TRY_WAIT: Duration = Duration::from_secs(30);

/// A reason is for people.
const REASON: usize = 4096;

/// A body that may be left out, and says nothing.
#[derive(Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// Reads an optional body.
pub(super) fn optional<T>(body: &[u8]) -> Result<T, Error>
where
    T: Default + serde::de::DeserializeOwned + utoipa::ToSchema,
{
    if body.is_empty() { Ok(T::default()) } else { json::read(body) }
}

/// Faults of a reason, at `/reason`.
pub(super) fn check_reason(reason: Option<&str>) -> Result<(), Error> {
    match reason {
        Some(reason) if reason.len() > REASON => {
            Err(Error::InvalidRequest(vec![Fault::at("/reason", format!("may have {REASON} bytes"))]))
        }
        Some(_) | None => Ok(()),
    }
}

/// Enlist a branch into an open transaction
///
/// Durable first. With a `try` the coordinator calls it and answers with its outcome; without, the client calls its own
/// try with the `headers` of the answer. The same branch and content again gives the same answer, and no second try.
#[utoipa::path(
    post, path = "/v1/transactions/{gid}/branches", tag = "open transactions", request_body = BranchRequest,
    params(("gid" = String, Path), ("prefer" = Option<String>, Header, description = "`wait=30`, the default: how long the try is waited for")),
    responses(
        (status = 200, description = "Enlisted; its try, if it has one, has an outcome", body = EnlistedView),
        (status = 202, description = "Enlisted; the outcome of its try is not known yet", body = EnlistedView),
        (status = 409, description = "`branch_conflict`, `decided`, `not_open`, `settled`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_branch`, `unknown_service`, `too_many_branches`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn enlist(
    State(api): State<Api>,
    Extension(place): Extension<Admission>,
    InPath(gid): InPath,
    request: Request,
) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    let wait = params::wait(&parts.headers);
    let body = body::whole(&parts.headers, body).await?;
    let (asked, canonical) = json::read_canonical::<BranchRequest>(&body)?;
    let branch =
        definition::enlist(&asked).map_err(|faults| Error::InvalidBranch(definitions::to_faults("", faults)))?;
    check_services(&api, &branch)?;
    let id = branch.id.clone();
    let command = |format: DigestFormat| {
        let digest = hex::encode(format.digest(&canonical));
        Command::Enlist(Box::new(Enlistment { branch: branch.clone(), digest }))
    };
    let mut view = match api.coordinator.command(&gid, command(DigestFormat::Digits)).await {
        // A branch that an earlier build enlisted.
        Err(runtime::Error::Rejected(Rejection::BranchConflict { .. })) => {
            api.coordinator.command(&gid, command(DigestFormat::Doubles)).await?
        }
        enlisted => enlisted?,
    };
    if asked.try_.is_some() && !is_tried(&view, &asked) {
        view = response::tried(&api, &place, view, id, wait.unwrap_or(TRY_WAIT)).await?;
    }
    let status = if asked.try_.is_none() || is_tried(&view, &asked) { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(enlisted(&view, &asked))).into_response())
}

/// Commit an open transaction
///
/// Idempotent.
#[utoipa::path(
    post, path = "/v1/transactions/{gid}/commit", tag = "open transactions", request_body = Option<Nothing>,
    params(("gid" = String, Path), ("prefer" = Option<String>, Header, description = "`wait=30`: answer once it settled or was suspended")),
    responses(
        (status = 202, description = "Decided", body = TransactionView),
        (status = 200, description = "Settled or suspended", body = TransactionView),
        (status = 409, description = "`branch_unsettled`, `already_cancelled`, `not_open`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn commit(
    State(api): State<Api>,
    Extension(place): Extension<Admission>,
    InPath(gid): InPath,
    request: Request,
) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    let wait = params::wait(&parts.headers);
    let _: Nothing = optional(&body::whole(&parts.headers, body).await?)?;
    let view = api.coordinator.command(&gid, Command::Commit).await?;
    decided(&api, &place, view, wait).await
}

/// Cancel a transaction
///
/// An open one, or a closed one before its pivot. Idempotent; while a pivot is owed the answer has `decision: null`.
#[utoipa::path(
    post, path = "/v1/transactions/{gid}/cancel", tag = "transactions", request_body = Option<ReasonRequest>,
    params(("gid" = String, Path), ("prefer" = Option<String>, Header, description = "`wait=30`: answer once it settled or was suspended")),
    responses(
        (status = 202, description = "Recorded", body = TransactionView),
        (status = 200, description = "Settled or suspended", body = TransactionView),
        (status = 409, description = "`already_committed`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn cancel(
    State(api): State<Api>,
    Extension(place): Extension<Admission>,
    InPath(gid): InPath,
    request: Request,
) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    let wait = params::wait(&parts.headers);
    let ReasonRequest { reason } = optional(&body::whole(&parts.headers, body).await?)?;
    check_reason(reason.as_deref())?;
    let view = api.coordinator.command(&gid, Command::Cancel { reason }).await?;
    decided(&api, &place, view, wait).await
}

/// Answers a command that was taken: 200 at rest, 202 while it is still driven.
pub(super) async fn decided(
    api: &Api,
    place: &Admission,
    view: TransactionView,
    wait: Option<Duration>,
) -> Result<Response, Error> {
    let waited = response::settled(api, place, view, wait).await?;
    let status = if waited.rested { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok(response::waited(status, waited.view, wait))
}

/// A `path` needs a service that the server's configuration knows.
fn check_services(api: &Api, branch: &Branch) -> Result<(), Error> {
    let mut faults: Vec<Fault> = Vec::new();
    for operation in [&branch.forward, &branch.confirm, &branch.undo].into_iter().flatten() {
        let pointer = format!("/{}", operation.kind);
        let check = operation.status_check.as_deref();
        for (called, pointer) in [(Some(operation), pointer.clone()), (check, format!("{pointer}/status_check"))] {
            let Some(service) = called.and_then(|called| called.service.as_ref()) else { continue };
            if !api.options.services.contains(service) {
                faults.push(Fault {
                    help: Some(suggest(service, api.options.services.iter().map(String::as_str))),
                    ..Fault::at(pointer, format!("there is no service `{service}`"))
                });
            }
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(Error::UnknownService(faults)) }
}

fn find<'v>(view: &'v TransactionView, asked: &BranchRequest) -> Option<&'v BranchView> {
    view.branches.iter().find(|branch| branch.branch == asked.branch)
}

fn tried(branch: &BranchView) -> Option<&skald_protocol::OperationView> {
    branch.operations.iter().find(|operation| operation.operation == OperationKind::Try)
}

fn outcome_of(status: OperationStatus) -> Option<CallOutcome> {
    match status {
        OperationStatus::Owed => None,
        OperationStatus::Pending => Some(CallOutcome::Pending),
        OperationStatus::Succeeded => Some(CallOutcome::Succeeded),
        OperationStatus::Refused => Some(CallOutcome::Refused),
        // It is not called any more, and may have run.
        OperationStatus::Exhausted | OperationStatus::Skipped => Some(CallOutcome::Unknown),
    }
}

fn is_tried(view: &TransactionView, asked: &BranchRequest) -> bool {
    find(view, asked)
        .and_then(tried)
        .is_some_and(|operation| !matches!(operation.status, OperationStatus::Owed | OperationStatus::Pending))
}

fn enlisted(view: &TransactionView, asked: &BranchRequest) -> EnlistedView {
    let branch = find(view, asked);
    let operation = branch.and_then(tried);
    let error = operation.filter(|operation| operation.status != OperationStatus::Succeeded);
    EnlistedView {
        branch: asked.branch.clone(),
        status: branch.map_or(skald_protocol::BranchStatus::Running, |branch| branch.status),
        outcome: operation.and_then(|operation| outcome_of(operation.status)),
        output: operation.and_then(|operation| operation.output.clone()),
        error: error.and_then(|operation| operation.last_error.clone()),
        headers: if asked.try_.is_some() { BTreeMap::new() } else { own_try(view, asked) },
    }
}

/// What a client sends with its own try.
fn own_try(view: &TransactionView, asked: &BranchRequest) -> BTreeMap<String, String> {
    let (gid, branch, kind) = (&view.gid, &asked.branch, OperationKind::Try);
    [
        (skald_protocol::IDEMPOTENCY_KEY, format!("{gid}/{branch}/{kind}")),
        (skald_protocol::SKALD_TRANSACTION, gid.to_string()),
        (skald_protocol::SKALD_BRANCH, branch.to_string()),
        (skald_protocol::SKALD_OPERATION, kind.to_string()),
        (skald_protocol::SKALD_ATTEMPT, "1".to_owned()),
        (skald_protocol::SKALD_BEGAN, view.created_at.to_string()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// A participant's error in an answer or a callback.
pub(super) fn engine_error(error: ParticipantError) -> skald_engine::Error {
    skald_engine::Error { code: error.code, message: error.message }
}
