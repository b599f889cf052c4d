//! What a person sees and does at a terminal: tables, timelines, the signals that end a program.

pub(crate) mod timeline;

use std::io;

/// A borderless table; columns are two spaces apart.
pub(crate) fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_content_arrangement(comfy_table::ContentArrangement::Disabled);
    if !header.iter().all(|name| name.is_empty()) {
        table.set_header(header);
    }
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// The name of the first SIGTERM or ctrl-c from now on.
pub(crate) fn stop_signal() -> Result<impl Future<Output = &'static str>, SignalError> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).map_err(SignalError)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(SignalError)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}

#[derive(Debug, thiserror::Error)]
#[error("signals cannot be awaited: {0}")]
pub struct SignalError(#[source] pub(crate) io::Error);
