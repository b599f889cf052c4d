//! The one reader of the language: values that know their place, objects that know their fields, and the faults found.
//!
//! Nothing here stops at the first fault. A value of a wrong type is reported where it is read and reads as absent.

use std::{rc::Rc, time::Duration};

use skald_protocol::{duration_meant, duration_text, parse_duration};

use crate::{
    cel::{Allowance, Reason},
    definition::{
        Diagnostic, Position,
        diagnostic::{Code, Mark},
    },
    template::Template,
    value::{Map, Value, pointer::escape},
};

/// Beyond these a definition has other troubles than one more line can say.
const MOST: usize = 100;
/// Letters compared to find what was meant, over a whole definition.
const COMPARISONS: usize = 1_000_000;
const LONGEST_NAME: usize = 64;

/// A place in the document. Cheap to clone; the pointer is written only for a fault.
#[derive(Debug, Clone, Default)]
pub(in crate::definition) struct Place<'a>(Option<Rc<(Place<'a>, Segment<'a>)>>);

#[derive(Debug, Clone, Copy)]
enum Segment<'a> {
    Key(&'a str),
    Index(usize),
}

impl<'a> Place<'a> {
    pub(in crate::definition) fn key(&self, key: &'a str) -> Self {
        Self(Some(Rc::new((self.clone(), Segment::Key(key)))))
    }

    pub(in crate::definition) fn index(&self, index: usize) -> Self {
        Self(Some(Rc::new((self.clone(), Segment::Index(index)))))
    }

    /// RFC 6901.
    pub(in crate::definition) fn pointer(&self) -> String {
        let mut segments = Vec::new();
        let mut at = self;
        while let Some(inner) = &at.0 {
            segments.push(inner.1);
            at = &inner.0;
        }
        let mut pointer = String::new();
        for segment in segments.into_iter().rev() {
            pointer.push('/');
            match segment {
                Segment::Key(key) => pointer.push_str(&escape(key)),
                Segment::Index(index) => pointer.push_str(&index.to_string()),
            }
        }
        pointer
    }
}

#[derive(Debug)]
pub(in crate::definition) struct Faults {
    list: Vec<Diagnostic>,
    comparisons: usize,
    expressions: Allowance,
    /// Where faults of an included definition are told, and what is said before them.
    stand_in: Option<(String, String)>,
}

impl Faults {
    pub(in crate::definition) const fn new() -> Self {
        Self { list: Vec::new(), comparisons: COMPARISONS, expressions: Allowance::of_a_definition(), stand_in: None }
    }

    pub(in crate::definition) fn add(&mut self, code: Code, place: &Place<'_>, message: impl Into<String>) {
        self.push(code, || place.pointer(), message.into(), None);
    }

    pub(in crate::definition) fn add_with(
        &mut self,
        code: Code,
        place: &Place<'_>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.push(code, || place.pointer(), message.into(), Some(help.into()));
    }

    pub(in crate::definition) fn add_at(&mut self, code: Code, pointer: String, message: String, help: Option<String>) {
        self.push(code, || pointer, message, help);
    }

    /// About a value, whatever its code.
    fn add_of_value(&mut self, code: Code, place: &Place<'_>, message: String) {
        if let Some(fault) = self.push(code, || place.pointer(), message, None) {
            fault.mark = Mark::Value;
        }
    }

    /// A member that stands there again.
    pub(in crate::definition) fn add_twice(&mut self, pointer: String, message: String) {
        if let Some(fault) = self.push(Code::InvalidJson, || pointer, message, Some("Keep one of them.".to_owned())) {
            fault.mark = Mark::Key;
        }
    }

    /// Text that is no JSON from there on.
    pub(in crate::definition) fn add_broken(
        &mut self,
        pointer: String,
        message: String,
        help: Option<String>,
        position: Position,
    ) {
        if let Some(fault) = self.push(Code::InvalidJson, || pointer, message, help) {
            fault.position = Some(position);
        }
    }

