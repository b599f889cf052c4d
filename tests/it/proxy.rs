//! What goes through a proxy that the environment names, and what never does.

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::Response,
};
use serde_json::json;
use skald_protocol::Status;
use skald_tests::{
    Backend, Database, Node, Participants, World,
    client::http,
    cluster::{Ran, run_with},
    definition::{begin, definition, step},
};
use tokio::net::TcpListener;

/// A name that no resolver knows, only the proxy.
const ELSEWHERE: &str = "http://coordinator.invalid:7410";
const TOKEN: &str = "hunter2";

/// A forward proxy: it notes what it is asked, and asks one coordinator whatever host was meant, or says its own word.
struct Proxy {
    address: String,
    seen: Arc<Mutex<Vec<String>>>,
}

#[derive(Clone)]
enum Says {
    /// What this coordinator says.
    As(String),
    Itself(u16, &'static str),
}

impl Proxy {
    async fn start(says: Says) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let (address, seen) = (listener.local_addr().expect("an address").to_string(), Arc::default());
        let router = Router::new().fallback(answer).with_state((says, Arc::clone(&seen)));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, seen }
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("nobody panicked").clone()
    }

    /// `skald` where this is the proxy, with credentials.
    async fn around(&self, arguments: &[&str], no_proxy: &str) -> Ran {
        let url = format!("http://me:swordfish@{}", self.address);
        let environment = [("HTTP_PROXY", &*url), ("ALL_PROXY", &url), ("NO_PROXY", no_proxy), ("SKALD_TOKEN", TOKEN)];
        run_with(arguments, &environment).await
    }
}

async fn answer(State((says, seen)): State<(Says, Arc<Mutex<Vec<String>>>)>, request: Request) -> Response {
    seen.lock().expect("nobody panicked").push(format!(
        "{} {} {:?}",
        request.method(),
        request.uri(),
        request.headers()
    ));
    let (status, body) = match says {
        Says::As(url) => {
            let path = request.uri().path_and_query().expect("a path").as_str();
            let answer = http().get(format!("{url}{path}")).send().await.expect("the coordinator answers");
            (answer.status().as_u16(), Body::from(answer.bytes().await.expect("a whole answer")))
        }
        Says::Itself(status, body) => (status, Body::from(body)),
    };
    Response::builder().status(status).body(body).expect("a status")
}

#[tokio::test]
async fn what_is_on_this_machine_is_called_without_the_proxy_and_its_token_stays_here() {
    let world = World::start(Backend::Sqlite).await;
    let proxy = Proxy::start(Says::Itself(502, "{}")).await;
    for url in [world.node.url(), world.node.url().replace("127.0.0.1", "localhost")] {
        let ran = proxy.around(&["tx", "--url", &url, "list"], "").await;
        assert_eq!(ran.code, 0, "{url}: {}", ran.stderr);
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("one.json").display().to_string();
    let url = world.participants.url();
    std::fs::write(&file, definition(&url, &json!([step("reserve")])).to_string()).unwrap();
    let ran =
        proxy.around(&["participant", "check", "--url", &url, "--definition", &file, "--step", "reserve"], "").await;
    assert!(ran.stdout.contains("duplicate"), "{}{}", ran.stdout, ran.stderr);
    assert_eq!(proxy.seen(), [""; 0]);
}

#[tokio::test]
async fn a_coordinator_elsewhere_is_called_through_the_proxy_unless_no_proxy_names_it() {
    let world = World::start(Backend::Sqlite).await;
    let proxy = Proxy::start(Says::As(world.node.url())).await;
    let list = ["tx", "--url", ELSEWHERE, "list"];
    let ran = proxy.around(&list, "elsewhere.invalid").await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let seen = proxy.seen();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert!(seen[0].starts_with(&format!("GET {ELSEWHERE}/v1/transactions")), "{seen:?}");

    for exempt in ["coordinator.invalid", ".invalid", "*", "elsewhere.invalid, coordinator.invalid"] {
        let ran = proxy.around(&list, exempt).await;
        assert_eq!(ran.code, 1, "{exempt}: {}", ran.stdout);
        assert!(ran.stderr.contains(&format!("no answer from {ELSEWHERE}: ")), "{exempt}: {}", ran.stderr);
    }
    assert_eq!(proxy.seen().len(), 1);
}

#[tokio::test]
async fn an_answer_that_is_no_coordinators_is_told_with_who_gave_it() {
    let list = ["tx", "--url", ELSEWHERE, "list"];
    for (status, body, told) in [
        (502, "{}", "502 Bad Gateway `{}`"),
        (403, "<p>not for you</p>", "403 Forbidden `<p>not for you</p>`"),
        (302, "", "302 Found"),
        (200, "<p>log in</p>", "is not a Skald coordinator's"),
    ] {
        let proxy = Proxy::start(Says::Itself(status, body)).await;
        let ran = proxy.around(&list, "").await;
        assert_eq!(ran.code, 1, "{status}");
        let way = format!("{ELSEWHERE}/v1/transactions through the proxy http://{} (", proxy.address);
        for part in [&*way, "add coordinator.invalid to NO_PROXY", told] {
            assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
        }
        assert!(![TOKEN, "swordfish"].iter().any(|secret| ran.stderr.contains(secret)), "{}", ran.stderr);
    }

    let direct = Proxy::start(Says::Itself(503, "")).await;
    let url = format!("http://{}", direct.address);
    let ran = run_with(&["tx", "--url", &url, "list"], &[]).await;
    let told = format!("the answer of {url}/v1/transactions is not a Skald coordinator's: 503 Service Unavailable");
    assert!(ran.stderr.contains(&told), "{}", ran.stderr);

    let ran = run_with(&["tx", "--url", ELSEWHERE, "list"], &[("HTTP_PROXY", "http://me:swordfish@127.0.0.1:1")]).await;
    let told = format!("no answer from {ELSEWHERE} through the proxy http://127.0.0.1:1 (");
    assert!(ran.stderr.contains(&told) && !ran.stderr.contains("swordfish"), "{}", ran.stderr);
}

#[tokio::test]
async fn the_coordinator_calls_its_participants_without_a_proxy() {
    let proxy = Proxy::start(Says::Itself(502, "{}")).await;
    let url = format!("http://{}", proxy.address);
    let (participants, database) = (Participants::start().await, Database::fresh(Backend::Sqlite).await);
    let mut node = Node::new(database.url()).with_environment("ALL_PROXY", &url).with_environment("HTTP_PROXY", &url);
    node.start().await;
    let begun = node.client().run(&begin(&definition(&participants.url(), &json!([step("reserve")])))).await;
    assert_eq!(begun.status, Status::Succeeded);

    let demo = proxy.around(&["demo"], "").await;
    assert_eq!(demo.code, 0, "{}{}", demo.stdout, demo.stderr);
    assert_eq!(proxy.seen(), [""; 0]);
}
