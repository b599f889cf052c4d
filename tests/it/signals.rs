//! `POST /v1/transactions/{gid}/signals/{name}`: what is wrong with one is told, and nothing of it is stored.

use std::time::Duration;

use serde_json::{Value, json};
use skald_protocol::{BranchStatus, Status};
use skald_tests::{
    World,
    client::http,
    cluster::run_with,
    definition::{begin, definition, step},
    eventually, promises,
};

/// As many as a transaction takes.
const SIGNALS: usize = 100;

fn waiting(world: &World) -> Value {
    let wait = json!({"name": "w", "wait": {"signal": "go", "timeout": "1h"}});
    begin(&definition(&world.participants.url(), &json!([step("a"), wait])))
}

fn at(gid: &str, name: &str) -> String {
    format!("/v1/transactions/{gid}/signals/{name}")
}

/// Sends the bytes as they are: status and code.
async fn sent(world: &World, path: &str, body: Vec<u8>) -> (u16, String) {
    let request = http().post(format!("{}{path}", world.node.url())).header("content-type", "application/json");
    let answer = request.body(body).send().await.expect("the coordinator answers");
    let status = answer.status().as_u16();
    let body: Value = answer.json().await.expect("a problem is JSON");
    (status, body["code"].as_str().unwrap_or("").to_owned())
}

/// Begins, and waits until it waits.
async fn begun(world: &World) -> String {
    let gid = world.client.begin(&waiting(world)).await;
    eventually("it waits", Duration::from_secs(10), || async {
        let view = world.client.transaction(&gid).await;
        view.branches.iter().any(|one| one.branch.as_str() == "w" && one.status == BranchStatus::Running).then_some(())
    })
    .await;
    gid
}

async fn events(world: &World, gid: &str) -> Vec<Value> {
    let answer = world.client.get(&format!("/v1/transactions/{gid}/events?limit=1000")).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body["items"].as_array().expect("a list").clone()
}

