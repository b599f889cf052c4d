//! Each transaction is one trace, whatever happens to the coordinator meanwhile.

use std::time::Duration;

use serde_json::{Value, json};
use skald_protocol::Status;
use skald_tests::{
    Backend, Database, Node, Participants, World,
    client::http,
    collector::{Collector, Span},
    definition::{begin, definition, step},
    eventually,
    tls::Tls,
};

const CALLER_TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER_SPAN: &str = "b7ad6b7169203331";

async fn traced(collector: &Collector) -> World {
    tracing(&[("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint())]).await
}

/// A world whose node has this in its environment.
async fn tracing(environment: &[(&str, &str)]) -> World {
    let (participants, database) = (Participants::start().await, Database::fresh(Backend::Sqlite).await);
    let mut node = Node::new(database.url());
    for (name, value) in environment {
        node = node.with_environment(name, value);
    }
    node.start().await;
    World { participants, client: node.client(), node, database }
}

/// The gid and trace id of a transaction that a traced caller began.
async fn begun(world: &World, begin: &Value, trace: &str) -> (String, String) {
    let request = http()
        .post(format!("{}/v1/transactions", world.node.url()))
        .header("traceparent", format!("00-{trace}-{CALLER_SPAN}-01"))
        .header("tracestate", "shop=7")
        .json(begin);
    let view: Value = request.send().await.expect("an answer").json().await.expect("a transaction");
    let text = |name: &str| view[name].as_str().unwrap_or_else(|| panic!("no {name} in {view}")).to_owned();
    (text("gid"), text("trace_id"))
}

fn names(spans: &[Span]) -> Vec<&str> {
    let mut names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
    names.sort_unstable();
    names
}

#[track_caller]
fn only<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let mut found = spans.iter().filter(|span| span.name == name);
    let span = found.next().unwrap_or_else(|| panic!("no `{name}` among {:?}", names(spans)));
    assert_eq!(found.next(), None, "`{name}` is there twice");
    span
}

fn settled(spans: &[Span]) -> bool {
    spans.iter().any(|span| span.name.starts_with("settled"))
}

/// One root; everything else is its child, and all is Skald's.
fn tree(spans: &[Span]) -> &Span {
    let root = spans.iter().find(|span| span.name.starts_with("transaction")).expect("a root");
    for span in spans.iter().filter(|span| span.id != root.id) {
        assert_eq!(span.parent.as_deref(), Some(root.id.as_str()), "{span:?}");
    }
    assert!(spans.iter().all(|span| span.service == "skald"), "{spans:#?}");
    root
}

#[tokio::test]
async fn a_saga_and_its_undoing_are_one_trace_that_goes_on_from_its_callers() {
    let collector = Collector::start();
    let world = traced(&collector).await;
    world.participants.on("/charge").refuses("card_declined");
    let body = begin(&definition(&world.participants.url(), &json!([step("reserve"), step("charge")])));
    let (gid, trace) = begun(&world, &body, CALLER_TRACE).await;
    assert_eq!(trace, CALLER_TRACE);
    world.client.reaches(&gid, Status::Compensated).await;

    let spans = collector.trace(&trace, settled).await;
    let root = tree(&spans);
    assert_eq!(root.parent.as_deref(), Some(CALLER_SPAN));
    assert_eq!(spans.len(), 5, "{:?}", names(&spans));
    let (reserve, charge) = (only(&spans, "action reserve"), only(&spans, "action charge"));
    let (undo, end) = (only(&spans, "compensate reserve"), only(&spans, "settled compensated"));
    assert_eq!(undo.links, std::slice::from_ref(&reserve.id), "an undo is linked to what it undoes");
    assert!(charge.start_us >= reserve.start_us + reserve.duration_us, "one after the other");
    assert!(end.duration_us + 5_000 >= undo.start_us.saturating_sub(reserve.start_us), "as long as all: {spans:#?}");
    let tag = |span: &Span, name: &str| span.tags.get(name).cloned().unwrap_or_default();
    for span in &spans {
        assert_eq!(tag(span, "skald.gid"), gid);
    }
    assert_eq!((tag(reserve, "skald.outcome").as_str(), tag(reserve, "skald.attempt").as_str()), ("succeeded", "1"));
    assert_eq!(
        (tag(charge, "skald.outcome").as_str(), tag(charge, "error.type").as_str()),
        ("refused", "card_declined")
    );
    assert_eq!(tag(charge, "http.response.status_code"), "409");
    assert_eq!(tag(end, "skald.status"), "compensated");

    for call in world.participants.arrivals(&gid) {
        let span = only(&spans, &format!("{} {}", call.operation, call.branch));
        assert_eq!(
            call.headers["traceparent"],
            format!("00-{trace}-{}-01", span.id),
            "participants go on from the attempt"
        );
        assert_eq!(call.headers["tracestate"], "shop=7");
    }
}

#[tokio::test]
async fn the_lives_of_a_killed_coordinator_share_the_transactions_trace() {
    const TRACE: &str = "1af7651916cd43dd8448eb211c80319c";
    let collector = Collector::start();
    let mut world = traced(&collector).await;
    world.participants.on("/charge").is_held();
    let mut definition = definition(&world.participants.url(), &json!([step("reserve"), step("charge")]));
    definition["defaults"]["timeout"] = json!("1s");
    let (gid, trace) = begun(&world, &begin(&definition), TRACE).await;
    // The first life's spans have left it, the second step is being called.
    collector.has(&trace, "action reserve").await;
    eventually("charge is called", Duration::from_secs(10), || async {
        world.participants.arrivals(&gid).iter().any(|call| call.branch == "charge").then_some(())
    })
    .await;
    world.node.kill();
    world.participants.behave();
    world.node.start().await;
    let view = world.client.reaches(&gid, Status::Succeeded).await;
    assert_eq!(view.trace_id.as_deref(), Some(TRACE));

    let spans = collector.trace(&trace, settled).await;
    tree(&spans);
    assert_eq!(spans.iter().filter(|span| span.name.starts_with("transaction")).count(), 1, "{:?}", names(&spans));
    only(&spans, "action reserve");
    only(&spans, "settled succeeded");
    assert!(names(&spans).contains(&"action charge"), "{:?}", names(&spans));
}

#[tokio::test]
async fn a_collector_behind_tls_is_reached_where_its_authority_is_trusted() {
    const TRACE: &str = "2af7651916cd43dd8448eb211c80319c";
    let collector = Collector::start();
    let tls = Tls::before(collector.endpoint().trim_start_matches("http://")).await;
    let endpoint = tls.url().replace("https://", "HTTPS://");
    let authority = tls.authority().to_str().expect("text");
    let trusting =
        tracing(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), ("OTEL_EXPORTER_OTLP_CERTIFICATE", authority)]).await;
    let body = begin(&definition(&trusting.participants.url(), &json!([step("reserve")])));
    let (_, trace) = begun(&trusting, &body, TRACE).await;
    tree(&collector.trace(&trace, settled).await);

    let other = Tls::before(collector.endpoint().trim_start_matches("http://")).await;
    let wary =
        tracing(&[("OTEL_EXPORTER_OTLP_ENDPOINT", other.url()), ("OTEL_EXPORTER_OTLP_CERTIFICATE", authority)]).await;
    let body = begin(&definition(&wary.participants.url(), &json!([step("reserve")])));
    begun(&wary, &body, CALLER_TRACE).await;
    eventually("the node says so", Duration::from_secs(20), || async {
        wary.node.log().contains("spans cannot be exported").then_some(())
    })
    .await;
}
