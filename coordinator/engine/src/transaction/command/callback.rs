//! What a participant reports of an operation that it took on.

use skald_protocol::{CallbackVerdict, Json, OperationKind, OperationStatus, ResolvedOutcome, Timestamp};

use super::{Commanded, is_same};
use crate::{
    call::{Call, Response},
    journal::{Error, Event, FailureClass, state::Slot},
    transaction::{Decided, Rejection, Transaction, reply::Failure},
};

pub(super) struct Report {
    pub(super) verdict: CallbackVerdict,
    pub(super) output: Option<Json>,
    pub(super) error: Option<Error>,
}

impl Transaction {
    pub(super) fn callback(
        &mut self,
        branch: usize,
        slot: Slot,
        operation: OperationKind,
        report: Report,
        now: Timestamp,
        out: &mut Decided,
    ) -> Commanded {
        let Some(op) = self.slot_state(branch, slot) else {
            return Err(Rejection::NotAwaited { branch: self.spec(branch).id.clone(), operation });
        };
        // What was recorded is told as long as it is known.
        match (op.status, report.verdict) {
            (OperationStatus::Succeeded, CallbackVerdict::Succeeded) => {
                let recorded = op.response.as_ref().and_then(|response| response.body.as_ref());
                let output = report.output.as_ref().filter(|output| !output.is_null());
                // Who sends no output has none to lose.
                let agrees = output.is_none() || is_same(recorded.filter(|body| !body.is_null()), output);
                return if agrees { Ok(()) } else { Err(Rejection::CallbackConflict) };
            }
            (OperationStatus::Refused, CallbackVerdict::Refused) => return Ok(()),
            (OperationStatus::Succeeded, CallbackVerdict::Refused)
            | (OperationStatus::Refused, CallbackVerdict::Succeeded) => return Err(Rejection::CallbackConflict),
            _ => {}
        }
        self.unsettled()?;
        let outcome = match report.verdict {
            CallbackVerdict::Succeeded => ResolvedOutcome::Succeeded,
            CallbackVerdict::Refused => ResolvedOutcome::Refused,
            CallbackVerdict::Pending => {
                if op.status == OperationStatus::Pending && !self.has_given_up(branch, slot) {
                    self.emit(out, Event::Heartbeat { branch, operation }, now);
                }
                return Ok(());
            }
        };
        // Driven to its end whatever a person was called for: the refusal of a stuck one tells nothing new.
        let useless = outcome == ResolvedOutcome::Refused && !op.awaits() && self.is_settling(branch, slot);
        if useless || !self.is_answerable(branch, slot) {
            if !op.late_callback {
                self.emit(out, Event::LateCallback { branch, operation, outcome }, now);
            }
            return Ok(());
        }
        let attempt = if op.status == OperationStatus::Owed { op.attempts.saturating_add(1) } else { op.attempts };
        let call = Call { branch, operation, attempt, ask: false };
        let error = report.error.unwrap_or_else(|| Error { code: "refused".to_owned(), message: None });
        match outcome {
            ResolvedOutcome::Succeeded => {
                let response = Response { status: 200, body: report.output, ..Response::default() };
                self.succeeded(call, response, None, now, out);
            }
            ResolvedOutcome::Refused if self.is_settling(branch, slot) => {
                self.failed(Failure::new(branch, slot, attempt, FailureClass::Refused, error), now, out);
            }
            ResolvedOutcome::Refused => self.refused(call, error, true, now, out),
        }
        Ok(())
    }
}
