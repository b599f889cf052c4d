//! JSON with `${expression}` in its strings (docs/workflows.md, Expressions).
//!
//! A string that is one expression gives its typed value; else text is interpolated; `$${` is a literal `${`. A plain path
//! is a walk; any other expression is CEL. A template serializes as the JSON it was written as and is compiled when it is
//! read, once. Rendering reads the scope and nothing else, so a retry sends the same bytes.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use skald_protocol::Json;

use crate::cel::{
    self, Allowance, Expression, Meter, Reason, Refused,
    infer::{self, Facts, Inferred, Roots},
    types::Type,
};
pub use crate::path::{Path, Scope, Segment};
use crate::value::{Map, Value, pointer::escape};

/// Of one template; a list of all would be longer than what it is about.
const MOST_FAULTS: usize = 100;

#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    source: Json,
    /// Absent: nothing in it is an expression or an escape, so it renders as it was written.
    node: Option<Node>,
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Static(Value),
    One(Slot),
    Text(Vec<Piece>),
    Array(Vec<Node>),
    Object(Vec<(String, Node)>),
}

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Text(String),
    One(Slot),
}

/// What stands between `${` and `}`.
#[derive(Debug, Clone, PartialEq)]
enum Slot {
    Path(Path),
    Cel(Box<Expression>),
}

/// Where in its string an expression stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Alone,
    /// Beside other text.
    InText,
}

/// An expression, what it comes to, and the pointer (RFC 6901) of the string it stands in.
pub(crate) struct Found<'f> {
    pub(crate) pointer: &'f str,
    pub(crate) source: &'f str,
    pub(crate) standing: Standing,
    pub(crate) inferred: Inferred,
}

/// A string that is no valid template, and where it stands below the template's root (RFC 6901).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{refused}")]
pub struct Malformed {
    pub pointer: String,
    pub refused: Refused,
}

/// A template that cannot be rendered now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("${{{}}}: {reason}", shortened(.path))]
pub struct Unrenderable {
    /// The path or the expression.
    pub path: String,
    pub reason: String,
}

impl Template {
    pub fn compile(value: impl Into<Value>) -> Result<Self, Vec<Malformed>> {
        Self::compile_within(&value.into(), &mut Allowance::unlimited())
    }

    /// Compiles what is not known to be harmless: all its expressions together are parsed within `allowance`.
    pub fn compile_within(value: &Value, allowance: &mut Allowance) -> Result<Self, Vec<Malformed>> {
        let mut build = Build { pointer: String::new(), faults: Vec::new(), allowance };
        let node = build.node(value);
        if build.faults.is_empty() { Ok(Self { source: Json::of(value), node }) } else { Err(build.faults) }
    }

    /// The expression, if it is one and nothing else.
    #[must_use]
    pub fn expression(&self) -> Option<&str> {
        match &self.node {
            Some(Node::One(slot)) => Some(slot.source()),
            _ => None,
        }
    }

    /// What is there where this condition came to `says`.
    pub(crate) fn facts(&self, says: bool, known: &mut Facts) {
        if let Some(Node::One(Slot::Cel(expression))) = &self.node {
            expression.facts(says, known);
        }
    }

    /// Whether there is no expression in it.
    #[must_use]
    pub fn is_static(&self) -> bool {
        let mut found = false;
        if let Some(node) = &self.node {
            node.each_slot(&mut String::new(), &mut |_, _| found = true);
        }
        !found
    }

    /// Shows every path that rendering reads, with the pointer (RFC 6901) of the string it stands in.
    pub fn each_path<'a>(&'a self, mut show: impl FnMut(&str, &'a Path)) {
        self.each_read(|pointer, path, _| show(pointer, path));
    }

