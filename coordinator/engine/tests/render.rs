//! From a call to its request, and from an answer to an output: pure, escaped, and never half.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use common::{Drive, START, plan};
use serde_json::{Value, json};
use skald_engine::{
    Began, Call, Command, Input, Outcome, Plan, Record, Reply, Request, Response, TraceContext, Transaction,
    call::Target as To,
    plan::{Body, Target},
    template::Template,
};
use skald_protocol::{BranchId, Gid, Json, OperationKind, ResolvedOutcome, Status, WorkflowRef};

fn template(value: &Value) -> Template {
    Template::compile(value).unwrap()
}

fn begin(plan: Plan, input: Option<Value>) -> Drive {
    let plan = Arc::new(plan);
    let began = Began {
        plan: String::new(),
        contract: "native".to_owned(),
        input: input.map(Json::from),
        config: None,
        labels: BTreeMap::new(),
        timeout_ms: None,
        trace: TraceContext::default(),
    };
    let (transaction, events) = Transaction::begin(Gid::new("shop:1").unwrap(), Arc::clone(&plan), began, START);
    let journal = vec![Record::new(START, events)];
    Drive { plan, transaction, journal, now: START, in_flight: Vec::new() }
}

fn answer(drive: &mut Drive, response: Response) -> Vec<Call> {
    let call = drive.send().remove(0);
    let reply = Reply::of(Outcome::Succeeded(response));
    let _ = drive.decide(Input::Replied { call, reply }).unwrap();
    drive.transaction.owed(drive.now)
}

fn body(value: Value) -> Response {
    let headers = BTreeMap::from([("etag".to_owned(), "W/7".to_owned())]);
    Response { status: 201, headers, body: Some(Json::from(value)), ..Response::default() }
}

fn render(drive: &Drive) -> Request {
    drive.transaction.render(drive.transaction.owed(drive.now)[0]).unwrap()
}

fn error_of(drive: &Drive) -> String {
    let view = drive.transaction.view(0..9);
    let mut branch = view.branches.iter().flat_map(|branch| &branch.operations).filter_map(|op| op.last_error.clone());
    let error = view.error.or(branch.next_back()).unwrap();
    format!("{} at {}: {}", error.code, error.step.unwrap_or_default(), error.message.unwrap_or_default())
}

#[test]
fn a_body_is_the_input_what_is_given_or_what_the_forward_operation_was_sent() {
    let mut plan = plan("a b");
    plan.branches[0].forward.as_mut().unwrap().body = Body::Input;
    plan.branches[0].undo.as_mut().unwrap().body = Body::Forward;
    plan.branches[1].forward.as_mut().unwrap().body = Body::Given(template(&json!({
        "static": [1, {"deep": null}],
        "typed": "${input.lines[1].qty}",
        "text": "order ${input.id} of ${transaction.workflow}@${transaction.version}",
        "escaped": "$${input.id}",
        "before": "${steps.a.output.id}",
        "status": "${steps.a.status}",
        "own": "${self.idempotency_key}",
        "gid": "${transaction.gid}",
    })));
    plan.branches[1].undo.as_mut().unwrap().body = Body::Forward;
    plan.workflow = Some(WorkflowRef { name: "order".to_owned(), version: "1.2.0".to_owned() });
    let mut drive = begin(plan, Some(json!({"id": "o 1", "lines": [{"qty": 1}, {"qty": 2}]})));
    assert_eq!(render(&drive).body.unwrap().value(), json!({"id": "o 1", "lines": [{"qty": 1}, {"qty": 2}]}));
    answer(&mut drive, body(json!({"id": "h/1"})));
    let sent = render(&drive).body.unwrap();
    let expected = json!({
        "static": [1, {"deep": null}],
        "typed": 2,
        "text": "order o 1 of order@1.2.0",
        "escaped": "${input.id}",
        "before": "h/1",
        "status": "done",
        "own": "shop:1/b/action",
        "gid": "shop:1",
    });
    assert_eq!(sent.value(), expected);
    assert_eq!(render(&drive).body.unwrap(), sent, "a retry sends the same bytes");
    answer(&mut drive, body(json!(null)));
    assert_eq!(drive.transaction.status(), Status::Succeeded);
}

