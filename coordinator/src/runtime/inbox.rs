//! What reaches a task that owns transactions, and on which of its channels.
//!
//! Only requests come from outside and are refused when too many wait. Answers of participants come through places that were
//! reserved before the call was sent; commits' answers and loads are bounded by what the task itself started.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use skald_engine::{Call, Command, Input, Request};
use skald_protocol::{Gid, Timestamp, TransactionView};
use tokio::sync::{mpsc, oneshot};

use super::{Begun, Error, NewTransaction, Until, load::Found};
use crate::{
    dispatch::{Incoming, ReplySlot},
    journal::Claim,
    store::Shard,
};

/// Why a task did not do what it was asked.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It does not hold the transaction and will not: the database is the place to ask.
    NotHeld,
    Failed(Error),
}

pub(super) type Responder<T> = oneshot::Sender<Result<T, Refusal>>;

#[derive(Debug)]
pub(super) struct TaskRequest {
    pub(super) gid: Gid,
    pub(super) work: Work,
}

/// What a transaction is to do once nothing of it is being appended.
#[derive(Debug)]
pub(super) enum Work {
    Input(Input),
    Begin(Box<NewTransaction>, Claim, Responder<Begun>),
    Command(Command, Claim, Responder<TransactionView>),
    DryRun(Command, Responder<Vec<Request>>),
    View(Range<usize>, Responder<TransactionView>),
    Compare([u8; 32], Responder<TransactionView>),
    Wait(Until, Responder<TransactionView>),
    /// When it was asked for: what was recorded since counts.
    Change(Instant, oneshot::Sender<()>),
}

impl Work {
    /// Of what changes the transaction at somebody's request.
    pub(super) const fn claim(&self) -> Option<&Claim> {
        match self {
            Self::Begin(_, claim, _) | Self::Command(_, claim, _) => Some(claim),
            Self::Input(_)
            | Self::DryRun(..)
            | Self::View(..)
            | Self::Compare(..)
            | Self::Wait(..)
            | Self::Change(..) => None,
        }
    }

    /// Nobody waits for it any more: it must not be done.
    pub(super) fn is_withdrawn(&self) -> bool {
        self.claim().is_some_and(Claim::is_withdrawn)
    }

    /// The task will not do it.
    pub(super) fn refuse(self) {
        match self {
            // Whoever waits for a change looks again when this is dropped.
            Self::Input(_) | Self::Change(..) => {}
            Self::Begin(_, _, responder) => drop(responder.send(Err(Refusal::NotHeld))),
            Self::DryRun(_, responder) => drop(responder.send(Err(Refusal::NotHeld))),
            Self::Command(_, _, responder)
            | Self::View(_, responder)
            | Self::Compare(_, responder)
            | Self::Wait(_, responder) => {
                drop(responder.send(Err(Refusal::NotHeld)));
            }
        }
    }

    pub(super) fn fail(self, error: Error) {
        match self {
            Self::Input(_) | Self::Change(..) => {}
            Self::Begin(_, _, responder) => drop(responder.send(Err(Refusal::Failed(error)))),
            Self::DryRun(_, responder) => drop(responder.send(Err(Refusal::Failed(error)))),
            Self::Command(_, _, responder)
            | Self::View(_, responder)
            | Self::Compare(_, responder)
            | Self::Wait(_, responder) => {
                drop(responder.send(Err(Refusal::Failed(error))));
            }
        }
    }
}

/// What comes back through a reserved place.
#[derive(Debug)]
pub(super) enum Completion {
    Reply {
        ticket: u64,
        incoming: Incoming,
    },
    /// Dispatch withheld the call (it drains, or the permit ended): it was never sent.
    Withheld {
        ticket: u64,
        gid: Gid,
        call: Call,
    },
}

/// A place in the inbox that was reserved before its call was sent.
pub(super) struct ReservedSlot {
    permit: Option<mpsc::OwnedPermit<Completion>>,
    ticket: u64,
    gid: Gid,
    call: Call,
}

impl ReservedSlot {
    pub(super) fn new(permit: mpsc::OwnedPermit<Completion>, ticket: u64, gid: Gid, call: Call) -> Box<Self> {
        Box::new(Self { permit: Some(permit), ticket, gid, call })
    }
}

impl ReplySlot for ReservedSlot {
    fn put(mut self: Box<Self>, incoming: Incoming) {
        if let Some(permit) = self.permit.take() {
            permit.send(Completion::Reply { ticket: self.ticket, incoming });
        }
    }
}

impl Drop for ReservedSlot {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            permit.send(Completion::Withheld { ticket: self.ticket, gid: self.gid.clone(), call: self.call });
        }
    }
}

/// What a load was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To hold it.
    Hold,
    /// It is held, but another node moved it.
    Reload,
}

#[derive(Debug)]
pub(super) enum Control {
    /// These shards are this node's now.
    Own(Vec<Shard>),
    /// Give these shards' transactions up: begin and call nothing more, wait for calls in flight so long, forget them.
    Leave {
        shards: Vec<i32>,
        within: Duration,
        left: oneshot::Sender<()>,
    },
    /// Due transactions, for those that are not held. Told when there is room for more.
    Due(Vec<(Timestamp, Gid)>, oneshot::Sender<()>),
    /// Another node appended at this seq.
    Foreign(Vec<(Gid, u64)>),
    Loaded(Purpose, Vec<(Gid, Found)>),
    LoadFailed(Purpose, Vec<Gid>, String),
    /// The lease holds again: what is owed may be called.
    Drive,
}

/// What a task reports to the node's membership.
#[derive(Debug)]
pub(super) enum Report {
    /// Something in the shard was written by a newer build.
    Unreadable { shard: i32 },
}

pub(super) fn call_of(work: &Work) -> Option<Call> {
    match work {
        Work::Input(Input::Replied { call, .. } | Input::Unrenderable { call, .. }) => Some(*call),
        Work::Input(Input::Tick | Input::Command(_))
        | Work::Begin(..)
        | Work::Command(..)
        | Work::DryRun(..)
        | Work::View(..)
        | Work::Compare(..)
        | Work::Wait(..)
        | Work::Change(..) => None,
    }
}
