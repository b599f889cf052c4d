//! Inputs to events: the entry, and what time brings.

use skald_protocol::{OperationStatus, Timestamp};

use super::{Decided, Input, Rejection, Transaction, reply::Failure};
use crate::journal::{Error, Event, FailureClass, state::Slot};

impl Transaction {
    /// The events that an input leads to, already folded. No events and no error: nothing was left to do (the same
    /// command again, a reply that no longer matters).
    pub fn decide(&mut self, input: Input, now: Timestamp) -> Result<Decided, Rejection> {
        let mut out = Decided::default();
        match input {
            Input::Replied { call, reply } => self.replied(call, reply, now, &mut out),
            Input::Unrenderable { call, error } => self.unrenderable(call, &error, now, &mut out),
            Input::Tick => self.tick(now, &mut out),
            Input::Command(command) => self.command(command, now, &mut out)?,
        }
        self.consequence(&mut out, now);
        Ok(out)
    }

    fn tick(&mut self, now: Timestamp, out: &mut Decided) {
        if self.state.settled.is_some() {
            return;
        }
        if self.deadline_ahead().is_some_and(|deadline| deadline <= now) {
            self.emit(out, Event::DeadlinePassed, now);
        }
        let over: Vec<(usize, Slot)> = self
            .wakes
            .range(..(now.0.saturating_add(1), 0, Slot::Forward))
            .map(|(_, branch, slot)| (*branch, *slot))
            .filter(|(branch, slot)| {
                self.slot_state(*branch, *slot).is_some_and(|op| op.status == OperationStatus::Pending)
            })
            .collect();
        let elapsed: Vec<usize> =
            self.timers.range(..(now.0.saturating_add(1), 0)).map(|(_, branch)| *branch).collect();
        for branch in elapsed {
            self.emit(out, self.elapsed(branch), now);
        }
        for (branch, slot) in over {
            let Some(op) = self.slot_state(branch, slot) else { continue };
            let polls = self.operation(branch, slot).and_then(|spec| spec.pending.as_ref()?.poll.as_ref()).is_some();
            if polls && now.0 < op.pending_until {
                continue;
            }
            let error = if op.pending_until <= now.0 {
                Error::new("pending_timeout", "the asynchronous operation did not finish in its time")
            } else {
                Error::new("heartbeat_missed", "the asynchronous operation sent no heartbeat in its time")
            };
            let failure = Failure::new(branch, slot, op.attempts, FailureClass::Unknown, error);
            self.failed(failure, now, out);
        }
    }
}
