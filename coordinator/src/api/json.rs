//! JSON from outside: bounded in depth before anything recursive sees it, without duplicate keys, with faults that name
//! their place.
//!
//! A good body is parsed once. Only a bad one is read again, to say all that is wrong with it.

use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::{error::Category, value::RawValue};
use sha2::{Digest, Sha256};
use skald_engine::{
    limit,
    value::pointer::escape,
    value::{self, Canonical, Unreadable, Value},
};
use skald_protocol::Fault;
use utoipa::{
    ToSchema,
    openapi::{RefOr, schema::Schema},
};

use super::error::Error;

/// Refuses what nests deeper than the limit.
pub(super) fn check_depth(text: &[u8]) -> Result<(), Error> {
    limit::too_deep(text).map_or(Ok(()), |at| {
        let (line, column) = place(text, at);
        Err(Error::TooDeep { line, column })
    })
}

fn place(text: &[u8], at: usize) -> (usize, usize) {
    let before = &text[..at];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = at - before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1) + 1;
    (line, column)
}

/// Reads a body as `T`; the words of the error are for whoever wrote the body.
pub(super) fn read<T: DeserializeOwned + ToSchema>(text: &[u8]) -> Result<T, Error> {
    let read = shaped(text)?;
    // What a `T` keeps as it was sent was only passed over: a member given twice in it would be read as either later.
    let _strict = value(text, "")?;
    Ok(read)
}

fn shaped<T: DeserializeOwned + ToSchema>(text: &[u8]) -> Result<T, Error> {
    check_depth(text)?;
    let read = serde_json::from_slice(text).map_err(|error| explain::<T>(text, &error))?;
    check_object(text)?;
    Ok(read)
}

/// serde would also take a struct's fields from an array.
pub(super) fn check_object(text: &[u8]) -> Result<(), Error> {
    match text.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => Ok(()),
        Some(_) | None => Err(Error::InvalidRequest(vec![Fault::at("", "the body must be a JSON object")])),
    }
}

/// How a request's digest, by which it is compared with an earlier one, is made of its canonical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DigestFormat {
    /// Of RFC 8785's own form, in which numbers are doubles. Earlier builds stored these, and this one only knows them.
    Doubles,
    /// Of `skald_engine::value::canonical`. It starts with a byte that no JSON has, so that none of these is the other
    /// format's of a request whose numbers were rounded.
    Digits,
}

impl DigestFormat {
    pub(super) fn start(self) -> Sha256 {
        let mut hash = Sha256::new();
        if self == Self::Digits {
            hash.update([2]);
        }
        hash
    }

    pub(super) fn form(self, canonical: &Canonical) -> &str {
        match (self, &canonical.rounded) {
            (Self::Doubles, Some(rounded)) => rounded,
            (Self::Doubles, None) | (Self::Digits, _) => &canonical.form,
        }
    }

    pub(super) fn digest(self, canonical: &Canonical) -> [u8; 32] {
        let mut hash = self.start();
        hash.update(self.form(canonical));
        hash.finalize().into()
    }
}

/// As `read`, with the body's canonical form.
pub(super) fn read_canonical<T: DeserializeOwned + ToSchema>(text: &[u8]) -> Result<(T, Canonical), Error> {
    let read = shaped(text)?;
    Ok((read, value::canonical(&value(text, "")?)))
}

/// Parses text that stands at `base` in its body; duplicate keys are refused.
pub(super) fn value(text: &[u8], base: &str) -> Result<Value, Error> {
    let broken = |message: String| match base {
        "" => Error::InvalidJson { message },
        base => Error::InvalidJson { message: format!("in `{base}`, {message}") },
    };
    let raw: &RawValue = serde_json::from_slice(text).map_err(|error| broken(error.to_string()))?;
    Value::read_strictly(raw.get()).map_err(|fault| match fault {
        Unreadable::Twice { pointer } => Error::DuplicateKey { pointer: format!("{base}{pointer}") },
        Unreadable::Beyond { .. } | Unreadable::Surrogate { .. } | Unreadable::Deep | Unreadable::Broken => {
            broken(fault.to_string())
        }
    })
}

/// Says all that keeps `text` from being a `T`.
pub(super) fn explain<T: DeserializeOwned + ToSchema>(text: &[u8], error: &serde_json::Error) -> Error {
    if error.classify() != Category::Data {
        return Error::InvalidJson { message: error.to_string() };
    }
    let mut members = match value(text, "").map(|value| value.to_doubles()) {
        Ok(serde_json::Value::Object(members)) => members,
        Ok(_) => return Error::InvalidRequest(vec![Fault::at("", "the body must be a JSON object")]),
        Err(error) => return error,
    };
    let known = fields::<T>();
    let mut faults = Vec::new();
    members.retain(|key, _| {
        let is_known = known.iter().any(|field| field == key);
        if !is_known {
            faults.push(Fault {
                help: Some(suggest(key, known.iter().map(String::as_str))),
                ..Fault::at(format!("/{}", escape(key)), "unknown field")
            });
        }
        is_known
    });
    if let Err(error) = serde_path_to_error::deserialize::<_, T>(serde_json::Value::Object(members)) {
        faults.push(Fault::at(pointer(error.path()), plain(&error.inner().to_string())));
    }
    if faults.is_empty() {
        faults.push(Fault::at("", plain(&error.to_string())));
    }
    Error::InvalidRequest(faults)
}

