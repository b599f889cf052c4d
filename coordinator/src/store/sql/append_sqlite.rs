//! A batch on SQLite: one transaction of the only writer.
//!
//! Lists travel as JSON, records as one blob that the JSON points into: a statement costs a trip to the connection's
//! thread, so there are as few as there are tables. A conflict is seen in the number of rows; since nobody else writes, the
//! batch is then rolled back, the conflicts are looked up, and the rest is written.

use std::collections::HashSet;

use serde_json::json;
use skald_engine::journal::FORMAT;
use skald_protocol::Status;

use super::{
    super::{Batch, Error, NodeId},
    batch::{BatchRows, format_column, full},
    dialect::{Sql, sql},
    retention::PLAN,
    session::{Pool, Session},
};

const FENCE: Sql = sql!("UPDATE nodes SET batch = batch + 1 WHERE node_id = $1 AND batch = $2 AND NOT dead");
const NO_FENCE: Sql = sql!("UPDATE nodes SET batch = batch + 1 WHERE node_id = $1 AND $2 >= 0");

const BEGINS: Sql = sql!(
    "INSERT INTO transactions \
     (gid, shard, status, workflow, version, request_digest, plan, created_at, next_wake_at, expired) \
     SELECT value->>0, value->>1, 'running', value->>2, value->>3, unhex(value->>4), unhex(value->>5), value->>6, \
     value->>6, 0 FROM json_each($1) WHERE true ON CONFLICT DO NOTHING"
);

const LABELS: Sql = sql!(
    "INSERT INTO labels (gid, key, value, created_at) \
     SELECT value->>0, value->>1, value->>2, value->>3 FROM json_each($1)"
);

const JOURNAL: Sql = sql!(
    "INSERT INTO journal (gid, seq, format, events) \
     SELECT value->>0, value->>1, $3, coalesce(substr($2, value->>3, value->>4), x'') FROM json_each($1) \
     WHERE value->>2 <> 2 \
     OR EXISTS (SELECT 1 FROM transactions WHERE transactions.gid = value->>0 AND NOT transactions.expired) \
     ON CONFLICT DO NOTHING"
);

const CONFLICTS: Sql = sql!(
    "SELECT value->>0 FROM json_each($1) \
     WHERE EXISTS (SELECT 1 FROM journal WHERE journal.gid = value->>0 AND journal.seq = value->>1) \
     OR (value->>2 = 1 AND EXISTS (SELECT 1 FROM transactions WHERE transactions.gid = value->>0)) \
     OR (value->>2 = 2 AND NOT EXISTS \
     (SELECT 1 FROM transactions WHERE transactions.gid = value->>0 AND NOT transactions.expired))"
);

const CHANGES: Sql = sql!(
    "UPDATE transactions AS t SET foreign_seq = c.mark, status = coalesce(c.status, t.status), \
     next_wake_at = CASE WHEN c.mark IS NULL THEN c.next_wake_at ELSE " [now] " END, \
     parked_node = CASE WHEN c.mark IS NULL THEN c.parked_node ELSE t.parked_node END, \
     parked_epoch = CASE WHEN c.mark IS NULL THEN c.parked_epoch ELSE t.parked_epoch END, \
     settled_at = coalesce(c.settled_at, t.settled_at) \
     FROM (SELECT value->>0 AS gid, value->>1 AS mark, value->>2 AS seq, value->>3 AS status, \
     value->>4 AS next_wake_at, unhex(value->>5) AS parked_node, value->>6 AS parked_epoch, value->>7 AS settled_at \
     FROM json_each($2)) AS c WHERE t.gid = c.gid \
     AND t.quarantined IS NULL AND NOT t.expired \
     AND (c.mark IS NOT NULL OR ((t.foreign_seq IS NULL OR t.foreign_seq < c.seq) \
     AND (SELECT s.owner FROM shards s WHERE s.shard = t.shard) = $1))"
);

