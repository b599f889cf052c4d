//! From JSON text to a value. The text was checked when it came in (it is a `Json`, or was parsed before), so only what a
//! checker of JSON passes over can be wrong here; whatever else comes is an error too, and never a panic.

use super::{Map, Number, Value, pointer::escape};

/// As deep as `serde_json` reads: what is made of values that nest `limit::JSON_DEPTH` deep may nest deeper.
const DEPTH: usize = 128;

/// What keeps JSON from being read; `pointer` (RFC 6901) leads to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("the member at `{pointer}` stands there twice")]
    Twice { pointer: String },
    #[error("the number at `{pointer}` is beyond what a double comes near")]
    Beyond { pointer: String },
    #[error("the string at `{pointer}` holds half of a surrogate pair")]
    Surrogate { pointer: String },
    #[error("it nests deeper than {DEPTH} levels")]
    Deep,
    #[error("it is no JSON")]
    Broken,
}

impl Unreadable {
    /// The fault was noticed below; its pointer grows on the way up, so good text never builds one.
    fn below(mut self, segment: &str) -> Self {
        if let Self::Twice { pointer } | Self::Beyond { pointer } | Self::Surrogate { pointer } = &mut self {
            pointer.insert_str(0, &format!("/{}", escape(segment)));
        }
        self
    }
}

pub(super) fn read(text: &str, strictly: bool) -> Result<Value, Unreadable> {
    let mut reader = Reader { text, at: 0, depth: 0, strictly };
    let value = reader.value()?;
    reader.space();
    if reader.at == text.len() { Ok(value) } else { Err(Unreadable::Broken) }
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
    strictly: bool,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Whether `byte` comes next, spaces aside.
    fn next(&mut self, byte: u8) -> bool {
        self.space();
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, Unreadable> {
        if self.text[self.at..].starts_with(word) {
            self.at += word.len();
            return Ok(value);
        }
        Err(Unreadable::Broken)
    }

    fn value(&mut self) -> Result<Value, Unreadable> {
        self.space();
        match self.peek() {
            Some(b'"') => self.string().map(Value::String),
            Some(b'{') => self.deeper(Self::object),
            Some(b'[') => self.deeper(Self::array),
            Some(b'n') => self.word("null", Value::Null),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) | None => Err(Unreadable::Broken),
        }
    }

    fn deeper(&mut self, read: fn(&mut Self) -> Result<Value, Unreadable>) -> Result<Value, Unreadable> {
        if self.depth == DEPTH {
            return Err(Unreadable::Deep);
        }
        self.depth += 1;
        self.at += 1;
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn object(&mut self) -> Result<Value, Unreadable> {
        let mut members = Map::new();
        if self.next(b'}') {
            return Ok(Value::Object(members));
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return Err(Unreadable::Broken);
            }
            let key = self.string()?;
            if !self.next(b':') {
                return Err(Unreadable::Broken);
            }
            if self.strictly && members.contains_key(&key) {
                return Err(Unreadable::Twice { pointer: String::new() }.below(&key));
            }
            let value = self.value().map_err(|fault| fault.below(&key))?;
            members.insert(key, value);
            if !self.next(b',') {
                break;
            }
        }
        if self.next(b'}') { Ok(Value::Object(members)) } else { Err(Unreadable::Broken) }
    }

    fn array(&mut self) -> Result<Value, Unreadable> {
        let mut items = Vec::new();
        if self.next(b']') {
            return Ok(Value::Array(items));
        }
        loop {
            let item = self.value().map_err(|fault| fault.below(&items.len().to_string()))?;
            items.push(item);
            if !self.next(b',') {
                break;
            }
        }
        if self.next(b']') { Ok(Value::Array(items)) } else { Err(Unreadable::Broken) }
    }

    fn string(&mut self) -> Result<String, Unreadable> {
        let start = self.at;
        let inside = &self.text.as_bytes()[start + 1..];
        let mut end = inside.iter().position(|byte| matches!(byte, b'"' | b'\\')).ok_or(Unreadable::Broken)?;
        if inside[end] == b'"' {
            self.at = start + end + 2;
            return Ok(self.text[start + 1..=start + end].to_owned());
        }
        while let Some(byte) = inside.get(end) {
            match byte {
                b'"' => {
                    self.at = start + end + 2;
                    // Anything else that is wrong in it was refused when it came in.
                    return serde_json::from_str(&self.text[start..self.at])
                        .map_err(|_| Unreadable::Surrogate { pointer: String::new() });
                }
                b'\\' => end += 2,
                _ => end += 1,
            }
        }
        Err(Unreadable::Broken)
    }

    fn number(&mut self) -> Result<Value, Unreadable> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')) {
            self.at += 1;
        }
        let number = Number::of_text(&self.text[start..self.at]);
        if self.strictly && !number.is_near_a_double() {
            return Err(Unreadable::Beyond { pointer: String::new() });
        }
        Ok(Value::Number(number))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_cannot_be_read_is_told_with_its_place() {
        let told = |text: &str| Value::read_strictly(text).unwrap_err();
        assert_eq!(
            told(r#"{"a": [1, {"b/c": {"d": 1, "d": 2}}]}"#),
            Unreadable::Twice { pointer: "/a/1/b~1c/d".to_owned() }
        );
        assert_eq!(told(r#"{"a": [1e999]}"#), Unreadable::Beyond { pointer: "/a/0".to_owned() });
        assert_eq!(told(r#"["", "\ud800"]"#), Unreadable::Surrogate { pointer: "/1".to_owned() });
        assert_eq!(told(&"[".repeat(129)), Unreadable::Deep);
        assert_eq!(Value::read(r#"{"d": 1, "d": 2}"#).unwrap().to_string(), r#"{"d":2}"#);
        assert_eq!(Value::read("[1e999, -1E-999]").unwrap().to_string(), "[1e999,-1E-999]");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,40}", more in "[\\[\\]{}\",:\\\\a-eu0-9.+tnf -]{0,40}") {
            let _ = Value::read(&text);
            if let Ok(value) = Value::read(&more) {
                prop_assume!(serde_json::from_str::<&serde_json::value::RawValue>(&more).is_ok());
                prop_assert_eq!(Value::read(&value.to_string()), Ok(value));
            }
        }
    }
}
