//! Whatever is wrong with a request is told as a problem with a stable code, and nothing of it is stored.

#![allow(clippy::unwrap_used, reason = "a test fails where it meets what it did not expect")]

use reqwest::Method;
use serde_json::{Value, json};
use skald_tests::{Backend, World, client, definition::*};

/// A request that is refused: `(method, path, body, status, code)`; a body goes as `application/json`.
struct Bad(Method, String, Option<Vec<u8>>, u16, &'static str);

fn post(path: &str, body: impl Into<Vec<u8>>, status: u16, code: &'static str) -> Bad {
    Bad(Method::POST, path.to_owned(), Some(body.into()), status, code)
}

fn get(path: &str, status: u16, code: &'static str) -> Bad {
    Bad(Method::GET, path.to_owned(), None, status, code)
}

fn begins(definition: &Value) -> Vec<Bad> {
    let with = |field: &str, value: Value| {
        let mut body = begin(definition);
        body[field] = value;
        body.to_string()
    };
    let raw = |member: &str| format!(r#"{{"definition": {definition}, {member}}}"#);
    let many: serde_json::Map<_, _> = (0..17).map(|n| (format!("k{n}"), json!("v"))).collect();
    let nested = |depth: usize| raw(&format!(r#""input": {}1{}"#, "[".repeat(depth), "]".repeat(depth)));
    let mut strict = definition.clone();
    strict["input"] = json!({"type": "object", "required": ["total"], "properties": {"total": {"type": "integer"}}});
    let mut long = definition.clone();
    long["description"] = json!("x".repeat(257 << 10));
    let good = begin(definition).to_string();
    [
        ("", 400, "invalid_json"),
        ("{", 400, "invalid_json"),
        (&good[..good.len() - 1], 400, "invalid_json"),
        (&good[..good.len() / 2], 400, "invalid_json"),
        ("{\"definition\": tru}", 400, "invalid_json"),
        ("{} {}", 400, "invalid_json"),
        ("\u{feff}{}", 400, "invalid_json"),
        ("null", 422, "invalid_request"),
        ("[]", 422, "invalid_request"),
        ("5", 422, "invalid_request"),
        ("\"text\"", 422, "invalid_request"),
        ("{}", 422, "invalid_request"),
        ("{\"definition\": null}", 422, "invalid_request"),
        ("{\"definition\": 5}", 422, "invalid_definition"),
        ("{\"definition\": {}}", 422, "invalid_definition"),
        ("{\"definition\": {\"dsl\": \"1.0\", \"dsl\": \"1.0\"}}", 422, "invalid_definition"),
        ("{\"definition\": {}, \"definition\": {}}", 400, "duplicate_key"),
        ("{\"workflow\": \"order\"}", 422, "unknown_workflow"),
        ("{\"workflow\": \"order\", \"version\": \"1.0.0\", \"input\": {}}", 422, "unknown_workflow"),
        ("{\"workflow\": 5}", 422, "invalid_request"),
        ("{\"open\": true}", 422, "invalid_request"),
        ("{\"open\": true, \"timeout\": \"366d\"}", 422, "invalid_request"),
        ("{\"open\": true, \"timeout\": \"soon\"}", 422, "invalid_request"),
        ("{\"open\": true, \"timeout\": \"1m\", \"input\": 1}", 422, "invalid_request"),
        ("{\"open\": true, \"timeout\": \"1m\", \"workflow\": \"a\"}", 422, "invalid_request"),
        ("{\"open\": \"yes\", \"timeout\": \"1m\"}", 422, "invalid_request"),
        (&raw(r#""inputt": 1"#), 422, "invalid_request"),
        (&raw(r#""input": 1, "input": 2"#), 400, "duplicate_key"),
        (&raw(r#""input": {"a": {"b": 1, "b": 2}}"#), 400, "duplicate_key"),
        (&raw(r#""labels": {"a": "1", "a": "2"}"#), 400, "duplicate_key"),
        (&raw(r#""input": 1e999"#), 400, "invalid_json"),
        (&raw(r#""input": "\ud800""#), 400, "invalid_json"),
        (&raw(r#""version": "1.0.0""#), 422, "invalid_request"),
        (&raw(r#""workflow": "order""#), 422, "invalid_request"),
        (&with("gid", json!("")), 400, "invalid_gid"),
        (&with("gid", json!("a b")), 400, "invalid_gid"),
        (&with("gid", json!("a/b")), 400, "invalid_gid"),
        (&with("gid", json!("\u{e9}")), 400, "invalid_gid"),
        (&with("gid", json!("g".repeat(129))), 400, "invalid_gid"),
        (&with("gid", json!(7)), 422, "invalid_request"),
        (&with("timeout", json!(5)), 422, "invalid_request"),
        (&with("timeout", json!("0s")), 422, "invalid_request"),
        (&with("labels", json!(["a"])), 422, "invalid_request"),
        (&with("labels", json!({"a": 1})), 422, "invalid_request"),
        (&with("labels", json!({"a": "\0"})), 422, "invalid_request"),
        (&with("labels", json!({"k".repeat(64): "v"})), 422, "invalid_request"),
        (&with("labels", json!({"k": "v".repeat(256)})), 422, "invalid_request"),
        (&with("labels", Value::Object(many)), 422, "invalid_request"),
        (&with("input", json!("x".repeat(257 << 10))), 422, "input_too_large"),
        (&with("definition", long), 422, "definition_too_large"),
        (&with("definition", strict), 422, "invalid_input"),
        (&nested(64), 400, "too_deep"),
        (&nested(200_000), 400, "too_deep"),
        (&"[".repeat(1 << 20), 400, "too_deep"),
        (&format!("{good}{}", " ".repeat(1 << 20)), 413, "body_too_large"),
        (&"x".repeat(5 << 20), 413, "body_too_large"),
    ]
    .map(|(body, status, code)| post("/v1/transactions", body, status, code))
    .into_iter()
    .chain([post("/v1/transactions", b"{\"workflow\": \"\xff\"}".as_slice(), 400, "invalid_json")])
    .collect()
}

fn words() -> Vec<Bad> {
    let at = |word: &str| format!("/v1/transactions/nobody/{word}");
    let branch =
        json!({"branch": "a", "confirm": {"url": "http://127.0.0.1:1/c"}, "cancel": {"url": "http://127.0.0.1:1/x"}});
    let with = |field: &str, value: Value| {
        let mut body = branch.clone();
        body[field] = value;
        body.to_string()
    };
    vec![
        post(&at("branches"), branch.to_string(), 404, "unknown_gid"),
        post(
            &at("resolve"),
            r#"{"branch": "a", "outcome": "succeeded", "output": {"b": [{"c": 1, "c": 2}]}, "reason": "r"}"#,
            400,
            "duplicate_key",
        ),
        post(&at("branches"), "", 400, "invalid_json"),
        post(&at("branches"), "{}", 422, "invalid_request"),
        post(&at("branches"), with("branch", json!("a b")), 422, "invalid_request"),
        post(&at("branches"), with("branch", json!("a.b")), 422, "invalid_branch"),
        post(&at("branches"), with("brunch", json!("a")), 422, "invalid_request"),
        post(&at("branches"), with("confirm", json!({"method": "POST"})), 422, "invalid_branch"),
        post(&at("branches"), with("confirm", json!({"url": "ftp://x"})), 422, "invalid_branch"),
        post(&at("branches"), with("try", json!({"service": "stock", "path": "/x"})), 422, "unknown_service"),
        post(
            &at("branches"),
            r#"{"branch": "a", "confirm": {"url": "http://x", "url": "http://y"}, "cancel": {"url": "http://x"}}"#,
            400,
            "duplicate_key",
        ),
        post(&at("commit"), "", 404, "unknown_gid"),
        post(&at("commit"), "{\"now\": true}", 422, "invalid_request"),
        post(&at("cancel"), "{\"reason\": 5}", 422, "invalid_request"),
        post(&at("cancel"), json!({"reason": "x".repeat(5000)}).to_string(), 422, "invalid_request"),
        post(&at("cancel"), "{", 400, "invalid_json"),
        post(&at("cancel"), "", 404, "unknown_gid"),
        post(&at("retry"), "", 404, "unknown_gid"),
        post(&at("retry"), "{\"branch\": \"a b\"}", 422, "invalid_request"),
        post(&at("retry?dry_run=perhaps"), "", 400, "invalid_query"),
        post(&at("retry?dryrun=true"), "", 400, "invalid_query"),
        post(&at("skip"), "{\"branch\": \"a\"}", 422, "invalid_request"),
        post(&at("skip"), "{\"branch\": \"a\", \"reason\": \" \"}", 422, "invalid_request"),
        post(&at("skip"), "{\"branch\": \"a\", \"reason\": \"r\"}", 404, "unknown_gid"),
        post(&at("resolve"), "{\"branch\": \"a\", \"reason\": \"r\", \"outcome\": \"maybe\"}", 422, "invalid_request"),
        post(&at("resolve"), "{\"branch\": \"a\", \"reason\": \"r\", \"outcome\": \"refused\"}", 404, "unknown_gid"),
        post(&at("fail"), "{}", 422, "invalid_request"),
        post(&at("fail"), "{\"reason\": \"r\"}", 404, "unknown_gid"),
        post(&at("resume"), "[]", 422, "invalid_request"),
        post(&at("resume"), "", 404, "unknown_gid"),
        post("/v1/transactions/a%20b/cancel", "", 400, "invalid_gid"),
        post("/v1/callbacks/AAAA", "{\"outcome\": \"succeeded\"}", 404, "unknown_callback"),
        post("/v1/callbacks/%ff", "{\"outcome\": \"succeeded\"}", 404, "unknown_callback"),
    ]
}

fn reads() -> Vec<Bad> {
    let method = |method: Method, path: &str| Bad(method, path.to_owned(), None, 405, "method_not_allowed");
    vec![
        get("/", 404, "unknown_route"),
        get("/v1", 404, "unknown_route"),
        get("/v1/nothing", 404, "unknown_route"),
        get("/v2/transactions", 404, "unknown_route"),
        method(Method::DELETE, "/v1/transactions"),
        method(Method::PUT, "/v1/transactions/a"),
        method(Method::PATCH, "/v1/transactions/a/commit"),
        method(Method::GET, "/v1/transactions/a/commit"),
        method(Method::GET, "/v1/callbacks/a"),
        method(Method::POST, "/healthz"),
        method(Method::POST, "/openapi.json"),
        get("/v1/transactions/nobody", 404, "unknown_gid"),
        get("/v1/transactions/nobody/events", 404, "unknown_gid"),
        get("/v1/transactions/a%20b", 400, "invalid_gid"),
        get("/v1/transactions/%ff", 400, "invalid_gid"),
        get("/v1/transactions/nobody?branch_limit=0", 400, "invalid_query"),
        get("/v1/transactions/nobody?branch_cursor=x", 400, "bad_cursor"),
        get("/v1/transactions/nobody?full=true", 400, "invalid_query"),
        get("/v1/transactions/nobody/events?cursor=x", 400, "bad_cursor"),
        get("/v1/transactions/nobody/events?limit=-1", 400, "invalid_query"),
        get("/v1/transactions?limit=0", 400, "invalid_query"),
        get("/v1/transactions?limit=501", 400, "invalid_query"),
        get("/v1/transactions?limit=10&limit=10", 400, "invalid_query"),
        get("/v1/transactions?status=done", 400, "invalid_query"),
        get("/v1/transactions?statuss=running", 400, "invalid_query"),
        get("/v1/transactions?label.=x", 400, "invalid_query"),
        get("/v1/transactions?label.a=x&label.a=y", 400, "invalid_query"),
        get("/v1/transactions?label.a=%00", 400, "invalid_query"),
        get("/v1/transactions?gid=a%20b", 400, "invalid_gid"),
        get("/v1/transactions?created_after=yesterday", 400, "invalid_query"),
        get("/v1/transactions?cursor=%21", 400, "bad_cursor"),
        get("/v1/transactions?cursor=dDox", 400, "bad_cursor"),
        get("/v1/transactions?cursor=", 400, "bad_cursor"),
    ]
}

async fn is_empty(world: &World) -> bool {
    world.client.get("/v1/transactions").await.body == json!({"items": [], "next_cursor": null})
}

#[tokio::test]
async fn bad_input_is_a_clear_problem_and_nothing_is_stored() {
    let world = World::start(Backend::Sqlite).await;
    let definition = definition(&world.participants.url(), &json!([step("a")]));
    let http = client::http();
    let mut wrong = Vec::new();
    for Bad(method, path, body, status, code) in begins(&definition).into_iter().chain(words()).chain(reads()) {
        let mut request = http.request(method.clone(), format!("{}{path}", world.node.url()));
        let shown =
            body.as_ref().map_or_else(String::new, |body| String::from_utf8_lossy(body).chars().take(90).collect());
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => {
                wrong.push(format!("{method} {path} {shown}: no answer: {error:?}"));
                continue;
            }
        };
        let got = response.status().as_u16();
        let media = response.headers().get("content-type").map(|value| value.to_str().unwrap().to_owned());
        let has_allow = response.headers().contains_key("allow");
        let problem: Value = response.json().await.unwrap_or_default();
        let told = (got, problem["code"].as_str().unwrap_or("-"));
        if told != (status, code) {
            wrong.push(format!(
                "{method} {path} {shown}: {told:?} and not {:?}: {}",
                (status, code),
                problem["detail"]
            ));
        }
        let is_problem = media.as_deref() == Some("application/problem+json")
            && problem["status"] == status
            && problem["type"] == format!("urn:skald:problem:{code}")
            && ["title", "detail", "trace_id"]
                .iter()
                .all(|member| problem[member].as_str().is_some_and(|text| !text.is_empty()))
            && (status != 422
                || code == "unknown_workflow"
                || code.ends_with("_too_large")
                || !problem["errors"][0]["message"].is_null())
            && has_allow == (status == 405);
        if !is_problem {
            wrong.push(format!("{method} {path} {shown}: not a whole problem: {media:?} {problem}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(is_empty(&world).await, "something was stored");
    assert_eq!(world.participants.arrived(), 0);
}

#[tokio::test]
async fn headers_that_say_nothing_sensible_are_told() {
    let world = World::start(Backend::Sqlite).await;
    let body = begin(&definition(&world.participants.url(), &json!([step("a")]))).to_string();
    let url = format!("{}/v1/transactions", world.node.url());
    for (name, value, status, code) in [
        ("content-type", "text/plain", 415, "unsupported_media_type"),
        ("content-type", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        ("content-encoding", "gzip", 415, "unsupported_media_type"),
    ] {
        let mut request = client::http().post(&url).body(body.clone());
        if name != "content-type" {
            request = request.header("content-type", "application/json");
        }
        let response = request.header(name, value).send().await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{name}: {value}");
        let problem: Value = response.json().await.unwrap();
        assert_eq!(problem["code"], code, "{name}: {value}");
    }
    let untyped = client::http().post(&url).body(body.clone()).send().await.unwrap();
    assert_eq!(untyped.status().as_u16(), 415);
    let bad_place = client::http().get(format!("{url}/nobody/events")).header("accept", "text/event-stream");
    let response = bad_place.header("last-event-id", "x").send().await.unwrap();
    assert_eq!(response.status().as_u16(), 400);
    assert!(is_empty(&world).await, "something was stored");
    // RFC 7240, 2: a preference that says nothing is as good as none.
    for value in ["wait=abc", "respond-async, wait=-1", "wait"] {
        let request = client::http().post(&url).header("content-type", "application/json").body(body.clone());
        let response = request.header("prefer", value).send().await.unwrap();
        assert_eq!((response.status().as_u16(), response.headers().get("preference-applied")), (202, None), "{value}");
    }
}

#[tokio::test]
async fn a_definition_s_faults_come_all_at_once_with_pointers_into_the_body() {
    let world = World::start(Backend::Sqlite).await;
    let mut bad =
        definition(&world.participants.url(), &json!([step("a"), step("a"), {"name": "b", "action": {"path": "/b"}}]));
    bad["timeoutt"] = json!("5s");
    let answer = world.client.post("/v1/transactions", &begin(&bad)).await;
    assert_eq!((answer.status, answer.code()), (422, "invalid_definition"));
    let faults = answer.body["errors"].as_array().unwrap();
    let codes: Vec<_> = faults.iter().map(|fault| fault["code"].as_str().unwrap()).collect();
    assert!(["E002", "E101"].iter().all(|code| codes.contains(code)), "{codes:?}");
    assert!(faults.iter().all(|fault| fault["pointer"].as_str().unwrap().starts_with("/definition")), "{faults:?}");
}

#[tokio::test]
async fn a_body_that_never_comes_whole_begins_nothing() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let world = World::start(Backend::Sqlite).await;
    let body = begin(&definition(&world.participants.url(), &json!([step("a")]))).to_string();
    let address = world.node.url().replace("http://", "");
    let mut connection = tokio::net::TcpStream::connect(&address).await.unwrap();
    let head = format!(
        "POST /v1/transactions HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len() + 1
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    connection.write_all(body.as_bytes()).await.unwrap();
    connection.shutdown().await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    assert!(is_empty(&world).await, "something was stored");
}
