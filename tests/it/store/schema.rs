//! One schema in two spellings, and versions that say what to do.

use std::collections::{BTreeMap, BTreeSet};

use skald::store::{Error, Store};
use skald_protocol::Status;
use skald_tests::{Backend, promises};
use sqlx::{
    ConnectOptions as _, Connection as _, Executor as _, PgConnection, Row as _, SqliteConnection,
    sqlite::SqliteConnectOptions,
};

use super::{Fresh, LEASE, Writer};

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Column {
    kind: &'static str,
    nullable: bool,
    /// Its place in the primary key, from 1.
    key: i64,
}

type Tables = BTreeMap<(String, String), Column>;

fn kind(name: &str) -> &'static str {
    match name.to_ascii_lowercase().as_str() {
        "bigint" | "integer" => "number",
        "bytea" | "uuid" | "blob" => "bytes",
        "text" => "text",
        "boolean" => "boolean",
        other => panic!("a type that no test knows: {other}"),
    }
}

async fn postgres() -> (Tables, BTreeSet<String>, String) {
    let fresh = Fresh::new(Backend::Postgres).await;
    let mut direct = PgConnection::connect(&fresh.url).await.expect("a connection");
    let columns = "SELECT c.table_name, c.column_name, c.data_type, c.is_nullable = 'YES', coalesce(k.ordinal_position, 0)::bigint \
         FROM information_schema.columns c LEFT JOIN information_schema.key_column_usage k \
         ON k.table_name = c.table_name AND k.column_name = c.column_name AND k.table_schema = c.table_schema \
         WHERE c.table_schema = 'public'";
    let tables = sqlx::query(columns).fetch_all(&mut direct).await.expect("columns").into_iter().map(|row| {
        let column = Column { kind: kind(row.get(2)), nullable: row.get(3), key: row.get(4) };
        ((row.get(0), row.get(1)), column)
    });
    let tables = tables.collect();
    let indexes = "SELECT regexp_replace(indexdef, '^CREATE (.*) USING btree', '\\1') FROM pg_indexes \
         WHERE schemaname = 'public' AND indexname NOT LIKE '%\\_pkey'";
    let indexes = sqlx::query(indexes).fetch_all(&mut direct).await.expect("indexes");
    let indexes = indexes.into_iter().map(|row| plain(row.get(0))).collect();
    let check = "SELECT string_agg(pg_get_constraintdef(oid), ' ') FROM pg_constraint WHERE contype = 'c' \
         AND conrelid = 'transactions'::regclass";
    let check = sqlx::query(check).fetch_one(&mut direct).await.expect("a check").get(0);
    (tables, indexes, check)
}

async fn sqlite() -> (Tables, BTreeSet<String>, String) {
    let fresh = Fresh::new(Backend::Sqlite).await;
    let mut direct = SqliteConnection::connect(&fresh.url).await.expect("a connection");
    let columns = "SELECT m.name, c.name, c.type, NOT c.\"notnull\", c.pk FROM sqlite_master m, pragma_table_info(m.name) c \
         WHERE m.type = 'table'";
    let tables = sqlx::query(columns).fetch_all(&mut direct).await.expect("columns").into_iter().map(|row| {
        let column = Column { kind: kind(row.get(2)), nullable: row.get(3), key: row.get(4) };
        ((row.get(0), row.get(1)), column)
    });
    let tables = tables.collect();
    let indexes = sqlx::query("SELECT sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL");
    let indexes = indexes.fetch_all(&mut direct).await.expect("indexes");
    let indexes = indexes.into_iter().map(|row| plain(row.get(0))).collect();
    let table = sqlx::query("SELECT sql FROM sqlite_master WHERE name = 'transactions'");
    let table = table.fetch_one(&mut direct).await.expect("a table").get(0);
    (tables, indexes, table)
}

