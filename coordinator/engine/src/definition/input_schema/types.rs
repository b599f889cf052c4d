//! What an `input` schema says of the values that it takes.
//!
//! A schema that names `properties` means those alone, unless `additionalProperties`, `patternProperties` or a schema
//! beside it says more (E205); what is not `required` may be absent (E204). What is said by `anyOf`, `oneOf`, `if` and the
//! like is known as far as all ways agree. `weight` has proven before that following references ends.

use std::{collections::BTreeMap, rc::Rc};

use crate::{
    cel::types::{Kinds, Member, Presence, Type},
    value::{Map, Value},
};

/// As deep as `weight` lets schemas and references go.
const DEPTH: usize = 200;

pub(in crate::definition) fn type_of(schema: &Value) -> Type {
    Reading { root: schema, known: BTreeMap::new() }.schema(schema, 0)
}

struct Reading<'s> {
    root: &'s Value,
    /// By address.
    known: BTreeMap<usize, Type>,
}

impl<'s> Reading<'s> {
    fn schema(&mut self, schema: &'s Value, depth: usize) -> Type {
        let Value::Object(members) = schema else { return Type::DYN };
        if depth > DEPTH {
            return Type::DYN;
        }
        let address = std::ptr::from_ref(schema).addr();
        if let Some(known) = self.known.get(&address) {
            return known.clone();
        }
        let mut parts = Vec::new();
        self.parts(members, depth, &mut parts);
        let kind = self.all(&parts, depth);
        self.known.insert(address, kind.clone());
        kind
    }

    /// The schema and all that hold beside it whatever comes: `$ref`, `allOf`.
    fn parts(&self, schema: &'s Map, depth: usize, parts: &mut Vec<&'s Map>) {
        parts.push(schema);
        let reference = schema.get("$ref").and_then(Value::as_str).and_then(|to| to.get(1..));
        let target = reference.and_then(|pointer| self.root.pointer(pointer));
        let all = schema.get("allOf").and_then(Value::as_array).into_iter().flatten();
        for part in target.into_iter().chain(all).filter_map(Value::as_object) {
            if depth < DEPTH {
                self.parts(part, depth + 1, parts);
            }
        }
    }

