//! The form by which requests are compared: RFC 8785, but for numbers that a double does not hold.
//!
//! RFC 8785 writes the double nearest to a number, so amounts that differ in their seventeenth digit would be one. Here a
//! number keeps its digits and is laid out by the same rules, so it is the same form wherever a double holds them. What
//! is worth the same is the same: `1.0` and `1`, `0.10` and `0.1`, `-0` and `0`.

use skald_protocol::Json;

use super::{Decimal, Number, Value};

/// A value's form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canonical {
    pub form: String,
    /// RFC 8785's own, where it is another: what earlier builds compared by.
    pub rounded: Option<String>,
}

#[must_use]
pub fn canonical(value: &Value) -> Canonical {
    let mut write = Write { form: String::new(), rounds: false, differs: false };
    write.value(value);
    let (form, differs) = (write.form, write.differs);
    let rounded = differs.then(|| {
        let mut write = Write { form: String::new(), rounds: true, differs: false };
        write.value(value);
        write.form
    });
    Canonical { form, rounded }
}

/// Whether two texts are one value.
#[must_use]
pub fn same(one: &Json, other: &Json) -> bool {
    let form = |json| Value::of(json).map(|value| canonical(&value).form);
    one == other || matches!((form(one), form(other)), (Ok(one), Ok(other)) if one == other)
}

struct Write {
    form: String,
    rounds: bool,
    /// Rounding would change a number.
    differs: bool,
}

impl Write {
    fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.form.push_str("null"),
            Value::Bool(truth) => self.form.push_str(if *truth { "true" } else { "false" }),
            Value::Number(number) => self.number(number),
            Value::String(text) => self.text(text),
            Value::Array(items) => {
                self.form.push('[');
                for (index, item) in items.iter().enumerate() {
                    self.comma(index);
                    self.value(item);
                }
                self.form.push(']');
            }
            Value::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                if members.iter().any(|(key, _)| !key.is_ascii()) {
                    members.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
                }
                self.form.push('{');
                for (index, (key, member)) in members.into_iter().enumerate() {
                    self.comma(index);
                    self.text(key);
                    self.form.push(':');
                    self.value(member);
                }
                self.form.push('}');
            }
        }
    }

    fn comma(&mut self, index: usize) {
        if index > 0 {
            self.form.push(',');
        }
    }

    /// `serde_json` escapes what RFC 8785 wants escaped, and so.
    fn text(&mut self, text: &str) {
        if text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
            self.form.push('"');
            self.form.push_str(text);
            self.form.push('"');
        } else {
            self.form.push_str(&serde_json::Value::from(text).to_string());
        }
    }

    fn number(&mut self, number: &Number) {
        /// Up to it every whole number is a double.
        const WHOLE: u64 = 1 << 53;
        let text = number.to_string();
        if matches!(number, Number::Int(int) if int.unsigned_abs() <= WHOLE) {
            return self.form.push_str(&text);
        }
        let own = Decimal::of(&text).map_or_else(|| text.clone(), |decimal| decimal.ecmascript());
        let rounded = || {
            let double: Option<f64> = serde_json::from_str(&text).ok();
            double.and_then(|double| serde_json_canonicalizer::to_string(&double).ok())
        };
        match rounded() {
            Some(rounded) if rounded != own => {
                self.differs = true;
                self.form.push_str(if self.rounds { &rounded } else { &own });
            }
            Some(_) | None => self.form.push_str(&own),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn of(text: &str) -> Canonical {
        canonical(&Value::read(text).unwrap())
    }

    #[test]
    fn numbers_are_compared_by_all_their_digits() {
        for [one, other] in [
            ["9007199254740993", "9007199254740992"],
            ["123456789012345678901234567890", "123456789012345678901234567891"],
            ["12345678901234567.89", "12345678901234567.88"],
            ["1e-400", "0"],
            ["1e999", "1e998"],
        ] {
            assert_ne!(of(one).form, of(other).form);
        }
        for [one, other] in [["1", "1.0"], ["0.10", "0.1"], ["-0", "0"], ["1e21", "1000000000000000000000"]] {
            assert_eq!(of(one), of(other));
        }
    }

    #[test]
    fn the_older_form_is_known_where_it_was_another() {
        assert_eq!(of("[1, 0.10, 1e21, 9007199254740992]").rounded, None);
        let both = of(r#"{"b": 9007199254740993, "a": 12345678901234567.89}"#);
        assert_eq!(both.form, r#"{"a":12345678901234567.89,"b":9007199254740993}"#);
        assert_eq!(both.rounded.as_deref(), Some(r#"{"a":12345678901234568,"b":9007199254740992}"#));
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(json!(null)),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<u64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            "[\\PC\u{0}-\u{1f}\"\\\\]{0,6}".prop_map(Into::into),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::btree_map("[\\PC\u{e000}-\u{10ffff}]{0,3}", inner, 0..4)
                    .prop_map(|members| members.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn where_doubles_hold_the_numbers_it_is_rfc_8785_s_form_and_else_that_is_known_too(value in json()) {
            let theirs = serde_json_canonicalizer::to_string(&value).unwrap();
            let ours = canonical(&Value::from(&value));
            prop_assert_eq!(ours.rounded.unwrap_or(ours.form), theirs);
        }
    }
}
