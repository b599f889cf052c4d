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
