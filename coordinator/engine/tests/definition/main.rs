//! The definition compiler: what it refuses, what it takes, and what it makes of it.

#![allow(clippy::needless_pass_by_value, reason = "an expect! is written where it is handed over")]

mod accepted;
#[path = "../common/clock.rs"]
#[allow(clippy::disallowed_methods, reason = "the clock measures the engine, which reads none")]
mod clock;
mod enlisted;
mod faults;
mod graph;
mod hostile;
mod language;
mod scope;
mod shape;
mod steps;
mod types;
mod values;

use std::fmt::Write as _;

use expect_test::Expect;
use skald_engine::definition::{Diagnostic, compile};

fn told(faults: &[Diagnostic]) -> String {
    let mut text = String::new();
    for fault in faults {
        let _ = writeln!(text, "{} {} {}", fault.code, fault.pointer, fault.message);
        if let Some(help) = &fault.help {
            let _ = writeln!(text, "  {help}");
        }
    }
    text
}

#[track_caller]
fn check(definition: &str, expect: Expect) {
    let faults = compile(definition).map(|compiled| compiled.plan).expect_err("it was taken");
    assert!(faults.iter().all(|fault| fault.position.is_some()), "{faults:?}");
    expect.assert_eq(&told(&faults));
}

/// A definition of these steps, with a service `s`; `more` are fields of its top level.
fn definition(more: &str, steps: &str) -> String {
    let start = r#"{"dsl":"1.0","name":"d","version":"1.0.0","services":{"s":{"url":"http://s"}}"#;
    format!("{start}{more},\"steps\":[{steps}]}}")
}

#[track_caller]
fn check_steps(steps: &str, expect: Expect) {
    check(&definition("", steps), expect);
}

#[track_caller]
fn check_top(more: &str, expect: Expect) {
    check(&definition(more, &saga("a")), expect);
}

/// A step that is undone, on the service `s`.
fn saga(name: &str) -> String {
    format!(r#"{{"name":"{name}","service":"s","action":{{"path":"/"}},"compensate":{{"path":"/"}}}}"#)
}

fn saga_after(name: &str, after: &str) -> String {
    saga(name).replacen('{', &format!(r#"{{"after":[{after}],"#), 1)
}

fn role(name: &str, role: &str) -> String {
    format!(r#"{{"name":"{name}","service":"s","role":"{role}","action":{{"path":"/"}}}}"#)
}

/// A saga step whose action has these fields.
fn action(fields: &str) -> String {
    format!(r#"{{"name":"a","service":"s","action":{{{fields}}},"compensate":{{"path":"/"}}}}"#)
}
