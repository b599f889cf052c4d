//! Whoever sets a clock, forward or back, under a running node or between two, moves no duration.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use skald_protocol::Status;
use skald_tests::{
    Backend, Database, FakeTime, Node, Participants, World,
    client::http,
    database::Postgres,
    definition::{begin, definition, step},
    eventually,
};

const HOUR: i64 = 3_600;

/// A world whose database's clock a test sets: on SQLite that of the node.
struct Clocked {
    world: World,
    time: FakeTime,
    _postgres: Option<Postgres>,
}

async fn clocked(backend: Backend) -> Clocked {
    let time = FakeTime::new();
    let (database, postgres, environment) = match backend {
        Backend::Sqlite => (Database::fresh(backend).await, None, time.environment()),
        Backend::Postgres => {
            let postgres = Postgres::on_clock(&time).await.expect("a Postgres");
            let database = Database::at(&postgres.migrated().await.expect("a database"));
            (database, Some(postgres), Vec::new())
        }
    };
    let mut node =
        environment.iter().fold(Node::new(database.url()), |node, (name, value)| node.with_environment(name, value));
    node.start().await;
    let world = World { participants: Participants::start().await, client: node.client(), node, database };
    Clocked { world, time, _postgres: postgres }
}

async fn metric(world: &World, name: &str) -> Option<f64> {
    let text = http().get(format!("{}/metrics", world.node.url())).send().await.ok()?.text().await.ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
    line?.parse().ok()
}

fn of(world: &World, steps: &Value) -> Value {
    let mut definition = definition(&world.participants.url(), steps);
    definition["defaults"]["retry"] = json!({"max_attempts": 50, "initial_interval": "1s", "max_interval": "1s"});
    begin(&definition)
}

/// What the issue saw: waits that ended at once, retries that slept for an hour, a timeout of half an hour that undid.
async fn an_hour(backend: Backend, by: i64) {
    let Clocked { world, time, _postgres } = clocked(backend).await;
    let approval = json!({"name": "w", "wait": {"signal": "go", "timeout": "30m"}});
    let asleep = world.client.begin(&of(&world, &json!([step("a"), approval]))).await;
    // It leaves memory, and only its row says until when it sleeps.
    eventually("it sleeps", Duration::from_secs(20), || async {
        (metric(&world, "skald_transactions_in_memory").await? == 0.0).then_some(())
    })
    .await;
    let approved = world.client.begin(&of(&world, &json!([step("a"), approval]))).await;
    let pause = json!({"name": "w", "wait": {"for": "6s"}});
    let pausing = world.client.begin(&of(&world, &json!([step("c"), pause, step("d")]))).await;
    world.participants.on("/b").is_unavailable(2).succeeds();
    let retrying = world.client.begin(&of(&world, &json!([step("b")]))).await;
    eventually("all are under way", Duration::from_secs(5), || async {
        (world.participants.called(&pausing).len() == 1 && world.participants.called(&retrying).len() == 1)
            .then_some(())
    })
    .await;
    let (set, direction) = (Instant::now(), if by < 0 { "back" } else { "forward" });
    time.set(by);
    let jumps = format!("skald_clock_jumps_total{{direction=\"{direction}\"}}");
    eventually("it is noticed", Duration::from_secs(5), || async {
        (metric(&world, &jumps).await? == 1.0).then_some(())
    })
    .await;
    assert!(world.node.log().contains(&format!("clock was set {direction} by")), "{}", world.node.log());
    world.client.reaches(&retrying, Status::Succeeded).await;
    assert!(set.elapsed() < Duration::from_secs(6), "{:?}: two retries of a second", set.elapsed());
    world.client.reaches(&pausing, Status::Succeeded).await;
    let arrived = |gid: &str, branch: &str| {
        let calls = world.participants.arrivals(gid);
        calls.iter().find(|call| call.branch == branch).expect("a call").at
    };
    let paused = arrived(&pausing, "d") - arrived(&pausing, "c");
    assert!((Duration::from_millis(5_900)..Duration::from_secs(9)).contains(&paused), "{paused:?}");
    // Long enough for sweeps to find what they take for due; a signal still reaches what sleeps.
    for gid in [&asleep, &approved] {
        assert_eq!(world.client.transaction(gid).await.status, Status::Running);
        assert!(world.client.post(&format!("/v1/transactions/{gid}/signals/go"), &json!({})).await.is_success());
        world.client.reaches(gid, Status::Succeeded).await;
    }
    assert_eq!(metric(&world, &jumps).await, Some(1.0), "told once");
}

/// The clock was set back an hour while the node was away.
async fn restarted(backend: Backend) {
    let Clocked { mut world, time, _postgres } = clocked(backend).await;
    for (round, leaves) in [(1, true), (2, false)] {
        let pause = json!({"name": "w", "wait": {"for": "3s"}});
        let pausing = world.client.begin(&of(&world, &json!([step("c"), pause, step("d")]))).await;
        world.participants.on("/b").is_unavailable(1).succeeds();
        let retrying = world.client.begin(&of(&world, &json!([step("b")]))).await;
        eventually("all are under way", Duration::from_secs(5), || async {
            let under_way = world.participants.called(&pausing).len() + world.participants.called(&retrying).len();
            (under_way == 2).then_some(())
        })
        .await;
        if leaves {
            assert!(world.node.terminate().await.success());
        } else {
            world.node.kill();
        }
        time.set(-round * HOUR);
        world.node.start().await;
        let started = Instant::now();
        world.client.reaches(&retrying, Status::Succeeded).await;
        world.client.reaches(&pausing, Status::Succeeded).await;
        assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
        assert!(world.node.log().contains("clock was set back by"), "{}", world.node.log());
    }
}

#[tokio::test]
async fn on_sqlite_an_hour_forward_moves_no_duration() {
    an_hour(Backend::Sqlite, HOUR).await;
}

#[tokio::test]
async fn on_sqlite_an_hour_back_moves_no_duration() {
    an_hour(Backend::Sqlite, -HOUR).await;
}

#[tokio::test]
async fn on_postgres_an_hour_forward_moves_no_duration() {
    an_hour(Backend::Postgres, HOUR).await;
}

#[tokio::test]
async fn on_postgres_an_hour_back_moves_no_duration() {
    an_hour(Backend::Postgres, -HOUR).await;
}

#[tokio::test]
async fn on_sqlite_a_node_that_starts_with_the_clock_back_waits_no_longer_than_was_meant() {
    restarted(Backend::Sqlite).await;
}

#[tokio::test]
async fn on_postgres_a_node_that_starts_with_the_clock_back_waits_no_longer_than_was_meant() {
    restarted(Backend::Postgres).await;
}
