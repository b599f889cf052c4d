//! Plain paths, `input.lines[0].sku`: a root and the way from it. They are a walk and never enter CEL.

use crate::value::Value;

/// What a path may start from.
pub trait Scope {
    /// The value at the path; `Err` says what is missing.
    fn read(&self, path: &Path) -> Result<Value, String>;

    /// Bytes of JSON that were taken apart for what was read since this was last asked.
    fn parsed(&self) -> usize {
        0
    }
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

impl Path {
    /// `root.key.key[0]`, names of `[A-Za-z_][A-Za-z0-9_]*`. `None`: it is no plain path.
    #[must_use]
    pub fn parse(source: &str) -> Option<Self> {
        let mut root = None;
        let mut segments = Vec::new();
        for part in source.split('.') {
            let (name, indices) = part.find('[').map_or((part, ""), |at| part.split_at(at));
            if !is_name(name) {
                return None;
            }
            if root.is_none() {
                root = Some(name.to_owned());
            } else {
                segments.push(Segment::Key(name.to_owned()));
            }
            for index in indices.split_inclusive(']') {
                let digits = index.strip_prefix('[').and_then(|index| index.strip_suffix(']'))?;
                if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
                    return None;
                }
                segments.push(Segment::Index(digits.parse().ok()?));
            }
        }
        Some(Self { source: source.to_owned(), root: root?, segments })
    }

    /// Follows `segments` into a value; the error names the first missing member.
    pub fn walk(segments: &[Segment], value: &Value) -> Result<Value, String> {
        let mut at = value;
        for segment in segments {
            at = match segment {
                Segment::Key(key) => at.get(key).ok_or_else(|| format!("there is no `{key}`"))?,
                Segment::Index(index) => at.item(*index).ok_or_else(|| format!("there is no item {index}"))?,
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

/// `[A-Za-z_][A-Za-z0-9_]*`
pub(crate) fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
