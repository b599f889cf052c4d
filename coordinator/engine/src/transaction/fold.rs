//! Folding an event into the value: the one place where recorded state changes, for live work and for replay alike.
//!
//! A fold reads nothing but the event, its time and the recorded state. Beside the state it keeps what can be counted
//! from it (wakes, counts, running branches), so that deciding costs what changes and not what is there.

use skald_protocol::{BranchStatus, Decision, ErrorView, OperationKind, OperationStatus, ResolvedOutcome, Timestamp};

use super::{
    Transaction,
    state::{BranchState, Cancel, Deadline, OperationState, Settled, Slot},
};
use crate::{
    call::Response,
    event::{Error, Event, FailureClass, millis},
    plan::{Fail, OnExhausted, OnTimeout, Role},
};

/// An event that does not fit the state it meets.
type Folded = Result<(), String>;

impl Transaction {
    pub(super) fn fold(&mut self, event: &Event, at: Timestamp) -> Folded {
        if self.state.settled.is_some() && !matches!(event, Event::LateCallback { .. } | Event::Snapshot(_)) {
            return Err("something happened after the settlement".to_owned());
        }
        self.state.updated_at = at.0;
        match event {
            Event::Began(_) => return Err("it began twice".to_owned()),
            Event::Enlisted(enlistment) => {
                self.state.enlisted.push((**enlistment).clone());
                self.state.branches.push(BranchState::waiting(0));
                let branch = self.state.branches.len() - 1;
                self.count(branch, 1);
                self.start(branch, at);
            }
            Event::Failed { branch, operation, .. } => {
                let slot = self.slot_of(*branch, *operation)?;
                self.fold_failed(event, *branch, slot, at);
            }
            Event::NotFound { branch, operation, attempt, cleared, delay_ms } => {
                let slot = self.slot_of(*branch, *operation)?;
                self.touch(*branch, slot, |op| {
                    op.attempts = *attempt;
                    op.uncounted += 1;
                    if *cleared {
                        (op.unknown, op.adopted, op.asking) = (false, false, false);
                    }
                    op.wait(at, *delay_ms);
                });
            }
            Event::Pended { branch, operation, attempt } => {
                let slot = self.slot_of(*branch, *operation)?;
                self.fold_pended(*branch, slot, *attempt, at)?;
            }
            Event::Heartbeat { branch, operation } => {
                let slot = self.slot_of(*branch, *operation)?;
                let heartbeat = self.pending_of(*branch, slot)?.heartbeat;
                self.touch(*branch, slot, |op| {
                    let rest = u64::try_from(op.pending_until - at.0).unwrap_or(0);
                    op.wait(at, heartbeat.map_or(rest, |heartbeat| millis(heartbeat).min(rest)));
                });
            }
            Event::Succeeded { branch, operation, attempt, response, output, unmapped, barrier } => {
                let slot = self.slot_of(*branch, *operation)?;
                self.touch(*branch, slot, |op| {
                    op.attempts = *attempt;
                    op.response = Some(response.clone());
                    op.output.clone_from(output);
                });
                if barrier.is_some() {
                    self.note_barrier(*branch, slot);
                }
                self.succeed(*branch, slot, OperationStatus::Succeeded, unmapped.as_ref(), at);
            }
            Event::Refused { branch, operation, attempt, error, clean } => {
                self.slot_of(*branch, *operation)?;
                self.touch(*branch, Slot::Forward, |op| op.attempts = *attempt);
                self.refuse(*branch, error, *clean, at);
            }
            Event::Exhausted { branch, operation, error } => {
                let slot = self.slot_of(*branch, *operation)?;
                self.exhaust(*branch, slot, error, at);
            }
            Event::Stuck { branch, operation, error } => {
                let slot = self.slot_of(*branch, *operation)?;
                self.touch(*branch, slot, |op| {
                    if op.status != OperationStatus::Succeeded {
                        op.status = OperationStatus::Exhausted;
                    }
                    op.error = Some(error.clone());
                    op.finished_at = Some(at.0);
                });
                self.set_status(*branch, BranchStatus::Stuck);
            }
            Event::LateCallback { branch, operation, .. } => {
                let slot = self.slot_of(*branch, *operation)?;
                self.touch(*branch, slot, |op| op.late_callback = true);
            }
            Event::CancelRequested { reason } => self.state.cancel = Some(Cancel { reason: reason.clone() }),
            Event::DeadlinePassed => {
                self.state.deadline = match self.plan.on_timeout {
                    OnTimeout::Compensate => Deadline::Passed,
                    OnTimeout::Suspend => Deadline::Paused,
                };
            }
            Event::JournalFull => {
                let full = ErrorView {
                    step: None,
                    code: "journal_full".to_owned(),
                    message: Some("the transaction's journal reached its limit before its decision".to_owned()),
                };
                self.state.failing = Some(full);
                self.state.failed = true;
            }
            Event::Decided { decision, error } => {
                self.state.decision = Some(*decision);
                self.state.error.clone_from(error);
                self.state.suspended = false;
                match decision {
                    Decision::Commit => self.begin_commit(at),
                    Decision::Abort => self.begin_abort(at),
                }
            }
            Event::Halted { branches } => {
                for branch in branches {
                    self.slot_of(*branch, self.forward_kind(*branch))?;
                    self.rest_forward(*branch, at);
                }
            }
            Event::Suspended => self.state.suspended = true,
            Event::Adopted => self.adopt(at),
            Event::Retried { branch } => self.fold_retried(*branch, at),
            Event::Skipped { branch, operation, .. } => {
                let slot = self.slot_of(*branch, *operation)?;
                self.succeed(*branch, slot, OperationStatus::Skipped, None, at);
            }
            Event::Resolved { branch, operation, outcome, output, reason } => {
                let slot = self.slot_of(*branch, *operation)?;
                match outcome {
                    ResolvedOutcome::Succeeded => {
                        self.touch(*branch, slot, |op| {
                            op.output.clone_from(output);
                            op.response = Some(Response { body: output.clone(), ..Response::default() });
                        });
                        self.succeed(*branch, slot, OperationStatus::Succeeded, None, at);
                    }
                    ResolvedOutcome::Refused => {
                        self.refuse(*branch, &Error::new("refused", reason.clone()), true, at);
                    }
                }
            }
            Event::Resumed => {
                if self.state.deadline == Deadline::Paused {
                    self.state.deadline = Deadline::Lifted;
                }
                self.state.suspended = false;
            }
            Event::Settled { status, output, error } => {
                self.state.settled = Some(Settled { status: *status, at: at.0, output: output.clone() });
                if error.is_some() {
                    self.state.error.clone_from(error);
                }
                self.state.suspended = false;
                self.wakes.clear();
            }
            Event::Snapshot(_) => self.state.records = 0,
        }
        self.rest_blocks();
        Ok(())
    }

