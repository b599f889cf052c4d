//! Every kind of step is explored: maps, choices, waits, conditions, included sagas, polls, outcome rules.

use serde_json::{Value, json};
use skald_engine::simulate::{Answers, End, Fate, InjectedFault, Stage, pointer};
use skald_protocol::Status;

use super::{answering, explored, including, pivot, saga, stage, step, tcc, with};

fn with_input(definition: Value, properties: &Value) -> Value {
    let required: Vec<_> = properties.as_object().unwrap().keys().cloned().collect();
    with(definition, &json!({"input": {"type": "object", "required": required, "properties": properties}}))
}

fn lines() -> Value {
    json!({"lines": {"type": "array", "maxItems": 9, "items": {"type": "object", "required": ["sku"], "properties": {"sku": {"type": "string"}}}}})
}

fn each(steps: &Value) -> Value {
    json!({"name": "each", "map": {"items": "${input.lines}", "as": "line", "max_items": 9, "steps": steps}})
}

#[test]
fn a_map_is_undone_per_item_and_confirmed_per_item() {
    let hold = with(tcc("hold"), &json!({"try": {"body": {"sku": "${line.sku}"}}}));
    let definition =
        with_input(saga(&json!([each(&json!([step("find"), hold])), step("charge"), pivot("pay")])), &lines());
    let explored = explored(&stage(&definition));
    explored.all_is_well();
    let items = ["each.0.hold", "each.1.hold"];
    let (_, good, _) = &explored.runs[0];
    assert!(items.iter().all(|item| good.ledgers[*item].confirmed == 1), "{:?}", good.ledgers);
    let struck =
        |(faults, ..): &&(Vec<InjectedFault>, _, _)| faults.iter().any(|fault| fault.subject() == "each.1.hold cancel");
    assert!(explored.runs.iter().filter(struck).count() > 5, "undos of items are struck");
    assert_eq!(explored.unreached, Vec::<String>::new());
}

#[test]
fn of_a_large_map_the_first_and_the_last_items_are_struck_and_the_rest_is_said_to_be_left_out() {
    let definition = with_input(saga(&json!([each(&json!([tcc("hold")])), step("charge")])), &lines());
    let lines: Vec<_> = (0..9).map(|index| json!({"sku": index.to_string()})).collect();
    let mut stage = stage(&definition);
    stage.input = Some(json!({"lines": lines}).into());
    let scenarios = skald_engine::simulate::explore(&stage, false);
    let struck = |item: &str| scenarios.list.iter().flatten().any(|fault| fault.subject().starts_with(item));
    assert!(struck("each.0.hold") && struck("each.1.hold") && struck("each.8.hold") && !struck("each.4.hold"));
    assert_eq!(scenarios.left_out, ["7 of 19 operations are struck: those of the first and last items of a map"]);
}

#[test]
fn a_map_whose_items_are_an_answer_gets_a_made_list() {
    let quote = json!({"name": "each", "map": {"items": "${steps.quote.output.parts}", "as": "part", "max_items": 9,
        "steps": [with(step("hold"), &json!({"action": {"body": {"sku": "${part.sku}"}}}))]}});
    let run = stage(&saga(&json!([step("quote"), quote]))).play(&[]);
    assert_eq!(run.status, Status::Succeeded);
    assert!(run.ledgers.contains_key("each.1.hold"), "{:?}", run.ledgers.keys());
}

#[test]
fn an_undo_in_a_map_that_reads_its_answer_is_caught_at_its_place() {
    let reads = with(step("hold"), &json!({"compensate": {"path": "/holds/${self.output.id}/undo"}}));
    let definition = with_input(saga(&json!([each(&json!([reads])), step("charge")])), &lines());
    let explored = explored(&stage(&definition));
    let told = "the compensate of `each.1.hold` is stuck (expression_failed: ${self.output.id}";
    assert!(explored.bad().iter().any(|line| line.contains(told)), "{:?}", explored.bad());
    let (.., verdict) = explored.runs.iter().find(|(.., verdict)| verdict.end == End::Bad).unwrap();
    let flaw = &verdict.flaws[0];
    let place = pointer(&definition, flaw.branch.as_ref().unwrap(), flaw.operation);
    assert_eq!(place.as_deref(), Some("/steps/0/map/steps/0/compensate"));
}

