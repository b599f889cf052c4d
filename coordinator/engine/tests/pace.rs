//! When the next attempt is made, what of the last one is recorded, and what a loader makes of it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::time::Duration;

use common::{Drive, START, plan, reply, tell};
use expect_test::{Expect, expect};
use skald_engine::{
    Event, Input, Retry, Transaction,
    plan::Jitter,
    transaction::{Continuity, Decided},
};
use skald_protocol::{Gid, Timestamp};

#[allow(clippy::needless_pass_by_value, reason = "expect![] reads best in place")]
fn check(plan: &str, script: &str, expected: Expect) {
    expected.assert_eq(&tell(plan, script));
}

/// A tail step that never gives up, once its head is done.
fn tail() -> Drive {
    let mut plan = plan("a r(retriable)");
    plan.branches[1].forward.as_mut().unwrap().retry.max_elapsed = None;
    let (mut drive, _) = Drive::begin(plan, None);
    let _ = fail(&mut drive, "ok");
    drive
}

fn fail(drive: &mut Drive, word: &str) -> Decided {
    drive.now = drive.transaction.next_wake().unwrap_or(drive.now).max(drive.now);
    let call = drive.send()[0];
    drive.decide(Input::Replied { call, reply: reply(word) }).unwrap()
}

#[test]
fn attempts_are_recorded_at_powers_of_two() {
    let mut drive = tail();
    let recorded: Vec<u32> = (1..=20).filter(|_| fail(&mut drive, "unknown").record).collect();
    assert_eq!(recorded, [1, 2, 4, 8, 16]);
}

#[test]
fn an_attempt_is_recorded_when_the_class_of_its_error_changes() {
    let mut drive = tail();
    let words = ["unsent", "unsent", "unknown", "unknown", "unknown", "refused", "refused", "unsent", "unsent"];
    let recorded: Vec<bool> = words.iter().map(|word| fail(&mut drive, word).record).collect();
    assert_eq!(recorded, [true, true, true, true, false, true, false, true, false]);
}

#[test]
fn the_first_word_of_a_services_barrier_is_recorded() {
    let mut drive = tail();
    let words = ["unknown", "unknown", "barrier-unknown", "unknown", "barrier-unknown"];
    let recorded: Vec<bool> = words.iter().map(|word| fail(&mut drive, word).record).collect();
    assert_eq!(recorded, [true, true, true, true, false]);
}

#[test]
fn minor_attempts_survive_another_nodes_word_and_not_a_parking() {
    let mut drive = tail();
    for _ in 0..7 {
        let _ = fail(&mut drive, "unknown");
    }
    let due = drive.transaction.next_wake();
    assert_eq!(drive.transaction.view(0..9).branches[1].operations[0].attempts, 7);
    let mut reloaded =
        Transaction::replay(Gid::new("g").unwrap(), std::sync::Arc::clone(&drive.plan), drive.journal.clone()).unwrap();
    let _ = reloaded.inherit(&drive.transaction, drive.now);
    assert_eq!((reloaded.view(0..9).branches[1].operations[0].attempts, reloaded.next_wake()), (7, due));
    let _ = drive.reload(Continuity::Unbroken);
    assert_eq!(drive.transaction.view(0..9).branches[1].operations[0].attempts, 4);
}

#[test]
fn another_nodes_retry_makes_a_minor_attempts_wait_end() {
    let mut drive = tail();
    for _ in 0..7 {
        let _ = fail(&mut drive, "unknown");
    }
    drive.now = drive.now.plus(Duration::from_secs(1));
    assert!(drive.transaction.owed(drive.now).is_empty());
    let _ = drive.foreign(skald_engine::Command::Retry { branch: None }).unwrap();
    assert_eq!(drive.transaction.owed(drive.now)[0].attempt, 8);
}

