//! From a call to a request: a pure function of recorded state, so a retry sends the same bytes.

use std::{
    borrow::Cow,
    cell::{Cell, OnceCell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use skald_protocol::{BranchStatus, Json, OperationKind, OperationStatus};

use super::Transaction;
use crate::{
    budget::Budget,
    call::{Call, Request, Response, Target},
    cel::Meter,
    journal::state::Slot,
    limit,
    plan::{self, Body},
    template::{Path, Scope, Template, Unrenderable},
    value::{Map, Unreadable, Value},
};

/// Steps that a request takes beside its expressions.
const ONE_CALL: u64 = 50;

/// Why there is no request of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unrendered {
    /// It takes more than the budget has left.
    Later,
    Never(Unrenderable),
}

impl Transaction {
    pub fn render(&self, call: Call) -> Result<Request, Unrenderable> {
        self.request(call, &mut Meter::new())
    }

    /// The same, as far as the budget goes.
    pub fn render_within(&self, call: Call, budget: &mut Budget) -> Result<Request, Unrendered> {
        if budget.left() == 0 {
            return Err(Unrendered::Later);
        }
        let mut meter = Meter::within(budget);
        let request = self.request(call, &mut meter);
        budget.spend(meter.work().saturating_add(ONE_CALL));
        if meter.is_cut() { Err(Unrendered::Later) } else { request.map_err(Unrendered::Never) }
    }

    fn request(&self, call: Call, meter: &mut Meter) -> Result<Request, Unrenderable> {
        let nothing = || Unrenderable { path: String::new(), reason: format!("no {} is owed", call.operation) };
        let slot = Slot::of(call.operation).ok_or_else(nothing)?;
        let operation = self.operation(call.branch, slot).ok_or_else(nothing)?;
        let op = self.slot_state(call.branch, slot);
        let polls = op.filter(|op| call.ask && op.status == OperationStatus::Pending);
        let poll = polls.and(operation.pending.as_ref()).and_then(|pending| pending.poll.as_ref());
        let spec = match (poll, &operation.status_check) {
            (Some(poll), _) => &poll.operation,
            (None, Some(check)) if call.ask => check,
            (None, _) => operation,
        };
        let mut scope = Here::of(self, Some(call.branch), None);
        scope.signals = op.map_or(scope.signals, |op| op.seen);
        let target = match &spec.target {
            plan::Target::Path(path) => Target::Path(path.render_text(&scope, meter, |text| percent_encode(&text))?),
            plan::Target::Url(url) => Target::Url(url.render_text(&scope, meter, |text| percent_encode(&text))?),
        };
        let mut query = Vec::with_capacity(spec.query.len());
        for (name, value) in &spec.query {
            query.push((name.clone(), value.render_text(&scope, meter, |text| text)?));
        }
        let mut headers = BTreeMap::new();
        for (name, value) in &spec.headers {
            headers.insert(name.clone(), value.render_text(&scope, meter, |text| text)?);
        }
        let branch = self.branch_id(call.branch);
        Ok(Request {
            idempotency_key: format!("{}/{branch}/{}", self.gid, call.operation),
            branch,
            operation: if call.ask { OperationKind::Status } else { call.operation },
            method: spec.method.clone(),
            service: spec.service.clone(),
            target,
            query,
            headers,
            body: self.body(call.branch, spec, &scope, meter)?,
            timeout: spec.timeout,
            outcome: spec.outcome.clone(),
            keep_headers: spec.keep_headers,
            largest_answer: match &self.spec(call.branch).output {
                Some(_) if call.operation.is_forward() => limit::MAPPED_ANSWER,
                Some(_) | None => limit::OUTPUT,
            },
            asynchronous: !call.ask && spec.pending.is_some(),
        })
    }

    fn body(
        &self,
        branch: usize,
        spec: &plan::Operation,
        scope: &Here<'_>,
        meter: &mut Meter,
    ) -> Result<Option<Json>, Unrenderable> {
        match &spec.body {
            Body::None => Ok(None),
            Body::Input => Ok(match self.input_of(branch) {
                Some(saga) => self.output_of(saga).map(Cow::into_owned),
                None => self.state.began.input.clone(),
            }),
            Body::Given(template) => template.render(scope, meter).map(Some),
            Body::Forward => match self.operation(branch, Slot::Forward) {
                Some(forward) if forward.body != Body::Forward => {
                    self.body(branch, forward, &Here::of_forward(self, branch), meter)
                }
                Some(_) | None => Ok(None),
            },
        }
    }

    /// What `steps.<name>.output` will be, where the branch maps it.
    pub(super) fn map_output(
        &self,
        branch: usize,
        kind: OperationKind,
        response: &Response,
        meter: &mut Meter,
    ) -> Result<Option<Json>, Unrenderable> {
        match &self.spec(branch).output {
            Some(output) if kind.is_forward() => {
                output.render(&Here::of(self, Some(branch), Some(response)), meter).map(Some)
            }
            Some(_) | None => Ok(None),
        }
    }

    pub(super) fn final_output(&self, meter: &mut Meter) -> Result<Option<Json>, Unrenderable> {
        if let Some(end) = self.ended() {
            return Ok(self.state.branches[end].block.as_ref().and_then(|block| block.output.clone()));
        }
        let scope = Here::of(self, None, None);
        self.plan.output.as_ref().map(|output: &Template| output.render(&scope, meter)).transpose()
    }

    /// A branch's output: mapped, computed, or the response's body; of a map those of its items.
    pub(super) fn output_of(&self, branch: usize) -> Option<Cow<'_, Json>> {
        if let Some(op) = self.slot_state(branch, Slot::Forward) {
            return op.output.as_ref().or_else(|| op.response.as_ref()?.body.as_ref()).map(Cow::Borrowed);
        }
        let state = self.state.branches.get(branch)?;
        let block = state.block.as_ref()?;
        match (&block.output, &block.map) {
            (Some(output), _) => Some(Cow::Borrowed(output)),
            (None, Some(items)) if state.status == BranchStatus::Done || items.finished == items.items.len() => {
                let map = self.map_of(branch)?;
                let results = (0..items.items.len()).map(|item| items.base + item * map.branches.len() + map.result);
                let outputs = results.map(|result| self.output_of(result).map_or_else(Json::null, Cow::into_owned));
                Some(Cow::Owned(Json::of(&outputs.collect::<Vec<_>>())))
            }
            (None, _) => None,
        }
    }

    /// As expressions see it: the decision changes nothing of what a step came to.
    fn status_seen(&self, branch: usize) -> BranchStatus {
        match self.branch_status(branch) {
            BranchStatus::Undoing
            | BranchStatus::Undone
            | BranchStatus::Confirming
            | BranchStatus::Confirmed
            | BranchStatus::Stuck => BranchStatus::Done,
            other @ (BranchStatus::Waiting
            | BranchStatus::Running
            | BranchStatus::Done
            | BranchStatus::Refused
            | BranchStatus::Skipped) => other,
        }
    }
}

