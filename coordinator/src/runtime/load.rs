//! From rows to transactions. One path: start-up, take-over, waking a parked one, a reload and a read all come through here.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use quick_cache::sync::Cache;
use skald_engine::{Plan, Record, Transaction, journal, plan::PlanError};
use skald_protocol::Gid;

use crate::store::{Error, Loaded, Row, Store, StoredRecord};

/// What a gid leads to.
#[derive(Debug)]
pub(super) enum Found {
    Missing,
    /// Retention took the journal.
    Expired(Row),
    Quarantined(Row),
    /// Written by a newer build: leave it to a node that reads it.
    Newer(Row),
    /// To be quarantined.
    Corrupt(Row, String),
    Here(Box<Replayed>),
}

#[derive(Debug)]
pub(super) struct Replayed {
    pub(super) tx: Transaction,
    pub(super) row: Row,
    pub(super) next_seq: u64,
    /// Encoded, of the whole journal.
    pub(super) bytes: usize,
}

/// Why a journal or plan cannot be used.
#[derive(Debug)]
pub(super) enum LoadError {
    Newer,
    Corrupt(String),
    Store(Error),
}

/// Plans by digest. A plan never changes, so what is here is right.
#[derive(Debug)]
pub(super) struct Plans(Cache<[u8; 32], Arc<Plan>>);

/// From so many bytes on a journal takes milliseconds to be read.
const LARGE: usize = 256 << 10;
/// Those longest unused make room.
const PLANS: usize = 4096;

impl Default for Plans {
    fn default() -> Self {
        Self(Cache::new(PLANS))
    }
}

impl Plans {
    pub(super) fn keep(&self, digest: [u8; 32], plan: Arc<Plan>) {
        self.0.insert(digest, plan);
    }

    pub(super) async fn get(&self, store: &dyn Store, digest: &[u8; 32]) -> Result<Arc<Plan>, LoadError> {
        if let Some(plan) = self.0.get(digest) {
            return Ok(plan);
        }
        let stored = store.plan(digest).await.map_err(LoadError::Store)?;
        let stored = stored.ok_or_else(|| LoadError::Corrupt(format!("plan {} is missing", hex::encode(digest))))?;
        let plan = match Plan::decode(stored.format, &stored.plan) {
            Ok(plan) => Arc::new(plan),
            Err(PlanError::Newer { .. }) => return Err(LoadError::Newer),
            Err(error @ PlanError::Undecodable(_)) => return Err(LoadError::Corrupt(error.to_string())),
        };
        self.keep(*digest, Arc::clone(&plan));
        Ok(plan)
    }
}

/// Decodes a journal; `seq` must count from 0 without a gap.
pub(super) fn decode(stored: &[StoredRecord]) -> Result<Vec<(u64, Record)>, LoadError> {
    let mut records = Vec::with_capacity(stored.len());
    for (expected, record) in (0..).zip(stored) {
        if record.format > journal::FORMAT {
            return Err(LoadError::Newer);
        }
        if record.seq != expected {
            return Err(LoadError::Corrupt(format!("record {expected} is missing: {} follows", record.seq)));
        }
        let decoded = Record::decode(&record.bytes)
            .map_err(|error| LoadError::Corrupt(format!("record {expected} cannot be read: {error}")))?;
        records.push((record.seq, decoded));
    }
    if records.is_empty() {
        return Err(LoadError::Corrupt("the journal is empty".to_owned()));
    }
    Ok(records)
}

/// Runs engine code over stored content: a panic there is that content's fault, not this node's end.
pub(super) fn guarded<T>(what: &str, run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        format!("{what} panicked: {text}")
    })
}

/// Of a journal, encoded.
pub(super) fn bytes(records: &[StoredRecord]) -> usize {
    records.iter().map(|record| record.bytes.len()).sum()
}

/// Work on so many bytes of journal: where that takes milliseconds, on no thread that serves others.
pub(super) async fn unhurried<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> Result<T, LoadError> + Send + 'static,
) -> Result<T, LoadError> {
    if bytes < LARGE {
        return work();
    }
    let worked = tokio::task::spawn_blocking(work).await;
    // The node goes down: the journal is as good as it was.
    worked.unwrap_or(Err(LoadError::Store(Error::Deposed)))
}

pub(super) async fn plan_of(plans: &Plans, store: &dyn Store, row: &Row) -> Result<Arc<Plan>, LoadError> {
    plans.get(store, &row.plan).await
}

async fn replay(plans: &Plans, store: &dyn Store, loaded: Loaded) -> Result<Found, Error> {
    let Loaded { row, records } = loaded;
    if row.quarantined.is_some() {
        return Ok(Found::Quarantined(row));
    }
    if row.expired {
        return Ok(Found::Expired(row));
    }
    let bytes = bytes(&records);
    let next_seq = records.last().map_or(0, |record| record.seq + 1);
    let replayed = match plan_of(plans, store, &row).await {
        Ok(plan) => {
            let gid = row.gid.clone();
            unhurried(bytes, move || {
                let decoded = decode(&records)?.into_iter().map(|(_, record)| record).collect();
                guarded("replay", || Transaction::replay(gid, plan, decoded))
                    .map_err(LoadError::Corrupt)?
                    .map_err(|corrupt| LoadError::Corrupt(corrupt.to_string()))
            })
            .await
        }
        Err(fault) => Err(fault),
    };
    match replayed {
        Ok(tx) => Ok(Found::Here(Box::new(Replayed { tx, row, next_seq, bytes }))),
        Err(LoadError::Newer) => Ok(Found::Newer(row)),
        Err(LoadError::Corrupt(reason)) => Ok(Found::Corrupt(row, reason)),
        Err(LoadError::Store(error)) => Err(error),
    }
}

/// One answer for each gid, in no particular order.
pub(super) async fn load(plans: &Plans, store: &dyn Store, gids: &[Gid]) -> Result<Vec<(Gid, Found)>, Error> {
    let mut answers = Vec::with_capacity(gids.len());
    for loaded in store.load(gids).await? {
        let gid = loaded.row.gid.clone();
        answers.push((gid, replay(plans, store, loaded).await?));
        // Replaying is work for the processor: others on this thread get their turn.
        tokio::task::consume_budget().await;
    }
    if answers.len() < gids.len() {
        let there: std::collections::HashSet<_> = answers.iter().map(|(gid, _)| gid.clone()).collect();
        let missing = gids.iter().filter(|gid| !there.contains(*gid));
        answers.extend(missing.map(|gid| (gid.clone(), Found::Missing)).collect::<Vec<_>>());
    }
    Ok(answers)
}

pub(super) async fn load_one(plans: &Plans, store: &dyn Store, gid: &Gid) -> Result<Found, Error> {
    let mut found = load(plans, store, std::slice::from_ref(gid)).await?;
    Ok(found.pop().map_or(Found::Missing, |(_, found)| found))
}
