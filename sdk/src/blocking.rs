//! For programs without an async runtime: the client keeps one of its own, and each call waits for its answer.
//!
//! ```no_run
//! # use skald_sdk::{Saga, Service, blocking};
//! # fn order() -> Result<(), Box<dyn std::error::Error>> {
//! let stock = Service::new("stock", "http://stock:8080");
//! let saga: Saga<String, ()> = Saga::named("order").step("reserve", stock.action("/reserve").compensate("/release"));
//! let client = blocking::Client::new("http://127.0.0.1:7410")?;
//! let begun = client.begin(&saga, &"lamp".to_owned())?;
//! let gid = begun.gid().clone();
//! begun.settled()?;
//! let view = client.wait(async |client| client.get(&gid).await)?;
//! # let _ = view; Ok(()) }
//! ```

use std::sync::Arc;

use serde::de::DeserializeOwned;
use skald_protocol::Gid;
use tokio::runtime::{Builder, Runtime};

use crate::{Error, saga::Workflow};

/// A client whose calls wait. Cheap to clone.
///
/// # Panics
/// Its calls panic inside an async runtime, whose thread they would hold up: use [`crate::Client`] there.
#[derive(Debug, Clone)]
pub struct Client {
    client: crate::Client,
    runtime: Arc<Runtime>,
}

/// A transaction that was begun: whatever crashes, it is driven to its end.
#[derive(Debug)]
#[must_use = "`settled` waits for what becomes of it"]
pub struct Begun<O> {
    begun: crate::Begun<O>,
    runtime: Arc<Runtime>,
}

impl Client {
    /// For the coordinator at this URL, without a token.
    ///
    /// # Errors
    /// [`Error::Misconfigured`] where the URL cannot be used, or the system gives no runtime.
    pub fn new(url: &str) -> Result<Self, Error> {
        Self::of(crate::Client::new(url)?)
    }

    /// The calls of a client that was built with a token, say.
    ///
    /// # Errors
    /// [`Error::Misconfigured`] where the system gives no runtime.
    pub fn of(client: crate::Client) -> Result<Self, Error> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Error::Misconfigured(format!("no runtime can be started: {error}")))?;
        Ok(Self { client, runtime: Arc::new(runtime) })
    }

    /// Begins a transaction; it is durable when this returns.
    ///
    /// # Errors
    /// As [`crate::Client::begin`].
    pub fn begin<W: Workflow>(&self, workflow: &W, input: &W::Input) -> Result<Begun<W::Output>, Error> {
        let begun = self.runtime.block_on(self.client.begin(workflow, input))?;
        Ok(Begun { begun, runtime: Arc::clone(&self.runtime) })
    }

    /// Makes any call of the async client, or several, and waits for what they give.
    pub fn wait<T>(&self, calls: impl AsyncFnOnce(&crate::Client) -> T) -> T {
        self.runtime.block_on(calls(&self.client))
    }
}

impl<O: DeserializeOwned> Begun<O> {
    /// The transaction's id.
    #[must_use]
    pub fn gid(&self) -> &Gid {
        self.begun.gid()
    }

    /// Waits for the end; however long that takes.
    ///
    /// # Errors
    /// As [`crate::Begun::settled`].
    pub fn settled(self) -> Result<O, Error> {
        self.runtime.block_on(self.begun.settled())
    }
}
