//! The same begin is one transaction, however often it is sent.

#![allow(clippy::unwrap_used, reason = "a test fails where it meets what it did not expect")]

use std::collections::BTreeSet;

use futures_util::future::join_all;
use serde_json::{Value, json};
use skald_protocol::Status;
use skald_tests::{Backend, World, client, definition::*, promises};

promises! {
    async fn the_same_begin_sent_at_once_by_many_runs_once(backend: Backend) {
        let world = World::start(backend).await;
        let body = with_gid(begin(&definition(&world.participants.url(), &json!([step("a"), pivot("b")]))), "order:1");
        let answers = join_all((0..16).map(|_| world.client.try_post("/v1/transactions", &body, Some(20)))).await;
        for answer in answers {
            let answer = answer.unwrap();
            assert_eq!(answer.status, 200, "{}", answer.body);
            assert_eq!(answer.transaction().status, Status::Succeeded);
        }
        assert_eq!(world.participants.effects("order:1"), ["a action", "b action"]);
        let list = world.client.get("/v1/transactions").await.body;
        assert_eq!(list["items"].as_array().unwrap().len(), 1);
    }

    async fn another_begin_under_the_same_gid_is_a_conflict(backend: Backend) {
        let world = World::start(backend).await;
        let body = with_gid(begin(&definition(&world.participants.url(), &json!([step("a")]))), "g");
        world.client.run(&body).await;
        let mut other = body.clone();
        other["input"] = json!({"n": 2});
        let answer = world.client.post("/v1/transactions", &other).await;
        assert_eq!((answer.status, answer.code()), (409, "gid_conflict"));
        let open = world.client.post("/v1/transactions", &json!({"gid": "g", "open": true, "timeout": "1m"})).await;
        assert_eq!((open.status, open.code()), (409, "gid_conflict"));
        assert_eq!(world.participants.effects("g"), ["a action"]);
    }

    async fn spelling_and_order_of_members_make_no_other_begin(backend: Backend) {
        let world = World::start(backend).await;
        let definition = definition(&world.participants.url(), &json!([step("a")]));
        let one = format!(r#"{{"gid": "g", "definition": {definition}, "input": {{"a": 1, "b": [true]}}}}"#);
        let two = format!("{{\n \"input\": {{\"b\":[ true ],\"\\u0061\": 1.0}}, \"definition\": {definition}\n, \"gid\":\"g\"}}");
        let url = format!("{}/v1/transactions", world.node.url());
        for body in [one, two] {
            let request = client::http().post(&url).header("content-type", "application/json").header("prefer", "wait=20");
            let response = request.body(body).send().await.unwrap();
            assert_eq!(response.status().as_u16(), 200);
        }
        assert_eq!(world.participants.effects("g"), ["a action"]);
    }
}

#[tokio::test]
async fn a_begin_answers_where_to_look_and_which_wait_was_honoured() {
    let world = World::start(Backend::Sqlite).await;
    let body = begin(&definition(&world.participants.url(), &json!([step("a")])));
    let url = format!("{}/v1/transactions", world.node.url());
    let send = |wait: &'static str| {
        let request = client::http().post(&url).json(&body);
        let request = if wait.is_empty() { request } else { request.header("prefer", wait) };
        async move { request.send().await.unwrap() }
    };
    let at_once = send("").await;
    assert_eq!(at_once.status().as_u16(), 202);
    let location = at_once.headers()["location"].to_str().unwrap().to_owned();
    assert!(!at_once.headers().contains_key("preference-applied"));
    let view: Value = at_once.json().await.unwrap();
    let gid = view["gid"].as_str().unwrap();
    assert_eq!(location, format!("/v1/transactions/{gid}"));
    assert_eq!(gid.as_bytes()[14], b'7', "{gid} is no UUIDv7");
    assert_eq!(world.client.get(&location).await.status, 200);

    let waited = send("wait=600").await;
    assert_eq!(waited.status().as_u16(), 200);
    assert_eq!(waited.headers()["preference-applied"], "wait=60");

    world.participants.on("/a").is_held();
    let impatient = send("wait=1").await;
    assert_eq!(impatient.status().as_u16(), 202);
    world.participants.release();
}

