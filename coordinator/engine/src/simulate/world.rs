//! One transaction, its coordinator, the network and the participants on a virtual clock.
//!
//! The engine is the real one; what a node does around it (render, send, append, replay) is done here in the same order.
//! Everything is a function of the stage and the faults, so a run that went wrong can be run again and told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use skald_protocol::{
    BranchStatus, CallOutcome, CallbackVerdict, Gid, Json, OperationKind, OperationStatus, Status, Timestamp,
};

use super::{
    Run, Stage,
    answer::{Answer, CallbackOutcome},
    fault::{Fate, Fault, OUTAGE_MS, Strike, When},
    lookup,
    participant::{Business, How, Ledger, Manners, response},
    tale::{Attempt, Entry, What},
};
use crate::{
    call::{Call, Outcome, Reply, Request, Response, Target},
    event::{Began, Error, Event, Record, TraceContext},
    outcome::Answered,
    plan::{Block, Branch, Means, Wait},
    transaction::{Continuity, Decided, Input, Transaction, Word},
};

/// When every virtual transaction begins: 2026-01-01T00:00:00Z.
pub(super) const START: Timestamp = Timestamp(1_767_225_600_000);
/// One way through the network.
const WAY_MS: i64 = 5;
/// From a kill to the other node's load.
const TAKE_OVER_MS: i64 = 1_000;
/// An asynchronous operation takes so long where nothing else is said.
const WORK_MS: i64 = 1_000;
/// More than any timeout and any settling retry of a sensible definition.
const LONGEST_MS: i64 = 800 * 24 * 3_600 * 1_000;
/// From this attempt on a participant that fails for ever asks for patience (`Retry-After`), or a day of it would be a
/// hundred thousand attempts.
const PATIENCE: u32 = 24;
const PATIENCE_MS: u64 = 3_600 * 1_000;
/// Happenings of one run.
const MOST: usize = 400_000;

struct Message {
    call: Call,
    of: Attempt,
    service: String,
    asynchronous: bool,
    holder: u32,
    /// The holder that sent it still waits.
    awaited: bool,
    strike: Option<Strike>,
}

enum Happening {
    /// `answered`: its answer reaches the coordinator.
    Arrive {
        message: usize,
        answered: bool,
    },
    Answer {
        message: usize,
        reply: Reply,
    },
    Expire {
        message: usize,
    },
    Finish {
        message: usize,
        end: Box<Result<Response, Error>>,
    },
    Word(Box<Word>),
    Load,
}

/// A call that could be struck: where, and at which record it was owed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Point {
    pub(super) branch: String,
    pub(super) operation: OperationKind,
    pub(super) ask: bool,
    pub(super) attempt: u32,
    pub(super) asynchronous: bool,
}

pub(super) struct World<'s> {
    stage: &'s Stage,
    faults: &'s [Fault],
    tx: Transaction,
    journal: Vec<Record>,
    now: Timestamp,
    queue: BTreeMap<(Timestamp, u64), Happening>,
    next: u64,
    messages: Vec<Message>,
    /// Messages that hang in the network until all is over.
    held: Vec<usize>,
    ledgers: BTreeMap<String, Ledger>,
    holder: u32,
    down: bool,
    crash: Option<When>,
    cancels: BTreeSet<bool>,
    struck_at: BTreeMap<usize, Timestamp>,
    first: BTreeMap<(usize, OperationKind, Option<OperationStatus>), Request>,
    points: Vec<Point>,
    records: Vec<Timestamp>,
    /// Signals that are on their way, or will never be.
    signals: Vec<String>,
    wrongs: Vec<(String, String)>,
    unrenderable: Vec<(String, OperationKind, String)>,
    resumed: bool,
    happened: usize,
    told: usize,
    tale: Option<Vec<Entry>>,
}

