//! Templates: what `${…}` means in JSON, in text, and where it is malformed.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};
use skald_engine::{
    cel::Meter,
    template::{Path, Scope, Segment, Template, Unrenderable},
    value,
};

/// Roots and their values.
struct Roots(BTreeMap<&'static str, Value>);

impl Scope for Roots {
    fn read(&self, path: &Path) -> Result<value::Value, String> {
        let root = self.0.get(path.root.as_str()).ok_or_else(|| format!("there is no `{}`", path.root))?;
        Path::walk(&path.segments, &root.into())
    }
}

fn roots() -> Roots {
    let input = json!({
        "id": "a/b", "n": 7, "f": 1.5, "yes": true, "none": null, "_x9": "under",
        "lines": [{"sku": "s0"}, {"sku": "s1", "tags": [["t"]]}], "money": {"amount": 18_446_744_073_709_551_615_u64}
    });
    Roots([("input", input), ("list", json!([10, 20]))].into())
}

fn compiled(value: &Value) -> Template {
    Template::compile(value).expect("a template")
}

fn render(value: &Value) -> Result<Value, String> {
    compiled(value).render(&roots(), &mut Meter::new()).map(|json| json.value()).map_err(|error| error.to_string())
}

fn text(template: &str) -> Result<String, String> {
    let escape = |text: String| format!("<{text}>");
    compiled(&json!(template)).render_text(&roots(), &mut Meter::new(), escape).map_err(|error| error.to_string())
}

fn malformed(value: &Value) -> Vec<(String, String)> {
    let faults = Template::compile(value).expect_err("it is malformed");
    faults.into_iter().map(|fault| (fault.pointer, fault.refused.message)).collect()
}

#[test]
fn one_expression_alone_gives_its_typed_value() {
    for (path, value) in [
        ("input.n", json!(7)),
        ("input.f", json!(1.5)),
        ("input.yes", json!(true)),
        ("input.none", json!(null)),
        ("input.id", json!("a/b")),
        ("input.lines[1].tags[0][0]", json!("t")),
        ("input.lines[0]", json!({"sku": "s0"})),
        ("input.money.amount", json!(18_446_744_073_709_551_615_u64)),
        ("list[1]", json!(20)),
        ("list", json!([10, 20])),
        ("input._x9", json!("under")),
    ] {
        assert_eq!(render(&json!(format!("${{{path}}}"))), Ok(value.clone()), "{path}");
        assert_eq!(render(&json!({"a": [format!("${{ {path} }}")]})), Ok(json!({"a": [value]})), "{path}, with spaces");
    }
}

#[test]
fn expressions_in_text_are_interpolated() {
    assert_eq!(render(&json!("${input.n}${input.n}")), Ok(json!("77")));
    assert_eq!(render(&json!("n=${input.n}, f=${input.f}, yes=${input.yes}.")), Ok(json!("n=7, f=1.5, yes=true.")));
    assert_eq!(render(&json!(" ${input.n}")), Ok(json!(" 7")), "a space makes it text");
    assert_eq!(render(&json!("ä${input.id}ö")), Ok(json!("äa/bö")));
}

#[test]
fn what_has_no_text_is_not_interpolated() {
    for path in ["input.none", "input.lines", "input.money"] {
        let error = render(&json!(format!("x ${{{path}}}"))).unwrap_err();
        assert_eq!(error, format!("${{{path}}}: text takes a string, a number or a boolean"));
        assert_eq!(text(&format!("${{{path}}}")), Err(error));
    }
}

#[test]
fn a_dollar_before_it_makes_it_text() {
    assert_eq!(render(&json!("$${input.n}")), Ok(json!("${input.n}")));
    assert_eq!(render(&json!("$$${input.n}")), Ok(json!("$${input.n}")));
    assert_eq!(render(&json!("$${a} ${input.n} $${b}")), Ok(json!("${a} 7 ${b}")));
    assert_eq!(render(&json!("$${")), Ok(json!("${")));
    assert_eq!(render(&json!({"a": ["$${x", 1]})), Ok(json!({"a": ["${x", 1]})));
    assert_eq!(text("$${x}"), Ok("${x}".to_owned()));
}

#[test]
fn dollars_and_braces_by_themselves_mean_nothing() {
    for plain in ["", "$", "$$", "{}", "5$ {x}", "$ {input.n}", "}"] {
        assert_eq!(render(&json!(plain)), Ok(json!(plain)));
        assert!(compiled(&json!(plain)).is_static());
    }
}

#[test]
fn what_holds_no_expression_is_handed_over_as_it_was_written() {
    let value = json!({"b": [1, 2.0, {"c": null}], "a": "x", "${key}": true});
    let template = compiled(&value);
    assert!(template.is_static());
    let rendered = template.render(&roots(), &mut Meter::new()).unwrap();
    assert_eq!(rendered.text().as_ptr(), template.source().text().as_ptr(), "not even copied");
    assert_eq!(rendered.value(), value);
}

#[test]
fn what_stands_beside_an_expression_stays() {
    let value = json!({"n": "${input.n}", "same": {"deep": [1, "x", null]}, "list": [[], {}, "${input.yes}", 2.5]});
    let expected = json!({"n": 7, "same": {"deep": [1, "x", null]}, "list": [[], {}, true, 2.5]});
    assert_eq!(render(&value), Ok(expected));
}

#[test]
fn in_a_url_only_what_comes_from_an_expression_is_escaped() {
    assert_eq!(text("/orders/${input.id}/x"), Ok("/orders/<a/b>/x".to_owned()));
    assert_eq!(text("${input.id}"), Ok("<a/b>".to_owned()));
    assert_eq!(text("/a b"), Ok("/a b".to_owned()));
    for (value, expected) in [(json!(5), "5"), (json!(true), "true"), (json!("x"), "x")] {
        assert_eq!(compiled(&value).render_text(&roots(), &mut Meter::new(), |text| text), Ok(expected.to_owned()));
    }
}

#[test]
fn what_is_missing_is_named() {
    let told = |path: &str| render(&json!([format!("${{{path}}}")])).unwrap_err();
    assert_eq!(told("input.a.b"), "${input.a.b}: there is no `a`");
    assert_eq!(told("input.lines[2]"), "${input.lines[2]}: there is no item 2");
    assert_eq!(told("input.n.x"), "${input.n.x}: there is no `x`");
    assert_eq!(told("input[0]"), "${input[0]}: there is no item 0");
    assert_eq!(told("other"), "${other}: there is no `other`");
    let error = compiled(&json!("${ input.a }")).render(&roots(), &mut Meter::new()).unwrap_err();
    assert_eq!(error, Unrenderable { path: "input.a".to_owned(), reason: "there is no `a`".to_owned() });
}

#[test]
fn a_path_is_names_and_indices() {
    let path = Path::parse("steps.hold.output.lines[0][12].sku").unwrap();
    let key = |name: &str| Segment::Key(name.to_owned());
    assert_eq!(path.root, "steps");
    assert_eq!(
        path.segments,
        [key("hold"), key("output"), key("lines"), Segment::Index(0), Segment::Index(12), key("sku")]
    );
    assert_eq!((path.key(0), path.key(3), path.key(9)), (Some("hold"), None, None));
    assert_eq!(Path::parse("a[3]").unwrap().segments, [Segment::Index(3)]);
    for wrong in [
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "9a",
        "a.9",
        "a-b",
        "a b",
        "a[",
        "a]",
        "a[]",
        "a[x]",
        "a[-1]",
        "a[+1]",
        "a[ 1]",
        "a[1]b",
        "a[1][",
        "a[1].",
        "[0]",
        "a[99999999999999999999999]",
        "ä",
        "a.ö",
        "a()",
        "a + b",
        "a[0]]",
        "a[[0]]",
        "has(a.b)",
        "'x'",
        "1",
    ] {
        assert_eq!(Path::parse(wrong), None, "{wrong}");
    }
}

#[test]
fn every_malformed_text_is_told_with_its_place() {
    let faults = malformed(&json!({"a": ["${", "ok ${input.n}", {"x/y~z": "${}"}], "b": "${a b} ${"}));
    let places: Vec<_> = faults.iter().map(|(pointer, _)| pointer.as_str()).collect();
    assert_eq!(places, ["/a/0", "/a/2/x~1y~0z", "/b"]);
    assert!(faults[0].1.contains("never closed"), "{}", faults[0].1);
    assert_eq!(faults[1].1, "nothing stands between ${ and }");
    assert_eq!(faults[2].1, "`a b`, character 3: expected an operator or the end, found `b`");
}

#[test]
fn what_is_told_stays_short_however_long_the_text() {
    let long = format!("${{{}}}", "x y ".repeat(10_000));
    assert!(malformed(&json!(long))[0].1.len() < 300);
    assert_eq!(malformed(&json!(vec!["${"; 5_000])).len(), 100);
}

#[test]
fn every_path_is_shown_with_the_place_it_stands_in() {
    let template = compiled(&json!({"a": ["${input.n}", "x", "${list[0]} and ${input.id}"], "b/c": {"d": "$${no}"}}));
    let mut shown = Vec::new();
    template.each_path(|pointer, path| shown.push(format!("{pointer} {}", path.source)));
    assert_eq!(shown, ["/a/0 input.n", "/a/2 list[0]", "/a/2 input.id"]);
    assert!(!template.is_static());
}

#[test]
fn a_stored_template_is_the_json_it_was_written_as() {
    let value = json!({"a": ["${input.n}", "$${x}", 1.0], "b": null});
    let template = compiled(&value);
    let stored = serde_json::to_string(&template).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&stored).unwrap(), value);
    assert_eq!(serde_json::from_str::<Template>(&stored).unwrap(), template);
    let error = serde_json::from_str::<Template>(r#"["${"]"#).unwrap_err();
    assert!(error.to_string().contains("never closed"), "{error}");
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        2 => Just(Value::Null),
        2 => any::<i64>().prop_map(Value::from),
        4 => "[${}a.\\[0\\] ]{0,12}".prop_map(Value::from),
        2 => prop::sample::select(&["${input.n}", "x${input.id}", "$${", "${list[0]}"][..]).prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            1 => prop::collection::btree_map("[a-z/~]{1,3}", inner, 0..4).prop_map(|members| members.into_iter().collect()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_template_renders_the_same_bytes_after_it_was_stored(value in json_value()) {
        if let Ok(template) = Template::compile(&value) {
            let stored: Template = serde_json::from_str(&serde_json::to_string(&template).expect("JSON")).expect("a template");
            prop_assert_eq!(&stored, &template);
            let (one, other) = (template.render(&roots(), &mut Meter::new()), stored.render(&roots(), &mut Meter::new()));
            prop_assert_eq!(one.map(|json| json.text().to_owned()), other.map(|json| json.text().to_owned()));
        }
    }

    #[test]
    fn escaped_text_renders_as_it_was(words in "[${}a.]{0,12}") {
        let escaped = words.replace("${", "$${");
        prop_assert_eq!(render(&json!(escaped)), Ok(json!(words)));
    }

    #[test]
    fn a_path_reads_back_from_its_parts(source in "[a-c_.\\[\\]0-2]{1,10}") {
        if let Some(path) = Path::parse(&source) {
            let mut again = path.root.clone();
            for segment in &path.segments {
                match segment {
                    Segment::Key(key) => again.push_str(&format!(".{key}")),
                    Segment::Index(index) => again.push_str(&format!("[{index}]")),
                }
            }
            let reread = Path::parse(&again).expect("a path");
            prop_assert_eq!((reread.root, reread.segments), (path.root, path.segments));
        }
    }
}
