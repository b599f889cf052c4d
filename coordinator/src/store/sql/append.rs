//! A batch in one commit, behind both fences, and what to do when its answer was lost.
//!
//! `Parts` is a batch laid out for the database: sorted by gid, so that two nodes that touch the same rows take them in
//! the same order, and with at most one change of each transaction's row. A change that stands beside an append of the same
//! transaction lands only if that append does; beside its begin it is void, since its writer cannot know yet.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use skald_protocol::Gid;

use super::{
    super::{Append, Appended, Batch, Begin, Error, NodeId, Projection, StoredPlan},
    append_postgres, append_sqlite,
    dialect::{Sql, sql},
    rows, seq_column,
    session::{Kind, Pool},
};

/// What must hold for an append to land, besides a free `(gid, seq)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nature {
    /// By the holder.
    Own = 0,
    /// The gid is new.
    Begin = 1,
    /// The transaction has not been taken by retention.
    Foreign = 2,
}

#[derive(Debug)]
pub(super) struct JournalRow<'a> {
    pub(super) gid: &'a str,
    pub(super) seq: i64,
    pub(super) nature: Nature,
    pub(super) record: &'a [u8],
}

#[derive(Debug)]
pub(super) struct Change<'a> {
    pub(super) gid: &'a str,
    /// Only if this batch's append of it lands.
    pub(super) appended: bool,
    /// A foreign append's seq; else `projection` is the change.
    pub(super) mark: Option<i64>,
    pub(super) projection: Option<&'a Projection>,
    pub(super) seq: i64,
}

#[derive(Debug)]
pub(super) struct Parts<'a> {
    pub(super) entries: Vec<JournalRow<'a>>,
    pub(super) begins: Vec<(&'a str, &'a Begin)>,
    pub(super) plans: Vec<&'a StoredPlan>,
    pub(super) changes: Vec<Change<'a>>,
}

impl<'a> Parts<'a> {
    /// Leaves out what is known to conflict, and the changes that depend on it.
    pub(super) fn new(batch: &'a Batch, conflicts: &HashSet<String>) -> Result<Self, Error> {
        let mut appends: BTreeMap<&str, &Append> = BTreeMap::new();
        for append in &batch.appends {
            if appends.insert(append.gid.as_str(), append).is_some() {
                return Err(Error::Refused(format!("a batch holds two appends of `{}`", append.gid)));
            }
        }
        let mut projections: BTreeMap<&str, &Projection> = BTreeMap::new();
        for projection in &batch.projections {
            let newest = projections.entry(projection.gid.as_str()).or_insert(projection);
            if projection.seq >= newest.seq {
                *newest = projection;
            }
        }
        let mut parts = Self { entries: Vec::new(), begins: Vec::new(), plans: Vec::new(), changes: Vec::new() };
        let mut plans: BTreeMap<[u8; 32], &StoredPlan> = BTreeMap::new();
        for (gid, append) in &appends {
            let projection = projections.remove(gid);
            if conflicts.contains(*gid) {
                continue;
            }
            let seq = seq_column(append.seq)?;
            let nature = match &append.begin {
                Some(begin) => {
                    parts.begins.push((gid, begin));
                    plans.extend(begin.store_plan.as_ref().map(|plan| (plan.digest, plan)));
                    Nature::Begin
                }
                None if append.foreign => Nature::Foreign,
                None => Nature::Own,
            };
            parts.entries.push(JournalRow { gid, seq, nature, record: &append.record });
            let projection = projection.filter(|projection| nature == Nature::Own || projection.seq > append.seq);
            match (nature, projection) {
                (Nature::Begin, _) | (Nature::Own, None) => {}
                (Nature::Own | Nature::Foreign, Some(projection)) => {
                    parts.changes.push(Change::project(gid, true, projection)?);
                }
                (Nature::Foreign, None) => {
                    parts.changes.push(Change { gid, appended: true, mark: Some(seq), projection: None, seq });
                }
            }
        }
        for (gid, projection) in projections {
            parts.changes.push(Change::project(gid, false, projection)?);
        }
        parts.changes.sort_unstable_by_key(|change| change.gid);
        parts.plans.extend(plans.into_values());
        Ok(parts)
    }

