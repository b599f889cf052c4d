//! A SQLite node whose disk gets full goes on once there is room again, without a restart.

use std::time::Duration;

use serde_json::json;
use skald_tests::{
    Node, Participants,
    begins::Begins,
    definition::{begin, definition, step},
    disk::{SmallDisk, limit_files},
    eventually,
};

const WITHIN: Duration = Duration::from_secs(30);

/// `full`: there is no room any more (true), or again (false).
async fn goes_on(mut node: Node, full: impl Fn(&Node, bool)) {
    let participants = Participants::start().await;
    node.start().await;
    let mut body = begin(&definition(&participants.url(), &json!([step("a")])));
    // So that the room is soon used up.
    body["input"] = json!({"n": 1, "filling": "x".repeat(8_000)});
    let load = Begins::start(&node.client(), &body);
    eventually("begins are taken", WITHIN, || async { (load.count() > 20).then_some(()) }).await;

    full(&node, true);
    eventually("no begin is taken any more", WITHIN, || async {
        let before = load.count();
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        (load.count() == before).then_some(())
    })
    .await;

    assert_eq!(node.client().get("/readyz").await.status, 503, "ready means that a begin would be taken");

    full(&node, false);
    let before = load.count();
    eventually("begins are taken again", WITHIN, || async { (load.count() > before + 20).then_some(()) }).await;
    assert_eq!(node.client().get("/readyz").await.status, 200);
    let acknowledged = load.stop().await;

    let all_there = async |node: &Node| {
        for gid in &acknowledged {
            let answer = node.client().get(&format!("/v1/transactions/{gid}")).await;
            assert_eq!(answer.status, 200, "{gid} was acknowledged: {}", answer.body);
        }
    };
    all_there(&node).await;
    node.kill();
    node.start().await;
    all_there(&node).await;
}

#[tokio::test]
async fn a_node_goes_on_once_a_full_disk_has_room_again() {
    let Some(disk) = SmallDisk::mount(12_000) else {
        // What `a_node_goes_on_once_its_files_may_grow_again` shows everywhere is the same but for the error's code.
        eprintln!("not shown here: this user may not mount a small disk");
        return;
    };
    let node = Node::new(&format!("sqlite://{}", disk.path().join("skald.db").display()));
    goes_on(node, |_, full| if full { disk.fill() } else { disk.free() }).await;
}

#[tokio::test]
async fn a_node_goes_on_once_its_files_may_grow_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = folder.path().join("skald.db");
    // The signal that comes with the error would end a process that does not ignore it.
    let node = Node::new(&format!("sqlite://{}", database.display())).with_launcher(&[
        "sh",
        "-c",
        r#"trap "" XFSZ; exec "$@""#,
        "sh",
    ]);
    let wal = folder.path().join("skald.db-wal");
    goes_on(node, |node, full| {
        let now = std::fs::metadata(&wal).map_or(0, |wal| wal.len());
        limit_files(node, full.then_some(now.min(2 << 20)));
    })
    .await;
}