impl<'s> World<'s> {
    /// `tell`: keep what happens.
    pub(super) fn play(stage: &'s Stage, faults: &'s [Fault], tell: bool) -> Run {
        let deadline = faults.iter().find_map(|fault| match fault {
            Fault::Deadline { after_ms } => Some(*after_ms),
            _ => None,
        });
        let began = Began {
            plan: String::new(),
            contract: "native".to_owned(),
            input: stage.input.clone(),
            config: stage.config.clone(),
            labels: BTreeMap::new(),
            timeout_ms: deadline,
            trace: TraceContext::default(),
        };
        let (tx, events) = Transaction::begin(stage.gid.clone(), Arc::clone(&stage.plan), began, START);
        let mut world = World {
            stage,
            faults,
            tx,
            journal: Vec::new(),
            now: START,
            queue: BTreeMap::new(),
            next: 0,
            messages: Vec::new(),
            held: Vec::new(),
            ledgers: BTreeMap::new(),
            holder: 0,
            down: false,
            crash: None,
            cancels: BTreeSet::new(),
            struck_at: BTreeMap::new(),
            first: BTreeMap::new(),
            points: Vec::new(),
            records: Vec::new(),
            signals: Vec::new(),
            wrongs: Vec::new(),
            unrenderable: Vec::new(),
            resumed: false,
            happened: 0,
            told: 0,
            tale: tell.then(Vec::new),
        };
        world.announce();
        world.record(Decided { events, record: true });
        let finished = world.run();
        world.end(finished)
    }

    fn run(&mut self) -> bool {
        loop {
            self.strike_the_node();
            if !self.down {
                self.send();
                self.strike_after_sending();
            }
            self.happened += 1;
            if self.happened > MOST || self.now.0 - START.0 > LONGEST_MS {
                return false;
            }
            let wake = if self.down { None } else { self.tx.next_wake() };
            let next = self.queue.keys().next().copied();
            match (next, wake) {
                (Some(key), wake) if wake.is_none_or(|wake| key.0 <= wake) => self.happen(key),
                (_, Some(wake)) => {
                    self.now = self.now.max(wake);
                    self.decide(Input::Tick);
                }
                _ if self.wait_is_over() => {}
                _ => return true,
            }
        }
    }

    /// Nothing moves by itself: an operator resumes what waits at its deadline, and at last the network delivers what
    /// hung in it.
    fn wait_is_over(&mut self) -> bool {
        let stuck = (0..self.tx.branch_count()).any(|branch| self.tx.branch_status(branch) == BranchStatus::Stuck);
        if self.tx.status() == Status::Suspended && !stuck && !self.resumed {
            self.resumed = true;
            self.tell(|| What::Resumed);
            self.decide(Input::Word(Word::Resume));
            return true;
        }
        let held = std::mem::take(&mut self.held);
        let any = !held.is_empty();
        for message in held {
            self.after(1_000, Happening::Arrive { message, answered: false });
        }
        any
    }

    fn end(mut self, finished: bool) -> Run {
        self.tell_events();
        Run {
            finished,
            status: self.tx.status(),
            decision: self.tx.decision(),
            view: self.tx.view(0..usize::MAX),
            ledgers: self.ledgers,
            wrongs: self.wrongs,
            unrenderable: self.unrenderable,
            resumed: self.resumed,
            took: START.until(self.tx.settled_at().unwrap_or(self.now)),
            signals: self.signals,
            records: self.records,
            points: self.points,
            calls: self.messages.len(),
            tale: self.tale.unwrap_or_default(),
        }
    }

    // --- the node -----------------------------------------------------------------------------------------------

    fn record(&mut self, decided: Decided) {
        if !decided.record || decided.events.is_empty() {
            return;
        }
        self.signal(&decided.events);
        let index = self.records.len();
        self.records.push(self.now);
        let crash = self.faults.iter().find_map(|fault| match fault {
            Fault::Crash { record, when } if *record == index => Some(*when),
            _ => None,
        });
        for fault in self.faults {
            if let Fault::Cancel { record, when } = fault
                && *record == index
            {
                self.cancels.insert(*when == When::Sent);
            }
        }
        if crash == Some(When::Lost) {
            return self.kill(true);
        }
        self.journal.push(Record::new(self.now, decided.events));
        self.crash = self.crash.or(crash);
        self.tell_events();
    }

