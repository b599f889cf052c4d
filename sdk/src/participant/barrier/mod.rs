//! The barrier: one row per operation, written in the very transaction that writes the effect.
//!
//! [`enter`] says whether an effect is to run; [`Pass::complete`] and [`Pass::refuse`] keep what became of it. All three
//! work inside the caller's own local transaction, which the caller then commits, whatever `enter` said. Two calls of one
//! operation never run side by side: the second waits for the row of the first.
//!
//! The rules, and why each is safe under READ COMMITTED, REPEATABLE READ and SERIALIZABLE:
//! - A forward operation and a confirm insert their own row. An undo inserts the *forward* row first, then its own, so all
//!   take their locks in one order. Whoever finds the forward row taken by an undo is late for ever.
//! - A confirm also takes the row of the cancel, so that of the two only one ever runs.
//! - A business refusal of a forward operation is kept. That of an undo or a confirm is not: the coordinator must drive
//!   those to their end, so what refused them today may succeed tomorrow.

mod dialect;
mod schema;

use serde_json::value::RawValue;
use skald_protocol::{Json, OperationKind, Timestamp};
use sqlx::Transaction;

pub use dialect::Dialect;
use dialect::{Key, Row};
pub use schema::{CleanUp, create_tables, remove_old};

use super::{Answer, BarrierWord, CallContext, Refusal};

/// How a row's `outcome` is spelt.
const RUNNING: &str = "running";
const SUCCEEDED: &str = "succeeded";
const REFUSED: &str = "refused";
const EMPTY: &str = "empty";

/// What is to be done with a call.
#[derive(Debug)]
#[must_use]
pub enum Entry {
    /// Run the effect, tell the pass what became of it, commit.
    Run(Pass),
    /// It was decided before, or by this call's coming. Commit, and answer this.
    Decided(Answer),
}

/// The right to run one effect once.
#[derive(Debug)]
#[must_use = "an effect whose pass is dropped must be rolled back"]
pub struct Pass {
    context: CallContext,
    forward_output: Option<Json>,
}

/// Asks whether the effect of this call is to run; writes the barrier's rows for it.
///
/// # Errors
/// Those of the database. On one that `Dialect::is_serialization_failure` knows, roll back and start again.
pub async fn enter<DB: Dialect>(conn: &mut DB::Connection, context: &CallContext) -> sqlx::Result<Entry> {
    if is_expired::<DB>(conn, context).await? {
        return Ok(Entry::Decided(Answer::expired()));
    }
    if context.asks_status {
        let row = DB::find(conn, &Key::of(context, context.operation)).await?;
        return Ok(Entry::Decided(Answer::Status(status_of(row.as_ref(), context))));
    }
    match context.operation {
        OperationKind::Action | OperationKind::Try => enter_forward::<DB>(conn, context).await,
        OperationKind::Compensate => enter_undo::<DB>(conn, context, OperationKind::Action).await,
        OperationKind::Cancel => enter_undo::<DB>(conn, context, OperationKind::Try).await,
        OperationKind::Confirm => enter_confirm::<DB>(conn, context).await,
        OperationKind::Status => Ok(Entry::Decided(Answer::Status(status_of(None, context)))),
    }
}

/// What a status check is told about `context.operation`. Leaves nothing behind: the transaction is rolled back.
///
/// Waits for an attempt that is under way, so that "not found" is true when it is said.
///
/// # Errors
/// Those of the database.
pub async fn status<DB: Dialect>(mut tx: Transaction<'_, DB>, context: &CallContext) -> sqlx::Result<Answer> {
    if is_expired::<DB>(&mut tx, context).await? {
        return Ok(Answer::expired());
    }
    let key = Key::of(context, context.operation);
    let row = if DB::insert(&mut tx, &key, context.operation, RUNNING, context.began).await? {
        None
    } else {
        Some(found(DB::find(&mut tx, &key).await?)?)
    };
    tx.rollback().await?;
    Ok(Answer::Status(status_of(row.as_ref(), context)))
}

fn status_of(row: Option<&Row>, context: &CallContext) -> Json {
    let told = match row {
        Some(row) if row.outcome == REFUSED => serde_json::json!({"outcome": "refused", "error": row.parsed()}),
        Some(row) if row.outcome == SUCCEEDED => serde_json::json!({"outcome": "succeeded", "output": row.parsed()}),
        Some(row) if row.written_by == context.operation.as_str() => serde_json::json!({"outcome": "succeeded"}),
        // Written by its undo: it did not run, and never will.
        Some(_) | None => serde_json::json!({"outcome": "not_found"}),
    };
    told.into()
}

async fn is_expired<DB: Dialect>(conn: &mut DB::Connection, context: &CallContext) -> sqlx::Result<bool> {
    Ok(DB::horizon(conn).await?.is_some_and(|horizon| context.began < horizon))
}

async fn enter_forward<DB: Dialect>(conn: &mut DB::Connection, context: &CallContext) -> sqlx::Result<Entry> {
    let own = Key::of(context, context.operation);
    if DB::insert(conn, &own, context.operation, RUNNING, context.began).await? {
        return Ok(Entry::Run(Pass { context: context.clone(), forward_output: None }));
    }
    let row = found(DB::find(conn, &own).await?)?;
    Ok(Entry::Decided(if row.written_by == context.operation.as_str() { row.replay()? } else { Answer::superseded() }))
}

