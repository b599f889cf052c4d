//! The OpenAPI document, written by the routes themselves, and the page that shows it.

use axum::Router;
use utoipa::{
    OpenApi as _,
    openapi::{Content, OpenApi, Ref, ResponseBuilder},
};
use utoipa_axum::{router::OpenApiRouter, routes};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::{
    Api, begin, callbacks, events, graph, open_transactions, operators, signals, system, transactions, workflows,
};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Skald",
        description = "A Saga/TCC transaction coordinator.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
        contact()
    ),
    components(schemas(skald_protocol::DryRun)),
    tags(
        (name = "transactions", description = "Begin, read, follow, cancel"),
        (name = "open transactions", description = "Client-driven TCC: enlist, then decide"),
        (name = "workflows", description = "Published definitions"),
        (name = "operators", description = "What only a person may say"),
        (name = "participants", description = "What participants call"),
        (name = "node", description = "Probes and metrics"),
    )
)]
struct Document;

/// The calls that are admitted one by one, those that always answer, and the document of both.
pub(super) fn routes() -> (Router<Api>, Router<Api>, OpenApi) {
    let (calls, document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(begin::begin, transactions::list))
        .routes(routes!(transactions::get))
        .routes(routes!(open_transactions::enlist))
        .routes(routes!(open_transactions::commit))
        .routes(routes!(open_transactions::cancel))
        .routes(routes!(signals::signal))
        .routes(routes!(events::events))
        .routes(routes!(graph::transaction))
        .routes(routes!(operators::retry))
        .routes(routes!(operators::skip))
        .routes(routes!(operators::resolve))
        .routes(routes!(operators::fail))
        .routes(routes!(operators::resume))
        .routes(routes!(callbacks::callback))
        .routes(routes!(workflows::list))
        .routes(routes!(workflows::versions))
        .routes(routes!(workflows::publish, workflows::get))
        .routes(routes!(graph::workflow))
        .split_for_parts();
    let document = with_problems(document);
    let (node, document) = OpenApiRouter::with_openapi(document)
        .routes(routes!(system::healthz))
        .routes(routes!(system::readyz))
        .routes(routes!(system::metrics))
        .split_for_parts();
    (calls, node, document)
}

/// Every call may be answered with a problem beside those that it names: for a body, a query or a gid that is not what it
/// takes, or where there is too much to do.
fn with_problems(mut document: OpenApi) -> OpenApi {
    let problem = ResponseBuilder::new()
        .description("Any other status: a problem (RFC 9457), told apart by its `code`")
        .content("application/problem+json", Content::new(Some(Ref::from_schema_name("Problem"))))
        .build();
    for path in document.paths.paths.values_mut() {
        for operation in [&mut path.get, &mut path.put, &mut path.post, &mut path.delete].into_iter().flatten() {
            operation.responses.responses.insert("default".to_owned(), problem.clone().into());
        }
    }
    document
}

/// The document of this build.
#[must_use]
pub fn document() -> OpenApi {
    routes().2
}

/// `/openapi.json` and `/docs`.
pub(super) fn pages(document: OpenApi) -> Router<Api> {
    // The page would else ask a validator on the internet about the document.
    SwaggerUi::new("/docs").url("/openapi.json", document).config(Config::default().validator_url("none")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");

    #[test]
    fn the_committed_document_is_that_of_the_code() {
        let written = document().to_pretty_json().unwrap() + "\n";
        if std::env::var_os("SKALD_RENEW").is_some() {
            std::fs::write(COMMITTED, &written).unwrap();
        }
        let committed = std::fs::read_to_string(COMMITTED).unwrap_or_default();
        assert!(
            committed == written,
            "coordinator/openapi.json is not what the code says. Renew it:\n  \
             SKALD_RENEW=1 cargo test -p skald --lib the_committed_document"
        );
    }

    #[test]
    fn the_document_is_openapi_3_1_and_names_every_route_once() {
        let document = serde_json::to_value(document()).unwrap();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
        let paths: Vec<_> = document["paths"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(paths.len(), 21, "{paths:?}");
        let calls = document["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap().values());
        let mut ids: Vec<_> = calls.map(|call| call["operationId"].as_str().unwrap()).collect();
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all, "each call has a name of its own: {ids:?}");
    }
}