    fn decide(&mut self, input: Input) {
        if let Ok(decided) = self.tx.decide(input, self.now) {
            self.record(decided);
        }
    }

    fn strike_the_node(&mut self) {
        if self.down {
            return;
        }
        if self.crash == Some(When::Recorded) {
            return self.kill(false);
        }
        if self.cancels.remove(&false) {
            self.cancel();
        }
    }

    fn strike_after_sending(&mut self) {
        if self.crash == Some(When::Sent) {
            return self.kill(false);
        }
        if self.cancels.remove(&true) {
            self.cancel();
        }
    }

    fn cancel(&mut self) {
        self.tell(|| What::Cancelled);
        self.decide(Input::Word(Word::Cancel { reason: None }));
    }

    fn kill(&mut self, lost: bool) {
        self.tell(|| What::Killed { lost });
        self.crash = None;
        self.down = true;
        self.holder += 1;
        self.after(TAKE_OVER_MS, Happening::Load);
    }

    fn load(&mut self) {
        let replayed = Transaction::replay(self.stage.gid.clone(), Arc::clone(&self.stage.plan), self.journal.clone());
        match replayed {
            Ok(tx) => self.tx = tx,
            Err(corrupt) => {
                // The node cannot go on; the verdict shows it.
                self.wrongs.push((String::new(), corrupt.to_string()));
                return;
            }
        }
        self.down = false;
        self.tell(|| What::TakenOver);
        let decided = self.tx.load(Continuity::Broken, self.now);
        self.record(decided);
    }

    fn send(&mut self) {
        for _ in 0..MOST {
            let owed = self.tx.owed(self.now);
            if owed.is_empty() {
                return;
            }
            for call in owed {
                match self.tx.render(call) {
                    Ok(request) => self.call(call, request),
                    Err(error) => {
                        let of = self.attempt(call);
                        self.unrenderable.push((of.branch.to_string(), call.operation, error.to_string()));
                        self.tell(|| What::Unrenderable { of, reason: error.to_string() });
                        self.decide(Input::Unrenderable { call, error });
                        break;
                    }
                }
                if self.down {
                    return;
                }
            }
        }
    }

    fn attempt(&self, call: Call) -> Attempt {
        let branch = self.tx.branch_id(call.branch);
        Attempt { branch, operation: call.operation, attempt: call.attempt, ask: call.ask }
    }

