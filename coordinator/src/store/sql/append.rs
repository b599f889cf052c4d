//! A batch in one commit, behind both fences, and what to do when its answer was lost.

use std::collections::{BTreeMap, BTreeSet};

use skald_protocol::Gid;

use super::{
    super::{Append, Appended, Batch, Error, NodeId},
    append_postgres, append_sqlite,
    dialect::{Kind, Sql, sql},
    kept_session::KeptSession,
    seq_column,
    session::Pool,
};

pub(super) async fn append(
    pool: &Pool,
    fenced: bool,
    previous: &KeptSession,
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