#[test]
fn an_undo_reads_what_its_forward_operation_was_sent_and_answered() {
    let mut plan = plan("a b");
    plan.branches[0].forward.as_mut().unwrap().body = Body::Given(template(&json!({"sku": "${input.sku}"})));
    plan.branches[0].undo.as_mut().unwrap().body = Body::Given(template(&json!({
        "sent": "${self.request.body.sku}",
        "id": "${self.output.id}",
        "status": "${self.response.status}",
        "tag": "${self.response.headers.etag}",
        "answered": "${self.response.body.id}",
        "key": "${self.idempotency_key}",
    })));
    let mut drive = begin(plan, Some(json!({"sku": "s"})));
    answer(&mut drive, body(json!({"id": 7})));
    let _ = drive.decide(Input::Command(Command::Cancel { reason: None })).unwrap();
    let request = render(&drive);
    let expected = json!({"sent": "s", "id": 7, "status": 201, "tag": "W/7", "answered": 7, "key": "shop:1/a/action"});
    assert_eq!(request.body.unwrap().value(), expected);
    assert_eq!(request.idempotency_key, "shop:1/a/compensate");
    assert_eq!((request.operation, request.branch.as_str()), (OperationKind::Compensate, "a"));
}

#[test]
fn a_value_never_leaves_its_place_in_a_url() {
    let mut plan = plan("a");
    let forward = plan.branches[0].forward.as_mut().unwrap();
    forward.target = Target::Path(template(&json!("/holds/${input.id}/x ${input.n}")));
    forward.query.insert("q".to_owned(), template(&json!("${input.id}&x")));
    forward.headers.insert("x-order".to_owned(), template(&json!("o-${input.n}-${input.yes}")));
    let drive = begin(plan.clone(), Some(json!({"id": "../é/?#%", "n": 7, "yes": true})));
    let request = render(&drive);
    assert_eq!(request.target, To::Path("/holds/..%2F%C3%A9%2F%3F%23%25/x 7".to_owned()));
    assert_eq!(request.query, [("q".to_owned(), "../é/?#%&x".to_owned())]);
    assert_eq!(request.headers["x-order"], "o-7-true");
    assert_eq!((request.method.as_str(), request.service.as_deref()), ("POST", Some("a")));
    assert!(!request.asynchronous);

    plan.branches[0].forward.as_mut().unwrap().target = Target::Url(template(&json!("http://h/${input.id}")));
    let drive = begin(plan.clone(), Some(json!({"id": "a/b", "n": 1, "yes": 1})));
    assert_eq!(render(&drive).target, To::Url("http://h/a%2Fb".to_owned()));

    for wrong in [json!({"id": ["a"], "n": 1, "yes": 1}), json!({"id": null, "n": 1, "yes": 1}), json!({"n": 1})] {
        let drive = begin(plan.clone(), Some(wrong));
        assert!(drive.transaction.render(drive.transaction.owed(START)[0]).is_err());
    }
}

#[test]
fn a_question_is_about_the_operation_and_waits_for_no_callback() {
    let mut drive = begin(plan("p(pivot,ask,async)"), None);
    let call = drive.send().remove(0);
    assert!(drive.transaction.render(call).unwrap().asynchronous);
    let _ = drive.decide(Input::Replied { call, reply: common::reply("unknown") }).unwrap();
    drive.now = drive.now.plus(Duration::from_secs(1));
    let request = render(&drive);
    assert_eq!(request.operation, OperationKind::Status);
    assert_eq!(request.idempotency_key, "shop:1/p/action");
    assert!(!request.asynchronous && request.body.is_none());
}

#[test]
fn nothing_is_rendered_of_a_call_that_no_branch_has() {
    let drive = begin(plan("a"), None);
    for (branch, operation) in [(0, OperationKind::Confirm), (0, OperationKind::Status), (7, OperationKind::Action)] {
        assert!(drive.transaction.render(Call { branch, operation, attempt: 1, ask: false }).is_err());
    }
}

