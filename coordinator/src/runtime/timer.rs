//! When which transaction wants to be looked at: one heap per task.
//!
//! Entries are never removed early; each transaction knows which of its entries is the valid one. The heap is rebuilt
//! from the valid ones when most are not, so it stays proportional to what is held.

use std::{cmp::Reverse, collections::BinaryHeap};

use skald_protocol::{Gid, Timestamp};

#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Timestamp, Gid, u64)>>,
}

impl Timers {
    pub(super) fn push(&mut self, at: Timestamp, gid: Gid, ticket: u64) {
        self.heap.push(Reverse((at, gid, ticket)));
    }

    pub(super) fn next(&self) -> Option<Timestamp> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    pub(super) fn pop_due(&mut self, now: Timestamp) -> Option<(Timestamp, Gid, u64)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }

    /// Drops what `valid` disowns, once the heap has outgrown the `active` transactions.
    pub(super) fn compact(&mut self, active: usize, valid: impl Fn(Timestamp, &Gid, u64) -> bool) {
        if self.heap.len() > 2 * active + 1024 {
            self.heap.retain(|Reverse((at, gid, ticket))| valid(*at, gid, *ticket));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_out_in_order_and_dead_ones_do_not_pile_up() {
        let gid = |n: u64| Gid::new(format!("g{n}")).unwrap();
        let mut timers = Timers::default();
        for n in 0..5000 {
            timers.push(Timestamp(10_000 - i64::try_from(n).unwrap()), gid(n), n);
        }
        timers.compact(100, |_, _, ticket| ticket >= 4990);
        assert_eq!(timers.heap.len(), 10);
        assert_eq!(timers.pop_due(Timestamp(5000)), None);
        assert_eq!(timers.pop_due(Timestamp(5002)), Some((Timestamp(5001), gid(4999), 4999)));
        assert_eq!(timers.next(), Some(Timestamp(5002)));
    }
}
