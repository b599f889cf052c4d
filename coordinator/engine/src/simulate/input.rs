//! A small input that a definition's `input` schema (JSON Schema 2020-12) takes.
//!
//! Made from what is required; whether it is valid is left to the schema itself, so a schema that says more than is
//! understood here leads to an error and never to a wrong input.

use std::cell::Cell;

use serde_json::{Map, Value, json};

/// Of a list where nothing else is said: two items show what one hides.
const ITEMS: u64 = 2;
const DEPTH: usize = 32;
/// Values of one input: lists of lists of many items would be no small input.
const MOST: usize = 20_000;

/// A value that the schema should take.
#[must_use]
pub fn sample(schema: &Value) -> Value {
    Sample { root: schema, left: Cell::new(MOST) }.of(schema, "input", DEPTH)
}

struct Sample<'s> {
    root: &'s Value,
    left: Cell<usize>,
}

impl Sample<'_> {
    fn of(&self, schema: &Value, name: &str, depth: usize) -> Value {
        let Some(left) = self.left.get().checked_sub(1) else { return Value::Null };
        self.left.set(left);
        let Some(depth) = depth.checked_sub(1) else { return Value::Null };
        for given in ["const", "default"] {
            if let Some(value) = schema.get(given) {
                return value.clone();
            }
        }
        for list in ["examples", "enum"] {
            if let Some(first) = schema.get(list).and_then(|list| list.get(0)) {
                return first.clone();
            }
        }
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            let pointer = target.strip_prefix('#').unwrap_or(target);
            if let Some(target) = self.root.pointer(pointer) {
                return self.of(target, name, depth);
            }
        }
        for choice in ["oneOf", "anyOf"] {
            if let Some(first) = schema.get(choice).and_then(|list| list.get(0)) {
                return merged(self.plain(schema, name, depth), self.of(first, name, depth));
            }
        }
        let parts = schema.get("allOf").and_then(Value::as_array).into_iter().flatten();
        parts.fold(self.plain(schema, name, depth), |value, part| merged(value, self.of(part, name, depth)))
    }

    fn plain(&self, schema: &Value, name: &str, depth: usize) -> Value {
        let told = match schema.get("type") {
            Some(Value::String(kind)) => Some(kind.as_str()),
            Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null"),
            _ => None,
        };
        let has = |keys: &[&str]| keys.iter().any(|key| schema.get(key).is_some());
        let kind = told.unwrap_or_else(|| {
            if has(&["properties", "required"]) {
                "object"
            } else if has(&["items", "minItems", "prefixItems"]) {
                "array"
            } else if has(&["minimum", "maximum", "multipleOf"]) {
                "number"
            } else if has(&["pattern", "format", "minLength"]) {
                "string"
            } else {
                "unknown"
            }
        });
        match kind {
            "object" => self.object(schema, depth),
            "array" => self.array(schema, name, depth),
            "integer" => json!(whole(number(schema, true))),
            "number" => number(schema, false).map_or_else(|| json!(1), |number| json!(number)),
            "boolean" => json!(false),
            "string" => json!(text(schema, name)),
            "null" => Value::Null,
            // Nothing is asked for, or only that combined schemas say.
            _ => Value::Object(Map::new()),
        }
    }

    fn object(&self, schema: &Value, depth: usize) -> Value {
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        let members = required.filter_map(Value::as_str).map(|key| {
            let member = schema.get("properties").and_then(|properties| properties.get(key));
            (key.to_owned(), member.map_or_else(|| json!(key), |member| self.of(member, key, depth)))
        });
        Value::Object(members.collect())
    }

    fn array(&self, schema: &Value, name: &str, depth: usize) -> Value {
        let bound = |key: &str| schema.get(key).and_then(Value::as_u64);
        let count = ITEMS.min(bound("maxItems").unwrap_or(ITEMS)).max(bound("minItems").unwrap_or(0)).min(1_000);
        let distinct = schema.get("uniqueItems") == Some(&Value::Bool(true));
        let first = schema.get("prefixItems").and_then(Value::as_array);
        let items = (0..count).map(|index| {
            let at = usize::try_from(index).unwrap_or(usize::MAX);
            let item = first.and_then(|first| first.get(at)).or_else(|| schema.get("items"));
            let item = item.map_or_else(|| json!(name), |item| self.of(item, name, depth));
            match item {
                Value::String(text) if distinct && index > 0 => json!(format!("{text}{index}")),
                Value::Number(number) if distinct => {
                    json!(number.as_i64().unwrap_or(0) + i64::try_from(index).unwrap_or(0))
                }
                other => other,
            }
        });
        Value::Array(items.collect())
    }
}

