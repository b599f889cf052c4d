//! The verdict is about the ledgers: whatever the coordinator says, an undo that was forgotten is seen.

use serde_json::json;
use skald_engine::simulate::{End, InjectedFault, Run, Stage, Strike, judge};
use skald_protocol::{OperationKind, Status};

use super::{pivot, saga, stage, step, tcc};

fn strike(branch: &str, operation: OperationKind, strike: Strike) -> InjectedFault {
    InjectedFault::Strike { branch: branch.to_owned(), operation, ask: false, attempt: 1, strike }
}

fn flaws(stage: &Stage, run: &Run) -> Vec<String> {
    let verdict = judge(stage, &[], run);
    assert_eq!(verdict.end == End::Bad, !verdict.flaws.is_empty());
    verdict.flaws.into_iter().map(|flaw| flaw.what).collect()
}

#[test]
fn an_undo_that_was_forgotten_is_seen() {
    let stage = stage(&saga(&json!([step("reserve"), step("charge")])));
    let run = stage.play(&[strike("charge", OperationKind::Action, Strike::Refused)]);
    assert_eq!((run.status, flaws(&stage, &run)), (Status::Compensated, vec![]));
    let mut forgotten = run.clone();
    let ledger = forgotten.ledgers.get_mut("reserve").unwrap();
    (ledger.stands, ledger.undone) = (1, 0);
    assert_eq!(
        flaws(&stage, &forgotten),
        ["the transaction was compensated, but the effect of `reserve` still stands"]
    );
    let mut at_work = run;
    at_work.ledgers.get_mut("reserve").unwrap().working = true;
    assert_eq!(flaws(&stage, &at_work).len(), 1, "an asynchronous operation that was accepted goes on");
}

#[test]
fn an_effect_that_is_missing_doubled_or_undone_in_a_success_is_seen() {
    let stage = stage(&saga(&json!([step("reserve"), pivot("pay")])));
    let run = stage.play(&[]);
    assert_eq!((run.status, flaws(&stage, &run)), (Status::Succeeded, vec![]));
    for (stands, undone, told) in [
        (0, 0, "the transaction succeeded, but the effect of `reserve` is not there"),
        (2, 0, "the effect of `reserve` stands 2 times"),
        (1, 1, "the transaction succeeded, but `reserve` was undone"),
    ] {
        let mut other = run.clone();
        let ledger = other.ledgers.get_mut("reserve").unwrap();
        (ledger.stands, ledger.undone) = (stands, undone);
        assert_eq!(flaws(&stage, &other), [told]);
    }
    let mut lied = run;
    lied.status = Status::Compensated;
    assert_eq!(flaws(&stage, &lied).len(), 2, "both effects stand");
}

#[test]
fn a_confirm_in_the_wrong_place_is_seen() {
    let stage = stage(&saga(&json!([tcc("room"), tcc("seat")])));
    let mut done = stage.play(&[]);
    assert_eq!(flaws(&stage, &done), Vec::<String>::new());
    done.ledgers.get_mut("room").unwrap().confirmed = 0;
    assert_eq!(flaws(&stage, &done), ["the transaction succeeded, but `room` was not confirmed"]);
    let mut undone = stage.play(&[strike("seat", OperationKind::Try, Strike::Refused)]);
    undone.ledgers.get_mut("room").unwrap().confirmed = 1;
    assert_eq!(
        flaws(&stage, &undone),
        ["`room` was both confirmed and undone", "the transaction was compensated, but `room` was confirmed"]
    );
}

#[test]
fn what_never_settles_and_what_is_stuck_without_a_reason_are_told_apart() {
    let stage = stage(&saga(&json!([step("reserve"), step("charge")])));
    let mut run = stage.play(&[]);
    run.status = Status::Running;
    assert_eq!(flaws(&stage, &run), ["nothing moves any more, and it has not settled"]);
    run.finished = false;
    assert_eq!(flaws(&stage, &run), ["it goes on and on: it did not settle in more than two years"]);
    let down = [
        strike("charge", OperationKind::Action, Strike::Refused),
        strike("reserve", OperationKind::Compensate, Strike::Exhausted),
    ];
    let run = stage.play(&down);
    let verdict = judge(&stage, &down, &run);
    assert_eq!((verdict.end, run.status), (End::Operator, Status::Suspended));
    assert_eq!(flaws(&stage, &run).len(), 1, "without that fault there is no excuse for it");
}
