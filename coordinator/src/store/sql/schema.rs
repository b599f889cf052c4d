//! The schema's versions: what `skald migrate` brings, and what everything else asks for.
//!
//! All steps that are missing are taken in one transaction, so a failed migration leaves the schema as it was.

use super::{
    Error,
    dialect::{Kind, Sql, sql},
    error::LACKS_SCHEMA,
    session::{Pool, Session},
};

const POSTGRES: &[&str] = &[
    include_str!("../../../../migrations/postgres/0001_spine.sql"),
    include_str!("../../../../migrations/postgres/0002_registry.sql"),
    include_str!("../../../../migrations/postgres/0003_plans.sql"),
];
const SQLITE: &[&str] = &[
    include_str!("../../../../migrations/sqlite/0001_spine.sql"),
    include_str!("../../../../migrations/sqlite/0002_registry.sql"),
    include_str!("../../../../migrations/sqlite/0003_plans.sql"),
];

const TABLE: &str =
    "CREATE TABLE IF NOT EXISTS skald_schema (version bigint NOT NULL PRIMARY KEY, applied_at bigint NOT NULL)";
/// Two nodes that migrate at once do so one after the other.
const LOCK: &str = "LOCK TABLE skald_schema IN EXCLUSIVE MODE";
const VERSION: Sql = sql!("SELECT max(version) FROM skald_schema");
const APPLIED: Sql = sql!("INSERT INTO skald_schema (version, applied_at) VALUES ($1, " [now] ")");

const fn steps(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Postgres => POSTGRES,
        Kind::Sqlite => SQLITE,
    }
}

async fn version(session: &mut Session) -> Result<usize, Error> {
    let row = session.query(VERSION).fetch_optional(session).await?;
    let version = row.map(|row| row.get::<Option<i64>>(0)).transpose()?.flatten().unwrap_or(0);
    super::unsigned(version)
}

pub(super) async fn migrate(pool: &Pool) -> Result<(), Error> {
    // Two that create the table at the same moment: one of them fails, and finds it the next time.
    let mut session = pool.session().await?;
    let created = session.script(TABLE).await;
    drop(match created {
        Ok(()) => session.commit().await,
        Err(error) => Err(error),
    });

    let mut session = pool.transaction().await?;
    session.script(TABLE).await?;
    if session.kind() == Kind::Postgres {
        session.script(LOCK).await?;
    }
    let known = steps(session.kind());
    let have = version(&mut session).await?;
    if have > known.len() {
        return Err(newer(have, known.len()));
    }
    for (index, step) in known.iter().enumerate().skip(have) {
        session.script(step).await?;
        session.query(APPLIED).bind(super::rows(index + 1)).execute(&mut session).await?;
    }
    session.commit().await
}

pub(super) async fn check(pool: &Pool) -> Result<(), Error> {
    let mut session = pool.session().await?;
    let known = steps(session.kind()).len();
    let have = match version(&mut session).await {
        Ok(have) => have,
        Err(Error::Misconfigured(why)) if why.starts_with(LACKS_SCHEMA) => 0,
        Err(error) => return Err(error),
    };
    session.commit().await.ok();
    match have {
        have if have == known => Ok(()),
        0 => Err(Error::Misconfigured("the database has no Skald schema: run `skald migrate`".into())),
        have if have > known => Err(newer(have, known)),
        have => Err(Error::Misconfigured(format!(
            "the database's schema is version {have}, this build needs {known}: run `skald migrate`"
        ))),
    }
}

fn newer(have: usize, known: usize) -> Error {
    Error::Misconfigured(format!(
        "the database's schema is version {have}, newer than this build's {known}: run a newer `skald`"
    ))
}
