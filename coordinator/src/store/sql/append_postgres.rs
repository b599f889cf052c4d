//! A batch on Postgres: one statement, one round trip, one commit.
//!
//! The node's row is updated first; every other part joins what that returned, so a deposed node changes nothing. Its row
//! lock is held to the commit, so a take-over waits for a batch under way. BatchRows that a batch lacks are left out of the
//! text.
//!
//! There are two ways. The optimistic one takes it that nothing conflicts: plain inserts, and the database's own unique keys
//! refuse the whole batch if something does. Then, and for a while after, and where a node appends to what it does not
//! hold, the checked one says which rows conflict and lets the others in.
//!
//! A statement is planned once and kept, and planned anew as the tables grow (`plan_of`). Even so no part may depend on
//! the planner's guess: membership is a hashed subplan (`IS TRUE` keeps it from becoming a join), and the one UPDATE is
//! told that it joins a single row, which makes it look up keys.

use std::{collections::HashSet, fmt::Write as _};

use skald_engine::journal::FORMAT;
use skald_protocol::Status;

use super::{
    super::{Batch, Error, NodeId, Projection, StoredPlan},
    batch::{BatchRows, Change, JournalRow, Nature, format_column, full},
    dialect::{Kind, Sql, sql},
    kept_session::KeptSession,
    session::{Pool, Query, Session},
};

const FENCE: &str = "WITH node AS (UPDATE nodes SET batch = batch + 1 \
     WHERE node_id = $1 AND batch = $2 AND NOT dead RETURNING batch)";

const NO_FENCE: &str =
    "WITH node AS (UPDATE nodes SET batch = batch + 1 WHERE node_id = $1 AND $2::bigint >= 0 RETURNING batch)";

const PLANS: &str = ", planned AS (INSERT INTO plans (digest, format, definition, plan, used_at) \
     SELECT p.*, (extract(epoch FROM clock_timestamp()) * 1000)::bigint \
     FROM node, unnest($28::bytea[], $29::integer[], $30::text[], $31::bytea[]) p \
     ON CONFLICT (digest) DO UPDATE SET used_at = excluded.used_at)";

const BEGINS: &str = ", begun AS (INSERT INTO transactions \
     (gid, shard, status, workflow, version, request_digest, plan, created_at, next_wake_at, expired) \
     SELECT b.gid, b.shard, 'running', b.workflow, b.version, b.request_digest, b.plan, b.created_at, b.created_at, false \
     FROM node, unnest($17::text[], $18::integer[], $19::text[], $20::text[], $21::bytea[], $22::bytea[], $23::bigint[]) \
     b (gid, shard, workflow, version, request_digest, plan, created_at)";

const LABELS: &str = ", labelled AS (INSERT INTO labels (gid, key, value, created_at) \
     SELECT l.* FROM node, unnest($24::text[], $25::text[], $26::text[], $27::bigint[]) l (gid, key, value, created_at)";
const OF_THE_BEGUN: &str = " WHERE (l.gid IN (SELECT gid FROM begun)) IS TRUE";

const WRITTEN: &str = ", written AS (";
const JOURNAL: &str = " INSERT INTO journal (gid, seq, format, events) \
     SELECT r.gid, r.seq, $7::integer, r.events \
     FROM node, unnest($3::text[], $4::bigint[], $5::integer[], $6::bytea[]) r (gid, seq, nature, events)";

/// The same of one append, which alone pays for every set that a statement goes through.
const LONE_BEGIN: &str = ", begun AS (INSERT INTO transactions \
     (gid, shard, status, workflow, version, request_digest, plan, created_at, next_wake_at, expired) \
     SELECT $3::text, $7::integer, 'running', $8::text, $9::text, $10::bytea, $11::bytea, $12::bigint, $12, false \
     FROM node)";
const LONE_JOURNAL: &str = " INSERT INTO journal (gid, seq, format, events) \
     SELECT $3::text, $4::bigint, $6::integer, $5::bytea FROM node";

/// By `Nature`: a begin needs its row to be new, a foreign append its row to be there still.
const ALLOWED: &str = " WHERE CASE r.nature WHEN 0 THEN true WHEN 1 THEN r.gid IN (SELECT gid FROM begun) \
     ELSE coalesce((SELECT NOT t.expired FROM transactions t WHERE t.gid = r.gid), false) END";
