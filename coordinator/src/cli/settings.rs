use std::{net::SocketAddr, path::PathBuf};

use crate::config::{self, HttpUrl, LogFormat, Sources};

/// The settings that have a flag; `skald config` shows all of them.
#[derive(Debug, clap::Args)]
pub(super) struct Settings {
    /// A TOML file of settings.
    #[arg(long, env = "SKALD_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the API answers [default: 127.0.0.1:7410]; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// `sqlite://FILE`, `sqlite::memory:` or `postgres://…` [default: sqlite://skald.db].
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// What participants reach this coordinator at, for callbacks.
    #[arg(long, value_name = "URL")]
    public_url: Option<HttpUrl>,
    /// An OpenTelemetry collector's gRPC endpoint.
    #[arg(long, value_name = "URL")]
    otlp_endpoint: Option<HttpUrl>,
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,skald::dispatch=debug`.
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    #[arg(long, value_enum)]
    log_format: Option<LogFormat>,
}

impl Settings {
    pub(super) fn load(&self) -> Result<config::Loaded, super::Error> {
        let mut flags = Vec::new();
        let mut put = |flag, key, value: Option<String>| flags.extend(value.map(|value| (flag, key, value)));
        put("--listen", "listen", self.listen.map(|listen| listen.to_string()));
        put("--database", "database", self.database.clone());
        put("--public-url", "public_url", self.public_url.as_ref().map(ToString::to_string));
        put("--otlp-endpoint", "telemetry.otlp_endpoint", self.otlp_endpoint.as_ref().map(ToString::to_string));
        put("--log-level", "log.level", self.log_level.clone());
        put("--log-format", "log.format", self.log_format.map(|format| format.as_str().to_owned()));
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Ok(config::load(&Sources { file: self.config.clone(), environment, flags })?)
    }
}
