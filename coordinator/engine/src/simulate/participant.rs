//! What participants do, and their ledger: with the barrier (PARTICIPANT.md) or executing whatever arrives.
//!
//! The ledger is what the verdict is about. It knows nothing of the coordinator's books.

use std::collections::BTreeMap;

use serde::Serialize;
use skald_protocol::{Json, OperationKind};

use crate::{
    call::{Barrier, Outcome, Reply, Response},
    journal::Error,
};

/// One branch as its participant keeps it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Ledger {
    /// How often the forward operation's effect stands.
    pub stands: u32,
    /// How often the forward operation had its effect.
    pub done: u32,
    pub undone: u32,
    pub confirmed: u32,
    /// Undos that were executed although there was nothing to undo.
    pub empty: u32,
    /// An accepted asynchronous operation has not come to its end.
    pub working: bool,
    #[serde(skip)]
    rows: BTreeMap<OperationKind, Row>,
    /// How often each operation's business was asked: where in its list of answers the next one stands.
    #[serde(skip)]
    asked: BTreeMap<OperationKind, usize>,
}

/// A row of the barrier; a plain service keeps it only of what is said to be idempotent.
#[derive(Debug, Clone, PartialEq)]
enum Row {
    Done(Response),
    Refused(Error),
    Working,
    /// Written by the undo: it can never run.
    Closed,
}

/// What the business makes of a call, if it comes to it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Business {
    Does(Response),
    Accepts,
    Refuses(Error),
    /// Nothing is done and nobody knows.
    Fails(Error),
    /// 429
    Declines(Error),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Manners {
    pub(super) barrier: bool,
    /// Repetitions of this operation are known by their key.
    pub(super) idempotent: bool,
}

/// How a call was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    Executed,
    /// A repetition: the stored answer.
    Stored,
    /// An undo of what never ran.
    Empty,
    /// A forward call after its undo.
    Superseded,
    Accepted,
    Refused,
    Failed,
    Asked,
}

impl Ledger {
    /// Which of its scripted answers an operation gives next.
    pub(super) fn turn(&self, kind: OperationKind) -> usize {
        self.asked.get(&kind).copied().unwrap_or(0)
    }

    pub(super) fn answer(&mut self, kind: OperationKind, manners: Manners, business: Business) -> (Reply, How) {
        let knows = manners.barrier || manners.idempotent;
        if let Some(row) = self.rows.get(&kind).filter(|_| knows) {
            return stored(row, manners);
        }
        if manners.barrier {
            if kind.is_undo() {
                return self.undo_behind_the_barrier(kind, business);
            }
            if kind == OperationKind::Confirm && self.rows.keys().any(|kind| kind.is_undo()) {
                let error = Error::new("protocol_broken", "a confirm after its cancel");
                return (Reply::of(Outcome::Refused(error)), How::Refused);
            }
        }
        self.execute(kind, business, manners)
    }

    fn undo_behind_the_barrier(&mut self, kind: OperationKind, business: Business) -> (Reply, How) {
        if self.rows.contains_key(&OperationKind::Confirm) {
            let error = Error::new("protocol_broken", "a cancel after its confirm");
            return (Reply::of(Outcome::Refused(error)), How::Refused);
        }
        let forward = if kind == OperationKind::Cancel { OperationKind::Try } else { OperationKind::Action };
        let nothing = match self.rows.get(&forward) {
            None => {
                self.rows.insert(forward, Row::Closed);
                true
            }
            Some(Row::Refused(_) | Row::Closed) => true,
            Some(Row::Done(_) | Row::Working) => false,
        };
        if nothing {
            let response = Response { status: 200, ..Response::default() };
            self.rows.insert(kind, Row::Done(response.clone()));
            return (with(Outcome::Succeeded(response), Barrier::Empty), How::Empty);
        }
        self.execute(kind, business, Manners { barrier: true, idempotent: false })
    }

    fn execute(&mut self, kind: OperationKind, business: Business, manners: Manners) -> (Reply, How) {
        *self.asked.entry(kind).or_default() += 1;
        let (outcome, how, row) = match business {
            Business::Does(response) => {
                let how = self.effect(kind);
                (Outcome::Succeeded(response.clone()), how, Some(Row::Done(response)))
            }
            Business::Accepts => {
                self.working = true;
                (Outcome::Pending, How::Accepted, Some(Row::Working))
            }
            // What an undo refuses is rolled back, so that it can be asked for again.
            Business::Refuses(error) if kind.is_undo() => (Outcome::Refused(error), How::Refused, None),
            Business::Refuses(error) => (Outcome::Refused(error.clone()), How::Refused, Some(Row::Refused(error))),
            Business::Fails(error) => return (Reply::of(Outcome::Unknown(error)), How::Failed),
            Business::Declines(error) => return (Reply::of(Outcome::Unsent(error)), How::Failed),
        };
        if let Some(row) = row {
            self.rows.insert(kind, row);
        }
        let barrier = manners.barrier.then_some(Barrier::Executed);
        (Reply { outcome, retry_after: None, barrier }, how)
    }

    fn effect(&mut self, kind: OperationKind) -> How {
        if kind.is_forward() {
            self.stands += 1;
            self.done += 1;
        } else if kind.is_undo() {
            if self.working {
                self.working = false;
            } else if self.stands == 0 {
                self.empty += 1;
                return How::Empty;
            }
            self.stands = self.stands.saturating_sub(1);
            self.undone += 1;
        } else {
            self.confirmed += 1;
        }
        How::Executed
    }

    /// An asynchronous operation comes to its end; false: it was undone meanwhile.
    pub(super) fn finish(&mut self, kind: OperationKind, end: Result<Response, Error>) -> bool {
        if !std::mem::take(&mut self.working) {
            return false;
        }
        let row = match end {
            Ok(response) => {
                self.effect(kind);
                Row::Done(response)
            }
            Err(error) => Row::Refused(error),
        };
        self.rows.insert(kind, row);
        true
    }

    /// A refusal that never changes any more.
    pub(super) fn refuses(&self, kind: OperationKind) -> bool {
        matches!(self.rows.get(&kind), Some(Row::Refused(_)))
    }

    /// What became of an operation, for whoever asks; asking has no effect.
    pub(super) fn truth(&self, kind: OperationKind) -> Outcome {
        match self.rows.get(&kind) {
            Some(Row::Done(response)) => Outcome::Succeeded(response.clone()),
            Some(Row::Refused(error)) => Outcome::Refused(error.clone()),
            Some(Row::Working) => Outcome::Pending,
            Some(Row::Closed) | None => Outcome::NotFound,
        }
    }
}

fn stored(row: &Row, manners: Manners) -> (Reply, How) {
    let (outcome, how, command) = match row {
        Row::Done(response) => (Outcome::Succeeded(response.clone()), How::Stored, Barrier::Stored),
        Row::Refused(error) => (Outcome::Refused(error.clone()), How::Stored, Barrier::Stored),
        Row::Working => (Outcome::Pending, How::Stored, Barrier::Stored),
        Row::Closed => {
            let error = Error::new("superseded", "its undo came first");
            (Outcome::Refused(error), How::Superseded, Barrier::Superseded)
        }
    };
    (Reply { outcome, retry_after: None, barrier: manners.barrier.then_some(command) }, how)
}

fn with(outcome: Outcome, command: Barrier) -> Reply {
    Reply { outcome, retry_after: None, barrier: Some(command) }
}

pub(super) fn response(status: u16, headers: BTreeMap<String, String>, body: Option<Json>) -> Response {
    Response { status, headers, body, ..Response::default() }
}
