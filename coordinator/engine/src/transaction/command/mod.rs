//! Commands from outside: clients, participants' callbacks, operators.

mod callback;
mod open;
mod operator;

use skald_protocol::{BranchId, CallbackVerdict, Json, OperationKind, ResolvedOutcome, Timestamp};

use super::{Decided, Rejection, Transaction};
use crate::{
    journal::{Enlistment, Error, Event, state::Slot},
    limit,
    value::same,
};

/// What comes from outside; any node may decide it, holding the transaction or not.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    Enlist(Box<Enlistment>),
    Commit,
    Cancel {
        reason: Option<String>,
    },
    Signal {
        name: String,
        payload: Option<Json>,
    },
    Callback {
        branch: BranchId,
        operation: OperationKind,
        verdict: CallbackVerdict,
        output: Option<Json>,
        error: Option<Error>,
    },
    Retry {
        branch: Option<BranchId>,
    },
    Skip {
        branch: BranchId,
        reason: String,
    },
    Resolve {
        branch: BranchId,
        outcome: ResolvedOutcome,
        output: Option<Json>,
        reason: String,
    },
    Fail {
        reason: String,
    },
    Resume,
    /// The journal reached its limit.
    JournalFull,
    /// One that its sender may send again by the same key; `digest`: of all that it says.
    Once {
        key: String,
        digest: String,
        command: Box<Self>,
    },
}

impl Command {
    /// An operator's end of what cannot go on.
    #[must_use]
    pub fn fails(&self) -> bool {
        match self {
            Self::Fail { .. } => true,
            Self::Once { command, .. } => command.fails(),
            Self::Enlist(_)
            | Self::Commit
            | Self::Cancel { .. }
            | Self::Signal { .. }
            | Self::Callback { .. }
            | Self::Retry { .. }
            | Self::Skip { .. }
            | Self::Resolve { .. }
            | Self::Resume
            | Self::JournalFull => false,
        }
    }
}

type Commanded = Result<(), Rejection>;

impl Transaction {
    pub(super) fn command(&mut self, command: Command, now: Timestamp, out: &mut Decided) -> Commanded {
        match command {
            Command::Enlist(enlistment) => self.enlist(enlistment, now, out),
            Command::Commit => self.commit(now, out),
            Command::Cancel { reason } => self.cancel(reason, now, out),
            Command::Signal { name, payload } => self.take_signal(name, payload, now, out),
            Command::Callback { branch, operation, verdict, output, error } => {
                let at = self.find(&branch).ok_or_else(|| Rejection::UnknownBranch { branch: branch.clone() })?;
                let slot = Slot::of(operation).filter(|slot| {
                    let spec = self.operation(at, *slot);
                    spec.is_some_and(|spec| spec.kind == operation && spec.pending.is_some())
                });
                let slot = slot.ok_or(Rejection::NotAwaited { branch, operation })?;
                self.callback(at, slot, operation, callback::Report { verdict, output, error }, now, out)
            }
            Command::Once { key, digest, command } => self.once(key, digest, *command, now, out),
            Command::Retry { branch } => self.retry(branch, now, out),
            Command::Skip { branch, reason } => self.skip(&branch, reason, now, out),
            Command::Resolve { branch, outcome, output, reason } => {
                self.resolve(&branch, outcome, output, reason, now, out)
            }
            Command::Fail { reason } => self.end_as_failed(reason, now, out),
            Command::Resume => self.resume(now, out),
            Command::JournalFull => {
                if self.state.decision.is_none() && self.state.settled.is_none() && !self.state.failed {
                    self.emit(out, Event::JournalFull, now);
                }
                Ok(())
            }
        }
    }

    fn unsettled(&self) -> Commanded {
        if self.state.settled.is_some() { Err(Rejection::Settled) } else { Ok(()) }
    }

    /// A command that its sender may send again because its answer was lost: it is taken once, also after it ended the
    /// transaction.
    fn once(&mut self, key: String, digest: String, command: Command, now: Timestamp, out: &mut Decided) -> Commanded {
        if let Some(known) = self.state.keys.get(&key) {
            return if *known == digest { Ok(()) } else { Err(Rejection::KeyConflict { key }) };
        }
        self.unsettled()?;
        if self.state.keys.len() >= limit::IDEMPOTENCY_KEYS {
            return Err(Rejection::TooManyKeys { limit: limit::IDEMPOTENCY_KEYS });
        }
        let updated_at = self.state.updated_at;
        // Before the command, which may end the transaction.
        self.emit(out, Event::KeyTaken { key: key.clone(), digest }, now);
        let taken = self.command(command, now, out);
        if taken.is_err() {
            self.state.keys.remove(&key);
            self.state.updated_at = updated_at;
        }
        taken
    }

    fn take_signal(&mut self, name: String, payload: Option<Json>, now: Timestamp, out: &mut Decided) -> Commanded {
        if self.plan.open {
            return Err(Rejection::OpenTakesNoSignals);
        }
        let payload = payload.filter(|payload| !payload.is_null());
        if let Some(known) = self.signal(&name) {
            let same = is_same(self.state.signals[known].payload.as_ref(), payload.as_ref());
            return if same { Ok(()) } else { Err(Rejection::SignalConflict { name }) };
        }
        self.unsettled()?;
        if self.state.signals.len() >= limit::SIGNALS {
            return Err(Rejection::TooManySignals { limit: limit::SIGNALS });
        }
        self.emit(out, Event::Signalled { name, payload }, now);
        Ok(())
    }
}

fn is_same(known: Option<&Json>, sent: Option<&Json>) -> bool {
    match (known, sent) {
        (Some(known), Some(sent)) => same(known, sent),
        (known, sent) => known.is_none() && sent.is_none(),
    }
}
