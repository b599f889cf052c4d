//! A write that nobody waits for any more is not made, as long as that can still be helped.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

/// Of one write. Whoever comes first decides what becomes of it: its caller, who gives up, or the writer, who hands it to
/// the database.
#[derive(Debug, Clone, Default)]
pub struct Claim(Arc<AtomicU8>);

const QUEUED: u8 = 0;
const HANDED_OVER: u8 = 1;
const WITHDRAWN: u8 = 2;

impl Claim {
    /// `false`: it was handed to the database, and may land.
    #[must_use]
    pub fn withdraw(&self) -> bool {
        self.becomes(WITHDRAWN)
    }

    #[must_use]
    pub fn is_withdrawn(&self) -> bool {
        self.0.load(Ordering::Acquire) == WITHDRAWN
    }

    /// `false`: it was withdrawn, and must not be made.
    pub(super) fn hand_over(&self) -> bool {
        self.becomes(HANDED_OVER)
    }

    fn becomes(&self, state: u8) -> bool {
        match self.0.compare_exchange(QUEUED, state, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(other) => other == state,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_one_decides() {
        let claim = Claim::default();
        assert!(claim.withdraw() && claim.withdraw() && claim.is_withdrawn());
        assert!(!claim.hand_over());
        let claim = Claim::default();
        assert!(claim.hand_over() && claim.hand_over(), "again after a conflict");
        assert!(!claim.withdraw() && !claim.is_withdrawn());
    }
}
