use skald_protocol::{BranchId, Gid, OperationKind, Timestamp};

use super::Horizon;

/// The key of a row.
#[derive(Debug)]
pub struct Key {
    pub(super) gid: Gid,
    pub(super) branch: BranchId,
    pub(super) operation: OperationKind,
}

/// A row as it is committed.
#[derive(Debug)]
pub struct Row {
    /// The operation that wrote it: an undo also writes the row of what it undoes.
    pub(super) written_by: String,
    pub(super) outcome: String,
    pub(super) response: Option<String>,
}

type Raw = (String, String, Option<String>);

fn row((written_by, outcome, response): Raw) -> Row {
    Row { written_by, outcome, response }
}

/// What the barrier needs of a database. Implemented for sqlx's Postgres, MySQL (and MariaDB) and SQLite.
pub trait Dialect: sqlx::Database {
    /// How a local transaction starts: one that writes at once must not start as a reader on SQLite.
    const BEGIN: &'static str;
    /// The tables, one statement each; they may be run again.
    const TABLES: &'static [&'static str];

    /// False: the row is there already. Waits for a transaction under way that has inserted it.
    fn insert(
        conn: &mut Self::Connection,
        key: &Key,
        written_by: OperationKind,
        outcome: &'static str,
        began: Timestamp,
    ) -> impl Future<Output = sqlx::Result<bool>> + Send;

    /// The newest committed row (or this transaction's own), whatever the isolation level.
    fn find(conn: &mut Self::Connection, key: &Key) -> impl Future<Output = sqlx::Result<Option<Row>>> + Send;

    /// Fills in what became of the operation.
    fn decide(
        conn: &mut Self::Connection,
        key: &Key,
        outcome: &'static str,
        response: Option<&str>,
    ) -> impl Future<Output = sqlx::Result<()>> + Send;

    /// `None`: nothing was ever removed.
    fn horizon(conn: &mut Self::Connection) -> impl Future<Output = sqlx::Result<Option<Horizon>>> + Send;

    /// The horizon, and when it was set.
    fn drawn(conn: &mut Self::Connection) -> impl Future<Output = sqlx::Result<Option<(Horizon, Timestamp)>>> + Send;

    /// Moves the horizon, unless another did since `before` was read.
    fn draw(
        conn: &mut Self::Connection,
        before: Option<Timestamp>,
        horizon: Horizon,
        now: Timestamp,
    ) -> impl Future<Output = sqlx::Result<()>> + Send;

    /// Removes the rows of transactions that began before; how many.
    fn remove(conn: &mut Self::Connection, before: Horizon) -> impl Future<Output = sqlx::Result<u64>> + Send;

    /// Runs one of the barrier's own statements (a savepoint, a table).
    fn execute(conn: &mut Self::Connection, statement: &'static str) -> impl Future<Output = sqlx::Result<()>> + Send;

    /// The database asks for the whole transaction again: a serialization failure, a deadlock, a busy database.
    fn is_serialization_failure(error: &sqlx::Error) -> bool;
}