/// An index' definition without what only one of the two writes.
fn plain(definition: &str) -> String {
    let text = definition.trim_start_matches("CREATE ").replace("public.", "").replace(['(', ')'], " ");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn both_databases_have_the_same_schema() {
    let (postgres, sqlite) = (postgres().await, sqlite().await);
    assert!(postgres.0.len() > 40);
    assert_eq!(postgres.0, sqlite.0);
    assert_eq!(postgres.1, sqlite.1);
}

#[tokio::test]
async fn the_databases_know_every_status_and_no_other() {
    let known: BTreeSet<&str> = Status::ALL.iter().map(|status| status.as_str()).collect();
    for text in [postgres().await.2, sqlite().await.2] {
        let quoted: BTreeSet<&str> = text.split('\'').skip(1).step_by(2).collect();
        assert_eq!(quoted, known);
    }
}

promises! {
    async fn a_database_without_schema_says_how_to_make_it(backend: Backend) {
        let fresh = Fresh::empty(backend).await;
        let store = fresh.connect().await;
        for error in [store.ready().await.expect_err("no schema"), store.join("x", LEASE).await.expect_err("none")] {
            let text = error.to_string();
            assert!(matches!(error, Error::Misconfigured(_)) && text.contains("`skald migrate`"), "{text}");
        }
        store.migrate().await.expect("a schema");
        store.migrate().await.expect("the same again");
        store.ready().await.expect("ready");
        Writer::alone(&store).await;
    }

    async fn an_older_schema_is_brought_up_and_keeps_what_it_holds(backend: Backend) {
        let fresh = Fresh::empty(backend).await;
        let version = "CREATE TABLE skald_schema (version bigint NOT NULL PRIMARY KEY, applied_at bigint NOT NULL); \
            INSERT INTO skald_schema (version, applied_at) VALUES (1, 0); \
            INSERT INTO settings (name, value) VALUES ('key', 'old')";
        match backend {
            Backend::Postgres => {
                let mut direct = PgConnection::connect(&fresh.url).await.expect("a connection");
                direct.execute(include_str!("../../../migrations/postgres/0001_spine.sql")).await.expect("a schema");
                direct.execute(version).await.expect("its mark");
            }
            Backend::Sqlite => {
                let options: SqliteConnectOptions = fresh.url.parse().expect("a URL");
                let mut direct = options.create_if_missing(true).connect().await.expect("a connection");
                direct.execute(include_str!("../../../migrations/sqlite/0001_spine.sql")).await.expect("a schema");
                direct.execute(version).await.expect("its mark");
                direct.close().await.expect("closed");
            }
        }
        let store = fresh.connect().await;
        let text = store.ready().await.expect_err("an older schema").to_string();
        assert!(text.contains("version 1") && text.contains("`skald migrate`"), "{text}");
        store.migrate().await.expect("this build's schema");
        store.ready().await.expect("ready");
        assert_eq!(store.setting("key", b"new").await.expect("a value"), b"old");
        assert_eq!(store.latest("order").await.expect("an answer"), None);
    }

    async fn a_newer_schema_is_left_alone(backend: Backend) {
        let fresh = Fresh::new(backend).await;
        let newer = "INSERT INTO skald_schema (version, applied_at) VALUES (1000, 0)";
        match backend {
            Backend::Postgres => {
                let mut direct = PgConnection::connect(&fresh.url).await.expect("a connection");
                direct.execute(newer).await.expect("a newer build's mark");
            }
            Backend::Sqlite => {
                let mut direct = SqliteConnection::connect(&fresh.url).await.expect("a connection");
                direct.execute(newer).await.expect("a newer build's mark");
            }
        }
        let store = fresh.connect().await;
        for error in [store.ready().await.expect_err("newer"), store.migrate().await.expect_err("newer")] {
            let text = error.to_string();
            assert!(matches!(error, Error::Misconfigured(_)) && text.contains("newer"), "{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_migrate_at_once_do_so_one_after_the_other() {
    for _ in 0..5 {
        let fresh = Fresh::empty(Backend::Postgres).await;
        let all = (0..4).map(|_| {
            let url = fresh.url.clone();
            tokio::spawn(async move {
                let store = skald::store::SqlStore::connect(&url, skald::store::Options::default()).await;
                store.expect("a database").migrate().await.expect("a schema");
            })
        });
        for one in all.collect::<Vec<_>>() {
            one.await.expect("a migration");
        }
    }
}
