//! What participants do, and their ledger.
//!
//! Each is idempotent by key. One without the barrier may answer the repetition of a forward call that it did with a
//! refusal ("already exists"), as many do, unless its operation is said to be `idempotent`.

use skald_engine::{Barrier, Error, Operation, Outcome, Reply, Response};
use skald_protocol::{Json, OperationKind};

#[derive(Debug, Clone, Default)]
pub(crate) struct Part {
    /// The forward operation's effect is there.
    pub(crate) effect: bool,
    pub(crate) happened: bool,
    /// An accepted asynchronous operation has not finished.
    pub(crate) working: bool,
    /// The refusal that was answered and never changes.
    pub(crate) refused: bool,
    /// An undo came: with the barrier nothing runs any more.
    pub(crate) closed: bool,
    pub(crate) undone: u32,
    pub(crate) confirmed: bool,
}

/// What an execution is to come to, if it comes to anything new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Will {
    Do,
    Refuse,
    Work,
}

pub(crate) struct Manners {
    pub(crate) barrier: bool,
    /// A refusal is kept: by the barrier, or where someone may ask for it again.
    pub(crate) keeps: bool,
    /// A repetition of what was done is answered as a refusal.
    pub(crate) conflicts: bool,
}

impl Manners {
    pub(crate) fn of(spec: &Operation, barrier: bool, tail: bool) -> Self {
        let keeps = barrier || spec.idempotent || spec.pending.is_some() || spec.status_check.is_some();
        Self { barrier, keeps, conflicts: !keeps && !tail }
    }
}

fn reply(outcome: Outcome, barrier: Option<Barrier>) -> Reply {
    Reply { outcome, retry_after: None, barrier }
}

fn error(code: &str) -> Error {
    Error { code: code.to_owned(), message: None }
}

pub(crate) fn ok() -> Outcome {
    Outcome::Succeeded(Response { status: 200, body: Some(Json::of(&1)), ..Response::default() })
}

impl Part {
    pub(crate) fn execute(&mut self, kind: OperationKind, ask: bool, will: Will, manners: &Manners) -> Reply {
        let word = |word| manners.barrier.then_some(word);
        match kind {
            _ if ask => reply(self.answer(), None),
            OperationKind::Action | OperationKind::Try => self.forward(will, manners),
            OperationKind::Confirm => {
                if will == Will::Refuse && !self.confirmed {
                    return reply(Outcome::Refused(error("later")), None);
                }
                self.confirmed = true;
                reply(ok(), word(Barrier::Executed))
            }
            OperationKind::Compensate | OperationKind::Cancel => {
                if will == Will::Refuse && self.undone == 0 {
                    return reply(Outcome::Refused(error("later")), None);
                }
                let empty = !self.effect && !self.working;
                self.closed = true;
                self.working = false;
                self.effect = false;
                self.undone += 1;
                reply(ok(), word(if empty { Barrier::Empty } else { Barrier::Executed }))
            }
            OperationKind::Status => unreachable!("a question is asked about another operation"),
        }
    }

    fn answer(&self) -> Outcome {
        if self.working {
            Outcome::Pending
        } else if self.effect {
            ok()
        } else if self.refused {
            Outcome::Refused(error("kept"))
        } else {
            Outcome::NotFound
        }
    }

    fn forward(&mut self, will: Will, manners: &Manners) -> Reply {
        let word = |word| manners.barrier.then_some(word);
        if self.closed && manners.barrier {
            return reply(Outcome::Refused(error("superseded")), Some(Barrier::Superseded));
        }
        if self.effect && manners.conflicts {
            return reply(Outcome::Refused(error("already_exists")), None);
        }
        if self.effect {
            return reply(ok(), word(Barrier::Stored));
        }
        if self.refused {
            return reply(Outcome::Refused(error("kept")), word(Barrier::Stored));
        }
        match will {
            _ if self.working => reply(Outcome::Pending, None),
            Will::Work => {
                self.working = true;
                reply(Outcome::Pending, None)
            }
            Will::Refuse => {
                self.refused = manners.keeps;
                reply(Outcome::Refused(error("no")), word(Barrier::Executed))
            }
            Will::Do => {
                (self.effect, self.happened) = (true, true);
                reply(ok(), word(Barrier::Executed))
            }
        }
    }
}