    /// The same, with the names that are known where the path stands beside the roots: items of comprehensions.
    pub fn each_read<'a>(&'a self, mut show: impl FnMut(&str, &'a Path, &'a [String])) {
        if let Some(node) = &self.node {
            node.each_slot(&mut String::new(), &mut |pointer, slot| match slot {
                Slot::Path(path) => show(pointer, path, &[]),
                Slot::Cel(expression) => expression.reads().for_each(|(path, names)| show(pointer, path, names)),
            });
        }
    }

    /// What it renders to, as far as is known, showing each expression on the way.
    pub(crate) fn infer(&self, roots: &dyn Roots, known: &Facts, show: &mut dyn FnMut(Found<'_>)) -> Type {
        match &self.node {
            None => Type::of_value(&self.value()),
            Some(node) => node.infer(&mut String::new(), roots, known, show),
        }
    }

    /// The JSON as it was written.
    #[must_use]
    pub fn source(&self) -> &Json {
        &self.source
    }

    /// The same, read.
    #[must_use]
    pub fn value(&self) -> Value {
        Value::of(&self.source).unwrap_or_default()
    }

    /// Renders to JSON text; a template without expressions is handed over as written. `meter`: what is left for all that
    /// is rendered together, as one request.
    pub fn render(&self, scope: &dyn Scope, meter: &mut Meter) -> Result<Json, Unrenderable> {
        match &self.node {
            None => Ok(self.source.clone()),
            Some(node) => node.value(scope, meter).map(Json::from),
        }
    }

    /// Renders a string for a URL or a header; what comes from an expression passes through `escape`.
    pub fn render_text(
        &self,
        scope: &dyn Scope,
        meter: &mut Meter,
        escape: impl Fn(String) -> String,
    ) -> Result<String, Unrenderable> {
        match &self.node {
            Some(Node::Text(pieces)) => text(pieces, scope, meter, escape),
            Some(Node::One(slot)) => slot.scalar(slot.value(scope, meter)?).map(escape),
            None | Some(Node::Static(_) | Node::Array(_) | Node::Object(_)) => match self.value() {
                Value::String(text) => Ok(text),
                other => Ok(other.to_string()),
            },
        }
    }
}

/// A template in the making.
struct Build<'a> {
    pointer: String,
    faults: Vec<Malformed>,
    allowance: &'a mut Allowance,
}

impl Build<'_> {
    /// `None`: nothing in the value is to be rendered. Only what stands beside an expression is copied.
    fn node(&mut self, value: &Value) -> Option<Node> {
        match value {
            // Beyond the faults that are told nothing need be read.
            Value::String(_) if self.faults.len() >= MOST_FAULTS => None,
            Value::String(text) => parse_text(text, self.allowance).unwrap_or_else(|refused| {
                self.faults.push(Malformed { pointer: self.pointer.clone(), refused });
                None
            }),
            Value::Array(items) => {
                let mut nodes = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    nodes.push(self.below(&index.to_string(), item));
                }
                nodes.iter().any(Option::is_some).then(|| {
                    let items = nodes.into_iter().zip(items);
                    Node::Array(items.map(|(node, item)| node.unwrap_or_else(|| Node::Static(item.clone()))).collect())
                })
            }
            Value::Object(members) => {
                let mut nodes = Vec::with_capacity(members.len());
                for (key, member) in members {
                    nodes.push(self.below(key, member));
                }
                nodes.iter().any(Option::is_some).then(|| {
                    let members = nodes.into_iter().zip(members);
                    Node::Object(
                        members
                            .map(|(node, (key, member))| {
                                (key.clone(), node.unwrap_or_else(|| Node::Static(member.clone())))
                            })
                            .collect(),
                    )
                })
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => None,
        }
    }

    fn below(&mut self, segment: &str, value: &Value) -> Option<Node> {
        let length = enter(&mut self.pointer, segment);
        let node = self.node(value);
        self.pointer.truncate(length);
        node
    }
}

impl Node {
    /// No expression stands in it, as far as one look tells.
    fn is_plain(&self) -> bool {
        match self {
            Self::Static(_) => true,
            Self::Text(pieces) => pieces.iter().all(|piece| matches!(piece, Piece::Text(_))),
            Self::One(_) | Self::Array(_) | Self::Object(_) => false,
        }
    }

