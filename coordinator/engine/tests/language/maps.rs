//! `map`: one after the other and side by side, undone, within each other, over nothing.

use expect_test::expect;
use serde_json::json;

use crate::{check, definition, role, saga, tcc, with};

fn map(name: &str, items: &str, concurrency: usize, steps: &serde_json::Value) -> serde_json::Value {
    json!({"name": name, "map": {"items": items, "as": "line", "max_concurrency": concurrency, "steps": steps}})
}

#[test]
fn items_run_side_by_side_up_to_the_bound_and_the_step_after_waits_for_all() {
    let whole = definition(&json!([map("m", "${input.lines}", 2, &json!([saga("a"), saga("b")])), saga("z")]));
    check(
        &whole,
        &json!({"lines": [1, 2, 3]}),
        "m.0.a ok | m.1.a ok | m.1.b ok | m.2.a ok | m.0.b ok | m.2.b ok | z ok",
        &expect![[r#"
            begin: m of 3 -> action m.0.a, action m.1.a
            m.0.a ok: -> action m.0.b
            m.1.a ok: -> action m.1.b
            m.1.b ok: -> action m.2.a
            m.2.a ok: -> action m.2.b
            m.0.b ok:
            m.2.b ok: -> action z
            z ok: commit; settled succeeded
        "#]],
    );
}

#[test]
fn what_may_have_run_is_undone_item_by_item_and_nothing_else() {
    let whole =
        definition(&json!([saga("first"), map("m", "${input.lines}", 2, &json!([saga("a"), saga("b")])), saga("z"),]));
    check(
        &whole,
        &json!({"lines": [1, 2, 3]}),
        "first ok | m.0.a ok | m.1.a ok | m.0.b refused | m.1.b ok | m.0.a undo ok | m.1.b undo ok | m.1.a undo ok | first undo ok",
        &expect![[r#"
            begin: -> action first
            first ok: m of 3 -> action m.0.a, action m.1.a
            m.0.a ok: -> action m.0.b
            m.1.a ok: -> action m.1.b
            m.0.b refused: m.0.b refused; abort (no) -> compensate m.0.a
            m.1.b ok: -> compensate m.1.b
            m.0.a undo ok:
            m.1.b undo ok: -> compensate m.1.a
            m.1.a undo ok: -> compensate first
            first undo ok: settled compensated
        "#]],
    );
    check(
        &whole,
        &json!({"lines": [7]}),
        "first ok | m.0.a ok | m.0.b ok | z refused | m.0.b undo ok | m.0.a undo ok | first undo ok",
        &expect![[r#"
            begin: -> action first
            first ok: m of 1 -> action m.0.a
            m.0.a ok: -> action m.0.b
            m.0.b ok: -> action z
            z refused: z refused; abort (no) -> compensate m.0.b
            m.0.b undo ok: -> compensate m.0.a
            m.0.a undo ok: -> compensate first
            first undo ok: settled compensated
        "#]],
    );
}

#[test]
fn a_map_over_nothing_is_done_at_once_and_one_over_no_list_aborts() {
    let whole = definition(&json!([saga("a"), map("m", "${steps.a.output}", 2, &json!([saga("b")])), saga("z")]));
    check(
        &whole,
        &json!({}),
        "a ok=[] | z refused | a undo ok",
        &expect![[r#"
            begin: -> action a
            a ok=[]: m of 0 -> action z
            z refused: z refused; abort (no) -> compensate a
            a undo ok: settled compensated
        "#]],
    );
    check(
        &whole,
        &json!({}),
        "a ok={} | a undo ok",
        &expect![[r#"
            begin: -> action a
            a ok={}: m failed (expression_failed); abort (expression_failed) -> compensate a
            a undo ok: settled compensated
        "#]],
    );
}

#[test]
fn more_items_than_the_map_takes_abort_before_any_call() {
    let mut whole = definition(&json!([map("m", "${input.lines}", 2, &json!([saga("b")]))]));
    whole["steps"][0]["map"]["max_items"] = json!(2);
    check(
        &whole,
        &json!({"lines": [1, 2, 3]}),
        "",
        &expect![[r#"
            begin: m failed (expression_failed); abort (expression_failed); settled compensated
        "#]],
    );
}

#[test]
fn maps_nest_and_their_items_see_each_others_names() {
    let inner = json!({"name": "n", "map": {"items": "${line.parts}", "as": "part", "steps": [
        with(saga("a"), &json!({"when": "part != line.but"}))]}});
    let outer = with(
        map("m", "${input.lines}", 5, &json!([inner])),
        &json!({"output": {"of": "${line.but}", "n": "${size(steps.n.output)}"}}),
    );
    let whole = with(definition(&json!([outer])), &json!({"output": "${steps.m.output}"}));
    check(
        &whole,
        &json!({"lines": [{"parts": [1, 2], "but": 1}, {"parts": [], "but": 0}, {"parts": [1], "but": 0}]}),
        "m.0.n.1.a ok | m.2.n.0.a ok",
        &expect![[r#"
            begin: m of 3; m.0.n of 2; m.1.n of 0; m.2.n of 1; m.0.n.0.a passed -> action m.0.n.1.a, action m.2.n.0.a
            m.0.n.1.a ok:
            m.2.n.0.a ok: m = [{"n":2,"of":1},{"n":0,"of":0},{"n":1,"of":0}]; commit; settled succeeded
        "#]],
    );
    check(
        &whole,
        &json!({"lines": [{"parts": [1, 2], "but": 0}, {"parts": [1], "but": 0}]}),
        "m.0.n.0.a ok | m.1.n.0.a ok | m.0.n.1.a refused | m.0.n.0.a undo ok | m.1.n.0.a undo ok",
        &expect![[r#"
            begin: m of 2; m.0.n of 2; m.1.n of 1 -> action m.0.n.0.a, action m.0.n.1.a, action m.1.n.0.a
            m.0.n.0.a ok:
            m.1.n.0.a ok:
            m.0.n.1.a refused: m.0.n.1.a refused; abort (no) -> compensate m.0.n.0.a, compensate m.1.n.0.a
            m.0.n.0.a undo ok:
            m.1.n.0.a undo ok: settled compensated
        "#]],
    );
}

#[test]
fn tries_in_a_map_are_confirmed_at_the_pivot() {
    let whole = definition(&json!([map("m", "${input.lines}", 9, &json!([tcc("hold")])), role("p", "pivot")]));
    check(
        &whole,
        &json!({"lines": [1, 2]}),
        "m.0.hold ok | m.1.hold ok | p ok | m.1.hold confirm ok | m.0.hold confirm ok",
        &expect![[r#"
            begin: m of 2 -> try m.0.hold, try m.1.hold
            m.0.hold ok:
            m.1.hold ok: -> action p
            p ok: commit -> confirm m.0.hold, confirm m.1.hold
            m.1.hold confirm ok:
            m.0.hold confirm ok: settled succeeded
        "#]],
    );
    check(
        &whole,
        &json!({"lines": [1, 2]}),
        "m.0.hold ok | m.1.hold ok | p refused | m.1.hold undo ok | m.0.hold undo ok",
        &expect![[r#"
            begin: m of 2 -> try m.0.hold, try m.1.hold
            m.0.hold ok:
            m.1.hold ok: -> action p
            p refused: p refused; abort (no) -> cancel m.0.hold, cancel m.1.hold
            m.1.hold undo ok:
            m.0.hold undo ok: settled compensated
        "#]],
    );
}

#[test]
fn a_map_in_the_tail_is_driven_to_its_end() {
    let whole =
        definition(&json!([role("p", "pivot"), map("m", "${input.lines}", 1, &json!([role("send", "retriable")]))]));
    check(
        &whole,
        &json!({"lines": [1, 2]}),
        "p ok | m.0.send refused | +1s | m.0.send ok | m.1.send ok",
        &expect![[r#"
            begin: -> action p
            p ok: commit; m of 2 -> action m.0.send
            m.0.send refused: again in 83ms
            +1s: -> action m.0.send #2
            m.0.send ok: -> action m.1.send
            m.1.send ok: settled succeeded
        "#]],
    );
}

#[test]
fn a_failure_inside_a_block_that_waits_for_all_lets_the_items_in_flight_end() {
    let block = json!({"name": "w", "fail": "wait_all", "parallel": [
        {"steps": [map("m", "${input.lines}", 1, &json!([saga("a")]))]}, {"steps": [saga("b"), saga("c")]}]});
    check(
        &definition(&json!([block])),
        &json!({"lines": [1, 2]}),
        "m.0.a refused | b ok | c ok | c undo ok | b undo ok",
        &expect![[r#"
            begin: m of 2 -> action b, action m.0.a
            m.0.a refused: m.0.a refused
            b ok: -> action c
            c ok: abort (no) -> compensate c
            c undo ok: -> compensate b
            b undo ok: settled compensated
        "#]],
    );
}

#[test]
fn a_cancel_while_items_wait_for_their_turn() {
    let whole = definition(&json!([map("m", "${input.lines}", 1, &json!([saga("a")]))]));
    check(
        &whole,
        &json!({"lines": [1, 2, 3]}),
        "m.0.a ok | cancel | m.1.a unknown | m.1.a undo ok | m.0.a undo ok",
        &expect![[r#"
            begin: m of 3 -> action m.0.a
            m.0.a ok: -> action m.1.a
            cancel: cancel requested; abort (cancelled) -> compensate m.0.a
            m.1.a unknown: again in 117ms; halt m.1.a -> compensate m.1.a
            m.1.a undo ok:
            m.0.a undo ok: settled compensated
        "#]],
    );
}

#[test]
fn a_crash_or_a_snapshot_in_the_middle_of_a_map_changes_nothing_of_what_it_comes_to() {
    let whole = definition(&json!([map("m", "${input.lines}", 1, &json!([saga("a")])), saga("z")]));
    check(
        &whole,
        &json!({"lines": [1, 2]}),
        "m.0.a ok | snapshot | crash | m.1.a ok | snapshot | park | z refused | +10s | m.1.a undo ok | snapshot | crash | +10s | m.0.a undo ok",
        &expect![[r#"
            begin: m of 2 -> action m.0.a
            m.0.a ok: -> action m.1.a
            snapshot: snapshot
            crash: adopted -> action m.1.a #2
            m.1.a ok: -> action z
            snapshot: snapshot
            park: -> action z
            z refused: z refused; abort (no) -> compensate m.0.a
            +10s: -> compensate m.1.a
            m.1.a undo ok:
            snapshot: snapshot
            crash: adopted -> compensate m.0.a #2
            +10s:
            m.0.a undo ok: settled compensated
        "#]],
    );
}

#[test]
fn a_map_s_output_is_read_among_its_own_steps_also_where_the_last_is_a_saga() {
    let payment =
        with(definition(&json!([saga("x")])), &json!({"name": "payment", "output": {"id": "${steps.x.output.id}"}}));
    let pay = json!({"name": "pay", "saga": {"workflow": "payment", "input": {}}});
    let each = with(
        map("m", "${input.lines}", 2, &json!([saga("hold"), pay])),
        &json!({"output": {"hold": "${steps.hold.output.id}", "pay": "${steps.pay.output.id}", "of": "${input.who}"}}),
    );
    let whole = definition(&json!([each]));
    crate::check_with(
        &whole,
        std::slice::from_ref(&payment),
        &json!({"lines": [1], "who": "ann"}),
        r#"m.0.hold ok={"id":1} | m.0.pay.x ok={"id":2}"#,
        &expect![[r#"
            begin: m of 1 -> action m.0.hold
            m.0.hold ok={"id":1}: m.0.pay~ = {} -> action m.0.pay.x
            m.0.pay.x ok={"id":2}: m.0.pay = {"id":2}; m = [{"hold":1,"of":"ann","pay":2}]; commit; settled succeeded
        "#]],
    );
}

#[test]
fn a_block_that_waits_for_all_waits_for_a_map_whose_turn_comes_as_the_last_step_ends() {
    let block = json!({"name": "w", "fail": "wait_all", "parallel": [
        {"steps": [saga("x"), map("m", "${input.lines}", 1, &json!([saga("a")]))]}, {"steps": [saga("b")]}]});
    check(
        &definition(&json!([block])),
        &json!({"lines": [1]}),
        "b refused | x ok | m.0.a ok | m.0.a undo ok | x undo ok",
        &expect![[r#"
            begin: -> action x, action b
            b refused: b refused
            x ok: m of 1 -> action m.0.a
            m.0.a ok: abort (no) -> compensate m.0.a
            m.0.a undo ok: -> compensate x
            x undo ok: settled compensated
        "#]],
    );
}
