//! From a call to a request: a pure function of recorded state, so a retry sends the same bytes.

use std::{
    cell::{OnceCell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use serde_json::{Value, json};
use skald_protocol::{Json, OperationKind};

use super::{Transaction, state::Slot};
use crate::{
    call::{Call, Request, Response, Target},
    cel::Meter,
    plan::{self, Body},
    template::{Path, Scope, Template, Unrenderable},
};

impl Transaction {
    pub fn render(&self, call: Call) -> Result<Request, Unrenderable> {
        let nothing = || Unrenderable { path: String::new(), reason: format!("no {} is owed", call.operation) };
        let slot = Slot::of(call.operation).ok_or_else(nothing)?;
        let operation = self.operation(call.branch, slot).ok_or_else(nothing)?;
        let spec = match &operation.status_check {
            Some(check) if call.ask => check,
            Some(_) | None => operation,
        };
        let scope = Here::of(self, Some(call.branch), None);
        let meter = &mut Meter::new();
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
        let branch = self.spec(call.branch).id.clone();
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
            Body::Input => Ok(self.state.began.input.clone()),
            Body::Given(template) => template.render(scope, meter).map(Some),
            Body::Forward => match self.operation(branch, Slot::Forward) {
                Some(forward) if forward.body != Body::Forward => self.body(branch, forward, scope, meter),
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
    ) -> Result<Option<Json>, Unrenderable> {
        match &self.spec(branch).output {
            Some(output) if kind.is_forward() => {
                output.render(&Here::of(self, Some(branch), Some(response)), &mut Meter::new()).map(Some)
            }
            Some(_) | None => Ok(None),
        }
    }

    pub(super) fn final_output(&self) -> Result<Option<Json>, Unrenderable> {
        let scope = Here::of(self, None, None);
        self.plan.output.as_ref().map(|output: &Template| output.render(&scope, &mut Meter::new())).transpose()
    }

    /// A branch's output: mapped, or the response's body.
    pub(super) fn output_of(&self, branch: usize) -> Option<&Json> {
        let op = self.slot_state(branch, Slot::Forward)?;
        op.output.as_ref().or_else(|| op.response.as_ref()?.body.as_ref())
    }
}

/// What an expression of one branch may read.
struct Here<'a> {
    transaction: &'a Transaction,
    branch: Option<usize>,
    /// An answer that is not folded yet.
    response: Option<&'a Response>,
    /// Parsed or rendered once, however many expressions read of it.
    input: OnceCell<Value>,
    outputs: RefCell<BTreeMap<usize, Rc<Value>>>,
    body: OnceCell<Value>,
    request: OnceCell<Result<Value, String>>,
}

impl<'a> Here<'a> {
    const fn of(transaction: &'a Transaction, branch: Option<usize>, response: Option<&'a Response>) -> Self {
        Self {
            transaction,
            branch,
            response,
            input: OnceCell::new(),
            outputs: RefCell::new(BTreeMap::new()),
            body: OnceCell::new(),
            request: OnceCell::new(),
        }
    }

    fn output(&self, branch: usize) -> Option<Rc<Value>> {
        if let Some(known) = self.outputs.borrow().get(&branch) {
            return Some(Rc::clone(known));
        }
        let value = Rc::new(self.transaction.output_of(branch)?.value());
        self.outputs.borrow_mut().insert(branch, Rc::clone(&value));
        Some(value)
    }

    fn step(&self, path: &Path) -> Result<Value, String> {
        let name = path.key(0).ok_or("name a step")?;
        let branch = self.transaction.plan.find(name).ok_or_else(|| format!("there is no step `{name}`"))?;
        match path.key(1) {
            Some("status") => Ok(Value::from(self.transaction.branch_status(branch).as_str())),
            Some("output") => {
                let output = self.output(branch).ok_or_else(|| format!("step `{name}` has no output"))?;
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
                Ok(Value::from(format!("{}/{}/{kind}", transaction.gid, transaction.spec(branch).id)))
            }
            Some("output") => {
                let output = self.output(branch).ok_or("the forward operation has no output")?;
                Path::walk(&path.segments[1..], &output)
            }
            Some("response") => {
                let response = self.response.or(recorded).ok_or("the forward operation has no response")?;
                if path.key(1) == Some("body") {
                    let body = self.body.get_or_init(|| response.body.as_ref().map_or(Value::Null, Json::value));
                    return Path::walk(&path.segments[2..], body);
                }
                let known = json!({"status": response.status, "headers": response.headers});
                Path::walk(&path.segments[1..], &known)
            }
            Some("request") if path.key(1) == Some("body") => {
                let body = self.request.get_or_init(|| {
                    let forward =
                        transaction.operation(branch, Slot::Forward).ok_or("there is no forward operation")?;
                    let body = transaction.body(branch, forward, self, &mut Meter::new());
                    Ok(body.map_err(|error| error.to_string())?.map_or(Value::Null, |body| body.value()))
                });
                Path::walk(&path.segments[2..], body.as_ref().map_err(Clone::clone)?)
            }
            _ => Err("`self` has request.body, response, output and idempotency_key".to_owned()),
        }
    }
}

impl Scope for Here<'_> {
    fn read(&self, path: &Path) -> Result<Value, String> {
        let transaction = self.transaction;
        match path.root.as_str() {
            "input" => {
                let input =
                    self.input.get_or_init(|| transaction.state.began.input.as_ref().map_or(Value::Null, Json::value));
                Path::walk(&path.segments, input)
            }
            "steps" => self.step(path),
            "self" => self.own(path),
            "transaction" => {
                let workflow = transaction.plan.workflow.as_ref();
                let known = json!({
                    "gid": transaction.gid,
                    "workflow": workflow.map(|workflow| &workflow.name),
                    "version": workflow.map(|workflow| &workflow.version),
                    "began_at": transaction.began_at(),
                });
                Path::walk(&path.segments, &known)
            }
            other => Err(format!("there is no `{other}`")),
        }
    }
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
