//! Text meant to hurt: it is refused or compiled, never a panic, never minutes.

use proptest::prelude::*;
use serde_json::{Value, json};
use skald_engine::{Plan, definition::compile, plan};

use super::*;

/// Words of the language, so that random JSON gets past the first field.
const WORDS: &[&str] = &[
    "dsl",
    "name",
    "version",
    "steps",
    "services",
    "defaults",
    "retries",
    "timeout",
    "action",
    "compensate",
    "role",
    "after",
    "parallel",
    "try",
    "confirm",
    "cancel",
    "output",
    "path",
    "url",
    "body",
    "retry",
    "settle",
    "async",
    "status_check",
    "headers",
    "query",
    "method",
    "service",
    "s",
    "a",
    "b",
    "1.0",
    "1.0.0",
    "5s",
    "/",
    "http://s",
    "pivot",
    "retriable",
    "read_only",
    "POST",
    "GET",
    "${input.a}",
    "${steps.a.output}",
    "${self.output}",
    "${input.a + 1}",
    "${size(steps.a.output.b) > 0 && has(input.a)}",
    "${input.a.map(x, x",
    "$${",
    "unlimited",
    "max_attempts",
    "input",
    "type",
    "properties",
    "$ref",
    "#",
    "labels",
    "x-a",
    "secret",
    "auth",
    "bearer",
    "idempotent",
    "on_exhausted",
    "suspend",
    "fail",
    "fast",
];

fn word() -> impl Strategy<Value = String> {
    prop_oneof![8 => prop::sample::select(WORDS).prop_map(str::to_owned), 1 => ".{0,6}"]
}

fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        6 => word().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            3 => prop::collection::btree_map(word(), inner, 0..7).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn operation() -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => Just(json!({"path": "/"})),
        1 => Just(json!({"url": "http://a/${input.a}", "method": "GET"})),
        1 => Just(json!({"path": "/${input.a + 'x'}", "body": "${input.l.map(x, steps.a.output.n * x)}"})),
        1 => Just(json!({"path": "/", "body": {"a": "${steps.a.output.id}"}, "retry": {"max_attempts": 3}})),
        1 => anything(),
    ]
}

fn step() -> impl Strategy<Value = Value> {
    let name = prop::sample::select(&["a", "b", "c", "d", "e", "f", "g", "h"][..]);
    let roles = prop::sample::select(&["pivot", "retriable", "read_only"][..]);
    let after = prop::option::weighted(0.3, prop::collection::vec(name.clone(), 0..3));
    let kind = prop_oneof![
        4 => (operation(), operation()).prop_map(|(action, undo)| json!({"action": action, "compensate": undo})),
        2 => (operation(), roles).prop_map(|(action, role)| json!({"action": action, "role": role})),
        1 => operation().prop_map(|all| json!({"try": all, "confirm": all, "cancel": all})),
    ];
    let leaf = (name.clone(), after.clone(), kind).prop_map(|(name, after, mut step)| {
        step["name"] = name.into();
        step["service"] = "s".into();
        if let Some(after) = after {
            step["after"] = after.into();
        }
        step
    });
    leaf.prop_recursive(3, 16, 3, move |inner| {
        let arms = prop::collection::vec(prop::collection::vec(inner, 1..3), 1..3);
        (name.clone(), after.clone(), arms).prop_map(|(name, after, arms)| {
            let arms: Vec<_> = arms.into_iter().map(|steps| json!({"steps": steps})).collect();
            let mut block = json!({"name": name, "parallel": arms});
            if let Some(after) = after {
                block["after"] = after.into();
            }
            block
        })
    })
}

