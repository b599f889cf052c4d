//! Whether a write sent now would be taken.
//!
//! The writer says when a commit goes out and what the database answered; whoever is about to take a write, or is asked
//! whether the node is ready, reads it. Nothing probes: a commit that the database does not take now is tried until it is
//! taken, so the journal becomes healthy by itself once the cause is gone.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// A commit takes milliseconds; a lost answer is found out within a few more. What is out for longer is no hiccup.
const STALLED: Duration = Duration::from_secs(1);

/// A commit has not come back for too long.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the database has taken no write for {} s: {reason}", .lasts.as_secs())]
pub struct Stalled {
    /// Since the first try of the commit that waits.
    pub lasts: Duration,
    /// What the database said last.
    pub reason: String,
}

#[derive(Debug)]
struct Commit {
    since: Instant,
    failure: Option<String>,
}

#[derive(Debug, Default)]
pub struct Health {
    out: Mutex<Option<Commit>>,
}

impl Health {
    pub(super) fn commit_started(&self) {
        *self.out() = Some(Commit { since: Instant::now(), failure: None });
    }

    pub(super) fn commit_failed(&self, reason: String) {
        if let Some(commit) = &mut *self.out() {
            commit.failure = Some(reason);
        }
    }

    /// The database took or refused it: it answers.
    pub(super) fn commit_ended(&self) {
        *self.out() = None;
    }

    pub fn check(&self) -> Result<(), Stalled> {
        match &*self.out() {
            Some(Commit { since, failure }) if since.elapsed() >= STALLED => Err(Stalled {
                lasts: since.elapsed(),
                reason: failure.clone().unwrap_or_else(|| "it does not answer".to_owned()),
            }),
            _ => Ok(()),
        }
    }

    fn out(&self) -> MutexGuard<'_, Option<Commit>> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
