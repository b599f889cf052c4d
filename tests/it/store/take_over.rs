//! No write of a deposed node is accepted after the new owner has loaded (I8), however the two race.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};
use std::time::Duration;

use skald::store::{Appended, Error, NodeId, Options, SqlStore, Store};
use skald_tests::Backend;

use super::{Fresh, LEASE, begin, foreign, gid, next, records};

/// How the next owner comes to the shards.
#[derive(Clone, Copy)]
enum By {
    /// A new life at the same address.
    Restart,
    /// Another node, once the lease is over.
    Expiry,
}

struct Tally {
    take_overs: AtomicUsize,
    refused: AtomicUsize,
    violations: AtomicUsize,
}

/// Begins its transactions and writes to them as a node that does not know that it was deposed; it goes on for a while
/// when it is told.
async fn straggle(store: SqlStore, node: NodeId, texts: Vec<String>, loaded: Arc<AtomicBool>) -> usize {
    let (mut batch, mut seq, mut refused, mut after) = (0, 0, 0, 0);
    while after < 3 {
        if loaded.load(Ordering::SeqCst) {
            after += 1;
        }
        let append = |text: &String| if seq == 0 { begin(text) } else { next(text, seq) };
        match store.append(node, batch, &super::batch(texts.iter().map(append))).await {
            Ok(answers) => {
                batch += 1;
                seq += u64::from(answers.iter().all(|answer| *answer == Appended::Durable));
            }
            Err(Error::Deposed) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    refused
}

async fn lengths(store: &SqlStore, texts: &[String]) -> Vec<usize> {
    let gids: Vec<_> = texts.iter().map(|text| gid(text)).collect();
    store.load(&gids).await.expect("a load").iter().map(|loaded| loaded.records.len()).collect()
}

/// One address' history: each life writes until the next has taken over, loaded, and given it time to do harm.
async fn succession(store: SqlStore, name: String, by: By, lives: usize, tally: Arc<Tally>) {
    let lease = match by {
        By::Restart => LEASE,
        By::Expiry => Duration::ZERO,
    };
    let mut node = own(&store, &name, lease, by, 0).await;
    for life in 1..=lives {
        let texts: Vec<String> = (0..3).map(|index| format!("{name}-{life}-{index}")).collect();
        let loaded = Arc::new(AtomicBool::new(false));
        let old = tokio::spawn(straggle(store.clone(), node, texts.clone(), loaded.clone()));
        // Let it come to write.
        while lengths(&store, &texts).await.is_empty() {}
        node = own(&store, &name, lease, by, life).await;
        let taken = lengths(&store, &texts).await;
        loaded.store(true, Ordering::SeqCst);
        tally.take_overs.fetch_add(1, Ordering::SeqCst);
        tally.refused.fetch_add(old.await.expect("a straggler"), Ordering::SeqCst);
        if lengths(&store, &texts).await != taken {
            tally.violations.fetch_add(1, Ordering::SeqCst);
        }
    }
}

async fn own(store: &SqlStore, name: &str, lease: Duration, by: By, life: usize) -> NodeId {
    match by {
        By::Restart => store.join(name, lease).await.expect("a life").node,
        By::Expiry => {
            let joined = store.join(&format!("{name}-{life}"), lease).await.expect("a life");
            // An owner in the middle of a commit is passed by until the next time.
            while store.claim(joined.node, 64).await.expect("a claim").is_empty() {}
            joined.node
        }
    }
}

async fn race(by: By, addresses: usize, lives: usize, fenced: bool) -> Arc<Tally> {
    let fresh = Fresh::new(Backend::Postgres).await;
    let options = Options { connections: 16, without_node_fence: !fenced, ..Options::default() };
    let tally = Arc::new(Tally { take_overs: 0.into(), refused: 0.into(), violations: 0.into() });
    let mut all = Vec::new();
    for address in 0..addresses {
        // Pools of their own: as many processes.
        let store = SqlStore::connect(&fresh.url, options.clone()).await.expect("a database");
        all.push(tokio::spawn(succession(store, format!("node-{address}"), by, lives, tally.clone())));
    }
    for one in all {
        one.await.expect("a succession");
    }
    tally
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_of_a_deposed_node_is_accepted_after_a_take_over() {
    let restarts = race(By::Restart, 4, 200, true).await;
    let expiries = race(By::Expiry, 1, 200, true).await;
    let sum =
        |of: fn(&Tally) -> &AtomicUsize| of(&restarts).load(Ordering::SeqCst) + of(&expiries).load(Ordering::SeqCst);
    assert!(sum(|tally| &tally.take_overs) >= 1_000, "{} take-overs", sum(|tally| &tally.take_overs));
    assert!(sum(|tally| &tally.refused) >= 1_000, "the deposed kept writing");
    assert_eq!(sum(|tally| &tally.violations), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_the_node_fence_the_same_race_finds_writes_of_deposed_nodes() {
    let restarts = race(By::Restart, 2, 10, false).await;
    assert!(restarts.violations.load(Ordering::SeqCst) > 0);
}

/// Two nodes decide for one transaction: whoever is second learns it, whichever of them it is.
#[tokio::test]
async fn of_two_nodes_that_append_at_one_place_the_second_conflicts() {
    let fresh = Fresh::new(Backend::Postgres).await;
    let store = fresh.connect().await;
    let mut owner = super::Writer::alone(&store).await;
    let mut other = super::Writer::join(&store, "http://127.0.0.1:2").await;
    owner.commit(&super::batch([begin("a"), begin("b")])).await.expect("a commit");
    assert_eq!(owner.append(next("a", 1)).await, Appended::Durable);
    let late = super::batch([foreign("a", 1), foreign("b", 1)]);
    assert_eq!(other.commit(&late).await.expect("a commit"), [Appended::Conflict, Appended::Durable]);
    assert_eq!(other.append(foreign("a", 2)).await, Appended::Durable);
    let late = super::batch([next("a", 2), next("b", 2)]);
    assert_eq!(owner.commit(&late).await.expect("a commit"), [Appended::Conflict, Appended::Durable]);
}

/// One gid begun on two nodes at once is one transaction, with the labels of the one that was first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gid_begun_twice_at_once_is_begun_once() {
    let fresh = Fresh::new(Backend::Postgres).await;
    let store = fresh.connect().await;
    let mut one = super::Writer::join(&store, "http://127.0.0.1:1").await;
    let mut two = super::Writer::join(&store, "http://127.0.0.1:2").await;
    for round in 0..100 {
        let text = format!("round-{round}");
        let by = |who: &str| {
            let mut append = super::begin_with(&text, skald_protocol::Timestamp(1), &[("by", who), (who, "yes")]);
            append.record = who.as_bytes().to_vec();
            append
        };
        let (first, second) = tokio::join!(one.append(by("one")), two.append(by("two")));
        assert_ne!(first, second);
        let winner = if first == Appended::Durable { "one" } else { "two" };
        let loaded = store.load(&[gid(&text)]).await.expect("a load").remove(0);
        assert_eq!(loaded.row.labels.into_iter().collect::<Vec<_>>(), {
            let mut labels = vec![("by".to_owned(), winner.to_owned()), (winner.to_owned(), "yes".to_owned())];
            labels.sort();
            labels
        });
        assert_eq!(records(&store, &text).await, [(0, winner.as_bytes().to_vec())]);
    }
}
