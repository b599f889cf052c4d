//! A world to test in: a fresh database, a node on it, participants.

use std::{path::Path, time::Duration};

use sqlx::{ConnectOptions, Connection, PgConnection, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;

use crate::{Client, Node, Participants, database};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Sqlite,
    Postgres,
}

/// A fresh database of its own; a SQLite file goes with it.
pub struct Database {
    backend: Backend,
    url: String,
    folder: Option<TempDir>,
}

impl Database {
    /// # Panics
    /// Where none can be made.
    pub async fn fresh(backend: Backend) -> Self {
        match backend {
            Backend::Sqlite => {
                let folder = tempfile::tempdir().expect("a temporary folder");
                let url = format!("sqlite://{}", folder.path().join("skald.db").display());
                Self { backend, url, folder: Some(folder) }
            }
            Backend::Postgres => {
                let url = database::shared().await.migrated().await.expect("a fresh database");
                Self { backend, url, folder: None }
            }
        }
    }

    /// One that is there, on a Postgres that is not the shared one.
    #[must_use]
    pub fn at(url: &str) -> Self {
        Self { backend: Backend::Postgres, url: url.to_owned(), folder: None }
    }

    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    #[must_use]
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// The SQLite file's folder.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_ref().map(TempDir::path)
    }

    /// Runs a statement with one value. On SQLite only once its node has ended.
    pub async fn set_bytes(&self, sql: &'static str, bytes: &[u8]) -> anyhow::Result<()> {
        match self.backend {
            Backend::Postgres => {
                let mut connection = PgConnection::connect(&self.url).await?;
                sqlx::query(sql).bind(bytes).execute(&mut connection).await?;
            }
            Backend::Sqlite => {
                let options: SqliteConnectOptions = self.url.parse()?;
                let mut connection = options.connect().await?;
                sqlx::query(sql).bind(bytes).execute(&mut connection).await?;
            }
        }
        Ok(())
    }

    /// From here on nothing can be written; what is there can be read.
    pub async fn lock(&self) -> anyhow::Result<Lock> {
        Ok(match self.backend {
            Backend::Postgres => {
                let mut connection = PgConnection::connect(&self.url).await?;
                sqlx::raw_sql("BEGIN; LOCK TABLE journal, audit, workflows IN SHARE ROW EXCLUSIVE MODE")
                    .execute(&mut connection)
                    .await?;
                Lock::Postgres(connection)
            }
            Backend::Sqlite => {
                let options: SqliteConnectOptions = self.url.parse()?;
                let mut connection = options.busy_timeout(Duration::from_secs(10)).connect().await?;
                sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut connection).await?;
                Lock::Sqlite(connection)
            }
        })
    }

    /// `(gid, seq)` of every journal row. On SQLite only once its node has ended.
    pub async fn journal(&self) -> anyhow::Result<Vec<(String, i64)>> {
        const ROWS: &str = "SELECT gid, CAST(seq AS BIGINT) FROM journal ORDER BY gid, seq";
        Ok(match self.backend {
            Backend::Postgres => {
                let mut connection = PgConnection::connect(&self.url).await?;
                sqlx::query_as(ROWS).fetch_all(&mut connection).await?
            }
            Backend::Sqlite => {
                let options: SqliteConnectOptions = self.url.parse()?;
                let mut connection = options.connect().await?;
                sqlx::query_as(ROWS).fetch_all(&mut connection).await?
            }
        })
    }
}

/// The lock of another program on the database.
pub enum Lock {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

impl Lock {
    pub async fn release(self) -> anyhow::Result<()> {
        match self {
            Self::Postgres(connection) => connection.close().await?,
            Self::Sqlite(connection) => connection.close().await?,
        }
        Ok(())
    }
}

pub struct World {
    pub participants: Participants,
    pub node: Node,
    pub client: Client,
    pub database: Database,
}

impl World {
    /// One node on a fresh database; participants with the barrier.
    pub async fn start(backend: Backend) -> Self {
        Self::with(backend, Participants::start().await).await
    }

    pub async fn with(backend: Backend, participants: Participants) -> Self {
        let database = Database::fresh(backend).await;
        let mut node = Node::new(database.url());
        node.start().await;
        Self { participants, client: node.client(), node, database }
    }

    /// Another node on the same database, not running yet.
    #[must_use]
    pub fn another_node(&self) -> Node {
        Node::new(self.database.url())
    }
}

/// Each promise is kept on both databases: one test a backend.
#[macro_export]
macro_rules! promises {
    ($($(#[$meta:meta])* async fn $name:ident($backend:ident: Backend) $body:block)+) => {
        $($(#[$meta])* mod $name {
            #[allow(unused_imports, reason = "what a promise needs differs from one to the next")]
            use super::*;

            async fn kept($backend: $crate::world::Backend) $body

            #[tokio::test]
            async fn on_sqlite() {
                kept($crate::world::Backend::Sqlite).await;
            }

            #[tokio::test]
            async fn on_postgres() {
                kept($crate::world::Backend::Postgres).await;
            }
        })+
    };
}
