//! The decision: the pivot, cancel, the deadline.

use expect_test::expect;

use crate::check;

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

/// The attempt may arrive after the question and before its answer.
#[test]
fn a_question_asked_while_an_attempt_may_still_arrive_clears_nothing_however_late_its_answer_is() {
    check(
        "p(pivot,ask)",
        "p unknown | +2s | +5s | p notfound | +8s | p notfound | +8s | p ok",
        expect![[r#"
        begin: -> action p
        p unknown: again in 1s
        +2s: -> ask action p #2
        +5s:
        p notfound: not there yet
        +8s: -> ask action p #3
        p notfound: did not run
        +8s: -> action p #4
        p ok: commit; settled succeeded
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