    fn fold_failed(&mut self, event: &Event, branch: usize, slot: Slot, at: Timestamp) {
        let Event::Failed { attempt, class, error, delay_ms, live_ms, barrier, .. } = event else { return };
        let can_ask = self.operation(branch, slot).is_some_and(|spec| spec.status_check.is_some());
        self.touch(branch, slot, |op| {
            if op.status == OperationStatus::Pending {
                op.since += at.0 - op.pending_since;
            }
            op.status = OperationStatus::Owed;
            op.attempts = *attempt;
            op.class = Some(*class);
            op.error = Some(error.clone());
            if *class == FailureClass::Unknown {
                op.unknown = true;
                op.live_until = op.live_until.max(at.plus(std::time::Duration::from_millis(*live_ms)).0);
            }
            op.asking = can_ask && (op.unknown || op.adopted);
            op.wait(at, *delay_ms);
        });
        if barrier.is_some() {
            self.note_barrier(branch, slot);
        }
    }

    fn fold_pended(&mut self, branch: usize, slot: Slot, attempt: u32, at: Timestamp) -> Folded {
        let pending = self.pending_of(branch, slot)?;
        let (timeout, heartbeat) = (millis(pending.timeout), pending.heartbeat.map(millis));
        self.touch(branch, slot, |op| {
            op.status = OperationStatus::Pending;
            op.attempts = attempt;
            op.asking = false;
            op.pending_since = at.0;
            op.pending_until = at.0.saturating_add(i64::try_from(timeout).unwrap_or(i64::MAX));
            op.wait(at, heartbeat.map_or(timeout, |heartbeat| heartbeat.min(timeout)));
        });
        if self.is_aborting(branch, slot) {
            self.rest_forward(branch, at);
        }
        Ok(())
    }

    fn note_barrier(&mut self, branch: usize, slot: Slot) {
        if let Some(service) = self.operation(branch, slot).and_then(|spec| spec.service.clone()) {
            self.state.barriers.insert(service);
        }
    }

