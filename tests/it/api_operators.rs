//! What only a person may say: each word is tried out before it is spoken, and audited before it takes effect.

#![allow(clippy::unwrap_used, reason = "a test fails where it meets what it did not expect")]

use serde_json::{Value, json};
use skald_protocol::{BranchStatus, Status};
use skald_tests::{Backend, World, definition::*, promises};

/// A saga whose undo of `a` is given up after one attempt.
async fn stuck(world: &World) -> String {
    world.participants.on("/b").refuses("no");
    world.participants.on("/a/compensate").is_unavailable(1);
    let mut definition = definition(&world.participants.url(), &json!([step("a"), step("b")]));
    definition["defaults"]["settle"]["retry"]["max_attempts"] = json!(1);
    let gid = world.client.begin(&begin(&definition)).await;
    world.client.reaches(&gid, Status::Suspended).await;
    gid
}

promises! {
    async fn a_stuck_undo_waits_for_a_person_who_first_sees_what_a_retry_would_call(backend: Backend) {
        let world = World::start(backend).await;
        let gid = stuck(&world).await;
        let calls = world.participants.arrivals(&gid).len();
        let seen = world.client.command(&gid, "retry?dry_run=true", &json!({"branch": "a"})).await;
        assert_eq!(seen.status, 200, "{}", seen.body);
        let planned = &seen.body["calls"][0];
        assert_eq!((&planned["branch"], &planned["operation"], &planned["path"]), (&json!("a"), &json!("compensate"), &json!("/a/compensate")));
        assert_eq!(planned["idempotency_key"], format!("{gid}/a/compensate"));
        assert_eq!(seen.body["calls"].as_array().map(Vec::len), Some(1));
        assert_eq!(world.client.transaction(&gid).await.status, Status::Suspended);
        assert_eq!(world.participants.arrivals(&gid).len(), calls, "a dry run called");

        world.participants.behave();
        let retried = world.client.try_post(&format!("/v1/transactions/{gid}/retry"), &json!({"branch": "a"}), Some(20)).await.unwrap();
        assert_eq!((retried.status, retried.transaction().status), (200, Status::Compensated), "{}", retried.body);
        assert_eq!(world.participants.effects(&gid), ["a action", "a compensate"]);
    }

    async fn a_skipped_undo_counts_as_done_and_is_never_called_again(backend: Backend) {
        let world = World::start(backend).await;
        let gid = stuck(&world).await;
        let calls = world.participants.arrivals(&gid).len();
        let body = json!({"branch": "a", "reason": "done by hand"});
        let skipped = world.client.command(&gid, "skip", &body).await;
        assert_eq!(skipped.transaction().status, Status::Compensated, "{}", skipped.body);
        assert_eq!(world.participants.arrivals(&gid).len(), calls);
        let again = world.client.command(&gid, "skip", &body).await;
        assert_eq!(again.status, 409, "{}", again.body);
    }

    async fn a_resolved_undo_takes_the_outcome_that_a_person_gives(backend: Backend) {
        let world = World::start(backend).await;
        let gid = stuck(&world).await;
        let body = json!({"branch": "a", "outcome": "succeeded", "output": {"by": "hand"}, "reason": "seen in their books"});
        let resolved = world.client.command(&gid, "resolve", &body).await.transaction();
        assert_eq!(resolved.status, Status::Compensated);
        assert_eq!(resolved.branches[0].status, BranchStatus::Undone);
    }

    async fn a_failed_transaction_is_over_by_word(backend: Backend) {
        let world = World::start(backend).await;
        let gid = stuck(&world).await;
        let failed = world.client.command(&gid, "fail", &json!({"reason": "written off"})).await;
        assert_eq!((failed.status, failed.transaction().status), (200, Status::Failed), "{}", failed.body);
        let late = world.client.command(&gid, "retry", &json!({})).await;
        assert_eq!((late.status, late.code()), (409, "settled"));
    }
}

#[tokio::test]
async fn words_that_do_not_fit_are_refused_and_change_nothing() {
    let world = World::start(Backend::Sqlite).await;
    let view = world.client.run(&begin(&definition(&world.participants.url(), &json!([step("a")])))).await;
    let gid = view.gid.to_string();
    let refused: Vec<(&str, Value)> = vec![
        ("skip", json!({"branch": "a", "reason": "r"})),
        ("resolve", json!({"branch": "a", "outcome": "refused", "reason": "r"})),
        ("fail", json!({"reason": "r"})),
        ("resume", json!({})),
        ("retry", json!({})),
    ];
    for (word, body) in refused {
        for word in [word.to_owned(), format!("{word}?dry_run=true")] {
            let answer = world.client.command(&gid, &word, &body).await;
            assert_eq!(answer.status, 409, "{word}: {}", answer.body);
        }
    }
    assert_eq!(world.client.transaction(&gid).await.status, Status::Succeeded);
}

#[tokio::test]
async fn an_unknown_branch_is_told() {
    let world = World::start(Backend::Sqlite).await;
    let gid = stuck(&world).await;
    let answer = world.client.command(&gid, "skip", &json!({"branch": "nobody", "reason": "r"})).await;
    assert_eq!((answer.status, answer.code()), (404, "unknown_branch"));
}

#[tokio::test]
async fn a_command_that_took_effect_is_in_the_audit_and_no_other() {
    use sqlx::Connection;
    let world = World::start(Backend::Postgres).await;
    let gid = stuck(&world).await;
    let body = json!({"branch": "a", "reason": "done by hand"});
    assert_eq!(world.client.command(&gid, "skip?dry_run=true", &body).await.status, 200);
    assert_eq!(
        world
            .client
            .command(&gid, "resolve", &json!({"branch": "b", "outcome": "refused", "reason": "r"}))
            .await
            .status,
        409
    );
    assert_eq!(world.client.command(&gid, "skip", &body).await.status, 200);
    assert_eq!(world.client.command(&gid, "skip", &body).await.status, 409);
    let mut connection = sqlx::PgConnection::connect(world.database.url()).await.unwrap();
    let audited: Vec<(String, Option<String>, Option<String>)> =
        sqlx::query_as("SELECT word, branch, reason FROM audit WHERE gid = $1")
            .bind(&gid)
            .fetch_all(&mut connection)
            .await
            .unwrap();
    assert_eq!(audited, [("skip".to_owned(), Some("a".to_owned()), Some("done by hand".to_owned()))]);
}
