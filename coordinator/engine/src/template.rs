//! JSON with `${path}` in its strings (WORKFLOW.md, Expressions).
//!
//! A string that is one expression gives its typed value; else text is interpolated; `$${` is a literal `${`. A template
//! serializes as the JSON it was written as. Rendering reads the scope and nothing else, so a retry sends the same bytes.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};
use skald_protocol::Json;

#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    source: Json,
    node: Node,
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Static,
    Path(Path),
    Text(Vec<Piece>),
    Array(Vec<Template>),
    Object(Vec<(String, Template)>),
}

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Text(String),
    Path(Path),
}

/// `input.lines[0].sku`: a root and the way from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    pub source: String,
    pub root: String,
    pub segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    Key(String),
    Index(usize),
}

/// A string that is no valid template, and where it stands below the template's root (RFC 6901).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Malformed {
    pub pointer: String,
    pub message: String,
}

/// A template that cannot be rendered now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("${{{path}}}: {reason}")]
pub struct Unrenderable {
    pub path: String,
    pub reason: String,
}

/// What a path may start from.
pub trait Scope {
    /// The value at the path; `Err` says what is missing.
    fn read(&self, path: &Path) -> Result<Value, String>;
}

impl Template {
    pub fn compile(value: &Value) -> Result<Self, Vec<Malformed>> {
        let mut faults = Vec::new();
        let template = Self::build(value, &mut String::new(), &mut faults);
        if faults.is_empty() { Ok(template) } else { Err(faults) }
    }

    fn build(value: &Value, pointer: &mut String, faults: &mut Vec<Malformed>) -> Self {
        let node = match value {
            Value::String(text) => parse_text(text).unwrap_or_else(|message| {
                faults.push(Malformed { pointer: pointer.clone(), message });
                Node::Static
            }),
            Value::Array(items) => {
                let items: Vec<_> = items
                    .iter()
                    .enumerate()
                    .map(|(index, item)| {
                        below(pointer, &index.to_string(), |pointer| Self::build(item, pointer, faults))
                    })
                    .collect();
                if items.iter().all(Self::is_static_as_written) { Node::Static } else { Node::Array(items) }
            }
            Value::Object(members) => {
                let members: Vec<_> = members
                    .iter()
                    .map(|(key, member)| {
                        (key.clone(), below(pointer, key, |pointer| Self::build(member, pointer, faults)))
                    })
                    .collect();
                if members.iter().all(|(_, member)| member.is_static_as_written()) {
                    Node::Static
                } else {
                    Node::Object(members)
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => Node::Static,
        };
        Self { source: Json::of(value), node }
    }

    fn is_static_as_written(&self) -> bool {
        matches!(self.node, Node::Static)
    }

    /// Every path that rendering reads, with the pointer of the string it stands in.
    #[must_use]
    pub fn paths(&self) -> Vec<(String, &Path)> {
        let mut found = Vec::new();
        self.collect(&mut String::new(), &mut found);
        found
    }

    fn collect<'a>(&'a self, pointer: &mut String, found: &mut Vec<(String, &'a Path)>) {
        match &self.node {
            Node::Static => {}
            Node::Path(path) => found.push((pointer.clone(), path)),
            Node::Text(pieces) => {
                for piece in pieces {
                    if let Piece::Path(path) = piece {
                        found.push((pointer.clone(), path));
                    }
                }
            }
            Node::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    below(pointer, &index.to_string(), |pointer| item.collect(pointer, found));
                }
            }
            Node::Object(members) => {
                for (key, member) in members {
                    below(pointer, key, |pointer| member.collect(pointer, found));
                }
            }
        }
    }

    /// The JSON as it was written.
    #[must_use]
    pub fn source(&self) -> &Json {
        &self.source
    }

    /// Renders to JSON text; a template without expressions is handed over as written.
    pub fn render(&self, scope: &dyn Scope) -> Result<Json, Unrenderable> {
        match &self.node {
            Node::Static => Ok(self.source.clone()),
            _ => self.value(scope).map(Json::from),
        }
    }

    fn value(&self, scope: &dyn Scope) -> Result<Value, Unrenderable> {
        match &self.node {
            Node::Static => Ok(self.source.value()),
            Node::Path(path) => read(path, scope),
            Node::Text(pieces) => text(pieces, scope, |text| text).map(Value::String),
            Node::Array(items) => {
                items.iter().map(|item| item.value(scope)).collect::<Result<_, _>>().map(Value::Array)
            }
            Node::Object(members) => {
                let mut rendered = Map::new();
                for (key, member) in members {
                    rendered.insert(key.clone(), member.value(scope)?);
                }
                Ok(Value::Object(rendered))
            }
        }
    }

