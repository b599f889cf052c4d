//! E204 to E206, E209: what expressions come to, and what may be absent.

use expect_test::expect;
use skald_engine::definition::compile;

use super::*;

pub(super) const SCHEMA: &str = r##","input":{"type":"object","required":["name","total","lines","who","limits","kind"],"properties":{
    "name":{"type":"string"},"total":{"type":"integer"},"price":{"type":"number"},"express":{"type":"boolean"},"note":{"type":["string","null"]},
    "lines":{"type":"array","maxItems":50,"items":{"$ref":"#/$defs/line"}},
    "who":{"type":"object","required":["id"],"properties":{"id":{"type":"string"},"mail":{"type":"string"},"address":{"type":"object","required":["city"],"properties":{"city":{"type":"string"},"zip":{"type":"string"}}}}},
    "limits":{"type":"object","properties":{"day":{"type":"integer"}},"additionalProperties":{"type":"integer"}},
    "kind":{"enum":["a","b"]},"any":{},"way":{"oneOf":[{"type":"object","properties":{"x":{}}},{"type":"array"}]},
    "both":{"allOf":[{"$ref":"#/$defs/line"},{"properties":{"more":{"type":"string"}},"required":["more"]}]},
    "one":{"properties":{"a":{"type":"string"}},"anyOf":[{"required":["a"]},{"properties":{"b":{}}}]}},
  "$defs":{"line":{"type":"object","required":["sku","qty"],"properties":{"sku":{"type":"string"},"qty":{"type":"integer"},"note":{"type":"string"}}}}}"##;

