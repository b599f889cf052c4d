//! The Skald coordinator. ARCHITECTURE.md says which floor a line belongs on.

pub mod api;
pub mod cli;
pub mod config;
pub mod demo;
pub mod dispatch;
pub mod journal;
pub mod runtime;
pub mod server;
pub mod store;
pub mod telemetry;
mod terminal;
