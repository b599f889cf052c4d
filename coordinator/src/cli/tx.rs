use std::{
    collections::BTreeMap,
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Subcommand};
use skald_protocol::{
    Begin, BranchId, FailRequest, Gid, Json, PublicEventKind, ResolveRequest, ResolvedOutcome, RetryRequest,
    SkipRequest, Status, Timestamp, TransactionView, parse_duration,
};
use skald_sdk::{Client, ListFilter, Operator};

use super::{
    Error, Exit,
    output::Output,
    remote::{Named, Remote, named},
    show,
};

#[derive(Debug, Args)]
pub(super) struct Tx {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Begin a transaction from a definition or a published workflow, or an open one.
    Begin(BeginVerb),
    /// List transactions, newest first.
    List(ListVerb),
    /// Show a transaction and its branches.
    Show { gid: Gid },
    /// Follow a transaction's events until it settles.
    Watch { gid: Gid },
    /// Commit an open transaction.
    Commit {
        gid: Gid,
        #[command(flatten)]
        wait: Wait,
    },
    /// Cancel: what may have run is undone.
    Cancel {
        gid: Gid,
        #[arg(long)]
        reason: Option<String>,
        #[command(flatten)]
        wait: Wait,
    },
    /// Send a signal that a step waits for, or will.
    Signal {
        gid: Gid,
        name: String,
        /// What expressions read as `signals.<name>`, as JSON or @FILE.
        #[arg(long, value_name = "JSON")]
        payload: Option<String>,
        #[command(flatten)]
        wait: Wait,
    },
    /// Try what failed again now: one branch, or all that wait.
    Retry {
        gid: Gid,
        branch: Option<BranchId>,
        #[command(flatten)]
        dry: Dry,
    },
    /// Treat a stuck operation as done.
    Skip {
        gid: Gid,
        branch: BranchId,
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        dry: Dry,
    },
    /// Give a stuck operation's outcome, as you know it from elsewhere.
    Resolve {
        gid: Gid,
        branch: BranchId,
        #[arg(value_enum)]
        outcome: ResolveAs,
        /// The branch's output, as JSON or @FILE.
        #[arg(long, value_name = "JSON")]
        result: Option<String>,
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        dry: Dry,
    },
    /// End a transaction as `failed`: nothing more is called.
    Fail {
        gid: Gid,
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        dry: Dry,
    },
    /// Let a suspended transaction go on.
    Resume {
        gid: Gid,
        #[command(flatten)]
        dry: Dry,
    },
}

#[derive(Debug, Args)]
struct BeginVerb {
    /// A definition (docs/workflows.md) as a JSON file; `-` reads stdin.
    #[arg(required_unless_present_any = ["open", "workflow"], conflicts_with_all = ["open", "workflow"])]
    definition: Option<PathBuf>,
    /// A published workflow: its latest version, or the one that is named.
    #[arg(long, value_name = "NAME[@VERSION]", value_parser = named, conflicts_with = "open")]
    workflow: Option<Named>,
    /// An open transaction: clients enlist branches into it, then commit or cancel it.
    #[arg(long, requires = "timeout")]
    open: bool,
    /// The input, as JSON or @FILE.
    #[arg(long, value_name = "JSON")]
    input: Option<String>,
    /// Beginning twice with one gid runs once [default: made here].
    #[arg(long)]
    gid: Option<Gid>,
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// After this long without a decision the transaction is cancelled, such as 30s.
    #[arg(long)]
    timeout: Option<String>,
    #[command(flatten)]
    wait: Wait,
}

#[derive(Debug, Args)]
struct ListVerb {
    /// May be said more than once.
    #[arg(long)]
    status: Vec<Status>,
    #[arg(long)]
    workflow: Option<String>,
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// The beginning of the gid.
    #[arg(long)]
    gid: Option<String>,
    #[arg(long, value_name = "TIME")]
    created_after: Option<Timestamp>,
    #[arg(long, value_name = "TIME")]
    created_before: Option<Timestamp>,
    #[arg(long)]
    limit: Option<usize>,
    /// Goes on where the page before ended.
    #[arg(long)]
    cursor: Option<String>,
}

#[derive(Debug, Args)]
struct Wait {
    /// Wait this long for the end, such as 30s.
    #[arg(long, value_parser = parse_duration)]
    wait: Option<Duration>,
}

#[derive(Debug, Args)]
struct Dry {
    /// Only say what would be called.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum ResolveAs {
    Succeeded,
    Refused,
}

