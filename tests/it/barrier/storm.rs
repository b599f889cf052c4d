//! Thousands of calls, doubled, reordered and side by side, and a ledger that tells what they came to.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};
use skald_sdk::participant::{Call, CallContext};
use sqlx::{MySql, Pool, Postgres, Sqlite};
use tokio::sync::Semaphore;

use super::services::{ITEMS, Order, Sent, Shop, Told, UNITS, call, shop, work};

const CLIENTS: usize = 24;
/// Of forward operations, in percent.
const REFUSED: u32 = 20;

/// All calls of one branch, in the order in which they are sent.
struct Script {
    gid: String,
    order: Order,
    calls: Vec<&'static str>,
}

fn scripts(calls: usize, seed: u64) -> Vec<Script> {
    let mut dice = StdRng::seed_from_u64(seed);
    let mut scripts = Vec::new();
    let mut made = 0;
    while made < calls {
        let (forward, settling) = match dice.random_range(0..4) {
            0 => ("action", "action"),
            1 => ("action", "compensate"),
            2 => ("try", "cancel"),
            _ => ("try", "confirm"),
        };
        let mut calls = vec![forward; dice.random_range(1..=3)];
        if settling != forward {
            let undone = vec![settling; dice.random_range(1..=3)];
            // A confirm comes after its try was answered; an undo comes whenever it likes.
            calls.extend(undone);
        }
        let order = Order {
            item: dice.random_range(0..ITEMS),
            refuse: settling != "confirm" && dice.random_range(0..100) < REFUSED,
        };
        if settling != "confirm" {
            calls.shuffle(&mut dice);
        }
        made += calls.len();
        scripts.push(Script { gid: format!("shop:{seed}-{}", scripts.len()), order, calls });
    }
    scripts
}

type Answers = Vec<(&'static str, Told)>;

/// Sends all; at most `CLIENTS` calls are under way at once.
async fn send<DB: Shop>(pool: &Pool<DB>, scripts: &Arc<Vec<Script>>, barrier: bool) -> Vec<Answers> {
    let service = shop(pool.clone()).into_service();
    let places = Arc::new(Semaphore::new(CLIENTS));
    let branches = (0..scripts.len()).map(|index| {
        let (service, scripts, places, pool) =
            (service.clone(), Arc::clone(scripts), Arc::clone(&places), pool.clone());
        tokio::spawn(async move {
            let script = &scripts[index];
            let make = async |operation: &'static str| {
                let _place = places.acquire().await.expect("places");
                let sent = Sent::new(&script.gid, operation);
                let told = if barrier {
                    call(&service, &sent, &script.order).await
                } else {
                    bare(&pool, &sent, &script.order).await
                };
                (operation, told)
            };
            // A confirm is only sent once a try has succeeded.
            let (first, then): (Vec<_>, Vec<_>) =
                script.calls.iter().copied().partition(|operation| *operation != "confirm");
            let mut answers = futures_util::future::join_all(first.into_iter().map(&make)).await;
            answers.extend(futures_util::future::join_all(then.into_iter().map(&make)).await);
            answers
        })
    });
    let mut all = Vec::new();
    for branch in branches.collect::<Vec<_>>() {
        all.push(branch.await.expect("no panic"));
    }
    all
}

/// The same effects in a transaction of their own each, as services are written that know of no barrier.
async fn bare<DB: Shop>(pool: &Pool<DB>, sent: &Sent, order: &Order) -> Told {
    let context = CallContext::from_headers(sent.request(order).headers()).expect("a context");
    loop {
        let mut tx = pool.begin_with(DB::BEGIN).await.expect("a transaction");
        let done = work::<DB>(&mut tx, Call::new(context.clone(), order.clone())).await;
        let status = match done {
            Ok(_) if tx.commit().await.is_ok() => 200,
            Err(skald_sdk::participant::Failure::Refused(_)) => 422,
            Ok(_) | Err(_) => continue,
        };
        return Told { status, barrier: None, body: serde_json::Value::Null };
    }
}

