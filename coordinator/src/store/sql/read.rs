//! What is read: due transactions, rows with journals, plans, lists.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
};

use skald_protocol::{Gid, Status, Timestamp, TransactionSummary, WorkflowRef};

use super::{
    super::{Error, Filter, Loaded, NodeId, Row as Transaction, StoredPlan, StoredRecord},
    dialect::{Sql, sql},
    rows,
    session::{Pool, Query, Row, Session},
    unsigned,
};

const DUE: Sql = sql!(
    "SELECT next_wake_at, gid FROM transactions WHERE shard" [in "$1"] " AND settled_at IS NULL \
     AND next_wake_at <= $2 AND quarantined IS NULL AND (next_wake_at, gid) > ($3, $4) \
     ORDER BY next_wake_at, gid LIMIT $5"
);

const FOREIGN: Sql = sql!(
    "SELECT gid, foreign_seq FROM transactions WHERE shard" [in "$1"] " AND foreign_seq IS NOT NULL \
     AND quarantined IS NULL LIMIT $2"
);

// One statement, so that a row and its journal are of the same moment: retention takes journals.
const LOAD: Sql = sql!(
    "SELECT t.gid, t.shard, t.status, t.workflow, t.version, t.request_digest, t.plan, t.created_at, t.next_wake_at, \
     t.parked_node, t.parked_epoch, t.settled_at, t.expired, t.quarantined, j.seq, j.format, j.events \
     FROM transactions t LEFT JOIN journal j ON j.gid = t.gid AND t.quarantined IS NULL \
     WHERE t.gid" [in "$1"] " ORDER BY t.gid, j.seq"
);

const LABELS: Sql = sql!("SELECT gid, key, value FROM labels WHERE gid" [in "$1"]);

const PLAN: Sql = sql!("SELECT format, definition, plan FROM plans WHERE digest = $1");

pub(super) async fn due(
    pool: &Pool,
    shards: &[i32],
    now: Timestamp,
    after: Option<(Timestamp, Gid)>,
    limit: usize,
) -> Result<Vec<(Timestamp, Gid)>, Error> {
    let (after, gid) = after.map_or((i64::MIN, String::new()), |(at, gid)| (at.0, gid.into()));
    let mut session = pool.session().await?;
    let query = session.query(DUE).bind_list(shards).bind(now.0).bind(after).bind(gid).bind(rows(limit));
    let found = query.fetch_all(&mut session).await?;
    session.commit().await?;
    found.iter().map(|row| Ok((Timestamp(row.get(0)?), row.parse(1)?))).collect()
}

pub(super) async fn foreign(pool: &Pool, shards: &[i32], limit: usize) -> Result<Vec<(Gid, u64)>, Error> {
    let mut session = pool.session().await?;
    let found = session.query(FOREIGN).bind_list(shards).bind(rows(limit)).fetch_all(&mut session).await?;
    session.commit().await?;
    found.iter().map(|row| Ok((row.parse(0)?, unsigned(row.get::<i64>(1)?)?))).collect()
}

pub(super) async fn load(pool: &Pool, gids: &[Gid]) -> Result<Vec<Loaded>, Error> {
    let wanted: Vec<&str> = gids.iter().map(Gid::as_str).collect();
    let mut session = pool.session().await?;
    let found = session.query(LOAD).bind_list(&wanted).fetch_all(&mut session).await?;
    let mut labels = labels(&mut session, &wanted).await?;
    session.commit().await?;
    let mut loaded: Vec<Loaded> = Vec::with_capacity(gids.len());
    for row in &found {
        let gid: Gid = row.parse(0)?;
        if loaded.last().is_none_or(|last| last.row.gid != gid) {
            let labels = labels.remove(&gid).unwrap_or_default();
            loaded.push(Loaded { row: transaction(row, gid, labels)?, records: Vec::new() });
        }
        let (Some(last), Some(seq)) = (loaded.last_mut(), row.get::<Option<i64>>(14)?) else { continue };
        let format = unsigned(row.get::<i32>(15)?)?;
        last.records.push(StoredRecord { seq: unsigned(seq)?, format, bytes: row.get(16)? });
    }
    Ok(loaded)
}

fn transaction(row: &Row, gid: Gid, labels: BTreeMap<String, String>) -> Result<Transaction, Error> {
    Ok(Transaction {
        gid,
        shard: row.get(1)?,
        status: row.parse(2)?,
        workflow: workflow(row, 3)?,
        request_digest: row.digest(5)?,
        plan: row.digest(6)?,
        created_at: Timestamp(row.get(7)?),
        next_wake_at: row.get::<Option<i64>>(8)?.map(Timestamp),
        parked_by: row.get::<Option<uuid::Uuid>>(9)?.map(NodeId).zip(row.get(10)?),
        settled_at: row.get::<Option<i64>>(11)?.map(Timestamp),
        expired: row.get(12)?,
        quarantined: row.get(13)?,
        labels,
    })
}

fn workflow(row: &Row, index: usize) -> Result<Option<WorkflowRef>, Error> {
    let named = row.get::<Option<String>>(index)?.zip(row.get::<Option<String>>(index + 1)?);
    Ok(named.map(|(name, version)| WorkflowRef { name, version }))
}

async fn labels(session: &mut Session, gids: &[&str]) -> Result<HashMap<Gid, BTreeMap<String, String>>, Error> {
    let mut labels: HashMap<Gid, BTreeMap<String, String>> = HashMap::new();
    for row in session.query(LABELS).bind_list(gids).fetch_all(session).await? {
        labels.entry(row.parse(0)?).or_default().insert(row.get(1)?, row.get(2)?);
    }
    Ok(labels)
}

