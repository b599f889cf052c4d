//! Definitions that compile and are wrong, each with its counter-example.

use expect_test::expect;
use serde_json::json;
use skald_engine::simulate::{End, diagram, pointer};

use super::{answering, explored, pivot, retriable, saga, stage, step, tcc, with};

#[test]
fn an_undo_that_reads_the_answer_of_what_it_undoes_is_caught() {
    let reads = json!({"compensate": {"path": "/reserve/${self.output.id}/undo"}});
    let definition = saga(&json!([with(step("reserve"), &reads), step("charge")]));
    let stage = stage(&definition);
    let explored = explored(&stage);
    let told = "the compensate of `reserve` is stuck (expression_failed: ${self.output.id}:";
    explored.all_bad_ends_are(&[
        ("takes effect, its answer is lost, and all resends are answered 503", told),
        ("and all its resends are answered 503", told),
        ("succeeds and answers {}", told),
    ]);
    let (faults, run, verdict) = explored.runs.iter().find(|(.., verdict)| verdict.end == End::Bad).unwrap();
    let flaw = &verdict.flaws[0];
    assert!(flaw.help.unwrap().contains("self.idempotency_key"));
    let place = pointer(&definition, flaw.branch.as_ref().unwrap(), flaw.operation);
    assert_eq!(place.as_deref(), Some("/steps/0/compensate"));
    assert_eq!(run.ledgers["reserve"].stands, 1, "nobody undid it");
    expect![[r#"
        ---
        title: "reserve stands"
        ---
        sequenceDiagram
            participant C as Skald
            participant s0 as shop
            C-xs0: reserve action (POST /reserve)
            Note over C: reserve action: unknown, timeout
            C-xs0: reserve action attempt 2 (POST /reserve)
            Note over C: reserve action attempt 2: unsent, connect
            C-xs0: reserve action attempt 3 (POST /reserve)
            Note over C: reserve action attempt 3: unsent, connect
            C-xs0: reserve action attempt 4 (POST /reserve)
            Note over C: reserve action attempt 4: unsent, connect
            C-xs0: reserve action attempt 5 (POST /reserve)
            Note over C: reserve action attempt 5: unsent, connect
            Note over C: decided: abort (exhausted)
            Note over C: reserve compensate cannot be rendered: ${self.output.id}: the forward operation has no output
            Note over C: reserve compensate is stuck: expression_failed: ${self.output.id}: the forward operation has no output
            Note over C: suspended
            Note over s0: reserve action arrives, nobody waits for its answer: executed
    "#]].assert_eq(&diagram("reserve stands", &stage.play_recorded(faults).timeline));
}

#[test]
fn a_compensation_that_gives_up_before_an_outage_ends_is_caught() {
    let short = json!({"compensate": {"retry": {"max_attempts": 3, "max_interval": "1s"}}});
    let explored = explored(&stage(&saga(&json!([with(step("reserve"), &short), step("charge")]))));
    explored.all_bad_ends_are(&[(
        "the compensate of `reserve` (attempt 1) and its resends are answered 503 for ten minutes",
        "the compensate of `reserve` is stuck (http_503",
    )]);
}

#[test]
fn a_compensation_that_can_be_refused_is_caught() {
    let script = json!({"reserve": {"compensate": {"status": 409, "body": {"code": "already_shipped"}}}});
    let explored = explored(&answering(&saga(&json!([step("reserve"), step("charge")])), &script));
    explored.all_bad_ends_are(&[(
        "the action of `charge` (attempt 1) is refused",
        "the compensate of `reserve` is stuck (already_shipped",
    )]);
    let (.., verdict) = explored.runs.iter().find(|(.., verdict)| verdict.end == End::Bad).unwrap();
    assert!(verdict.flaws[0].help.unwrap().starts_with("An undo must not be refused"));
}

#[test]
fn a_pivot_that_cannot_be_asked_about_is_caught_when_it_gets_stuck() {
    let bare = json!({"name": "pay", "service": "shop", "role": "pivot", "action": {"path": "/pay"}});
    let definition = saga(&json!([step("reserve"), bare, retriable("mail")]));
    let explored = explored(&stage(&definition));
    explored.all_bad_ends_are(&[(
        "the action of `pay` (attempt 1) and all its resends are answered 503",
        "the action of `pay` is stuck (http_503",
    )]);
    // Without the barrier not even the refusal of a resend can be believed.
    let plain = super::explored(&stage(&definition).without_barrier()).bad();
    let stuck = "is lost on its way, and the resend is refused => the action of `pay` is stuck (pivot_unknown";
    assert!(plain.iter().any(|line| line.contains(stuck)), "{}", plain.join("\n"));
}

#[test]
fn a_confirm_that_reads_an_answer_which_may_lack_it_is_caught() {
    let reads = json!({"confirm": {"path": "/hold/${self.output.id}/confirm"}});
    let explored = explored(&stage(&saga(&json!([with(tcc("hold"), &reads), step("pay")]))));
    let told = "the confirm of `hold` is stuck (expression_failed: ${self.output.id}:";
    explored.all_bad_ends_are(&[("the try of `hold` (attempt 1) succeeds and answers {}", told)]);
}

#[test]
fn a_tail_that_reads_an_answer_of_the_pivot_which_may_lack_it_is_caught() {
    let reads = json!({"action": {"path": "/mail/${steps.pay.output.receipt}"}});
    let explored = explored(&stage(&saga(&json!([pivot("pay"), with(retriable("mail"), &reads)]))));
    let told = "the action of `mail` is stuck (expression_failed: ${steps.pay.output.receipt}:";
    explored.all_bad_ends_are(&[
        ("the action of `pay` (attempt 1) succeeds and answers {}", told),
        ("the action of `pay` (attempt 1) succeeds, and its answer is no JSON", told),
    ]);
}

#[test]
fn a_mapping_of_the_pivot_that_may_fail_is_caught() {
    let mapped = with(pivot("pay"), &json!({"output": {"id": "${self.response.body.id}"}}));
    let explored = explored(&stage(&saga(&json!([step("reserve"), mapped]))));
    explored.all_bad_ends_are(&[(
        "the action of `pay` (attempt 1) succeeds and answers {}",
        "the action of `pay` is stuck",
    )]);
}

#[test]
fn an_undo_that_reads_the_answer_of_another_step_is_caught() {
    let reads = json!({"compensate": {"body": {"reservation": "${steps.reserve.output.id}"}}});
    let definition = saga(&json!([step("reserve"), with(step("charge"), &reads), step("ship")]));
    let explored = explored(&stage(&definition));
    let told = "the compensate of `charge` is stuck (expression_failed: ${steps.reserve.output.id}";
    assert!(explored.bad().iter().all(|line| line.contains(told)), "{:?}", explored.bad());
}

#[test]
fn without_the_barrier_what_is_at_risk_shows() {
    let definition = saga(&json!([step("reserve"), step("charge")]));
    explored(&stage(&definition)).all_is_well();
    explored(&stage(&definition).without_barrier()).all_bad_ends_are(&[
        ("the action of `reserve` (attempt 1) is delivered twice", "the effect of `reserve` stands 2 times"),
        (
            "the action of `charge` (attempt 1) takes effect, and its answer is lost",
            "the effect of `charge` stands 2 times",
        ),
        ("the coordinator is killed", "the effect of `reserve` stands 2 times"),
        ("hangs in the network, no resend gets through", "`reserve` took effect again after its undo"),
        ("is delivered again when all is over", "`reserve` took effect again after its undo"),
        ("(attempt 1) and all its resends are answered 503", "although there was nothing to undo"),
        ("the compensate of `reserve` (attempt 1) is delivered twice", "took effect more often than what it undoes"),
    ]);
}

#[test]
fn without_the_barrier_an_operation_that_knows_repetitions_is_not_doubled() {
    let idempotent = json!({"action": {"idempotent": true}});
    let definition = saga(&json!([with(step("reserve"), &idempotent), with(step("charge"), &idempotent)]));
    let bad = explored(&stage(&definition).without_barrier()).bad();
    assert!(!bad.iter().any(|line| line.contains("stands 2 times")), "{}", bad.join("\n"));
    let hanging = "took effect again after its undo";
    assert!(bad.iter().any(|line| line.contains(hanging)), "knowing repetitions does not help against: {hanging}");
}
