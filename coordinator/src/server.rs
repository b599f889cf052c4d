//! Wiring: store, journal, dispatch, runtime and API of one process, by hand, in one place.
//!
//! A `Server` owns all it started and nothing global, so several live in one process.

use std::net::SocketAddr;

use crate::config::Config;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: std::io::Error },
}

/// What to do about a database whose schema is not this build's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schema {
    Migrate,
    /// Refuse to start.
    Check,
}

pub struct Server {
    address: SocketAddr,
}

impl Server {
    /// Returns once requests are answered.
    pub async fn start(config: Config, schema: Schema) -> Result<Self, Error> {
        let _ = (config, schema);
        unimplemented!()
    }

    /// Where the API answers: the real port, also where port 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Takes nothing new, finishes what is under way (no longer than `drain`), hands the rest over.
    pub async fn shutdown(self) -> Result<(), Error> {
        unimplemented!()
    }
}

/// Brings the database's schema to this build's.
pub async fn migrate(config: &Config) -> Result<(), Error> {
    let _ = config;
    unimplemented!()
}
