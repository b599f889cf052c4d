//! Participants: a real HTTP service with a ledger, told per path how to behave.
//!
//! By default every path succeeds, and *every call is applied twice*, as a network may deliver it twice. A script is
//! taken step by step, one step a call; its last step stays.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
    serve::ListenerExt,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use skald_protocol::OperationKind;
use tokio::sync::watch;

use crate::{
    client,
    ledger::{Answered, Arrival, Book, Done, Entry},
};

/// How one call is met.
#[derive(Debug, Clone)]
pub enum Behaviour {
    Succeed,
    SucceedWith(Value),
    Refuse(String),
    /// 503, nothing done.
    Unavailable,
    /// 429, nothing done.
    TooMany {
        retry_after_s: u64,
    },
    /// No answer, nothing done.
    SilentBefore,
    /// Done, but no answer.
    SilentAfter,
    /// Done, but the answer breaks off.
    CutOffAfter,
    /// 202; the effect comes with `call_back`.
    Accept,
    /// 202; the effect and the callback follow by themselves, sent until they are taken.
    AcceptThenCallBack(Duration),
    /// 202; the effect comes with `finish`, and who asks until then is told that it is pending.
    Work,
    /// Waits for `release` of the path before it does anything.
    Held,
    Slow(Duration),
}

/// Faults by chance, on every path that has no script; only `/accounts/` refuses.
#[derive(Debug, Clone, Default)]
pub struct Chance {
    /// Share of forward operations that are refused.
    pub refused: f64,
    /// Share of calls that get 503 before, or whose answer breaks off after, the effect.
    pub unavailable: f64,
    pub cut_off: f64,
    /// Share of calls that are never answered, done or not.
    pub silent: f64,
    pub slow: Option<Duration>,
    pub seed: u64,
}

struct Inner {
    book: Mutex<Book>,
    arrivals: Mutex<Vec<Arrival>>,
    /// The keys of what is being worked on.
    at_work: Mutex<BTreeSet<String>>,
    scripts: Mutex<HashMap<String, VecDeque<Behaviour>>>,
    chance: Mutex<Option<(Chance, StdRng)>>,
    released: watch::Sender<u64>,
    /// Whether answers carry `Skald-Barrier`.
    says_barrier: bool,
}

#[derive(Clone)]
pub struct Participants {
    address: SocketAddr,
    inner: Arc<Inner>,
}

