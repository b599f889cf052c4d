//! A run as a Mermaid sequence diagram.

use std::{
    collections::BTreeSet,
    fmt::{Display, Write},
};

use skald_protocol::{CallOutcome, Decision, ErrorView, PublicEventKind};

use super::{
    participant::How,
    timeline::{Attempt, TimelineEntry, What, condensed},
};

/// Draws what happened; `title` is a sentence.
#[must_use]
pub fn diagram(title: &str, timeline: &[TimelineEntry]) -> String {
    let timeline = condensed(timeline.to_vec());
    let mut drawing = Drawing { text: String::new(), services: Vec::new() };
    drawing.line(format_args!("---\ntitle: \"{}\"\n---\nsequenceDiagram", title.replace('"', "'")));
    drawing.line("    participant C as Skald");
    for entry in &timeline {
        if let What::Call { service, .. } = &entry.what
            && !drawing.services.contains(service)
        {
            drawing.services.push(service.clone());
            drawing.line(format_args!("    participant {} as {}", drawing.actor(service), clean(service)));
        }
    }
    let key = |of: &Attempt| (of.branch.clone(), of.operation, of.attempt, of.ask);
    let arrived: BTreeSet<_> = timeline
        .iter()
        .filter_map(|entry| match &entry.what {
            What::Arrival { of, late: false, .. } => Some(key(of)),
            _ => None,
        })
        .collect();
    for entry in &timeline {
        match &entry.what {
            What::Call { of, service, method, target, .. } if arrived.contains(&key(of)) => {
                let to = drawing.actor(service);
                drawing.line(format_args!("    C->>{to}: {} ({method} {})", attempt_label(of), clean(target)));
            }
            What::Call { of, service, method, target, .. } => {
                let to = drawing.actor(service);
                drawing.line(format_args!("    C-x{to}: {} ({method} {})", attempt_label(of), clean(target)));
            }
            _ => drawing.entry(&entry.what),
        }
    }
    drawing.text
}

struct Drawing {
    text: String,
    services: Vec<String>,
}

impl Drawing {
    fn line(&mut self, line: impl Display) {
        writeln!(self.text, "{line}").expect("a String takes any text");
    }

    fn actor(&self, service: &str) -> String {
        match self.services.iter().position(|known| known == service) {
            Some(index) => format!("s{index}"),
            None => "C".to_owned(),
        }
    }

    fn entry(&mut self, what: &What) {
        match what {
            What::Call { .. } => {}
            What::Arrival { of, service, how, late } => {
                let (at, how) = (self.actor(service), taken(*how));
                if *late {
                    self.line(format_args!(
                        "    Note over {at}: {} arrives, nobody waits for its answer: {how}",
                        attempt_label(of)
                    ));
                } else if how != "executed" && how != "asked" {
                    self.line(format_args!("    Note over {at}: {how}"));
                }
            }
            What::Answer { of, service, outcome, status, error, .. } => {
                let from = self.actor(service);
                let text = match (error, status) {
                    (Some(error), _) => format!("{outcome}, {}", clean(&error.code)),
                    (None, Some(status)) => status.to_string(),
                    (None, None) => outcome.to_string(),
                };
                let nobody = error.as_ref().is_some_and(|error| error.code == "timeout" || error.code == "connect");
                if nobody && *outcome != CallOutcome::Refused {
                    self.line(format_args!("    Note over C: {}: {text}", attempt_label(of)));
                } else {
                    self.line(format_args!("    {from}-->>C: {text}"));
                }
            }
            What::Unrenderable { of, reason } => {
                self.line(format_args!("    Note over C: {} cannot be rendered: {}", attempt_label(of), clean(reason)));
            }
            What::CalledBack { branch, operation, service, verdict } => {
                let from = self.actor(service);
                self.line(format_args!("    {from}->>C: callback of {branch} {operation}: {verdict:?}"));
            }
            What::Event { event } => {
                if let Some(text) = happened(&event.kind) {
                    self.line(format_args!("    Note over C: {}", clean(&text)));
                }
            }
            What::Killed { lost: true } => self.line("    Note over C: killed, its last append is lost"),
            What::Killed { lost: false } => self.line("    Note over C: killed"),
            What::TakenOver => self.line("    Note over C: another coordinator takes over"),
            What::Cancelled => self.line("    Note over C: a client cancels"),
            What::Resumed => self.line("    Note over C: an operator resumes"),
            What::More { of, attempts } => {
                self.line(format_args!(
                    "    Note over C: {} {} goes on for {attempts} attempts",
                    of.branch, of.operation
                ));
            }
            What::Signal { name, .. } => self.line(format_args!("    Note over C: signal {}", clean(name))),
        }
    }
}

fn happened(kind: &PublicEventKind) -> Option<String> {
    let with = |error: &ErrorView| match &error.message {
        Some(message) => format!("{}: {message}", error.code),
        None => error.code.clone(),
    };
    match kind {
        PublicEventKind::Decided { decision: Decision::Commit, .. } => Some("decided: commit".to_owned()),
        PublicEventKind::Decided { decision: Decision::Abort, error } => {
            let why = error.as_ref().map(|error| format!(" ({})", error.code)).unwrap_or_default();
            Some(format!("decided: abort{why}"))
        }
        PublicEventKind::BranchStuck { branch, operation, error } => {
            Some(format!("{branch} {operation} is stuck: {}", with(error)))
        }
        PublicEventKind::DeadlinePassed => Some("the deadline passed".to_owned()),
        PublicEventKind::Suspended => Some("suspended".to_owned()),
        PublicEventKind::Settled { status, .. } => Some(format!("settled: {status}")),
        _ => None,
    }
}

const fn taken(how: How) -> &'static str {
    match how {
        How::Executed => "executed",
        How::Stored => "a repetition, the stored answer",
        How::Empty => "nothing to undo",
        How::Superseded => "superseded by its undo",
        How::Accepted => "accepted, at work",
        How::Refused => "refused",
        How::Failed => "failed",
        How::Asked => "asked",
    }
}

fn attempt_label(of: &Attempt) -> String {
    let ask = if of.ask { " status_check" } else { "" };
    let again = if of.attempt > 1 { format!(" attempt {}", of.attempt) } else { String::new() };
    format!("{} {}{ask}{again}", of.branch, of.operation)
}

/// Mermaid reads `;` as the end of a line and `#` as an entity.
fn clean(text: &str) -> String {
    let short: String = text.chars().take(120).collect();
    short.replace(';', ",").replace('#', "no. ").replace(['\n', '\r'], " ")
}
