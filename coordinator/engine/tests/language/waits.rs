//! `wait`: for a time, until a moment, for a signal.

use expect_test::expect;
use serde_json::json;

use crate::{check, definition, role, saga, with};

#[test]
fn a_wait_for_a_time_goes_on_when_it_is_over_whatever_crashes() {
    let whole = definition(&json!([saga("a"), {"name": "w", "wait": {"for": "${input.pause}"}}, saga("b")]));
    check(
        &whole,
        &json!({"pause": "1h"}),
        "a ok | +59m | crash | +59s | snapshot | crash | +1s | b ok",
        &expect![[r#"
            begin: -> action a
            a ok: w waits 1h
            +59m:
            crash:
            +59s:
            snapshot: snapshot
            crash:
            +1s: w waited -> action b
            b ok: commit; settled succeeded
        "#]],
    );
    check(
        &whole,
        &json!({"pause": "soon"}),
        "a ok | a undo ok",
        &expect![[r#"
        begin: -> action a
        a ok: w failed (expression_failed); abort (expression_failed) -> compensate a
        a undo ok: settled compensated
    "#]],
    );
}

#[test]
fn a_wait_until_a_moment_and_one_that_has_passed() {
    let whole = definition(&json!([{"name": "w", "wait": {"until": "${input.at}"}}, saga("b")]));
    check(
        &whole,
        &json!({"at": "1970-01-01T01:00:00Z"}),
        "cancel",
        &expect![[r#"
        begin: w waits 2600s
        cancel: cancel requested; abort (cancelled); settled compensated
    "#]],
    );
    check(
        &whole,
        &json!({"at": "1969-01-01T01:00:00Z"}),
        "+1ms | b ok",
        &expect![[r#"
        begin: w waits 0ms
        +1ms: w waited -> action b
        b ok: commit; settled succeeded
    "#]],
    );
}

fn approval(on_timeout: &str) -> serde_json::Value {
    json!({"name": "w", "wait": {"signal": "approval", "timeout": "1d", "on_timeout": on_timeout}})
}

#[test]
fn a_signal_is_kept_before_the_wait_and_seen_by_every_wait_of_its_name() {
    let again = json!({"name": "v", "wait": {"signal": "${input.name}", "timeout": "1d"}});
    let whole = with(
        definition(&json!([saga("a"), approval("fail"), again])),
        &json!({"output": {"by": "${steps.w.output.by}", "also": "${signals.approval.by}"}}),
    );
    check(
        &whole,
        &json!({"name": "approval"}),
        r#"signal approval {"by":"ann"} | signal approval {"by":"ann"} | signal approval {"by":"bob"} | crash | a ok | signal approval"#,
        &expect![[r#"
            begin: -> action a
            signal approval {"by":"ann"}: signal approval
            signal approval {"by":"ann"}:
            signal approval {"by":"bob"}: rejected signal_conflict
            crash: adopted -> action a #2
            a ok: w = {"by":"ann"}; v = {"by":"ann"}; commit; settled succeeded
            signal approval: rejected signal_conflict
        "#]],
    );
    check(
        &whole,
        &json!({"name": "approval"}),
        r#"a ok | +23h | foreign signal approval {"by":"ann"}"#,
        &expect![[r#"
            begin: -> action a
            a ok: w waits 1d
            +23h:
            foreign signal approval {"by":"ann"}: signal approval; w = {"by":"ann"}; v = {"by":"ann"}; commit; settled succeeded
        "#]],
    );
}

#[test]
fn without_a_signal_the_wait_fails_or_goes_on_as_it_says() {
    check(
        &definition(&json!([saga("a"), approval("fail"), saga("b")])),
        &json!({}),
        "a ok | +23h | crash | +1h | a undo ok",
        &expect![[r#"
            begin: -> action a
            a ok: w waits 1d
            +23h:
            crash:
            +1h: w failed (signal_timeout); abort (signal_timeout) -> compensate a
            a undo ok: settled compensated
        "#]],
    );
    let goes_on = definition(&json!([
        saga("a"),
        approval("continue"),
        with(saga("b"), &json!({"when": "has(steps.w.output.by)"})),
        saga("c"),
    ]));
    check(
        &goes_on,
        &json!({}),
        "a ok | +1d | signal approval | c ok",
        &expect![[r#"
        begin: -> action a
        a ok: w waits 1d
        +1d: w waited; b passed -> action c
        signal approval: signal approval
        c ok: commit; settled succeeded
    "#]],
    );
    check(
        &goes_on,
        &json!({}),
        r#"a ok | signal approval {"by":1} | b ok | c ok"#,
        &expect![[r#"
        begin: -> action a
        a ok: w waits 1d
        signal approval {"by":1}: signal approval; w = {"by":1} -> action b
        b ok: -> action c
        c ok: commit; settled succeeded
    "#]],
    );
}

#[test]
fn a_wait_in_a_block_that_fails_is_given_up() {
    let block = json!({"name": "p", "parallel": [{"steps": [approval("fail"), saga("b")]}, {"steps": [saga("c")]}]});
    check(
        &definition(&json!([saga("a"), block])),
        &json!({}),
        "a ok | c refused | a undo ok | signal approval",
        &expect![[r#"
            begin: -> action a
            a ok: w waits 1d -> action c
            c refused: c refused; abort (no) -> compensate a
            a undo ok: settled compensated
            signal approval: rejected settled
        "#]],
    );
}

#[test]
fn a_wait_in_the_tail_holds_the_end_and_nothing_else() {
    let whole = definition(&json!([role("p", "pivot"), approval("continue"), role("mail", "retriable")]));
    check(
        &whole,
        &json!({}),
        "p ok | cancel | +1d | mail ok",
        &expect![[r#"
        begin: -> action p
        p ok: commit; w waits 1d
        cancel: rejected already_committed
        +1d: w waited -> action mail
        mail ok: settled succeeded
    "#]],
    );
}

#[test]
fn a_retry_sees_the_signals_that_its_first_attempt_saw() {
    let mut step = saga("a");
    step["action"]["body"] = json!({"early": "${has(signals.go)}"});
    let plan = skald_engine::definition::compile(&definition(&json!([step])).to_string()).unwrap().plan;
    let (mut drive, _) = crate::common::Drive::begin(plan, None);
    let body =
        |drive: &crate::common::Drive, call| drive.transaction.render(call).unwrap().body.unwrap().text().to_owned();
    let [call] = drive.send()[..] else { panic!("one call") };
    assert_eq!(body(&drive, call), r#"{"early":false}"#);
    let go = skald_engine::Command::Signal { name: "go".to_owned(), payload: None };
    let _ = drive.decide(skald_engine::Input::Command(go)).unwrap();
    let _ = drive.decide(skald_engine::Input::Replied { call, reply: crate::common::reply("unknown") }).unwrap();
    drive.now = drive.now.plus(std::time::Duration::from_secs(60));
    let [again] = drive.send()[..] else { panic!("one call") };
    assert_eq!(body(&drive, again), r#"{"early":false}"#);
}

#[test]
fn an_undo_sends_what_the_step_sent_whatever_signal_came_later() {
    let mut step = saga("a");
    step["action"]["body"] = json!({"early": "${has(signals.go)}"});
    let plan = skald_engine::definition::compile(&definition(&json!([step, saga("b")])).to_string()).unwrap().plan;
    let (mut drive, _) = crate::common::Drive::begin(plan, None);
    let answer = |drive: &mut crate::common::Drive, call, word| {
        let _ = drive.decide(skald_engine::Input::Replied { call, reply: crate::common::reply(word) }).unwrap();
    };
    let [call] = drive.send()[..] else { panic!("one call") };
    answer(&mut drive, call, "ok");
    let go = skald_engine::Command::Signal { name: "go".to_owned(), payload: None };
    let _ = drive.decide(skald_engine::Input::Command(go)).unwrap();
    let [call] = drive.send()[..] else { panic!("one call") };
    answer(&mut drive, call, "refused");
    let [undo] = drive.send()[..] else { panic!("one call") };
    assert_eq!(drive.transaction.render(undo).unwrap().body.unwrap().text(), r#"{"early":false}"#);
}

#[test]
fn a_signal_without_a_payload_leaves_null_and_one_that_never_came_nothing() {
    let read = json!({"name": "r", "set": {"came": "${has(steps.w.output)}", "what": "${coalesce(steps.w.output)}"}});
    let whole = definition(&json!([approval("continue"), read]));
    check(
        &whole,
        &json!({}),
        "signal approval | crash",
        &expect![[r#"
        begin: w waits 1d
        signal approval: signal approval; w = null; r = {"came":true,"what":null}; commit; settled succeeded
        crash:
    "#]],
    );
}

#[test]
fn a_wait_for_what_can_be_no_signal_fails_at_once() {
    let wait = json!({"name": "w", "wait": {"signal": "approve-${input.sku}", "timeout": "365d"}});
    check(
        &definition(&json!([saga("a"), wait])),
        &json!({"sku": "SK 417"}),
        "a ok | a undo ok",
        &expect![[r#"
        begin: -> action a
        a ok: w failed (expression_failed); abort (expression_failed) -> compensate a
        a undo ok: settled compensated
    "#]],
    );
}

#[test]
fn a_call_that_could_never_be_made_is_not_undone_also_after_a_crash() {
    let mut step = saga("b");
    step["action"]["body"] = json!({"v": "${input.x.y}"});
    let plan = skald_engine::definition::compile(&definition(&json!([saga("a"), step])).to_string()).unwrap().plan;
    let (mut drive, _) =
        crate::common::Drive::begin_with(plan, None, Some(skald_protocol::Json::of(&json!({"x": {}}))));
    let [call] = drive.send()[..] else { panic!("one call") };
    let reply = crate::common::reply("ok");
    let _ = drive.decide(skald_engine::Input::Replied { call, reply }).unwrap();
    let _ = drive.reload(skald_engine::transaction::Continuity::Broken);
    let [call] = drive.transaction.owed(drive.now)[..] else { panic!("one call") };
    let error = drive.transaction.render(call).unwrap_err();
    let _ = drive.decide(skald_engine::Input::Unrenderable { call, error }).unwrap();
    let [undo] = drive.send()[..] else { panic!("one call") };
    assert_eq!(drive.transaction.branch_id(undo.branch).as_str(), "a");
}

fn first(on_timeout: &str) -> serde_json::Value {
    json!({"name": "w", "wait": {"signal": ["approved", "${input.other}"], "timeout": "1d", "on_timeout": on_timeout}})
}

#[test]
fn of_several_signals_the_first_that_comes_ends_the_wait_and_the_others_are_kept() {
    let later = json!({"name": "v", "wait": {"signal": "approved", "timeout": "1d"}});
    let whole = with(
        definition(&json!([saga("a"), first("fail"), saga("b"), later])),
        &json!({"output": "${steps.w.output.signal}: ${steps.w.output.payload.by}"}),
    );
    check(
        &whole,
        &json!({"other": "rejected"}),
        r#"a ok | signal other 1 | +23h | snapshot | crash | foreign signal rejected {"by":"ann"} | signal approved 2 | b ok"#,
        &expect![[r#"
            begin: -> action a
            a ok: w waits 1d
            signal other 1: signal other
            +23h:
            snapshot: snapshot
            crash:
            foreign signal rejected {"by":"ann"}: signal rejected; w = {"signal":"rejected","payload":{"by":"ann"}} -> action b
            signal approved 2: signal approved
            b ok: v = 2; commit; settled succeeded
        "#]],
    );
}

#[test]
fn of_those_that_came_before_the_wait_the_earliest_ends_it() {
    check(
        &definition(&json!([saga("a"), first("fail")])),
        &json!({"other": "rejected"}),
        r#"signal other | signal rejected 1 | signal approved 2 | crash | a ok"#,
        &expect![[r#"
            begin: -> action a
            signal other: signal other
            signal rejected 1: signal rejected
            signal approved 2: signal approved
            crash: adopted -> action a #2
            a ok: w = {"signal":"rejected","payload":1}; commit; settled succeeded
        "#]],
    );
}

#[test]
fn without_any_of_several_signals_the_wait_fails_or_goes_on_as_it_says() {
    check(
        &definition(&json!([saga("a"), first("fail")])),
        &json!({"other": "rejected"}),
        "a ok | signal other | +1d | a undo ok",
        &expect![[r#"
            begin: -> action a
            a ok: w waits 1d
            signal other: signal other
            +1d: w failed (signal_timeout); abort (signal_timeout) -> compensate a
            a undo ok: settled compensated
        "#]],
    );
    let goes_on = json!([first("continue"), {"name": "r", "set": {"came": "${has(steps.w.output)}"}}]);
    check(
        &definition(&goes_on),
        &json!({"other": "rejected"}),
        "+1d",
        &expect![[r#"
        begin: w waits 1d
        +1d: w waited; r = {"came":false}; commit; settled succeeded
    "#]],
    );
    check(
        &definition(&json!([saga("a"), first("fail")])),
        &json!({"other": "no name"}),
        "a ok | a undo ok",
        &expect![[r#"
        begin: -> action a
        a ok: w failed (expression_failed); abort (expression_failed) -> compensate a
        a undo ok: settled compensated
    "#]],
    );
}

#[test]
fn a_list_of_one_signal_tells_its_name_too() {
    let one = json!({"name": "w", "wait": {"signal": ["approved"], "timeout": "1d"}});
    check(
        &definition(&json!([one])),
        &json!({}),
        "signal approved",
        &expect![[r#"
        begin: w waits 1d
        signal approved: signal approved; w = {"signal":"approved","payload":null}; commit; settled succeeded
    "#]],
    );
}

#[test]
fn a_number_in_the_payload_of_the_first_signal_keeps_its_digits() {
    check(
        &definition(&json!([first("fail")])),
        &json!({"other": "rejected"}),
        r#"signal approved {"amount":12345678901234567.89}"#,
        &expect![[r#"
            begin: w waits 1d
            signal approved {"amount":12345678901234567.89}: signal approved; w = {"signal":"approved","payload":{"amount":12345678901234567.89}}; commit; settled succeeded
        "#]],
    );
}

#[test]
fn who_looks_sees_which_signals_are_waited_for() {
    let one = json!({"name": "v", "wait": {"signal": "go", "timeout": "1d"}});
    let plan = skald_engine::definition::compile(&definition(&json!([first("fail"), one])).to_string()).unwrap().plan;
    let input = Some(skald_protocol::Json::of(&json!({"other": "rejected"})));
    let (mut drive, _) = crate::common::Drive::begin_with(plan, None, input);
    let seen = |drive: &crate::common::Drive, branch| {
        let view = drive.transaction.branch_view(branch);
        (view.signal, view.signals)
    };
    assert_eq!(seen(&drive, 0), (None, vec!["approved".to_owned(), "rejected".to_owned()]));
    let word = skald_engine::Command::Signal { name: "approved".to_owned(), payload: None };
    let _ = drive.decide(skald_engine::Input::Command(word)).unwrap();
    assert_eq!(seen(&drive, 0), (None, Vec::new()));
    assert_eq!(seen(&drive, 1), (Some("go".to_owned()), Vec::new()));
}
