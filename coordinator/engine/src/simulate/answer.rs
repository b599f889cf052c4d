//! What participants are scripted to answer, and what they answer where no script says: a made body that has every member
//! which an expression of the plan reads of it.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};
use skald_protocol::{BranchId, Json, OperationKind, parse_duration};

use super::participant::{Business, response};
use crate::{
    event::Error,
    plan::{Branch, Operation, Plan, Target},
    template::{Path, Segment, Template},
};

/// One scripted answer.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Answer {
    /// 200, or 202 where the operation is asynchronous.
    pub status: Option<u16>,
    pub headers: BTreeMap<String, String>,
    pub body: Option<Value>,
    #[serde(deserialize_with = "duration")]
    pub delay: Duration,
    /// After a 202.
    pub callback: Option<Callback>,
}

/// How an asynchronous operation ends.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Callback {
    #[serde(default)]
    pub outcome: CallbackOutcome,
    #[serde(default)]
    pub output: Option<Value>,
    #[serde(default)]
    pub error: Option<Error>,
    #[serde(default, deserialize_with = "some_duration")]
    pub after: Option<Duration>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallbackOutcome {
    #[default]
    Succeeded,
    Refused,
}

/// Branch (or step) → operation → its answers in order; the last repeats.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answers {
    scripted: BTreeMap<String, BTreeMap<OperationKind, Vec<Answer>>>,
    made: BTreeMap<String, Value>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {reason}")]
pub struct Unscriptable {
    /// `step` or `step.operation`.
    pub at: String,
    pub reason: String,
}

impl Answers {
    /// Made answers for everything.
    #[must_use]
    pub fn made(plan: &Plan) -> Self {
        let mut members = Members::default();
        members.read(plan);
        Self { scripted: BTreeMap::new(), made: members.bodies() }
    }

    /// Scripted answers over made ones.
    pub fn scripted(plan: &Plan, script: Value) -> Result<Self, Unscriptable> {
        let fault = |at: &str, reason: String| Unscriptable { at: at.to_owned(), reason };
        let Value::Object(steps) = script else {
            return Err(fault("answers", "an object is needed: step → operation → answer".to_owned()));
        };
        let mut scripted = BTreeMap::new();
        for (name, operations) in steps {
            let known: Vec<&Branch> =
                plan.branches.iter().filter(|branch| branch.id.as_str() == name || branch.step == name).collect();
            if known.is_empty() {
                let near = plan.branches.iter().map(|branch| branch.step.as_str());
                let near = near.min_by_key(|step| strsim::damerau_levenshtein(step, &name));
                let near = near.filter(|step| strsim::damerau_levenshtein(step, &name) <= 2);
                let near = near.map(|step| format!("; did you mean `{step}`?")).unwrap_or_default();
                return Err(fault(&name, format!("there is no such step{near}")));
            }
            let Value::Object(operations) = operations else {
                return Err(fault(&name, "an object is needed: operation → answer".to_owned()));
            };
            let mut by_kind = BTreeMap::new();
            for (operation, answers) in operations {
                let at = format!("{name}.{operation}");
                let kind: OperationKind = operation.parse().map_err(|reason| fault(&at, reason))?;
                let has = |branch: &&Branch| branch.operation(kind).is_some() || kind == OperationKind::Status;
                if !known.iter().any(has) {
                    return Err(fault(&at, "the step has no such operation".to_owned()));
                }
                // Untagged enums do not say which member is wrong.
                let list = match answers {
                    Value::Array(_) => serde_json::from_value::<Vec<Answer>>(answers),
                    one => serde_json::from_value::<Answer>(one).map(|one| vec![one]),
                };
                let list = list.map_err(|error| fault(&at, error.to_string()))?;
                if list.is_empty() {
                    return Err(fault(&at, "the list of answers is empty".to_owned()));
                }
                by_kind.insert(kind, list);
            }
            scripted.insert(name, by_kind);
        }
        Ok(Self { scripted, ..Self::made(plan) })
    }

