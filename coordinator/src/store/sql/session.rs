//! One way to speak to two drivers: a pool, a session on it, a query with its arguments, a row.
//!
//! A session that is dropped in the middle of something (an error, a deadline, a caller who went away) never goes back to
//! its pool: its connection is closed, and a new one opened when it is needed. SQLite itself ends a transaction on some
//! errors (no room, a failed read), so nothing but a new connection is known to be outside of one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::{
    AssertSqlSafe, ColumnIndex, Connection as _, Decode, Encode, PgConnection, PgPool, Postgres, Row as _, Sqlite,
    SqliteConnection, SqlitePool, Type,
    pool::PoolConnection,
    postgres::{PgArguments, PgHasArrayType, PgRow},
    sqlite::{SqliteArguments, SqliteRow},
};
use tokio::time::timeout;

use super::super::Error;
use super::{
    dialect::{Kind, Sql},
    files::{Files, Found},
};

#[derive(Debug, Clone)]
pub(super) enum Pool {
    /// `wrapped`: even a single statement stands in a transaction, since a pooler in transaction mode may otherwise parse
    /// it on one server connection and run it on another.
    Postgres {
        pool: PgPool,
        wrapped: bool,
    },
    Sqlite {
        pool: SqlitePool,
        keeping: Keeping,
    },
}

/// Where a SQLite database is kept.
#[derive(Debug, Clone)]
pub(super) enum Keeping {
    Memory(Memory),
    /// For those who only read.
    Read(Arc<Files>),
    Written(Arc<Files>),
}

impl Keeping {
    fn files(&self) -> Option<&Files> {
        match self {
            Self::Memory(_) => None,
            Self::Read(files) | Self::Written(files) => Some(files),
        }
    }

    fn stand(&self) -> Result<(), Error> {
        self.files().map_or(Ok(()), Files::stand)
    }

    fn judge(&self, error: sqlx::Error) -> Error {
        match self.files() {
            Some(files) => files.judge(error),
            None => error.into(),
        }
    }
}

/// A database in memory lives as long as its one connection, so that one is never closed: whatever it was dropped in the
/// middle of is rolled back before it is used again.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    unclean: Arc<AtomicBool>,
}

impl Memory {
    async fn clean(&self, connection: &mut PoolConnection<Sqlite>) {
        if self.unclean.load(Ordering::Acquire) {
            // Fails where nothing is left to roll back, which is as good.
            let _clean = sqlx::raw_sql("ROLLBACK").execute(&mut **connection).await;
            self.unclean.store(false, Ordering::Release);
        }
    }
}

impl Pool {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Postgres { .. } => Kind::Postgres,
            Self::Sqlite { .. } => Kind::Sqlite,
        }
    }

    pub(super) fn is_wrapped(&self) -> bool {
        matches!(self, Self::Postgres { wrapped: true, .. })
    }

    /// For statements that each stand alone.
    pub(super) async fn session(&self) -> Result<Session, Error> {
        match self {
            Self::Postgres { wrapped: true, .. } => self.transaction().await,
            Self::Postgres { pool, .. } => {
                Ok(Session(Inner::Postgres(PostgresSession::new(acquire(pool).await?, true))))
            }
            Self::Sqlite { pool, keeping } => Ok(Session(Inner::Sqlite(SqliteSession::new(pool, keeping).await?))),
        }
    }

    /// All or nothing, once `commit` has returned.
    pub(super) async fn transaction(&self) -> Result<Session, Error> {
        match self {
            Self::Postgres { pool, wrapped } => {
                let mut session = PostgresSession::new(acquire(pool).await?, !wrapped);
                session.begin().await?;
                Ok(Session(Inner::Postgres(session)))
            }
            Self::Sqlite { pool, keeping } => {
                let mut session = SqliteSession::new(pool, keeping).await?;
                session.in_transaction = true;
                session.plain("BEGIN IMMEDIATE").await?;
                Ok(Session(Inner::Sqlite(session)))
            }
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        match self {
            Self::Postgres { pool, .. } => pool.is_closed(),
            Self::Sqlite { pool, .. } => pool.is_closed(),
        }
    }

    pub(super) async fn close(&self) {
        match self {
            Self::Postgres { pool, .. } => pool.close().await,
            Self::Sqlite { pool, .. } => pool.close().await,
        }
    }
}

