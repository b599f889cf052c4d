//! A MariaDB of our own, as `database` has a Postgres: an ephemeral server on a loopback port.
//!
//! It ends, and its folder goes, when the process that started it ends in whatever way.

use std::{
    net::{Ipv4Addr, SocketAddr},
    os::unix::{fs::chown, process::CommandExt},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, bail};
use nix::unistd::Uid;
use sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection};
use tokio::sync::OnceCell;

use crate::{cluster, database};

const KEEPER: &str = r#""$@" & pid=$!; read -r _; kill -KILL $pid; wait $pid; rm -rf "$FOLDER""#;

pub struct MariaDb {
    base: String,
    keeper: Child,
}

/// The one server of this process.
///
/// # Panics
/// Where no MariaDB is found, or it does not start.
pub async fn shared() -> &'static MariaDb {
    static SHARED: OnceCell<MariaDb> = OnceCell::const_new();
    SHARED.get_or_init(|| async { MariaDb::start().await.expect("a MariaDB to test on") }).await
}

impl MariaDb {
    pub async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("skald-mariadb-").tempdir()?.keep();
        let user = if Uid::effective().is_root() { Some(database::unprivileged()?) } else { None };
        if let Some(user) = &user {
            chown(&folder, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        }
        let as_user = |mut command: Command| {
            if let Some(user) = &user {
                command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
            }
            command.current_dir(&folder).env("FOLDER", &folder);
            command
        };
        let data = folder.join("data");
        let mut install = Command::new(program("mariadb-install-db")?);
        install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
        let made = as_user(install).arg(format!("--datadir={}", data.display())).output()?;
        if !made.status.success() {
            bail!("mariadb-install-db failed: {}", String::from_utf8_lossy(&made.stdout));
        }
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, cluster::free_port()));
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "keeper"]).arg(program("mariadbd")?).arg("--no-defaults");
        keeper.arg(format!("--datadir={}", data.display())).arg(format!("--port={}", address.port()));
        keeper.arg(format!("--socket={}", folder.join("socket").display()));
        keeper.args(["--bind-address=127.0.0.1", "--max-connections=300", "--skip-log-bin"]);
        let log = std::fs::File::create(folder.join("log"))?;
        let keeper =
            as_user(keeper).process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).spawn()?;
        let own = Self { base: format!("mysql://root@{address}"), keeper };
        cluster::listens(address, true).await;
        Ok(own)
    }

    /// The URL of a new, empty database.
    pub async fn empty(&self) -> anyhow::Result<String> {
        let name = format!("skald_{}", uuid::Uuid::now_v7().simple());
        let mut connection = MySqlConnection::connect(&format!("{}/mysql", self.base)).await?;
        connection.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await?;
        connection.close().await?;
        Ok(format!("{}/{name}", self.base))
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        // The keeper's own end says nothing that could be acted on here.
        let _ended = self.keeper.wait();
    }
}

fn program(name: &str) -> anyhow::Result<PathBuf> {
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&on_path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/bin")])
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("no `{name}`: `tests/run` installs it, or says how"))
}
