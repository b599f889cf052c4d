//! A commit whose answer was lost is resolved through the node's row: it landed or it did not, and for each append which.

use std::{sync::Arc, time::Duration};

use skald::store::{Appended, Error, Options, SqlStore, Store};
use skald_tests::{Backend, eventually};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::{Fresh, Writer, batch, begin, next, records};

/// Stands between the store and the server; can swallow answers, and cut every connection.
struct Wire {
    port: u16,
    muted: Arc<watch::Sender<bool>>,
    cut: Arc<watch::Sender<u32>>,
}

impl Wire {
    async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (muted, cut) = (Arc::new(watch::Sender::new(false)), Arc::new(watch::Sender::new(0)));
        let wire = Self { port, muted: muted.clone(), cut: cut.clone() };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&server).await else { continue };
                tokio::spawn(carry(client, server, muted.clone(), cut.subscribe()));
            }
        });
        wire
    }

    fn cut(&self) {
        self.cut.send_modify(|count| *count += 1);
    }
}

async fn carry(client: TcpStream, server: TcpStream, muted: Arc<watch::Sender<bool>>, mut cut: watch::Receiver<u32>) {
    cut.mark_unchanged();
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let answers = async {
        let mut buffer = vec![0; 65_536];
        while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
            if !*muted.borrow() && to_client.write_all(&buffer[..count]).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
        () = answers => {}
        _ = cut.changed() => {}
    }
}

/// A store behind a wire, a node on it, and a connection of the test's own around it.
struct Scene {
    _fresh: Fresh,
    wire: Wire,
    writer: Writer,
    direct: PgConnection,
    /// Sees what the others do: within a transaction the server's activity stands still.
    watch: PgConnection,
}

impl Scene {
    async fn new() -> Self {
        let fresh = Fresh::new(Backend::Postgres).await;
        let (before, after) = fresh.url.split_once('@').expect("a user");
        let (server, database) = after.split_once('/').expect("a database");
        let wire = Wire::to(server.to_owned()).await;
        let url = format!("{before}@127.0.0.1:{}/{database}", wire.port);
        let store = SqlStore::connect(&url, Options::default()).await.expect("a database");
        let mut writer = Writer::alone(&store).await;
        writer.append(begin("a")).await;
        let direct = PgConnection::connect(&fresh.url).await.expect("a connection");
        let watch = PgConnection::connect(&fresh.url).await.expect("a connection");
        Self { _fresh: fresh, wire, writer, direct, watch }
    }

    async fn resolve(&self, work: &skald::store::Batch) -> Result<Option<Vec<Appended>>, Error> {
        // Connections that broke while they lay in the pool are found out one by one.
        let mut answer = self.writer.store.resolve(self.writer.joined.node, self.writer.batch, work).await;
        for _ in 0..10 {
            if !matches!(answer, Err(Error::Unavailable(_))) {
                break;
            }
            answer = self.writer.store.resolve(self.writer.joined.node, self.writer.batch, work).await;
        }
        answer
    }
}

/// Waits until a query counts something.
async fn seen(watch: &mut PgConnection, query: &'static str) {
    while sqlx::query(query).fetch_one(&mut *watch).await.expect("a count").get::<i64, _>(0) == 0 {
        tokio::task::yield_now().await;
    }
}

const BLOCKED: &str = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'WITH node%' \
     AND datname = current_database()";

const KILL_BLOCKED: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
     WHERE wait_event_type = 'Lock' AND query LIKE 'WITH node%' AND datname = current_database()";

const RESOLVE_BLOCKED: &str = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
     AND query LIKE 'SELECT batch%' AND datname = current_database()";

/// In the way of `next("a", 1)` until its transaction ends.
const IN_THE_WAY: &str = "INSERT INTO journal (gid, seq, format, events) VALUES ('a', 1, 1, 'theirs')";

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_found() {
    let mut scene = Scene::new().await;
    let work = batch([next("a", 1), begin("b")]);
    let (store, node, expected) = (scene.writer.store.clone(), scene.writer.joined.node, scene.writer.batch);
    let mut other = scene.direct.begin().await.expect("a transaction");
    other.execute(IN_THE_WAY).await.expect("a row in the way");
    let lost = tokio::spawn({
        let work = work.clone();
        async move { store.append(node, expected, &work).await }
    });
    seen(&mut scene.watch, BLOCKED).await;
    scene.wire.muted.send_replace(true);
    other.rollback().await.expect("a rollback");
    seen(&mut scene.watch, "SELECT count(*) FROM journal WHERE gid = 'b'").await;
    scene.wire.cut();
    assert!(matches!(lost.await.expect("an end"), Err(Error::Unavailable(_))));
    scene.wire.muted.send_replace(false);
    assert_eq!(scene.resolve(&work).await.expect("an answer"), Some(vec![Appended::Durable, Appended::Durable]));
    scene.writer.batch += 1;
    assert_eq!(scene.writer.append(next("a", 2)).await, Appended::Durable);
}

