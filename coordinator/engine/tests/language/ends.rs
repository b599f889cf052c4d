//! `succeed`: the transaction commits where nothing is left to decide, and what has not begun is skipped.

use expect_test::expect;
use serde_json::{Value, json};

use crate::{check, definition, role, saga, tcc, with};

fn done(more: &Value) -> Value {
    with(json!({"name": "done", "succeed": {}}), more)
}

fn early() -> Value {
    done(&json!({"when": "input.enough", "succeed": {"output": {"by": "${steps.a.output.n}"}}}))
}

#[test]
fn what_was_done_stays_and_what_comes_after_is_skipped() {
    let whole = with(definition(&json!([saga("a"), early(), saga("b")])), &json!({"output": "${steps.b.output}"}));
    check(
        &whole,
        &json!({"enough": true}),
        r#"a ok={"n":7} | crash | cancel"#,
        &expect![[r#"
        begin: -> action a
        a ok={"n":7}: done = {"by":7}; commit; settled succeeded
        crash:
        cancel: rejected already_committed
    "#]],
    );
    check(
        &whole,
        &json!({"enough": false}),
        "a ok | b refused | a undo ok",
        &expect![[r#"
        begin: -> action a
        a ok: done passed -> action b
        b refused: b refused; abort (no) -> compensate a
        a undo ok: settled compensated
    "#]],
    );
}

#[test]
fn what_was_tried_is_confirmed_also_after_a_crash() {
    check(
        &definition(&json!([
            tcc("t"),
            done(&json!({"when": "input.enough"})),
            tcc("u"),
            role("p", "pivot"),
            role("mail", "retriable")
        ])),
        &json!({"enough": true}),
        "t ok | crash | t confirm unknown | snapshot | +1m | t confirm ok",
        &expect![[r#"
            begin: -> try t
            t ok: done = nothing; commit -> confirm t
            crash: adopted -> confirm t #2
            t confirm unknown: again in 84ms
            snapshot: snapshot
            +1m: -> confirm t #3
            t confirm ok: settled succeeded
        "#]],
    );
}

#[test]
fn an_arm_may_end_it_where_another_holds_the_pivot() {
    let choice = json!({"name": "how", "choice": [
        {"when": "input.n == 0", "steps": [done(&json!({"succeed": {"output": "nothing to do"}}))]},
        {"when": "input.n == 1", "steps": [{"name": "inner", "choice": [{"otherwise": true, "steps": [saga("x"), done(&json!({"name": "well"})), saga("never")]}]}]},
        {"otherwise": true, "steps": [role("p", "pivot")]}]});
    let whole = definition(&json!([saga("a"), choice, role("mail", "retriable")]));
    check(
        &whole,
        &json!({"n": 0}),
        "a ok",
        &expect![[r#"
        begin: -> action a
        a ok: how~ chose 0; done = "nothing to do"; commit; settled succeeded
    "#]],
    );
    check(
        &whole,
        &json!({"n": 1}),
        "a ok | x ok",
        &expect![[r#"
        begin: -> action a
        a ok: how~ chose 1; inner~ chose 0 -> action x
        x ok: well = nothing; commit; settled succeeded
    "#]],
    );
    check(
        &whole,
        &json!({"n": 1}),
        "a ok | x refused | a undo ok",
        &expect![[r#"
        begin: -> action a
        a ok: how~ chose 1; inner~ chose 0 -> action x
        x refused: x refused; abort (no) -> compensate a
        a undo ok: settled compensated
    "#]],
    );
    check(
        &whole,
        &json!({"n": 2}),
        "a ok | p ok | mail ok",
        &expect![[r#"
        begin: -> action a
        a ok: how~ chose 2 -> action p
        p ok: commit -> action mail
        mail ok: settled succeeded
    "#]],
    );
    check(
        &whole,
        &json!({"n": 2}),
        "a ok | p refused | a undo ok",
        &expect![[r#"
        begin: -> action a
        a ok: how~ chose 2 -> action p
        p refused: p refused; abort (no) -> compensate a
        a undo ok: settled compensated
    "#]],
    );
}

#[test]
fn an_abort_that_was_decided_before_it_stands() {
    let whole = definition(&json!([saga("a"), early(), saga("b")]));
    check(
        &whole,
        &json!({"enough": true}),
        "cancel | a ok | a undo ok",
        &expect![[r#"
        begin: -> action a
        cancel: cancel requested; abort (cancelled)
        a ok: -> compensate a
        a undo ok: settled compensated
    "#]],
    );
}

#[test]
fn an_output_that_cannot_be_made_undoes_what_ran() {
    let whole = definition(&json!([saga("a"), early(), saga("b")]));
    check(
        &whole,
        &json!({"enough": true}),
        "a ok | a undo ok",
        &expect![[r#"
        begin: -> action a
        a ok: done failed (expression_failed); abort (expression_failed) -> compensate a
        a undo ok: settled compensated
    "#]],
    );
}

#[test]
fn every_status_says_what_became_of_it() {
    let choice = json!({"name": "how", "choice": [
        {"when": "true", "steps": [done(&json!({}))]}, {"otherwise": true, "steps": [saga("x")]}]});
    let block = json!({"name": "both", "parallel": [{"steps": [saga("b")]}, {"steps": [saga("c")]}]});
    let each = json!({"name": "each", "map": {"items": [1, 2], "steps": [saga("i")]}});
    let steps = json!([tcc("t"), choice, block, each, role("p", "pivot"), role("mail", "retriable")]);
    let plan = skald_engine::definition::compile(&definition(&steps).to_string()).unwrap().plan;
    let (mut drive, _) = crate::common::Drive::begin(plan, None);
    for _ in 0..2 {
        let [call] = drive.send()[..] else { panic!("one call") };
        let reply = crate::common::reply("ok");
        let _ = drive.decide(skald_engine::Input::Replied { call, reply }).unwrap();
    }
    let view = drive.transaction.view(0..usize::MAX);
    assert_eq!(view.status, skald_protocol::Status::Succeeded);
    let statuses = view.branches.iter().map(|branch| format!("{} {}", branch.branch, branch.status));
    let expected = [
        "t confirmed",
        "done done",
        "x skipped",
        "how done",
        "b skipped",
        "c skipped",
        "both skipped",
        "each skipped",
        "p skipped",
        "mail skipped",
    ];
    assert_eq!(statuses.collect::<Vec<_>>(), expected);
}