    /// Renders a string for a URL or a header; what comes from an expression passes through `escape`.
    pub fn render_text(&self, scope: &dyn Scope, escape: impl Fn(String) -> String) -> Result<String, Unrenderable> {
        match &self.node {
            Node::Text(pieces) => text(pieces, scope, escape),
            Node::Path(path) => scalar(path, read(path, scope)?).map(escape),
            Node::Static | Node::Array(_) | Node::Object(_) => match self.source.value() {
                Value::String(text) => Ok(text),
                other => Ok(other.to_string()),
            },
        }
    }
}

fn read(path: &Path, scope: &dyn Scope) -> Result<Value, Unrenderable> {
    scope.read(path).map_err(|reason| Unrenderable { path: path.source.clone(), reason })
}

fn scalar(path: &Path, value: Value) -> Result<String, Unrenderable> {
    match value {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(truth) => Ok(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => Err(Unrenderable {
            path: path.source.clone(),
            reason: "text takes a string, a number or a boolean".to_owned(),
        }),
    }
}

fn text(pieces: &[Piece], scope: &dyn Scope, escape: impl Fn(String) -> String) -> Result<String, Unrenderable> {
    let mut rendered = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => rendered.push_str(text),
            Piece::Path(path) => rendered.push_str(&escape(scalar(path, read(path, scope)?)?)),
        }
    }
    Ok(rendered)
}

fn below<R>(pointer: &mut String, segment: &str, f: impl FnOnce(&mut String) -> R) -> R {
    let length = pointer.len();
    pointer.push('/');
    pointer.push_str(&segment.replace('~', "~0").replace('/', "~1"));
    let result = f(pointer);
    pointer.truncate(length);
    result
}

fn parse_text(text: &str) -> Result<Node, String> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    let mut escaped = false;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            literal.push_str(&rest[..at - 1]);
            literal.push_str("${");
            rest = &rest[at + 2..];
            escaped = true;
            continue;
        }
        literal.push_str(&rest[..at]);
        let end =
            rest[at..].find('}').ok_or_else(|| format!("`{text}` opens an expression with ${{ and never closes it"))?;
        let path = Path::parse(rest[at + 2..at + end].trim())?;
        if !literal.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut literal)));
        }
        pieces.push(Piece::Path(path));
        rest = &rest[at + end + 1..];
    }
    literal.push_str(rest);
    if pieces.is_empty() && !escaped {
        return Ok(Node::Static);
    }
    if literal.is_empty() && pieces.len() == 1 && matches!(pieces[0], Piece::Path(_)) {
        let Some(Piece::Path(path)) = pieces.pop() else { unreachable!("one path") };
        return Ok(Node::Path(path));
    }
    if !literal.is_empty() {
        pieces.push(Piece::Text(literal));
    }
    Ok(Node::Text(pieces))
}

impl Path {
    /// `root.key.key[0]`, names of `[A-Za-z_][A-Za-z0-9_]*`.
    pub fn parse(source: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{source}` is not a plain path: write names joined by dots, such as input.order.id or steps.hold.output.id"
            )
        };
        let mut parts = source.split('.');
        let mut segments = Vec::new();
        let root = parts.next().filter(|root| is_name(root)).ok_or_else(wrong)?.to_owned();
        for part in parts {
            let (name, mut indices) = part.find('[').map_or((part, ""), |at| part.split_at(at));
            if !is_name(name) {
                return Err(wrong());
            }
            segments.push(Segment::Key(name.to_owned()));
            while !indices.is_empty() {
                let end = indices.find(']').ok_or_else(wrong)?;
                let index = indices.get(1..end).and_then(|digits| digits.parse().ok()).ok_or_else(wrong)?;
                segments.push(Segment::Index(index));
                indices = &indices[end + 1..];
                if !indices.is_empty() && !indices.starts_with('[') {
                    return Err(wrong());
                }
            }
        }
        Ok(Self { source: source.to_owned(), root, segments })
    }

    /// Follows `segments` into a value; the error names the first missing member.
    pub fn walk(segments: &[Segment], value: &Value) -> Result<Value, String> {
        let mut at = value;
        for segment in segments {
            at = match segment {
                Segment::Key(key) => at.get(key).ok_or_else(|| format!("there is no `{key}`"))?,
                Segment::Index(index) => at.get(index).ok_or_else(|| format!("there is no item {index}"))?,
            };
        }
        Ok(at.clone())
    }

    /// The key at `index` of the way, if it is one.
    #[must_use]
    pub fn key(&self, index: usize) -> Option<&str> {
        match self.segments.get(index) {
            Some(Segment::Key(key)) => Some(key),
            Some(Segment::Index(_)) | None => None,
        }
    }
}

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.source.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Self::compile(&value)
            .map_err(|faults| de::Error::custom(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))
    }
}
