//! How one protocol speaks to participants: what a call looks like, and what an answer means.
//!
//! A contract is chosen by the name recorded in `Began`. It never sees the network: whether bytes were written, and what
//! is then known, is the transport's to say.

mod native;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use skald_engine::Reply;
use skald_protocol::Timestamp;

use super::Outgoing;

pub use native::Native;

pub trait Contract: Send + Sync + 'static {
    /// Everything of the message but the service's own headers and authentication, which are added afterwards.
    fn encode(&self, sending: &Sending<'_>) -> Result<Message, Unsendable>;

    /// Of a whole answer. A call with `ask` set asks what became of another: nothing but its answer's own words may
    /// pass for that operation's outcome.
    fn classify(&self, outgoing: &Outgoing, answer: HttpAnswer) -> Reply;
}

/// One attempt that is about to be made.
#[derive(Debug)]
pub struct Sending<'a> {
    pub outgoing: &'a Outgoing,
    /// The end of this attempt.
    pub deadline: Timestamp,
    /// Of an asynchronous operation: where its outcome is to be sent.
    pub callback: Option<String>,
}

#[derive(Debug)]
pub struct Message {
    pub method: Method,
    pub headers: HeaderMap,
    pub body: Option<Bytes>,
}

#[derive(Debug)]
pub struct HttpAnswer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Payload,
}

#[derive(Debug, Clone)]
pub enum Payload {
    Whole(Vec<u8>),
    /// Over the limit: it was not read.
    TooLarge,
}

/// A call of which not a byte can be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsendable {
    /// It would be the same every time.
    #[error("{}", .0.message.as_deref().unwrap_or(&.0.code))]
    Never(skald_engine::Error),
    /// An operator can set it right meanwhile.
    #[error("{}", .0.message.as_deref().unwrap_or(&.0.code))]
    Later(skald_engine::Error),
}

impl Unsendable {
    #[must_use]
    pub fn never(code: &str, message: impl Into<String>) -> Self {
        Self::Never(skald_engine::Error::new(code, message))
    }

    #[must_use]
    pub fn later(code: &str, message: impl Into<String>) -> Self {
        Self::Later(skald_engine::Error::new(code, message))
    }
}
