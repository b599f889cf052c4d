use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// A JSON value kept as the text it came in: cheap to clone, parsed only where something reads it.
///
/// Equality is of the text, not of the value.
#[derive(Clone)]
pub struct Json(Arc<RawValue>);

impl Json {
    #[must_use]
    pub fn null() -> Self {
        Self(Arc::from(RawValue::NULL.to_owned()))
    }

    /// Takes text that must be one JSON value.
    pub fn from_text(text: String) -> Result<Self, serde_json::Error> {
        RawValue::from_string(text).map(|raw| Self(Arc::from(raw)))
    }

    /// # Panics
    /// Only on a value that JSON cannot hold (a map with keys that are not strings).
    #[must_use]
    pub fn of(value: &impl Serialize) -> Self {
        let raw = serde_json::value::to_raw_value(value).expect("a JSON value");
        Self(Arc::from(raw))
    }

    #[must_use]
    pub fn text(&self) -> &str {
        self.0.get()
    }

    #[must_use]
    pub fn is_null(&self) -> bool {
        self.0.get() == "null"
    }

    /// `None` for null.
    #[must_use]
    pub fn non_null(&self) -> Option<Self> {
        (!self.is_null()).then(|| self.clone())
    }

    /// The value as `serde_json` reads it: a number that is no 64-bit integer is the nearest double, so one of many digits
    /// is another one; `text` has them all. What it cannot read (`1e999`, half a surrogate pair, a depth beyond its limit)
    /// is null.
    #[must_use]
    pub fn value(&self) -> serde_json::Value {
        serde_json::from_str(self.0.get()).unwrap_or(serde_json::Value::Null)
    }
}

impl From<serde_json::Value> for Json {
    fn from(value: serde_json::Value) -> Self {
        Self::of(&value)
    }
}

impl From<Box<RawValue>> for Json {
    fn from(raw: Box<RawValue>) -> Self {
        Self(Arc::from(raw))
    }
}

impl Default for Json {
    fn default() -> Self {
        Self::null()
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Json {}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for Json {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        use utoipa::openapi::schema::{Object, SchemaType, Type};
        // Without `null`: where that may stand too, the field says so beside this.
        let types = vec![Type::Object, Type::Array, Type::String, Type::Number, Type::Boolean];
        Object::builder().schema_type(SchemaType::Array(types)).description(Some("Any JSON value.")).into()
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for Json {}
