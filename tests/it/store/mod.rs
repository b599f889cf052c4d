//! The store keeps its contract on both databases: every statement runs on SQLite and on a real Postgres, on tables that
//! were never analyzed.

mod batches;
mod connections;
mod lists;
mod lost_answers;
mod membership;
mod projections;
mod registry;
mod retention;
mod schema;
mod take_over;

use std::{collections::BTreeMap, time::Duration};

use skald::store::{Append, Appended, Batch, Begin, Joined, Options, Projection, SqlStore, Store, StoredPlan};
use skald_protocol::{Gid, Status, Timestamp};
use skald_tests::{Backend, database};

const LEASE: Duration = Duration::from_secs(60);

/// A migrated database of a test's own.
struct Fresh {
    url: String,
    _directory: Option<tempfile::TempDir>,
}

impl Fresh {
    async fn new(backend: Backend) -> Self {
        let fresh = Self::empty(backend).await;
        let store = fresh.connect().await;
        store.migrate().await.expect("a schema");
        store.close().await;
        fresh
    }

    async fn empty(backend: Backend) -> Self {
        match backend {
            Backend::Postgres => {
                let url = database::shared().await.empty().await.expect("a database");
                Self { url, _directory: None }
            }
            Backend::Sqlite => {
                let directory = tempfile::tempdir().expect("a directory");
                let url = format!("sqlite://{}", directory.path().join("skald.db").display());
                Self { url, _directory: Some(directory) }
            }
        }
    }

    async fn connect(&self) -> SqlStore {
        SqlStore::connect(&self.url, Options::default()).await.expect("a database that can be opened")
    }
}

/// A node with its store, counting its batches as the journal does.
struct Writer {
    store: SqlStore,
    joined: Joined,
    batch: i64,
}

impl Writer {
    async fn join(store: &SqlStore, address: &str) -> Self {
        let joined = store.join(address, LEASE).await.expect("a life");
        Self { store: store.clone(), joined, batch: 0 }
    }

    /// With every shard.
    async fn alone(store: &SqlStore) -> Self {
        let writer = Self::join(store, "http://127.0.0.1:1").await;
        store.claim(writer.joined.node, usize::MAX).await.expect("shards");
        writer
    }

    async fn commit(&mut self, batch: &Batch) -> Result<Vec<Appended>, skald::store::Error> {
        let answer = self.store.append(self.joined.node, self.batch, batch).await?;
        self.batch += 1;
        Ok(answer)
    }

    async fn append(&mut self, append: Append) -> Appended {
        self.commit(&batch([append])).await.expect("a commit")[0]
    }

    async fn project(&mut self, projection: Projection) {
        let batch = Batch { appends: Vec::new(), projections: vec![projection] };
        self.commit(&batch).await.expect("a commit");
    }
}

fn gid(text: &str) -> Gid {
    Gid::new(text).expect("a gid")
}

fn batch(appends: impl IntoIterator<Item = Append>) -> Batch {
    Batch { appends: appends.into_iter().collect(), projections: Vec::new() }
}

fn begin(text: &str) -> Append {
    begin_with(text, Timestamp(1_000), &[])
}

fn begin_with(text: &str, created_at: Timestamp, labels: &[(&str, &str)]) -> Append {
    let labels: BTreeMap<_, _> = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let begin = Begin {
        shard: 7,
        workflow: None,
        request_digest: [1; 32],
        labels,
        created_at,
        plan: [2; 32],
        store_plan: Some(StoredPlan { digest: [2; 32], format: 1, definition: None, plan: b"{}".to_vec() }),
    };
    let record = format!("{text} begins").into_bytes();
    Append { gid: gid(text), seq: 0, record, begin: Some(Box::new(begin)), foreign: false }
}

fn next(text: &str, seq: u64) -> Append {
    Append { gid: gid(text), seq, record: format!("{text} {seq}").into_bytes(), begin: None, foreign: false }
}

fn foreign(text: &str, seq: u64) -> Append {
    Append { foreign: true, ..next(text, seq) }
}

fn projection(text: &str, seq: u64, status: Status) -> Projection {
    Projection { gid: gid(text), seq, status, next_wake_at: None, parked_by: None, settled_at: None }
}

async fn records(store: &SqlStore, text: &str) -> Vec<(u64, Vec<u8>)> {
    let loaded = store.load(&[gid(text)]).await.expect("a load");
    loaded.into_iter().flat_map(|loaded| loaded.records).map(|record| (record.seq, record.bytes)).collect()
}
