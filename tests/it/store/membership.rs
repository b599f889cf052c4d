//! Who holds which shard, and how it passes on.

use std::{collections::BTreeSet, time::Duration};

use skald::store::{Error, NodeId, Store};
use skald_tests::{Backend, promises};
use sqlx::{Connection as _, Executor as _, PgConnection, Row as _};

use super::{Fresh, LEASE, Writer, batch};

promises! {
    /// The epoch tells one tenure from the next.
    async fn a_released_shard_is_claimed_at_its_next_epoch(backend: Backend) {
        let fresh = Fresh::new(backend).await;
        let store = fresh.connect().await;
        let node = store.join("http://127.0.0.1:1", LEASE).await.expect("a life").node;
        let shards = store.claim(node, 3).await.expect("shards");
        assert_eq!(shards.iter().map(|shard| (shard.id, shard.epoch)).collect::<Vec<_>>(), [(0, 1), (1, 1), (2, 1)]);
        store.release(node, &[1, 63]).await.expect("a release");
        let again = store.claim(node, 1).await.expect("shards");
        assert_eq!((again[0].id, again[0].epoch), (1, 2));
    }

    async fn a_heartbeat_tells_what_the_database_knows(backend: Backend) {
        let fresh = Fresh::new(backend).await;
        let store = fresh.connect().await;
        let joined = store.join("http://127.0.0.1:1", LEASE).await.expect("a life");
        let shards = store.claim(joined.node, 5).await.expect("shards");
        let beat = store.heartbeat(joined.node, LEASE, false).await.expect("a beat");
        assert_eq!((beat.shards, beat.shards_total, beat.nodes, beat.format), (shards, 64, 1, joined.format));
        assert!(beat.now >= joined.now);
        let wall = i64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().expect("a clock").as_millis());
        assert!((wall.expect("a time") - beat.now.0).abs() < 60_000, "milliseconds since 1970");
        assert_eq!(store.heartbeat(joined.node, LEASE, true).await.expect("a beat").nodes, 0, "it drains");
    }

    async fn a_node_that_leaves_frees_its_shards(backend: Backend) {
        let fresh = Fresh::new(backend).await;
        let store = fresh.connect().await;
        let first = Writer::alone(&store).await;
        store.leave(first.joined.node).await.expect("a leave");
        assert!(matches!(store.heartbeat(first.joined.node, LEASE, false).await, Err(Error::Deposed)));
        let second = store.join("http://127.0.0.1:2", LEASE).await.expect("a life");
        assert!(second.shards.is_empty());
        assert_eq!(store.claim(second.node, 64).await.expect("shards").len(), 64);
    }

    /// A row that was forgotten is as dead as one that says so.
    async fn an_unknown_node_is_deposed(backend: Backend) {
        let fresh = Fresh::new(backend).await;
        let store = fresh.connect().await;
        let nobody = NodeId(uuid::Uuid::now_v7());
        assert!(matches!(store.heartbeat(nobody, LEASE, false).await, Err(Error::Deposed)));
        assert!(matches!(store.claim(nobody, 1).await, Err(Error::Deposed)));
        assert!(matches!(store.append(nobody, 0, &batch([])).await, Err(Error::Deposed)));
        assert!(matches!(store.resolve(nobody, 0, &batch([])).await, Err(Error::Deposed)));
        store.release(nobody, &[1]).await.expect("nothing to release");
        store.leave(nobody).await.expect("nothing to leave");
    }
}

#[tokio::test]
async fn on_sqlite_every_earlier_life_ends_whatever_its_address() {
    let fresh = Fresh::new(Backend::Sqlite).await;
    let store = fresh.connect().await;
    let first = Writer::alone(&store).await;
    let second = store.join("http://127.0.0.1:2", LEASE).await.expect("a life");
    assert_eq!(second.shards.len(), 64);
    assert!(matches!(store.heartbeat(first.joined.node, LEASE, false).await, Err(Error::Deposed)));
}

#[tokio::test]
async fn a_live_owner_keeps_its_shards_and_an_expired_one_is_deposed_with_the_claim() {
    let fresh = Fresh::new(Backend::Postgres).await;
    let store = fresh.connect().await;
    let first = Writer::alone(&store).await;
    let second = store.join("http://127.0.0.1:2", LEASE).await.expect("a life");
    assert!(second.shards.is_empty());
    assert!(store.claim(second.node, 64).await.expect("a claim").is_empty());

    store.heartbeat(first.joined.node, Duration::ZERO, false).await.expect("a last beat");
    let taken = store.claim(second.node, 10).await.expect("a claim");
    assert!(taken.len() == 10 && taken.iter().all(|shard| shard.epoch == 2));
    assert!(matches!(store.heartbeat(first.joined.node, LEASE, false).await, Err(Error::Deposed)));
    let beat = store.heartbeat(second.node, LEASE, false).await.expect("a beat");
    assert_eq!((beat.nodes, beat.shards), (1, taken));
    let third = store.join("http://127.0.0.1:3", LEASE).await.expect("a life");
    assert_eq!(store.claim(third.node, 64).await.expect("a claim").len(), 54, "what a dead one still has is free");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn claims_at_one_moment_never_share_a_shard() {
    let fresh = Fresh::new(Backend::Postgres).await;
    let store = fresh.connect().await;
    let claims = (0..8).map(|index| {
        let store = store.clone();
        tokio::spawn(async move {
            let node = store.join(&format!("http://127.0.0.1:{index}"), LEASE).await.expect("a life").node;
            store.claim(node, 8).await.expect("a claim")
        })
    });
    let mut all = Vec::new();
    for claim in claims.collect::<Vec<_>>() {
        all.extend(claim.await.expect("a claim").into_iter().map(|shard| shard.id));
    }
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
}

#[tokio::test]
async fn rows_of_the_long_dead_are_forgotten_and_formats_follow_the_living() {
    let fresh = Fresh::new(Backend::Postgres).await;
    let store = fresh.connect().await;
    Writer::alone(&store).await;
    store.join("http://127.0.0.1:1", LEASE).await.expect("a life");
    let mut direct = PgConnection::connect(&fresh.url).await.expect("a connection");
    direct.execute("UPDATE nodes SET expires_at = 0, format = 0 WHERE dead").await.expect("a long time");
    let joined = store.join("http://127.0.0.1:2", LEASE).await.expect("a life");
    let nodes = sqlx::query("SELECT count(*) FROM nodes").fetch_one(&mut direct).await.expect("a count");
    assert_eq!(nodes.get::<i64, _>(0), 2);
    assert!(joined.format > 0, "a dead node's format does not matter");
    direct.execute("UPDATE nodes SET format = 0 WHERE address = 'http://127.0.0.1:1'").await.expect("an older node");
    assert_eq!(store.heartbeat(joined.node, LEASE, false).await.expect("a beat").format, 0);
}
