//! Asynchronous operations that are polled.

use expect_test::expect;
use serde_json::{Value, json};
use skald_engine::{Error, Input, Outcome, Reply};

use crate::{check, definition, saga};

fn polled(name: &str) -> Value {
    let mut step = saga(name);
    step["action"]["async"] =
        json!({"timeout": "1m", "poll": {"path": "/poll", "interval": "2s", "max_interval": "10s"}});
    step
}

#[test]
fn a_pending_operation_is_asked_at_growing_intervals_until_it_has_finished() {
    check(
        &definition(&json!([polled("a"), saga("b")])),
        &json!({}),
        "a pending | +2s | a pending | +3s | +1s | a unknown | +8s | a ok | b ok",
        &expect![[r#"
            begin: -> action a
            a pending:
            +2s: -> ask action a
            a pending:
            +3s:
            +1s: -> ask action a #2
            a unknown:
            +8s: -> ask action a #3
            a ok: -> action b
            b ok: commit; settled succeeded
        "#]],
    );
}

#[test]
fn a_poll_that_finds_a_refusal_is_clean_and_one_that_finds_nothing_sends_again() {
    let two = definition(&json!([saga("z"), polled("a")]));
    check(
        &two,
        &json!({}),
        "z ok | a pending | +2s | a refused | z undo ok",
        &expect![[r#"
        begin: -> action z
        z ok: -> action a
        a pending:
        +2s: -> ask action a
        a refused: a refused; abort (no) -> compensate z
        z undo ok: settled compensated
    "#]],
    );
    check(
        &two,
        &json!({}),
        "z ok | a pending | +2s | a notfound | +1m | a ok",
        &expect![[r#"
        begin: -> action z
        z ok: -> action a
        a pending:
        +2s: -> ask action a
        a notfound: did not run
        +1m: -> action a #2
        a ok: commit; settled succeeded
    "#]],
    );
}

#[test]
fn a_crash_while_it_is_polled_polls_on_and_the_timeout_is_unknown() {
    let one = definition(&json!([polled("a")]));
    check(
        &one,
        &json!({}),
        "a pending | +2s | crash | a pending | +4s | a pending | +1m | +1m | a ok",
        &expect![[r#"
            begin: -> action a
            a pending:
            +2s: -> ask action a
            crash: -> ask action a
            a pending:
            +4s: -> ask action a #2
            a pending:
            +1m: again in 28ms
            +1m: -> action a #2
            a ok: commit; settled succeeded
        "#]],
    );
}

#[test]
fn an_abort_does_not_wait_for_a_pending_operation() {
    check(
        &definition(&json!([polled("a")])),
        &json!({}),
        "a pending | +2s | cancel | a undo ok | a ok",
        &expect![[r#"
            begin: -> action a
            a pending:
            +2s: -> ask action a
            cancel: cancel requested; abort (cancelled) -> compensate a
            a undo ok: settled compensated
            a ok:
        "#]],
    );
}

#[test]
fn a_poll_that_finds_nothing_again_and_again_uses_up_the_retries() {
    let mut step = polled("a");
    step["retry"] = json!({"max_attempts": 2, "jitter": "none"});
    check(
        &definition(&json!([step])),
        &json!({}),
        "a pending | +2s | a notfound | +1m | a pending | +2s | a notfound",
        &expect![[r#"
            begin: -> action a
            a pending:
            +2s: -> ask action a
            a notfound: did not run
            +1m: -> action a #2
            a pending:
            +2s: -> ask action a #2
            a notfound: did not run; a exhausted; abort (exhausted); settled compensated
        "#]],
    );
}

#[test]
fn a_callback_that_says_it_goes_on_leaves_the_polling_alone() {
    check(
        &definition(&json!([polled("a")])),
        &json!({}),
        "a pending | callback a pending | +2s | a ok",
        &expect![[r#"
            begin: -> action a
            a pending:
            callback a pending:
            +2s: -> ask action a
            a ok: commit; settled succeeded
        "#]],
    );
}

#[test]
fn a_paused_transaction_does_not_wake_to_poll() {
    let whole = crate::with(definition(&json!([polled("a")])), &json!({"timeout": "1s", "on_timeout": "suspend"}));
    let plan = skald_engine::definition::compile(&whole.to_string()).unwrap().plan;
    let (mut drive, _) = crate::common::Drive::begin(plan, None);
    let [call] = drive.send()[..] else { panic!("one call") };
    let reply = crate::common::reply("pending");
    let _ = drive.decide(skald_engine::Input::Replied { call, reply }).unwrap();
    drive.now = drive.now.plus(std::time::Duration::from_secs(5));
    let _ = drive.decide(skald_engine::Input::Tick).unwrap();
    assert!(drive.send().is_empty());
    assert_eq!(drive.transaction.next_wake(), Some(skald_protocol::Timestamp(1_000_000 + 60_000)));
}

#[test]
fn a_poll_whose_answer_says_nothing_leaves_an_error_until_the_next_one_does() {
    let text = definition(&json!([polled("a")])).to_string();
    let plan = skald_engine::definition::compile(&text).unwrap().plan;
    let (mut drive, _) = crate::common::Drive::begin(plan, None);
    let mut answer = |outcome: Outcome| {
        drive.now = drive.now.plus(std::time::Duration::from_secs(12));
        let [call] = drive.send()[..] else { panic!("one call") };
        let _ = drive.decide(Input::Replied { call, reply: Reply::of(outcome) }).unwrap();
        let view = drive.transaction.view(0..1);
        view.branches[0].operations[0].last_error.clone().map(|error| error.code)
    };
    assert_eq!(answer(Outcome::Pending), None);
    let unclear = || Outcome::Unknown(Error::new("status_unclear", "the answer is not JSON"));
    assert_eq!(answer(unclear()).as_deref(), Some("status_unclear"));
    assert_eq!(answer(Outcome::Pending), None);
    assert_eq!(answer(unclear()).as_deref(), Some("status_unclear"));
}
