//! docs/workflows.md, "What an answer means", in both directions.

use skald_engine::{Barrier, Outcome, Response, limit};

use super::{
    server::{Act, Server, answer, say},
    *,
};

async fn after(acts: Vec<Act>) -> Reply {
    let server = Server::start(acts).await;
    let mut outgoing = call(&server.url());
    outgoing.request.timeout = Duration::from_millis(400);
    reply(&dispatcher(), outgoing).await
}

async fn after_async(acts: Vec<Act>) -> Reply {
    let server = Server::start(acts).await;
    let mut outgoing = call(&server.url());
    outgoing.request.asynchronous = true;
    reply(&dispatcher(), outgoing).await
}

async fn asked(acts: Vec<Act>) -> Outcome {
    let server = Server::start(acts).await;
    let mut outgoing = ask(&server.url());
    outgoing.request.timeout = Duration::from_millis(400);
    reply(&dispatcher(), outgoing).await.outcome
}

#[track_caller]
fn succeeded(reply: Reply) -> Response {
    match reply.outcome {
        Outcome::Succeeded(response) => response,
        other => panic!("expected succeeded, got {other:?}"),
    }
}

#[track_caller]
fn refused(reply: Reply) -> (String, Option<String>) {
    match reply.outcome {
        Outcome::Refused(error) => (error.code, error.message),
        other => panic!("expected refused, got {other:?}"),
    }
}

#[track_caller]
fn unknown(reply: Reply) -> String {
    match reply.outcome {
        Outcome::Unknown(error) => error.code,
        other => panic!("expected unknown, got {other:?}"),
    }
}

#[track_caller]
fn unsent(reply: Reply) -> String {
    match reply.outcome {
        Outcome::Unsent(error) => error.code,
        other => panic!("expected unsent, got {other:?}"),
    }
}