/// What holds of every plan that the compiler lets through.
fn is_sound(plan: &Plan) {
    for (index, branch) in plan.branches.iter().enumerate() {
        assert!(branch.after.iter().all(|before| *before < index));
        assert!(branch.within.is_none_or(|block| index < block && block < plan.branches.len()));
        assert_eq!(plan.find(branch.id.as_str()), Some(index));
    }
    let encoded = plan.encode();
    let read = Plan::decode(plan::FORMAT, &encoded).expect("a plan");
    assert_eq!(&read, plan);
    assert_eq!(read.encode(), encoded);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_json_makes_the_compiler_panic(value in anything()) {
        let _ = compile(&value.to_string());
    }

    #[test]
    fn no_definition_makes_the_compiler_panic_and_what_it_takes_is_sound(
        steps in prop::collection::vec(step(), 1..6),
        more in prop::option::weighted(0.2, (word(), anything())),
    ) {
        let mut definition = json!({"dsl": "1.0", "name": "d", "version": "1.0.0", "services": {"s": {"url": "http://s"}}, "steps": steps});
        if let Some((field, value)) = more {
            definition[field] = value;
        }
        match compile(&definition.to_string()) {
            Ok(compiled) => {
                is_sound(&compiled.plan);
                language::fits(&definition.to_string());
            }
            Err(faults) => prop_assert!(!faults.is_empty()),
        }
    }

    #[test]
    fn no_text_makes_the_compiler_panic(text in "[\\[\\]{}\",:0-9a-z \\\\$.\\-]{0,80}") {
        let _ = compile(&text);
    }
}

