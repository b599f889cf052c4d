//! Who may go now: a queue per destination, first come first served, and a cap over all of them.
//!
//! A destination that is slow fills its own lane and takes nothing from the others. Under the cap, lanes take turns. An
//! empty lane is forgotten, so destinations that are seen once cost nothing.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

pub(super) struct Lanes<J> {
    lanes: HashMap<Arc<str>, Lane<J>>,
    /// Lanes with someone waiting and a place free, in the order of their turns.
    ready: VecDeque<Arc<str>>,
    total: usize,
    in_flight: usize,
    waiting: usize,
    closed: bool,
}

struct Lane<J> {
    limit: usize,
    in_flight: usize,
    waiting: VecDeque<J>,
    /// Stands in `ready`.
    ready: bool,
}

impl<J> Lane<J> {
    /// Whether it must join `ready`; marks it.
    fn becomes_ready(&mut self) -> bool {
        let joins = !self.ready && !self.waiting.is_empty() && self.in_flight < self.limit;
        self.ready |= joins;
        joins
    }
}

impl<J> Lanes<J> {
    pub(super) fn new(total: usize) -> Self {
        let (lanes, ready) = (HashMap::new(), VecDeque::new());
        Self { lanes, ready, total: total.max(1), in_flight: 0, waiting: 0, closed: false }
    }

    pub(super) const fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(super) const fn waiting(&self) -> usize {
        self.waiting
    }

    /// The job comes back if it may go now; else it waits (or, after `close`, is dropped).
    pub(super) fn offer(&mut self, key: &Arc<str>, limit: usize, job: J) -> Option<J> {
        if self.closed {
            return None;
        }
        let lane = self.lanes.entry(key.clone()).or_insert_with(|| Lane {
            limit: 0,
            in_flight: 0,
            waiting: VecDeque::new(),
            ready: false,
        });
        lane.limit = limit.max(1);
        if lane.waiting.is_empty() && lane.in_flight < lane.limit && self.in_flight < self.total {
            lane.in_flight += 1;
            self.in_flight += 1;
            return Some(job);
        }
        lane.waiting.push_back(job);
        self.waiting += 1;
        if lane.becomes_ready() {
            self.ready.push_back(key.clone());
        }
        None
    }

    /// A job that went has ended. How many are still in flight.
    pub(super) fn done(&mut self, key: &Arc<str>) -> usize {
        self.in_flight -= 1;
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.in_flight -= 1;
            if lane.becomes_ready() {
                self.ready.push_back(key.clone());
            }
            if lane.in_flight == 0 && lane.waiting.is_empty() {
                self.lanes.remove(key);
            }
        }
        self.in_flight
    }

    /// The next waiting job that may go now.
    pub(super) fn next(&mut self) -> Option<J> {
        while self.in_flight < self.total {
            let key = self.ready.pop_front()?;
            let Some(lane) = self.lanes.get_mut(&key) else { continue };
            lane.ready = false;
            if lane.in_flight >= lane.limit {
                continue;
            }
            let Some(job) = lane.waiting.pop_front() else { continue };
            lane.in_flight += 1;
            self.in_flight += 1;
            self.waiting -= 1;
            if lane.becomes_ready() {
                self.ready.push_back(key);
            }
            return Some(job);
        }
        None
    }

    /// Takes all that wait; from now on nothing is taken.
    pub(super) fn close(&mut self) -> Vec<J> {
        self.closed = true;
        self.waiting = 0;
        self.ready.clear();
        self.lanes.values_mut().flat_map(|lane| lane.waiting.drain(..)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Arc<str> {
        Arc::from(name)
    }

    #[test]
    fn a_lane_lets_its_limit_go_and_the_rest_in_the_order_they_came() {
        let mut lanes = Lanes::new(100);
        let a = key("a");
        assert_eq!(lanes.offer(&a, 2, 1), Some(1));
        assert_eq!(lanes.offer(&a, 2, 2), Some(2));
        for job in 3..6 {
            assert_eq!(lanes.offer(&a, 2, job), None);
        }
        assert_eq!((lanes.in_flight(), lanes.waiting()), (2, 3));
        for job in 3..6 {
            assert_eq!(lanes.next(), None, "the lane is full");
            lanes.done(&a);
            assert_eq!(lanes.next(), Some(job));
        }
        lanes.done(&a);
        assert_eq!(lanes.done(&a), 0);
        assert!(lanes.lanes.is_empty(), "an empty lane is forgotten");
    }

    #[test]
    fn a_full_lane_does_not_hold_up_another() {
        let mut lanes = Lanes::new(100);
        let (slow, quick) = (key("slow"), key("quick"));
        assert!(lanes.offer(&slow, 1, 0).is_some());
        for job in 1..1000 {
            assert!(lanes.offer(&slow, 1, job).is_none());
        }
        assert_eq!(lanes.offer(&quick, 1, -1), Some(-1));
    }

    #[test]
    fn under_the_cap_lanes_take_turns() {
        let mut lanes = Lanes::new(1);
        let (a, b) = (key("a"), key("b"));
        assert!(lanes.offer(&a, 9, "a1").is_some());
        for job in ["a2", "a3"] {
            assert!(lanes.offer(&a, 9, job).is_none());
        }
        for job in ["b1", "b2"] {
            assert!(lanes.offer(&b, 9, job).is_none());
        }
        let mut order = Vec::new();
        let mut last = a.clone();
        loop {
            lanes.done(&last);
            let Some(job) = lanes.next() else { break };
            last = if job.starts_with('a') { a.clone() } else { b.clone() };
            order.push(job);
        }
        assert_eq!(order, ["a2", "b1", "a3", "b2"]);
        assert_eq!((lanes.in_flight(), lanes.waiting()), (0, 0));
    }

    #[test]
    fn a_raised_limit_lets_waiting_ones_go() {
        let mut lanes = Lanes::new(10);
        let a = key("a");
        assert!(lanes.offer(&a, 1, 1).is_some());
        assert!(lanes.offer(&a, 1, 2).is_none());
        assert!(lanes.offer(&a, 3, 3).is_none(), "first come, first served");
        assert_eq!(lanes.next(), Some(2));
        assert_eq!(lanes.next(), Some(3));
    }

    #[test]
    fn closing_gives_back_what_waits_and_takes_nothing_more() {
        let mut lanes = Lanes::new(10);
        let a = key("a");
        assert!(lanes.offer(&a, 1, 1).is_some());
        assert!(lanes.offer(&a, 1, 2).is_none());
        assert_eq!(lanes.close(), [2]);
        assert_eq!(lanes.offer(&a, 1, 3), None);
        assert_eq!(lanes.done(&a), 0);
        assert_eq!(lanes.next(), None);
    }
}
