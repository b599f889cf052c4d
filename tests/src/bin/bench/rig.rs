//! The processes of one run.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, bail};
use serde_json::Value;
use skald_tests::{Backend, Node, database::Postgres};
use tempfile::TempDir;

use crate::{
    load::{self, Order},
    measure,
};

pub(crate) struct Rig {
    pub(crate) node: Node,
    pub(crate) participants: Participants,
    pub(crate) postgres: Option<Postgres>,
    pub(crate) database: String,
    _folder: Option<TempDir>,
}

/// The participants' process; killed when dropped.
pub(crate) struct Participants {
    child: Child,
    pub(crate) url: String,
}

impl Rig {
    pub(crate) async fn start(backend: Backend) -> anyhow::Result<Self> {
        coordinator()?;
        let (postgres, database, folder) = match backend {
            Backend::Postgres => {
                eprintln!("starting Postgres with durable defaults");
                let postgres = Postgres::own(&[]).await?;
                let url = postgres.migrated().await?;
                measure::run_in(&url).await?;
                (Some(postgres), url, None)
            }
            Backend::Sqlite => {
                let folder = tempfile::tempdir()?;
                let url = format!("sqlite://{}", folder.path().join("skald.db").display());
                (None, url, Some(folder))
            }
        };
        let participants = Participants::start()?;
        let mut node = Node::new(&database);
        node.start().await;
        Ok(Self { node, participants, postgres, database, _folder: folder })
    }

    pub(crate) fn coordinator_pid(&self) -> u32 {
        self.node.pid().unwrap_or(0)
    }

    pub(crate) fn postgres_cpu_us(&self) -> f64 {
        let pid = self.postgres.as_ref().and_then(Postgres::pid);
        pid.map_or(0.0, |pid| measure::family_cpu(pid).as_secs_f64() * 1e6)
    }

    /// Runs the load to its end, as its own process.
    pub(crate) async fn load(&self, order: &Order) -> anyhow::Result<Value> {
        let mut command = tokio::process::Command::new(std::env::current_exe()?);
        command.args(["load", "--workload", order.workload.name(), "--participants", &order.participants]);
        command.args(["--clients", &order.clients.to_string(), "--seconds", &order.seconds.to_string()]);
        if let Some(coordinator) = &order.coordinator {
            command.args(["--coordinator", coordinator]);
        }
        let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().await?;
        if !output.status.success() {
            bail!("the load failed ({}); the coordinator's log:\n{}", output.status, self.node.log());
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

impl Participants {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.arg("participants").stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("its output")?).read_line(&mut line)?;
        Ok(Self { child, url: format!("http://{}", line.trim()) })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `open`, `mark` or `count`: what they counted.
    pub(crate) async fn control(&self, word: &str) -> anyhow::Result<Value> {
        let url = format!("{}/control/{word}", self.url);
        let (_, body) = load::post(&load::http(), &url, bytes::Bytes::new(), None).await?;
        Ok(serde_json::from_slice(&body)?)
    }
}

impl Drop for Participants {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended_before = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// The release build of `skald` beside this binary, built if it is not there.
fn coordinator() -> anyhow::Result<()> {
    let beside: PathBuf = std::env::current_exe()?.with_file_name("skald");
    if cfg!(debug_assertions) {
        eprintln!("a debug build: these figures mean nothing");
    }
    if beside.is_file() || std::env::var_os("SKALD_BIN").is_some() {
        return Ok(());
    }
    eprintln!("building the coordinator");
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--bin", "skald"]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    if !cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status()?.success() {
        bail!("`skald` could not be built");
    }
    Ok(())
}
