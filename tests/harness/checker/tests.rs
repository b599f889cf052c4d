//! Both directions: honest evidence is green, and each doctoring turns exactly its invariant red.

use serde_json::json;

use super::*;

fn entry(gid: &str, branch: &str, operation: OperationKind, mark: Mark, moves: &[(&str, i64)]) -> Entry {
    Entry {
        gid: gid.into(),
        branch: branch.into(),
        operation,
        key: format!("{gid}/{branch}/{operation}"),
        mark,
        moves: moves.iter().map(|(account, change)| ((*account).to_owned(), *change)).collect(),
    }
}

fn subject(gid: &str, branches: &[&str], answer: Value) -> Subject {
    Subject {
        gid: gid.into(),
        acknowledged: true,
        order: branches.windows(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned())).collect(),
        branches: branches.iter().map(|branch| (*branch).to_owned()).collect(),
        finals: BTreeSet::from([answer["status"].as_str().unwrap_or("").to_owned()]),
        answers: vec![answer.clone(), answer],
        ..Subject::default()
    }
}

/// `ok`: a transfer that succeeded. `no`: a refusal at its third step. `tcc`: confirmed.
fn honest() -> Evidence {
    use OperationKind::{Action, Compensate, Confirm, Try};
    Evidence {
        subjects: vec![
            subject("ok", &["debit", "credit"], json!({"status": "succeeded", "error": null})),
            subject(
                "no",
                &["debit", "credit", "check"],
                json!({"status": "compensated", "error": {"code": "refused"}}),
            ),
            subject("tcc", &["hold"], json!({"status": "succeeded", "error": null})),
        ],
        ledger: vec![
            entry("ok", "debit", Action, Mark::Effect, &[("a", -10)]),
            entry("ok", "credit", Action, Mark::Effect, &[("b", 10)]),
            entry("no", "debit", Action, Mark::Effect, &[("a", -5)]),
            entry("no", "credit", Action, Mark::Effect, &[("b", 5)]),
            entry("no", "check", Action, Mark::Refused("no".into()), &[]),
            entry("no", "credit", Compensate, Mark::Effect, &[("b", -5)]),
            entry("no", "debit", Compensate, Mark::Effect, &[("a", 5)]),
            entry("tcc", "hold", Try, Mark::Effect, &[("a", -1), ("a/held", 1)]),
            entry("tcc", "hold", Confirm, Mark::Effect, &[("a/held", -1), ("b", 1)]),
        ],
        opening: BTreeMap::from([("a".to_owned(), 100), ("b".to_owned(), 0)]),
        journal: [("ok", 2), ("no", 4), ("tcc", 2)]
            .iter()
            .flat_map(|(gid, last)| (0..=*last).map(|seq| ((*gid).to_owned(), seq)))
            .collect(),
    }
}

#[track_caller]
fn only(doctor: impl Fn(&mut Evidence), red: &[&str]) {
    let mut evidence = honest();
    doctor(&mut evidence);
    let broken: Vec<_> = judge(&evidence).into_iter().filter(|v| !v.holds()).map(|v| v.invariant).collect();
    assert_eq!(broken, red);
}

#[test]
fn an_honest_run_holds_every_invariant() {
    only(|_| (), &[]);
}

#[test]
fn a_run_in_which_nothing_happened_holds_nothing() {
    only(|evidence| *evidence = Evidence::default(), &["I1", "I2", "I3", "I4", "I5", "I6", "I7", "I9", "I10", "I11"]);
}

#[test]
fn money_that_vanishes_breaks_i1() {
    only(|evidence| evidence.ledger[1].moves[0].1 = 9, &["I1"]);
}

#[test]
fn a_negative_balance_breaks_i1_even_if_it_recovers() {
    only(|evidence| *evidence.opening.entry("a".to_owned()).or_default() = 12, &["I1"]);
}

#[test]
fn an_acknowledged_transaction_that_is_gone_breaks_i2_and_i10() {
    only(|evidence| evidence.subjects[0].answers.clear(), &["I2", "I10"]);
}

