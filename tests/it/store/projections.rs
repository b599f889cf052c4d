//! A transaction's row lags its journal only to the safe side.

use skald::store::{Appended, Batch, Projection, Store};
use skald_protocol::{Status, Timestamp};
use skald_tests::{Backend, promises};

use super::{Fresh, LEASE, Writer, batch, begin, begin_with, foreign, gid, next, projection};

/// A day that no test reaches.
const FAR: Timestamp = Timestamp(1 << 50);

promises! {
    async fn a_foreign_append_makes_due_until_a_projection_has_seen_it(backend: Backend) {
        let fresh = Fresh::new(backend).await;
        let store = fresh.connect().await;
        let mut writer = Writer::alone(&store).await;
        writer.append(begin("a")).await;
        let parked_by = Some((writer.joined.node, 1));
        let parked = Projection { next_wake_at: Some(FAR), parked_by, ..projection("a", 1, Status::Running) };
        writer.project(parked.clone()).await;
        let now = writer.joined.now.plus(LEASE);
        assert!(store.due(&[7], now, None, 10).await.expect("none").is_empty());

        assert_eq!(writer.append(foreign("a", 1)).await, Appended::Durable);
        assert_eq!(store.foreign(&[7, 8], 10).await.expect("marked"), [(gid("a"), 1)]);
        assert!(store.foreign(&[8], 10).await.expect("none").is_empty());
        let due = store.due(&[7], now, None, 10).await.expect("due");
        assert!(due.len() == 1 && due[0].0 >= writer.joined.now, "by database time");
        let row = store.load(&[gid("a")]).await.expect("a load").remove(0).row;
        assert_eq!(row.parked_by, parked_by, "nobody drove it meanwhile");

        writer.project(parked.clone()).await;
        assert_eq!(store.due(&[7], now, None, 10).await.expect("due").len(), 1, "it did not know of the append");
        writer.project(Projection { seq: 2, ..parked }).await;
        assert!(store.due(&[7], now, None, 10).await.expect("none").is_empty());
        assert!(store.foreign(&[7], 10).await.expect("none").is_empty());
    }

    async fn a_foreign_append_in_the_batch_of_an_older_projection_wins(backend: Backend) {
        let fresh = Fresh::new(backend).await;
        let store = fresh.connect().await;
        let mut writer = Writer::alone(&store).await;
        writer.append(begin("a")).await;
        let parked = Projection { next_wake_at: Some(FAR), ..projection("a", 1, Status::Running) };
        let work = Batch { appends: vec![foreign("a", 1)], projections: vec![parked.clone()] };
        writer.commit(&work).await.expect("a commit");
        assert_eq!(store.foreign(&[7], 10).await.expect("marked"), [(gid("a"), 1)]);

        let knows = Projection { seq: 3, ..parked.clone() };
        let work = Batch { appends: vec![foreign("a", 2)], projections: vec![parked, knows] };
        writer.commit(&work).await.expect("a commit");
        assert!(store.foreign(&[7], 10).await.expect("none").is_empty(), "the newest projection counts");
    }

    /// What it still believes of a shard may be long untrue.
    async fn a_projection_of_a_shard_that_was_given_up_is_void(backend: Backend) {
        let fresh = Fresh::new(backend).await;
        let store = fresh.connect().await;
        let mut writer = Writer::alone(&store).await;
        writer.append(begin("a")).await;
        store.release(writer.joined.node, &[7]).await.expect("a release");
        writer.project(Projection { settled_at: Some(Timestamp(2)), ..projection("a", 1, Status::Succeeded) }).await;
        let row = store.load(&[gid("a")]).await.expect("a load").remove(0).row;
        assert_eq!((row.status, row.settled_at), (Status::Running, None));
    }

    async fn a_quarantined_transaction_rests_until_it_is_failed(backend: Backend) {
        let fresh = Fresh::new(backend).await;
        let store = fresh.connect().await;
        let mut writer = Writer::alone(&store).await;
        writer.commit(&batch([begin("a"), begin("b")])).await.expect("a commit");
        writer.append(foreign("a", 1)).await;
        store.quarantine(&gid("a"), "its third record\0is torn").await.expect("a quarantine");
        let loaded = store.load(&[gid("a")]).await.expect("a load").remove(0);
        assert_eq!((loaded.row.status, loaded.records.len()), (Status::Suspended, 0));
        assert_eq!(loaded.row.quarantined.as_deref(), Some("its third record\u{fffd}is torn"));
        let now = writer.joined.now.plus(LEASE);
        assert_eq!(store.due(&[7], now, None, 10).await.expect("due"), [(Timestamp(1_000), gid("b"))]);
        assert!(store.foreign(&[7], 10).await.expect("none").is_empty());
        writer.project(Projection { next_wake_at: Some(FAR), ..projection("a", 9, Status::Running) }).await;
        assert_eq!(store.load(&[gid("a")]).await.expect("a load")[0].row.status, Status::Suspended);

        writer.append(foreign("a", 2)).await;
        assert!(store.foreign(&[7], 10).await.expect("none").is_empty(), "nobody is to look");

        assert!(!store.fail_quarantined(&gid("b"), Timestamp(9)).await.expect("an answer"));
        assert!(store.fail_quarantined(&gid("a"), Timestamp(9)).await.expect("an answer"));
        assert!(!store.fail_quarantined(&gid("a"), Timestamp(10)).await.expect("an answer"));
        let row = store.load(&[gid("a")]).await.expect("a load").remove(0).row;
        assert_eq!((row.status, row.settled_at), (Status::Failed, Some(Timestamp(9))));
    }

    /// Every column of a row, there and back.
    async fn a_row_is_read_as_it_was_written(backend: Backend) {
        let fresh = Fresh::new(backend).await;
        let store = fresh.connect().await;
        let mut writer = Writer::alone(&store).await;
        let mut append = begin_with("a", Timestamp(5), &[("team", "red"), ("odd", "a\0b\u{1f600}\"'\\")]);
        let workflow = skald_protocol::WorkflowRef { name: "order".into(), version: "1.2.3".into() };
        if let Some(begin) = &mut append.begin {
            begin.workflow = Some(workflow.clone());
            begin.request_digest = [0xff; 32];
            if let Some(plan) = &mut begin.store_plan {
                plan.definition = Some("{\"dsl\": 1}".into());
                plan.plan = vec![0, 255, 1];
            }
        }
        append.record = (0..=255).collect();
        writer.append(append.clone()).await;
        writer.append(skald::store::Append { record: Vec::new(), ..next("a", 1) }).await;
        let parked_by = Some((writer.joined.node, 4));
        writer.project(Projection { next_wake_at: Some(FAR), parked_by, ..projection("a", 2, Status::Confirming) }).await;
        let loaded = store.load(&[gid("a"), gid("unknown")]).await.expect("a load");
        assert_eq!(loaded.len(), 1);
        let row = &loaded[0].row;
        assert_eq!((row.shard, row.status, row.workflow.as_ref()), (7, Status::Confirming, Some(&workflow)));
        assert_eq!((row.request_digest, row.plan, row.created_at), ([0xff; 32], [2; 32], Timestamp(5)));
        assert_eq!((row.next_wake_at, row.parked_by, row.settled_at), (Some(FAR), parked_by, None));
        assert_eq!((row.labels["team"].as_str(), row.labels["odd"].as_str()), ("red", "a\u{fffd}b\u{1f600}\"'\\"));
        assert_eq!(loaded[0].records[0].bytes, append.record);
        assert_eq!((loaded[0].records[1].bytes.len(), loaded[0].records[1].format), (0, skald_engine::journal::FORMAT));
        let plan = store.plan(&[2; 32]).await.expect("an answer").expect("a plan");
        assert_eq!((plan.definition.as_deref(), plan.plan), (Some("{\"dsl\": 1}"), vec![0, 255, 1]));
    }
}