    fn call(&mut self, call: Call, request: Request) {
        let of = self.attempt(call);
        let service = service(&request);
        self.points.push(Point {
            branch: of.branch.to_string(),
            operation: call.operation,
            ask: call.ask,
            attempt: call.attempt,
            asynchronous: request.asynchronous,
        });
        if self.tale.is_some() {
            let (to, of) = (service.clone(), of.clone());
            let (method, target, body) = (request.method.clone(), address(&request), request.body.clone());
            self.tell(|| What::Call { of, service: to, method, target, body });
        }
        let (timeout, asynchronous) = (request.timeout, request.asynchronous);
        let key = (call.branch, call.operation, self.question(call));
        match self.first.get(&key) {
            None => drop(self.first.insert(key, request)),
            Some(first) if *first != request => {
                let what = format!("attempt {} of its {} differs from an earlier one", call.attempt, call.operation);
                self.wrongs.push((of.branch.to_string(), what));
            }
            Some(_) => {}
        }
        self.tx.sent(call, self.now);
        let strike = self.strike(&of);
        let message = self.messages.len();
        let holder = self.holder;
        self.messages.push(Message { call, of, service, asynchronous, holder, awaited: true, strike });
        self.after(i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX), Happening::Expire { message });
        self.travel(message, strike, timeout);
    }

    /// A pending operation is polled, one that is owed is asked about: other requests.
    fn question(&self, call: Call) -> Option<OperationStatus> {
        let view = call.ask.then(|| self.tx.branch_view(call.branch))?;
        view.operations.iter().find(|operation| operation.operation == call.operation).map(|operation| operation.status)
    }

    // --- the network --------------------------------------------------------------------------------------------

    /// What strikes this attempt.
    fn strike(&mut self, of: &Attempt) -> Option<Strike> {
        let now = self.now;
        // A step's name stands for its branches: a map makes one for each item.
        let step = self.tx.find(&of.branch).map(|branch| self.tx.branch(branch).step.clone());
        for (index, fault) in self.faults.iter().enumerate() {
            let Fault::Strike { branch, operation, ask, attempt, strike } = fault else { continue };
            let named = *branch == of.branch.as_str() || step.as_deref() == Some(branch);
            if !named || *operation != of.operation || *ask != of.ask || of.attempt < *attempt {
                continue;
            }
            let since = *self.struck_at.entry(index).or_insert(now);
            let is_first = of.attempt == *attempt;
            let then = match strike {
                Strike::Exhausted | Strike::Unreachable | Strike::RefusedForEver => Some(*strike),
                Strike::Outage if now.0 - since.0 < OUTAGE_MS => Some(Strike::Outage),
                Strike::Outage => None,
                Strike::DoneThenExhausted if is_first => Some(Strike::TimeoutAfter),
                Strike::DoneThenExhausted => Some(Strike::Exhausted),
                Strike::LateAfterUndo if !is_first => Some(Strike::Unreachable),
                Strike::TimeoutThenRefused if is_first => Some(Strike::Timeout),
                Strike::TimeoutThenRefused if of.attempt == attempt + 1 => Some(Strike::Refused),
                other => is_first.then_some(*other),
            };
            if then.is_some() {
                return then;
            }
        }
        None
    }

    fn travel(&mut self, message: usize, strike: Option<Strike>, timeout: std::time::Duration) {
        let arrive = |answered| Happening::Arrive { message, answered };
        match strike {
            Some(Strike::Timeout) => {}
            Some(Strike::Unsent | Strike::Unreachable) => {
                let reply = Reply::of(Outcome::Unsent(Error::new("connect", "connection refused")));
                let reply = self.paced(message, strike, reply);
                self.after(1, Happening::Answer { message, reply });
            }
            Some(Strike::TimeoutAfter) => self.after(WAY_MS, arrive(false)),
            Some(Strike::Duplicate) => {
                self.after(WAY_MS, arrive(true));
                self.after(WAY_MS + 1, arrive(false));
            }
            Some(Strike::DuplicateLate) => {
                self.after(WAY_MS, arrive(true));
                self.held.push(message);
            }
            // What somebody may ask about, and what nothing undoes, ends with its attempt's deadline.
            Some(Strike::Late | Strike::LateAfterUndo) if !self.may_outlive(message) => {
                let timeout = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
                self.after((timeout - 1).max(0), arrive(false));
            }
            Some(Strike::Late | Strike::LateAfterUndo) => self.held.push(message),
            _ => self.after(WAY_MS, arrive(true)),
        }
    }

    fn paced(&self, message: usize, strike: Option<Strike>, reply: Reply) -> Reply {
        // Without a strike it is the script that says so.
        let fails = !matches!(reply.outcome, Outcome::Succeeded(_) | Outcome::Pending);
        let lasts = strike.map_or(fails, Strike::is_permanent) && self.messages[message].call.attempt > PATIENCE;
        let retry_after = lasts.then(|| std::time::Duration::from_millis(PATIENCE_MS)).or(reply.retry_after);
        Reply { retry_after, ..reply }
    }

    fn may_outlive(&self, message: usize) -> bool {
        let spec = self.tx.branch(self.messages[message].call.branch);
        let asked = spec.forward.as_ref().is_some_and(|operation| operation.status_check.is_some());
        spec.undo.is_some() && !asked
    }

    fn after(&mut self, ms: i64, happening: Happening) {
        let at = Timestamp(self.now.0.saturating_add(ms));
        self.next += 1;
        self.queue.insert((at, self.next), happening);
    }

    fn happen(&mut self, key: (Timestamp, u64)) {
        let Some(happening) = self.queue.remove(&key) else { return };
        self.now = self.now.max(key.0);
        match happening {
            Happening::Arrive { message, answered } => self.arrive(message, answered),
            Happening::Answer { message, reply } => self.answered(message, reply),
            Happening::Expire { message } => {
                let error = Error::new("timeout", "no answer within the attempt's timeout");
                self.answered(message, Reply::of(Outcome::Unknown(error)));
            }
            Happening::Finish { message, end } => self.finish(message, *end),
            // Callbacks and clients try again until somebody answers.
            Happening::Word(word) if self.down => self.after(TAKE_OVER_MS, Happening::Word(word)),
            Happening::Word(word) => {
                if let Word::Callback { branch, operation, verdict, .. } = &*word {
                    let service = self.service_of(branch.as_str());
                    let (branch, operation, verdict) = (branch.clone(), *operation, *verdict);
                    self.tell(|| What::CalledBack { branch, operation, service, verdict });
                }
                if let Word::Signal { name, payload } = &*word {
                    let (name, payload) = (name.clone(), payload.clone());
                    self.tell(|| What::Signal { name, payload });
                }
                self.decide(Input::Word(*word));
            }
            Happening::Load => self.load(),
        }
    }

    fn answered(&mut self, message: usize, reply: Reply) {
        let Message { awaited, holder, call, .. } = self.messages[message];
        if !awaited || holder != self.holder || self.down {
            return;
        }
        self.messages[message].awaited = false;
        if self.tale.is_some() {
            let (of, service) = (self.messages[message].of.clone(), self.messages[message].service.clone());
            let what = answer_told(of, service, &reply);
            self.tell(|| what);
        }
        self.decide(Input::Replied { call, reply });
    }

    /// Signals whose moment does not depend on who waits.
    fn announce(&mut self) {
        for signal in &self.stage.signals {
            if self.fate(&signal.name).is_none() {
                let word = Word::Signal { name: signal.name.clone(), payload: signal.payload.clone() };
                self.after(millis(signal.after), Happening::Word(Box::new(word)));
            }
        }
        for fault in self.faults {
            if let Fault::Signal { name, fate: Fate::Early } = fault {
                let step = lookup::all(&self.stage.plan).into_iter().find(|branch| waits_for(branch, name));
                let payload = self.payload(name, step.map_or("", |branch| &branch.step));
                self.signals.push(name.clone());
                self.after(0, Happening::Word(Box::new(Word::Signal { name: name.clone(), payload })));
            }
        }
    }

    fn fate(&self, name: &str) -> Option<Fate> {
        self.faults.iter().find_map(|fault| match fault {
            Fault::Signal { name: struck, fate } if struck == name => Some(*fate),
            _ => None,
        })
    }

    fn payload(&self, name: &str, step: &str) -> Option<Json> {
        match self.stage.signals.iter().find(|signal| signal.name == name) {
            Some(signal) => signal.payload.clone(),
            None => self.stage.answers.payload(name, step).map(Json::from),
        }
    }

    /// Whoever is waited for answers in a while.
    fn signal(&mut self, events: &[Event]) {
        for event in events {
            let Event::Armed { branch, delay_ms, signal: Some(name) } = event else { continue };
            let fate = self.fate(name);
            if self.signals.contains(name) {
                continue;
            }
            self.signals.push(name.clone());
            let is_scripted = self.stage.signals.iter().any(|signal| signal.name == *name);
            let wait = i64::try_from(*delay_ms).unwrap_or(i64::MAX);
            let soon = WORK_MS.min(wait / 2);
            let word =
                || Word::Signal { name: name.clone(), payload: self.payload(name, &self.tx.branch(*branch).step) };
            let (times, first) = match fate {
                Some(Fate::Missing) => (0, 0),
                Some(Fate::Late) => (1, wait.saturating_add(WORK_MS)),
                Some(Fate::Twice) => (2, soon),
                None if is_scripted => (0, 0),
                Some(Fate::Early) | None => (1, soon),
            };
            let words: Vec<Word> = (0..times).map(|_| word()).collect();
            for (word, after) in words.into_iter().zip([first, first.saturating_add(2 * WAY_MS)]) {
                self.after(after, Happening::Word(Box::new(word)));
            }
        }
    }

    // --- the participants ---------------------------------------------------------------------------------------

    fn arrive(&mut self, message: usize, answered: bool) {
        let Message { call, strike, awaited, holder, .. } = self.messages[message];
        let of = self.messages[message].of.clone();
        if call.operation.is_undo() {
            self.check_order(call.branch, &of);
        }
        // Whoever answers so stands before the participant and its barrier.
        let is_down = matches!(strike, Some(Strike::Unavailable | Strike::Outage | Strike::Exhausted));
        let (reply, how, delay) = match call.ask {
            _ if is_down => {
                let error = Error::new("http_503", "503 Service Unavailable");
                (Reply::of(Outcome::Unknown(error)), How::Failed, 0)
            }
            true => {
                let ledger = self.ledgers.entry(of.branch.to_string()).or_default();
                (Reply::of(ledger.truth(of.operation)), How::Asked, 0)
            }
            false => self.execute(message, &of),
        };
        let late = !(answered && awaited && holder == self.holder);
        if self.tale.is_some() {
            let service = self.messages[message].service.clone();
            let of = of.clone();
            self.tell(|| What::Arrival { of, service, how, late });
        }
        if how == How::Accepted {
            self.work(message, strike);
        }
        if answered {
            let reply = match strike {
                Some(Strike::FailedAfter) => {
                    Reply::of(Outcome::Unknown(Error::new("http_500", "500 Internal Server Error")))
                }
                _ if how == How::Stored && matches!(reply.outcome, Outcome::Refused(_)) => {
                    self.paced(message, Some(Strike::RefusedForEver), reply)
                }
                _ => self.paced(message, strike, reply),
            };
            let reply = if call.ask { reply } else { self.judged(call, reply) };
            self.after(delay + WAY_MS, Happening::Answer { message, reply });
        }
    }

    fn execute(&mut self, message: usize, of: &Attempt) -> (Reply, How, i64) {
        let Message { call, asynchronous, strike, .. } = self.messages[message];
        let spec = self.tx.branch(call.branch);
        let turn = self.ledgers.get(of.branch.as_str()).map_or(0, |ledger| ledger.turn(call.operation));
        let scripted = self.stage.answers.script(spec, &of.branch, call.operation, turn);
        let answer = scripted.cloned().unwrap_or_default();
        let (step, forward) = (spec.step.clone(), call.operation.is_forward());
        let made = || if forward { self.stage.answers.body(&step) } else { serde_json::json!({}) };
        let delay = millis(answer.delay);
        let rules = spec.operation(call.operation).map_or(&[][..], |operation| &operation.outcome);
        let business = match strike {
            Some(Strike::Refused | Strike::RefusedForEver) => Business::Refuses(Error::new("refused", "409 Conflict")),
            Some(Strike::Bare) => {
                Business::Does(response(200, BTreeMap::new(), Some(Json::of(&serde_json::json!({})))))
            }
            Some(Strike::NotJson) => {
                Business::Does(Response { output_dropped: true, ..response(200, BTreeMap::new(), None) })
            }
            _ => answer.business(asynchronous, rules, made),
        };
        let idempotent = spec.operation(call.operation).is_some_and(|operation| operation.idempotent);
        let manners = Manners { barrier: self.stage.barrier, idempotent };
        let ledger = self.ledgers.entry(of.branch.to_string()).or_default();
        let (reply, how) = ledger.answer(call.operation, manners, business);
        (reply, how, delay)
    }

    /// What the operation's own rules make of a refusal or a failure; a success was judged when it was made.
    fn judged(&self, call: Call, reply: Reply) -> Reply {
        let operation = self.tx.branch(call.branch).operation(call.operation);
        let Some(rules) = operation.map(|operation| &operation.outcome).filter(|rules| !rules.is_empty()) else {
            return reply;
        };
        let (Outcome::Refused(error) | Outcome::Unknown(error)) = &reply.outcome else { return reply };
        let told = error.code.strip_prefix("http_").or(error.message.as_deref());
        let status = told.and_then(|told| told.split(' ').next()?.parse().ok()).unwrap_or(409);
        let body = Json::of(error);
        let Some((means, code)) = Answered::new(status, BTreeMap::new(), Some(&body)).judge(rules) else {
            return reply;
        };
        let error =
            Error { code: code.map_or_else(|| error.code.clone(), str::to_owned), message: error.message.clone() };
        let outcome = match means {
            Means::Succeeded => Outcome::Succeeded(response(status, BTreeMap::new(), Some(body))),
            Means::Refused => Outcome::Refused(error),
            Means::Pending => Outcome::Pending,
            Means::Unknown | Means::NotFound => Outcome::Unknown(error),
            Means::Unsent => Outcome::Unsent(error),
        };
        Reply { outcome, ..reply }
    }

    /// An accepted operation comes to its end later.
    fn work(&mut self, message: usize, strike: Option<Strike>) {
        let call = self.messages[message].call;
        let spec = self.tx.branch(call.branch);
        let id = self.tx.branch_id(call.branch);
        let turn = self.ledgers.get(id.as_str()).map_or(0, |ledger| ledger.turn(call.operation)).saturating_sub(1);
        let scripted = self.stage.answers.script(spec, &id, call.operation, turn);
        let callback = scripted.and_then(|answer: &Answer| answer.callback.clone());
        let pending = spec.operation(call.operation).and_then(|operation| operation.pending.as_ref());
        let half =
            pending.map(|pending| pending.heartbeat.map_or(pending.timeout, |beat| beat.min(pending.timeout)) / 2);
        let usual = half.map_or(WORK_MS, |half| WORK_MS.min(i64::try_from(half.as_millis()).unwrap_or(WORK_MS)));
        let after = callback.as_ref().and_then(|callback| callback.after);
        let after = after.map_or(usual, |after| i64::try_from(after.as_millis()).unwrap_or(i64::MAX));
        let refused = |error: Option<Error>| Err(error.unwrap_or_else(|| Error::new("refused", "refused by callback")));
        let end = match callback {
            _ if strike == Some(Strike::CallbackRefused) => refused(None),
            Some(callback) if callback.outcome == CallbackOutcome::Refused => refused(callback.error),
            other => {
                let output = other.and_then(|callback| callback.output);
                let body = output.unwrap_or_else(|| self.stage.answers.body(&spec.step));
                Ok(response(200, BTreeMap::new(), Some(Json::of(&body))))
            }
        };
        let after = if strike == Some(Strike::CallbackEarly) { 0 } else { after };
        self.after(after, Happening::Finish { message, end: Box::new(end) });
    }

    fn finish(&mut self, message: usize, end: Result<Response, Error>) {
        let Message { call, strike, .. } = self.messages[message];
        let branch = self.tx.branch_id(call.branch);
        let ledger = self.ledgers.entry(branch.to_string()).or_default();
        if !ledger.finish(call.operation, end.clone()) || strike == Some(Strike::CallbackLost) {
            return;
        }
        let (verdict, output, error) = match end {
            Ok(response) => (CallbackVerdict::Succeeded, response.body, None),
            Err(error) => (CallbackVerdict::Refused, None, Some(error)),
        };
        let word = Word::Callback { branch, operation: call.operation, verdict, output, error };
        // Before the 202 has come all the way back.
        let way = if strike == Some(Strike::CallbackEarly) { 1 } else { WAY_MS };
        if strike == Some(Strike::CallbackTwice) {
            self.after(way + 2 * WAY_MS, Happening::Word(Box::new(word.clone())));
        }
        self.after(way, Happening::Word(Box::new(word)));
    }

    /// Undoing runs in reverse dependency order.
    fn check_order(&mut self, branch: usize, of: &Attempt) {
        let mut work: Vec<usize> = self.tx.followers(branch);
        let mut seen = BTreeSet::new();
        while let Some(follower) = work.pop() {
            if !seen.insert(follower) {
                continue;
            }
            let spec = self.tx.branch(follower);
            let id = self.tx.branch_id(follower);
            let stands = self.ledgers.get(id.as_str()).is_some_and(|ledger| ledger.stands > 0);
            if stands && spec.undo.is_some() {
                let what = format!("its {} came before that of `{id}`, which follows it", of.operation);
                self.wrongs.push((of.branch.to_string(), what));
                return;
            }
            work.extend(self.tx.followers(follower));
        }
    }

    // --- the tale -----------------------------------------------------------------------------------------------

    fn tell(&mut self, what: impl FnOnce() -> What) {
        if let Some(tale) = &mut self.tale {
            let at_ms = u64::try_from(self.now.0 - START.0).unwrap_or(0);
            tale.push(Entry { at_ms, what: what() });
        }
    }

    /// The public events of what was recorded since.
    fn tell_events(&mut self) {
        if self.tale.is_none() || self.told == self.journal.len() {
            return;
        }
        let records: Vec<(u64, Record)> = (0..).zip(self.journal.iter().cloned()).collect();
        let Ok(published) = Transaction::publish(&self.stage.gid, &self.stage.plan, &records) else { return };
        let from = self.told;
        self.told = self.journal.len();
        for event in published {
            let seq = event.id.split('.').next().and_then(|seq| seq.parse::<usize>().ok());
            if seq.is_some_and(|seq| seq >= from) {
                self.tell(|| What::Event { event });
            }
        }
    }

    fn service_of(&self, branch: &str) -> String {
        let message = self.messages.iter().rev().find(|message| message.of.branch.as_str() == branch);
        message.map_or_else(|| branch.to_owned(), |message| message.service.clone())
    }
}

