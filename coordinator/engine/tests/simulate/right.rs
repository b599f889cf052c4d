//! What ends well whatever single fault strikes.

use serde_json::json;
use skald_engine::simulate::{End, explore, judge};

use super::{explored, pivot, retriable, saga, stage, step, tcc, with};

#[test]
fn a_saga_that_undoes_by_key_ends_fully_done_or_fully_undone() {
    let explored = explored(&stage(&saga(&json!([step("reserve"), step("charge"), step("ship")]))));
    explored.all_is_well();
    let ends = explored.ends();
    assert!(ends[&End::Done] > 40 && ends[&End::Undone] > 100 && ends[&End::Operator] > 5, "{ends:?}");
    assert_eq!(explored.unreached, Vec::<String>::new());
}

#[test]
fn tcc_steps_are_all_confirmed_or_all_cancelled() {
    explored(&stage(&saga(&json!([tcc("room"), tcc("seat")])))).all_is_well();
}

#[test]
fn a_pivot_that_can_be_asked_about_and_its_tail_end_well() {
    let definition =
        saga(&json!([tcc("hold"), step("authorize"), pivot("capture"), retriable("mail"), retriable("ship")]));
    explored(&stage(&definition)).all_is_well();
}

#[test]
fn steps_side_by_side_end_well_in_both_manners_of_failing() {
    for fail in ["fast", "wait_all"] {
        let definition = saga(&json!([
            {"name": "both", "fail": fail, "parallel": [{"steps": [step("a"), step("b")]}, {"steps": [tcc("c")]}]},
            pivot("pay"), retriable("mail"),
        ]));
        explored(&stage(&definition)).all_is_well();
    }
}

#[test]
fn asynchronous_steps_end_well_whatever_becomes_of_their_callbacks() {
    let pending = json!({"action": {"async": {"timeout": "1h", "heartbeat": "1m"}}});
    let definition =
        saga(&json!([with(step("pack"), &pending), with(pivot("pay"), &pending), with(retriable("ship"), &pending),]));
    let explored = explored(&stage(&definition));
    explored.all_is_well();
    assert!(
        explored.runs.iter().any(|(faults, ..)| faults.iter().any(|fault| fault.title() == "callback before the 202"))
    );
}

#[test]
fn a_mapped_output_turns_a_lacking_answer_into_an_abort() {
    let mapped =
        json!({"output": {"id": "${self.response.body.id}"}, "confirm": {"path": "/hold/${self.output.id}/confirm"}});
    explored(&stage(&saga(&json!([with(tcc("hold"), &mapped), step("pay")])))).all_is_well();
}

#[test]
fn a_deadline_that_suspends_goes_on_when_an_operator_says_so() {
    let definition = with(saga(&json!([step("a"), step("b")])), &json!({"timeout": "1h", "on_timeout": "suspend"}));
    let explored = explored(&stage(&definition));
    explored.all_is_well();
    assert!(explored.runs.iter().any(|(_, run, _)| run.resumed));
}

#[test]
fn a_retriable_step_may_be_given_up_where_the_definition_says_so() {
    let given_up = json!({"retry": {"max_attempts": 3}, "action": {"on_exhausted": "ignore"}});
    let definition = saga(&json!([pivot("pay"), with(retriable("mail"), &given_up)]));
    explored(&stage(&definition)).all_is_well();
}

#[test]
fn two_faults_in_a_row_end_well_too() {
    let stage = stage(&saga(&json!([tcc("hold"), pivot("pay")])));
    let list = explore(&stage, true).list;
    assert!(list.len() > 2_000, "{}", list.len());
    for faults in &list {
        let verdict = judge(&stage, faults, &stage.play(faults));
        assert_ne!(verdict.end, End::Bad, "{faults:?}: {:?}", verdict.flaws);
    }
}

fn phased(steps: &serde_json::Value) -> serde_json::Value {
    let mut definition = saga(steps);
    definition["on_abort"] = json!([with(
        retriable("tell"),
        &json!({"action": {"body": {"why": "${transaction.error.code}", "held": "${has(steps.reserve.output)}"}}}),
    )]);
    definition["on_end"] =
        json!([with(retriable("close"), &json!({"action": {"body": {"ended": "${transaction.status}"}}}))]);
    definition
}

#[test]
fn what_runs_on_an_abort_and_at_the_end_ends_well_and_runs_exactly_when_it_should() {
    for steps in
        [json!([step("reserve"), step("charge")]), json!([tcc("reserve"), pivot("capture"), retriable("mail")])]
    {
        let explored = explored(&stage(&phased(&steps)));
        explored.all_is_well();
        assert_eq!(explored.unreached, Vec::<String>::new());
        let ends = explored.ends();
        assert!(ends[&End::Done] > 20 && ends[&End::Undone] > 40 && ends[&End::Operator] > 4, "{ends:?}");
        let stands = |run: &skald_engine::simulate::Run, step: &str| run.ledgers.get(step).map_or(0, |it| it.stands);
        for (faults, run, verdict) in &explored.runs {
            let told = (stands(run, "tell"), stands(run, "close"));
            match verdict.end {
                End::Done => assert_eq!(told, (0, 1), "{faults:?}"),
                End::Undone => assert_eq!(told, (1, 1), "{faults:?}"),
                End::Operator | End::Bad => {}
            }
        }
    }
}

#[test]
fn what_on_abort_reads_of_an_answer_and_is_not_there_is_a_bad_end() {
    let mut definition = phased(&json!([step("reserve"), step("charge")]));
    definition["on_abort"][0]["when"] = json!("has(steps.reserve.output)");
    definition["on_abort"][0]["action"]["body"] = json!({"id": "${steps.reserve.output.id}"});
    let bad = explored(&stage(&definition)).bad();
    assert!(bad.iter().any(|line| line.contains("the action of `tell` is stuck (expression_failed")), "{bad:#?}");
    assert!(bad.iter().all(|line| line.contains("the action of `tell` is stuck (expression_failed")), "{bad:#?}");
}