async fn enter_undo<DB: Dialect>(
    conn: &mut DB::Connection,
    context: &CallContext,
    forward: OperationKind,
) -> sqlx::Result<Entry> {
    let forward = Key::of(context, forward);
    let never_ran = DB::insert(conn, &forward, context.operation, EMPTY, context.began).await?;
    let own = Key::of(context, context.operation);
    if !DB::insert(conn, &own, context.operation, RUNNING, context.began).await? {
        let row = found(DB::find(conn, &own).await?)?;
        if row.written_by != context.operation.as_str() {
            return Ok(Entry::Decided(both_decisions(context)));
        }
        return Ok(Entry::Decided(row.replay()?));
    }
    let forward = if never_ran { None } else { Some(found(DB::find(conn, &forward).await?)?) };
    match forward {
        Some(row) if row.outcome == SUCCEEDED => {
            let forward_output = row.response()?;
            Ok(Entry::Run(Pass { context: context.clone(), forward_output }))
        }
        // It never ran, or it was refused and did nothing.
        Some(_) | None => {
            DB::decide(conn, &own, EMPTY, None).await?;
            Ok(Entry::Decided(Answer::Succeeded(None, BarrierWord::Empty)))
        }
    }
}

async fn enter_confirm<DB: Dialect>(conn: &mut DB::Connection, context: &CallContext) -> sqlx::Result<Entry> {
    let cancel = Key::of(context, OperationKind::Cancel);
    let first = DB::insert(conn, &cancel, context.operation, EMPTY, context.began).await?;
    if !first && found(DB::find(conn, &cancel).await?)?.written_by != context.operation.as_str() {
        return Ok(Entry::Decided(both_decisions(context)));
    }
    let own = Key::of(context, context.operation);
    if !DB::insert(conn, &own, context.operation, RUNNING, context.began).await? {
        return Ok(Entry::Decided(found(DB::find(conn, &own).await?)?.replay()?));
    }
    let forward = DB::find(conn, &Key::of(context, OperationKind::Try)).await?;
    let forward_output = forward.map_or(Ok(None), |row| row.response())?;
    Ok(Entry::Run(Pass { context: context.clone(), forward_output }))
}

/// A confirm of what was cancelled, or the reverse: whoever asks for it has lost its mind, and money must not follow.
fn both_decisions(context: &CallContext) -> Answer {
    let message = format!("branch `{}` of {} was decided the other way before", context.branch, context.gid);
    Answer::Refused(Refusal::new("protocol_broken").message(message), BarrierWord::Stored)
}

impl Pass {
    /// What the forward operation answered, for a confirm or an undo.
    #[must_use]
    pub fn forward_output(&self) -> Option<&Json> {
        self.forward_output.as_ref()
    }

    /// The effect happened: keeps its answer. Commit next.
    ///
    /// # Errors
    /// Those of the database; roll back then.
    pub async fn complete<DB: Dialect>(self, conn: &mut DB::Connection, output: Option<Json>) -> sqlx::Result<Answer> {
        let own = Key::of(&self.context, self.context.operation);
        DB::decide(conn, &own, SUCCEEDED, output.as_ref().map(Json::text)).await?;
        Ok(Answer::Succeeded(output, BarrierWord::Executed))
    }

    /// The effect is refused, and nothing of it stands in the transaction any more: keeps the refusal. Commit next.
    ///
    /// An undo or a confirm that is refused is not kept; `None` asks for a rollback instead of the commit.
    ///
    /// # Errors
    /// Those of the database; roll back then.
    pub async fn refuse<DB: Dialect>(
        self,
        conn: &mut DB::Connection,
        refusal: &Refusal,
    ) -> sqlx::Result<Option<Answer>> {
        if !self.context.operation.is_forward() {
            return Ok(None);
        }
        let own = Key::of(&self.context, self.context.operation);
        DB::decide(conn, &own, REFUSED, Some(Json::of(refusal).text())).await?;
        Ok(Some(Answer::Refused(refusal.clone(), BarrierWord::Executed)))
    }
}

impl Key {
    fn of(context: &CallContext, operation: OperationKind) -> Self {
        Self { gid: context.gid.clone(), branch: context.branch.clone(), operation }
    }
}

impl Row {
    fn replay(&self) -> sqlx::Result<Answer> {
        Ok(match self.outcome.as_str() {
            REFUSED => {
                let refusal =
                    self.response.as_deref().map_or_else(|| Ok(Refusal::new("refused")), serde_json::from_str);
                Answer::Refused(refusal.map_err(|error| sqlx::Error::Decode(Box::new(error)))?, BarrierWord::Stored)
            }
            SUCCEEDED => Answer::Succeeded(self.response()?, BarrierWord::Stored),
            _ => Answer::Succeeded(None, BarrierWord::Stored),
        })
    }

    fn parsed(&self) -> Option<&RawValue> {
        self.response.as_deref().and_then(|response| serde_json::from_str(response).ok())
    }

    fn response(&self) -> sqlx::Result<Option<Json>> {
        let parsed = self.response.clone().map(Json::from_text).transpose();
        parsed.map_err(|error| sqlx::Error::Decode(Box::new(error)))
    }
}

/// A row that an insert just ran into. It can only be gone if somebody removed it by hand, or by `remove_old` right now:
/// either way the call comes again.
fn found(row: Option<Row>) -> sqlx::Result<Row> {
    row.ok_or(sqlx::Error::RowNotFound)
}

/// Before this, nothing is remembered any more.
pub(super) type Horizon = Timestamp;