fn merged(value: Value, more: Value) -> Value {
    match (value, more) {
        (Value::Object(mut members), Value::Object(more)) => {
            members.extend(more);
            Value::Object(members)
        }
        (Value::Object(members), more) if members.is_empty() => more,
        (value, _) => value,
    }
}

/// 1, or what is nearest to it within the bounds.
fn number(schema: &Value, is_whole: bool) -> Option<f64> {
    let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
    let step = bound("multipleOf").filter(|step| *step > 0.0);
    let mut number: f64 = 1.0;
    if let Some(least) = bound("minimum") {
        number = number.max(least);
    }
    if let Some(above) = bound("exclusiveMinimum").filter(|above| number <= *above) {
        number = if is_whole { above.floor() + 1.0 } else { above + 0.5 };
    }
    if let Some(step) = step {
        number = (number / step).ceil() * step;
    }
    if let Some(most) = bound("maximum") {
        number = number.min(step.map_or(most, |step| (most / step).floor() * step));
    }
    if let Some(below) = bound("exclusiveMaximum").filter(|below| number >= *below) {
        number = if is_whole { below.ceil() - 1.0 } else { below - 0.5 };
    }
    number.is_finite().then_some(number)
}

fn whole(number: Option<f64>) -> i64 {
    #[allow(clippy::cast_possible_truncation, reason = "it saturates, and the schema judges it")]
    number.map_or(1, |number| number.ceil() as i64)
}

fn text(schema: &Value, name: &str) -> String {
    let made = match schema.get("format").and_then(Value::as_str) {
        Some("date-time") => "2026-01-31T12:00:00Z".to_owned(),
        Some("date") => "2026-01-31".to_owned(),
        Some("time") => "12:00:00Z".to_owned(),
        Some("uuid") => "01890a5d-ac96-774b-bcce-b302099a8057".to_owned(),
        Some("email" | "idn-email") => format!("{}@example.com", plain(name)),
        Some("uri" | "iri" | "uri-reference") => format!("https://example.com/{}", plain(name)),
        Some("json-pointer") => format!("/{}", plain(name)),
        Some("relative-json-pointer") => "0".to_owned(),
        Some("hostname" | "idn-hostname") => "example.com".to_owned(),
        Some("ipv4") => "192.0.2.1".to_owned(),
        Some("ipv6") => "2001:db8::1".to_owned(),
        Some("duration") => "PT1H".to_owned(),
        _ => match schema.get("pattern").and_then(Value::as_str) {
            Some(pattern) => super::pattern::matching(pattern).unwrap_or_default(),
            None => format!("{name}-1"),
        },
    };
    let bound =
        |key: &str| schema.get(key).and_then(Value::as_u64).map(|bound| usize::try_from(bound).unwrap_or(usize::MAX));
    let mut characters: Vec<char> = made.chars().collect();
    if let Some(least) = bound("minLength").filter(|least| *least < 100_000) {
        while characters.len() < least {
            characters.push('x');
        }
    }
    characters.truncate(bound("maxLength").unwrap_or(usize::MAX));
    characters.into_iter().collect()
}

fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).collect()
}