/// The first call cannot be rendered; what becomes of the transaction.
fn unrenderable(plan: Plan, answers: &[&str]) -> Drive {
    let mut drive = begin(plan, Some(json!({})));
    for word in answers {
        let call = drive.send().remove(0);
        let _ = drive.decide(Input::Replied { call, reply: common::reply(word) }).unwrap();
        drive.now = drive.now.plus(Duration::from_secs(1));
    }
    let call = drive.send().remove(0);
    let error = drive.transaction.render(call).unwrap_err();
    let _ = drive.decide(Input::Unrenderable { call, error }).unwrap();
    drive
}

#[test]
fn an_expression_that_fails_aborts_before_the_commit_and_makes_its_branch_stuck_after_it() {
    let missing = || Body::Given(template(&json!("${input.nowhere}")));
    let mut first = plan("a b");
    first.branches[1].forward.as_mut().unwrap().body = missing();
    let drive = unrenderable(first, &["ok"]);
    assert_eq!(drive.transaction.status(), Status::Compensating);
    assert_eq!(error_of(&drive), "expression_failed at b: ${input.nowhere}: there is no `nowhere`");
    assert_eq!(drive.transaction.owed(drive.now)[0].operation, OperationKind::Compensate);

    for (text, branch, answers) in [("a r(retriable)", 1, &["ok"][..]), ("p(pivot) r(retriable)", 1, &["ok"])] {
        let mut plan = plan(text);
        plan.branches[branch].forward.as_mut().unwrap().body = missing();
        let drive = unrenderable(plan, answers);
        assert_eq!(drive.transaction.status(), Status::Suspended, "{text}");
        assert_eq!(error_of(&drive), "expression_failed at r: ${input.nowhere}: there is no `nowhere`");
    }

    let mut undo = plan("a b");
    undo.branches[0].undo.as_mut().unwrap().body = missing();
    let drive = unrenderable(undo, &["ok", "refused"]);
    assert_eq!(drive.transaction.status(), Status::Suspended);

    let mut confirm = plan("t(tcc)");
    confirm.branches[0].confirm.as_mut().unwrap().body = missing();
    let drive = unrenderable(confirm, &["ok"]);
    assert_eq!(drive.transaction.status(), Status::Suspended);

    let mut pivot = plan("a p(pivot)");
    pivot.branches[1].forward.as_mut().unwrap().body = missing();
    let drive = unrenderable(pivot.clone(), &["ok"]);
    assert_eq!(drive.transaction.status(), Status::Compensating, "an untried pivot did not run");

    let mut asked = plan("p(pivot,ask)");
    let check = asked.branches[0].forward.as_mut().unwrap().status_check.as_mut().unwrap();
    check.body = missing();
    let drive = unrenderable(asked, &["unknown"]);
    assert_eq!(drive.transaction.status(), Status::Suspended, "a pivot that may have run is never guessed");
    assert_eq!(error_of(&drive), "expression_failed at p: ${input.nowhere}: there is no `nowhere`");
}

#[test]
fn only_a_call_that_is_owed_can_be_unrenderable() {
    let mut drive = begin(plan("a b"), None);
    let owed = drive.send()[0];
    let error = || skald_engine::template::Unrenderable { path: "x".to_owned(), reason: "no".to_owned() };
    for call in [
        Call { attempt: 2, ..owed },
        Call { ask: true, ..owed },
        Call { branch: 1, ..owed },
        Call { branch: 9, ..owed },
        Call { operation: OperationKind::Try, ..owed },
        Call { operation: OperationKind::Status, ..owed },
    ] {
        let decided = drive.decide(Input::Unrenderable { call, error: error() }).unwrap();
        assert!(decided.events.is_empty(), "{call:?}");
    }
    let decided = drive.decide(Input::Unrenderable { call: owed, error: error() }).unwrap();
    assert!(decided.record);
    assert_eq!(drive.transaction.status(), Status::Compensated);
}

