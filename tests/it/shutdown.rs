//! SIGTERM drains: what was acknowledged is kept, what is in flight is answered or driven on by the next.

use std::time::Duration;

use serde_json::json;
use skald_protocol::Status;
use skald_tests::{
    Backend, Database, Node, Participants, World,
    cluster::skald,
    definition::{begin, definition, step},
    eventually, promises,
};

promises! {
    async fn sigterm_under_load_loses_nothing(backend: Backend) {
        let mut world = World::start(backend).await;
        world.participants.by_chance(skald_tests::Chance {
            slow: Some(Duration::from_millis(30)),
            ..skald_tests::Chance::default()
        });
        let begin = begin(&definition(&world.participants.url(), &json!([step("a"), step("b"), step("c")])));
        let client = world.client.clone();
        let begun = tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            // Until the node no longer listens, or says that it is leaving.
            while let Ok(answer) = client.try_post("/v1/transactions", &begin, None).await {
                if answer.is_success() {
                    acknowledged.push(answer.transaction().gid.to_string());
                } else {
                    assert_eq!(answer.status, 503, "{}", answer.body);
                }
            }
            acknowledged
        });
        eventually("work is under way", Duration::from_secs(20), || async {
            (world.participants.arrived() > 30).then_some(())
        })
        .await;
        let status = world.node.terminate().await;
        assert!(status.success(), "{status}; {}", world.node.log());
        let acknowledged = begun.await.expect("the load ends");
        assert!(!acknowledged.is_empty());
        world.node.start().await;
        for gid in &acknowledged {
            world.client.reaches(gid, Status::Succeeded).await;
            assert_eq!(world.participants.effects(gid), ["a action", "b action", "c action"]);
        }
    }
}

#[tokio::test]
async fn a_second_process_on_the_same_sqlite_file_is_refused() {
    let world = World::start(Backend::Sqlite).await;
    let mut second = world.another_node();
    second.spawn();
    let status = second.ended().await;
    assert!(!status.success());
    assert!(!second.log().contains("panicked"), "{}", second.log());
    assert_eq!(world.client.get("/readyz").await.status, 200, "the first goes on");
}

#[tokio::test]
async fn a_database_in_memory_serves_and_leaves_nothing_behind() {
    let mut node = Node::new("sqlite::memory:");
    node.start().await;
    let participants = Participants::start().await;
    let view = node.client().run(&begin(&definition(&participants.url(), &json!([step("a")])))).await;
    assert_eq!(view.status, Status::Succeeded);
    let left: Vec<_> = std::fs::read_dir(node.folder()).expect("a folder").flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["log"]);
}

#[tokio::test]
async fn a_postgres_without_the_schema_is_refused_with_the_word_that_helps() {
    let url = skald_tests::database::shared().await.empty().await.expect("a database");
    let mut node = Node::new(&url);
    node.spawn();
    assert!(!node.ended().await.success());
    assert!(node.log().contains("skald migrate"), "{}", node.log());
    let (status, talk) = skald(&["migrate", "--database", &url]).await;
    assert!(status.success(), "{talk}");
    let (status, talk) = skald(&["migrate", "--database", &url]).await;
    assert!(status.success(), "migrating again is nothing: {talk}");
    node.start().await;
}

#[tokio::test]
async fn nothing_but_loopback_is_served_without_a_word() {
    let database = Database::fresh(Backend::Sqlite).await;
    let (status, talk) = skald(&["serve", "--listen", "0.0.0.0:0", "--database", database.url()]).await;
    assert!(!status.success());
    assert!(talk.contains("--insecure"), "{talk}");
}
