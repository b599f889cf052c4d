//! A batch laid out for the database: sorted by gid, so that two nodes that touch the same rows take them in the same
//! order, and with at most one change of each transaction's row. A change that stands beside an append of the same
//! transaction lands only if that append does; beside its begin it is void, since its writer cannot know yet.

use std::collections::{BTreeMap, HashSet};

use super::{
    super::{Append, Batch, Begin, Error, Projection, StoredPlan},
    rows, seq_column,
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
pub(super) struct BatchRows<'a> {
    pub(super) entries: Vec<JournalRow<'a>>,
    pub(super) begins: Vec<(&'a str, &'a Begin)>,
    pub(super) plans: Vec<&'a StoredPlan>,
    pub(super) changes: Vec<Change<'a>>,
}

impl<'a> BatchRows<'a> {
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

/// How many of a batch's rows must have been written if nothing conflicted.
pub(super) fn full(entries: &[JournalRow<'_>]) -> i64 {
    rows(entries.len())
}

pub(super) fn format_column(format: u32) -> i32 {
    i32::try_from(format).unwrap_or(i32::MAX)
}
