//! JSON text to a value, with what serde_json would pass over in silence: members that come twice.
//!
//! The text is read twice: to find all that is wrong with it, and, when nothing is, to keep it.
//! Depth and size are bounded before anything else reads the value, so that whatever recurses over it may do so.

use std::{collections::BTreeSet, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::{
    definition::{
        diagnostic::{Code, Position},
        syntax::read::{Faults, Place, quote},
    },
    limit,
    value::{Value, pointer::escape},
};

/// Members of these names mean something else to serde_json itself, so that a stored plan would not read back.
const RESERVED: &str = "$serde_json::private::";
const BYTE_ORDER_MARK: char = '\u{feff}';

pub(in crate::definition) fn parse<'a>(text: &str, place: &Place<'a>, faults: &mut Faults) -> Option<Value> {
    if text.len() > limit::DEFINITION {
        let message = format!("definition_too_large: {} bytes; at most {} are taken", text.len(), limit::DEFINITION);
        faults.add(Code::InvalidJson, place, message);
        return None;
    }
    let pointer = place.pointer();
    if text.starts_with(BYTE_ORDER_MARK) {
        let message = "the text begins with a byte-order mark (U+FEFF)".to_owned();
        let help = "Save it as UTF-8 without one: JSON that is sent has none (RFC 8259, 8.1).".to_owned();
        faults.add_broken(pointer, message, Some(help), Position { line: 1, column: 1 });
        return None;
    }
    let mut reading = Reading { start: pointer.len(), pointer, depth: 0, faults };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    match Seed(&mut reading).deserialize(&mut deserializer).and_then(|()| deserializer.end()) {
        Ok(()) => Value::read(text).ok(),
        Err(error) => {
            let pointer = reading.pointer;
            let (message, help) = explain(&reason(&error));
            faults.add_broken(pointer, message, help, Position::of_error(text, &error));
            None
        }
    }
}

/// Without the place, which is told beside it.
pub(crate) fn reason(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let suffix = format!(" at line {} column {}", error.line(), error.column());
    message.strip_suffix(&suffix).unwrap_or(&message).to_owned()
}

/// The parser's words as those of somebody who wants to help.
fn explain(message: &str) -> (String, Option<String>) {
    let (message, help) = match message {
        "EOF while parsing a list" => ("the text ends in the middle of an array", "Close it with `]`."),
        "EOF while parsing an object" => ("the text ends in the middle of an object", "Close it with `}`."),
        "EOF while parsing a string" => ("the text ends in the middle of a string", "Close it with `\"`."),
        "EOF while parsing a value" => ("the text ends where a value should stand", ""),
        "expected ident" | "expected value" => {
            ("no value of JSON starts like this", "Write a text in double quotes; true, false and null stand without.")
        }
        "expected `:`" => ("a colon is missing after the member's name", "Write \"name\": value."),
        "expected `,` or `}`" => {
            ("the object does not go on like this", "Write `,` between two members, `}` at the end.")
        }
        "expected `,` or `]`" => ("the array does not go on like this", "Write `,` between two items, `]` at the end."),
        "key must be a string" => ("the name of a member is missing", "Write it in double quotes."),
        "trailing comma" => (
            "a comma stands before this bracket, and nothing between",
            "Take it out: JSON has none before a closing bracket.",
        ),
        "trailing characters" => ("something follows the end of the definition", "A file holds one definition."),
        "control character (\\u0000-\\u001F) found while parsing a string" => {
            ("a string holds a line break or another control character", "Write it as \\n, or close the string before.")
        }
        other => (other, ""),
    };
    (message.to_owned(), Some(help.to_owned()).filter(|help| !help.is_empty()))
}

/// Where the text has been read to. After an error `pointer` stays at the value that holds it.
struct Reading<'f> {
    pointer: String,
    /// Length of the pointer to the whole text.
    start: usize,
    depth: usize,
    faults: &'f mut Faults,
}

impl Reading<'_> {
    fn below<T, E>(&mut self, segment: &str, read: impl FnOnce(&mut Self) -> Result<T, E>) -> Result<T, E> {
        let length = self.pointer.len();
        self.pointer.push('/');
        self.pointer.push_str(&escape(segment));
        let value = read(self)?;
        self.pointer.truncate(length);
        Ok(value)
    }

    fn deeper<E: Error>(&mut self) -> Result<(), E> {
        self.depth += 1;
        if self.depth > limit::JSON_DEPTH {
            // The pointer to it would be long and say nothing.
            self.pointer.truncate(self.start);
            return Err(E::custom(format_args!("too_deep: at most {} levels are taken", limit::JSON_DEPTH)));
        }
        Ok(())
    }
}

struct Seed<'r, 'f>(&'r mut Reading<'f>);

impl<'de> DeserializeSeed<'de> for Seed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _value: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _value: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _value: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _value: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _value: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let reading = self.0;
        reading.deeper()?;
        let mut count = 0_usize;
        while reading.below(&count.to_string(), |reading| items.next_element_seed(Seed(reading)))?.is_some() {
            count += 1;
        }
        reading.depth -= 1;
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let reading = self.0;
        reading.deeper()?;
        let mut keys = BTreeSet::new();
        while let Some(key) = members.next_key::<String>()? {
            if key.starts_with(RESERVED) {
                return Err(A::Error::custom(format_args!("{} cannot be a member's name", quote(&key))));
            }
            let twice = keys.contains(&key);
            reading.below(&key, |reading| {
                if twice {
                    let message = format!("{} stands here twice", quote(&key));
                    reading.faults.add_twice(reading.pointer.clone(), message);
                }
                members.next_value_seed(Seed(reading))
            })?;
            keys.insert(key);
        }
        reading.depth -= 1;
        Ok(())
    }
}
