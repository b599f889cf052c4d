//! A Postgres of our own: an ephemeral cluster with durable defaults, a fresh database for whoever asks.
//!
//! `TEST_DATABASE_URL` names a server to use instead (its user may create databases). The cluster ends, and its folder
//! goes, when the process that started it ends in whatever way: a shell between the two waits for the pipe to close.

use std::{
    ffi::OsString,
    io::Write as _,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use nix::unistd::{Uid, User};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::sync::OnceCell;

use crate::{FakeTime, cluster};

/// Ends the cluster as a crash would, so that nothing waits for it; then removes its folder, unless it is told to keep it.
const KEEPER: &str =
    r#""$@" & pid=$!; read -r word; kill -QUIT $pid; wait $pid; [ "$word" = keep ] || rm -rf "$FOLDER""#;

pub struct Postgres {
    /// The URL of its `postgres` database, without that name.
    base: String,
    /// Its standard input is what keeps the cluster alive.
    keeper: Option<Child>,
    /// The server's own command line.
    command: Vec<OsString>,
    folder: PathBuf,
    migrated: OnceCell<()>,
}

/// The one cluster of this process.
///
/// # Panics
/// Where no Postgres is found, or it does not start: a test of Postgres is never skipped in silence.
pub async fn shared() -> &'static Postgres {
    static SHARED: OnceCell<Postgres> = OnceCell::const_new();
    SHARED.get_or_init(|| async { Postgres::start().await.expect("a Postgres to test on") }).await
}

impl Postgres {
    /// `TEST_DATABASE_URL`, else a cluster of our own.
    pub async fn start() -> anyhow::Result<Self> {
        match std::env::var("TEST_DATABASE_URL") {
            Ok(url) => {
                let base = url.rsplit_once('/').map_or(url.as_str(), |(base, _)| base).to_owned();
                let (command, folder) = (Vec::new(), PathBuf::new());
                Ok(Self { base, keeper: None, command, folder, migrated: OnceCell::new() })
            }
            Err(_) => Self::own(&[]).await,
        }
    }

    /// A cluster of our own. `settings`: `name=value`, over durable defaults.
    pub async fn own(settings: &[&str]) -> anyhow::Result<Self> {
        Self::with(settings, &[]).await
    }

    /// A cluster of our own whose clock a test sets.
    pub async fn on_clock(time: &FakeTime) -> anyhow::Result<Self> {
        Self::with(&[], &time.environment()).await
    }

    async fn with(settings: &[&str], environment: &[(String, String)]) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("skald-postgres-").tempdir()?.keep();
        if Uid::effective().is_root() {
            let user = unprivileged()?;
            chown(&folder, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        }
        let mut initdb = Command::new(program("initdb")?);
        initdb.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D"]);
        let made = as_user(initdb, &folder)?.arg(folder.join("cluster")).output()?;
        if !made.status.success() {
            bail!("initdb failed: {}", String::from_utf8_lossy(&made.stderr));
        }
        let port = cluster::free_port().to_string();
        let sockets = format!("unix_socket_directories={}", folder.display());
        let mut command: Vec<OsString> = vec!["env".into()];
        command.extend(environment.iter().map(|(name, value)| format!("{name}={value}").into()));
        command.extend([program("postgres")?.into(), "-D".into(), folder.join("cluster").into()]);
        command.extend(["-p", &port].map(OsString::from));
        for setting in ["listen_addresses=127.0.0.1", "max_connections=300", &sockets].iter().chain(settings) {
            command.extend(["-c", setting].map(OsString::from));
        }
        let base = format!("postgres://postgres@127.0.0.1:{port}");
        let mut own = Self { base, keeper: None, command, folder, migrated: OnceCell::new() };
        own.start_again().await?;
        Ok(own)
    }

