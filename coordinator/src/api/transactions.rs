//! Reading: one transaction, lists of them.

use axum::{
    Json,
    extract::{Request, State},
    response::Response,
};
use http::StatusCode;
use skald_protocol::{Gid, Page, Problem, Status, Timestamp, TransactionSummary, TransactionView};

use super::{
    Api,
    error::Error,
    params::{self, InPath, Query},
    response,
};
use crate::runtime::Filter;

const PAGE: usize = 50;
const LONGEST_PAGE: usize = 500;

/// Read a transaction
#[utoipa::path(
    get, path = "/v1/transactions/{gid}", tag = "transactions",
    params(
        ("gid" = String, Path),
        ("branch_limit" = Option<u32>, Query, description = "Branches on this page, 1 to 1000"),
        ("branch_cursor" = Option<String>, Query, description = "`branches_next_cursor` of the page before"),
    ),
    responses(
        (status = 200, body = TransactionView),
        (status = 404, description = "`unknown_gid`", body = Problem, content_type = "application/problem+json"),
        (status = 410, description = "`expired`: retention took it; `final_status` is left", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn get(State(api): State<Api>, InPath(gid): InPath, request: Request) -> Result<Response, Error> {
    let (parts, _) = request.into_parts();
    let mut query = Query::of(&parts);
    let limit = query.limit("branch_limit", response::BRANCHES, response::BRANCHES)?;
    let first = query.one("branch_cursor")?.map_or(Ok(0), |cursor| params::read_branch_cursor(&cursor))?;
    query.end()?;
    // One more than is shown tells whether there is a next page.
    let mut view = api.coordinator.get(&gid, first..first + limit + 1).await?;
    response::page(&mut view, first, limit);
    Ok(response::view(StatusCode::OK, view, first))
}

/// List transactions, newest first
///
/// Status may lag by a second.
#[utoipa::path(
    get, path = "/v1/transactions", tag = "transactions",
    params(
        ("status" = Option<Vec<Status>>, Query, description = "Any of these; may be repeated"),
        ("workflow" = Option<String>, Query, description = "The workflow's name"),
        ("label.{key}" = Option<String>, Query, description = "The label's value; may be repeated for other keys"),
        ("gid" = Option<String>, Query, description = "What the gid starts with"),
        ("created_after" = Option<Timestamp>, Query),
        ("created_before" = Option<Timestamp>, Query),
        ("limit" = Option<u32>, Query, description = "1 to 500, default 50"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, body = Page<TransactionSummary>),
        (status = 400, description = "`invalid_query`, `bad_cursor`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(State(api): State<Api>, request: Request) -> Result<Json<Page<TransactionSummary>>, Error> {
    let (parts, _) = request.into_parts();
    let mut query = Query::of(&parts);
    let limit = query.limit("limit", PAGE, LONGEST_PAGE)?;
    let mut filter = filter(&mut query)?;
    query.end()?;
    filter.limit = limit + 1;
    let mut items = api.coordinator.list(&filter).await?;
    let next_cursor = (items.len() > limit).then(|| {
        items.truncate(limit);
        items.last().map(|last| params::list_cursor(last.created_at, &last.gid))
    });
    Ok(Json(Page { items, next_cursor: next_cursor.flatten() }))
}

fn filter(query: &mut Query<'_>) -> Result<Filter, Error> {
    let mut status = Vec::new();
    for text in query.all("status") {
        for one in text.split(',') {
            status.push(one.parse().map_err(|message: String| params::invalid("status", &message))?);
        }
    }
    let gid_prefix = query.one("gid")?.filter(|prefix| !prefix.is_empty()).map(String::from);
    if let Some(prefix) = &gid_prefix {
        Gid::new(prefix)?;
    }
    let workflow = query.one("workflow")?.map(String::from);
    let labels: std::collections::BTreeMap<_, _> = query.prefixed("label.")?.into_iter().collect();
    let is_unstorable = |text: &String| text.contains('\0');
    if workflow.iter().chain(labels.keys()).chain(labels.values()).any(is_unstorable) {
        return Err(params::invalid("workflow", "and labels never hold U+0000"));
    }
    Ok(Filter {
        status,
        workflow,
        labels,
        gid_prefix,
        created_after: query.parsed::<Timestamp>("created_after")?,
        created_before: query.parsed::<Timestamp>("created_before")?,
        before: query.one("cursor")?.map(|cursor| params::read_list_cursor(&cursor)).transpose()?,
        limit: 0,
    })
}
