//! What a caller can do about a database error, decided in one place.

use sqlx::error::DatabaseError;

use super::super::Error;

/// Connections, shutdowns, locks, room: what may be different in a moment. A database that is read-only for now (a
/// standby before its promotion) is one of them.
const POSTGRES_TRANSIENT: [&str; 5] = ["08", "40", "53", "57", "58"];
const POSTGRES_TRANSIENT_CODES: [&str; 6] = ["25006", "25P02", "25P03", "25P04", "55P03", "55006"];

/// How that error begins, by which it is told from others that an operator must set right.
pub(super) const LACKS_SCHEMA: &str = "the database lacks Skald's schema";

/// SQLITE_BUSY, LOCKED, NOMEM, INTERRUPT, IOERR, FULL, CANTOPEN, PROTOCOL.
const SQLITE_TRANSIENT: [i32; 8] = [5, 6, 7, 9, 10, 13, 14, 15];

/// SQLITE_CORRUPT and NOTADB, whatever more they say.
const SQLITE_DAMAGED_PRIMARY: [i32; 2] = [11, 26];
/// SQLITE_IOERR_READ, SHORT_READ, FSYNC (what was written before may be lost), DATA, CORRUPTFS.
const SQLITE_DAMAGED: [i32; 5] = [266, 522, 1034, 8202, 8458];

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let Some(database) = error.as_database_error() else {
            return match error {
                sqlx::Error::Configuration(_) | sqlx::Error::InvalidArgument(_) => {
                    Self::Misconfigured("the database URL cannot be used: see the documentation of `database`".into())
                }
                sqlx::Error::ColumnDecode { .. }
                | sqlx::Error::Decode(_)
                | sqlx::Error::Encode(_)
                | sqlx::Error::ColumnNotFound(_)
                | sqlx::Error::ColumnIndexOutOfBounds { .. }
                | sqlx::Error::TypeNotFound { .. }
                | sqlx::Error::RowNotFound => Self::Refused(format!("the database holds what it should not: {error}")),
                other => Self::Unavailable(other),
            };
        };
        if is_of_a_pooler(database) {
            return Self::Misconfigured(format!(
                "the database refuses: {}; if a pooler in transaction mode stands before it, set `transaction_pooler = true`",
                database.message()
            ));
        }
        if transient(database) { Self::Unavailable(error) } else { lasting(database) }
    }
}

/// A statement prepared on one of the server's connections was asked for, bound or made again on another.
fn is_of_a_pooler(error: &dyn DatabaseError) -> bool {
    match error.code().as_deref() {
        Some("26000" | "42P05") => true,
        // PgBouncer gives the same code to what will pass.
        Some("08P01") => error.message().contains("prepared statement"),
        _ => false,
    }
}

fn transient(error: &dyn DatabaseError) -> bool {
    let code = error.code().unwrap_or_default();
    match sqlite_code(error) {
        Some(primary) => SQLITE_TRANSIENT.contains(&primary),
        None => {
            POSTGRES_TRANSIENT.iter().any(|class| code.starts_with(class))
                || POSTGRES_TRANSIENT_CODES.contains(&code.as_ref())
        }
    }
}

fn lasting(error: &dyn DatabaseError) -> Error {
    let code = error.code().unwrap_or_default();
    let message = error.message();
    let missing = matches!(code.as_ref(), "42P01" | "42703") || message.starts_with("no such table");
    if missing {
        return Error::Misconfigured(format!("{LACKS_SCHEMA} ({message}): run `skald migrate`"));
    }
    // Who may log in, and to what: an operator's matter.
    if matches!(code.as_ref(), "28000" | "28P01" | "3D000" | "42501") || sqlite_code(error) == Some(26) {
        return Error::Misconfigured(format!("the database refuses: {message}"));
    }
    Error::Refused(format!("the database refuses: {message} (code {code})"))
}

/// The primary result code, of SQLite's errors only.
fn sqlite_code(error: &dyn DatabaseError) -> Option<i32> {
    extended_code(error).map(|extended| extended & 0xff)
}

fn extended_code(error: &dyn DatabaseError) -> Option<i32> {
    error.try_downcast_ref::<sqlx::sqlite::SqliteError>()?;
    error.code()?.parse().ok()
}

/// What SQLite says where it read what it did not write, or cannot tell what it wrote. A full disk or a lock is none of
/// these.
pub(super) fn says_damaged(error: &sqlx::Error) -> Option<String> {
    let database = error.as_database_error()?;
    let code = extended_code(database)?;
    let damaged = SQLITE_DAMAGED.contains(&code) || SQLITE_DAMAGED_PRIMARY.contains(&(code & 0xff));
    damaged.then(|| format!("{} (code {code})", database.message()))
}

impl Error {
    /// Waiting longer than the statement timeout: the statement may still land.
    pub(super) fn timed_out() -> Self {
        Self::Unavailable(sqlx::Error::Io(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            "no answer within the statement timeout",
        )))
    }
}