    /// After `crash`.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "keeper"]).args(&self.command);
        let log = std::fs::File::options().create(true).append(true).open(self.folder.join("log"))?;
        let mut keeper = as_user(keeper, &self.folder)?;
        // The terminal's Ctrl-C is for us; the cluster ends through the pipe.
        let keeper = keeper.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).spawn()?;
        self.keeper = Some(keeper);
        self.answers().await
    }

    /// The server ends as in a crash; what it has on its disk stays.
    pub fn crash(&mut self) -> anyhow::Result<()> {
        let mut keeper = self.keeper.take().context("the cluster is our own, and runs")?;
        keeper.stdin.take().context("a pipe")?.write_all(b"keep\n")?;
        keeper.wait()?;
        Ok(())
    }

    /// Between `crash` and `start_again`: keeps what is on the disk now.
    pub fn remember(&self) -> anyhow::Result<()> {
        self.copy("cluster", "remembered")
    }

    /// Between `crash` and `start_again`: to what was remembered.
    pub fn go_back(&self) -> anyhow::Result<()> {
        std::fs::remove_dir_all(self.folder.join("cluster"))?;
        self.copy("remembered", "cluster")
    }

    fn copy(&self, from: &str, to: &str) -> anyhow::Result<()> {
        let copied = Command::new("cp").arg("-a").arg(self.folder.join(from)).arg(self.folder.join(to)).status()?;
        if copied.success() { Ok(()) } else { bail!("{from} cannot be copied to {to}") }
    }

    async fn answers(&self) -> anyhow::Result<()> {
        let start = Instant::now();
        while let Err(error) = PgConnection::connect(&self.url("postgres")).await {
            if start.elapsed() > Duration::from_secs(30) {
                let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                bail!("Postgres does not answer: {error}; its log:\n{log}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("{}/{database}", self.base)
    }

    /// The postmaster, where the cluster is our own.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        let text = std::fs::read_to_string(self.folder.join("cluster/postmaster.pid")).ok()?;
        text.lines().next()?.trim().parse().ok()
    }

    /// The URL of a new, empty database.
    pub async fn empty(&self) -> anyhow::Result<String> {
        self.create("template1").await
    }

    /// The URL of a new database with the schema of this build, which is migrated once and then copied.
    pub async fn migrated(&self) -> anyhow::Result<String> {
        let template = format!("skald_template_{}", std::process::id());
        self.migrated
            .get_or_try_init(|| async {
                self.execute(&format!("CREATE DATABASE {template}")).await?;
                let (status, talk) = cluster::skald(&["migrate", "--database", &self.url(&template)]).await;
                if !status.success() {
                    bail!("`skald migrate` failed: {talk}");
                }
                Ok(())
            })
            .await?;
        self.create(&template).await
    }

    async fn create(&self, template: &str) -> anyhow::Result<String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("skald_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        self.execute(&format!("CREATE DATABASE {name} TEMPLATE {template}")).await?;
        Ok(self.url(&name))
    }

    async fn execute(&self, statement: &str) -> anyhow::Result<()> {
        let mut connection = PgConnection::connect(&self.url("postgres")).await?;
        connection.execute(AssertSqlSafe(statement.to_owned())).await.context(statement.to_owned())?;
        connection.close().await?;
        Ok(())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.stdin.take());
            // The keeper's own end says nothing that could be acted on here.
            let _ended = keeper.wait();
        } else if !self.command.is_empty() {
            let _removed = std::fs::remove_dir_all(&self.folder);
        }
    }
}

fn as_user(mut command: Command, folder: &Path) -> anyhow::Result<Command> {
    if Uid::effective().is_root() {
        let user = unprivileged()?;
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command.current_dir(folder).env("FOLDER", folder);
    Ok(command)
}

/// Postgres and PgBouncer refuse to run as root.
pub(crate) fn unprivileged() -> anyhow::Result<User> {
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(user);
        }
    }
    bail!("neither the user `postgres` nor `nobody` exists, and Postgres refuses to run as root")
}

/// On PATH, else where Debian puts it, the newest first.
pub(crate) fn program(name: &str) -> anyhow::Result<PathBuf> {
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(found) = std::env::split_paths(&on_path).map(|folder| folder.join(name)).find(|path| path.is_file()) {
        return Ok(found);
    }
    let mut debian: Vec<_> = std::fs::read_dir(Path::new("/usr/lib/postgresql"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin").join(name))
        .filter(|path| path.is_file())
        .collect();
    debian.sort();
    let found = debian.pop().or_else(|| Some(Path::new("/usr/sbin").join(name)).filter(|path| path.is_file()));
    found.with_context(|| {
        format!("no `{name}`: `tests/run` installs it, or says how; TEST_DATABASE_URL names a Postgres to use instead")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_cluster_is_durable_and_gone_once_it_is_dropped() {
        let postgres = Postgres::own(&[]).await.unwrap();
        let url = postgres.empty().await.unwrap();
        let mut connection = PgConnection::connect(&url).await.unwrap();
        let fsync: String = sqlx::query_scalar("SHOW fsync").fetch_one(&mut connection).await.unwrap();
        let commit: String = sqlx::query_scalar("SHOW synchronous_commit").fetch_one(&mut connection).await.unwrap();
        assert_eq!((fsync.as_str(), commit.as_str()), ("on", "on"));
        assert!(postgres.pid().is_some());
        let folder = postgres.folder.clone();
        drop(postgres);
        assert!(!folder.exists());
        assert!(PgConnection::connect(&url).await.is_err());
    }
}
