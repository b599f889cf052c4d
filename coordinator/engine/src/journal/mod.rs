//! What is recorded. The encoding is a promise: `tests/golden` holds one of every event ever released, and a later build
//! reads them all.

mod began;
pub(crate) mod encoding;
mod error;
mod event;
pub(crate) mod state;

use serde::{Deserialize, Serialize};
use skald_protocol::Timestamp;

pub use began::{Began, Enlistment, TraceContext};
pub use error::{Error, FailureClass};
pub use event::Event;
pub(crate) use event::{about_operation, about_transaction, about_turn};
pub use state::State;

/// The newest journal encoding this build writes and reads.
pub const FORMAT: u32 = 1;

/// One append: events that became durable together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    pub at: i64,
    pub events: Vec<Event>,
}

impl Record {
    #[must_use]
    pub fn new(at: Timestamp, events: Vec<Event>) -> Self {
        Self { at: at.0, events }
    }

    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a record is JSON")
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}