#[tokio::test]
async fn a_commit_that_was_killed_did_not_land_and_can_be_made_again() {
    let mut scene = Scene::new().await;
    let mut holder = scene.direct.begin().await.expect("a transaction");
    holder.execute("SELECT * FROM nodes FOR UPDATE").await.expect("a lock");
    let work = batch([next("a", 1)]);
    let (store, node, expected) = (scene.writer.store.clone(), scene.writer.joined.node, scene.writer.batch);
    let lost = tokio::spawn({
        let work = work.clone();
        async move { store.append(node, expected, &work).await }
    });
    seen(&mut scene.watch, KILL_BLOCKED).await;
    assert!(matches!(lost.await.expect("an end"), Err(Error::Unavailable(_))));
    holder.rollback().await.expect("a rollback");
    assert_eq!(scene.resolve(&work).await.expect("an answer"), None);
    assert_eq!(scene.writer.append(next("a", 1)).await, Appended::Durable);
}

/// The statement still runs on the server when its client has given up; its node row's lock is what is waited for.
async fn a_straggling_commit_is_waited_for(other_commits: bool, expected: Option<[Appended; 2]>) {
    let mut scene = Scene::new().await;
    let mut other = scene.direct.begin().await.expect("a transaction");
    other.execute(IN_THE_WAY).await.expect("a row in the way");
    let work = batch([next("a", 1), begin("b")]);
    let (store, node, batch) = (scene.writer.store.clone(), scene.writer.joined.node, scene.writer.batch);
    let lost = tokio::spawn({
        let work = work.clone();
        async move { store.append(node, batch, &work).await }
    });
    seen(&mut scene.watch, BLOCKED).await;
    scene.wire.cut();
    assert!(matches!(lost.await.expect("an end"), Err(Error::Unavailable(_))));
    let ends = async {
        seen(&mut scene.watch, RESOLVE_BLOCKED).await;
        if other_commits { other.commit().await } else { other.rollback().await }.expect("an end");
    };
    let resolve = async {
        let mut answer = scene.writer.store.resolve(node, batch, &work).await;
        while matches!(answer, Err(Error::Unavailable(_))) {
            answer = scene.writer.store.resolve(node, batch, &work).await;
        }
        answer
    };
    let (answer, ()) = tokio::join!(resolve, ends);
    assert_eq!(answer.expect("an answer"), expected.map(Vec::from));
    if expected.is_none() {
        let answer = scene.writer.commit(&work).await.expect("a commit");
        assert_eq!(answer, [Appended::Conflict, Appended::Durable]);
    }
}

#[tokio::test]
async fn a_lost_commit_that_lands_later_is_durable() {
    a_straggling_commit_is_waited_for(false, Some([Appended::Durable; 2])).await;
}

#[tokio::test]
async fn a_lost_commit_that_meets_another_nodes_append_did_not_land_and_its_next_try_tells_the_conflict() {
    a_straggling_commit_is_waited_for(true, None).await;
}

/// A fail-over to a standby that had not received the last commits.
#[tokio::test]
async fn a_database_that_lost_its_tail_deposes_the_node() {
    let mut scene = Scene::new().await;
    scene.writer.append(next("a", 1)).await;
    scene.direct.execute("UPDATE nodes SET batch = batch - 1").await.expect("a loss");
    let work = batch([next("a", 2)]);
    assert!(matches!(scene.writer.commit(&work).await, Err(Error::Deposed)));
    assert!(matches!(scene.resolve(&work).await, Err(Error::Deposed)));
    assert_eq!(records(&scene.writer.store, "a").await.len(), 2);
}

/// Whatever the server says when it ends a connection, the store comes back by itself.
#[tokio::test]
async fn terminated_backends_are_replaced() {
    let mut scene = Scene::new().await;
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()";
    sqlx::query(AssertSqlSafe(end)).fetch_one(&mut scene.direct).await.expect("ended backends");
    let store = scene.writer.store.clone();
    eventually("the store reads again", Duration::from_secs(10), || async { store.ready().await.ok() }).await;
}