/// The steps of one path, in the order of the calls.
pub struct Script<'a> {
    participants: &'a Participants,
    path: String,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Participants {
    /// Participants with the SDK's barrier: their answers carry its word.
    pub async fn start() -> Self {
        Self::serve(true).await
    }

    /// Idempotent by key, but silent about it, as most services are.
    pub async fn without_barrier_word() -> Self {
        Self::serve(false).await
    }

    async fn serve(says_barrier: bool) -> Self {
        let inner = Arc::new(Inner {
            book: Mutex::default(),
            arrivals: Mutex::default(),
            at_work: Mutex::default(),
            scripts: Mutex::default(),
            chance: Mutex::default(),
            released: watch::Sender::new(0),
            says_barrier,
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let address = listener.local_addr().expect("a bound address");
        let router = Router::new().fallback(handle).with_state(Arc::clone(&inner));
        let listener = listener.tap_io(|tcp| tcp.set_nodelay(true).expect("TCP_NODELAY"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, inner }
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Begins a new script for the path.
    pub fn on(&self, path: &str) -> Script<'_> {
        locked(&self.inner.scripts).insert(path.to_owned(), VecDeque::new());
        Script { participants: self, path: path.to_owned() }
    }

    pub fn by_chance(&self, chance: Chance) {
        let rng = StdRng::seed_from_u64(chance.seed);
        *locked(&self.inner.chance) = Some((chance, rng));
    }

    /// Ends the faults: what still comes succeeds at once.
    pub fn behave(&self) {
        *locked(&self.inner.chance) = None;
        locked(&self.inner.scripts).clear();
        self.release();
    }

    pub fn open_account(&self, name: &str, balance: i64) {
        locked(&self.inner.book).balances.insert(name.to_owned(), balance);
    }

    #[must_use]
    pub fn balances(&self) -> BTreeMap<String, i64> {
        locked(&self.inner.book).balances.clone()
    }

    #[must_use]
    pub fn ledger(&self) -> Vec<Entry> {
        locked(&self.inner.book).entries.clone()
    }

    /// All calls of a transaction as they arrived, duplicates included.
    #[must_use]
    pub fn arrivals(&self, gid: &str) -> Vec<Arrival> {
        locked(&self.inner.arrivals).iter().filter(|call| call.gid == gid).cloned().collect()
    }

    /// How many calls arrived, of all transactions.
    #[must_use]
    pub fn arrived(&self) -> usize {
        locked(&self.inner.arrivals).len()
    }

    /// The transaction's effects in order, as `branch operation`; an undo of nothing as `branch operation (empty)`.
    #[must_use]
    pub fn effects(&self, gid: &str) -> Vec<String> {
        use crate::ledger::Mark;
        locked(&self.inner.book)
            .entries
            .iter()
            .filter(|entry| entry.gid == gid)
            .filter_map(|entry| match &entry.mark {
                Mark::Effect => Some(format!("{} {}", entry.branch, entry.operation)),
                Mark::Empty => Some(format!("{} {} (empty)", entry.branch, entry.operation)),
                Mark::Refused(_) | Mark::Superseded | Mark::Broken => None,
            })
            .collect()
    }

    /// The distinct operations that were called at all, in the order of their first calls, as `branch operation`.
    #[must_use]
    pub fn called(&self, gid: &str) -> Vec<String> {
        let mut seen = Vec::new();
        for call in self.arrivals(gid) {
            let word = format!("{} {}", call.branch, call.operation);
            if !seen.contains(&word) {
                seen.push(word);
            }
        }
        seen
    }

    /// Lets every `Held` call go on.
    pub fn release(&self) {
        self.inner.released.send_modify(|generation| *generation += 1);
    }

    /// Ends the work on an operation, without a word to anyone.
    ///
    /// # Panics
    /// If none of that branch was ever worked on.
    pub fn finish(&self, gid: &str, branch: &str) {
        let mut at_work = locked(&self.inner.at_work);
        let arrivals = self.arrivals(gid);
        let call = arrivals.iter().rfind(|call| call.branch == branch && call.operation != OperationKind::Status);
        let call = call.expect("a call");
        assert!(at_work.remove(&call.key), "nobody works on {}", call.key);
        let _same_again = locked(&self.inner.book).apply(call, None);
    }

    /// Finishes an accepted operation: the effect, then the callback. The answer's status and body.
    pub async fn call_back(&self, gid: &str, branch: &str, verdict: &Value) -> (u16, Value) {
        let call = self
            .arrivals(gid)
            .into_iter()
            .rfind(|call| call.branch == branch && call.callback.is_some())
            .expect("an accepted call with a callback URL");
        if verdict["outcome"] == "succeeded" {
            let _same_again = locked(&self.inner.book).apply(&call, None);
        }
        let url = call.callback.as_deref().unwrap_or_default();
        client::post_json(url, verdict).await.expect("the coordinator answers callbacks")
    }
}

impl Script<'_> {
    fn step(self, behaviour: Behaviour, times: usize) -> Self {
        let steps = std::iter::repeat_n(behaviour, times);
        locked(&self.participants.inner.scripts).entry(self.path.clone()).or_default().extend(steps);
        self
    }

    pub fn succeeds(self) -> Self {
        self.step(Behaviour::Succeed, 1)
    }

    pub fn answers(self, body: Value) -> Self {
        self.step(Behaviour::SucceedWith(body), 1)
    }

    pub fn refuses(self, code: &str) -> Self {
        self.step(Behaviour::Refuse(code.to_owned()), 1)
    }

    pub fn is_unavailable(self, times: usize) -> Self {
        self.step(Behaviour::Unavailable, times)
    }

    pub fn has_too_many(self, retry_after_s: u64) -> Self {
        self.step(Behaviour::TooMany { retry_after_s }, 1)
    }

    pub fn is_silent_before_the_effect(self, times: usize) -> Self {
        self.step(Behaviour::SilentBefore, times)
    }

    pub fn is_silent_after_the_effect(self, times: usize) -> Self {
        self.step(Behaviour::SilentAfter, times)
    }

    pub fn cuts_its_answer_off(self, times: usize) -> Self {
        self.step(Behaviour::CutOffAfter, times)
    }

    pub fn accepts(self) -> Self {
        self.step(Behaviour::Accept, 1)
    }

    pub fn works(self) -> Self {
        self.step(Behaviour::Work, 1)
    }

    pub fn is_held(self) -> Self {
        self.step(Behaviour::Held, 1)
    }

    pub fn takes(self, time: Duration) -> Self {
        self.step(Behaviour::Slow(time), 1)
    }
}

async fn handle(State(inner): State<Arc<Inner>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let Some(call) = read(&uri, &headers, &body) else {
        return (StatusCode::BAD_REQUEST, "a call without the headers of PARTICIPANT.md").into_response();
    };
    locked(&inner.arrivals).push(call.clone());
    let released = inner.released.subscribe();
    let behaviour = next_behaviour(&inner, &call);
    meet(&inner, &call, behaviour, released).await
}

fn read(uri: &Uri, headers: &HeaderMap, body: &Bytes) -> Option<Arrival> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    Some(Arrival {
        gid: text("skald-transaction")?,
        branch: text("skald-branch")?,
        operation: text("skald-operation")?.parse::<OperationKind>().ok()?,
        key: text("idempotency-key")?,
        attempt: text("skald-attempt")?.parse().ok()?,
        path: uri.path().to_owned(),
        body: serde_json::from_slice(body).unwrap_or(Value::Null),
        headers: headers.keys().filter_map(|name| Some((name.to_string(), text(name.as_str())?))).collect(),
        callback: text("skald-callback"),
        at: Instant::now(),
    })
}

fn next_behaviour(inner: &Inner, call: &Arrival) -> Behaviour {
    if let Some(script) = locked(&inner.scripts).get_mut(&call.path)
        && let Some(step) = if script.len() > 1 { script.pop_front() } else { script.front().cloned() }
    {
        return step;
    }
    let mut chance = locked(&inner.chance);
    let Some((chance, rng)) = chance.as_mut() else {
        let later = call.path.starts_with("/later/") && call.operation.is_forward();
        return if later { Behaviour::AcceptThenCallBack(Duration::ZERO) } else { Behaviour::Succeed };
    };
    let later = call.path.starts_with("/later/") && call.operation.is_forward();
    if later && rng.random_bool(1.0 - chance.unavailable) {
        return Behaviour::AcceptThenCallBack(chance.slow.unwrap_or_default().mul_f64(rng.random()));
    }
    if call.path.starts_with("/accounts/") && call.operation.is_forward() && rng.random_bool(chance.refused) {
        return Behaviour::Refuse("by_chance".into());
    }
    if rng.random_bool(chance.unavailable) {
        return Behaviour::Unavailable;
    }
    if rng.random_bool(chance.cut_off) {
        return Behaviour::CutOffAfter;
    }
    if rng.random_bool(chance.silent) {
        return if rng.random() { Behaviour::SilentBefore } else { Behaviour::SilentAfter };
    }
    chance.slow.map_or(Behaviour::Succeed, |most| Behaviour::Slow(most.mul_f64(rng.random())))
}

async fn meet(
    inner: &Arc<Inner>,
    call: &Arrival,
    behaviour: Behaviour,
    mut released: watch::Receiver<u64>,
) -> Response {
    match behaviour {
        Behaviour::Succeed => apply(inner, call, None, None),
        Behaviour::SucceedWith(body) => apply(inner, call, None, Some(body)),
        Behaviour::Refuse(code) => apply(inner, call, Some(&code), None),
        Behaviour::Unavailable => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Behaviour::TooMany { retry_after_s } => {
            (StatusCode::TOO_MANY_REQUESTS, [("retry-after", retry_after_s.to_string())]).into_response()
        }
        Behaviour::SilentBefore => std::future::pending().await,
        Behaviour::SilentAfter => {
            drop(apply(inner, call, None, None));
            std::future::pending().await
        }
        Behaviour::CutOffAfter => {
            drop(apply(inner, call, None, None));
            cut_off()
        }
        Behaviour::Accept => StatusCode::ACCEPTED.into_response(),
        Behaviour::AcceptThenCallBack(after) => {
            let (inner, call) = (Arc::clone(inner), call.clone());
            tokio::spawn(async move {
                tokio::time::sleep(after).await;
                finish(&inner, &call).await;
            });
            StatusCode::ACCEPTED.into_response()
        }
        Behaviour::Work => {
            locked(&inner.at_work).insert(call.key.clone());
            StatusCode::ACCEPTED.into_response()
        }
        Behaviour::Held => {
            // An error means that the service is gone, and this call with it.
            if released.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            apply(inner, call, None, None)
        }
        Behaviour::Slow(time) => {
            tokio::time::sleep(time).await;
            apply(inner, call, None, None)
        }
    }
}

/// The effect of an accepted call, then its callback until someone takes it.
async fn finish(inner: &Inner, call: &Arrival) {
    let Some(url) = &call.callback else { return };
    let refused = match locked(&inner.chance).as_mut() {
        Some((chance, rng)) => rng.random_bool(chance.refused),
        None => false,
    };
    let answered = locked(&inner.book).apply(call, refused.then_some("by_chance"));
    let verdict = match answered {
        Ok(Answered { done: Done::Succeeded(output), .. }) => json!({"outcome": "succeeded", "output": output}),
        Ok(Answered { done: Done::Refused(code), .. }) => json!({"outcome": "refused", "error": {"code": code}}),
        Err(_) => return,
    };
    for _ in 0..600 {
        match client::post_json(url, &verdict).await {
            Ok((status, _)) if status < 500 => return,
            Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Twice, as the network may: the second must change nothing.
fn apply(inner: &Inner, call: &Arrival, refuse: Option<&str>, body: Option<Value>) -> Response {
    if call.operation == OperationKind::Status && locked(&inner.at_work).contains(&call.key) {
        return axum::Json(json!({"outcome": "pending"})).into_response();
    }
    let mut book = locked(&inner.book);
    let first = book.apply(call, refuse);
    let entries = book.entries.len();
    let again = book.apply(call, refuse);
    let superseded = matches!(&again, Ok(Answered { barrier: "superseded", .. }));
    let broken = book.entries.last().is_some_and(|entry| entry.mark == crate::ledger::Mark::Broken);
    assert!(superseded || broken || book.entries.len() == entries, "the barrier let a duplicate through: {call:?}");
    drop(book);
    let Ok(answered) = first else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
    let mut response = match answered.done {
        Done::Succeeded(output) => axum::Json(body.unwrap_or(output)).into_response(),
        Done::Refused(code) => (StatusCode::CONFLICT, axum::Json(json!({"code": code}))).into_response(),
    };
    if inner.says_barrier {
        response.headers_mut().insert("skald-barrier", axum::http::HeaderValue::from_static(answered.barrier));
    }
    response
}

/// Promises more than it sends, and closes.
fn cut_off() -> Response {
    let pieces = futures_util::stream::iter([Ok(Bytes::from_static(b"{\"id\":")), Err(std::io::Error::other("cut"))]);
    let mut response = Body::from_stream(pieces).into_response();
    response.headers_mut().insert("content-type", axum::http::HeaderValue::from_static("application/json"));
    response
}
