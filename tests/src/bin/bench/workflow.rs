//! What the language costs: the order of docs/workflows.md against the same plan with static bodies, side by side, and large
//! definitions and maps against smaller ones.

use std::time::{Duration, Instant};

use bytes::Bytes;
use comfy_table::Table;
use serde_json::{Value, json};
use skald_tests::Backend;

use crate::{
    Rig, Rounds,
    load::{self, Order},
    measure::{self, Spread},
    throughput::Workload,
};

const LINES: usize = 3;
const SIZES: [usize; 4] = [1_000, 2_500, 5_000, 10_000];
const STEPS: [usize; 3] = [100, 300, 1_000];

/// The order of docs/workflows.md; `is_static`: with every expression written out as what it comes to.
pub(crate) fn order(participants: &str, is_static: bool) -> Value {
    let said = |expression: &str, value: Value| if is_static { value } else { json!(expression) };
    let items = said("${input.lines}", lines());
    let hold = json!({"name": "hold", "service": "stock",
        "try": {"path": "/reservations", "body": {"sku": said("${line.sku}", json!("sku-1")), "qty": said("${line.qty}", json!(2))}},
        "confirm": {"path": said("/reservations/${self.output.id}/confirm", json!("/reservations/0123456789abcdef/confirm"))},
        "cancel": {"path": "/reservations/cancel", "body": {"key": said("${self.idempotency_key}", json!("key"))}}});
    let authorization =
        said("/authorizations/${steps.authorize.output.id}/capture", json!("/authorizations/0123456789abcdef/capture"));
    let definition = json!({
        "dsl": "1.0", "name": if is_static { "order-static" } else { "order" }, "version": "1.0.0", "timeout": "15m",
        "input": {"type": "object", "required": ["order_id", "customer", "total", "lines"], "properties": {
            "order_id": {"type": "string"}, "customer": {"type": "string"}, "total": {"type": "integer"},
            "express": {"type": "boolean"}, "lines": {"type": "array", "maxItems": 50, "items": {
                "type": "object", "required": ["sku", "qty"],
                "properties": {"sku": {"type": "string"}, "qty": {"type": "integer"}}}}}},
        "services": {"stock": {"url": participants}, "pay": {"url": participants}, "ship": {"url": participants}},
        "steps": [
            {"name": "reserve", "map": {"items": items, "as": "line", "max_items": 50, "max_concurrency": 8, "steps": [hold]}},
            {"name": "authorize", "service": "pay",
             "action": {"path": "/authorizations",
                "body": {"customer": said("${input.customer}", json!("c-1")), "amount": said("${input.total}", json!(4200))},
                "outcome": [{"when": "response.status == 402", "is": "refused", "error": "payment_declined"}]},
             "compensate": {"path": "/authorizations/void", "body": {"key": said("${self.idempotency_key}", json!("key"))}}},
            {"name": "capture", "service": "pay", "role": "pivot", "action": {"path": authorization,
                "status_check": {"method": "GET", "path": authorization}}},
            {"name": "deliver", "choice": [
                {"when": if is_static { "false" } else { "has(input.express) && input.express" }, "steps": [
                    {"name": "courier", "service": "ship", "role": "retriable",
                     "action": {"path": "/courier", "async": {"timeout": "24h", "heartbeat": "1h"}}}]},
                {"otherwise": true, "steps": [
                    {"name": "parcel", "service": "ship", "role": "retriable", "action": {"path": "/parcels", "body": {}}}]}]}],
        "output": {"payment": said("${steps.capture.output.id}", json!("0123456789abcdef"))},
    });
    let input = json!({"order_id": "o-1", "customer": "c-1", "total": 4200, "lines": lines()});
    json!({"definition": definition, "input": input})
}

fn lines() -> Value {
    (0..LINES).map(|line| json!({"sku": format!("sku-{line}"), "qty": 2})).collect()
}

