//! Money is not passed through binary floating point: a number comes out as the text it went in as, wherever it may stand.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::Drive;
use proptest::prelude::*;
use skald_engine::{
    Command, Input, Outcome, Plan, Reply, Request, Response,
    call::Target,
    cel::Meter,
    definition::{Library, compile_with},
    path::{Path, Scope},
    template::Template,
    value::{Value, same},
};
use skald_protocol::{BranchId, CallbackVerdict, Json, OperationKind, ResolvedOutcome, Status};

const NUMBERS: &[&str] = &[
    "123456789012345678901234567890",
    "-123456789012345678901234567890",
    "9007199254740993",
    "18446744073709551617",
    "12345678901234567.89",
    "0.10",
    "1e-7",
    "1E+2",
    "1e21",
    "10.0",
    "-0",
    "-0.00",
    "0.1234567890123456789012345678",
    "1e-400",
    "7",
];

/// Every place of the language that a number can be passed through.
fn definition(number: &str) -> String {
    r#"{"dsl": "1.0", "name": "d", "version": "1.0.0", "services": {"s": {"url": "http://s"}}, "steps": [
        {"name": "a", "service": "s",
         "action": {"path": "/a/${input.n}", "query": {"q": "${input.n}", "written": NUMBER}, "headers": {"X-N": "n ${input.n}"}, "body": {
            "path": "${input.n}", "whole": "${input}", "written": [NUMBER, "${input.none}"], "text": "<${input.n}>",
            "string": "${string(input.n)}", "json": "${json(input.l)}", "list": "${input.l.map(x, [x])}", "map": "${ {\"k\": input.n} }",
            "chosen": "${input.yes ? input.n : 0}", "there": "${coalesce(input.absent, input.n)}", "kept": "${input.l.filter(x, x == input.n)}"}},
         "compensate": {"path": "/undo", "body": {"n": "${self.output.n}", "sent": "${self.request.body.path}", "got": "${self.response.body}"}},
         "output": {"n": "${self.response.body.n}", "sent": "${self.request.body.whole}"}},
        {"name": "plain", "service": "s", "action": {"path": "/plain"}, "compensate": {"path": "/undo"}},
        {"name": "set", "set": {"n": "${steps.a.output.n}", "l": ["${input.l}", NUMBER]}},
        {"name": "choice", "choice": [
            {"when": "steps.set.output.n == input.n && input.n <= steps.a.output.n && input.n in input.l", "steps": [
                {"name": "taken", "service": "s", "action": {"path": "/taken", "body": "${steps.set.output}"}, "compensate": {"path": "/undo"}}]},
            {"otherwise": true, "steps": [{"name": "no", "fail": {"error": "not_equal"}}]}]},
        {"name": "map", "map": {"items": "${input.l}", "as": "one", "max_concurrency": 1, "steps": [
            {"name": "each", "service": "s", "action": {"path": "/each", "body": {"n": "${one}"}}, "compensate": {"path": "/undo"}, "output": "${self.response.body.n}"}]}},
        {"name": "wait", "wait": {"signal": "go", "timeout": "1h"}},
        {"name": "called", "service": "s", "action": {"path": "/called", "body": {"n": "${signals.go.n}", "waited": "${steps.wait.output.n}"}, "async": {"timeout": "1h"}},
         "compensate": {"path": "/undo"}},
        {"name": "polled", "service": "s", "action": {"path": "/polled", "body": "${steps.called.output.n}", "async": {"timeout": "1h", "poll": {"method": "POST", "path": "/poll", "interval": "1s", "body": "${input.n}"}}},
         "compensate": {"path": "/undo"}},
        {"name": "saga", "saga": {"workflow": "inner", "version": "1.0.0", "input": {"n": "${steps.polled.output.n}", "l": "${input.l}"}}},
        {"name": "tcc", "service": "s", "try": {"path": "/try", "body": "${steps.map.output}"}, "confirm": {"path": "/confirm"}, "cancel": {"path": "/cancel"}}
      ], "output": {"n": "${steps.saga.output}", "map": "${steps.map.output}", "written": NUMBER, "whole": "${input}"}}"#
        .replace("NUMBER", number)
}