pub(super) async fn plan(pool: &Pool, digest: &[u8; 32]) -> Result<Option<StoredPlan>, Error> {
    let mut session = pool.session().await?;
    let found = session.query(PLAN).bind(digest.to_vec()).fetch_optional(&mut session).await?;
    session.commit().await?;
    let Some(row) = found else { return Ok(None) };
    let format = unsigned(row.get::<i32>(0)?)?;
    Ok(Some(StoredPlan { digest: *digest, format, definition: row.get(1)?, plan: row.get(2)? }))
}

/// Beyond every character of a gid.
const LAST: char = '\u{7f}';

enum Value {
    Text(String),
    Number(i64),
}

/// A list's statement as it grows; values never stand in the text.
struct Clauses {
    text: String,
    values: Vec<Value>,
}

impl Clauses {
    fn place(&mut self, value: Value) -> usize {
        self.values.push(value);
        self.values.len()
    }

    fn number(&mut self, clause: &str, value: i64) {
        let place = self.place(Value::Number(value));
        let _ = write!(self.text, " AND {clause} ${place}");
    }

    fn and(&mut self, clause: &str, value: String) {
        let place = self.place(Value::Text(value));
        let _ = write!(self.text, " AND {clause} ${place}");
    }
}

/// The newest first. Of the tables, one leads: `labels` where a label is asked for, else `transactions`; its index gives
/// the order, so a page costs what it shows.
fn list_clauses(filter: &Filter) -> Clauses {
    let mut wanted = filter.labels.iter();
    let first = wanted.next();
    let mut clauses = Clauses {
        text: "SELECT t.gid, t.status, t.workflow, t.version, t.created_at, t.settled_at FROM ".into(),
        values: Vec::new(),
    };
    let lead = if let Some((key, value)) = first {
        clauses.text.push_str("labels l JOIN transactions t ON t.gid = l.gid WHERE NOT t.expired");
        clauses.and("l.key =", key.clone());
        clauses.and("l.value =", value.clone());
        "l"
    } else {
        clauses.text.push_str("transactions t WHERE NOT t.expired");
        "t"
    };
    for (key, value) in wanted {
        let key = clauses.place(Value::Text(key.clone()));
        let value = clauses.place(Value::Text(value.clone()));
        let _ = write!(
            clauses.text,
            " AND EXISTS (SELECT 1 FROM labels o WHERE o.gid = t.gid AND o.key = ${key} AND o.value = ${value})"
        );
    }
    if !filter.status.is_empty() {
        // Words of our own, not a client's.
        let words: Vec<String> = filter.status.iter().map(|status| format!("'{status}'")).collect();
        let _ = write!(clauses.text, " AND t.status IN ({})", words.join(", "));
        // The live ones have an index of their own; a suspended one may be far from the newest.
        if filter.status.iter().all(|status| !Status::is_final(*status)) {
            clauses.text.push_str(" AND t.settled_at IS NULL");
        }
    }
    if let Some(workflow) = &filter.workflow {
        clauses.and("t.workflow =", workflow.clone());
    }
    if let Some(prefix) = &filter.gid_prefix {
        clauses.and("t.gid >=", prefix.clone());
        clauses.and("t.gid <", format!("{prefix}{LAST}"));
    }
    if let Some(after) = filter.created_after {
        clauses.number(&format!("{lead}.created_at >"), after.0);
    }
    if let Some(before) = filter.created_before {
        clauses.number(&format!("{lead}.created_at <"), before.0);
    }
    if let Some((at, gid)) = &filter.before {
        let at = clauses.place(Value::Number(at.0));
        let gid = clauses.place(Value::Text(gid.as_str().to_owned()));
        let _ = write!(clauses.text, " AND ({lead}.created_at, {lead}.gid) < (${at}, ${gid})");
    }
    let limit = clauses.place(Value::Number(rows(filter.limit)));
    let _ = write!(clauses.text, " ORDER BY {lead}.created_at DESC, {lead}.gid DESC LIMIT ${limit}");
    clauses
}

pub(super) async fn list(pool: &Pool, filter: &Filter) -> Result<Vec<TransactionSummary>, Error> {
    let clauses = list_clauses(filter);
    let mut session = pool.session().await?;
    let mut query = Query::assembled(session.kind(), clauses.text);
    for value in clauses.values {
        query = match value {
            Value::Text(text) => query.bind(text),
            Value::Number(number) => query.bind(number),
        };
    }
    let found = query.fetch_all(&mut session).await?;
    let gids = found.iter().map(|row| row.parse(0)).collect::<Result<Vec<Gid>, _>>()?;
    let wanted: Vec<&str> = gids.iter().map(Gid::as_str).collect();
    let mut labels = if gids.is_empty() { HashMap::new() } else { labels(&mut session, &wanted).await? };
    session.commit().await?;
    let summary = |(row, gid): (&Row, Gid)| {
        Ok(TransactionSummary {
            status: row.parse(1)?,
            workflow: workflow(row, 2)?,
            created_at: Timestamp(row.get(4)?),
            settled_at: row.get::<Option<i64>>(5)?.map(Timestamp),
            labels: labels.remove(&gid).unwrap_or_default(),
            gid,
        })
    };
    found.iter().zip(gids).map(summary).collect()
}
