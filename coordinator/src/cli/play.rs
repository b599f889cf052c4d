//! What `simulate` and `explore` are given: a definition, an input, participants' answers.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use serde_json::Value;
use skald_engine::{
    definition::{self, Library, position},
    simulate::{Answers, Flaw, Signal, Stage, pointer, sample},
};
use skald_protocol::{Fault, Json, parse_duration};

use super::{
    Error,
    diagnose::{Finding, Weight, findings, of_coordinator},
    output::{Format, Output},
    tx::{json, read},
};

#[derive(Debug, Args)]
pub(super) struct Given {
    /// A definition as a JSON file; `-` reads stdin.
    file: PathBuf,
    /// The input, as JSON or @FILE [default: a small one, made from the definition's `input` schema].
    #[arg(long, value_name = "JSON")]
    input: Option<String>,
    /// What expressions read as `config`, as JSON or @FILE.
    #[arg(long, value_name = "JSON")]
    config: Option<String>,
    /// Another definition, which this one includes.
    #[arg(long = "with", value_name = "FILE")]
    others: Vec<PathBuf>,
    /// What participants answer: JSON of step → operation → answer (or a list of them, the last repeats), an answer being
    /// `{status, headers, body, delay, callback: {outcome, output, error, after}}` [default: 200 with a made body].
    /// As JSON or @FILE.
    #[arg(long, value_name = "JSON")]
    answers: Option<String>,
    /// A signal that comes from outside so long after the begin; one that a step waits for comes anyway, in a while.
    #[arg(long = "signal", value_name = "NAME[=JSON][@DELAY]", value_parser = signal)]
    signals: Vec<Signal>,
    /// Participants execute whatever arrives, instead of having the barrier.
    #[arg(long)]
    without_barrier: bool,
    /// The same as `--output json`.
    #[arg(long)]
    json: bool,
}

/// `approval={"by": "ann"}@5s`
fn signal(text: &str) -> Result<Signal, String> {
    // A payload may hold an @ itself.
    let delayed = text.rsplit_once('@').and_then(|(text, delay)| Some((text, parse_duration(delay).ok()?)));
    let (text, after) = delayed.unwrap_or((text, Duration::ZERO));
    let (name, payload) = match text.split_once('=') {
        Some((name, payload)) => {
            let json = Json::from_text(payload.to_owned());
            (name, Some(json.map_err(|error| format!("the payload of `{name}` is not JSON: {error}"))?))
        }
        None => (text, None),
    };
    Ok(Signal { name: name.to_owned(), payload, after })
}

/// A definition that can be played.
pub(super) struct Scene {
    pub(super) file: String,
    text: String,
    definition: Value,
    pub(super) name: String,
    pub(super) stage: Stage,
    /// The input was made here.
    pub(super) made: bool,
}

impl Given {
    pub(super) fn output(&self, output: &Output) -> Output {
        Output::new(if self.json { Format::Json } else { output.format })
    }

    pub(super) fn scene(self) -> Result<Scene, Error> {
        let file = self.file.display().to_string();
        let text = read(&self.file)?;
        let library = library(&self.others)?;
        let compiled = definition::compile_with(&text, &library).map_err(|faults| {
            let count = faults.len();
            for finding in findings(&file, &text, Weight::Fault, faults) {
                anstream::eprintln!("{}", finding.render());
            }
            let counted = if count == 1 { "a fault".to_owned() } else { format!("{count} faults") };
            Error::Usage(format!("{file} has {counted}: nothing can be played"))
        })?;
        let definition: Value = serde_json::from_str(&text).unwrap_or_default();
        let made = self.input.is_none();
        let input = match &self.input {
            Some(input) => Some(json("--input", input)?),
            None => definition.get("input").map(sample).map(Json::from),
        };
        if let (Some(schema), Some(input)) = (&compiled.input, &input) {
            schema.check(&skald_engine::Value::of(input).unwrap_or_default()).map_err(|faults| {
                let told = faults.iter().map(|fault| format!("\n  {}: {}", fault.pointer, fault.message));
                let told: String = told.collect();
                Error::Usage(if made {
                    format!("no input could be made from the definition's `input` schema: give one with --input{told}")
                } else {
                    format!("the input is not what the definition's schema asks for:{told}")
                })
            })?;
        }
        let answers = match &self.answers {
            None => Answers::made(&compiled.plan),
            Some(answers) => Answers::scripted(&compiled.plan, &json("--answers", answers)?)
                .map_err(|error| Error::Usage(format!("--answers: {error}")))?,
        };
        let name = compiled.plan.workflow.as_ref().map(|workflow| format!("{} {}", workflow.name, workflow.version));
        let mut stage = Stage::new(Arc::new(compiled.plan), input, answers);
        stage.config = self.config.as_deref().map(|config| json("--config", config)).transpose()?;
        stage.signals = self.signals;
        let stage = if self.without_barrier { stage.without_barrier() } else { stage };
        Ok(Scene { file, text, definition, name: name.unwrap_or_default(), stage, made })
    }
}

/// What a definition may include.
pub(super) fn library(files: &[PathBuf]) -> Result<Library, Error> {
    let mut library = Library::default();
    for path in files {
        library.add(&read(path)?);
    }
    Ok(library)
}

impl Scene {
    /// The flaw at its place in the file.
    pub(super) fn finding(&self, flaw: &Flaw) -> Finding {
        let pointer = flaw.branch.as_ref().and_then(|branch| pointer(&self.definition, branch, flaw.operation));
        let pointer = pointer.unwrap_or_default();
        let place = position(&self.text, &pointer);
        let fault = Fault {
            pointer,
            message: flaw.what.clone(),
            code: None,
            line: Some(place.line),
            column: Some(place.column),
            help: flaw.help.map(str::to_owned),
        };
        // Counted in the whole text; a coordinator's faults count from the definition's first letter on.
        let mut findings = of_coordinator(&self.file, self.text.trim_start(), Weight::Fault, [fault]);
        findings.pop().unwrap_or_else(|| unreachable!("one fault, one finding"))
    }
}
