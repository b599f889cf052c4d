//! `skald workflow explore`: every single fault, and whether the transaction still ends fully done or fully undone.

use std::{
    collections::BTreeMap,
    fmt::Write,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use clap::Args;
use serde::Serialize;
use skald_engine::simulate::{End, Flaw, InjectedFault, Scenarios, Strike, Verdict, diagram, explore, judge};

use super::{
    Error, Exit,
    output::{Format, Output},
    play::{Given, Scene},
};
use crate::terminal::table;

/// Counter-examples that are drawn on the terminal; the rest is told in a line each.
const DRAWN: usize = 5;

#[derive(Debug, Args)]
pub(super) struct Explore {
    #[command(flatten)]
    given: Given,
    /// Strike twice: after each single fault every other one as well. Some hundred times as many runs.
    #[arg(long)]
    pairs: bool,
    /// Write the counter-examples' sequence diagrams (Mermaid) into this folder.
    #[arg(long, value_name = "DIR")]
    diagrams: Option<PathBuf>,
    /// A row for every run, instead of for every kind of fault.
    #[arg(long)]
    each: bool,
}

/// One run, judged.
struct Explored {
    faults: Vec<InjectedFault>,
    verdict: Verdict,
}

/// Runs that end badly in the same way.
struct CounterExample<'e> {
    first: &'e Explored,
    others: Vec<&'e Explored>,
}

impl Explore {
    pub(super) fn run(self, output: &Output) -> Result<Exit, Error> {
        let output = self.given.output(output);
        let scene = self.given.scene()?;
        let began = Instant::now();
        let Scenarios { good, list, unreached, left_out, .. } = explore(&scene.stage, self.pairs);
        let fair = Explored { verdict: judge(&scene.stage, &[], &good), faults: Vec::new() };
        let mut explored = vec![fair];
        explored.extend(judged(&scene, list));
        let took = began.elapsed();
        let examples = examples(&explored);
        if let Some(folder) = &self.diagrams {
            draw_all(&scene, &explored, folder)?;
        }
        match output.format {
            Format::Json => {
                output.put(&report(&scene, &explored, &examples, (&unreached, &left_out), took), String::new)?
            }
            Format::Table => {
                print_input(&scene, &unreached);
                left_out.iter().for_each(|left_out| anstream::eprintln!("{left_out}"));
                output.line(&if self.each { each(&explored) } else { grouped(&explored) })?;
                print_suspended(&output, &explored)?;
                for (index, example) in examples.iter().enumerate() {
                    print_example(&output, &scene, example, index, examples.len())?;
                }
                output.line(&summary(&explored, examples.len()))?;
                anstream::eprintln!("{}", pace(explored.len(), took));
            }
        }
        let bad = explored.iter().any(|run| run.verdict.end == End::Bad);
        Ok(if bad { Exit::Faulty } else { Exit::Done })
    }
}

