//! The shop's services: each its own HTTP server on loopback, with books of its own and its own kind of trouble.
//!
//! They know nothing of Skald but its headers. A call that comes twice has one effect: the first answer is kept by its
//! idempotency key and given again.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    routing::post,
};
use serde_json::{Value, json};
use skald_protocol::{IDEMPOTENCY_KEY, SKALD_CALLBACK, SKALD_TRANSACTION};
use tokio::net::TcpListener;

/// Longer than the demo's definitions wait for an answer.
const TOO_LONG: Duration = Duration::from_millis(700);

type HttpReply = (StatusCode, Value);

/// What every service of the shop has done and not undone; each service touches its own part only.
#[derive(Debug, Default)]
pub(super) struct Books {
    /// Transactions that hold an item.
    pub(super) reserved: BTreeSet<String>,
    pub(super) wrapped: BTreeSet<String>,
    /// Cents by transaction.
    pub(super) charged: BTreeMap<String, i64>,
    pub(super) parcels: BTreeSet<String>,
    pub(super) couriers: BTreeSet<String>,
    pub(super) mails: BTreeSet<String>,
    pub(super) seats: Holds,
    pub(super) wallet: Holds,
    /// How often each transaction's trouble has struck.
    struck: HashMap<String, u32>,
}

/// What a TCC participant sets aside at its try, and keeps or gives back.
#[derive(Debug, Default)]
pub(super) struct Holds {
    pub(super) held: BTreeMap<String, i64>,
    pub(super) taken: BTreeMap<String, i64>,
}

impl Holds {
    fn total(&self) -> i64 {
        self.held.values().chain(self.taken.values()).sum()
    }
}

#[derive(Clone)]
pub(super) struct Shop {
    books: Arc<Mutex<Books>>,
    answers: Arc<Mutex<HashMap<String, HttpReply>>>,
    http: reqwest::Client,
}

/// One call as a participant sees it.
struct Call {
    gid: String,
    key: String,
    callback: Option<String>,
    body: Value,
}

impl Call {
    fn new(headers: &HeaderMap, body: Value) -> Self {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Self {
            gid: header(SKALD_TRANSACTION).unwrap_or_default(),
            key: header(IDEMPOTENCY_KEY).unwrap_or_default(),
            callback: header(SKALD_CALLBACK),
            body,
        }
    }

    fn text(&self, field: &str) -> &str {
        self.body[field].as_str().unwrap_or_default()
    }
}

impl Shop {
    pub(super) fn new() -> Result<Self, reqwest::Error> {
        // What it calls back is on loopback.
        let http = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self { books: Arc::default(), answers: Arc::default(), http })
    }

    /// Starts every service on a port of its own; their URLs by name.
    pub(super) async fn open(&self) -> io::Result<BTreeMap<String, String>> {
        let mut urls = BTreeMap::new();
        for name in ["stock", "payment", "shipping", "mail", "seats", "wallet"] {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            urls.insert(name.to_owned(), format!("http://{}", listener.local_addr()?));
            let router = Router::new().route("/{call}", post(answer)).with_state((name, self.clone()));
            // They end with the process.
            tokio::spawn(async move { axum::serve(listener, router).await });
        }
        Ok(urls)
    }

    pub(super) fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first answer to a key is the answer for good, unless the service was not able to give one.
    fn once(&self, service: &str, path: &str, call: &Call) -> HttpReply {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = answers.get(&call.key) {
            return answer.clone();
        }
        let answer = self.books().carry_out(service, path, call);
        if !answer.0.is_server_error() {
            answers.insert(call.key.clone(), answer.clone());
        }
        answer
    }
}