const INNER: &str = r#"{"dsl": "1.0", "name": "inner", "version": "1.0.0", "services": {"s": {"url": "http://s"}}, "steps": [
    {"name": "one", "service": "s", "action": {"path": "/one"}, "compensate": {"path": "/undo"}},
    {"name": "two", "service": "s", "action": {"path": "/two", "body": "${input.n}"}, "compensate": {"path": "/undo"}}
  ], "output": "${input.n}"}"#;

fn plan(number: &str) -> Plan {
    let mut library = Library::default();
    library.add(INNER);
    let plan = compile_with(&definition(number), &library).unwrap_or_else(|faults| panic!("{faults:#?}")).plan;
    let read = Plan::decode(skald_engine::plan::FORMAT, &plan.encode()).unwrap();
    assert_eq!(read, plan, "what is stored is what runs");
    read
}

/// Sends what is owed, which is one call.
fn request(drive: &mut Drive) -> (skald_engine::Call, Request) {
    let owed = drive.send();
    let [call] = owed[..] else { panic!("{owed:?}") };
    (call, drive.transaction.render(call).unwrap())
}

/// The request's body; its answer's is `body`, `None` that it is pending.
fn answer(drive: &mut Drive, path: &str, body: Option<&str>) -> String {
    let (call, request) = request(drive);
    assert_eq!(request.target, Target::Path(path.to_owned()));
    let outcome = body.map_or(Outcome::Pending, |body| {
        let body = Some(Json::from_text(body.to_owned()).unwrap());
        Outcome::Succeeded(Response { status: 200, body, ..Response::default() })
    });
    let _ = drive.decide(Input::Replied { call, reply: Reply::of(outcome) }).unwrap();
    // As another node reads it.
    let _ = drive.reload(skald_engine::transaction::Continuity::Unbroken);
    request.body.map(|body| body.text().to_owned()).unwrap_or_default()
}

fn command(drive: &mut Drive, command: Command) {
    let _ = drive.decide(Input::Command(command)).unwrap();
}

