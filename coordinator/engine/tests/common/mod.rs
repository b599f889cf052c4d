//! A transaction as a picture: a plan and a script in a line, and after each word what happened and what is called.
//!
//! Plan: names in order; `a(pivot,ask,idem,async,retriable,read,suspend,ignore)` sets a role and flags; `t(tcc)`; `[a b / c]`
//! side by side, `{a / b}` the same with `wait_all`. Script, words parted by `|`: `a ok|refused|unknown|unsent|pending|notfound|
//! superseded|stored-refused|expired` answers a's call in flight (`a undo ok`, `a confirm ok` likewise); `+5s` lets time pass;
//! `crash` replays the journal as another node; `park` as the same; `snapshot` records one; `foreign <word>` lets a node decide that does not hold the
//! transaction; `callback a ok|refused|pending`, `cancel`, `commit`, `enlist x`, `enlist x client`, `retry [a]`, `skip a`,
//! `resolve a ok|refused`, `fail`, `resume`, `full` are words from outside.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc, time::Duration};

use skald_engine::{
    Barrier, Began, Branch, Call, Command, Enlistment, Error, Event, Input, Operation, Outcome, Plan, Record, Reply,
    Response, Retry, Transaction,
    plan::{Body, Fail, Jitter, OnExhausted, OnTimeout, Pending, Role, Target},
    template::Template,
    transaction::{Continuity, Decided},
};
use skald_protocol::{BranchId, CallbackVerdict, Gid, Json, OperationKind, ResolvedOutcome, Timestamp};

pub(crate) const START: Timestamp = Timestamp(1_000_000);

fn retry(max_attempts: Option<u32>, max_elapsed: Option<u64>) -> Retry {
    Retry {
        max_attempts,
        initial_interval: Duration::from_secs(1),
        backoff_coefficient: 2.0,
        max_interval: Duration::from_secs(10),
        jitter: Jitter::None,
        max_elapsed: max_elapsed.map(Duration::from_secs),
    }
}

pub(crate) fn operation(kind: OperationKind, name: &str, flags: &[&str]) -> Operation {
    let forward = kind.is_forward();
    let tail = flags.contains(&"retriable");
    let settling = retry(None, Some(60));
    let path = Template::compile(serde_json::json!(format!("/{name}"))).unwrap();
    let check = flags.contains(&"ask").then(|| Box::new(operation(OperationKind::Status, name, &[])));
    Operation {
        kind,
        method: "POST".to_owned(),
        service: Some(name.to_owned()),
        target: Target::Path(path),
        query: BTreeMap::new(),
        headers: BTreeMap::new(),
        body: Body::None,
        timeout: Duration::from_secs(5),
        retry: if forward && !tail { retry(Some(3), None) } else { settling.clone() },
        settle: (forward && flags.contains(&"pivot")).then_some(settling),
        pending: (forward && flags.contains(&"async")).then_some(Pending {
            timeout: Duration::from_secs(100),
            heartbeat: Some(Duration::from_secs(30)),
            poll: None,
        }),
        status_check: if forward { check } else { None },
        outcome: Vec::new(),
        keep_headers: false,
        idempotent: flags.contains(&"idem"),
        on_exhausted: if flags.contains(&"suspend") {
            OnExhausted::Suspend
        } else if flags.contains(&"ignore") {
            OnExhausted::Ignore
        } else {
            OnExhausted::Compensate
        },
    }
}

pub(crate) fn branch(name: &str, flags: &[&str]) -> Branch {
    let has = |flag: &str| flags.contains(&flag);
    let role = if has("pivot") {
        Role::Pivot
    } else if has("retriable") {
        Role::Retriable
    } else if has("read") {
        Role::ReadOnly
    } else if has("tcc") {
        Role::Tcc
    } else {
        Role::Compensatable
    };
    let forward = if has("tcc") { OperationKind::Try } else { OperationKind::Action };
    let undo = match role {
        Role::Compensatable => Some(OperationKind::Compensate),
        Role::Tcc => Some(OperationKind::Cancel),
        Role::Pivot | Role::Retriable | Role::ReadOnly | Role::Parallel { .. } | Role::Pure => None,
    };
    Branch {
        forward: (!has("client")).then(|| operation(forward, name, flags)),
        confirm: has("tcc").then(|| operation(OperationKind::Confirm, name, &[])),
        undo: undo.map(|kind| operation(kind, name, &[])),
        ..Branch::new(BranchId::new(name).unwrap(), name, role)
    }
}