    fn all(&mut self, parts: &[&'s Map], depth: usize) -> Type {
        let stated = parts.iter().map(|part| kinds(part)).reduce(Kinds::and).unwrap_or(Kinds::ALL);
        let implied = match (says(parts, &["properties", "required"]), says(parts, &["items", "prefixItems"])) {
            (true, false) => Kinds::MAP,
            (false, true) => Kinds::LIST,
            _ => Kinds::ALL,
        };
        // What contradicts itself takes nothing: of that there is nothing to say.
        let kinds = match stated {
            Kinds::NONE => return Type::DYN,
            Kinds::ALL => implied,
            stated => stated,
        };
        let mut kind = Type::of(kinds);
        if kinds.may_be(Kinds::LIST) {
            kind.list = self.list(parts, depth).list;
        }
        if kinds.may_be(Kinds::MAP) && says(parts, &["properties", "required", "additionalProperties"]) {
            kind.map = self.map(parts, depth).map;
        }
        let elsewhere = ["anyOf", "oneOf", "if", "then", "else", "dependentSchemas", "dependentRequired"];
        if says(parts, &elsewhere) {
            kind = kind.loosened();
        }
        for part in parts {
            for name in ["anyOf", "oneOf"] {
                let ways = part.get(name).and_then(Value::as_array).into_iter().flatten();
                let ways: Vec<_> = ways.map(|way| self.schema(way, depth + 1).loosened()).collect();
                if let Some(joined) = ways.into_iter().reduce(|one, two| one.join(&two)) {
                    kind = kind.meet(&joined);
                }
            }
        }
        kind
    }

    fn list(&mut self, parts: &[&'s Map], depth: usize) -> Type {
        let most = parts.iter().filter_map(|part| part.get("maxItems")?.as_u64()).min();
        let mut item = Type::DYN;
        if !says(parts, &["prefixItems"]) {
            for items in parts.iter().filter_map(|part| part.get("items")) {
                item = item.meet(&self.schema(items, depth + 1));
            }
        }
        Type::list(item, most)
    }

    fn map(&mut self, parts: &[&'s Map], depth: usize) -> Type {
        let mut members: BTreeMap<Rc<str>, Member> = BTreeMap::new();
        let stated = says(parts, &["properties", "additionalProperties"]);
        let mut rest = if stated { None } else { Some(Type::DYN) };
        for part in parts {
            for (name, schema) in part.get("properties").and_then(Value::as_object).into_iter().flatten() {
                let kind = self.schema(schema, depth + 1);
                let known = members.entry(name.as_str().into());
                let known = known.or_insert(Member { kind: Type::DYN, presence: Presence::Optional });
                known.kind = known.kind.meet(&kind);
            }
            for (name, schema) in *part {
                let more = match (name.as_str(), schema) {
                    ("additionalProperties" | "unevaluatedProperties", Value::Bool(false)) => continue,
                    ("additionalProperties", schema) => self.schema(schema, depth + 1),
                    ("unevaluatedProperties" | "patternProperties", _) => Type::DYN,
                    _ => continue,
                };
                rest = Some(rest.map_or_else(|| more.clone(), |rest| rest.join(&more)));
            }
        }
        if parts.iter().any(|part| part.get("additionalProperties") == Some(&Value::Bool(false))) {
            rest = rest.filter(|_| says(parts, &["patternProperties"]));
        }
        for part in parts {
            for name in part.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
                let required = Member { kind: Type::DYN, presence: Presence::Required };
                members.entry(name.into()).or_insert(required).presence = Presence::Required;
            }
        }
        Type::map(members, rest)
    }
}

/// Whether one of them has one of these keywords.
fn says(parts: &[&Map], keywords: &[&str]) -> bool {
    parts.iter().any(|part| keywords.iter().any(|keyword| part.contains_key(*keyword)))
}

/// By `type`, `const` or `enum`.
fn kinds(schema: &Map) -> Kinds {
    let named = |name: &Value| match name.as_str() {
        Some("null") => Kinds::NULL,
        Some("boolean") => Kinds::BOOL,
        Some("integer") => Kinds::INT,
        Some("number") => Kinds::NUMBER,
        Some("string") => Kinds::TEXT,
        Some("array") => Kinds::LIST,
        Some("object") => Kinds::MAP,
        Some(_) | None => Kinds::ALL,
    };
    let any = |values: &[Value], of: &dyn Fn(&Value) -> Kinds| values.iter().map(of).fold(Kinds::NONE, Kinds::or);
    let stated = match schema.get("type") {
        Some(Value::Array(names)) => any(names, &named),
        Some(name) => named(name),
        None => Kinds::ALL,
    };
    let of_value = |value: &Value| match value {
        Value::Number(_) => Kinds::NUMBER,
        other => Type::of_value(&other.into()).kinds,
    };
    let given = match (schema.get("const"), schema.get("enum")) {
        (Some(value), _) => of_value(value),
        (None, Some(Value::Array(values))) => any(values, &of_value),
        (None, _) => Kinds::ALL,
    };
    stated.and(given)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(json!(null)),
            any::<bool>().prop_map(Value::from),
            (-2_i64..4).prop_map(Value::from),
            Just(json!(0.5)),
            prop::sample::select(&["", "a", "b"][..]).prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            let name = prop::sample::select(&["a", "b", "c"][..]);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map(name, inner, 0..4)
                    .prop_map(|members| members.into_iter().map(|(name, member)| (name.to_owned(), member)).collect()),
            ]
        })
    }

    fn schema() -> impl Strategy<Value = Value> {
        let types = ["null", "boolean", "integer", "number", "string", "array", "object"];
        let leaf = prop_oneof![
            4 => prop::sample::select(types.to_vec()).prop_map(|name| json!({"type": name})),
            1 => prop::collection::vec(prop::sample::select(types.to_vec()), 1..3).prop_map(|names| json!({"type": names})),
            1 => value().prop_map(|value| json!({"const": value})),
            1 => prop::collection::vec(value(), 1..3).prop_map(|values| json!({"enum": values})),
            1 => any::<bool>().prop_map(Value::from),
            1 => Just(json!({})),
            1 => prop::sample::select(&["s", "t"][..]).prop_map(|name| json!({"$ref": format!("#/$defs/{name}")})),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            let name = || prop::sample::select(&["a", "b", "c"][..]);
            let object = (
                prop::collection::btree_map(name(), inner.clone(), 0..3),
                prop::option::of(prop::collection::btree_set(name(), 0..3)),
                prop::option::weighted(0.4, inner.clone()),
            );
            let object = object.prop_map(|(properties, required, more)| {
                // Without a type the properties of what is no object say nothing; here they mean an object.
                let mut schema = json!({"type": "object", "properties": properties});
                if let Some(required) = required {
                    schema["required"] = json!(required);
                }
                if let Some(more) = more {
                    schema["additionalProperties"] = more;
                }
                schema
            });
            let list = (prop::option::of(inner.clone()), prop::option::of(0..3_u64)).prop_map(|(items, most)| {
                let mut schema = json!({"type": "array"});
                schema["items"] = items.unwrap_or(json!(true));
                if let Some(most) = most {
                    schema["maxItems"] = json!(most);
                }
                schema
            });
            let keyword = prop::sample::select(&["allOf", "anyOf", "oneOf"][..]);
            let joined = (inner.clone(), keyword, prop::collection::vec(inner.clone(), 1..3));
            let joined = joined.prop_map(|(base, keyword, parts)| {
                let mut schema = if base.is_object() { base } else { json!({}) };
                schema[keyword] = json!(parts);
                schema
            });
            let tested = (inner.clone(), inner.clone(), inner).prop_map(
                |(one, two, three)| json!({"type": "object", "properties": {"a": one}, "if": two, "then": three}),
            );
            prop_oneof![3 => object, 1 => list, 2 => joined, 1 => tested]
        })
    }

    /// Whether the type admits it. Members beside those that are named are no matter: reading one is told (E205).
    fn admits(kind: &Type, value: &Value) -> bool {
        let written = match value {
            Value::Number(_) => Kinds::NUMBER,
            other => Type::of_value(&other.into()).kinds,
        };
        let inside = match value {
            Value::Array(items) => kind.list.as_ref().is_none_or(|list| {
                list.most.is_none_or(|most| items.len() as u64 <= most)
                    && items.iter().all(|item| admits(&list.item, item))
            }),
            Value::Object(members) => kind.map.as_ref().is_none_or(|map| {
                map.members.iter().all(|(name, member)| match members.get(&**name) {
                    Some(value) => admits(&member.kind, value),
                    None => member.presence != Presence::Required,
                }) && members
                    .iter()
                    .filter(|(name, _)| !map.members.contains_key(name.as_str()))
                    .all(|(_, value)| map.rest.as_ref().is_none_or(|rest| admits(rest, value)))
            }),
            _ => true,
        };
        kind.kinds.may_be(written) && inside
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_a_schema_takes_its_type_admits(schema in schema(), s in schema(), t in schema(), value in value()) {
            // References are proven to end before types are asked for.
            let ending = |schema: Value| -> Value {
                serde_json::from_str(&schema.to_string().replace("$ref", "x-ref")).expect("JSON")
            };
            let whole = json!({"allOf": [schema], "$defs": {"s": ending(s), "t": ending(t)}});
            let text = whole.to_string();
            let Ok(validator) = jsonschema::options().offline().build(&whole) else { return Ok(()) };
            if validator.is_valid(&value) {
                let kind = type_of(&(&whole).into());
                prop_assert!(admits(&kind, &value), "{text} takes {value}, and {kind:?} does not");
            }
        }
    }
}
