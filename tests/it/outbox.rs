//! What the outbox holds is begun exactly once in effect, if and only if the caller's own writes were committed.

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rand::RngExt;
use serde_json::{Value, json};
use skald_protocol::Json;
use skald_sdk::{
    Client, Saga, Service,
    outbox::{self, Dialect, Relay},
};
use skald_tests::{Backend, Database, Participants, World, database, eventually, mariadb};
use sqlx::{MySql, Pool, Postgres, Sqlite, pool::PoolOptions};

fn saga(participants: &Participants) -> Saga<Value, Json> {
    let service = Service::new("shop", participants.url());
    Saga::named("order").step("ship", service.action("/ship").compensate("/ship/undo"))
}

/// The service's own database, which each relay opens by its URL.
async fn fresh<DB: Dialect>(url: &str) -> Pool<DB> {
    let pool = PoolOptions::<DB>::new().max_connections(8).connect(url).await.expect("a pool");
    outbox::create_tables(&pool).await.expect("the outbox's table");
    pool
}

fn relay(url: &str, coordinator: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_relay"))
        .args([url, coordinator])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a relay")
}

/// Puts orders in, every third of them rolled back, while relays are killed; then counts the effects.
async fn killed<DB: Dialect>(url: &str, orders: usize, kills: usize, relays: usize) {
    let world = World::start(Backend::Postgres).await;
    let pool = fresh::<DB>(url).await;
    let saga = saga(&world.participants);
    let coordinator = world.node.url();
    let mut running: Vec<_> = (0..relays).map(|_| relay(url, &coordinator)).collect();
    let (mut committed, mut rolled_back) = (Vec::new(), Vec::new());
    let mut killed = 0;
    let every = (orders / kills).max(1);
    for order in 0..orders {
        let mut tx = pool.begin().await.expect("a transaction");
        let gid = outbox::begin::<DB, _>(&mut tx, &saga, &json!({"order": order})).await.expect("a row");
        if order % 3 == 0 {
            tx.rollback().await.expect("a rollback");
            rolled_back.push(gid);
        } else {
            tx.commit().await.expect("a commit");
            committed.push(gid);
        }
        if order % every == 0 && killed < kills {
            tokio::time::sleep(Duration::from_millis(rand::rng().random_range(0..60))).await;
            let victim = killed % relays;
            running[victim].kill().expect("it runs");
            running[victim].wait().expect("it has ended");
            running[victim] = relay(url, &coordinator);
            killed += 1;
        }
    }
    eventually("all is delivered", Duration::from_secs(60), async || {
        let done = committed.iter().all(|gid| world.participants.effects(gid.as_str()) == ["ship action"]);
        done.then_some(())
    })
    .await;
    // The table is empty once the last delivery is noted.
    eventually("the outbox is empty", Duration::from_secs(10), async || {
        let mut conn = pool.acquire().await.expect("a connection");
        DB::take(&mut conn, 1).await.expect("rows").is_empty().then_some(())
    })
    .await;
    for mut relay in running {
        relay.kill().expect("it runs");
        relay.wait().expect("it has ended");
    }
    for gid in &rolled_back {
        assert!(world.participants.effects(gid.as_str()).is_empty(), "{gid} was rolled back");
    }
    eprintln!(
        "{} committed and {} rolled back, {killed} kills: each begun once, or never",
        committed.len(),
        rolled_back.len()
    );
    assert_eq!(killed, kills);
}

#[tokio::test]
async fn on_postgres_two_relays_that_are_killed_begin_each_order_once() {
    killed::<Postgres>(&database::shared().await.empty().await.expect("a database"), 240, 10, 2).await;
}

#[tokio::test]
async fn on_mariadb_two_relays_that_are_killed_begin_each_order_once() {
    killed::<MySql>(&mariadb::shared().await.empty().await.expect("a database"), 240, 10, 2).await;
}

#[tokio::test]
async fn on_sqlite_a_relay_that_is_killed_begins_each_order_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}?mode=rwc", folder.path().join("shop.db").display());
    killed::<Sqlite>(&url, 120, 5, 1).await;
}

#[tokio::test]
#[ignore = "half a minute: cargo test -p skald-tests --test it sixty_kills -- --ignored --nocapture"]
async fn sixty_kills_on_postgres() {
    killed::<Postgres>(&database::shared().await.empty().await.expect("a database"), 3_000, 60, 3).await;
}

#[tokio::test]
async fn what_the_coordinator_refuses_stays_with_its_reason_and_stops_nothing_else() {
    let world = World::start(Backend::Sqlite).await;
    let url = database::shared().await.empty().await.expect("a database");
    let pool = fresh::<Postgres>(&url).await;
    let broken: Saga<Value, Json> = Saga::named("broken")
        .step("ship", Service::new("shop", world.participants.url()).action("/ship").pivot().when("nonsense("));
    let mut tx = pool.begin().await.expect("a transaction");
    let refused = outbox::begin::<Postgres, _>(&mut tx, &broken, &json!({})).await.expect("a row");
    let good = outbox::begin::<Postgres, _>(&mut tx, &saga(&world.participants), &json!({})).await.expect("a row");
    tx.commit().await.expect("a commit");
    let relay = Relay::new(pool.clone(), Client::new(&world.node.url()).expect("a client"));
    let round = relay.round().await.expect("a round");
    assert_eq!((round.delivered, round.rejected, round.left), (1, 1, 0));
    let left: Vec<(String, String)> =
        sqlx::query_as("SELECT gid, rejected FROM skald_outbox").fetch_all(&pool).await.expect("rows");
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].0, refused.as_str());
    assert!(left[0].1.contains("E201"), "the compiler's words: {}", left[0].1);
    eventually("the other runs", Duration::from_secs(10), async || {
        (world.participants.effects(good.as_str()) == ["ship action"]).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a figure: cargo test --release -p skald-tests --test it how_many_a_relay -- --ignored --nocapture (build the release skald first)"]
async fn how_many_a_relay_delivers_in_a_second() {
    const ORDERS: i32 = 20_000;
    let database = Database::fresh(Backend::Postgres).await;
    let mut node = skald_tests::Node::new(database.url());
    node.start().await;
    let participants = Participants::start().await;
    participants.on("/ship").is_held();
    let url = skald_tests::database::shared().await.empty().await.expect("a database");
    let pool = fresh::<Postgres>(&url).await;
    let saga = saga(&participants);
    let mut tx = pool.begin().await.expect("a transaction");
    for order in 0..ORDERS {
        outbox::begin::<Postgres, _>(&mut tx, &saga, &json!({"order": order})).await.expect("a row");
    }
    tx.commit().await.expect("a commit");
    let relay = Relay::new(pool, Client::new(&node.url()).expect("a client"));
    let started = Instant::now();
    let mut delivered = 0;
    while delivered < usize::try_from(ORDERS).expect("a count") {
        delivered += relay.round().await.expect("a round").delivered;
    }
    eprintln!("{:.0} a second", f64::from(ORDERS) / started.elapsed().as_secs_f64());
}
