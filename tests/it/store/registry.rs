//! Published definitions: a version has one content for ever.

use futures_util::future::join_all;
use skald::store::{Publish, Published, SqlStore, Store, StoredPlan};
use skald_protocol::{Status, Timestamp, WorkflowRef};
use skald_tests::{Backend, promises};

use super::{Fresh, Writer, begin, projection};

fn named(name: &str, version: &str) -> WorkflowRef {
    WorkflowRef { name: name.into(), version: version.into() }
}

fn publish(name: &str, version: &str, content: u8) -> Publish {
    Publish {
        workflow: named(name, version),
        digest: [content; 32],
        definition: format!("{{\"content\": {content}}}"),
        plan: StoredPlan { digest: [content; 32], format: 1, definition: None, plan: vec![content] },
    }
}

async fn versions(store: &SqlStore, after: Option<&str>, limit: usize) -> Vec<String> {
    let rows = store.versions("order", after, limit).await.expect("versions");
    rows.into_iter().map(|row| row.workflow.version).collect()
}

promises! {
    async fn a_version_keeps_the_content_it_was_first_given(backend: Backend) {
        let fresh = Fresh::new(backend).await;
        let store = fresh.connect().await;
        let wanted = named("order", "1.0.0");
        assert_eq!(store.workflow(&wanted).await.expect("an answer"), None);
        let Published::New(row) = store.publish(&publish("order", "1.0.0", 1)).await.expect("an answer") else {
            panic!("it was there before");
        };
        assert_eq!((&row.workflow, row.digest, row.plan), (&wanted, [1; 32], [1; 32]));
        assert!(row.published_at > Timestamp(1_700_000_000_000));
        let again = store.publish(&publish("order", "1.0.0", 1)).await.expect("an answer");
        assert_eq!(again, Published::Same(row.clone()));
        let other = store.publish(&publish("order", "1.0.0", 2)).await.expect("an answer");
        assert_eq!(other, Published::Conflict(row.clone()));
        let found = store.workflow(&wanted).await.expect("an answer").expect("a workflow");
        assert_eq!((found.row, found.definition.as_str()), (row, "{\"content\": 1}"));
        assert_eq!(store.plan(&[1; 32]).await.expect("an answer").expect("its plan").plan, [1]);
        assert!(store.plan(&[2; 32]).await.expect("an answer").is_none(), "nothing of what was refused is kept");
    }

    async fn definitions_that_share_a_plan_keep_each_its_own_text(backend: Backend) {
        let fresh = Fresh::new(backend).await;
        let store = fresh.connect().await;
        for (version, content) in [("1.0.0", 1), ("1.1.0", 2)] {
            let mut new = publish("order", version, content);
            new.plan.digest = [9; 32];
            store.publish(&new).await.expect("published");
            let found = store.workflow(&new.workflow).await.expect("an answer").expect("a workflow");
            assert_eq!((found.row.plan, found.definition), ([9; 32], new.definition));
        }
    }

    async fn of_many_that_publish_one_version_at_once_one_is_the_first(backend: Backend) {
        let fresh = Fresh::new(backend).await;
        let one = fresh.connect().await;
        // One process holds a SQLite file.
        let two = if backend == Backend::Postgres { fresh.connect().await } else { one.clone() };
        for round in 0..8 {
            let version = format!("1.0.{round}");
            let all = (0..16_u8).map(|content| {
                let store = if content % 2 == 0 { &one } else { &two };
                let new = publish("order", &version, 1 + content / 2);
                async move { store.publish(&new).await.expect("an answer") }
            });
            let answers = join_all(all).await;
            let new: Vec<_> = answers.iter().filter(|answer| matches!(answer, Published::New(_))).collect();
            let same = answers.iter().filter(|answer| matches!(answer, Published::Same(_))).count();
            assert_eq!((new.len(), same), (1, 1), "{answers:?}");
            let rows: Vec<_> = answers.iter().map(|answer| match answer {
                Published::New(row) | Published::Same(row) | Published::Conflict(row) => row,
            }).collect();
            assert!(rows.windows(2).all(|pair| pair[0] == pair[1]), "all are told of the same row: {rows:?}");
        }
    }

    async fn the_latest_version_is_the_highest_that_is_no_pre_release(backend: Backend) {
        let fresh = Fresh::new(backend).await;
        let store = fresh.connect().await;
        assert_eq!(store.latest("order").await.expect("an answer"), None);
        for (version, latest) in [
            ("1.0.0-rc.2", "1.0.0-rc.2"),
            ("1.0.0-rc.10", "1.0.0-rc.10"),
            ("1.0.0-rc.9", "1.0.0-rc.10"),
            ("0.9.0", "0.9.0"),
            ("0.10.0", "0.10.0"),
            ("2.0.0-alpha", "0.10.0"),
            ("1.0.0", "1.0.0"),
            ("1.0.0+b", "1.0.0+b"),
            ("1.0.0+a", "1.0.0+b"),
        ] {
            store.publish(&publish("order", version, 1)).await.expect("published");
            assert_eq!(store.latest("order").await.expect("an answer").as_deref(), Some(latest), "after {version}");
        }
        let all = ["1.0.0+b", "1.0.0+a", "1.0.0", "0.10.0", "0.9.0", "2.0.0-alpha", "1.0.0-rc.10", "1.0.0-rc.9",
            "1.0.0-rc.2"];
        assert_eq!(versions(&store, None, 100).await, all);
        let mut paged: Vec<String> = Vec::new();
        loop {
            let page = versions(&store, paged.last().map(String::as_str), 2).await;
            if page.is_empty() {
                break;
            }
            paged.extend(page);
        }
        assert_eq!(paged, all);
        assert!(store.versions("other", None, 9).await.expect("an answer").is_empty());
    }

    async fn each_name_is_listed_once_with_its_latest_version(backend: Backend) {
        let fresh = Fresh::new(backend).await;
        let store = fresh.connect().await;
        for (name, version) in
            [("b", "1.0.0"), ("a", "1.0.0"), ("b", "2.0.0"), ("b", "3.0.0-x"), ("a-b", "1.0.0"), ("a0", "1.0.0")]
        {
            store.publish(&publish(name, version, 1)).await.expect("published");
        }
        let list = async |after: &str, limit: usize| {
            let rows = store.workflows(after, limit).await.expect("a list");
            rows.into_iter().map(|row| format!("{}@{}", row.workflow.name, row.workflow.version)).collect::<Vec<_>>()
        };
        assert_eq!(list("", 9).await, ["a@1.0.0", "a-b@1.0.0", "a0@1.0.0", "b@2.0.0"]);
        assert_eq!(list("", 2).await, ["a@1.0.0", "a-b@1.0.0"]);
        assert_eq!(list("a-b", 2).await, ["a0@1.0.0", "b@2.0.0"]);
        assert!(list("b", 2).await.is_empty());
    }

    async fn retention_leaves_a_published_definition_and_its_plan(backend: Backend) {
        let fresh = Fresh::new(backend).await;
        let store = fresh.connect().await;
        let mut writer = Writer::alone(&store).await;
        // The plan of `begin` too.
        store.publish(&publish("order", "1.0.0", 2)).await.expect("published");
        writer.append(begin("a")).await;
        let settled_at = Some(Timestamp(2_000));
        writer.project(skald::store::Projection { settled_at, ..projection("a", 1, Status::Succeeded) }).await;
        assert_eq!(store.prune(Timestamp(9_000), Timestamp(9_000), 10).await.expect("a prune"), (1, 1));
        assert!(store.workflow(&named("order", "1.0.0")).await.expect("an answer").is_some());
        assert_eq!(store.plan(&[2; 32]).await.expect("an answer").expect("its plan").plan, [2]);
    }

    async fn a_version_that_is_none_is_refused(backend: Backend) {
        let fresh = Fresh::new(backend).await;
        let store = fresh.connect().await;
        assert!(store.publish(&publish("order", "1.0", 1)).await.is_err());
        assert!(store.versions("order", Some("1.0"), 1).await.is_err());
        assert_eq!(store.latest("order").await.expect("an answer"), None);
    }
}
