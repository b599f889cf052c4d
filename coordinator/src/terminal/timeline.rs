//! One event, one line, for a person: when, what it came to, which branch, what happened.

use anstyle::{AnsiColor, Color, Style};
use skald_protocol::{Decision, ErrorView, OperationKind, PublicEvent, PublicEventKind, Status, Timestamp};

const PLAIN: Style = Style::new();
const DIM: Style = Style::new().dimmed();
const GOOD: Style = coloured(AnsiColor::Green);
const BAD: Style = coloured(AnsiColor::Red);
const BACK: Style = coloured(AnsiColor::Yellow);
const LATER: Style = coloured(AnsiColor::Cyan);

const fn coloured(colour: AnsiColor) -> Style {
    Style::new().fg_color(Some(Color::Ansi(colour)))
}

/// `styled` marks hold ANSI sequences; who prints them drops them where there is no terminal.
pub(crate) fn line(event: &PublicEvent, began: Timestamp) -> String {
    let after = began.until(event.at).as_secs_f64();
    let (style, mark, branch, text) = parts(&event.kind);
    let subject = if branch.is_empty() { text } else { format!("{branch:<14} {text}") };
    format!("{DIM}{after:>8.3}s{DIM:#}  {style}{mark} {subject}{style:#}")
}

pub(crate) fn status_style(status: Status) -> Style {
    match status {
        Status::Succeeded => GOOD,
        Status::Compensated | Status::Compensating => BACK,
        Status::Failed | Status::Suspended => BAD,
        Status::Running | Status::Confirming => LATER,
    }
}

fn parts(kind: &PublicEventKind) -> (Style, char, &str, String) {
    match kind {
        PublicEventKind::Began => (PLAIN, '▶', "", "began".into()),
        PublicEventKind::Enlisted { branch } => (PLAIN, '+', branch.as_str(), "enlisted".into()),
        PublicEventKind::AttemptFailed { branch, operation, attempt, outcome, error, .. } => {
            (LATER, '↻', branch.as_str(), format!("{operation} attempt {attempt} {outcome}: {}", error_text(error)))
        }
        PublicEventKind::OperationPending { branch, operation } => {
            (LATER, '…', branch.as_str(), format!("{operation} is pending"))
        }
        PublicEventKind::OperationSucceeded { branch, operation, attempt, .. } => {
            let (style, mark) = if operation.is_undo() { (BACK, '↩') } else { (GOOD, '✔') };
            let again = if *attempt > 1 { format!(" at attempt {attempt}") } else { String::new() };
            (style, mark, branch.as_str(), format!("{}{again}", done(*operation)))
        }
        PublicEventKind::OperationRefused { branch, operation, error, .. } => {
            (BAD, '✘', branch.as_str(), format!("{operation} refused: {}", error_text(error)))
        }
        PublicEventKind::OperationExhausted { branch, operation, error } => {
            (BAD, '✘', branch.as_str(), format!("{operation} given up: {}", error_text(error)))
        }
        PublicEventKind::BranchStuck { branch, operation, error } => {
            (BAD, '!', branch.as_str(), format!("{operation} is stuck: {}", error_text(error)))
        }
        PublicEventKind::CancelRequested { reason } => {
            (BACK, '⏹', "", with_reason("cancel was asked for", reason.as_deref()))
        }
        PublicEventKind::DeadlinePassed => (BACK, '⏹', "", "the deadline passed".into()),
        PublicEventKind::Decided { decision: Decision::Commit, .. } => (GOOD, '◆', "", "decided: commit".into()),
        PublicEventKind::Decided { decision: Decision::Abort, error } => {
            let why = error.as_ref().map(|error| format!(" ({})", error_text(error))).unwrap_or_default();
            (BACK, '◆', "", format!("decided: abort{why}"))
        }
        PublicEventKind::Signalled { name, .. } => (GOOD, '✉', "", format!("signal {name}")),
        PublicEventKind::StepSkipped { branch } => (DIM, '↷', branch.as_str(), "skipped by its condition".into()),
        PublicEventKind::StepDone { branch, .. } => (GOOD, '✔', branch.as_str(), "done".into()),
        PublicEventKind::StepFailed { branch, error } => (BAD, '✘', branch.as_str(), error_text(error)),
        PublicEventKind::ArmChosen { branch, arm } => (PLAIN, '⑂', branch.as_str(), format!("takes arm {}", arm + 1)),
        PublicEventKind::WaitBegan { branch, signal, signals, until } => {
            let what = awaited(signal.as_ref(), signals);
            (LATER, '…', branch.as_str(), format!("waits {what}until {until}"))
        }
        PublicEventKind::MapBegan { branch, items } => (PLAIN, '≡', branch.as_str(), format!("{items} items")),
        PublicEventKind::Suspended => (BAD, '!', "", "suspended: a person must look".into()),
        PublicEventKind::Resumed => (PLAIN, '▶', "", "resumed".into()),
        PublicEventKind::Intervened { command, branch, reason } => {
            let branch = branch.as_ref().map_or("", |branch| branch.as_str());
            (PLAIN, '☞', branch, with_reason(&format!("an operator's {command}"), reason.as_deref()))
        }
        PublicEventKind::Adopted => (DIM, '⇢', "", "taken over".into()),
        PublicEventKind::Settled { status, .. } => {
            (status_style(*status).bold(), '■', "", format!("settled: {status}"))
        }
    }
}

fn done(operation: OperationKind) -> &'static str {
    match operation {
        OperationKind::Action => "done",
        OperationKind::Try => "tried",
        OperationKind::Confirm => "confirmed",
        OperationKind::Compensate => "compensated",
        OperationKind::Cancel => "cancelled",
        OperationKind::Status => "asked",
    }
}

pub(crate) fn error_text(error: &ErrorView) -> String {
    match &error.message {
        Some(message) => format!("{}: {message}", error.code),
        None => error.code.clone(),
    }
}

fn with_reason(text: &str, reason: Option<&str>) -> String {
    reason.map_or_else(|| text.to_owned(), |reason| format!("{text}: {reason}"))
}

pub(crate) fn awaited(one: Option<&String>, several: &[String]) -> String {
    match (one, several) {
        (Some(name), _) => format!("for the signal {name} "),
        (None, []) => String::new(),
        (None, several) => format!("for the first signal of {} ", several.join(", ")),
    }
}