    /// The answer at this turn, if it is scripted.
    pub(super) fn script(&self, branch: &Branch, id: &BranchId, kind: OperationKind, turn: usize) -> Option<&Answer> {
        let of = |name: &str| self.scripted.get(name).and_then(|operations| operations.get(&kind));
        let list = of(id.as_str()).or_else(|| of(&branch.step))?;
        list.get(turn).or_else(|| list.last())
    }

    /// The made body of a step's forward operation.
    pub(super) fn body(&self, step: &str) -> Value {
        self.made.get(step).cloned().unwrap_or_else(|| json!({}))
    }

    /// Whether an expression reads a member of the step's answer.
    #[must_use]
    pub fn is_read(&self, step: &str) -> bool {
        self.made.get(step).is_some_and(|body| body.as_object().is_none_or(|members| !members.is_empty()))
    }
}

impl Answer {
    /// As it reaches the coordinator's rules.
    pub(super) fn business(&self, asynchronous: bool, made: impl FnOnce() -> Value) -> Business {
        let status = self.status.unwrap_or(if asynchronous { 202 } else { 200 });
        let error = || Error {
            code: self.said("code").unwrap_or_else(|| {
                if (400..500).contains(&status) { "refused".to_owned() } else { format!("http_{status}") }
            }),
            message: self.said("message").or_else(|| Some(status.to_string())),
        };
        match status {
            202 if asynchronous => Business::Accepts,
            200..300 => {
                let body = self.body.clone().unwrap_or_else(made);
                Business::Does(response(status, self.headers.clone(), Some(Json::of(&body))))
            }
            429 => Business::Declines(error()),
            408 | 425 => Business::Fails(error()),
            400..500 => Business::Refuses(error()),
            _ => Business::Fails(error()),
        }
    }

