//! What compiles, and the plan it becomes.

use std::time::Duration;

use expect_test::{expect, expect_file};
use serde_json::json;
use skald_engine::{
    Plan,
    definition::{Compiled, compile},
    plan::{self, Body, Fail, OnTimeout, Retry, Role},
};

use super::*;

const TWO_STEPS: &str = include_str!("two_steps.json");
const ORDER: &str = include_str!("order.json");

fn taken(source: &str) -> Compiled {
    language::fits(source);
    compile(source).unwrap_or_else(|faults| panic!("{}", told(&faults)))
}

/// Each branch with what it comes after, the block it stands in and whether it is in the tail.
fn drawn(plan: &Plan) -> String {
    let mut text = String::new();
    let name = |index: &usize| plan.branches[*index].step.as_str();
    for branch in &plan.branches {
        let after: Vec<_> = branch.after.iter().map(name).collect();
        let _ = write!(text, "{} after [{}]", branch.step, after.join(" "));
        if let Some(block) = branch.within {
            let _ = write!(text, " in {}", name(&block));
        }
        text.push_str(if branch.tail { " tail\n" } else { "\n" });
    }
    text
}

#[track_caller]
fn check_order(steps: &str, expect: Expect) {
    let plan = taken(&definition("", steps)).plan;
    for (index, branch) in plan.branches.iter().enumerate() {
        assert!(branch.after.iter().all(|before| *before < index), "predecessors come first");
        assert!(branch.within.is_none_or(|block| block > index), "blocks come after what is in them");
    }
    expect.assert_eq(&drawn(&plan));
}

#[test]
fn a_two_step_saga_fits_in_fifteen_lines() {
    assert!(TWO_STEPS.lines().count() <= 15);
    assert_eq!(taken(TWO_STEPS).plan.branches.len(), 2);
}

#[test]
fn a_lowered_plan_reads_like_this() {
    let plan = serde_json::to_string_pretty(&taken(ORDER).plan).unwrap();
    expect_file!["order.plan.json"].assert_eq(&format!("{plan}\n"));
}

#[test]
fn a_stored_plan_reads_back_and_keeps_its_digest() {
    for source in [TWO_STEPS, ORDER] {
        let plan = taken(source).plan;
        let encoded = plan.encode();
        let read = Plan::decode(plan::FORMAT, &encoded).unwrap();
        assert_eq!(read, plan);
        assert_eq!(Plan::digest(&read.encode()), Plan::digest(&encoded));
    }
}

#[test]
fn equal_definitions_become_equal_plans() {
    let spaced: serde_json::Value = serde_json::from_str(ORDER).unwrap();
    let spaced = serde_json::to_string_pretty(&spaced).unwrap();
    assert_eq!(taken(&spaced).plan.encode(), taken(ORDER).plan.encode());
}

#[test]
fn documentation_and_extensions_change_nothing_of_the_plan() {
    let plain = definition("", &saga("a"));
    let said = definition(
        r#","title":"T","description":"D","labels":{"team":"x"},"x-a":{"b":[1]}"#,
        &saga("a").replacen('{', r#"{"description":"what","x-owner":1,"#, 1).replacen(
            r#""path":"/""#,
            r#""path":"/","x-y":null"#,
            1,
        ),
    );
    let compiled = taken(&said);
    assert_eq!(compiled.plan.encode(), taken(&plain).plan.encode());
    assert_eq!(compiled.labels, [("team".to_owned(), "x".to_owned())].into());
}

