//! Behind a pooler in transaction mode nothing depends on which of the server's connections a statement meets.

use serde_json::json;
use skald_protocol::Status;
use skald_tests::{
    Backend, Database, Node, Participants,
    definition::{begin, definition, step},
    pooler::Pooler,
};
use sqlx::{Connection as _, PgConnection};

const SERVERS: u16 = 3;

#[tokio::test]
async fn behind_a_transaction_pooler_everything_works_also_after_a_kill() {
    let database = Database::fresh(Backend::Postgres).await;
    let pooler = Pooler::before(database.url(), SERVERS).await;
    let participants = Participants::start().await;
    let mut node = Node::new(pooler.url()).with_environment("SKALD_TRANSACTION_POOLER", "true");
    node.start().await;
    let client = node.client();
    let body = begin(&definition(&participants.url(), &json!([step("a"), step("b")])));
    let mut gids = Vec::new();
    for _ in 0..30 {
        gids.push(client.begin(&body).await);
    }
    // More clients than servers, so that they take turns on them.
    let reads = (0..20).map(|_| client.get("/v1/transactions?limit=5"));
    for answer in futures_util::future::join_all(reads).await {
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    let mut direct = PgConnection::connect(database.url()).await.expect("a connection");
    let servers =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let servers: i64 = sqlx::query_scalar(servers).fetch_one(&mut direct).await.expect("a count");
    assert!(servers <= i64::from(SERVERS), "{servers}");
    node.kill();
    node.start().await;
    for gid in &gids {
        client.reaches(gid, Status::Succeeded).await;
        assert_eq!(participants.effects(gid), ["a action", "b action"]);
    }
    assert!(!node.log().contains("prepared statement"), "{}", node.log());
}

#[tokio::test]
async fn a_pooler_that_was_not_told_of_is_named_with_the_remedy() {
    let database = Database::fresh(Backend::Postgres).await;
    let pooler = Pooler::before(database.url(), SERVERS).await;
    // More of them than servers, so that they meet each other's statements.
    let mut nodes: Vec<_> = (0..5).map(|_| Node::new(pooler.url())).collect();
    for node in &mut nodes {
        node.spawn();
    }
    skald_tests::eventually("the log says what to set", std::time::Duration::from_secs(60), || async {
        nodes.iter().any(|node| node.log().contains("set `transaction_pooler = true`")).then_some(())
    })
    .await;
}