impl Tx {
    pub(super) async fn run(self, output: &Output) -> Result<Exit, Error> {
        let client = self.remote.client()?;
        match self.verb {
            Verb::Begin(begin) => begin.run(&client, output).await,
            Verb::List(list) => list.run(&client, output).await,
            Verb::Show { gid } => {
                show::transaction(output, &client.get(&gid).await?)?;
                Ok(Exit::Done)
            }
            Verb::Watch { gid } => watch(&client, &gid, output).await,
            Verb::Commit { gid, wait } => {
                let view = client.commit(&gid, None).await?;
                wait.finish(&client, view, Status::Succeeded, output).await
            }
            Verb::Cancel { gid, reason, wait } => {
                let view = client.cancel(&gid, reason, None).await?;
                wait.finish(&client, view, Status::Compensated, output).await
            }
            Verb::Signal { gid, name, payload, wait } => {
                let payload = payload.map(|text| json("--payload", &text)).transpose()?;
                let view = client.signal(&gid, &name, payload).await?;
                wait.finish(&client, view, Status::Succeeded, output).await
            }
            Verb::Retry { gid, branch, dry } => {
                dry.operate(&client, &gid, &Operator::Retry(RetryRequest { branch }), output).await
            }
            Verb::Skip { gid, branch, reason, dry } => {
                dry.operate(&client, &gid, &Operator::Skip(SkipRequest { branch, reason }), output).await
            }
            Verb::Resolve { gid, branch, outcome, result, reason, dry } => {
                let outcome = match outcome {
                    ResolveAs::Succeeded => ResolvedOutcome::Succeeded,
                    ResolveAs::Refused => ResolvedOutcome::Refused,
                };
                let result = result.map(|text| json("--result", &text)).transpose()?;
                let command = Operator::Resolve(ResolveRequest { branch, outcome, output: result, reason });
                dry.operate(&client, &gid, &command, output).await
            }
            Verb::Fail { gid, reason, dry } => {
                dry.operate(&client, &gid, &Operator::Fail(FailRequest { reason }), output).await
            }
            Verb::Resume { gid, dry } => dry.operate(&client, &gid, &Operator::Resume, output).await,
        }
    }
}

impl BeginVerb {
    async fn run(self, client: &Client, output: &Output) -> Result<Exit, Error> {
        let definition = match &self.definition {
            Some(path) => Some(parse(&path.display().to_string(), read(path)?)?),
            None => None,
        };
        let (workflow, version) = match self.workflow {
            Some(Named { name, version }) => (Some(name), version),
            None => (None, None),
        };
        let begin = Begin {
            gid: self.gid,
            workflow,
            version,
            definition,
            input: self.input.map(|text| json("--input", &text)).transpose()?,
            labels: self.labels.into_iter().collect::<BTreeMap<_, _>>(),
            timeout: self.timeout,
            open: self.open,
        };
        let view = client.begin_with(begin, None).await?;
        self.wait.finish(client, view, Status::Succeeded, output).await
    }
}

impl ListVerb {
    async fn run(self, client: &Client, output: &Output) -> Result<Exit, Error> {
        let filter = ListFilter {
            status: self.status,
            workflow: self.workflow,
            labels: self.labels.into_iter().collect(),
            gid_prefix: self.gid,
            created_after: self.created_after,
            created_before: self.created_before,
            limit: self.limit,
            cursor: self.cursor,
        };
        show::list(output, &client.list(&filter).await?)?;
        Ok(Exit::Done)
    }
}

impl Wait {
    /// Shows the transaction as it stands once it rests or the time is over.
    async fn finish(
        &self,
        client: &Client,
        view: TransactionView,
        wanted: Status,
        output: &Output,
    ) -> Result<Exit, Error> {
        let Some(time) = self.wait else {
            show::transaction(output, &view)?;
            return Ok(Exit::Done);
        };
        let rested = tokio::time::timeout(time, rest(client, &view.gid));
        let view = match rested.await {
            Ok(view) => view?,
            Err(_) => client.get(&view.gid).await?,
        };
        show::transaction(output, &view)?;
        Ok(if view.status == wanted { Exit::Done } else { Exit::Unsuccessful })
    }
}

impl Dry {
    async fn operate(&self, client: &Client, gid: &Gid, command: &Operator, output: &Output) -> Result<Exit, Error> {
        if self.dry_run {
            let calls = client.dry_run(gid, command).await?;
            show::dry_run(output, &calls)?;
        } else {
            show::transaction(output, &client.operate(gid, command).await?)?;
        }
        Ok(Exit::Done)
    }
}

/// Waits until nothing moves by itself any more.
async fn rest(client: &Client, gid: &Gid) -> Result<TransactionView, Error> {
    let mut follow = client.follow(gid);
    while let Some(event) = follow.next().await? {
        // An old suspension may have ended since.
        if matches!(event.kind, PublicEventKind::Suspended) {
            let view = client.get(gid).await?;
            if view.status == Status::Suspended {
                return Ok(view);
            }
        }
    }
    Ok(client.get(gid).await?)
}

async fn watch(client: &Client, gid: &Gid, output: &Output) -> Result<Exit, Error> {
    let mut follow = client.follow(gid);
    let mut began = None;
    let mut end = None;
    while let Some(event) = follow.next().await? {
        show::event(output, &event, *began.get_or_insert(event.at))?;
        if let PublicEventKind::Settled { status, .. } = event.kind {
            end = Some(status);
        }
    }
    Ok(if end == Some(Status::Succeeded) { Exit::Done } else { Exit::Unsuccessful })
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".into()),
    }
}

/// JSON as it stands, or from the file that `@` names.
pub(super) fn json(flag: &str, text: &str) -> Result<Json, Error> {
    match text.strip_prefix('@') {
        Some(path) => parse(path, read(&PathBuf::from(path))?),
        None => parse(flag, text.to_owned()),
    }
}

fn parse(place: &str, text: String) -> Result<Json, Error> {
    if text.starts_with('\u{feff}') {
        let remedy = "save it as UTF-8 without one";
        return Err(Error::Usage(format!(
            "{place} begins with a byte-order mark (U+FEFF), which JSON has not: {remedy}"
        )));
    }
    Json::from_text(text).map_err(|error| Error::Usage(format!("{place} is not JSON: {error}")))
}

pub(super) fn read(path: &Path) -> Result<String, Error> {
    let failed = |source| Error::Io { what: path.display().to_string(), source };
    if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(failed)?;
        return Ok(text);
    }
    std::fs::read_to_string(path).map_err(failed)
}
