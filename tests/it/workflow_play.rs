//! `skald workflow simulate|explore`: what a definition does and what can become of it, without a server.

use std::path::Path;

use serde_json::{Value, json};
use skald_tests::cluster::{Ran, run_with};

fn written(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("a file");
    path.display().to_string()
}

async fn workflow(arguments: &[&str]) -> Ran {
    let mut all = vec!["workflow"];
    all.extend(arguments);
    run_with(&all, &[]).await
}

/// A reservation, then a payment; the reservation is undone by `undo`.
fn order(undo: &Value) -> String {
    let definition = json!({
        "dsl": "1.0", "name": "order", "version": "1.0.0",
        "input": {"type": "object", "required": ["sku", "total"],
            "properties": {"sku": {"type": "string", "pattern": "^[A-Z]{3}-\\d{3}$"}, "total": {"type": "integer", "minimum": 10}}},
        "services": {"stock": {"url": "http://stock"}, "pay": {"url": "http://pay"}},
        "steps": [
            {"name": "reserve", "service": "stock", "action": {"path": "/reservations", "body": {"sku": "${input.sku}"}},
                "compensate": undo},
            {"name": "charge", "service": "pay", "action": {"path": "/charges", "body": {"amount": "${input.total}", "for": "${steps.reserve.output.id}"}},
                "compensate": {"path": "/refunds", "body": {"key": "${self.idempotency_key}"}}}
        ],
        "output": {"charge": "${steps.charge.output.id}"}
    });
    serde_json::to_string_pretty(&definition).expect("JSON")
}

fn by_key() -> Value {
    json!({"path": "/releases", "body": {"key": "${self.idempotency_key}"}})
}

fn by_answer() -> Value {
    json!({"path": "/reservations/${self.output.id}/release"})
}

