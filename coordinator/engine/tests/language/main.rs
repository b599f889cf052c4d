//! Definitions of the JSON language, driven: what each step kind does, in both directions, across a crash at every point.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../common/mod.rs"]
mod common;

mod budget;
mod choices;
mod cost;
mod ends;
mod maps;
mod phases;
mod polls;
mod sagas;
mod waits;

use serde_json::{Value, json};
use skald_engine::definition::{Library, compile_with};
use skald_protocol::Json;

/// A step that can be undone.
fn saga(name: &str) -> Value {
    json!({"name": name, "service": "s", "action": {"path": format!("/{name}")}, "compensate": {"path": "/undo"}})
}

/// A step with a role.
fn role(name: &str, role: &str) -> Value {
    let mut step = json!({"name": name, "service": "s", "role": role, "action": {"path": format!("/{name}")}});
    if role == "pivot" {
        step["action"]["idempotent"] = json!(true);
    }
    step
}

fn tcc(name: &str) -> Value {
    let operation = |what: &str| json!({"path": format!("/{name}/{what}")});
    json!({"name": name, "service": "s", "try": operation("try"), "confirm": operation("confirm"), "cancel": operation("cancel")})
}

/// `step` with more members.
fn with(step: Value, more: &Value) -> Value {
    let mut step = step;
    step.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    step
}

fn definition(steps: &Value) -> Value {
    json!({"dsl": "1.0", "name": "d", "version": "1.0.0", "services": {"s": {"url": "http://s"}}, "steps": steps})
}

/// Runs the script, then again with a crash before each of its words: what it comes to must be the same.
fn check(definition: &Value, input: &Value, script: &str, expected: &expect_test::Expect) {
    check_with(definition, &[], input, script, expected);
}

fn check_with(definition: &Value, library: &[Value], input: &Value, script: &str, expected: &expect_test::Expect) {
    let mut shelf = Library::default();
    library.iter().for_each(|one| shelf.add(&one.to_string()));
    let compiled = compile_with(&definition.to_string(), &shelf).unwrap_or_else(|faults| panic!("{faults:#?}"));
    // What is stored is what runs.
    let plan = skald_engine::Plan::decode(skald_engine::plan::FORMAT, &compiled.plan.encode()).unwrap();
    assert_eq!(plan, compiled.plan);
    expected.assert_eq(&common::tell_plan(plan, None, Some(Json::of(input)), script));
}