    pub(super) fn has_labels(&self) -> bool {
        self.begins.iter().any(|(_, begin)| !begin.labels.is_empty())
    }

    /// Labels of the begins; a zero byte, which Postgres' text cannot hold, becomes U+FFFD here and stays in the journal.
    pub(super) fn labels(&self) -> impl Iterator<Item = (&'a str, String, String, i64)> {
        self.begins.iter().flat_map(|(gid, begin)| {
            let unique: BTreeMap<String, &String> =
                begin.labels.iter().map(|(key, value)| (key.replace('\0', "\u{fffd}"), value)).collect();
            unique
                .into_iter()
                .map(|(key, value)| (*gid, key, value.replace('\0', "\u{fffd}"), begin.created_at.0))
                .collect::<Vec<_>>()
        })
    }
}

impl<'a> Change<'a> {
    fn project(gid: &'a str, appended: bool, projection: &'a Projection) -> Result<Self, Error> {
        Ok(Self { gid, appended, mark: None, projection: Some(projection), seq: seq_column(projection.seq)? })
    }
}

pub(super) async fn append(
    pool: &Pool,
    fenced: bool,
    previous: &append_postgres::Previous,
    node: NodeId,
    expected: i64,
    batch: &Batch,
) -> Result<Vec<Appended>, Error> {
    let conflicts = match pool.kind() {
        Kind::Postgres => append_postgres::append(pool, fenced, previous, node, expected, batch).await?,
        Kind::Sqlite => append_sqlite::append(pool, fenced, node, expected, batch).await?,
    };
    let answer = |append: &Append| {
        if conflicts.contains(append.gid.as_str()) { Appended::Conflict } else { Appended::Durable }
    };
    Ok(batch.appends.iter().map(answer).collect())
}

const OWN_BATCH: Sql = sql!("SELECT batch FROM nodes WHERE node_id = $1 AND NOT dead"[for_update]);
const WRITTEN: Sql = sql!("SELECT gid, seq, events FROM journal WHERE gid" [in "$1"] " AND seq >= $2 AND seq <= $3");

pub(super) async fn resolve(
    pool: &Pool,
    node: NodeId,
    expected: i64,
    batch: &Batch,
) -> Result<Option<Vec<Appended>>, Error> {
    let mut session = pool.transaction().await?;
    // The lost statement holds this row until it has ended, one way or the other.
    let own = session.query(OWN_BATCH).bind(node.0).fetch_optional(&mut session).await?;
    let landed = match own.ok_or(Error::Deposed)?.get::<i64>(0)? {
        now if now == expected => false,
        now if now == expected + 1 => true,
        // Behind: the database lost what it had acknowledged. Ahead: somebody else writes as this node.
        _ => return Err(Error::Deposed),
    };
    if !landed {
        session.commit().await?;
        return Ok(None);
    }
    let gids: BTreeSet<&str> = batch.appends.iter().map(|append| append.gid.as_str()).collect();
    let gids: Vec<&str> = gids.into_iter().collect();
    let first = batch.appends.iter().map(|append| append.seq).min().unwrap_or(0);
    let last = batch.appends.iter().map(|append| append.seq).max().unwrap_or(0);
    let query = session.query(WRITTEN).bind_list(&gids).bind(seq_column(first)?).bind(seq_column(last)?);
    let found = query.fetch_all(&mut session).await?;
    session.commit().await?;
    let mut written: BTreeMap<(Gid, i64), Vec<u8>> = BTreeMap::new();
    for row in &found {
        written.insert((row.parse(0)?, row.get(1)?), row.get(2)?);
    }
    let answer = |append: &Append| {
        let stored = i64::try_from(append.seq).ok().and_then(|seq| written.get(&(append.gid.clone(), seq)));
        if stored.is_some_and(|stored| *stored == append.record) { Appended::Durable } else { Appended::Conflict }
    };
    Ok(Some(batch.appends.iter().map(answer).collect()))
}

/// How many of a batch's rows must have been written if nothing conflicted.
pub(super) fn full(entries: &[JournalRow<'_>]) -> i64 {
    rows(entries.len())
}
