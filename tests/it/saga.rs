//! A saga runs to its end, or everything that ran is undone, in reverse order, and nothing else.

use serde_json::json;
use skald_protocol::{BranchStatus, Decision, Status};
use skald_tests::{
    World,
    definition::{begin, definition, retriable, step},
    promises,
};

promises! {
    async fn a_saga_runs_its_steps_in_order_and_settles(backend: Backend) {
        let world = World::start(backend).await;
        let steps = json!([step("reserve"), step("charge"), retriable("receipt")]);
        let view = world.client.run(&begin(&definition(&world.participants.url(), &steps))).await;
        assert_eq!(view.status, Status::Succeeded);
        assert_eq!(view.decision, Some(Decision::Commit));
        assert!(view.settled_at.is_some());
        let effects = world.participants.effects(view.gid.as_str());
        assert_eq!(effects, ["reserve action", "charge action", "receipt action"]);
        assert!(view.branches.iter().all(|branch| branch.status == BranchStatus::Done), "{view:?}");
    }

    async fn a_refusal_undoes_all_that_ran_in_reverse_order_and_nothing_else(backend: Backend) {
        let world = World::start(backend).await;
        world.participants.on("/ship").refuses("no_such_address");
        let steps = json!([step("reserve"), step("charge"), step("ship"), step("notify")]);
        let view = world.client.run(&begin(&definition(&world.participants.url(), &steps))).await;
        assert_eq!((view.status, view.decision), (Status::Compensated, Some(Decision::Abort)));
        let error = view.error.as_ref().expect("an error");
        assert_eq!((error.step.as_deref(), error.code.as_str()), (Some("ship"), "no_such_address"));
        let called = world.participants.called(view.gid.as_str());
        let expected =
            ["reserve action", "charge action", "ship action", "charge compensate", "reserve compensate"];
        assert_eq!(called, expected, "the refused step is not undone, the one after it is never called");
    }

    async fn a_refusal_is_told_in_the_words_of_the_rule_that_names_it(backend: Backend) {
        let world = World::start(backend).await;
        for path in ["/card", "/voucher"] {
            world.participants.on(path).refuses("no_funds");
        }
        let told = async |name: &str, outcome: serde_json::Value| {
            let mut step = step(name);
            step["action"]["outcome"] = outcome;
            let view = world.client.run(&begin(&definition(&world.participants.url(), &json!([step])))).await;
            assert_eq!(view.status, Status::Compensated);
            let error = view.error.expect("an error");
            (error.code, error.message)
        };
        let rule = |message: &str| {
            json!([{"when": "response.status >= 400", "is": "refused", "error": "card_declined", "message": message}])
        };
        let said = told("card", rule("The bank said ${response.body.code}.")).await;
        assert_eq!(said, ("card_declined".to_owned(), Some("The bank said no_funds.".to_owned())));
        let (code, message) = told("voucher", rule("The bank said ${response.body.why}.")).await;
        assert_eq!(code, "card_declined");
        assert!(message.is_none_or(|message| !message.contains("The bank")), "it reads what is absent, so it is not told");
    }

    async fn steps_side_by_side_are_joined_and_undone_together(backend: Backend) {
        let world = World::start(backend).await;
        world.participants.on("/ship").refuses("no");
        let arms = json!([{"steps": [step("a"), step("b")]}, {"steps": [step("c")]}]);
        let steps = json!([{"name": "both", "parallel": arms}, step("ship")]);
        let view = world.client.run(&begin(&definition(&world.participants.url(), &steps))).await;
        assert_eq!(view.status, Status::Compensated);
        let effects = world.participants.effects(view.gid.as_str());
        let place = |word: &str| effects.iter().position(|effect| effect == word).expect(word);
        assert_eq!(effects.len(), 6, "{effects:?}");
        assert!(place("a action") < place("b action"));
        assert!(place("b compensate") < place("a compensate"));
        assert!(place("c compensate") > place("b action"));
    }

    async fn any_order_can_be_said_with_after(backend: Backend) {
        let world = World::start(backend).await;
        let (mut b, mut c, mut d) = (step("b"), step("c"), step("d"));
        b["after"] = json!([]);
        c["after"] = json!(["a"]);
        d["after"] = json!(["b", "c"]);
        let steps = json!([step("a"), b, c, d]);
        let view = world.client.run(&begin(&definition(&world.participants.url(), &steps))).await;
        assert_eq!(view.status, Status::Succeeded);
        let effects = world.participants.effects(view.gid.as_str());
        assert_eq!(effects.last().map(String::as_str), Some("d action"), "{effects:?}");
        assert_eq!(effects.len(), 4);
    }

    async fn what_a_step_answers_can_be_read_by_the_next(backend: Backend) {
        let world = World::start(backend).await;
        world.participants.on("/reserve").answers(json!({"id": "r-7", "count": 3}));
        let mut charge = step("charge");
        charge["action"]["body"] =
            json!({"of": "${steps.reserve.output.id}", "n": "${input.n}", "gid": "${transaction.gid}"});
        let mut definition = definition(&world.participants.url(), &json!([step("reserve"), charge]));
        definition["output"] = json!({"reservation": "${steps.reserve.output.id}"});
        let view = world.client.run(&begin(&definition)).await;
        assert_eq!(view.status, Status::Succeeded);
        let gid = view.gid.as_str();
        let call = world.participants.arrivals(gid).pop().expect("a call");
        assert_eq!(call.body, json!({"of": "r-7", "n": 1, "gid": gid}));
        assert_eq!(view.output.expect("an output").value(), json!({"reservation": "r-7"}));
    }

    async fn every_call_carries_the_headers_of_the_contract(backend: Backend) {
        let world = World::start(backend).await;
        let view = world.client.run(&begin(&definition(&world.participants.url(), &json!([step("reserve")])))).await;
        let gid = view.gid.as_str();
        let call = world.participants.arrivals(gid).pop().expect("a call");
        assert_eq!(call.key, format!("{gid}/reserve/action"));
        assert_eq!(call.attempt, 1);
        for name in ["skald-began", "skald-deadline", "traceparent"] {
            assert!(call.headers.contains_key(name), "no {name} in {:?}", call.headers);
        }
    }
}
