//! Transactions per second and their latency against the same calls made bare, round by round, side by side.

use clap::ValueEnum;
use comfy_table::Table;
use serde_json::{Value, json};
use skald_tests::Backend;

use crate::{
    Rig, Rounds,
    load::Order,
    measure::{self, Spread},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    Saga,
    Tcc,
    Abort,
    Order,
    OrderStatic,
}

/// 100 bytes.
pub(crate) fn body() -> Value {
    json!({"order": "0123456789abcdef", "note": "a body of exactly one hundred bytes, as the bars of speed dema"})
}

impl Workload {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Saga => "saga",
            Self::Tcc => "tcc",
            Self::Abort => "abort",
            Self::Order => "order",
            Self::OrderStatic => "order-static",
        }
    }

    /// The calls that the coordinator makes for one of them.
    pub(crate) const fn chain(self) -> &'static [&'static str] {
        match self {
            Self::Saga => &["/a", "/b", "/c"],
            Self::Tcc => &["/a", "/b", "/a/confirm", "/b/confirm"],
            Self::Abort => &["/a", "/b", "/refuse", "/b/undo", "/a/undo"],
            Self::Order | Self::OrderStatic => &[
                "/reservations",
                "/reservations",
                "/reservations",
                "/authorizations",
                "/capture",
                "/confirm",
                "/confirm",
                "/confirm",
                "/parcels",
            ],
        }
    }

    pub(crate) const fn ends_as(self) -> &'static str {
        match self {
            Self::Saga | Self::Tcc | Self::Order | Self::OrderStatic => "succeeded",
            Self::Abort => "compensated",
        }
    }

    pub(crate) fn begin(self, participants: &str) -> Value {
        if matches!(self, Self::Order | Self::OrderStatic) {
            return crate::workflow::order(participants, self == Self::OrderStatic);
        }
        let body = body();
        let saga = |name: &str, path: &str| {
            json!({"name": name, "service": "s", "action": {"path": path, "body": body},
                "compensate": {"path": format!("{path}/undo"), "body": body}})
        };
        let tcc = |name: &str, path: &str| {
            json!({"name": name, "service": "s", "try": {"path": path, "body": body},
                "confirm": {"path": format!("{path}/confirm"), "body": body},
                "cancel": {"path": format!("{path}/cancel"), "body": body}})
        };
        let steps = match self {
            Self::Saga => vec![saga("a", "/a"), saga("b", "/b"), saga("c", "/c")],
            Self::Tcc => vec![tcc("a", "/a"), tcc("b", "/b")],
            Self::Abort => vec![saga("a", "/a"), saga("b", "/b"), saga("c", "/refuse")],
            Self::Order | Self::OrderStatic => Vec::new(),
        };
        let definition = json!({"dsl": "1.0", "name": "bench", "version": "1.0.0",
            "services": {"s": {"url": participants}}, "steps": steps});
        json!({"definition": definition, "input": {}})
    }
}

/// What one side of one round came to.
struct Side {
    count: f64,
    per_second: f64,
    p50: f64,
    p99: f64,
    load_cpu_us: f64,
}

impl Side {
    fn of(answer: &Value) -> Self {
        let number = |name: &str| answer[name].as_f64().unwrap_or(0.0);
        Self {
            count: number("count"),
            per_second: number("count") / number("elapsed_us") * 1e6,
            p50: number("p50_us"),
            p99: number("p99_us"),
            load_cpu_us: number("cpu_us"),
        }
    }
}

/// CPU µs so far: coordinator, database, participants.
fn cpu(rig: &Rig) -> [f64; 3] {
    let of = |pid| measure::cpu(pid).as_secs_f64() * 1e6;
    [of(rig.coordinator_pid()), rig.postgres_cpu_us(), of(rig.participants.pid())]
}

