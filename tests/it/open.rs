//! Open transactions: a client enlists branches and decides; the deadline aborts what it forgets.

use serde_json::{Value, json};
use skald_protocol::Status;
use skald_tests::{Answer, World, definition::enlist, promises};

async fn opened(world: &World, timeout: &str) -> String {
    let answer = world.client.post("/v1/transactions", &json!({"open": true, "timeout": timeout})).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    answer.transaction().gid.to_string()
}

async fn enlisted(world: &World, gid: &str, branch: &Value) -> Answer {
    world.client.try_post(&format!("/v1/transactions/{gid}/branches"), branch, Some(10)).await.expect("an answer")
}

promises! {
    async fn a_client_enlists_branches_and_commits_them(backend: Backend) {
        let world = World::start(backend).await;
        let (gid, url) = (opened(&world, "30s").await, world.participants.url());
        for branch in ["seat", "meal"] {
            let answer = enlisted(&world, &gid, &enlist(&url, branch)).await;
            assert_eq!((answer.status, answer.body["outcome"].as_str()), (200, Some("succeeded")), "{}", answer.body);
        }
        let answer = world.client.command(&gid, "commit", &json!({})).await;
        assert!(answer.is_success(), "{}", answer.body);
        world.client.reaches(&gid, Status::Succeeded).await;
        let mut effects = world.participants.effects(&gid);
        effects[2..].sort();
        assert_eq!(effects, ["seat try", "meal try", "meal confirm", "seat confirm"]);
        let again = world.client.command(&gid, "commit", &json!({})).await;
        assert!(again.is_success(), "commit is idempotent: {}", again.body);
        let cancel = world.client.command(&gid, "cancel", &json!({})).await;
        assert_eq!((cancel.status, cancel.code()), (409, "already_committed"));
    }

    async fn a_client_cancels_what_it_tried(backend: Backend) {
        let world = World::start(backend).await;
        let (gid, url) = (opened(&world, "30s").await, world.participants.url());
        enlisted(&world, &gid, &enlist(&url, "seat")).await;
        let answer = world.client.command(&gid, "cancel", &json!({"reason": "changed my mind"})).await;
        assert!(answer.is_success(), "{}", answer.body);
        let view = world.client.reaches(&gid, Status::Compensated).await;
        assert_eq!(view.error.expect("an error").code, "cancelled");
        assert_eq!(world.participants.effects(&gid), ["seat try", "seat cancel"]);
        let commit = world.client.command(&gid, "commit", &json!({})).await;
        assert_eq!((commit.status, commit.code()), (409, "already_cancelled"));
    }

    async fn the_deadline_cancels_what_a_client_forgot(backend: Backend) {
        let world = World::start(backend).await;
        let (gid, url) = (opened(&world, "1s").await, world.participants.url());
        enlisted(&world, &gid, &enlist(&url, "seat")).await;
        let view = world.client.reaches(&gid, Status::Compensated).await;
        assert_eq!(view.error.expect("an error").code, "deadline");
        assert_eq!(world.participants.effects(&gid), ["seat try", "seat cancel"]);
        let late = enlisted(&world, &gid, &enlist(&url, "meal")).await;
        assert_eq!(late.status, 409, "{}", late.body);
    }

    async fn a_branch_enlisted_twice_is_tried_once(backend: Backend) {
        let world = World::start(backend).await;
        let (gid, url) = (opened(&world, "30s").await, world.participants.url());
        let first = enlisted(&world, &gid, &enlist(&url, "seat")).await;
        let again = enlisted(&world, &gid, &enlist(&url, "seat")).await;
        assert_eq!((first.status, &first.body), (again.status, &again.body));
        assert_eq!(world.participants.arrivals(&gid).len(), 1);
        let mut other = enlist(&url, "seat");
        other["body"] = json!({"amount": 2});
        let conflict = enlisted(&world, &gid, &other).await;
        assert_eq!((conflict.status, conflict.code()), (409, "branch_conflict"));
    }

    async fn a_refused_try_decides_nothing_and_is_neither_confirmed_nor_cancelled(backend: Backend) {
        let world = World::start(backend).await;
        world.participants.on("/meal").refuses("sold_out");
        let (gid, url) = (opened(&world, "30s").await, world.participants.url());
        enlisted(&world, &gid, &enlist(&url, "seat")).await;
        let refused = enlisted(&world, &gid, &enlist(&url, "meal")).await;
        assert_eq!((refused.status, refused.body["outcome"].as_str()), (200, Some("refused")), "{}", refused.body);
        assert_eq!(refused.body["error"]["code"], "sold_out");
        let commit = world.client.command(&gid, "commit", &json!({})).await;
        assert!(commit.is_success(), "{}", commit.body);
        world.client.reaches(&gid, Status::Succeeded).await;
        assert_eq!(world.participants.called(&gid), ["seat try", "meal try", "seat confirm"]);
    }

    async fn a_commit_waits_for_a_try_that_is_still_unknown(backend: Backend) {
        let world = World::start(backend).await;
        world.participants.on("/seat").is_held();
        let (gid, url) = (opened(&world, "30s").await, world.participants.url());
        let path = format!("/v1/transactions/{gid}/branches");
        let pending = world.client.try_post(&path, &enlist(&url, "seat"), Some(1)).await.expect("an answer");
        assert_eq!(pending.status, 202, "{}", pending.body);
        let commit = world.client.command(&gid, "commit", &json!({})).await;
        assert_eq!((commit.status, commit.code()), (409, "branch_unsettled"));
        world.participants.release();
        let settled = enlisted(&world, &gid, &enlist(&url, "seat")).await;
        assert_eq!(settled.body["outcome"], "succeeded", "{}", settled.body);
        assert!(world.client.command(&gid, "commit", &json!({})).await.is_success());
        world.client.reaches(&gid, Status::Succeeded).await;
    }

    async fn a_client_may_call_its_own_try_with_the_headers_it_is_given(backend: Backend) {
        let world = World::start(backend).await;
        let (gid, url) = (opened(&world, "30s").await, world.participants.url());
        let mut own = enlist(&url, "seat");
        own.as_object_mut().expect("an object").remove("try");
        let answer = enlisted(&world, &gid, &own).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let headers = answer.body["headers"].as_object().expect("headers");
        let key = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("idempotency-key"));
        assert_eq!(key.and_then(|(_, key)| key.as_str()), Some(format!("{gid}/seat/try").as_str()));
        let mut request = skald_tests::client::http().post(format!("{url}/seat")).json(&json!({"amount": 1}));
        for (name, value) in headers {
            request = request.header(name, value.as_str().expect("text"));
        }
        assert_eq!(request.send().await.expect("the participant answers").status(), 200);
        assert!(world.client.command(&gid, "commit", &json!({})).await.is_success());
        world.client.reaches(&gid, Status::Succeeded).await;
        assert_eq!(world.participants.effects(&gid), ["seat try", "seat confirm"]);
    }
}
