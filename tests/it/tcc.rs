//! TCC steps inside a plan: tried in their place, confirmed once it commits, cancelled if it aborts.

use serde_json::json;
use skald_protocol::{BranchStatus, Status};
use skald_tests::{
    World,
    definition::{begin, definition, pivot, retriable, step, tcc},
    promises,
};

promises! {
    async fn what_was_tried_is_confirmed_when_the_plan_commits(backend: Backend) {
        let world = World::start(backend).await;
        let steps = json!([tcc("seat"), tcc("meal")]);
        let view = world.client.run(&begin(&definition(&world.participants.url(), &steps))).await;
        assert_eq!(view.status, Status::Succeeded);
        let effects = world.participants.effects(view.gid.as_str());
        assert_eq!(effects[..2], ["seat try", "meal try"]);
        let mut confirms = effects[2..].to_vec();
        confirms.sort();
        assert_eq!(confirms, ["meal confirm", "seat confirm"]);
        assert!(view.branches.iter().all(|branch| branch.status == BranchStatus::Confirmed), "{view:?}");
    }

    async fn what_was_tried_is_cancelled_when_a_try_is_refused(backend: Backend) {
        let world = World::start(backend).await;
        world.participants.on("/meal").refuses("sold_out");
        let steps = json!([tcc("seat"), tcc("meal"), tcc("car")]);
        let view = world.client.run(&begin(&definition(&world.participants.url(), &steps))).await;
        assert_eq!(view.status, Status::Compensated);
        assert_eq!(world.participants.called(view.gid.as_str()), ["seat try", "meal try", "seat cancel"]);
    }

    async fn saga_steps_and_tcc_steps_share_one_decision(backend: Backend) {
        let world = World::start(backend).await;
        let steps = json!([tcc("seat"), step("fee"), pivot("pay"), retriable("receipt")]);
        let url = world.participants.url();
        let view = world.client.run(&begin(&definition(&url, &steps))).await;
        assert_eq!(view.status, Status::Succeeded);
        let mut effects = world.participants.effects(view.gid.as_str());
        effects[3..].sort();
        assert_eq!(effects, ["seat try", "fee action", "pay action", "receipt action", "seat confirm"]);

        world.participants.on("/pay").refuses("no_funds");
        let view = world.client.run(&begin(&definition(&url, &steps))).await;
        assert_eq!(view.status, Status::Compensated);
        let effects = world.participants.effects(view.gid.as_str());
        assert_eq!(effects, ["seat try", "fee action", "fee compensate", "seat cancel"]);
    }

    async fn a_confirm_that_fails_is_driven_until_it_is_done(backend: Backend) {
        let world = World::start(backend).await;
        world.participants.on("/seat/confirm").is_unavailable(7).succeeds();
        let view = world.client.run(&begin(&definition(&world.participants.url(), &json!([tcc("seat")])))).await;
        assert_eq!(view.status, Status::Succeeded);
        assert_eq!(world.participants.effects(view.gid.as_str()), ["seat try", "seat confirm"]);
    }
}
