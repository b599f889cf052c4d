//! Several nodes on one Postgres: any of them answers, and what a dead one held is driven on.

use std::time::{Duration, Instant};

use serde_json::json;
use skald_protocol::Status;
use skald_tests::{
    Backend, World,
    definition::{begin, definition, enlist, step},
    eventually,
};

/// One node holds everything; the second has just come.
async fn two() -> (World, skald_tests::Node) {
    let world = World::start(Backend::Postgres).await;
    let mut second = world.another_node();
    second.start().await;
    (world, second)
}

#[tokio::test]
async fn any_node_answers_for_any_transaction() {
    let (world, second) = two().await;
    let begin = begin(&definition(&world.participants.url(), &json!([step("a"), step("b")])));
    for (here, there) in [(&world.client, second.client()), (&second.client(), world.client.clone())] {
        let view = here.run(&begin).await;
        assert_eq!(view.status, Status::Succeeded);
        let other = there.transaction(view.gid.as_str()).await;
        assert_eq!((other.status, other.settled_at), (view.status, view.settled_at));
    }
}

#[tokio::test]
async fn a_word_on_one_node_moves_what_the_other_drives() {
    let (world, second) = two().await;
    let other = second.client();
    let url = world.participants.url();
    for _ in 0..4 {
        let open = world.client.post("/v1/transactions", &json!({"open": true, "timeout": "60s"})).await;
        let gid = open.transaction().gid.to_string();
        let path = format!("/v1/transactions/{gid}/branches");
        let enlisted = other.try_post(&path, &enlist(&url, "seat"), Some(20)).await.expect("an answer");
        assert_eq!(enlisted.body["outcome"], "succeeded", "{}", enlisted.body);
        assert!(other.command(&gid, "commit", &json!({})).await.is_success());
        world.client.reaches(&gid, Status::Succeeded).await;
        assert_eq!(world.participants.effects(&gid), ["seat try", "seat confirm"]);
    }
}

#[tokio::test]
async fn what_a_killed_node_held_is_driven_by_the_other_within_seconds() {
    let (mut world, second) = two().await;
    world.participants.on("/b").is_unavailable(1);
    let mut definition = definition(&world.participants.url(), &json!([step("a"), step("b")]));
    definition["defaults"]["retry"] =
        json!({"max_attempts": 1000, "initial_interval": "50ms", "max_interval": "100ms"});
    let mut gids = Vec::new();
    for _ in 0..20 {
        gids.push(world.client.begin(&begin(&definition)).await);
    }
    eventually("all are under way", Duration::from_secs(10), || async {
        gids.iter().all(|gid| world.participants.called(gid).len() == 2).then_some(())
    })
    .await;
    world.node.kill();
    let killed = Instant::now();
    world.participants.behave();
    let client = second.client();
    for gid in &gids {
        client.reaches(gid, Status::Succeeded).await;
        assert_eq!(world.participants.effects(gid), ["a action", "b action"]);
    }
    assert!(killed.elapsed() < Duration::from_secs(6), "{:?}", killed.elapsed());
}

#[tokio::test]
async fn a_node_that_leaves_hands_over_at_once() {
    let (mut world, second) = two().await;
    world.participants.on("/b").is_unavailable(1);
    let mut definition = definition(&world.participants.url(), &json!([step("a"), step("b")]));
    definition["defaults"]["retry"] =
        json!({"max_attempts": 1000, "initial_interval": "50ms", "max_interval": "100ms"});
    let gid = world.client.begin(&begin(&definition)).await;
    assert!(world.node.terminate().await.success());
    world.participants.behave();
    second.client().reaches(&gid, Status::Succeeded).await;
}

#[tokio::test]
async fn a_node_that_was_paused_past_its_lease_does_no_harm_when_it_wakes() {
    let (world, second) = two().await;
    world.participants.on("/b").is_unavailable(1);
    let mut definition = definition(&world.participants.url(), &json!([step("a"), step("b"), step("c")]));
    definition["defaults"]["retry"] =
        json!({"max_attempts": 1000, "initial_interval": "50ms", "max_interval": "100ms"});
    let mut gids = Vec::new();
    for _ in 0..20 {
        gids.push(world.client.begin(&begin(&definition)).await);
    }
    world.node.pause();
    let client = second.client();
    eventually("the other drives", Duration::from_secs(10), || async {
        let view = client.try_get(&format!("/v1/transactions/{}", gids[0])).await.ok()?;
        (view.status == 200).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.node.resume();
    world.participants.behave();
    for gid in &gids {
        client.reaches(gid, Status::Succeeded).await;
        assert_eq!(world.participants.effects(gid), ["a action", "b action", "c action"]);
        world.client.reaches(gid, Status::Succeeded).await;
    }
}
