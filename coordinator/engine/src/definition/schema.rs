//! `input`: the JSON Schema (2020-12) of a definition's input, compiled once. Nothing outside it is ever fetched, and
//! patterns run in linear time.

use std::{fmt, sync::Arc};

use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::Value;

use super::{
    Diagnostic,
    read::{Faults, Node},
};

/// A compiled JSON Schema (2020-12) of a definition's input.
#[derive(Clone)]
pub struct InputSchema {
    validator: Arc<Validator>,
}

impl fmt::Debug for InputSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InputSchema")
    }
}

/// Of one input; more say nothing more.
const MOST: usize = 100;

impl InputSchema {
    pub(super) fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Self> {
        if !node.value.is_object() && !node.value.is_boolean() {
            return node.wrong("a JSON Schema", faults);
        }
        let built = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .with_pattern_options(PatternOptions::regex())
            .offline()
            .build(node.value);
        match built {
            Ok(validator) => Some(Self { validator: Arc::new(validator) }),
            Err(error) => {
                let pointer = format!("{}{}", node.place.pointer(), error.instance_path());
                let message = format!("not a JSON Schema (2020-12): {}", cut(&error.to_string()));
                faults.add_at("E004", pointer, message, None);
                None
            }
        }
    }

    /// All faults of an input, with pointers into it.
    pub fn check(&self, input: &Value) -> Result<(), Vec<Diagnostic>> {
        let faults: Vec<_> = self
            .validator
            .iter_errors(input)
            .take(MOST)
            .map(|error| Diagnostic {
                code: "input_invalid",
                pointer: error.instance_path().to_string(),
                message: cut(&error.to_string()),
                help: None,
            })
            .collect();
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}

/// The crate's messages hold the value that is wrong, however long it is.
fn cut(message: &str) -> String {
    match message.char_indices().nth(300) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message.to_owned(),
    }
}