/// Every way in which a run is wrong.
async fn judge<DB: Shop>(pool: &Pool<DB>, scripts: &[Script], answers: &[Answers]) -> BTreeSet<&'static str> {
    let mut wrong = BTreeSet::new();
    let mut effects: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (gid, operation) in DB::ledger(pool).await {
        effects.entry(gid).or_default().push(operation);
    }
    let mut sold = 0;
    for (script, answers) in scripts.iter().zip(answers) {
        let none = Vec::new();
        let done = effects.get(&script.gid).unwrap_or(&none);
        let count = |wanted: &[&str]| done.iter().filter(|operation| wanted.contains(&operation.as_str())).count();
        let (forward, undone) = (count(&["action", "try"]), count(&["compensate", "cancel"]));
        sold += i64::try_from(forward).expect("few") - i64::try_from(undone).expect("few");
        let mut check = |right: bool, fault: &'static str| {
            if !right {
                wrong.insert(fault);
            }
        };
        check(forward <= 1, "a forward effect happened twice");
        check(undone <= 1 && count(&["confirm"]) <= 1, "an undo or a confirm happened twice");
        check(undone <= forward, "what never happened was undone");
        check(undone == 0 || done.first().is_some_and(|first| first == "action" || first == "try"), "undone first");
        let undo_sent = script.calls.iter().any(|operation| ["compensate", "cancel"].contains(operation));
        let confirm_sent = script.calls.contains(&"confirm");
        check(!undo_sent || forward == undone, "an effect stands after its undo was answered");
        check(
            undo_sent || forward == usize::from(!script.order.refuse),
            "an effect is missing, or a refused one stands",
        );
        check(!confirm_sent || count(&["confirm"]) == 1, "a confirm is missing");
        for operation in ["action", "try", "compensate", "cancel", "confirm"] {
            let mut told = answers.iter().filter(|(of, _)| *of == operation).map(|(_, told)| told);
            let Some(first) = told.next() else { continue };
            check(told.all(|told| (told.status, &told.body) == (first.status, &first.body)), "an answer flipped");
        }
        let statuses: BTreeSet<_> = answers.iter().map(|(_, told)| told.status).collect();
        check(statuses.is_subset(&BTreeSet::from([200, 204, 409, 422])), "an answer is none");
    }
    let left = DB::left(pool).await;
    if left != ITEMS * UNITS - sold {
        wrong.insert("the stock and the ledger differ");
    }
    wrong
}

async fn storm<DB: Shop>(name: &str, calls: usize) {
    for isolation in DB::ISOLATIONS {
        let pool = DB::open(isolation).await;
        let scripts = Arc::new(scripts(calls, 7));
        let started = Instant::now();
        let answers = send(&pool, &scripts, true).await;
        let took = started.elapsed();
        let wrong = judge(&pool, &scripts, &answers).await;
        let said =
            |word: &str| answers.iter().flatten().filter(|(_, told)| told.barrier.as_deref() == Some(word)).count();
        let counts = ["executed", "stored", "empty", "superseded"].map(|word| (word, said(word)));
        eprintln!(
            "{name}, {isolation}: {} calls in {took:.1?}, {counts:?}, wrong: {wrong:?}",
            answers.iter().map(Vec::len).sum::<usize>()
        );
        assert!(wrong.is_empty(), "{name}, {isolation}: {wrong:?}");
        assert!(counts.iter().all(|(_, count)| *count > 0), "each way was met: {counts:?}");
    }
    let pool = DB::open(DB::ISOLATIONS[0]).await;
    let scripts = Arc::new(scripts(calls / 4, 7));
    let answers = send(&pool, &scripts, false).await;
    let wrong = judge(&pool, &scripts, &answers).await;
    assert!(wrong.contains("a forward effect happened twice"), "without the barrier it shows: {wrong:?}");
    assert!(wrong.contains("what never happened was undone"), "without the barrier it shows: {wrong:?}");
}

const CALLS: usize = 2_000;

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_each_effect_happens_once_and_never_after_its_undo() {
    storm::<Postgres>("Postgres", CALLS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_mariadb_each_effect_happens_once_and_never_after_its_undo() {
    storm::<MySql>("MariaDB", CALLS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite_each_effect_happens_once_and_never_after_its_undo() {
    storm::<Sqlite>("SQLite", CALLS).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: cargo test -p skald-tests --test it a_hundred_thousand -- --ignored --nocapture"]
async fn a_hundred_thousand_calls_on_each_database() {
    storm::<Postgres>("Postgres", 100_000).await;
    storm::<MySql>("MariaDB", 100_000).await;
    storm::<Sqlite>("SQLite", 100_000).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a figure: cargo test --release -p skald-tests --test it what_the_barrier_costs -- --ignored --nocapture"]
async fn what_the_barrier_costs() {
    async fn cost<DB: Shop>(name: &str) {
        const SCRIPTS: usize = 3_000;
        let pool = DB::open(DB::ISOLATIONS[0]).await;
        let mut ratios = Vec::new();
        for round in 0..5 {
            let rate = async |barrier: bool| {
                let scripts: Vec<_> = (0..SCRIPTS)
                    .map(|index| Script {
                        gid: format!("cost:{round}-{barrier}-{index}"),
                        order: Order { item: i64::try_from(index).expect("few") % ITEMS, refuse: false },
                        calls: vec!["action"],
                    })
                    .collect();
                let started = Instant::now();
                send(&pool, &Arc::new(scripts), barrier).await;
                3_000.0 / started.elapsed().max(Duration::from_millis(1)).as_secs_f64()
            };
            let (without, with) = (rate(false).await, rate(true).await);
            eprintln!("{name}: {without:.0} calls/s without, {with:.0} with the barrier");
            ratios.push(with / without);
        }
        ratios.sort_by(f64::total_cmp);
        eprintln!("{name}: ratio {:.2} [{:.2} {:.2}]", ratios[2], ratios[0], ratios[4]);
    }
    cost::<Postgres>("Postgres").await;
    cost::<MySql>("MariaDB").await;
    cost::<Sqlite>("SQLite").await;
}