/// What an expression of one branch may read.
pub(super) struct Here<'a> {
    transaction: &'a Transaction,
    branch: Option<usize>,
    /// How many signals are seen.
    signals: usize,
    /// An answer that is not folded yet.
    response: Option<&'a Response>,
    /// Parsed or rendered once, however many expressions read of it.
    input: OnceCell<Result<Value, Unreadable>>,
    config: OnceCell<Result<Value, Unreadable>>,
    outputs: RefCell<BTreeMap<usize, Rc<Value>>>,
    body: OnceCell<Result<Value, Unreadable>>,
    request: OnceCell<Result<Value, String>>,
    /// Bytes of JSON that were taken apart and not yet asked for.
    parsed: Cell<usize>,
}

impl<'a> Here<'a> {
    pub(super) const fn of(
        transaction: &'a Transaction,
        branch: Option<usize>,
        response: Option<&'a Response>,
    ) -> Self {
        Self {
            transaction,
            branch,
            signals: transaction.state.signals.len(),
            response,
            input: OnceCell::new(),
            config: OnceCell::new(),
            outputs: RefCell::new(BTreeMap::new()),
            body: OnceCell::new(),
            request: OnceCell::new(),
            parsed: Cell::new(0),
        }
    }

    /// As the branch's forward operation was rendered.
    fn of_forward(transaction: &'a Transaction, branch: usize) -> Self {
        let seen = transaction.slot_state(branch, Slot::Forward).map(|op| op.seen);
        let scope = Self::of(transaction, Some(branch), None);
        Self { signals: seen.unwrap_or(scope.signals), ..scope }
    }

