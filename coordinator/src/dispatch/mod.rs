//! Calls to participants over HTTP: one shared client, a total deadline per attempt, a queue per destination.
//!
//! A call that waits here for a free place at its destination is no attempt. Every call that was taken is answered exactly
//! once, through the place in the caller's inbox that it came with.

use skald_engine::{Call, Reply, Request, TraceContext};
use skald_protocol::{Gid, Timestamp};

/// A rendered call with all that travels beside it.
#[derive(Debug, Clone)]
pub struct Outgoing {
    pub gid: Gid,
    pub call: Call,
    pub request: Request,
    /// `Plan::services`' entry of the request's service, if the plan has one.
    pub service: Option<skald_engine::Service>,
    pub trace: TraceContext,
    pub began_at: Timestamp,
    /// The contract's name of `Began`.
    pub contract: String,
}

/// What comes back: the call, its answer, and how it went.
#[derive(Debug)]
pub struct Incoming {
    pub gid: Gid,
    pub call: Call,
    pub reply: Reply,
}

/// Where an answer goes. The place was reserved before the call was sent, so this neither waits nor fails.
pub trait ReplySlot: Send + 'static {
    fn put(self: Box<Self>, incoming: Incoming);
}
