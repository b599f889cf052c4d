//! Plans as pictures: of a published workflow, and of a transaction with its execution laid over it.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::{
    HeaderMap, HeaderValue,
    header::{ACCEPT, CONTENT_TYPE, VARY},
};
use skald_engine::{
    Plan,
    graph::{Form, graph},
};
use skald_protocol::{Problem, TransactionView};

use super::{
    Api,
    error::Error,
    params::{InPath, InPaths, Query},
    workflows,
};

/// What is answered where nothing else is asked for.
const MERMAID: &str = "text/vnd.mermaid";
const GRAPHVIZ: &str = "text/vnd.graphviz";
const PLAIN: &str = "text/plain";

/// Draw a published definition
///
/// A Mermaid flowchart or, with `Accept: text/vnd.graphviz`, DOT.
#[utoipa::path(
    get, operation_id = "draw_workflow", path = "/v1/workflows/{name}/{version}/graph", tag = "workflows",
    params(("name" = String, Path), ("version" = String, Path, description = "A version, or `latest`")),
    responses(
        (status = 200, content((String = "text/vnd.mermaid"), (String = "text/plain"), (String = "text/vnd.graphviz"))),
        (status = 404, description = "`unknown_workflow`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn workflow(
    State(api): State<Api>,
    InPaths(name, version): InPaths,
    request: Request,
) -> Result<Response, Error> {
    let (parts, _) = request.into_parts();
    Query::of(&parts).end()?;
    let workflow = workflows::found(&api, &name, version).await?;
    let plan = api.coordinator.published_plan(&workflow).await?.plan;
    Ok(drawn(&parts.headers, plan, None).await)
}

/// Draw a transaction
///
/// Its plan, each step in the colour of its branch; in the forms of a workflow's.
#[utoipa::path(
    get, operation_id = "draw_transaction", path = "/v1/transactions/{gid}/graph", tag = "transactions",
    params(("gid" = String, Path)),
    responses(
        (status = 200, content((String = "text/vnd.mermaid"), (String = "text/plain"), (String = "text/vnd.graphviz"))),
        (status = 404, description = "`unknown_gid`", body = Problem, content_type = "application/problem+json"),
        (status = 410, description = "`expired`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn transaction(
    State(api): State<Api>,
    InPath(gid): InPath,
    request: Request,
) -> Result<Response, Error> {
    let (parts, _) = request.into_parts();
    Query::of(&parts).end()?;
    let (plan, view) = api.coordinator.planned(&gid).await?;
    Ok(drawn(&parts.headers, plan, Some(view)).await)
}

async fn drawn(headers: &HeaderMap, plan: Arc<Plan>, view: Option<TransactionView>) -> Response {
    let (form, media) = wanted(headers);
    // A thousand steps are drawn in a moment, but not on a thread that serves others.
    let text = tokio::task::spawn_blocking(move || graph(&plan, view.as_ref(), form)).await.unwrap_or_default();
    let mut response = text.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(VARY, HeaderValue::from_static("accept"));
    response
}

/// The first of ours that is named.
fn wanted(headers: &HeaderMap) -> (Form, &'static str) {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for media in accepted.flat_map(|value| value.split(',')) {
        let media = media.split(';').next().unwrap_or_default().trim();
        if media.eq_ignore_ascii_case(GRAPHVIZ) {
            return (Form::Dot, "text/vnd.graphviz; charset=utf-8");
        }
        if media.eq_ignore_ascii_case(PLAIN) {
            return (Form::Mermaid, "text/plain; charset=utf-8");
        }
        if media.eq_ignore_ascii_case(MERMAID) {
            break;
        }
    }
    (Form::Mermaid, "text/vnd.mermaid; charset=utf-8")
}
