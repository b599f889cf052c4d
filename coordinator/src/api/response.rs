//! What a call is answered with once it is taken, and the waiting that `Prefer` asks for.

use std::time::Duration;

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, StatusCode};
use skald_protocol::{BranchId, Status, TransactionView};

use super::{Api, error::Error, middleware::Admission, params};
use crate::runtime::{self, Until};

/// How many branches one answer holds, and how many it holds at most.
pub(super) const BRANCHES: usize = 1_000;

pub(super) struct Waited {
    pub(super) view: TransactionView,
    /// It settled, or it is suspended: it does not move by itself.
    pub(super) rested: bool,
}

fn rests(view: &TransactionView) -> bool {
    view.status.is_final() || view.status == Status::Suspended
}

/// Waits until the transaction settled or was suspended, if that was asked for.
pub(super) async fn settled(
    api: &Api,
    place: &Admission,
    view: TransactionView,
    wait: Option<Duration>,
) -> Result<Waited, Error> {
    let view = match wait {
        Some(time) if !rests(&view) => wait_until(api, place, view, Until::Settled, time).await?,
        _ => view,
    };
    Ok(Waited { rested: rests(&view), view })
}

/// Waits until the branch's try has an outcome.
pub(super) async fn tried(
    api: &Api,
    place: &Admission,
    view: TransactionView,
    branch: BranchId,
    time: Duration,
) -> Result<TransactionView, Error> {
    wait_until(api, place, view, Until::Branch(branch), time).await
}

/// A wait is a wish: where too many wait already, or the node goes down, the answer comes at once.
async fn wait_until(
    api: &Api,
    place: &Admission,
    view: TransactionView,
    until: Until,
    time: Duration,
) -> Result<TransactionView, Error> {
    let Ok(_waiting) = api.waiting.try_acquire() else { return Ok(view) };
    place.give_back();
    tokio::select! {
        waited = api.coordinator.wait(&view.gid, until, time) => match waited {
            Ok(view) => Ok(view),
            // What was asked for is durable; that it could not be watched takes nothing back.
            Err(runtime::Error::NotReady { .. } | runtime::Error::Overloaded { .. } | runtime::Error::Store(_)) => Ok(view),
            Err(error) => Err(error.into()),
        },
        () = api.drain.cancelled() => Ok(view),
    }
}

/// A transaction whose branches start at `first`, no more of them than one answer holds.
pub(super) fn view(status: StatusCode, mut view: TransactionView, first: usize) -> Response {
    page(&mut view, first, BRANCHES);
    (status, Json(view)).into_response()
}

/// As `view`, and says which wait was honoured.
pub(super) fn waited(status: StatusCode, transaction: TransactionView, wait: Option<Duration>) -> Response {
    let mut response = view(status, transaction, 0);
    if let Some(applied) = wait.and_then(|time| HeaderValue::try_from(format!("wait={}", time.as_secs())).ok()) {
        response.headers_mut().insert(HeaderName::from_static("preference-applied"), applied);
    }
    response
}

/// Keeps `limit` branches of a view whose first branch is the transaction's `first`.
pub(super) fn page(view: &mut TransactionView, first: usize, limit: usize) {
    if view.branches.len() > limit {
        view.branches.truncate(limit);
        view.branches_next_cursor = Some(params::branch_cursor(first + limit));
    }
}

/// To a begin, a gid that retention took is a conflict.
pub(super) fn of_begin(error: runtime::Error) -> Error {
    match error {
        runtime::Error::Expired { gid, status } => Error::GidExpired { gid, status },
        other => other.into(),
    }
}