promises! {
    async fn a_bad_signal_is_a_clear_problem_and_nothing_of_it_is_stored(backend: Backend) {
        let world = World::start(backend).await;
        let gid = begun(&world).await;
        let kept = world.client.post(&at(&gid, "kept"), &json!({"payload": {"by": "eve"}})).await;
        assert!(kept.is_success(), "{}", kept.body);
        let before = events(&world, &gid).await;

        let deep = |depth: usize| format!(r#"{{"payload": {}1{}}}"#, "[".repeat(depth), "]".repeat(depth));
        let large = |size: usize| format!(r#"{{"payload": "{}"}}"#, "x".repeat(size));
        let good = || r#"{"payload": 1}"#.to_owned();
        let long = "s".repeat(129);
        let cases = [
            (at(&gid, "a%20b"), good(), 400, "invalid_signal"),
            (at(&gid, "%C3%A9"), good(), 400, "invalid_signal"),
            (at(&gid, "a%2Fb"), good(), 400, "invalid_signal"),
            (at(&gid, "a%00"), good(), 400, "invalid_signal"),
            (at(&gid, "..."), good(), 400, "invalid_signal"),
            (at(&gid, &long), good(), 400, "invalid_signal"),
            (at(&gid, ""), good(), 404, "unknown_route"),
            (at("nobody", "go"), good(), 404, "unknown_gid"),
            (at("no%20body", "go"), good(), 400, "invalid_gid"),
            (at(&gid, "go"), "{".to_owned(), 400, "invalid_json"),
            (at(&gid, "go"), "[]".to_owned(), 422, "invalid_request"),
            (at(&gid, "go"), "5".to_owned(), 422, "invalid_request"),
            (at(&gid, "go"), r#"{"paylaod": 1}"#.to_owned(), 422, "invalid_request"),
            (at(&gid, "go"), r#"{"payload": 1, "payload": 2}"#.to_owned(), 400, "duplicate_key"),
            (at(&gid, "go"), r#"{"payload": {"a": 1, "a": 2}}"#.to_owned(), 400, "duplicate_key"),
            (at(&gid, "go"), deep(64), 400, "too_deep"),
            (at(&gid, "go"), deep(200_000), 400, "too_deep"),
            (at(&gid, "go"), large(257 << 10), 422, "payload_too_large"),
            (at(&gid, "go"), large(2 << 20), 413, "body_too_large"),
            (at(&gid, "kept"), good(), 409, "signal_conflict"),
        ];
        for (path, body, status, code) in cases {
            let told = sent(&world, &path, body.clone().into_bytes()).await;
            let shown: String = body.chars().take(60).collect();
            assert_eq!(told, (status, code.to_owned()), "{path} {shown}");
        }
        let bytes = sent(&world, &at(&gid, "go"), b"{\"payload\": \"\xff\"}".to_vec()).await;
        assert_eq!(bytes, (400, "invalid_json".to_owned()));
        assert_eq!(events(&world, &gid).await, before, "nothing was stored");
        assert_eq!(world.client.transaction(&gid).await.status, Status::Running);

        // The largest that is taken.
        let most = sent(&world, &at(&gid, "go"), large((256 << 10) - 2).into_bytes()).await;
        assert!(most.0 < 300, "{most:?}");
        world.client.reaches(&gid, Status::Succeeded).await;
    }

    async fn the_first_of_several_signals_ends_the_wait_and_the_others_are_kept(backend: Backend) {
        let world = World::start(backend).await;
        let wait = |name: &str, signals: Value| json!({"name": name, "wait": {"signal": signals, "timeout": "1h"}});
        let mut b = step("b");
        b["action"]["body"] = json!({"which": "${steps.w.output.signal}", "by": "${steps.w.output.payload.by}"});
        let steps = json!([step("a"), wait("w", json!(["approved", "rejected"])), b, wait("v", json!("approved"))]);
        let whole = definition(&world.participants.url(), &steps);
        let gid = world.client.begin(&begin(&whole)).await;
        eventually("it waits for both", Duration::from_secs(10), || async {
            let view = world.client.transaction(&gid).await;
            let waits = view.branches.iter().find(|one| one.branch.as_str() == "w")?;
            (waits.signals == ["approved", "rejected"] && waits.signal.is_none()).then_some(())
        })
        .await;
        assert!(world.client.post(&at(&gid, "other"), &json!({"payload": {"by": "bob"}})).await.is_success());
        assert_eq!(world.client.transaction(&gid).await.status, Status::Running);

        assert!(world.client.post(&at(&gid, "rejected"), &json!({"payload": {"by": "eve"}})).await.is_success());
        eventually("it goes on", Duration::from_secs(10), || async {
            let view = world.client.transaction(&gid).await;
            view.branches.iter().any(|one| one.branch.as_str() == "v" && one.signal.is_some()).then_some(())
        })
        .await;
        // The other one is no longer waited for, and is there for whoever waits for it later.
        assert!(world.client.post(&at(&gid, "approved"), &json!({"payload": {"by": "ann"}})).await.is_success());
        world.client.reaches(&gid, Status::Succeeded).await;
        let called = world.participants.arrivals(&gid).pop().expect("a call");
        assert_eq!((called.branch.as_str(), called.body), ("b", json!({"which": "rejected", "by": "eve"})));
        let events = events(&world, &gid).await;
        let began = events.iter().find(|event| event["type"] == "wait_began").expect("a wait");
        assert_eq!(began["signals"], json!(["approved", "rejected"]), "{began}");
    }

    async fn the_same_signal_again_is_taken_and_after_the_end_none_is(backend: Backend) {
        let world = World::start(backend).await;
        let gid = begun(&world).await;
        let payload = json!({"payload": {"a": 1, "b": [true, null]}});
        assert_eq!(world.client.post(&at(&gid, "other"), &payload).await.status, 202);
        let count = events(&world, &gid).await.len();
        let again = json!({"payload": {"b": [true, null], "a": 1}});
        assert!(world.client.post(&at(&gid, "other"), &again).await.is_success(), "the same in another order");
        assert_eq!(events(&world, &gid).await.len(), count);

        // A body is not needed.
        let settled = http().post(format!("{}{}", world.node.url(), at(&gid, "go"))).header("prefer", "wait=30").send();
        assert_eq!(settled.await.expect("an answer").status().as_u16(), 200);
        assert_eq!(world.client.transaction(&gid).await.status, Status::Succeeded);
        let late = world.client.post(&at(&gid, "late"), &payload).await;
        assert_eq!((late.status, late.code()), (409, "settled"));
    }

    async fn one_signal_more_than_a_transaction_takes_is_refused(backend: Backend) {
        let world = World::start(backend).await;
        let gid = begun(&world).await;
        for n in 0..SIGNALS {
            let answer = world.client.post(&at(&gid, &format!("s{n}")), &json!({})).await;
            assert!(answer.is_success(), "{n}: {}", answer.body);
        }
        let before = events(&world, &gid).await;
        let more = world.client.post(&at(&gid, "more"), &json!({})).await;
        assert_eq!((more.status, more.code()), (422, "too_many_signals"));
        let again = world.client.post(&at(&gid, "s7"), &json!({})).await;
        assert!(again.is_success(), "one that is there: {}", again.body);
        assert_eq!(events(&world, &gid).await, before);
    }

    async fn an_open_transaction_takes_no_signals(backend: Backend) {
        let world = World::start(backend).await;
        let open = world.client.post("/v1/transactions", &json!({"open": true, "timeout": "1m"})).await;
        let gid = open.transaction().gid.to_string();
        let told = world.client.post(&at(&gid, "go"), &json!({})).await;
        assert_eq!((told.status, told.code()), (409, "no_signals"));
    }

    async fn the_command_line_sends_signals_and_tells_what_is_wrong_with_them(backend: Backend) {
        let world = World::start(backend).await;
        let gid = begun(&world).await;
        let url = world.node.url();
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("payload.json");
        std::fs::write(&file, r#"{"by": "eve"}"#).expect("a file");
        let file = format!("@{}", file.display());
        for (arguments, code, told) in [
            (vec!["nobody", "go"], 3, "unknown_gid"),
            (vec![&gid, "other", "--payload", &file], 0, "running"),
            (vec![&gid, "other", "--payload", r#"{"by": "eve"}"#], 0, "running"),
            (vec![&gid, "other", "--payload", "1"], 1, "signal_conflict"),
            (vec![&gid, "a b"], 2, "no signal's name"),
            (vec![&gid, "other", "--payload", "{"], 2, "--payload"),
            (vec![&gid, "go", "--wait", "20s"], 0, "succeeded"),
            (vec![&gid, "go"], 0, "succeeded"),
            (vec![&gid, "never"], 1, "settled"),
        ] {
            let all = [&["tx", "signal"], &arguments[..], &["--url", &url]].concat();
            let ran = run_with(&all, &[]).await;
            let printed = format!("{}{}", ran.stdout, ran.stderr);
            assert!(ran.code == code && printed.contains(told), "{arguments:?}: {} {printed}", ran.code);
        }
    }
}
