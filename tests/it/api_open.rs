//! An open transaction is enlisted into and decided by its client, and every call may be sent again.

#![allow(clippy::unwrap_used, reason = "a test fails where it meets what it did not expect")]

use serde_json::{Value, json};
use skald_protocol::{Decision, Status};
use skald_tests::{Backend, World, client::Answer, definition::*, promises};

async fn open(world: &World, gid: &str) -> Answer {
    world.client.post("/v1/transactions", &json!({"gid": gid, "open": true, "timeout": "1m"})).await
}

async fn enlisted(world: &World, gid: &str, branch: &Value) -> Answer {
    world.client.post(&format!("/v1/transactions/{gid}/branches"), branch).await
}

promises! {
    async fn a_client_tries_commits_and_may_say_each_thing_twice(backend: Backend) {
        let world = World::start(backend).await;
        assert_eq!(open(&world, "t").await.status, 201);
        assert_eq!(open(&world, "t").await.status, 200);
        let branch = enlist(&world.participants.url(), "hold");
        let first = enlisted(&world, "t", &branch).await;
        assert_eq!(first.status, 200, "{}", first.body);
        assert_eq!((&first.body["status"], &first.body["outcome"]), (&json!("done"), &json!("succeeded")));
        let again = enlisted(&world, "t", &branch).await;
        assert_eq!((again.status, &again.body), (200, &first.body));
        let mut other = branch.clone();
        other["body"] = json!({"amount": 2});
        let conflict = enlisted(&world, "t", &other).await;
        assert_eq!((conflict.status, conflict.code()), (409, "branch_conflict"));

        let committed = world.client.try_post("/v1/transactions/t/commit", &json!({}), Some(20)).await.unwrap();
        assert_eq!(committed.status, 200, "{}", committed.body);
        assert_eq!(committed.transaction().status, Status::Succeeded);
        assert_eq!(world.client.command("t", "commit", &json!({})).await.status, 200);
        let late = enlisted(&world, "t", &enlist(&world.participants.url(), "late")).await;
        assert_eq!(late.status, 409, "{}", late.body);
        let cancel = world.client.command("t", "cancel", &json!({})).await;
        assert_eq!((cancel.status, cancel.code()), (409, "already_committed"));
        assert_eq!(world.participants.effects("t"), ["hold try", "hold confirm"]);
        assert_eq!(world.participants.arrivals("t").len(), 2);
    }

    async fn a_refused_try_decides_nothing_and_a_cancel_undoes_the_others(backend: Backend) {
        let world = World::start(backend).await;
        open(&world, "t").await;
        world.participants.on("/pay").refuses("no_funds");
        assert_eq!(enlisted(&world, "t", &enlist(&world.participants.url(), "hold")).await.body["outcome"], "succeeded");
        let refused = enlisted(&world, "t", &enlist(&world.participants.url(), "pay")).await;
        assert_eq!(refused.status, 200, "{}", refused.body);
        assert_eq!((&refused.body["outcome"], &refused.body["error"]["code"]), (&json!("refused"), &json!("no_funds")));
        assert_eq!(world.client.transaction("t").await.status, Status::Running);
        let cancelled = world.client.try_post("/v1/transactions/t/cancel", &json!({"reason": "no money"}), Some(20)).await.unwrap();
        assert_eq!(cancelled.transaction().status, Status::Compensated);
        let commit = world.client.command("t", "commit", &json!({})).await;
        assert_eq!((commit.status, commit.code()), (409, "already_cancelled"));
        assert_eq!(world.participants.effects("t"), ["hold try", "hold cancel"]);
    }

    async fn a_try_that_is_not_done_in_time_is_answered_202_and_holds_the_commit_up(backend: Backend) {
        let world = World::start(backend).await;
        open(&world, "t").await;
        world.participants.on("/hold").is_held();
        let branch = enlist(&world.participants.url(), "hold");
        let path = "/v1/transactions/t/branches";
        let pending = world.client.try_post(path, &branch, Some(1)).await.unwrap();
        assert_eq!((pending.status, &pending.body["outcome"]), (202, &json!(null)), "{}", pending.body);
        let commit = world.client.command("t", "commit", &json!({})).await;
        assert_eq!((commit.status, commit.code()), (409, "branch_unsettled"));
        let (done, ()) = tokio::join!(world.client.try_post(path, &branch, Some(20)), async { world.participants.release() });
        assert_eq!(done.unwrap().body["outcome"], "succeeded");
        assert_eq!(world.client.command("t", "commit", &json!({})).await.transaction().decision, Some(Decision::Commit));
        world.client.reaches("t", Status::Succeeded).await;
    }
}

#[tokio::test]
async fn a_client_that_calls_its_own_try_is_told_what_to_send_with_it() {
    let world = World::start(Backend::Sqlite).await;
    open(&world, "t").await;
    let mut branch = enlist(&world.participants.url(), "hold");
    branch.as_object_mut().unwrap().remove("try");
    let answer = enlisted(&world, "t", &branch).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let headers = &answer.body["headers"];
    assert_eq!(headers["idempotency-key"], "t/hold/try");
    assert_eq!(
        (&headers["skald-transaction"], &headers["skald-branch"], &headers["skald-operation"]),
        (&json!("t"), &json!("hold"), &json!("try"))
    );
    assert_eq!(world.participants.arrived(), 0);
    world.client.command("t", "commit", &json!({})).await;
    world.client.reaches("t", Status::Succeeded).await;
    assert_eq!(world.participants.called("t"), ["hold confirm"]);
}

#[tokio::test]
async fn a_closed_transaction_takes_no_branches_and_no_commit() {
    let world = World::start(Backend::Sqlite).await;
    world.participants.on("/a").is_held();
    let gid = world.client.begin(&begin(&definition(&world.participants.url(), &json!([step("a")])))).await;
    let branch = enlisted(&world, &gid, &enlist(&world.participants.url(), "x")).await;
    assert_eq!((branch.status, branch.code()), (409, "not_open"));
    let commit = world.client.command(&gid, "commit", &json!({})).await;
    assert_eq!((commit.status, commit.code()), (409, "not_open"));
    world.participants.release();
}
