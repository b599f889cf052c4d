//! The HTTP API (API.md): JSON in, a command to the `Coordinator`, a view out.
//!
//! Whatever is wrong with a request is told as a problem (RFC 9457) with a stable code, and nothing of it is stored. Where
//! there is too much to do, a request is turned away before anything of it is acknowledged.
//!
//! This floor never sees the store, the journal, dispatch or a database: what it may ask for is `runtime::Coordinator`.

mod begin;
mod body;
mod callbacks;
mod connections;
mod definitions;
mod error;
mod events;
mod graph;
mod json;
mod memory;
mod middleware;
mod open_transactions;
mod openapi;
mod operators;
mod params;
mod response;
mod serve;
mod signals;
mod slow_peers;
mod system;
mod trace;
mod transactions;
mod workflows;

use std::{collections::BTreeSet, sync::Arc};

use axum::{Router, middleware::from_fn_with_state};
use skald_engine::Plan;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;

pub use openapi::document;
pub use serve::{Connections, serve};

use crate::{
    runtime::{Coordinator, PreparedPlan},
    telemetry::Metrics,
};
use definitions::Definitions;
use error::Error;
use memory::Room;

/// What an operator may set.
#[derive(Debug, Clone)]
pub struct Options {
    /// Requests being served at a time; those that only wait, or whose body is still to come, are not among them.
    pub max_requests: usize,
    /// Requests that wait (`Prefer: wait`, event streams) at a time.
    pub max_waiting: usize,
    /// Bytes of bodies that have begun to arrive.
    pub max_arriving: usize,
    /// Bytes of answers that are still to be read, small ones aside.
    pub max_unread: usize,
    /// Names of the configured services that branches of open transactions may be enlisted on.
    pub services: BTreeSet<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_requests: 1_024,
            // Fewer than there are connections, so that waiters leave some to those who work.
            max_waiting: 8_000,
            max_arriving: 128 << 20,
            max_unread: 256 << 20,
            services: BTreeSet::new(),
        }
    }
}

/// What the API shares with the rest of the process.
#[derive(Debug, Clone)]
pub struct Handles {
    pub metrics: Arc<Metrics>,
    /// Cancelled when this node goes down: waits and event streams then end, for they would hold it up.
    pub drain: CancellationToken,
}

/// The state of every handler.
#[derive(Clone)]
struct Api(Arc<Inner>);

struct Inner {
    coordinator: Coordinator,
    options: Options,
    metrics: Arc<Metrics>,
    drain: CancellationToken,
    definitions: Definitions,
    open_plan: Arc<PreparedPlan>,
    arriving: Arc<Room>,
    places: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl std::ops::Deref for Api {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// Every route of the API.
pub fn router(coordinator: Coordinator, options: Options, handles: Handles) -> Router {
    let unread = Room::new(options.max_unread);
    let api = Api(Arc::new(Inner {
        coordinator,
        arriving: Room::new(options.max_arriving),
        places: Arc::new(Semaphore::new(options.max_requests)),
        waiting: Arc::new(Semaphore::new(options.max_waiting)),
        options,
        metrics: handles.metrics,
        drain: handles.drain,
        definitions: Definitions::default(),
        open_plan: Arc::new(PreparedPlan::new(Plan::open(), None)),
    }));
    let (calls, node, document) = openapi::routes();
    calls
        .layer(from_fn_with_state(api.clone(), middleware::admit))
        .merge(node)
        .merge(openapi::pages(document))
        .method_not_allowed_fallback(|| async { Error::MethodNotAllowed })
        .fallback(|| async { Error::UnknownRoute })
        .layer(CatchPanicLayer::custom(middleware::panicked))
        .layer(from_fn_with_state(unread, middleware::keep))
        .layer(from_fn_with_state(Arc::clone(&api.metrics), middleware::answer))
        .with_state(api)
}
