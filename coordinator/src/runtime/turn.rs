//! What one turn of a task may take.
//!
//! Many transactions share a thread. Each decides within a budget, and all of a turn within another: what is left over waits
//! for the next turn, behind what came in meanwhile. A transaction that needs more than its own budget has its turns by
//! itself, one after another with those like it, off the threads that serve others, and never for more than a part of the
//! time.

use std::time::{Duration, Instant};

use skald_engine::{Budget, cel};
use tokio::runtime::{Handle, RuntimeFlavor};

/// Steps of evaluation that a decision may take among others; a millisecond is some 40,000.
const DECISION: u64 = 50_000;
/// Of a whole turn.
const TURN: u64 = 2 * DECISION;
/// Of a turn by itself: as much as the language lets one request take.
const ALONE: u64 = cel::COST;
/// After a turn by itself others get so many times what it took.
const REST: u32 = 3;

/// What is left of the turn under way.
#[derive(Debug)]
pub(super) struct Turn {
    left: Budget,
    /// Of one decision.
    most: u64,
}

impl Turn {
    pub(super) const fn shared() -> Self {
        Self { left: Budget::of(TURN), most: DECISION }
    }

    pub(super) const fn alone() -> Self {
        Self { left: Budget::of(ALONE), most: ALONE }
    }

    pub(super) const fn is_over(&self) -> bool {
        self.left.left() == 0
    }

    /// For one decision.
    pub(super) fn lend(&self) -> Budget {
        Budget::of(self.left.left().min(self.most))
    }

    /// What came of a budget that was lent. Whether the transaction that took it wants more than any may among others.
    pub(super) fn take_back(&mut self, lent: &Budget, left: &Budget) -> bool {
        self.left.spend(lent.left().saturating_sub(left.left()));
        lent.left() >= DECISION && left.left() == 0
    }
}

/// Does what may take milliseconds, while another thread takes over what this one served.
pub(super) fn aside<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        Ok(_) | Err(_) => work(),
    }
}

/// When the next may have a turn by itself, after one that began then.
pub(super) fn rest_after(began: Instant) -> Instant {
    let now = Instant::now();
    now + (now - began) * REST
}

/// What this thread has had of a processor: time that it waited for one, or stood still with its machine, is nobody's fault.
pub(super) fn worked() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
