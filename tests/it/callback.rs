//! Asynchronous operations: 202 now, the outcome by callback, whatever restarts in between.

use std::time::Duration;

use serde_json::{Value, json};
use skald_protocol::{OperationStatus, Status, TransactionView};
use skald_tests::{
    World,
    definition::{begin, definition, step},
    eventually, promises,
};

fn asynchronous(name: &str, timeout: &str) -> Value {
    let mut step = step(name);
    step["action"]["async"] = json!({"timeout": timeout});
    step
}

fn is_pending(view: &TransactionView) -> bool {
    view.branches.iter().flat_map(|branch| &branch.operations).any(|o| o.status == OperationStatus::Pending)
}

async fn pending(world: &World, gid: &str) {
    eventually("the operation is pending", Duration::from_secs(10), || async {
        is_pending(&world.client.transaction(gid).await).then_some(())
    })
    .await;
}

promises! {
    async fn a_pending_operation_is_finished_by_callback(backend: Backend) {
        let world = World::start(backend).await;
        world.participants.on("/print").accepts();
        let mut after = step("after");
        after["action"]["body"] = json!({"page": "${steps.print.output.page}"});
        let steps = json!([asynchronous("print", "30s"), after]);
        let gid = world.client.begin(&begin(&definition(&world.participants.url(), &steps))).await;
        pending(&world, &gid).await;
        let heartbeat = world.participants.call_back(&gid, "print", &json!({"outcome": "pending"})).await;
        assert_eq!(heartbeat.0, 200, "{}", heartbeat.1);
        let done = json!({"outcome": "succeeded", "output": {"page": 9}});
        let first = world.participants.call_back(&gid, "print", &done).await;
        assert_eq!(first.0, 200, "{}", first.1);
        world.client.reaches(&gid, Status::Succeeded).await;
        let call = world.participants.arrivals(&gid).pop().expect("a call");
        assert_eq!(call.body, json!({"page": 9}));
    }

    async fn the_same_callback_again_is_taken_and_another_outcome_is_not(backend: Backend) {
        let world = World::start(backend).await;
        world.participants.on("/print").accepts();
        world.participants.on("/after").is_held();
        let steps = json!([asynchronous("print", "30s"), step("after")]);
        let gid = world.client.begin(&begin(&definition(&world.participants.url(), &steps))).await;
        pending(&world, &gid).await;
        let done = json!({"outcome": "succeeded"});
        assert_eq!(world.participants.call_back(&gid, "print", &done).await.0, 200);
        assert_eq!(world.participants.call_back(&gid, "print", &done).await.0, 200);
        let other = json!({"outcome": "refused", "error": {"code": "paper_jam"}});
        let (status, body) = world.participants.call_back(&gid, "print", &other).await;
        assert_eq!((status, body["code"].as_str()), (409, Some("callback_conflict")));
        world.participants.release();
        world.client.reaches(&gid, Status::Succeeded).await;
        assert_eq!(world.participants.call_back(&gid, "print", &done).await.0, 200, "it was taken");
        assert_eq!(world.participants.call_back(&gid, "print", &other).await.0, 409);
        assert_eq!(world.participants.call_back(&gid, "print", &json!({"outcome": "pending"})).await.0, 410);
    }

    async fn a_refusal_by_callback_is_clean_and_undoes_what_came_before(backend: Backend) {
        let world = World::start(backend).await;
        world.participants.on("/print").accepts();
        let steps = json!([step("reserve"), asynchronous("print", "30s")]);
        let gid = world.client.begin(&begin(&definition(&world.participants.url(), &steps))).await;
        pending(&world, &gid).await;
        let refused = json!({"outcome": "refused", "error": {"code": "paper_jam"}});
        assert_eq!(world.participants.call_back(&gid, "print", &refused).await.0, 200);
        let view = world.client.reaches(&gid, Status::Compensated).await;
        assert_eq!(view.error.expect("an error").code, "paper_jam");
        assert_eq!(world.participants.called(&gid), ["reserve action", "print action", "reserve compensate"]);
    }

    async fn a_pending_operation_does_not_delay_an_abort_and_its_late_callback_changes_nothing(backend: Backend) {
        let world = World::start(backend).await;
        world.participants.on("/print").accepts();
        world.participants.on("/print/compensate").is_held();
        let steps = json!([step("reserve"), asynchronous("print", "30s")]);
        let gid = world.client.begin(&begin(&definition(&world.participants.url(), &steps))).await;
        pending(&world, &gid).await;
        assert!(world.client.command(&gid, "cancel", &json!({})).await.is_success());
        world.client.reaches(&gid, Status::Compensating).await;
        let refused = json!({"outcome": "refused", "error": {"code": "late"}});
        assert_eq!(world.participants.call_back(&gid, "print", &refused).await.0, 200);
        world.participants.release();
        world.client.reaches(&gid, Status::Compensated).await;
        let effects = world.participants.effects(&gid);
        assert_eq!(effects, ["reserve action", "print compensate (empty)", "reserve compensate"]);
    }

    async fn a_pending_operation_that_is_never_heard_of_is_asked_again(backend: Backend) {
        let world = World::start(backend).await;
        world.participants.on("/print").accepts().succeeds();
        let steps = json!([asynchronous("print", "400ms")]);
        let view = world.client.run(&begin(&definition(&world.participants.url(), &steps))).await;
        assert_eq!(view.status, Status::Succeeded, "{view:?}");
        assert_eq!(world.participants.effects(view.gid.as_str()), ["print action"]);
    }

    async fn a_callback_is_taken_after_a_restart(backend: Backend) {
        let mut world = World::start(backend).await;
        world.participants.on("/print").accepts();
        let steps = json!([asynchronous("print", "60s")]);
        let gid = world.client.begin(&begin(&definition(&world.participants.url(), &steps))).await;
        pending(&world, &gid).await;
        world.node.kill();
        world.node.start().await;
        assert_eq!(world.participants.call_back(&gid, "print", &json!({"outcome": "succeeded"})).await.0, 200);
        world.client.reaches(&gid, Status::Succeeded).await;
    }

    async fn a_callback_with_a_forged_token_is_refused(backend: Backend) {
        let world = World::start(backend).await;
        world.participants.on("/print").accepts();
        let steps = json!([asynchronous("print", "30s")]);
        let gid = world.client.begin(&begin(&definition(&world.participants.url(), &steps))).await;
        pending(&world, &gid).await;
        let call = world.participants.arrivals(&gid).pop().expect("a call");
        let url = call.callback.expect("a callback URL");
        let (base, token) = url.rsplit_once('/').expect("a token");
        let forged: String = token.chars().rev().collect();
        let request = skald_tests::client::http().post(format!("{base}/{forged}")).json(&json!({"outcome": "succeeded"}));
        let status = request.send().await.expect("an answer").status().as_u16();
        assert!((400..500).contains(&status), "{status}");
        assert!(is_pending(&world.client.transaction(&gid).await));
    }
}