#[test]
fn an_answer_whose_append_was_lost_is_decided_again_as_if_it_came_now() {
    let (mut drive, _) = Drive::begin(plan("a b(ask)"), None);
    let _ = fail(&mut drive, "ok");
    for word in ["unsent", "unsent"] {
        let _ = fail(&mut drive, word);
    }
    drive.now = drive.transaction.next_wake().unwrap();
    let call = drive.send()[0];
    let input = Input::Replied { call, reply: reply("unknown") };
    // The holder decides it, but another node's word took the place in the journal.
    let _ = drive.transaction.decide(input.clone(), drive.now).unwrap();
    drive.transaction.sent(call, drive.now);
    let _ = drive.foreign(skald_engine::Command::Retry { branch: None }).unwrap();
    assert_eq!(drive.transaction.in_flight(), 1);
    let decided = drive.decide(input).unwrap();
    assert!(decided.record && matches!(decided.events[0], Event::Failed { attempt: 3, .. }), "{decided:?}");
}

#[test]
fn retry_after_sets_the_pace() {
    let mut drive = tail();
    let call = drive.send()[0];
    let reply = skald_engine::Reply { retry_after: Some(Duration::from_secs(37)), ..reply("unsent") };
    let _ = drive.decide(Input::Replied { call, reply }).unwrap();
    assert_eq!(drive.transaction.next_wake(), Some(START.plus(Duration::from_secs(37))));
}

#[test]
fn backoff_grows_to_its_cap_and_full_jitter_draws_the_same_everywhere() {
    let policy = Retry { jitter: Jitter::None, ..Retry::forward() };
    let delays: Vec<u128> = (1..=8).map(|attempt| policy.delay(attempt, &[]).as_millis()).collect();
    assert_eq!(delays, [200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
    assert_eq!(policy.delay(u32::MAX, &[]).as_millis(), 10_000);
    let policy = Retry::settling();
    let draws: Vec<Duration> = (1..=200).map(|attempt| policy.delay(attempt, &[b"g", b"a", b"action"])).collect();
    assert!(
        draws
            .iter()
            .zip(1..)
            .all(|(draw, attempt)| *draw <= Retry { jitter: Jitter::None, ..policy.clone() }.delay(attempt, &[]))
    );
    assert_eq!(draws[7], policy.delay(8, &[b"g", b"a", b"action"]));
    assert_ne!(draws[7], policy.delay(8, &[b"g", b"b", b"action"]));
    let late = &draws[20..];
    let mean = late.iter().sum::<Duration>() / u32::try_from(late.len()).unwrap();
    assert!(mean > Duration::from_secs(20) && mean < Duration::from_secs(40), "{mean:?}");
    let distinct: std::collections::BTreeSet<_> = late.iter().collect();
    assert!(distinct.len() > 170, "each attempt draws its own");
}

#[test]
fn a_loader_never_waits_longer_than_the_recorded_delay() {
    let (mut drive, _) = Drive::begin(plan("a b"), Some(Duration::from_secs(60)));
    let _ = fail(&mut drive, "ok");
    let _ = fail(&mut drive, "unsent");
    for behind in [0, 3_600_000] {
        drive.now = Timestamp(START.0 - behind);
        let _ = drive.reload(Continuity::Unbroken);
        assert_eq!(drive.transaction.next_wake(), Some(drive.now.plus(Duration::from_secs(1))), "{behind}");
        let deadline = drive.transaction.view(0..0).deadline.unwrap();
        assert_eq!(deadline, drive.now.plus(Duration::from_secs(60)));
    }
}

#[test]
fn pending_time_does_not_count_in_max_elapsed() {
    check(
        "a r(retriable,async)",
        "a ok | r pending | +30s | +1s | r pending | +30s | +2s | r pending | +30s | +4s | r unknown | +40s | r unknown",
        expect![[r#"
            begin: -> action a
            a ok: commit -> action r
            r pending:
            +30s: again in 1s
            +1s: -> action r #2
            r pending:
            +30s: again in 2s
            +2s: -> action r #3
            r pending:
            +30s: again in 4s
            +4s: -> action r #4
            r unknown: again in 8s
            +40s: -> action r #5
            r unknown: again in 10s
        "#]],
    );
    check(
        "a r(retriable,async)",
        "a ok | r pending | +29s | callback r pending | +29s | callback r pending | +29s | callback r pending | +13s | +1s",
        expect![[r#"
            begin: -> action a
            a ok: commit -> action r
            r pending:
            +29s:
            callback r pending:
            +29s:
            callback r pending:
            +29s:
            callback r pending:
            +13s: again in 1s
            +1s: -> action r #2
        "#]],
    );
}
