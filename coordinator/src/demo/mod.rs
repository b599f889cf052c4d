//! `skald demo`: a coordinator, its participants and eight orders in one process.
//!
//! Nothing is staged: the orders go through the public API of a real server on a real (if temporary) database, every call
//! goes over HTTP, and what is claimed at the end is read back from the API and from the participants' books.

mod participants;
mod story;

use std::{io, io::Write, net::SocketAddr, time::Duration};

use serde_json::json;
use skald_protocol::{
    Begin, BranchId, BranchRequest, BranchStatus, CallOutcome, EnlistedOperation, Gid, Json, Status, TransactionView,
};
use skald_sdk::Client;

use crate::{
    config::{Config, Service},
    server::{self, Schema, Server},
    terminal::{SignalError, stop_signal, table, timeline},
};
use participants::Shop;
use story::{Start, Story};

/// No order of the demo takes longer, whatever the machine.
const LONGEST: Duration = Duration::from_secs(30);

/// What `skald demo` takes.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Leave everything up until ctrl-c.
    #[arg(long)]
    serve: bool,
    /// A loopback address for the API; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0", value_parser = loopback)]
    listen: SocketAddr,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("{what}: {source}")]
    Io { what: &'static str, source: io::Error },
    #[error(transparent)]
    Signal(#[from] SignalError),
    #[error("no HTTP client for the participants: {0}")]
    Http(reqwest::Error),
    #[error("a URL of the demo's own is wrong: {0}")]
    Url(String),
    #[error(transparent)]
    Server(#[from] server::Error),
    #[error(transparent)]
    Client(#[from] skald_sdk::Error),
    #[error("`{0}` did not end within {LONGEST:?}")]
    Endless(&'static str),
    /// Something did not end as it must.
    #[error("not as it should be: {}", .0.join("; "))]
    Unexpected(Vec<String>),
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| "write an address and a port, such as 127.0.0.1:7410")?;
    if address.ip().is_loopback() { Ok(address) } else { Err("the demo only listens on loopback".into()) }
}

/// Tells the stories one after the other; an error if one of them ends otherwise than it must.
pub async fn run(options: &Options) -> Result<(), Error> {
    let folder = tempfile::tempdir().map_err(|source| Error::Io { what: "no temporary directory", source })?;
    let shop = Shop::new().map_err(Error::Http)?;
    let urls = shop.open().await.map_err(|source| Error::Io { what: "no port for a participant", source })?;
    let mut config = Config { listen: options.listen, ..Config::default() };
    let database = format!("sqlite://{}", folder.path().join("skald.db").display());
    config.database.url = database.parse().map_err(Error::Url)?;
    for (name, url) in &urls {
        let url = Some(url.parse().map_err(Error::Url)?);
        config.services.insert(name.clone(), Service { url, ..Service::default() });
    }
    let server = Server::start(config, Schema::Migrate).await?;
    let told = run_story(&server.url(), &shop, options).await;
    server.shutdown().await?;
    told
}

async fn run_story(url: &str, shop: &Shop, options: &Options) -> Result<(), Error> {
    let client = Client::new(url)?;
    print_line(&format!("A coordinator at {url}, six participants, one process; SQLite in a temporary directory.\n"))?;
    let stories = story::stories();
    let mut gids = Vec::new();
    for (number, story) in (1..).zip(&stories) {
        let bold = anstyle::Style::new().bold();
        let dim = anstyle::Style::new().dimmed();
        print_line(&format!("{bold}{number}. {}{bold:#}\n   {dim}{}{dim:#}", story.name, story.tells))?;
        let told = tokio::time::timeout(LONGEST, story.play(&client)).await;
        gids.push(told.map_err(|_| Error::Endless(story.name))??);
        print_line("")?;
    }
    let faults = sum_up(&client, shop, &stories, &gids).await?;
    print_line(&format!(
        "Where to look{}: {url}/docs (the API)  {url}/v1/transactions  {url}/metrics",
        if options.serve { "" } else { " (with --serve)" }
    ))?;
    if options.serve {
        print_line(&format!("or: SKALD_URL={url} skald tx list\nctrl-c ends it."))?;
        stop_signal()?.await;
    }
    if faults.is_empty() { Ok(()) } else { Err(Error::Unexpected(faults)) }
}

impl Story {
    /// Begins it and prints what happens as it does, to the end.
    async fn play(&self, client: &Client) -> Result<Gid, Error> {
        let view = match &self.start {
            Start::Saga { definition, input } => {
                let definition = Json::from_text((*definition).to_owned()).ok();
                let begin = Begin { definition, input: Some(Json::of(input)), ..Begin::default() };
                client.begin_with(begin, None).await?
            }
            Start::Tcc { .. } => client.begin_open(None, "30s", [].into()).await?,
        };
        tokio::try_join!(print_timeline(client, &view), self.decide(client, &view.gid))?;
        Ok(view.gid)
    }

    /// The client's part of an open transaction: the coordinator calls the tries, the client judges.
    async fn decide(&self, client: &Client, gid: &Gid) -> Result<(), Error> {
        let Start::Tcc { seats, cents } = self.start else { return Ok(()) };
        let mut is_held = true;
        for (service, body) in [("seats", json!({"seats": seats})), ("wallet", json!({"cents": cents}))] {
            let enlisted = client.enlist(gid, &branch(service, &body), None).await?;
            is_held &= enlisted.outcome == Some(CallOutcome::Succeeded);
        }
        if is_held {
            client.commit(gid, None).await?;
        } else {
            client.cancel(gid, Some("not everything could be held".into()), None).await?;
        }
        Ok(())
    }

    fn faults(&self, view: &TransactionView) -> Vec<String> {
        let status = |name: &str| view.branches.iter().find(|branch| branch.step == name).map(|branch| branch.status);
        let branches = self.branches.iter().filter_map(|(name, expected)| {
            let found = status(name).map_or("missing", BranchStatus::as_str);
            (found != expected.as_str()).then(|| format!("{}: {name} is {found}, not {expected}", self.name))
        });
        let whole =
            (view.status != self.status).then(|| format!("{}: it is {}, not {}", self.name, view.status, self.status));
        whole.into_iter().chain(branches).collect()
    }
}

fn branch(service: &str, body: &serde_json::Value) -> BranchRequest {
    let operation = |path: &str| EnlistedOperation(Json::of(&json!({"path": path})));
    BranchRequest {
        branch: BranchId::new(service).expect("a service's name is a branch's"),
        service: Some(service.to_owned()),
        try_: Some(operation("/hold")),
        confirm: operation("/confirm"),
        cancel: operation("/cancel"),
        body: Some(Json::of(body)),
    }
}

async fn print_timeline(client: &Client, view: &TransactionView) -> Result<(), Error> {
    let mut follow = client.follow(&view.gid);
    let mut began = None;
    while let Some(event) = follow.next().await? {
        print_line(&timeline::line(&event, *began.get_or_insert(event.at)))?;
    }
    Ok(())
}

/// Reads everything back; what is not as it should be.
async fn sum_up(client: &Client, shop: &Shop, stories: &[Story], gids: &[Gid]) -> Result<Vec<String>, Error> {
    let mut faults = Vec::new();
    let mut rows = Vec::new();
    for (story, gid) in stories.iter().zip(gids) {
        let view = client.get(gid).await?;
        let wrong = story.faults(&view);
        let took =
            view.settled_at.map_or_else(|| "-".into(), |at| format!("{:.3}s", view.created_at.until(at).as_secs_f64()));
        let verdict = if wrong.is_empty() { "as it should" } else { "WRONG" };
        rows.push([story.name.to_owned(), gid.to_string(), view.status.to_string(), took, verdict.to_owned()]);
        faults.extend(wrong);
    }
    print_line(&table(["ORDER", "GID", "ENDED", "TOOK", ""], rows))?;
    let orders = stories.iter().filter(|story| story.is_shipped()).count();
    let tickets: i64 = stories.iter().map(Story::tickets).sum();
    let ledger = ledger(shop, orders, tickets);
    faults.extend(
        ledger
            .iter()
            .filter(|(_, found, expected)| found != expected)
            .map(|(what, found, expected)| format!("{what}: {found}, not {expected}")),
    );
    let rows = ledger.into_iter().map(|(what, found, expected)| {
        [
            what.to_owned(),
            found.to_string(),
            if found == expected { "as it should".into() } else { format!("WRONG: {expected}") },
        ]
    });
    print_line(&table(["THE PARTICIPANTS' BOOKS", "", ""], rows))?;
    Ok(faults)
}

/// What the participants hold in the end: what, how many, how many it must be.
fn ledger(shop: &Shop, orders: usize, tickets: i64) -> Vec<(&'static str, i64, i64)> {
    let books = shop.books();
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let orders = count(orders);
    vec![
        ("lamps reserved", count(books.reserved.len()), orders),
        ("lamps wrapped", count(books.wrapped.len()), 0),
        ("cards charged", count(books.charged.len()), orders),
        ("parcels on their way", count(books.parcels.len()), orders),
        ("couriers booked", count(books.couriers.len()), 0),
        ("receipts mailed", count(books.mails.len()), orders),
        ("seats sold", books.seats.taken.values().sum(), tickets),
        ("seats held", books.seats.held.values().sum(), 0),
        ("cents held in wallets", books.wallet.held.values().sum(), 0),
    ]
}

impl Story {
    fn is_shipped(&self) -> bool {
        self.status == Status::Succeeded && matches!(self.start, Start::Saga { .. })
    }

    fn tickets(&self) -> i64 {
        match self.start {
            Start::Tcc { seats, .. } if self.status == Status::Succeeded => seats,
            Start::Tcc { .. } | Start::Saga { .. } => 0,
        }
    }
}

fn print_line(text: &str) -> Result<(), Error> {
    writeln!(anstream::stdout(), "{text}").map_err(|source| Error::Io { what: "stdout", source })
}
