//! Kills coordinators under load and lets the checker judge: `chaos <scenario> [--count N] [--seed S]`.
//!
//! Real `skald` processes, a real database, participants with a ledger, a fifth of the forward calls refused. The run is
//! green only if every invariant holds, nothing answered in a way that no fault explains, and at least 95 % finished.

mod load;
mod stop;
mod transfer;

use std::{
    collections::BTreeMap,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::{Parser, ValueEnum};
use load::Load;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use skald_tests::{
    Chance, Node, Participants,
    checker::{self, Evidence, Subject},
    eventually,
    world::{Backend, Database},
};

/// At least this share of the acknowledged transactions must finish.
const FINISHED: f64 = 0.95;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Two nodes on one Postgres; one of them is killed.
    KillPostgres,
    /// The only node, on Postgres.
    KillSinglePostgres,
    /// The only node, on SQLite.
    KillSqlite,
    /// The only node on Postgres, killed three times in a row while it recovers.
    KillRecovery,
    /// The same on SQLite.
    KillRecoverySqlite,
    /// Two nodes on one Postgres; one of them is stopped for 0.5 to 5 s (its lease is 2 s), then wakes.
    PausePostgres,
    /// Many such pairs; the one that owes calls is stopped for 8 s, and all it began is cancelled at the other.
    StopPostgres,
}

#[derive(Parser)]
struct Arguments {
    scenario: Scenario,
    /// How many kills or pauses.
    #[arg(long, default_value_t = 30)]
    count: usize,
    #[arg(long)]
    seed: Option<u64>,
}