    fn each_slot<'a>(&'a self, pointer: &mut String, show: &mut impl FnMut(&str, &'a Slot)) {
        let mut below = |segment: &str, node: &'a Self| {
            if node.is_plain() {
                return;
            }
            let length = enter(pointer, segment);
            node.each_slot(pointer, show);
            pointer.truncate(length);
        };
        match self {
            Self::Static(_) => {}
            Self::One(slot) => show(pointer, slot),
            Self::Text(pieces) => {
                for piece in pieces {
                    if let Piece::One(slot) = piece {
                        show(pointer, slot);
                    }
                }
            }
            Self::Array(items) => items.iter().enumerate().for_each(|(index, item)| below(&index.to_string(), item)),
            Self::Object(members) => members.iter().for_each(|(key, member)| below(key, member)),
        }
    }

    fn infer(&self, pointer: &mut String, roots: &dyn Roots, known: &Facts, show: &mut dyn FnMut(Found<'_>)) -> Type {
        let mut below = |segment: &str, node: &Self, show: &mut dyn FnMut(Found<'_>)| {
            if node.is_plain() {
                return node.infer(&mut String::new(), roots, known, show);
            }
            let length = enter(pointer, segment);
            let kind = node.infer(pointer, roots, known, show);
            pointer.truncate(length);
            kind
        };
        match self {
            Self::Static(value) => Type::of_value(value),
            Self::One(slot) => slot.infer(pointer, Standing::Alone, roots, known, show),
            Self::Text(pieces) => {
                for piece in pieces {
                    if let Piece::One(slot) = piece {
                        slot.infer(pointer, Standing::InText, roots, known, show);
                    }
                }
                Type::TEXT
            }
            Self::Array(items) => {
                Type::list_of(items.iter().enumerate().map(|(index, item)| below(&index.to_string(), item, show)))
            }
            Self::Object(members) => {
                Type::object(members.iter().map(|(key, member)| (key.as_str(), below(key, member, show))))
            }
        }
    }

    fn value(&self, scope: &dyn Scope, meter: &mut Meter) -> Result<Value, Unrenderable> {
        match self {
            Self::Static(value) => Ok(value.clone()),
            Self::One(slot) => slot.value(scope, meter),
            Self::Text(pieces) => text(pieces, scope, meter, |text| text).map(Value::String),
            Self::Array(items) => {
                items.iter().map(|item| item.value(scope, meter)).collect::<Result<_, _>>().map(Value::Array)
            }
            Self::Object(members) => {
                let mut rendered = Map::new();
                for (key, member) in members {
                    rendered.insert(key.clone(), member.value(scope, meter)?);
                }
                Ok(Value::Object(rendered))
            }
        }
    }
}

impl Slot {
    fn source(&self) -> &str {
        match self {
            Self::Path(path) => &path.source,
            Self::Cel(expression) => expression.source(),
        }
    }

    fn value(&self, scope: &dyn Scope, meter: &mut Meter) -> Result<Value, Unrenderable> {
        let value = match self {
            Self::Path(path) => {
                let value = scope.read(path);
                meter.parsed(scope.parsed()).and(value)
            }
            Self::Cel(expression) => expression.evaluate(scope, meter),
        };
        let value = value.and_then(|value| meter.made(&value).map(|()| value));
        value.map_err(|reason| Unrenderable { path: self.source().to_owned(), reason })
    }

    fn infer(
        &self,
        pointer: &str,
        standing: Standing,
        roots: &dyn Roots,
        known: &Facts,
        show: &mut dyn FnMut(Found<'_>),
    ) -> Type {
        let inferred = match self {
            Self::Path(path) => infer::path(path, roots, known),
            Self::Cel(expression) => expression.infer(roots, known),
        };
        let kind = inferred.kind.clone();
        show(Found { pointer, source: self.source(), standing, inferred });
        kind
    }

    fn scalar(&self, value: Value) -> Result<String, Unrenderable> {
        match value {
            Value::String(text) => Ok(text),
            Value::Number(number) => Ok(number.to_string()),
            Value::Bool(truth) => Ok(truth.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => Err(Unrenderable {
                path: self.source().to_owned(),
                reason: "text takes a string, a number or a boolean".to_owned(),
            }),
        }
    }
}

fn text(
    pieces: &[Piece],
    scope: &dyn Scope,
    meter: &mut Meter,
    escape: impl Fn(String) -> String,
) -> Result<String, Unrenderable> {
    let mut rendered = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => rendered.push_str(text),
            Piece::One(slot) => rendered.push_str(&escape(slot.scalar(slot.value(scope, meter)?)?)),
        }
    }
    Ok(rendered)
}