pub(crate) async fn run(name: &str, backend: Backend, workload: Workload, rounds: Rounds) -> anyhow::Result<Value> {
    let rig = Rig::start(backend).await?;
    let clients = if rounds.clients.is_empty() { vec![1, 16, 64, 256] } else { rounds.clients.clone() };
    let mut table = Table::new();
    table.set_header([
        "clients",
        "tx/s",
        "bare/s",
        "ratio",
        "p50 µs",
        "p99 µs",
        "bare p50",
        "p50 ratio",
        "CPU µs/tx: coordinator",
        "database",
        "participants",
        "load",
        "commits/tx",
        "rows/tx",
        "WAL B/tx",
    ]);
    let mut results = Vec::new();
    for clients in clients {
        let (row, result) = at(&rig, workload, clients, &rounds).await?;
        table.add_row(row);
        results.push(result);
    }
    eprintln!("{table}");
    Ok(json!({"scenario": name, "database": format!("{backend:?}"), "rounds": rounds.rounds,
        "seconds": rounds.seconds, "results": results}))
}

async fn at(rig: &Rig, workload: Workload, clients: usize, rounds: &Rounds) -> anyhow::Result<(Vec<String>, Value)> {
    let order = |coordinator: Option<String>, seconds| Order {
        workload,
        coordinator,
        participants: rig.participants.url.clone(),
        clients,
        seconds,
    };
    rig.load(&order(None, 1)).await?;
    rig.load(&order(Some(rig.node.url()), rounds.seconds)).await?;
    let database = match &rig.postgres {
        Some(_) => Some(measure::postgres(&rig.database).await?),
        None => None,
    };
    let written = measure::written(rig.coordinator_pid());
    let (mut sagas, mut bares, mut spent) = (Vec::new(), Vec::new(), [0.0; 3]);
    for round in 0..rounds.rounds {
        bares.push(Side::of(&rig.load(&order(None, rounds.seconds)).await?));
        let before = cpu(rig);
        let side = Side::of(&rig.load(&order(Some(rig.node.url()), rounds.seconds)).await?);
        for ((spent, after), before) in spent.iter_mut().zip(cpu(rig)).zip(before) {
            *spent += after - before;
        }
        let bare = bares[round].per_second;
        eprintln!(
            "{clients:>4} clients, round {} of {}: {:.0}/s, bare {bare:.0}/s, ratio {:.2}",
            round + 1,
            rounds.rounds,
            side.per_second,
            side.per_second / bare
        );
        sagas.push(side);
    }
    let count: f64 = sagas.iter().map(|side| side.count).sum();
    let written = measure::written(rig.coordinator_pid()) - written;
    let database = match database {
        Some(before) => {
            let after = measure::postgres(&rig.database).await?;
            ["commits", "rows", "wal_bytes"].map(|name| Some((after[name] - before[name]) / count))
        }
        #[expect(clippy::cast_precision_loss, reason = "a figure for a person")]
        None => [None, None, Some(written as f64 / count)],
    };
    let of = |sides: &[Side], value: fn(&Side) -> f64| Spread::of(sides.iter().map(value).collect());
    let both = |value: fn(&Side) -> f64| {
        Spread::of(sagas.iter().zip(&bares).map(|(saga, bare)| value(saga) / value(bare)).collect())
    };
    let (rate, bare_rate, ratio) = (of(&sagas, |s| s.per_second), of(&bares, |s| s.per_second), both(|s| s.per_second));
    let (p50, p99, bare_p50, p50_ratio) =
        (of(&sagas, |s| s.p50), of(&sagas, |s| s.p99), of(&bares, |s| s.p50), both(|s| s.p50));
    let load_cpu = sagas.iter().map(|side| side.load_cpu_us).sum::<f64>() / count;
    let cpu = [spent[0] / count, spent[1] / count, spent[2] / count, load_cpu];
    let optional = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.2}"));
    let mut row = vec![clients.to_string()];
    row.extend([rate, bare_rate, ratio, p50, p99, bare_p50, p50_ratio].map(|spread| spread.to_string()));
    row.extend(cpu.map(|us| format!("{us:.0}")));
    row.extend(database.map(optional));
    let result = json!({
        "clients": clients, "per_second": rate.json(), "bare_per_second": bare_rate.json(), "ratio": ratio.json(),
        "p50_us": p50.json(), "p99_us": p99.json(), "bare_p50_us": bare_p50.json(), "p50_ratio": p50_ratio.json(),
        "cpu_us": {"coordinator": cpu[0], "database": cpu[1], "participants": cpu[2], "load": cpu[3]},
        "commits": database[0], "rows": database[1], "bytes_written": database[2],
    });
    Ok((row, result))
}
