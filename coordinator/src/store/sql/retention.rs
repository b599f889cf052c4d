//! What happens to a transaction's row outside its life: set aside, audited, reduced to a tombstone, forgotten.

use std::time::Duration;

use skald_protocol::{Gid, Status, Timestamp};

use super::{
    super::{Audit, Error},
    dialect::{Sql, sql},
    rows,
    session::Pool,
};

const QUARANTINE: Sql = sql!(
    "UPDATE transactions SET status = $2, quarantined = $3, next_wake_at = NULL, foreign_seq = NULL \
     WHERE gid = $1 AND settled_at IS NULL AND quarantined IS NULL"
);

const FAIL: Sql = sql!(
    "UPDATE transactions SET status = $2, settled_at = $3 \
     WHERE gid = $1 AND quarantined IS NOT NULL AND settled_at IS NULL"
);

const AUDIT: Sql = sql!(
    "INSERT INTO audit (gid, id, at, word, branch, reason) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING"
);

const SET: Sql = sql!("INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING");
const SETTING: Sql = sql!("SELECT value FROM settings WHERE name = $1");

/// By the index that lists use: what settled before then began before then. (An index on `settled_at` would have to be
/// written again at every settlement.)
const OLD_JOURNALS: Sql = sql!(
    "SELECT gid FROM transactions WHERE NOT expired AND created_at < $1 AND settled_at < $1 \
     ORDER BY created_at LIMIT $2"[skip_locked]
);
const DELETE_JOURNALS: Sql = sql!("DELETE FROM journal WHERE gid" [in "$1"]);
const DELETE_LABELS: Sql = sql!("DELETE FROM labels WHERE gid" [in "$1"]);
const ENTOMB: Sql = sql!(
    "UPDATE transactions SET expired = true, workflow = NULL, version = NULL, next_wake_at = NULL, parked_node = NULL, \
     parked_epoch = NULL, foreign_seq = NULL, quarantined = NULL WHERE gid" [in "$1"]
);

const OLD_TOMBSTONES: Sql =
    sql!("SELECT gid FROM transactions WHERE expired AND settled_at < $1 ORDER BY settled_at LIMIT $2"[skip_locked]);
const DELETE_TOMBSTONES: Sql = sql!("DELETE FROM transactions WHERE gid" [in "$1"]);
/// A plan once more, by a begin or a publication.
pub(super) const PLAN: Sql = sql!(
    "INSERT INTO plans (digest, format, definition, plan, used_at) VALUES ($1, $2, $3, $4, " [now] ") \
     ON CONFLICT (digest) DO UPDATE SET used_at = excluded.used_at"
);
const UNUSED_PLANS: Sql = sql!(
    "DELETE FROM plans WHERE used_at < " [now] " - $1 \
     AND NOT EXISTS (SELECT 1 FROM transactions t WHERE t.plan = plans.digest AND NOT t.expired) \
     AND NOT EXISTS (SELECT 1 FROM workflows w WHERE w.plan = plans.digest)"
);
const DELETE_AUDIT: Sql = sql!("DELETE FROM audit WHERE gid" [in "$1"]);

pub(super) async fn quarantine(pool: &Pool, gid: &Gid, reason: &str) -> Result<(), Error> {
    let mut session = pool.session().await?;
    let query = session.query(QUARANTINE).bind(gid.as_str().to_owned()).bind(Status::Suspended.as_str());
    query.bind(text(reason)).execute(&mut session).await?;
    session.commit().await
}

pub(super) async fn fail_quarantined(pool: &Pool, gid: &Gid, at: Timestamp) -> Result<bool, Error> {
    let mut session = pool.session().await?;
    let query = session.query(FAIL).bind(gid.as_str().to_owned()).bind(Status::Failed.as_str()).bind(at.0);
    let failed = query.execute(&mut session).await?;
    session.commit().await?;
    Ok(failed > 0)
}

pub(super) async fn audit(pool: &Pool, entry: &Audit) -> Result<(), Error> {
    let mut session = pool.session().await?;
    session
        .query(AUDIT)
        .bind(entry.gid.as_str().to_owned())
        .bind(entry.id)
        .bind(entry.at.0)
        .bind(text(&entry.command))
        .bind(entry.branch.as_deref().map(text))
        .bind(entry.reason.as_deref().map(text))
        .execute(&mut session)
        .await?;
    session.commit().await
}

pub(super) async fn setting(pool: &Pool, name: &str, value: &[u8]) -> Result<Vec<u8>, Error> {
    let mut session = pool.session().await?;
    session.query(SET).bind(name.to_owned()).bind(value.to_vec()).execute(&mut session).await?;
    session.commit().await?;
    // In a statement of its own, which sees what another caller committed first.
    let mut session = pool.session().await?;
    let found = session.query(SETTING).bind(name.to_owned()).fetch_optional(&mut session).await?;
    session.commit().await?;
    found.ok_or_else(|| Error::Refused(format!("the setting `{name}` was removed as it was made")))?.get(0)
}

pub(super) async fn prune(
    pool: &Pool,
    journals: Timestamp,
    tombstones: Timestamp,
    limit: usize,
) -> Result<(usize, usize), Error> {
    let entombed = take(pool, OLD_JOURNALS, journals, limit, &[DELETE_JOURNALS, DELETE_LABELS, ENTOMB]).await?;
    // A foreign append that raced with the first bite may have left a row.
    let all = [DELETE_JOURNALS, DELETE_AUDIT, DELETE_TOMBSTONES];
    let forgotten = take(pool, OLD_TOMBSTONES, tombstones, limit, &all).await?;
    Ok((entombed, forgotten))
}

/// Plans that nothing refers to, and that no begin nor publication has brought for so long.
pub(super) async fn prune_plans(pool: &Pool, unused: Duration) -> Result<usize, Error> {
    let mut session = pool.session().await?;
    let unused = i64::try_from(unused.as_millis()).unwrap_or(i64::MAX);
    let removed = session.query(UNUSED_PLANS).bind(unused).execute(&mut session).await?;
    session.commit().await?;
    Ok(usize::try_from(removed).unwrap_or(usize::MAX))
}

async fn take(pool: &Pool, which: Sql, before: Timestamp, limit: usize, statements: &[Sql]) -> Result<usize, Error> {
    let mut session = pool.transaction().await?;
    let found = session.query(which).bind(before.0).bind(rows(limit)).fetch_all(&mut session).await?;
    let mut gids = found.iter().map(|row| row.get::<String>(0)).collect::<Result<Vec<_>, _>>()?;
    gids.sort_unstable();
    if !gids.is_empty() {
        for statement in statements {
            session.query(*statement).bind_list(&gids).execute(&mut session).await?;
        }
    }
    session.commit().await?;
    Ok(gids.len())
}

/// Postgres has no text with a zero byte in it, and a reason must never be what stops the command it belongs to.
fn text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
