//! The time that is recorded, and whether this node may call participants.
//!
//! Recorded times come from the database, so that nodes agree, but only where a node starts: after that its time runs with
//! this machine's monotonic clock and only approaches the database's, so no duration moves when somebody sets a clock. On
//! SQLite the database's clock is this machine's wall clock.
//!
//! A lease is counted from before its heartbeat was asked for: never longer than the database counts it. A node that was
//! stopped finds out here, and sends nothing before a heartbeat that was asked for after it woke.

use std::{
    sync::atomic::{AtomicBool, AtomicI64, Ordering},
    time::Duration,
};

use skald_protocol::Timestamp;

/// A point of the clock that nobody sets, in milliseconds. On Linux it goes on while the machine is suspended, as the others'
/// view of this node's lease does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(i64);

impl Moment {
    #[cfg(target_os = "linux")]
    pub(super) fn now() -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Self(now.tv_sec * 1000 + now.tv_nsec / 1_000_000)
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn now() -> Self {
        static ORIGIN: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
        Self(i64::try_from(ORIGIN.elapsed().as_millis()).unwrap_or(i64::MAX))
    }
}

/// Of a lease, kept for writing a request: what is sent with less of it left is not sent.
const ROOM: i64 = 8;
/// A clock that differs by less than this from what was expected was not set: heartbeats take their time.
const JUMP_MS: i64 = 1_000;
/// A node's time approaches the database's by this part of the time that passes.
const SLEW: i64 = 100;

/// The database's clock was set: by so many milliseconds, back if negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Jump(pub(super) i64);

#[derive(Debug)]
pub(super) struct Clock {
    lease: i64,
    /// This node's time, less `Moment`.
    offset: AtomicI64,
    /// The database's time, less `Moment`, as the last heartbeat told it.
    database: AtomicI64,
    /// How long that heartbeat took: its time may be off by as much.
    trip: AtomicI64,
    /// When the last heartbeat that succeeded was asked for.
    asked: AtomicI64,
    /// When somebody looked last. Heartbeats look four times a lease.
    looked: AtomicI64,
    /// When this node last woke from a sleep of more than half a lease.
    woke: AtomicI64,
    /// Others may have recorded times that are far from this node's.
    disagrees: AtomicBool,
}

impl Clock {
    /// A join that was asked for at `asked` has told the database's time.
    pub(super) fn new(asked: Moment, now: Timestamp, lease: Duration) -> Self {
        let answered = Moment::now();
        let offset = now.0.saturating_sub(answered.0);
        Self {
            lease: millis(lease),
            offset: AtomicI64::new(offset),
            database: AtomicI64::new(offset),
            trip: AtomicI64::new(answered.0 - asked.0),
            asked: AtomicI64::new(asked.0),
            looked: AtomicI64::new(answered.0),
            woke: AtomicI64::new(i64::MIN),
            disagrees: AtomicBool::new(false),
        }
    }

    /// The database's clock was set back while nobody ran.
    pub(super) fn starts_behind(&self, behind: Duration) -> Option<Jump> {
        let behind = millis(behind);
        (behind > JUMP_MS).then(|| {
            self.disagree();
            Jump(-behind)
        })
    }

    /// The database's time at the last heartbeat, and what has passed since, less `now`: what to add for a time of day.
    pub(super) fn ahead_ms(&self) -> i64 {
        self.database.load(Ordering::Relaxed).saturating_sub(self.offset.load(Ordering::Relaxed))
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp(Moment::now().0.saturating_add(self.offset.load(Ordering::Relaxed)))
    }

    /// A heartbeat that was asked for at `asked` has told the database's time.
    pub(super) fn beat(&self, asked: Moment, now: Timestamp) -> Option<Jump> {
        self.beat_at(asked, Moment::now(), now)
    }

    fn beat_at(&self, asked: Moment, answered: Moment, now: Timestamp) -> Option<Jump> {
        self.look(answered);
        let passed = asked.0 - self.asked.swap(asked.0, Ordering::AcqRel);
        let database = now.0.saturating_sub(answered.0);
        let by = database.saturating_sub(self.database.swap(database, Ordering::Relaxed));
        let trip = answered.0 - asked.0;
        let slack = JUMP_MS + trip + self.trip.swap(trip, Ordering::Relaxed);
        let offset = self.offset.load(Ordering::Relaxed);
        let most = passed.max(0) / SLEW;
        let slewed = database.saturating_sub(offset).clamp(-most, most);
        self.offset.store(offset.saturating_add(slewed), Ordering::Relaxed);
        let jumped = by.saturating_abs() > slack;
        if jumped {
            self.disagree();
        }
        jumped.then_some(Jump(by))
    }

    /// Since the last heartbeat that succeeded was asked for.
    pub(super) fn silence(&self) -> Duration {
        let silence = Moment::now().0 - self.asked.load(Ordering::Acquire);
        Duration::from_millis(u64::try_from(silence).unwrap_or(0))
    }

    /// Whether a call may go out: the lease holds long enough for it to be written, and this node was heard of since it last
    /// slept.
    pub(super) fn may_send(&self) -> bool {
        self.may_send_at(Moment::now())
    }

    fn may_send_at(&self, now: Moment) -> bool {
        self.look(now);
        let asked = self.asked.load(Ordering::Acquire);
        asked >= self.woke.load(Ordering::Acquire) && now.0 < asked + self.lease - self.lease / ROOM
    }

