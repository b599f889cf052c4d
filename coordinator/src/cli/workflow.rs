//! `skald workflow …`: what is done with definitions, at the desk and with a coordinator.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use skald_engine::{
    definition::{self, Code, Library},
    graph::{Form, graph},
};
use skald_protocol::{Json, PublishedView};
use skald_sdk::{Client, Publication};

use super::{
    Error, Exit,
    diagnose::{Finding, Weight, findings, of_coordinator},
    explore::Explore,
    output::{Format, Output},
    remote::{Named, Remote, named},
    show,
    simulate::Simulate,
    tx::read,
};
use crate::terminal::table;

#[derive(Debug, Args)]
pub(super) struct Workflow {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Prove definitions without a coordinator: every fault at once; exit code 1 if there is one.
    Check {
        /// Definitions as JSON files; `-` reads stdin.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Run one transaction of a definition on a virtual clock with scripted participants, and tell it. No server is needed.
    ///
    /// Exit code: 0 where it settled as succeeded or compensated, 4 where it did not, 2 where nothing could be played.
    Simulate(Simulate),
    /// Strike a definition with every single fault at every call, crash the coordinator at every write, and judge each end
    /// by the participants' ledgers. No server is needed.
    ///
    /// Exit code: 0 where every end is fully done or fully undone (or waits for an operator, where only one can help), 1
    /// with bad ends, 2 where nothing could be played.
    Explore(Explore),
    /// Say what a code of the compiler means and what to do about it; without one, all of them.
    Explain {
        /// Such as E110.
        code: Option<String>,
    },
    /// Print the JSON Schema (2020-12) of the language, for editors.
    Schema,
    /// Draw a definition: as a Mermaid flowchart, or for Graphviz. No server is needed.
    Graph {
        /// A definition as a JSON file; `-` reads stdin.
        file: PathBuf,
        /// Another definition, which this one includes.
        #[arg(long = "with", value_name = "FILE")]
        others: Vec<PathBuf>,
        /// Graphviz's language instead of Mermaid.
        #[arg(long)]
        dot: bool,
    },
    /// Publish definitions, each under the name and version that it states. Publishing one again changes nothing.
    Publish {
        /// Definitions as JSON files; `-` reads stdin.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// List the published workflows, or the versions of one.
    List {
        name: Option<String>,
        #[arg(long)]
        limit: Option<usize>,
        /// Goes on where the page before ended.
        #[arg(long)]
        cursor: Option<String>,
    },
    /// Show a published definition: the latest, or that of a version.
    Show {
        #[arg(value_name = "NAME[@VERSION]", value_parser = named)]
        workflow: Named,
    },
}

impl Workflow {
    pub(super) async fn run(self, output: &Output) -> Result<Exit, Error> {
        match self.verb {
            Verb::Check { files } => check(&files, output),
            Verb::Graph { file, others, dot } => draw(&file, &others, dot, output),
            Verb::Simulate(simulate) => simulate.run(output),
            Verb::Explore(explore) => explore.run(output),
            Verb::Explain { code } => explain(code.as_deref(), output),
            Verb::Schema => {
                output.line(&format!("{:#}", definition::language_schema()))?;
                Ok(Exit::Done)
            }
            Verb::Publish { files } => publish(&self.remote.client()?, &files, output).await,
            Verb::List { name, limit, cursor } => {
                let client = self.remote.client()?;
                let page = match name {
                    Some(name) => client.versions(&name, limit, cursor.as_deref()).await?,
                    None => client.workflows(limit, cursor.as_deref()).await?,
                };
                show::workflows(output, &page)?;
                Ok(Exit::Done)
            }
            Verb::Show { workflow: Named { name, version } } => {
                let client = self.remote.client()?;
                show::published(output, &client.workflow(&name, version.as_deref()).await?)?;
                Ok(Exit::Done)
            }
        }
    }
}

#[derive(Serialize)]
struct Explained {
    code: &'static str,
    title: &'static str,
    remedy: &'static str,
}

fn explain(code: Option<&str>, output: &Output) -> Result<Exit, Error> {
    let is_asked = |known: &&Code| code.is_none_or(|code| known.as_str().eq_ignore_ascii_case(code));
    let explained = |code: &Code| Explained { code: code.as_str(), title: code.title(), remedy: code.remedy() };
    let found: Vec<_> = Code::ALL.iter().filter(is_asked).map(explained).collect();
    if let (Some(code), true) = (code, found.is_empty()) {
        return Err(Error::Usage(format!(
            "`{code}` is no code of the compiler: `skald workflow explain` lists them all"
        )));
    }
    output.put(&found, || {
        let rows = found.iter().map(|code| [code.code, code.title, code.remedy].map(str::to_owned));
        table(["CODE", "WHAT", "WHAT TO DO"], rows)
    })?;
    Ok(Exit::Done)
}

fn check(files: &[PathBuf], output: &Output) -> Result<Exit, Error> {
    let mut all = Vec::new();
    let mut unread = 0;
    let library = library(files);
    for path in files {
        let file = path.display().to_string();
        match read(path) {
            Ok(text) => match definition::compile_with(&text, &library) {
                Ok(compiled) => all.extend(findings(&file, &text, Weight::Warning, compiled.warnings)),
                Err(faults) => all.extend(findings(&file, &text, Weight::Fault, faults)),
            },
            Err(error) => {
                unread += 1;
                print_error(&error);
            }
        }
    }
    match output.format {
        Format::Json => output.put(&all, String::new)?,
        Format::Table => {
            for finding in &all {
                output.line(&finding.render())?;
            }
        }
    }
    let count = |weight| all.iter().filter(|finding| finding.weight == weight).count();
    let (faults, warnings) = (count(Weight::Fault), count(Weight::Warning));
    let counted = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    anstream::eprintln!(
        "{}: {}, {}",
        counted(files.len() - unread, "definition"),
        counted(faults, "fault"),
        counted(warnings, "warning")
    );
    Ok(if faults + unread > 0 { Exit::Faulty } else { Exit::Done })
}

/// What the files may include of each other.
fn library(files: &[PathBuf]) -> Library {
    let mut library = Library::default();
    files.iter().filter_map(|path| read(path).ok()).for_each(|text| library.add(&text));
    library
}

fn draw(path: &Path, others: &[PathBuf], dot: bool, output: &Output) -> Result<Exit, Error> {
    let text = read(path)?;
    let plan = match definition::compile_with(&text, &super::play::library(others)?) {
        Ok(compiled) => compiled.plan,
        Err(faults) => {
            print_findings(&findings(&path.display().to_string(), &text, Weight::Fault, faults));
            return Ok(Exit::Faulty);
        }
    };
    output.line(graph(&plan, None, if dot { Form::Dot } else { Form::Mermaid }).trim_end())?;
    Ok(Exit::Done)
}

#[derive(Debug, Serialize)]
struct Line<'f> {
    file: &'f str,
    result: &'static str,
    #[serde(flatten)]
    view: PublishedView,
}

/// What a definition must state for an address to be made of it.
#[derive(Deserialize)]
struct Stated {
    name: String,
    version: String,
}

impl Stated {
    /// Dots would be steps in a path.
    fn is_addressable(&self) -> bool {
        [&self.name, &self.version].iter().all(|text| !matches!(text.as_str(), "" | "." | ".."))
    }
}

enum Sent {
    Published(&'static str, PublishedView),
    Refused,
}

/// One after the other, each by itself: a fault in one does not keep the others back.
async fn publish(client: &Client, files: &[PathBuf], output: &Output) -> Result<Exit, Error> {
    let names: Vec<_> = files.iter().map(|path| path.display().to_string()).collect();
    let mut published = Vec::new();
    for (path, file) in files.iter().zip(&names) {
        match publish_one(client, path, file).await {
            Ok(Sent::Published(result, view)) => published.push(Line { file, result, view }),
            Ok(Sent::Refused) => {}
            // No coordinator for one of them is none for the rest.
            Err(error @ Error::Client(_)) if published.is_empty() => return Err(error),
            Err(error) => print_error(&error),
        }
    }
    output.put(&published, || {
        let rows = published.iter().map(|Line { file, result, view }| {
            [view.name.clone(), view.version.clone(), (*result).to_owned(), (*file).to_owned()]
        });
        table(["NAME", "VERSION", "RESULT", "FILE"], rows)
    })?;
    Ok(if published.len() < files.len() { Exit::Faulty } else { Exit::Done })
}

async fn publish_one(client: &Client, path: &Path, file: &str) -> Result<Sent, Error> {
    let text = read(path)?;
    let stated = serde_json::from_str::<Stated>(&text).ok().filter(Stated::is_addressable);
    let (Some(stated), Ok(definition)) = (stated, Json::from_text(text.clone())) else {
        let faults = definition::compile(&text).err().unwrap_or_default();
        print_findings(&findings(file, &text, Weight::Fault, faults));
        return Ok(Sent::Refused);
    };
    let (result, view) = match client.publish(&stated.name, &stated.version, &definition).await {
        Ok(Publication::New(view)) => ("published", view),
        Ok(Publication::Unchanged(view)) => ("unchanged", view),
        Err(error @ (skald_sdk::Error::Rejected(_) | skald_sdk::Error::Conflict(_))) => {
            let faults = error.problem().map(|problem| problem.errors.clone()).unwrap_or_default();
            if faults.is_empty() {
                anstream::eprintln!("error: {file}: {error}");
            }
            print_findings(&of_coordinator(file, &text, Weight::Fault, faults));
            return Ok(Sent::Refused);
        }
        Err(error) => return Err(error.into()),
    };
    print_findings(&of_coordinator(file, &text, Weight::Warning, view.warnings.iter().cloned()));
    Ok(Sent::Published(result, view))
}

fn print_findings(findings: &[Finding]) {
    for finding in findings {
        anstream::eprintln!("{}", finding.render());
    }
}

fn print_error(error: &Error) {
    anstream::eprintln!("error: {}", super::chain(error));
}
