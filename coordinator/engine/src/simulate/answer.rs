//! What participants are scripted to answer; where no script says, a made answer.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};
use skald_protocol::{BranchId, Json, OperationKind, parse_duration};

use super::{
    lookup::{all, spec},
    participant::{Business, response},
    synthetic_answers::SyntheticAnswers,
};
use crate::{
    definition::reason,
    journal::Error,
    outcome::Answered,
    plan::{Branch, Means, Plan, Rule},
};

/// One scripted answer.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScriptedAnswer {
    /// 200, or 202 where the operation is asynchronous.
    pub status: Option<u16>,
    pub headers: BTreeMap<String, String>,
    pub body: Option<Json>,
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
    pub output: Option<Json>,
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
    scripted: BTreeMap<String, BTreeMap<OperationKind, Vec<ScriptedAnswer>>>,
    made: SyntheticAnswers,
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
        Self { scripted: BTreeMap::new(), made: SyntheticAnswers::of(plan) }
    }

    /// Scripted answers over made ones.
    pub fn scripted(plan: &Plan, script: &Json) -> Result<Self, Unscriptable> {
        let fault = |at: &str, reason: String| Unscriptable { at: at.to_owned(), reason };
        // As texts, since a number of an answer keeps its digits.
        let Some(steps) = members(script) else {
            return Err(fault("answers", "an object is needed: step → operation → answer".to_owned()));
        };
        let mut scripted = BTreeMap::new();
        for (name, operations) in steps {
            let named = |branch: &&Branch| branch.id.as_str() == name || branch.step == name;
            let known: Vec<&Branch> = all(plan).into_iter().filter(named).chain(spec(plan, &name)).collect();
            if known.is_empty() {
                let near = all(plan).into_iter().map(|branch| branch.step.as_str());
                let near = near.min_by_key(|step| strsim::damerau_levenshtein(step, &name));
                let near = near.filter(|step| strsim::damerau_levenshtein(step, &name) <= 2);
                let near = near.map(|step| format!("; did you mean `{step}`?")).unwrap_or_default();
                return Err(fault(&name, format!("there is no such step{near}")));
            }
            let Some(operations) = members(&operations) else {
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
                let list = match answers.text() {
                    list if list.starts_with('[') => serde_json::from_str(list),
                    one => serde_json::from_str::<ScriptedAnswer>(one).map(|one| vec![one]),
                };
                let list = list.map_err(|error| fault(&at, reason(&error)))?;
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
    pub(super) fn script(
        &self,
        branch: &Branch,
        id: &BranchId,
        kind: OperationKind,
        turn: usize,
    ) -> Option<&ScriptedAnswer> {
        let of = |name: &str| self.scripted.get(name).and_then(|operations| operations.get(&kind));
        let list = of(id.as_str()).or_else(|| of(&branch.step))?;
        list.get(turn).or_else(|| list.last())
    }

    /// The made body of a step's forward operation.
    pub(super) fn body(&self, step: &str) -> Value {
        self.made.bodies.get(step).cloned().unwrap_or_else(|| json!({}))
    }

    /// What a signal brings that a step waits for, if anything reads of it.
    pub(super) fn payload(&self, signal: &str, step: &str) -> Option<Value> {
        let read = [self.made.payloads.get(signal), self.made.bodies.get(step)];
        let mut members = Map::new();
        for body in read.into_iter().flatten() {
            members.extend(body.as_object().cloned().unwrap_or_default());
        }
        (!members.is_empty()).then_some(Value::Object(members))
    }

    /// Whether an expression reads a member of the step's answer.
    #[must_use]
    pub fn is_read(&self, step: &str) -> bool {
        self.made.bodies.get(step).is_some_and(|body| body.as_object().is_none_or(|members| !members.is_empty()))
    }
}

impl ScriptedAnswer {
    /// What its participant does to give it: the operation's own rules say what it means, else its status.
    pub(super) fn business(&self, asynchronous: bool, rules: &[Rule], made: impl FnOnce() -> Value) -> Business {
        let status = self.status.unwrap_or(if asynchronous { 202 } else { 200 });
        let body = self.body.clone().or_else(|| (200..300).contains(&status).then(|| Json::of(&made())));
        let answered = (!rules.is_empty()).then(|| Answered::new(status, self.headers.clone(), body.as_ref()));
        let judged = answered.as_ref().and_then(|answered| answered.judge(rules));
        let means = judged.as_ref().map_or_else(
            || match status {
                202 if asynchronous => Means::Pending,
                200..300 => Means::Succeeded,
                429 => Means::Unsent,
                408 | 425 => Means::Unknown,
                400..500 => Means::Refused,
                _ => Means::Unknown,
            },
            |judged| judged.is,
        );
        let usual = if means == Means::Refused { "refused".to_owned() } else { format!("http_{status}") };
        let own = Error {
            code: self.body_text("code").unwrap_or(usual),
            message: self.body_text("message").or_else(|| Some(status.to_string())),
        };
        let error = match judged {
            Some(judged) => judged.error(own),
            None => own,
        };
        match means {
            Means::Pending => Business::Accepts,
            Means::Succeeded => Business::Does(response(status, self.headers.clone(), body)),
            Means::Refused => Business::Refuses(error),
            Means::Unsent => Business::Declines(error),
            Means::Unknown | Means::NotFound => Business::Fails(error),
        }
    }

    fn body_text(&self, member: &str) -> Option<String> {
        self.body.as_ref()?.value().get(member)?.as_str().map(str::to_owned)
    }
}

fn members(json: &Json) -> Option<BTreeMap<String, Json>> {
    serde_json::from_str(json.text()).ok()
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse_duration(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

fn some_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}
