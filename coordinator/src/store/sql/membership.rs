//! Nodes, leases and shards. A take-over sets the old owner `dead` first, in the same transaction: from then on none of its
//! commits can land, and the node row's lock makes the one that was under way land before.

use std::time::Duration;

use skald_engine::journal::FORMAT;
use skald_protocol::Timestamp;

use super::{
    super::{Beat, Error, Joined, NodeId, Shard},
    dialect::{Kind, Sql, sql},
    millis, rows,
    session::{Pool, Query, Row, Session},
    unsigned,
};

/// A lease that ends later was not given by the clock as it is now: it was set back, and its owner is not heard of since.
const LONGEST_LEASE_MS: i64 = 60_000;

/// How long a dead node's row is kept for whoever asks why it is gone.
const DEAD_ROWS_KEPT_MS: i64 = 3_600_000;

const NOW: Sql = sql!("SELECT "[now]);

const JOIN: Sql = sql!(
    "INSERT INTO nodes (node_id, address, format, expires_at, batch, dead, draining) \
     VALUES ($1, $2, $3, $4, 0, false, false)"
);

const DEPOSE_EARLIER: Sql = sql!("UPDATE nodes SET dead = true WHERE node_id <> $1 AND NOT dead AND " [earlier "$2"]);

const INHERIT: Sql = sql!(
    "UPDATE shards SET owner = $1, epoch = epoch + 1 WHERE owner IN \
     (SELECT node_id FROM nodes WHERE node_id <> $1 AND dead AND " [earlier "$2"] ") RETURNING shard, epoch"
);

const FORGET: Sql = sql!(
    "DELETE FROM nodes WHERE dead AND expires_at < $1 \
     AND NOT EXISTS (SELECT 1 FROM shards WHERE shards.owner = nodes.node_id)"
);

const FORMATS: Sql = sql!("SELECT min(format) FROM nodes WHERE NOT dead");

const BEAT: Sql = sql!(
    "UPDATE nodes SET expires_at = " [now] " + $2, draining = $3 WHERE node_id = $1 AND NOT dead \
     RETURNING expires_at - $2, batch"
);

const HELD: Sql = sql!("SELECT shard, epoch FROM shards WHERE owner = $1 ORDER BY shard");

const AROUND: Sql = sql!(
    "SELECT (SELECT count(*) FROM shards), \
     (SELECT count(*) FROM nodes WHERE NOT dead AND NOT draining AND expires_at > $1), \
     (SELECT min(format) FROM nodes WHERE NOT dead)"
);

const ALIVE: Sql = sql!("SELECT node_id FROM nodes WHERE node_id = $1 AND NOT dead");

// A row that is locked belongs to a node whose commit is under way; it is looked at again at the next claim.
const DEPOSE_EXPIRED: Sql = sql!(
    "WITH expired AS MATERIALIZED (SELECT node_id FROM nodes \
     WHERE NOT dead AND node_id <> $1 AND (expires_at <= " [now] " OR expires_at > " [now] " + $2) \
     ORDER BY node_id" [skip_locked] ") \
     UPDATE nodes SET dead = true WHERE node_id IN (SELECT node_id FROM expired)"
);

const CLAIM: Sql = sql!(
    "WITH free AS MATERIALIZED (SELECT shard FROM shards WHERE owner IS NULL \
     OR NOT EXISTS (SELECT 1 FROM nodes WHERE nodes.node_id = shards.owner AND NOT nodes.dead) \
     ORDER BY shard LIMIT $2" [skip_locked] ") \
     UPDATE shards SET owner = $1, epoch = epoch + 1 WHERE shard IN (SELECT shard FROM free) RETURNING shard, epoch"
);

const OWN_ROW: Sql = sql!("SELECT node_id FROM nodes WHERE node_id = $1"[for_update]);

const RELEASE: Sql = sql!("UPDATE shards SET owner = NULL WHERE owner = $1 AND shard" [in "$2"]);

// The row tells a later node how far the database's clock had come.
const LEAVE: Sql = sql!("UPDATE nodes SET dead = true WHERE node_id = $1");

const BATCH: Sql = sql!("SELECT batch FROM nodes WHERE node_id = $1");

/// The first eight digits of a log file's name. What checkpoints tell lags behind a fail-over.
const TIMELINE: &str = "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)";

const LATEST: Sql = sql!("SELECT max(expires_at) FROM nodes");

const RELEASE_ALL: Sql = sql!("UPDATE shards SET owner = NULL WHERE owner = $1");