#[tokio::test]
async fn a_simulation_tells_calls_answers_and_the_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let order = written(folder.path(), "order.json", &order(&by_key()));
    let ran = workflow(&["simulate", &order]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains(r#"made from the definition's schema"#), "{}", ran.stderr);
    assert!(ran.stderr.contains(r#"{"sku":"AAA-111","total":10}"#), "{}", ran.stderr);
    let told: Vec<&str> = ran.stdout.lines().map(str::trim).collect();
    let expected = [
        "0.000s  ▶ began",
        r#"0.000s  → reserve        action: POST stock /reservations {"sku":"AAA-111"}"#,
        "0.005s  • reserve        action executed",
        r#"0.010s  ← reserve        action 200 {"id":"reserve-id"}"#,
        "0.010s  ✔ reserve        done",
        r#"0.010s  → charge         action: POST pay /charges {"amount":10,"for":"reserve-id"}"#,
        "0.015s  • charge         action executed",
        r#"0.020s  ← charge         action 200 {"id":"charge-id"}"#,
        "0.020s  ✔ charge         done",
        "0.020s  ◆ decided: commit",
        "0.020s  ■ settled: succeeded",
        "",
        "succeeded after 0.020 s: fully done",
        r#"output: {"charge":"charge-id"}"#,
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_simulation_takes_an_input_answers_and_what_goes_wrong() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = written(folder.path(), "order.json", &order(&by_key()));
    let input = r#"{"sku": "XYZ-007", "total": 99}"#;
    let refused = workflow(&["simulate", &file, "--input", input, "--fail", "charge=refused", "--json"]).await;
    assert_eq!(refused.code, 0, "{}", refused.stderr);
    let told: Value = serde_json::from_str(&refused.stdout).expect("JSON");
    assert_eq!((&told["end"], &told["transaction"]["status"]), (&json!("undone"), &json!("compensated")));
    assert_eq!((&told["input"]["sku"], &told["input_was_made"]), (&json!("XYZ-007"), &json!(false)));
    let calls = told["timeline"].as_array().expect("a list").iter().filter(|entry| entry["what"] == "call");
    let calls: Vec<_> = calls.map(|entry| (entry["branch"].clone(), entry["operation"].clone())).collect();
    assert_eq!(calls.last(), Some(&(json!("reserve"), json!("compensate"))));

    let script = r#"{"charge": {"action": [{"status": 503}, {"status": 402, "body": {"code": "card_declined"}}]}}"#;
    let answers = written(folder.path(), "answers.json", script);
    let scripted =
        workflow(&["simulate", &file, "--answers", &format!("@{answers}"), "--fail", "reserve:compensate#1=outage"])
            .await;
    assert_eq!(scripted.code, 0, "{}", scripted.stderr);
    for told in ["charge         action #2", "card_declined", "compensate attempt 1 unknown: http_503", "fully undone"]
    {
        assert!(scripted.stdout.contains(told), "{told}: {}", scripted.stdout);
    }
    let stuck =
        workflow(&["simulate", &file, "--fail", "charge=refused", "--fail", "reserve:compensate=exhausted"]).await;
    assert_eq!(stuck.code, 4, "{}", stuck.stdout);
    assert!(stuck.stdout.contains("waits for an operator") && stuck.stdout.contains("goes on for"), "{}", stuck.stdout);
}

#[tokio::test]
async fn what_cannot_be_played_is_a_usage_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = written(folder.path(), "order.json", &order(&by_key()));
    let faulty = written(folder.path(), "faulty.json", r#"{"dsl": "1.0"}"#);
    let odd = order(&by_key()).replace(r"^[A-Z]{3}-\\d{3}$", r"^\\p{Lu}(?:b+)$");
    let odd = written(folder.path(), "odd.json", &odd);
    let answers = written(folder.path(), "answers.json", r#"{"chrage": {"action": {}}}"#);
    for verb in ["simulate", "explore"] {
        for (arguments, told) in [
            (vec![verb, &faulty], "E002"),
            (vec![verb, &odd], "no input could be made"),
            (vec![verb, &file, "--input", "{}"], "\"sku\" is a required property"),
            (vec![verb, &file, "--answers", &format!("@{answers}")], "did you mean `charge`?"),
        ] {
            let ran = workflow(&arguments).await;
            assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{}", ran.stderr);
            assert!(ran.stderr.contains(told), "{told}: {}", ran.stderr);
        }
    }
    for fail in ["charge", "charge=gone", "chrage=refused", "charge:confirm=refused", "charge#x=refused"] {
        assert_eq!(workflow(&["simulate", &file, "--fail", fail]).await.code, 2, "{fail}");
    }
}

#[tokio::test]
async fn an_exploration_of_a_right_definition_is_a_short_table() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = written(folder.path(), "order.json", &order(&by_key()));
    let ran = workflow(&["explore", &file]).await;
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    for told in
        ["FAULT", "timeout after the effect", "crash, its last append lost", "deadline", " faults explored, 0 bad ends"]
    {
        assert!(ran.stdout.contains(told), "{told}: {}", ran.stdout);
    }
    assert!(ran.stdout.lines().count() < 50 && !ran.stdout.contains("counter-example"), "{}", ran.stdout);
    let json = workflow(&["explore", &file, "--json"]).await;
    let report: Value = serde_json::from_str(&json.stdout).expect("JSON");
    let faults = report["faults"].as_u64().expect("a number");
    assert!(faults > 120 && report["bad_ends"] == 0, "{faults}");
    assert_eq!(report["runs"].as_array().map(|runs| runs.len() as u64), Some(faults + 1));
    let each = workflow(&["explore", &file, "--each"]).await;
    assert!(each.stdout.lines().count() as u64 > faults, "a row for every run");
}

#[tokio::test]
async fn a_bad_end_is_told_at_its_place_and_drawn() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = written(folder.path(), "order.json", &order(&by_answer()));
    let drawings = folder.path().join("drawings");
    let ran = workflow(&["explore", &file, "--diagrams", &drawings.display().to_string()]).await;
    assert_eq!(ran.code, 1, "{}{}", ran.stdout, ran.stderr);
    for told in [
        "counter-example 1 of",
        "the compensate of `reserve` is stuck (expression_failed: ${self.output.id}",
        "order.json:",
        "\"compensate\": {",
        "Undo by what was sent",
        "sequenceDiagram",
    ] {
        assert!(ran.stdout.contains(told), "{told}: {}", ran.stdout);
    }
    let drawn: Vec<_> =
        std::fs::read_dir(&drawings).expect("a folder").map(|entry| entry.expect("a file").path()).collect();
    assert!(drawn.iter().all(|path| path.extension().is_some_and(|extension| extension == "mmd")) && !drawn.is_empty());
    let drawing = std::fs::read_to_string(&drawn[0]).expect("a drawing");
    assert!(drawing.contains("sequenceDiagram\n    participant C as Skald\n"), "{drawing}");

    let json = workflow(&["explore", &file, "--json"]).await;
    let report: Value = serde_json::from_str(&json.stdout).expect("JSON");
    let flaw = &report["counter_examples"][0]["flaws"][0];
    assert_eq!((&flaw["pointer"], &flaw["step"]), (&json!("/steps/0/compensate"), &json!("reserve")));
    assert!(flaw["line"].as_u64() > Some(10), "{flaw}");
}

#[tokio::test]
async fn without_the_barrier_the_same_definition_is_at_risk() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = written(folder.path(), "order.json", &order(&by_key()));
    let ran = workflow(&["explore", &file, "--without-barrier"]).await;
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    for told in [
        "the effect of `charge` stands 2 times",
        "took effect again after its undo",
        "although there was nothing to undo",
    ] {
        assert!(ran.stdout.contains(told), "{told}: {}", ran.stdout);
    }
}

#[tokio::test]
async fn signals_maps_and_included_definitions_are_played() {
    let folder = tempfile::tempdir().expect("a folder");
    let undo = |name: &str| json!({"path": format!("/{name}/undo"), "body": {"key": "${self.idempotency_key}"}});
    let included = json!({"dsl": "1.0", "name": "delivery", "version": "1.0.0", "services": {"ship": {"url": "http://ship"}},
        "steps": [{"name": "book", "service": "ship", "action": {"path": "/book"}, "compensate": undo("book")}]});
    let included = written(folder.path(), "delivery.json", &included.to_string());
    let definition = json!({"dsl": "1.0", "name": "order", "version": "1.0.0", "services": {"stock": {"url": "http://stock"}},
        "input": {"type": "object", "required": ["lines"], "properties": {"lines": {"type": "array", "maxItems": 9, "items": {"type": "string"}}}},
        "steps": [
            {"name": "each", "map": {"items": "${input.lines}", "as": "line", "max_items": 9, "steps": [
                {"name": "hold", "service": "stock", "action": {"path": "/hold", "body": {"sku": "${line}"}}, "compensate": undo("hold")}]}},
            {"name": "approve", "wait": {"signal": "approval", "timeout": "2d"}},
            {"name": "deliver", "saga": {"workflow": "delivery", "version": "1.0.0"}}],
        "output": {"by": "${steps.approve.output.by}"}});
    let file = written(folder.path(), "order.json", &definition.to_string());
    let ran =
        workflow(&["simulate", &file, "--with", &included, "--signal", "approval={\"by\": \"ann@example\"}@1h"]).await;
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    for told in ["each.1.hold", "3600.000s", "signal approval", "deliver.book", r#"output: {"by":"ann@example"}"#] {
        assert!(ran.stdout.contains(told), "{told}: {}", ran.stdout);
    }
    let explored = workflow(&["explore", &file, "--with", &included]).await;
    assert_eq!(explored.code, 0, "{}{}", explored.stdout, explored.stderr);
    for told in ["signal missing", "signal twice", " 0 bad ends"] {
        assert!(explored.stdout.contains(told), "{told}: {}", explored.stdout);
    }
    assert_eq!(workflow(&["explore", &file]).await.code, 2, "the included definition is missing");
}
