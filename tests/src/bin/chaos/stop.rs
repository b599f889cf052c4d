//! Nodes that are stopped (SIGSTOP) for longer than others wait for them, with calls owed, and then go on.
//!
//! While the owner of some transactions sleeps they are cancelled at the other node, which takes them over and undoes what
//! may have run. Whatever the owner then still sends has been undone already: its participants, idempotent by key but without
//! a barrier, would do it for good. A stopped process costs nothing, so many clusters are stopped side by side.

use std::{
    collections::BTreeSet,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use skald_protocol::Status;
use skald_tests::{
    Chance, Client, Node, Participants,
    database::Postgres,
    definition::{definition, step},
    eventually,
    ledger::Mark,
};

const CLUSTERS: usize = 16;
const TRANSACTIONS: usize = 80;
/// Beyond the lease, the take-over and the time of what may be under way.
const STOP: Duration = Duration::from_secs(8);
/// How long a call takes: with few at a time, most of them still wait when the node is stopped.
const CALL: Duration = Duration::from_millis(60);
const AT_A_TIME: u32 = 2;

#[derive(Debug, Default)]
struct Tally {
    stops: AtomicUsize,
    cancelled: AtomicUsize,
}

pub(crate) async fn run(count: usize, seed: u64) -> anyhow::Result<ExitCode> {
    let postgres = Postgres::own(&["max_connections=1000"]).await?;
    let participants = Participants::without_barrier_word().await;
    participants.by_chance(Chance { slow: Some(2 * CALL), seed, ..Chance::default() });
    let (tally, start) = (Arc::new(Tally::default()), Instant::now());
    let mut clusters = tokio::task::JoinSet::new();
    for number in 0..CLUSTERS.min(count) {
        let stops = (count + CLUSTERS - 1 - number) / CLUSTERS;
        let url = postgres.migrated().await?;
        let mut cluster = Cluster {
            nodes: [Node::new(&url), Node::new(&url)],
            participants: participants.clone(),
            rng: StdRng::seed_from_u64(seed.wrapping_add(number as u64)),
            tally: Arc::clone(&tally),
            prefix: format!("stop:{seed}-{number}"),
        };
        clusters.spawn(async move {
            for node in &mut cluster.nodes {
                node.start().await;
            }
            for stop in 0..stops {
                cluster.stop(stop).await;
            }
        });
    }
    clusters.join_all().await;
    let ledger = participants.ledger();
    // A network may deliver twice, and so do these participants.
    let marked = |mark: &Mark| {
        let keys: BTreeSet<_> = ledger.iter().filter(|entry| entry.mark == *mark).map(|entry| &entry.key).collect();
        keys.len()
    };
    let (never_ran, too_late) = (marked(&Mark::Empty), marked(&Mark::Superseded));
    let (stops, cancelled) = (tally.stops.load(Ordering::Relaxed), tally.cancelled.load(Ordering::Relaxed));
    eprintln!("{stops} stops of {STOP:?} in {:.0?}; {cancelled} transactions cancelled meanwhile", start.elapsed());
    eprintln!("undone: {never_ran} calls that had not come; effects after their own undo: {too_late} (0 must)");
    let green = too_late == 0 && never_ran >= stops;
    eprintln!("{}", if green { "green" } else { "RED" });
    Ok(if green { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Cluster {
    nodes: [Node; 2],
    participants: Participants,
    rng: StdRng,
    tally: Arc<Tally>,
    prefix: String,
}

impl Cluster {
    async fn stop(&mut self, stop: usize) {
        let victim = self.rng.random_range(0..2);
        let (owner, other) = (self.nodes[victim].client(), self.nodes[1 - victim].client());
        let gids: Vec<_> = (0..TRANSACTIONS).map(|number| format!("{}-{stop}-{number}", self.prefix)).collect();
        let begins: Vec<_> = gids.iter().enumerate().map(|(number, gid)| self.begin(number, gid)).collect();
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let mut begun = tokio::task::JoinSet::new();
        let counter = Arc::clone(&acknowledged);
        begun.spawn(async move {
            let sent = stream::iter(begins).map(|begin| {
                let (owner, counter) = (owner.clone(), Arc::clone(&counter));
                async move {
                    // What is not acknowledged when the node is stopped may begin later, or never.
                    let answer = owner.try_post("/v1/transactions", &begin, None).await;
                    counter.fetch_add(usize::from(answer.is_ok()), Ordering::Relaxed);
                }
            });
            sent.buffer_unordered(16).count().await
        });
        eventually("begins are acknowledged", Duration::from_secs(30), || async {
            (acknowledged.load(Ordering::Relaxed) >= TRANSACTIONS / 2).then_some(())
        })
        .await;
        tokio::time::sleep(Duration::from_millis(self.rng.random_range(0..200))).await;
        self.nodes[victim].pause();
        let stopped = Instant::now();
        let mut cancelled = Vec::new();
        for gid in &gids {
            if cancel(&other, gid).await {
                cancelled.push(gid);
            }
        }
        for gid in &cancelled {
            other.reaches(gid, Status::Compensated).await;
        }
        tokio::time::sleep(STOP.saturating_sub(stopped.elapsed())).await;
        self.nodes[victim].resume();
        self.tally.stops.fetch_add(1, Ordering::Relaxed);
        self.tally.cancelled.fetch_add(cancelled.len(), Ordering::Relaxed);
        begun.join_all().await;
        for node in &mut self.nodes {
            node.ready().await;
        }
    }

    /// Calls with and without a body, to a service that is called a few at a time and to one that is not.
    fn begin(&self, number: usize, gid: &str) -> Value {
        let mut step = step("a");
        if number.is_multiple_of(2) {
            step["action"]["body"] = json!({"number": number});
        }
        let mut definition = definition(&self.participants.url(), &json!([step]));
        if !number.is_multiple_of(5) {
            definition["services"]["shop"]["max_concurrency"] = json!(AT_A_TIME);
        }
        definition["defaults"]["timeout"] = json!("1s");
        json!({"gid": gid, "definition": definition})
    }
}

/// Whether there was something to cancel.
async fn cancel(client: &Client, gid: &str) -> bool {
    eventually("an answer to a cancel", Duration::from_secs(30), || async {
        let answer = client.try_post(&format!("/v1/transactions/{gid}/cancel"), &json!({}), None).await.ok()?;
        match answer.status {
            200..300 => Some(true),
            404 | 409 => Some(false),
            _ => None,
        }
    })
    .await
}