#[tokio::test]
async fn a_json_body_of_a_success_is_the_output_as_it_came() {
    for status in ["200 OK", "201 Created", "203 Fine", "202 Accepted", "206 Partial Content"] {
        let response = succeeded(after(answer(status, "", r#"{ "id": 7, "id": 8 }"#)).await);
        assert_eq!(response.body.unwrap().text(), r#"{ "id": 7, "id": 8 }"#, "{status}");
        assert!(!response.output_dropped);
        assert_eq!(response.headers, BTreeMap::new());
    }
}

#[tokio::test]
async fn an_empty_success_has_no_output_and_nothing_was_dropped() {
    for acts in [answer("200 OK", "", ""), vec![say("HTTP/1.1 204 No Content\r\n\r\n")]] {
        let response = succeeded(after(acts).await);
        assert_eq!((response.body, response.output_dropped), (None, false));
    }
}

#[tokio::test]
async fn a_success_whose_body_is_not_json_or_too_deep_is_a_success_without_output() {
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let compressed = "content-encoding: gzip\r\n";
    let dropped = [
        answer("200 OK", "", "hello"),
        answer("200 OK", "", "{\"a\":1} trailing"),
        answer("200 OK", compressed, "\u{1f}\u{8b}"),
        answer("200 OK", "", &deep(limit::JSON_DEPTH + 1)),
        answer("200 OK", "", &deep(100_000)),
    ];
    for acts in dropped {
        let response = succeeded(after(acts).await);
        let why = response.error().unwrap().message.unwrap();
        assert!(why == "the answer is not JSON" || why == "the answer nests deeper than 64 levels", "{why}");
        assert_eq!((response.body, response.output_dropped), (None, true));
    }
    assert!(succeeded(after(answer("200 OK", "", &deep(limit::JSON_DEPTH))).await).body.is_some());
    let brackets_in_text = format!("\"{}\\\"{}\"", "[".repeat(500), "{".repeat(500));
    assert!(succeeded(after(answer("200 OK", "", &brackets_in_text)).await).body.is_some());
}

#[tokio::test]
async fn a_success_whose_body_is_too_large_is_a_success_without_output() {
    let string = |len: usize| format!("\"{}\"", "x".repeat(len - 2));
    let said = answer("200 OK", "", &string(limit::OUTPUT + 1));
    let huge = vec![say("HTTP/1.1 200 OK\r\ncontent-length: 99999999999999\r\n\r\n"), Act::Dribble];
    let chunk = format!("{:x}\r\n{}\r\n", limit::OUTPUT / 2, "x".repeat(limit::OUTPUT / 2));
    let chunked = vec![say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"), say(chunk.repeat(3)), Act::Hang];
    for acts in [said, huge, chunked] {
        let response = succeeded(after(acts).await);
        assert_eq!(response.error().unwrap().message.as_deref(), Some(skald_engine::Dropped::TooLarge.why()));
        assert_eq!((response.body, response.output_dropped), (None, true));
    }
    let largest = succeeded(after(answer("200 OK", "", &string(limit::OUTPUT))).await);
    assert_eq!(largest.body.unwrap().text().len(), limit::OUTPUT);
}

#[tokio::test]
async fn accepted_is_pending_only_where_the_operation_is_asynchronous() {
    assert_eq!(after_async(answer("202 Accepted", "", "")).await.outcome, Outcome::Pending);
    succeeded(after(answer("202 Accepted", "", "")).await);
    succeeded(after_async(answer("200 OK", "", "")).await);
}

#[tokio::test]
async fn any_4xx_but_408_425_and_429_is_a_refusal() {
    for status in [
        "400 Bad Request",
        "401 Unauthorized",
        "402 Payment Required",
        "404 Not Found",
        "409 Conflict",
        "410 Gone",
        "422 Unprocessable Entity",
        "424 Failed Dependency",
        "499 Who Knows",
    ] {
        refused(after(answer(status, "", "")).await);
    }
}

#[tokio::test]
async fn a_refusal_says_its_code_in_our_words_or_as_a_problem() {
    let says = |body: &'static str| async move { refused(after(answer("409 Conflict", "", body)).await) };
    let told = |code: &str, message: Option<&str>| (code.to_owned(), message.map(str::to_owned));
    assert_eq!(says(r#"{"code":"sold_out","message":"none left"}"#).await, told("sold_out", Some("none left")));
    assert_eq!(says(r#"{"code":"sold_out"}"#).await, told("sold_out", None));
    let problem = r#"{"type":"about:blank","title":"t","status":409,"code":"sold_out","detail":"none left"}"#;
    assert_eq!(says(problem).await, told("sold_out", Some("none left")));
    assert_eq!(says("").await, told("refused", Some("409 Conflict")));
    for (other, text) in [
        ("no\r\n  way\u{1b}[31m", "no way [31m"),
        ("[]", "[]"),
        (r#"{"code":7}"#, r#"{"code":7}"#),
        (r#"{"code":"","message":"m"}"#, "m"),
        (r#"{"title":"t","detail":"d"}"#, "d"),
        (r#"{"error":"stock is empty"}"#, "stock is empty"),
    ] {
        assert_eq!(says(other).await, told("refused", Some(&format!("409 Conflict: {text}"))), "{other}");
    }
}

#[tokio::test]
async fn what_a_failing_participant_says_is_kept_for_people() {
    let says = |body: &str| {
        let acts = answer("503 Busy", "", body);
        async move {
            match after(acts).await.outcome {
                Outcome::Unknown(error) => error.message.expect("a message"),
                other => panic!("{other:?}"),
            }
        }
    };
    assert_eq!(says("").await, "503 Service Unavailable");
    assert_eq!(says("pool timed out\n").await, "503 Service Unavailable: pool timed out");
    assert_eq!(
        says(r#"{"code":"db","message":"pool timed out"}"#).await,
        "503 Service Unavailable: db: pool timed out"
    );
    let long = says(&"x".repeat(100_000)).await;
    assert!((1_000..1_200).contains(&long.len()), "{}", long.len());
}

#[tokio::test]
async fn an_endless_refusal_is_shortened() {
    let body = format!("{{\"code\":\"{}\",\"message\":\"{}\"}}", "ß".repeat(10_000), "ß".repeat(10_000));
    let (code, message) = refused(after(answer("409 Conflict", "", &body)).await);
    assert!(code.chars().count() < 200 && message.unwrap().chars().count() < 2_000);
    let huge = vec![say("HTTP/1.1 409 Conflict\r\ncontent-length: 99999999\r\n\r\n"), Act::Hang];
    assert_eq!(refused(after(huge).await).0, "refused");
}

#[tokio::test]
async fn what_may_have_run_is_unknown() {
    for status in [
        "408 Request Timeout",
        "425 Too Early",
        "500 Oops",
        "502 Bad Gateway",
        "503 Busy",
        "599 Odd",
        "300 Choices",
        "304 Not Modified",
    ] {
        let code = unknown(after(answer(status, "", r#"{"code":"barrier_expired"}"#)).await);
        assert_eq!(code, format!("http_{}", &status[..3]), "a failing participant's code is not trusted");
    }
    unknown(after_async(answer("500 Oops", "", "")).await);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Server::start(answer("200 OK", "", "{}")).await;
    let location = format!("location: {}/\r\n", elsewhere.url());
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
        assert_eq!(unknown(after(answer(status, &location, "")).await), format!("http_{}", &status[..3]));
    }
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn too_many_requests_did_not_run_and_sets_the_pace() {
    let reply = after(answer("429 Too Many Requests", "retry-after: 7\r\n", "")).await;
    assert_eq!(reply.retry_after, Some(Duration::from_secs(7)));
    assert_eq!(unsent(reply), "http_429");
    let reply = after(answer("503 Busy", "retry-after: 120\r\n", "")).await;
    assert_eq!(reply.retry_after, Some(Duration::from_secs(120)));
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_unknown() {
    let head = |status: &str| format!("HTTP/1.1 {status}\r\ncontent-length: 10\r\n\r\n");
    let broken = [
        vec![Act::Close],
        vec![Act::Reset],
        vec![say("HTTP/1.1 20"), Act::Close],
        vec![say(head("200 OK")), Act::Close],
        vec![say(head("200 OK")), say("{\"a\""), Act::Close],
        vec![say(head("200 OK")), say("{\"a\""), Act::Reset],
        vec![say(head("409 Conflict")), say("{\"c"), Act::Close],
        vec![say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"a\""), Act::Close],
        vec![say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"), Act::Close],
        vec![say("SSH-2.0-OpenSSH_9.2\r\n"), Act::Close],
        vec![say([0u8, 159, 146, 150]), Act::Close],
    ];
    for acts in broken {
        let told = format!("{acts:?}");
        assert_eq!(unknown(after(acts).await), "connection_lost", "{told}");
    }
}

#[tokio::test]
async fn the_deadline_counts_the_body_too() {
    let dribble = vec![say("HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n"), Act::Dribble];
    let half = vec![say("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{"), Act::Hang];
    for acts in [vec![Act::Hang], vec![say("HTTP/1.1 200 OK\r\n"), Act::Hang], dribble, half] {
        let started = Instant::now();
        assert_eq!(unknown(after(acts).await), "timeout");
        assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    }
}

#[tokio::test]
async fn what_never_left_is_unsent() {
    let closed = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let no_tls = Server::start(answer("200 OK", "", "{}")).await;
    let mut options = options();
    options.connect_timeout = Duration::from_millis(300);
    let dispatcher = Dispatcher::start(options).unwrap();
    let speaks_plain = no_tls.url().replace("http://", "https://");
    let hangs_up = Server::start(vec![Act::Close]).await.url().replace("http://", "https://");
    for url in [closed.as_str(), "http://nowhere.invalid", &speaks_plain, &hangs_up] {
        let mut outgoing = call(url);
        outgoing.request.timeout = Duration::from_secs(20);
        assert_eq!(unsent(reply(&dispatcher, outgoing).await), "not_sent", "{url}");
    }
    assert!(no_tls.requests().is_empty());
}

#[tokio::test]
async fn a_forbidden_destination_is_a_refusal_by_name_and_by_address() {
    let server = Server::start(answer("200 OK", "", "{}")).await;
    let mut options = options();
    options.egress.loopback = false;
    let strict = Dispatcher::start(options).unwrap();
    let metadata = ["169.254.169.254", "[fd00:ec2::254]", "[64:ff9b:1::a9fe:a9fe]", "[::169.254.169.254]"]
        .map(|host| format!("http://{host}"));
    for url in [server.url(), server.url().replace("127.0.0.1", "localhost")].into_iter().chain(metadata) {
        assert_eq!(refused(reply(&strict, call(&url)).await).0, "egress_denied", "{url}");
        assert_eq!(unsent(reply(&strict, ask(&url)).await), "egress_denied", "a question is not thereby answered");
    }
    assert!(server.requests().is_empty());
    succeeded(reply(&dispatcher(), call(&server.url().replace("127.0.0.1", "localhost"))).await);
}

#[tokio::test]
async fn the_barriers_word_is_read_on_refusals_too() {
    let words = [
        ("executed", Some(Barrier::Executed)),
        ("stored", Some(Barrier::Stored)),
        ("empty", Some(Barrier::Empty)),
        ("superseded", Some(Barrier::Superseded)),
        ("expired", Some(Barrier::Expired)),
        ("something", None),
    ];
    for (word, expected) in words {
        for status in ["200 OK", "409 Conflict"] {
            let reply = after(answer(status, &format!("Skald-Barrier: {word}\r\n"), "")).await;
            assert_eq!(reply.barrier, expected, "{word}");
        }
    }
    assert_eq!(after(answer("200 OK", "", "")).await.barrier, None);
}

#[tokio::test]
async fn a_question_is_answered_by_its_body_alone() {
    let told = |body: &'static str| asked(answer("200 OK", "", body));
    assert_eq!(told(r#"{"outcome":"pending"}"#).await, Outcome::Pending);
    assert_eq!(told(r#"{"outcome":"not_found"}"#).await, Outcome::NotFound);
    let Outcome::Succeeded(response) = told(r#"{"outcome":"succeeded","output":{"id":1}}"#).await else { panic!() };
    assert_eq!(response.body.unwrap().text(), r#"{"id":1}"#);
    let Outcome::Succeeded(response) = told(r#"{"outcome":"succeeded"}"#).await else { panic!() };
    assert_eq!(response.body, None);
    let Outcome::Refused(error) = told(r#"{"outcome":"refused","error":{"code":"declined"}}"#).await else { panic!() };
    assert_eq!(error.code, "declined");
    let Outcome::Refused(error) = told(r#"{"outcome":"refused"}"#).await else { panic!() };
    assert_eq!(error.code, "refused");
}

#[tokio::test]
async fn a_question_without_a_clear_answer_leaves_the_outcome_unknown() {
    let unclear = [
        answer("200 OK", "", ""),
        answer("200 OK", "", "{}"),
        answer("200 OK", "", r#"{"id":1}"#),
        answer("200 OK", "", r#"{"outcome":"unknown"}"#),
        answer("200 OK", "", r#"{"outcome":7}"#),
        answer("200 OK", "", r#"{"outcome":"succeeded""#),
        answer("201 Created", "", r#"{"outcome":"succeeded"}"#),
        answer("202 Accepted", "", r#"{"outcome":"succeeded"}"#),
        answer("404 Not Found", "", r#"{"outcome":"not_found"}"#),
        answer("401 Unauthorized", "", ""),
        answer("409 Conflict", "", r#"{"code":"declined"}"#),
        answer("500 Oops", "", ""),
        vec![Act::Close],
        vec![Act::Hang],
    ];
    for acts in unclear {
        let told = format!("{acts:?}");
        let outcome = asked(acts).await;
        assert!(matches!(outcome, Outcome::Unknown(_)), "{told}: {outcome:?}");
    }
    let outcome = asked(answer("429 Too Many Requests", "", "")).await;
    assert!(matches!(outcome, Outcome::Unsent(_)), "{outcome:?}");
}