/// The parser names types of its own where an object should stand.
fn plain(message: &str) -> String {
    match message.split_once("expected ") {
        Some((before, named)) if named.starts_with("struct ") || named.starts_with("internally tagged enum ") => {
            format!("{before}expected an object")
        }
        _ => message.to_owned(),
    }
}

/// What to write instead of `word`.
pub(super) fn suggest<'a>(word: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    let nearest = known
        .clone()
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4);
    match nearest {
        Some((_, candidate)) => format!("did you mean `{candidate}`?"),
        None => {
            let known: Vec<_> = known.into_iter().map(|field| format!("`{field}`")).collect();
            if known.is_empty() { "none is known here".to_owned() } else { format!("known here: {}", known.join(", ")) }
        }
    }
}

/// The fields of a request's type, as its published schema has them.
fn fields<T: ToSchema>() -> Vec<String> {
    match T::schema() {
        RefOr::T(Schema::Object(object)) => object.properties.keys().cloned().collect(),
        RefOr::T(_) | RefOr::Ref(_) => Vec::new(),
    }
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter()
        .map(|segment| match segment {
            Segment::Seq { index } => format!("/{index}"),
            Segment::Map { key } => format!("/{}", escape(key)),
            Segment::Enum { .. } | Segment::Unknown => String::new(),
        })
        .collect()
}

/// Takes a field that was sent, `null` included, as it was sent.
pub(super) fn as_sent<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use skald_protocol::{BranchRequest, SkipRequest};

    fn nested(depth: usize) -> String {
        format!("{}1{}", "[".repeat(depth), "]".repeat(depth))
    }

    #[test]
    fn a_body_may_nest_64_deep_and_no_deeper() {
        assert!(check_depth(nested(64).as_bytes()).is_ok());
        assert!(matches!(check_depth(nested(65).as_bytes()), Err(Error::TooDeep { line: 1, column: 65 })));
        assert!(matches!(
            check_depth(format!("{{\n \"a\": {}", "[".repeat(100_000)).as_bytes()),
            Err(Error::TooDeep { line: 2, .. })
        ));
    }

    #[test]
    fn brackets_in_strings_do_not_nest() {
        let text = format!(r#"{{"a": "{}\"{}\\", "b": []}}"#, "[".repeat(100), "{".repeat(100));
        assert!(check_depth(text.as_bytes()).is_ok());
    }

    #[test]
    fn a_duplicate_key_is_refused_with_its_pointer() {
        let error = value(br#"{"a": [1, {"b/c": {"d": 1, "d": 2}}]}"#, "/input").unwrap_err();
        assert!(matches!(error, Error::DuplicateKey { pointer } if pointer == "/input/a/1/b~1c/d"));
    }

    #[test]
    fn spelling_does_not_change_the_digest_and_content_does() {
        let digest =
            |text: &str| DigestFormat::Digits.digest(&read_canonical::<BranchRequest>(text.as_bytes()).unwrap().1);
        let one = digest(r#"{"branch":"a","confirm":{"url":"http://x/1"},"cancel":{"url":"http://x/2"},"body":1.0}"#);
        assert_eq!(
            one,
            digest(
                r#" {"body": 1, "cancel": {"url":"http:\/\/x\/2"}, "confirm":{"url":"http://x/1"}, "branch": "\u0061"} "#
            )
        );
        assert_ne!(
            one,
            digest(r#"{"branch":"a","confirm":{"url":"http://x/1"},"cancel":{"url":"http://x/2"},"body":2}"#)
        );
    }

    #[test]
    fn all_faults_of_a_body_are_told_at_once() {
        let Err(Error::InvalidRequest(faults)) =
            read::<SkipRequest>(br#"{"brunch": "a", "zzzzzzzzz": 1, "branch": 5, "reason": "r"}"#)
        else {
            panic!("not refused as a request");
        };
        let told: Vec<_> = faults.iter().map(|fault| (fault.pointer.as_str(), fault.help.as_deref())).collect();
        assert_eq!(
            told,
            [
                ("/brunch", Some("did you mean `branch`?")),
                ("/zzzzzzzzz", Some("known here: `branch`, `reason`")),
                ("/branch", None)
            ]
        );
    }

    #[test]
    fn truncated_and_broken_texts_are_told_with_their_place() {
        for text in ["", "{", "{\"branch\": \"a\",", "nul", "{\"branch\": \"a\"} x", "{'branch': 1}"] {
            let Err(Error::InvalidJson { message }) = read::<SkipRequest>(text.as_bytes()) else { panic!("{text}") };
            assert!(message.contains("line 1 column"), "{message}");
        }
        for text in ["[]", "[\"a\", \"r\"]", "5", "null", "\"x\""] {
            assert!(matches!(read::<SkipRequest>(text.as_bytes()), Err(Error::InvalidRequest(_))), "{text}");
        }
    }
}
