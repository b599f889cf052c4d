//! A begin is durable before it is answered, and the same gid never runs twice.

use serde_json::json;
use skald_protocol::Status;
use skald_tests::{
    World,
    definition::{begin, definition, step, with_gid},
    promises,
};

promises! {
    async fn the_same_gid_with_the_same_content_runs_once(backend: Backend) {
        let world = World::start(backend).await;
        let begin = with_gid(begin(&definition(&world.participants.url(), &json!([step("reserve")]))), "shop:order-1");
        let first = world.client.run(&begin).await;
        let again = world.client.run(&begin).await;
        assert_eq!((first.status, again.status), (Status::Succeeded, Status::Succeeded));
        assert_eq!((first.created_at, first.settled_at), (again.created_at, again.settled_at));
        assert_eq!(world.participants.arrivals("shop:order-1").len(), 1);
    }

    async fn many_begins_of_one_gid_at_once_are_one(backend: Backend) {
        let world = World::start(backend).await;
        let begin = with_gid(begin(&definition(&world.participants.url(), &json!([step("reserve")]))), "shop:rush");
        let all = futures_util::future::join_all((0..16).map(|_| world.client.run(&begin))).await;
        assert!(all.iter().all(|view| view.status == Status::Succeeded && view.created_at == all[0].created_at));
        assert_eq!(world.participants.arrivals("shop:rush").len(), 1);
    }

    async fn the_same_gid_with_other_content_is_a_conflict(backend: Backend) {
        let world = World::start(backend).await;
        let begin = with_gid(begin(&definition(&world.participants.url(), &json!([step("reserve")]))), "shop:order-2");
        world.client.run(&begin).await;
        let mut other = begin.clone();
        other["input"] = json!({"n": 2});
        let answer = world.client.post("/v1/transactions", &other).await;
        assert_eq!((answer.status, answer.code()), (409, "gid_conflict"));
        let mut open = json!({"gid": "shop:order-2", "open": true, "timeout": "30s"});
        let answer = world.client.post("/v1/transactions", &open).await;
        assert_eq!((answer.status, answer.code()), (409, "gid_conflict"));
        open["gid"] = json!("shop:order-3");
        assert_eq!(world.client.post("/v1/transactions", &open).await.status, 201);
        assert_eq!(world.client.post("/v1/transactions", &open).await.status, 200);
    }

    async fn a_begin_that_is_wrong_is_refused_and_stores_nothing(backend: Backend) {
        let world = World::start(backend).await;
        let url = world.participants.url();
        let mut no_undo = step("reserve");
        no_undo.as_object_mut().expect("an object").remove("compensate");
        let wrong = [
            (json!({"definition": definition(&url, &json!([no_undo]))}), 422),
            (json!({"definition": definition(&url, &json!([step("a"), step("a")]))}), 422),
            (json!({"workflow": "order", "input": {}}), 422),
            (json!({"gid": "no spaces", "definition": definition(&url, &json!([step("a")]))}), 422),
            (json!({"definitions": {}}), 422),
            (json!({"open": true}), 422),
            (json!([]), 422),
        ];
        for (body, _) in &wrong {
            let answer = world.client.post("/v1/transactions", body).await;
            assert!((400..500).contains(&answer.status), "{body}: {} {}", answer.status, answer.body);
            assert!(!answer.code().is_empty(), "{body}: a problem has a code: {}", answer.body);
        }
        let list = world.client.get("/v1/transactions").await;
        assert_eq!(list.body["items"], json!([]));
    }

    async fn a_transaction_is_found_by_gid_and_by_label(backend: Backend) {
        let world = World::start(backend).await;
        let mut begin = begin(&definition(&world.participants.url(), &json!([step("reserve")])));
        assert_eq!(world.client.get("/v1/transactions/nobody").await.status, 404);
        // What its client was told the list shows at once.
        for n in 0..20 {
            begin["labels"] = json!({"customer": format!("c-{n}")});
            let view = world.client.run(&begin).await;
            let list = world.client.get(&format!("/v1/transactions?label.customer=c-{n}&status=succeeded")).await;
            let found: Vec<_> = list.body["items"].as_array().expect("a list").iter().map(|item| &item["gid"]).collect();
            assert_eq!(found, [view.gid.as_str()]);
        }
    }
}
