//! How a run ended: fully done, fully undone, waiting for an operator, or badly.
//!
//! Judged by the participants' ledgers and the final status alone; the coordinator's own books excuse nothing. An operator
//! is needed rightly only where a fault that lasts for ever leaves nothing else: a settling operation that its participant
//! refuses for ever, or what the definition itself suspends.

use serde::Serialize;
use skald_protocol::{BranchStatus, BranchView, Decision, ErrorView, OperationKind, OperationStatus, Status};

use super::{InjectedFault, Ledger, Run, Stage, Strike, lookup};
use crate::{
    call::Outcome,
    plan::{Branch, OnExhausted, Phase, Role},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Every effect stands, once.
    Done,
    /// None does.
    Undone,
    /// It waits for an operator, and nothing could spare that.
    Operator,
    Bad,
}

/// What is wrong with one branch at the end (or with the transaction, if none is named).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Flaw {
    pub branch: Option<String>,
    pub step: Option<String>,
    /// The operation that a reader of the definition should look at.
    pub operation: Option<OperationKind>,
    /// A sentence without its full stop.
    pub what: String,
    /// What to write instead.
    pub help: Option<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[must_use]
#[non_exhaustive]
pub struct Verdict {
    pub end: End,
    pub status: Status,
    /// Of a bad end: all that is wrong.
    pub flaws: Vec<Flaw>,
    /// Worth knowing, and no flaw.
    pub remarks: Vec<String>,
}

const BARRIER: &str = "Give the participant the barrier (PARTICIPANT.md), or let it know repetitions by their \
                       Idempotency-Key and remember what was undone before it came.";
const UNDO_BY_KEY: &str = "Undo by what was sent: `self.request.body`, `self.idempotency_key`. An unknown outcome leaves no \
                           response.";
const MAP_FIRST: &str = "Take the member in the `output` mapping of the step that answers it: then an answer without it \
                         aborts before the commit. Or read it with `has()` or `coalesce`.";
const SAY_PIVOT: &str =
    "Add `status_check` to the pivot, or \"idempotent\": true where a resend's answer may be trusted.";
const SETTLE_LONGER: &str = "Let its retry outlast an outage: leave `max_attempts` and `max_elapsed` of settling operations to \
                             their defaults, or raise them.";
const NEVER_REFUSE: &str =
    "An undo must not be refused: undo what can always be undone, or do it only after the pivot.";

const PURE: &str = "After the commit nothing can be taken back: read what may be absent with `has()` or `coalesce`.";

fn error_text(error: &ErrorView) -> String {
    match &error.message {
        Some(message) => format!("{}: {message}", error.code),
        None => error.code.clone(),
    }
}

pub fn judge(stage: &Stage, faults: &[InjectedFault], run: &Run) -> Verdict {
    let mut judge = Judge { stage, faults, run, flaws: Vec::new() };
    judge.wrongs();
    let mut remarks = Vec::new();
    if run.resumed {
        remarks.push("an operator let it go on after its deadline, as `on_timeout: suspend` asks for".to_owned());
    }
    let lasts =
        faults.iter().any(|fault| matches!(fault, InjectedFault::Strike { strike, .. } if strike.is_permanent()));
    let end = match run.status {
        _ if !run.finished && lasts => {
            remarks.push("its participant fails for ever, and its retries never end".to_owned());
            End::Operator
        }
        _ if !run.finished => {
            judge.unfinished("it goes on and on: it did not settle in more than two years");
            End::Bad
        }
        Status::Succeeded => {
            judge.succeeded();
            if let Some(error) = run.view.error.as_ref().filter(|error| error.code == "expression_failed") {
                let message = error.message.clone().unwrap_or_default();
                remarks.push(format!("it succeeded without its output: {message}"));
            }
            End::Done
        }
        Status::Compensated => {
            judge.compensated();
            End::Undone
        }
        Status::Suspended => judge.suspended(&mut remarks),
        Status::Failed | Status::Running | Status::Confirming | Status::Compensating => {
            judge.unfinished("nothing moves any more, and it has not settled");
            End::Bad
        }
    };
    let end = if judge.flaws.is_empty() { end } else { End::Bad };
    Verdict { end, status: run.status, flaws: judge.flaws, remarks }
}

struct Judge<'r> {
    stage: &'r Stage,
    faults: &'r [InjectedFault],
    run: &'r Run,
    flaws: Vec<Flaw>,
}