#[test]
fn the_arms_of_a_choice_end_well_and_the_other_arm_is_said_to_be_unexplored() {
    let choice = json!({"name": "how", "choice": [
        {"when": "input.total > 100", "steps": [step("big")]},
        {"otherwise": true, "steps": [step("small"), {"name": "note", "set": {"of": "${steps.small.output.id}"}}]}]});
    let definition =
        with_input(saga(&json!([step("reserve"), choice, step("charge")])), &json!({"total": {"type": "integer"}}));
    let explored = explored(&stage(&definition));
    explored.all_is_well();
    assert_eq!(explored.unreached, ["big"]);
}

#[test]
fn a_signal_may_be_missing_late_early_or_doubled() {
    for on_timeout in ["fail", "continue"] {
        let wait =
            json!({"name": "approve", "wait": {"signal": "approval", "timeout": "2d", "on_timeout": on_timeout}});
        let explored = explored(&stage(&saga(&json!([step("reserve"), wait, step("charge")]))));
        explored.all_is_well();
        let end = |fate| {
            let missing = InjectedFault::Signal { name: "approval".to_owned(), fate };
            explored.runs.iter().find(|(faults, ..)| *faults == [missing.clone()]).map(|(.., verdict)| verdict.end)
        };
        let without = if on_timeout == "fail" { End::Undone } else { End::Done };
        assert_eq!((end(Fate::Missing), end(Fate::Late)), (Some(without), Some(without)));
        assert_eq!((end(Fate::Early), end(Fate::Twice)), (Some(End::Done), Some(End::Done)));
    }
}

#[test]
fn of_several_signals_each_may_be_the_first_and_none_may_come() {
    let wait = json!({"name": "word", "wait": {"signal": ["approved", "rejected"], "timeout": "2d"}});
    let said = json!({"name": "said", "choice": [
        {"when": "steps.word.output.signal == 'rejected'", "steps": [{"name": "no", "fail": {"error": "rejected", "message": "${steps.word.output.payload.why}"}}]},
        {"otherwise": true, "steps": [step("charge")]}]});
    let stage = stage(&saga(&json!([step("reserve"), wait, said])));
    let explored = explored(&stage);
    explored.all_is_well();
    let end = |name: &str, fate| {
        let fault = InjectedFault::Signal { name: name.to_owned(), fate };
        explored.runs.iter().find(|(faults, ..)| *faults == [fault.clone()]).map(|(.., verdict)| verdict.end)
    };
    let of = |name| [Fate::Missing, Fate::Late, Fate::Early, Fate::Twice].map(|fate| end(name, fate).unwrap());
    assert_eq!(of("approved"), [End::Undone, End::Undone, End::Done, End::Done]);
    assert_eq!(of("rejected"), [End::Done, End::Done, End::Undone, End::Done]);
    let early = stage.play(&[InjectedFault::Signal { name: "rejected".to_owned(), fate: Fate::Early }]);
    let error = early.view.error.unwrap();
    assert_eq!((error.code.as_str(), error.message.as_deref()), ("rejected", Some("word-why")));
}

#[test]
fn an_end_well_early_is_no_bad_end_whatever_strikes() {
    let done = |name: &str| json!({"name": name, "when": "input.enough", "succeed": {"output": {"hold": "${steps.hold.output.id}"}}});
    let mail = json!({"name": "mail", "service": "shop", "role": "retriable", "action": {"path": "/mail"}});
    let steps = json!([
        step("reserve"),
        with(tcc("hold"), &json!({"output": {"id": "${self.response.body.id}"}})),
        done("done"),
        step("more"),
        pivot("pay"),
        mail
    ]);
    for enough in [true, false] {
        let mut stage = stage(&with_input(saga(&steps), &json!({"enough": {"type": "boolean"}})));
        stage.input = Some(json!({"enough": enough}).into());
        for stage in [stage.clone(), stage.clone().without_barrier()] {
            let barrier = stage.barrier;
            let explored = explored(&stage);
            if barrier {
                explored.all_is_well();
            }
            let (_, good, verdict) = &explored.runs[0];
            assert_eq!((good.status, verdict.end), (Status::Succeeded, End::Done));
            assert_eq!(good.ledgers["hold"].confirmed, 1);
            assert_eq!(good.ledgers.contains_key("pay"), !enough);
        }
        let run = stage.play(&[]);
        let output = run.view.output.map(|output| output.value());
        assert_eq!(output, enough.then(|| json!({"hold": "hold-id"})));
    }
}

