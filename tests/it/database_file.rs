//! A SQLite file that was removed, replaced, cut off or written over under a running node: nothing more is acknowledged.

use std::{
    fs,
    io::{Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::json;
use skald_tests::{
    Node, Participants,
    begins::{Begins, CLIENTS},
    client,
    definition::{begin, definition, step},
    eventually,
};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, SqliteConnection};
use tempfile::TempDir;

const WITHIN: Duration = Duration::from_secs(30);

struct Scene {
    participants: Participants,
    node: Node,
    folder: TempDir,
    begins: Begins,
}

impl Scene {
    /// A node that clients begin transactions at, on a file of some size.
    async fn start() -> Self {
        let participants = Participants::start().await;
        let folder = tempfile::tempdir().expect("a folder");
        let mut node = Node::new(&format!("sqlite://{}", folder.path().join("skald.db").display()));
        node.start().await;
        let mut body = begin(&definition(&participants.url(), &json!([step("a")])));
        body["input"] = json!({"n": 1, "filling": "x".repeat(2_000)});
        let begins = Begins::start(&node.client(), &body);
        let scene = Self { participants, node, folder, begins };
        scene.goes_on().await;
        // So that there is something in the file itself, and not all of it in the log.
        sqlite(&scene.file("")).await.execute("PRAGMA wal_checkpoint(PASSIVE)").await.expect("a checkpoint");
        scene.goes_on().await;
        scene
    }

    fn file(&self, suffix: &str) -> PathBuf {
        self.folder.path().join(format!("skald.db{suffix}"))
    }

    async fn goes_on(&self) {
        let before = self.begins.count();
        eventually("begins are taken", WITHIN, || async { (self.begins.count() > before + 50).then_some(()) }).await;
    }

    async fn metric(&self, name: &str) -> Option<String> {
        let text = client::http().get(format!("{}/metrics", self.node.url())).send().await.ok()?.text().await.ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned))
    }

    /// `acknowledged`: how many were when the file had been changed.
    async fn stopped(mut self, acknowledged: usize, told: &str) {
        eventually("the node is not ready", WITHIN, || async {
            let answer = self.node.client().get("/readyz").await;
            (answer.code() == "database_damaged").then_some(())
        })
        .await;
        let arrived = self.participants.arrived();
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(self.participants.arrived(), arrived, "no participant is called any more");

        let client = self.node.client();
        let ready = client.get("/readyz").await;
        assert_eq!(ready.status, 503, "{}", ready.body);
        for answer in [
            ready,
            client.post("/v1/transactions", &begin(&definition("http://127.0.0.1:9", &json!([step("a")])))).await,
            client.command("begin-0-0", "cancel", &json!({})).await,
            client.get("/v1/transactions/begin-0-0").await,
            client.publish(&definition("http://127.0.0.1:9", &json!([step("a")]))).await,
        ] {
            assert_eq!((answer.status, answer.code()), (503, "database_damaged"), "{}", answer.body);
            assert!(answer.body["detail"].as_str().is_some_and(|detail| detail.contains(told)), "{}", answer.body);
        }
        assert_eq!(self.metric("skald_database_damaged_total").await.as_deref(), Some("1"));
        let log = self.node.log();
        assert_eq!(log.lines().filter(|line| line.contains("ERROR")).count(), 1, "{log}");
        self.node.terminate().await;

        // What a commit that was under way had acknowledged: one begin a client at most.
        let after = self.begins.stop().await.len() - acknowledged;
        assert!(after <= CLIENTS, "{after} begins were acknowledged after the file was changed");
    }
}

/// As another process has it open.
async fn sqlite(path: &Path) -> SqliteConnection {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path).busy_timeout(WITHIN);
    options.disable_statement_logging().connect().await.expect("a database")
}

async fn changed(told: &str, change: impl AsyncFnOnce(&Scene)) {
    let scene = Scene::start().await;
    change(&scene).await;
    let acknowledged = scene.begins.count();
    scene.stopped(acknowledged, told).await;
}

fn write_over(path: &Path, from: u64, length: u64) {
    let mut file = fs::File::options().write(true).open(path).expect("a file");
    file.seek(SeekFrom::Start(from)).expect("a place");
    file.write_all(&vec![0xa5; usize::try_from(length).expect("a length")]).expect("a write");
}

fn cut(path: &Path, length: impl FnOnce(u64) -> u64) {
    let file = fs::File::options().write(true).open(path).expect("a file");
    let now = file.metadata().expect("a length").len();
    file.set_len(length(now)).expect("a cut");
}

