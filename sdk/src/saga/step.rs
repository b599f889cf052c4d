use std::time::Duration;

use serde_json::{Map, Value, json};
use skald_protocol::duration_text;

/// A service that takes part, and where it answers unless the coordinator's configuration says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub(crate) name: String,
    pub(crate) url: String,
}

impl Service {
    /// The name is what the coordinator's configuration overrides the URL by.
    pub fn new(name: impl Into<String>, url: impl Into<String>) -> Self {
        Self { name: name.into(), url: url.into() }
    }

    /// A saga step's call: a POST of the transaction's input to this path. Say next how it is undone, or why it need not be.
    pub fn action(&self, path: &str) -> Action {
        Action(Step::of(self, "action", path))
    }

    /// A TCC step's reservation. Say next how it is confirmed and cancelled.
    pub fn try_(&self, path: &str) -> Try {
        Try(Step::of(self, "try", path))
    }
}

/// An action of which it is not yet said how it is undone.
#[derive(Debug, Clone)]
#[must_use = "say how it is undone: `.compensate(path)`, or why it need not be: `.pivot()`, `.retriable()`, `.read_only()`"]
pub struct Action(Step);

impl Action {
    /// Undone by a POST to this path, of the same body, driven until it is done.
    pub fn compensate(self, path: &str) -> Step {
        self.0.operation("compensate", path)
    }

    /// Its success commits the transaction; it cannot be taken back.
    pub fn pivot(self) -> Step {
        self.0.with("role", "pivot")
    }

    /// Runs after the commit, and is called until it succeeds.
    pub fn retriable(self) -> Step {
        self.0.with("role", "retriable")
    }

    /// Changes nothing, so there is nothing to undo.
    pub fn read_only(self) -> Step {
        self.0.with("role", "read_only")
    }
}

/// A TCC step's reservation alone.
#[derive(Debug, Clone)]
#[must_use = "say how it is confirmed and cancelled: `.confirm(path).cancel(path)`"]
pub struct Try(Step);

impl Try {
    /// Made good by a POST to this path once the transaction commits.
    pub fn confirm(self, path: &str) -> TryWithConfirm {
        TryWithConfirm(self.0.operation("confirm", path))
    }
}

/// A TCC step that lacks its cancel.
#[derive(Debug, Clone)]
#[must_use = "say how it is cancelled: `.cancel(path)`"]
pub struct TryWithConfirm(Step);

impl TryWithConfirm {
    /// Given back by a POST to this path if the transaction aborts.
    pub fn cancel(self, path: &str) -> Step {
        self.0.operation("cancel", path)
    }
}

/// A whole step. What is said of it here is said of its forward operation (the action or the try).
#[derive(Debug, Clone)]
#[must_use]
pub struct Step {
    pub(crate) services: Vec<Service>,
    pub(crate) members: Map<String, Value>,
    pub(crate) faults: Vec<String>,
    forward: &'static str,
}

impl Step {
    fn of(service: &Service, forward: &'static str, path: &str) -> Self {
        let members = Map::from_iter([("service".to_owned(), Value::from(service.name.clone()))]);
        Self { services: vec![service.clone()], members, faults: Vec::new(), forward }.operation(forward, path)
    }

    fn operation(mut self, operation: &str, path: &str) -> Self {
        if !path.starts_with('/') {
            self.faults.push(format!("the path `{path}` must start with `/`"));
        }
        self.with(operation, json!({"path": path}))
    }

    fn forward(mut self, member: &str, value: impl Into<Value>) -> Self {
        if let Some(Value::Object(operation)) = self.members.get_mut(self.forward) {
            operation.insert(member.to_owned(), value.into());
        }
        self
    }

    /// How long one attempt may take; 10 s where it is not said.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.forward("timeout", duration_text(timeout))
    }

    /// What is sent, as a template: `json!({"item": "${input.item}"})`. Without it, the transaction's input.
    pub fn body(self, template: Value) -> Self {
        self.forward("body", template)
    }

    /// A repeated call gives the first call's answer again, so the answer to a resend may be trusted.
    pub fn idempotent(self) -> Self {
        self.forward("idempotent", true)
    }

    /// A GET on this path tells what became of a call whose answer was lost.
    pub fn status_check(self, path: &str) -> Self {
        self.forward("status_check", json!({"path": path}))
    }

    /// Waits for these steps, in place of the one before it; for none: starts at once.
    pub fn after<N: Into<String>>(self, steps: impl IntoIterator<Item = N>) -> Self {
        let steps: Vec<String> = steps.into_iter().map(Into::into).collect();
        self.with("after", steps)
    }

    /// Skipped unless this expression is true.
    pub fn when(self, condition: &str) -> Self {
        self.with("when", condition)
    }

    /// What is kept of the answer, as a template; without it, the answer's body.
    pub fn output(self, template: Value) -> Self {
        self.with("output", template)
    }

    /// Any other member of a step (docs/workflows.md).
    pub fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.members.insert(member.to_owned(), value.into());
        self
    }
}

/// What may stand as a step of a saga.
#[diagnostic::on_unimplemented(
    message = "a step without an undo must say what it is",
    label = "not a whole step yet",
    note = "an action needs `.compensate(path)`, `.pivot()`, `.retriable()` or `.read_only()`",
    note = "a try needs `.confirm(path).cancel(path)`"
)]
pub trait IntoStep {
    /// The step.
    fn into_step(self) -> Step;
}

impl IntoStep for Step {
    fn into_step(self) -> Step {
        self
    }
}