    fn said(&self, member: &str) -> Option<String> {
        self.body.as_ref()?.get(member)?.as_str().map(str::to_owned)
    }
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse_duration(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

fn some_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

/// What expressions read of answers, by step.
#[derive(Default)]
struct Members {
    of: BTreeMap<String, Read>,
}

#[derive(Debug, Clone, Default)]
struct Read {
    keys: BTreeMap<String, Read>,
    items: Option<(usize, Box<Read>)>,
}

/// Beyond it an index makes no array.
const LONGEST: usize = 64;

impl Read {
    fn note(&mut self, segments: &[Segment]) {
        match segments {
            [] => {}
            [Segment::Key(key), rest @ ..] => self.keys.entry(key.clone()).or_default().note(rest),
            [Segment::Index(index), rest @ ..] => {
                let (most, item) = self.items.get_or_insert_default();
                *most = (*most).max(*index + 1).min(LONGEST);
                item.note(rest);
            }
        }
    }

    fn value(&self, step: &str, name: &str) -> Value {
        if let Some((count, item)) = &self.items {
            return Value::Array(vec![item.value(step, name); *count]);
        }
        if self.keys.is_empty() {
            return plausible(step, name);
        }
        let members: Map<_, _> = self.keys.iter().map(|(key, read)| (key.clone(), read.value(step, key))).collect();
        Value::Object(members)
    }
}

/// A value of the kind that a member of such a name mostly is.
fn plausible(step: &str, name: &str) -> Value {
    const NUMBERS: [&str; 17] = [
        "amount", "total", "price", "count", "qty", "quantity", "size", "score", "number", "sum", "balance", "fee",
        "rate", "limit", "index", "seconds", "weight",
    ];
    const TRUTHS: [&str; 12] = [
        "ok",
        "approved",
        "accepted",
        "available",
        "valid",
        "enabled",
        "allowed",
        "active",
        "success",
        "confirmed",
        "found",
        "in_stock",
    ];
    const LISTS: [&str; 8] = ["items", "lines", "results", "entries", "rows", "parts", "list", "holds"];
    let name = name.to_ascii_lowercase();
    let last = name.rsplit('_').next().unwrap_or(&name);
    if NUMBERS.contains(&last) {
        json!(100)
    } else if TRUTHS.contains(&last)
        || TRUTHS.contains(&name.as_str())
        || name.starts_with("is_")
        || name.starts_with("has_")
    {
        json!(true)
    } else if LISTS.contains(&last) {
        json!([format!("{step}-{name}-1"), format!("{step}-{name}-2")])
    } else if last == "at" || last == "date" {
        json!("2026-01-31T12:00:00Z")
    } else {
        json!(format!("{step}-{name}"))
    }
}

impl Members {
    fn read(&mut self, plan: &Plan) {
        for branch in &plan.branches {
            for operation in [&branch.forward, &branch.confirm, &branch.undo].into_iter().flatten() {
                each_template(operation, &mut |template| self.template(plan, Some(branch), template));
            }
            if let Some(output) = &branch.output {
                self.template(plan, Some(branch), output);
            }
        }
        if let Some(output) = &plan.output {
            self.template(plan, None, output);
        }
    }

    fn template(&mut self, plan: &Plan, own: Option<&Branch>, template: &Template) {
        template.each_path(|_, path| self.path(plan, own, path));
    }

    fn path(&mut self, plan: &Plan, own: Option<&Branch>, path: &Path) {
        match (path.root.as_str(), path.key(0), path.key(1), own) {
            ("self", Some("output"), _, Some(own)) => self.output(own, &path.segments[1..]),
            ("self", Some("response"), Some("body"), Some(own)) => self.note(&own.step, &path.segments[2..]),
            ("steps", Some(step), Some("output"), _) => {
                if let Some(branch) = plan.branches.iter().find(|branch| branch.step == step) {
                    self.output(branch, &path.segments[2..]);
                }
            }
            _ => {}
        }
    }

    fn note(&mut self, step: &str, segments: &[Segment]) {
        self.of.entry(step.to_owned()).or_default().note(segments);
    }

    /// A step's output: the answer's body or, mapped, what the mapping takes of it.
    fn output(&mut self, branch: &Branch, segments: &[Segment]) {
        let Some(mapping) = &branch.output else { return self.note(&branch.step, segments) };
        let mut at = mapping.source().value();
        let mut rest = segments;
        while let [segment, further @ ..] = rest {
            let next = match segment {
                Segment::Key(key) => at.get_mut(key).map(Value::take),
                Segment::Index(index) => at.get_mut(index).map(Value::take),
            };
            let Some(next) = next else { break };
            (at, rest) = (next, further);
        }
        let inside = at.as_str().and_then(|text| text.strip_prefix("${")?.strip_suffix('}'));
        let Some(path) = inside.and_then(|inside| Path::parse(inside.trim())) else { return };
        if path.root == "self" && path.key(0) == Some("response") && path.key(1) == Some("body") {
            let whole: Vec<_> = path.segments[2..].iter().chain(rest).cloned().collect();
            self.note(&branch.step, &whole);
        }
    }

    fn bodies(self) -> BTreeMap<String, Value> {
        let body = |step: &str, read: &Read| {
            if read.keys.is_empty() && read.items.is_none() { json!({}) } else { read.value(step, step) }
        };
        self.of.iter().map(|(step, read)| (step.clone(), body(step, read))).collect()
    }
}

pub(super) fn each_template<'a>(operation: &'a Operation, show: &mut dyn FnMut(&'a Template)) {
    let (Target::Path(target) | Target::Url(target)) = &operation.target;
    show(target);
    operation.query.values().chain(operation.headers.values()).for_each(&mut *show);
    if let crate::plan::Body::Given(body) = &operation.body {
        show(body);
    }
    if let Some(check) = &operation.status_check {
        each_template(check, show);
    }
}