    fn push(
        &mut self,
        code: Code,
        pointer: impl FnOnce() -> String,
        message: String,
        help: Option<String>,
    ) -> Option<&mut Diagnostic> {
        if self.is_full() {
            return None;
        }
        let (pointer, message) = match &self.stand_in {
            Some((pointer, prefix)) => (pointer.clone(), format!("{prefix}: {message}")),
            None => (pointer(), message),
        };
        let mark = if matches!(code, Code::UnknownOrMissingField | Code::Unused) { Mark::Key } else { Mark::Value };
        self.list.push(Diagnostic { code, pointer, message, help, position: None, mark });
        self.list.last_mut()
    }

    /// What `find` finds is in an included definition: it is told where that is included.
    pub(in crate::definition) fn of_another(
        &mut self,
        stand_in: Option<(String, String)>,
        find: impl FnOnce(&mut Self),
    ) {
        self.stand_in = stand_in;
        find(self);
        self.stand_in = None;
    }

    pub(in crate::definition) fn first(&self) -> Option<&Diagnostic> {
        self.list.first()
    }

    pub(in crate::definition) const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(in crate::definition) const fn len(&self) -> usize {
        self.list.len()
    }

    pub(in crate::definition) const fn is_full(&self) -> bool {
        self.list.len() >= MOST
    }

    pub(in crate::definition) fn into_list(self) -> Vec<Diagnostic> {
        self.list
    }

    /// "Did you mean …?", if one of the candidates is near.
    pub(in crate::definition) fn nearest<'c>(
        &mut self,
        written: &str,
        candidates: impl IntoIterator<Item = &'c str>,
    ) -> Option<String> {
        if written.len() > LONGEST_NAME || self.is_full() {
            return None;
        }
        let mut best: Option<(usize, &str)> = None;
        for candidate in candidates {
            let reach = written.len().max(candidate.len()).div_ceil(3);
            if candidate.len() > LONGEST_NAME || written.len().abs_diff(candidate.len()) > reach {
                continue;
            }
            self.comparisons = self.comparisons.checked_sub(written.len() * candidate.len())?;
            let distance = if written.eq_ignore_ascii_case(candidate) {
                0
            } else {
                strsim::damerau_levenshtein(written, candidate)
            };
            // Nothing is near that shares no letter.
            if distance <= reach && distance < candidate.len() && best.is_none_or(|(least, _)| distance < least) {
                best = Some((distance, candidate));
            }
        }
        best.map(|(_, name)| format!("Did you mean {}?", quote(name)))
    }
}

/// As it was written, cut where it gets long.
pub(in crate::definition) fn quote(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("`{}…`", &text[..end]),
        None => format!("`{text}`"),
    }
}

pub(in crate::definition) fn list<'c>(words: impl IntoIterator<Item = &'c str>) -> String {
    words.into_iter().map(quote).collect::<Vec<_>>().join(", ")
}

const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(in crate::definition) struct Node<'a> {
    pub(in crate::definition) value: &'a Value,
    pub(in crate::definition) place: Place<'a>,
}

impl<'a> Node<'a> {
    pub(in crate::definition) const fn new(value: &'a Value, place: Place<'a>) -> Self {
        Self { value, place }
    }

    /// Reports a value that is not what it must be.
    pub(in crate::definition) fn wrong<T>(&self, expected: &str, faults: &mut Faults) -> Option<T> {
        faults.add_of_value(
            Code::UnknownOrMissingField,
            &self.place,
            format!("expected {expected}, found {}", kind(self.value)),
        );
        None
    }

    /// Reports a value of the right type that says something impossible.
    pub(in crate::definition) fn bad<T>(&self, message: impl Into<String>, faults: &mut Faults) -> Option<T> {
        faults.add(Code::InvalidValue, &self.place, message);
        None
    }