    /// An operation did its work, or is to be treated so.
    fn succeed(&mut self, branch: usize, slot: Slot, how: OperationStatus, unmapped: Option<&Error>, at: Timestamp) {
        self.touch(branch, slot, |op| {
            op.status = how;
            op.clean = false;
            op.finished_at = Some(at.0);
            if let Some(error) = unmapped {
                op.error = Some(error.clone());
            }
        });
        self.state.suspended = false;
        match slot {
            Slot::Forward if self.is_aborting(branch, slot) => self.rest_forward(branch, at),
            Slot::Forward => match unmapped {
                Some(_) if self.spec(branch).tail || self.spec(branch).role == Role::Pivot => {
                    self.set_status(branch, BranchStatus::Stuck);
                }
                Some(error) => {
                    self.set_status(branch, BranchStatus::Done);
                    self.fail(branch, error);
                }
                None => self.finish(branch, BranchStatus::Done, at),
            },
            Slot::Confirm => self.set_status(
                branch,
                if how == OperationStatus::Skipped { BranchStatus::Skipped } else { BranchStatus::Confirmed },
            ),
            Slot::Undo => {
                let status = if how == OperationStatus::Skipped { BranchStatus::Skipped } else { BranchStatus::Undone };
                self.set_status(branch, status);
                self.advance_undo(branch, at);
            }
        }
    }

    /// A forward operation was refused.
    fn refuse(&mut self, branch: usize, error: &Error, clean: bool, at: Timestamp) {
        self.touch(branch, Slot::Forward, |op| {
            op.status = OperationStatus::Refused;
            op.clean = clean;
            op.error = Some(error.clone());
            op.finished_at = Some(at.0);
        });
        self.state.suspended = false;
        if self.is_aborting(branch, Slot::Forward) {
            self.rest_forward(branch, at);
        } else {
            self.set_status(branch, BranchStatus::Refused);
            self.fail(branch, error);
        }
    }

    fn exhaust(&mut self, branch: usize, slot: Slot, error: &Error, at: Timestamp) {
        let ignore = self.operation(branch, slot).is_some_and(|spec| spec.on_exhausted == OnExhausted::Ignore);
        self.touch(branch, slot, |op| {
            op.status = OperationStatus::Exhausted;
            op.error = Some(error.clone());
            op.finished_at = Some(at.0);
        });
        if ignore {
            self.finish(branch, BranchStatus::Skipped, at);
        } else {
            self.set_status(branch, BranchStatus::Refused);
            self.fail(branch, error);
        }
    }

    fn fold_retried(&mut self, branch: Option<usize>, at: Timestamp) {
        let branches = branch.map_or(0..self.state.branches.len(), |branch| branch..branch + 1);
        for branch in branches {
            let Some(state) = self.state.branches.get(branch) else { continue };
            if let Some(slot) = state.stuck_slot() {
                self.touch(branch, slot, |op| {
                    op.status = OperationStatus::Owed;
                    op.finished_at = None;
                    op.uncounted = op.attempts;
                    op.since = at.0;
                    op.wait(at, 0);
                });
                self.set_status(
                    branch,
                    match slot {
                        Slot::Forward => BranchStatus::Running,
                        Slot::Confirm => BranchStatus::Confirming,
                        Slot::Undo => BranchStatus::Undoing,
                    },
                );
                continue;
            }
            for slot in Slot::ALL {
                let owed = self.state.branches[branch].slot(slot).is_some_and(|op| op.status == OperationStatus::Owed);
                if owed {
                    self.touch(branch, slot, |op| op.wait(at, 0));
                }
            }
        }
        self.state.suspended = false;
    }

    /// Any call owed now may have been made by another holder, and may still be under way.
    fn adopt(&mut self, at: Timestamp) {
        let owed: Vec<(usize, Slot)> = self.wakes.iter().map(|(_, branch, slot)| (*branch, *slot)).collect();
        for (branch, slot) in owed {
            let Some(spec) = self.operation(branch, slot) else { continue };
            let (until, can_ask) = (at.plus(spec.timeout).0, spec.status_check.is_some());
            self.touch(branch, slot, |op| {
                if op.status == OperationStatus::Owed {
                    op.adopted = true;
                    op.attempts += 1;
                    op.uncounted += 1;
                    op.asking = can_ask;
                    op.live_until = op.live_until.max(until);
                    op.grace_until = until;
                }
            });
        }
    }