/// A block that is still open: what its arms follow, where they end, the branches in it.
type Block = (Vec<usize>, Vec<usize>, Vec<usize>, Fail);

/// Lowers the little plan language.
pub(crate) fn plan(text: &str) -> Plan {
    let spaced =
        ["[", "]", "{", "}", "/"].iter().fold(text.to_owned(), |text, mark| text.replace(mark, &format!(" {mark} ")));
    let mut plan = Plan { open: text.trim() == "open", ..Plan::open() };
    if plan.open {
        return plan;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut stack: Vec<Block> = Vec::new();
    for token in spaced.split_whitespace() {
        match token {
            "[" | "{" => {
                let fail = if token == "[" { Fail::Fast } else { Fail::WaitAll };
                stack.push((before.clone(), Vec::new(), Vec::new(), fail));
            }
            "/" => {
                let (entry, ends, ..) = stack.last_mut().unwrap();
                ends.append(&mut before);
                before.clone_from(entry);
            }
            "]" | "}" => {
                let (_, mut ends, members, fail) = stack.pop().unwrap();
                ends.append(&mut before);
                let block = plan.branches.len();
                for member in &members {
                    plan.branches[*member].within.get_or_insert(block);
                }
                if let Some((.., outer, _)) = stack.last_mut() {
                    outer.push(block);
                }
                plan.branches.push(Branch {
                    role: Role::Parallel { fail },
                    after: ends,
                    forward: None,
                    undo: None,
                    ..branch(&format!("block{block}"), &[])
                });
                before = vec![block];
            }
            _ => {
                let (name, flags) = token.split_once('(').unwrap_or((token, ""));
                let flags: Vec<&str> = flags.trim_end_matches(')').split(',').collect();
                let index = plan.branches.len();
                plan.branches
                    .push(Branch { after: std::mem::replace(&mut before, vec![index]), ..branch(name, &flags) });
                if let Some((.., members, _)) = stack.last_mut() {
                    members.push(index);
                }
            }
        }
    }
    let has_pivot = plan.branches.iter().any(|branch| branch.role == Role::Pivot);
    for index in 0..plan.branches.len() {
        let follows = plan.branches[index]
            .after
            .iter()
            .any(|before| plan.branches[*before].tail || plan.branches[*before].role == Role::Pivot);
        plan.branches[index].tail = follows || (!has_pivot && plan.branches[index].role == Role::Retriable);
    }
    plan
}

pub(crate) fn enlistment(name: &str, flags: &[&str]) -> Enlistment {
    let flags: Vec<&str> = flags.iter().copied().chain(["tcc"]).collect();
    Enlistment { branch: branch(name, &flags), digest: name.to_owned() }
}

/// One node's hold on a transaction, with its journal.
pub(crate) struct Drive {
    pub(crate) plan: Arc<Plan>,
    pub(crate) transaction: Transaction,
    pub(crate) journal: Vec<Record>,
    pub(crate) now: Timestamp,
    pub(crate) in_flight: Vec<Call>,
}

impl Drive {
    pub(crate) fn begin(plan: Plan, timeout: Option<Duration>) -> (Self, Vec<Event>) {
        Self::begin_with(plan, timeout, None)
    }

    pub(crate) fn begin_with(plan: Plan, timeout: Option<Duration>, input: Option<Json>) -> (Self, Vec<Event>) {
        let plan = Arc::new(plan);
        let timeout_ms = timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap());
        let began = Began {
            plan: String::new(),
            contract: "native".to_owned(),
            input,
            config: None,
            labels: BTreeMap::new(),
            timeout_ms,
            trace: skald_engine::TraceContext::default(),
        };
        let (transaction, events) = Transaction::begin(Gid::new("g").unwrap(), Arc::clone(&plan), began, START);
        let journal = vec![Record::new(START, events.clone())];
        (Self { plan, transaction, journal, now: START, in_flight: Vec::new() }, events)
    }

    pub(crate) fn record(&mut self, decided: &Decided) {
        if decided.record {
            let encoded = Record::new(self.now, decided.events.clone()).encode();
            self.journal.push(Record::decode(&encoded).unwrap());
        }
    }

    pub(crate) fn decide(&mut self, input: Input) -> Result<Decided, skald_engine::Rejection> {
        let decided = self.transaction.decide(input, self.now)?;
        self.record(&decided);
        Ok(decided)
    }

    /// Makes every call that is owed now.
    pub(crate) fn send(&mut self) -> Vec<Call> {
        let owed = self.transaction.owed(self.now);
        for call in &owed {
            self.transaction.sent(*call, self.now);
            self.in_flight.push(*call);
        }
        owed
    }

    pub(crate) fn reload(&mut self, continuity: Continuity) -> Decided {
        self.in_flight.clear();
        self.transaction =
            Transaction::replay(Gid::new("g").unwrap(), Arc::clone(&self.plan), self.journal.clone()).unwrap();
        let decided = self.transaction.load(continuity, self.now);
        self.record(&decided);
        decided
    }

    /// A node that does not hold the transaction decides; the holder reloads.
    pub(crate) fn foreign(&mut self, word: Command) -> Result<Decided, skald_engine::Rejection> {
        let gid = Gid::new("g").unwrap();
        let mut other = Transaction::replay(gid.clone(), Arc::clone(&self.plan), self.journal.clone()).unwrap();
        let mut decided = other.decide(Input::Command(word), self.now)?;
        self.record(&decided);
        let mut reloaded = Transaction::replay(gid, Arc::clone(&self.plan), self.journal.clone()).unwrap();
        let follows = reloaded.inherit(&self.transaction, self.now);
        self.transaction = reloaded;
        self.record(&follows);
        decided.events.extend(follows.events);
        Ok(decided)
    }

    fn take(&mut self, branch: &str, kind: &str) -> Call {
        let index = self.transaction.find(&BranchId::new(branch).unwrap()).expect("a branch");
        let position = self.in_flight.iter().position(|call| {
            call.branch == index
                && match kind {
                    "undo" => call.operation.is_undo(),
                    "confirm" => call.operation == OperationKind::Confirm,
                    _ => call.operation.is_forward(),
                }
        });
        self.in_flight.remove(position.unwrap_or_else(|| panic!("no call of {branch} is in flight")))
    }
}

