use sqlx::QueryBuilder;

/// What the outbox needs of a database. Implemented for sqlx's Postgres, MySQL (and MariaDB) and SQLite.
pub trait Dialect: sqlx::Database {
    /// The tables, one statement each; they may be run again.
    const TABLES: &'static [&'static str];
    /// Rows that are taken are locked until the transaction ends, and passed over by others.
    const LOCKS: bool;

    /// Puts a request in.
    fn insert(conn: &mut Self::Connection, gid: &str, request: &str) -> impl Future<Output = sqlx::Result<()>> + Send;

    /// The oldest requests that nobody else delivers right now: `(gid, request)`.
    fn take(
        conn: &mut Self::Connection,
        limit: i64,
    ) -> impl Future<Output = sqlx::Result<Vec<(String, String)>>> + Send;

    /// Removes what was delivered.
    fn remove(conn: &mut Self::Connection, gids: &[String]) -> impl Future<Output = sqlx::Result<()>> + Send;

    /// Sets aside what can never be delivered, with the reason.
    fn reject(conn: &mut Self::Connection, gid: &str, reason: &str) -> impl Future<Output = sqlx::Result<()>> + Send;

    /// Runs one of the outbox's own statements.
    fn execute(conn: &mut Self::Connection, statement: &'static str) -> impl Future<Output = sqlx::Result<()>> + Send;
}

macro_rules! dialect {
    ($database:ty {
        tables: $tables:expr,
        locks: $locks:literal,
        insert: $insert:literal,
        take: $take:literal,
        reject: $reject:literal $(,)?
    }) => {
        impl Dialect for $database {
            const TABLES: &'static [&'static str] = $tables;
            const LOCKS: bool = $locks;

            async fn insert(conn: &mut Self::Connection, gid: &str, request: &str) -> sqlx::Result<()> {
                sqlx::query($insert).bind(gid).bind(request).execute(conn).await.map(|_| ())
            }

            async fn take(conn: &mut Self::Connection, limit: i64) -> sqlx::Result<Vec<(String, String)>> {
                sqlx::query_as($take).bind(limit).fetch_all(conn).await
            }

            async fn remove(conn: &mut Self::Connection, gids: &[String]) -> sqlx::Result<()> {
                if gids.is_empty() {
                    return Ok(());
                }
                let mut query = QueryBuilder::<Self>::new("DELETE FROM skald_outbox WHERE gid IN (");
                let mut list = query.separated(", ");
                for gid in gids {
                    list.push_bind(gid.as_str());
                }
                query.push(")").build().execute(conn).await.map(|_| ())
            }

            async fn reject(conn: &mut Self::Connection, gid: &str, reason: &str) -> sqlx::Result<()> {
                sqlx::query($reject).bind(reason).bind(gid).execute(conn).await.map(|_| ())
            }

            async fn execute(conn: &mut Self::Connection, statement: &'static str) -> sqlx::Result<()> {
                sqlx::raw_sql(statement).execute(conn).await.map(|_| ())
            }
        }
    };
}

#[cfg(feature = "postgres")]
dialect!(sqlx::Postgres {
    tables: &["CREATE TABLE IF NOT EXISTS skald_outbox (id bigserial PRIMARY KEY, gid text NOT NULL UNIQUE, \
         request text NOT NULL, rejected text)",],
    locks: true,
    insert: "INSERT INTO skald_outbox (gid, request) VALUES ($1, $2)",
    take: "SELECT gid, request FROM skald_outbox WHERE rejected IS NULL ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED",
    reject: "UPDATE skald_outbox SET rejected = $1 WHERE gid = $2",
});

#[cfg(feature = "mysql")]
dialect!(sqlx::MySql {
    tables: &[
        "CREATE TABLE IF NOT EXISTS skald_outbox (id BIGINT AUTO_INCREMENT PRIMARY KEY, gid VARCHAR(128) NOT NULL UNIQUE, \
         request LONGTEXT CHARACTER SET utf8mb4 NOT NULL, rejected TEXT CHARACTER SET utf8mb4) \
         CHARACTER SET ascii COLLATE ascii_bin ENGINE = InnoDB",
    ],
    locks: true,
    insert: "INSERT INTO skald_outbox (gid, request) VALUES (?, ?)",
    take: "SELECT gid, request FROM skald_outbox WHERE rejected IS NULL ORDER BY id LIMIT ? FOR UPDATE SKIP LOCKED",
    reject: "UPDATE skald_outbox SET rejected = ? WHERE gid = ?",
});

#[cfg(feature = "sqlite")]
dialect!(sqlx::Sqlite {
    tables: &[
        "CREATE TABLE IF NOT EXISTS skald_outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, gid TEXT NOT NULL UNIQUE, \
         request TEXT NOT NULL, rejected TEXT)",
    ],
    // A transaction held open while requests are delivered would lock out the service's own writes.
    locks: false,
    insert: "INSERT INTO skald_outbox (gid, request) VALUES (?, ?)",
    take: "SELECT gid, request FROM skald_outbox WHERE rejected IS NULL ORDER BY id LIMIT ?",
    reject: "UPDATE skald_outbox SET rejected = ? WHERE gid = ?",
});
