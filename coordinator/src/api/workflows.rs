//! `/v1/workflows`: definitions, published once under a name and a version, and begun by them.
//!
//! A version is compared by content: the definition's canonical form. What was published stays published, also where
//! this build's compiler would refuse it today.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header::LOCATION};
use semver::Version;
use sha2::{Digest, Sha256};
use skald_engine::{
    definition::{Position, position},
    limit,
    text::shortened,
    value::{Canonical, Value, canonical},
};
use skald_protocol::{Fault, Page, Problem, PublishedView, WorkflowRef, WorkflowSummary, WorkflowView};

use super::{
    Api, body,
    definitions::{self, Definition},
    error::Error,
    json,
    params::{self, InPaths, Query},
};
use crate::runtime::{Published, Workflow, WorkflowRow};

const PAGE: usize = 50;
const LONGEST_PAGE: usize = 500;
/// In place of a version. No version can be spelt so.
const LATEST: &str = "latest";

/// Publish a definition
///
/// The name and the version are those that the definition states. The same content again changes nothing.
#[utoipa::path(
    put, operation_id = "publish_workflow", path = "/v1/workflows/{name}/{version}", tag = "workflows",
    params(("name" = String, Path), ("version" = String, Path)),
    request_body(content = serde_json::Value, description = "A definition (docs/workflows.md)", content_type = "application/json"),
    responses(
        (status = 201, description = "Published", body = PublishedView, headers(("location" = String))),
        (status = 200, description = "The same content was published before", body = PublishedView),
        (status = 403, description = "`secret_withheld`: it sends secrets where this server does not let them go", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`version_conflict`: this version has other content, and a version never changes", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_definition`, `invalid_request`, `definition_too_large`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn publish(
    State(api): State<Api>,
    InPaths(name, version): InPaths,
    request: Request,
) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    Query::of(&parts).end()?;
    let body = body::whole(&parts.headers, body).await?;
    if body.len() > limit::DEFINITION {
        return Err(Error::DefinitionTooLarge);
    }
    json::check_depth(&body)?;
    let source = str::from_utf8(&body).map_err(|error| Error::InvalidJson { message: error.to_string() })?;
    let value = json::value(&body, "").map_err(|error| definitions::diagnose("", source, error))?;
    let content = canonical(&value);
    let wanted = WorkflowRef { name, version };
    let mut strays = strays(source, &value, &wanted);
    let library = definitions::library(&api.coordinator, source).await?;
    let compiled = match definitions::compile(source, library).await? {
        Ok(compiled) if strays.is_empty() => compiled,
        Ok(_) => return Err(Error::InvalidRequest(strays)),
        Err(faults) => {
            return match before(&api, &wanted, &content).await? {
                Some(row) if strays.is_empty() => Ok(published(StatusCode::OK, &row, Vec::new())),
                _ => {
                    let mut all = definitions::to_faults("", faults);
                    all.append(&mut strays);
                    Err(Error::InvalidDefinition(all))
                }
            };
        }
    };
    let warnings = definitions::to_faults("", compiled.warnings);
    if let Err(withheld) = definitions::check_secrets(&api.coordinator, &compiled.plan, Some("")) {
        let row = before(&api, &wanted, &content).await?;
        return row.map(|row| published(StatusCode::OK, &row, warnings)).ok_or(withheld);
    }
    let plan = crate::runtime::PreparedPlan::new(compiled.plan, Some(source.to_owned()));
    let digest = Sha256::digest(&content.form).into();
    match api.coordinator.publish(wanted.clone(), digest, source.to_owned(), &plan).await? {
        Published::New(row) => Ok(published(StatusCode::CREATED, &row, warnings)),
        // Earlier builds made the digest of numbers as doubles: only the text tells.
        Published::Same(_) | Published::Conflict(_) => match before(&api, &wanted, &content).await? {
            Some(row) => Ok(published(StatusCode::OK, &row, warnings)),
            None => Err(Error::VersionConflict(wanted)),
        },
    }
}

