//! E201 to E203: what an expression may read.

use expect_test::expect;

use super::*;

#[test]
fn e201_expressions_that_are_no_cel() {
    check_steps(
        &action(r#""path":"/${input.a + 1}","body":{"a":["${","${}","${input.a[x]}","${a-b}"]}"#),
        expect![[r#"
            E201 /steps/0/action/body/a/0 an expression is opened with ${ and never closed: write $${ for the text ${
            E201 /steps/0/action/body/a/1 nothing stands between ${ and }
        "#]],
    );
}

#[test]
fn e201_says_what_was_expected() {
    check_steps(
        &action(
            r#""path":"/${input.a + }/x","query":{"a":"${(input.a}"},"body":["${1 2}","${[1, 2}","${input.a ? 1}","${'x}","${a; b}","${size()}","${has(input)}","${[1].map(1, 2)}","${M{a: 1}}"]"#,
        ),
        expect![[r#"
            E201 /steps/0/action/path `input.a +`, character 10: expected an expression, found the end
            E201 /steps/0/action/query/a `(input.a`, character 9: expected `)`, found the end
            E201 /steps/0/action/body/0 `1 2`, character 3: expected an operator or the end, found `2`
            E201 /steps/0/action/body/1 `[1, 2`, character 6: expected `]`, found the end
            E201 /steps/0/action/body/2 `input.a ? 1`, character 12: expected `:` in conditional expression, found the end
            E201 /steps/0/action/body/3 `'x}`, character 1: unterminated string literal
            E201 /steps/0/action/body/4 `a; b}`, character 2: `;` means nothing in CEL
            E201 /steps/0/action/body/5 `size` takes 1 argument, not 0
            E201 /steps/0/action/body/6 `has(input)`, character 5: `has` takes a field, as in has(input.note)
            E201 /steps/0/action/body/7 `[1].map(1, 2)`, character 9: the first argument must be a name for the item
            E201 /steps/0/action/body/8 `M` is made as a message, and there are no message types: write a map, {"key": value}
        "#]],
    );
}

#[test]
fn e202_functions_that_are_not_there() {
    check_steps(
        &action(
            r#""path":"/","body":["${sizeof(input.a)}","${sha_256('a')}","${now()}","${input.a.startWith('b')}","${input.a.filtr(x, true)}","${input.a.matches('b')}"]"#,
        ),
        expect![[r#"
            E202 /steps/0/action/body/0 there is no function `sizeof`
              Did you mean `size`?
            E202 /steps/0/action/body/1 there is no function `sha_256`
              Did you mean `sha256`?
            E202 /steps/0/action/body/2 there is no function `now`
              There are `size`, `string`, `int`, `uint`, `double`, `bool`, `bytes`, `dyn`, `base64`, `sha256`, `uuid_v5`, `sum`, `coalesce`, `json`, `has`.
            E202 /steps/0/action/body/3 there is no function `startWith` to call on a value
              Did you mean `startsWith`?
            E202 /steps/0/action/body/4 there is no function `filtr` to call on a value
              Did you mean `filter`?
            E202 /steps/0/action/body/5 there is no function `matches` to call on a value
              There are `size`, `contains`, `startsWith`, `endsWith`, `all`, `exists`, `exists_one`, `filter`, `map`.
        "#]],
    );
}

#[test]
fn e202_names_inside_of_cel() {
    check_steps(
        &action(
            r#""path":"/${inputs.a + 1}","body":["${input.lines.map(line, lin.qty)}","${input.lines.map(line, line.qty + total)}","${size(steps)}","${has(steps.a)}","${transaction.id + 'x'}","${'x' + self.output.id}","${coalesce(step.a.output, 1)}","${input.lines.map(input, input.qty)}"]"#,
        ),
        expect![[r#"
            E202 /steps/0/action/path `inputs` is none of `input`, `steps`, `transaction`, `signals`, `config`, `self`
              Did you mean `input`?
            E202 /steps/0/action/body/0 `lin` is none of `line`, `input`, `steps`, `transaction`, `signals`, `config`, `self`
              Did you mean `line`?
            E202 /steps/0/action/body/1 `total` is none of `line`, `input`, `steps`, `transaction`, `signals`, `config`, `self`
            E202 /steps/0/action/body/2 `steps` names no step
            E202 /steps/0/action/body/3 `steps.a` needs a field: one of `output`, `status`
            E202 /steps/0/action/body/4 `transaction` has no `id`: it has `gid`, `workflow`, `version`, `began_at`
              Did you mean `gid`?
            E202 /steps/0/action/body/5 `self.output` is not known yet where this is rendered
              Here `self` has `idempotency_key`.
            E202 /steps/0/action/body/6 `step` is none of `input`, `steps`, `transaction`, `signals`, `config`, `self`
              Did you mean `steps`?
        "#]],
    );
}

#[test]
fn e203_data_of_no_ancestor_inside_of_cel() {
    let reading = |name: &str, expression: &str| {
        saga(name).replacen(r#""path":"/""#, &format!(r#""path":"/","body":"${{{expression}}}""#), 1)
    };
    check_steps(
        &[
            reading("a", "input.lines.map(l, l.qty + steps.b.output.n)"),
            reading("b", "has(steps.c.output) ? 1 : size(steps['a'].output.x)"),
            saga("c"),
            reading("d", "coalesce(steps.d.output.x, steps.a.output.x)"),
        ]
        .join(","),
        expect![[r#"
            E203 /steps/0/action/body `b` may not have run yet: this step does not come after it
              Add `b` to this step's `after`, or move the step.
            E203 /steps/1/action/body `c` may not have run yet: this step does not come after it
              Add `c` to this step's `after`, or move the step.
            E203 /steps/3/action/body the step's own data is not there yet
              In `compensate`, `confirm` and `cancel` read `self.output`.
        "#]],
    );
}

#[test]
fn e207_expressions_over_a_bound() {
    let long = format!("'{}'", "x".repeat(4_096));
    let large = format!("[{}1]", "1,".repeat(500));
    let deep = format!("{}1{}", "[".repeat(33), "]".repeat(33));
    check_steps(
        &action(&format!(
            r#""path":"/","body":["${{{long}}}","${{{large}}}","${{{deep}}}","${{[1].map(a, [1].map(b, [1].map(c, c)))}}"]"#
        )),
        expect![[r#"
            E207 /steps/0/action/body/0 the expression is longer than 4096 bytes
              Send less, or let the participant compute it.
            E207 /steps/0/action/body/1 the expression has 502 nodes; at most 500 are taken
              Send less, or let the participant compute it.
            E207 /steps/0/action/body/2 the expression nests brackets deeper than 32
              Send less, or let the participant compute it.
            E207 /steps/0/action/body/3 comprehensions stand in one another deeper than 2
              Send less, or let the participant compute it.
        "#]],
    );
    let some = format!("[{}1]", "1,".repeat(400));
    check_steps(
        &action(&format!(r#""path":"/","body":[{}]"#, vec![format!("\"${{{some}}}\""); 51].join(","))),
        expect![[r#"
            E207 /steps/0/action/body/49 the expressions of the definition are too many or too large together
              Send less, or let the participant compute it.
            E207 /steps/0/action/body/50 the expressions of the definition are too many or too large together
              Send less, or let the participant compute it.
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
            E202 /steps/0/action/path `inputs` is none of `input`, `steps`, `transaction`, `signals`, `config`, `self`
              Did you mean `input`?
            E202 /steps/0/action/body/0 `step` is none of `input`, `steps`, `transaction`, `signals`, `config`, `self`
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
            E202 /output/0 the step `p` has no output
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
