//! `on_abort` and `on_end`: what runs once the transaction is decided and all before it rests.

use expect_test::expect;
use serde_json::{Value, json};
use skald_engine::{Command, Input, Plan, definition::compile, transaction::Continuity};
use skald_protocol::{BranchStatus, Decision, Json, Status};

use crate::{
    check,
    common::{Drive, reply},
    definition, role, saga, tcc, with,
};

/// `steps`, then `tell` where it aborts, and `close` in any case.
fn phased(steps: &Value) -> Value {
    with(definition(steps), &json!({"on_abort": [role("tell", "retriable")], "on_end": [role("close", "retriable")]}))
}

fn plan(definition: &Value) -> Plan {
    compile(&definition.to_string()).unwrap_or_else(|faults| panic!("{faults:#?}")).plan
}

fn status_of(drive: &Drive, branch: &str) -> BranchStatus {
    let view = drive.transaction.view(0..usize::MAX);
    view.branches.iter().find(|one| one.branch.as_str() == branch).map(|one| one.status).unwrap()
}

/// Answers the one call that is owed, of this branch, and gives the body that it was sent with.
fn answer(drive: &mut Drive, branch: &str, with: &str) -> Value {
    let [call] = drive.send()[..] else { panic!("one call, of {branch}") };
    let request = drive.transaction.render(call).unwrap();
    assert_eq!(request.branch.as_str(), branch);
    let _ = drive.decide(Input::Replied { call, reply: reply(with) }).unwrap();
    request.body.map_or(Value::Null, |body| serde_json::from_str(body.text()).unwrap())
}