/// Plays every scenario, on as many threads as the machine has.
fn judged(scene: &Scene, list: Vec<Vec<InjectedFault>>) -> Vec<Explored> {
    let bar = indicatif::ProgressBar::new(u64::try_from(list.len()).unwrap_or(u64::MAX));
    if let Ok(style) = indicatif::ProgressStyle::with_template("{bar:30} {pos}/{len} faults, {eta} left") {
        bar.set_style(style);
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(16);
    let next = AtomicUsize::new(0);
    let mut verdicts: Vec<(usize, Verdict)> = std::thread::scope(|scope| {
        let work = || {
            let mut verdicts = Vec::new();
            while let Some((index, faults)) = {
                let index = next.fetch_add(1, Ordering::Relaxed);
                list.get(index).map(|faults| (index, faults))
            } {
                let run = scene.stage.play(faults);
                verdicts.push((index, judge(&scene.stage, faults, &run)));
                bar.inc(1);
            }
            verdicts
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    bar.finish_and_clear();
    verdicts.sort_by_key(|(index, _)| *index);
    list.into_iter().zip(verdicts).map(|(faults, (_, verdict))| Explored { faults, verdict }).collect()
}

/// The same flaws of the same branches are one counter-example; one with few faults and a visible effect stands for it.
fn examples(explored: &[Explored]) -> Vec<CounterExample<'_>> {
    let mut found: Vec<CounterExample<'_>> = Vec::new();
    let mut known: BTreeMap<Vec<(Option<&str>, &str)>, usize> = BTreeMap::new();
    for run in explored.iter().filter(|run| run.verdict.end == End::Bad) {
        let key: Vec<_> = run.verdict.flaws.iter().map(|flaw| (flaw.branch.as_deref(), shape(&flaw.what))).collect();
        match known.get(&key) {
            Some(index) => {
                let example = &mut found[*index];
                let other = if plainness(run) < plainness(example.first) {
                    std::mem::replace(&mut example.first, run)
                } else {
                    run
                };
                example.others.push(other);
            }
            None => {
                known.insert(key, found.len());
                found.push(CounterExample { first: run, others: Vec::new() });
            }
        }
    }
    found
}

fn plainness(run: &Explored) -> (usize, bool) {
    let nothing = run.verdict.remarks.iter().any(|remark| remark.ends_with("at the end: nothing"));
    (run.faults.len(), nothing)
}

/// Without what differs from run to run.
fn shape(what: &str) -> &str {
    what.split(" (").next().unwrap_or(what)
}

fn print_input(scene: &Scene, unreached: &[String]) {
    if let Some(input) = &scene.stage.input {
        let made = if scene.made { " (made from the definition's schema; --input gives another)" } else { "" };
        anstream::eprintln!("input{made}: {}", input.text());
    }
    if !unreached.is_empty() {
        anstream::eprintln!("not called with this input, so not explored: {}", unreached.join(", "));
    }
}

/// The fault that is looked at: the last, but for an answer that only an abort shows to be lacking.
fn title(run: &Explored) -> String {
    let lacking =
        |fault: &&InjectedFault| matches!(fault, InjectedFault::Strike { strike: Strike::Bare | Strike::NotJson, .. });
    let fault = run.faults.first().filter(lacking).or(run.faults.last());
    fault.map_or_else(|| "none".to_owned(), |fault| fault.title().to_owned())
}

fn subject(run: &Explored) -> String {
    let subjects: Vec<_> = run.faults.iter().rev().map(InjectedFault::subject).collect();
    match subjects.as_slice() {
        [] => "-".to_owned(),
        [one] => one.clone(),
        [one, first, ..] => format!("{one} (after {first} {})", run.faults[0].title()),
    }
}

/// A row for every kind of fault.
fn grouped(explored: &[Explored]) -> String {
    let mut kinds: Vec<(String, BTreeMap<End, usize>)> = Vec::new();
    for run in explored {
        let title = title(run);
        let index = kinds.iter().position(|(kind, _)| *kind == title).unwrap_or_else(|| {
            kinds.push((title, BTreeMap::new()));
            kinds.len() - 1
        });
        *kinds[index].1.entry(run.verdict.end).or_default() += 1;
    }
    kinds.sort_by_key(|(kind, _)| InjectedFault::rank(kind));
    let rows = kinds.into_iter().map(|(kind, ends)| {
        let count = |end| ends.get(&end).map_or_else(String::new, usize::to_string);
        let all: usize = ends.values().sum();
        [kind, all.to_string(), count(End::Done), count(End::Undone), count(End::Operator), count(End::Bad)]
    });
    table(["FAULT", "RUNS", "DONE", "UNDONE", "OPERATOR", "BAD"], rows)
}

fn each(explored: &[Explored]) -> String {
    let rows = explored.iter().map(|run| [title(run), subject(run), end(run.verdict.end).to_owned()]);
    table(["FAULT", "STRIKES", "END"], rows)
}

const fn end(end: End) -> &'static str {
    match end {
        End::Done => "fully done",
        End::Undone => "fully undone",
        End::Operator => "waits for an operator",
        End::Bad => "BAD",
    }
}

/// Nothing but a person ends these, whatever the definition says.
fn print_suspended(output: &Output, explored: &[Explored]) -> Result<(), Error> {
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for run in explored.iter().filter(|run| run.verdict.end == End::Operator) {
        for remark in &run.verdict.remarks {
            *reasons.entry(remark).or_default() += 1;
        }
    }
    for (reason, count) in reasons {
        output.line(&format!("{reason} ({count})"))?;
    }
    Ok(())
}

fn sentence(run: &Explored) -> String {
    let faults: Vec<_> = run.faults.iter().map(ToString::to_string).collect();
    match faults.as_slice() {
        [] => "Without any fault".to_owned(),
        faults => format!("When {}", faults.join(", and then ")),
    }
}

fn what(run: &Explored) -> String {
    let flaws: Vec<_> = run.verdict.flaws.iter().map(|flaw| flaw.what.clone()).collect();
    format!("{}: {}.", sentence(run), flaws.join("; "))
}

fn print_example(
    output: &Output,
    scene: &Scene,
    example: &CounterExample<'_>,
    index: usize,
    of: usize,
) -> Result<(), Error> {
    let run = example.first;
    output.line(&format!("\ncounter-example {} of {of}: {}", index + 1, what(run)))?;
    for remark in &run.verdict.remarks {
        output.line(&format!("  {remark}"))?;
    }
    for flaw in &run.verdict.flaws {
        output.line(scene.finding(flaw).render().trim_end())?;
    }
    if !example.others.is_empty() {
        output.line("the same:")?;
        for other in example.others.iter().take(DRAWN) {
            output.line(&format!("  {}", sentence(other)))?;
        }
        if example.others.len() > DRAWN {
            output.line(&format!("  and {} more", example.others.len() - DRAWN))?;
        }
    }
    if index < DRAWN {
        output.line(&format!("\n{}", drawing(scene, run)))?;
    }
    Ok(())
}

fn drawing(scene: &Scene, run: &Explored) -> String {
    diagram(&what(run), &scene.stage.play_recorded(&run.faults).timeline)
}

/// A file for every bad end, numbered as they were found.
fn draw_all(scene: &Scene, explored: &[Explored], folder: &Path) -> Result<(), Error> {
    let failed = |path: &Path| {
        let what = path.display().to_string();
        move |source| Error::Io { what, source }
    };
    std::fs::create_dir_all(folder).map_err(failed(folder))?;
    let bad = explored.iter().filter(|run| run.verdict.end == End::Bad);
    for (index, run) in bad.enumerate() {
        let path = folder.join(format!("{:04}-{}.mmd", index + 1, file_name(run)));
        std::fs::write(&path, drawing(scene, run)).map_err(failed(&path))?;
    }
    Ok(())
}

fn file_name(run: &Explored) -> String {
    let mut name = String::new();
    for letter in
        format!("{} {}", run.faults.last().map_or_else(String::new, InjectedFault::subject), title(run)).chars()
    {
        match letter {
            letter if letter.is_ascii_alphanumeric() => name.push(letter),
            _ if name.ends_with('-') || name.is_empty() => {}
            _ => name.push('-'),
        }
    }
    name.trim_end_matches('-').chars().take(80).collect()
}

fn summary(explored: &[Explored], examples: usize) -> String {
    let bad = explored.iter().filter(|run| run.verdict.end == End::Bad).count();
    let mut text = format!("\n{} faults explored, {bad} bad ends", explored.len() - 1);
    if bad > 0 {
        write!(text, " ({examples} counter-example{})", if examples == 1 { "" } else { "s" })
            .expect("a String takes text");
    }
    text
}

fn pace(runs: usize, took: Duration) -> String {
    let seconds = took.as_secs_f64().max(0.001);
    #[allow(clippy::cast_precision_loss, reason = "a pace, rounded anyway")]
    let pace = runs as f64 / seconds;
    format!("{runs} runs in {seconds:.1} s, {pace:.0} a second")
}

#[derive(Serialize)]
struct Report<'r> {
    workflow: &'r str,
    barrier: bool,
    input: Option<&'r skald_protocol::Json>,
    faults: usize,
    bad_ends: usize,
    ends: BTreeMap<End, usize>,
    not_called: &'r [String],
    left_out: &'r [String],
    seconds: f64,
    runs: Vec<ReportedRun<'r>>,
    counter_examples: Vec<ReportedExample>,
}

#[derive(Serialize)]
struct ReportedRun<'r> {
    faults: Vec<String>,
    kind: String,
    end: End,
    status: skald_protocol::Status,
    remarks: &'r [String],
}