    fn begin_commit(&mut self, at: Timestamp) {
        for branch in 0..self.state.branches.len() {
            let spec = self.spec(branch);
            let (confirms, tail) = (spec.confirm.is_some(), spec.tail);
            let state = &self.state.branches[branch];
            if confirms && state.status == BranchStatus::Done {
                self.set_status(branch, BranchStatus::Confirming);
                self.owe(branch, Slot::Confirm, OperationState::owed(at));
            } else if tail && state.status == BranchStatus::Waiting && state.waits == 0 {
                self.start(branch, at);
            }
        }
    }

    fn begin_abort(&mut self, at: Timestamp) {
        for branch in 0..self.state.branches.len() {
            self.state.branches[branch].undo_waits = self.plan.successors(branch).len();
            let state = &self.state.branches[branch];
            let undoable = self.spec(branch).undo.is_some();
            let may_have_run = state.may_have_run(self.spec(branch));
            match state.status {
                BranchStatus::Waiting => self.set_status(branch, BranchStatus::Skipped),
                BranchStatus::Running
                    if state.forward.as_ref().is_some_and(|op| op.status == OperationStatus::Pending) =>
                {
                    let status = if undoable { BranchStatus::Undoing } else { BranchStatus::Skipped };
                    self.set_status(branch, status);
                    self.unindex(branch, Slot::Forward);
                    self.running.remove(&branch);
                }
                BranchStatus::Done | BranchStatus::Refused if may_have_run && undoable => {
                    self.set_status(branch, BranchStatus::Undoing);
                }
                BranchStatus::Stuck => {
                    let status = if may_have_run && undoable { BranchStatus::Undoing } else { BranchStatus::Skipped };
                    self.set_status(branch, status);
                }
                BranchStatus::Running
                | BranchStatus::Done
                | BranchStatus::Refused
                | BranchStatus::Skipped
                | BranchStatus::Confirming
                | BranchStatus::Confirmed
                | BranchStatus::Undoing
                | BranchStatus::Undone => {}
            }
        }
        for branch in (0..self.state.branches.len()).rev() {
            self.advance_undo(branch, at);
        }
    }

    /// Of an aborted transaction: the branch's forward operation rests, whatever became of it.
    fn rest_forward(&mut self, branch: usize, at: Timestamp) {
        let undoable = self.spec(branch).undo.is_some();
        let mut refused = false;
        let mut may_have_run = false;
        self.touch(branch, Slot::Forward, |op| {
            may_have_run = op.may_have_run();
            refused = op.status == OperationStatus::Refused;
            if op.status == OperationStatus::Owed {
                op.status = if may_have_run { OperationStatus::Exhausted } else { OperationStatus::Skipped };
                op.clean = !may_have_run;
                op.finished_at = Some(at.0);
            }
        });
        self.unindex(branch, Slot::Forward);
        self.running.remove(&branch);
        let status = match (may_have_run && undoable, refused) {
            (true, _) => BranchStatus::Undoing,
            (false, true) => BranchStatus::Refused,
            (false, false) => BranchStatus::Skipped,
        };
        self.set_status(branch, status);
        self.advance_undo(branch, at);
    }

    /// Owes the branch's undo, or passes on that nothing of it is left to undo, as soon as its successors' are finished.
    fn advance_undo(&mut self, branch: usize, at: Timestamp) {
        let mut work = vec![branch];
        while let Some(branch) = work.pop() {
            let state = &self.state.branches[branch];
            if state.undo_finished || state.undo_waits > 0 {
                continue;
            }
            match state.status {
                BranchStatus::Undoing if state.undo.is_none() => {
                    let mut undo = OperationState::owed(at);
                    undo.wait(at, self.grace(branch, at));
                    self.owe(branch, Slot::Undo, undo);
                }
                BranchStatus::Undoing | BranchStatus::Running | BranchStatus::Stuck | BranchStatus::Confirming => {}
                BranchStatus::Undone
                | BranchStatus::Skipped
                | BranchStatus::Refused
                | BranchStatus::Done
                | BranchStatus::Waiting
                | BranchStatus::Confirmed => {
                    self.state.branches[branch].undo_finished = true;
                    for predecessor in self.spec(branch).after.clone() {
                        let waits = &mut self.state.branches[predecessor].undo_waits;
                        *waits = waits.saturating_sub(1);
                        work.push(predecessor);
                    }
                }
            }
        }
    }