fn sending(expressions: &[&str]) -> String {
    let body: Vec<_> =
        expressions.iter().map(|text| serde_json::Value::from(format!("${{{text}}}")).to_string()).collect();
    definition(SCHEMA, &action(&format!(r#""path":"/","body":[{}]"#, body.join(","))))
}

#[track_caller]
fn check_expressions(expressions: &[&str], expect: Expect) {
    check(&sending(expressions), expect);
}

#[track_caller]
fn fine(expressions: &[&str]) {
    if let Err(faults) = compile(&sending(expressions)) {
        panic!("{}", told(&faults));
    }
}

#[test]
fn e205_paths_that_the_schema_does_not_have() {
    check_expressions(
        &[
            "input.nam",
            "input.lines[0].skuu",
            "input.lines.sku",
            "input.name.first",
            "input.name[0]",
            "input.who.address.town",
            "size(input.line)",
            "input.lines.map(l, l.quantity)",
            "has(input.expres) ? 1 : 2",
            "input['tota']",
            "input.both.mores",
        ],
        expect![[r#"
            E205 /steps/0/action/body/0 `input` has no `nam`: it has `any`, `both`, `express`, `kind`, `limits`, `lines`, `name`, `note`, …
              Did you mean `name`?
            E205 /steps/0/action/body/1 `input.lines[0]` has no `skuu`: it has `note`, `qty`, `sku`
              Did you mean `sku`?
            E205 /steps/0/action/body/2 `input.lines` is a list, and a member of it is read
              Read one item, as in list[0].name, or all with map().
            E205 /steps/0/action/body/3 `input.name` is a string, and a member of it is read
            E205 /steps/0/action/body/4 `input.name` is a string, and an item of it is read
            E204 /steps/0/action/body/5 `input.who.address` may be absent: the schema does not require it
              Ask has(input.who.address) first, or read it as coalesce(input.who.address, …), or name it in the schema's `required`.
            E205 /steps/0/action/body/5 `input.who.address` has no `town`: it has `city`, `zip`
              Name it in the schema's `properties`.
            E205 /steps/0/action/body/6 `input` has no `line`: it has `any`, `both`, `express`, `kind`, `limits`, `lines`, `name`, `note`, …
              Did you mean `lines`?
            E205 /steps/0/action/body/7 `l` has no `quantity`: it has `note`, `qty`, `sku`
            E205 /steps/0/action/body/8 `input` has no `expres`: it has `any`, `both`, `express`, `kind`, `limits`, `lines`, `name`, `note`, …
              Did you mean `express`?
            E205 /steps/0/action/body/9 `input` has no `tota`: it has `any`, `both`, `express`, `kind`, `limits`, `lines`, `name`, `note`, …
              Did you mean `total`?
            E204 /steps/0/action/body/10 `input.both` may be absent: the schema does not require it
              Ask has(input.both) first, or read it as coalesce(input.both, …), or name it in the schema's `required`.
            E205 /steps/0/action/body/10 `input.both` has no `mores`: it has `more`, `note`, `qty`, `sku`
              Did you mean `more`?
        "#]],
    );
}

#[test]
fn what_a_schema_does_not_close_may_hold_anything() {
    fine(&[
        "input.limits.week",
        "coalesce(input.any, 1).whatever[3].more",
        "coalesce(input.way, 1).y",
        "has(input.one) ? input.one.c : 1",
        "has(input.one) ? input.one.a : 1",
        "has(input.both) ? input.both.sku + input.both.more : ''",
        "input.limits['month'] + 1",
    ]);
    let open = definition(r#","input":true"#, &action(r#""path":"/${input.a.b[0]}","body":"${input.x + 1}""#));
    compile(&open).unwrap();
}

#[test]
fn e204_what_may_be_absent() {
    check_expressions(
        &[
            "input.price",
            "input.express ? 1 : 2",
            "input.who.address.zip",
            "input.lines.map(l, l.note)",
            "has(input.note) || input.note == 'x'",
            "has(input.note) ? 1 : size(input.note)",
            "has(input.who.address.zip)",
            "input.lines.exists(l, has(l.note)) && input.lines.all(l, l.note != '')",
            "input.limits.day",
            "coalesce(input.price, 1.5) + input.price",
        ],
        expect![[r#"
            E204 /steps/0/action/body/0 `input.price` may be absent: the schema does not require it
              Ask has(input.price) first, or read it as coalesce(input.price, …), or name it in the schema's `required`.
            E204 /steps/0/action/body/1 `input.express` may be absent: the schema does not require it
              Ask has(input.express) first, or read it as coalesce(input.express, …), or name it in the schema's `required`.
            E204 /steps/0/action/body/2 `input.who.address` may be absent: the schema does not require it
              Ask has(input.who.address) first, or read it as coalesce(input.who.address, …), or name it in the schema's `required`.
            E204 /steps/0/action/body/2 `input.who.address.zip` may be absent: the schema does not require it
              Ask has(input.who.address.zip) first, or read it as coalesce(input.who.address.zip, …), or name it in the schema's `required`.
            E204 /steps/0/action/body/3 `l.note` may be absent: the schema does not require it
              Ask has(l.note) first, or read it as coalesce(l.note, …), or name it in the schema's `required`.
            E204 /steps/0/action/body/4 `input.note` may be absent: the schema does not require it
              Ask has(input.note) first, or read it as coalesce(input.note, …), or name it in the schema's `required`.
            E204 /steps/0/action/body/5 `input.note` may be absent: the schema does not require it
              Ask has(input.note) first, or read it as coalesce(input.note, …), or name it in the schema's `required`.
            E204 /steps/0/action/body/7 `l.note` may be absent: the schema does not require it
              Ask has(l.note) first, or read it as coalesce(l.note, …), or name it in the schema's `required`.
            E204 /steps/0/action/body/8 `input.limits.day` may be absent: the schema does not require it
              Ask has(input.limits.day) first, or read it as coalesce(input.limits.day, …), or name it in the schema's `required`.
            E204 /steps/0/action/body/9 `input.price` may be absent: the schema does not require it
              Ask has(input.price) first, or read it as coalesce(input.price, …), or name it in the schema's `required`.
        "#]],
    );
}

#[test]
fn what_may_be_absent_is_read_behind_a_guard() {
    fine(&[
        "has(input.express) && input.express",
        "has(input.who.address.zip) && input.who.address.zip == '1'",
        "!has(input.express) || input.express",
        "has(input.price) ? input.price : 0.5",
        "!has(input.price) ? 0.5 : input.price",
        "input.express && has(input.express)",
        "has(input.who.address) && has(input.who.address.zip) && input.who.address.zip == '1'",
        "has(input.who.address) ? input.who.address.city : ''",
        "coalesce(input.who.address.zip, input.note, 'none')",
        "'express' in input && input.express",
        "input.lines.filter(l, has(l.note) && l.note != '')",
        "input.lines.map(l, has(l.note) ? l.note : l.sku)",
        "input.lines.map(l, has(l.note), l.note)",
        "input.lines.exists(l, has(l.note) && input.lines.all(m, !has(m.note) || m.note + l.note == 'ab'))",
        "!(has(input.express) && has(input.price)) || input.express && input.price > 0.5",
        "coalesce(input.note, '') + 'x'",
    ]);
}

#[test]
fn a_guard_of_another_item_is_none() {
    check_expressions(
        &[
            "input.lines.exists(l, has(l.note) && input.lines.all(m, m.note == 'a'))",
            "input.lines[0].note == 'a' && has(input.lines[1].note)",
            "(has(input.express) || has(input.price)) && input.express",
            "has(input.who.address.zip) && has(input.who.address)",
        ],
        expect![[r#"
            E204 /steps/0/action/body/0 `m.note` may be absent: the schema does not require it
              Ask has(m.note) first, or read it as coalesce(m.note, …), or name it in the schema's `required`.
            E204 /steps/0/action/body/1 `input.lines[0].note` may be absent: the schema does not require it
              Ask has(input.lines[0].note) first, or read it as coalesce(input.lines[0].note, …), or name it in the schema's `required`.
            E204 /steps/0/action/body/2 `input.express` may be absent: the schema does not require it
              Ask has(input.express) first, or read it as coalesce(input.express, …), or name it in the schema's `required`.
        "#]],
    );
}

#[test]
fn e206_what_an_operator_or_a_function_never_takes() {
    check_expressions(
        &[
            "input.name + 1",
            "input.total + 1.5",
            "input.total - input.name",
            "size(5)",
            "size(input.total)",
            "!5",
            "-input.name",
            "input.name < 5",
            "input.name == 5",
            "input.kind == true",
            "input.total ? 1 : 2",
            "input.name && true",
            "input.total.map(x, x)",
            "input.lines.filter(l, l.sku)",
            "input.lines + 1",
            "1 in input.name",
            "{1: 2}",
            "sum(input.lines)",
            "string(input.lines)",
            "input.name.startsWith(5)",
            "input.lines.all(l, l.qty)",
            "input.name[input.total]",
            "input.who[input.total]",
            "1.5 % 2.5",
            "json(input.lines) * 2",
            "sum(input.lines.map(l, l.qty)) + 'x'",
        ],
        expect![[r#"
            E206 /steps/0/action/body/0 `+` does not take a string (`input.name`) and an int
              Convert the other one with string().
            E206 /steps/0/action/body/1 `+` does not take an int (`input.total`) and a double
              Convert one with int(), uint() or double().
            E206 /steps/0/action/body/2 `-` does not take an int (`input.total`) and a string (`input.name`)
            E206 /steps/0/action/body/3 `size` does not take an int
            E206 /steps/0/action/body/4 `size` does not take an int (`input.total`)
            E206 /steps/0/action/body/5 `!` does not take an int
            E206 /steps/0/action/body/6 `-` does not take a string (`input.name`)
            E206 /steps/0/action/body/7 `<` does not take a string (`input.name`) and an int
            E206 /steps/0/action/body/8 a string (`input.name`) never equals an int
            E206 /steps/0/action/body/9 a string (`input.kind`) never equals a bool
            E206 /steps/0/action/body/10 the condition before `?` is an int (`input.total`) and not a bool
            E206 /steps/0/action/body/11 `&&` does not take a string (`input.name`)
            E206 /steps/0/action/body/12 an int (`input.total`) has no items to go through
            E206 /steps/0/action/body/13 the test of `filter` is a string (`l.sku`) and not a bool
            E206 /steps/0/action/body/14 `+` does not take a list (`input.lines`) and an int
            E206 /steps/0/action/body/15 `in` does not take an int and a string (`input.name`)
            E206 /steps/0/action/body/16 a map's key is an int and not a string
            E206 /steps/0/action/body/17 an item that `sum` adds is a map and not a number
            E206 /steps/0/action/body/18 `string` does not take a list (`input.lines`)
              Write json() for the JSON text of a value.
            E206 /steps/0/action/body/19 `startsWith` does not take an int
            E206 /steps/0/action/body/20 the test of `all` is an int (`l.qty`) and not a bool
            E206 /steps/0/action/body/21 `[]` does not take a string (`input.name`) and an int (`input.total`)
            E206 /steps/0/action/body/22 `[]` does not take a map (`input.who`) and an int (`input.total`)
            E206 /steps/0/action/body/23 `%` does not take a double and a double
            E206 /steps/0/action/body/24 `*` does not take a string and an int
            E206 /steps/0/action/body/25 `+` does not take an int and a string
              Convert the other one with string().
        "#]],
    );
}

#[test]
fn what_may_fit_is_left_to_the_run() {
    fine(&[
        "input.total + 1 + size(input.lines) * 2",
        "double(input.total) * 1.5",
        "has(input.price) ? input.price + 1 : 0",
        "has(input.price) ? input.price + 1.5 : 0.0",
        "input.name + string(input.total) + (input.total > 1.5 ? 'a' : 'b')",
        "input.name == null || input.who != null",
        "dyn(input.name) + 1",
        "transaction.gid + transaction.began_at + self.idempotency_key",
        "input.lines.map(l, l.qty * 2) + [1, 'a', null]",
        "[1, 'a'][input.total] == 'a'",
        "{'a': 1, input.name: 2}[input.kind]",
        "sum(input.lines.map(l, l.qty)) / 2",
        "'a' in input.lines.map(l, l.sku) && 'x' in input.limits",
        "coalesce(input.any, 5) + 'x'",
        "(input.total > 1 ? 'a' : 1) + 1",
    ]);
}

#[test]
fn e206_what_is_no_text_in_a_text() {
    check(
        &definition(
            SCHEMA,
            &action(
                r#""path":"/","headers":{"A":"${input.lines}","B":"x ${input.who}"},"body":["of ${input.who}: ${input.lines.map(l, l.qty)} ${input.name}${input.total}","${null} is null","${input.who}"]"#,
            ),
        ),
        expect![[r#"
            E206 /steps/0/action/headers/A `input.lines` is a list: a header takes strings, numbers and booleans alone
              Read a member of it, write json() around it, or send it in the `body`.
            E206 /steps/0/action/headers/B `input.who` is a map: a header takes strings, numbers and booleans alone
              Read a member of it, write json() around it, or send it in the `body`.
            E206 /steps/0/action/body/0 `input.who` is a map, and stands in a longer text
              Write json() around it, or let the string be this one expression.
            E206 /steps/0/action/body/0 `input.lines.map(l, l.qty)` is a list, and stands in a longer text
              Write json() around it, or let the string be this one expression.
            E206 /steps/0/action/body/1 `null` is null, and stands in a longer text
              Write json() around it, or let the string be this one expression.
        "#]],
    );
}

#[test]
fn e209_what_is_no_text_in_a_url() {
    check(
        &definition(
            SCHEMA,
            &[
                action(r#""path":"/${input.who}/${input.name}","query":{"a":"${input.lines}","b":"${input.total}","c":"${null}","d":"${input.limits.x}"}"#),
                r#"{"name":"b","role":"read_only","action":{"url":"http://x/${input.lines.map(l, l.sku)}","status_check":{"url":"http://x/${{'a': 1}}"}}}"#.to_owned(),
            ]
            .join(","),
        ),
        expect![[r#"
            E209 /steps/0/action/path `input.who` is a map: a URL takes strings, numbers and booleans alone
              Read a member of it, or send it in the `body`.
            E209 /steps/0/action/query/a `input.lines` is a list: a URL takes strings, numbers and booleans alone
              Read a member of it, or send it in the `body`.
            E209 /steps/0/action/query/c `null` is null: a URL takes strings, numbers and booleans alone
              Read a member of it, or send it in the `body`.
            E209 /steps/1/action/url `input.lines.map(l, l.sku)` is a list: a URL takes strings, numbers and booleans alone
              Read a member of it, or send it in the `body`.
            E209 /steps/1/action/status_check/url `{'a': 1}` is a map: a URL takes strings, numbers and booleans alone
              Read a member of it, or send it in the `body`.
        "#]],
    );
}

#[test]
fn e205_and_e206_of_what_a_step_s_output_maps() {
    let first = saga("a").replacen('{', r#"{"output":{"id":"${self.response.body.id}","n":"${size(input.lines)}","t":"x ${input.name}","l":["${input.total}",2]},"#, 1);
    let second = action(
        r#""path":"/${steps.a.output.idd}","query":{"q":"${steps.a.output}"},"body":["${steps.a.output.id.x}","${steps.a.output.n.x}","${steps.a.output.t + 1}","${steps.a.output.l[0] + 1}","${steps.a.output.l + 1}"]"#,
    )
    .replace(r#""name":"a""#, r#""name":"b""#);
    let undo = saga("c").replacen('{', r#"{"output":{"id":"${self.response.status}"},"#, 1).replace(
        r#""compensate":{"#,
        r#""compensate":{"body":["${self.output.id + 'x'}","${self.response.status + 1}","${self.output.ID}"],"#,
    );
    check(
        &definition(SCHEMA, &[first, second, undo].join(",")).replace(
            r#""dsl":"1.0""#,
            r#""dsl":"1.0","output":{"x":"${steps.b.output.anything[1]}","y":"${steps.c.output.id.x}","z":"${steps.a.output.l.x}"}"#,
        ),
        expect![[r#"
            E205 /steps/1/action/path `steps.a.output` has no `idd`: it has `id`, `l`, `n`, `t`
              Did you mean `id`?
            E209 /steps/1/action/query/q `steps.a.output` is a map: a URL takes strings, numbers and booleans alone
              Read a member of it, or send it in the `body`.
            E205 /steps/1/action/body/1 `steps.a.output.n` is an int, and a member of it is read
            E206 /steps/1/action/body/2 `+` does not take a string (`steps.a.output.t`) and an int
              Convert the other one with string().
            E206 /steps/1/action/body/4 `+` does not take a list (`steps.a.output.l`) and an int
            E206 /steps/2/compensate/body/0 `+` does not take an int (`self.output.id`) and a string
              Convert the other one with string().
            E205 /steps/2/compensate/body/2 `self.output` has no `ID`: it has `id`
              Did you mean `id`?
            E205 /output/y `steps.c.output.id` is an int, and a member of it is read
            E205 /output/z `steps.a.output.l` is a list, and a member of it is read
              Read one item, as in list[0].name, or all with map().
        "#]],
    );
}

#[test]
fn e207_loops_that_may_cost_too_much() {
    let schema = r#","input":{"type":"object","required":["a","b","open"],"properties":{"a":{"type":"array","maxItems":1000,"items":{"type":"integer"}},
        "b":{"type":"array","maxItems":500,"items":{"type":"object","required":["c"],"properties":{"c":{"type":"array","maxItems":2000,"items":{"type":"integer"}}}}},"open":{"type":"array"}}}"#;
    let sending = |body: &str| definition(schema, &action(&format!(r#""path":"/","body":[{body}]"#)));
    check(
        &sending(
            r#""${input.a.map(x, x + 1)}","${input.a.map(x, input.b.filter(y, size(y.c) > x))}","${input.a.map(x, input.open.map(y, x))}""#,
        ),
        expect![[r#"
            E207 /steps/0/action/body/1 too costly: with lists as long as they may be this takes 3275156 steps; one request may take 500000
              Lower the `maxItems` (of a map: `max_items`) of `input.a` (now 1000) and `input.b` (now 500), or let the participant compute it.
        "#]],
    );
    check(
        &sending(r#""${input.b.map(x, x.c.map(y, y * y + 1 > 2 ? y : 0))}""#),
        expect![[r#"
            E207 /steps/0/action/body/0 too costly: with lists as long as they may be this takes 1447146 steps; one request may take 500000
              Lower the `maxItems` (of a map: `max_items`) of `x.c` (now 2000) and `input.b` (now 500), or let the participant compute it.
        "#]],
    );
    let fine = sending(r#""${input.a.map(x, x + 1)}","${input.open.map(x, input.open.map(y, y))}","${size(input.b)}""#);
    compile(&fine).unwrap_or_else(|faults| panic!("{}", told(&faults)));
    // However long its lists may be, an input has but 256 KiB.
    let fine = sending(r#""${input.b.map(x, x.c.map(y, y))}""#);
    compile(&fine).unwrap_or_else(|faults| panic!("{}", told(&faults)));
}

#[test]
fn e207_what_costs_too_much_together_between_two_calls() {
    let schema = r#","input":{"type":"object","required":["l"],"properties":{"l":{"type":"array","maxItems":300,"items":{"type":"integer"}}}}"#;
    let costly = r#""${input.l.exists(x, input.l.exists(y, x + y < 0))}""#;
    let set = |name: String| format!(r#"{{"name":"{name}","set":{costly}}}"#);
    let sets = |name: &str, count: usize| (0..count).map(|i| set(format!("{name}{i}"))).collect::<Vec<_>>().join(",");
    let call = |name: &str| {
        format!(r#"{{"name":"{name}","service":"s","action":{{"path":"/"}},"compensate":{{"path":"/u"}}}}"#)
    };
    check(
        &definition(schema, &format!("{},{}", call("a"), sets("s", 30))),
        expect![[r#"
            E207 /steps/1 too costly together: with lists as long as they may be, what is evaluated between `a` and the next call (`s0`, `s1`, `s2` and 27 more) takes 13516800 steps; a transaction may take 5000000 between two calls
              Lower the `maxItems` (of a map: `max_items`) of what they go through, or let a participant compute it.
        "#]],
    );
    check(
        &definition(schema, &format!("{},{}", sets("s", 30), call("a"))),
        expect![[r#"
            E207 /steps/0 too costly together: with lists as long as they may be, what is evaluated from the begin to the first call (`s0`, `s1`, `s2` and 27 more) takes 13516800 steps; a transaction may take 5000000 between two calls
              Lower the `maxItems` (of a map: `max_items`) of what they go through, or let a participant compute it.
        "#]],
    );
    let arm = |index: usize| format!(r#"{{"steps":[{}]}}"#, set(format!("p{index}")));
    let arms = (0..30).map(arm).collect::<Vec<_>>().join(",");
    check(
        &definition(schema, &format!(r#"{},{{"name":"block","parallel":[{arms}]}}"#, call("a"))),
        expect![[r#"
            E207 /steps/1/parallel/0/steps/0 too costly together: with lists as long as they may be, what is evaluated between `a` and the next call (`p0`, `p1`, `p2` and 27 more) takes 13516800 steps; a transaction may take 5000000 between two calls
              Lower the `maxItems` (of a map: `max_items`) of what they go through, or let a participant compute it.
        "#]],
    );
    let map = |inner: &str| {
        format!(
            r#"{{"name":"m","map":{{"items":"${{input.l}}","as":"one","max_items":300,"max_concurrency":4,"steps":[{inner}]}}}}"#
        )
    };
    check(
        &definition(schema, &map(&set("each".to_owned()))),
        expect![[r#"
            E207 /steps/0/map/steps/0 too costly together: with lists as long as they may be, what is evaluated from the begin to the first call (`each`) takes 135168000 steps; a transaction may take 5000000 between two calls
              Lower the `maxItems` (of a map: `max_items`) of what they go through, or let a participant compute it.
        "#]],
    );
    // A call between them, one arm of many, four side by side: none of it comes to so much.
    let with_calls = format!("{},{},{}", sets("s", 10), call("a"), sets("t", 10));
    let arm =
        |index: usize| format!(r#"{{"when":"size(input.l) == {index}","steps":[{}]}}"#, sets(&format!("p{index}_"), 3));
    let arms = (0..10).map(arm).collect::<Vec<_>>().join(",");
    let choice = format!(r#"{{"name":"c","choice":[{arms},{{"otherwise":true,"steps":[]}}]}},{}"#, call("a"));
    let chained = map(&format!("{},{},{}", set("x".to_owned()), call("y"), set("z".to_owned())));
    for fine in [with_calls, choice, chained] {
        compile(&definition(schema, &fine)).unwrap_or_else(|faults| panic!("{}", told(&faults)));
    }
}

#[test]
fn an_enlisted_operation_is_judged_as_well() {
    let operation = |url: &str| serde_json::json!({ "url": url });
    let request = serde_json::json!({"branch": "b", "confirm": operation("http://x/${size(5)}"), "cancel": operation("http://x/${null}")});
    let request = serde_json::from_value(request).unwrap();
    let faults = skald_engine::definition::enlist(&request).unwrap_err();
    expect![[r#"
        E206 /confirm/url `size` does not take an int
        E209 /cancel/url `null` is null: a URL takes strings, numbers and booleans alone
          Read a member of it, or send it in the `body`.
    "#]]
    .assert_eq(&told(&faults));
}

#[test]
fn outputs_within_outputs_nest_without_end_and_are_judged_soon() {
    let mut steps = Vec::new();
    for step in 0..400 {
        let before: usize = if step == 0 { 0 } else { step - 1 };
        let read = if step == 0 { "${input}".to_owned() } else { format!("${{steps.s{before}.output}}") };
        let output = format!(r#"{{"a":{{"a":{{"a":{{"a":["{read}","{read}"]}}}}}},"b":"{read}","c":"{read}"}}"#);
        let step = role(&format!("s{step}"), "read_only").replacen('{', &format!(r#"{{"output":{output},"#), 1);
        steps.push(step);
    }
    let began = clock::spent();
    compile(&definition(SCHEMA, &steps.join(","))).unwrap_or_else(|faults| panic!("{}", told(&faults)));
    let took = clock::spent() - began;
    assert!(took.as_millis() < 1_000, "{took:?}");
}

#[test]
fn e208_secrets_stand_in_services_alone() {
    let step = action(
        r#""path":"/","query":{"k":{"secret":"key"},"l":"1"},"headers":{"Authorization":{"secret":"token"}},"body":{"a":[{"secret":"x"}],"b":{"secret":"x","more":1},"c":{"secret":"${input.s}"},"d":{"secret":5}}"#,
    )
    .replacen('{', r#"{"output":{"secret":"token"},"#, 1);
    check(
        &definition(r#","output":{"k":{"secret":"key"}}"#, &step),
        expect![[r#"
        E208 /steps/0/output a secret where it would be stored
          Secrets stand in a service's `auth` and `headers` alone: add one there, and call through it.
        E208 /steps/0/action/query/k a secret where it would be stored
          Secrets stand in a service's `auth` and `headers` alone: add one there, and call through it.
        E208 /steps/0/action/headers/Authorization a secret where it would be stored
          Secrets stand in a service's `auth` and `headers` alone: add one there, and call through it.
        E208 /steps/0/action/body/a/0 a secret where it would be stored
          Secrets stand in a service's `auth` and `headers` alone: add one there, and call through it.
        E208 /output/k a secret where it would be stored
          Secrets stand in a service's `auth` and `headers` alone: add one there, and call through it.
    "#]],
    );
}
