//! Whether what the database acknowledges survives: its settings and its place, told with what to do.

use super::{
    Error, Kind, SqlStore,
    dialect::{Sql, sql},
    schema,
    session::{Pool, Query},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    Ok,
    /// What was acknowledged may be lost where one machine is.
    Warning,
    /// It may be lost where none is, or nothing can be written.
    Fault,
}

impl Weight {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Fault => "fault",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    pub check: &'static str,
    pub weight: Weight,
    pub found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<&'static str>,
}

impl Finding {
    fn new(check: &'static str, found: impl Into<String>, verdict: CheckResult) -> Self {
        let (weight, advice) = match verdict {
            CheckResult::Ok => (Weight::Ok, None),
            CheckResult::Warning(advice) => (Weight::Warning, Some(advice)),
            CheckResult::Fault(advice) => (Weight::Fault, Some(advice)),
        };
        Self { check, weight, found: found.into(), advice }
    }
}

#[derive(Clone, Copy)]
enum CheckResult {
    Ok,
    Warning(&'static str),
    Fault(&'static str),
}
use CheckResult::{Fault, Ok as Fine, Warning};

const SETTING: Sql = sql!("SELECT current_setting($1, true)");
const STANDBY: &str = "SELECT pg_is_in_recovery()";
/// Whoever may not see the others sees that they are there.
const STANDBYS: &str =
    "SELECT count(*), count(*) FILTER (WHERE sync_state IN ('sync', 'quorum')) FROM pg_stat_replication";

impl SqlStore {
    /// Changes nothing.
    pub async fn examine(&self) -> Result<Vec<Finding>, Error> {
        let mut findings = vec![self.examine_schema().await?];
        match self.kind() {
            Kind::Postgres => findings.extend(postgres(&self.0.writer).await?),
            Kind::Sqlite => findings.extend(self.sqlite().await?),
        }
        Ok(findings)
    }

    async fn examine_schema(&self) -> Result<Finding, Error> {
        match schema::check(&self.0.reader).await {
            Ok(()) => Ok(Finding::new("schema", "this build's", Fine)),
            Err(Error::Misconfigured(found)) => {
                Ok(Finding::new("schema", found, Fault("No node starts on it. Set it right first.")))
            }
            Err(error) => Err(error),
        }
    }

    async fn sqlite(&self) -> Result<Vec<Finding>, Error> {
        let mut findings = Vec::new();
        if let Some(anchor) = &self.0.anchor {
            findings.extend(anchor.place().map(|(name, local)| {
                let verdict = if local {
                    Fine
                } else {
                    Fault("SQLite needs a local disk: elsewhere locks and writes to disk are promises. Move the file.")
                };
                Finding::new("file system", name, verdict)
            }));
        } else {
            let advice = "All is gone when the process ends: use a file for what must not be lost.";
            findings.push(Finding::new("file system", "none: in memory", Warning(advice)));
        }
        let mut session = self.0.reader.session().await?;
        let query = Query::assembled(Kind::Sqlite, "PRAGMA quick_check(1)".to_owned());
        let row = query.fetch_optional(&mut session).await?;
        session.commit().await?;
        let found = row.map(|row| row.get::<String>(0)).transpose()?.unwrap_or_default();
        let verdict = if found == "ok" {
            Fine
        } else {
            Fault("Restore a backup, or see \"A damaged database file\" in docs/operations.md.")
        };
        findings.push(Finding::new("pages", found, verdict));
        Ok(findings)
    }
}

async fn postgres(pool: &Pool) -> Result<Vec<Finding>, Error> {
    let mut session = pool.session().await?;
    let standby: bool = match Query::assembled(Kind::Postgres, STANDBY.to_owned()).fetch_optional(&mut session).await? {
        Some(row) => row.get(0)?,
        None => false,
    };
    let (connected, synchronous) =
        match Query::assembled(Kind::Postgres, STANDBYS.to_owned()).fetch_optional(&mut session).await? {
            Some(row) => (row.get::<i64>(0)?, row.get::<i64>(1)?),
            None => (0, 0),
        };
    let mut settings = Vec::new();
    for name in ["fsync", "full_page_writes", "synchronous_commit", "synchronous_standby_names"] {
        let row = session.query(SETTING).bind(name.to_owned()).fetch_optional(&mut session).await?;
        settings.push(row.map(|row| row.get::<Option<String>>(0)).transpose()?.flatten().unwrap_or_default());
    }
    session.commit().await?;
    let [fsync, pages, commit, names] = settings.as_slice() else { return Ok(Vec::new()) };
    Ok(vec![
        Finding::new(
            "server",
            if standby { "a standby" } else { "a primary" },
            if standby { Fault("It takes no writes: connect to the primary.") } else { Fine },
        ),
        on("fsync", fsync, "A crash of the machine loses or breaks what was acknowledged: set `fsync = on`."),
        on("full_page_writes", pages, "A crash of the machine may break pages: set `full_page_writes = on`."),
        commits(commit, names),
        standbys(commit, names, connected, synchronous),
    ])
}

fn on(check: &'static str, found: &str, advice: &'static str) -> Finding {
    Finding::new(check, found, if found == "on" { Fine } else { Fault(advice) })
}

fn commits(found: &str, names: &str) -> Finding {
    let verdict = match found {
        "off" => Fault("A crash of the server loses what was acknowledged last: set `synchronous_commit = on`."),
        "local" | "remote_write" if !names.is_empty() => {
            Warning("The standby may not have on its disk what was acknowledged: set `synchronous_commit = on`.")
        }
        _ => Fine,
    };
    Finding::new("synchronous_commit", found, verdict)
}

fn standbys(commit: &str, names: &str, connected: i64, synchronous: i64) -> Finding {
    let waits = !names.is_empty() && !matches!(commit, "off" | "local");
    let found = format!("{connected} connected, {synchronous} synchronous; synchronous_standby_names = '{names}'");
    let verdict = match (waits, connected, synchronous) {
        (false, 0, _) => Fine,
        (false, ..) => Warning(
            "A fail-over to one of them loses what was acknowledged last. Set `synchronous_standby_names`, as \
             `ANY 1 (a, b)` of two: see \"A database that went back in time\" in docs/operations.md.",
        ),
        (true, _, 0) => Warning(
            "No synchronous standby is seen: commits wait until there is one (or this user may not see it: grant pg_monitor).",
        ),
        (true, ..) => Fine,
    };
    Finding::new("standbys", found, verdict)
}