/// The gids whose appends conflicted.
pub(super) async fn append(
    pool: &Pool,
    fenced: bool,
    node: NodeId,
    expected: i64,
    batch: &Batch,
) -> Result<HashSet<String>, Error> {
    let parts = BatchRows::new(batch, &HashSet::new())?;
    let mut session = pool.transaction().await?;
    pass(&mut session, fenced, node, expected).await?;
    if write(&mut session, node, &parts).await? {
        session.commit().await?;
        return Ok(HashSet::new());
    }
    session.rollback().await?;
    let mut session = pool.transaction().await?;
    pass(&mut session, fenced, node, expected).await?;
    let found = session.query(CONFLICTS).bind(journal(&parts).0).fetch_all(&mut session).await?;
    let conflicts = found.iter().map(|row| row.get::<String>(0)).collect::<Result<HashSet<_>, _>>()?;
    let rest = BatchRows::new(batch, &conflicts)?;
    if !write(&mut session, node, &rest).await? {
        return Err(Error::Refused("a batch conflicts with rows that cannot be found".into()));
    }
    session.commit().await?;
    Ok(conflicts)
}

async fn pass(session: &mut Session, fenced: bool, node: NodeId, expected: i64) -> Result<(), Error> {
    let fence = if fenced { FENCE } else { NO_FENCE };
    let passed = session.query(fence).bind(node.0).bind(expected).execute(session).await?;
    if passed == 1 { Ok(()) } else { Err(Error::Deposed) }
}

/// `false` if something conflicted: then nothing of it may be kept.
async fn write(session: &mut Session, node: NodeId, parts: &BatchRows<'_>) -> Result<bool, Error> {
    for plan in &parts.plans {
        let query = session.query(PLAN).bind(plan.digest.to_vec()).bind(format_column(plan.format));
        query.bind(plan.definition.clone()).bind(plan.plan.clone()).execute(session).await?;
    }
    if !parts.begins.is_empty() {
        let begun = session.query(BEGINS).bind(begins(parts)).execute(session).await?;
        if i64::try_from(begun).ok() != Some(super::rows(parts.begins.len())) {
            return Ok(false);
        }
        let labels: Vec<_> = parts.labels().collect();
        if !labels.is_empty() {
            session.query(LABELS).bind(text(&labels)).execute(session).await?;
        }
    }
    if !parts.entries.is_empty() {
        let (index, records) = journal(parts);
        let query = session.query(JOURNAL).bind(index).bind(records).bind(format_column(FORMAT));
        if i64::try_from(query.execute(session).await?).ok() != Some(full(&parts.entries)) {
            return Ok(false);
        }
    }
    if !parts.changes.is_empty() {
        session.query(CHANGES).bind(node.0).bind(changes(parts)).execute(session).await?;
    }
    Ok(true)
}

fn begins(parts: &BatchRows<'_>) -> String {
    let row = |(gid, begin): &(&str, &super::super::Begin)| {
        let workflow = begin.workflow.as_ref();
        json!([
            gid,
            begin.shard,
            workflow.map(|workflow| &workflow.name),
            workflow.map(|workflow| &workflow.version),
            hex::encode(begin.request_digest),
            hex::encode(begin.plan),
            begin.created_at.0,
        ])
    };
    text(&parts.begins.iter().map(row).collect::<Vec<_>>())
}

/// Rows that point into the records laid end to end; SQLite counts from 1.
fn journal(parts: &BatchRows<'_>) -> (String, Vec<u8>) {
    let mut records = Vec::with_capacity(parts.entries.iter().map(|entry| entry.record.len()).sum());
    let mut index = Vec::with_capacity(parts.entries.len());
    for entry in &parts.entries {
        index.push((entry.gid, entry.seq, entry.nature as i32, records.len() + 1, entry.record.len()));
        records.extend_from_slice(entry.record);
    }
    (text(&index), records)
}

fn changes(parts: &BatchRows<'_>) -> String {
    let rows = parts.changes.iter().map(|change| {
        let projection = change.projection;
        (
            change.gid,
            change.mark,
            change.seq,
            projection.map(|projection| Status::as_str(projection.status)),
            projection.and_then(|projection| projection.next_wake_at).map(|at| at.0),
            projection.and_then(|projection| projection.parked_by).map(|(node, _)| hex::encode(node.0.as_bytes())),
            projection.and_then(|projection| projection.parked_by).map(|(_, epoch)| epoch),
            projection.and_then(|projection| projection.settled_at).map(|at| at.0),
        )
    });
    text(&rows.collect::<Vec<_>>())
}

fn text(rows: &impl serde::Serialize) -> String {
    serde_json::to_string(rows).expect("plain values are JSON")
}
