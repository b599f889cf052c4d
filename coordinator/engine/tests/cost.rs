//! A decision costs what it changes: ten times the branches are about ten times the work, not a hundred times.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::time::{Duration, Instant};

use common::{Drive, plan, reply};
use skald_engine::{Command, Input, Plan};
use skald_protocol::Status;

fn block(count: usize, flags: &str) -> Plan {
    let arms: Vec<String> = (0..count).map(|index| format!("b{index}{flags}")).collect();
    plan(&format!("[{}]", arms.join(" / ")))
}

fn chain(count: usize) -> Plan {
    let steps: Vec<String> = (0..count).map(|index| format!("b{index}")).collect();
    plan(&steps.join(" "))
}

/// Answers every call with what `answer` says, until nothing is owed. The fastest of three runs.
fn drive(plan: &Plan, end: Status, commands: &[Command], answer: impl Fn(usize) -> &'static str) -> Duration {
    let run = || {
        let (mut drive, _) = Drive::begin(plan.clone(), None);
        drive.in_flight = drive.transaction.owed(drive.now);
        for call in &drive.in_flight {
            drive.transaction.sent(*call, drive.now);
        }
        #[allow(clippy::disallowed_methods, reason = "the clock measures the engine, which reads none")]
        let began = Instant::now();
        for command in commands {
            let _ = drive.transaction.decide(Input::Command(command.clone()), drive.now).unwrap();
        }
        let mut answered = 0;
        while let Some(call) = drive.in_flight.pop() {
            let reply = reply(answer(answered));
            answered += 1;
            let _ = drive.transaction.decide(Input::Replied { call, reply }, drive.now).unwrap();
            for call in drive.transaction.owed(drive.now) {
                drive.transaction.sent(call, drive.now);
                drive.in_flight.push(call);
            }
            let _ = drive.transaction.next_wake();
        }
        assert_eq!(drive.transaction.status(), end);
        began.elapsed()
    };
    (0..3).map(|_| run()).min().unwrap_or_default()
}

#[track_caller]
fn check(
    plan: impl Fn(usize) -> Plan,
    end: Status,
    commands: &[Command],
    answer: impl Fn(usize) -> &'static str + Copy,
) {
    let (small, large) = (drive(&plan(1_000), end, commands, answer), drive(&plan(10_000), end, commands, answer));
    let noise = Duration::from_millis(200);
    assert!(large < small * 30 + noise, "1,000 branches took {small:?}, 10,000 took {large:?}");
    assert!(large < Duration::from_secs(30), "10,000 branches took {large:?}");
}

fn cancel() -> [Command; 1] {
    [Command::Cancel { reason: None }]
}

#[test]
fn of_a_block_that_is_done() {
    check(|count| block(count, ""), Status::Succeeded, &[], |_| "ok");
}

#[test]
fn of_a_block_that_is_confirmed() {
    check(|count| block(count, "(tcc)"), Status::Succeeded, &[], |_| "ok");
}

#[test]
fn of_a_block_that_is_cancelled_in_flight_and_undone() {
    check(|count| block(count, ""), Status::Compensated, &cancel(), |_| "ok");
}

#[test]
fn of_a_block_that_is_cancelled_in_flight_and_never_heard_of() {
    let answer = |answered| if answered % 2 == 0 { "unsent" } else { "refused" };
    check(|count| block(count, ""), Status::Compensated, &cancel(), answer);
}

#[test]
fn of_a_long_chain() {
    check(chain, Status::Succeeded, &[], |_| "ok");
}