/// The statements are the same everywhere but for how a parameter is written and how a taken key is passed over.
macro_rules! dialect {
    ($database:ty {
        begin: $begin:literal,
        tables: $tables:expr,
        insert: $insert:literal,
        find: $find:literal,
        decide: $decide:literal,
        draw: $draw:literal,
        redraw: $redraw:literal,
        remove: $remove:literal,
        serialization_failure: $failure:expr $(,)?
    }) => {
        impl Dialect for $database {
            const BEGIN: &'static str = $begin;
            const TABLES: &'static [&'static str] = $tables;

            async fn insert(
                conn: &mut Self::Connection,
                key: &Key,
                written_by: OperationKind,
                outcome: &'static str,
                began: Timestamp,
            ) -> sqlx::Result<bool> {
                let inserted = sqlx::query($insert)
                    .bind(key.gid.as_str())
                    .bind(key.branch.as_str())
                    .bind(key.operation.as_str())
                    .bind(written_by.as_str())
                    .bind(outcome)
                    .bind(began.0)
                    .execute(conn)
                    .await?;
                Ok(inserted.rows_affected() == 1)
            }

            async fn find(conn: &mut Self::Connection, key: &Key) -> sqlx::Result<Option<Row>> {
                let found = sqlx::query_as::<_, Raw>($find)
                    .bind(key.gid.as_str())
                    .bind(key.branch.as_str())
                    .bind(key.operation.as_str())
                    .fetch_optional(conn)
                    .await?;
                Ok(found.map(row))
            }

            async fn decide(
                conn: &mut Self::Connection,
                key: &Key,
                outcome: &'static str,
                response: Option<&str>,
            ) -> sqlx::Result<()> {
                sqlx::query($decide)
                    .bind(outcome)
                    .bind(response)
                    .bind(key.gid.as_str())
                    .bind(key.branch.as_str())
                    .bind(key.operation.as_str())
                    .execute(conn)
                    .await?;
                Ok(())
            }

            async fn horizon(conn: &mut Self::Connection) -> sqlx::Result<Option<Horizon>> {
                let horizon: Option<i64> = sqlx::query_scalar("SELECT horizon FROM skald_barrier_horizon WHERE id = 1")
                    .fetch_optional(conn)
                    .await?;
                Ok(horizon.map(Timestamp))
            }

            async fn drawn(conn: &mut Self::Connection) -> sqlx::Result<Option<(Horizon, Timestamp)>> {
                let row: Option<(i64, i64)> =
                    sqlx::query_as("SELECT horizon, set_at FROM skald_barrier_horizon WHERE id = 1")
                        .fetch_optional(conn)
                        .await?;
                Ok(row.map(|(horizon, set_at)| (Timestamp(horizon), Timestamp(set_at))))
            }

            async fn draw(
                conn: &mut Self::Connection,
                before: Option<Timestamp>,
                horizon: Horizon,
                now: Timestamp,
            ) -> sqlx::Result<()> {
                match before {
                    None => sqlx::query($draw).bind(horizon.0).bind(now.0).execute(conn).await?,
                    Some(before) => {
                        sqlx::query($redraw).bind(horizon.0).bind(now.0).bind(before.0).execute(conn).await?
                    }
                };
                Ok(())
            }

            async fn remove(conn: &mut Self::Connection, before: Horizon) -> sqlx::Result<u64> {
                Ok(sqlx::query($remove).bind(before.0).execute(conn).await?.rows_affected())
            }

            async fn execute(conn: &mut Self::Connection, statement: &'static str) -> sqlx::Result<()> {
                sqlx::raw_sql(statement).execute(conn).await.map(|_| ())
            }

            fn is_serialization_failure(error: &sqlx::Error) -> bool {
                let is_one: fn(&dyn sqlx::error::DatabaseError) -> bool = $failure;
                // A row that was there for the insert and gone for the select: the next try sees one of the two.
                matches!(error, sqlx::Error::RowNotFound) || error.as_database_error().is_some_and(is_one)
            }
        }
    };
}

#[cfg(feature = "postgres")]
dialect!(sqlx::Postgres {
    begin: "BEGIN",
    tables: &[
        "CREATE TABLE IF NOT EXISTS skald_barrier (gid text NOT NULL, branch text NOT NULL, operation text NOT NULL, \
         written_by text NOT NULL, outcome text NOT NULL, response text, began_at bigint NOT NULL, \
         PRIMARY KEY (gid, branch, operation))",
        "CREATE INDEX IF NOT EXISTS skald_barrier_began_at ON skald_barrier (began_at)",
        "CREATE TABLE IF NOT EXISTS skald_barrier_horizon (id integer PRIMARY KEY CHECK (id = 1), \
         horizon bigint NOT NULL, set_at bigint NOT NULL)",
    ],
    insert: "INSERT INTO skald_barrier (gid, branch, operation, written_by, outcome, began_at) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
    find: "SELECT written_by, outcome, response FROM skald_barrier WHERE gid = $1 AND branch = $2 AND operation = $3",
    decide: "UPDATE skald_barrier SET outcome = $1, response = $2 WHERE gid = $3 AND branch = $4 AND operation = $5",
    draw: "INSERT INTO skald_barrier_horizon (id, horizon, set_at) VALUES (1, $1, $2) ON CONFLICT DO NOTHING",
    redraw: "UPDATE skald_barrier_horizon SET horizon = $1, set_at = $2 WHERE id = 1 AND set_at = $3",
    remove: "DELETE FROM skald_barrier WHERE began_at < $1",
    serialization_failure: |error| matches!(error.code().as_deref(), Some("40001" | "40P01")),
});