#[tokio::test]
async fn the_caller_s_trace_goes_on_in_the_transaction_and_its_calls() {
    let world = World::start(Backend::Sqlite).await;
    let body = begin(&definition(&world.participants.url(), &json!([step("a")])));
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let request = client::http().post(format!("{}/v1/transactions", world.node.url())).json(&body);
    let request = request.header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01")).header("prefer", "wait=20");
    let view: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(view["trace_id"], trace);
    let calls = world.participants.arrivals(view["gid"].as_str().unwrap());
    assert!(calls[0].headers["traceparent"].contains(trace), "{:?}", calls[0].headers);
}

#[tokio::test]
async fn a_list_is_newest_first_in_pages_and_filtered() {
    let world = World::start(Backend::Sqlite).await;
    let definition = definition(&world.participants.url(), &json!([step("a")]));
    let mut begun = Vec::new();
    for n in 0..7 {
        let mut body = with_gid(begin(&definition), &format!("{}:{n}", if n % 2 == 0 { "even" } else { "odd" }));
        body["labels"] = json!({"n": n.to_string(), "all": "yes"});
        world.client.run(&body).await;
        begun.push(body["gid"].as_str().unwrap().to_owned());
    }
    begun.reverse();
    let gids = |body: &Value| -> Vec<String> {
        body["items"].as_array().unwrap().iter().map(|item| item["gid"].as_str().unwrap().to_owned()).collect()
    };
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    for _ in 0..3 {
        let page = world.client.get(&format!("/v1/transactions?limit=3&label.all=yes{cursor}")).await;
        assert_eq!(page.status, 200, "{}", page.body);
        seen.extend(gids(&page.body));
        cursor = page.body["next_cursor"].as_str().map_or_else(String::new, |next| format!("&cursor={next}"));
    }
    assert_eq!(seen, begun);
    assert!(cursor.is_empty(), "a page after the last");

    let list = async |query: &str| gids(&world.client.get(&format!("/v1/transactions?{query}")).await.body);
    assert_eq!(list("gid=odd:").await, ["odd:5", "odd:3", "odd:1"]);
    assert_eq!(list("label.n=4").await, ["even:4"]);
    assert_eq!(list("label.n=4&label.all=no").await, Vec::<String>::new());
    assert_eq!(list("workflow=promise&limit=1").await, ["even:6"]);
    assert_eq!(list("workflow=other").await, Vec::<String>::new());
    assert_eq!(list("created_before=2020-01-01T00:00:00Z").await, Vec::<String>::new());
    assert_eq!(list("created_after=2020-01-01T00:00:00Z&status=failed").await, Vec::<String>::new());
    skald_tests::eventually("all are listed as succeeded", std::time::Duration::from_secs(5), || async {
        let listed: BTreeSet<_> = list("status=succeeded,failed").await.into_iter().collect();
        (listed.len() == 7).then_some(())
    })
    .await;
}

#[tokio::test]
async fn branches_of_a_large_transaction_come_in_pages() {
    let world = World::start(Backend::Sqlite).await;
    let steps: Vec<_> = (0..5).map(|n| step(&format!("s{n}"))).collect();
    let view = world.client.run(&begin(&definition(&world.participants.url(), &json!(steps)))).await;
    let (mut seen, mut cursor) = (Vec::new(), Some(String::new()));
    while let Some(next) = cursor {
        let page = world.client.get(&format!("/v1/transactions/{}?branch_limit=2{next}", view.gid)).await.transaction();
        seen.extend(page.branches.into_iter().map(|branch| branch.branch.to_string()));
        cursor = page.branches_next_cursor.map(|next| format!("&branch_cursor={next}"));
    }
    assert_eq!(seen, ["s0", "s1", "s2", "s3", "s4"]);
}
