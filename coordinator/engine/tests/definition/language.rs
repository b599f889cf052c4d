//! The JSON Schema of the language: whatever it refuses the compiler refuses, too.

use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::{Value, json};
use skald_engine::definition::{Library, compile_with, language_schema};

use super::told;

const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/workflow.schema.json");
const WHOLE: &str = include_str!("whole.json");

static LANGUAGE: LazyLock<Validator> = LazyLock::new(|| {
    jsonschema::options().offline().should_validate_formats(true).build(&language_schema()).expect("a schema")
});

fn faults(definition: &Value) -> Vec<String> {
    LANGUAGE.iter_errors(definition).map(|error| format!("{} {error}", error.instance_path())).collect()
}

/// What the compiler takes the schema takes.
#[track_caller]
pub(crate) fn fits(source: &str) {
    let definition = serde_json::from_str(source).expect("JSON");
    let faults = faults(&definition);
    assert!(faults.is_empty(), "{}\n{source}", faults.join("\n"));
}

#[test]
fn the_committed_schema_is_that_of_the_code() {
    let written = serde_json::to_string_pretty(&language_schema()).expect("JSON") + "\n";
    if std::env::var_os("SKALD_RENEW").is_some() {
        std::fs::write(COMMITTED, &written).expect("it can be written");
    }
    let committed = std::fs::read_to_string(COMMITTED).unwrap_or_default();
    assert!(
        committed == written,
        "docs/workflow.schema.json is not what the code says. Renew it:\n  \
         SKALD_RENEW=1 cargo test -p skald-engine --test definition the_committed_schema"
    );
}

#[test]
fn the_schema_of_schemas_accepts_it() {
    let schema = language_schema();
    let errors: Vec<_> =
        jsonschema::draft202012::meta::validator().iter_errors(&schema).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}

#[test]
fn every_kind_of_step_and_every_field_is_taken() {
    for source in [WHOLE, include_str!("order.json"), include_str!("two_steps.json")] {
        fits(source);
    }
    let mut library = Library::default();
    library.add(r#"{"dsl": "1.0", "name": "reporting", "version": "2.1.0", "steps": [{"name": "told", "set": true}]}"#);
    if let Err(faults) = compile_with(WHOLE, &library) {
        panic!("{}", told(&faults));
    }
    let mut unused: Vec<_> =
        LANGUAGE_FIELDS.iter().copied().filter(|field| !WHOLE.contains(&format!("\"{field}\""))).collect();
    unused.retain(|field| *field != "secret");
    assert!(unused.is_empty(), "{unused:?}");
}

#[test]
fn the_examples_and_the_demonstration_are_taken() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let folders = ["examples/workflows", "coordinator/src/demo"].map(|folder| format!("{root}/{folder}"));
    let files = folders.iter().flat_map(|folder| std::fs::read_dir(folder).expect("a folder"));
    let files: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    let is_definition = |name: &str| name.ends_with(".json") && !name.ends_with(".input.json");
    let definitions: Vec<_> = files.iter().filter(|file| is_definition(&file.to_string_lossy())).collect();
    assert!(definitions.len() >= 5, "{definitions:?}");
    for file in definitions {
        fits(&std::fs::read_to_string(file).expect("a definition"));
    }
}

/// All of docs/workflows.md's.
const LANGUAGE_FIELDS: &[&str] = &[
    "dsl",
    "name",
    "version",
    "title",
    "description",
    "labels",
    "input",
    "services",
    "defaults",
    "retries",
    "timeout",
    "on_timeout",
    "steps",
    "on_abort",
    "on_end",
    "output",
    "service",
    "role",
    "retry",
    "when",
    "after",
    "action",
    "compensate",
    "try",
    "confirm",
    "cancel",
    "parallel",
    "fail",
    "choice",
    "otherwise",
    "map",
    "items",
    "as",
    "max_items",
    "max_concurrency",
    "wait",
    "for",
    "until",
    "signal",
    "saga",
    "workflow",
    "set",
    "succeed",
    "error",
    "message",
    "method",
    "path",
    "url",
    "query",
    "headers",
    "body",
    "outcome",
    "is",
    "async",
    "heartbeat",
    "poll",
    "interval",
    "max_interval",
    "status_check",
    "idempotent",
    "on_exhausted",
    "max_attempts",
    "initial_interval",
    "backoff_coefficient",
    "jitter",
    "max_elapsed",
    "auth",
    "bearer",
    "basic",
    "username",
    "password",
    "header",
    "value",
    "secret",
];

