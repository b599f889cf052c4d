//! One transaction at a time: the clock, the answers, the input, the tale.

use expect_test::expect;
use serde_json::{Value, json};
use skald_engine::simulate::{Answers, InjectedFault, Strike, TimelineEntry, What, When, sample};
use skald_protocol::{Json, OperationKind, Status};

use super::{answering, pivot, recorder, saga, stage, step, with};

fn lines(timeline: &[TimelineEntry]) -> String {
    let lines = timeline.iter().filter_map(|entry| {
        let what = match &entry.what {
            What::Call { of, method, target, body, .. } => {
                let body = body.as_ref().map(|body| format!(" {}", body.text())).unwrap_or_default();
                format!("-> {} {} #{} {method} {target}{body}", of.branch, of.operation, of.attempt)
            }
            What::Answer { of, outcome, .. } => format!("<- {} {} {outcome}", of.branch, of.operation),
            What::Event { event } => {
                serde_json::to_value(&event.kind).unwrap()["type"].as_str().unwrap_or("?").to_owned()
            }
            What::Killed { .. } => "killed".to_owned(),
            What::TakenOver => "taken over".to_owned(),
            _ => return None,
        };
        Some(format!("{} {what}\n", entry.at_ms))
    });
    lines.collect()
}

#[test]
fn a_run_tells_calls_answers_and_events_in_their_order() {
    let definition = saga(&json!([step("reserve"), step("charge")]));
    let run = stage(&definition).play_recorded(&[InjectedFault::Strike {
        branch: "charge".to_owned(),
        operation: OperationKind::Action,
        ask: false,
        attempt: 1,
        strike: Strike::Refused,
    }]);
    expect![[r#"
        0 began
        0 -> reserve action #1 POST /reserve
        10 <- reserve action succeeded
        10 operation_succeeded
        10 -> charge action #1 POST /charge
        20 <- charge action refused
        20 operation_refused
        20 decided
        20 -> reserve compensate #1 POST /reserve/undo {"key":"simulated/reserve/action"}
        30 <- reserve compensate succeeded
        30 operation_succeeded
        30 settled
    "#]]
    .assert_eq(&lines(&run.timeline));
}

#[test]
fn the_same_stage_and_faults_are_the_same_run() {
    let stage = stage(&saga(&json!([step("reserve"), step("charge"), pivot("pay")])));
    let faults = [InjectedFault::Crash { record: 2, when: When::Sent }];
    let (one, other) = (stage.play_recorded(&faults), stage.play_recorded(&faults));
    assert_eq!(lines(&one.timeline), lines(&other.timeline));
    assert!(lines(&one.timeline).contains("taken over"));
    assert_eq!(one.took, stage.play(&faults).took, "whether it is told makes no difference");
}

#[test]
fn answers_are_scripted_in_order_and_the_last_repeats() {
    let script = json!({"charge": {"action": [{"status": 503}, {"status": 503, "delay": "1s"}, {"body": {"id": 7}}]}});
    let definition =
        with(saga(&json!([step("reserve"), step("charge")])), &json!({"output": "${steps.charge.output.id}"}));
    let run = answering(&definition, &script).play_recorded(&[]);
    assert_eq!(run.status, Status::Succeeded);
    assert_eq!(run.view.output.unwrap().text(), "7");
    assert_eq!(lines(&run.timeline).matches("-> charge action").count(), 3);
    let stage = stage(&definition);
    for (script, told) in [
        (json!({"chrage": {}}), "chrage: there is no such step; did you mean `charge`?"),
        (json!({"charge": {"confirm": {}}}), "charge.confirm: the step has no such operation"),
        (json!({"charge": {"action": {"stats": 1}}}), "charge.action: unknown field `stats`"),
        (json!({"charge": {"action": []}}), "charge.action: the list of answers is empty"),
        (json!({"charge": {"go": {}}}), "charge.go: `go` is none of"),
        (json!([]), "answers: an object is needed"),
    ] {
        let refused = Answers::scripted(&stage.plan, &Json::of(&script)).unwrap_err().to_string();
        assert!(refused.starts_with(told), "{refused}");
    }
}

#[test]
fn a_number_of_a_scripted_answer_keeps_its_digits() {
    let whole = with(saga(&json!([step("charge")])), &json!({"output": "${steps.charge.output.id}"}));
    for number in ["123456789012345678901234567890", "12345678901234567.89", "9007199254740993", "10.0"] {
        let script = format!(r#"{{"charge": {{"action": {{"body": {{"id": {number}}}}}}}}}"#);
        let run = recorder(&whole, &Json::from_text(script).unwrap()).play_recorded(&[]);
        assert_eq!(run.view.output.unwrap().text(), number);
    }
}

#[test]
fn made_answers_have_every_member_that_is_read() {
    let reads = json!({"action": {"body": {
        "total": "${steps.quote.output.total}", "first": "${steps.quote.output.lines[1].sku}", "ok": "${steps.score.output.fine}"}}});
    let score = json!({"name": "score", "service": "shop", "role": "read_only", "action": {"method": "GET", "path": "/score"},
        "output": {"fine": "${self.response.body.result.approved}"}});
    let definition = saga(&json!([step("quote"), score, with(step("charge"), &reads)]));
    let run = stage(&definition).play_recorded(&[]);
    assert_eq!(run.status, Status::Succeeded, "{}", lines(&run.timeline));
    let told = lines(&run.timeline);
    assert!(told.contains(r#"{"first":"quote-sku","ok":true,"total":100}"#), "{told}");
}

#[test]
fn a_small_input_is_made_of_the_schema() {
    let schema = json!({"type": "object", "required": ["id", "qty", "price", "lines", "at", "code", "kind", "who", "any"],
        "properties": {
            "id": {"type": "string", "format": "uuid"}, "qty": {"type": "integer", "minimum": 5, "multipleOf": 4},
            "price": {"type": "number", "exclusiveMinimum": 1, "maximum": 2}, "at": {"type": "string", "format": "date-time"},
            "lines": {"type": "array", "minItems": 3, "items": {"$ref": "#/$defs/line"}},
            "code": {"type": "string", "pattern": "^[A-Z]{2}-\\d{3}$"}, "kind": {"enum": ["b", "c"]},
            "who": {"type": ["null", "string"], "minLength": 8}, "any": {"oneOf": [{"const": 3}, {"type": "string"}]},
            "left_out": {"type": "string"}},
        "$defs": {"line": {"type": "object", "required": ["sku"], "properties": {"sku": {"type": "string"}}}}});
    let expected = json!({"id": "01890a5d-ac96-774b-bcce-b302099a8057", "qty": 8, "price": 1.5, "at": "2026-01-31T12:00:00Z",
        "lines": [{"sku": "sku-1"}, {"sku": "sku-1"}, {"sku": "sku-1"}], "code": "AA-111", "kind": "b", "who": "who-1xxx", "any": 3});
    assert_eq!(sample(&schema), expected);
    let recursive = json!({"$ref": "#"});
    assert_eq!(sample(&recursive), Value::Null, "and it ends");
    let nested = json!({"$ref": "#/$defs/many", "$defs": {"many": {"type": "array", "minItems": 900, "items": {"$ref": "#/$defs/many"}}}});
    assert!(sample(&nested).to_string().len() < 1_000_000, "and soon");
}
