//! Published definitions: written once, never changed, never removed.
//!
//! Which of two nodes that publish one version at once comes first, the primary key decides. The order of versions is
//! SemVer's precedence, kept as a text whose bytes sort that way, so that the latest one is the end of an index.

use std::fmt::Write as _;

use semver::Version;
use skald_protocol::{Timestamp, WorkflowRef};

use super::{
    super::{Error, Publish, Published, Workflow, WorkflowRow},
    dialect::{Sql, sql},
    retention::PLAN,
    rows,
    session::{Pool, Row},
};

const PUBLISH: Sql = sql!(
    "INSERT INTO workflows (name, version, stable, precedence, definition_digest, definition, plan, published_at) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, " [now] ") ON CONFLICT DO NOTHING"
);

const ROW: Sql =
    sql!("SELECT name, version, definition_digest, plan, published_at FROM workflows WHERE name = $1 AND version = $2");

const EXACT: Sql = sql!(
    "SELECT name, version, definition_digest, plan, published_at, definition FROM workflows \
     WHERE name = $1 AND version = $2"
);

const LATEST: Sql =
    sql!("SELECT version FROM workflows WHERE name = $1 ORDER BY stable DESC, precedence DESC, version DESC LIMIT 1");

/// The latest version of each name.
const NAMES: Sql = sql!(
    "SELECT w.name, w.version, w.definition_digest, w.plan, w.published_at \
     FROM (SELECT DISTINCT name FROM workflows WHERE name > $1 ORDER BY name LIMIT $2) n \
     JOIN workflows w ON w.name = n.name AND w.version = (SELECT v.version FROM workflows v WHERE v.name = n.name \
     ORDER BY v.stable DESC, v.precedence DESC, v.version DESC LIMIT 1) ORDER BY w.name"
);

const VERSIONS: Sql = sql!(
    "SELECT name, version, definition_digest, plan, published_at FROM workflows WHERE name = $1 \
     ORDER BY stable DESC, precedence DESC, version DESC LIMIT $2"
);

const VERSIONS_AFTER: Sql = sql!(
    "SELECT name, version, definition_digest, plan, published_at FROM workflows WHERE name = $1 \
     AND (stable, precedence, version) < ($3, $4, $5) \
     ORDER BY stable DESC, precedence DESC, version DESC LIMIT $2"
);

pub(super) async fn publish(pool: &Pool, new: &Publish) -> Result<Published, Error> {
    let WorkflowRef { name, version } = &new.workflow;
    let order = Order::of(version)?;
    let mut session = pool.transaction().await?;
    let plan = &new.plan;
    let format = i32::try_from(plan.format).map_err(|_| Error::Refused("a plan's format is out of range".into()))?;
    let query = session.query(PLAN).bind(plan.digest.to_vec()).bind(format);
    query.bind(plan.definition.clone()).bind(plan.plan.clone()).execute(&mut session).await?;
    let written = session
        .query(PUBLISH)
        .bind(name.clone())
        .bind(version.clone())
        .bind(order.stable)
        .bind(order.precedence)
        .bind(new.digest.to_vec())
        .bind(new.definition.clone())
        .bind(plan.digest.to_vec())
        .execute(&mut session)
        .await?;
    // In a statement of its own, which sees what another node committed first.
    let found = session.query(ROW).bind(name.clone()).bind(version.clone()).fetch_optional(&mut session).await?;
    let found = found.ok_or_else(|| Error::Refused(format!("workflow `{name}` was removed as it was published")))?;
    let row = row(&found)?;
    if written > 0 {
        session.commit().await?;
        return Ok(Published::New(row));
    }
    // Nothing of it is kept, its plan neither.
    session.rollback().await?;
    Ok(if row.digest == new.digest { Published::Same(row) } else { Published::Conflict(row) })
}

pub(super) async fn workflow(pool: &Pool, wanted: &WorkflowRef) -> Result<Option<Workflow>, Error> {
    let mut session = pool.session().await?;
    let query = session.query(EXACT).bind(wanted.name.clone()).bind(wanted.version.clone());
    let found = query.fetch_optional(&mut session).await?;
    session.commit().await?;
    found.map(|found| Ok(Workflow { row: row(&found)?, definition: found.get(5)? })).transpose()
}

