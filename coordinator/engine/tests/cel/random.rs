//! Random sources, well-formed and mutated: never a panic, always within the bounds, always the same, and where the
//! crate's own evaluation gives a value it is the same value.

use std::collections::BTreeMap;

use cel::{Context, common::ast::IdedExpr, objects::Key, parser::PrattParser};
use proptest::prelude::*;
use serde_json::{Value, json};
use skald_engine::cel::{COST, Meter};

use super::{Roots, compile, input};

fn roots() -> Roots {
    input(json!({
        "n": 7, "f": 2.5, "s": "text", "yes": true, "none": null, "big": u64::MAX,
        "list": [1, 2, 3], "mixed": [1, "a", null, 2.5], "lines": [{"q": 1}, {"q": 0}], "map": {"a": 1},
    }))
}

fn leaf() -> impl Strategy<Value = String> {
    let known = prop::sample::select(
        &[
            "input.n",
            "input.f",
            "input.s",
            "input.yes",
            "input.none",
            "input.big",
            "input.list",
            "input.mixed",
            "input.lines",
            "input.map",
            "input.missing",
            "input.lines[0].q",
            "x",
            "y",
            "true",
            "false",
            "null",
            "1",
            "0",
            "-1",
            "2u",
            "1.5",
            "'a'",
            "\"text\"",
            "b'z'",
            "[]",
            "9223372036854775807",
        ][..],
    );
    prop_oneof![12 => known.prop_map(str::to_owned), 1 => any::<i16>().prop_map(|n| n.to_string())]
}

fn source() -> impl Strategy<Value = String> {
    leaf().prop_recursive(5, 40, 4, |inner| {
        let binary =
            prop::sample::select(&["+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "&&", "||", "in"][..]);
        let call = prop::sample::select(&["size", "string", "int", "double", "uint", "bool", "bytes"][..]);
        let own = prop::sample::select(&["sum", "json", "sha256", "base64", "coalesce"][..]);
        let method = prop::sample::select(&["contains", "startsWith", "endsWith"][..]);
        let looped = prop::sample::select(&["map", "filter", "all", "exists", "exists_one"][..]);
        let item = prop::sample::select(&["x", "y"][..]);
        prop_oneof![
            6 => (inner.clone(), binary, inner.clone()).prop_map(|(a, op, b)| format!("({a} {op} {b})")),
            2 => (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
            2 => (call, inner.clone()).prop_map(|(f, a)| format!("{f}({a})")),
            1 => (own, inner.clone()).prop_map(|(f, a)| format!("{f}({a})")),
            1 => (inner.clone(), method, inner.clone()).prop_map(|(a, f, b)| format!("({a}).{f}({b})")),
            3 => (inner.clone(), looped, item, inner.clone()).prop_map(|(a, f, x, b)| format!("({a}).{f}({x}, {b})")),
            1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a})[{b}]")),
            1 => inner.clone().prop_map(|a| format!("has(({a}).q)")),
            1 => prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(", "))),
            // One key: of more, the crate's order differs from run to run.
            1 => inner.prop_map(|a| format!("{{'k': {a}}}")),
        ]
    })
}

fn mutated() -> impl Strategy<Value = String> {
    let letters = prop::sample::select(
        &["(", ")", "[", "]", "{", "}", ".", ",", "'", "\"", "\\", "?", ":", "-", "!", "é", " ", "\n", "0", "x", "//"]
            [..],
    );
    (source(), prop::collection::vec((any::<prop::sample::Index>(), prop::option::of(letters)), 1..4)).prop_map(
        |(source, changes)| {
            let mut letters: Vec<String> = source.chars().map(String::from).collect();
            for (at, change) in changes {
                let at = at.index(letters.len());
                letters[at] = change.unwrap_or_default().to_owned();
            }
            letters.concat()
        },
    )
}

/// Compiles and evaluates twice, to the same end.
fn is_bounded(source: &str, roots: &Roots) {
    let Ok(expression) = compile(source) else { return };
    let mut meter = Meter::new();
    let value = expression.evaluate(roots, &mut meter);
    assert!(meter.spent() <= COST);
    assert_eq!(compile(source).expect("it compiled before"), expression);
    let again = expression.evaluate(roots, &mut Meter::new());
    assert_eq!(value.map(|value| value.to_string()), again.map(|value| value.to_string()));
}