#[derive(Serialize)]
struct ReportedExample {
    what: String,
    faults: Vec<String>,
    flaws: Vec<ReportedFlaw>,
    /// How many other faults end in the same way.
    others: usize,
    diagram: String,
}

#[derive(Serialize)]
struct ReportedFlaw {
    #[serde(flatten)]
    flaw: Flaw,
    pointer: String,
    line: usize,
    column: usize,
}

fn report<'r>(
    scene: &'r Scene,
    explored: &'r [Explored],
    examples: &[CounterExample<'r>],
    (not_called, left_out): (&'r [String], &'r [String]),
    took: Duration,
) -> Report<'r> {
    let mut ends = BTreeMap::new();
    for run in explored.iter().skip(1) {
        *ends.entry(run.verdict.end).or_default() += 1;
    }
    let sentences = |run: &Explored| run.faults.iter().map(ToString::to_string).collect::<Vec<_>>();
    let runs = explored.iter().map(|run| ReportedRun {
        faults: sentences(run),
        kind: title(run),
        end: run.verdict.end,
        status: run.verdict.status,
        remarks: &run.verdict.remarks,
    });
    let counter_examples = examples.iter().map(|example| ReportedExample {
        what: what(example.first),
        faults: sentences(example.first),
        flaws: example.first.verdict.flaws.iter().map(|flaw| reported(scene, flaw)).collect(),
        others: example.others.len(),
        diagram: drawing(scene, example.first),
    });
    Report {
        workflow: &scene.name,
        barrier: scene.stage.barrier,
        input: scene.stage.input.as_ref(),
        faults: explored.len() - 1,
        bad_ends: explored.iter().filter(|run| run.verdict.end == End::Bad).count(),
        ends,
        not_called,
        left_out,
        seconds: took.as_secs_f64(),
        runs: runs.collect(),
        counter_examples: counter_examples.collect(),
    }
}

fn reported(scene: &Scene, flaw: &Flaw) -> ReportedFlaw {
    let finding = scene.finding(flaw);
    ReportedFlaw { flaw: flaw.clone(), pointer: finding.pointer, line: finding.line, column: finding.column }
}
