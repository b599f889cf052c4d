//! What fails for a while is tried again; what may have run is never forgotten.

use std::time::Duration;

use serde_json::json;
use skald_protocol::Status;
use skald_tests::{
    Participants, World,
    definition::{begin, definition, retriable, step},
    promises,
};

promises! {
    async fn a_step_that_fails_for_a_while_is_retried_with_growing_pauses(backend: Backend) {
        let world = World::start(backend).await;
        world.participants.on("/charge").is_unavailable(3).succeeds();
        let mut definition = definition(&world.participants.url(), &json!([step("reserve"), step("charge")]));
        definition["defaults"]["retry"]["jitter"] = json!("none");
        definition["defaults"]["retry"]["initial_interval"] = json!("200ms");
        definition["defaults"]["retry"]["max_interval"] = json!("10s");
        let view = world.client.run(&begin(&definition)).await;
        assert_eq!(view.status, Status::Succeeded);
        let calls = world.participants.arrivals(view.gid.as_str());
        let charges: Vec<_> = calls.iter().filter(|call| call.branch == "charge").collect();
        assert_eq!(charges.iter().map(|call| call.attempt).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert!(charges.iter().all(|call| call.key == charges[0].key), "the key is the same over attempts");
        for (pair, least) in charges.windows(2).zip([200, 400, 800]) {
            // Time is the database's as of the last heartbeat: it may step by as long as that took.
            let pause = pair[1].at - pair[0].at + Duration::from_millis(150);
            assert!(pause >= Duration::from_millis(least), "{pause:?} is less than {least} ms");
        }
    }

    async fn attempts_that_run_out_undo_the_step_too_since_it_may_have_run(backend: Backend) {
        let world = World::start(backend).await;
        world.participants.on("/charge").is_unavailable(1);
        let steps = json!([step("reserve"), step("charge")]);
        let view = world.client.run(&begin(&definition(&world.participants.url(), &steps))).await;
        assert_eq!(view.status, Status::Compensated);
        assert_eq!(view.error.expect("an error").code, "exhausted");
        let effects = world.participants.effects(view.gid.as_str());
        assert_eq!(effects, ["reserve action", "charge compensate (empty)", "reserve compensate"]);
    }

    async fn a_timeout_is_unknown_and_asked_again_with_one_effect(backend: Backend) {
        let world = World::start(backend).await;
        world.participants.on("/charge").is_silent_after_the_effect(1).succeeds();
        let mut charge = step("charge");
        charge["action"]["timeout"] = json!("200ms");
        let steps = json!([step("reserve"), charge]);
        let view = world.client.run(&begin(&definition(&world.participants.url(), &steps))).await;
        assert_eq!(view.status, Status::Succeeded);
        assert_eq!(world.participants.effects(view.gid.as_str()), ["reserve action", "charge action"]);
        let calls = world.participants.arrivals(view.gid.as_str());
        assert_eq!(calls.iter().filter(|call| call.branch == "charge").count(), 2);
    }

    async fn an_answer_that_breaks_off_is_unknown_and_asked_again(backend: Backend) {
        let world = World::start(backend).await;
        world.participants.on("/charge").cuts_its_answer_off(1).succeeds();
        let view = world.client.run(&begin(&definition(&world.participants.url(), &json!([step("charge")])))).await;
        assert_eq!(view.status, Status::Succeeded);
        assert_eq!(world.participants.effects(view.gid.as_str()), ["charge action"]);
    }

    async fn a_refusal_after_an_unknown_attempt_is_undone_unless_the_barrier_says_that_nothing_ran(backend: Backend) {
        // Silent about its barrier: 409 may be its word for "already there".
        let world = World::with(backend, Participants::without_barrier_word().await).await;
        world.participants.on("/charge").is_unavailable(1).refuses("already_exists");
        let steps = json!([step("reserve"), step("charge")]);
        let view = world.client.run(&begin(&definition(&world.participants.url(), &steps))).await;
        assert_eq!(view.status, Status::Compensated);
        let called = world.participants.called(view.gid.as_str());
        assert!(called.contains(&"charge compensate".to_owned()), "{called:?}");

        let world = World::start(backend).await;
        world.participants.on("/charge").is_unavailable(1).refuses("no_funds");
        let view = world.client.run(&begin(&definition(&world.participants.url(), &steps))).await;
        assert_eq!(view.status, Status::Compensated);
        let called = world.participants.called(view.gid.as_str());
        assert!(!called.contains(&"charge compensate".to_owned()), "{called:?}");
    }

    async fn too_many_requests_sets_the_pace_and_is_no_attempt_that_may_have_run(backend: Backend) {
        let world = World::with(backend, Participants::without_barrier_word().await).await;
        world.participants.on("/charge").has_too_many(1).refuses("no");
        let steps = json!([step("reserve"), step("charge")]);
        let view = world.client.run(&begin(&definition(&world.participants.url(), &steps))).await;
        assert_eq!(view.status, Status::Compensated);
        let calls = world.participants.arrivals(view.gid.as_str());
        let charges: Vec<_> = calls.iter().filter(|call| call.branch == "charge").collect();
        assert_eq!(charges.len(), 2, "called twice and not undone: {charges:?}");
        assert!(charges[1].at - charges[0].at >= Duration::from_millis(950));
    }

    async fn a_compensation_that_fails_is_driven_until_it_is_done(backend: Backend) {
        let world = World::start(backend).await;
        world.participants.on("/reserve/compensate").is_unavailable(7).succeeds();
        world.participants.on("/charge").refuses("no");
        let steps = json!([step("reserve"), step("charge")]);
        let view = world.client.run(&begin(&definition(&world.participants.url(), &steps))).await;
        assert_eq!(view.status, Status::Compensated);
        assert_eq!(world.participants.effects(view.gid.as_str()), ["reserve action", "reserve compensate"]);
    }

    async fn a_retriable_step_after_the_commit_is_driven_until_it_is_done(backend: Backend) {
        let world = World::start(backend).await;
        world.participants.on("/receipt").is_unavailable(9).succeeds();
        let steps = json!([step("reserve"), retriable("receipt")]);
        let view = world.client.run(&begin(&definition(&world.participants.url(), &steps))).await;
        assert_eq!(view.status, Status::Succeeded);
        assert_eq!(world.participants.effects(view.gid.as_str()), ["reserve action", "receipt action"]);
    }
}
