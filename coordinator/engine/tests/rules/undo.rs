//! Backwards: what may have run is undone, nothing else, and never in a race.

use expect_test::expect;

use crate::check;

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
fn it_goes_on_from_a_snapshot_as_from_the_whole_journal() {
    check(
        "[a / t(tcc)] b(async) c",
        "snapshot | crash | a ok | snapshot | crash | t ok | b pending | snapshot | park | callback b ok | c refused \
         | snapshot | crash | +5s | b undo ok | a undo ok | snapshot | crash | t undo ok",
        expect![[r#"
            begin: -> action a, try t
            snapshot: snapshot
            crash: adopted -> action a #2, try t #2
            a ok:
            snapshot: snapshot
            crash: adopted -> try t #3
            t ok: -> action b
            b pending:
            snapshot: snapshot
            park:
            callback b ok: -> action c
            c refused: c refused; abort (no) -> compensate b
            snapshot: snapshot
            crash: adopted
            +5s: -> compensate b #2
            b undo ok: -> compensate a, cancel t
            a undo ok:
            snapshot: snapshot
            crash: adopted -> cancel t #2
            t undo ok: settled compensated
        "#]],
    );
}