pub(super) async fn join(pool: &Pool, address: &str, lease: Duration) -> Result<Joined, Error> {
    let node = NodeId(uuid::Uuid::now_v7());
    let mut session = pool.transaction().await?;
    let now = now(&mut session).await?;
    let latest = session.query(LATEST).fetch_optional(&mut session).await?;
    let latest = latest.map(|row| row.get::<Option<i64>>(0)).transpose()?.flatten().map(Timestamp);
    let format = i32::try_from(FORMAT).unwrap_or(i32::MAX);
    let expires_at = now.plus(lease).0;
    session
        .query(JOIN)
        .bind(node.0)
        .bind(address.to_owned())
        .bind(format)
        .bind(expires_at)
        .execute(&mut session)
        .await?;
    session.query(DEPOSE_EARLIER).bind(node.0).bind(address.to_owned()).execute(&mut session).await?;
    let shards = session.query(INHERIT).bind(node.0).bind(address.to_owned()).fetch_all(&mut session).await?;
    session.query(FORGET).bind(now.0.saturating_sub(DEAD_ROWS_KEPT_MS)).execute(&mut session).await?;
    let formats = session.query(FORMATS).fetch_optional(&mut session).await?;
    session.commit().await?;
    let behind = latest.map_or(Duration::ZERO, |latest| now.plus(lease).until(latest));
    Ok(Joined { node, now, behind, shards: held(&shards)?, format: oldest_format(formats.as_ref(), 0)? })
}

pub(super) async fn heartbeat(pool: &Pool, node: NodeId, lease: Duration, draining: bool) -> Result<Beat, Error> {
    let mut session = pool.session().await?;
    let beat = session.query(BEAT).bind(node.0).bind(millis(lease)).bind(draining).fetch_optional(&mut session).await?;
    let beat = beat.ok_or(Error::Deposed)?;
    let (now, batch) = (beat.get(0).map(Timestamp)?, beat.get(1)?);
    let shards = session.query(HELD).bind(node.0).fetch_all(&mut session).await?;
    let around = session.query(AROUND).bind(now.0).fetch_optional(&mut session).await?;
    session.commit().await?;
    let around = around.ok_or(Error::Deposed)?;
    Ok(Beat {
        now,
        shards: held(&shards)?,
        shards_total: unsigned(around.get::<i64>(0)?)?,
        nodes: unsigned(around.get::<i64>(1)?)?,
        format: oldest_format(Some(&around), 2)?,
        batch,
    })
}

pub(super) async fn claim(pool: &Pool, node: NodeId, want: usize) -> Result<Vec<Shard>, Error> {
    let mut session = pool.transaction().await?;
    // Were this node deposed right after, its shards would be its deposer's to take: their owner is dead.
    session.query(ALIVE).bind(node.0).fetch_optional(&mut session).await?.ok_or(Error::Deposed)?;
    session.query(DEPOSE_EXPIRED).bind(node.0).bind(LONGEST_LEASE_MS).execute(&mut session).await?;
    let shards = session.query(CLAIM).bind(node.0).bind(rows(want)).fetch_all(&mut session).await?;
    session.commit().await?;
    held(&shards)
}

pub(super) async fn release(pool: &Pool, node: NodeId, shards: &[i32]) -> Result<(), Error> {
    let mut session = pool.transaction().await?;
    // Waits for a commit under way, so that whoever claims the shards next sees it.
    session.query(OWN_ROW).bind(node.0).fetch_optional(&mut session).await?;
    session.query(RELEASE).bind(node.0).bind_list(shards).execute(&mut session).await?;
    session.commit().await
}

pub(super) async fn leave(pool: &Pool, node: NodeId) -> Result<(), Error> {
    let mut session = pool.transaction().await?;
    session.query(LEAVE).bind(node.0).execute(&mut session).await?;
    session.query(RELEASE_ALL).bind(node.0).execute(&mut session).await?;
    session.commit().await
}

pub(super) async fn batch(pool: &Pool, node: NodeId) -> Result<Option<i64>, Error> {
    let mut session = pool.session().await?;
    let row = session.query(BATCH).bind(node.0).fetch_optional(&mut session).await?;
    session.commit().await?;
    row.map(|row| row.get(0)).transpose()
}

pub(super) async fn timeline(pool: &Pool) -> Result<Option<u32>, Error> {
    if pool.kind() == Kind::Sqlite {
        return Ok(None);
    }
    let mut session = pool.session().await?;
    let row = Query::assembled(Kind::Postgres, TIMELINE.to_owned()).fetch_optional(&mut session).await?;
    session.commit().await?;
    let digits = row.map(|row| row.get::<String>(0)).transpose()?;
    Ok(digits.and_then(|digits| u32::from_str_radix(&digits, 16).ok()))
}

async fn now(session: &mut Session) -> Result<Timestamp, Error> {
    let row = session.query(NOW).fetch_optional(session).await?;
    let row = row.ok_or_else(|| Error::Refused("the database does not tell the time".into()))?;
    row.get(0).map(Timestamp)
}

fn held(rows: &[Row]) -> Result<Vec<Shard>, Error> {
    let mut shards =
        rows.iter().map(|row| Ok(Shard { id: row.get(0)?, epoch: row.get(1)? })).collect::<Result<Vec<_>, Error>>()?;
    shards.sort_by_key(|shard| shard.id);
    Ok(shards)
}

/// What every live node reads; a node that is alone reads its own.
fn oldest_format(row: Option<&Row>, index: usize) -> Result<u32, Error> {
    let oldest = row.map(|row| row.get::<Option<i32>>(index)).transpose()?.flatten();
    oldest.map_or(Ok(FORMAT), |format| unsigned::<u32, _>(format).map(|format| format.min(FORMAT)))
}
