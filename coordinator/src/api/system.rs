//! What probes, scrapers and readers of documents ask.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::header::CONTENT_TYPE;
use serde::Serialize;
use skald_protocol::Problem;
use std::time::Duration;

use super::{Api, error::Error};

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Health {
    status: &'static str,
}

/// Alive
///
/// Says nothing about the database: a restart would not bring it back.
#[utoipa::path(get, path = "/healthz", tag = "node", responses((status = 200, body = Health)))]
pub(super) async fn healthz() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Ready for calls
///
/// The database is reachable, its schema current, and the node is not draining.
#[utoipa::path(
    get, path = "/readyz", tag = "node",
    responses((status = 200, body = Health), (status = 503, description = "`not_ready`, `draining`, `database_damaged`", body = Problem, content_type = "application/problem+json"))
)]
pub(super) async fn readyz(State(api): State<Api>) -> Result<Json<Health>, Error> {
    if api.drain.is_cancelled() {
        return Err(Error::Draining { retry_after: Duration::from_secs(1) });
    }
    api.coordinator.ready().await?;
    Ok(Json(Health { status: "ready" }))
}

/// Metrics, as OpenMetrics text
#[utoipa::path(get, path = "/metrics", tag = "node", responses((status = 200, body = String, content_type = "application/openmetrics-text")))]
pub(super) async fn metrics(State(api): State<Api>) -> Response {
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], api.metrics.render())
        .into_response()
}
