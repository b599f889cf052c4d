//! Begin a transaction atomically with the service's own writes.
//!
//! [`begin`] writes the request into a table of the service's database, inside the caller's local transaction: if that
//! commits, the saga begins; if not, it never does. A [`Relay`] delivers what is there. It may deliver a request twice (it
//! was killed after the delivery and before it removed the row), and twice is once, since the gid is in the row. Any
//! number of relays may run side by side.

mod dialect;
mod relay;

use skald_protocol::Gid;

pub use dialect::Dialect;
pub use relay::{Options, Relay};

use crate::{Error, saga::Workflow};

/// Why a begin was not put into the outbox.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotPut {
    /// The saga is not well stated, or the input is no JSON.
    #[error(transparent)]
    Invalid(#[from] Error),
    /// The database did not take the row: roll back.
    #[error("the outbox cannot be written")]
    Database(#[from] sqlx::Error),
}

/// Begins a transaction once the caller's local transaction commits.
///
/// Gives the gid under which it will be known.
///
/// # Errors
/// In either case the local transaction should be rolled back.
pub async fn begin<DB: Dialect, W: Workflow>(
    conn: &mut DB::Connection,
    workflow: &W,
    input: &W::Input,
) -> Result<Gid, NotPut> {
    let mut begin = workflow.begin(input)?;
    let gid = begin.gid.get_or_insert_with(crate::client::new_gid).clone();
    let request = serde_json::to_string(&begin).map_err(|error| Error::Misconfigured(error.to_string()))?;
    DB::insert(conn, gid.as_str(), &request).await?;
    Ok(gid)
}

/// Creates the outbox's table where it is missing. Services with migrations of their own copy `Dialect::TABLES`.
///
/// # Errors
/// Those of the database.
pub async fn create_tables<DB: Dialect>(pool: &sqlx::Pool<DB>) -> sqlx::Result<()> {
    let mut conn = pool.acquire().await?;
    for table in DB::TABLES {
        DB::execute(&mut conn, table).await?;
    }
    Ok(())
}