#[test]
fn an_output_is_mapped_from_the_answer_and_read_by_what_follows() {
    let mut plan = plan("a b");
    plan.branches[0].output =
        Some(template(&json!({"hold": "${self.response.body.id}", "code": "${self.response.status}"})));
    plan.branches[1].forward.as_mut().unwrap().body = Body::Given(template(&json!("${steps.a.output}")));
    plan.output = Some(template(&json!({"hold": "${steps.a.output.hold}", "last": "${steps.b.output}"})));
    let mut drive = begin(plan, None);
    answer(&mut drive, body(json!({"id": "h", "secret": 1})));
    assert_eq!(render(&drive).body.unwrap().value(), json!({"hold": "h", "code": 201}));
    answer(&mut drive, body(json!("end")));
    let view = drive.transaction.view(0..9);
    assert_eq!(view.status, Status::Succeeded);
    assert_eq!(view.output.unwrap().value(), json!({"hold": "h", "last": "end"}));
    assert_eq!(view.branches[0].operations[0].output.as_ref().unwrap().value(), json!({"hold": "h", "code": 201}));
}

fn mapped(text: &str, branch: usize) -> Plan {
    let mut plan = plan(text);
    plan.branches[branch].output = Some(template(&json!("${self.response.body.id}")));
    plan
}

#[test]
fn an_output_that_fails_aborts_before_the_commit_and_its_step_is_undone() {
    let mut drive = begin(mapped("a b", 0), None);
    let owed = answer(&mut drive, body(json!({})));
    assert_eq!(drive.transaction.status(), Status::Compensating);
    assert_eq!(error_of(&drive), "expression_failed at a: ${self.response.body.id}: there is no `id`");
    assert_eq!((owed[0].branch, owed[0].operation), (0, OperationKind::Compensate));
    answer(&mut drive, body(json!({})));
    assert_eq!(drive.transaction.status(), Status::Compensated);
}

#[test]
fn an_output_that_fails_at_the_pivot_or_after_it_is_given_by_a_person() {
    for (text, branch, before) in [("p(pivot) r(retriable)", 0, 0), ("a r(retriable) s(retriable)", 1, 1)] {
        let mut plan = mapped(text, branch);
        let last = plan.branches.len() - 1;
        let name = plan.branches[branch].step.clone();
        let from = template(&json!(format!("${{steps.{name}.output}}")));
        plan.branches[last].forward.as_mut().unwrap().body = Body::Given(from);
        let mut drive = begin(plan, None);
        for _ in 0..before {
            answer(&mut drive, body(json!({})));
        }
        answer(&mut drive, body(json!({})));
        assert_eq!(drive.transaction.status(), Status::Suspended, "{text}");
        let word = Command::Resolve {
            branch: BranchId::new(&name).unwrap(),
            outcome: ResolvedOutcome::Succeeded,
            output: Some(Json::from(json!("h-1"))),
            reason: "seen in the books".to_owned(),
        };
        let _ = drive.decide(Input::Command(word)).unwrap();
        assert_eq!(render(&drive).body.unwrap().value(), json!("h-1"), "{text}");
        answer(&mut drive, body(json!({})));
        assert_eq!(drive.transaction.status(), Status::Succeeded, "{text}");
    }
}

#[test]
fn an_output_that_failed_beside_the_pivot_makes_its_step_stuck_once_the_pivot_succeeds() {
    let mut drive = begin(mapped("[r(read) / p(pivot)] t(retriable)", 0), None);
    let calls = drive.send();
    for call in &calls {
        let reply = Reply::of(Outcome::Succeeded(body(json!({}))));
        let _ = drive.decide(Input::Replied { call: *call, reply }).unwrap();
    }
    assert_eq!(drive.transaction.status(), Status::Suspended);
    let _ = drive
        .decide(Input::Command(Command::Skip { branch: BranchId::new("r").unwrap(), reason: "so".to_owned() }))
        .unwrap();
    answer(&mut drive, body(json!({})));
    assert_eq!(drive.transaction.status(), Status::Succeeded);
}

#[test]
fn a_final_output_that_fails_does_not_stop_the_end() {
    let mut plan = plan("a");
    plan.output = Some(template(&json!({"id": "${steps.a.output.id}"})));
    let mut drive = begin(plan, None);
    answer(&mut drive, body(json!({})));
    let view = drive.transaction.view(0..9);
    assert_eq!((view.status, view.output), (Status::Succeeded, None));
    assert_eq!(error_of(&drive), "expression_failed at : ${steps.a.output.id}: there is no `id`");
}

