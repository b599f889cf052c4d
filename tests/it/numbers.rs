//! Numbers come out of a transaction as the text they went in as, over real HTTP and in both databases, and requests are
//! compared by all their digits.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, extract::State, http::HeaderMap, http::StatusCode, http::Uri, response::IntoResponse};
use sha2::{Digest, Sha256};
use skald_protocol::{Begin, Json, Status};
use skald_tests::{World, client::http, cluster::run_with, eventually, promises};

/// Each as JSON may have it, and most are no double.
const N: &str = "[123456789012345678901234567890,-9007199254740993,12345678901234567.89,0.10,1e-7,1E+2,1e21,10.0,-0,-0.00,1e-400,7]";

#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Call>>>);

#[derive(Clone)]
struct Call {
    gid: String,
    to: String,
    header: Option<String>,
    callback: Option<String>,
    body: String,
}

/// A service that keeps what comes byte for byte, and answers with the numbers.
async fn service() -> (String, Seen) {
    async fn answer(State(seen): State<Seen>, uri: Uri, headers: HeaderMap, body: String) -> impl IntoResponse {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let call = Call {
            gid: text("skald-transaction").unwrap_or_default(),
            to: uri.to_string(),
            header: text("x-n"),
            callback: text("skald-callback"),
            body,
        };
        seen.0.lock().expect("nobody panics").push(call);
        let later = ["/called", "/polled"].contains(&uri.path());
        let status = if later { StatusCode::ACCEPTED } else { StatusCode::OK };
        // A poll's answer is one too.
        (
            status,
            [("content-type", "application/json")],
            format!(r#"{{"outcome": "succeeded", "n": {N}, "output": {{"n": {N}}}}}"#),
        )
    }
    let seen = Seen::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let router = Router::new().fallback(answer).with_state(seen.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, seen)
}

impl Seen {
    fn of(&self, gid: &str) -> Vec<Call> {
        self.0.lock().expect("nobody panics").iter().filter(|call| call.gid == gid).cloned().collect()
    }

    fn body(&self, gid: &str, to: &str) -> String {
        let found = self.of(gid).into_iter().find(|call| call.to == to);
        found
            .unwrap_or_else(|| {
                panic!("{to} was not called: {:?}", self.of(gid).iter().map(|call| &call.to).collect::<Vec<_>>())
            })
            .body
    }
}

fn of(text: &str, url: &str) -> String {
    text.replace("$url", url).replace("$n", N)
}

const INNER: &str = r#"{"dsl": "1.0", "name": "inner", "version": "1.0.0", "services": {"s": {"url": "$url"}}, "steps": [
    {"name": "one", "service": "s", "action": {"path": "/one"}, "compensate": {"path": "/undo"}}], "output": {"n": "${input.n}", "written": $n}}"#;

const OUTER: &str = r#"{"dsl": "1.0", "name": "outer", "version": "1.0.0", "services": {"s": {"url": "$url"}},
    "input": {"type": "object", "required": ["n"], "properties": {"n": {"type": "array", "items": {"type": "number"}}}}, "steps": [
    {"name": "a", "service": "s", "action": {"path": "/a/${input.n[2]}", "query": {"q": "${input.n[3]}"}, "headers": {"X-N": "${input.n[0]}"},
        "body": {"n": "${input.n}", "written": $n, "computed": "${input.n.map(x, x)}"}}, "compensate": {"path": "/undo"}, "output": {"n": "${self.response.body.n}"}},
    {"name": "input", "service": "s", "action": {"path": "/input"}, "compensate": {"path": "/undo"}},
    {"name": "set", "set": {"n": "${steps.a.output.n}", "written": $n}},
    {"name": "c", "choice": [{"when": "steps.set.output.n == input.n", "steps": []}, {"otherwise": true, "steps": [{"name": "no", "fail": {"error": "other"}}]}]},
    {"name": "m", "map": {"items": "${[steps.set.output.n]}", "as": "one", "steps": [
        {"name": "each", "service": "s", "action": {"path": "/each", "body": "${one}"}, "compensate": {"path": "/undo"}, "output": "${self.response.body.n}"}]}},
    {"name": "w", "wait": {"signal": "go", "timeout": "1h"}},
    {"name": "called", "service": "s", "action": {"path": "/called", "body": "${signals.go.n}", "async": {"timeout": "1h"}}, "compensate": {"path": "/undo"}},
    {"name": "polled", "service": "s", "action": {"path": "/polled", "body": "${steps.called.output.n}", "async": {"timeout": "1h", "poll": {"method": "POST", "path": "/poll", "interval": "50ms", "body": "${steps.w.output.n}"}}}, "compensate": {"path": "/undo"}},
    {"name": "s", "saga": {"workflow": "inner", "version": "1.0.0", "input": {"n": "${steps.polled.output.n}"}}},
    {"name": "t", "service": "s", "try": {"path": "/try", "body": "${steps.m.output}"}, "confirm": {"path": "/confirm"}, "cancel": {"path": "/cancel"}}
  ], "output": {"saga": "${steps.s.output}", "map": "${steps.m.output}", "written": $n}}"#;

