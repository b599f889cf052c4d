//! Database time between heartbeats, and whether this node's lease still holds.
//!
//! Times that are recorded come from the database, so that nodes agree; what runs between two heartbeats is this machine's
//! monotonic clock. A lease is counted from before its heartbeat was asked for: never longer than the database counts it.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, Instant},
};

use skald_protocol::Timestamp;

#[derive(Debug)]
pub(super) struct Clock {
    origin: Instant,
    /// Database time at `origin`, in milliseconds.
    offset: AtomicI64,
    /// Milliseconds after `origin`.
    lease_end: AtomicI64,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self { origin: Instant::now(), offset: AtomicI64::new(0), lease_end: AtomicI64::new(i64::MIN) }
    }

    fn elapsed(&self, at: Instant) -> i64 {
        i64::try_from(at.saturating_duration_since(self.origin).as_millis()).unwrap_or(i64::MAX)
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp(self.elapsed(Instant::now()).saturating_add(self.offset.load(Ordering::Relaxed)))
    }

    /// A heartbeat that was asked for at `asked` has told the database's time.
    pub(super) fn beat(&self, asked: Instant, now: Timestamp, lease: Duration) {
        self.offset.store(now.0.saturating_sub(self.elapsed(Instant::now())), Ordering::Relaxed);
        self.lease_end.store(self.elapsed(asked + lease), Ordering::Release);
    }

    pub(super) fn lease_holds(&self) -> bool {
        self.elapsed(Instant::now()) < self.lease_end.load(Ordering::Acquire)
    }

    /// How long `now` is from `at`; zero if it has passed.
    pub(super) fn until(&self, at: Timestamp) -> Duration {
        self.now().until(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_the_databases_and_the_lease_counts_from_the_question() {
        let clock = Clock::new();
        assert!(!clock.lease_holds());
        let asked = Instant::now();
        clock.beat(asked, Timestamp(5_000_000), Duration::from_secs(60));
        assert!((5_000_000..5_005_000).contains(&clock.now().0));
        assert!(clock.lease_holds());
        clock.beat(asked, Timestamp(5_000_000), Duration::ZERO);
        assert!(!clock.lease_holds());
    }
}
