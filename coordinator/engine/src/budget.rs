//! How much may be computed at one go, by whoever lends its thread for it.

/// What is left of it, in steps of evaluation (`cel::COST`). Nothing is started without any left; what is under way and
/// would need more is given up and done another time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    left: u64,
}

impl Budget {
    #[must_use]
    pub const fn of(steps: u64) -> Self {
        Self { left: steps }
    }

    #[must_use]
    pub const fn unlimited() -> Self {
        Self { left: u64::MAX }
    }

    #[must_use]
    pub const fn left(&self) -> u64 {
        self.left
    }

    pub const fn spend(&mut self, steps: u64) {
        self.left = self.left.saturating_sub(steps);
    }
}