    pub(in crate::definition) fn object(&self, faults: &mut Faults) -> Option<Object<'a>> {
        match self.value {
            Value::Object(members) => Some(Object { members, place: self.place.clone(), known: Vec::new() }),
            _ => self.wrong("an object", faults),
        }
    }

    pub(in crate::definition) fn array(&self, faults: &mut Faults) -> Option<Vec<Self>> {
        match self.value {
            Value::Array(items) => {
                Some(items.iter().enumerate().map(|(index, item)| Node::new(item, self.place.index(index))).collect())
            }
            _ => self.wrong("an array", faults),
        }
    }

    pub(in crate::definition) fn text(&self, faults: &mut Faults) -> Option<&'a str> {
        match self.value {
            Value::String(text) => Some(text),
            _ => self.wrong("a string", faults),
        }
    }

    pub(in crate::definition) fn boolean(&self, faults: &mut Faults) -> Option<bool> {
        match self.value {
            Value::Bool(truth) => Some(*truth),
            _ => self.wrong("true or false", faults),
        }
    }

    /// A whole number from 1 to `most`.
    pub(in crate::definition) fn count(&self, most: u32, faults: &mut Faults) -> Option<u32> {
        let Value::Number(number) = self.value else { return self.wrong("a whole number", faults) };
        match number.as_u64().and_then(|count| u32::try_from(count).ok()).filter(|count| (1..=most).contains(count)) {
            Some(count) => Some(count),
            None => self.bad(format!("`{number}` is not a whole number from 1 to {most}"), faults),
        }
    }

    /// Longer than nothing and at most `most`.
    pub(in crate::definition) fn duration(&self, most: Duration, faults: &mut Faults) -> Option<Duration> {
        let text = self.text(faults)?;
        match parse_duration(text) {
            Ok(duration) if duration.is_zero() => self.bad("a duration must be longer than nothing", faults),
            Ok(duration) if duration > most => self
                .bad(format!("{} is longer than {}, the most that is taken", quote(text), duration_text(most)), faults),
            Ok(duration) => Some(duration),
            Err(_) => {
                let message = format!("{} is not a duration", quote(text));
                let help = match duration_meant(text) {
                    Some(meant) => format!("Write one whole number and a unit: {meant}."),
                    None => "Write a whole number and a unit: 500ms, 3s, 15m, 24h, 7d.".to_owned(),
                };
                faults.add_with(Code::InvalidValue, &self.place, message, help);
                None
            }
        }
    }

    /// One of a few words.
    pub(in crate::definition) fn word<T: Copy>(&self, words: &[(&str, T)], faults: &mut Faults) -> Option<T> {
        let text = self.text(faults)?;
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*meaning);
        }
        let help = faults.nearest(text, words.iter().map(|(word, _)| *word));
        let message = format!("{} is none of {}", quote(text), list(words.iter().map(|(word, _)| *word)));
        faults.add_at(Code::InvalidValue, self.place.pointer(), message, help);
        None
    }

    /// Bare CEL, as `when` is.
    pub(in crate::definition) fn condition(&self, faults: &mut Faults) -> Option<Template> {
        let text = self.text(faults)?;
        if text.trim_start().starts_with("${") {
            let help = "Write the expression bare: \"when\": \"input.express\".";
            faults.add_with(
                Code::InvalidExpression,
                &self.place,
                "a condition is an expression already, without ${ }",
                help,
            );
            return None;
        }
        let whole = Value::String(format!("${{{text}}}"));
        let template = Node::new(&whole, self.place.clone()).template(faults)?;
        if template.expression() == Some(text.trim()) {
            return Some(template);
        }
        faults.add(Code::InvalidExpression, &self.place, format!("{} is not one expression", quote(text)));
        None
    }

    pub(in crate::definition) fn template(&self, faults: &mut Faults) -> Option<Template> {
        if refuse_secrets(self, faults) {
            return None;
        }
        match Template::compile_within(self.value, &mut faults.expressions) {
            Ok(template) => Some(template),
            Err(malformed) => {
                for fault in malformed {
                    let pointer = format!("{}{}", self.place.pointer(), fault.pointer);
                    let (code, help) = match &fault.refused.reason {
                        Reason::Syntax => (Code::InvalidExpression, None),
                        Reason::Function { written, known } => {
                            let near = faults.nearest(written, known.iter().copied());
                            (
                                Code::UnknownName,
                                near.or_else(|| Some(format!("There are {}.", list(known.iter().copied())))),
                            )
                        }
                        Reason::Bound => {
                            (Code::TooCostly, Some("Send less, or let the participant compute it.".to_owned()))
                        }
                    };
                    faults.add_at(code, pointer, fault.refused.message, help);
                    if faults.is_full() {
                        break;
                    }
                }
                None
            }
        }
    }
}