async fn answer(
    State((service, shop)): State<(&'static str, Shop)>,
    Path(path): Path<String>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> (StatusCode, Json<Value>) {
    let call = Call::new(&headers, body);
    let (status, body) = shop.once(service, &path, &call);
    // The effect has happened, only the answer is late: the caller cannot know.
    let is_late = path == "reserve"
        && match call.text("shelf") {
            "attic" => shop.books().strike(&call.gid) == 1,
            "cellar" => true,
            _ => false,
        };
    if is_late {
        tokio::time::sleep(TOO_LONG).await;
    }
    if let (StatusCode::ACCEPTED, Some(url)) = (status, call.callback) {
        tokio::spawn(call_back(shop.http.clone(), url, body.clone()));
    }
    (status, Json(body))
}

/// An asynchronous operation's end, a little later.
async fn call_back(http: reqwest::Client, url: String, output: Value) {
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let sent = http.post(&url).json(&json!({"outcome": "succeeded", "output": output})).send().await;
        if sent.is_ok_and(|answer| answer.status().is_success()) {
            return;
        }
    }
}

fn done(body: Value) -> HttpReply {
    (StatusCode::OK, body)
}

fn refused(code: &str, message: &str) -> HttpReply {
    (StatusCode::UNPROCESSABLE_ENTITY, json!({"code": code, "message": message}))
}

impl Books {
    fn strike(&mut self, gid: &str) -> u32 {
        let struck = self.struck.entry(gid.to_owned()).or_default();
        *struck += 1;
        *struck
    }

    fn carry_out(&mut self, service: &str, path: &str, call: &Call) -> HttpReply {
        let gid = call.gid.clone();
        let cents = call.body["cents"].as_i64().unwrap_or_default();
        match (service, path) {
            ("stock", "reserve") => {
                self.reserved.insert(gid);
                done(json!({"place": format!("{}-7", call.text("shelf"))}))
            }
            ("stock", "release") => done(json!({"released": self.reserved.remove(&gid)})),
            ("stock", "wrap") => done(json!({"wrapped": self.wrapped.insert(gid)})),
            ("stock", "unwrap") => done(json!({"unwrapped": self.wrapped.remove(&gid)})),
            ("payment", "charge") if call.text("card") == "expired" => refused("card_declined", "the card has expired"),
            ("payment", "charge") => {
                self.charged.insert(gid, cents);
                done(json!({"charge": format!("ch_{}", self.charged.len())}))
            }
            ("shipping", "ship") => {
                self.parcels.insert(gid);
                (StatusCode::ACCEPTED, json!({"parcel": format!("P-{}", self.parcels.len())}))
            }
            ("shipping", "book") if call.text("country") == "Atlantis" => {
                refused("unreachable", "no courier goes to Atlantis")
            }
            ("shipping", "book") => done(json!({"booked": self.couriers.insert(gid)})),
            ("shipping", "unbook") => done(json!({"unbooked": self.couriers.remove(&gid)})),
            ("mail", "send") if call.text("to").ends_with("@busy.example") && self.strike(&gid) <= 2 => {
                (StatusCode::SERVICE_UNAVAILABLE, json!({"code": "busy"}))
            }
            ("mail", "send") => done(json!({"sent": self.mails.insert(gid)})),
            ("seats", _) => tcc(&mut self.seats, 5, path, &gid, call.body["seats"].as_i64().unwrap_or_default()),
            ("wallet", _) => tcc(&mut self.wallet, 10_000, path, &gid, cents),
            _ => (StatusCode::NOT_FOUND, json!({"code": "unknown_call", "message": format!("{service}/{path}")})),
        }
    }
}

fn tcc(holds: &mut Holds, capacity: i64, path: &str, gid: &str, amount: i64) -> HttpReply {
    match path {
        "hold" if holds.total() + amount > capacity => {
            refused("not_enough", &format!("{} of {capacity} are left", capacity - holds.total()))
        }
        "hold" => {
            holds.held.insert(gid.to_owned(), amount);
            done(json!({"held": amount}))
        }
        "confirm" => {
            let amount = holds.held.remove(gid).unwrap_or_default();
            holds.taken.insert(gid.to_owned(), amount);
            done(json!({"taken": amount}))
        }
        "cancel" => done(json!({"given_back": holds.held.remove(gid)})),
        _ => (StatusCode::NOT_FOUND, json!({"code": "unknown_call", "message": path})),
    }
}