/// JSON as the crate's values, with whole numbers as ints where they fit.
fn foreign(value: &Value) -> cel::Value {
    match value {
        Value::Null => cel::Value::Null,
        Value::Bool(truth) => cel::Value::Bool(*truth),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(int), _) => cel::Value::Int(int),
            (None, Some(uint)) => cel::Value::UInt(uint),
            (None, None) => cel::Value::Float(number.as_f64().expect("a number")),
        },
        Value::String(text) => cel::Value::from(text.as_str()),
        Value::Array(items) => cel::Value::from(items.iter().map(foreign).collect::<Vec<_>>()),
        #[allow(clippy::disallowed_types, reason = "the crate takes no other map")]
        Value::Object(members) => {
            let members = members.iter().map(|(key, member)| (Key::from(key.as_str()), foreign(member)));
            cel::Value::from(members.collect::<std::collections::HashMap<_, _>>())
        }
    }
}

/// The crate's result as JSON; `None`: JSON has no such value.
fn domestic(value: &cel::Value) -> Option<Value> {
    Some(match value {
        cel::Value::Null => Value::Null,
        cel::Value::Bool(truth) => Value::from(*truth),
        cel::Value::Int(int) => Value::from(*int),
        cel::Value::UInt(uint) => Value::from(*uint),
        cel::Value::Float(double) => serde_json::Number::from_f64(*double).map(Value::Number)?,
        cel::Value::String(text) => Value::from(text.as_str()),
        cel::Value::List(items) => Value::Array(items.iter().map(domestic).collect::<Option<_>>()?),
        cel::Value::Map(map) => {
            let mut members = BTreeMap::new();
            for (key, member) in map.map.iter() {
                let Key::String(key) = key else { return None };
                members.insert(key.to_string(), domestic(member)?);
            }
            Value::Object(members.into_iter().collect())
        }
        _ => return None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, max_global_rejects: u32::MAX, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_well_formed_source_panics_or_runs_on(source in source()) {
        is_bounded(&source, &roots());
    }

    #[test]
    fn no_mutated_source_panics_or_runs_on(source in mutated()) {
        is_bounded(&source, &roots());
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,60}", more in "[\\[\\](){}\"'\\\\.,?:a-c0-9 +*!&|-]{0,60}") {
        is_bounded(&text, &roots());
        is_bounded(&more, &roots());
    }

    #[test]
    fn where_the_crate_gives_a_value_it_is_the_same_value(source in source()) {
        // The crate compares a large whole number with a double as two doubles, and drops the fraction of a whole double's
        // text: not on one line.
        let has = |part: &str| source.contains(part);
        prop_assume!(!(has("double(") && (has("big") || has("9223"))));
        prop_assume!(!(has("string(") && ["double(", "1.5", "input.f", "mixed"].into_iter().any(has)));
        let roots = roots();
        if let (Ok(expression), Ok(tree)) = (compile(&source), PrattParser::new().parse(&source)) {
            let tree: IdedExpr = tree;
            let mut context = Context::default();
            context.add_variable_from_value("input", foreign(&roots.0["input"]));
            let theirs = cel::Value::resolve(&tree, &context);
            let ours = expression.evaluate(&roots, &mut Meter::new());
            if let (Ok(ours), Some(theirs)) = (&ours, theirs.as_ref().ok().and_then(domestic)) {
                prop_assert_eq!(ours, &theirs, "{}", source);
            }
            if let (Err(ours), Ok(theirs)) = (&ours, &theirs) {
                // The crate also adds a map's keys to a list, which CEL does not know.
                let known = domestic(theirs).is_none() || ours.contains("`+` does not take a list and a map");
                prop_assert!(known, "{}: {} where the crate has {:?}", source, ours, theirs);
            }
            if let (Ok(ours), Err(theirs)) = (&ours, &theirs) {
                let added = ["sum(", "json(", "sha256(", "base64(", "coalesce(", "has("];
                prop_assert!(added.iter().any(|name| source.contains(name)), "{}: {} where the crate has {}", source, ours, theirs);
            }
        }
    }
}
