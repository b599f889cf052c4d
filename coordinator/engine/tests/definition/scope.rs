//! E201 to E203: what an expression may read.

use expect_test::expect;

use super::*;

#[test]
fn e201_expressions_that_are_no_plain_paths() {
    check_steps(
        &action(r#""path":"/${input.a + 1}","body":{"a":["${","${}","${input.a[x]}","${a-b}"]}"#),
        expect![[r#"
            E201 /steps/0/action/path `input.a + 1` is not a plain path: write names joined by dots, such as input.order.id or steps.hold.output.id
              Only plain paths are in this version; other expressions are not in this version yet.
            E201 /steps/0/action/body/a/0 an expression is opened with ${ and never closed: write $${ for the text ${
              Only plain paths are in this version; other expressions are not in this version yet.
            E201 /steps/0/action/body/a/1 `` is not a plain path: write names joined by dots, such as input.order.id or steps.hold.output.id
              Only plain paths are in this version; other expressions are not in this version yet.
            E201 /steps/0/action/body/a/2 `input.a[x]` is not a plain path: write names joined by dots, such as input.order.id or steps.hold.output.id
              Only plain paths are in this version; other expressions are not in this version yet.
            E201 /steps/0/action/body/a/3 `a-b` is not a plain path: write names joined by dots, such as input.order.id or steps.hold.output.id
              Only plain paths are in this version; other expressions are not in this version yet.
        "#]],
    );
}

#[test]
fn e202_names_that_mean_nothing() {
    check_steps(
        &action(
            r#""path":"/${inputs.a}","body":["${step.a.output}","${steps}","${steps.aa.output}","${steps.a}","${self}","${transaction}"]"#,
        ),
        expect![[r#"
            E202 /steps/0/action/path `inputs` is none of `input`, `steps`, `transaction`, `self`
              Did you mean `input`?
            E202 /steps/0/action/body/0 `step` is none of `input`, `steps`, `transaction`, `self`
              Did you mean `steps`?
            E202 /steps/0/action/body/1 `steps` names no step
            E202 /steps/0/action/body/2 there is no step `aa`
            E202 /steps/0/action/body/3 `steps.a` needs a field: one of `output`, `status`
            E202 /steps/0/action/body/4 `self` needs a field: one of `request`, `response`, `output`, `idempotency_key`
            E202 /steps/0/action/body/5 `transaction` needs a field: one of `gid`, `workflow`, `version`, `began_at`
        "#]],
    );
    check_steps(
        &action(r#""path":"/","body":["${transaction.id}","${transaction.gid.x}","${self.key}"]"#),
        expect![[r#"
            E202 /steps/0/action/body/0 `transaction` has no `id`: it has `gid`, `workflow`, `version`, `began_at`
              Did you mean `gid`?
            E202 /steps/0/action/body/1 `transaction.gid.x` is a text: nothing stands below it
            E202 /steps/0/action/body/2 `self` has no `key`: it has `request`, `response`, `output`, `idempotency_key`
        "#]],
    );
    let after = |path: &str| {
        format!(
            "{},{}",
            saga("a"),
            action(&format!(r#""path":"/","body":"${{{path}}}""#)).replace(r#""name":"a""#, r#""name":"b""#)
        )
    };
    check_steps(
        &after("steps.a.result.id"),
        expect![[r#"
        E202 /steps/1/action/body `steps.a` has no `result`: it has `output`, `status`
    "#]],
    );
}

#[test]
fn e202_self_where_it_is_not_there_yet() {
    check_steps(
        &action(
            r#""path":"/","body":["${self.idempotency_key}","${self.request.body}","${self.response.status}","${self.output}"]"#,
        ),
        expect![[r#"
            E202 /steps/0/action/body/1 `self.request` is not known yet where this is rendered
              Here `self` has `idempotency_key`.
            E202 /steps/0/action/body/2 `self.response` is not known yet where this is rendered
              Here `self` has `idempotency_key`.
            E202 /steps/0/action/body/3 `self.output` is not known yet where this is rendered
              Here `self` has `idempotency_key`.
        "#]],
    );
    check_steps(
        &action(r#""path":"/","status_check":{"path":"/${self.request.body.id}","query":{"a":"${self.output.id}"}}"#),
        expect![[r#"
            E202 /steps/0/action/status_check/query/a `self.output` is not known yet where this is rendered
              Here `self` has `request`, `idempotency_key`.
        "#]],
    );
    check_steps(
        &saga("a").replacen(
            '{',
            r#"{"output":["${self.response.body.a}","${self.request.body.b}","${self.output}"],"#,
            1,
        ),
        expect![[r#"
            E202 /steps/0/output/2 `self.output` is not known yet where this is rendered
              Here `self` has `request`, `response`, `idempotency_key`.
        "#]],
    );
    check_steps(&saga("a").replace(r#""compensate":{"#, r#""compensate":{"body":["${self.output.a}","${self.response.text}","${self.request}","${self.response}"],"#), expect![[r#"
        E202 /steps/0/compensate/body/1 `self.response` has no `text`: it has `status`, `headers`, `body`
        E202 /steps/0/compensate/body/2 `self.request` needs a field: one of `body`
        E202 /steps/0/compensate/body/3 `self.response` needs a field: one of `status`, `headers`, `body`
    "#]]);
    check_top(
        r#","output":["${self.output}"]"#,
        expect![[r#"
        E202 /output/0 `self` is there in a step alone
    "#]],
    );
    check_top(
        r#","output":["${steps.b.output}"]"#,
        expect![[r#"
        E202 /output/0 there is no step `b`
    "#]],
    );
}

#[test]
fn e202_a_block_has_no_output() {
    check(
        &definition(
            r#","output":["${steps.p.output}","${steps.p.status}"]"#,
            &format!(r#"{{"name":"p","parallel":[{{"steps":[{}]}}]}}"#, saga("a")),
        ),
        expect![[r#"
            E202 /output/0 the block `p` has no output
        "#]],
    );
}

#[test]
fn e203_data_of_a_step_that_is_no_ancestor() {
    let reading = |name: &str, of: &str| {
        saga(name).replacen(r#""path":"/""#, &format!(r#""path":"/${{steps.{of}.output.id}}""#), 1)
    };
    check_steps(
        &[reading("a", "b"), saga("b")].join(","),
        expect![[r#"
        E203 /steps/0/action/path `b` may not have run yet: this step does not come after it
          Add `b` to this step's `after`, or move the step.
    "#]],
    );
    check_steps(
        &reading("a", "a"),
        expect![[r#"
        E203 /steps/0/action/path the step's own data is not there yet
          In `compensate`, `confirm` and `cancel` read `self.output`.
    "#]],
    );
    check_steps(
        &format!(r#"{{"name":"p","parallel":[{{"steps":[{}]}},{{"steps":[{}]}}]}}"#, saga("a"), reading("b", "a")),
        expect![[r#"
            E203 /steps/0/parallel/1/steps/0/action/path `a` may not have run yet: this step does not come after it
              Add `a` to this step's `after`, or move the step.
        "#]],
    );
    let undo = saga("a")
        .replace(r#""compensate":{"path":"/"}"#, r#""compensate":{"path":"/${steps.a.output.id}/${steps.b.status}"}"#);
    check_steps(
        &[undo, saga("b")].join(","),
        expect![[r#"
        E203 /steps/0/compensate/path the step's own data is not there yet
          In `compensate`, `confirm` and `cancel` read `self.output`.
        E203 /steps/0/compensate/path `b` may not have run yet: this step does not come after it
          Add `b` to this step's `after`, or move the step.
    "#]],
    );
}
