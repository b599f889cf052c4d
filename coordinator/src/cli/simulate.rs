//! `skald workflow simulate`: one transaction on a virtual clock, told as it happens.

use anstyle::{AnsiColor, Color, Style};
use clap::Args;
use serde::Serialize;
use skald_engine::{
    simulate::{End, How, InjectedFault, Strike, TimelineEntry, Verdict, What, condensed, judge, named},
    text::shortened,
};
use skald_protocol::{CallOutcome, Json, OperationKind, Status, Timestamp, TransactionView};

use super::{
    Error, Exit,
    output::{Format, Output},
    play::{Given, Scene},
};
use crate::terminal::timeline;

const DIM: Style = Style::new().dimmed();
const BAD: Style = Style::new().fg_color(Some(Color::Ansi(AnsiColor::Red)));
/// Of a body in a line.
const SHOWN: usize = 72;

#[derive(Debug, Args)]
pub(super) struct Simulate {
    #[command(flatten)]
    given: Given,
    /// What goes wrong: `pay=timeout`, `pay:compensate=refused`, `pay:action#2=unsent`; may be given more than once.
    #[arg(long = "fail", value_name = "STEP[:OPERATION][#ATTEMPT]=WHAT", value_parser = failing)]
    fail: Vec<Failing>,
}

/// One `--fail`, before the definition is known.
#[derive(Debug, Clone)]
struct Failing {
    step: String,
    operation: Option<OperationKind>,
    attempt: u32,
    strike: Strike,
}

fn failing(text: &str) -> Result<Failing, String> {
    let (at, strike) = text.split_once('=').ok_or("write STEP=WHAT, such as pay=timeout")?;
    let (at, attempt) = match at.split_once('#') {
        Some((at, attempt)) => (at, attempt.parse().map_err(|_| format!("`{attempt}` is no number of an attempt"))?),
        None => (at, 1),
    };
    let (step, operation) = match at.split_once(':') {
        Some((step, operation)) => (step, Some(operation.parse()?)),
        None => (at, None),
    };
    Ok(Failing { step: step.to_owned(), operation, attempt, strike: strike.parse()? })
}

#[derive(Serialize)]
struct Report<'t> {
    end: End,
    input: Option<&'t Json>,
    input_was_made: bool,
    verdict: &'t Verdict,
    transaction: &'t TransactionView,
    timeline: &'t [TimelineEntry],
}

impl Simulate {
    pub(super) fn run(self, output: &Output) -> Result<Exit, Error> {
        let output = self.given.output(output);
        let scene = self.given.scene()?;
        let faults: Vec<InjectedFault> = self.fail.iter().map(|fail| fail.fault(&scene)).collect::<Result<_, _>>()?;
        let run = scene.stage.play_recorded(&faults);
        let verdict = judge(&scene.stage, &faults, &run);
        let timeline = condensed(run.timeline);
        match output.format {
            Format::Json => {
                let told = Report {
                    end: verdict.end,
                    input: scene.stage.input.as_ref(),
                    input_was_made: scene.made,
                    verdict: &verdict,
                    transaction: &run.view,
                    timeline: &timeline,
                };
                output.put(&told, String::new)?;
            }
            Format::Table => {
                if let Some(input) = &scene.stage.input {
                    let made =
                        if scene.made { " (made from the definition's schema; --input gives another)" } else { "" };
                    anstream::eprintln!("input{made}: {}", input.text());
                }
                for entry in &timeline {
                    output.line(&line(entry))?;
                }
                print_end(&output, &scene, &verdict, &run.view, run.took)?;
            }
        }
        let settled = matches!(run.status, Status::Succeeded | Status::Compensated);
        Ok(if settled { Exit::Done } else { Exit::Unsuccessful })
    }
}

impl Failing {
    fn fault(&self, scene: &Scene) -> Result<InjectedFault, Error> {
        let Self { step, operation, attempt, strike } = self.clone();
        let branch = named(&scene.stage.plan, &step);
        let branch = branch.ok_or_else(|| Error::Usage(format!("--fail: there is no step `{step}`")))?;
        let operation = match operation {
            Some(operation) if branch.operation(operation).is_some() => operation,
            Some(operation) => {
                return Err(Error::Usage(format!("--fail: the step `{step}` has no operation `{operation}`")));
            }
            None => match &branch.forward {
                Some(forward) => forward.kind,
                None => return Err(Error::Usage(format!("--fail: the step `{step}` calls nobody"))),
            },
        };
        Ok(InjectedFault::Strike { branch: step, operation, ask: false, attempt, strike })
    }
}

