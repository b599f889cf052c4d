//! Plans as pictures.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use expect_test::{Expect, expect};
use serde_json::{Value, json};
use skald_engine::{
    definition,
    graph::{Form, graph},
    plan::Plan,
    simulate::{Answers, InjectedFault, Stage, Strike},
};
use skald_protocol::OperationKind;
use std::sync::Arc;

fn plan() -> Plan {
    let step = |name: &str| json!({"name": name, "service": "shop", "action": {"path": format!("/{name}")}, "compensate": {"path": format!("/{name}/undo")}});
    let definition: Value = json!({"dsl": "1.0", "name": "order", "version": "1.0.0", "services": {"shop": {"url": "http://shop"}}, "steps": [
        {"name": "look", "service": "shop", "role": "read_only", "action": {"method": "GET", "path": "/look"}},
        {"name": "both", "fail": "wait_all", "parallel": [
            {"steps": [step("a"), {"name": "inner", "parallel": [{"steps": [step("b")]}, {"steps": [step("c")]}]}]},
            {"steps": [{"name": "hold", "service": "shop", "try": {"path": "/t"}, "confirm": {"path": "/c"}, "cancel": {"path": "/x"}}]}]},
        step("charge"),
        {"name": "pay", "service": "shop", "role": "pivot", "action": {"path": "/pay", "idempotent": true}},
        {"name": "mail", "service": "shop", "role": "retriable", "action": {"path": "/mail"}}]});
    definition::compile(&definition.to_string()).unwrap().plan
}

fn check(drawn: &str, expect: &Expect) {
    expect.assert_eq(drawn);
}

