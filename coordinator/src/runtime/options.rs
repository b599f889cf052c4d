//! Every figure of a node, with its default and what it must satisfy.

use std::{path::PathBuf, time::Duration};

use skald_protocol::Json;
use tokio::runtime::Handle;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Under which this node is known to the others; a node that starts takes what an earlier life at the same address
    /// held without waiting for its lease.
    pub address: String,
    /// What expressions read as `config`, copied into each transaction whose plan does.
    pub config: Option<Json>,
    /// How long a node that is not heard of keeps its shards.
    pub lease: Duration,
    /// Tasks that own transactions; as many as there are threads to run them.
    pub tasks: usize,
    /// Unsettled transactions in memory; beyond it begins are refused and due ones wait.
    pub max_in_memory: usize,
    /// Calls in flight or waiting at their destination; beyond it owed calls wait.
    pub max_calls: usize,
    /// Requests that may wait for one task before more are refused.
    pub inbox: usize,
    /// What sleeps longer than this leaves memory.
    pub park_beyond: Duration,
    /// How long a transaction that could leave memory stays, in case somebody asks.
    pub linger: Duration,
    /// How long a settled transaction still answers from memory.
    pub settled_grace: Duration,
    pub sweep_every: Duration,
    /// Transactions loaded with one query.
    pub page: usize,
    /// Pages that one task loads at the same time.
    pub pages_in_flight: usize,
    /// Journal and payloads of a settled transaction are kept this long, ...
    pub keep_journals: Duration,
    /// ... and its gid, digest and final status this long.
    pub keep_tombstones: Duration,
    pub prune_every: Duration,
    /// What one turn of a transaction may take of a processor. Whose turns take longer again and again is set aside.
    pub longest_turn: Duration,
    /// How long a request waits for its commit; what was not handed to the database by then is withdrawn.
    pub commit_timeout: Duration,
    /// A folder for what an operator has to look at.
    pub reports: PathBuf,
}

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A shorter one could not be renewed in time.
pub const LEAST_LEASE: Duration = Duration::from_millis(500);
/// A shorter one would give up commits that are made.
pub const LEAST_COMMIT_TIMEOUT: Duration = Duration::from_millis(100);

impl Default for Options {
    fn default() -> Self {
        Self {
            address: "127.0.0.1:7410".to_owned(),
            config: None,
            lease: Duration::from_secs(2),
            tasks: Handle::try_current().map_or(1, |runtime| runtime.metrics().num_workers()).min(64),
            max_in_memory: 200_000,
            max_calls: 200_000,
            inbox: 8192,
            park_beyond: Duration::from_secs(60),
            linger: Duration::from_secs(5),
            settled_grace: Duration::from_secs(2),
            sweep_every: Duration::from_secs(1),
            page: 500,
            pages_in_flight: 4,
            keep_journals: 30 * DAY,
            keep_tombstones: 90 * DAY,
            prune_every: Duration::from_secs(60),
            longest_turn: Duration::from_secs(2),
            commit_timeout: Duration::from_secs(10),
            reports: PathBuf::from("."),
        }
    }
}

impl Options {
    /// How early a sweep takes what is about to be due, so that it is driven on time.
    pub(super) fn lookahead(&self) -> Duration {
        2 * self.sweep_every
    }

    /// All that is wrong, at once.
    pub fn validate(&self) -> Result<(), String> {
        let rules = [
            (!self.address.is_empty(), "address: must not be empty"),
            ((LEAST_LEASE..=Duration::from_secs(60)).contains(&self.lease), "lease: must be between 500ms and 60s"),
            ((1..=1024).contains(&self.tasks), "tasks: must be between 1 and 1024"),
            (self.max_in_memory >= self.tasks, "max_in_memory: must be at least one per task"),
            (self.max_calls >= self.tasks, "max_calls: must be at least one per task"),
            (self.inbox >= 1, "inbox: must be at least 1"),
            (self.park_beyond >= 4 * self.sweep_every, "park_beyond: must be at least four times sweep_every"),
            (self.sweep_every >= Duration::from_millis(10), "sweep_every: must be at least 10ms"),
            ((1..=10_000).contains(&self.page), "page: must be between 1 and 10000"),
            ((1..=64).contains(&self.pages_in_flight), "pages_in_flight: must be between 1 and 64"),
            (self.keep_journals <= self.keep_tombstones, "keep_tombstones: must not be shorter than keep_journals"),
            (self.commit_timeout >= LEAST_COMMIT_TIMEOUT, "commit_timeout: must be at least 100ms"),
            (self.prune_every >= Duration::from_millis(100), "prune_every: must be at least 100ms"),
        ];
        let faults: Vec<_> = rules.into_iter().filter(|(kept, _)| !kept).map(|(_, fault)| fault).collect();
        if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_all_faults_are_told_at_once() {
        Options::default().validate().unwrap();
        let wrong = Options { tasks: 0, keep_tombstones: DAY, ..Options::default() };
        let faults = wrong.validate().unwrap_err();
        assert!(faults.contains("tasks") && faults.contains("keep_tombstones"), "{faults}");
    }
}