const ALLOWED_WITHOUT_BEGINS: &str = " WHERE CASE r.nature WHEN 0 THEN true \
     ELSE coalesce((SELECT NOT t.expired FROM transactions t WHERE t.gid = r.gid), false) END";

const UNLESS_THERE: &str = " ON CONFLICT DO NOTHING RETURNING gid";

/// A projection is the holder's word: not of a shard that has gone to another, not behind a foreign append, not of a
/// transaction that was set aside. `c.gid || ''` is what makes the planner expect one row to look up, and `CASE` what keeps
/// it from guessing how few rows of the table may be meant.
const CHANGES: Sql = sql!(
    ", change AS MATERIALIZED (SELECT c.* FROM node, unnest($8::text[], $9::boolean[], $10::bigint[], $11::bigint[], \
     $12::text[], $13::bigint[], $14::uuid[], $15::bigint[], $16::bigint[]) \
     c (gid, appended, mark, seq, status, next_wake_at, parked_node, parked_epoch, settled_at)"
);
const OF_THE_WRITTEN: &str = " WHERE (NOT c.appended OR c.gid IN (SELECT gid FROM written)) IS TRUE";
const CHANGED: Sql = sql!(
    "), changed AS (UPDATE transactions t SET foreign_seq = c.mark, status = coalesce(c.status, t.status), \
     next_wake_at = CASE WHEN c.mark IS NULL THEN c.next_wake_at ELSE " [now] " END, \
     parked_node = CASE WHEN c.mark IS NULL THEN c.parked_node ELSE t.parked_node END, \
     parked_epoch = CASE WHEN c.mark IS NULL THEN c.parked_epoch ELSE t.parked_epoch END, \
     settled_at = coalesce(c.settled_at, t.settled_at) \
     FROM change c WHERE t.gid = c.gid AND c.gid = c.gid || '' \
     AND CASE WHEN t.expired OR t.quarantined IS NOT NULL THEN false WHEN c.mark IS NOT NULL THEN true \
     WHEN t.foreign_seq >= c.seq THEN false ELSE (SELECT s.owner FROM shards s WHERE s.shard = t.shard) = $1 END"
);

/// One row, however many were written; their gids only if some were not.
const ANSWER: &str = " SELECT (SELECT batch FROM node), n.written, \
     CASE WHEN n.written < cardinality($3::text[]) THEN (SELECT string_agg(gid, ' ') FROM written) END \
     FROM (SELECT count(*) AS written FROM written) n";
/// Of a batch without appends.
const NODE: &str = " SELECT batch FROM node";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Optimistic,
    Checked,
}

/// Batches for which a plan is kept at most.
const PLAN_KEPT: i64 = 1024;

/// A number that changes when the node has written twice as many batches, and every `PLAN_KEPT` of them: a plan made for
/// small tables is wrong for large ones, and Postgres itself makes it anew only once it has counted them.
fn plan_of(batch: i64) -> i64 {
    if batch < PLAN_KEPT { i64::from((batch.max(0) + 1).ilog2()) } else { PLAN_KEPT + batch / PLAN_KEPT }
}

fn statement(fenced: bool, way: Way, batch: i64, parts: &BatchRows<'_>) -> String {
    let checked = |text: &'static str| if way == Way::Checked { text } else { "" };
    let mut text = String::with_capacity(4096);
    let mut add = |part: &str| text.push_str(part);
    add(if fenced { FENCE } else { NO_FENCE });
    if !parts.plans.is_empty() {
        add(PLANS);
    }
    if !parts.begins.is_empty() {
        add(BEGINS);
        add(checked(UNLESS_THERE));
        add(")");
        if parts.has_labels() {
            add(LABELS);
            add(checked(OF_THE_BEGUN));
            add(")");
        }
    }
    if way == Way::Checked {
        add(WRITTEN);
        add(JOURNAL);
        add(if parts.begins.is_empty() { ALLOWED_WITHOUT_BEGINS } else { ALLOWED });
        add(UNLESS_THERE);
        add(")");
    }
    if !parts.changes.is_empty() {
        add(CHANGES.text(Kind::Postgres));
        add(checked(OF_THE_WRITTEN));
        add(CHANGED.text(Kind::Postgres));
        add(")");
    }
    add(match way {
        Way::Checked => ANSWER,
        Way::Optimistic if parts.entries.is_empty() => NODE,
        Way::Optimistic => JOURNAL,
    });
    numbered(text, batch)
}