#[test]
fn waits_conditions_and_included_sagas_end_well() {
    let included = json!({"dsl": "1.0", "name": "delivery", "version": "1.0.0", "services": {"ship": {"url": "http://ship"}},
        "steps": [
            {"name": "book", "service": "ship", "action": {"path": "/book"}, "compensate": {"path": "/unbook", "body": {"key": "${self.idempotency_key}"}}},
            {"name": "label", "service": "ship", "action": {"path": "/label/${steps.book.output.slot}"},
                "compensate": {"path": "/label/undo", "body": {"key": "${self.idempotency_key}"}}}],
        "output": {"slot": "${steps.book.output.slot}"}});
    let gift = with(step("gift"), &json!({"when": "input.gift"}));
    let definition = with_input(
        saga(&json!([step("reserve"), gift, {"name": "cool_down", "wait": {"for": "1h"}},
            {"name": "deliver", "saga": {"workflow": "delivery", "version": "1.0.0"}},
            with(step("charge"), &json!({"action": {"body": {"slot": "${steps.deliver.output.slot}"}}}))])),
        &json!({"gift": {"type": "boolean"}}),
    );
    let stage = including(&definition, &included);
    let explored = explored(&stage);
    explored.all_is_well();
    assert_eq!(explored.unreached, ["gift"]);
    let (_, good, _) = &explored.runs[0];
    assert!(good.ledgers.contains_key("deliver.book") && good.took.as_secs() >= 3_600, "{:?}", good.ledgers);
    assert_eq!(pointer(&definition, "deliver.book", None).as_deref(), Some("/steps/3"));
}

#[test]
fn polled_steps_end_well_also_where_no_callback_ever_comes() {
    let polled = json!({"action": {"async": {"timeout": "1h", "poll": {"path": "/poll", "interval": "5s", "max_interval": "1m"}}}});
    let definition = saga(&json!([with(step("pack"), &polled), with(pivot("pay"), &polled)]));
    explored(&stage(&definition)).all_is_well();
}

#[test]
fn an_outcome_rule_decides_what_an_answer_means_to_both_sides() {
    let rule = json!({"action": {"outcome": [{"when": "response.body.state == 'declined'", "is": "refused", "error": "declined"}]}});
    let definition = saga(&json!([step("reserve"), with(step("charge"), &rule)]));
    let script = json!({"charge": {"action": {"status": 200, "body": {"state": "declined"}}}});
    let run = answering(&definition, &script).play(&[]);
    assert_eq!(run.status, Status::Compensated);
    assert_eq!(run.view.error.unwrap().code, "declined");
    explored(&stage(&definition)).all_is_well();
}

#[test]
fn a_rule_that_takes_a_conflict_for_a_success_is_caught() {
    let rule = json!({"action": {"outcome": [{"when": "response.status == 409", "is": "succeeded"}]}});
    let explored = explored(&stage(&saga(&json!([step("reserve"), with(step("charge"), &rule)]))));
    explored.all_bad_ends_are(&[(
        "the action of `charge` (attempt 1) is refused",
        "the transaction succeeded, but the effect of `charge` is not there",
    )]);
}

#[test]
fn what_is_pure_and_fails_after_the_commit_is_caught() {
    let note = json!({"name": "note", "set": {"id": "${steps.pay.output.id}"}});
    let explored = explored(&stage(&saga(&json!([step("reserve"), pivot("pay"), note]))));
    explored.all_bad_ends_are(&[(
        "the action of `pay` (attempt 1) succeeds and answers {}",
        "`note` is stuck (expression_failed",
    )]);
}

#[test]
fn a_compensation_sees_the_state_as_of_the_decision_at_every_attempt() {
    let reads = json!({"compensate": {"body": {"was": "${steps.reserve.status}"}}});
    let definition = saga(&json!([step("reserve"), with(step("charge"), &reads), step("ship")]));
    explored(&stage(&definition)).all_is_well();
}

#[test]
fn a_saga_that_says_fail_is_undone() {
    let definition =
        saga(&json!([step("reserve"), {"name": "no", "fail": {"error": "sold_out", "message": "none left"}}]));
    let stage: Stage = stage(&definition);
    explored(&stage).all_is_well();
    let run = stage.play(&[]);
    assert_eq!((run.status, run.view.error.unwrap().code.as_str()), (Status::Compensated, "sold_out"));
    assert_eq!(Answers::made(&stage.plan), stage.answers);
}
