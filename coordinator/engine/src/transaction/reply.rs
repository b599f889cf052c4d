//! What a participant's answer means to the operation it answers.

use std::time::Duration;

use skald_protocol::{OperationStatus, Timestamp};

use super::{Decided, Flight, Transaction};
use crate::{
    call::{Barrier, Call, Outcome, Reply, Response},
    cel::Meter,
    journal::{Error, Event, FailureClass, encoding::millis, state::Slot},
    limit,
    plan::{OnExhausted, Operation, Role},
    template::Unrenderable,
};

/// An attempt that did not end its operation.
pub(super) struct Failure {
    pub(super) branch: usize,
    pub(super) slot: Slot,
    pub(super) attempt: u32,
    pub(super) ask: bool,
    pub(super) class: FailureClass,
    pub(super) error: Error,
    pub(super) retry_after: Option<Duration>,
    pub(super) barrier: Option<Barrier>,
    pub(super) live_ms: u64,
}

impl Failure {
    pub(super) fn new(branch: usize, slot: Slot, attempt: u32, class: FailureClass, error: Error) -> Self {
        Self { branch, slot, attempt, ask: false, class, error, retry_after: None, barrier: None, live_ms: 0 }
    }
}

/// What the retry policy says of the next attempt.
enum Next {
    After(Duration),
    /// The policy is at its end.
    Exhausted,
}

impl Transaction {
    pub(super) fn replied(&mut self, call: Call, reply: Reply, now: Timestamp, out: &mut Decided) {
        let Some((slot, Flight { since, poll, .. })) = self.land(call) else { return };
        let branch = call.branch;
        let Some(op) = self.slot_state(branch, slot) else { return };
        let attempts = op.attempts;
        let finished = matches!(reply.outcome, Outcome::Succeeded(_) | Outcome::Refused(_));
        let matters = match op.status {
            OperationStatus::Owed => !poll || finished,
            OperationStatus::Pending => poll || finished,
            OperationStatus::Succeeded
            | OperationStatus::Refused
            | OperationStatus::Exhausted
            | OperationStatus::Skipped => false,
        };
        if self.state.settled.is_some() || !matters || self.has_given_up(branch, slot) {
            return;
        }
        let Some(spec) = self.operation(branch, slot) else { return };
        // A poll is no attempt.
        let call = if poll { Call { attempt: attempts, ..call } } else { call };
        if poll && !finished && reply.outcome != Outcome::NotFound {
            let pause = spec.pending.as_ref().and_then(|pending| Some(pending.poll.as_ref()?.pause(op.polls + 1)));
            let delay = reply.retry_after.or(pause).unwrap_or(spec.timeout);
            let error = match reply.outcome {
                Outcome::Unknown(error) | Outcome::Unsent(error) => Some(error),
                Outcome::Succeeded(_) | Outcome::Refused(_) | Outcome::Pending | Outcome::NotFound => None,
            };
            let event = Event::Polled { branch, operation: call.operation, delay_ms: millis(delay), error };
            self.emit_minor(out, event, now);
            return;
        }
        let unsettled =
            !call.ask && matches!(reply.outcome, Outcome::Unknown(_) | Outcome::Pending | Outcome::NotFound);
        let live_ms = if unsettled { millis(now.until(since.plus(spec.timeout))) } else { 0 };
        let failure = |class, error| Failure {
            ask: call.ask,
            retry_after: reply.retry_after,
            barrier: reply.barrier,
            live_ms,
            ..Failure::new(branch, slot, call.attempt, class, error)
        };
        match reply.outcome {
            Outcome::Refused(error) if reply.barrier == Some(Barrier::Expired) => {
                self.emit(out, Event::Stuck { branch, operation: call.operation, error }, now);
            }
            Outcome::Succeeded(response) => self.succeeded(call, response, reply.barrier, now, out),
            Outcome::Refused(error) if self.is_settling(branch, slot) => {
                self.failed(failure(FailureClass::Refused, error), now, out);
            }
            Outcome::Refused(error) => {
                let trusted = call.ask || spec.idempotent || reply.barrier.is_some_and(Barrier::is_trusted);
                self.refused(call, error, trusted, now, out);
            }
            Outcome::Pending if spec.pending.is_some() => {
                let event = Event::Pended { branch, operation: call.operation, attempt: call.attempt };
                self.emit(out, event, now);
            }
            Outcome::Pending => {
                let error = Error::new("pending", "it is not finished, and the operation is not asynchronous");
                self.failed(failure(FailureClass::Unknown, error), now, out);
            }
            Outcome::Unknown(error) => self.failed(failure(FailureClass::Unknown, error), now, out),
            Outcome::Unsent(error) => self.failed(failure(FailureClass::Unsent, error), now, out),
            Outcome::NotFound if call.ask => self.not_found(call, since, reply.retry_after, now, out),
            Outcome::NotFound => {
                let error = Error::new("not_found", "only a status_check is answered with not_found");
                self.failed(failure(FailureClass::Unknown, error), now, out);
            }
        }
    }