#[test]
fn a_plan_is_drawn_with_its_blocks_its_pivot_its_tail_and_what_an_abort_undoes() {
    check(
        &graph(&plan(), None, Form::Mermaid),
        &expect![[r#"
        ---
        title: "order 1.0.0"
        ---
        flowchart TD
            n0[/"look<br/>shop · read_only"/]
            n7["charge<br/>shop"]
            n8{{"pay<br/>shop · pivot"}}
            n9(["mail<br/>shop · retriable"])
            subgraph f6["both (wait_all)"]
                n1["a<br/>shop"]
                n5[["hold<br/>shop · try, confirm, cancel"]]
                subgraph f4["inner"]
                    n2["b<br/>shop"]
                    n3["c<br/>shop"]
                end
            end
            n0 --> n1
            n1 --> n2
            n2 -.->|compensate| n1
            n1 --> n3
            n3 -.->|compensate| n1
            n0 --> n5
            f6 --> n7
            n7 -.->|undo| f6
            n7 --> n8
            n8 -.->|compensate| n7
            n8 --> n9
            classDef tail fill:#eef2ff,stroke:#6366f1
            class n9 tail
    "#]],
    );
}

#[test]
fn the_same_in_dot() {
    check(
        &graph(&plan(), None, Form::Dot),
        &expect![[r##"
        digraph "order 1.0.0" {
            compound=true; rankdir=TB;
            node [shape=box, style=filled, fillcolor=white, fontname="sans-serif"];
            n0 [label="look\nshop · read_only", shape=parallelogram];
            n7 [label="charge\nshop", shape=box];
            n8 [label="pay\nshop · pivot", shape=hexagon];
            n9 [label="mail\nshop · retriable", shape=oval, fillcolor="#eef2ff", color="#6366f1"];
            subgraph cluster_6 {
                label="both (wait_all)"; style=rounded;
                n1 [label="a\nshop", shape=box];
                n5 [label="hold\nshop · try, confirm, cancel", shape=box3d];
                subgraph cluster_4 {
                    label="inner"; style=rounded;
                    n2 [label="b\nshop", shape=box];
                    n3 [label="c\nshop", shape=box];
                }
            }
            n0 -> n1;
            n1 -> n2;
            n2 -> n1 [style=dashed, label="compensate", constraint=false];
            n1 -> n3;
            n3 -> n1 [style=dashed, label="compensate", constraint=false];
            n0 -> n5;
            n5 -> n7 [ltail=cluster_6];
            n7 -> n5 [lhead=cluster_6, style=dashed, label="undo", constraint=false];
            n7 -> n8;
            n8 -> n7 [style=dashed, label="compensate", constraint=false];
            n8 -> n9;
        }
    "##]],
    );
}

#[test]
fn choices_maps_waits_and_conditions_are_drawn() {
    let step = |name: &str| {
        json!({"name": name, "service": "shop", "action": {"path": format!("/{name}")},
            "compensate": {"path": format!("/{name}/undo"), "body": {"key": "${self.idempotency_key}"}}})
    };
    let mut gift = step("gift");
    gift["when"] = json!("input.gift");
    let definition: Value = json!({"dsl": "1.0", "name": "order", "version": "1.0.0", "services": {"shop": {"url": "http://shop"}},
        "input": {"type": "object", "required": ["lines", "gift", "total"], "properties": {"gift": {"type": "boolean"}, "total": {"type": "integer"},
            "lines": {"type": "array", "maxItems": 9, "items": {"type": "string"}}}},
        "steps": [
            {"name": "each", "map": {"items": "${input.lines}", "as": "line", "max_items": 9, "steps": [step("hold")]}},
            gift,
            {"name": "approve", "wait": {"signal": "approval", "timeout": "2d", "on_timeout": "fail"}},
            {"name": "word", "wait": {"signal": ["yes", "no-${input.total}"], "timeout": "2d"}},
            {"name": "how", "choice": [
                {"when": "input.total > 100", "steps": [step("big"), {"name": "note", "set": {"a": 1}}]},
                {"when": "input.total < 0", "steps": [{"name": "never", "fail": {"error": "odd", "message": "a negative total"}}]},
                {"otherwise": true, "steps": []}]},
            {"name": "done", "when": "input.gift", "succeed": {}}]});
    let plan = Arc::new(definition::compile(&definition.to_string()).unwrap().plan);
    check(
        &graph(&plan, None, Form::Mermaid),
        &expect![[r#"
            ---
            title: "order 1.0.0"
            ---
            flowchart TD
                n1["gift<br/>shop<br/>when input.gift"]
                n2>"approve<br/>waits for the signal approval, at most 2d"]
                n3>"word<br/>waits for the first signal of yes, no-${input.total}, at most 2d"]
                n4{"how"}
                n5["big<br/>shop"]
                n6[\"note"\]
                n7[/"never<br/>fails: odd"\]
                n8((" "))
                n9[\"done<br/>succeeds<br/>when input.gift"/]
                subgraph f0["each: for each line of input.lines"]
                    n10["hold<br/>shop"]
                end
                f0 --> n1
                n1 -.->|undo| f0
                n1 --> n2
                n2 -.->|compensate| n1
                n2 --> n3
                n3 --> n4
                n4 -->|"input.total #gt; 100"| n5
                n5 --> n6
                n6 -.->|compensate| n5
                n4 -->|"input.total #lt; 0"| n7
                n4 -->|"otherwise"| n8
                n6 --> n8
                n7 --> n8
                n8 --> n9
        "#]],
    );
    let input = json!({"lines": ["a", "b", "c"], "gift": false, "total": 500});
    let stage = Stage::new(Arc::clone(&plan), Some(input.into()), Answers::made(&plan));
    let refused = InjectedFault::Strike {
        branch: "hold".to_owned(),
        operation: OperationKind::Action,
        ask: false,
        attempt: 1,
        strike: Strike::Refused,
    };
    let drawn = graph(&plan, Some(&stage.play(&[refused]).view), Form::Dot);
    assert!(drawn.contains("hold\\nshop\\n3 refused"), "{drawn}");
}

#[test]
fn an_execution_lies_over_it_in_colours() {
    let plan = Arc::new(plan());
    let answers = Answers::made(&plan);
    let stage = Stage::new(Arc::clone(&plan), None, answers);
    let refused = InjectedFault::Strike {
        branch: "charge".to_owned(),
        operation: OperationKind::Action,
        ask: false,
        attempt: 1,
        strike: Strike::Refused,
    };
    let run = stage.play(&[refused]);
    let drawn = graph(&plan, Some(&run.view), Form::Mermaid);
    let coloured: String =
        drawn.lines().filter(|line| line.contains("class")).map(|line| format!("{}\n", line.trim())).collect();
    check(
        &coloured,
        &expect![[r#"
        classDef done fill:#dcfce7,stroke:#15803d
        class n0 done
        classDef refused fill:#fee2e2,stroke:#b91c1c
        class n7 refused
        classDef skipped fill:#f4f4f4,stroke:#9e9e9e
        class n8,n9 skipped
        classDef undone fill:#fef3c7,stroke:#b45309
        class n1,n2,n3,n5 undone
    "#]],
    );
    assert!(graph(&plan, Some(&run.view), Form::Dot).contains("undone\", shape=box, fillcolor"));
}

#[test]
fn what_was_enlisted_is_drawn_too() {
    let mut view = Stage::new(Arc::new(plan()), None, Answers::default()).play(&[]).view;
    view.branches.truncate(1);
    view.branches[0].branch = skald_protocol::BranchId::new("client~1").unwrap();
    let drawn = graph(&Plan::open(), Some(&view), Form::Mermaid);
    assert!(drawn.contains("n0[[\"client~1<br/>done\"]]"), "{drawn}");
}

#[test]
fn what_runs_on_an_abort_and_at_the_end_has_a_lane_of_its_own() {
    let step = |name: &str, role: &str| json!({"name": name, "service": "shop", "role": role, "action": {"path": "/"}});
    let definition: Value = json!({"dsl": "1.0", "name": "order", "version": "1.0.0", "services": {"shop": {"url": "http://shop"}},
        "steps": [step("look", "read_only")],
        "on_abort": [step("sorry", "retriable"), {"name": "both", "parallel": [
            {"steps": [step("mail", "retriable")]}, {"steps": [step("letter", "retriable")]}]}],
        "on_end": [step("closed", "retriable")]});
    let plan = definition::compile(&definition.to_string()).unwrap().plan;
    check(
        &graph(&plan, None, Form::Mermaid),
        &expect![[r#"
        ---
        title: "order 1.0.0"
        ---
        flowchart TD
            n0[/"look<br/>shop · read_only"/]
            subgraph f6["on_abort"]
                n1(["sorry<br/>shop · retriable"])
                subgraph f4["both"]
                    n2(["mail<br/>shop · retriable"])
                    n3(["letter<br/>shop · retriable"])
                end
            end
            subgraph f7["on_end"]
                n5(["closed<br/>shop · retriable"])
            end
            n1 --> n2
            n1 --> n3
            classDef tail fill:#eef2ff,stroke:#6366f1
            class n1,n2,n3,n5 tail
    "#]],
    );
    check(
        &graph(&plan, None, Form::Dot),
        &expect![[r##"
        digraph "order 1.0.0" {
            compound=true; rankdir=TB;
            node [shape=box, style=filled, fillcolor=white, fontname="sans-serif"];
            n0 [label="look\nshop · read_only", shape=parallelogram];
            subgraph cluster_6 {
                label="on_abort"; style=rounded;
                n1 [label="sorry\nshop · retriable", shape=oval, fillcolor="#eef2ff", color="#6366f1"];
                subgraph cluster_4 {
                    label="both"; style=rounded;
                    n2 [label="mail\nshop · retriable", shape=oval, fillcolor="#eef2ff", color="#6366f1"];
                    n3 [label="letter\nshop · retriable", shape=oval, fillcolor="#eef2ff", color="#6366f1"];
                }
            }
            subgraph cluster_7 {
                label="on_end"; style=rounded;
                n5 [label="closed\nshop · retriable", shape=oval, fillcolor="#eef2ff", color="#6366f1"];
            }
            n1 -> n2;
            n1 -> n3;
        }
    "##]],
    );
}