#[test]
fn a_header_or_a_label_may_start_with_x() {
    let source =
        definition(r#","labels":{"x-team":"a"}"#, &action(r#""path":"/","headers":{"x-key":"b"},"query":{"x-q":1}"#));
    let compiled = taken(&source.replace(r#""url":"http://s""#, r#""url":"http://s","headers":{"x-shop":"c"}"#));
    let forward = compiled.plan.branches[0].forward.as_ref().unwrap();
    assert!(forward.headers.contains_key("x-key") && forward.query.contains_key("x-q"));
    assert!(compiled.plan.services["s"].headers.contains_key("x-shop") && compiled.labels.contains_key("x-team"));
}

#[test]
fn a_step_follows_the_one_before_it_unless_it_says_otherwise() {
    check_order(
        &[saga("a"), saga("b"), saga("c")].join(","),
        expect![[r#"
        a after []
        b after [a]
        c after [b]
    "#]],
    );
    check_order(
        &[saga("a"), saga_after("b", ""), saga_after("c", r#""a","b","a""#), saga_after("d", r#""a""#), saga("e")]
            .join(","),
        expect![[r#"
            a after []
            b after []
            c after [a b]
            d after [a]
            e after [d]
        "#]],
    );
    check_order(
        &[saga_after("late", r#""early""#), saga_after("early", "")].join(","),
        expect![[r#"
        early after []
        late after [early]
    "#]],
    );
}

#[test]
fn an_arm_starts_after_what_its_block_comes_after_and_the_block_ends_with_all_arms() {
    let inner = format!(r#"{{"name":"inner","parallel":[{{"steps":[{}]}},{{"steps":[{}]}}]}}"#, saga("c"), saga("d"));
    let block = format!(
        r#"{{"name":"outer","parallel":[{{"steps":[{},{inner}]}},{{"steps":[{},{}]}}]}}"#,
        saga("b"),
        saga("e"),
        saga_after("f", "")
    );
    check_order(
        &[saga("a"), block.clone(), saga("g")].join(","),
        expect![[r#"
        a after []
        b after [a] in outer
        c after [b] in inner
        d after [b] in inner
        inner after [c d] in outer
        e after [a] in outer
        f after [a] in outer
        outer after [inner e f]
        g after [outer]
    "#]],
    );
    check_order(
        &block,
        expect![[r#"
        b after [] in outer
        c after [b] in inner
        d after [b] in inner
        inner after [c d] in outer
        e after [] in outer
        f after [] in outer
        outer after [inner e f]
    "#]],
    );
    // A block that comes before what is beside it, and one that waits for nothing.
    check_order(
        &[saga("x"), block.replacen('{', r#"{"after":[],"#, 1), saga_after("y", r#""x","outer""#)].join(","),
        expect![[r#"
            x after []
            b after [] in outer
            c after [b] in inner
            d after [b] in inner
            inner after [c d] in outer
            e after [] in outer
            f after [] in outer
            outer after [inner e f]
            y after [x outer]
        "#]],
    );
}

#[test]
fn the_tail_follows_the_pivot_or_starts_with_what_is_retriable() {
    check_order(
        &[saga("a"), role("p", "pivot"), role("r", "retriable"), role("q", "read_only")].join(","),
        expect![[r#"
            a after []
            p after [a]
            r after [p] tail
            q after [r] tail
        "#]],
    );
    check_order(
        &[saga("a"), role("r", "retriable"), role("q", "read_only"), saga_after("b", r#""a""#)].join(","),
        expect![[r#"
            a after []
            r after [a] tail
            q after [r] tail
            b after [a]
        "#]],
    );
    let block = |steps: &str| {
        format!(r#"{{"name":"block","parallel":[{{"steps":[{steps}]}},{{"steps":[{}]}}]}}"#, role("look", "read_only"))
    };
    check_order(
        &[saga("a"), block(&role("p", "pivot")), role("r", "retriable")].join(","),
        expect![[r#"
        a after []
        p after [a] in block
        look after [a] in block
        block after [p look] tail
        r after [block] tail
    "#]],
    );
    check_order(
        &[saga("a"), block(&role("r", "retriable")), role("q", "read_only")].join(","),
        expect![[r#"
        a after []
        r after [a] in block tail
        look after [a] in block
        block after [r look] tail
        q after [block] tail
    "#]],
    );
}

#[test]
fn roles_are_implied_by_what_a_step_has() {
    let tcc = r#"{"name":"t","service":"s","try":{"path":"/"},"confirm":{"path":"/"},"cancel":{"path":"/"}}"#;
    let block = format!(r#"{{"name":"b","parallel":[{{"steps":[{}]}}],"fail":"wait_all"}}"#, role("q", "read_only"));
    let said = saga("s").replacen('{', r#"{"role":"compensatable","#, 1);
    let steps = [saga("a"), said, tcc.to_owned(), block, role("p", "pivot"), role("r", "retriable")].join(",");
    let plan = taken(&definition("", &steps)).plan;
    let roles: Vec<_> = plan.branches.iter().map(|branch| branch.role).collect();
    let fail = Fail::WaitAll;
    let block = Role::Parallel { fail };
    assert_eq!(
        roles,
        [Role::Compensatable, Role::Compensatable, Role::Tcc, Role::ReadOnly, block, Role::Pivot, Role::Retriable]
    );
}

#[test]
fn without_a_word_the_defaults_are_those_of_the_table() {
    let steps = [saga("a"), role("p", "pivot"), role("r", "retriable"), role("q", "read_only")].join(",");
    let plan = taken(&definition("", &steps)).plan;
    let [a, p, r, q] = plan.branches.as_slice() else { panic!("{plan:?}") };
    for (operation, retry) in [
        (&a.forward, Retry::forward()),
        (&a.undo, Retry::settling()),
        (&p.forward, Retry::forward()),
        (&r.forward, Retry::settling()),
        (&q.forward, Retry::settling()),
    ] {
        let operation = operation.as_ref().unwrap();
        assert_eq!((&operation.retry, operation.timeout), (&retry, Duration::from_secs(10)));
        assert_eq!(operation.method, "POST");
    }
    assert_eq!(p.forward.as_ref().unwrap().settle, Some(Retry::settling()));
    assert_eq!(a.forward.as_ref().unwrap().settle, None);
    assert_eq!((plan.timeout, plan.on_timeout, plan.open), (None, OnTimeout::Compensate, false));
}

#[test]
fn the_nearest_policy_holds_and_leaves_the_rest_to_the_next() {
    let more = r#","timeout":"1h","retries":{"slow":{"initial_interval":"30s","jitter":"none"}},
        "defaults":{"timeout":"1s","retry":{"max_attempts":9,"backoff_coefficient":3},"settle":{"retry":"slow"}}"#;
    let step = r#"{"name":"a","service":"s","retry":{"max_attempts":"unlimited"},"action":{"path":"/"},
        "compensate":{"path":"/","retry":{"max_elapsed":"7d"},"timeout":"2s"}},
        {"name":"b","service":"s","action":{"path":"/","retry":"slow"},"compensate":{"path":"/"}}"#;
    let plan = taken(&definition(more, step)).plan;
    let slow = |retry: Retry| Retry { initial_interval: Duration::from_secs(30), jitter: plan::Jitter::None, ..retry };
    let default = Retry { max_attempts: Some(9), backoff_coefficient: 3.0, ..Retry::forward() };
    let [a, b] = plan.branches.as_slice() else { panic!("{plan:?}") };
    let [forward, undo] = [&a.forward, &a.undo].map(|operation| operation.as_ref().unwrap());
    assert_eq!(forward.retry, Retry { max_attempts: None, ..default });
    assert_eq!(undo.retry, Retry { max_elapsed: Some(Duration::from_secs(7 * 86_400)), ..slow(Retry::settling()) });
    assert_eq!((forward.timeout, undo.timeout), (Duration::from_secs(1), Duration::from_secs(2)));
    // A first pause beyond the cap of the policy below lifts that cap.
    assert_eq!(b.forward.as_ref().unwrap().retry, Retry { max_interval: Duration::from_secs(30), ..slow(default) });
}

#[test]
fn bodies_are_the_input_then_what_was_sent_and_none_where_the_method_has_none() {
    let body = |method: &str| {
        let step = saga("a").replace(r#""path":"/""#, &format!(r#""path":"/","method":"{method}""#));
        let plan = taken(&definition("", &step)).plan;
        [&plan.branches[0].forward, &plan.branches[0].undo].map(|operation| operation.as_ref().unwrap().body.clone())
    };
    for method in ["POST", "PUT", "PATCH", "OPTIONS"] {
        assert_eq!(body(method), [Body::Input, Body::Forward], "{method}");
    }
    for method in ["GET", "HEAD", "DELETE"] {
        assert_eq!(body(method), [Body::None, Body::None], "{method}");
    }
    let step = action(r#""path":"/","body":null,"status_check":{"method":"POST","path":"/"}"#);
    let plan = taken(&definition("", &step)).plan;
    let forward = plan.branches[0].forward.as_ref().unwrap();
    assert_eq!((&forward.body, &forward.status_check.as_ref().unwrap().body), (&Body::None, &Body::None));
}

#[test]
fn ancestors_reach_through_blocks() {
    let block = format!(r#"{{"name":"p","parallel":[{{"steps":[{}]}},{{"steps":[{}]}}]}}"#, saga("b"), saga("c"));
    let reading = action(
        r#""path":"/${steps.a.output.id}","query":{"b":"${steps.b.output.x[0].y}","p":"${steps.p.status}"},"headers":{"C":"${steps.c.status}"}"#,
    );
    let last = reading.replace(r#""name":"a""#, r#""name":"z""#);
    taken(&definition(
        r#","output":{"z":"${steps.z.output}","gid":"${transaction.gid}","in":"${input}"}"#,
        &[saga("a"), block, last].join(","),
    ));
}

#[test]
fn settling_operations_read_their_forward_operation_and_what_came_before() {
    let tcc = r#"{"name":"t","service":"s","try":{"path":"/${self.idempotency_key}"},
        "confirm":{"path":"/${self.output.id}/${steps.a.output.id}","status_check":{"path":"/${self.response.body.id}"}},
        "cancel":{"path":"/","body":["${self.request.body.x}","${self.response.headers.etag}","${self.response.status}"]},
        "output":{"id":"${self.response.body.id}"}}"#;
    taken(&definition("", &[&saga("a"), tcc].join(",")));
}

#[test]
fn an_input_schema_tells_all_faults_of_an_input_with_their_places() {
    let schema = taken(ORDER).input.unwrap();
    let line = json!({"sku": "a", "qty": 1});
    schema.check(&json!({"order_id": "1", "customer": "c", "total": 1, "lines": [line]}).into()).unwrap();
    let faults = schema
        .check(&json!({"order_id": 1, "customer": "c", "total": 1.5, "lines": [{"qty": "x"}]}).into())
        .unwrap_err();
    expect![[r#"
        input_invalid /lines/0 "sku" is a required property
        input_invalid /lines/0/qty "x" is not of type "integer"
        input_invalid /order_id 1 is not of type "string"
        input_invalid /total 1.5 is not of type "integer"
    "#]]
    .assert_eq(&told(&faults));
}

#[test]
fn references_and_patterns_of_a_schema_work_within_it() {
    let schema = r##","input":{"$id":"urn:x","properties":{"a":{"$ref":"#/$defs/a"},"b":{"type":"array","prefixItems":[{"$ref":"#/$defs/a"}]}},"$defs":{"a":{"type":"string","pattern":"^\\w{1,64}$"}}}"##;
    let schema = taken(&definition(schema, &saga("a"))).input.unwrap();
    schema.check(&json!({"a": "x", "b": ["y", 5]}).into()).unwrap();
    expect![[r#"
        input_invalid /a "!" does not match "^\w{1,64}$"
        input_invalid /b/0 5 is not of type "string"
    "#]]
    .assert_eq(&told(&schema.check(&json!({"a": "!", "b": [5]}).into()).unwrap_err()));
}

#[test]
fn an_input_too_heavy_for_its_schema_is_refused_unchecked() {
    let all: Vec<_> = (0..3000).map(|_| r#"{"items":{"type":"integer"}}"#).collect();
    let schema = taken(&definition(&format!(r#","input":{{"allOf":[{}]}}"#, all.join(",")), &saga("a"))).input.unwrap();
    schema.check(&json!(vec![1; 100]).into()).unwrap();
    expect![[r#"
        input_invalid  the input is too large to be checked against a schema as heavy as this one
    "#]]
    .assert_eq(&told(&schema.check(&json!(vec![1; 60_000]).into()).unwrap_err()));
}

#[test]
fn what_may_surprise_is_a_warning() {
    let more = r#","services":{"s":{"url":"http://s"},"idle":{"url":"http://i"}}"#;
    let steps = [
        action(r#""path":"/","async":{"timeout":"5s"}"#)
            .replace(r#""compensate":{"path":"/""#, r#""compensate":{"path":"/${self.output.id}""#),
        role("p", "pivot"),
    ];
    let source = definition("", &steps.join(",")).replace(r#","services":{"s":{"url":"http://s"}}"#, more);
    expect![[r#"
        W306 /steps/0/action/async without a heartbeat a participant that died is noticed when the timeout ends
          Add `heartbeat`.
        W306 /steps/0/action/async/timeout the timeout leaves little time to finish
        W303 /steps/0/compensate/path an undo also follows attempts of unknown outcome, which left no response
          Undo by what was sent: `self.request.body`, `self.idempotency_key`.
        W307 /steps/1/action a pivot of unknown outcome can only be resent, and a refusal of that is not believed
          Add `status_check`, or "idempotent": true where a resend's answer may be trusted.
        W305 /services/idle no step uses the service `idle`
    "#]]
    .assert_eq(&told(&taken(&source).warnings));
    let trusted = role("p", "pivot").replace(r#""path":"/""#, r#""path":"/","idempotent":true"#);
    expect![[""]].assert_eq(&told(&taken(&definition("", &trusted)).warnings));
}

#[test]
fn expressions_may_stand_wherever_paths_may() {
    let operation = r##"{"path":"/x/${ {'a b': input.id}['a b'] }/${'#'}","query":{"n":"${size(input.lines)}"},"headers":{"key":"${sha256(input.id)}"},"body":{"lines":"${input.lines.filter(l, l.qty > 0)}","note":"it is ${has(input.note) ? input.note : 'none'}"}}"##;
    let first = format!(
        r#"{{"name":"a","service":"s","action":{operation},"output":{{"total":"${{sum(input.lines.map(l, l.qty))}}"}},"compensate":{{"path":"/","body":"${{has(self.request.body.x) ? 1 : self.response.status}}"}}}}"#
    );
    let source = definition(r#","output":"${steps.a.output.total + 1}""#, &first);
    let compiled = taken(&source);
    let encoded = compiled.plan.encode();
    let text = String::from_utf8(encoded.clone()).unwrap();
    assert!(text.contains("${input.lines.filter(l, l.qty > 0)}"), "a plan keeps what was written: {text}");
    assert_eq!(Plan::decode(plan::FORMAT, &encoded).unwrap(), compiled.plan);
    expect![[r#"
        W303 /steps/0/compensate/body an undo also follows attempts of unknown outcome, which left no response
          Undo by what was sent: `self.request.body`, `self.idempotency_key`.
    "#]]
    .assert_eq(&told(&compiled.warnings));
}

#[test]
fn a_format_of_a_schema_is_checked() {
    let schema = r#","input":{"properties":{"mail":{"type":"string","format":"email"},"at":{"format":"date-time"}}}"#;
    let schema = taken(&definition(schema, &saga("a"))).input.unwrap();
    schema.check(&json!({"mail": "ann@example.com", "at": "2026-01-31T12:00:00Z"}).into()).unwrap();
    let faults = schema.check(&json!({"mail": "ann", "at": "noon"}).into()).unwrap_err();
    let mut pointers: Vec<_> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
    pointers.sort_unstable();
    assert_eq!(pointers, ["/at", "/mail"]);
}
