//! E101 to E120: names, order and what makes a definition safe.

use expect_test::expect;
use skald_engine::definition::compile;

use super::*;

#[test]
fn e101_two_steps_of_one_name() {
    check_steps(
        &format!(r#"{},{{"name":"b","parallel":[{{"steps":[{}]}}]}}"#, saga("a"), saga("a")),
        expect![[r#"
        E101 /steps/1/parallel/0/steps/0/name there is another step `a` at /steps/0
    "#]],
    );
}

#[test]
fn e102_services_and_policies_that_are_not_there() {
    check_steps(
        &saga("a").replace(r#""service":"s""#, r#""service":"stock""#),
        expect![[r#"
        E102 /steps/0/service there is no service `stock`
    "#]],
    );
    check_steps(
        &action(r#""path":"/","service":"S","retry":"patient","status_check":{"service":"t","path":"/"}"#),
        expect![[r#"
            E102 /steps/0/action/service there is no service `S`
              Did you mean `s`?
            E102 /steps/0/action/retry there is no retry policy `patient`
            E102 /steps/0/action/status_check/service there is no service `t`
        "#]],
    );
    check_steps(
        &saga("a").replace(r#""service":"s","#, ""),
        expect![[r#"
        E102 /steps/0/action/path a `path` needs a service to stand on
          Write `service` here or on the step, or a `url`.
        E102 /steps/0/compensate/path a `path` needs a service to stand on
          Write `service` here or on the step, or a `url`.
    "#]],
    );
    check_top(
        r#","retries":{"patient":{}},"defaults":{"retry":"patent"}"#,
        expect![[r#"
        E102 /defaults/retry there is no retry policy `patent`
          Did you mean `patient`?
    "#]],
    );
}

#[test]
fn e103_after_what_is_not_beside_it() {
    check_steps(
        &format!("{},{}", saga("a"), saga_after("b", r#""aa","zzzzz""#)),
        expect![[r#"
        E103 /steps/1/after/0 there is no step `aa` beside this one
        E103 /steps/1/after/1 there is no step `zzzzz` beside this one
    "#]],
    );
    check_steps(
        &format!(
            r#"{{"name":"p","parallel":[{{"steps":[{}]}},{{"steps":[{}]}}]}}"#,
            saga("a"),
            saga_after("b", r#""a","p""#)
        ),
        expect![[r#"
            E103 /steps/0/parallel/1/steps/0/after/0 `a` stands in another array than this step
              Name the block that holds it, or move one of the two.
            E103 /steps/0/parallel/1/steps/0/after/1 `p` stands in another array than this step
              Name the block that holds it, or move one of the two.
        "#]],
    );
}

#[test]
fn e104_steps_that_wait_for_each_other() {
    check_steps(
        &saga_after("a", r#""a""#),
        expect![[r#"
        E104 /steps/0 these steps wait for each other: a → a
    "#]],
    );
    check_steps(
        &[
            saga_after("a", r#""c""#),
            saga("b"),
            saga("c"),
            saga("d"),
            saga_after("x", r#""y""#),
            saga_after("y", r#""x""#),
        ]
        .join(","),
        expect![[r#"
            E104 /steps/0 these steps wait for each other: a → b → c → a
            E104 /steps/4 these steps wait for each other: x → y → x
        "#]],
    );
    check_steps(
        &format!(r#"{},{{"name":"p","parallel":[{{"steps":[{}]}}]}}"#, saga_after("a", r#""p""#), saga("b")),
        expect![[r#"
            E104 /steps/0 these steps wait for each other: a → b → p → a
        "#]],
    );
}

#[test]
fn e105_nothing_to_do() {
    check_steps(
        "",
        expect![[r#"
        E105 /steps there is no step
    "#]],
    );
    check_steps(
        r#"{"name":"p","parallel":[]}"#,
        expect![[r#"
        E105 /steps/0/parallel a `parallel` block without arms
    "#]],
    );
    check_steps(
        r#"{"name":"p","parallel":[{"steps":[]}]}"#,
        expect![[r#"
        E105 /steps/0/parallel/0/steps an arm without steps
    "#]],
    );
}

#[test]
fn e110_neither_undo_nor_role() {
    check_steps(
        r#"{"name":"a","service":"s","action":{"path":"/"}}"#,
        expect![[r#"
        E110 /steps/0 the step can be neither undone nor is it said why it need not be
          Add `compensate`, or a `role`: pivot, retriable or read_only.
    "#]],
    );
    check_steps(
        &role("a", "compensatable"),
        expect![[r#"
        E110 /steps/0 the step can be neither undone nor is it said why it need not be
          Add `compensate`, or a `role`: pivot, retriable or read_only.
    "#]],
    );
}

#[test]
fn e111_two_pivots_on_a_path() {
    check_steps(
        &[role("a", "pivot"), role("b", "pivot")].join(","),
        expect![[r#"
        E111 /steps/1 a second pivot: `a` comes before it
          One step commits; what follows it is `retriable`.
    "#]],
    );
}

#[test]
fn e112_an_undo_where_nothing_is_undone() {
    let tcc = r#"{"name":"t","service":"s","try":{"path":"/"},"confirm":{"path":"/"},"cancel":{"path":"/"}}"#;
    check_steps(
        &[role("p", "pivot"), saga("a")].join(","),
        expect![[r#"
        E112 /steps/1/compensate an undo in the tail: after the commit nothing is undone
          Move the step before the pivot and the retriable steps, or make it `retriable`.
    "#]],
    );
    check_steps(
        &[role("r", "retriable"), saga("a")].join(","),
        expect![[r#"
        E112 /steps/1/compensate an undo in the tail: after the commit nothing is undone
          Move the step before the pivot and the retriable steps, or make it `retriable`.
    "#]],
    );
    check_steps(
        &[&role("p", "pivot"), tcc].join(","),
        expect![[r#"
        E112 /steps/1 a TCC step in the tail: after the commit nothing is tried
          Move it before the pivot and the retriable steps.
    "#]],
    );
    check_steps(
        &tcc.replacen('{', r#"{"role":"retriable","#, 1),
        expect![[r#"
        E112 /steps/0/role a TCC step takes no role
          Drop `role`: a TCC step is confirmed or cancelled.
    "#]],
    );
    for role in ["pivot", "retriable", "read_only"] {
        let step = saga("a").replacen('{', &format!(r#"{{"role":"{role}","#), 1);
        let faults = compile(&definition("", &step)).unwrap_err();
        assert_eq!(
            (faults.len(), faults[0].code.as_str(), faults[0].pointer.as_str()),
            (1, "E112", "/steps/0/compensate")
        );
    }
}

#[test]
fn e113_in_the_tail_what_may_not_end() {
    check_steps(
        &[role("p", "pivot"), r#"{"name":"a","service":"s","action":{"path":"/"}}"#.to_owned()].join(","),
        expect![[r#"
            E113 /steps/1 in the tail a step with an effect must be driven until it is done
              Write "role": "retriable", or "read_only".
        "#]],
    );
}

#[test]
fn e114_an_effect_beside_the_pivot() {
    for (beside, faults) in
        [(saga("a"), 1), (role("a", "retriable"), 1), (role("a", "pivot"), 1), (role("a", "read_only"), 0)]
    {
        let block =
            format!(r#"{{"name":"b","parallel":[{{"steps":[{}]}},{{"steps":[{beside}]}}]}}"#, role("p", "pivot"));
        assert_eq!(compile(&definition("", &block)).err().map_or(0, |faults| faults.len()), faults, "{beside}");
    }
    check_steps(
        &[role("p", "pivot"), saga_after("a", "")].join(","),
        expect![[r#"
        E114 /steps/1 the step may run before or after the pivot `p`
          Put it before the pivot or behind it, with `after` or outside the block.
    "#]],
    );
    check_steps(
        &[role("p", "pivot"), role("q", "pivot").replacen('{', r#"{"after":[],"#, 1)].join(","),
        expect![[r#"
        E114 /steps/1 the step may run before or after the pivot `p`
          Put it before the pivot or behind it, with `after` or outside the block.
    "#]],
    );
}

#[test]
fn e115_a_retriable_step_that_gives_up_without_a_word() {
    let retriable = role("r", "retriable");
    check_steps(
        &retriable.replace(r#""path":"/""#, r#""path":"/","retry":{"max_attempts":3}"#),
        expect![[r#"
        E115 /steps/0/action/retry a retriable step that gives up must say what then
          Add "on_exhausted": "suspend" or "ignore" to the action, or drop the bound.
    "#]],
    );
    check_steps(
        &retriable.replacen('{', r#"{"retry":{"max_elapsed":"1h"},"#, 1),
        expect![[r#"
        E115 /steps/0/retry a retriable step that gives up must say what then
          Add "on_exhausted": "suspend" or "ignore" to the action, or drop the bound.
    "#]],
    );
    compile(&definition(
        "",
        &retriable.replace(r#""path":"/""#, r#""path":"/","retry":{"max_attempts":3},"on_exhausted":"suspend""#),
    ))
    .unwrap();
    compile(&definition("", &retriable.replace(r#""path":"/""#, r#""path":"/","retry":{"max_attempts":"unlimited"}"#)))
        .unwrap();
}

#[test]
fn e117_a_retriable_step_that_the_pivot_follows() {
    check_steps(
        &[role("r", "retriable"), role("p", "pivot")].join(","),
        expect![[r#"
        E117 /steps/0 the pivot `p` follows this retriable step
          A retriable step runs after the commit: move it behind the pivot, or give it an undo.
    "#]],
    );
}

#[test]
fn e120_a_tcc_step_lacks_one_of_three() {
    check_steps(
        r#"{"name":"t","service":"s","try":{"path":"/"},"cancel":{"path":"/"}}"#,
        expect![[r#"
        E120 /steps/0 the TCC step lacks `confirm`
    "#]],
    );
    check_steps(
        r#"{"name":"t","service":"s","confirm":{"path":"/"}}"#,
        expect![[r#"
        E120 /steps/0 the TCC step lacks `try`, `cancel`
    "#]],
    );
}

#[test]
fn all_faults_come_at_once() {
    check(
        &definition(
            r#","timeout":"soon","output":"${steps.zz.output}""#,
            &[
                saga("a"),
                role("p", "pivot"),
                saga("b"),
                r#"{"name":"t","service":"x","try":{"path":"/${input"}}"#.to_owned(),
            ]
            .join(","),
        ),
        expect![[r#"
            E004 /timeout `soon` is not a duration
              Write a whole number and a unit: 500ms, 3s, 15m, 24h, 7d.
            E102 /steps/3/service there is no service `x`
            E201 /steps/3/try/path an expression is opened with ${ and never closed: write $${ for the text ${
            E112 /steps/2/compensate an undo in the tail: after the commit nothing is undone
              Move the step before the pivot and the retriable steps, or make it `retriable`.
            E120 /steps/3 the TCC step lacks `confirm`, `cancel`
            E112 /steps/3 a TCC step in the tail: after the commit nothing is tried
              Move it before the pivot and the retriable steps.
            E202 /output there is no step `zz`
        "#]],
    );
}

#[test]
fn e004_a_block_s_name_leaves_room_for_its_gate() {
    let choice = |length: usize| {
        format!(r#"{{"name":"{}","choice":[{{"otherwise":true,"steps":[{}]}}]}}"#, "c".repeat(length), saga("a"))
    };
    compile(&definition("", &choice(255))).unwrap();
    let faults = compile(&definition("", &choice(256))).unwrap_err();
    assert_eq!(faults.iter().map(|fault| fault.code.as_str()).collect::<Vec<_>>(), ["E004"]);
}
