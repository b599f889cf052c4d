//! Skald's client: begin transactions, enlist into open ones, follow them, publish workflows, and an operator's words.
//!
//! Every call but an operator's may be made twice without harm, so the client makes it again by itself when no answer
//! came or the coordinator said to come back later. A begin without a gid is given one here for that reason: twice is
//! once.

mod client;
mod error;
mod follow;
#[cfg(feature = "participant")]
pub mod participant;
mod registry;

pub use client::{Client, ClientBuilder, ListFilter, Operator};
pub use error::Error;
pub use follow::Follow;
pub use registry::Publication;
pub use skald_protocol as protocol;