/// Where a definition says another name or version than its address.
fn strays(source: &str, definition: &Value, wanted: &WorkflowRef) -> Vec<Fault> {
    let stated = [("name", &wanted.name), ("version", &wanted.version)];
    let stray = |(member, asked): (&str, &String)| {
        let told = definition.get(member)?.as_str().filter(|told| told != asked)?;
        let message = format!(
            "`{}` here and `{}` in the address: they must be the same",
            shortened(told, SHOWN),
            shortened(asked, SHOWN)
        );
        let pointer = format!("/{member}");
        let Position { line, column } = position(source, &pointer);
        Some(Fault { line: Some(line), column: Some(column), ..Fault::at(pointer, message) })
    };
    stated.into_iter().filter_map(stray).collect()
}

/// The published version, if it has this content.
async fn before(api: &Api, wanted: &WorkflowRef, content: &Canonical) -> Result<Option<WorkflowRow>, Error> {
    if !can_be(wanted) {
        return Ok(None);
    }
    let workflow = api.coordinator.workflow(wanted).await?;
    let same = |workflow: &Workflow| {
        Value::read(&workflow.definition).is_ok_and(|stored| canonical(&stored).form == content.form)
    };
    Ok(workflow.filter(same).map(|workflow| workflow.row))
}

fn published(status: StatusCode, row: &WorkflowRow, warnings: Vec<Fault>) -> Response {
    let WorkflowRef { name, version } = row.workflow.clone();
    let location = format!("/v1/workflows/{name}/{version}");
    let view = PublishedView {
        name,
        version,
        digest: hex::encode(row.digest),
        plan_digest: hex::encode(row.plan),
        published_at: row.published_at,
        warnings,
    };
    let mut response = (status, Json(view)).into_response();
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// List the published workflows
///
/// The latest version of each, in the order of their names.
#[utoipa::path(
    get, operation_id = "list_workflows", path = "/v1/workflows", tag = "workflows",
    params(
        ("limit" = Option<u32>, Query, description = "1 to 500, default 50"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, body = Page<WorkflowSummary>),
        (status = 400, description = "`invalid_query`, `bad_cursor`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(State(api): State<Api>, request: Request) -> Result<Json<Page<WorkflowSummary>>, Error> {
    let (limit, cursor) = paged(request, "w:", is_name)?;
    let rows = api.coordinator.workflows(cursor.as_deref().unwrap_or_default(), limit + 1).await?;
    Ok(Json(page(rows, limit, |last| params::cursor("w:", &last.name))))
}

/// List the versions of a workflow
///
/// By SemVer's precedence, the latest first; pre-releases after all others.
#[utoipa::path(
    get, operation_id = "list_workflow_versions", path = "/v1/workflows/{name}", tag = "workflows",
    params(
        ("name" = String, Path),
        ("limit" = Option<u32>, Query, description = "1 to 500, default 50"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, body = Page<WorkflowSummary>),
        (status = 400, description = "`invalid_query`, `bad_cursor`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`unknown_workflow`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn versions(
    State(api): State<Api>,
    InPaths(name, _): InPaths,
    request: Request,
) -> Result<Json<Page<WorkflowSummary>>, Error> {
    let (limit, cursor) = paged(request, "v:", is_version)?;
    let rows = match is_name(&name) {
        true => api.coordinator.versions(&name, cursor.as_deref(), limit + 1).await?,
        false => Vec::new(),
    };
    if rows.is_empty() && cursor.is_none() {
        return Err(Error::NoWorkflow(unknown(&name, None, None)));
    }
    Ok(Json(page(rows, limit, |last| params::cursor("v:", &last.version))))
}

/// Read a published definition
#[utoipa::path(
    get, operation_id = "read_workflow", path = "/v1/workflows/{name}/{version}", tag = "workflows",
    params(("name" = String, Path), ("version" = String, Path, description = "A version, or `latest`")),
    responses(
        (status = 200, body = WorkflowView),
        (status = 404, description = "`unknown_workflow`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn get(
    State(api): State<Api>,
    InPaths(name, version): InPaths,
    request: Request,
) -> Result<Json<WorkflowView>, Error> {
    let (parts, _) = request.into_parts();
    Query::of(&parts).end()?;
    let workflow = found(&api, &name, version).await?;
    let WorkflowRef { name, version } = workflow.row.workflow;
    Ok(Json(WorkflowView {
        name,
        version,
        digest: hex::encode(workflow.row.digest),
        plan_digest: hex::encode(workflow.row.plan),
        published_at: workflow.row.published_at,
        definition: skald_protocol::Json::from_text(workflow.definition).unwrap_or_default(),
    }))
}

/// A version, or `latest`.
pub(super) async fn found(api: &Api, name: &str, version: String) -> Result<Workflow, Error> {
    let asked = Some(version).filter(|version| version != LATEST);
    let wanted = resolved(api, name, asked.as_deref()).await?.map_err(Error::NoWorkflow)?;
    match api.coordinator.workflow(&wanted).await? {
        Some(workflow) => Ok(workflow),
        None => Err(Error::NoWorkflow(missing(api, &wanted).await?)),
    }
}

/// What a begin by name runs.
pub(super) async fn to_begin(api: &Api, name: &str, version: Option<&str>) -> Result<Arc<Definition>, Error> {
    let wanted = resolved(api, name, version).await?.map_err(Error::UnknownWorkflow)?;
    match api.definitions.published(&api.coordinator, &wanted).await? {
        Some(definition) => Ok(definition),
        None => Err(Error::UnknownWorkflow(missing(api, &wanted).await?)),
    }
}

/// The version that is meant; it may still be one that was never published. Else why there is none.
async fn resolved(api: &Api, name: &str, version: Option<&str>) -> Result<Result<WorkflowRef, String>, Error> {
    let latest = match version {
        Some(version) => Some(version.to_owned()),
        None if is_name(name) => api.coordinator.latest_version(name).await?,
        None => None,
    };
    let wanted = latest.map(|version| WorkflowRef { name: name.to_owned(), version });
    Ok(wanted.filter(can_be).ok_or_else(|| unknown(name, version, None)))
}

/// Why there is no such version.
async fn missing(api: &Api, wanted: &WorkflowRef) -> Result<String, Error> {
    let latest = api.coordinator.latest_version(&wanted.name).await?;
    Ok(unknown(&wanted.name, Some(&wanted.version), latest.as_deref()))
}

fn unknown(name: &str, version: Option<&str>, latest: Option<&str>) -> String {
    let name = shortened(name, SHOWN);
    match (version, latest) {
        (Some(version), Some(latest)) => {
            format!("workflow `{name}` has no version `{}`: its latest is `{latest}`", shortened(version, SHOWN))
        }
        (Some(version), None) if !is_version(version) => format!("`{}` is not a version", shortened(version, SHOWN)),
        (_, _) => format!("no workflow `{name}` was published: PUT /v1/workflows/{{name}}/{{version}} does that"),
    }
}

/// Letters of a name that somebody made up.
const SHOWN: usize = 64;

/// Whether there can be such a workflow at all: what no definition can state is not looked up.
fn can_be(workflow: &WorkflowRef) -> bool {
    is_name(&workflow.name) && is_version(&workflow.version)
}

fn is_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

fn is_version(text: &str) -> bool {
    text.len() <= 128 && Version::parse(text).is_ok()
}

/// How many, and behind what.
fn paged(request: Request, kind: &'static str, is_place: fn(&str) -> bool) -> Result<(usize, Option<String>), Error> {
    let (parts, _) = request.into_parts();
    let mut query = Query::of(&parts);
    let limit = query.limit("limit", PAGE, LONGEST_PAGE)?;
    let cursor = query.one("cursor")?.map(|cursor| params::read_cursor(&cursor, kind)).transpose()?;
    query.end()?;
    match cursor {
        Some(place) if !is_place(&place) => Err(Error::BadCursor),
        cursor => Ok((limit, cursor)),
    }
}

/// `rows` holds one more than is shown where there is a next page.
fn page(rows: Vec<WorkflowRow>, limit: usize, cursor: impl FnOnce(&WorkflowRef) -> String) -> Page<WorkflowSummary> {
    let next_cursor = (rows.len() > limit).then(|| rows.get(limit - 1).map(|last| cursor(&last.workflow))).flatten();
    let items = rows.into_iter().take(limit).map(|row| WorkflowSummary {
        name: row.workflow.name,
        version: row.workflow.version,
        digest: hex::encode(row.digest),
        plan_digest: hex::encode(row.plan),
        published_at: row.published_at,
    });
    Page { items: items.collect(), next_cursor }
}
