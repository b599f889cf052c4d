//! Types across steps: conditions, items, included workflows, signals, and what a step may leave without output.

use expect_test::expect;
use skald_engine::definition::compile;

use super::{types::SCHEMA, *};

/// Steps of pure kinds, on the schema of this file.
#[track_caller]
fn check_kinds(steps: &[&str], expect: Expect) {
    check(&definition(SCHEMA, &steps.join(",")), expect);
}

#[test]
fn conditions_say_what_is_there_where_the_step_runs() {
    let fine = [
        r#"{"name":"a","when":"has(input.express) && input.express","set":"${input.express}"}"#.to_owned(),
        saga("b").replacen('{', r#"{"when":"has(input.note)","#, 1).replace(r#""path":"/""#, r#""path":"/${input.note}""#),
        r#"{"name":"c","choice":[
            {"when":"!has(input.price)","steps":[]},
            {"when":"has(input.who.mail) && input.price > 1","steps":[{"name":"d","set":"${input.price}${input.who.mail}"}]},
            {"otherwise":true,"steps":[{"name":"e","set":"${input.price}"}]}]}"#.to_owned(),
        r#"{"name":"f","when":"has(input.note)","parallel":[{"steps":[{"name":"g","set":"${input.note}"}]}]}"#.to_owned(),
        r#"{"name":"h","map":{"items":"${input.lines}","as":"line","steps":[{"name":"i","when":"has(line.note)","set":"${line.note}${line.sku}"}]}}"#.to_owned(),
        r#"{"name":"j","when":"has(steps.a.output)","set":"${steps.a.output}"}"#.to_owned(),
    ];
    compile(&definition(SCHEMA, &fine.join(","))).unwrap_or_else(|faults| panic!("{}", told(&faults)));
    check_kinds(
        &[
            r#"{"name":"a","when":"input.express","set":1}"#,
            r#"{"name":"b","choice":[{"when":"has(input.note)","steps":[]},{"otherwise":true,"steps":[{"name":"c","set":"${input.note}"}]}]}"#,
            r#"{"name":"d","when":"has(input.note) || input.total > 1","set":"${input.note}"}"#,
            r#"{"name":"e","map":{"items":"${input.lines}","as":"line","steps":[
                {"name":"f","when":"has(line.note)","map":{"items":"${input.lines}","as":"line","steps":[{"name":"g","set":"${line.note}"}]}}]}}"#,
        ],
        expect![[r#"
            E204 /steps/0/when `input.express` may be absent: the schema does not require it
              Ask has(input.express) first, or read it as coalesce(input.express, …), or name it in the schema's `required`.
            E204 /steps/1/choice/1/steps/0/set `input.note` may be absent: the schema does not require it
              Ask has(input.note) first, or read it as coalesce(input.note, …), or name it in the schema's `required`.
            E204 /steps/2/set `input.note` may be absent: the schema does not require it
              Ask has(input.note) first, or read it as coalesce(input.note, …), or name it in the schema's `required`.
            E204 /steps/3/map/steps/0/map/steps/0/set `line.note` may be absent: the schema does not require it
              Ask has(line.note) first, or read it as coalesce(line.note, …), or name it in the schema's `required`.
        "#]],
    );
}