    fn parse(&self, json: &Json) -> Result<Value, Unreadable> {
        self.parsed.set(self.parsed.get().saturating_add(json.text().len()));
        Value::of(json)
    }

    fn parse_some(&self, json: Option<&Json>) -> Result<Value, Unreadable> {
        json.map_or(Ok(Value::Null), |json| self.parse(json))
    }

    /// `none`: why there is none.
    fn output(&self, branch: usize, none: impl FnOnce() -> String) -> Result<Rc<Value>, String> {
        if let Some(known) = self.outputs.borrow().get(&branch) {
            return Ok(Rc::clone(known));
        }
        let output = self.transaction.output_of(branch).ok_or_else(none)?;
        let value = Rc::new(self.parse(&output).map_err(|fault| unreadable("output", &fault))?);
        self.outputs.borrow_mut().insert(branch, Rc::clone(&value));
        Ok(value)
    }

    fn input(&self, path: &Path) -> Result<Value, String> {
        let transaction = self.transaction;
        if let Some(saga) = self.branch.and_then(|branch| transaction.input_of(branch)) {
            let input = self.output(saga, || "the saga has no input".to_owned())?;
            return Path::walk(&path.segments, &input);
        }
        let began = transaction.state.began.input.as_ref();
        let input = if transaction.plan.has_maps() {
            // Once for all of the items.
            transaction.parsed.get_or_init(|| read(began))
        } else {
            self.input.get_or_init(|| self.parse_some(began))
        };
        Path::walk(&path.segments, input.as_ref().map_err(|fault| unreadable("input", fault))?)
    }

    fn step(&self, path: &Path) -> Result<Value, String> {
        let name = path.key(0).ok_or("name a step")?;
        let branch = self.transaction.step_named(self.branch, name);
        let branch = branch.ok_or_else(|| format!("there is no step `{name}`"))?;
        match path.key(1) {
            Some("status") => Ok(Value::from(self.transaction.status_seen(branch).as_str())),
            Some("output") => {
                let output = self.output(branch, || format!("step `{name}` has no output"))?;
                Path::walk(&path.segments[2..], &output)
            }
            _ => Err("write steps.<name>.output or steps.<name>.status".to_owned()),
        }
    }

