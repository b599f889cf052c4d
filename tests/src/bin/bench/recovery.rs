//! What a crash and what waiting cost.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::ensure;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use skald_tests::Backend;

use crate::{Rig, load, measure};

/// Three steps, of which the first is met at `first`.
fn begin(participants: &str, first: &Value) -> Bytes {
    let step = |name: &str| {
        json!({"name": name, "service": "s", "action": {"path": format!("/{name}")},
            "compensate": {"path": format!("/{name}/undo")}})
    };
    let mut steps = [step("a"), step("b"), step("last")];
    steps[0]["action"] = first.clone();
    let definition = json!({"dsl": "1.0", "name": "bench", "version": "1.0.0", "steps": steps,
        "services": {"s": {"url": participants}}, "defaults": {"timeout": "60s"}});
    Bytes::from(json!({"definition": definition, "input": {}}).to_string())
}

/// Begins `count` of them and does not wait for their ends.
async fn begin_all(rig: &Rig, first: &Value, count: usize) -> anyhow::Result<()> {
    let http = load::http();
    let url = format!("{}/v1/transactions", rig.node.url());
    let body = begin(&rig.participants.url, first);
    let start = Instant::now();
    let mut begun = stream::iter(0..count)
        .map(|_| async {
            loop {
                let (status, answer) = load::post(&http, &url, body.clone(), None).await?;
                match status {
                    202 => return anyhow::Ok(()),
                    429 | 503 => tokio::time::sleep(Duration::from_millis(50)).await,
                    _ => anyhow::bail!("{status} {}", String::from_utf8_lossy(&answer)),
                }
            }
        })
        .buffer_unordered(64);
    let mut done = 0;
    while let Some(one) = begun.next().await {
        one?;
        done += 1;
        if done % (count / 10).max(1) == 0 {
            eprintln!("  {done} of {count} begun after {:.1?}", start.elapsed());
        }
    }
    Ok(())
}

fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) async fn recovery(backend: Backend, count: usize) -> anyhow::Result<Value> {
    let mut rig = Rig::start(backend).await?;
    begin_all(&rig, &json!({"path": "/hold"}), count).await?;
    eprintln!("kill -9 with {count} transactions in flight");
    rig.node.kill();
    rig.participants.control("open").await?;
    rig.participants.control("mark").await?;
    let (start, start_ms) = (Instant::now(), unix_millis());
    let ready = rig.node.start().await;
    let mut first = None;
    let all = loop {
        let counts = rig.participants.control("count").await?;
        if first.is_none() && counts["first_ms"].as_u64().is_some_and(|at| at > 0) {
            first = counts["first_ms"].as_u64().map(|at| at.saturating_sub(start_ms));
            eprintln!("  ready after {ready:.2?}, first call after {first:?} ms");
        }
        if counts["finished"].as_u64() == Some(count as u64) {
            break (start.elapsed(), counts["calls"].clone());
        }
        ensure!(start.elapsed() < Duration::from_secs(300), "not driven: {counts}; log:\n{}", rig.node.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    // The last calls are answered; their settlements follow.
    let client = rig.node.client();
    for status in ["running", "confirming", "compensating", "suspended"] {
        let path = format!("/v1/transactions?status={status}&limit=1");
        skald_tests::eventually(&format!("none is {status}"), Duration::from_secs(30), || async {
            let list = client.try_get(&path).await.ok()?;
            list.body["items"].as_array().is_some_and(Vec::is_empty).then_some(())
        })
        .await;
    }
    let settled = start.elapsed();
    eprintln!("  all called after {:.2?} ({} calls), all settled after {settled:.2?}", all.0, all.1);
    Ok(json!({"scenario": "recovery", "database": format!("{backend:?}"), "count": count,
        "ready_s": ready.as_secs_f64(), "first_call_ms": first, "all_called_s": all.0.as_secs_f64(),
        "calls": all.1, "all_settled_s": settled.as_secs_f64()}))
}

pub(crate) async fn parked(backend: Backend, count: usize) -> anyhow::Result<Value> {
    let mut rig = Rig::start(backend).await?;
    // What the first ones make once is not the price of one.
    let accept = json!({"path": "/accept", "async": {"timeout": "24h"}});
    begin_all(&rig, &accept, (count / 10).clamp(100, 2_000)).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = measure::resident(rig.coordinator_pid());
    begin_all(&rig, &accept, count).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let waiting = measure::resident(rig.coordinator_pid());
    let per = |bytes: u64| bytes.saturating_sub(before) / count as u64;
    eprintln!("  {} MiB before, {} MiB with {count} waiting", before >> 20, waiting >> 20);
    eprintln!("  a minute and more, until they have left memory");
    tokio::time::sleep(Duration::from_secs(80)).await;
    let later = measure::resident(rig.coordinator_pid());
    rig.node.kill();
    let ready = rig.node.start().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let restarted = measure::resident(rig.coordinator_pid());
    eprintln!(
        "  {} B each at once, {} B each later ({} MiB); ready {ready:.2?} after a kill, {} MiB then",
        per(waiting),
        per(later),
        later >> 20,
        restarted >> 20
    );
    Ok(json!({"scenario": "parked", "database": format!("{backend:?}"), "count": count, "before_bytes": before,
        "waiting_bytes": waiting, "later_bytes": later, "restarted_bytes": restarted,
        "bytes_per_waiting": per(waiting), "bytes_per_parked": per(later), "restart_ready_s": ready.as_secs_f64()}))
}