/// Where members are the author's own.
const OPEN: &[&str] =
    &["labels", "input", "services", "retries", "query", "headers", "body", "output", "set", "x-owner"];

/// The pointers of all objects of the language in a definition.
fn objects(value: &Value, pointer: &str, found: &mut Vec<String>) {
    let key = pointer.rsplit('/').next().unwrap_or_default();
    match value {
        Value::Object(members) => {
            let is_open = OPEN.contains(&key);
            if !is_open {
                found.push(pointer.to_owned());
            }
            let data = is_open && !["services", "retries"].contains(&key);
            for (name, member) in members.iter().filter(|_| !data) {
                // A header's value may be a secret.
                objects(member, &format!("{pointer}/{}", name.replace('/', "~1")), found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                objects(item, &format!("{pointer}/{index}"), found);
            }
        }
        _ => {}
    }
}

#[test]
fn a_field_that_is_none_is_refused_wherever_it_stands_and_an_extension_is_not() {
    let whole: Value = serde_json::from_str(WHOLE).expect("JSON");
    let mut places = Vec::new();
    objects(&whole, "", &mut places);
    assert!(places.len() > 60, "{}", places.len());
    for place in places {
        for (field, taken) in [("zzz", false), ("x-zzz", true)] {
            let mut definition = whole.clone();
            definition.pointer_mut(&place).expect("a place")[field] = json!(1);
            assert_eq!(LANGUAGE.is_valid(&definition), taken, "{place}/{field}");
        }
    }
}

#[test]
fn what_is_written_wrong_is_refused() {
    let whole: Value = serde_json::from_str(WHOLE).expect("JSON");
    for (place, value) in [
        ("/dsl", json!("2.0")),
        ("/name", json!("Order")),
        ("/version", json!("1.0")),
        ("/timeout", json!("5 s")),
        ("/steps", json!([])),
        ("/steps/0/name", json!("Count")),
        ("/steps/0", json!({"name": "a"})),
        ("/steps/0", json!({"name": "a", "service": "stock", "action": {"path": "/"}})),
        (
            "/steps/0",
            json!({"name": "a", "service": "stock", "role": "pivot", "action": {"path": "/"}, "compensate": {"path": "/"}}),
        ),
        ("/steps/0", json!({"name": "a", "service": "stock", "try": {"path": "/"}, "confirm": {"path": "/"}})),
        ("/steps/0", json!({"name": "a", "set": 1, "wait": {"for": "5s"}})),
        ("/steps/0", json!({"name": "a", "role": "pivot", "set": 1})),
        ("/steps/1/fail", json!("slow")),
        ("/steps/1/parallel/0/steps", json!([])),
        ("/steps/1/parallel/1/steps/1/action", json!({"path": "/", "url": "http://x"})),
        ("/steps/1/parallel/1/steps/1/action/on_exhausted", json!("never")),
        ("/steps/1/parallel/1/steps/1/compensate/on_exhausted", json!("ignore")),
        ("/steps/1/parallel/1/steps/1/action/outcome/0/is", json!("not_found")),
        ("/steps/1/parallel/1/steps/1/action/async/heartbeat", json!("1s")),
        ("/steps/2/wait", json!({"signal": "a"})),
        ("/steps/0", json!({"name": "a", "succeed": true})),
        ("/steps/0", json!({"name": "a", "succeed": {"outputs": 1}})),
        ("/steps/0", json!({"name": "a", "set": 1, "succeed": {}})),
        ("/steps/0", json!({"name": "a", "role": "read_only", "succeed": {}})),
        ("/steps/2/wait", json!({"signal": [], "timeout": "1s"})),
        ("/steps/2/wait", json!({"signal": ["a", "a"], "timeout": "1s"})),
        ("/steps/2/wait", json!({"signal": ["a", 7], "timeout": "1s"})),
        ("/steps/3/wait", json!({"for": "5s", "timeout": "1s"})),
        ("/steps/3/wait/for", json!("soon")),
        ("/steps/5/choice", json!([{"when": "true", "steps": []}])),
        ("/steps/5/choice/0/steps/0/fail", json!("fast")),
        ("/services/pay/auth/bearer", json!("token")),
        ("/services/pay/auth/basic", json!({"username": "a", "password": {"secret": "a"}})),
    ] {
        let mut definition = whole.clone();
        let (holder, key) = place.rsplit_once('/').expect("a member");
        match definition.pointer_mut(holder).expect("a place") {
            Value::Array(items) => items[key.parse::<usize>().expect("an index")] = value.clone(),
            other => other[key] = value.clone(),
        }
        assert!(!LANGUAGE.is_valid(&definition), "{place} {value}");
    }
}
