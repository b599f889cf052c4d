//! `when`, `choice`, `set`, `fail`.

use expect_test::expect;
use serde_json::{Value, json};
use skald_engine::definition::{Library, compile_with};

use crate::{check, definition, role, saga, tcc, with};

#[test]
fn a_step_is_skipped_unless_its_condition_is_true() {
    let two = definition(&json!([with(saga("a"), &json!({"when": "input.n > 1"})), saga("b")]));
    check(
        &two,
        &json!({"n": 1}),
        "b ok",
        &expect![[r#"
            begin: a passed -> action b
            b ok: commit; settled succeeded
        "#]],
    );
    check(
        &two,
        &json!({"n": 2}),
        "a ok | b refused | a undo ok",
        &expect![[r#"
            begin: -> action a
            a ok: -> action b
            b refused: b refused; abort (no) -> compensate a
            a undo ok: settled compensated
        "#]],
    );
}

#[test]
fn a_condition_that_cannot_be_evaluated_aborts() {
    let two = definition(&json!([saga("a"), with(saga("b"), &json!({"when": "steps.a.output.ready"}))]));
    check(
        &two,
        &json!({}),
        "a ok={} | a undo ok",
        &expect![[r#"
            begin: -> action a
            a ok={}: b failed (expression_failed); abort (expression_failed) -> compensate a
            a undo ok: settled compensated
        "#]],
    );
    check(
        &two,
        &json!({}),
        r#"a ok={"ready":"yes"} | a undo ok"#,
        &expect![[r#"
            begin: -> action a
            a ok={"ready":"yes"}: b failed (expression_failed); abort (expression_failed) -> compensate a
            a undo ok: settled compensated
        "#]],
    );
}

#[test]
fn the_first_arm_whose_condition_holds_is_taken_and_the_others_are_skipped() {
    let choice = json!({"name": "c", "choice": [
        {"when": "input.n > 10", "steps": [saga("big"), saga("bigger")]},
        {"when": "input.n > 5", "steps": [saga("middle")]},
        {"otherwise": true, "steps": []},
    ]});
    let three = definition(&json!([saga("a"), choice, saga("z")]));
    check(
        &three,
        &json!({"n": 12}),
        "a ok | big ok | bigger ok | z refused | bigger undo ok | big undo ok | a undo ok",
        &expect![[r#"
            begin: -> action a
            a ok: c~ chose 0 -> action big
            big ok: -> action bigger
            bigger ok: -> action z
            z refused: z refused; abort (no) -> compensate bigger
            bigger undo ok: -> compensate big
            big undo ok: -> compensate a
            a undo ok: settled compensated
        "#]],
    );
    check(
        &three,
        &json!({"n": 7}),
        "a ok | middle ok | z ok",
        &expect![[r#"
            begin: -> action a
            a ok: c~ chose 1 -> action middle
            middle ok: -> action z
            z ok: commit; settled succeeded
        "#]],
    );
    check(
        &three,
        &json!({"n": 1}),
        "a ok | z ok",
        &expect![[r#"
            begin: -> action a
            a ok: c~ chose 2 -> action z
            z ok: commit; settled succeeded
        "#]],
    );
}

#[test]
fn a_choice_within_a_choice_and_a_condition_on_a_block() {
    let inner = json!({"name": "d", "choice": [
        {"when": "input.y", "steps": [saga("e")]}, {"otherwise": true, "steps": [saga("f")]},
    ]});
    let outer = json!({"name": "c", "when": "input.c", "choice": [
        {"when": "input.x", "steps": [inner]}, {"otherwise": true, "steps": [saga("g")]},
    ]});
    let block = json!({"name": "p", "when": "!input.c", "parallel": [{"steps": [saga("h")]}, {"steps": [saga("i")]}]});
    let whole = definition(&json!([outer, block]));
    check(
        &whole,
        &json!({"c": true, "x": true, "y": false}),
        "f ok",
        &expect![[r#"
            begin: c~ chose 0; d~ chose 1 -> action f
            f ok: p~ passed; commit; settled succeeded
        "#]],
    );
    check(
        &whole,
        &json!({"c": true, "x": false}),
        "g ok",
        &expect![[r#"
            begin: c~ chose 1 -> action g
            g ok: p~ passed; commit; settled succeeded
        "#]],
    );
    check(
        &whole,
        &json!({"c": false}),
        "h ok | i refused | h undo ok",
        &expect![[r#"
            begin: c~ passed; p~ = nothing -> action h, action i
            h ok:
            i refused: i refused; abort (no) -> compensate h
            h undo ok: settled compensated
        "#]],
    );
}

#[test]
fn a_pivot_in_each_arm_commits_whichever_arm_is_taken() {
    let choice = json!({"name": "c", "choice": [
        {"when": "input.card", "steps": [role("charge", "pivot"), role("receipt", "retriable")]},
        {"otherwise": true, "steps": [role("invoice", "pivot")]},
    ]});
    let whole = definition(&json!([saga("a"), tcc("t"), choice, role("ship", "retriable")]));
    check(
        &whole,
        &json!({"card": true}),
        "a ok | t ok | charge ok | t confirm ok | receipt ok | ship ok",
        &expect![[r#"
            begin: -> action a
            a ok: -> try t
            t ok: c~ chose 0 -> action charge
            charge ok: commit -> confirm t, action receipt
            t confirm ok:
            receipt ok: -> action ship
            ship ok: settled succeeded
        "#]],
    );
    check(
        &whole,
        &json!({"card": false}),
        "a ok | t ok | invoice refused | t undo ok | a undo ok",
        &expect![[r#"
            begin: -> action a
            a ok: -> try t
            t ok: c~ chose 1 -> action invoice
            invoice refused: invoice refused; abort (no) -> cancel t
            t undo ok: -> compensate a
            a undo ok: settled compensated
        "#]],
    );
}

#[test]
fn a_choice_in_the_tail_is_driven_and_a_fault_there_is_stuck() {
    let choice = json!({"name": "c", "choice": [
        {"when": "steps.p.output.express", "steps": [role("courier", "retriable")]},
        {"otherwise": true, "steps": [role("parcel", "retriable")]},
    ]});
    let whole = definition(&json!([role("p", "pivot"), choice]));
    check(
        &whole,
        &json!({}),
        r#"p ok={"express":false} | parcel ok"#,
        &expect![[r#"
            begin: -> action p
            p ok={"express":false}: commit; c~ chose 1 -> action parcel
            parcel ok: settled succeeded
        "#]],
    );
    check(
        &whole,
        &json!({}),
        "p ok={} | retry | resolve c~ ok | skip c~",
        &expect![[r#"
            begin: -> action p
            p ok={}: commit; c~ failed (expression_failed); suspended
            retry: retried; c~ failed (expression_failed); suspended
            resolve c~ ok: rejected not_resolvable
            skip c~: c~ passed; settled succeeded
        "#]],
    );
}

#[test]
fn set_computes_once_and_fail_aborts_with_its_code() {
    let whole = definition(&json!([
        saga("a"),
        {"name": "s", "set": {"double": "${steps.a.output.n * 2}", "text": "n is ${steps.a.output.n}"}},
        {"name": "c", "choice": [
            {"when": "steps.s.output.double > 10", "steps": [
                {"name": "f", "fail": {"error": "too_much", "message": "${steps.s.output.text}"}}]},
            {"otherwise": true, "steps": [saga("b")]},
        ]},
    ]));
    check(
        &whole,
        &json!({}),
        r#"a ok={"n":6} | a undo ok"#,
        &expect![[r#"
            begin: -> action a
            a ok={"n":6}: s = {"double":12,"text":"n is 6"}; c~ chose 0; f failed (too_much); abort (too_much) -> compensate a
            a undo ok: settled compensated
        "#]],
    );
    check(
        &whole,
        &json!({}),
        r#"a ok={"n":5} | b ok"#,
        &expect![[r#"
            begin: -> action a
            a ok={"n":5}: s = {"double":10,"text":"n is 5"}; c~ chose 1 -> action b
            b ok: commit; settled succeeded
        "#]],
    );
}

#[test]
fn what_the_coordinator_is_configured_with_is_read_as_it_stood_at_the_begin() {
    let mut step = saga("a");
    step["action"]["path"] = json!("/${config.region}");
    step["when"] = json!("!has(config.off)");
    let plan = skald_engine::definition::compile(&definition(&json!([step])).to_string()).unwrap().plan;
    assert!(plan.reads_config);
    let config = skald_protocol::Json::of(&json!({"region": "eu/1"}));
    let began = skald_engine::Began {
        plan: String::new(),
        contract: "native".to_owned(),
        input: None,
        config: Some(config),
        labels: std::collections::BTreeMap::new(),
        timeout_ms: None,
        trace: skald_engine::TraceContext::default(),
    };
    let gid = skald_protocol::Gid::new("g").unwrap();
    let now = skald_protocol::Timestamp(0);
    let (transaction, _) = skald_engine::Transaction::begin(gid, std::sync::Arc::new(plan), began, now);
    let [call] = transaction.owed(now)[..] else { panic!("one call") };
    assert_eq!(transaction.render(call).unwrap().target, skald_engine::Target::Path("/eu%2F1".to_owned()));
}

#[test]
fn what_comes_to_null_is_null_after_a_crash_too() {
    let mut reads = saga("b");
    reads["when"] = json!("steps.a.output == null && steps.s.output == null");
    let mapped = with(saga("a"), &json!({"output": "${coalesce(self.response.body.ref)}"}));
    let whole = definition(&json!([mapped, {"name": "s", "set": null}, {"name": "w", "wait": {"for": "1h"}}, reads]));
    check(
        &whole,
        &json!({}),
        r#"a ok={"ref":null} | crash | +1h | b ok"#,
        &expect![[r#"
        begin: -> action a
        a ok={"ref":null}: s = null; w waits 1h
        crash:
        +1h: w waited -> action b
        b ok: commit; settled succeeded
    "#]],
    );
}

#[test]
fn a_stuck_condition_can_be_retried_or_skipped_but_not_resolved() {
    let whole =
        definition(&json!(
            [role("p", "pivot"), with(role("r", "retriable"), &json!({"when": "steps.p.output.flag"})),]
        ));
    check(
        &whole,
        &json!({}),
        "p ok={} | resolve r ok | skip r",
        &expect![[r#"
        begin: -> action p
        p ok={}: commit; r failed (expression_failed); suspended
        resolve r ok: rejected not_resolvable
        skip r: r passed; settled succeeded
    "#]],
    );
}

#[test]
fn a_status_is_what_the_step_came_to_whatever_is_confirmed_beside_it() {
    let whole = definition(&json!([
        tcc("hold"),
        role("p", "pivot"),
        with(role("r", "retriable"), &json!({"when": "steps.hold.status == 'done'"})),
    ]));
    check(
        &whole,
        &json!({}),
        "hold ok | p ok | r ok | hold confirm ok",
        &expect![[r#"
        begin: -> try hold
        hold ok: -> action p
        p ok: commit -> confirm hold, action r
        r ok:
        hold confirm ok: settled succeeded
    "#]],
    );
}

#[test]
fn more_than_a_journal_holds_at_once_aborts_and_is_never_one_record() {
    let each =
        json!({"name": "m", "map": {"items": "${input.items}", "steps": [{"name": "s", "set": "${input.blob}"}]}});
    let input = json!({"items": vec![1; 200], "blob": "x".repeat(200_000)});
    let plan = |steps| skald_engine::definition::compile(&definition(&steps).to_string()).unwrap().plan;
    let (drive, events) =
        crate::common::Drive::begin_with(plan(json!([each])), None, Some(skald_protocol::Json::of(&input)));
    assert_eq!(drive.transaction.status(), skald_protocol::Status::Compensated);
    assert_eq!(drive.transaction.error().unwrap().code, "journal_full");
    let record = skald_engine::Record::new(drive.now, events).encode();
    assert!(record.len() < 2 * skald_engine::limit::JOURNAL, "{}", record.len());
}

#[test]
fn a_fail_keeps_its_code_where_its_message_cannot_be_made() {
    let fail = json!({"name": "f", "fail": {"error": "boo", "message": "${steps.a.output.y} is bad"}});
    check(
        &definition(&json!([saga("a"), fail])),
        &json!({}),
        "a ok={} | a undo ok",
        &expect![[r#"
        begin: -> action a
        a ok={}: f failed (boo); abort (boo) -> compensate a
        a undo ok: settled compensated
    "#]],
    );
}

#[test]
fn an_expression_that_fails_is_quoted_with_its_place() {
    let told = |step: Value, body: &str| {
        let plan = compile_with(&definition(&json!([saga("a"), step])).to_string(), &Library::default()).unwrap().plan;
        let (mut drive, _) = crate::common::Drive::begin(plan, None);
        let [call] = drive.send()[..] else { panic!("one call") };
        let reply = crate::common::reply(&format!("ok={body}"));
        let _ = drive.decide(skald_engine::Input::Replied { call, reply }).unwrap();
        let error = drive.transaction.view(0..10).error.unwrap();
        assert_eq!(error.code, "expression_failed");
        error.message.unwrap()
    };
    let when = || with(saga("b"), &json!({"when": "steps.a.output.ready"}));
    let choice = json!({"name": "c", "choice": [
        {"when": "false", "steps": [saga("x")]},
        {"when": "steps.a.output.n + 1 == 2", "steps": [saga("y")]},
        {"otherwise": true, "steps": []},
    ]});
    let map = json!({"name": "m", "map": {"items": "${steps.a.output.list}", "steps": [saga("z")]}});
    let absent = told(when(), "{}");
    assert!(absent.starts_with("`when`: ") && absent.contains("steps.a.output.ready"), "{absent}");
    let text = told(when(), r#"{"ready":"yes"}"#);
    assert!(text.starts_with("`when`: ") && text.contains("steps.a.output.ready"), "{text}");
    assert!(text.ends_with(r#"a condition is true or false, and not "yes""#), "{text}");
    let arm = told(choice, r#"{"n":"one"}"#);
    assert!(arm.starts_with("`when` of arm 2: ") && arm.contains("steps.a.output.n + 1 == 2"), "{arm}");
    let items = told(map, r#"{"list":5}"#);
    assert!(items.starts_with("`items`: ") && items.contains("steps.a.output.list"), "{items}");
    assert!(items.ends_with("the items of a map are a list, and not 5"), "{items}");
}