fn print_end(
    output: &Output,
    scene: &Scene,
    verdict: &Verdict,
    view: &TransactionView,
    took: std::time::Duration,
) -> Result<(), Error> {
    let end = match verdict.end {
        End::Done => "fully done",
        End::Undone => "fully undone",
        End::Operator => "waits for an operator",
        End::Bad => "neither fully done nor fully undone",
    };
    let (style, status) = (timeline::status_style(view.status), view.status);
    output.line(&format!("\n{style}{status}{style:#} after {}: {end}", span(took)))?;
    if let Some(answer) = &view.output {
        output.line(&format!("output: {}", answer.text()))?;
    }
    if let Some(error) = &view.error {
        output.line(&format!("error: {}", timeline::error_text(error)))?;
    }
    for remark in &verdict.remarks {
        output.line(remark)?;
    }
    for flaw in &verdict.flaws {
        output.line(&scene.finding(flaw).render())?;
    }
    Ok(())
}

fn line(entry: &TimelineEntry) -> String {
    let after = std::time::Duration::from_millis(entry.at_ms).as_secs_f64();
    let at = format!("{DIM}{after:>8.3}s{DIM:#}");
    match &entry.what {
        What::Event { event } => {
            let ms = i64::try_from(entry.at_ms).unwrap_or(i64::MAX);
            timeline::line(event, Timestamp(event.at.0.saturating_sub(ms)))
        }
        What::Call { of, service, method, target, body } => {
            let ask = if of.ask { " status_check" } else { "" };
            let again = if of.attempt > 1 { format!(" #{}", of.attempt) } else { String::new() };
            let body =
                body.as_ref().map(|body| format!(" {DIM}{}{DIM:#}", shortened(body.text(), SHOWN))).unwrap_or_default();
            format!(
                "{at}  → {:<14} {}{ask}{again}: {method} {service} {target}{body}",
                of.branch.as_str(),
                of.operation
            )
        }
        What::Arrival { of, how, late, .. } => {
            let late = if *late { ", nobody waits for its answer" } else { "" };
            format!("{at}  {DIM}• {:<14} {} {}{late}{DIM:#}", of.branch.as_str(), of.operation, taken(*how))
        }
        What::Answer { of, outcome, status, error, body, .. } => {
            let status = status.map(|status| format!("{status} ")).unwrap_or_default();
            let error = error.as_ref().map(|error| match &error.message {
                Some(message) => format!("{}: {message}", error.code),
                None => error.code.clone(),
            });
            let said = match (error, body) {
                (Some(error), _) => format!("{outcome} ({error})"),
                (None, Some(body)) => format!("{status}{DIM}{}{DIM:#}", shortened(body.text(), SHOWN)),
                (None, None) => format!("{status}{outcome}"),
            };
            let style = if *outcome == CallOutcome::Succeeded { Style::new() } else { BAD };
            format!("{at}  {style}← {:<14} {} {said}{style:#}", of.branch.as_str(), of.operation)
        }
        What::Unrenderable { of, reason } => {
            format!("{at}  {BAD}✘ {:<14} {} cannot be rendered: {reason}{BAD:#}", of.branch.as_str(), of.operation)
        }
        What::CalledBack { branch, operation, verdict, .. } => {
            let verdict = serde_json::to_value(verdict).unwrap_or_default();
            let verdict = verdict.as_str().unwrap_or_default();
            format!("{at}  ← {:<14} {operation} called back: {verdict}", branch.as_str())
        }
        What::Killed { lost: true } => format!("{at}  {BAD}⚡ the coordinator is killed, its last append lost{BAD:#}"),
        What::Killed { lost: false } => format!("{at}  {BAD}⚡ the coordinator is killed{BAD:#}"),
        What::TakenOver => format!("{at}  ⇢ another coordinator replays the journal"),
        What::Cancelled => format!("{at}  ⏹ a client cancels"),
        What::Resumed => format!("{at}  ▶ an operator resumes"),
        What::More { of, attempts } => {
            format!("{at}  {DIM}… {:<14} {} goes on for {attempts} attempts{DIM:#}", of.branch.as_str(), of.operation)
        }
        What::Signal { name, payload } => {
            let payload =
                payload.as_ref().map(|payload| format!(" {}", shortened(payload.text(), SHOWN))).unwrap_or_default();
            format!("{at}  ⚑ signal {name}{payload}")
        }
        _ => at,
    }
}

const fn taken(how: How) -> &'static str {
    match how {
        How::Executed => "executed",
        How::Stored => "is a repetition: the stored answer",
        How::Empty => "had nothing to undo",
        How::Superseded => "came after its undo: not executed",
        How::Accepted => "accepted",
        How::Refused => "refused",
        How::Failed => "failed",
        How::Asked => "asked about",
    }
}

/// As a person says it: the two largest units.
fn span(time: std::time::Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60) {
        (0, 0, 0) => format!("{:.3} s", time.as_secs_f64()),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}
