//! What truly differs between Postgres and SQLite, so that every statement can be written once.
//!
//! `sql!` joins literals and bracketed tokens into one text per database. Placeholders are `$1`, `$2`, … in both.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Postgres,
    Sqlite,
}

/// One statement in both spellings.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sql {
    pub(super) postgres: &'static str,
    pub(super) sqlite: &'static str,
}

impl Sql {
    pub(super) const fn text(self, kind: Kind) -> &'static str {
        match kind {
            Kind::Postgres => self.postgres,
            Kind::Sqlite => self.sqlite,
        }
    }
}

macro_rules! sql {
    // Milliseconds since 1970 by the database's clock; SQLite's is the process's.
    (@postgres [now]) => { "(extract(epoch FROM clock_timestamp()) * 1000)::bigint" };
    (@sqlite [now]) => { "CAST(unixepoch('subsec') * 1000 AS INTEGER)" };
    // SQLite has one writer, which locks all.
    (@postgres [for_update]) => { " FOR UPDATE" };
    (@sqlite [for_update]) => { "" };
    (@postgres [skip_locked]) => { " FOR UPDATE SKIP LOCKED" };
    (@sqlite [skip_locked]) => { "" };
    // Is one of a list: an array, or a JSON array as text.
    (@postgres [in $list:literal]) => { concat!(" = ANY(", $list, ")") };
    (@sqlite [in $list:literal]) => { concat!(" IN (SELECT value FROM json_each(", $list, "))") };
    // Of a node's row: it was an earlier life of the one that joins at this address. One process holds a SQLite file, so
    // there every other row is of a process that has ended.
    (@postgres [earlier $address:literal]) => { concat!("address = ", $address) };
    (@sqlite [earlier $address:literal]) => { concat!($address, " IS NOT NULL") };
    (@$database:ident $text:literal) => { $text };
    ($($part:tt)+) => {
        $crate::store::sql::dialect::Sql {
            postgres: concat!($(sql!(@postgres $part)),+),
            sqlite: concat!($(sql!(@sqlite $part)),+),
        }
    };
}

pub(super) use sql;