    /// How long an undo waits for another holder's forward call; not at all where the participant has the barrier.
    fn grace(&self, branch: usize, at: Timestamp) -> u64 {
        let until = self.state.branches[branch].forward.as_ref().map_or(0, |forward| forward.grace_until);
        let service = self.spec(branch).forward.as_ref().and_then(|forward| forward.service.as_ref());
        if service.is_some_and(|service| self.state.barriers.contains(service)) {
            return 0;
        }
        u64::try_from(until - at.0).unwrap_or(0)
    }

    /// The branch is done (or skipped): what waited for it alone starts, and blocks pass it on.
    fn finish(&mut self, branch: usize, status: BranchStatus, at: Timestamp) {
        self.set_status(branch, status);
        let mut work = vec![branch];
        while let Some(branch) = work.pop() {
            for index in 0..self.plan.successors(branch).len() {
                let successor = self.plan.successors(branch)[index];
                let state = &mut self.state.branches[successor];
                state.waits = state.waits.saturating_sub(1);
                if state.waits == 0 && state.status == BranchStatus::Waiting && self.may_start(successor) {
                    self.start_one(successor, at, &mut work);
                }
            }
        }
    }

    fn start(&mut self, branch: usize, at: Timestamp) {
        let mut work = Vec::new();
        self.start_one(branch, at, &mut work);
        if let Some(block) = work.pop() {
            self.finish(block, BranchStatus::Done, at);
        }
    }

    /// Without a forward operation (a block, a branch whose client calls its own try) it is done at once.
    fn start_one(&mut self, branch: usize, at: Timestamp, done: &mut Vec<usize>) {
        if self.spec(branch).forward.is_some() {
            self.set_status(branch, BranchStatus::Running);
            self.owe(branch, Slot::Forward, OperationState::owed(at));
        } else {
            self.set_status(branch, BranchStatus::Done);
            done.push(branch);
        }
    }

    pub(super) fn start_all(&mut self, at: Timestamp) {
        for branch in 0..self.state.branches.len() {
            let state = &self.state.branches[branch];
            if state.waits == 0 && state.status == BranchStatus::Waiting && self.may_start(branch) {
                self.start(branch, at);
            }
        }
    }

    fn may_start(&self, branch: usize) -> bool {
        match self.state.decision {
            Some(decision) => decision == Decision::Commit,
            None => {
                !self.spec(branch).tail
                    && !self.state.failed
                    && (self.state.halted.is_empty()
                        || self.blocks_around(branch).all(|block| !self.state.halted.contains(&block)))
            }
        }
    }

    /// A branch failed before the decision: the failure leaves `fast` blocks at once and `wait_all` ones when the rest
    /// of them rests. In an open transaction it decides nothing.
    fn fail(&mut self, branch: usize, error: &Error) {
        if self.plan.open {
            return;
        }
        let error = error.at(&self.spec(branch).step);
        self.state.failing.get_or_insert(error);
        self.fail_outwards(self.spec(branch).within);
    }

    fn fail_outwards(&mut self, mut block: Option<usize>) {
        while let Some(around) = block {
            if self.spec(around).role == (Role::Parallel { fail: Fail::WaitAll }) {
                self.state.resting.insert(around);
                return;
            }
            self.state.halted.insert(around);
            block = self.spec(around).within;
        }
        self.state.failed = true;
    }

    fn rest_blocks(&mut self) {
        while let Some(block) = self.state.resting.iter().copied().find(|block| !self.active.contains_key(block)) {
            self.state.resting.remove(&block);
            self.state.halted.insert(block);
            self.fail_outwards(self.spec(block).within);
        }
    }

    fn slot_of(&self, branch: usize, operation: OperationKind) -> Result<Slot, String> {
        let wrong = || format!("branch {branch} has no {operation}");
        let slot = Slot::of(operation).ok_or_else(wrong)?;
        let state = self.state.branches.get(branch).ok_or_else(wrong)?;
        if state.slot(slot).is_none() || self.operation(branch, slot).is_none_or(|spec| spec.kind != operation) {
            return Err(wrong());
        }
        Ok(slot)
    }

    fn pending_of(&self, branch: usize, slot: Slot) -> Result<&crate::plan::Pending, String> {
        let pending = self.operation(branch, slot).and_then(|spec| spec.pending.as_ref());
        pending.ok_or_else(|| format!("branch {branch} has an operation pending that is not asynchronous"))
    }

    fn forward_kind(&self, branch: usize) -> OperationKind {
        self.operation(branch, Slot::Forward).map_or(OperationKind::Action, |spec| spec.kind)
    }
}
