//! Clients that keep transferring while coordinators die: each remembers what was acknowledged, and sends what was not
//! again with the same gid.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use skald_protocol::{Status, Timestamp};
use skald_tests::{Answer, Client, checker::Subject};

use crate::transfer::{Kind, Transfer};

const CLIENTS: usize = 24;

pub(crate) struct Load {
    seed: u64,
    clients: Vec<Client>,
    banks: Vec<String>,
    stopped: AtomicBool,
    next: AtomicUsize,
    acknowledged: AtomicUsize,
    known: Mutex<HashMap<usize, Subject>>,
    /// Answers that no fault explains.
    surprises: Mutex<Vec<String>>,
}

/// How a request ended.
enum Sent {
    Taken(Answer),
    /// Refused for good, with the problem's code.
    Refused(String),
    /// The run stopped first.
    Stopped,
}

impl Load {
    pub(crate) fn new(seed: u64, clients: Vec<Client>, banks: Vec<String>) -> Arc<Self> {
        Arc::new(Self {
            seed,
            clients,
            banks,
            stopped: AtomicBool::new(false),
            next: AtomicUsize::new(0),
            acknowledged: AtomicUsize::new(0),
            known: Mutex::default(),
            surprises: Mutex::default(),
        })
    }

    pub(crate) fn start(self: &Arc<Self>) -> tokio::task::JoinSet<()> {
        let mut workers = tokio::task::JoinSet::new();
        for _ in 0..CLIENTS {
            let load = Arc::clone(self);
            workers.spawn(async move {
                while !load.is_stopped() {
                    load.transfer().await;
                }
            });
        }
        workers
    }

    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::Relaxed)
    }

    pub(crate) fn surprises(&self) -> Vec<String> {
        self.surprises.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn surprise(&self, what: String) {
        self.surprises.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    fn note(&self, number: usize, change: impl FnOnce(&mut Subject)) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        change(known.entry(number).or_default());
    }

    async fn transfer(&self) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let transfer = Transfer::of(self.seed, number as u64, &self.banks);
        self.note(number, |subject| *subject = transfer.subject());
        let (begin, wait) = match &transfer.kind {
            Kind::Closed(begin) => (begin.clone(), number.is_multiple_of(3).then_some(2)),
            Kind::Open { .. } => (json!({"gid": transfer.gid, "open": true, "timeout": "30s"}), None),
        };
        match self.send("/v1/transactions", &begin, wait).await {
            Sent::Taken(answer) => self.acknowledge(number, &answer),
            Sent::Refused(code) => return self.surprise(format!("begin {}: {code}", transfer.gid)),
            Sent::Stopped => return,
        }
        if let Kind::Open { branches, commit } = &transfer.kind {
            self.drive(number, &transfer.gid, branches, *commit).await;
        } else if wait.is_none() {
            // What is not waited for must not run away from what the coordinator settles.
            self.settled(number, &transfer.gid).await;
        }
    }

    fn acknowledge(&self, number: usize, answer: &Answer) {
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        self.note(number, |subject| {
            subject.acknowledged = true;
            observe(subject, &answer.body);
        });
    }

    /// Enlists, then commits or cancels, as a TCC client does.
    async fn drive(&self, number: usize, gid: &str, branches: &[Value], commit: bool) {
        let mut word = if commit { "commit" } else { "cancel" };
        for branch in branches {
            match self.enlist(gid, branch).await {
                Sent::Taken(answer) if answer.body["outcome"] == "succeeded" => {}
                Sent::Taken(_) => word = "cancel",
                Sent::Refused(code) if code == "decided" || code == "settled" => return,
                Sent::Refused(code) => return self.surprise(format!("enlist {gid}: {code}")),
                Sent::Stopped => return,
            }
            if word == "cancel" {
                break;
            }
        }
        if word == "cancel" {
            self.note(number, |subject| subject.cancelled = true);
        }
        match self.send(&format!("/v1/transactions/{gid}/{word}"), &json!({}), None).await {
            Sent::Taken(_) | Sent::Stopped => {}
            // The deadline came first.
            Sent::Refused(code) if code == "already_cancelled" || code == "decided" || code == "settled" => {}
            Sent::Refused(code) => self.surprise(format!("{word} {gid}: {code}")),
        }
    }

    /// Asks again until the try has an outcome.
    async fn enlist(&self, gid: &str, branch: &Value) -> Sent {
        loop {
            let sent = self.send(&format!("/v1/transactions/{gid}/branches"), branch, Some(5)).await;
            match sent {
                Sent::Taken(answer) if answer.status == 202 && !self.is_stopped() => {}
                other => return other,
            }
        }
    }

    async fn settled(&self, number: usize, gid: &str) {
        let start = Instant::now();
        while !self.is_stopped() && start.elapsed() < Duration::from_secs(5) {
            if let Ok(answer) = self.client().try_get(&format!("/v1/transactions/{gid}")).await {
                if answer.status == 404 {
                    return self.surprise(format!("{gid} was acknowledged and is unknown"));
                }
                if answer.status == 200 {
                    self.note(number, |subject| observe(subject, &answer.body));
                    if is_final(&answer.body) {
                        return;
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn client(&self) -> &Client {
        &self.clients[rand::random_range(0..self.clients.len())]
    }

    /// To any node, until one takes or refuses it.
    async fn send(&self, path: &str, body: &Value, wait: Option<u32>) -> Sent {
        let mut stopped_at = None;
        loop {
            match self.client().try_post(path, body, wait).await {
                Ok(answer) if answer.is_success() => return Sent::Taken(answer),
                Ok(answer) if answer.status == 503 || answer.status == 429 => {}
                Ok(answer) => {
                    let code = answer.code().to_owned();
                    return Sent::Refused(if code.is_empty() {
                        format!("{} {}", answer.status, answer.body)
                    } else {
                        code
                    });
                }
                // Killed, or not up yet.
                Err(_) => {}
            }
            if self.is_stopped() {
                let since: &mut Instant = stopped_at.get_or_insert_with(Instant::now);
                if since.elapsed() > Duration::from_secs(5) {
                    return Sent::Stopped;
                }
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Asks every node for every transaction until all have settled or `within` has passed; then asks each node again, and
    /// begins each again.
    pub(crate) async fn account_for(&self, within: Duration) -> Vec<Subject> {
        let start = Instant::now();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let latest = Timestamp::default().plus(since).plus(within);
        let mut open: Vec<usize> = (0..self.next.load(Ordering::Relaxed)).collect();
        while !open.is_empty() && start.elapsed() < within {
            let asked = stream::iter(open.clone()).map(|number| async move {
                let gid = self.gid(number);
                let answer = self.client().try_get(&format!("/v1/transactions/{gid}")).await.ok()?;
                // Never begun, as far as anyone was told: nothing to wait for.
                let gone = answer.status == 404;
                (gone || (answer.status == 200 && is_final(&answer.body))).then_some(number)
            });
            let done: Vec<_> = asked.buffer_unordered(32).filter_map(|done| async move { done }).collect().await;
            open.retain(|number| !done.contains(number));
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let numbers = 0..self.next.load(Ordering::Relaxed);
        stream::iter(numbers).map(|number| self.ask_all(number)).buffer_unordered(32).collect::<Vec<()>>().await;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Asking takes its time, too: what settled meanwhile, but too late, is told by when it settled.
        for subject in known.values() {
            let settled_at = subject.answers.last().and_then(|answer| answer["settled_at"].as_str());
            if settled_at.and_then(|at| at.parse::<Timestamp>().ok()).is_some_and(|at| at > latest) {
                self.surprise(format!("{} settled only at {settled_at:?}", subject.gid));
            }
        }
        known.drain().map(|(_, subject)| subject).filter(|s| s.acknowledged || !s.answers.is_empty()).collect()
    }

    fn gid(&self, number: usize) -> String {
        format!("chaos:{}-{number}", self.seed)
    }

    async fn ask_all(&self, number: usize) {
        let gid = self.gid(number);
        for client in &self.clients {
            if let Ok(answer) = client.try_get(&format!("/v1/transactions/{gid}")).await
                && answer.status == 200
            {
                self.note(number, |subject| {
                    observe(subject, &answer.body);
                    subject.answers.push(gist(&answer.body));
                });
            }
        }
        let transfer = Transfer::of(self.seed, number as u64, &self.banks);
        let begin = match transfer.kind {
            Kind::Closed(begin) => begin,
            Kind::Open { .. } => json!({"gid": gid, "open": true, "timeout": "30s"}),
        };
        let known = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.get(&number).is_some_and(|subject| !subject.answers.is_empty())
        };
        if !known {
            return;
        }
        match self.client().try_post("/v1/transactions", &begin, None).await {
            Ok(answer) if answer.is_success() => self.note(number, |subject| {
                observe(subject, &answer.body);
                subject.answers.push(gist(&answer.body));
            }),
            other => self.surprise(format!("the same begin of {gid} again: {other:?}")),
        }
    }
}

fn is_final(view: &Value) -> bool {
    view["status"].as_str().and_then(|status| status.parse::<Status>().ok()).is_some_and(Status::is_final)
}

fn observe(subject: &mut Subject, view: &Value) {
    if is_final(view) {
        subject.finals.extend(view["status"].as_str().map(str::to_owned));
    }
}

/// What must never change once it settled.
fn gist(view: &Value) -> Value {
    json!({"status": view["status"], "output": view["output"], "error": view["error"], "settled_at": view["settled_at"]})
}
