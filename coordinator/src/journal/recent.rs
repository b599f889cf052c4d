//! What this node acknowledged lately: should the database lose its end, nobody else knows.

use std::{
    collections::VecDeque,
    time::{SystemTime, UNIX_EPOCH},
};

use skald_protocol::{Gid, Timestamp};

/// Some seconds of the highest load, in about 10 MB.
const KEPT: usize = 100_000;

/// One append that was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    pub gid: Gid,
    pub seq: u64,
    /// The number of its commit among the node's.
    pub batch: i64,
    /// By this machine's clock, as the log's lines are.
    pub at: Timestamp,
}

/// What was acknowledged behind some commit.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Since {
    /// Oldest first.
    pub appends: Vec<Acknowledged>,
    /// There were more before, of which nothing is known any more.
    pub more: bool,
}

#[derive(Debug, Default)]
pub(super) struct Recent {
    batch: i64,
    kept: VecDeque<Acknowledged>,
    /// The newest that is not kept any more.
    forgotten: i64,
}

impl Recent {
    pub(super) fn batch(&self) -> i64 {
        self.batch
    }

    pub(super) fn add(&mut self, batch: i64, appends: impl IntoIterator<Item = (Gid, u64)>) {
        let at = now();
        self.batch = batch;
        self.kept.extend(appends.into_iter().map(|(gid, seq)| Acknowledged { gid, seq, batch, at }));
        let over = self.kept.len().saturating_sub(KEPT);
        if let Some(last) = self.kept.drain(..over).next_back() {
            self.forgotten = last.batch;
        }
    }

    pub(super) fn since(&self, batch: i64) -> Since {
        let from = self.kept.partition_point(|append| append.batch <= batch);
        Since { appends: self.kept.range(from..).cloned().collect(), more: self.forgotten > batch }
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_behind_a_commit_is_told_as_far_as_it_is_kept() {
        let mut recent = Recent::default();
        let gid = Gid::new("g").unwrap();
        for batch in 1..=3 {
            recent.add(batch, [(gid.clone(), batch.unsigned_abs())]);
        }
        let since = recent.since(1);
        assert_eq!(since.appends.iter().map(|append| append.batch).collect::<Vec<_>>(), [2, 3]);
        assert!(!since.more);
        recent.add(4, (0..KEPT as u64 - 1).map(|seq| (gid.clone(), seq)));
        assert_eq!((recent.batch(), recent.since(3).appends.len()), (4, KEPT - 1));
        assert!(recent.since(1).more && !recent.since(2).more);
        assert_eq!(recent.since(4), Since::default());
    }
}
