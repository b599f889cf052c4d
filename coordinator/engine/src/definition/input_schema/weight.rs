//! How many schemas may be evaluated against one value.
//!
//! References are followed, each time anew, as a validator does: a schema that doubles itself forty times has a weight
//! of 2^40, and one that refers to itself has none. Both would let one small request keep a processor busy for years.

use std::collections::BTreeMap;

use crate::{
    definition::{
        diagnostic::Code,
        syntax::read::{Faults, Node, Place, quote},
    },
    value::{Map, Value},
};

/// Of one schema.
const MOST: u64 = 50_000;
const PATTERNS: usize = 50;
/// References and schemas inside one another.
const DEPTH: usize = 200;

const ONE: [&str; 12] = [
    "additionalProperties",
    "contains",
    "contentSchema",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
    "additionalItems",
];
const ARRAY: [&str; 4] = ["allOf", "anyOf", "oneOf", "prefixItems"];
const MAP: [&str; 3] = ["dependentSchemas", "patternProperties", "properties"];
/// What holds values, not schemas.
const VALUES: [&str; 4] = ["const", "default", "enum", "examples"];

/// `None`: it has no bound that is worth having, which is reported.
pub(super) fn weigh(root: &Node<'_>, faults: &mut Faults) -> Option<u64> {
    let before = faults.len();
    let mut patterns = 0;
    refuse(root.value, &root.place, true, &mut patterns, faults);
    if patterns > PATTERNS {
        faults.add(Code::InvalidValue, &root.place, format!("{patterns} patterns; at most {PATTERNS} are taken"));
    }
    if faults.len() > before {
        return None;
    }
    let mut scale = Scale { root, known: BTreeMap::new() };
    match scale.schema(root.value, &root.place, 0) {
        Ok(weight) if weight > MOST => {
            let message = format!("the schema comes to more than {MOST} schemas, its references followed");
            faults.add(Code::InvalidValue, &root.place, message);
            None
        }
        Ok(weight) => Some(weight),
        Err((place, message)) => {
            faults.add(Code::InvalidValue, &place, message);
            None
        }
    }
}

/// References that cannot be followed here. JSON nests no deeper than `limit::JSON_DEPTH`.
fn refuse<'a>(value: &'a Value, place: &Place<'a>, root: bool, patterns: &mut usize, faults: &mut Faults) {
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                refuse(item, &place.index(index), false, patterns, faults);
            }
        }
        Value::Object(members) => {
            for (key, member) in members {
                match (key.as_str(), member) {
                    ("$dynamicRef" | "$recursiveRef", Value::String(_)) => {
                        faults.add(Code::InvalidValue, &place.key(key), format!("{} is not taken", quote(key)));
                    }
                    ("$id", Value::String(_)) if !root => {
                        faults.add(
                            Code::InvalidValue,
                            &place.key(key),
                            "a schema inside another one has no `$id` here",
                        );
                    }
                    ("$ref", Value::String(to)) if !(to == "#" || to.starts_with("#/")) || to.contains('%') => {
                        let message = format!("the reference {} leads out of the schema", quote(to));
                        faults.add_with(Code::InvalidValue, &place.key(key), message, "Write it as #/$defs/name.");
                    }
                    ("format", Value::String(name)) if !super::is_format(name) => {
                        let help = "Write a `pattern`, or a format such as date-time, date, email, uri, uuid or ipv4.";
                        let message = format!("the format {} is none that is checked", quote(name));
                        faults.add_with(Code::InvalidValue, &place.key(key), message, help);
                    }
                    ("pattern", Value::String(_)) => *patterns += 1,
                    ("patternProperties", Value::Object(members)) => *patterns += members.len(),
                    _ => {}
                }
                if !VALUES.contains(&key.as_str()) {
                    refuse(member, &place.key(key), false, patterns, faults);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

type Weighed<'a> = Result<u64, (Place<'a>, String)>;

struct Scale<'s, 'a> {
    root: &'s Node<'a>,
    /// By address; `None` while the schema is being weighed.
    known: BTreeMap<usize, Option<u64>>,
}

impl<'a> Scale<'_, 'a> {
    fn schema(&mut self, schema: &'a Value, place: &Place<'a>, depth: usize) -> Weighed<'a> {
        let Value::Object(members) = schema else { return Ok(1) };
        if depth > DEPTH {
            return Err((place.clone(), format!("references lead more than {DEPTH} schemas deep")));
        }
        let address = address(schema);
        if let Some(Some(weight)) = self.known.get(&address) {
            return Ok(*weight);
        }
        self.known.insert(address, None);
        let weight = self.members(members, place, depth)?;
        self.known.insert(address, Some(weight));
        Ok(weight)
    }

    fn members(&mut self, members: &'a Map, place: &Place<'a>, depth: usize) -> Weighed<'a> {
        let mut weight = 1_u64;
        for (key, member) in members {
            let name = key.as_str();
            let at = place.key(name);
            let added = match member {
                Value::String(to) if name == "$ref" => self.reference(to, at, depth)?,
                Value::Array(items) if ARRAY.contains(&name) => {
                    let mut sum = 0_u64;
                    for (index, item) in items.iter().enumerate() {
                        sum = sum.saturating_add(self.schema(item, &at.index(index), depth + 1)?);
                    }
                    sum
                }
                Value::Object(entries) if MAP.contains(&name) => {
                    let mut sum = 0_u64;
                    for (entry, schema) in entries {
                        sum = sum.saturating_add(self.schema(schema, &at.key(entry), depth + 1)?);
                    }
                    sum
                }
                _ if ONE.contains(&name) => self.schema(member, &at, depth + 1)?,
                // Each of them is compared.
                Value::Array(items) => u64::try_from(items.len()).unwrap_or(u64::MAX) / 8,
                _ => 0,
            };
            weight = weight.saturating_add(added);
        }
        Ok(weight)
    }

    /// Only a reference leads back to a schema that is being weighed.
    fn reference(&mut self, to: &'a str, at: Place<'a>, depth: usize) -> Weighed<'a> {
        // What leads nowhere is told when the schema is built.
        let Some(target) = to.get(1..).and_then(|pointer| self.root.value.pointer(pointer)) else { return Ok(1) };
        if self.known.get(&address(target)) == Some(&None) {
            return Err((at, "a schema that refers to itself is not taken: write out the levels you need".to_owned()));
        }
        let place = if to.contains('~') {
            at
        } else {
            to.split('/').skip(1).fold(self.root.place.clone(), |place, segment| place.key(segment))
        };
        self.schema(target, &place, depth + 1)
    }
}

fn address(schema: &Value) -> usize {
    std::ptr::from_ref(schema).addr()
}
