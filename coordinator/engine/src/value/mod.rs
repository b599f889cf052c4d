//! JSON as the engine reads it: `serde_json::Value` but for its numbers, which keep the digits they were written with.
//!
//! `serde_json` reads what is no 64-bit integer as a double, so an amount of money would change on its way through. (Its
//! own remedy, `arbitrary_precision`, is a switch for every crate of a build, users of the SDK included, and breaks flattened
//! and tagged types.) What is only passed on is never converted; `cel` converts what it computes with, or says why not.

mod canonical;
mod number;
pub mod pointer;
mod read;

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::Error as _};
use serde_json::value::RawValue;
use skald_protocol::Json;

pub use canonical::{Canonical, canonical, same};
pub use number::Number;
pub(crate) use number::{Decimal, exactly, of_double};
pub use read::Unreadable;

pub type Map = BTreeMap<String, Value>;

#[derive(Clone, Default, PartialEq)]
pub enum Value {
    #[default]
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    Array(Vec<Value>),
    Object(Map),
}

impl Value {
    /// Text that is known to be JSON. Of a member that stands twice the last counts.
    pub fn read(text: &str) -> Result<Self, Unreadable> {
        read::read(text, false)
    }

    /// Text from outside that is known to be JSON: members that stand twice, and numbers that no double comes near, are
    /// refused.
    pub fn read_strictly(text: &str) -> Result<Self, Unreadable> {
        read::read(text, true)
    }

    pub fn of(json: &Json) -> Result<Self, Unreadable> {
        Self::read(json.text())
    }

    #[must_use]
    pub const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    #[must_use]
    pub const fn is_object(&self) -> bool {
        matches!(self, Self::Object(_))
    }

    #[must_use]
    pub const fn is_array(&self) -> bool {
        matches!(self, Self::Array(_))
    }

    #[must_use]
    pub const fn is_string(&self) -> bool {
        matches!(self, Self::String(_))
    }

    #[must_use]
    pub const fn is_boolean(&self) -> bool {
        matches!(self, Self::Bool(_))
    }

    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    #[must_use]
    pub const fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(truth) => Some(*truth),
            _ => None,
        }
    }

    #[must_use]
    pub const fn as_array(&self) -> Option<&Vec<Self>> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    #[must_use]
    pub const fn as_object(&self) -> Option<&Map> {
        match self {
            Self::Object(members) => Some(members),
            _ => None,
        }
    }

    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Number(number) => number.as_u64(),
            _ => None,
        }
    }

    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Number(number) => number.as_f64(),
            _ => None,
        }
    }

    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.as_object()?.get(key)
    }

    #[must_use]
    pub fn item(&self, index: usize) -> Option<&Self> {
        self.as_array()?.get(index)
    }

    /// RFC 6901.
    #[must_use]
    pub fn pointer(&self, pointer: &str) -> Option<&Self> {
        if pointer.is_empty() {
            return Some(self);
        }
        if !pointer.starts_with('/') {
            return None;
        }
        pointer::segments(pointer).try_fold(self, |at, segment| match at {
            Self::Object(members) => members.get(&segment),
            Self::Array(items) if segment == "0" || !segment.starts_with(['0', '+']) => {
                items.get(segment.parse::<usize>().ok()?)
            }
            _ => None,
        })
    }

    /// For what knows numbers as doubles alone: JSON Schema. What is beyond them becomes the nearest, or null.
    #[must_use]
    pub fn to_doubles(&self) -> serde_json::Value {
        use serde_json::Value as Other;
        match self {
            Self::Null => Other::Null,
            Self::Bool(truth) => Other::Bool(*truth),
            Self::Number(Number::Int(int)) => Other::from(*int),
            Self::Number(Number::Uint(uint)) => Other::from(*uint),
            Self::Number(number @ Number::Written(_)) => number.as_f64().map_or(Other::Null, Other::from),
            Self::String(text) => Other::String(text.clone()),
            Self::Array(items) => Other::Array(items.iter().map(Self::to_doubles).collect()),
            Self::Object(members) => {
                Other::Object(members.iter().map(|(key, member)| (key.clone(), member.to_doubles())).collect())
            }
        }
    }
}

impl From<&serde_json::Value> for Value {
    fn from(value: &serde_json::Value) -> Self {
        use serde_json::Value as Other;
        match value {
            Other::Null => Self::Null,
            Other::Bool(truth) => Self::Bool(*truth),
            Other::Number(number) => Self::Number(Number::of_text(&number.to_string())),
            Other::String(text) => Self::String(text.clone()),
            Other::Array(items) => Self::Array(items.iter().map(Self::from).collect()),
            Other::Object(members) => {
                Self::Object(members.iter().map(|(key, member)| (key.clone(), Self::from(member))).collect())
            }
        }
    }
}

impl From<serde_json::Value> for Value {
    fn from(value: serde_json::Value) -> Self {
        Self::from(&value)
    }
}

impl From<&Self> for Value {
    fn from(value: &Self) -> Self {
        value.clone()
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Number(Number::Int(number.into()))
    }
}

impl From<Value> for Json {
    fn from(value: Value) -> Self {
        Self::of(&value)
    }
}

/// Numbers by their texts.
impl PartialEq<serde_json::Value> for Value {
    fn eq(&self, other: &serde_json::Value) -> bool {
        let other = Self::from(other);
        *self == other
    }
}

impl PartialEq<str> for Value {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == Some(other)
    }
}

impl PartialEq<&str> for Value {
    fn eq(&self, other: &&str) -> bool {
        self == *other
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// As JSON.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(truth) => serializer.serialize_bool(*truth),
            Self::Number(Number::Int(int)) => serializer.serialize_i64(*int),
            Self::Number(Number::Uint(uint)) => serializer.serialize_u64(*uint),
            Self::Number(Number::Written(text)) => {
                serde_json::from_str::<&RawValue>(text).map_err(S::Error::custom)?.serialize(serializer)
            }
            Self::String(text) => serializer.serialize_str(text),
            Self::Array(items) => serializer.collect_seq(items),
            Self::Object(members) => serializer.collect_map(members),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of(&Json::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}