async fn acquire(pool: &PgPool) -> Result<PoolConnection<Postgres>, Error> {
    match pool.acquire().await {
        Ok(connection) => Ok(connection),
        Err(sqlx::Error::PoolTimedOut) => Err(why_none(pool).await.unwrap_or(sqlx::Error::PoolTimedOut).into()),
        Err(error) => Err(error.into()),
    }
}

/// The pool tries again what may pass (a role at its limit, a server that starts) and says only that time is over: what the
/// server said is asked for once more.
async fn why_none(pool: &PgPool) -> Option<sqlx::Error> {
    if pool.size() >= pool.options().get_max_connections() {
        return None;
    }
    match timeout(Duration::from_secs(1), PgConnection::connect_with(&pool.connect_options())).await {
        Ok(Err(error)) => Some(error),
        Ok(Ok(connection)) => {
            let _ = connection.close().await;
            None
        }
        Err(_) => None,
    }
}

#[derive(Debug)]
pub(super) struct Session(Inner);

#[derive(Debug)]
enum Inner {
    Postgres(PostgresSession),
    Sqlite(SqliteSession),
}

#[derive(Debug)]
struct PostgresSession {
    connection: PoolConnection<Postgres>,
    /// Whether the server may keep prepared statements for this connection.
    prepared: bool,
    in_transaction: bool,
    /// A statement was sent whose answer has not been read to its end.
    busy: bool,
}

/// A node that vanishes in the middle of a transaction must not keep its row locked until TCP notices.
const BEGIN: &str = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '10s'";

impl PostgresSession {
    fn new(connection: PoolConnection<Postgres>, prepared: bool) -> Self {
        Self { connection, prepared, in_transaction: false, busy: false }
    }

    async fn begin(&mut self) -> Result<(), sqlx::Error> {
        self.in_transaction = true;
        self.plain(BEGIN).await
    }

    async fn plain(&mut self, text: &'static str) -> Result<(), sqlx::Error> {
        self.busy = true;
        sqlx::raw_sql(text).execute(&mut *self.connection).await?;
        self.busy = false;
        Ok(())
    }
}

impl Drop for PostgresSession {
    fn drop(&mut self) {
        if self.in_transaction || self.busy {
            self.connection.close_on_drop();
        }
    }
}

#[derive(Debug)]
struct SqliteSession {
    connection: PoolConnection<Sqlite>,
    keeping: Keeping,
    in_transaction: bool,
    /// A statement is under way, or one failed.
    busy: bool,
}

impl SqliteSession {
    async fn new(pool: &SqlitePool, keeping: &Keeping) -> Result<Self, Error> {
        // Else a new connection might open, and write to, what stands there instead.
        keeping.stand()?;
        let mut connection = pool.acquire().await.map_err(|error| keeping.judge(error))?;
        keeping.stand()?;
        if let Keeping::Memory(memory) = keeping {
            memory.clean(&mut connection).await;
        }
        Ok(Self { connection, keeping: keeping.clone(), in_transaction: false, busy: false })
    }

    async fn run<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, Error> {
        self.busy = true;
        let done = work(&mut self.connection).await.map_err(|error| self.keeping.judge(error))?;
        self.busy = false;
        Ok(done)
    }

    async fn plain(&mut self, text: &'static str) -> Result<(), Error> {
        self.run(async |connection| sqlx::raw_sql(text).execute(connection).await).await?;
        Ok(())
    }

    /// What was committed is in the files that a restart will find.
    async fn kept(&mut self) -> Result<(), Error> {
        let Keeping::Written(files) = self.keeping.clone() else { return Ok(()) };
        let found = files.committed()?;
        if found != Found::AsItWas {
            self.plain("PRAGMA shrink_memory").await?;
        }
        if let Found::Shorter(size) = found {
            let count = async |connection: &mut SqliteConnection| {
                sqlx::query_scalar("PRAGMA page_count").fetch_one(connection).await
            };
            files.holds(size, self.run(count).await?)?;
        }
        Ok(())
    }
}