#[test]
fn an_abort_is_told_once_all_is_undone_and_the_end_is_told_last() {
    check(
        &phased(&json!([saga("a"), saga("b")])),
        &json!({}),
        "a ok | b refused | a undo unsent | +1m | a undo ok | tell unsent | +1m | tell ok | close ok",
        &expect![[r#"
            begin: -> action a
            a ok: -> action b
            b refused: b refused; abort (no) -> compensate a
            a undo unsent: again in 35ms
            +1m: -> compensate a #2
            a undo ok: on_abort begins -> action tell
            tell unsent: again in 196ms
            +1m: -> action tell #2
            tell ok: on_end begins -> action close
            close ok: settled compensated
        "#]],
    );
}

#[test]
fn an_early_end_skips_what_is_left_but_not_on_end() {
    let done = json!({"name": "done", "when": "input.enough", "succeed": {}});
    let whole = phased(&json!([saga("a"), done, saga("b")]));
    check(
        &whole,
        &json!({"enough": true}),
        "a ok | close unsent | +1m | close ok",
        &expect![[r#"
        begin: -> action a
        a ok: done = nothing; commit; on_end begins -> action close
        close unsent: again in 46ms
        +1m: -> action close #2
        close ok: settled succeeded
    "#]],
    );
    check(
        &whole,
        &json!({"enough": false}),
        "a ok | b refused | a undo ok | tell ok | close ok",
        &expect![[r#"
        begin: -> action a
        a ok: done passed -> action b
        b refused: b refused; abort (no) -> compensate a
        a undo ok: on_abort begins -> action tell
        tell ok: on_end begins -> action close
        close ok: settled compensated
    "#]],
    );
}

#[test]
fn a_success_skips_on_abort_and_ends_with_on_end() {
    check(
        &phased(&json!([saga("a")])),
        &json!({}),
        "a ok | close ok",
        &expect![[r#"
        begin: -> action a
        a ok: commit; on_end begins -> action close
        close ok: settled succeeded
    "#]],
    );
    let (mut drive, _) = Drive::begin(plan(&phased(&json!([saga("a")]))), None);
    answer(&mut drive, "a", "ok");
    assert_eq!(
        (drive.transaction.status(), drive.transaction.decision()),
        (Status::Confirming, Some(Decision::Commit))
    );
    answer(&mut drive, "close", "ok");
    assert_eq!((status_of(&drive, "tell"), status_of(&drive, "close")), (BranchStatus::Skipped, BranchStatus::Done));
}

#[test]
fn on_end_waits_for_confirms_and_for_the_tail() {
    check(
        &phased(&json!([tcc("hold"), role("pay", "pivot"), role("mail", "retriable")])),
        &json!({}),
        "hold ok | pay ok | mail ok | hold confirm unsent | +1m | hold confirm ok | close ok",
        &expect![[r#"
            begin: -> try hold
            hold ok: -> action pay
            pay ok: commit -> confirm hold, action mail
            mail ok:
            hold confirm unsent: again in 118ms
            +1m: -> confirm hold #2
            hold confirm ok: on_end begins -> action close
            close ok: settled succeeded
        "#]],
    );
}

#[test]
fn on_abort_waits_for_what_is_in_flight_and_for_a_stuck_undo() {
    let arm = |step: Value| json!({"steps": [step]});
    let both = json!([{"name": "both", "parallel": [arm(saga("a")), arm(saga("b"))]}]);
    let stuck = with(phased(&both), &json!({"defaults": {"settle": {"retry": {"max_attempts": 1}}}}));
    check(
        &stuck,
        &json!({}),
        "a refused | b ok | b undo refused | skip b | tell ok | close ok",
        &expect![[r#"
        begin: -> action a, action b
        a refused: a refused; abort (no)
        b ok: -> compensate b
        b undo refused: again in 0ms; b stuck (no); suspended
        skip b: skipped; on_abort begins -> action tell
        tell ok: on_end begins -> action close
        close ok: settled compensated
    "#]],
    );
}

#[test]
fn an_operators_fail_settles_without_them() {
    let definition =
        with(phased(&json!([saga("a")])), &json!({"defaults": {"settle": {"retry": {"max_attempts": 1}}}}));
    check(
        &definition,
        &json!({}),
        "fail",
        &expect![[r#"
        begin: -> action a
        fail: settled failed
    "#]],
    );
    check(
        &definition,
        &json!({}),
        "a refused | tell refused | fail",
        &expect![[r#"
        begin: -> action a
        a refused: a refused; abort (no); on_abort begins -> action tell
        tell refused: again in 0ms; tell stuck (no); suspended
        fail: settled failed
    "#]],
    );
}

#[test]
fn where_nothing_ran_on_abort_begins_at_once_also_after_a_cancel_or_a_deadline() {
    check(
        &phased(&json!([saga("a")])),
        &json!({}),
        "a refused | tell ok | close ok",
        &expect![[r#"
        begin: -> action a
        a refused: a refused; abort (no); on_abort begins -> action tell
        tell ok: on_end begins -> action close
        close ok: settled compensated
    "#]],
    );
    check(
        &phased(&json!([saga("a")])),
        &json!({}),
        "cancel | a refused | tell ok | close ok",
        &expect![[r#"
        begin: -> action a
        cancel: cancel requested; abort (cancelled)
        a refused: a refused; on_abort begins -> action tell
        tell ok: on_end begins -> action close
        close ok: settled compensated
    "#]],
    );
    let timed = with(phased(&json!([saga("a")])), &json!({"timeout": "5m"}));
    check(
        &timed,
        &json!({}),
        "+6m | a ok | a undo ok | tell ok | close ok",
        &expect![[r#"
        begin: -> action a
        +6m: deadline; abort (deadline)
        a ok: -> compensate a
        a undo ok: on_abort begins -> action tell
        tell ok: on_end begins -> action close
        close ok: settled compensated
    "#]],
    );
}

#[test]
fn a_cancel_changes_nothing_any_more() {
    check(
        &phased(&json!([saga("a")])),
        &json!({}),
        "a refused | cancel | tell ok | cancel | close ok",
        &expect![[r#"
        begin: -> action a
        a refused: a refused; abort (no); on_abort begins -> action tell
        cancel:
        tell ok: on_end begins -> action close
        cancel:
        close ok: settled compensated
    "#]],
    );
    check(
        &phased(&json!([saga("a")])),
        &json!({}),
        "a ok | cancel | close ok",
        &expect![[r#"
        begin: -> action a
        a ok: commit; on_end begins -> action close
        cancel: rejected already_committed
        close ok: settled succeeded
    "#]],
    );
}

#[test]
fn they_are_driven_until_done_unless_the_definition_says_otherwise() {
    check(
        &phased(&json!([saga("a")])),
        &json!({}),
        "a refused | tell refused | +1m | tell unknown | +1m | tell ok | close ok",
        &expect![[r#"
            begin: -> action a
            a refused: a refused; abort (no); on_abort begins -> action tell
            tell refused: again in 196ms
            +1m: -> action tell #2
            tell unknown: again in 206ms
            +1m: -> action tell #3
            tell ok: on_end begins -> action close
            close ok: settled compensated
        "#]],
    );
    let bounded = |word: &str| {
        let mut definition = phased(&json!([saga("a")]));
        definition["on_abort"][0]["action"]["retry"] = json!({"max_attempts": 1});
        definition["on_abort"][0]["action"]["on_exhausted"] = json!(word);
        definition
    };
    check(
        &bounded("ignore"),
        &json!({}),
        "a refused | tell refused | close ok",
        &expect![[r#"
        begin: -> action a
        a refused: a refused; abort (no); on_abort begins -> action tell
        tell refused: again in 0ms; tell exhausted; on_end begins -> action close
        close ok: settled compensated
    "#]],
    );
    check(
        &bounded("suspend"),
        &json!({}),
        "a refused | tell refused | resume | tell ok | close ok",
        &expect![[r#"
        begin: -> action a
        a refused: a refused; abort (no); on_abort begins -> action tell
        tell refused: again in 0ms; tell stuck (no); suspended
        resume: resumed; retried -> action tell #2
        tell ok: on_end begins -> action close
        close ok: settled compensated
    "#]],
    );
}

#[test]
fn a_crash_or_a_snapshot_in_the_middle_of_a_phase_changes_nothing_of_what_it_comes_to() {
    let steps = json!([saga("a"), saga("b")]);
    let two = json!({"on_abort": [role("tell", "retriable"), role("ticket", "retriable")]});
    check(
        &with(phased(&steps), &two),
        &json!({}),
        "a ok | b refused | crash | a undo ok | crash | tell ok | snapshot | crash | ticket ok | snapshot | crash | close ok",
        &expect![[r#"
            begin: -> action a
            a ok: -> action b
            b refused: b refused; abort (no) -> compensate a
            crash: adopted -> compensate a #2
            a undo ok: on_abort begins -> action tell
            crash: adopted -> action tell #2
            tell ok: -> action ticket
            snapshot: snapshot
            crash: adopted -> action ticket #2
            ticket ok: on_end begins -> action close
            snapshot: snapshot
            crash: adopted -> action close #2
            close ok: settled compensated
        "#]],
    );
    check(
        &with(phased(&steps), &two),
        &json!({}),
        "a ok | b ok | snapshot | crash | close unknown | park | +1m | close ok",
        &expect![[r#"
            begin: -> action a
            a ok: -> action b
            b ok: commit; on_end begins -> action close
            snapshot: snapshot
            crash: adopted -> action close #2
            close unknown: again in 46ms
            park:
            +1m: -> action close #3
            close ok: settled succeeded
        "#]],
    );
}

#[test]
fn whatever_the_tail_may_hold_may_stand_in_them() {
    let blocks = json!([
        {"name": "why", "set": {"code": "${transaction.error.code}"}},
        {"name": "each", "map": {"items": [1, 2], "max_concurrency": 1, "steps": [role("mail", "retriable")]}},
        {"name": "which", "choice": [
            {"when": "steps.why.output.code == 'no'", "steps": [role("short", "retriable")]},
            {"otherwise": true, "steps": [role("long", "retriable")]}]},
        {"name": "both", "parallel": [
            {"steps": [role("x", "retriable")]}, {"steps": [{"name": "pause", "wait": {"for": "1m"}}]}]},
        with(role("never", "retriable"), &json!({"when": "transaction.status == 'succeeded'"})),
    ]);
    check(
        &with(definition(&json!([saga("a"), saga("b")])), &json!({"on_abort": blocks})),
        &json!({}),
        "a ok | b refused | a undo ok | each.0.mail ok | crash | each.1.mail ok | short ok | x ok | +1m",
        &expect![[r#"
            begin: -> action a
            a ok: -> action b
            b refused: b refused; abort (no) -> compensate a
            a undo ok: on_abort begins; why = {"code":"no"}; each of 2 -> action each.0.mail
            each.0.mail ok: -> action each.1.mail
            crash: adopted -> action each.1.mail #2
            each.1.mail ok: which~ chose 0 -> action short
            short ok: pause waits 1m -> action x
            x ok:
            +1m: pause waited; never passed; settled compensated
        "#]],
    );
}

#[test]
fn they_read_how_it_ended_and_why_and_what_may_have_run_and_a_retry_sends_the_same() {
    let mut definition = phased(&json!([saga("a"), saga("b")]));
    definition["on_abort"][0]["action"]["body"] = json!({
        "code": "${transaction.error.code}", "step": "${coalesce(transaction.error.step, '')}",
        "message": "${coalesce(transaction.error.message, 'none')}", "status": "${transaction.status}",
        "a": "${has(steps.a.output) ? steps.a.output.id : 'none'}", "b": "${steps.b.status}",
    });
    definition["on_end"][0]["action"]["body"] = json!({
        "status": "${transaction.status}", "failed": "${has(transaction.error)}", "told": "${steps.tell.status}",
        "error": "${coalesce(transaction.error, {})}",
    });
    let plan = plan(&definition);
    let (mut drive, _) = Drive::begin_with(plan.clone(), None, Some(Json::of(&json!({}))));
    answer(&mut drive, "a", r#"ok={"id":7}"#);
    answer(&mut drive, "b", "refused");
    answer(&mut drive, "a", "ok");
    let told = json!({"code": "no", "step": "b", "message": "none", "status": "compensated", "a": 7, "b": "refused"});
    assert_eq!(answer(&mut drive, "tell", "unknown"), told);
    let _ = drive.reload(Continuity::Broken);
    drive.now = drive.now.plus(std::time::Duration::from_secs(60));
    assert_eq!(answer(&mut drive, "tell", "ok"), told);
    let error = json!({"code": "no", "step": "b"});
    let ended = json!({"status": "compensated", "failed": true, "told": "done", "error": error});
    assert_eq!(answer(&mut drive, "close", "ok"), ended);
    assert_eq!(drive.transaction.status(), Status::Compensated);

    let (mut drive, _) = Drive::begin_with(plan.clone(), None, Some(Json::of(&json!({}))));
    let _ = drive.decide(Input::Command(Command::Cancel { reason: Some("enough".to_owned()) })).unwrap();
    let told = json!({"code": "cancelled", "step": "", "message": "enough", "status": "compensated", "a": "none", "b": "skipped"});
    assert_eq!(answer(&mut drive, "tell", "ok"), told);

    let (mut drive, _) = Drive::begin_with(plan, None, Some(Json::of(&json!({}))));
    answer(&mut drive, "a", r#"ok={"id":7}"#);
    answer(&mut drive, "b", "ok");
    let ended = json!({"status": "succeeded", "failed": false, "told": "skipped", "error": {}});
    assert_eq!(answer(&mut drive, "close", "ok"), ended);
    assert_eq!(drive.transaction.status(), Status::Succeeded);
}
