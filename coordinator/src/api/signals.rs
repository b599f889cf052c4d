//! `POST /v1/transactions/{gid}/signals/{name}`: a person's decision, another system's event.

use axum::{
    Extension,
    extract::{Request, State},
    response::Response,
};
use skald_engine::{Command, definition, limit};
use skald_protocol::{Gid, Problem, SignalRequest, TransactionView};

use super::{
    Api, body,
    error::Error,
    middleware::Admission,
    open_transactions::{decided, optional},
    params::{self, InPaths},
};

/// Send a signal
///
/// The first of each name stays and is seen by every step that waits for it, now or later. The same again changes nothing.
#[utoipa::path(
    post, path = "/v1/transactions/{gid}/signals/{name}", tag = "transactions", request_body = Option<SignalRequest>,
    params(
        ("gid" = String, Path), ("name" = String, Path, description = "Letters, digits and `_.~-`, at most 128"),
        ("prefer" = Option<String>, Header, description = "`wait=30`: answer once it settled or was suspended"),
    ),
    responses(
        (status = 202, description = "Recorded", body = TransactionView),
        (status = 200, description = "Settled or suspended", body = TransactionView),
        (status = 409, description = "`signal_conflict`, `settled`, `no_signals`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "`too_many_signals`, `payload_too_large`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn signal(
    State(api): State<Api>,
    Extension(place): Extension<Admission>,
    InPaths(gid, name): InPaths,
    request: Request,
) -> Result<Response, Error> {
    let gid = Gid::new(gid)?;
    let (parts, body) = request.into_parts();
    let wait = params::wait(&parts.headers);
    if !definition::is_signal(&name) {
        return Err(Error::InvalidSignal);
    }
    let body = body::whole(&parts.headers, body).await?;
    let SignalRequest { payload } = optional(&body)?;
    if payload.as_ref().is_some_and(|payload| payload.text().len() > limit::OUTPUT) {
        return Err(Error::PayloadTooLarge);
    }
    let view = api.coordinator.command(&gid, Command::Signal { name, payload }).await?;
    decided(&api, &place, view, wait).await
}