fn answer_told(of: Attempt, service: String, reply: &Reply) -> What {
    let (outcome, status, error, body) = match &reply.outcome {
        Outcome::Succeeded(response) => (CallOutcome::Succeeded, Some(response.status), None, response.body.clone()),
        Outcome::Refused(error) => (CallOutcome::Refused, None, Some(error.clone()), None),
        Outcome::Pending => (CallOutcome::Pending, Some(202), None, None),
        Outcome::Unknown(error) => (CallOutcome::Unknown, None, Some(error.clone()), None),
        Outcome::Unsent(error) => (CallOutcome::Unsent, None, Some(error.clone()), None),
        Outcome::NotFound => {
            let error = Error { code: "not_found".to_owned(), message: Some("it did not run".to_owned()) };
            (CallOutcome::Unknown, None, Some(error), None)
        }
    };
    What::Answer { of, service, outcome, status, error, body, barrier: reply.barrier }
}

fn millis(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn waits_for(branch: &Branch, signal: &str) -> bool {
    let Some(Block::Wait(Wait::Signal { name, .. })) = &branch.block else { return false };
    name.source().value().as_str() == Some(signal)
}

/// What is called: the service or, without one, the host.
fn service(request: &Request) -> String {
    match (&request.service, &request.target) {
        (Some(service), _) => service.clone(),
        (None, Target::Url(target)) => {
            let host = url::Url::parse(target).ok().and_then(|url| url.host_str().map(str::to_owned));
            host.unwrap_or_else(|| target.clone())
        }
        (None, Target::Path(_)) => request.branch.to_string(),
    }
}

fn address(request: &Request) -> String {
    let (Target::Path(target) | Target::Url(target)) = &request.target;
    let query: Vec<_> = request.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if query.is_empty() { target.clone() } else { format!("{target}?{}", query.join("&")) }
}

/// The gid of every virtual transaction.
pub(super) fn gid() -> Gid {
    Gid::new("simulated").expect("a gid")
}