    fn own(&self, path: &Path) -> Result<Value, String> {
        let transaction = self.transaction;
        let branch = self.branch.ok_or("there is no `self` here")?;
        let recorded = transaction.slot_state(branch, Slot::Forward).and_then(|op| op.response.as_ref());
        match path.key(0) {
            Some("idempotency_key") => {
                let kind = transaction.operation(branch, Slot::Forward).map_or(OperationKind::Try, |spec| spec.kind);
                Ok(Value::from(format!("{}/{}/{kind}", transaction.gid, transaction.branch_id(branch))))
            }
            Some("output") => {
                let output = self.output(branch, || "the forward operation has no output".to_owned())?;
                Path::walk(&path.segments[1..], &output)
            }
            Some("response") => {
                let response = self.response.or(recorded).ok_or("the forward operation has no response")?;
                if path.key(1) == Some("body") {
                    let body = self.body.get_or_init(|| self.parse_some(response.body.as_ref())).as_ref();
                    return Path::walk(&path.segments[2..], body.map_err(|fault| unreadable("body", fault))?);
                }
                let headers = response.headers.iter().map(|(name, value)| (name.clone(), value.as_str().into()));
                let known = [("status", response.status.into()), ("headers", Value::Object(headers.collect()))];
                Path::walk(&path.segments[1..], &object(known))
            }
            Some("request") if path.key(1) == Some("body") => {
                let body = self.request.get_or_init(|| {
                    let forward =
                        transaction.operation(branch, Slot::Forward).ok_or("there is no forward operation")?;
                    let scope = Here::of_forward(transaction, branch);
                    let mut meter = Meter::new();
                    let body = transaction.body(branch, forward, &scope, &mut meter);
                    self.parsed.set(self.parsed.get().saturating_add(meter.bytes()));
                    let body = body.map_err(|error| error.to_string())?;
                    self.parse_some(body.as_ref()).map_err(|fault| unreadable("body", &fault))
                });
                Path::walk(&path.segments[2..], body.as_ref().map_err(Clone::clone)?)
            }
            _ => Err("`self` has request.body, response, output and idempotency_key".to_owned()),
        }
    }
}

impl Scope for Here<'_> {
    fn parsed(&self) -> usize {
        self.parsed.take()
    }

    fn read(&self, path: &Path) -> Result<Value, String> {
        let transaction = self.transaction;
        match path.root.as_str() {
            "input" => self.input(path),
            "config" => {
                let config = transaction.state.began.config.as_ref();
                let read = || config.map_or_else(|| Ok(Value::Object(Map::new())), |config| self.parse(config));
                let config = self.config.get_or_init(read).as_ref();
                Path::walk(&path.segments, config.map_err(|fault| unreadable("config", fault))?)
            }
            "signals" => {
                let name = path.key(0).ok_or("name a signal")?;
                let known = transaction.state.signals[..self.signals].iter().find(|signal| signal.name == name);
                let signal = known.ok_or_else(|| format!("there is no signal `{name}`"))?;
                let payload =
                    self.parse_some(signal.payload.as_ref()).map_err(|fault| unreadable("payload", &fault))?;
                Path::walk(&path.segments[1..], &payload)
            }
            "steps" => self.step(path),
            "self" => self.own(path),
            "transaction" if path.key(0) == Some("status") => {
                let status = transaction.outcome().ok_or("it is not decided yet")?;
                Path::walk(&path.segments[1..], &status.as_str().into())
            }
            "transaction" if path.key(0) == Some("error") => {
                let error = transaction.state.error.as_ref().ok_or("there is no error")?;
                let said =
                    [("code", Some(&error.code)), ("message", error.message.as_ref()), ("step", error.step.as_ref())];
                let said = said.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text?.as_str().into())));
                Path::walk(&path.segments[1..], &Value::Object(said.collect()))
            }
            "transaction" => {
                let workflow = transaction.plan.workflow.as_ref();
                let named = |name: Option<&String>| name.map_or(Value::Null, |name| name.as_str().into());
                let known = [
                    ("gid", transaction.gid.as_str().into()),
                    ("workflow", named(workflow.map(|workflow| &workflow.name))),
                    ("version", named(workflow.map(|workflow| &workflow.version))),
                    ("began_at", transaction.began_at().to_string().into()),
                ];
                Path::walk(&path.segments, &object(known))
            }
            other => {
                let item = self.branch.and_then(|branch| transaction.item_named(branch, other));
                let item = item.ok_or_else(|| format!("there is no `{other}`"))?;
                Path::walk(&path.segments, &self.parse(item).map_err(|fault| unreadable("item", &fault))?)
            }
        }
    }
}

fn read(json: Option<&Json>) -> Result<Value, Unreadable> {
    json.map_or(Ok(Value::Null), Value::of)
}

fn unreadable(what: &str, fault: &Unreadable) -> String {
    format!("the {what} cannot be read: {fault}")
}

fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// All but RFC 3986's unreserved characters, so a value can never leave its path segment.
fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