/// Another text is another statement.
fn numbered(mut text: String, batch: i64) -> String {
    write!(text, " -- {}", plan_of(batch)).expect("a String takes any text");
    text
}

/// The gids whose appends conflicted.
pub(super) async fn append(
    pool: &Pool,
    fenced: bool,
    kept: &KeptSession,
    node: NodeId,
    expected: i64,
    batch: &Batch,
) -> Result<HashSet<String>, Error> {
    let parts = BatchRows::new(batch, &HashSet::new())?;
    let foreign = parts.entries.iter().any(|entry| entry.nature == Nature::Foreign);
    // Only one batch of a node is written at a time.
    if kept.is_optimistic() && !foreign && !pool.is_wrapped() {
        let mut session = kept.session(pool).await?;
        match optimistic(&mut session, fenced, node, expected, &parts).await {
            Err(Error::Refused(_)) => kept.met_a_conflict(),
            Ok(()) => {
                kept.keep(pool, session);
                return Ok(HashSet::new());
            }
            Err(error @ (Error::Deposed | Error::Unavailable(_) | Error::Misconfigured(_) | Error::Damaged(_))) => {
                return Err(error);
            }
        }
    }
    let mut session = pool.session().await?;
    let query = query(fenced, Way::Checked, node, expected, &parts);
    let answer = query.fetch_optional(&mut session).await?.ok_or(Error::Deposed)?;
    if answer.get::<Option<i64>>(0)?.is_none() {
        return Err(Error::Deposed);
    }
    session.commit().await?;
    if answer.get::<i64>(1)? == full(&parts.entries) {
        return Ok(HashSet::new());
    }
    let written = answer.get::<Option<String>>(2)?.unwrap_or_default();
    let written: HashSet<&str> = written.split(' ').collect();
    let missing = parts.entries.iter().filter(|entry| !written.contains(entry.gid));
    Ok(missing.map(|entry| entry.gid.to_owned()).collect())
}

/// All or nothing: nothing where the node's row was not its own any more.
async fn optimistic(
    session: &mut Session,
    fenced: bool,
    node: NodeId,
    expected: i64,
    parts: &BatchRows<'_>,
) -> Result<(), Error> {
    let single_append = single_append(fenced, node, expected, parts);
    let query = single_append.unwrap_or_else(|| query(fenced, Way::Optimistic, node, expected, parts));
    let landed = if parts.entries.is_empty() {
        query.fetch_optional(session).await?.is_some()
    } else {
        query.execute(session).await? > 0
    };
    if landed { Ok(()) } else { Err(Error::Deposed) }
}

/// A batch of one append and nothing else.
fn single_append(fenced: bool, node: NodeId, expected: i64, parts: &BatchRows<'_>) -> Option<Query> {
    let [entry] = parts.entries.as_slice() else { return None };
    if parts.has_labels() || !parts.plans.is_empty() || !parts.changes.is_empty() {
        return None;
    }
    let begin = parts.begins.first().map(|(_, begin)| begin);
    let fence = if fenced { FENCE } else { NO_FENCE };
    let text = [fence, if begin.is_some() { LONE_BEGIN } else { "" }, LONE_JOURNAL].concat();
    let query = Query::assembled(Kind::Postgres, numbered(text, expected)).hot();
    let query = query
        .bind(node.0)
        .bind(expected)
        .bind(entry.gid.to_owned())
        .bind(entry.seq)
        .bind(entry.record.to_owned())
        .bind(format_column(FORMAT));
    let Some(begin) = begin else { return Some(query) };
    let workflow = begin.workflow.as_ref();
    Some(
        query
            .bind(begin.shard)
            .bind(workflow.map(|workflow| workflow.name.clone()))
            .bind(workflow.map(|workflow| workflow.version.clone()))
            .bind(begin.request_digest.to_vec())
            .bind(begin.plan.to_vec())
            .bind(begin.created_at.0),
    )
}

