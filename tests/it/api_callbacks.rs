//! An asynchronous operation is finished by its callback, once, by whoever holds its address.

#![allow(clippy::unwrap_used, reason = "a test fails where it meets what it did not expect")]

use std::time::Duration;

use serde_json::{Value, json};
use skald_protocol::{OperationStatus, Status};
use skald_tests::{Backend, World, definition::*, eventually, promises};

fn later(name: &str) -> Value {
    let mut step = step(name);
    step["action"]["async"] = json!({"timeout": "1m"});
    step
}

/// Begun, and `a` accepted for later.
async fn accepted(world: &World, steps: Value) -> String {
    world.participants.on("/a").accepts();
    let gid = world.client.begin(&begin(&definition(&world.participants.url(), &steps))).await;
    eventually("a is pending", Duration::from_secs(10), || async {
        let view = world.client.transaction(&gid).await;
        (view.branches[0].operations[0].status == OperationStatus::Pending).then_some(())
    })
    .await;
    gid
}

promises! {
    async fn a_callback_finishes_its_operation_and_the_same_word_again_changes_nothing(backend: Backend) {
        let world = World::start(backend).await;
        world.participants.on("/b").is_held();
        let gid = accepted(&world, json!([later("a"), step("b")])).await;
        let heartbeat = world.participants.call_back(&gid, "a", &json!({"outcome": "pending"})).await;
        assert_eq!(heartbeat.0, 200, "{}", heartbeat.1);
        let done = json!({"outcome": "succeeded", "output": {"id": 7}});
        assert_eq!(world.participants.call_back(&gid, "a", &done).await, (200, json!({"outcome": "succeeded"})));
        assert_eq!(world.participants.call_back(&gid, "a", &done).await.0, 200);
        let other = json!({"outcome": "refused", "error": {"code": "late"}});
        let (status, problem) = world.participants.call_back(&gid, "a", &other).await;
        assert_eq!((status, &problem["code"]), (409, &json!("callback_conflict")), "{problem}");
        world.participants.release();
        let view = world.client.reaches(&gid, Status::Succeeded).await;
        assert_eq!(view.branches[0].operations[0].output.as_ref().unwrap().value(), json!({"id": 7}));
        assert_eq!(world.participants.call_back(&gid, "a", &done).await.0, 200, "it was taken");
        let (status, problem) = world.participants.call_back(&gid, "a", &json!({"outcome": "pending"})).await;
        assert_eq!((status, &problem["code"]), (410, &json!("settled")), "{problem}");
    }

    async fn a_callback_may_refuse(backend: Backend) {
        let world = World::start(backend).await;
        let gid = accepted(&world, json!([later("a")])).await;
        let refused = json!({"outcome": "refused", "error": {"code": "sold_out", "message": "none left"}});
        assert_eq!(world.participants.call_back(&gid, "a", &refused).await.0, 200);
        let view = world.client.reaches(&gid, Status::Compensated).await;
        assert_eq!(view.error.map(|error| error.code), Some("sold_out".to_owned()));
        assert_eq!(world.participants.effects(&gid), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_callback_that_makes_no_sense_is_told_and_changes_nothing() {
    let world = World::start(Backend::Sqlite).await;
    let gid = accepted(&world, json!([later("a")])).await;
    for (verdict, code) in [
        (json!({}), "invalid_request"),
        (json!({"outcome": "done"}), "invalid_request"),
        (json!({"outcome": "succeeded", "error": {"code": "x"}}), "invalid_request"),
        (json!({"outcome": "refused", "output": 1}), "invalid_request"),
        (json!({"outcome": "refused", "error": {"code": "x", "why": 1}}), "invalid_request"),
        (json!({"outcome": "pending", "output": {"x": "y".repeat(10)}}), "invalid_request"),
    ] {
        let (status, problem) = world.participants.call_back(&gid, "a", &verdict).await;
        assert_eq!((status, problem["code"].as_str()), (422, Some(code)), "{verdict}: {problem}");
    }
    let url = world.participants.arrivals(&gid).pop().unwrap().callback.unwrap();
    let twice = r#"{"outcome": "succeeded", "output": {"id": 1, "id": 2}}"#;
    let request = skald_tests::client::http().post(url).header("content-type", "application/json").body(twice);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 400);
    let problem: Value = answer.json().await.unwrap();
    assert_eq!((&problem["code"], &problem["errors"][0]["pointer"]), (&json!("duplicate_key"), &json!("/output/id")));
    assert_eq!(world.client.transaction(&gid).await.status, Status::Running);
}