struct Run {
    scenario: Scenario,
    nodes: Vec<Node>,
    rng: StdRng,
    restarts: Vec<Duration>,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(|| rand::random_range(0..1_000_000));
    eprintln!("{:?}: {} faults, seed {seed}", arguments.scenario, arguments.count);
    if arguments.scenario == Scenario::StopPostgres {
        return stop::run(arguments.count, seed).await;
    }
    let database = Database::fresh(arguments.scenario.backend()).await;
    let chance = Chance {
        refused: 0.2,
        unavailable: 0.03,
        cut_off: 0.03,
        silent: 0.005,
        slow: Some(Duration::from_millis(20)),
        seed,
    };
    let banks = [Participants::start().await, Participants::without_barrier_word().await];
    let mut opening = BTreeMap::new();
    for (which, bank) in banks.iter().enumerate() {
        for number in 0..transfer::ACCOUNTS {
            bank.open_account(&transfer::account(number), transfer::BALANCE);
            opening.insert(format!("{which}/{}", transfer::account(number)), transfer::BALANCE);
        }
        bank.by_chance(chance.clone());
    }
    let mut run = Run {
        scenario: arguments.scenario,
        nodes: (0..arguments.scenario.nodes()).map(|_| Node::new(database.url())).collect(),
        rng: StdRng::seed_from_u64(seed),
        restarts: Vec::new(),
    };
    for node in &mut run.nodes {
        node.start().await;
    }
    let clients = run.nodes.iter().map(Node::client).collect();
    let load = Load::new(seed, clients, banks.iter().map(Participants::url).collect());
    let start = Instant::now();
    let workers = load.start();
    run.kills(arguments.count, &load).await;
    load.stop();
    workers.join_all().await;
    eprintln!("load and faults ended after {:.0?}; {} acknowledged", start.elapsed(), load.acknowledged());
    banks.iter().for_each(Participants::behave);
    let end = Instant::now();
    let subjects = load.account_for(Duration::from_secs(60)).await;
    eprintln!("accounted for within {:.1?}", end.elapsed());
    for node in &mut run.nodes {
        node.terminate().await;
    }
    let evidence = Evidence { subjects, ledger: ledger(&banks), opening, journal: database.journal().await? };
    Ok(if judge(&evidence, &load, &run, seed)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Scenario {
    const fn backend(self) -> Backend {
        match self {
            Self::KillPostgres
            | Self::KillSinglePostgres
            | Self::KillRecovery
            | Self::PausePostgres
            | Self::StopPostgres => Backend::Postgres,
            Self::KillSqlite | Self::KillRecoverySqlite => Backend::Sqlite,
        }
    }

    const fn nodes(self) -> usize {
        match self {
            Self::KillPostgres | Self::PausePostgres | Self::StopPostgres => 2,
            Self::KillSinglePostgres | Self::KillSqlite | Self::KillRecovery | Self::KillRecoverySqlite => 1,
        }
    }

    /// Kills in a row.
    const fn row(self) -> usize {
        match self {
            Self::KillRecovery | Self::KillRecoverySqlite => 3,
            Self::KillPostgres
            | Self::KillSinglePostgres
            | Self::KillSqlite
            | Self::PausePostgres
            | Self::StopPostgres => 1,
        }
    }
}

impl Run {
    async fn kills(&mut self, count: usize, load: &Load) {
        let mut kills = 0;
        while kills < count {
            let before = load.acknowledged();
            eventually("the load goes on", Duration::from_secs(60), || async {
                (load.acknowledged() >= before + 10).then_some(())
            })
            .await;
            self.pause(50..1_000).await;
            let victim = self.rng.random_range(0..self.nodes.len());
            if self.scenario == Scenario::PausePostgres {
                self.nodes[victim].pause();
                self.pause(500..5_000).await;
                self.nodes[victim].resume();
                kills += 1;
                eprintln!("  {kills:>4} of {count}, {} acknowledged", load.acknowledged());
                continue;
            }
            self.nodes[victim].kill();
            kills += 1;
            for _ in 1..self.scenario.row() {
                if kills == count {
                    break;
                }
                self.nodes[victim].spawn();
                self.pause(0..500).await;
                self.nodes[victim].kill();
                kills += 1;
            }
            let most = if self.nodes.len() > 1 { 2_500 } else { 300 };
            self.pause(0..most).await;
            self.restarts.push(self.nodes[victim].start().await);
            eprintln!("  {kills:>4} of {count}, {} acknowledged", load.acknowledged());
        }
    }

    async fn pause(&mut self, millis: std::ops::Range<u64>) {
        tokio::time::sleep(Duration::from_millis(self.rng.random_range(millis))).await;
    }
}

/// Both banks' ledgers as one, the accounts told apart. Order matters only within a bank: a transaction has one.
fn ledger(banks: &[Participants]) -> Vec<checker::Entry> {
    let mut all = Vec::new();
    for (which, bank) in banks.iter().enumerate() {
        for mut entry in bank.ledger() {
            for (account, _) in &mut entry.moves {
                *account = format!("{which}/{account}");
            }
            all.push(entry);
        }
    }
    all
}

fn judge(evidence: &Evidence, load: &Load, run: &Run, seed: u64) -> anyhow::Result<bool> {
    let mut by_status: BTreeMap<String, usize> = BTreeMap::new();
    let acknowledged: Vec<&Subject> = evidence.subjects.iter().filter(|subject| subject.acknowledged).collect();
    let mut finished = 0;
    for subject in &acknowledged {
        let status = subject.answers.last().and_then(|answer| answer["status"].as_str()).unwrap_or("gone");
        *by_status.entry(status.to_owned()).or_default() += 1;
        finished += usize::from(matches!(status, "succeeded" | "compensated"));
    }
    let mut restarts = run.restarts.clone();
    restarts.sort();
    if let Some(worst) = restarts.last() {
        eprintln!("restart to ready: median {:.0?}, worst {worst:.0?}", restarts[restarts.len() / 2]);
    }
    eprintln!("{} acknowledged: {by_status:?}; {} ledger lines", acknowledged.len(), evidence.ledger.len());
    let verdicts = checker::judge(evidence);
    eprint!("{}", checker::report(&verdicts));
    let surprises = load.surprises();
    for surprise in surprises.iter().take(10) {
        eprintln!("surprise: {surprise}");
    }
    #[expect(clippy::cast_precision_loss, reason = "counts of a run are small")]
    let share = finished as f64 / acknowledged.len().max(1) as f64;
    eprintln!("{:.2} % finished (at least {:.0} % must)", share * 100.0, FINISHED * 100.0);
    let green = verdicts.iter().all(checker::Verdict::holds) && surprises.is_empty() && share >= FINISHED;
    if !green {
        let path = std::env::temp_dir().join(format!("skald-chaos-{seed}.json"));
        std::fs::write(&path, serde_json::to_vec(evidence)?)?;
        eprintln!("the evidence is in {}", path.display());
        for node in &run.nodes {
            eprintln!("--- a node's log ---\n{}", node.log());
        }
    }
    eprintln!("{}", if green { "green" } else { "RED" });
    Ok(green)
}