#[test]
fn expressions_compute_from_what_is_recorded() {
    let mut plan = plan("a b");
    plan.branches[0].output = Some(template(&json!({"sum": "${sum(self.response.body.n)}"})));
    let forward = plan.branches[1].forward.as_mut().unwrap();
    forward.target = Target::Path(template(&json!("/o/${input.id + '/' + string(steps.a.output.sum)}")));
    forward.query = BTreeMap::from([("n".to_owned(), template(&json!("${size(input.lines)}")))]);
    forward.headers = BTreeMap::from([("key".to_owned(), template(&json!("${sha256(self.idempotency_key)}")))]);
    forward.body = Body::Given(template(&json!({
        "lines": "${input.lines.filter(l, l.qty > 0).map(l, l.sku)}",
        "twice": "${steps.a.output.sum * 2}",
        "done": "${steps.a.status == 'done' ? 'yes' : 'no'}",
        "has": "${[has(steps.a.output), has(steps.a.output.sum), has(steps.b.output), has(input.note)]}",
        "gid": "${transaction.gid.startsWith('shop')}",
    })));
    plan.output = Some(template(&json!("${steps.a.output.sum + steps.b.output.sum}")));
    let lines = json!([{"sku": "x", "qty": 2}, {"sku": "y", "qty": 0}]);
    let mut drive = begin(plan, Some(json!({"id": "o 1", "lines": lines})));
    let owed = answer(&mut drive, body(json!({"n": [1, 2, 3]})));
    let request = drive.transaction.render(owed[0]).unwrap();
    assert_eq!(request.target, To::Path("/o/o%201%2F6".to_owned()));
    assert_eq!(request.query, [("n".to_owned(), "2".to_owned())]);
    assert_eq!(request.headers["key"].len(), 64);
    let expected = json!({"lines": ["x"], "twice": 12, "done": "yes", "has": [true, true, false, false], "gid": true});
    assert_eq!(request.body.as_ref().unwrap().value(), expected);
    assert_eq!(drive.transaction.render(owed[0]).unwrap().body.unwrap().text(), request.body.unwrap().text());
    answer(&mut drive, body(json!({"sum": 10})));
    assert_eq!(drive.transaction.view(0..2).output.unwrap().value(), json!(16));
}

#[test]
fn an_expression_that_fails_or_costs_too_much_is_refused_like_a_path_that_is_missing() {
    let failing = |expression: &str| {
        let mut plan = plan("a");
        plan.branches[0].forward.as_mut().unwrap().body = Body::Given(template(&json!(expression)));
        let mut drive = begin(plan, Some(json!({"n": (0..2_000).collect::<Vec<_>>()})));
        let call = drive.transaction.owed(drive.now)[0];
        let error = drive.transaction.render(call).unwrap_err();
        let _ = drive.decide(Input::Unrenderable { call, error }).unwrap();
        assert_eq!(drive.transaction.status(), Status::Compensated);
        error_of(&drive)
    };
    let told = failing("${input.n + 1}");
    assert_eq!(told, "expression_failed at a: ${input.n + 1}: `+` does not take a list and an int");
    let told = failing("${input.n.map(a, input.n.map(b, a * b))}");
    let why = "too costly: the expressions of one request may take 500000 steps";
    assert_eq!(told, format!("expression_failed at a: ${{input.n.map(a, input.n.map(b, a * b))}}: {why}"));
}

#[test]
fn the_paths_of_one_request_make_no_more_than_a_request_may_be() {
    let mut plan = plan("a");
    plan.branches[0].forward.as_mut().unwrap().body = Body::Given(template(&json!(vec!["${input.text}"; 12])));
    let drive = begin(plan, Some(json!({"text": "x".repeat(100_000)})));
    let error = drive.transaction.render(drive.transaction.owed(drive.now)[0]).unwrap_err();
    assert_eq!(error.reason, "too large: the expressions of one request may make 1048576 bytes");
}
