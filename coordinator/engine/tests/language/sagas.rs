//! `saga`: another definition's steps, under this one's path.

use expect_test::expect;
use serde_json::{Value, json};
use skald_engine::definition::{Library, compile_with};

use crate::{check_with, definition, role, saga, tcc, with};

fn named(name: &str, version: &str, steps: &Value) -> Value {
    with(definition(steps), &json!({"name": name, "version": version}))
}

fn include(name: &str, saga: &Value) -> Value {
    json!({"name": name, "saga": saga})
}

#[test]
fn an_included_saga_runs_in_its_place_and_is_undone_with_the_rest() {
    let payment = named("payment", "1.0.0", &json!([saga("reserve"), saga("book")]));
    let whole = definition(&json!([saga("a"), include("pay", &json!({"workflow": "payment"})), saga("z")]));
    check_with(
        &whole,
        std::slice::from_ref(&payment),
        &json!({}),
        "a ok | pay.reserve ok | pay.book ok | z refused | pay.book undo ok | pay.reserve undo ok | a undo ok",
        &expect![[r#"
            begin: -> action a
            a ok: pay~ = {} -> action pay.reserve
            pay.reserve ok: -> action pay.book
            pay.book ok: -> action z
            z refused: z refused; abort (no) -> compensate pay.book
            pay.book undo ok: -> compensate pay.reserve
            pay.reserve undo ok: -> compensate a
            a undo ok: settled compensated
        "#]],
    );
}

#[test]
fn its_names_are_its_own_and_its_input_and_output_pass_through() {
    let mut book = saga("a");
    book["action"]["path"] = json!("/book/${input.amount}/${steps.first.output.id}");
    let payment = with(
        named("payment", "1.0.0", &json!([saga("first"), book])),
        &json!({"output": {"id": "${steps.a.output.id}", "of": "${input.amount}"}}),
    );
    let pay = include(
        "pay",
        &json!({"workflow": "payment", "version": "1.0.0", "input": {"amount": "${steps.a.output.n + 1}"}}),
    );
    let whole = with(definition(&json!([saga("a"), pay])), &json!({"output": "${steps.pay.output}"}));
    let mut library = Library::default();
    library.add(&payment.to_string());
    let plan = compile_with(&whole.to_string(), &library).unwrap().plan;
    let (mut drive, _) = crate::common::Drive::begin(plan, None);
    let mut answer = |name: &str, body: &str| {
        let [call] = drive.send()[..] else { panic!("one call") };
        let request = drive.transaction.render(call).unwrap();
        assert_eq!(request.branch.as_str(), name);
        let reply = crate::common::reply(&format!("ok={body}"));
        let _ = drive.decide(skald_engine::Input::Replied { call, reply }).unwrap();
        format!("{:?}", request.target)
    };
    answer("a", r#"{"n": 6}"#);
    answer("pay.first", r#"{"id": "f/1"}"#);
    assert_eq!(answer("pay.a", r#"{"id": "b"}"#), r#"Path("/book/7/f%2F1")"#);
    let view = drive.transaction.view(0..10);
    assert_eq!(view.output.unwrap().text(), r#"{"id":"b","of":7}"#);
    let shown: Vec<_> = view.branches.iter().map(|branch| branch.branch.as_str()).collect();
    assert_eq!(shown, ["a", "pay.first", "pay.a", "pay"]);
}

#[test]
fn its_pivot_is_the_parents_and_what_it_tries_is_confirmed_there() {
    let payment = named("payment", "1.0.0", &json!([tcc("hold"), role("capture", "pivot")]));
    let whole =
        definition(&json!([saga("a"), include("pay", &json!({"workflow": "payment"})), role("ship", "retriable")]));
    check_with(
        &whole,
        std::slice::from_ref(&payment),
        &json!({}),
        "a ok | pay.hold ok | pay.capture ok | pay.hold confirm ok | ship ok",
        &expect![[r#"
            begin: -> action a
            a ok: pay~ = {} -> try pay.hold
            pay.hold ok: -> action pay.capture
            pay.capture ok: commit -> confirm pay.hold, action ship
            pay.hold confirm ok:
            ship ok: settled succeeded
        "#]],
    );
}

#[test]
fn a_condition_skips_all_of_it_and_it_may_stand_in_a_map() {
    let payment = named(
        "payment",
        "1.0.0",
        &json!([saga("x"), {"name": "m", "map": {"items": "${input.parts}", "steps": [saga("y")]}}]),
    );
    let pay = with(
        include("pay", &json!({"workflow": "payment", "input": {"parts": "${line.parts}"}})),
        &json!({"when": "line.pays"}),
    );
    let whole =
        definition(&json!([{"name": "each", "map": {"items": "${input.lines}", "as": "line", "steps": [pay]}}]));
    check_with(
        &whole,
        std::slice::from_ref(&payment),
        &json!({"lines": [{"pays": true, "parts": [1, 2]}, {"pays": false}]}),
        "each.0.pay.x ok | each.0.pay.m.1.y ok | each.0.pay.m.0.y refused | each.0.pay.m.1.y undo ok | each.0.pay.x undo ok",
        &expect![[r#"
            begin: each of 2; each.0.pay~ = {"parts":[1,2]}; each.1.pay~ passed -> action each.0.pay.x
            each.0.pay.x ok: each.0.pay.m of 2 -> action each.0.pay.m.0.y, action each.0.pay.m.1.y
            each.0.pay.m.1.y ok:
            each.0.pay.m.0.y refused: each.0.pay.m.0.y refused; abort (no) -> compensate each.0.pay.m.1.y
            each.0.pay.m.1.y undo ok: -> compensate each.0.pay.x
            each.0.pay.x undo ok: settled compensated
        "#]],
    );
}

#[test]
fn what_an_included_saga_is_handed_must_be_what_it_takes() {
    let takes = json!({"input": {"type": "object", "required": ["amount"], "properties": {"amount": {"type": "integer", "minimum": 1}}}});
    let payment = with(named("payment", "1.0.0", &json!([saga("book")])), &takes);
    // What the answer holds is known when it comes, and not to the compiler.
    let pay = include("pay", &json!({"workflow": "payment", "input": {"amount": "${steps.a.output.n}"}}));
    let whole = definition(&json!([saga("a"), pay]));
    check_with(
        &whole,
        std::slice::from_ref(&payment),
        &json!({}),
        r#"a ok={"n":1} | pay.book ok"#,
        &expect![[r#"
            begin: -> action a
            a ok={"n":1}: pay~ = {"amount":1} -> action pay.book
            pay.book ok: commit; settled succeeded
        "#]],
    );
    check_with(
        &whole,
        std::slice::from_ref(&payment),
        &json!({}),
        r#"a ok={"n":0} | a undo ok"#,
        &expect![[r#"
            begin: -> action a
            a ok={"n":0}: pay~ failed (invalid_input); abort (invalid_input) -> compensate a
            a undo ok: settled compensated
        "#]],
    );
}

#[test]
fn a_workflow_with_phases_of_its_own_is_not_included() {
    for phase in ["on_abort", "on_end"] {
        let payment =
            with(named("payment", "1.0.0", &json!([saga("book")])), &json!({phase: [role("tell", "retriable")]}));
        let whole = definition(&json!([include("pay", &json!({"workflow": "payment"}))]));
        let mut library = Library::default();
        library.add(&payment.to_string());
        let faults = compile_with(&whole.to_string(), &library).unwrap_err();
        let told: Vec<_> = faults.iter().map(|fault| (fault.code.as_str(), fault.pointer.as_str())).collect();
        assert_eq!(told, [("E106", "/steps/0/saga/workflow")], "{faults:#?}");
    }
}

#[test]
fn a_workflow_whose_steps_are_all_retriable_may_be_included_in_a_phase() {
    let notice = named("notice", "1.0.0", &json!([role("mail", "retriable"), role("letter", "retriable")]));
    let on_abort = json!({"on_abort": [include("tell", &json!({"workflow": "notice"}))]});
    check_with(
        &with(definition(&json!([saga("a")])), &on_abort),
        std::slice::from_ref(&notice),
        &json!({}),
        "a refused | tell.mail ok | tell.letter ok",
        &expect![[r#"
            begin: -> action a
            a refused: a refused; abort (no); on_abort begins; tell~ = {} -> action tell.mail
            tell.mail ok: -> action tell.letter
            tell.letter ok: settled compensated
        "#]],
    );
}
