//! Too much is turned away before it is acknowledged; what only waits stands in nobody's way, nor holds a node up.

#![allow(clippy::unwrap_used, reason = "a test fails where it meets what it did not expect")]

use std::{sync::Arc, time::Duration};

use reqwest::header::RETRY_AFTER;
use serde_json::{Value, json};
use skald::{
    api,
    dispatch::{self, Dispatcher, token::CallbackTokens},
    runtime::{self, Coordinator, Dependencies},
    store::{self, SqlStore},
    telemetry::{Metrics, Spans},
};
use skald_tests::{Backend, Client, Database, Faulty, Participants, client, definition::*, eventually};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

/// The API over a real coordinator in this process.
pub(crate) struct Edge {
    pub(crate) address: String,
    pub(crate) client: Client,
    pub(crate) participants: Participants,
    store: Faulty,
    drain: CancellationToken,
    _database: Database,
}

impl Edge {
    async fn with(options: api::Options) -> Self {
        Self::over(runtime::Options::default(), options, api::Connections::default()).await
    }

    pub(crate) async fn over(runtime: runtime::Options, options: api::Options, connections: api::Connections) -> Self {
        let database = Database::fresh(Backend::Sqlite).await;
        let store = SqlStore::connect(database.url(), store::Options::default()).await.unwrap();
        store.migrate().await.unwrap();
        let store = Faulty::over(store);
        let metrics = Arc::new(Metrics::new());
        let tokens = Arc::new(CallbackTokens::new(b"key"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let dispatcher =
            Dispatcher::start(dispatch::Options::new(format!("http://{address}"), Arc::clone(&tokens))).unwrap();
        let runtime = runtime::Options { address: address.clone(), ..runtime };
        let foundation = Dependencies {
            store: Arc::new(store.clone()),
            membership: None,
            dispatcher,
            callback_tokens: tokens,
            metrics: Arc::clone(&metrics),
            spans: Spans::off(),
        };
        let coordinator = Coordinator::start(foundation, runtime).await.unwrap();
        let drain = CancellationToken::new();
        let router = api::router(coordinator, options, api::Handles { metrics, drain: drain.clone() });
        tokio::spawn(api::serve(listener, router, connections, std::future::pending()));
        let client = Client::new(format!("http://{address}"));
        eventually("ready", Duration::from_secs(10), || async {
            (client.get("/readyz").await.status == 200).then_some(())
        })
        .await;
        Self { address, client, participants: Participants::start().await, store, drain, _database: database }
    }

    pub(crate) fn begin(&self) -> Value {
        begin(&definition(&self.participants.url(), &json!([step("a")])))
    }
}

#[tokio::test]
async fn a_request_too_many_is_turned_away_with_a_word_when_to_come_again() {
    let edge = Edge::with(api::Options { max_requests: 1, ..api::Options::default() }).await;
    edge.store.stall(true);
    let (body, client) = (edge.begin(), edge.client.clone());
    let first = tokio::spawn(async move { client.post("/v1/transactions", &body).await });
    let url = format!("http://{}/v1/transactions", edge.address);
    let refused = eventually("the place is taken", Duration::from_secs(10), || async {
        let response = client::http().get(&url).send().await.unwrap();
        (response.status().as_u16() == 503).then_some(response)
    })
    .await;
    assert_eq!(refused.headers()[RETRY_AFTER], "1");
    let problem = refused.json::<Value>().await.unwrap();
    assert_eq!(problem["code"], "overloaded");
    assert!(problem["detail"].as_str().unwrap().contains("limits.requests"), "{problem}");
    for path in ["/healthz", "/readyz", "/metrics", "/openapi.json"] {
        let answer = client::http().get(format!("http://{}{path}", edge.address)).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200, "{path}");
    }
    edge.store.stall(false);
    assert_eq!(first.await.unwrap().status, 202);
    assert_eq!(edge.client.get("/v1/transactions").await.status, 200);
}

#[tokio::test]
async fn those_who_wait_take_no_place_from_those_who_work() {
    let edge = Edge::with(api::Options { max_requests: 1, max_waiting: 1, ..api::Options::default() }).await;
    edge.participants.on("/a").is_held();
    let (first, second) = (with_gid(edge.begin(), "first"), with_gid(edge.begin(), "second"));
    let waits = edge.client.try_post("/v1/transactions", &first, Some(30));
    let works = async {
        eventually("the first is called", Duration::from_secs(10), || async {
            (edge.participants.arrived() == 1).then_some(())
        })
        .await;
        // Where too many wait already, a wait is a wish that is not granted.
        let at_once = edge.client.try_post("/v1/transactions", &second, Some(30)).await.unwrap();
        assert_eq!(at_once.status, 202, "{}", at_once.body);
        assert_eq!(edge.client.get("/v1/transactions/first").await.status, 200);
        eventually("both are called", Duration::from_secs(10), || async {
            (edge.participants.arrived() == 2).then_some(())
        })
        .await;
        edge.participants.release();
    };
    let (waited, ()) = tokio::join!(waits, works);
    assert_eq!(waited.unwrap().status, 200);
}

#[tokio::test]
async fn a_node_that_goes_down_lets_waiters_and_streams_go() {
    let edge = Edge::with(api::Options::default()).await;
    edge.participants.on("/a").is_held();
    let body = with_gid(edge.begin(), "g");
    let waits = edge.client.try_post("/v1/transactions", &body, Some(60));
    let goes_down = async {
        eventually("it is called", Duration::from_secs(10), || async {
            (edge.participants.arrived() == 1).then_some(())
        })
        .await;
        let url = format!("http://{}/v1/transactions/g/events", edge.address);
        let stream = client::http().get(url).header("accept", "text/event-stream").send().await.unwrap();
        assert_eq!(stream.status().as_u16(), 200);
        edge.drain.cancel();
        let text =
            tokio::time::timeout(Duration::from_secs(10), stream.text()).await.expect("the stream ends").unwrap();
        assert!(text.contains("\"began\""), "{text}");
        let ready = edge.client.get("/readyz").await;
        assert_eq!((ready.status, ready.code()), (503, "draining"));
    };
    let (waited, ()) = tokio::join!(tokio::time::timeout(Duration::from_secs(10), waits), goes_down);
    assert_eq!(waited.expect("the wait ends").unwrap().status, 202);
    edge.participants.release();
}

#[tokio::test]
async fn the_document_and_its_page_are_served() {
    let edge = Edge::with(api::Options::default()).await;
    let document = edge.client.get("/openapi.json").await;
    assert_eq!(document.body, serde_json::to_value(api::document()).unwrap());
    let page = client::http().get(format!("http://{}/docs/", edge.address)).send().await.unwrap();
    assert_eq!(page.status().as_u16(), 200);
    let script = client::http().get(format!("http://{}/docs/swagger-ui-bundle.js", edge.address)).send().await.unwrap();
    assert!(script.status().is_success());
    let metrics =
        client::http().get(format!("http://{}/metrics", edge.address)).send().await.unwrap().text().await.unwrap();
    assert!(
        metrics.contains("skald_http_requests_total{method=\"GET\",route=\"/openapi.json\",status=\"200\"} 1"),
        "{metrics}"
    );
}

#[tokio::test]
async fn what_retention_took_is_told_with_how_it_ended_and_is_never_run_again() {
    let runtime = runtime::Options {
        keep_journals: Duration::from_millis(1),
        prune_every: Duration::from_millis(100),
        settled_grace: Duration::from_millis(10),
        ..runtime::Options::default()
    };
    let edge = Edge::over(runtime, api::Options::default(), api::Connections::default()).await;
    let body = with_gid(edge.begin(), "g");
    edge.client.run(&body).await;
    let gone = eventually("retention took it", Duration::from_secs(20), || async {
        let answer = edge.client.get("/v1/transactions/g").await;
        (answer.status == 410).then_some(answer)
    })
    .await;
    assert_eq!((gone.code(), &gone.body["final_status"]), ("expired", &json!("succeeded")));
    for word in ["cancel", "resume", "commit"] {
        let answer = edge.client.command("g", word, &json!({})).await;
        assert_eq!((answer.status, answer.code()), (410, "expired"), "{word}: {}", answer.body);
    }
    assert_eq!(edge.client.get("/v1/transactions/g/events").await.status, 410);
    let again = edge.client.post("/v1/transactions", &body).await;
    assert_eq!((again.status, again.code()), (409, "gid_expired"), "{}", again.body);
    assert_eq!(again.body["final_status"], "succeeded");
    assert_eq!(edge.participants.effects("g"), ["a action"]);
}

#[tokio::test]
async fn a_connection_that_never_says_what_it_wants_is_closed() {
    let connections = api::Connections { head: Duration::from_millis(200), ..api::Connections::default() };
    let edge = Edge::over(runtime::Options::default(), api::Options::default(), connections).await;
    for begun in ["", "GET /healthz HTTP/1.1\r\nhost:"] {
        let mut slow = TcpStream::connect(&edge.address).await.unwrap();
        slow.write_all(begun.as_bytes()).await.unwrap();
        let mut told = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(10), slow.read_to_end(&mut told)).await;
        ended.expect("it is closed").unwrap();
        assert!(!told.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&told));
    }
}