#[test]
fn a_thousand_steps_in_a_row_side_by_side_and_all_after_all() {
    let names: Vec<_> = (0..1000).map(|n| format!("s{n}")).collect();
    let row: Vec<_> = names.iter().map(|name| role(name, "read_only")).collect();
    is_sound(&compile(&definition("", &row.join(","))).unwrap().plan);

    let arms: Vec<_> = names[1..].iter().map(|name| format!(r#"{{"steps":[{}]}}"#, role(name, "read_only"))).collect();
    is_sound(&compile(&definition("", &format!(r#"{{"name":"s0","parallel":[{}]}}"#, arms.join(",")))).unwrap().plan);

    // As many edges as fit: each of the later ones comes after all of the first.
    let all: Vec<_> = names[..200].iter().map(|name| format!("\"{name}\"")).collect();
    let (early, late) = (&names[..200], &names[200..320]);
    let mut steps: Vec<_> =
        early.iter().map(|name| role(name, "read_only").replacen('{', r#"{"after":[],"#, 1)).collect();
    let after = format!(r#"{{"after":[{}],"#, all.join(","));
    steps.extend(late.iter().map(|name| role(name, "read_only").replacen('{', &after, 1)));
    is_sound(&compile(&definition("", &steps.join(","))).unwrap().plan);
}

#[test]
fn edges_have_a_limit_of_their_own() {
    let early: Vec<_> =
        (0..400).map(|n| role(&format!("e{n}"), "read_only").replacen('{', r#"{"after":[],"#, 1)).collect();
    let after: Vec<_> = (0..400).map(|n| format!("\"e{n}\"")).collect();
    let arms: Vec<_> = (0..500).map(|n| format!(r#"{{"steps":[{}]}}"#, role(&format!("a{n}"), "read_only"))).collect();
    let block = format!(r#"{{"name":"b","after":[{}],"parallel":[{}]}}"#, after.join(","), arms.join(","));
    let faults = compile(&definition("", &format!("{},{block}", early.join(",")))).unwrap_err();
    assert_eq!(faults.len(), 1);
    assert!(faults[0].message.starts_with("too_many_edges: 200500"), "{faults:?}");
}

#[test]
fn blocks_as_deep_as_json_goes() {
    let mut step = role("a", "read_only");
    for depth in 0..14 {
        step = format!(r#"{{"name":"b{depth}","parallel":[{{"steps":[{step}]}}]}}"#);
    }
    is_sound(&compile(&definition("", &step)).unwrap().plan);
}

#[test]
fn many_faults_are_told_up_to_a_hundred() {
    let unknown: Vec<_> = (0..20_000).map(|n| format!(r#""u{n}":0"#)).collect();
    assert_eq!(compile(&definition(&format!(",{}", unknown.join(",")), &saga("a"))).unwrap_err().len(), 100);
    let bad: Vec<_> = (0..30_000).map(|_| r#""${""#).collect();
    let step = action(&format!(r#""path":"/","body":{{"{}":[{}]}}"#, "k".repeat(50_000), bad.join(",")));
    assert_eq!(compile(&definition("", &step)).unwrap_err().len(), 100);
    let strange: Vec<_> = (0..15_000).map(|_| r#""${x.y}""#).collect();
    let step = action(&format!(r#""path":"/","body":{{"{}":[{}]}}"#, "k".repeat(50_000), strange.join(",")));
    assert_eq!(compile(&definition("", &step)).unwrap_err().len(), 100);
}

#[test]
fn a_definition_full_of_expressions_is_refused_or_taken_soon() {
    let filled = |piece: &str| {
        let pieces = vec![format!("\"{piece}\""); 250_000 / (piece.len() + 3)];
        definition("", &action(&format!(r#""path":"/","body":[{}]"#, pieces.join(","))))
    };
    let calls = format!("${{input{}}}", ".f()".repeat(64));
    let folds = format!("${{input{}}}", ".map(x,x)".repeat(60));
    let deep = format!("${{{}1{}}}", "size([".repeat(15), "])".repeat(15));
    let brackets = "${".to_owned() + &"(".repeat(4_000) + "}";
    let ahead = format!("${{{}1,{}}}", "(1+".repeat(31), ",".repeat(3_900));
    let wide = format!("${{[{}1]}}", "1,".repeat(490));
    let reads = format!("${{[{}1]}}", "input.a.b.c,".repeat(100));
    for piece in [
        "${1}", "${1+1}", "${ä}", "${'}", "${{", "$${", "${a.b}", &ahead, &calls, &folds, &deep, &brackets, &wide,
        &reads,
    ] {
        let source = filled(piece);
        let began = clock::spent();
        let compiled = compile(&source);
        let took = clock::spent() - began;
        // Many times as long as a build with optimization takes, for a machine that is busy.
        assert!(took.as_millis() < 500, "{:.40}: {took:?}, taken: {}", piece, compiled.is_ok());
    }
}

#[test]
fn the_places_of_a_hundred_faults_are_found_soon() {
    let strange: Vec<_> = (0..15_000).map(|_| "\n\"${x.é}\"").collect();
    let step = action(&format!(r#""path":"/","body":[{}]"#, strange.join(",")));
    let source = definition("", &step);
    assert!(source.len() > 120_000, "{}", source.len());
    let began = clock::spent();
    let faults = compile(&source).unwrap_err();
    let took = clock::spent() - began;
    assert!(took.as_millis() < 500, "{took:?}");
    let lines: Vec<_> = faults.iter().map(|fault| fault.position.unwrap()).map(|at| (at.line, at.column)).collect();
    assert_eq!(lines, (0..100).map(|fault| (fault + 2, 1)).collect::<Vec<_>>());
}

#[test]
fn long_names_are_cut_in_what_is_told() {
    let long = "n".repeat(200_000);
    let faults = compile(&definition("", &saga(&long))).unwrap_err();
    assert_eq!(faults.len(), 1);
    assert!(faults[0].message.len() < 300, "{}", faults[0].message);
    let faults = compile(&definition(&format!(r#","{long}":1"#), &saga("a"))).unwrap_err();
    assert!(faults[0].message.len() < 300, "{}", faults[0].message);
    let faults = compile(&definition("", &action(&format!(r#""path":"/${{steps.{long}.output}}""#)))).unwrap_err();
    assert!(faults[0].message.len() < 300, "{}", faults[0].message);
}

#[test]
fn an_output_that_is_null_is_kept_as_it_was_said() {
    let source = definition(r#","output":null"#, &saga("a").replacen('{', r#"{"output":null,"#, 1));
    is_sound(&compile(&source).unwrap().plan);
}