/// An object whose fields are asked for by name; what nobody asked for is a fault.
#[derive(Debug)]
pub(in crate::definition) struct Object<'a> {
    members: &'a Map,
    pub(in crate::definition) place: Place<'a>,
    known: Vec<&'static str>,
}

impl<'a> Object<'a> {
    pub(in crate::definition) fn take(&mut self, name: &'static str) -> Option<Node<'a>> {
        self.known.push(name);
        self.members.get(name).map(|value| Node::new(value, self.place.key(name)))
    }

    pub(in crate::definition) fn require(&mut self, name: &'static str, faults: &mut Faults) -> Option<Node<'a>> {
        let node = self.take(name);
        if node.is_none() {
            faults.add_of_value(Code::UnknownOrMissingField, &self.place, format!("`{name}` is missing"));
        }
        node
    }

    /// All members of an object whose names are the author's own: there `x-…` is a name like any other.
    pub(in crate::definition) fn entries(&self) -> impl Iterator<Item = (&'a str, Node<'a>)> {
        let (members, place) = (self.members, self.place.clone());
        members.iter().map(move |(name, value)| {
            let name = name.as_str();
            (name, Node::new(value, place.key(name)))
        })
    }

    /// Refuses a field that belongs to the language but not here; true if it is there.
    pub(in crate::definition) fn forbid(&mut self, name: &'static str, why: &str, faults: &mut Faults) -> bool {
        let Some(node) = self.take(name) else { return false };
        faults.add(Code::UnknownOrMissingField, &node.place, why);
        true
    }

    /// Refuses every field that was not asked for; true if there was none.
    pub(in crate::definition) fn end(self, faults: &mut Faults) -> bool {
        let before = faults.len();
        let mut clean = true;
        for name in self.members.keys().filter(|name| !is_extension(name)) {
            if self.known.contains(&name.as_str()) {
                continue;
            }
            clean = false;
            if faults.is_full() {
                break;
            }
            let help = faults.nearest(name, self.known.iter().copied());
            let pointer = self.place.key(name).pointer();
            faults.add_at(Code::UnknownOrMissingField, pointer, format!("unknown field {}", quote(name)), help);
        }
        debug_assert!(clean || faults.len() > before || faults.is_full());
        clean
    }
}

fn is_extension(name: &str) -> bool {
    name.starts_with("x-")
}

/// Of services, retry policies and secrets.
pub(in crate::definition) fn is_name(text: &str) -> bool {
    text.len() <= 63
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// E208: a secret is never stored, so nothing that is may hold one.
///
/// Refuses every `{"secret": name}` in what is rendered; true if there was one. What only looks alike, with more members
/// or a value that is no name, is data.
pub(in crate::definition) fn refuse_secrets(node: &Node<'_>, faults: &mut Faults) -> bool {
    let before = faults.len();
    find_secrets(node.value, &node.place, faults);
    faults.len() > before
}

/// JSON nests no deeper than `limit::JSON_DEPTH`.
fn find_secrets<'a>(value: &'a Value, place: &Place<'a>, faults: &mut Faults) {
    match value {
        Value::Object(members) => {
            if members.len() == 1
                && let Some(Value::String(name)) = members.get("secret")
                && is_name(name)
            {
                let message = "a secret where it would be stored";
                let help =
                    "Secrets stand in a service's `auth` and `headers` alone: add one there, and call through it.";
                faults.add_with(Code::MisplacedSecret, place, message, help);
                return;
            }
            members.iter().for_each(|(key, member)| find_secrets(member, &place.key(key), faults));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| find_secrets(item, &place.index(index), faults));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
