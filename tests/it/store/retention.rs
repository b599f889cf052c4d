//! What outlives a transaction: its tombstone, operators' commands, settings.

use std::time::Duration;

use skald::store::{Append, Appended, Audit, Filter, Projection, Publish, Store, StoredPlan};
use skald_protocol::{Status, Timestamp, WorkflowRef};
use skald_tests::promises;
use tokio::time::sleep;

use super::{Fresh, Writer, batch, begin, begin_with, foreign, gid, next, projection, records};

promises! {
    /// A late redelivery of a begin is answered by the tombstone, not run again.
    async fn a_tombstone_keeps_the_gid_taken_until_it_goes_too(backend: Backend) {
        let fresh = Fresh::new(backend).await;
        let store = fresh.connect().await;
        let mut writer = Writer::alone(&store).await;
        let first = begin_with("a", Timestamp(1_000), &[("team", "red")]);
        writer.commit(&batch([first.clone(), begin("live"), begin("late")])).await.expect("a commit");
        for (text, at) in [("a", 2_000), ("late", 9_000)] {
            let settled_at = Some(Timestamp(at));
            writer.project(Projection { settled_at, ..projection(text, 1, Status::Compensated) }).await;
        }
        assert_eq!(store.prune(Timestamp(3_000), Timestamp(0), 100).await.expect("a prune"), (1, 0));
        assert_eq!(store.prune(Timestamp(3_000), Timestamp(0), 100).await.expect("a prune"), (0, 0));
        let loaded = store.load(&[gid("a")]).await.expect("a load").remove(0);
        assert!(loaded.row.expired && loaded.records.is_empty() && loaded.row.labels.is_empty());
        assert_eq!((loaded.row.status, loaded.row.settled_at), (Status::Compensated, Some(Timestamp(2_000))));
        assert_eq!((loaded.row.request_digest, loaded.row.created_at), ([1; 32], Timestamp(1_000)));

        assert_eq!(writer.append(first.clone()).await, Appended::Conflict);
        assert_eq!(writer.append(foreign("a", 1)).await, Appended::Conflict);
        assert!(records(&store, "a").await.is_empty());
        let listed = store.list(&Filter { limit: 10, ..Filter::default() }).await.expect("a list");
        assert_eq!(listed.iter().map(|one| one.gid.as_str()).collect::<Vec<_>>(), ["live", "late"]);

        assert_eq!(store.prune(Timestamp(0), Timestamp(3_000), 100).await.expect("a prune"), (0, 1));
        assert!(store.load(&[gid("a")]).await.expect("a load").is_empty());
        assert_eq!(writer.append(first).await, Appended::Durable);
        assert_eq!(records(&store, "late").await.len(), 1);
    }

    async fn retention_takes_small_bites_of_what_began_first(backend: Backend) {
        let fresh = Fresh::new(backend).await;
        let store = fresh.connect().await;
        let mut writer = Writer::alone(&store).await;
        let texts: Vec<String> = (0..10).map(|index| format!("t{index}")).collect();
        writer.commit(&batch(texts.iter().map(|text| begin(text)))).await.expect("a commit");
        for (index, text) in (0..).zip(&texts) {
            let settled_at = Some(Timestamp(2_000 - index));
            writer.project(Projection { settled_at, ..projection(text, 1, Status::Failed) }).await;
        }
        assert_eq!(store.prune(Timestamp(9_000), Timestamp(0), 4).await.expect("a prune"), (4, 0));
        let left = store.list(&Filter { limit: 10, ..Filter::default() }).await.expect("a list");
        assert_eq!(left.iter().map(|one| one.gid.as_str()).collect::<Vec<_>>(), ["t9", "t8", "t7", "t6", "t5", "t4"]);
        assert_eq!(store.prune(Timestamp(9_000), Timestamp(9_000), 7).await.expect("a prune"), (6, 7));
    }

    async fn a_plan_goes_once_nothing_uses_it_and_comes_again_with_a_begin(backend: Backend) {
        let fresh = Fresh::new(backend).await;
        let store = fresh.connect().await;
        let mut writer = Writer::alone(&store).await;
        let removed = async |unused: Duration| {
            sleep(Duration::from_millis(20)).await;
            store.prune_plans(unused).await.expect("a prune")
        };
        let is_there = async |plan: u8| store.plan(&[plan; 32]).await.expect("an answer").is_some();
        writer.commit(&batch([begin("a")])).await.expect("a commit");
        let plan = StoredPlan { digest: [3; 32], format: 1, definition: None, plan: b"{}".to_vec() };
        let workflow = WorkflowRef { name: "order".into(), version: "1.0.0".into() };
        let order = Publish { workflow, digest: [4; 32], definition: "{}".into(), plan };
        store.publish(&order).await.expect("published");
        assert_eq!(removed(Duration::ZERO).await, 0, "a transaction and a workflow use them");

        writer.project(Projection { settled_at: Some(Timestamp(2_000)), ..projection("a", 1, Status::Failed) }).await;
        assert_eq!(removed(Duration::ZERO).await, 0, "its journal is still kept");
        assert_eq!(store.prune(Timestamp(3_000), Timestamp(0), 100).await.expect("a prune"), (1, 0));
        assert_eq!(removed(Duration::from_secs(3600)).await, 0, "a node may know it as stored");
        assert_eq!(removed(Duration::ZERO).await, 1);
        assert!(!is_there(2).await && is_there(3).await);

        assert_eq!(writer.append(begin("b")).await, Appended::Durable);
        assert!(is_there(2).await);
    }

    async fn a_setting_is_what_its_first_caller_made_it(backend: Backend) {
        let fresh = Fresh::new(backend).await;
        let store = fresh.connect().await;
        let (one, two) = tokio::join!(store.setting("key", b"one"), store.setting("key", b"two"));
        assert_eq!(one.expect("a value"), two.expect("a value"));
        assert_eq!(store.setting("other", &[0, 255]).await.expect("a value"), [0, 255]);
    }

    async fn words_are_kept_each_by_itself(backend: Backend) {
        let fresh = Fresh::new(backend).await;
        let store = fresh.connect().await;
        let word = |reason: Option<&str>| Audit {
            id: uuid::Uuid::now_v7(),
            gid: gid("a"),
            at: Timestamp(1),
            command: "skip".into(),
            branch: Some("pay".into()),
            reason: reason.map(str::to_owned),
        };
        store.audit(&word(Some("twice\0"))).await.expect("an entry");
        store.audit(&word(None)).await.expect("another, in the same millisecond");
    }

    async fn a_large_batch_is_read_back_whole(backend: Backend) {
        let fresh = Fresh::new(backend).await;
        let store = fresh.connect().await;
        let mut writer = Writer::alone(&store).await;
        let texts: Vec<String> = (0..1_000).map(|index| format!("t{index:04}")).collect();
        let labelled = |text: &String| begin_with(text, Timestamp(1_000), &[("team", text), ("all", "yes")]);
        let answer = writer.commit(&batch(texts.iter().map(labelled))).await.expect("a commit");
        assert!(answer.len() == 1_000 && answer.iter().all(|answer| *answer == Appended::Durable));
        let big = |text: &String| Append { record: text.as_bytes().repeat(1_000), ..next(text, 1) };
        writer.commit(&batch(texts.iter().map(big))).await.expect("a commit");
        let gids: Vec<_> = texts.iter().map(|text| gid(text)).collect();
        let loaded = store.load(&gids).await.expect("a load");
        assert_eq!(loaded.len(), 1_000);
        for (loaded, text) in loaded.iter().zip(&texts) {
            assert_eq!(loaded.records[1].bytes, text.as_bytes().repeat(1_000));
            assert_eq!(loaded.row.labels["team"], *text);
        }
        let due = store.due(&[7], Timestamp(1_000), None, 600).await.expect("due");
        let rest = store.due(&[7], Timestamp(1_000), due.last().cloned(), 600).await.expect("due");
        assert_eq!((due.len(), rest.len()), (600, 400));
    }
}
