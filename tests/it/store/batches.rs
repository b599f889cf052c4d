//! A batch is one commit behind two fences; a conflict of one append leaves the rest standing.

use skald::store::{Appended, Batch, Error, Projection, Store};
use skald_protocol::{Status, Timestamp};
use skald_tests::{Backend, promises};

use super::{Fresh, LEASE, Writer, batch, begin, begin_with, foreign, gid, next, projection, records};

promises! {
    /// What is durable is read back, and due until a projection says otherwise.
    async fn what_is_appended_is_read_back(backend: Backend) {
        let fresh = Fresh::new(backend).await;
        let store = fresh.connect().await;
        store.ready().await.expect("a schema of this build");
        let mut writer = Writer::alone(&store).await;
        let answer = writer.commit(&batch([begin("b"), begin("a")])).await.expect("a commit");
        assert_eq!(answer, [Appended::Durable, Appended::Durable]);
        assert_eq!(writer.append(next("a", 1)).await, Appended::Durable);
        assert_eq!(records(&store, "a").await, [(0, b"a begins".to_vec()), (1, b"a 1".to_vec())]);

        let due = store.due(&[7], Timestamp(1_000), None, 10).await.expect("due ones");
        assert_eq!(due, [(Timestamp(1_000), gid("a")), (Timestamp(1_000), gid("b"))]);
        assert_eq!(store.due(&[7], Timestamp(1_000), Some(due[0].clone()), 10).await.expect("the rest"), due[1..]);
        assert!(store.due(&[6], Timestamp(1_000), None, 10).await.expect("none").is_empty());
        assert!(store.due(&[7], Timestamp(999), None, 10).await.expect("none").is_empty());

        let settled = Projection { settled_at: Some(Timestamp(2_000)), ..projection("a", 2, Status::Succeeded) };
        writer.project(settled).await;
        assert_eq!(store.due(&[7], Timestamp(3_000), None, 10).await.expect("due ones"), [due[1].clone()]);
        let row = store.load(&[gid("a")]).await.expect("a load").remove(0).row;
        assert_eq!((row.status, row.settled_at), (Status::Succeeded, Some(Timestamp(2_000))));
        assert_eq!((row.request_digest, row.plan, row.expired), ([1; 32], [2; 32], false));
        assert!(store.plan(&[2; 32]).await.expect("a plan").is_some());
        assert!(store.plan(&[3; 32]).await.expect("no plan").is_none());
    }

    /// Nothing of a batch by a node that is not who it was is written.
    async fn a_deposed_node_changes_nothing(backend: Backend) {
        let fresh = Fresh::new(backend).await;
        let store = fresh.connect().await;
        let mut old = Writer::alone(&store).await;
        old.append(begin("a")).await;
        let new = Writer::join(&store, "http://127.0.0.1:1").await;
        assert_eq!(new.joined.shards.len(), 64, "the earlier life's shards are taken at once");
        let settled = Projection { settled_at: Some(Timestamp(2_000)), ..projection("a", 1, Status::Succeeded) };
        let work = Batch { appends: vec![next("a", 1), begin("b")], projections: vec![settled] };
        assert!(matches!(old.commit(&work).await, Err(Error::Deposed)));
        assert_eq!(records(&store, "a").await.len(), 1);
        assert!(store.load(&[gid("b")]).await.expect("a load").is_empty());
        assert_eq!(store.load(&[gid("a")]).await.expect("a load")[0].row.status, Status::Running);
        assert!(matches!(store.heartbeat(old.joined.node, LEASE, false).await, Err(Error::Deposed)));
        assert!(matches!(store.claim(old.joined.node, 1).await, Err(Error::Deposed)));
    }

    /// A batch number that is not the node's own: its memory is not what the database holds.
    async fn a_batch_out_of_turn_changes_nothing(backend: Backend) {
        let fresh = Fresh::new(backend).await;
        let store = fresh.connect().await;
        let mut writer = Writer::alone(&store).await;
        writer.append(begin("a")).await;
        writer.batch = 0;
        assert!(matches!(writer.commit(&batch([next("a", 1)])).await, Err(Error::Deposed)));
        assert_eq!(records(&store, "a").await.len(), 1);
    }

    /// One conflict of each nature, and the rest of the batch stands.
    async fn a_conflict_leaves_the_rest_standing(backend: Backend) {
        let fresh = Fresh::new(backend).await;
        let store = fresh.connect().await;
        let mut one = Writer::alone(&store).await;
        one.commit(&batch([begin("a"), begin("b"), begin("c")])).await.expect("a commit");
        let other = Writer::join(&store, "http://127.0.0.1:2").await;
        if backend == Backend::Sqlite {
            // There the later one is the only one.
            one = other;
        }
        one.append(next("a", 1)).await;
        let settled = |text: &str| Projection {
            settled_at: Some(Timestamp(2_000)),
            ..projection(text, 2, Status::Succeeded)
        };
        let owned = begin_with("a", Timestamp(1), &[("team", "red")]);
        let work = Batch {
            appends: vec![next("c", 1), next("a", 1), begin("d"), foreign("nobody", 1), owned.clone()],
            projections: vec![settled("a"), settled("c")],
        };
        assert!(matches!(one.commit(&work).await, Err(Error::Refused(_))), "two appends of one transaction");
        let work = Batch { appends: work.appends[..4].to_vec(), ..work };
        let answer = one.commit(&work).await.expect("a commit");
        assert_eq!(answer, [Appended::Durable, Appended::Conflict, Appended::Durable, Appended::Conflict]);
        let status = async |text: &str| store.load(&[gid(text)]).await.expect("a load")[0].row.status;
        assert_eq!(status("c").await, Status::Succeeded, "beside an append that landed");
        assert_eq!(status("a").await, Status::Running, "beside one that did not");
        assert_eq!(records(&store, "nobody").await, []);

        assert_eq!(one.append(owned).await, Appended::Conflict, "the gid exists");
        let row = store.load(&[gid("a")]).await.expect("a load").remove(0);
        assert!(row.row.labels.is_empty());
        assert_eq!(row.records[0].bytes, b"a begins");
    }
}