fn query(fenced: bool, way: Way, node: NodeId, expected: i64, parts: &BatchRows<'_>) -> Query {
    let query = Query::assembled(Kind::Postgres, statement(fenced, way, expected, parts)).hot();
    bind(query.bind(node.0).bind(expected), parts)
}

/// As far as the statement's placeholders go: what only begins need stands last.
fn bind(query: Query, parts: &BatchRows<'_>) -> Query {
    let mut query = bind_entries(query, &parts.entries);
    if !parts.changes.is_empty() || !parts.begins.is_empty() {
        query = bind_changes(query, &parts.changes);
    }
    if !parts.begins.is_empty() {
        query = bind_begins(query, parts);
    }
    if !parts.plans.is_empty() {
        query = bind_plans(query, &parts.plans);
    }
    query
}

fn bind_plans(query: Query, plans: &[&StoredPlan]) -> Query {
    query
        .bind_array(plans.iter().map(|plan| plan.digest.as_slice()).collect())
        .bind_array(plans.iter().map(|plan| format_column(plan.format)).collect())
        .bind_array(plans.iter().map(|plan| plan.definition.as_deref()).collect())
        .bind_array(plans.iter().map(|plan| plan.plan.as_slice()).collect())
}

fn bind_begins(query: Query, parts: &BatchRows<'_>) -> Query {
    let begins = &parts.begins;
    let workflow = |index: usize| begins[index].1.workflow.as_ref();
    let each = 0..begins.len();
    let labels: Vec<_> = parts.labels().collect();
    query
        .bind_array(begins.iter().map(|(gid, _)| *gid).collect())
        .bind_array(begins.iter().map(|(_, begin)| begin.shard).collect())
        .bind_array(each.clone().map(|index| workflow(index).map(|workflow| workflow.name.as_str())).collect())
        .bind_array(each.map(|index| workflow(index).map(|workflow| workflow.version.as_str())).collect())
        .bind_array(begins.iter().map(|(_, begin)| begin.request_digest.as_slice()).collect())
        .bind_array(begins.iter().map(|(_, begin)| begin.plan.as_slice()).collect())
        .bind_array(begins.iter().map(|(_, begin)| begin.created_at.0).collect())
        .bind_array(labels.iter().map(|(gid, ..)| *gid).collect())
        .bind_array(labels.iter().map(|(_, key, ..)| key.as_str()).collect())
        .bind_array(labels.iter().map(|(_, _, value, _)| value.as_str()).collect())
        .bind_array(labels.iter().map(|(.., at)| *at).collect())
}

fn bind_entries(query: Query, entries: &[JournalRow<'_>]) -> Query {
    query
        .bind_array(entries.iter().map(|entry| entry.gid).collect())
        .bind_array(entries.iter().map(|entry| entry.seq).collect())
        .bind_array(entries.iter().map(|entry| entry.nature as i32).collect())
        .bind_array(entries.iter().map(|entry| entry.record).collect())
        .bind(format_column(FORMAT))
}

fn bind_changes(query: Query, changes: &[Change<'_>]) -> Query {
    fn column<'a, T>(changes: &'a [Change<'a>], of: impl Fn(&'a Projection) -> Option<T>) -> Vec<Option<T>> {
        changes.iter().map(|change| change.projection.and_then(&of)).collect()
    }
    query
        .bind_array(changes.iter().map(|change| change.gid).collect())
        .bind_array(changes.iter().map(|change| change.appended).collect())
        .bind_array(changes.iter().map(|change| change.mark).collect())
        .bind_array(changes.iter().map(|change| change.seq).collect())
        .bind_array(column(changes, |change| Some(Status::as_str(change.status))))
        .bind_array(column(changes, |change| change.next_wake_at.map(|at| at.0)))
        .bind_array(column(changes, |change| change.parked_by.map(|(node, _)| node.0)))
        .bind_array(column(changes, |change| change.parked_by.map(|(_, epoch)| epoch)))
        .bind_array(column(changes, |change| change.settled_at.map(|at| at.0)))
}
