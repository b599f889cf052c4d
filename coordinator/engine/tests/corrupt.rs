//! A journal that no sequence of decisions can have written is corrupt: never a guess, never a panic.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::sync::Arc;

use common::{Drive, START, plan, reply};
use skald_engine::{Call, Error, Event, Input, Plan, Record, Transaction, journal::FailureClass, plan::Phase};
use skald_protocol::{Decision, Gid, OperationKind, ResolvedOutcome, Status};

const ACTION: OperationKind = OperationKind::Action;

/// `a b c`, c refused, all undone; a record per word.
fn journal() -> (Arc<Plan>, Vec<Record>) {
    let (mut drive, _) = Drive::begin(plan("a b c"), None);
    for word in ["ok", "ok", "refused", "ok", "ok"] {
        let call: Call = drive.send().remove(0);
        let _ = drive.decide(Input::Replied { call, reply: reply(word) }).unwrap();
    }
    assert_eq!(drive.transaction.status(), Status::Compensated);
    assert_eq!(drive.journal.len(), 6);
    (drive.plan, drive.journal)
}

fn replay(plan: &Arc<Plan>, journal: &[Record]) -> Result<Transaction, skald_engine::Corrupt> {
    Transaction::replay(Gid::new("g").unwrap(), Arc::clone(plan), journal.to_vec())
}

#[test]
fn a_record_that_is_missing_doubled_or_misplaced_is_found() {
    let (plan, journal) = journal();
    assert!(replay(&plan, &journal).is_ok());
    assert!(replay(&plan, &[]).is_err());
    for missing in 0..journal.len() - 1 {
        let mut journal = journal.clone();
        journal.remove(missing);
        assert!(replay(&plan, &journal).is_err(), "without record {missing}");
    }
    for doubled in 0..journal.len() {
        let mut journal = journal.clone();
        journal.insert(doubled, journal[doubled].clone());
        let corrupt = replay(&plan, &journal).unwrap_err();
        assert_eq!(corrupt.seq, u64::try_from(doubled).unwrap() + 1, "record {doubled} twice: {corrupt}");
    }
    for from in 0..journal.len() {
        for to in from + 1..journal.len() {
            let mut journal = journal.clone();
            journal.swap(from, to);
            assert!(replay(&plan, &journal).is_err(), "records {from} and {to} exchanged");
        }
    }
}

#[test]
fn an_event_that_its_state_does_not_allow_is_found_wherever_it_stands() {
    let (plan, journal) = journal();
    let error = || Error { code: "no".to_owned(), message: None };
    let failed = |branch, operation| Event::Failed {
        branch,
        operation,
        attempt: 1,
        ask: false,
        class: FailureClass::Unknown,
        error: error(),
        delay_ms: 0,
        live_ms: 0,
        barrier: None,
    };
    let resolved = Event::Resolved {
        branch: 0,
        operation: ACTION,
        outcome: ResolvedOutcome::Succeeded,
        output: None,
        reason: String::new(),
    };
    let never = vec![
        journal[0].events[0].clone(),
        failed(9, ACTION),
        failed(0, OperationKind::Try),
        failed(0, OperationKind::Confirm),
        failed(0, OperationKind::Status),
        Event::Pended { branch: 0, operation: ACTION, attempt: 1 },
        Event::Heartbeat { branch: 0, operation: ACTION },
        Event::NotFound { branch: 0, operation: ACTION, attempt: 1, cleared: true, delay_ms: 0 },
        Event::Exhausted { branch: 0, operation: OperationKind::Compensate, error: error() },
        Event::LateCallback { branch: 0, operation: ACTION, outcome: ResolvedOutcome::Refused },
        Event::Skipped { branch: 0, operation: ACTION, reason: String::new() },
        resolved,
        Event::Decided { decision: Decision::Commit, error: None },
        Event::Halted { branches: vec![9] },
        Event::Halted { branches: vec![0] },
        Event::Suspended,
        Event::Resumed,
        Event::DeadlinePassed,
        Event::Retried { branch: Some(9) },
        Event::Settled { status: Status::Succeeded, output: None, error: None },
        Event::Settled { status: Status::Running, output: None, error: None },
        Event::PhaseStarted { phase: Phase::OnAbort },
        Event::PhaseStarted { phase: Phase::OnEnd },
        Event::Enlisted(Box::new(common::enlistment("x", &[]))),
    ];
    for at in 1..=journal.len() {
        for event in &never {
            let mut journal = journal.clone();
            journal.insert(at, Record::new(START, vec![event.clone()]));
            assert!(replay(&plan, &journal).is_err(), "{event:?} at {at}");
        }
    }
    let mut after = journal;
    after.push(Record::new(START, vec![Event::Adopted]));
    assert!(replay(&plan, &after).is_err(), "something after the settlement");
}

#[test]
fn a_snapshot_of_another_plan_is_found() {
    let (mut drive, _) = Drive::begin(plan("a b"), None);
    let snapshot = Record::new(START, vec![drive.transaction.snapshot()]);
    assert!(replay(&drive.plan, std::slice::from_ref(&snapshot)).is_ok());
    for other in ["a", "a b c", "[a / b]"] {
        assert!(replay(&Arc::new(plan(other)), std::slice::from_ref(&snapshot)).is_err(), "{other}");
    }
    let other = Arc::new(plan("t(tcc) b"));
    let text = String::from_utf8(snapshot.encode()).unwrap();
    let wrong = text.replacen("\"forward\":", "\"confirm\":", 1);
    assert_ne!(wrong, text);
    assert!(replay(&drive.plan, &[Record::decode(wrong.as_bytes()).unwrap()]).is_err());
    assert!(replay(&other, &[snapshot]).is_ok(), "a snapshot does not tell what it cannot know");
}
