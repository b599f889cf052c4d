//! From a URL to pools. No part of a URL that may hold a password ever stands in an error.

use std::{
    fs::File,
    io,
    path::Path,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sqlx::{
    ConnectOptions as _, Connection as _, SqliteConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::watch;

use super::{
    Damage, Error, Inner, Options,
    files::Files,
    kept_session::{KeptSession, STALE},
    session::{Keeping, Memory, Pool},
};

/// A batch, its `resolve`, a heartbeat, a claim: never more at once.
const MOST_WRITERS: u32 = 4;
/// Left to itself Postgres plans a batch's statement anew each time, which costs more than the batch: its estimate for
/// arrays of unknown length is higher than for those at hand. A pooler would hand the setting to others.
const WRITER_SETTINGS: &str = "SET plan_cache_mode = force_generic_plan";
const SQLITE_READERS: u32 = 4;

pub(super) async fn connect(url: &str, options: Options) -> Result<Inner, Error> {
    let (scheme, rest) = url.split_once(':').unwrap_or(("", url));
    match scheme {
        "postgres" | "postgresql" => postgres(url, options).await,
        "sqlite" => {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            if path == ":memory:" { memory(options).await } else { file(Path::new(path), options).await }
        }
        _ => Err(Error::Misconfigured(
            "a database URL starts with `sqlite://<path>`, `sqlite::memory:` or `postgres://`".into(),
        )),
    }
}

async fn postgres(url: &str, options: Options) -> Result<Inner, Error> {
    let unusable =
        || Error::Misconfigured("the database URL is not of the form postgres://user:password@host/database".into());
    let target = PgConnectOptions::from_str(url)
        .map_err(|_| unusable())?
        .application_name("skald")
        // Poolers refuse start-up parameters that they do not know.
        .extra_float_digits(None)
        // What went wrong is logged where it is handled.
        .disable_statement_logging();
    let wrapped = options.transaction_pooler;
    let pool = |connections: u32, settings: Option<&'static str>| {
        PgPoolOptions::new()
            .max_connections(connections.max(1))
            .acquire_timeout(options.acquire_timeout)
            .test_before_acquire(false)
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    if let Some(settings) = settings {
                        // A database that speaks Postgres' protocol need not know all its settings.
                        if let Err(error) = sqlx::raw_sql(settings).execute(&mut *connection).await {
                            tracing::debug!(%error, settings, "the database does not know this setting");
                        }
                    }
                    Ok(())
                })
            })
            .before_acquire(|connection, meta| {
                Box::pin(async move {
                    if meta.idle_for > STALE {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .connect_lazy_with(target.clone())
    };
    let writers = (options.connections / 3).clamp(1, MOST_WRITERS);
    let writer = Pool::Postgres { pool: pool(writers, (!wrapped).then_some(WRITER_SETTINGS)), wrapped };
    let reader = Pool::Postgres { pool: pool(options.connections.saturating_sub(writers), None), wrapped };
    tokio::time::timeout(options.statement_timeout, writer.session()).await.map_err(|_| Error::timed_out())??;
    Ok(Inner { writer, reader, options, kept: KeptSession::default(), damage: Arc::default(), anchor: None })
}

async fn memory(options: Options) -> Result<Inner, Error> {
    // The database lives as long as its one connection.
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .acquire_timeout(options.acquire_timeout)
        .connect_with(SqliteConnectOptions::new().in_memory(true).disable_statement_logging())
        .await?;
    let pool = Pool::Sqlite { pool, keeping: Keeping::Memory(Memory::default()) };
    Ok(Inner {
        writer: pool.clone(),
        reader: pool,
        options,
        kept: KeptSession::default(),
        damage: Arc::default(),
        anchor: None,
    })
}

async fn file(path: &Path, options: Options) -> Result<Inner, Error> {
    if path.as_os_str().is_empty() || path.to_string_lossy().contains('?') {
        return Err(Error::Misconfigured("a SQLite URL is `sqlite://` and a path, without parameters".into()));
    }
    let lock = lock(path)?;
    let target = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        // NORMAL may lose the last commits when the power fails.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(10))
        .disable_statement_logging();
    let damage = Arc::new(watch::Sender::default());
    let first = target.clone().create_if_missing(true);
    let anchor =
        Anchor::drop_at(path, &first, Arc::clone(&damage), lock).await.map_err(|error| match error.into() {
            Error::Unavailable(error) => Error::Misconfigured(format!("{} cannot be opened: {error}", path.display())),
            Error::Misconfigured(_) => Error::Misconfigured(format!("{} is not a SQLite database", path.display())),
            other => other,
        })?;
    let pool = |connections: u32, target: SqliteConnectOptions| {
        SqlitePoolOptions::new()
            .max_connections(connections)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .acquire_timeout(options.acquire_timeout)
            .connect_lazy_with(target)
    };
    let writer = pool(1, target.clone());
    let reader = pool(SQLITE_READERS, target.pragma("query_only", "1"));
    Ok(Inner {
        writer: Pool::Sqlite { pool: writer, keeping: Keeping::Written(Arc::clone(&anchor.files)) },
        reader: Pool::Sqlite { pool: reader, keeping: Keeping::Read(Arc::clone(&anchor.files)) },
        options,
        kept: KeptSession::default(),
        damage,
        anchor: Some(anchor),
    })
}

/// A connection that does nothing: while there is one SQLite keeps the log, and the same one, whatever becomes of the others.
#[derive(Debug)]
pub(super) struct Anchor {
    connection: Mutex<Option<SqliteConnection>>,
    files: Arc<Files>,
    /// As long as this process uses the file.
    _lock: File,
}

impl Anchor {
    async fn drop_at(
        path: &Path,
        target: &SqliteConnectOptions,
        damage: Arc<watch::Sender<Damage>>,
        lock: File,
    ) -> Result<Self, sqlx::Error> {
        let mut connection = SqliteConnection::connect_with(target).await?;
        // The log is opened by whoever reads first.
        sqlx::raw_sql("SELECT count(*) FROM sqlite_schema").execute(&mut connection).await?;
        let page: u64 = sqlx::query_scalar("PRAGMA page_size").fetch_one(&mut connection).await?;
        let files = Arc::new(Files::opened(path, page, damage)?);
        Ok(Self { connection: Mutex::new(Some(connection)), files, _lock: lock })
    }

    /// The file system, and whether it is a disk of this machine; `None` where the system does not tell.
    pub(super) fn place(&self) -> Option<(String, bool)> {
        self.files.place()
    }

    /// The last of all connections.
    pub(super) async fn close(&self) {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(connection) = connection.and_then(|connection| self.spare(connection))
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "the database file was not closed in order: the next start does what is left");
        }
    }

    /// The last connection to close writes the log into the database. What is damaged is left as it is.
    fn spare(&self, connection: SqliteConnection) -> Option<SqliteConnection> {
        if self.files.known().is_none() {
            return Some(connection);
        }
        std::mem::forget(connection);
        None
    }
}

impl Drop for Anchor {
    fn drop(&mut self) {
        let connection = self.connection.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        drop(connection.and_then(|connection| self.spare(connection)));
    }
}

/// SQLite itself would let a second process in; two coordinators on one file would each take the other's place for ever.
fn lock(path: &Path) -> Result<File, Error> {
    let mut name = path.as_os_str().to_owned();
    name.push("-lock");
    let refused = |error: &io::Error| Error::Misconfigured(format!("{} cannot be used: {error}", path.display()));
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(Path::new(&name))
        .map_err(|error| refused(&error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            Err(Error::Misconfigured(format!("{} is in use by another process", path.display())))
        }
        Err(std::fs::TryLockError::Error(error)) => Err(refused(&error)),
    }
}
