//! `POST /v1/callbacks/{token}`: participants finish asynchronous operations (PARTICIPANT.md).

use axum::{
    Json,
    extract::{Path, Request, State},
};
use serde::Serialize;
use skald_engine::{Command, Rejection, limit};
use skald_protocol::{CallbackRequest, CallbackVerdict, Fault, Problem};

use super::{Api, body, error::Error, json, open_transactions::engine_error};
use crate::runtime;

/// The outcome that is recorded.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Recorded {
    outcome: CallbackVerdict,
}

/// Finish an asynchronous operation, or say that it goes on
///
/// The address is the `Skald-Callback` of the call. The same outcome again is answered alike; another one is refused.
#[utoipa::path(
    post, path = "/v1/callbacks/{token}", tag = "participants", request_body = CallbackRequest,
    params(("token" = String, Path)),
    responses(
        (status = 200, description = "Recorded, now or before", body = Recorded),
        (status = 404, description = "`unknown_callback`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`callback_conflict`, `not_awaited`", body = Problem, content_type = "application/problem+json"),
        (status = 410, description = "`settled`: the transaction is over", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn callback(
    State(api): State<Api>,
    token: Result<Path<String>, axum::extract::rejection::PathRejection>,
    request: Request,
) -> Result<Json<Recorded>, Error> {
    let target = token.ok().and_then(|Path(token)| api.coordinator.callback_target(&token));
    let (gid, branch, operation) = target.ok_or(Error::UnknownCallback)?;
    let (parts, body) = request.into_parts();
    let body = body::whole(&parts.headers, body).await?;
    let CallbackRequest { outcome, output, error } = json::read(&body)?;
    let mut faults = Vec::new();
    if outcome != CallbackVerdict::Succeeded && output.as_ref().is_some_and(|output| !output.is_null()) {
        faults.push(Fault::at("/output", "goes with `succeeded`"));
    }
    if outcome != CallbackVerdict::Refused && error.is_some() {
        faults.push(Fault::at("/error", "goes with `refused`"));
    }
    if !faults.is_empty() {
        return Err(Error::InvalidRequest(faults));
    }
    if output.as_ref().is_some_and(|output| output.text().len() > limit::OUTPUT) {
        return Err(Error::OutputTooLarge);
    }
    let command = Command::Callback { branch, operation, verdict: outcome, output, error: error.map(engine_error) };
    match api.coordinator.command(&gid, command).await {
        Ok(_) => Ok(Json(Recorded { outcome })),
        Err(runtime::Error::Rejected(Rejection::Settled) | runtime::Error::Expired { .. }) => Err(Error::CallbackGone),
        Err(runtime::Error::UnknownGid(_)) => Err(Error::UnknownCallback),
        Err(error) => Err(error.into()),
    }
}
