//! Forwards: order, blocks, the commit, what is driven after it.

use expect_test::expect;

use crate::{
    check,
    common::{Drive, plan, reply},
};

#[test]
fn steps_run_in_order_and_the_last_settles_in_its_own_record() {
    check(
        "a b c",
        "a ok | b ok | c ok",
        expect![[r#"
        begin: -> action a
        a ok: -> action b
        b ok: -> action c
        c ok: commit; settled succeeded
    "#]],
    );
}

#[test]
fn side_by_side_branches_start_together_and_join() {
    check(
        "a [b / c d] e",
        "a ok | b ok | c ok | d ok | e ok",
        expect![[r#"
        begin: -> action a
        a ok: -> action b, action c
        b ok:
        c ok: -> action d
        d ok: -> action e
        e ok: commit; settled succeeded
    "#]],
    );
}

#[test]
fn a_fast_block_aborts_at_once_and_waits_for_calls_in_flight_before_undoing_them() {
    check(
        "a [b / c d]",
        "a ok | b refused | c ok | c undo ok | a undo ok",
        expect![[r#"
        begin: -> action a
        a ok: -> action b, action c
        b refused: b refused; abort (no)
        c ok: -> compensate c
        c undo ok: -> compensate a
        a undo ok: settled compensated
    "#]],
    );
    check(
        "[b / c]",
        "b refused | c refused",
        expect![[r#"
        begin: -> action b, action c
        b refused: b refused; abort (no)
        c refused: c refused; settled compensated
    "#]],
    );
    check(
        "[b / c]",
        "b refused | c unknown | c undo ok",
        expect![[r#"
        begin: -> action b, action c
        b refused: b refused; abort (no)
        c unknown: again in 1s; halt c -> compensate c
        c undo ok: settled compensated
    "#]],
    );
    check(
        "[b / c]",
        "b refused | c unsent",
        expect![[r#"
        begin: -> action b, action c
        b refused: b refused; abort (no)
        c unsent: again in 1s; halt c; settled compensated
    "#]],
    );
}

#[test]
fn a_wait_all_block_lets_its_other_branches_finish_before_the_abort() {
    check(
        "{b / c d}",
        "b refused | c ok | d ok | d undo ok | c undo ok",
        expect![[r#"
        begin: -> action b, action c
        b refused: b refused
        c ok: -> action d
        d ok: abort (no) -> compensate d
        d undo ok: -> compensate c
        c undo ok: settled compensated
    "#]],
    );
    check(
        "{[a / c e] / d f}",
        "a refused | c ok | d ok | f ok | c undo ok | f undo ok | d undo ok",
        expect![[r#"
        begin: -> action a, action c, action d
        a refused: a refused
        c ok:
        d ok: -> action f
        f ok: abort (no) -> compensate c, compensate f
        c undo ok:
        f undo ok: -> compensate d
        d undo ok: settled compensated
    "#]],
    );
    check(
        "{[a b / c] / d}",
        "a refused | c ok | d ok | c undo ok | d undo ok",
        expect![[r#"
        begin: -> action a, action c, action d
        a refused: a refused
        c ok:
        d ok: abort (no) -> compensate c, compensate d
        c undo ok:
        d undo ok: settled compensated
    "#]],
    );
}

#[test]
fn a_tcc_branch_is_confirmed_after_the_commit_or_cancelled_after_an_abort() {
    check(
        "t(tcc) u(tcc)",
        "t ok | u ok | u confirm ok | t confirm ok",
        expect![[r#"
        begin: -> try t
        t ok: -> try u
        u ok: commit -> confirm t, confirm u
        u confirm ok:
        t confirm ok: settled succeeded
    "#]],
    );
    check(
        "t(tcc) u(tcc)",
        "t ok | u refused | t undo ok",
        expect![[r#"
        begin: -> try t
        t ok: -> try u
        u refused: u refused; abort (no) -> cancel t
        t undo ok: settled compensated
    "#]],
    );
}

#[test]
fn a_mixed_plan_confirms_at_the_pivot_beside_the_tail() {
    check(
        "t(tcc) a p(pivot) r(retriable)",
        "t ok | a ok | p ok | r unknown | t confirm ok | +1s | r ok",
        expect![[r#"
            begin: -> try t
            t ok: -> action a
            a ok: -> action p
            p ok: commit -> confirm t, action r
            r unknown: again in 1s
            t confirm ok:
            +1s: -> action r #2
            r ok: settled succeeded
        "#]],
    );
    check(
        "t(tcc) a p(pivot) r(retriable)",
        "t ok | a ok | p refused | a undo ok | t undo ok",
        expect![[r#"
        begin: -> try t
        t ok: -> action a
        a ok: -> action p
        p refused: p refused; abort (no) -> compensate a
        a undo ok: -> cancel t
        t undo ok: settled compensated
    "#]],
    );
}

#[test]
fn retriable_steps_without_a_pivot_run_after_the_commit_and_are_driven_until_done() {
    check(
        "a r(retriable)",
        "a ok | r refused | +1s | r refused | +2s | r ok",
        expect![[r#"
        begin: -> action a
        a ok: commit -> action r
        r refused: again in 1s
        +1s: -> action r #2
        r refused: again in 2s
        +2s: -> action r #3
        r ok: settled succeeded
    "#]],
    );
    check(
        "r(retriable) a",
        "r ok | a ok",
        expect![[r#"
        begin: commit -> action r
        r ok: -> action a
        a ok: settled succeeded
    "#]],
    );
}

#[test]
fn a_retriable_step_that_may_be_ignored_is_skipped_in_the_end() {
    check(
        "a r(retriable,ignore)",
        "a ok | r refused | +59s | r refused | +5s",
        expect![[r#"
        begin: -> action a
        a ok: commit -> action r
        r refused: again in 1s
        +59s: -> action r #2
        r refused: again in 0ms; r exhausted; settled succeeded
        +5s:
    "#]],
    );
}

#[test]
fn a_settling_operation_that_keeps_failing_gets_stuck_and_suspends_without_stopping_the_others() {
    check(
        "[a / b] c",
        "a ok | b ok | c refused | a undo refused | b undo ok | +59s | a undo refused | retry a | a undo ok",
        expect![[r#"
            begin: -> action a, action b
            a ok:
            b ok: -> action c
            c refused: c refused; abort (no) -> compensate a, compensate b
            a undo refused: again in 1s
            b undo ok:
            +59s: -> compensate a #2
            a undo refused: again in 0ms; a stuck (no); suspended
            retry a: retried -> compensate a #3
            a undo ok: settled compensated
        "#]],
    );
    check(
        "a b",
        "a ok | b refused | a undo unknown | +59s | a undo unknown | skip a",
        expect![[r#"
        begin: -> action a
        a ok: -> action b
        b refused: b refused; abort (no) -> compensate a
        a undo unknown: again in 1s
        +59s: -> compensate a #2
        a undo unknown: again in 0ms; a stuck (no); suspended
        skip a: skipped; settled compensated
    "#]],
    );
    check(
        "t(tcc)",
        "t ok | t confirm refused | +59s | t confirm refused | resolve t refused | resolve t ok",
        expect![[r#"
            begin: -> try t
            t ok: commit -> confirm t
            t confirm refused: again in 1s
            +59s: -> confirm t #2
            t confirm refused: again in 0ms; t stuck (no); suspended
            resolve t refused: rejected not_refusable
            resolve t ok: resolved; settled succeeded
        "#]],
    );
}

#[test]
fn an_expired_barrier_sticks_at_once() {
    check(
        "a b",
        "a ok | b refused | a undo expired | fail",
        expect![[r#"
        begin: -> action a
        a ok: -> action b
        b refused: b refused; abort (no) -> compensate a
        a undo expired: a stuck (barrier_expired); suspended
        fail: settled failed
    "#]],
    );
}

#[test]
fn what_failed_beside_a_pivot_that_succeeded_is_driven_until_done() {
    check(
        "[r(read) / p(pivot)] t(retriable)",
        "r refused | p ok | r refused | +1s | r ok | t ok",
        expect![[r#"
        begin: -> action r, action p
        r refused: r refused
        p ok: commit -> action r #2
        r refused: again in 1s
        +1s: -> action r #3
        r ok: -> action t
        t ok: settled succeeded
    "#]],
    );
    check(
        "[q(read) s(read) / r(read) / p(pivot)]",
        "r refused | q ok | p refused",
        expect![[r#"
        begin: -> action q, action r, action p
        r refused: r refused
        q ok:
        p refused: p refused; abort (no); settled compensated
    "#]],
    );
    check(
        "[r(read) s(read) / p(pivot)] t(retriable)",
        "r unknown | +1s | r unknown | +2s | r unknown | p ok | r ok | s ok | t ok",
        expect![[r#"
            begin: -> action r, action p
            r unknown: again in 1s
            +1s: -> action r #2
            r unknown: again in 2s
            +2s: -> action r #3
            r unknown: again in 0ms; r exhausted
            p ok: commit -> action r #4
            r ok: -> action s
            s ok: -> action t
            t ok: settled succeeded
        "#]],
    );
}

#[test]
fn a_status_check_that_tells_a_tail_step_was_refused_has_it_sent_again() {
    check(
        "a r(retriable,ask)",
        "a ok | r unknown | +1s | r refused | +2s | r ok",
        expect![[r#"
        begin: -> action a
        a ok: commit -> action r
        r unknown: again in 1s
        +1s: -> ask action r #2
        r refused: again in 2s
        +2s: -> action r #3
        r ok: settled succeeded
    "#]],
    );
}

#[test]
fn the_tail_waits_for_the_commit_even_where_it_follows_nothing() {
    check(
        "[a b / r(retriable)]",
        "a ok | b ok | r ok",
        expect![[r#"
        begin: -> action a
        a ok: -> action b
        b ok: commit -> action r
        r ok: settled succeeded
    "#]],
    );
}

#[test]
fn nothing_starts_any_more_once_a_step_outside_every_block_failed() {
    let mut any_order = plan("q(read) s(read) r(read) p(pivot)");
    for (branch, after) in [vec![], vec![0], vec![], vec![]].into_iter().enumerate() {
        any_order.branches[branch].after = after;
        any_order.branches[branch].tail = false;
    }
    let (mut drive, _) = Drive::begin(any_order, None);
    let calls = drive.send();
    assert_eq!(calls.iter().map(|call| call.branch).collect::<Vec<_>>(), [0, 2, 3]);
    for (call, answer) in [(calls[1], "refused"), (calls[0], "ok")] {
        let _ = drive.decide(skald_engine::Input::Replied { call, reply: reply(answer) }).unwrap();
    }
    assert!(drive.transaction.owed(drive.now).is_empty(), "only the pivot in flight is waited for");
}