#[test]
fn two_ends_of_one_transaction_break_i2() {
    only(|evidence| evidence.subjects[0].finals.extend(["compensated".to_owned()]), &["I2"]);
}

#[test]
fn success_without_a_branch_breaks_i2() {
    only(|evidence| evidence.subjects[0].branches.push("notice".to_owned()), &["I2"]);
}

#[test]
fn a_compensation_for_no_reason_breaks_i3() {
    let doctor = |evidence: &mut Evidence| {
        evidence.ledger.remove(4);
        for answer in &mut evidence.subjects[1].answers {
            answer["error"]["code"] = json!("whim");
        }
    };
    only(doctor, &["I3"]);
}

#[test]
fn success_in_spite_of_a_refusal_breaks_i3() {
    let refusal = entry("ok", "check", OperationKind::Action, Mark::Refused("no".into()), &[]);
    only(|evidence| evidence.ledger.push(refusal.clone()), &["I3"]);
}

#[test]
fn an_effect_that_is_not_undone_breaks_i3_and_the_money() {
    only(|evidence| drop(evidence.ledger.remove(6)), &["I1", "I3", "I9"]);
}

#[test]
fn an_undo_of_what_did_not_happen_breaks_i3() {
    let undo = entry("no", "check", OperationKind::Compensate, Mark::Effect, &[]);
    only(|evidence| evidence.ledger.insert(5, undo.clone()), &["I3"]);
}

#[test]
fn an_undo_of_a_success_breaks_i3() {
    let undo = entry("ok", "credit", OperationKind::Compensate, Mark::Effect, &[]);
    only(|evidence| evidence.ledger.push(undo.clone()), &["I3"]);
}

#[test]
fn confirmed_and_cancelled_breaks_i4() {
    let cancel = entry("tcc", "expect", OperationKind::Cancel, Mark::Effect, &[]);
    let doctor = |evidence: &mut Evidence| {
        let attempted = entry("tcc", "expect", OperationKind::Try, Mark::Effect, &[]);
        evidence.ledger.extend([attempted, cancel.clone()]);
    };
    only(doctor, &["I3", "I4"]);
    let broken = entry("tcc", "hold", OperationKind::Cancel, Mark::Broken, &[]);
    only(|evidence| evidence.ledger.push(broken.clone()), &["I4"]);
}

#[test]
fn a_late_try_that_takes_effect_breaks_i5() {
    let doctor = |evidence: &mut Evidence| {
        let late = evidence.ledger.remove(3);
        evidence.ledger.insert(5, late);
    };
    only(doctor, &["I5"]);
}

#[test]
fn an_effect_after_an_empty_undo_breaks_i5() {
    let doctor = |evidence: &mut Evidence| {
        evidence.ledger.push(entry("no", "check", OperationKind::Compensate, Mark::Empty, &[]));
        evidence.ledger.push(entry("no", "check", OperationKind::Action, Mark::Effect, &[]));
    };
    only(doctor, &["I3", "I5", "I9"]);
}

#[test]
fn an_effect_twice_breaks_i6() {
    let doctor = |evidence: &mut Evidence| {
        let notice = entry("ok", "notice", OperationKind::Action, Mark::Effect, &[]);
        evidence.ledger.extend([notice.clone(), notice]);
    };
    only(doctor, &["I6"]);
}

#[test]
fn a_hole_in_the_journal_breaks_i7() {
    only(|evidence| drop(evidence.journal.remove(1)), &["I7"]);
    only(|evidence| evidence.journal.retain(|(gid, _)| gid != "ok"), &["I7"]);
}

#[test]
fn undoing_forwards_breaks_i9() {
    only(|evidence| evidence.ledger.swap(5, 6), &["I9"]);
}

#[test]
fn a_transaction_that_never_settles_breaks_i10() {
    let doctor = |evidence: &mut Evidence| {
        evidence.subjects[0].finals.clear();
        evidence.subjects[0].answers = vec![json!({"status": "running"})];
    };
    only(doctor, &["I10"]);
}

#[test]
fn another_answer_to_the_same_gid_breaks_i11() {
    only(|evidence| evidence.subjects[0].answers[1]["output"] = json!(2), &["I11"]);
}
