//! While the database takes no write, everybody who wants one is answered soon, and what was given up never runs.

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use skald_protocol::Status;
use skald_tests::{
    Node, Participants, client,
    definition::{begin, definition, step, with_gid},
    eventually, promises,
    world::Database,
};
use tokio::{task::JoinHandle, time::sleep};

/// What a request came to: status, code, `Retry-After`, how long it took. `None`: its client did not wait for it.
type Told = Option<(StatusCode, String, bool, Duration)>;

fn send(node: &Node, method: Method, path: &str, body: &Value, patience: Duration) -> JoinHandle<Told> {
    let request = client::http().request(method, format!("{}{path}", node.url())).json(body).timeout(patience);
    tokio::spawn(async move {
        let started = Instant::now();
        let response = request.send().await.ok()?;
        let (status, again) = (response.status(), response.headers().contains_key("retry-after"));
        let problem: Value = response.json().await.ok()?;
        let code = problem["code"].as_str().unwrap_or_default().to_owned();
        Some((status, code, again, started.elapsed()))
    })
}

promises! {
    async fn who_wants_to_write_is_answered_soon_and_what_was_given_up_never_runs(backend: Backend) {
        const PATIENT: Duration = Duration::from_secs(60);
        let participants = Participants::start().await;
        let database = Database::fresh(backend).await;
        let mut node = Node::new(database.url()).with_environment("SKALD_COMMIT_TIMEOUT", "2s");
        node.start().await;
        let api = node.client();
        for gid in ["held", "open"] {
            let opened = api.post("/v1/transactions", &json!({"gid": gid, "open": true, "timeout": "1h"})).await;
            assert_eq!(opened.status, 201, "{}", opened.body);
        }
        let order = definition(&participants.url(), &json!([step("a")]));
        let named = |gid: &str| with_gid(begin(&order), gid);
        let begins = |gid: &str, patience| send(&node, Method::POST, "/v1/transactions", &named(gid), patience);

        let lock = database.lock().await.expect("a lock");
        // The first is handed to the database; the others wait behind it.
        let first = begins("first", PATIENT);
        sleep(Duration::from_millis(300)).await;
        let queued = begins("queued", PATIENT);
        let abandoned = begins("abandoned", Duration::from_millis(300));
        let commit = send(&node, Method::POST, "/v1/transactions/open/commit", &json!({}), PATIENT);
        for (waited, code) in [(first, "outcome_unknown"), (queued, "not_ready"), (commit, "not_ready")] {
            let (status, told, again, took) = waited.await.expect("no panic").expect("an answer");
            assert_eq!((status.as_u16(), told.as_str(), again), (503, code, true));
            assert!((1_900..4_000).contains(&took.as_millis()), "{code}: {took:?}");
        }
        assert!(abandoned.await.expect("no panic").is_none());

        // By now it is known that nothing is taken.
        for (method, path, body) in [
            (Method::POST, "/v1/transactions", named("late")),
            (Method::POST, "/v1/transactions", json!({"gid": "late", "open": true, "timeout": "1h"})),
            (Method::PUT, "/v1/workflows/order/1.0.0", {
                let mut order = order.clone();
                order["name"] = json!("order");
                order["version"] = json!("1.0.0");
                order
            }),
            (Method::POST, "/v1/transactions/held/commit", json!({})),
            (Method::POST, "/v1/transactions/held/cancel", json!({"reason": "why not"})),
            (Method::POST, "/v1/transactions/held/signals/go", json!({"payload": 1})),
        ] {
            let told = send(&node, method, path, &body, PATIENT).await.expect("no panic").expect("an answer");
            assert_eq!((told.0.as_u16(), told.1.as_str(), told.2), (503, "not_ready", true), "{path}");
            assert!(told.3 < Duration::from_secs(1), "{path}: {:?}", told.3);
        }
        assert_eq!(api.get("/readyz").await.status, 503);
        assert_eq!(api.get("/v1/transactions/held").await.status, 200);
        assert_eq!(participants.arrived(), 0, "nothing is called before it is durable");

        lock.release().await.expect("no lock");
        api.reaches("first", Status::Succeeded).await;
        eventually("ready again", Duration::from_secs(10), async || (api.get("/readyz").await.status == 200).then_some(()))
            .await;
        for gid in ["queued", "abandoned", "late"] {
            assert_eq!(api.get(&format!("/v1/transactions/{gid}")).await.status, 404, "{gid}");
        }
        // Nothing of what was given up is left behind in memory either.
        assert_eq!(api.transaction("open").await.status, Status::Running);
        assert_eq!(api.command("open", "commit", &json!({})).await.status, 200);
        assert_eq!(api.run(&named("queued")).await.status, Status::Succeeded);
        assert_eq!(api.transaction("held").await.status, Status::Running);
        assert_eq!((participants.effects("first"), participants.effects("queued")), (vec!["a action".to_owned()], vec!["a action".to_owned()]));
        assert_eq!(participants.arrived(), 2);
    }
}
