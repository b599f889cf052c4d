//! Every rule of DESIGN.md §2 as a picture.

mod common;

use common::tell;
use expect_test::{Expect, expect};

#[allow(clippy::needless_pass_by_value, reason = "expect![] reads best in place")]
fn check(plan: &str, script: &str, expected: Expect) {
    expected.assert_eq(&tell(plan, script));
}

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
fn a_refusal_undoes_what_ran_in_reverse_and_nothing_else() {
    check(
        "a b c d",
        "a ok | b ok | c refused | b undo ok | a undo ok",
        expect![[r#"
        begin: -> action a
        a ok: -> action b
        b ok: -> action c
        c refused: c refused; abort (no) -> compensate b
        b undo ok: -> compensate a
        a undo ok: settled compensated
    "#]],
    );
}

#[test]
fn a_first_refusal_is_clean_and_after_an_unknown_attempt_it_is_not() {
    check(
        "a",
        "a unknown | +1s | a refused | a undo ok",
        expect![[r#"
        begin: -> action a
        a unknown: again in 1s
        +1s: -> action a #2
        a refused: a refused but may have run; abort (no) -> compensate a
        a undo ok: settled compensated
    "#]],
    );
}

#[test]
fn a_refusal_that_knows_is_clean_even_after_unknown_attempts() {
    check(
        "a",
        "a unknown | +1s | a stored-refused",
        expect![[r#"
        begin: -> action a
        a unknown: again in 1s
        +1s: -> action a #2
        a stored-refused: a refused; abort (no); settled compensated
    "#]],
    );
    check(
        "a",
        "a unknown | +1s | a superseded",
        expect![[r#"
        begin: -> action a
        a unknown: again in 1s
        +1s: -> action a #2
        a superseded: a refused; abort (no); settled compensated
    "#]],
    );
    check(
        "a(idem)",
        "a unknown | +1s | a refused",
        expect![[r#"
        begin: -> action a
        a unknown: again in 1s
        +1s: -> action a #2
        a refused: a refused; abort (no); settled compensated
    "#]],
    );
    check(
        "a(async)",
        "a unknown | callback a refused",
        expect![[r#"
        begin: -> action a
        a unknown: again in 1s
        callback a refused: a refused; abort (refused); settled compensated
    "#]],
    );
    check(
        "a(ask)",
        "a unknown | +1s | a refused",
        expect![[r#"
        begin: -> action a
        a unknown: again in 1s
        +1s: -> ask action a #2
        a refused: a refused; abort (no); settled compensated
    "#]],
    );
}

#[test]
fn unsent_attempts_are_retried_and_never_make_a_branch_undoable() {
    check(
        "a b",
        "a ok | b unsent | +1s | b unsent | +2s | b unsent | a undo ok",
        expect![[r#"
        begin: -> action a
        a ok: -> action b
        b unsent: again in 1s
        +1s: -> action b #2
        b unsent: again in 2s
        +2s: -> action b #3
        b unsent: again in 0ms; b exhausted; abort (exhausted) -> compensate a
        a undo ok: settled compensated
    "#]],
    );
}

#[test]
fn exhausted_retries_undo_what_may_have_run() {
    check(
        "a",
        "a unknown | +1s | a unknown | +2s | a unknown | a undo ok",
        expect![[r#"
        begin: -> action a
        a unknown: again in 1s
        +1s: -> action a #2
        a unknown: again in 2s
        +2s: -> action a #3
        a unknown: again in 0ms; a exhausted; abort (exhausted) -> compensate a
        a undo ok: settled compensated
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
fn undo_of_side_by_side_branches_runs_side_by_side_and_before_what_they_follow() {
    check(
        "a [b / c d] e",
        "a ok | b ok | c ok | d ok | e refused | d undo ok | b undo ok | c undo ok | a undo ok",
        expect![[r#"
            begin: -> action a
            a ok: -> action b, action c
            b ok:
            c ok: -> action d
            d ok: -> action e
            e refused: e refused; abort (no) -> compensate b, compensate d
            d undo ok: -> compensate c
            b undo ok:
            c undo ok: -> compensate a
            a undo ok: settled compensated
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
fn cancel_aborts_before_the_pivot_is_owed_and_undoes_what_is_in_flight_when_it_answers() {
    check(
        "a b p(pivot)",
        "a ok | cancel | b ok | b undo ok | a undo ok",
        expect![[r#"
        begin: -> action a
        a ok: -> action b
        cancel: cancel requested; abort (cancelled)
        b ok: -> compensate b
        b undo ok: -> compensate a
        a undo ok: settled compensated
    "#]],
    );
    check(
        "a b p(pivot)",
        "a ok | cancel | cancel | b refused | a undo ok | cancel | commit",
        expect![[r#"
        begin: -> action a
        a ok: -> action b
        cancel: cancel requested; abort (cancelled)
        cancel:
        b refused: b refused -> compensate a
        a undo ok: settled compensated
        cancel:
        commit: rejected not_open
    "#]],
    );
}

#[test]
fn once_the_pivot_may_have_run_cancel_and_deadline_are_only_recorded() {
    check(
        "p(pivot)",
        "cancel | p ok",
        expect![[r#"
        begin: -> action p
        cancel: cancel requested
        p ok: commit; settled succeeded
    "#]],
    );
    check(
        "p(pivot); 10s",
        "+10s | p unknown | +1s | p ok",
        expect![[r#"
        begin: -> action p
        +10s: deadline
        p unknown: again in 1s
        +1s: -> action p #2
        p ok: commit; settled succeeded
    "#]],
    );
    check(
        "p(pivot)",
        "cancel | p refused",
        expect![[r#"
        begin: -> action p
        cancel: cancel requested
        p refused: p refused; abort (no); settled compensated
    "#]],
    );
    check(
        "p(pivot)",
        "cancel | p unsent",
        expect![[r#"
        begin: -> action p
        cancel: cancel requested
        p unsent: again in 1s; abort (cancelled); halt p; settled compensated
    "#]],
    );
    check(
        "p(pivot)",
        "p unsent | cancel",
        expect![[r#"
        begin: -> action p
        p unsent: again in 1s
        cancel: cancel requested; abort (cancelled); halt p; settled compensated
    "#]],
    );
}

#[test]
fn a_pivot_that_may_have_run_is_never_aborted_by_exhaustion_or_by_the_refusal_of_a_resend() {
    check(
        "a p(pivot)",
        "a ok | p unknown | +1s | p refused | resolve p refused | a undo ok",
        expect![[r#"
        begin: -> action a
        a ok: -> action p
        p unknown: again in 1s
        +1s: -> action p #2
        p refused: p stuck (pivot_unknown); suspended
        resolve p refused: resolved; abort (refused) -> compensate a
        a undo ok: settled compensated
    "#]],
    );
    check(
        "a p(pivot)",
        "a ok | p unknown | +1s | p unknown | +2s | p unknown | +4s | p unknown | +60s | p unknown | retry | p ok",
        expect![[r#"
            begin: -> action a
            a ok: -> action p
            p unknown: again in 1s
            +1s: -> action p #2
            p unknown: again in 2s
            +2s: -> action p #3
            p unknown: again in 4s
            +4s: -> action p #4
            p unknown: again in 8s
            +60s: -> action p #5
            p unknown: again in 0ms; p stuck (no); suspended
            retry: retried -> action p #6
            p ok: commit; settled succeeded
        "#]],
    );
    check(
        "a p(pivot,idem)",
        "a ok | p unknown | +1s | p refused | a undo ok",
        expect![[r#"
        begin: -> action a
        a ok: -> action p
        p unknown: again in 1s
        +1s: -> action p #2
        p refused: p refused; abort (no) -> compensate a
        a undo ok: settled compensated
    "#]],
    );
    check(
        "a p(pivot)",
        "a ok | p unsent | +1s | p unsent | +2s | p unsent | a undo ok",
        expect![[r#"
        begin: -> action a
        a ok: -> action p
        p unsent: again in 1s
        +1s: -> action p #2
        p unsent: again in 2s
        +2s: -> action p #3
        p unsent: again in 0ms; p exhausted; abort (exhausted) -> compensate a
        a undo ok: settled compensated
    "#]],
    );
}

#[test]
fn a_pivot_with_a_status_check_is_asked_before_it_is_sent_again() {
    check(
        "p(pivot,ask)",
        "p unknown | +1s | p ok",
        expect![[r#"
        begin: -> action p
        p unknown: again in 1s
        +1s: -> ask action p #2
        p ok: commit; settled succeeded
    "#]],
    );
    check(
        "p(pivot,ask)",
        "p unknown | +1s | p notfound | +6s | p notfound | +8s | p ok",
        expect![[r#"
        begin: -> action p
        p unknown: again in 1s
        +1s: -> ask action p #2
        p notfound: not there yet
        +6s: -> ask action p #3
        p notfound: did not run
        +8s: -> action p #4
        p ok: commit; settled succeeded
    "#]],
    );
    check(
        "a p(pivot,ask)",
        "a ok | p unknown | cancel | +1s | p refused | a undo ok",
        expect![[r#"
        begin: -> action a
        a ok: -> action p
        p unknown: again in 1s
        cancel: cancel requested
        +1s: -> ask action p #2
        p refused: p refused; abort (no) -> compensate a
        a undo ok: settled compensated
    "#]],
    );
    check(
        "a p(pivot,ask)",
        "a ok | p unknown | cancel | +6s | p notfound | a undo ok",
        expect![[r#"
        begin: -> action a
        a ok: -> action p
        p unknown: again in 1s
        cancel: cancel requested
        +6s: -> ask action p #2
        p notfound: did not run; abort (cancelled); halt p -> compensate a
        a undo ok: settled compensated
    "#]],
    );
    check(
        "p(pivot,ask)",
        "p unknown | +1s | p unknown | +2s | p unknown",
        expect![[r#"
        begin: -> action p
        p unknown: again in 1s
        +1s: -> ask action p #2
        p unknown: again in 2s
        +2s: -> ask action p #3
        p unknown: again in 4s
    "#]],
    );
}

#[test]
fn a_crash_makes_owed_calls_may_have_run_and_parking_does_not() {
    check(
        "a b",
        "a ok | crash | b refused | +5s | b undo ok | a undo ok",
        expect![[r#"
        begin: -> action a
        a ok: -> action b
        crash: adopted -> action b #2
        b refused: b refused but may have run; abort (no)
        +5s: -> compensate b
        b undo ok: -> compensate a
        a undo ok: settled compensated
    "#]],
    );
    check(
        "a b",
        "a ok | b unsent | park | +1s | b refused | a undo ok",
        expect![[r#"
        begin: -> action a
        a ok: -> action b
        b unsent: again in 1s
        park:
        +1s: -> action b #2
        b refused: b refused; abort (no) -> compensate a
        a undo ok: settled compensated
    "#]],
    );
    check(
        "p(pivot)",
        "crash | p refused",
        expect![[r#"
        begin: -> action p
        crash: adopted -> action p #2
        p refused: p stuck (pivot_unknown); suspended
    "#]],
    );
    check(
        "p(pivot,ask)",
        "crash | p notfound | +5s | p notfound | +4s | p refused",
        expect![[r#"
        begin: -> action p
        crash: adopted -> ask action p #2
        p notfound: not there yet
        +5s: -> ask action p #3
        p notfound: did not run
        +4s: -> action p #4
        p refused: p refused; abort (no); settled compensated
    "#]],
    );
}

#[test]
fn after_a_crash_an_undo_waits_for_the_timeout_of_the_call_it_undoes() {
    check(
        "[a / b]",
        "b refused | crash | +4s | +1s | a undo ok",
        expect![[r#"
        begin: -> action a, action b
        b refused: b refused; abort (no)
        crash: adopted; halt a
        +4s:
        +1s: -> compensate a
        a undo ok: settled compensated
    "#]],
    );
    check(
        "a",
        "crash | cancel | a ok | +5s | a undo ok",
        expect![[r#"
        begin: -> action a
        crash: adopted -> action a #2
        cancel: cancel requested; abort (cancelled)
        a ok:
        +5s: -> compensate a
        a undo ok: settled compensated
    "#]],
    );
    check(
        "[a / b]",
        "a unsent | crash | cancel | b ok | +4s | +1s | a undo ok | b undo ok",
        expect![[r#"
        begin: -> action a, action b
        a unsent: again in 1s
        crash: adopted -> action b #2
        cancel: cancel requested; abort (cancelled); halt a
        b ok:
        +4s:
        +1s: -> compensate a, compensate b
        a undo ok:
        b undo ok: settled compensated
    "#]],
    );
}

#[test]
fn where_the_participant_has_the_barrier_an_undo_after_a_crash_need_not_wait() {
    check(
        "[a / b]",
        "a barrier-unknown | b refused | a undo unknown | crash",
        expect![[r#"
        begin: -> action a, action b
        a barrier-unknown: again in 1s
        b refused: b refused; abort (no); halt a -> compensate a
        a undo unknown: again in 1s
        crash: adopted
    "#]],
    );
    check(
        "[a / b]",
        "a barrier-unknown | crash | cancel | a undo ok | b ok | +5s | b undo ok",
        expect![[r#"
        begin: -> action a, action b
        a barrier-unknown: again in 1s
        crash: adopted -> action b #2
        cancel: cancel requested; abort (cancelled); halt a -> compensate a
        a undo ok:
        b ok:
        +5s: -> compensate b
        b undo ok: settled compensated
    "#]],
    );
}

#[test]
fn another_nodes_cancel_leaves_the_calls_in_flight_to_the_holder() {
    check(
        "a b",
        "a ok | foreign cancel | b ok | b undo ok | a undo ok",
        expect![[r#"
        begin: -> action a
        a ok: -> action b
        foreign cancel: cancel requested; abort (cancelled)
        b ok: -> compensate b
        b undo ok: -> compensate a
        a undo ok: settled compensated
    "#]],
    );
    check(
        "a p(pivot)",
        "a ok | foreign cancel | p ok",
        expect![[r#"
        begin: -> action a
        a ok: -> action p
        foreign cancel: cancel requested
        p ok: commit; settled succeeded
    "#]],
    );
    check(
        "a p(pivot)",
        "a ok | p unsent | foreign cancel | a undo ok",
        expect![[r#"
        begin: -> action a
        a ok: -> action p
        p unsent: again in 1s
        foreign cancel: cancel requested; abort (cancelled); halt p -> compensate a
        a undo ok: settled compensated
    "#]],
    );
}

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
            callback a ok: rejected settled
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
fn the_deadline_aborts_or_suspends_once_and_does_nothing_after_the_decision() {
    check(
        "a b; 10s",
        "a ok | +10s | b ok | b undo ok | a undo ok",
        expect![[r#"
        begin: -> action a
        a ok: -> action b
        +10s: deadline; abort (deadline)
        b ok: -> compensate b
        b undo ok: -> compensate a
        a undo ok: settled compensated
    "#]],
    );
    check(
        "a b; 10s suspend",
        "a ok | +10s | b ok | resume | +100s",
        expect![[r#"
        begin: -> action a
        a ok: -> action b
        +10s: deadline
        b ok: commit; settled succeeded
        resume: rejected settled
        +100s:
    "#]],
    );
    check(
        "a b; 10s suspend",
        "+10s | a ok | resume | b ok",
        expect![[r#"
        begin: -> action a
        +10s: deadline
        a ok: suspended
        resume: resumed -> action b
        b ok: commit; settled succeeded
    "#]],
    );
    check(
        "p(pivot) r(retriable); 10s",
        "p ok | +10s | r ok",
        expect![[r#"
        begin: -> action p
        p ok: commit -> action r
        +10s:
        r ok: settled succeeded
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
fn the_decision_ends_the_pause_of_a_deadline_that_suspends() {
    check(
        "a t(tcc); 10s suspend",
        "a ok | +10s | t ok | t confirm ok",
        expect![[r#"
        begin: -> action a
        a ok: -> try t
        +10s: deadline
        t ok: commit -> confirm t
        t confirm ok: settled succeeded
    "#]],
    );
    check(
        "a b; 10s suspend",
        "a ok | +10s | b unknown | cancel | b undo ok | a undo ok",
        expect![[r#"
        begin: -> action a
        a ok: -> action b
        +10s: deadline
        b unknown: again in 1s; suspended
        cancel: cancel requested; abort (cancelled); halt b -> compensate b
        b undo ok: -> compensate a
        a undo ok: settled compensated
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
fn an_unknown_attempt_after_a_not_found_is_never_forgotten() {
    check(
        "p(pivot,ask)",
        "p unknown | +6s | p notfound | +8s | p unknown | +8s | p notfound | +8s | p unknown | park | +8s | p ok",
        expect![[r#"
            begin: -> action p
            p unknown: again in 1s
            +6s: -> ask action p #2
            p notfound: did not run
            +8s: -> action p #3
            p unknown: again in 2s
            +8s: -> ask action p #4
            p notfound: did not run
            +8s: -> action p #5
            p unknown: again in 4s
            park:
            +8s: -> ask action p #6
            p ok: commit; settled succeeded
        "#]],
    );
}

#[test]
fn a_callback_that_overtakes_its_call_does_not_let_the_undo_race_that_call() {
    check(
        "a(async) b",
        "foreign callback a ok | b refused | a pending | a undo ok",
        expect![[r#"
        begin: -> action a
        foreign callback a ok: -> action b
        b refused: b refused; abort (no)
        a pending: -> compensate a
        a undo ok: settled compensated
    "#]],
    );
    check(
        "a(async) b",
        "foreign callback a ok | foreign cancel | b refused | a ok | a undo ok",
        expect![[r#"
        begin: -> action a
        foreign callback a ok: -> action b
        foreign cancel: cancel requested; abort (cancelled)
        b refused: b refused
        a ok: -> compensate a
        a undo ok: settled compensated
    "#]],
    );
    check(
        "a(async) b(async)",
        "callback a ok | b pending | crash | cancel | b undo ok | +4s | +1s | a undo ok",
        expect![[r#"
        begin: -> action a
        callback a ok: -> action b
        b pending:
        crash: adopted
        cancel: cancel requested; abort (cancelled) -> compensate b
        b undo ok:
        +4s:
        +1s: -> compensate a
        a undo ok: settled compensated
    "#]],
    );
}

#[test]
fn an_operators_retry_does_not_let_an_undo_race_what_it_undoes() {
    check(
        "[a / b]",
        "b refused | crash | retry | +4s | +1s | a undo unknown | retry | a undo ok",
        expect![[r#"
        begin: -> action a, action b
        b refused: b refused; abort (no)
        crash: adopted; halt a
        retry: retried
        +4s:
        +1s: -> compensate a
        a undo unknown: again in 1s
        retry: retried -> compensate a #2
        a undo ok: settled compensated
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

#[test]
fn what_was_ended_as_failed_has_no_deadline_any_more() {
    check(
        "a; 10s",
        "fail | +10s | cancel",
        expect![[r#"
        begin: -> action a
        fail: settled failed
        +10s:
        cancel: rejected settled
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