/// `ok={"id":1}` gives the answer a body.
pub(crate) fn reply(word: &str) -> Reply {
    if let Some(body) = word.strip_prefix("ok=") {
        let body = Some(Json::from_text(body.to_owned()).unwrap());
        return Reply::of(Outcome::Succeeded(Response { status: 200, body, ..Response::default() }));
    }
    let error = || Error { code: "no".to_owned(), message: None };
    let of = |outcome, barrier| Reply { outcome, retry_after: None, barrier };
    match word {
        "ok" => of(Outcome::Succeeded(Response { status: 200, body: Some(Json::of(&1)), ..Response::default() }), None),
        "refused" => of(Outcome::Refused(error()), None),
        "stored-refused" => of(Outcome::Refused(error()), Some(Barrier::Stored)),
        "superseded" => of(Outcome::Refused(error()), Some(Barrier::Superseded)),
        "expired" => of(Outcome::Refused(Error::new("barrier_expired", "too old")), Some(Barrier::Expired)),
        "unknown" => of(Outcome::Unknown(error()), None),
        "barrier-unknown" => of(Outcome::Unknown(error()), Some(Barrier::Executed)),
        "unsent" => of(Outcome::Unsent(error()), None),
        "pending" => of(Outcome::Pending, None),
        "notfound" => of(Outcome::NotFound, None),
        other => panic!("no reply `{other}`"),
    }
}

/// Runs a script and tells what happened, a line per word.
pub(crate) fn tell(plan_text: &str, script: &str) -> String {
    let (plan_text, timeout) = match plan_text.split_once(';') {
        Some((plan, timeout)) => (plan, Some(timeout.trim())),
        None => (plan_text, None),
    };
    let mut lowered = plan(plan_text);
    let timeout = timeout.map(|timeout| {
        if timeout.contains("suspend") {
            lowered.on_timeout = OnTimeout::Suspend;
        }
        skald_protocol::parse_duration(timeout.split(' ').next().unwrap()).unwrap()
    });
    tell_plan(lowered, timeout, None, script)
}

