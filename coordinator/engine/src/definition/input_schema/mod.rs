//! `input`: the JSON Schema (2020-12) of a definition's input, compiled once.
//!
//! Nothing outside it is ever fetched, patterns run in linear time, and what checking an input costs is bounded: a
//! schema's weight is known when it is compiled.

mod types;
mod weight;

use std::{fmt, sync::Arc};

use jsonschema::{Draft, PatternOptions, Validator};

pub(super) use types::type_of;

use crate::{
    definition::{
        Diagnostic,
        diagnostic::{Code, Mark},
        syntax::read::{Faults, Node, Place, quote},
    },
    text::shortened,
    value::Value,
};

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";
/// Bytes of one compiled pattern.
const PATTERN: usize = 1 << 20;
/// Schemas evaluated against values, in one check: some seconds at worst, which no real schema comes near.
const BUDGET: u64 = 50_000_000;
/// Faults of one input or schema; more say nothing more.
const MOST: usize = 100;
/// The crate's messages hold the value that is wrong, however long it is.
const MESSAGE: usize = 300;

/// A compiled JSON Schema (2020-12) of a definition's input.
#[derive(Clone)]
pub struct InputSchema {
    validator: Arc<Validator>,
    /// Schemas that may be evaluated against one value.
    weight: u64,
}

impl fmt::Debug for InputSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InputSchema").field("weight", &self.weight).finish_non_exhaustive()
    }
}

impl InputSchema {
    pub(super) fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Self> {
        if !node.value.is_object() && !node.value.is_boolean() {
            return node.wrong("a JSON Schema", faults);
        }
        if let Some(draft) = node.value.get("$schema")
            && *draft != DRAFT
        {
            let message = format!("only JSON Schema 2020-12 is read, not {}", quote(&draft.to_string()));
            faults.add_with(
                Code::InvalidValue,
                &node.place.key("$schema"),
                message,
                format!("Write {DRAFT}, or leave it out."),
            );
            return None;
        }
        let weight = weight::weigh(node, faults)?;
        let stated = node.value.to_doubles();
        let built = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .with_pattern_options(PatternOptions::regex().size_limit(PATTERN))
            .offline()
            // In 2020-12 `format` only describes; who writes it means it.
            .should_validate_formats(true)
            .build(&stated);
        let error = match built {
            Ok(validator) => return Some(Self { validator: Arc::new(validator), weight }),
            Err(error) => error,
        };
        let pointer = node.place.pointer();
        let mut tell = |at: &dyn fmt::Display, error: &dyn fmt::Display| {
            let message = format!("not a JSON Schema (2020-12): {}", shortened(&error.to_string(), MESSAGE));
            let at = at.to_string();
            let types = "The types are null, boolean, integer, number, string, array and object.";
            match node.value.pointer(&at) {
                Some(stated @ Value::String(_)) if at.ends_with("/type") => {
                    let message = format!("{} is no type of JSON Schema", quote(stated.as_str().unwrap_or_default()));
                    faults.add_at(Code::InvalidValue, format!("{pointer}{at}"), message, Some(types.to_owned()));
                }
                _ => faults.add_at(Code::InvalidValue, format!("{pointer}{at}"), message, None),
            }
        };
        // Building stops at the first fault; the schema of schemas knows them all, but not what a pattern may hold.
        let mut found = false;
        for error in jsonschema::draft202012::meta::validator().iter_errors(&stated).take(MOST) {
            tell(&error.instance_path(), &error);
            found = true;
        }
        if !found {
            tell(&error.instance_path(), &error);
        }
        None
    }

    /// One that was proven when its definition was compiled; `None` if this build does not take it.
    #[must_use]
    pub fn proven(schema: &Value) -> Option<Self> {
        Self::read(&Node::new(schema, Place::default()), &mut Faults::new())
    }

    /// All faults of an input, with pointers into it. A schema knows numbers as doubles: what has more digits is checked as
    /// the nearest.
    pub fn check(&self, input: &Value) -> Result<(), Vec<Diagnostic>> {
        let fault = |pointer, message| Diagnostic {
            code: Code::InputInvalid,
            pointer,
            message,
            help: None,
            position: None,
            mark: Mark::Value,
        };
        if self.weight.saturating_mul(size(input)) > BUDGET {
            let message = "the input is too large to be checked against a schema as heavy as this one".to_owned();
            return Err(vec![fault(String::new(), message)]);
        }
        let input = input.to_doubles();
        let errors = self.validator.iter_errors(&input).take(MOST);
        let faults: Vec<_> = errors
            .map(|error| fault(error.instance_path().to_string(), shortened(&error.to_string(), MESSAGE).into_owned()))
            .collect();
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}

/// Whether texts are checked against this `format`.
#[must_use]
pub fn is_format(name: &str) -> bool {
    jsonschema::options().is_known_format(Draft::Draft202012, name)
}

/// Values in the input, long texts counting for several.
fn size(value: &Value) -> u64 {
    let mut size = 0_u64;
    let mut rest = vec![value];
    while let Some(value) = rest.pop() {
        size += match value {
            Value::String(text) => 1 + u64::try_from(text.len()).unwrap_or(u64::MAX) / 16,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => 1,
        };
        match value {
            Value::Array(items) => rest.extend(items),
            Value::Object(members) => rest.extend(members.values()),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    size
}