pub(crate) async fn run(backend: Backend, rounds: Rounds) -> anyhow::Result<Value> {
    let rig = Rig::start(backend).await?;
    let clients = if rounds.clients.is_empty() { vec![1, 64] } else { rounds.clients.clone() };
    let mut table = Table::new();
    table.set_header(["clients", "orders/s", "static/s", "ratio", "CPU µs/order: coordinator", "static"]);
    let mut results = Vec::new();
    for clients in clients {
        let (mut rates, mut statics, mut ratios, mut spent) =
            (Vec::new(), Vec::new(), Vec::new(), [Vec::new(), Vec::new()]);
        for round in 0..=rounds.rounds {
            let mut pair = [0.0; 2];
            for (side, workload) in [Workload::Order, Workload::OrderStatic].into_iter().enumerate() {
                let order = Order {
                    workload,
                    coordinator: Some(rig.node.url()),
                    participants: rig.participants.url.clone(),
                    clients,
                    seconds: rounds.seconds,
                };
                let before = measure::cpu(rig.coordinator_pid()).as_secs_f64();
                let answer = rig.load(&order).await?;
                let count = answer["count"].as_f64().unwrap_or(0.0);
                pair[side] = count / answer["elapsed_us"].as_f64().unwrap_or(1.0) * 1e6;
                if round > 0 {
                    spent[side].push((measure::cpu(rig.coordinator_pid()).as_secs_f64() - before) * 1e6 / count);
                }
            }
            // The first is for warming up.
            if round > 0 {
                eprintln!("{clients:>4} clients, round {round}: {:.0}/s, static {:.0}/s", pair[0], pair[1]);
                rates.push(pair[0]);
                statics.push(pair[1]);
                ratios.push(pair[0] / pair[1]);
            }
        }
        let [cpu, static_cpu] = spent.map(Spread::of);
        let (rate, fixed, ratio) = (Spread::of(rates), Spread::of(statics), Spread::of(ratios));
        let mut row = vec![clients.to_string()];
        row.extend([&rate, &fixed, &ratio, &cpu, &static_cpu].map(ToString::to_string));
        table.add_row(row);
        results.push(json!({"clients": clients, "per_second": rate.json(), "static_per_second": fixed.json(),
            "ratio": ratio.json(), "cpu_us": cpu.json(), "static_cpu_us": static_cpu.json()}));
    }
    eprintln!("{table}");
    let large = large(&rig).await?;
    Ok(json!({"scenario": "workflow", "database": format!("{backend:?}"), "rounds": rounds.rounds,
        "seconds": rounds.seconds, "results": results, "large": large}))
}

/// One transaction at a time, by its size.
async fn large(rig: &Rig) -> anyhow::Result<Vec<Value>> {
    let mut table = Table::new();
    table.set_header(["what", "size", "seconds", "ms each", "resident MiB"]);
    let mut results = Vec::new();
    let http = load::http();
    let participants = &rig.participants.url;
    let map = |size: usize| {
        let step = json!({"name": "a", "service": "s", "action": {"path": "/a", "body": {"n": "${item}", "of": "${input.order}"}},
            "compensate": {"path": "/a/undo"}});
        let steps = json!([{"name": "m", "map": {"items": "${input.items}", "max_concurrency": 64, "steps": [step]}}]);
        (steps, json!({"order": "o-1", "items": (0..size).collect::<Vec<_>>()}))
    };
    let row = |size: usize| {
        let steps: Vec<_> = (0..size)
            .map(|step| {
                json!({"name": format!("s{step}"), "service": "s",
            "action": {"path": "/a", "body": {"of": "${input.order}"}}, "compensate": {"path": "/a/undo"}})
            })
            .collect();
        (json!(steps), json!({"order": "o-1"}))
    };
    let all = SIZES.map(|size| ("items of a map", size, map(size)));
    let all = all.into_iter().chain(STEPS.map(|size| ("steps in a row", size, row(size))));
    for (what, size, (steps, input)) in all {
        let definition = json!({"dsl": "1.0", "name": "large", "version": "1.0.0",
            "services": {"s": {"url": participants}}, "steps": steps});
        let begin = Bytes::from(json!({"definition": definition, "input": input}).to_string());
        let start = Instant::now();
        let (status, answer) =
            load::post(&http, &format!("{}/v1/transactions", rig.node.url()), begin, Some(60)).await?;
        let answer: Value = serde_json::from_slice(&answer)?;
        anyhow::ensure!(answer["status"] == "succeeded", "{what} {size}: {status} {}", answer["status"]);
        let took = start.elapsed();
        let resident = measure::resident(rig.coordinator_pid()) >> 20;
        let each = took.as_secs_f64() * 1e3 / f64::from(u32::try_from(size)?);
        eprintln!("{size} {what}: {:.2} s", took.as_secs_f64());
        table.add_row([
            what.to_owned(),
            size.to_string(),
            format!("{:.2}", took.as_secs_f64()),
            format!("{each:.3}"),
            resident.to_string(),
        ]);
        results.push(json!({"what": what, "size": size, "seconds": took.as_secs_f64(), "resident_mib": resident}));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    eprintln!("{table}");
    Ok(results)
}
