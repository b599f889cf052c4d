//! The command line. Talk goes to stderr, data to stdout.
//!
//! Exit codes: 0 done, 1 error (or a definition with faults), 2 usage, 3 not found, 4 the transaction did not succeed.

mod diagnose;
mod doctor;
mod explore;
mod output;
mod participant;
mod play;
mod remote;
mod settings;
mod show;
mod simulate;
mod tx;
mod workflow;

use std::{ffi::OsString, io, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::{
    config, demo,
    server::{self, Schema, Server},
    terminal::{SignalError, stop_signal},
};
use output::Output;
use settings::Settings;

#[derive(Debug, Parser)]
#[command(name = "skald", version, about = "A Saga/TCC transaction coordinator", arg_required_else_help = true)]
struct Arguments {
    /// How data is written to stdout.
    #[arg(long, global = true, value_enum, default_value_t = output::Format::Table)]
    output: output::Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a coordinator until it is told to stop (SIGTERM, ctrl-c), then drain.
    Serve(Serve),
    /// Run a coordinator, participants and a handful of orders in one process, and watch them.
    Demo(demo::Options),
    /// Begin, look at and decide transactions of a running coordinator.
    Tx(tx::Tx),
    /// Check whether a service keeps what a participant promises.
    Participant(participant::Participant),
    /// Check definitions, play them with faults, publish them, look at what is published.
    Workflow(workflow::Workflow),
    /// Bring the database's schema to this build's.
    Migrate(Settings),
    /// Check whether what the database acknowledges survives: its settings, its standbys, its pages. Exit code 1: it does not.
    Doctor(doctor::Doctor),
    /// Print the configuration in effect, and where each value comes from.
    Config(Settings),
}

#[derive(Debug, clap::Args)]
struct Serve {
    #[command(flatten)]
    settings: Settings,
    /// Bring the database's schema to this build's first (on SQLite that is done in any case).
    #[arg(long)]
    migrate: bool,
    /// Listen on an address that others reach, although nobody is asked who they are.
    #[arg(long)]
    insecure: bool,
}

/// How a command ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    Done,
    /// All was done that was asked for, and there are faults in what was given.
    Faulty,
    Unsuccessful,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    /// The command line itself must be set right.
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    Server(#[from] server::Error),
    #[error(transparent)]
    Client(#[from] skald_sdk::Error),
    #[error(transparent)]
    Demo(#[from] demo::Error),
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
}

impl Error {
    fn code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Config(_) | Self::Client(skald_sdk::Error::Misconfigured(_)) => 2,
            Self::Client(skald_sdk::Error::NotFound(_) | skald_sdk::Error::Expired(_)) => 3,
            Self::Server(_) | Self::Client(_) | Self::Demo(_) | Self::Io { .. } => 1,
        }
    }

    /// Whoever read the output has seen enough (`skald tx list | head -1`).
    fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Io { source, .. } | Self::Demo(demo::Error::Io { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// Runs the command that the arguments name.
pub async fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let Arguments { output, command } = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(help_or_usage) => help_or_usage.exit(),
    };
    crate::dispatch::install_tls();
    match dispatch(command, &Output::new(output)).await {
        Ok(Exit::Done) => ExitCode::SUCCESS,
        Ok(Exit::Faulty) => ExitCode::from(1),
        Ok(Exit::Unsuccessful) => ExitCode::from(4),
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("error: {}", chain(&error));
            ExitCode::from(error.code())
        }
    }
}

async fn dispatch(command: Command, output: &Output) -> Result<Exit, Error> {
    match command {
        Command::Serve(serve) => serve.run().await,
        Command::Demo(options) => {
            demo::run(&options).await?;
            Ok(Exit::Done)
        }
        Command::Tx(tx) => tx.run(output).await,
        Command::Participant(participant) => participant.run(output).await,
        Command::Workflow(workflow) => workflow.run(output).await,
        Command::Migrate(settings) => {
            let config::Loaded { config, warnings, .. } = settings.load()?;
            warn(&warnings);
            server::migrate(&config).await?;
            anstream::eprintln!("{} is up to date", config.database.url);
            Ok(Exit::Done)
        }
        Command::Doctor(doctor) => doctor.run(output).await,
        Command::Config(settings) => {
            let loaded = settings.load()?;
            warn(&loaded.warnings);
            show::settings(output, &loaded.settings())?;
            Ok(Exit::Done)
        }
    }
}

fn warn(warnings: &[config::ConfigFault]) {
    for warning in warnings {
        anstream::eprintln!("warning: {warning}");
    }
}

impl Serve {
    async fn run(self) -> Result<Exit, Error> {
        let config::Loaded { config, warnings, .. } = self.settings.load()?;
        if !self.insecure && !config.listen.ip().is_loopback() {
            return Err(Error::Usage(format!(
                "whoever reaches {} could begin and decide transactions, because this version asks nobody who they are: \
                 listen on 127.0.0.1 behind something that does ask, or say --insecure",
                config.listen
            )));
        }
        server::start_logs(&config)?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let schema = if self.migrate || config.database.url.is_sqlite() { Schema::Migrate } else { Schema::Check };
        // Each connection and each call holds a descriptor, and shells commonly allow a thousand.
        if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
            tracing::warn!(%error, "the limit on open files stays as it is");
        }
        let mut told = std::pin::pin!(stop_signal()?);
        let server = tokio::select! {
            started = Server::start(config, schema) => started?,
            told = &mut told => {
                anstream::eprintln!("{told}: before it was ready");
                return Ok(Exit::Done);
            }
        };
        anstream::eprintln!("listening on {}", server.url());
        let told = told.await;
        anstream::eprintln!("{told}: finishing what is under way");
        let again = stop_signal()?;
        tokio::select! {
            drained = server.shutdown() => drained?,
            again = again => {
                return Err(Error::Io { what: format!("stopped by a second {again}"), source: io::ErrorKind::Interrupted.into() });
            }
        }
        Ok(Exit::Done)
    }
}

impl From<SignalError> for Error {
    fn from(SignalError(source): SignalError) -> Self {
        Self::Io { what: "signals cannot be awaited".into(), source }
    }
}

/// The error and its causes, each said once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let said = source.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }
}