    /// A call that cannot be rendered is not sent, whether it was said to be on its way or not.
    pub(super) fn unrenderable(&mut self, call: Call, error: &Unrenderable, now: Timestamp, out: &mut Decided) {
        let Some(slot) = Slot::of(call.operation) else { return };
        let was_sent = self.land(call).is_some();
        let in_flight = self.flights.contains_key(&(call.branch, slot));
        let Some(op) = self.slot_state(call.branch, slot) else { return };
        let is_next = op.attempts.saturating_add(1) == call.attempt && op.asking == call.ask && !in_flight;
        let owed = op.status == OperationStatus::Owed && (was_sent || is_next);
        if !owed || self.state.settled.is_some() || self.kind_of(call.branch, slot) != Some(call.operation) {
            return;
        }
        let error = Error::new("expression_failed", error.to_string());
        let pivot_may = self.spec(call.branch).role == Role::Pivot && op.may_have_run();
        if self.is_settling(call.branch, slot) || pivot_may {
            self.emit(out, Event::Stuck { branch: call.branch, operation: call.operation, error }, now);
        } else {
            // Recorded state alone makes a request, so none of this call's can ever have been sent.
            self.refused(call, error, true, now, out);
        }
    }

    /// Takes the call back; `None` if this node did not have it in flight.
    fn land(&mut self, call: Call) -> Option<(Slot, Flight)> {
        let slot = Slot::of(call.operation)?;
        let key = (call.branch, slot);
        let flight = *self.flights.get(&key).filter(|flight| flight.call == call)?;
        self.flights.remove(&key);
        self.landed.insert(key, flight);
        self.reindex_branch(call.branch);
        Some((slot, flight))
    }

    pub(super) fn succeeded(
        &mut self,
        call: Call,
        mut response: Response,
        barrier: Option<Barrier>,
        now: Timestamp,
        out: &mut Decided,
    ) {
        let unmapped = |message: String| (None, Some(Error::new("expression_failed", message)));
        let mut meter = Meter::new();
        let mapped = self.map_output(call.branch, call.operation, &response, &mut meter);
        self.budget.spend(meter.work());
        let (output, unmapped) = match mapped {
            Ok(Some(output)) if output.text().len() > limit::OUTPUT => {
                unmapped(format!("its output is over {} KiB", limit::OUTPUT >> 10))
            }
            Ok(output) => (output, None),
            // What was to be read may be what was dropped.
            Err(error) => unmapped(match response.dropped {
                Some(dropped) => format!("{error}; {}", dropped.why()),
                None => error.to_string(),
            }),
        };
        if response.body.as_ref().is_some_and(|body| body.text().len() > limit::OUTPUT) {
            // Read for the sake of what `output` took of it.
            response.body = None;
        }
        let event = Event::Succeeded {
            branch: call.branch,
            operation: call.operation,
            attempt: call.attempt,
            response,
            output,
            unmapped,
            barrier,
        };
        self.emit(out, event, now);
    }

    /// A forward operation's refusal. Of a pivot that may have run it counts only from a source that knows.
    pub(super) fn refused(&mut self, call: Call, error: Error, trusted: bool, now: Timestamp, out: &mut Decided) {
        let Some(op) = self.slot_state(call.branch, Slot::Forward) else { return };
        let may_have_run = op.unknown || op.adopted;
        let Call { branch, operation, attempt, .. } = call;
        if self.spec(branch).role == Role::Pivot && may_have_run && !trusted {
            let message = format!(
                "a resend was refused ({}{}), which does not tell whether an earlier attempt ran",
                error.code,
                error.message.map(|message| format!(": {message}")).unwrap_or_default()
            );
            self.emit(out, Event::Stuck { branch, operation, error: Error::new("pivot_unknown", message) }, now);
            return;
        }
        self.emit(out, Event::Refused { branch, operation, attempt, error, clean: trusted || !may_have_run }, now);
    }

    /// Only a question that was asked when no attempt could arrive any more tells that none will: one asked earlier may
    /// have come before an attempt did, however late its answer is.
    fn not_found(
        &mut self,
        call: Call,
        asked: Timestamp,
        retry_after: Option<Duration>,
        now: Timestamp,
        out: &mut Decided,
    ) {
        let Some(slot) = Slot::of(call.operation) else { return };
        let Some(op) = self.slot_state(call.branch, slot) else { return };
        let cleared = op.live_until <= asked.0;
        let live = now.until(Timestamp(op.live_until));
        // A question that was answered is no attempt of the operation.
        let counted = call.attempt.saturating_sub(u32::from(op.status != OperationStatus::Pending));
        let next = self.next_attempt(call.branch, slot, counted, retry_after, !cleared && op.may_have_run(), now);
        let (delay, exhausted) = match next {
            Next::After(delay) => (delay.max(live), false),
            Next::Exhausted => (live, true),
        };
        let event = Event::NotFound {
            branch: call.branch,
            operation: call.operation,
            attempt: call.attempt,
            cleared,
            delay_ms: millis(delay),
        };
        self.emit(out, event, now);
        if exhausted && cleared {
            let error = Error::new("not_found", "it did not run, and its retries are used up");
            self.exhausted(call.branch, slot, error, now, out);
        }
    }

