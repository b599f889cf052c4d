//! JSON with `${path}` in its strings (WORKFLOW.md, Expressions).
//!
//! A string that is one expression gives its typed value; else text is interpolated; `$${` is a literal `${`. A template
//! serializes as the JSON it was written as. Rendering reads the scope and nothing else, so a retry sends the same bytes.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};
use skald_protocol::Json;

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
    Path(Path),
    Text(Vec<Piece>),
    Array(Vec<Node>),
    Object(Vec<(String, Node)>),
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
        let node = Node::build(value, &mut String::new(), &mut faults);
        if faults.is_empty() { Ok(Self { source: Json::of(value), node }) } else { Err(faults) }
    }

    /// Whether rendering reads nothing.
    #[must_use]
    pub fn is_static(&self) -> bool {
        let mut found = false;
        self.each_path(|_, _| found = true);
        !found
    }

    /// Shows every path that rendering reads, with the pointer (RFC 6901) of the string it stands in.
    pub fn each_path<'a>(&'a self, mut show: impl FnMut(&str, &'a Path)) {
        if let Some(node) = &self.node {
            node.each_path(&mut String::new(), &mut show);
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
            None => Ok(self.source.clone()),
            Some(node) => node.value(scope).map(Json::from),
        }
    }

    /// Renders a string for a URL or a header; what comes from an expression passes through `escape`.
    pub fn render_text(&self, scope: &dyn Scope, escape: impl Fn(String) -> String) -> Result<String, Unrenderable> {
        match &self.node {
            Some(Node::Text(pieces)) => text(pieces, scope, escape),
            Some(Node::Path(path)) => scalar(path, read(path, scope)?).map(escape),
            None | Some(Node::Static(_) | Node::Array(_) | Node::Object(_)) => match self.source.value() {
                Value::String(text) => Ok(text),
                other => Ok(other.to_string()),
            },
        }
    }
}

impl Node {
    /// `None`: nothing in the value is to be rendered. Only what stands beside an expression is copied.
    fn build(value: &Value, pointer: &mut String, faults: &mut Vec<Malformed>) -> Option<Self> {
        match value {
            Value::String(text) => parse_text(text).unwrap_or_else(|message| {
                if faults.len() < MOST_FAULTS {
                    faults.push(Malformed { pointer: pointer.clone(), message });
                }
                None
            }),
            Value::Array(items) => {
                let mut nodes = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    nodes.push(below(pointer, &index.to_string(), |pointer| Self::build(item, pointer, faults)));
                }
                nodes.iter().any(Option::is_some).then(|| {
                    Self::Array(
                        nodes
                            .into_iter()
                            .zip(items)
                            .map(|(node, item)| node.unwrap_or_else(|| Self::Static(item.clone())))
                            .collect(),
                    )
                })
            }
            Value::Object(members) => {
                let mut nodes = Vec::with_capacity(members.len());
                for (key, member) in members {
                    nodes.push(below(pointer, key, |pointer| Self::build(member, pointer, faults)));
                }
                nodes.iter().any(Option::is_some).then(|| {
                    let members = nodes.into_iter().zip(members);
                    Self::Object(
                        members
                            .map(|(node, (key, member))| {
                                (key.clone(), node.unwrap_or_else(|| Self::Static(member.clone())))
                            })
                            .collect(),
                    )
                })
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => None,
        }
    }

    fn each_path<'a>(&'a self, pointer: &mut String, show: &mut impl FnMut(&str, &'a Path)) {
        match self {
            Self::Static(_) => {}
            Self::Path(path) => show(pointer, path),
            Self::Text(pieces) => {
                for piece in pieces {
                    if let Piece::Path(path) = piece {
                        show(pointer, path);
                    }
                }
            }
            Self::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    below(pointer, &index.to_string(), |pointer| item.each_path(pointer, show));
                }
            }
            Self::Object(members) => {
                for (key, member) in members {
                    below(pointer, key, |pointer| member.each_path(pointer, show));
                }
            }
        }
    }

    fn value(&self, scope: &dyn Scope) -> Result<Value, Unrenderable> {
        match self {
            Self::Static(value) => Ok(value.clone()),
            Self::Path(path) => read(path, scope),
            Self::Text(pieces) => text(pieces, scope, |text| text).map(Value::String),
            Self::Array(items) => {
                items.iter().map(|item| item.value(scope)).collect::<Result<_, _>>().map(Value::Array)
            }
            Self::Object(members) => {
                let mut rendered = Map::new();
                for (key, member) in members {
                    rendered.insert(key.clone(), member.value(scope)?);
                }
                Ok(Value::Object(rendered))
            }
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

/// `None`: there is nothing to render in it.
fn parse_text(text: &str) -> Result<Option<Node>, String> {
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
        let end = rest[at..]
            .find('}')
            .ok_or("an expression is opened with ${ and never closed: write $${ for the text ${")?;
        let path = Path::parse(rest[at + 2..at + end].trim())?;
        if !literal.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut literal)));
        }
        pieces.push(Piece::Path(path));
        rest = &rest[at + end + 1..];
    }
    literal.push_str(rest);
    if pieces.is_empty() && !escaped {
        return Ok(None);
    }
    if literal.is_empty() && pieces.len() == 1 && matches!(pieces[0], Piece::Path(_)) {
        let Some(Piece::Path(path)) = pieces.pop() else { unreachable!("one path") };
        return Ok(Some(Node::Path(path)));
    }
    if !literal.is_empty() {
        pieces.push(Piece::Text(literal));
    }
    Ok(Some(Node::Text(pieces)))
}

impl Path {
    /// `root.key.key[0]`, names of `[A-Za-z_][A-Za-z0-9_]*`.
    pub fn parse(source: &str) -> Result<Self, String> {
        let mut root = None;
        let mut segments = Vec::new();
        for part in source.split('.') {
            let (name, indices) = part.find('[').map_or((part, ""), |at| part.split_at(at));
            if !is_name(name) {
                return Err(not_plain(source));
            }
            if root.is_none() {
                root = Some(name.to_owned());
            } else {
                segments.push(Segment::Key(name.to_owned()));
            }
            for index in indices.split_inclusive(']') {
                let digits = index.strip_prefix('[').and_then(|index| index.strip_suffix(']'));
                let digits = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()));
                let index = digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| not_plain(source))?;
                segments.push(Segment::Index(index));
            }
        }
        let root = root.ok_or_else(|| not_plain(source))?;
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

fn not_plain(source: &str) -> String {
    let shown: String = source.chars().take(80).collect();
    format!("`{shown}` is not a plain path: write names joined by dots, such as input.order.id or steps.hold.output.id")
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