/// Runs a script over a plan and an input.
pub(crate) fn tell_plan(plan: Plan, timeout: Option<Duration>, input: Option<Json>, script: &str) -> String {
    let (mut drive, events) = Drive::begin_with(plan, timeout, input);
    let mut told = String::new();
    line(&mut told, &mut drive, "begin", &events);
    for word in script.split('|').map(str::trim).filter(|word| !word.is_empty()) {
        match step(&mut drive, word) {
            Ok(decided) => line(&mut told, &mut drive, word, &decided.events),
            Err(rejection) => writeln!(told, "{word}: rejected {}", rejection.code()).unwrap(),
        }
        check_replay(&drive);
    }
    told
}

fn step(drive: &mut Drive, word: &str) -> Result<Decided, skald_engine::Rejection> {
    let words: Vec<&str> = word.split_whitespace().collect();
    let id = |name: &str| BranchId::new(name).unwrap();
    if let Some(pause) = word.strip_prefix('+') {
        drive.now = drive.now.plus(skald_protocol::parse_duration(pause).unwrap());
        return drive.decide(Input::Tick);
    }
    let outside = |words: &[&str]| -> Option<Command> {
        Some(match words {
            ["cancel"] => Command::Cancel { reason: None },
            ["commit"] => Command::Commit,
            ["enlist", name, flags @ ..] => Command::Enlist(Box::new(enlistment(name, flags))),
            ["retry"] => Command::Retry { branch: None },
            ["retry", name] => Command::Retry { branch: Some(id(name)) },
            ["skip", name] => Command::Skip { branch: id(name), reason: "so".to_owned() },
            ["resolve", name, outcome] => Command::Resolve {
                branch: id(name),
                outcome: if *outcome == "ok" { ResolvedOutcome::Succeeded } else { ResolvedOutcome::Refused },
                output: None,
                reason: "so".to_owned(),
            },
            ["signal", name, payload @ ..] => Command::Signal {
                name: (*name).to_owned(),
                payload: payload.first().map(|payload| Json::from_text((*payload).to_owned()).unwrap()),
            },
            ["fail"] => Command::Fail { reason: "so".to_owned() },
            ["resume"] => Command::Resume,
            ["full"] => Command::JournalFull,
            ["callback", name, outcome] => Command::Callback {
                branch: id(name),
                operation: OperationKind::Action,
                verdict: match *outcome {
                    "ok" => CallbackVerdict::Succeeded,
                    "refused" => CallbackVerdict::Refused,
                    _ => CallbackVerdict::Pending,
                },
                output: None,
                error: None,
            },
            _ => return None,
        })
    };
    match words.as_slice() {
        ["crash"] => Ok(drive.reload(Continuity::Broken)),
        ["snapshot"] => {
            let decided = Decided { events: vec![drive.transaction.snapshot()], record: true };
            drive.record(&decided);
            Ok(decided)
        }
        ["park"] => Ok(drive.reload(Continuity::Unbroken)),
        ["foreign", rest @ ..] => drive.foreign(outside(rest).expect("a word from outside")),
        [name, kind @ ("undo" | "confirm"), outcome] => {
            let call = drive.take(name, kind);
            drive.decide(Input::Replied { call, reply: reply(outcome) })
        }
        words => match outside(words) {
            Some(word) => drive.decide(Input::Command(word)),
            None => {
                let call = drive.take(words[0], "forward");
                drive.decide(Input::Replied { call, reply: reply(words[1]) })
            }
        },
    }
}

/// Whatever a script does, the journal folds to the state that the holder has, but for minor attempts.
fn check_replay(drive: &Drive) {
    let replayed = Transaction::replay(Gid::new("g").unwrap(), Arc::clone(&drive.plan), drive.journal.clone()).unwrap();
    let all = 0..usize::MAX;
    let statuses = |transaction: &Transaction| {
        let view = transaction.view(all.clone());
        let branches = view.branches.iter().map(|branch| {
            (branch.branch.to_string(), branch.status, branch.operations.iter().map(|op| op.status).collect::<Vec<_>>())
        });
        (view.status, view.decision, branches.collect::<Vec<_>>())
    };
    assert_eq!(statuses(&replayed), statuses(&drive.transaction));
}

