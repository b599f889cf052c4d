//! How a database is reached, and what is said when it is not.

use std::{error::Error as _, time::Duration};

use futures_util::future::join_all;
use skald::store::{Append, Batch, Error, Options, Projection, SqlStore, Store};
use skald_protocol::{Status, Timestamp};
use skald_tests::Backend;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};

use super::{Fresh, Writer, batch, begin, next, projection, records};

fn hasty() -> Options {
    let timeout = Duration::from_millis(500);
    Options { acquire_timeout: timeout, statement_timeout: timeout * 2, ..Options::default() }
}

#[tokio::test]
async fn no_error_tells_a_password() {
    let fresh = Fresh::empty(Backend::Postgres).await;
    let (_, server) = fresh.url.split_once('@').expect("a user");
    let urls = [
        "postgres://skald:hunter2@127.0.0.1:1/skald".to_owned(),
        "postgres://skald:hunter2@127.0.0.1:hunter2/skald".to_owned(),
        "postgres://skald:hunter2@[::1/skald".to_owned(),
        "mysql://skald:hunter2@localhost/skald".to_owned(),
        "skald:hunter2@localhost".to_owned(),
        format!("postgres://nobody:hunter2@{server}"),
        format!("postgres://postgres:hunter2@{server}_that_is_not"),
        "postgres://skald:hunter2@localhost/skald?sslmode=hunter2".to_owned(),
    ];
    for url in urls {
        let error = SqlStore::connect(&url, hasty()).await.expect_err("no database");
        let mut said = format!("{error} {error:?}");
        let mut source = error.source();
        while let Some(error) = source {
            said.push_str(&error.to_string());
            source = error.source();
        }
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[tokio::test]
async fn a_role_at_its_connection_limit_is_told_as_postgres_tells_it() {
    let fresh = Fresh::empty(Backend::Postgres).await;
    let mut connection = PgConnection::connect(&fresh.url).await.expect("a database");
    let role = format!("limited_{}", std::process::id());
    sqlx::raw_sql(AssertSqlSafe(format!("CREATE ROLE {role} LOGIN CONNECTION LIMIT 0")))
        .execute(&mut connection)
        .await
        .expect("a role");
    let (_, server) = fresh.url.split_once('@').expect("a user");
    let error = SqlStore::connect(&format!("postgres://{role}@{server}"), hasty()).await.expect_err("no place");
    let said = format!("{error}: {}", error.source().map(ToString::to_string).unwrap_or_default());
    assert!(said.contains("too many connections for role"), "{said}");
    assert!(matches!(error, Error::Unavailable(_)), "it may pass: {error:?}");
    sqlx::raw_sql(AssertSqlSafe(format!("DROP ROLE {role}"))).execute(&mut connection).await.expect("no role");
}

#[tokio::test]
async fn what_an_operator_must_set_right_is_misconfigured() {
    let directory = tempfile::tempdir().expect("a directory");
    let torn = directory.path().join("torn.db");
    std::fs::write(&torn, "this is no database, however long it goes on".repeat(100)).expect("a file");
    let fresh = Fresh::empty(Backend::Postgres).await;
    for url in [
        String::new(),
        "mysql://localhost/skald".into(),
        "sqlite://".into(),
        "sqlite:///nowhere/at/all/skald.db".into(),
        format!("sqlite://{}", directory.path().display()),
        format!("sqlite://{}", torn.display()),
        format!("{}_that_is_not", fresh.url),
    ] {
        let error = SqlStore::connect(&url, hasty()).await.expect_err("no database");
        assert!(matches!(error, Error::Misconfigured(_)), "{url}: {error:?}");
    }
    let away = SqlStore::connect("postgres://skald@127.0.0.1:1/skald", hasty()).await.expect_err("no server");
    assert!(matches!(away, Error::Unavailable(_)), "{away:?}");
}

#[tokio::test]
async fn a_sqlite_file_belongs_to_one_process() {
    let fresh = Fresh::new(Backend::Sqlite).await;
    let store = fresh.connect().await;
    let second = SqlStore::connect(&fresh.url, Options::default()).await.expect_err("in use");
    assert!(matches!(second, Error::Misconfigured(_)) && second.to_string().contains("in use"), "{second}");
    store.close().await;
    drop(store);
    fresh.connect().await.ready().await.expect("free again");
}

#[tokio::test]
async fn memory_is_a_database_too() {
    let store = SqlStore::connect("sqlite::memory:", Options::default()).await.expect("memory");
    store.migrate().await.expect("a schema");
    store.ready().await.expect("ready");
    let mut writer = Writer::alone(&store).await;
    writer.append(begin("a")).await;
    assert_eq!(records(&store, "a").await.len(), 1);
}

/// What a pooler in transaction mode needs: nothing is left behind on a connection.
#[tokio::test]
async fn behind_a_pooler_no_session_state_is_left() {
    let fresh = Fresh::new(Backend::Postgres).await;
    let options = Options { transaction_pooler: true, connections: 1, ..Options::default() };
    let store = SqlStore::connect(&fresh.url, options).await.expect("a database");
    let mut writer = Writer::alone(&store).await;
    for seq in 0..5 {
        writer.append(if seq == 0 { begin("a") } else { next("a", seq) }).await;
    }
    assert_eq!(records(&store, "a").await.len(), 5);
    writer.batch = 0;
    assert!(matches!(writer.commit(&batch([next("a", 5)])).await, Err(Error::Deposed)));
    let mut direct = PgConnection::connect(&fresh.url).await.expect("a connection");
    let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle' \
         AND pid <> pg_backend_pid()";
    while sqlx::query(open).fetch_one(&mut direct).await.expect("a count").get::<i64, _>(0) > 0 {}
}

/// One server process has written, and is warm for, all batches; where it is ended, the next batch finds another.
#[tokio::test]
async fn batches_stay_on_one_connection() {
    let fresh = Fresh::new(Backend::Postgres).await;
    let store = fresh.connect().await;
    let mut writer = Writer::alone(&store).await;
    // The pool has more than one, each of which would have its turn.
    let settings = (0..3).map(|_| store.setting("key", b"value"));
    join_all(settings).await.into_iter().for_each(|setting| drop(setting.expect("a setting")));
    for seq in 0..20 {
        writer.append(if seq == 0 { begin("a") } else { next("a", seq) }).await;
    }
    let mut direct = PgConnection::connect(&fresh.url).await.expect("a connection");
    let writers = "FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'WITH node%'";
    let count = sqlx::query(AssertSqlSafe(format!("SELECT count(*) {writers}")));
    assert_eq!(count.fetch_one(&mut direct).await.expect("a count").get::<i64, _>(0), 1);
    let end = sqlx::query(AssertSqlSafe(format!("SELECT count(pg_terminate_backend(pid)) {writers}")));
    end.fetch_one(&mut direct).await.expect("an end");
    // Long enough for a connection to be tried before it is used.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    writer.append(next("a", 20)).await;
    assert_eq!(records(&store, "a").await.len(), 21);
    tokio::time::timeout(Duration::from_secs(5), store.close()).await.expect("an end in time");
}

/// Plans that were made when the tables were empty still look up keys when they are full, if nothing ever analyzes them.
#[tokio::test]
async fn a_plan_from_empty_tables_never_scans_them_later() {
    let (read, looked_up) = scanned_and_looked_up(None).await;
    assert!(looked_up >= 3_000, "{looked_up}");
    assert!(read < 3_000, "{read} rows were read by scans");
}

/// The same where the database analyzes them while they are small: each table may be scanned anew until it has grown past
/// its first pages, and not for longer.
#[tokio::test]
async fn a_plan_from_tables_analyzed_while_small_soon_looks_up_keys() {
    let (read, looked_up) = scanned_and_looked_up(Some(2)).await;
    assert!(looked_up >= 3_000, "{looked_up}");
    assert!(read < 15_000, "{read} rows were read by scans");
}

/// Rows read by scans and keys looked up while 3,000 transactions begin and settle, 50 a batch; `analyzed`: after which batch.
async fn scanned_and_looked_up(analyzed: Option<usize>) -> (i64, i64) {
    const ROUNDS: usize = 60;
    let fresh = Fresh::new(Backend::Postgres).await;
    let store = fresh.connect().await;
    let mut direct = PgConnection::connect(&fresh.url).await.expect("a connection");
    for table in ["transactions", "journal", "labels", "nodes", "shards", "plans"] {
        let unattended = format!("ALTER TABLE {table} SET (autovacuum_enabled = false)");
        sqlx::query(AssertSqlSafe(unattended)).execute(&mut direct).await.expect("an option");
    }
    let mut writer = Writer::alone(&store).await;
    for round in 0..ROUNDS {
        if analyzed == Some(round) {
            sqlx::query("ANALYZE").execute(&mut direct).await.expect("statistics");
        }
        let texts: Vec<String> = (0..50).map(|index| format!("r{round}-{index}")).collect();
        writer.commit(&batch(texts.iter().map(|text| begin(text)))).await.expect("a commit");
        let settled =
            |text: &String| Projection { settled_at: Some(Timestamp(2)), ..projection(text, 2, Status::Succeeded) };
        let foreign = |text: &String| Append { foreign: round % 2 == 0, ..next(text, 1) };
        let work =
            Batch { appends: texts.iter().map(foreign).collect(), projections: texts.iter().map(settled).collect() };
        writer.commit(&work).await.expect("a commit");
    }
    drop(writer);
    store.close().await;
    // A backend reports what it did when it ends.
    let ended = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    while sqlx::query(ended).fetch_one(&mut direct).await.expect("a count").get::<i64, _>(0) > 0 {}
    let scanned = "SELECT coalesce(sum(seq_tup_read), 0)::bigint, coalesce(sum(idx_scan), 0)::bigint \
         FROM pg_stat_user_tables WHERE relname IN ('transactions', 'journal', 'labels')";
    let row = sqlx::query(scanned).fetch_one(&mut direct).await.expect("counts");
    (row.get(0), row.get(1))
}
