//! `skald participant`: whether a service, in whatever language, keeps what a participant promises.

use std::path::PathBuf;

use serde_json::Value;
use skald_protocol::OperationKind;
use skald_sdk::{
    SigningKeys,
    contract::{self, Conformance, Subject},
};

use super::{Error, Exit, Output, tx::json};
use crate::terminal::table;

#[derive(Debug, clap::Args)]
pub(super) struct Participant {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Send a service what a bad day sends (duplicates, an undo before its do, late and overlapping calls, wrong
    /// signatures), and say what it does wrong. Leaves no effect standing where the service is right.
    Check(Check),
}

#[derive(Debug, clap::Args)]
struct Check {
    /// Where the service listens.
    #[arg(long, value_name = "URL")]
    url: String,
    /// A definition that has the step; its paths are called.
    #[arg(long, value_name = "FILE")]
    definition: PathBuf,
    /// The step to check.
    #[arg(long)]
    step: String,
    /// A body that the service accepts, several times over: JSON, or @FILE.
    #[arg(long, value_name = "JSON", default_value = "null")]
    body: String,
    /// A body that it refuses: JSON, or @FILE.
    #[arg(long, value_name = "JSON")]
    refused_body: Option<String>,
    /// A GET there tells the service's net state (a balance, a stock); without it, effects are not seen.
    #[arg(long, value_name = "URL")]
    observe: Option<String>,
    /// With which the service expects its calls to be signed (`whsec_…`).
    #[arg(long, value_name = "KEY", env = "SKALD_SIGNING_KEY", hide_env_values = true)]
    signing_key: Option<String>,
}

impl Participant {
    pub(super) async fn run(self, output: &Output) -> Result<Exit, Error> {
        let Command::Check(check) = self.command;
        let subject = check.subject()?;
        let report = contract::check(&subject).await?;
        output.put(&report, || {
            let rows = report.findings.iter().map(|finding| {
                let verdict = match finding.verdict {
                    Conformance::Kept => "kept",
                    Conformance::Broken => "BROKEN",
                    Conformance::NotChecked => "not checked",
                };
                [finding.check.to_owned(), verdict.to_owned(), finding.message.clone()]
            });
            table(["CHECK", "VERDICT", "WHAT"], rows)
        })?;
        Ok(if report.is_kept() { Exit::Done } else { Exit::Faulty })
    }
}

impl Check {
    fn subject(&self) -> Result<Subject, Error> {
        let definition = json("--definition", &format!("@{}", self.definition.display()))?.value();
        let place = format!("step `{}` of {}", self.step, self.definition.display());
        let step = find(&definition, &self.step)
            .ok_or_else(|| Error::Usage(format!("{place} is not there, or it is no step with an action or a try")))?;
        let (forward, undo) = if step.get("try").is_some() {
            (OperationKind::Try, "cancel")
        } else {
            (OperationKind::Action, "compensate")
        };
        let keys = self.signing_key.iter().map(String::as_str);
        let keys = SigningKeys::new(keys).map_err(|error| Error::Usage(format!("--signing-key: {error}")))?;
        Ok(Subject {
            forward,
            forward_url: self.address(step, forward.as_str(), &place)?,
            undo_url: step.get(undo).map(|_| self.address(step, undo, &place)).transpose()?,
            body: json("--body", &self.body)?.value(),
            refused_body: match &self.refused_body {
                Some(body) => Some(json("--refused-body", body)?.value()),
                None => None,
            },
            observe_url: self.observe.clone(),
            keys: self.signing_key.as_ref().map(|_| keys),
        })
    }

    fn address(&self, step: &Value, operation: &str, place: &str) -> Result<String, Error> {
        let path = step[operation]["path"].as_str().unwrap_or_default();
        if !path.starts_with('/') || path.contains("${") {
            let problem = "must have a `path` without an expression to be checked: give a definition that has";
            return Err(Error::Usage(format!("the {operation} of {place} {problem}")));
        }
        Ok(format!("{}{path}", self.url.trim_end_matches('/')))
    }
}

/// A step by name, however deep in blocks.
fn find<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match value {
        Value::Object(members) => {
            let is_step = members.contains_key("action") || members.contains_key("try");
            if is_step && members.get("name").and_then(Value::as_str) == Some(name) {
                return Some(value);
            }
            members.values().find_map(|member| find(member, name))
        }
        Value::Array(items) => items.iter().find_map(|item| find(item, name)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}