/// Goes one segment down; the length to truncate to on the way back.
fn enter(pointer: &mut String, segment: &str) -> usize {
    let length = pointer.len();
    pointer.push('/');
    if segment.contains(['~', '/']) {
        pointer.push_str(&escape(segment));
    } else {
        pointer.push_str(segment);
    }
    length
}

/// What is told of an expression that may be long.
fn shortened(source: &str) -> std::borrow::Cow<'_, str> {
    match source.char_indices().nth(120) {
        Some((end, _)) => format!("{}…", &source[..end]).into(),
        None => source.into(),
    }
}

/// A piece of a text as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written<'t> {
    Literal(&'t str),
    /// `$${`
    Escape,
    Expression(&'t str),
}

/// The pieces in order; the error is the last.
pub(crate) fn pieces(text: &str) -> impl Iterator<Item = Result<Written<'_>, Refused>> {
    let mut rest = text;
    let mut waiting = None;
    std::iter::from_fn(move || {
        if let Some(next) = waiting.take() {
            return Some(next);
        }
        if rest.is_empty() {
            return None;
        }
        let Some(at) = rest.find("${") else { return Some(Ok(Written::Literal(std::mem::take(&mut rest)))) };
        let (before, from) = rest.split_at(at);
        let (before, next) = match before.strip_suffix('$') {
            Some(before) => {
                rest = &from[2..];
                (before, Ok(Written::Escape))
            }
            None => {
                let next = between(&from[2..]);
                rest = next.as_ref().map_or("", |inside| &from[2 + inside.len() + 1..]);
                (before, next.map(Written::Expression))
            }
        };
        if before.is_empty() {
            return Some(next);
        }
        waiting = Some(next);
        Some(Ok(Written::Literal(before)))
    })
}

/// What stands before the `}` that ends the expression.
fn between(text: &str) -> Result<&str, Refused> {
    let never = || Refused {
        reason: Reason::Syntax,
        message: "an expression is opened with ${ and never closed: write $${ for the text ${".to_owned(),
    };
    let first = &text[..text.find('}').ok_or_else(never)?];
    if is_plain(first) {
        return Ok(first);
    }
    cel::end(text)?.map(|end| &text[..end]).ok_or_else(never)
}

fn is_plain(inside: &str) -> bool {
    inside.bytes().all(|b| b.is_ascii_alphanumeric() || b" ._[]".contains(&b))
}

/// `None`: there is nothing to render in it.
fn parse_text(text: &str, allowance: &mut Allowance) -> Result<Option<Node>, Refused> {
    let mut parsed = Vec::new();
    let mut literal = String::new();
    let mut escaped = false;
    for piece in pieces(text) {
        match piece? {
            Written::Literal(text) => literal.push_str(text),
            Written::Escape => {
                literal.push_str("${");
                escaped = true;
            }
            Written::Expression(inside) => {
                if !literal.is_empty() {
                    parsed.push(Piece::Text(std::mem::take(&mut literal)));
                }
                parsed.push(Piece::One(slot(inside.trim(), allowance)?));
            }
        }
    }
    if parsed.is_empty() && !escaped {
        return Ok(None);
    }
    if literal.is_empty() && parsed.len() == 1 && matches!(parsed[0], Piece::One(_)) {
        let Some(Piece::One(slot)) = parsed.pop() else { unreachable!("one expression") };
        return Ok(Some(Node::One(slot)));
    }
    if !literal.is_empty() {
        parsed.push(Piece::Text(literal));
    }
    Ok(Some(Node::Text(parsed)))
}

fn slot(inside: &str, allowance: &mut Allowance) -> Result<Slot, Refused> {
    match Path::parse(inside) {
        // CEL's literals, and no roots.
        Some(path) if !["true", "false", "null"].contains(&path.root.as_str()) => Ok(Slot::Path(path)),
        _ => Expression::compile(inside, allowance).map(|expression| Slot::Cel(Box::new(expression))),
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.source.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::compile(Value::deserialize(deserializer)?)
            .map_err(|faults| de::Error::custom(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))
    }
}