#[cfg(feature = "sqlite")]
dialect!(sqlx::Sqlite {
    begin: "BEGIN IMMEDIATE",
    tables: &[
        "CREATE TABLE IF NOT EXISTS skald_barrier (gid TEXT NOT NULL, branch TEXT NOT NULL, operation TEXT NOT NULL, \
         written_by TEXT NOT NULL, outcome TEXT NOT NULL, response TEXT, began_at INTEGER NOT NULL, \
         PRIMARY KEY (gid, branch, operation)) WITHOUT ROWID",
        "CREATE INDEX IF NOT EXISTS skald_barrier_began_at ON skald_barrier (began_at)",
        "CREATE TABLE IF NOT EXISTS skald_barrier_horizon (id INTEGER PRIMARY KEY CHECK (id = 1), \
         horizon INTEGER NOT NULL, set_at INTEGER NOT NULL)",
    ],
    insert: "INSERT INTO skald_barrier (gid, branch, operation, written_by, outcome, began_at) \
             VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
    find: "SELECT written_by, outcome, response FROM skald_barrier WHERE gid = ? AND branch = ? AND operation = ?",
    decide: "UPDATE skald_barrier SET outcome = ?, response = ? WHERE gid = ? AND branch = ? AND operation = ?",
    draw: "INSERT INTO skald_barrier_horizon (id, horizon, set_at) VALUES (1, ?, ?) ON CONFLICT DO NOTHING",
    redraw: "UPDATE skald_barrier_horizon SET horizon = ?, set_at = ? WHERE id = 1 AND set_at = ?",
    remove: "DELETE FROM skald_barrier WHERE began_at < ?",
    // BUSY, LOCKED, BUSY_RECOVERY, BUSY_SNAPSHOT, BUSY_TIMEOUT.
    serialization_failure: |error| matches!(error.code().as_deref(), Some("5" | "6" | "261" | "517" | "773")),
});

#[cfg(feature = "mysql")]
dialect!(sqlx::MySql {
    begin: "BEGIN",
    tables: &[
        "CREATE TABLE IF NOT EXISTS skald_barrier (gid VARCHAR(128) NOT NULL, branch VARCHAR(256) NOT NULL, \
         operation VARCHAR(16) NOT NULL, written_by VARCHAR(16) NOT NULL, outcome VARCHAR(16) NOT NULL, \
         response LONGTEXT CHARACTER SET utf8mb4, began_at BIGINT NOT NULL, PRIMARY KEY (gid, branch, operation), \
         KEY skald_barrier_began_at (began_at)) CHARACTER SET ascii COLLATE ascii_bin ENGINE = InnoDB",
        "CREATE TABLE IF NOT EXISTS skald_barrier_horizon (id INT PRIMARY KEY CHECK (id = 1), \
         horizon BIGINT NOT NULL, set_at BIGINT NOT NULL) ENGINE = InnoDB",
    ],
    insert: "INSERT IGNORE INTO skald_barrier (gid, branch, operation, written_by, outcome, began_at) \
             VALUES (?, ?, ?, ?, ?, ?)",
    // A plain SELECT reads the snapshot, which may be older than the row that the insert ran into. The row is there, so
    // that the lock is on it and not on a gap.
    find: "SELECT written_by, outcome, response FROM skald_barrier WHERE gid = ? AND branch = ? AND operation = ? \
           LOCK IN SHARE MODE",
    decide: "UPDATE skald_barrier SET outcome = ?, response = ? WHERE gid = ? AND branch = ? AND operation = ?",
    draw: "INSERT IGNORE INTO skald_barrier_horizon (id, horizon, set_at) VALUES (1, ?, ?)",
    redraw: "UPDATE skald_barrier_horizon SET horizon = ?, set_at = ? WHERE id = 1 AND set_at = ?",
    remove: "DELETE FROM skald_barrier WHERE began_at < ?",
    // Deadlock, lock wait timeout, and (MariaDB) a record that changed since the snapshot.
    serialization_failure: |error| {
        error
            .try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>()
            .is_some_and(|error| matches!(error.number(), 1213 | 1205 | 1020))
    },
});
