//! What is over a bound is refused or stops, soon.

use std::time::Duration;

use expect_test::expect;
use serde_json::{Value, json};
use skald_engine::{
    cel::{Meter, Reason},
    template::Template,
};

use super::{Roots, clock, compile, evaluate, input};

/// The bounds themselves hold in a build without optimization, about ten times slower than a released one.
#[track_caller]
fn within<R>(limit: Duration, what: impl FnOnce() -> R) -> R {
    let began = clock::spent();
    let result = what();
    let took = clock::spent() - began;
    assert!(took < limit, "it took {took:?}");
    result
}

#[track_caller]
fn refused(source: &str) -> String {
    let refused = within(Duration::from_millis(50), || compile(source)).expect_err("it is over a bound");
    assert_eq!(refused.reason, Reason::Bound, "{refused}");
    refused.to_string()
}

#[test]
fn what_is_too_long_too_large_or_too_deep_is_refused() {
    let told = [
        refused(&"1".repeat(4_097)),
        refused(&format!("[{}1]", "1,".repeat(600))),
        refused(&format!("input{}", ".contains(1)".repeat(65))),
        refused(&"(".repeat(4_096)),
        refused(&"[".repeat(400)),
        refused(&format!("{}1{}", "size([".repeat(40), "])".repeat(40))),
        refused(&format!("1{}", "+1".repeat(200))),
        refused("[1].all(a, [1].map(b, [1].exists(c, true)) == [])"),
    ];
    expect![[r#"
        the expression is longer than 4096 bytes
        the expression has 602 nodes; at most 500 are taken
        the expression calls 65 times on a value; at most 64 are taken
        the expression nests brackets deeper than 32
        the expression nests brackets deeper than 32
        the expression nests brackets deeper than 32
        the expression nests operations deeper than 64
        comprehensions stand in one another deeper than 2
    "#]]
    .assert_eq(&(told.join("\n") + "\n"));
}

#[test]
fn as_much_as_is_taken_compiles() {
    for source in [
        format!("[{}1]", "1,".repeat(498)),
        format!("1{}", "+1".repeat(63)),
        format!("{}1{}", "[".repeat(32), "]".repeat(32)),
        format!("'{}'", "x".repeat(4_094)),
        "[1].map(a, [1].map(b, a + b))".to_owned(),
        format!("input{}", ".map(x, x)".repeat(60)),
    ] {
        within(Duration::from_millis(50), || compile(&source)).unwrap_or_else(|refused| panic!("{refused}: {source}"));
    }
}

#[test]
fn what_nests_as_deep_as_is_taken_fits_a_megabyte_of_stack() {
    let sources = [
        format!("1{}", "+1".repeat(63)),
        format!("{}1{}", "[".repeat(32), "]".repeat(32)),
        format!("{}1", "false ? 0 : ".repeat(63)),
        // Refused, but not before it is parsed.
        format!("{}1", "a?b:".repeat(166)),
        format!("{}1", "!-".repeat(249)),
        format!("input{}", ".map(x, x)".repeat(60)),
        format!("{}1{}", "coalesce(string([".repeat(10), "].size()))".repeat(10)),
        format!("{}1", "!-".repeat(31)),
        format!("input{}", "[0+0]".repeat(62)),
    ];
    let small = std::thread::Builder::new().stack_size(1 << 20);
    let evaluated = small.spawn(move || {
        let roots = input(json!([[1, 2], 3]));
        for source in sources {
            if let Ok(expression) = compile(&source) {
                let _ = expression.evaluate(&roots, &mut Meter::new());
            }
        }
    });
    evaluated.unwrap().join().unwrap();
}

/// Sources meant to hurt a parser.
fn hostile() -> Vec<String> {
    let repeated = |text: &str| text.repeat(4_096 / text.len());
    let mut sources: Vec<_> = [
        "(", "[", "{", "!", "-", "- ", "a?", "a?b:", "1+", ".f()", ".f", "a&&", "a.f(", "a.map(x,", "{a:", "@#", "a[",
        "\"", "'", "\\", "/", "//", "'''", "0x", "1e", "\u{e9}", "\0", "a{", "a.b{c:", "`", "has(", "1.", "in ", "?",
        "b'",
    ]
    .into_iter()
    .map(repeated)
    .collect();
    for open in [("(", ")"), ("[", "]"), ("{'a':", "}"), ("a.f(", ")"), ("a.map(x,", ")"), ("size(", ")"), ("a[", "]")]
    {
        sources.push(format!("{}1{}", open.0.repeat(300), open.1.repeat(300)));
        sources.push(format!("{}1{}", open.0.repeat(32), open.1.repeat(32)));
    }
    sources.push(format!("a{}", ".f()".repeat(64)));
    sources.push(format!("a{}", ".map(x,x)".repeat(64)));
    sources.push(format!("[{}]", "a.f(a.f(a.f(1))),".repeat(20)));
    sources
}

#[test]
fn no_source_takes_long_to_compile() {
    for source in hostile() {
        let shown: String = source.chars().take(20).collect();
        let began = clock::spent();
        let _ = compile(&source);
        let took = clock::spent() - began;
        assert!(took < Duration::from_millis(100), "{shown}: {took:?}");
    }
}

#[test]
fn an_evaluation_that_would_run_long_stops() {
    let numbers = |count: i64| Value::from((0..count).collect::<Vec<_>>());
    let roots = input(json!({
        "n": numbers(1_000), "many": numbers(10_001), "text": "x".repeat(200_000),
        "keys": (0..5_000).map(|n| (format!("k{n}"), n.into())).collect::<serde_json::Map<_, _>>(),
    }));
    let told = |source: &str| {
        let expression = compile(source).unwrap();
        let told = within(Duration::from_secs(2), || expression.evaluate(&roots, &mut Meter::new())).unwrap_err();
        format!("{source}: {told}\n")
    };
    let all: String = [
        "input.n.map(a, input.n.map(b, a * b))",
        "input.n.all(a, input.n.all(b, a + b >= 0) || true)",
        "input.n.exists(a, input.n.exists(b, a == -1))",
        "input.keys.all(a, input.keys.exists(b, a != b))",
        "input.many.map(a, a)",
        "sum(input.many)",
        "input.n.map(a, input.text)",
        "input.n.map(a, input.text + input.text)",
        "input.n.map(a, sha256(input.text))",
        "input.n.filter(a, input.text.contains('xxy'))",
        "input.n.all(a, input.n == input.n)",
        "input.n.map(a, input.n)",
        "[input.text, input.text]",
        "json([input.text, input.text])",
        "(input.text + input.text).size()",
        "coalesce(input.n.map(a, input.n.map(b, a * b)), 1)",
        "true || input.n.map(a, input.n.map(b, b)) == []",
    ]
    .into_iter()
    .filter(|source| evaluate(source, &roots).is_err())
    .map(told)
    .collect();
    expect![[r#"
        input.n.map(a, input.n.map(b, a * b)): too costly: the expressions of one request may take 500000 steps
        input.n.all(a, input.n.all(b, a + b >= 0) || true): too costly: the expressions of one request may take 500000 steps
        input.n.exists(a, input.n.exists(b, a == -1)): too costly: the expressions of one request may take 500000 steps
        input.keys.all(a, input.keys.exists(b, a != b)): too costly: the expressions of one request may take 500000 steps
        input.many.map(a, a): a list of 10001 items: at most 10000 are gone through or made
        sum(input.many): a list of 10001 items: at most 10000 are gone through or made
        input.n.map(a, input.text): too large: a result has at most 262144 bytes
        input.n.map(a, input.text + input.text): too costly: the expressions of one request may take 500000 steps
        input.n.map(a, sha256(input.text)): too costly: the expressions of one request may take 500000 steps
        input.n.filter(a, input.text.contains('xxy')): too costly: the expressions of one request may take 500000 steps
        input.n.all(a, input.n == input.n): too costly: the expressions of one request may take 500000 steps
        input.n.map(a, input.n): too large: a result has at most 262144 bytes
        [input.text, input.text]: too large: a result has at most 262144 bytes
        json([input.text, input.text]): too large: a result has at most 262144 bytes
        coalesce(input.n.map(a, input.n.map(b, a * b)), 1): too costly: the expressions of one request may take 500000 steps
    "#]]
    .assert_eq(&all);
}

#[test]
fn the_expressions_of_one_template_share_what_they_may_cost() {
    let one = "${input.n.map(a, a + 1).size()}";
    let roots = input(json!({"n": (0..9_000).collect::<Vec<_>>()}));
    let few = Template::compile(json!(vec![one; 5])).unwrap();
    assert_eq!(few.render(&roots, &mut Meter::new()).unwrap().value(), json!(vec![9_000; 5]));
    let many = Template::compile(json!(vec![one; 100])).unwrap();
    let error = within(Duration::from_secs(2), || many.render(&roots, &mut Meter::new())).unwrap_err();
    assert!(error.to_string().contains("too costly"), "{error}");
}

#[test]
fn nothing_is_read_that_no_value_needs() {
    // Reading what is missing is an error: it did not happen.
    assert_eq!(evaluate("false ? input.missing : 1", &Roots::default()), Ok(json!(1).into()));
}

#[test]
fn a_result_nests_as_deep_as_json_may() {
    let deep = (0..60).fold(json!(1), |inner, _| json!([inner]));
    let roots = input(json!({ "deep": deep }));
    assert!(evaluate("[[input.deep]]", &roots).is_ok());
    let error = evaluate("[[[[[[[[input.deep]]]]]]]]", &roots).unwrap_err();
    assert_eq!(error, "too deep: a result nests at most 64 levels");
}
