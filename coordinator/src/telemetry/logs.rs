//! The log: stderr, one line per event.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use super::Error;

/// Quiet unless named: their warnings are either repeated by our own line or of no use to an operator.
const QUIET: &str = "opentelemetry=off,opentelemetry_sdk=off,opentelemetry-otlp=off,hyper_util=warn,h2=warn,tonic=warn,\
                     reqwest=warn,rustls=warn,sqlx=warn,tower=warn";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One line for a person.
    Text,
    /// One JSON object per line.
    Json,
}

/// `directives`: a level, or `info,skald::dispatch=debug`. Only the first call of a process takes effect.
pub fn start_logs(directives: &str, format: LogFormat) -> Result<(), Error> {
    let filter = EnvFilter::try_new(format!("{QUIET},{directives}"))
        .map_err(|error| Error::Misconfigured(format!("log level `{directives}`: {error}")))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
    };
    // A test's second coordinator in one process keeps the first one's log.
    drop(started);
    Ok(())
}
