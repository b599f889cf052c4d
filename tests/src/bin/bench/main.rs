//! Speed as ratios measured side by side in one run (BARS.md): `bench <scenario>`, best as a release build.
//!
//! It starts what it needs, each as its own process: Postgres with durable defaults, the coordinator, trivial
//! participants and the load, whose bare chain makes the same calls with the same client and no coordinator. A table goes
//! to stderr, one line of JSON to stdout.

mod load;
mod measure;
mod participants;
mod recovery;
mod rig;
mod throughput;
mod workflow;

use std::io::Write;

use clap::{Args, Parser, Subcommand};
use rig::Rig;
use skald_tests::Backend;
use throughput::Workload;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Args, Clone)]
struct Rounds {
    /// After one of warm-up.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Of one side of one round.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// How many clients at once, one measurement each.
    #[arg(long, value_delimiter = ',')]
    clients: Vec<usize>,
}

#[derive(Subcommand)]
enum Scenario {
    /// Three-step sagas on Postgres against three bare calls.
    Throughput(Rounds),
    /// The same by one client alone.
    Latency(Rounds),
    /// The same on SQLite.
    Embedded(Rounds),
    /// Two declared TCC branches on Postgres against four bare calls.
    Tcc(Rounds),
    /// The order of the language's documentation against the same plan with static bodies; large maps and definitions.
    Workflow(Rounds),
    /// The third step refuses: against five bare calls.
    Abort(Rounds),
    /// kill -9 with transactions in flight, restart.
    Recovery {
        #[arg(long, default_value_t = 10_000)]
        count: usize,
        #[arg(long)]
        sqlite: bool,
    },
    /// Memory per transaction that waits for a callback.
    Parked {
        #[arg(long, default_value_t = 100_000)]
        count: usize,
        #[arg(long)]
        sqlite: bool,
    },
    #[command(hide = true)]
    Participants,
    #[command(hide = true)]
    Load(load::Order),
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        match arguments.scenario {
            Scenario::Throughput(rounds) => {
                throughput::run("throughput", Backend::Postgres, Workload::Saga, rounds).await
            }
            Scenario::Latency(rounds) => {
                let rounds = Rounds { clients: vec![1], ..rounds };
                throughput::run("latency", Backend::Postgres, Workload::Saga, rounds).await
            }
            Scenario::Embedded(rounds) => throughput::run("embedded", Backend::Sqlite, Workload::Saga, rounds).await,
            Scenario::Tcc(rounds) => throughput::run("tcc", Backend::Postgres, Workload::Tcc, rounds).await,
            Scenario::Abort(rounds) => throughput::run("abort", Backend::Postgres, Workload::Abort, rounds).await,
            Scenario::Workflow(rounds) => workflow::run(Backend::Postgres, rounds).await,
            Scenario::Recovery { count, sqlite } => recovery::recovery(backend(sqlite), count).await,
            Scenario::Parked { count, sqlite } => recovery::parked(backend(sqlite), count).await,
            Scenario::Participants => participants::serve().await,
            Scenario::Load(order) => load::run(&order).await,
        }
    })?;
    writeln!(std::io::stdout(), "{result}")?;
    Ok(())
}

const fn backend(sqlite: bool) -> Backend {
    if sqlite { Backend::Sqlite } else { Backend::Postgres }
}
