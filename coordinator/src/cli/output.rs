use std::io::{self, Write};

use serde::Serialize;

use super::Error;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// For a person.
    Table,
    /// For a program.
    Json,
}

/// Stdout. Styles are dropped where it is no terminal.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) format: Format,
}

impl Output {
    pub(super) fn new(format: Format) -> Self {
        Self { format }
    }

    pub(super) fn line(&self, text: &str) -> Result<(), Error> {
        written(writeln!(anstream::stdout(), "{text}"))
    }

    /// `table` is only asked for where a table is wanted.
    pub(super) fn put(&self, data: &impl Serialize, table: impl FnOnce() -> String) -> Result<(), Error> {
        match self.format {
            Format::Table => self.line(table().trim_end()),
            Format::Json => {
                written(serde_json::to_string_pretty(data).map_err(io::Error::from)).and_then(|t| self.line(&t))
            }
        }
    }

    /// One JSON value a line, for what comes bit by bit.
    pub(super) fn put_line(&self, data: &impl Serialize, line: impl FnOnce() -> String) -> Result<(), Error> {
        match self.format {
            Format::Table => self.line(&line()),
            Format::Json => written(serde_json::to_string(data).map_err(io::Error::from)).and_then(|t| self.line(&t)),
        }
    }
}

fn written<T>(result: io::Result<T>) -> Result<T, Error> {
    result.map_err(|source| Error::Io { what: "stdout".into(), source })
}
