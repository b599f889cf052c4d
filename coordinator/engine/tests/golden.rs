//! The encodings ever released: one file per event, with every field set and with none. `UPDATE_GOLDEN=1` writes what is
//! missing or other; a file of a released version is never to change.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::{collections::BTreeMap, collections::BTreeSet, path::PathBuf, time::Duration};

use common::{Drive, branch, plan, reply};
use skald_engine::{
    Barrier, Began, Command, Enlistment, Error, Event, Input, Plan, Record, Response, TraceContext,
    definition::{Library, compile_with},
    journal::{self, FailureClass},
    plan::{Auth, Body, OnTimeout, Phase, Secret, Service, Target, Value},
    template::Template,
};
use skald_protocol::{Decision, ErrorView, Json, OperationKind, ResolvedOutcome, Status, Timestamp, WorkflowRef};

const ACTION: OperationKind = OperationKind::Action;

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/v{}", journal::FORMAT))
}

fn check(name: &str, encoded: &[u8]) -> Vec<u8> {
    let path = directory().join(format!("{name}.json"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(directory()).unwrap();
        std::fs::write(&path, [encoded, b"\n"].concat()).unwrap();
    }
    let golden = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let golden = golden.strip_suffix(b"\n").unwrap_or(&golden).to_vec();
    assert_eq!(String::from_utf8_lossy(encoded), String::from_utf8_lossy(&golden), "{name}");
    golden
}

fn error() -> Error {
    Error { code: "out_of_stock".to_owned(), message: Some("none left".to_owned()) }
}

fn bare() -> Error {
    Error { code: "no".to_owned(), message: None }
}

fn view() -> ErrorView {
    ErrorView { step: Some("a".to_owned()), code: "refused".to_owned(), message: Some("none left".to_owned()) }
}

fn json(text: &str) -> Json {
    Json::from_text(text.to_owned()).unwrap()
}

fn response() -> Response {
    Response {
        status: 201,
        headers: BTreeMap::from([("etag".to_owned(), "7".to_owned())]),
        body: Some(json(r#"{"id": "h-1"}"#)),
        output_dropped: true,
        dropped: None,
    }
}

fn began() -> [Event; 2] {
    let trace = TraceContext {
        trace_id: "0af7651916cd43dd8448eb211c80319c".to_owned(),
        root_span_id: "b7ad6b7169203331".to_owned(),
        parent_span_id: Some("00f067aa0ba902b7".to_owned()),
        sampled: true,
        state: "congo=t61rcWkgMzE".to_owned(),
        baggage: "userId=alice".to_owned(),
    };
    let full = Began {
        plan: "9f".repeat(32),
        contract: "native".to_owned(),
        input: Some(json(r#"{"order_id": 7}"#)),
        config: Some(json(r#"{"region": "eu"}"#)),
        labels: BTreeMap::from([("team".to_owned(), "ops".to_owned())]),
        timeout_ms: Some(900_000),
        trace,
    };
    let none = Began {
        plan: String::new(),
        contract: "native".to_owned(),
        input: None,
        config: None,
        labels: BTreeMap::new(),
        timeout_ms: None,
        trace: TraceContext::default(),
    };
    [Event::Began(Box::new(full)), Event::Began(Box::new(none))]
}

fn attempts() -> Vec<Event> {
    let failed = |operation, class, ask, error, live_ms, barrier| Event::Failed {
        branch: 3,
        operation,
        attempt: 2,
        ask,
        class,
        error,
        delay_ms: 400,
        live_ms,
        barrier,
    };
    let succeeded = |response, output, unmapped, barrier| Event::Succeeded {
        branch: 3,
        operation: OperationKind::Try,
        attempt: 1,
        response,
        output,
        unmapped,
        barrier,
    };
    vec![
        failed(OperationKind::Compensate, FailureClass::Unknown, true, error(), 9_600, Some(Barrier::Executed)),
        failed(OperationKind::Confirm, FailureClass::Unsent, false, bare(), 0, None),
        failed(OperationKind::Cancel, FailureClass::Refused, false, bare(), 0, Some(Barrier::Expired)),
        Event::NotFound { branch: 3, operation: ACTION, attempt: 2, cleared: true, delay_ms: 400 },
        Event::NotFound { branch: 3, operation: ACTION, attempt: 2, cleared: false, delay_ms: 0 },
        Event::Pended { branch: 3, operation: ACTION, attempt: 1 },
        Event::Heartbeat { branch: 3, operation: ACTION },
        succeeded(response(), Some(json("[1]")), Some(error()), Some(Barrier::Stored)),
        succeeded(Response::default(), None, None, None),
        Event::Refused { branch: 3, operation: ACTION, attempt: 1, error: error(), clean: true },
        Event::Refused { branch: 3, operation: ACTION, attempt: 1, error: bare(), clean: false },
        Event::Exhausted { branch: 3, operation: ACTION, error: error() },
        Event::Stuck { branch: 3, operation: OperationKind::Compensate, error: error() },
        Event::LateCallback { branch: 3, operation: ACTION, outcome: ResolvedOutcome::Refused },
    ]
}

fn words() -> Vec<Event> {
    vec![
        Event::CancelRequested { reason: Some("changed my mind".to_owned()) },
        Event::CancelRequested { reason: None },
        Event::DeadlinePassed,
        Event::JournalFull,
        Event::Decided { decision: Decision::Abort, error: Some(view()) },
        Event::Decided { decision: Decision::Commit, error: None },
        Event::Halted { branches: vec![1, 3] },
        Event::Suspended,
        Event::Adopted,
        Event::Retried { branch: Some(3) },
        Event::Retried { branch: None },
        Event::Skipped { branch: 3, operation: ACTION, reason: "done by hand".to_owned() },
        Event::Resolved {
            branch: 3,
            operation: ACTION,
            outcome: ResolvedOutcome::Succeeded,
            output: Some(json("1")),
            reason: "seen in the books".to_owned(),
        },
        Event::Resolved {
            branch: 3,
            operation: ACTION,
            outcome: ResolvedOutcome::Refused,
            output: None,
            reason: String::new(),
        },
        Event::Resumed,
        Event::Settled { status: Status::Succeeded, output: Some(json(r#"{"id":1}"#)), error: None },
        Event::Settled { status: Status::Failed, output: None, error: Some(view()) },
        Event::Evaluated { cost: 417, made: 3 },
        Event::Evaluated { cost: 0, made: 0 },
        Event::KeyTaken { key: "7f3a".to_owned(), digest: "9f".repeat(32) },
        Event::PhaseStarted { phase: Phase::OnAbort },
        Event::PhaseStarted { phase: Phase::OnEnd },
    ]
}

/// Of branches that do something without an operation.
fn turns() -> Vec<Event> {
    vec![
        Event::Signalled { name: "approval".to_owned(), payload: Some(json(r#"{"by":"ann"}"#)) },
        Event::Signalled { name: "approval".to_owned(), payload: None },
        Event::Admitted { branch: 3 },
        Event::Passed { branch: 3, reason: Some("not needed".to_owned()) },
        Event::Passed { branch: 3, reason: None },
        Event::Computed { branch: 3, output: Some(json("[1]")), reason: Some("seen in the books".to_owned()) },
        Event::Computed { branch: 3, output: None, reason: None },
        Event::Chosen { branch: 3, arm: 1 },
        Event::Armed { branch: 3, delay_ms: 86_400_000, signals: vec!["approval".to_owned()] },
        Event::Armed { branch: 3, delay_ms: 0, signals: Vec::new() },
        Event::Elapsed { branch: 3 },
        Event::Mapped { branch: 3, items: vec![json(r#"{"sku":"a"}"#), json("2")] },
        Event::Mapped { branch: 3, items: Vec::new() },
        Event::Faulted { branch: 3, error: error() },
        Event::Polled { branch: 3, operation: ACTION, delay_ms: 400, error: None },
    ]
}

fn enlisted() -> [Event; 2] {
    let of = |flags: &[&str]| Enlistment { branch: branch("x", flags), digest: "9f".repeat(32) };
    [Event::Enlisted(Box::new(of(&["tcc"]))), Event::Enlisted(Box::new(of(&["tcc", "client"])))]
}

/// Of an aborted transaction that was loaded, pended, refused and unknown in turn.
fn snapshot() -> Event {
    let (mut drive, _) = Drive::begin(plan("a {b(async) / c(ask) / d}"), Some(Duration::from_secs(900)));
    for answers in [vec!["ok"], vec!["pending", "barrier-unknown", "unsent"], vec!["unknown", "refused"]] {
        let calls = drive.send();
        for (call, answer) in calls.into_iter().zip(answers) {
            let _ = drive.decide(Input::Replied { call, reply: reply(answer) }).unwrap();
        }
        drive.now = drive.now.plus(Duration::from_secs(1));
    }
    let _ = drive.reload(skald_engine::transaction::Continuity::Broken);
    let _ = drive.decide(Input::Command(Command::Cancel { reason: Some("enough".to_owned()) })).unwrap();
    drive.transaction.snapshot()
}

/// Everything of the language that a plan has a word for.
fn language_plan() -> Plan {
    let definition = include_str!("golden/language.json");
    let mut library = Library::default();
    library.add(include_str!("golden/included.json"));
    compile_with(definition, &library).unwrap().plan
}

/// In the middle of a map, a wait, a poll.
fn language_snapshot() -> Event {
    let input = Some(json(r#"{"lines": [1, 2, 3], "express": false}"#));
    let (mut drive, _) = Drive::begin_with(language_plan(), None, input);
    let _ = drive.decide(Input::Command(Command::Signal { name: "go".to_owned(), payload: Some(json("7")) })).unwrap();
    for answer in ["ok", "pending", "ok", "unknown"] {
        let Some(call) = drive.send().first().copied() else { break };
        let _ = drive.decide(Input::Replied { call, reply: reply(answer) }).unwrap();
        drive.now = drive.now.plus(Duration::from_secs(10));
        let _ = drive.decide(Input::Tick).unwrap();
    }
    drive.transaction.snapshot()
}

/// Of two phases after the main one.
fn phases_plan() -> Plan {
    compile_with(include_str!("golden/phases.json"), &Library::default()).unwrap().plan
}

fn samples() -> BTreeMap<&'static str, Vec<Event>> {
    let mut samples = BTreeMap::<_, Vec<Event>>::new();
    let all = began().into_iter().chain(enlisted()).chain(attempts()).chain(words()).chain(turns());
    let all = all.chain([snapshot(), language_snapshot()]);
    for event in all {
        samples.entry(event.name()).or_default().push(event);
    }
    samples
}

/// Every field of every type, in as few operations as that takes.
fn full_plan() -> Plan {
    let template = |value: serde_json::Value| Template::compile(&value).unwrap();
    let mut plan = plan("t(tcc) [a(async,ask) / r(read,suspend)] {b(idem) / c} p(pivot,ask) q(retriable,ignore)");
    plan.workflow = Some(WorkflowRef { name: "order".to_owned(), version: "1.2.0".to_owned() });
    plan.timeout = Some(Duration::from_secs(900));
    plan.on_timeout = OnTimeout::Suspend;
    plan.output = Some(template(serde_json::json!({"id": "${steps.a.output.id}"})));
    let secret = || Secret { secret: "pay_token".to_owned() };
    let auths = [
        None,
        Some(Auth::Bearer(secret())),
        Some(Auth::Basic { username: "skald".to_owned(), password: secret() }),
        Some(Auth::Header { name: "x-key".to_owned(), value: secret() }),
    ];
    for (index, auth) in auths.into_iter().enumerate() {
        let headers = [("x-a", Value::Text("b".to_owned())), ("x-s", Value::Secret(secret()))];
        let headers = headers.into_iter().take(index).map(|(name, value)| (name.to_owned(), value)).collect();
        let max_concurrency = (index > 0).then_some(8);
        let service = Service { url: "https://pay:8443".to_owned(), headers, auth, max_concurrency };
        plan.services.insert(format!("s{index}"), service);
    }
    plan.branches[0].output = Some(template(serde_json::json!("${self.response.body.id}")));
    let forward = plan.branches[0].forward.as_mut().unwrap();
    forward.query.insert("q".to_owned(), template(serde_json::json!("${input.q}")));
    forward.headers.insert("x-h".to_owned(), template(serde_json::json!("v")));
    forward.body = Body::Input;
    forward.service = None;
    forward.target = Target::Url(template(serde_json::json!("http://h/${input.id}")));
    plan.branches[0].confirm.as_mut().unwrap().body = Body::Forward;
    plan.branches[0].undo.as_mut().unwrap().body = Body::Given(template(serde_json::json!({"k": [1, "${input.q}"]})));
    plan
}

#[test]
fn every_event_reads_and_writes_as_it_was_released() {
    for (name, events) in samples() {
        let record = Record::new(Timestamp(1_700_000_000_000), events);
        let golden = check(name, &record.encode());
        assert_eq!(Record::decode(&golden).unwrap(), record, "{name}");
    }
}

/// What was added to an event or a plan after its file was released stands in a file of its own.
fn later_event() -> Event {
    Event::Armed { branch: 3, delay_ms: 7, signals: vec!["approved".to_owned(), "rejected".to_owned()] }
}

fn later_plans() -> [(&'static str, Plan); 2] {
    let later =
        [("plan_later", include_str!("golden/later.json")), ("plan_succeed", include_str!("golden/succeed.json"))];
    later.map(|(name, source)| (name, compile_with(source, &Library::default()).unwrap().plan))
}

#[test]
fn what_was_added_later_reads_and_writes_as_it_was_released() {
    let record = Record::new(Timestamp(1_700_000_000_000), vec![later_event()]);
    assert_eq!(Record::decode(&check("armed_first", &record.encode())).unwrap(), record);
    for (name, plan) in later_plans() {
        assert_eq!(Plan::decode(1, &check(name, &plan.encode())).unwrap(), plan);
    }
}

#[test]
fn every_event_has_a_golden_file_and_no_file_is_without_its_event() {
    let kept: BTreeSet<String> = std::fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    let known = samples().into_keys().map(str::to_owned);
    assert_eq!(
        kept,
        known
            .chain(
                ["plan", "plan_language", "plan_later", "plan_open", "plan_phases", "plan_succeed", "armed_first"]
                    .map(str::to_owned)
            )
            .collect()
    );
    // One per variant: `Event::name` and this list break with a new one.
    assert_eq!(kept.len(), 37 + 7);
}

#[test]
fn a_plan_reads_and_writes_as_it_was_released() {
    let plans = [
        ("plan", full_plan()),
        ("plan_language", language_plan()),
        ("plan_open", Plan::open()),
        ("plan_phases", phases_plan()),
    ];
    for (name, plan) in plans {
        let golden = check(name, &plan.encode());
        assert_eq!(Plan::decode(1, &golden).unwrap(), plan);
        assert!(matches!(Plan::decode(2, &golden), Err(skald_engine::plan::PlanError::Newer { format: 2 })));
    }
}

#[test]
fn what_a_newer_build_wrote_is_an_error_and_never_a_default() {
    for text in [
        r#"{"at":1,"events":["levitated"]}"#,
        r#"{"at":1,"events":[{"levitated":{"branch":1}}]}"#,
        r#"{"at":1,"events":[{"heartbeat":{"branch":1,"operation":"action","mood":"good"}}]}"#,
        r#"{"at":1,"events":[{"heartbeat":{"branch":1,"operation":"dance"}}]}"#,
        r#"{"at":1,"events":[{"heartbeat":{"operation":"action"}}]}"#,
        r#"{"at":1,"events":[{"heartbeat":{"branch":-1,"operation":"action"}}]}"#,
        r#"{"at":1,"events":[{"retried":{"branch":1,"force":true}}]}"#,
        r#"{"at":1,"events":["suspended"],"node":3}"#,
        r#"{"events":["suspended"]}"#,
        r#"{"at":1}"#,
        "{}",
        "",
    ] {
        assert!(Record::decode(text.as_bytes()).is_err(), "{text}");
    }
    let snapshot = String::from_utf8(Record::new(Timestamp(1), vec![snapshot()]).encode()).unwrap();
    let newer = snapshot.replacen("\"began_at\"", "\"mood\":1,\"began_at\"", 1);
    assert_ne!(newer, snapshot);
    assert!(Record::decode(newer.as_bytes()).is_err());
    assert!(Plan::decode(1, br#"{"branches":[],"mood":1}"#).is_err());
}
