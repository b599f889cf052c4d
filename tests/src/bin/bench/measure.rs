//! Where CPU, memory and bytes went, as the kernel and Postgres count them.

use std::{collections::BTreeMap, fs, time::Duration};

use nix::unistd::{SysconfVar, sysconf};
use sqlx::{Connection, PgConnection, Row};

/// CPU time of a process and of its children that have ended.
#[must_use]
pub(crate) fn cpu(pid: u32) -> Duration {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return Duration::ZERO };
    // The name may hold spaces and parentheses: what counts starts after the last one.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = rest.split_whitespace().skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum();
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|ticks| u64::try_from(ticks).ok());
    Duration::from_micros(ticks * 1_000_000 / per_second.unwrap_or(100))
}

/// CPU time of a process and all its live children (Postgres is a family).
#[must_use]
pub(crate) fn family_cpu(pid: u32) -> Duration {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let own = cpu(pid);
    own + children.split_whitespace().filter_map(|child| child.parse().ok()).map(cpu).sum::<Duration>()
}

/// Resident memory in bytes.
#[must_use]
pub(crate) fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Bytes that the process sent to the disk.
#[must_use]
pub(crate) fn written(pid: u32) -> u64 {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Commits, rows written and WAL bytes of a Postgres database so far. Backends report once a second at the latest.
pub(crate) async fn postgres(url: &str) -> anyhow::Result<BTreeMap<&'static str, f64>> {
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let mut connection = PgConnection::connect(url).await?;
    let row = sqlx::query(
        "SELECT xact_commit::float8, (tup_inserted + tup_updated + tup_deleted)::float8, \
         pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8 \
         FROM pg_stat_database WHERE datname = current_database()",
    )
    .fetch_one(&mut connection)
    .await?;
    Ok(BTreeMap::from([("commits", row.try_get(0)?), ("rows", row.try_get(1)?), ("wal_bytes", row.try_get(2)?)]))
}

/// Brings a new Postgres to where one is that has been running for a while: it writes over log files that it has, instead
/// of filling each new one with zeroes first.
pub(crate) async fn run_in(url: &str) -> anyhow::Result<()> {
    const LOG_FILES: usize = 48;
    let mut connection = PgConnection::connect(url).await?;
    for _ in 0..LOG_FILES {
        sqlx::query("SELECT pg_logical_emit_message(false, 'skald', ''), pg_switch_wal()")
            .execute(&mut connection)
            .await?;
    }
    sqlx::query("CHECKPOINT").execute(&mut connection).await?;
    Ok(())
}

/// Median, least and most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |place: usize| values.get(place).copied().unwrap_or(f64::NAN);
        Self { median: at(values.len() / 2), least: at(0), most: at(values.len().saturating_sub(1)) }
    }

    pub(crate) fn json(self) -> serde_json::Value {
        serde_json::json!({"median": self.median, "min": self.least, "max": self.most})
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = if self.median >= 100.0 { 0 } else { 2 };
        write!(f, "{:.digits$} [{:.digits$} {:.digits$}]", self.median, self.least, self.most)
    }
}