fn line(told: &mut String, drive: &mut Drive, word: &str, events: &[Event]) {
    let suspended = drive.transaction.status() == skald_protocol::Status::Suspended;
    assert!(!suspended || drive.transaction.owed(drive.now).is_empty(), "suspended, but a call is owed: {word}");
    let happened: Vec<String> = events.iter().filter_map(|event| describe(drive, event)).collect();
    let calls: Vec<String> = drive
        .send()
        .iter()
        .map(|call| {
            let asks = if call.ask { "ask " } else { "" };
            let attempt = if call.attempt > 1 { format!(" #{}", call.attempt) } else { String::new() };
            format!("{asks}{} {}{attempt}", call.operation, drive.transaction.branch_id(call.branch))
        })
        .collect();
    let arrow = if calls.is_empty() { String::new() } else { format!(" -> {}", calls.join(", ")) };
    let happened = happened.join("; ");
    let gap = if happened.is_empty() { "" } else { " " };
    writeln!(told, "{word}:{gap}{happened}{arrow}").unwrap();
}

fn describe(drive: &Drive, event: &Event) -> Option<String> {
    let id = |branch: &usize| drive.transaction.branch_id(*branch).to_string();
    Some(match event {
        Event::Began(_)
        | Event::Enlisted(_)
        | Event::Succeeded { .. }
        | Event::Pended { .. }
        | Event::Polled { .. }
        | Event::Admitted { .. }
        | Event::Heartbeat { .. } => {
            return None;
        }
        Event::Failed { delay_ms, .. } => {
            format!("again in {}", skald_protocol::duration_text(Duration::from_millis(*delay_ms)))
        }
        Event::NotFound { cleared, .. } => {
            if *cleared {
                "did not run".to_owned()
            } else {
                "not there yet".to_owned()
            }
        }
        Event::Refused { branch, clean, .. } => {
            format!("{} refused{}", id(branch), if *clean { "" } else { " but may have run" })
        }
        Event::Exhausted { branch, .. } => format!("{} exhausted", id(branch)),
        Event::Stuck { branch, error, .. } => format!("{} stuck ({})", id(branch), error.code),
        Event::LateCallback { .. } => "late callback".to_owned(),
        Event::CancelRequested { .. } => "cancel requested".to_owned(),
        Event::DeadlinePassed => "deadline".to_owned(),
        Event::JournalFull => "journal full".to_owned(),
        Event::Decided { decision, error } => match error {
            Some(error) => format!("{decision} ({})", error.code),
            None => decision.to_string(),
        },
        Event::Halted { branches } => format!("halt {}", branches.iter().map(id).collect::<Vec<_>>().join(" ")),
        Event::Signalled { name, .. } => format!("signal {name}"),
        Event::Passed { branch, .. } => format!("{} passed", id(branch)),
        Event::Computed { branch, output, .. } => {
            format!("{} = {}", id(branch), output.as_ref().map_or("nothing", |output| output.text()))
        }
        Event::Chosen { branch, arm } => format!("{} chose {arm}", id(branch)),
        Event::Armed { branch, delay_ms, .. } => {
            format!("{} waits {}", id(branch), skald_protocol::duration_text(Duration::from_millis(*delay_ms)))
        }
        Event::Elapsed { branch } => format!("{} waited", id(branch)),
        Event::Mapped { branch, items } => format!("{} of {}", id(branch), items.len()),
        Event::Faulted { branch, error } => format!("{} failed ({})", id(branch), error.code),
        Event::PhaseStarted { phase } => format!("{} begins", phase.as_str()),
        Event::Suspended => "suspended".to_owned(),
        Event::Adopted => "adopted".to_owned(),
        Event::Retried { .. } => "retried".to_owned(),
        Event::Skipped { .. } => "skipped".to_owned(),
        Event::Resolved { .. } => "resolved".to_owned(),
        Event::Resumed => "resumed".to_owned(),
        Event::Settled { status, .. } => format!("settled {status}"),
        Event::Snapshot(_) => "snapshot".to_owned(),
        Event::Evaluated { .. } | Event::KeyTaken { .. } => return None,
    })
}