    /// `woke` is set before anyone can see that somebody has looked.
    fn look(&self, now: Moment) {
        if now.0 - self.looked.load(Ordering::Acquire) > self.lease / 2 {
            self.woke.fetch_max(now.0, Ordering::AcqRel);
        }
        self.looked.fetch_max(now.0, Ordering::AcqRel);
    }

    /// Rows that come from another node may be due at a time that is far from this node's.
    fn disagree(&self) {
        self.disagrees.store(true, Ordering::Release);
    }

    pub(super) fn disagrees(&self) -> bool {
        self.disagrees.load(Ordering::Acquire)
    }

    /// How long `now` is from `at`; zero if it has passed.
    pub(super) fn until(&self, at: Timestamp) -> Duration {
        self.now().until(at)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    /// With a lease of 8 s, joined at once at moment `start` when the database's time was 5,000,000.
    fn clock(start: Moment) -> Clock {
        let clock = Clock::new(start, Timestamp(0), Duration::from_secs(8));
        clock.offset.store(5_000_000 - start.0, Ordering::Relaxed);
        clock.database.store(5_000_000 - start.0, Ordering::Relaxed);
        clock.looked.store(start.0, Ordering::Relaxed);
        clock.trip.store(0, Ordering::Relaxed);
        clock
    }

    fn after(start: Moment, ms: i64) -> Moment {
        Moment(start.0 + ms)
    }

    fn time_at(clock: &Clock, at: Moment) -> i64 {
        at.0 + clock.offset.load(Ordering::Relaxed)
    }

    #[test]
    fn time_starts_as_the_databases() {
        let clock = Clock::new(Moment::now(), Timestamp(5_000_000), Duration::from_secs(60));
        assert!((5_000_000..5_005_000).contains(&clock.now().0));
        assert!(clock.may_send());
    }

    #[test]
    fn a_lease_counts_from_the_question_and_leaves_room_to_write() {
        let start = Moment::now();
        let clock = clock(start);
        assert!(clock.may_send_at(after(start, 3_900)));
        clock.beat_at(after(start, 2_000), after(start, 3_900), Timestamp(5_003_900));
        for ms in (4_000..9_000).step_by(1_000) {
            assert!(clock.may_send_at(after(start, ms)), "{ms}");
        }
        assert!(!clock.may_send_at(after(start, 9_000)), "one second of eight is for writing");
        clock.beat_at(after(start, 9_500), after(start, 9_600), Timestamp(5_009_600));
        assert!(clock.may_send_at(after(start, 9_600)));
    }

    #[test]
    fn after_a_sleep_of_more_than_half_a_lease_nothing_goes_out_before_a_heartbeat_asked_for_since() {
        let start = Moment::now();
        let clock = clock(start);
        assert!(clock.may_send_at(after(start, 4_000)), "half a lease");
        clock.beat_at(after(start, 4_000), after(start, 4_000), Timestamp(5_004_000));
        assert!(!clock.may_send_at(after(start, 8_001)), "slept for longer, though the lease still holds");
        assert!(!clock.may_send_at(after(start, 8_002)));
        clock.beat_at(after(start, 7_000), after(start, 8_100), Timestamp(5_008_100));
        assert!(!clock.may_send_at(after(start, 8_200)), "that was asked for before");
        clock.beat_at(after(start, 8_200), after(start, 8_300), Timestamp(5_008_300));
        assert!(clock.may_send_at(after(start, 8_300)));
    }

    #[test]
    fn a_clock_that_is_set_is_noticed_and_moves_no_duration() {
        for by in [HOUR, -HOUR] {
            let start = Moment::now();
            let clock = clock(start);
            let database = |ms| Timestamp(5_000_000 + ms);
            assert_eq!(clock.beat_at(after(start, 900), after(start, 1_000), database(950)), None);
            assert!(!clock.disagrees());
            let jump = clock.beat_at(after(start, 2_000), after(start, 2_000), database(2_000 + by));
            assert!(jump.is_some_and(|Jump(found)| (found - by).abs() <= 100), "{jump:?}");
            assert!(clock.disagrees());
            assert_eq!(
                clock.beat_at(after(start, 3_000), after(start, 3_000), database(3_000 + by)),
                None,
                "told once"
            );
            assert!((time_at(&clock, after(start, 3_000)) - 5_003_000).abs() <= 50);
            // In the end it agrees with the database again.
            let mut ms = 3_000;
            while (time_at(&clock, after(start, ms)) - 5_000_000 - ms - by).abs() > 1 {
                let before = time_at(&clock, after(start, ms));
                ms += 2_000;
                clock.beat_at(after(start, ms), after(start, ms), database(ms + by));
                let passed = time_at(&clock, after(start, ms)) - before;
                assert!((1_980..=2_020).contains(&passed), "{passed}: at most a hundredth off");
                assert!(ms < 101 * HOUR);
            }
        }
    }

    #[test]
    fn a_heartbeat_that_takes_long_is_no_jump() {
        let start = Moment::now();
        let clock = clock(start);
        assert_eq!(clock.beat_at(after(start, 100), after(start, 3_900), Timestamp(5_000_200)), None);
        assert_eq!(clock.beat_at(after(start, 4_000), after(start, 4_001), Timestamp(5_004_001)), None);
    }
}
