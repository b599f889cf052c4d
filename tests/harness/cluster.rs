//! The real `skald serve`, as its own process: started, killed, paused and started again at the same address.
//!
//! Only processes that were started here are ever signalled. A node that is dropped is killed.

use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use crate::{client::Client, eventually};

/// How long a node may take until it is ready.
const START: Duration = Duration::from_secs(30);

/// The `skald` binary: `SKALD_BIN`, else the one built beside this executable.
///
/// # Panics
/// Where there is none.
#[must_use]
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("SKALD_BIN") {
        return path.into();
    }
    let own = std::env::current_exe().expect("the path of this executable");
    let found = own.ancestors().skip(1).take(2).map(|folder| folder.join("skald")).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("no `skald` beside {}: run `cargo build -p skald` first", own.display()))
}

/// A free port below the range that outgoing connections take theirs from, so that a node that was killed finds its own
/// free again.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = 12_000 + u16::try_from(std::process::id() % 150).unwrap_or(0) * 100;
    for _ in 0..1_000 {
        let port = start + NEXT.fetch_add(1, Ordering::Relaxed) % 5_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free loopback port from {start} on")
}

pub struct Node {
    address: SocketAddr,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    launcher: Vec<String>,
    child: Option<Child>,
    folder: TempDir,
}

impl Node {
    /// A node of this database that is not running yet.
    ///
    /// # Panics
    /// Where there is no temporary folder.
    #[must_use]
    pub fn new(database_url: &str) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let arguments = ["serve", "--listen", &address.to_string(), "--database", database_url].map(str::to_owned);
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self {
            address,
            arguments: arguments.to_vec(),
            environment: Vec::new(),
            launcher: Vec::new(),
            child: None,
            folder,
        }
    }

    #[must_use]
    pub fn with_environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A program that becomes the node: it is given the node's command line as its last arguments.
    #[must_use]
    pub fn with_launcher(mut self, words: &[&str]) -> Self {
        self.launcher = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Starts the process without waiting for it.
    ///
    /// # Panics
    /// If it runs already, or cannot be started.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "the node runs already");
        let log = File::options().create(true).append(true).open(self.log_path()).expect("a log file");
        let mut command = match self.launcher.split_first() {
            None => Command::new(binary()),
            Some((program, words)) => {
                let mut command = Command::new(program);
                command.args(words).arg(binary());
                command
            }
        };
        // What configures the tests is not for the coordinator.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SKALD_")) {
            command.env_remove(name);
        }
        let child = command
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.child = Some(child.expect("`skald` starts"));
    }

    /// Starts the process and waits until it is ready; how long that took.
    ///
    /// # Panics
    /// If it does not become ready: with its log.
    pub async fn start(&mut self) -> Duration {
        let start = Instant::now();
        self.spawn();
        self.ready().await;
        start.elapsed()
    }

    /// Waits for `/readyz`.
    ///
    /// # Panics
    /// If it does not come: with the node's log.
    pub async fn ready(&mut self) {
        let start = Instant::now();
        let client = self.client();
        loop {
            if client.try_get("/readyz").await.is_ok_and(|answer| answer.status == 200) {
                return;
            }
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            let over = ended.is_some() || start.elapsed() > START;
            assert!(!over, "the node is not ready ({ended:?}); its log:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.url())
    }

    #[must_use]
    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself: nothing is left to kill then.
            let _ended_before = child.kill();
            let _reaped = child.wait();
        }
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Panics
    /// If it does not end in time: with its log.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.ended().await
    }

    /// Waits until the process ends by itself.
    ///
    /// # Panics
    /// If it does not end in time: with its log.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the node runs");
        let start = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("the child can be waited for") {
                return status;
            }
            if start.elapsed() > START {
                let _killed = child.kill();
                panic!("the node did not end; its log:\n{}", self.log());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// SIGSTOP.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = self.pid().expect("the node runs");
        kill(Pid::from_raw(i32::try_from(pid).expect("a pid")), signal).expect("a signal to an own child");
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// What the node wrote to stderr, over all its lives; the end of it, if it is long.
    #[must_use]
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// Where the node keeps what it writes beside its database.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- log of the node at {} ---\n{}", self.address, self.log());
        }
    }
}

/// What a run of `skald` came to.
#[derive(Debug)]
pub struct Ran {
    /// -1: it was killed.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// `skald` with these arguments, none of the tests' own configuration, and nothing to read; killed when it is dropped.
#[must_use]
pub fn command(arguments: &[&str]) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(binary());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SKALD_")) {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs `skald` to its end.
///
/// # Panics
/// If it cannot be started, does not end within a minute, or writes what is no text.
pub async fn run_with(arguments: &[&str], environment: &[(&str, &str)]) -> Ran {
    let output = command(arguments).envs(environment.iter().copied()).output();
    let output = tokio::time::timeout(Duration::from_secs(60), output).await.expect("it ends").expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Ran { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Runs `skald` with these arguments to its end; the status and what it wrote to stderr.
///
/// # Panics
/// If it cannot be started.
pub async fn skald(arguments: &[&str]) -> (ExitStatus, String) {
    let mut command = tokio::process::Command::new(binary());
    let output = command.args(arguments).env_remove("SKALD_BIN").stdin(Stdio::null()).output().await;
    let output = output.expect("`skald` starts");
    (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Waits until nothing listens at the address any more, or something does.
pub async fn listens(address: SocketAddr, expected: bool) {
    eventually(&format!("listening at {address}: {expected}"), START, || async {
        let open = tokio::net::TcpStream::connect(address).await.is_ok();
        (open == expected).then_some(())
    })
    .await;
}
