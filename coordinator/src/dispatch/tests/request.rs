//! What a participant sees.

use skald_engine::plan::{Auth, Secret, Value};

use super::{
    server::{Server, answer},
    *,
};

async fn ok() -> Server {
    Server::start(answer("200 OK", "", "{}")).await
}

/// The one request that came: its first line, its headers by lower-case name, its body.
async fn seen(options: Options, server: &Server, outgoing: Outgoing) -> (String, BTreeMap<String, String>, String) {
    let reply = reply(&Dispatcher::start(options).unwrap(), outgoing).await;
    assert!(matches!(reply.outcome, Outcome::Succeeded(_)), "{reply:?}");
    let request = server.requests().pop().unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let (line, headers) = head.split_once("\r\n").unwrap();
    let headers = headers
        .lines()
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    (line.to_owned(), headers, body.to_owned())
}

#[tokio::test]
async fn a_call_carries_every_header_of_the_contract() {
    let server = ok().await;
    let mut outgoing = call(&server.url());
    outgoing.request.asynchronous = true;
    outgoing.call.attempt = 3;
    outgoing.began_at = "2026-01-31T12:00:00Z".parse().unwrap();
    outgoing.trace = TraceContext {
        trace_id: "0af7651916cd43dd8448eb211c80319c".to_owned(),
        root_span_id: "b7ad6b7169203331".to_owned(),
        sampled: true,
        state: "vendor=1".to_owned(),
        baggage: "tenant=a".to_owned(),
        ..TraceContext::default()
    };
    let span = skald_engine::SpanId::of_call(&outgoing.gid, &outgoing.call, &outgoing.request);
    let token = CallbackTokens::new(b"key").mint(&outgoing.gid, &outgoing.request.branch, OperationKind::Action);
    let before = timestamp(SystemTime::now());
    let (line, headers, body) = seen(options(), &server, outgoing).await;
    assert_eq!((line.as_str(), body.as_str()), ("POST /reserve HTTP/1.1", r#"{"sku":"s"}"#));
    for (name, value) in [
        ("idempotency-key", "order:1/reserve/action"),
        ("skald-transaction", "order:1"),
        ("skald-branch", "reserve"),
        ("skald-operation", "action"),
        ("skald-attempt", "3"),
        ("skald-began", "2026-01-31T12:00:00.000Z"),
        ("skald-callback", &format!("http://skald.test/v1/callbacks/{token}")),
        ("traceparent", &format!("00-0af7651916cd43dd8448eb211c80319c-{span}-01")),
        ("tracestate", "vendor=1"),
        ("baggage", "tenant=a"),
        ("content-type", "application/json"),
        ("accept", "application/json"),
    ] {
        assert_eq!(headers.get(name).map(String::as_str), Some(value), "{name}");
    }
    let deadline: Timestamp = headers["skald-deadline"].parse().unwrap();
    let timeout = before.until(deadline);
    assert!((5..15).contains(&timeout.as_secs()), "the end of this attempt, not of anything longer: {timeout:?}");
    assert!(!headers.contains_key("accept-encoding"), "compressed answers are not asked for");
}

#[tokio::test]
async fn what_does_not_apply_is_not_sent() {
    let server = ok().await;
    let mut outgoing = call(&server.url());
    outgoing.request.body = None;
    outgoing.request.method = "DELETE".to_owned();
    let (line, headers, body) = seen(options(), &server, outgoing).await;
    assert_eq!((line.as_str(), body.as_str()), ("DELETE /reserve HTTP/1.1", ""));
    for name in ["skald-callback", "traceparent", "tracestate", "baggage", "content-type", "authorization"] {
        assert!(!headers.contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn a_question_says_that_it_is_one_and_asks_for_no_callback() {
    let server = Server::start(answer("200 OK", "", r#"{"outcome":"succeeded"}"#)).await;
    let mut outgoing = ask(&server.url());
    outgoing.request.asynchronous = true;
    let (line, headers, _) = seen(options(), &server, outgoing).await;
    assert_eq!(line, "GET /reserve HTTP/1.1");
    assert_eq!(headers["skald-operation"], "status");
    assert_eq!(headers["idempotency-key"], "order:1/reserve/action");
    assert!(!headers.contains_key("skald-callback"));
}

#[tokio::test]
async fn a_definitions_headers_cannot_pass_for_ours_nor_break_the_framing() {
    let server = ok().await;
    let mut outgoing = call(&server.url());
    for (name, value) in [
        ("Skald-Transaction", "forged"),
        ("Idempotency-Key", "forged"),
        ("Content-Length", "1"),
        ("Transfer-Encoding", "chunked"),
        ("Content-Type", "application/vnd.shop+json"),
        ("X-Shop", "7"),
    ] {
        outgoing.request.headers.insert(name.to_owned(), value.to_owned());
    }
    let (_, headers, body) = seen(options(), &server, outgoing).await;
    assert_eq!(headers["skald-transaction"], "order:1");
    assert_eq!(headers["idempotency-key"], "order:1/reserve/action");
    assert_eq!(headers["content-length"], body.len().to_string());
    assert!(!headers.contains_key("transfer-encoding"));
    assert_eq!((headers["content-type"].as_str(), headers["x-shop"].as_str()), ("application/vnd.shop+json", "7"));

    let mut outgoing = call(&server.url());
    outgoing.request.headers.insert("x-shop".to_owned(), "a\r\nb: c".to_owned());
    let Outcome::Refused(error) = reply(&dispatcher(), outgoing).await.outcome else { panic!() };
    assert_eq!(error.code, "invalid_request");
}

#[tokio::test]
async fn a_path_and_a_query_are_appended_to_the_services_url() {
    let server = ok().await;
    for (base, path, expected) in [
        ("", "/reserve", "/reserve"),
        ("/", "/reserve", "/reserve"),
        ("/api/v2/", "reserve", "/api/v2/reserve"),
        ("/api?k=1", "/a%2Fb", "/api/a%2Fb?k=1"),
        ("/api?k=1", "/a?b=2", "/api/a?k=1&b=2"),
        ("/api", "", "/api"),
    ] {
        let mut outgoing = call(&format!("{}{base}", server.url()));
        outgoing.request.target = Target::Path(path.to_owned());
        let (line, ..) = seen(options(), &server, outgoing).await;
        assert_eq!(line, format!("POST {expected} HTTP/1.1"), "{base} + {path}");
    }
    let mut outgoing = call(&server.url());
    outgoing.request.query = vec![("q".to_owned(), "a b&c".to_owned()), ("n".to_owned(), "1".to_owned())];
    let (line, ..) = seen(options(), &server, outgoing).await;
    assert_eq!(line, "POST /reserve?q=a+b%26c&n=1 HTTP/1.1");
}

#[tokio::test]
async fn a_target_that_can_never_be_called_is_refused_and_a_question_about_it_is_not_answered() {
    let dispatcher = dispatcher();
    let targets = [
        Target::Path("/holds/../admin".to_owned()),
        Target::Path("/holds/%2E%2e/admin".to_owned()),
        Target::Path("/holds/.%2E".to_owned()),
        Target::Url("ftp://host/".to_owned()),
        Target::Url("not a url".to_owned()),
        Target::Url("http://user:password@host/".to_owned()),
    ];
    for target in targets {
        let mut outgoing = call("http://127.0.0.1:1/base");
        outgoing.request.target = target.clone();
        let Outcome::Refused(error) = reply(&dispatcher, outgoing.clone()).await.outcome else { panic!("{target:?}") };
        assert_eq!(error.code, "invalid_url");
        outgoing.call.ask = true;
        let Outcome::Unsent(_) = reply(&dispatcher, outgoing).await.outcome else { panic!("{target:?}") };
    }
}

#[tokio::test]
async fn what_an_operator_can_set_right_is_unsent() {
    let mut options = options();
    let there = "http://127.0.0.1:1".parse().unwrap();
    options.secrets = Secrets::new(None, [("none".to_owned(), vec![there])].into());
    let dispatcher = Dispatcher::start(options).unwrap();
    let mut nobody = call("http://127.0.0.1:1");
    nobody.plan = Arc::new(Plan::open());
    let mut secretive = call("http://127.0.0.1:1");
    stock(&mut secretive).auth = Some(Auth::Bearer(Secret { secret: "none".to_owned() }));
    let mut foreign = call("http://127.0.0.1:1");
    foreign.contract = "tomorrow".to_owned();
    for (outgoing, code) in
        [(nobody, "unknown_service"), (secretive, "secret_unavailable"), (foreign, "unknown_contract")]
    {
        let Outcome::Unsent(error) = reply(&dispatcher, outgoing).await.outcome else { panic!("{code}") };
        assert_eq!(error.code, code);
        assert!(!error.message.unwrap_or_default().contains("SKALD_"), "where secrets are is for the log");
    }
}

/// The secret `token`, for definitions' services at `destinations`.
fn with_secret(destinations: &[&Server]) -> (tempfile::TempDir, Options) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("token"), "s3cret\n").unwrap();
    let mut options = options();
    let destinations = destinations.iter().map(|server| server.url().parse().expect("a URL")).collect();
    options.secrets = Secrets::new(Some(directory.path().to_owned()), [("token".to_owned(), destinations)].into());
    (directory, options)
}

#[tokio::test]
async fn a_secret_that_a_definition_names_goes_only_where_the_server_lets_it() {
    let (home, astray) = (ok().await, ok().await);
    let secret = |name: &str| Secret { secret: name.to_owned() };
    let ways: [fn(&mut skald_engine::Service, Secret); 4] = [
        |service, secret| service.auth = Some(Auth::Bearer(secret)),
        |service, secret| service.auth = Some(Auth::Basic { username: "u".to_owned(), password: secret }),
        |service, secret| service.auth = Some(Auth::Header { name: "x".to_owned(), value: secret }),
        |service, secret| drop(service.headers.insert("x".to_owned(), Value::Secret(secret))),
    ];
    for way in ways {
        let (_directory, options) = with_secret(&[&home]);
        let dispatcher = Dispatcher::start(options).unwrap();
        let answers = |server: &Server, name: &str| {
            let mut outgoing = call(&server.url());
            way(stock(&mut outgoing), secret(name));
            let withheld = dispatcher.withheld_secrets(&outgoing.plan).len();
            let reply = reply(&dispatcher, outgoing);
            async move { (withheld, reply.await.outcome) }
        };
        let (0, Outcome::Succeeded(_)) = answers(&home, "token").await else { panic!() };
        let (1, Outcome::Unsent(error)) = answers(&astray, "token").await else { panic!() };
        assert_eq!(error.code, "secret_withheld");
        let (1, Outcome::Unsent(absent)) = answers(&astray, "absent").await else { panic!() };
        let told = error.message.expect("a message").replace("token", "absent");
        assert_eq!(absent.message.expect("a message"), told, "it does not tell which secrets there are");
    }
    assert!(astray.requests().is_empty());
}

#[tokio::test]
async fn a_service_adds_its_headers_and_authentication() {
    let server = ok().await;
    let secret = || Secret { secret: "token".to_owned() };
    let auths = [
        (Auth::Bearer(secret()), "authorization", "Bearer s3cret"),
        (Auth::Basic { username: "u".to_owned(), password: secret() }, "authorization", "Basic dTpzM2NyZXQ="),
        (Auth::Header { name: "X-Api-Key".to_owned(), value: secret() }, "x-api-key", "s3cret"),
    ];
    for (auth, name, value) in auths {
        let (_directory, options) = with_secret(&[&server]);
        let mut outgoing = call(&server.url());
        let service = stock(&mut outgoing);
        service.auth = Some(auth);
        service.headers.insert("X-Tenant".to_owned(), Value::Text("a".to_owned()));
        service.headers.insert("X-Own".to_owned(), Value::Text("service".to_owned()));
        service.headers.insert("X-Hidden".to_owned(), Value::Secret(secret()));
        outgoing.request.headers.insert("x-own".to_owned(), "operation".to_owned());
        let (_, headers, _) = seen(options, &server, outgoing).await;
        assert_eq!(headers[name], value);
        assert_eq!(headers["x-tenant"], "a");
        assert_eq!(headers["x-own"], "operation");
        assert_eq!(headers["x-hidden"], "s3cret");
    }
}

#[tokio::test]
async fn the_servers_url_and_secret_go_before_the_plans() {
    let (planned, configured) = (ok().await, ok().await);
    let (_directory, mut options) = with_secret(&[]);
    let settings = ServiceSettings {
        url: Some(configured.url()),
        auth: Some(Auth::Bearer(Secret { secret: "token".to_owned() })),
        ..ServiceSettings::default()
    };
    options.services.insert("stock".to_owned(), settings);
    let (_, headers, _) = seen(options, &configured, call(&planned.url())).await;
    assert_eq!(headers["authorization"], "Bearer s3cret");
    assert!(planned.requests().is_empty());
}

#[tokio::test]
async fn a_services_secret_never_travels_to_another_origin() {
    let (home, astray) = (ok().await, ok().await);
    let secret = Some(Auth::Bearer(Secret { secret: "token".to_owned() }));

    let (_directory, options) = with_secret(&[&home, &astray]);
    let mut outgoing = call(&home.url());
    stock(&mut outgoing).auth = secret.clone();
    outgoing.request.target = Target::Url(format!("{}/elsewhere", astray.url()));
    let (_, headers, _) = seen(options, &astray, outgoing.clone()).await;
    assert!(!headers.contains_key("authorization"));

    let (_directory, options) = with_secret(&[&home]);
    outgoing.request.target = Target::Url(format!("{}/here", home.url()));
    let (_, headers, _) = seen(options, &home, outgoing).await;
    assert_eq!(headers["authorization"], "Bearer s3cret");

    // The server's authentication without its URL: a plan chooses the URL, so it does not get the secret.
    let (_directory, mut options) = with_secret(&[&astray]);
    options.services.insert("stock".to_owned(), ServiceSettings { auth: secret, ..ServiceSettings::default() });
    let (_, headers, _) = seen(options, &astray, call(&astray.url())).await;
    assert!(!headers.contains_key("authorization"));
}
