//! The session that writes the batches, kept from one to the next.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    super::Error,
    session::{Pool, Session},
};

/// A connection that lay idle this long is tried before it is used: the database may have been restarted.
pub(super) const STALE: Duration = Duration::from_secs(1);
/// Batches that go the checked way after one that met a conflict: whoever sends a begin twice may do so again.
const CHECKED: usize = 64;

/// What one batch leaves to the next.
#[derive(Debug, Default)]
pub(super) struct KeptSession {
    /// How many batches still go the checked way.
    checked: AtomicUsize,
    /// The server's process that wrote one batch has all at hand for the next; a pool would let each of its own have a turn.
    session: Mutex<Option<(Instant, Session)>>,
}

impl KeptSession {
    /// Whether the next batch may take it that nothing conflicts; counts the batches since one met a conflict.
    pub(super) fn is_optimistic(&self) -> bool {
        let left = self.checked.load(Ordering::Relaxed);
        self.checked.store(left.saturating_sub(1), Ordering::Relaxed);
        left == 0
    }

    pub(super) fn met_a_conflict(&self) {
        self.checked.store(CHECKED, Ordering::Relaxed);
    }

    pub(super) async fn session(&self, pool: &Pool) -> Result<Session, Error> {
        if let Some((since, mut session)) = self.take()
            && (since.elapsed() < STALE || session.answers().await)
        {
            return Ok(session);
        }
        pool.session().await
    }

    pub(super) fn keep(&self, pool: &Pool, session: Session) {
        let mut kept = self.lock();
        if !pool.is_closed() {
            *kept = Some((Instant::now(), session));
        }
    }

    fn take(&self) -> Option<(Instant, Session)> {
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Instant, Session)>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives back what it keeps: a pool that closes waits for it.
    pub(super) fn clear(&self) {
        drop(self.take());
    }
}
