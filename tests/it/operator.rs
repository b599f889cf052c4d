//! What is stuck waits, visible, for a person's word; the rest goes on without it.

use serde_json::{Value, json};
use skald_protocol::{BranchStatus, Status};
use skald_tests::{
    World,
    definition::{begin, definition, step},
    eventually, promises,
};
use std::time::Duration;

/// A refused saga whose first step cannot be undone.
async fn suspended(world: &World) -> String {
    world.participants.on("/reserve/compensate").is_unavailable(1);
    world.participants.on("/ship").refuses("no");
    let mut reserve = step("reserve");
    reserve["compensate"]["retry"] = json!({"max_attempts": 2, "initial_interval": "10ms"});
    let arms = json!([{"steps": [reserve]}, {"steps": [step("charge")]}]);
    let steps = json!([{"name": "both", "parallel": arms}, step("ship")]);
    let gid = world.client.begin(&begin(&definition(&world.participants.url(), &steps))).await;
    let view = world.client.reaches(&gid, Status::Suspended).await;
    let of = |name: &str| view.branches.iter().find(|branch| branch.step == name).expect("a branch").status;
    assert_eq!((of("reserve"), of("charge")), (BranchStatus::Stuck, BranchStatus::Undone), "only one is stuck");
    gid
}

async fn word(world: &World, gid: &str, word: &str, body: Value) {
    let answer = world.client.command(gid, word, &body).await;
    assert!(answer.is_success(), "{word}: {} {}", answer.status, answer.body);
}

promises! {
    async fn a_compensation_that_keeps_failing_suspends_and_is_listed(backend: Backend) {
        let world = World::start(backend).await;
        let gid = suspended(&world).await;
        eventually("it is listed as suspended", Duration::from_secs(5), || async {
            let list = world.client.get("/v1/transactions?status=suspended").await;
            (list.body["items"][0]["gid"] == gid.as_str()).then_some(())
        })
        .await;
    }

    async fn retry_drives_it_on_once_the_participant_is_well(backend: Backend) {
        let world = World::start(backend).await;
        let gid = suspended(&world).await;
        world.participants.on("/reserve/compensate").succeeds();
        word(&world, &gid, "retry", json!({})).await;
        world.client.reaches(&gid, Status::Compensated).await;
        let effects = world.participants.effects(&gid);
        assert_eq!(effects.last().map(String::as_str), Some("reserve compensate"));
    }

    async fn skip_treats_the_stuck_operation_as_done(backend: Backend) {
        let world = World::start(backend).await;
        let gid = suspended(&world).await;
        word(&world, &gid, "skip", json!({"branch": "reserve", "reason": "undone by hand"})).await;
        world.client.reaches(&gid, Status::Compensated).await;
    }

    async fn resolve_gives_the_stuck_operation_its_outcome(backend: Backend) {
        let world = World::start(backend).await;
        let gid = suspended(&world).await;
        let body = json!({"branch": "reserve", "outcome": "succeeded", "reason": "seen in the ledger"});
        word(&world, &gid, "resolve", body).await;
        world.client.reaches(&gid, Status::Compensated).await;
    }

    async fn fail_ends_it(backend: Backend) {
        let world = World::start(backend).await;
        let gid = suspended(&world).await;
        word(&world, &gid, "fail", json!({"reason": "written off"})).await;
        let view = world.client.reaches(&gid, Status::Failed).await;
        assert!(view.settled_at.is_some());
        let late = world.client.command(&gid, "retry", &json!({})).await;
        assert_eq!(late.status, 409, "{}", late.body);
    }

    async fn a_dry_run_says_what_would_be_called_and_calls_nothing(backend: Backend) {
        let world = World::start(backend).await;
        let gid = suspended(&world).await;
        let before = world.participants.arrivals(&gid).len();
        let answer = world.client.post(&format!("/v1/transactions/{gid}/retry?dry_run=true"), &json!({})).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert!(answer.body.to_string().contains("/reserve/compensate"), "{}", answer.body);
        assert_eq!(world.client.transaction(&gid).await.status, Status::Suspended);
        assert_eq!(world.participants.arrivals(&gid).len(), before);
    }

    async fn a_running_saga_can_be_cancelled_and_is_undone(backend: Backend) {
        let world = World::start(backend).await;
        world.participants.on("/charge").is_unavailable(1);
        let mut definition = definition(&world.participants.url(), &json!([step("reserve"), step("charge")]));
        definition["defaults"]["retry"] = json!({"max_attempts": 1000, "initial_interval": "50ms"});
        let gid = world.client.begin(&begin(&definition)).await;
        eventually("it is under way", Duration::from_secs(10), || async {
            (world.participants.called(&gid).len() == 2).then_some(())
        })
        .await;
        word(&world, &gid, "cancel", json!({"reason": "customer called"})).await;
        let view = world.client.reaches(&gid, Status::Compensated).await;
        assert_eq!(view.error.expect("an error").code, "cancelled");
        let effects = world.participants.effects(&gid);
        assert_eq!(effects, ["reserve action", "charge compensate (empty)", "reserve compensate"]);
        word(&world, &gid, "cancel", json!({})).await;
    }

    async fn a_deadline_undoes_what_it_overtakes(backend: Backend) {
        let world = World::start(backend).await;
        world.participants.on("/charge").is_unavailable(1);
        let mut definition = definition(&world.participants.url(), &json!([step("reserve"), step("charge")]));
        definition["defaults"]["retry"] = json!({"max_attempts": 1000, "initial_interval": "50ms"});
        definition["timeout"] = json!("700ms");
        let view = world.client.run(&begin(&definition)).await;
        assert_eq!(view.status, Status::Compensated);
        assert_eq!(view.error.expect("an error").code, "deadline");
    }

    async fn a_deadline_suspends_where_the_definition_says_so_and_resume_goes_on(backend: Backend) {
        let world = World::start(backend).await;
        world.participants.on("/charge").is_unavailable(1);
        let mut definition = definition(&world.participants.url(), &json!([step("reserve"), step("charge")]));
        definition["defaults"]["retry"] = json!({"max_attempts": 1000, "initial_interval": "50ms"});
        definition["timeout"] = json!("700ms");
        definition["on_timeout"] = json!("suspend");
        let gid = world.client.begin(&begin(&definition)).await;
        world.client.reaches(&gid, Status::Suspended).await;
        world.participants.on("/charge").succeeds();
        word(&world, &gid, "resume", json!({})).await;
        world.client.reaches(&gid, Status::Succeeded).await;
    }
}
