//! kill -9 in the middle of anything: after the restart it goes on from where it was, with one effect of each.

use std::time::Duration;

use serde_json::{Value, json};
use skald_protocol::Status;
use skald_tests::{
    World,
    definition::{begin, definition, enlist, pivot, retriable, step, tcc},
    eventually, promises,
};

/// Begins, waits until `held` was called, kills, lets the call go and starts again.
async fn interrupted(world: &mut World, begin: &Value, held: &str) -> String {
    world.participants.on(&format!("/{}", held.replace(' ', "/"))).is_held();
    let gid = world.client.begin(begin).await;
    called(world, &gid, held.split(' ').next().unwrap_or("")).await;
    world.node.kill();
    world.participants.behave();
    world.node.start().await;
    gid
}

async fn called(world: &World, gid: &str, branch: &str) {
    eventually(&format!("{branch} is called"), Duration::from_secs(10), || async {
        world.participants.arrivals(gid).iter().any(|call| call.branch == branch).then_some(())
    })
    .await;
}

/// Definitions whose calls time out soon: after a restart an undo waits for the forward attempt's timeout.
fn quick(world: &World, steps: &Value) -> Value {
    let mut definition = definition(&world.participants.url(), steps);
    definition["defaults"]["timeout"] = json!("1s");
    begin(&definition)
}

promises! {
    async fn a_saga_killed_at_a_step_goes_on(backend: Backend) {
        let mut world = World::start(backend).await;
        let begin = quick(&world, &json!([step("a"), step("b"), step("c")]));
        let gid = interrupted(&mut world, &begin, "b").await;
        world.client.reaches(&gid, Status::Succeeded).await;
        assert_eq!(world.participants.effects(&gid), ["a action", "b action", "c action"]);
        let a = world.participants.arrivals(&gid).into_iter().filter(|call| call.branch == "a").count();
        assert_eq!(a, 1, "what was recorded is not called again");
    }

    async fn a_saga_killed_while_it_is_undone_is_undone(backend: Backend) {
        let mut world = World::start(backend).await;
        world.participants.on("/b/compensate").is_held();
        world.participants.on("/c").refuses("no");
        let begin = quick(&world, &json!([step("a"), step("b"), step("c")]));
        let gid = world.client.begin(&begin).await;
        eventually("b is being undone", Duration::from_secs(10), || async {
            world.participants.called(&gid).contains(&"b compensate".to_owned()).then_some(())
        })
        .await;
        world.node.kill();
        world.participants.behave();
        world.node.start().await;
        world.client.reaches(&gid, Status::Compensated).await;
        assert_eq!(world.participants.effects(&gid), ["a action", "b action", "b compensate", "a compensate"]);
    }

    async fn a_tcc_killed_while_it_is_confirmed_is_confirmed(backend: Backend) {
        let mut world = World::start(backend).await;
        world.participants.on("/seat/confirm").is_held();
        let begin = quick(&world, &json!([tcc("seat"), tcc("meal")]));
        let gid = world.client.begin(&begin).await;
        eventually("seat is being confirmed", Duration::from_secs(10), || async {
            world.participants.called(&gid).contains(&"seat confirm".to_owned()).then_some(())
        })
        .await;
        world.node.kill();
        world.participants.behave();
        world.node.start().await;
        world.client.reaches(&gid, Status::Succeeded).await;
        let mut effects = world.participants.effects(&gid);
        effects.sort();
        assert_eq!(effects, ["meal confirm", "meal try", "seat confirm", "seat try"]);
    }

    async fn a_pivot_killed_in_flight_is_resent_and_not_aborted(backend: Backend) {
        let mut world = World::start(backend).await;
        let mut pay = pivot("pay");
        pay["action"]["idempotent"] = json!(true);
        let begin = quick(&world, &json!([step("a"), pay, retriable("receipt")]));
        let gid = interrupted(&mut world, &begin, "pay").await;
        world.client.reaches(&gid, Status::Succeeded).await;
        assert_eq!(world.participants.effects(&gid), ["a action", "pay action", "receipt action"]);
    }

    async fn a_retry_that_was_waiting_is_made_after_the_restart(backend: Backend) {
        let mut world = World::start(backend).await;
        world.participants.on("/b").is_unavailable(1);
        let begin = quick(&world, &json!([step("a"), step("b")]));
        let gid = world.client.begin(&begin).await;
        called(&world, &gid, "b").await;
        world.node.kill();
        world.participants.behave();
        world.node.start().await;
        let view = world.client.reaches(&gid, Status::Succeeded).await;
        assert!(view.error.is_none());
    }

    async fn an_open_transaction_survives_with_its_branches_and_its_deadline(backend: Backend) {
        let mut world = World::start(backend).await;
        let url = world.participants.url();
        let mut gids = Vec::new();
        for timeout in ["60s", "3s"] {
            let open = world.client.post("/v1/transactions", &json!({"open": true, "timeout": timeout})).await;
            let gid = open.transaction().gid.to_string();
            let path = format!("/v1/transactions/{gid}/branches");
            let enlisted = world.client.try_post(&path, &enlist(&url, "seat"), Some(10)).await.expect("an answer");
            assert_eq!(enlisted.body["outcome"], "succeeded", "{}", enlisted.body);
            gids.push(gid);
        }
        world.node.kill();
        world.node.start().await;
        assert!(world.client.command(&gids[0], "commit", &json!({})).await.is_success());
        world.client.reaches(&gids[0], Status::Succeeded).await;
        let view = world.client.reaches(&gids[1], Status::Compensated).await;
        assert_eq!(view.error.expect("an error").code, "deadline");
    }

    async fn what_settled_before_the_kill_reads_the_same_after_it(backend: Backend) {
        let mut world = World::start(backend).await;
        world.participants.on("/b").refuses("no");
        let begin = quick(&world, &json!([step("a"), step("b")]));
        let before = world.client.run(&begin).await;
        world.node.kill();
        world.node.start().await;
        let after = world.client.transaction(before.gid.as_str()).await;
        let text = |view| serde_json::to_value(view).expect("JSON");
        assert_eq!(text(&after), text(&before));
        assert_eq!(world.participants.arrivals(before.gid.as_str()).len(), 3, "nothing is called again");
    }

    async fn many_transactions_in_flight_all_settle_once_after_a_kill(backend: Backend) {
        let mut world = World::start(backend).await;
        world.participants.on("/b").is_held();
        let mut definition = definition(&world.participants.url(), &json!([step("a"), step("b"), step("c")]));
        definition["defaults"]["timeout"] = json!("60s");
        let begin = begin(&definition);
        let mut gids = Vec::new();
        for _ in 0..200 {
            gids.push(world.client.begin(&begin).await);
        }
        world.node.kill();
        world.participants.behave();
        world.node.start().await;
        for gid in &gids {
            world.client.reaches(gid, Status::Succeeded).await;
            assert_eq!(world.participants.effects(gid), ["a action", "b action", "c action"]);
        }
    }
}