impl<'r> Judge<'r> {
    fn spec(&self, view: &BranchView) -> Option<&'r Branch> {
        lookup::spec(&self.stage.plan, view.branch.as_str())
    }

    fn ledger(&self, view: &BranchView) -> Ledger {
        self.run.ledgers.get(view.branch.as_str()).cloned().unwrap_or_default()
    }

    fn add(&mut self, view: &BranchView, operation: Option<OperationKind>, what: String, help: Option<&'static str>) {
        let (branch, step) = (Some(view.branch.to_string()), Some(view.step.clone()));
        self.flaws.push(Flaw { branch, step, operation, what, help });
    }

    fn unfinished(&mut self, what: &str) {
        let open = self.run.view.branches.iter().filter(|branch| {
            let waits = |status| matches!(status, OperationStatus::Owed | OperationStatus::Pending);
            branch.operations.iter().any(|operation| waits(operation.status))
        });
        let open: Vec<_> = open.map(|branch| format!("`{}`", branch.branch)).collect();
        let what = if open.is_empty() { what.to_owned() } else { format!("{what}; open: {}", open.join(", ")) };
        self.flaws.push(Flaw { branch: None, step: None, operation: None, what, help: None });
    }

    /// What should never be, however it ended.
    fn wrongs(&mut self) {
        for (branch, what) in &self.run.wrongs {
            let view = self.run.view.branches.iter().find(|view| view.branch.as_str() == branch);
            match view {
                Some(view) => self.add(view, None, format!("`{branch}`: {what}"), None),
                None => {
                    self.flaws.push(Flaw { branch: None, step: None, operation: None, what: what.clone(), help: None });
                }
            }
        }
        for view in &self.run.view.branches {
            let Some(spec) = self.spec(view).filter(|spec| spec.role != Role::ReadOnly) else { continue };
            let (ledger, id) = (self.ledger(view), &view.branch);
            let kind = |operation: &Option<crate::Operation>| operation.as_ref().map(|operation| operation.kind);
            if ledger.stands > 1 {
                let what = format!("the effect of `{id}` stands {} times", ledger.stands);
                self.add(view, kind(&spec.forward), what, Some(BARRIER));
            }
            if ledger.empty > 0 {
                let undo = kind(&spec.undo).map_or("undo", OperationKind::as_str);
                let what = if ledger.undone > 0 {
                    format!("the {undo} of `{id}` took effect more often than what it undoes")
                } else {
                    format!("the {undo} of `{id}` took effect, although there was nothing to undo")
                };
                self.add(view, kind(&spec.undo), what, Some(BARRIER));
            }
            if ledger.confirmed > 1 {
                let what = format!("`{id}` was confirmed {} times", ledger.confirmed);
                self.add(view, kind(&spec.confirm), what, Some(BARRIER));
            }
            if ledger.confirmed > 0 && ledger.undone + ledger.empty > 0 {
                self.add(view, kind(&spec.undo), format!("`{id}` was both confirmed and undone"), None);
            }
        }
    }

    fn succeeded(&mut self) {
        self.all_done("succeeded", |_| true);
    }

    fn all_done(&mut self, ended: &str, counts: impl Fn(&Branch) -> bool) {
        for view in &self.run.view.branches {
            let Some(spec) = self.spec(view).filter(|spec| counts(spec)) else { continue };
            let Some(forward) = spec.forward.as_ref().filter(|_| spec.role != Role::ReadOnly) else { continue };
            let (ledger, id) = (self.ledger(view), &view.branch);
            let left_out = view.status == BranchStatus::Skipped;
            let ignored = left_out && forward.on_exhausted == OnExhausted::Ignore;
            if ledger.stands == 0 && !left_out {
                let what = format!("the transaction {ended}, but the effect of `{id}` is not there");
                self.add(view, Some(forward.kind), what, None);
            }
            if ledger.stands > 0 && left_out && !ignored {
                let what = format!("`{id}` was left out, but its effect stands");
                self.add(view, Some(forward.kind), what, None);
            }
            if ledger.undone > 0 {
                let what = format!("the transaction succeeded, but `{id}` was undone");
                self.add(view, spec.undo.as_ref().map(|undo| undo.kind), what, None);
            }
            if let Some(confirm) = spec.confirm.as_ref().filter(|_| ledger.confirmed == 0 && !left_out) {
                self.add(
                    view,
                    Some(confirm.kind),
                    format!("the transaction succeeded, but `{id}` was not confirmed"),
                    None,
                );
            }
        }
    }

    fn compensated(&mut self) {
        self.all_done("was compensated", |spec| spec.phase != Phase::Main);
        for view in &self.run.view.branches {
            let undone = |spec: &&Branch| spec.role != Role::ReadOnly && spec.phase == Phase::Main;
            let Some(spec) = self.spec(view).filter(undone) else { continue };
            let (ledger, id) = (self.ledger(view), &view.branch);
            if ledger.stands > 0 || ledger.working {
                let (operation, help) = match (&spec.undo, &spec.forward) {
                    (Some(undo), _) => (Some(undo.kind), (!self.stage.barrier).then_some(BARRIER)),
                    (None, forward) => (forward.as_ref().map(|forward| forward.kind), None),
                };
                let late = spec.undo.is_some() && (ledger.undone > 0 || ledger.empty > 0);
                let what = if late {
                    format!("the transaction was compensated, but `{id}` took effect again after its undo")
                } else {
                    format!("the transaction was compensated, but the effect of `{id}` still stands")
                };
                self.add(view, operation, what, help);
            }
            if ledger.confirmed > 0 {
                let confirm = spec.confirm.as_ref().map(|confirm| confirm.kind);
                self.add(view, confirm, format!("the transaction was compensated, but `{id}` was confirmed"), None);
            }
        }
    }

    fn suspended(&mut self, remarks: &mut Vec<String>) -> End {
        let mut end = End::Operator;
        for view in self.run.view.branches.iter().filter(|view| view.status == BranchStatus::Stuck) {
            let Some(spec) = self.spec(view) else { continue };
            let Some(stuck) = view.operations.last() else {
                end = End::Bad;
                let error = view.error.as_ref().map_or_else(|| "it failed".to_owned(), error_text);
                self.add(view, None, format!("`{}` is stuck ({error})", view.branch), Some(PURE));
                continue;
            };
            let kind = stuck.operation;
            let error = stuck.last_error.as_ref().map_or_else(|| "it failed".to_owned(), error_text);
            match self.excuse(view, spec, kind) {
                Some(why) => remarks.push(format!("the {kind} of `{}` waits for an operator: {why}", view.branch)),
                None => {
                    end = End::Bad;
                    let what = format!("the {kind} of `{}` is stuck ({error})", view.branch);
                    let help = self.help(view, spec, kind);
                    self.add(view, Some(kind), what, help);
                }
            }
        }
        if end == End::Bad {
            let stands = self.run.view.branches.iter().filter(|view| self.ledger(view).stands > 0);
            let stands: Vec<_> = stands.map(|view| format!("`{}`", view.branch)).collect();
            let stands = if stands.is_empty() { "nothing".to_owned() } else { stands.join(", ") };
            remarks.push(format!("what stands at the end: {stands}"));
        } else if remarks.is_empty() {
            self.unfinished("it is suspended, and nothing of it is stuck");
            end = End::Bad;
        }
        end
    }

    /// Why nothing but an operator could end it.
    fn excuse(&self, view: &BranchView, spec: &Branch, kind: OperationKind) -> Option<&'static str> {
        let operation = spec.operation(kind)?;
        let unrenderable =
            self.run.unrenderable.iter().any(|(branch, of, _)| view.branch.as_str() == branch && *of == kind);
        if unrenderable {
            return None;
        }
        if kind.is_forward() && operation.on_exhausted == OnExhausted::Suspend {
            return Some("the definition suspends it (`on_exhausted`)");
        }
        let settling = !kind.is_forward() || spec.phase != Phase::Main || self.run.decision == Some(Decision::Commit);
        let is_struck = self.faults.iter().any(|fault| {
            matches!(fault, InjectedFault::Strike { branch, operation, strike, .. }
                if strike.is_permanent() && view.branch.as_str() == branch && *operation == kind)
        });
        if is_struck && settling {
            return Some("its participant fails for ever");
        }
        if is_struck && (operation.status_check.is_some() || operation.idempotent) {
            return Some("its participant fails for ever, and the pivot is never guessed");
        }
        let refuses = self.ledger(view).refuses(kind) || matches!(self.ledger(view).truth(kind), Outcome::Refused(_));
        let is_fault = self.faults.iter().any(|fault| {
            matches!(fault, InjectedFault::Strike { branch, operation, strike, .. } if view.branch.as_str() == branch
                && *operation == kind
                && matches!(strike, Strike::Refused | Strike::TimeoutThenRefused | Strike::CallbackRefused))
        });
        (settling && refuses && is_fault).then_some("its participant refused it, and keeps to that")
    }

    fn help(&self, view: &BranchView, spec: &Branch, kind: OperationKind) -> Option<&'static str> {
        let unrenderable =
            self.run.unrenderable.iter().any(|(branch, of, _)| view.branch.as_str() == branch && *of == kind);
        if unrenderable {
            return Some(if kind.is_undo() { UNDO_BY_KEY } else { MAP_FIRST });
        }
        if spec.role == Role::Pivot && kind.is_forward() {
            return Some(SAY_PIVOT);
        }
        let passing = self
            .faults
            .iter()
            .any(|fault| !matches!(fault, InjectedFault::Strike { strike: Strike::RefusedForEver, .. }));
        let refused = view.operations.last().and_then(|operation| operation.last_error.as_ref());
        let refused = refused.is_some_and(|error| !error.code.starts_with("http_5"));
        let scripted = !self.faults.iter().any(|fault| {
            matches!(fault, InjectedFault::Strike { branch, operation, .. } if view.branch.as_str() == branch && *operation == kind)
        });
        match kind.is_undo() {
            true if refused && scripted => Some(NEVER_REFUSE),
            _ => passing.then_some(SETTLE_LONGER),
        }
    }
}