#[test]
fn a_number_comes_out_as_it_went_in_wherever_it_stands() {
    for n in NUMBERS {
        let input = format!(r#"{{"l":[{n},1],"n":{n},"none":null,"yes":true}}"#);
        let of = |text: &str| text.replace("$n", n).replace("$input", &input);
        let (mut drive, _) = Drive::begin_with(plan(n), None, Some(Json::from_text(input.clone()).unwrap()));
        let drive = &mut drive;

        let owed = drive.transaction.owed(drive.now);
        let first = drive.transaction.render(owed[0]).unwrap();
        assert_eq!(first.headers["X-N"], format!("n {n}"));
        assert_eq!(first.query, [("q".to_owned(), (*n).to_owned()), ("written".to_owned(), (*n).to_owned())]);
        let n_in_path = n.replace('+', "%2B");
        assert_eq!(
            answer(drive, &format!("/a/{n_in_path}"), Some(&of(r#"{"n": $n, "more": [$n]}"#))),
            of(concat!(
                r#"{"chosen":$n,"json":"[$n,1]","kept":[$n],"list":[[$n],[1]],"map":{"k":$n},"path":$n,"string":"$n","#,
                r#""text":"<$n>","there":$n,"whole":$input,"written":[$n,null]}"#
            ))
        );
        assert_eq!(answer(drive, "/plain", Some("{}")), input, "the input itself");
        assert_eq!(answer(drive, "/taken", Some("{}")), of(r#"{"l":[[$n,1],$n],"n":$n}"#));
        assert_eq!(answer(drive, "/each", Some(&of(r#"{"n":$n}"#))), of(r#"{"n":$n}"#));
        assert_eq!(answer(drive, "/each", Some(r#"{"n":1}"#)), r#"{"n":1}"#);
        let payload = Json::from_text(of(r#"{"n": $n}"#)).unwrap();
        command(drive, Command::Signal { name: "go".to_owned(), payload: Some(payload) });
        assert_eq!(answer(drive, "/called", None), of(r#"{"n":$n,"waited":$n}"#));
        command(
            drive,
            Command::Callback {
                branch: BranchId::new("called").unwrap(),
                operation: OperationKind::Action,
                verdict: CallbackVerdict::Succeeded,
                output: Some(Json::from_text(of(r#"{"n": $n}"#)).unwrap()),
                error: None,
            },
        );
        assert_eq!(answer(drive, "/polled", None), *n);
        drive.now = drive.now.plus(std::time::Duration::from_secs(2));
        assert_eq!(answer(drive, "/poll", Some(&of(r#"{"n": $n}"#))), *n);
        assert_eq!(answer(drive, "/one", Some("{}")), of(r#"{"l":[$n,1],"n":$n}"#));
        assert_eq!(answer(drive, "/two", Some("{}")), *n);
        assert_eq!(answer(drive, "/try", Some("{}")), of("[$n,1]"));
        assert_eq!(answer(drive, "/confirm", Some("{}")), of("[$n,1]"));

        let view = drive.transaction.view(0..100);
        assert_eq!(view.status, Status::Succeeded);
        assert_eq!(view.input.unwrap().text(), input);
        assert_eq!(view.output.unwrap().text(), of(r#"{"map":[$n,1],"n":$n,"whole":$input,"written":$n}"#));
        let output = |step: &str| {
            let mut found = view.branches.iter().filter(|branch| branch.branch.as_str() == step);
            let branch = found.next().unwrap();
            let operation = branch.operations.first().and_then(|operation| operation.output.as_ref());
            operation.or(branch.output.as_ref()).map(|output| output.text().to_owned()).unwrap()
        };
        assert_eq!(output("a"), of(r#"{"n":$n,"sent":$input}"#));
        assert_eq!(output("set"), of(r#"{"l":[[$n,1],$n],"n":$n}"#));
    }
}

#[test]
fn an_undo_and_what_an_operator_says_keep_a_number_too() {
    for n in NUMBERS {
        let input = format!(r#"{{"l":[{n},1],"n":{n},"none":null,"yes":true}}"#);
        let of = |text: &str| text.replace("$n", n);
        let (mut drive, _) = Drive::begin_with(plan(n), None, Some(Json::from_text(input).unwrap()));
        let (call, _) = request(&mut drive);
        let body = Some(Json::from_text(of(r#"{"n": $n}"#)).unwrap());
        let reply = Reply::of(Outcome::Succeeded(Response { status: 200, body, ..Response::default() }));
        let _ = drive.decide(Input::Replied { call, reply }).unwrap();
        let (call, _) = request(&mut drive);
        let reply = Reply::of(Outcome::Refused(skald_engine::Error::new("no", "")));
        let _ = drive.decide(Input::Replied { call, reply }).unwrap();
        let (_, undo) = request(&mut drive);
        assert_eq!(undo.body.unwrap().text(), of(r#"{"got":{"n":$n},"n":$n,"sent":$n}"#));
    }
    let n = NUMBERS[0];
    let text = r#"{"dsl": "1.0", "name": "d", "version": "1.0.0", "services": {"s": {"url": "http://s"}}, "steps": [
        {"name": "a", "service": "s", "role": "pivot", "action": {"path": "/a", "async": {"timeout": "1h"}}},
        {"name": "b", "service": "s", "role": "retriable", "action": {"path": "/b", "body": "${steps.a.output}"}}]}"#;
    let plan = compile_with(text, &Library::default()).unwrap().plan;
    let (mut drive, _) = Drive::begin_with(plan, None, None);
    answer(&mut drive, "/a", None);
    let output = Some(Json::from_text(n.to_owned()).unwrap());
    let (branch, reason) = (BranchId::new("a").unwrap(), "seen".to_owned());
    command(&mut drive, Command::Resolve { branch, outcome: ResolvedOutcome::Succeeded, output, reason });
    assert_eq!(answer(&mut drive, "/b", Some("{}")), n);
}

#[test]
fn a_signal_that_differs_in_its_last_digit_is_another_one() {
    let text = r#"{"dsl": "1.0", "name": "d", "version": "1.0.0", "services": {"s": {"url": "http://s"}}, "steps": [
        {"name": "a", "service": "s", "role": "read_only", "action": {"path": "/a"}}]}"#;
    let plan = compile_with(text, &Library::default()).unwrap().plan;
    let (mut drive, _) = Drive::begin_with(plan, None, None);
    let mut signal = |text: &str| {
        let payload = Some(Json::from_text(text.to_owned()).unwrap());
        drive.decide(Input::Command(Command::Signal { name: "s".to_owned(), payload })).is_ok()
    };
    assert!(signal(r#"{"n": 9007199254740993, "m": 0.10}"#));
    assert!(signal(r#"{"m": 0.1, "n": 9007199254740993.0}"#), "the same, written otherwise");
    assert!(!signal(r#"{"n": 9007199254740992, "m": 0.10}"#));
    let json = |text: &str| Json::from_text(text.to_owned()).unwrap();
    assert!(!same(&json(NUMBERS[0]), &json("123456789012345678901234567891")));
}

struct Of(Value);

impl Scope for Of {
    fn read(&self, path: &Path) -> Result<Value, String> {
        Path::walk(&path.segments, &self.0)
    }
}

fn evaluate(expression: &str, input: &str) -> Result<String, String> {
    let template = Template::compile(format!("${{{expression}}}")).unwrap();
    let rendered = template.render(&Of(Value::read(input).unwrap()), &mut Meter::new());
    rendered.map(|value| value.text().to_owned()).map_err(|error| error.to_string())
}

#[test]
fn what_is_compared_is_compared_digit_by_digit() {
    let input = r#"{"a": 123456789012345678901234567890, "b": 123456789012345678901234567891, "c": 12345678901234567.89,
        "d": 12345678901234567, "e": 0.10, "f": 0.1, "g": 9007199254740993, "h": 9007199254740992.0, "i": -0, "j": 1e-400}"#;
    for holds in [
        "input.a < input.b",
        "input.a != input.b",
        "input.a == input.a",
        "input.b > 9223372036854775807",
        "input.c > input.d",
        "input.c < 12345678901234568",
        "input.e == input.f",
        "input.e == 0.1",
        "0.1 == input.e",
        "input.g > input.h",
        "input.g != input.h",
        "input.h == 9007199254740992.0",
        "input.i == 0",
        "input.j > 0.0",
        "input.j < input.e",
        "input.e in [1.0, 0.1]",
        "!(input.a in [input.b])",
        "{\"k\": input.a} != {\"k\": input.b}",
        "int(input.c) == input.d",
    ] {
        assert_eq!(evaluate(holds, input).as_deref(), Ok("true"), "{holds}");
    }
}

#[test]
fn what_would_be_rounded_is_an_error_that_says_so() {
    let input = r#"{"a": 123456789012345678901234567890, "c": 12345678901234567.89, "g": 9007199254740993, "e": 0.10, "i": -0,
        "m": 9007199254740993.0, "l": [12345678901234567.89, 1.0], "z": 1e308, "x": 1e999}"#;
    for (expression, error) in [
        (
            "input.a + 1",
            "123456789012345678901234567890 is beyond 64 bits: it can be passed on and compared, and not computed with",
        ),
        (
            "input.c * 2.0",
            "12345678901234567.89 has more digits than a double holds: it can be passed on and compared, and not computed with",
        ),
        (
            "-input.c",
            "12345678901234567.89 has more digits than a double holds: it can be passed on and compared, and not computed with",
        ),
        (
            "input.x - 1.0",
            "1e999 has more digits than a double holds: it can be passed on and compared, and not computed with",
        ),
        (
            "sum(input.l)",
            "12345678901234567.89 has more digits than a double holds: it can be passed on and compared, and not computed with",
        ),
        ("double(input.g)", "`double`: the number has more digits than a double holds"),
        ("double(input.m)", "`double`: the number has more digits than a double holds"),
        ("double(\"12345678901234567.89\")", "`double`: the number has more digits than a double holds"),
        ("double(\"inf\")", "`double`: the string is no number"),
        ("int(input.a)", "`int`: the number is beyond what an int holds"),
        ("9223372036854775807 + 1", "the result of `+` is beyond what the number's kind holds"),
        ("9007199254740992.0 + 1.0", "the result of `+` has more digits than a double holds"),
        ("-9007199254740992.0 - 1.0", "the result of `-` has more digits than a double holds"),
        ("9007199254740991.0 * 9007199254740991.0", "the result of `*` has more digits than a double holds"),
        ("input.z * 10.0", "JSON has no number for inf"),
        ("1.0 / 0.0 > 1.0", "JSON has no number for inf"),
    ] {
        assert_eq!(evaluate(expression, input), Err(format!("${{{expression}}}: {error}")), "{expression}");
    }
    for (expression, result) in [
        ("input.e + 0.0", "0.1"),
        ("input.i + 5", "5"),
        ("9007199254740991.0 + 1.0", "9007199254740992.0"),
        ("0.1 + 0.2", "0.30000000000000004"),
        ("1.0 / 3.0", "0.3333333333333333"),
        ("9007199254740992.0 * 2.0", "1.8014398509481984e+16"),
        ("int(input.c)", "12345678901234567"),
        ("sum([input.e, input.e])", "0.2"),
        ("double(\"2.50\")", "2.5"),
    ] {
        assert_eq!(evaluate(expression, input).as_deref(), Ok(result), "{expression}");
    }
}

#[test]
fn a_constant_that_would_be_rounded_is_refused_when_it_is_compiled() {
    let text = definition("1").replace("input.n <= steps", "input.n < 12345678901234567.89 && input.n <= steps");
    let mut library = Library::default();
    library.add(INNER);
    let faults = compile_with(&text, &library).unwrap_err();
    assert_eq!(faults.len(), 1, "{faults:#?}");
    assert_eq!((faults[0].code.as_str(), faults[0].pointer.as_str()), ("E201", "/steps/3/choice/0/when"));
    assert!(faults[0].message.ends_with("this number has more digits than a double holds"), "{}", faults[0].message);
}

#[test]
fn one_number_has_one_text() {
    for (expression, text) in [
        ("10.0", "10.0"),
        ("1e21", "1e+21"),
        ("1e-7", "1e-7"),
        ("input.n", "0.10"),
        ("input.n * 100.0", "10.0"),
        ("5", "5"),
        ("0.5", "0.5"),
    ] {
        let evaluate = |expression: &str| evaluate(expression, r#"{"n": 0.10}"#).unwrap();
        assert_eq!(evaluate(expression), text);
        assert_eq!(evaluate(&format!("string({expression})")), format!("\"{text}\""));
        assert_eq!(evaluate(&format!("json({expression})")), format!("\"{text}\""));
        let template = Template::compile(format!("<${{{expression}}}>")).unwrap();
        let scope = Of(Value::read(r#"{"n": 0.10}"#).unwrap());
        assert_eq!(template.render_text(&scope, &mut Meter::new(), |text| text).unwrap(), format!("<{text}>"));
    }
}

#[test]
fn what_cannot_be_read_says_so_and_is_not_null() {
    let plan = plan("1");
    let input = Json::from_text(r#"{"n": 1, "l": [], "none": "\ud800", "yes": true}"#.to_owned()).unwrap();
    let (drive, _) = Drive::begin_with(plan, None, Some(input));
    let error = drive.transaction.render(drive.transaction.owed(drive.now)[0]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "${input.n}: the input cannot be read: the string at `/none` holds half of a surrogate pair"
    );
    assert_eq!(evaluate("input.x", r#"{"x": 1e999}"#).as_deref(), Ok("1e999"));
}

fn number() -> impl Strategy<Value = String> {
    "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?"
}

fn text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        4 => number(),
        1 => prop::sample::select(&["null", "true", "false", "\"\"", "\"a\\\"b\"", "\"\u{e9}\""][..]).prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        let member = ("[a-z]{1,3}", inner.clone()).prop_map(|(key, value)| (key, value));
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec(member, 0..4).prop_map(|members| {
                let sorted: std::collections::BTreeMap<_, _> = members.into_iter().collect();
                let members: Vec<_> = sorted.into_iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_passed_on_is_the_same_byte_for_byte(text in text()) {
        let input = format!(r#"{{"v":{text}}}"#);
        prop_assert_eq!(evaluate("input.v", &input), Ok(text.clone()));
        prop_assert_eq!(evaluate("input", &input), Ok(input.clone()));
        prop_assert_eq!(evaluate("[input.v].map(x, {\"k\": x})[0].k", &input), Ok(text));
    }

    #[test]
    fn numbers_are_ordered_as_their_digits_are(a in number(), b in number()) {
        let input = format!(r#"{{"a": {a}, "b": {b}}}"#);
        let is = |test: &str| evaluate(test, &input).as_deref() == Ok("true");
        let which = [is("input.a < input.b"), is("input.a == input.b"), is("input.a > input.b")];
        prop_assert_eq!(which.iter().filter(|is| **is).count(), 1, "{:?}", which);
        if let (Ok(a), Ok(b)) = (a.parse::<f64>(), b.parse::<f64>())
            && a.is_finite() && b.is_finite() && a != b
        {
            prop_assert_eq!(which[0], a < b);
        }
    }
}