impl Drop for SqliteSession {
    fn drop(&mut self) {
        if self.in_transaction || self.busy {
            match &self.keeping {
                Keeping::Memory(memory) => memory.unclean.store(true, Ordering::Release),
                Keeping::Read(_) | Keeping::Written(_) => self.connection.close_on_drop(),
            }
        }
    }
}

impl Session {
    pub(super) fn kind(&self) -> Kind {
        match self.0 {
            Inner::Postgres(_) => Kind::Postgres,
            Inner::Sqlite(_) => Kind::Sqlite,
        }
    }

    /// Whether the server is still there.
    pub(super) async fn answers(&mut self) -> bool {
        match &mut self.0 {
            Inner::Postgres(session) => {
                session.busy = true;
                session.busy = session.connection.ping().await.is_err();
                !session.busy
            }
            Inner::Sqlite(_) => true,
        }
    }

    pub(super) async fn commit(self) -> Result<(), Error> {
        self.end("COMMIT").await
    }

    /// Nothing of it is kept, and its connection is as good as before.
    pub(super) async fn rollback(self) -> Result<(), Error> {
        self.end("ROLLBACK").await
    }

    async fn end(self, how: &'static str) -> Result<(), Error> {
        match self.0 {
            Inner::Postgres(mut session) if session.in_transaction => {
                session.plain(how).await?;
                session.in_transaction = false;
            }
            Inner::Sqlite(mut session) => {
                if session.in_transaction {
                    session.plain(how).await?;
                    session.in_transaction = false;
                }
                session.kept().await?;
            }
            Inner::Postgres(_) => {}
        }
        Ok(())
    }

    /// Runs DDL, of which nothing is prepared; several statements may stand in one text.
    pub(super) async fn script(&mut self, text: &'static str) -> Result<(), Error> {
        match &mut self.0 {
            Inner::Postgres(session) => session.plain(text).await?,
            Inner::Sqlite(session) => session.plain(text).await?,
        }
        Ok(())
    }

    /// A statement that is planned anew each time, for the tables as they are then.
    pub(super) fn query(&self, sql: Sql) -> Query {
        Query::new(self.kind(), sql.text(self.kind()))
    }
}

/// What is bound, on both databases.
pub(super) trait Argument:
    for<'q> Encode<'q, Postgres> + Type<Postgres> + for<'q> Encode<'q, Sqlite> + Type<Sqlite>
{
}
impl<T> Argument for T where T: for<'q> Encode<'q, Postgres> + Type<Postgres> + for<'q> Encode<'q, Sqlite> + Type<Sqlite>
{}

/// What is read, on both databases.
pub(super) trait Column:
    for<'r> Decode<'r, Postgres> + Type<Postgres> + for<'r> Decode<'r, Sqlite> + Type<Sqlite>
{
}
impl<T> Column for T where T: for<'r> Decode<'r, Postgres> + Type<Postgres> + for<'r> Decode<'r, Sqlite> + Type<Sqlite> {}