/// Sends text as it is: the status and the answer's text.
async fn send(world: &World, method: reqwest::Method, path: &str, body: String) -> (u16, String) {
    let request =
        http().request(method, format!("{}{path}", world.node.url())).header("content-type", "application/json");
    let answer = request.body(body).send().await.expect("the coordinator answers");
    (answer.status().as_u16(), answer.text().await.expect("text"))
}

async fn post(world: &World, path: &str, body: String) -> (u16, String) {
    send(world, reqwest::Method::POST, path, body).await
}

async fn get(world: &World, path: &str) -> String {
    let (status, text) = send(world, reqwest::Method::GET, path, String::new()).await;
    assert_eq!(status, 200, "{text}");
    text
}

/// Begins it, and says what it waits for.
async fn driven(world: &World, seen: &Seen, url: &str, gid: &str) {
    for (text, path) in [(INNER, "/v1/workflows/inner/1.0.0"), (OUTER, "/v1/workflows/outer/1.0.0")] {
        let (status, text) = send(world, reqwest::Method::PUT, path, of(text, url)).await;
        assert_eq!(status, 201, "{text}");
    }
    let begin = of(&format!(r#"{{"gid": "{gid}", "workflow": "outer", "input": {{"n": $n}}}}"#), url);
    let (status, text) = post(world, "/v1/transactions", begin).await;
    assert_eq!(status, 202, "{text}");
    let (status, text) =
        post(world, &format!("/v1/transactions/{gid}/signals/go"), of(r#"{"payload": {"n": $n}}"#, url)).await;
    assert_eq!(status, 202, "{text}");
    let callback = eventually("it is called for later", Duration::from_secs(20), || async {
        seen.of(gid).into_iter().find_map(|call| call.callback.filter(|_| call.to == "/called"))
    })
    .await;
    let said = of(r#"{"outcome": "succeeded", "output": {"n": $n}}"#, url);
    let answer =
        http().post(callback).header("content-type", "application/json").body(said).send().await.expect("an answer");
    assert_eq!(answer.status().as_u16(), 200);
    world.client.reaches(gid, Status::Succeeded).await;
}

promises! {
    async fn a_number_comes_out_as_it_went_in(backend: Backend) {
        let world = World::start(backend).await;
        let (url, seen) = service().await;
        driven(&world, &seen, &url, "g").await;

        let n = |text: &str| text.replace("$n", N);
        let first = seen.of("g").remove(0);
        assert_eq!(first.to, "/a/12345678901234567.89?q=0.10");
        assert_eq!(first.header.as_deref(), Some("123456789012345678901234567890"));
        assert_eq!(first.body, n(r#"{"computed":$n,"n":$n,"written":$n}"#));
        for (to, body) in [
            ("/input", r#"{"n": $n}"#), ("/each", "$n"), ("/called", "$n"), ("/polled", "$n"), ("/poll", "$n"), ("/one", r#"{"n":$n}"#),
            ("/try", "[$n]"), ("/confirm", "[$n]"),
        ] {
            assert_eq!(seen.body("g", to), n(body), "{to}");
        }
        let output = n(r#"{"map":[$n],"saga":{"n":$n,"written":$n},"written":$n}"#);

        let view = get(&world, "/v1/transactions/g").await;
        assert!(view.contains(&n(r#""input":{"n": $n}"#)) && view.contains(&format!(r#""output":{output}"#)), "{view}");
        let page = get(&world, "/v1/transactions/g/events?limit=1000").await;
        let stream = http().get(format!("{}/v1/transactions/g/events", world.node.url())).header("accept", "text/event-stream");
        let stream = stream.send().await.expect("a stream").text().await.expect("it ends");
        for told in [&page, &stream] {
            assert!(told.contains(&format!(r#""output":{output}"#)), "{told}");
            assert!(told.contains(&n(r#""payload":{"n": $n}"#)) && told.contains(&n(r#""output":{"n":$n,"written":$n}"#)), "{told}");
        }

        let client = skald_sdk::Client::new(&world.node.url()).expect("a client");
        let gid = "g".parse().expect("a gid");
        let view = client.get(&gid).await.expect("it is there");
        assert_eq!(view.output.expect("an output").text(), output);
        let mut follow = client.follow(&gid);
        let mut outputs = Vec::new();
        while let Some(event) = follow.next().await.expect("events") {
            if let skald_protocol::PublicEventKind::Settled { output, .. } = event.kind {
                outputs.push(output.expect("an output").text().to_owned());
            }
        }
        assert_eq!(outputs.join(" "), output);

        let shown = run_with(&["tx", "--output", "json", "show", "g"], &[("SKALD_URL", &world.node.url())]).await;
        let view: skald_protocol::TransactionView = serde_json::from_str(&shown.stdout).expect("JSON");
        assert_eq!(view.output.expect("an output").text(), output, "{}", shown.stdout);
    }

    async fn a_client_and_the_command_line_send_a_number_as_it_is(backend: Backend) {
        let world = World::start(backend).await;
        let (url, seen) = service().await;
        let definition = of(
            r#"{"dsl": "1.0", "name": "d", "version": "1.0.0", "services": {"s": {"url": "$url"}}, "steps": [
                {"name": "a", "service": "s", "action": {"path": "/a"}, "compensate": {"path": "/undo"}}], "output": "${input}"}"#,
            &url,
        );
        let json = |text: &str| Json::from_text(text.to_owned()).expect("JSON");
        let client = skald_sdk::Client::new(&world.node.url()).expect("a client");
        let gid: skald_protocol::Gid = "sdk".parse().expect("a gid");
        let begin = Begin { gid: Some(gid.clone()), definition: Some(json(&definition)), input: Some(json(N)), ..Begin::default() };
        let view = client.begin_with(begin, Some(Duration::from_secs(20))).await.expect("it is taken");
        assert_eq!((view.output.expect("an output").text(), seen.body("sdk", "/a").as_str()), (N, N));

        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("d.json");
        std::fs::write(&file, definition).expect("a file");
        let file = file.display().to_string();
        let arguments = ["tx", "--output", "json", "begin", &file, "--gid", "cli", "--input", N, "--wait", "20s"];
        let begun = run_with(&arguments, &[("SKALD_URL", &world.node.url())]).await;
        assert_eq!(begun.code, 0, "{}{}", begun.stdout, begun.stderr);
        assert_eq!(seen.body("cli", "/a"), N);

        // A branch of an open transaction.
        let (status, text) = post(&world, "/v1/transactions", r#"{"gid": "open", "open": true, "timeout": "1m"}"#.to_owned()).await;
        assert_eq!(status, 201, "{text}");
        let branch = of(r#"{"branch": "b", "try": {"url": "$url/try"}, "confirm": {"url": "$url/confirm"}, "cancel": {"url": "$url/cancel"}, "body": $n}"#, &url);
        let (status, text) = post(&world, "/v1/transactions/open/branches", branch).await;
        assert_eq!(status, 200, "{text}");
        assert_eq!(seen.body("open", "/try"), N);
        assert!(text.contains(&format!(r#""output":{{"outcome": "succeeded", "n": {N}"#)), "{text}");
    }

    async fn requests_are_compared_by_all_digits_of_their_numbers(backend: Backend) {
        let world = World::start(backend).await;
        let (url, _) = service().await;
        let step = r#"{"name": "w", "wait": {"signal": "go", "timeout": "1h"}}"#;
        // What is sent first, the same written otherwise, and another that is the same double.
        for (run, one, same, other) in [
            ("1", "9007199254740993", "9007199254740993.0", "9007199254740992"),
            ("2", "9007199254740992", "9.007199254740992e15", "9007199254740993"),
            ("3", "0.1", "0.10", "0.10000000000000000001"),
        ] {
            let definition = |number: &str| format!(
                r#"{{"dsl": "1.0", "name": "d", "version": "{run}.0.0", "steps": [{step}, {{"name": "s", "set": {number}}}]}}"#
            );
            let begin = |number: &str| format!(r#"{{"gid": "g{run}", "definition": {}, "input": {number}}}"#, definition("1"));
            let written = |number: &str| format!(r#"{{"gid": "h{run}", "definition": {}}}"#, definition(number));
            let branch = |number: &str| of(&format!(
                r#"{{"branch": "b", "confirm": {{"url": "$url/b"}}, "cancel": {{"url": "$url/b"}}, "body": {number}}}"#
            ), &url);
            let open = format!(r#"{{"gid": "o{run}", "open": true, "timeout": "1m"}}"#);
            assert_eq!(post(&world, "/v1/transactions", open).await.0, 201);
            for (method, path, body, taken, known) in [
                (reqwest::Method::POST, "/v1/transactions".to_owned(), &begin as &dyn Fn(&str) -> String, 202, 202),
                (reqwest::Method::POST, "/v1/transactions".to_owned(), &written, 202, 202),
                (reqwest::Method::PUT, format!("/v1/workflows/d/{run}.0.0"), &definition, 201, 200),
                (reqwest::Method::POST, format!("/v1/transactions/o{run}/branches"), &branch, 200, 200),
                (reqwest::Method::POST, format!("/v1/transactions/g{run}/signals/other"), &|number| format!(r#"{{"payload": {number}}}"#), 202, 202),
            ] {
                for (number, expected) in [(one, taken), (one, known), (same, known), (other, 409)] {
                    let (status, text) = send(&world, method.clone(), &path, body(number)).await;
                    assert_eq!(status, expected, "{path} {number}: {text}");
                }
            }
        }
    }

    async fn what_an_earlier_build_compared_by_doubles_is_the_same_request_still(backend: Backend) {
        let mut world = World::start(backend).await;
        let text = |number: &str| format!(
            r#"{{"dsl":"1.0","name":"d","steps":[{{"name":"w","wait":{{"for":"1h"}}}},{{"name":"s","set":{number}}}],"version":"1.0.0"}}"#
        );
        let begin = |number: &str| format!(r#"{{"gid": "g", "input": {number}, "workflow": "d"}}"#);
        let number = "9007199254740993";
        assert_eq!(send(&world, reqwest::Method::PUT, "/v1/workflows/d/1.0.0", text(number)).await.0, 201);
        assert_eq!(post(&world, "/v1/transactions", begin(number)).await.0, 202);
        world.node.terminate().await;
        // RFC 8785, as it was stored.
        let rounded = "9007199254740992";
        let digests = [
            ("UPDATE workflows SET definition_digest = $1", text(rounded)),
            ("UPDATE transactions SET request_digest = $1", format!(r#"{{"input":{rounded},"workflow":"d"}}"#)),
        ];
        for (sql, form) in digests {
            world.database.set_bytes(sql, &Sha256::digest(form)).await.expect("a row");
        }
        world.node.start().await;
        let publish = |number: &str| send(&world, reqwest::Method::PUT, "/v1/workflows/d/1.0.0", text(number));
        assert_eq!(publish(number).await.0, 200);
        assert_eq!(post(&world, "/v1/transactions", begin(number)).await.0, 202);
        assert_eq!(publish("9007199254740995").await.0, 409);
        assert_eq!(post(&world, "/v1/transactions", begin("9007199254740995")).await.0, 409);
    }
}