    pub(super) fn failed(&mut self, failure: Failure, now: Timestamp, out: &mut Decided) {
        let Failure { branch, slot, attempt, ask, class, error, retry_after, barrier, live_ms } = failure;
        let Some(op) = self.slot_state(branch, slot) else { return };
        let may_have_run = op.unknown || op.adopted || class == FailureClass::Unknown;
        let aborting = self.is_aborting(branch, slot);
        let counted = attempt.saturating_sub(op.uncounted);
        // A minor attempt changes nothing but counts and times, so a journal without it says the same of what may have run.
        let learns = match class {
            FailureClass::Unknown => !op.unknown,
            FailureClass::Refused => ask && (op.unknown || op.adopted),
            FailureClass::Unsent => false,
        };
        let first_word = barrier.is_some() && !self.knows_barrier(branch, slot);
        let news = op.class != Some(class) || op.status == OperationStatus::Pending || learns || first_word;
        let next = self.next_attempt(branch, slot, attempt, retry_after, may_have_run, now);
        let (delay, exhausted) = match next {
            Next::After(delay) => (delay, false),
            Next::Exhausted => (Duration::ZERO, !aborting),
        };
        let Some(operation) = self.operation(branch, slot).map(|spec| spec.kind) else { return };
        let last = error.clone();
        let event =
            Event::Failed { branch, operation, attempt, ask, class, error, delay_ms: millis(delay), live_ms, barrier };
        if news || aborting || exhausted || counted.is_power_of_two() {
            self.emit(out, event, now);
        } else {
            self.emit_minor(out, event, now);
        }
        if exhausted {
            self.exhausted(branch, slot, last, now, out);
        }
    }

    fn exhausted(&mut self, branch: usize, slot: Slot, last: Error, now: Timestamp, out: &mut Decided) {
        let Some(spec) = self.operation(branch, slot) else { return };
        let (operation, on_exhausted) = (spec.kind, spec.on_exhausted);
        let pivot_may = self.spec(branch).role == Role::Pivot
            && slot == Slot::Forward
            && self.slot_state(branch, slot).is_some_and(|op| op.unknown || op.adopted);
        let ignored = on_exhausted == OnExhausted::Ignore && self.spec(branch).role == Role::Retriable;
        let suspends = self.is_settling(branch, slot) || pivot_may || on_exhausted == OnExhausted::Suspend;
        if suspends && !ignored {
            self.emit(out, Event::Stuck { branch, operation, error: last }, now);
            return;
        }
        let message = match last.message {
            Some(message) => format!("no attempt succeeded; the last: {}: {message}", last.code),
            None => format!("no attempt succeeded; the last: {}", last.code),
        };
        self.emit(out, Event::Exhausted { branch, operation, error: Error::new("exhausted", message) }, now);
    }

    fn knows_barrier(&self, branch: usize, slot: Slot) -> bool {
        let service = self.operation(branch, slot).and_then(|spec| spec.service.as_ref());
        service.is_none_or(|service| self.state.barriers.contains(service))
    }

    pub(super) fn kind_of(&self, branch: usize, slot: Slot) -> Option<skald_protocol::OperationKind> {
        self.operation(branch, slot).map(|spec| spec.kind)
    }

    fn next_attempt(
        &self,
        branch: usize,
        slot: Slot,
        attempt: u32,
        retry_after: Option<Duration>,
        may_have_run: bool,
        now: Timestamp,
    ) -> Next {
        let (Some(op), Some(spec)) = (self.slot_state(branch, slot), self.operation(branch, slot)) else {
            return Next::Exhausted;
        };
        let policy = policy(spec, may_have_run);
        let counted = attempt.saturating_sub(op.uncounted);
        let kind = spec.kind.as_str().as_bytes();
        let id = self.branch_id(branch);
        let seed = [self.gid.as_str().as_bytes(), id.as_str().as_bytes(), kind];
        let delay = retry_after.unwrap_or_else(|| policy.delay(counted, &seed));
        let pending = if op.status == OperationStatus::Pending { now.0.saturating_sub(op.pending_since) } else { 0 };
        let elapsed = Timestamp(op.since.saturating_add(pending)).until(now.plus(delay));
        let used_up = policy.max_attempts.is_some_and(|most| counted >= most);
        if used_up || policy.max_elapsed.is_some_and(|most| elapsed > most) {
            Next::Exhausted
        } else {
            Next::After(delay)
        }
    }
}

/// A pivot that may have run is driven like a settling operation.
fn policy(spec: &Operation, may_have_run: bool) -> &crate::plan::Retry {
    spec.settle.as_ref().filter(|_| may_have_run).unwrap_or(&spec.retry)
}