#[test]
fn e204_a_step_that_may_be_skipped() {
    check_kinds(
        &[
            r#"{"name":"a","when":"input.total > 1","set":{"n":1}}"#,
            r#"{"name":"b","choice":[{"when":"input.total > 1","steps":[{"name":"c","set":{"n":1}},{"name":"d","set":"${steps.c.output.n}"}]},{"otherwise":true,"steps":[]}]}"#,
            r#"{"name":"e","set":["${steps.a.output.n}","${steps.c.output.n + 1}","${has(steps.a.output) ? steps.a.output.n : 0}","${coalesce(steps.c.output.n, 0)}","${steps.a.status}"]}"#,
        ],
        expect![[r#"
            E204 /steps/2/set/0 `steps.a.output` may be absent: the step may be skipped, or come to nothing
              Ask has(steps.a.output) first, or read it as coalesce(steps.a.output, …).
            E204 /steps/2/set/1 `steps.c.output` may be absent: the step may be skipped, or come to nothing
              Ask has(steps.c.output) first, or read it as coalesce(steps.c.output, …).
        "#]],
    );
}

#[test]
fn an_item_has_the_type_of_its_list_and_a_map_gives_a_list() {
    check_kinds(
        &[
            r#"{"name":"a","map":{"items":"${input.lines}","as":"line","max_items":20,"steps":[
                {"name":"b","set":{"sku":"${line.skuu}","qty":"${line.qty + 'x'}"}},{"name":"c","set":{"n":"${line.qty}"}}]}}"#,
            r#"{"name":"d","set":["${steps.a.output.n}","${steps.a.output[0].m}","${steps.a.output.map(x, x.n + 'a')}"]}"#,
            r#"{"name":"e","map":{"items":"${input.name}","steps":[{"name":"f","set":"${item.x}"}]}}"#,
            r#"{"name":"g","output":{"sku":"${steps.h.output}","of":"${item.qty}"},"map":{"items":["${input.lines[0]}"],"steps":[{"name":"h","set":"${item.sku}"}]}}"#,
            r#"{"name":"i","set":"${steps.g.output[0].sku + 1}"}"#,
        ],
        expect![[r#"
            E206 /steps/0/map/steps/0/set/qty `+` does not take an int (`line.qty`) and a string
              Convert the other one with string().
            E205 /steps/0/map/steps/0/set/sku `line` has no `skuu`: it has `note`, `qty`, `sku`
              Did you mean `sku`?
            E205 /steps/1/set/0 `steps.a.output` is a list, and a member of it is read
              Read one item, as in list[0].name, or all with map().
            E205 /steps/1/set/1 `steps.a.output[0]` has no `m`: it has `n`
            E206 /steps/1/set/2 `+` does not take an int (`x.n`) and a string
              Convert the other one with string().
            E206 /steps/2/map/items `input.name` is a string: a map goes through a list
              Give it a list, as in ${input.lines}.
            E206 /steps/4/set `+` does not take a string (`steps.g.output[0].sku`) and an int
              Convert the other one with string().
        "#]],
    );
}

#[test]
fn e206_conditions_times_and_texts_of_the_wrong_kind() {
    check_kinds(
        &[
            r#"{"name":"a","when":"input.name","set":1}"#,
            r#"{"name":"b","choice":[{"when":"size(input.lines)","steps":[]},{"otherwise":true,"steps":[]}]}"#,
            r#"{"name":"c","wait":{"for":"${input.lines}"}}"#,
            r#"{"name":"d","wait":{"until":"${input.who}"}}"#,
            r#"{"name":"e","wait":{"signal":"approved-${input.who}","timeout":"1h"}}"#,
            &action(r#""path":"/","outcome":[{"when":"response.status","is":"refused"},{"when":"response.status + 'x' == ''","is":"refused"},{"when":"response.body.state == 'lost'","is":"unknown"}],
                "async":{"timeout":"1h","poll":{"path":"/${input.who}","interval":"5s"}}"#)
            .replace(r#""name":"a""#, r#""name":"f""#),
            r#"{"name":"g","fail":{"error":"no","message":"${input.lines}"}}"#,
        ],
        expect![[r#"
            E206 /steps/0/when the condition is a string, which is neither true nor false
              Compare it with something.
            E206 /steps/1/choice/0/when the condition is an int, which is neither true nor false
              Compare it with something.
            E206 /steps/2/wait/for `input.lines` is a list and no text
              Read a member of it.
            E206 /steps/3/wait/until `input.who` is a map and no text
              Read a member of it.
            E206 /steps/4/wait/signal `input.who` is a map and no text
              Read a member of it.
            E206 /steps/5/action/outcome/0/when the condition is an int, which is neither true nor false
              Compare it with something.
            E206 /steps/5/action/outcome/1/when `+` does not take an int (`response.status`) and a string
              Convert the other one with string().
            E209 /steps/5/action/async/poll/path `input.who` is a map: a URL takes strings, numbers and booleans alone
              Read a member of it, or send it in the `body`.
            E206 /steps/6/fail/message `input.lines` is a list and no text
              Read a member of it.
        "#]],
    );
}

#[test]
fn an_included_workflow_is_typed_by_its_own_schema_and_gives_its_output() {
    let inner = r#"{"dsl":"1.0","name":"inner","version":"1.0.0","input":{"type":"object","required":["n"],"properties":{"n":{"type":"integer"}}},
        "steps":[{"name":"a","set":{"m":"${input.n + 1}"}}],"output":{"m":"${steps.a.output.m}","n":"${input.n}"}}"#;
    let mut library = skald_engine::definition::Library::default();
    library.add(inner);
    let steps = r#"{"name":"s","saga":{"workflow":"inner","input":{"n":"${input.nn}"}}},{"name":"a","set":["${steps.s.output.m + 'x'}","${steps.s.output.x}","${steps.s.output.n + 1}"]}"#;
    let outer = definition(SCHEMA, steps);
    let faults = skald_engine::definition::compile_with(&outer, &library).map(|compiled| compiled.plan).unwrap_err();
    expect![[r#"
        E205 /steps/0/saga/input/n `input` has no `nn`: it has `any`, `both`, `express`, `kind`, `limits`, `lines`, `name`, `note`, …
          Name it in the schema's `properties`.
        E206 /steps/1/set/0 `+` does not take an int (`steps.s.output.m`) and a string
          Convert the other one with string().
        E205 /steps/1/set/1 `steps.s.output` has no `x`: it has `m`, `n`
    "#]].assert_eq(&told(&faults));
}

#[test]
fn what_an_included_workflow_is_given_fits_its_schema() {
    let inner = r#"{"dsl":"1.0","name":"inner","version":"1.0.0","input":{"type":"object","required":["order_id","who","lines"],"properties":{
        "order_id":{"type":"string"},"total":{"type":"number"},"who":{"type":"object","required":["mail"],"properties":{"mail":{"type":"string"}}},
        "lines":{"type":"array","items":{"type":"object","required":["sku","price"],"properties":{"sku":{"type":"string"}}}}}},"steps":[{"name":"a","set":1}]}"#;
    let mut library = skald_engine::definition::Library::default();
    library.add(inner);
    let saga = |input: &str| definition(SCHEMA, &format!(r#"{{"name":"s","saga":{{"workflow":"inner"{input}}}}}"#));
    let taken =
        |input: &str| skald_engine::definition::compile_with(&saga(input), &library).map(|compiled| compiled.plan);
    let fine = r#","input":{"order_id":"${input.name}","total":"${input.total}","who":{"mail":"a@b"},"lines":"${coalesce(input.any, 1).lines}","more":1}"#;
    taken(fine).unwrap_or_else(|faults| panic!("{}", told(&faults)));
    taken(r#","input":"${coalesce(input.any, 1).x}""#).unwrap_or_else(|faults| panic!("{}", told(&faults)));
    let told_of = |input: &str| told(&taken(input).unwrap_err());
    let odd = r#","input":{"oder_id":"${input.name}","total":"${input.name}","who":"${input.who}","lines":[{"sku":1,"price":2}]}"#;
    expect![[r#"
        E206 /steps/0/saga/input/lines `sku` is an int, and the workflow inner@1.0.0 takes a string
        E206 /steps/0/saga/input `order_id` is missing: the workflow inner@1.0.0 requires it
          Is it what is given as `oder_id`?
        E206 /steps/0/saga/input/total `total` is a string, and the workflow inner@1.0.0 takes a number
        E204 /steps/0/saga/input/who `mail` may be absent, and the workflow inner@1.0.0 requires it
          Name `mail` in the `required` of the schema that it comes from.
    "#]]
    .assert_eq(&told_of(odd));
    expect![[r#"
        E206 /steps/0/saga `price` is missing: the workflow inner@1.0.0 requires it
        E206 /steps/0/saga `order_id` is missing: the workflow inner@1.0.0 requires it
        E204 /steps/0/saga `mail` may be absent, and the workflow inner@1.0.0 requires it
          Name `mail` in the `required` of the schema that it comes from.
    "#]]
    .assert_eq(&told_of(""));
    expect![[r#"
        E206 /steps/0/saga/input `input` is a string, and the workflow inner@1.0.0 takes a map
    "#]]
    .assert_eq(&told_of(r#","input":"${input.name}""#));
}

#[test]
fn conditions_around_many_steps_are_read_soon() {
    let asked: Vec<_> = (0..95).map(|n| format!("has(input.limits.m{n})")).collect();
    let asked = asked.join(" && ");
    let steps: Vec<_> = (0..900).map(|n| format!(r#"{{"name":"s{n}","set":"${{input.total}}"}}"#)).collect();
    let mut step = steps.join(",");
    for depth in 0..10 {
        step = format!(r#"{{"name":"b{depth}","when":"{asked}","parallel":[{{"steps":[{step}]}}]}}"#);
    }
    let began = clock::spent();
    compile(&definition(SCHEMA, &step))
        .map(|compiled| compiled.plan)
        .unwrap_or_else(|faults| panic!("{}", told(&faults)));
    let took = clock::spent() - began;
    assert!(took.as_millis() < 2_000, "{took:?}");
}

#[test]
fn of_several_signals_the_output_tells_which_and_no_name_is_sure() {
    let wait = r#"{"name":"w","wait":{"signal":["go","stop-${input.who}","stop-${input.name}"],"timeout":"1d"}}"#;
    check_kinds(
        &[
            wait,
            r#"{"name":"r","set":["${steps.w.output.signal + 1}","${steps.w.output.sgnal}","${steps.w.output.payload.by}","${signals.go.by}"]}"#,
        ],
        expect![[r#"
            E206 /steps/0/wait/signal/1 `input.who` is a map and no text
              Read a member of it.
            E206 /steps/1/set/0 `+` does not take a string (`steps.w.output.signal`) and an int
              Convert the other one with string().
            E205 /steps/1/set/1 `steps.w.output` has no `sgnal`: it has `payload`, `signal`
              Did you mean `signal`?
            E204 /steps/1/set/3 `signals.go` may be absent: no wait before this makes sure that the signal came
              Ask has(signals.go) first, or read it as coalesce(signals.go, …).
        "#]],
    );
    let one = r#"{"name":"w","wait":{"signal":["go"],"timeout":"1d"}}"#;
    let fine = [one, r#"{"name":"r","set":["${steps.w.output.payload.by}","${signals.go.by}"]}"#];
    compile(&definition("", &fine.join(","))).unwrap_or_else(|faults| panic!("{}", told(&faults)));
    let goes_on = one.replace("\"1d\"", "\"1d\",\"on_timeout\":\"continue\"");
    check_kinds(
        &[goes_on.as_str(), r#"{"name":"r","set":"${steps.w.output.signal}"}"#],
        expect![[r#"
        E204 /steps/1/set `steps.w.output` may be absent: the step may be skipped, or come to nothing
          Ask has(steps.w.output) first, or read it as coalesce(steps.w.output, …).
    "#]],
    );
}

#[test]
fn a_list_of_signals_has_names_each_of_them_once() {
    let wait = |names: &str| format!(r#"{{"name":"w{}","wait":{{"signal":[{names}],"timeout":"1d"}}}}"#, names.len());
    let many: Vec<_> = (0..101).map(|index| format!("\"s{index}\"")).collect();
    let steps = [wait(""), wait(r#""a","b","a""#), wait(r#""a/b""#), wait("7"), wait(&many.join(","))];
    check(
        &definition("", &steps.join(",")),
        expect![[r#"
        E004 /steps/0/wait/signal a wait is for one to 100 signals, and not for 0
        E004 /steps/1/wait/signal/2 the signal `a` stands in the list twice
          Name each signal once.
        E004 /steps/2/wait/signal/0 `a/b` is no signal's name: letters, digits and `_.~-`, at most 128
        E002 /steps/3/wait/signal/0 expected a string, found a number
        E004 /steps/4/wait/signal a wait is for one to 100 signals, and not for 101
    "#]],
    );
    let beside = r#"{"name":"p","service":"s","role":"pivot","action":{"path":"/","idempotent":true}}"#;
    check(
        &definition("", &[beside, &wait(r#""a""#)].join(",")),
        expect![[r#"
        E113 /steps/1/wait/signal a wait in the tail that may fail: after the commit nothing is given up
          Write "on_timeout": "continue".
    "#]],
    );
}

#[test]
fn e204_a_signal_that_no_wait_makes_sure_of() {
    let wait = |more: &str| format!(r#"{{"name":"w","wait":{{"signal":"go","timeout":"1d"{more}}}}}"#);
    let read = r#"{"name":"r","set":{"a":"${signals.go.by}","b":"${has(signals.go.by) ? signals.go.by : 'nobody'}"}}"#;
    check(
        &definition("", &[read, &wait("")].join(",")),
        expect![[r#"
        E204 /steps/0/set/a `signals.go` may be absent: no wait before this makes sure that the signal came
          Ask has(signals.go) first, or read it as coalesce(signals.go, …).
    "#]],
    );
    check(
        &definition("", &[wait(r#","on_timeout":"continue""#).as_str(), read].join(",")),
        expect![[r#"
        E204 /steps/1/set/a `signals.go` may be absent: no wait before this makes sure that the signal came
          Ask has(signals.go) first, or read it as coalesce(signals.go, …).
    "#]],
    );
    compile(&definition("", &[wait("").as_str(), read].join(","))).unwrap_or_else(|faults| panic!("{}", told(&faults)));
}

#[test]
fn e204_what_a_step_that_may_come_to_nothing_leaves() {
    let ignored = r#"{"name":"r","role":"retriable","service":"s","action":{"path":"/","on_exhausted":"ignore"}}"#;
    let in_vain = r#"{"name":"w","wait":{"signal":"go","timeout":"1d","on_timeout":"continue"}}"#;
    let read = r#"{"name":"x","set":["${steps.r.output.id}","${steps.w.output}","${has(steps.r.output.id)}"]}"#;
    check(
        &definition("", &[ignored, in_vain, read].join(",")),
        expect![[r#"
        E204 /steps/2/set/0 `steps.r.output` may be absent: the step may be skipped, or come to nothing
          Ask has(steps.r.output) first, or read it as coalesce(steps.r.output, …).
        E204 /steps/2/set/1 `steps.w.output` may be absent: the step may be skipped, or come to nothing
          Ask has(steps.w.output) first, or read it as coalesce(steps.w.output, …).
    "#]],
    );
}