#[tokio::test]
async fn nothing_is_acknowledged_into_a_file_that_was_deleted() {
    changed("skald.db was removed", async |scene| fs::remove_file(scene.file("")).expect("a file")).await;
}

#[tokio::test]
async fn nothing_is_acknowledged_into_a_file_that_was_replaced() {
    changed("skald.db was replaced", async |scene| {
        let other = scene.file("-other");
        fs::copy(scene.file(""), &other).expect("a copy");
        fs::rename(&other, scene.file("")).expect("a file in its place");
    })
    .await;
}

#[tokio::test]
async fn nothing_is_acknowledged_into_a_file_that_was_cut_off() {
    changed("skald.db", async |scene| cut(&scene.file(""), |length| length / 8192 * 4096)).await;
}

#[tokio::test]
async fn nothing_is_acknowledged_into_a_file_that_was_emptied() {
    changed("skald.db", async |scene| cut(&scene.file(""), |_| 0)).await;
}

#[tokio::test]
async fn nothing_is_acknowledged_into_a_log_that_was_deleted() {
    changed("skald.db-wal was removed", async |scene| fs::remove_file(scene.file("-wal")).expect("a log")).await;
}

#[tokio::test]
async fn nothing_is_acknowledged_into_a_log_that_was_cut_off() {
    changed("skald.db", async |scene| cut(&scene.file("-wal"), |length| length / 2)).await;
}

#[tokio::test]
async fn nothing_is_acknowledged_into_a_log_that_was_emptied() {
    changed("skald.db", async |scene| cut(&scene.file("-wal"), |_| 0)).await;
}

#[tokio::test]
async fn nothing_is_acknowledged_without_the_index_of_the_log() {
    changed("skald.db-shm was removed", async |scene| fs::remove_file(scene.file("-shm")).expect("an index")).await;
}

#[tokio::test]
async fn nothing_is_acknowledged_into_a_file_whose_pages_were_written_over() {
    changed("skald.db", async |scene| {
        let length = fs::metadata(scene.file("")).expect("a file").len();
        write_over(&scene.file(""), 0, length);
    })
    .await;
}

/// Of what no commit reads: whoever reads it first stops the node.
#[tokio::test]
async fn nothing_is_acknowledged_once_a_damaged_page_was_met() {
    let scene = Scene::start().await;
    let root = "SELECT rootpage FROM sqlite_schema WHERE name = 'sqlite_autoindex_skald_schema_1'";
    let page: u64 = sqlx::query_scalar(root).fetch_one(&mut sqlite(&scene.file("")).await).await.expect("a page");
    write_over(&scene.file(""), (page - 1) * 4096, 4096);
    eventually("the page is met", WITHIN, || async {
        (scene.node.client().get("/readyz").await.status != 200).then_some(())
    })
    .await;
    let acknowledged = scene.begins.count();
    scene.stopped(acknowledged, "SQLite finds").await;
}

/// What an operator may do to a file in use.
#[tokio::test]
async fn backups_checkpoints_and_a_vacuum_do_not_stop_a_node() {
    let mut scene = Scene::start().await;
    for round in 0..3 {
        for checkpoint in ["PASSIVE", "FULL", "RESTART", "TRUNCATE"] {
            let checkpoint = AssertSqlSafe(format!("PRAGMA wal_checkpoint({checkpoint})"));
            sqlite(&scene.file("")).await.execute(checkpoint).await.expect("a checkpoint");
            scene.goes_on().await;
        }
        let backup = AssertSqlSafe(format!("VACUUM INTO '{}'", scene.file(&format!("-backup-{round}")).display()));
        sqlite(&scene.file("")).await.execute(backup).await.expect("a backup");
        scene.goes_on().await;
        for suffix in ["", "-wal", "-shm"] {
            fs::copy(scene.file(suffix), scene.folder.path().join(format!("copy{suffix}"))).expect("a copy");
        }
        scene.goes_on().await;
        let mut other = sqlite(&scene.file("")).await;
        other.execute("VACUUM").await.expect("a compacted database");
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)").await.expect("a checkpoint");
        other.close().await.expect("an end");
        scene.goes_on().await;
    }
    assert_eq!(scene.metric("skald_database_damaged_total").await.as_deref(), Some("0"));
    assert_eq!(scene.node.client().get("/readyz").await.status, 200);
    scene.node.kill();
    let acknowledged = scene.begins.stop().await;
    scene.node.start().await;
    for gid in &acknowledged {
        let answer = scene.node.client().get(&format!("/v1/transactions/{gid}")).await;
        assert_eq!(answer.status, 200, "{gid} was acknowledged: {}", answer.body);
    }
}