/// The owner's projections and another node's marks of the same rows: whoever waits for the other's row lock judges the
/// row as it is then.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn marks_and_projections_at_one_moment_lose_no_mark() {
    const GIDS: [&str; 3] = ["a", "b", "c"];
    let fresh = Fresh::new(Backend::Postgres).await;
    let store = fresh.connect().await;
    let mut owner = Writer::alone(&store).await;
    owner.commit(&batch(GIDS.map(begin))).await.expect("a commit");
    let mut other = Writer::join(&store, "http://127.0.0.1:2").await;
    for seq in 1..=200 {
        let parked = |text| Projection { next_wake_at: Some(FAR), ..projection(text, seq, Status::Running) };
        let stale = Batch { appends: Vec::new(), projections: GIDS.map(parked).to_vec() };
        let marks = batch(GIDS.map(|text| foreign(text, seq)));
        let (marked, projected) = tokio::join!(other.commit(&marks), owner.commit(&stale));
        assert_eq!(marked.expect("a commit"), [Appended::Durable; 3]);
        projected.expect("a commit");
        assert_eq!(store.foreign(&[7], 10).await.expect("marked").len(), 3, "whichever was first");
        assert_eq!(store.due(&[7], owner.joined.now.plus(LEASE), None, 10).await.expect("due").len(), 3);
        let parked = |text| Projection { next_wake_at: Some(FAR), ..projection(text, seq + 1, Status::Running) };
        let knowing = Batch { appends: Vec::new(), projections: GIDS.map(parked).to_vec() };
        owner.commit(&knowing).await.expect("a commit");
        assert!(store.foreign(&[7], 10).await.expect("none").is_empty());
    }
}
