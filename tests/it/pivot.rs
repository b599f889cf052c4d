//! The pivot is never guessed: once an attempt of it may have run, it is asked or resent, and never aborted around.

use serde_json::{Value, json};
use skald_protocol::{Decision, Status};
use skald_tests::{
    Participants, World,
    definition::{begin, definition, pivot, retriable, step},
    promises,
};
use std::time::Duration;

fn quick_pivot() -> Value {
    let mut pay = pivot("pay");
    pay["action"]["timeout"] = json!("300ms");
    pay
}

promises! {
    async fn a_pivot_that_may_have_run_is_asked_and_commits(backend: Backend) {
        let world = World::start(backend).await;
        world.participants.on("/pay").is_silent_after_the_effect(1).refuses("must not be asked twice");
        let mut pay = quick_pivot();
        pay["action"]["status_check"] = json!({"path": "/pay/status"});
        let steps = json!([step("reserve"), pay, retriable("receipt")]);
        let view = world.client.run(&begin(&definition(&world.participants.url(), &steps))).await;
        assert_eq!(view.status, Status::Succeeded, "{view:?}");
        let gid = view.gid.as_str();
        assert_eq!(world.participants.effects(gid), ["reserve action", "pay action", "receipt action"]);
        assert!(world.participants.called(gid).contains(&"pay status".to_owned()));
    }

    async fn a_pivot_that_did_not_run_is_sent_again(backend: Backend) {
        let world = World::start(backend).await;
        world.participants.on("/pay").is_silent_before_the_effect(1).succeeds();
        let mut pay = quick_pivot();
        pay["action"]["status_check"] = json!({"path": "/pay/status"});
        let steps = json!([step("reserve"), pay]);
        let view = world.client.run(&begin(&definition(&world.participants.url(), &steps))).await;
        assert_eq!(view.status, Status::Succeeded, "{view:?}");
        assert_eq!(world.participants.effects(view.gid.as_str()), ["reserve action", "pay action"]);
    }

    async fn a_pivot_that_cannot_be_asked_is_resent_beyond_the_forward_retries(backend: Backend) {
        let world = World::start(backend).await;
        world.participants.on("/pay").is_unavailable(9).succeeds();
        let steps = json!([step("reserve"), pivot("pay")]);
        let view = world.client.run(&begin(&definition(&world.participants.url(), &steps))).await;
        assert_eq!(view.status, Status::Succeeded, "{view:?}");
        assert_eq!(world.participants.effects(view.gid.as_str()), ["reserve action", "pay action"]);
    }

    async fn a_refused_resend_of_a_pivot_is_a_persons_matter_unless_the_barrier_vouches(backend: Backend) {
        let world = World::with(backend, Participants::without_barrier_word().await).await;
        world.participants.on("/pay").is_unavailable(1).refuses("already_paid");
        let steps = json!([step("reserve"), pivot("pay")]);
        let gid = world.client.begin(&begin(&definition(&world.participants.url(), &steps))).await;
        let view = world.client.reaches(&gid, Status::Suspended).await;
        assert_eq!(view.decision, None);
        assert_eq!(world.participants.effects(&gid), ["reserve action"], "nothing is undone");

        let world = World::start(backend).await;
        world.participants.on("/pay").is_unavailable(1).refuses("no_funds");
        let view = world.client.run(&begin(&definition(&world.participants.url(), &steps))).await;
        assert_eq!(view.status, Status::Compensated, "{view:?}");
    }

    async fn cancel_and_deadline_wait_for_a_pivot_that_was_called(backend: Backend) {
        let world = World::start(backend).await;
        world.participants.on("/pay").is_held();
        let mut definition = definition(&world.participants.url(), &json!([step("reserve"), pivot("pay")]));
        definition["timeout"] = json!("1s");
        definition["defaults"]["timeout"] = json!("20s");
        let gid = world.client.begin(&begin(&definition)).await;
        skald_tests::eventually("the pivot is called", Duration::from_secs(10), || async {
            world.participants.called(&gid).contains(&"pay action".to_owned()).then_some(())
        })
        .await;
        let cancel = world.client.command(&gid, "cancel", &json!({})).await;
        assert_eq!((cancel.status, &cancel.body["decision"]), (202, &Value::Null), "{}", cancel.body);
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        assert_eq!(world.client.transaction(&gid).await.decision, None, "the deadline has passed, and waits too");
        world.participants.release();
        let view = world.client.reaches(&gid, Status::Succeeded).await;
        assert_eq!(view.decision, Some(Decision::Commit));
        let late = world.client.command(&gid, "cancel", &json!({})).await;
        assert_eq!((late.status, late.code()), (409, "already_committed"));
    }
}