pub(super) enum Query {
    Postgres { query: sqlx::query::Query<'static, Postgres, PgArguments>, hot: bool },
    Sqlite(sqlx::query::Query<'static, Sqlite, SqliteArguments>),
}

impl Query {
    fn new(kind: Kind, text: &'static str) -> Self {
        match kind {
            Kind::Postgres => Self::Postgres { query: sqlx::query(text), hot: false },
            Kind::Sqlite => Self::Sqlite(sqlx::query(text)),
        }
    }

    /// Text made at run time, from literals of this module and placeholders alone.
    pub(super) fn assembled(kind: Kind, text: String) -> Self {
        match kind {
            Kind::Postgres => Self::Postgres { query: sqlx::query(AssertSqlSafe(text)), hot: false },
            Kind::Sqlite => Self::Sqlite(sqlx::query(AssertSqlSafe(text)).persistent(false)),
        }
    }

    /// Prepared once a connection. Only for statements whose plan cannot go wrong as the tables grow: Postgres keeps the
    /// plan it made when they were empty.
    pub(super) fn hot(self) -> Self {
        match self {
            Self::Postgres { query, .. } => Self::Postgres { query, hot: true },
            Self::Sqlite(query) => Self::Sqlite(query),
        }
    }

    pub(super) fn bind<T: Argument>(self, value: T) -> Self {
        match self {
            Self::Postgres { query, hot } => Self::Postgres { query: query.bind(value), hot },
            Self::Sqlite(query) => Self::Sqlite(query.bind(value)),
        }
    }

    /// A list for `[in "$n"]`.
    pub(super) fn bind_list<T>(self, values: &[T]) -> Self
    where
        T: serde::Serialize + PgHasArrayType,
        for<'a, 'q> &'a [T]: Encode<'q, Postgres> + Type<Postgres>,
    {
        match self {
            Self::Postgres { query, hot } => Self::Postgres { query: query.bind(values), hot },
            Self::Sqlite(query) => {
                Self::Sqlite(query.bind(serde_json::to_string(values).expect("plain values are JSON")))
            }
        }
    }

    /// A Postgres array for `unnest`; SQLite has other ways (`append_sqlite`).
    pub(super) fn bind_array<'t, T>(self, values: Vec<T>) -> Self
    where
        Vec<T>: Encode<'t, Postgres> + Type<Postgres>,
    {
        match self {
            Self::Postgres { query, hot } => Self::Postgres { query: query.bind(values), hot },
            Self::Sqlite(_) => unreachable!("arrays are Postgres' own"),
        }
    }

    pub(super) async fn fetch_all(self, session: &mut Session) -> Result<Vec<Row>, Error> {
        match (self, &mut session.0) {
            (Self::Postgres { query, hot }, Inner::Postgres(session)) => {
                session.busy = true;
                let rows = query.persistent(hot && session.prepared).fetch_all(&mut *session.connection).await;
                session.busy = rows.as_ref().is_err_and(|error| error.as_database_error().is_none());
                Ok(rows?.into_iter().map(Row::Postgres).collect())
            }
            (Self::Sqlite(query), Inner::Sqlite(session)) => {
                let rows = session.run(async |connection| query.fetch_all(connection).await).await?;
                Ok(rows.into_iter().map(Row::Sqlite).collect())
            }
            _ => unreachable!("a query is made for the session's database"),
        }
    }

    pub(super) async fn fetch_optional(self, session: &mut Session) -> Result<Option<Row>, Error> {
        Ok(self.fetch_all(session).await?.into_iter().next())
    }

    /// How many rows it changed.
    pub(super) async fn execute(self, session: &mut Session) -> Result<u64, Error> {
        match (self, &mut session.0) {
            (Self::Postgres { query, hot }, Inner::Postgres(session)) => {
                session.busy = true;
                let done = query.persistent(hot && session.prepared).execute(&mut *session.connection).await;
                session.busy = done.as_ref().is_err_and(|error| error.as_database_error().is_none());
                Ok(done?.rows_affected())
            }
            (Self::Sqlite(query), Inner::Sqlite(session)) => {
                let done = session.run(async |connection| query.execute(connection).await).await?;
                Ok(done.rows_affected())
            }
            _ => unreachable!("a query is made for the session's database"),
        }
    }
}

pub(super) enum Row {
    Postgres(PgRow),
    Sqlite(SqliteRow),
}

impl Row {
    pub(super) fn get<T: Column>(&self, index: usize) -> Result<T, Error>
    where
        usize: ColumnIndex<PgRow> + ColumnIndex<SqliteRow>,
    {
        Ok(match self {
            Self::Postgres(row) => row.try_get(index)?,
            Self::Sqlite(row) => row.try_get(index)?,
        })
    }

    pub(super) fn digest(&self, index: usize) -> Result<[u8; 32], Error> {
        let bytes: Vec<u8> = self.get(index)?;
        bytes.try_into().map_err(|_| Error::Refused("the database holds a digest that is not 32 bytes long".into()))
    }

    /// A text that a type of the protocol reads.
    pub(super) fn parse<T: std::str::FromStr>(&self, index: usize) -> Result<T, Error>
    where
        T::Err: std::fmt::Display,
    {
        self.get::<String>(index)?
            .parse()
            .map_err(|error| Error::Refused(format!("the database holds what it should not: {error}")))
    }
}
