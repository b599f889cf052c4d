//! What comes from outside: callbacks, clients of open transactions, operators.

use expect_test::expect;

use crate::check;

#[test]
fn a_pending_operation_is_finished_by_its_callback_and_only_once() {
    check(
        "a(async) b",
        "a pending | callback a ok | callback a ok | callback a refused | b ok | callback a ok",
        expect![[r#"
            begin: -> action a
            a pending:
            callback a ok: -> action b
            callback a ok:
            callback a refused: rejected callback_conflict
            b ok: commit; settled succeeded
            callback a ok:
        "#]],
    );
    check(
        "a(async) b",
        "callback a ok | a pending | b ok",
        expect![[r#"
        begin: -> action a
        callback a ok: -> action b
        a pending:
        b ok: commit; settled succeeded
    "#]],
    );
    check(
        "a(async)",
        "a pending | callback a refused",
        expect![[r#"
        begin: -> action a
        a pending:
        callback a refused: a refused; abort (refused); settled compensated
    "#]],
    );
}

#[test]
fn a_missed_heartbeat_or_a_pending_timeout_is_an_unknown_attempt() {
    check(
        "a(async)",
        "a pending | +29s | callback a pending | +29s | +1s | +1s | a pending | callback a ok",
        expect![[r#"
        begin: -> action a
        a pending:
        +29s:
        callback a pending:
        +29s:
        +1s: again in 1s
        +1s: -> action a #2
        a pending:
        callback a ok: commit; settled succeeded
    "#]],
    );
    check(
        "a(async,ask)",
        "a pending | +30s | +1s | a ok",
        expect![[r#"
        begin: -> action a
        a pending:
        +30s: again in 1s
        +1s: -> ask action a #2
        a ok: commit; settled succeeded
    "#]],
    );
}

#[test]
fn a_pending_operation_does_not_delay_the_abort_and_its_late_callback_changes_nothing() {
    check(
        "a(async)",
        "a pending | cancel | callback a ok | callback a ok | a undo ok | callback a ok",
        expect![[r#"
        begin: -> action a
        a pending:
        cancel: cancel requested; abort (cancelled) -> compensate a
        callback a ok: late callback
        callback a ok:
        a undo ok: settled compensated
        callback a ok: rejected settled
    "#]],
    );
}

#[test]
fn on_exhausted_suspend_waits_for_a_person_who_may_cancel() {
    check(
        "a(suspend)",
        "a unsent | +1s | a unsent | +2s | a unsent | cancel",
        expect![[r#"
        begin: -> action a
        a unsent: again in 1s
        +1s: -> action a #2
        a unsent: again in 2s
        +2s: -> action a #3
        a unsent: again in 0ms; a stuck (no); suspended
        cancel: cancel requested; abort (cancelled); settled compensated
    "#]],
    );
    check(
        "a(suspend) b",
        "a unknown | +1s | a unknown | +2s | a unknown | resolve a ok | b ok",
        expect![[r#"
        begin: -> action a
        a unknown: again in 1s
        +1s: -> action a #2
        a unknown: again in 2s
        +2s: -> action a #3
        a unknown: again in 0ms; a stuck (no); suspended
        resolve a ok: resolved -> action b
        b ok: commit; settled succeeded
    "#]],
    );
}

#[test]
fn an_open_transaction_is_decided_by_its_client_or_its_deadline() {
    check(
        "open; 60s",
        "enlist x | enlist y client | commit | x ok | commit | x confirm ok | y confirm ok",
        expect![[r#"
            begin:
            enlist x: -> try x
            enlist y client:
            commit: rejected branch_unsettled
            x ok:
            commit: commit -> confirm x, confirm y
            x confirm ok:
            y confirm ok: settled succeeded
        "#]],
    );
    check(
        "open; 60s",
        "enlist x | x ok | enlist x | cancel | x undo ok | enlist z | commit",
        expect![[r#"
        begin:
        enlist x: -> try x
        x ok:
        enlist x:
        cancel: cancel requested; abort (cancelled) -> cancel x
        x undo ok: settled compensated
        enlist z: rejected decided
        commit: rejected already_cancelled
    "#]],
    );
    check(
        "open; 60s",
        "enlist x | x refused | commit",
        expect![[r#"
        begin:
        enlist x: -> try x
        x refused: x refused
        commit: commit; settled succeeded
    "#]],
    );
    check(
        "open; 60s",
        "enlist x | x unknown | +1s | x refused | commit | cancel | x undo ok",
        expect![[r#"
        begin:
        enlist x: -> try x
        x unknown: again in 1s
        +1s: -> try x #2
        x refused: x refused but may have run
        commit: rejected branch_unsettled
        cancel: cancel requested; abort (cancelled) -> cancel x
        x undo ok: settled compensated
    "#]],
    );
    check(
        "open; 60s",
        "enlist x | x ok | +60s | x undo ok",
        expect![[r#"
        begin:
        enlist x: -> try x
        x ok:
        +60s: deadline; abort (deadline) -> cancel x
        x undo ok: settled compensated
    "#]],
    );
}

#[test]
fn an_operator_may_end_it_as_failed_and_then_nothing_happens_any_more() {
    check(
        "a",
        "fail | a ok | cancel | retry | fail",
        expect![[r#"
        begin: -> action a
        fail: settled failed
        a ok:
        cancel: rejected settled
        retry: rejected settled
        fail:
    "#]],
    );
}

#[test]
fn a_full_journal_aborts_before_the_decision_and_is_ignored_after_it() {
    check(
        "a b",
        "a ok | full | b ok | b undo ok | a undo ok",
        expect![[r#"
        begin: -> action a
        a ok: -> action b
        full: journal full; abort (journal_full)
        b ok: -> compensate b
        b undo ok: -> compensate a
        a undo ok: settled compensated
    "#]],
    );
    check(
        "p(pivot) r(retriable)",
        "p ok | full | r ok",
        expect![[r#"
        begin: -> action p
        p ok: commit -> action r
        full:
        r ok: settled succeeded
    "#]],
    );
}

#[test]
fn a_suspended_transaction_that_is_enlisted_into_moves_again() {
    check(
        "open; 600s",
        "enlist x suspend | x unsent | +1s | x unsent | +2s | x unsent | enlist y | y ok",
        expect![[r#"
            begin:
            enlist x suspend: -> try x
            x unsent: again in 1s
            +1s: -> try x #2
            x unsent: again in 2s
            +2s: -> try x #3
            x unsent: again in 0ms; x stuck (no); suspended
            enlist y: -> try y
            y ok: suspended
        "#]],
    );
}

#[test]
fn a_callback_after_the_operation_was_given_up_is_recorded_and_changes_nothing() {
    check(
        "a r(retriable,ignore,async) [s(retriable) / t(retriable)]",
        "a ok | r refused | +59s | r refused | s ok | callback r ok | callback r ok | t ok",
        expect![[r#"
            begin: -> action a
            a ok: commit -> action r
            r refused: again in 1s
            +59s: -> action r #2
            r refused: again in 0ms; r exhausted -> action s, action t
            s ok:
            callback r ok: late callback
            callback r ok:
            t ok: settled succeeded
        "#]],
    );
    check(
        "a r(retriable,async)",
        "a ok | r refused | +59s | r refused | callback r refused | callback r refused | retry | r ok",
        expect![[r#"
            begin: -> action a
            a ok: commit -> action r
            r refused: again in 1s
            +59s: -> action r #2
            r refused: again in 0ms; r stuck (no); suspended
            callback r refused: late callback
            callback r refused:
            retry: retried -> action r #3
            r ok: settled succeeded
        "#]],
    );
    check(
        "a r(retriable,async)",
        "a ok | r refused | +59s | r refused | callback r ok",
        expect![[r#"
        begin: -> action a
        a ok: commit -> action r
        r refused: again in 1s
        +59s: -> action r #2
        r refused: again in 0ms; r stuck (no); suspended
        callback r ok: settled succeeded
    "#]],
    );
}