pub(super) async fn latest(pool: &Pool, name: &str) -> Result<Option<String>, Error> {
    let mut session = pool.session().await?;
    let found = session.query(LATEST).bind(name.to_owned()).fetch_optional(&mut session).await?;
    session.commit().await?;
    found.map(|row| row.get(0)).transpose()
}

pub(super) async fn workflows(pool: &Pool, after: &str, limit: usize) -> Result<Vec<WorkflowRow>, Error> {
    let mut session = pool.session().await?;
    let found = session.query(NAMES).bind(after.to_owned()).bind(rows(limit)).fetch_all(&mut session).await?;
    session.commit().await?;
    found.iter().map(row).collect()
}

pub(super) async fn versions(
    pool: &Pool,
    name: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<WorkflowRow>, Error> {
    let mut session = pool.session().await?;
    let query = match after {
        None => session.query(VERSIONS).bind(name.to_owned()).bind(rows(limit)),
        Some(after) => {
            let order = Order::of(after)?;
            let query = session.query(VERSIONS_AFTER).bind(name.to_owned()).bind(rows(limit));
            query.bind(order.stable).bind(order.precedence).bind(after.to_owned())
        }
    };
    let found = query.fetch_all(&mut session).await?;
    session.commit().await?;
    found.iter().map(row).collect()
}

fn row(row: &Row) -> Result<WorkflowRow, Error> {
    Ok(WorkflowRow {
        workflow: WorkflowRef { name: row.get(0)?, version: row.get(1)? },
        digest: row.digest(2)?,
        plan: row.digest(3)?,
        published_at: Timestamp(row.get(4)?),
    })
}

/// A version's place among the others of its name.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Order {
    stable: bool,
    precedence: String,
}

impl Order {
    /// SemVer 2.0.0, 11: numbers are padded, or led by how many digits they have; what ends an identifier sorts before all
    /// that may stand in one, and the absence of a pre-release after all of them. Build metadata has no part in it.
    fn of(version: &str) -> Result<Self, Error> {
        let parsed = Version::parse(version)
            .map_err(|error| Error::Refused(format!("`{version}` is not a version: {error}")))?;
        let stable = parsed.pre.is_empty();
        let mut precedence = format!("{:020}{:020}{:020}", parsed.major, parsed.minor, parsed.patch);
        precedence.push(if stable { '~' } else { '-' });
        for identifier in parsed.pre.split('.').filter(|identifier| !identifier.is_empty()) {
            let is_number = identifier.bytes().all(|byte| byte.is_ascii_digit());
            // Writing to a String does not fail.
            let _infallible = if is_number {
                write!(precedence, "0{:05}{identifier}!", identifier.len())
            } else {
                write!(precedence, "1{identifier}!")
            };
        }
        Ok(Self { stable, precedence })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_stand_in_the_order_of_semver() {
        let ordered = [
            "0.0.0-0",
            "0.0.0",
            "0.0.1",
            "0.2.0",
            "0.10.0",
            "1.0.0-1",
            "1.0.0-9",
            "1.0.0-10",
            "1.0.0-99999999999999999999999999999998",
            "1.0.0-99999999999999999999999999999999",
            "1.0.0--",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.1.0",
            "1.0.0-alpha.beta",
            "1.0.0-alpha-",
            "1.0.0-alpha0",
            "1.0.0-beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1.0.0",
            "1.0.18446744073709551615",
            "2.0.0",
            "18446744073709551615.0.0",
        ];
        for (index, lower) in ordered.iter().enumerate() {
            for higher in &ordered[index + 1..] {
                let (one, other) = (Order::of(lower).unwrap(), Order::of(higher).unwrap());
                assert!(one.precedence < other.precedence, "{lower} {higher}");
                let (one, other) = (Version::parse(lower).unwrap(), Version::parse(higher).unwrap());
                assert!(one.cmp_precedence(&other).is_lt(), "{lower} {higher}");
            }
        }
        assert_eq!(Order::of("1.0.0+a").unwrap(), Order::of("1.0.0+b").unwrap());
        assert!(Order::of("9.0.0-rc.1").unwrap() < Order::of("0.0.1").unwrap(), "a pre-release is never the latest");
        assert!(Order::of("1.0").is_err());
    }
}
