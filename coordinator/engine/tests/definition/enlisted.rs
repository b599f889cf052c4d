//! Branches of open transactions.

use expect_test::{expect, expect_file};
use serde_json::{Value, json};
use skald_engine::{
    definition::enlist,
    plan::{Body, Branch, Role},
};
use skald_protocol::BranchRequest;

use super::*;

fn request(request: &Value) -> BranchRequest {
    serde_json::from_value(request.clone()).expect("a request")
}

fn taken(value: &Value) -> Branch {
    enlist(&request(value)).unwrap_or_else(|faults| panic!("{}", told(&faults)))
}

#[track_caller]
fn check(value: &Value, expect: Expect) {
    expect.assert_eq(&told(&enlist(&request(value)).expect_err("it was taken")));
}

#[test]
fn a_request_becomes_a_tcc_branch() {
    let branch = taken(&json!({
        "branch": "hold-1", "service": "stock",
        "try": {"path": "/holds", "timeout": "3s", "async": {"timeout": "1h"}},
        "confirm": {"path": "/holds/${self.output.id}/confirm", "body": {"gid": "${transaction.gid}"}},
        "cancel": {"url": "https://stock.example/cancel", "retry": {"max_interval": "5s"}, "status_check": {"url": "https://stock.example/${self.request.body.sku}"}},
        "body": {"sku": "a", "key": "${self.idempotency_key}"}
    }));
    expect_file!["enlisted.branch.json"].assert_eq(&format!("{}\n", serde_json::to_string_pretty(&branch).unwrap()));
}

#[test]
fn without_a_body_try_sends_none_and_the_others_what_try_sent() {
    let operation = json!({"url": "http://a/"});
    let branch = taken(
        &json!({"branch": "b", "try": {"url": "http://a/", "body": 1}, "confirm": operation, "cancel": operation}),
    );
    assert_eq!(branch.role, Role::Tcc);
    assert_eq!(
        [&branch.confirm, &branch.undo].map(|operation| operation.as_ref().unwrap().body.clone()),
        [Body::Forward, Body::Forward]
    );
    let branch = taken(&json!({"branch": "b", "confirm": operation, "cancel": operation}));
    assert_eq!(branch.forward, None);
    assert_eq!(branch.undo.unwrap().body, Body::None);
}

#[test]
fn faults_point_into_the_request() {
    check(
        &json!({"branch": "a.b", "service": "stock", "try": {"path": "x"}, "confirm": {"url": "stock/confirm"}, "cancel": 5, "body": ["${input.a}", "${self.output}"]}),
        expect![[r#"
            E004 /branch `a.b` is not a branch's name: [A-Za-z0-9_~-], at most 256
            E202 /body/0 `input` is none of `transaction`, `self`
            E202 /body/1 `self.output` is not known yet where this is rendered
              Here `self` has `idempotency_key`.
            E004 /try/path the path `x` must start with `/`
            E004 /confirm/url `stock/confirm` is not an absolute http or https URL
              Write scheme and host out; expressions may follow the first `/`.
            E002 /cancel expected an object, found a number
        "#]],
    );
    check(
        &json!({"branch": "a", "try": {"path": "/"}, "confirm": {"url": "http://a/", "retry": "slow", "outcome": []}, "cancel": {"url": "http://a/", "on_exhausted": "ignore", "boddy": 1}}),
        expect![[r#"
            E102 /try/path a `path` needs a service to stand on
              Write `service` here or on the step, or a `url`.
            E102 /confirm/retry there is no retry policy `slow`
            E002 /cancel/boddy unknown field `boddy`
              Did you mean `body`?
            E004 /cancel/on_exhausted here `on_exhausted` can only be `suspend`
        "#]],
    );
    check(
        &json!({"branch": "a", "confirm": {"url": "http://a/${self.output.id}"}, "cancel": {"url": "http://a/", "body": "${steps.b.output}"}}),
        expect![[r#"
            E202 /confirm/url `self.output` is not known yet where this is rendered
              Here `self` has `idempotency_key`.
            E202 /cancel/body `steps` is none of `transaction`, `self`
        "#]],
    );
}

#[test]
fn members_that_come_twice_and_depth_are_seen_in_the_text_as_it_was_sent() {
    let text = format!(
        r#"{{"branch":"a","confirm":{{"url":"http://a/","url":"http://b/"}},"cancel":{{"url":"http://a/"}},"body":{}1{}}}"#,
        "[".repeat(65),
        "]".repeat(65)
    );
    let request: BranchRequest = serde_json::from_str(&text).unwrap();
    expect![[r#"
        E001 /confirm/url `url` stands here twice
          Keep one of them.
        E001 /body too_deep: at most 64 levels are taken
    "#]]
    .assert_eq(&told(&enlist(&request).unwrap_err()));
}

#[test]
fn an_enlisted_branch_reads_back_as_it_was() {
    let operation = json!({"url": "http://a/", "query": {"a": 1}, "headers": {"X": "${transaction.gid}"}});
    let branch = taken(
        &json!({"branch": "b", "try": operation, "confirm": operation, "cancel": operation, "body": {"a": [1.5, null]}}),
    );
    let read: Branch = serde_json::from_slice(&serde_json::to_vec(&branch).unwrap()).unwrap();
    assert_eq!(read, branch);
}
