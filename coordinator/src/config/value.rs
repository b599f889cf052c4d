use std::{collections::BTreeMap, fmt, path::PathBuf, str::FromStr, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use skald_engine::plan::Value;
use skald_protocol::{duration_text, parse_duration};
use url::Url;

const REDACTED: &str = "[redacted]";

/// A duration as docs/workflows.md writes it: `"500ms" "3s" "15m" "24h" "7d"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A value that is never shown: written as text, or as `{ file = "/run/secrets/…" }`, read when the configuration is.
#[derive(Clone)]
pub struct Secret(SecretString);

/// An `http` or `https` URL, kept without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpUrl(String);

/// `sqlite://FILE`, `sqlite::memory:` or `postgres://…`; shown without its password.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

/// Where a secret may go: `pay.example.com`, `*.example.com:8443`, `http://localhost:8080`. Https unless it says otherwise, and
/// the scheme's own port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination(Url);

impl Destination {
    #[must_use]
    pub const fn url(&self) -> &Url {
        &self.0
    }
}

impl FromStr for Destination {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is no destination: write `host`, `host:port`, `*.domain` or `http://host:port`");
        let whole = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        let url = Url::parse(&whole).map_err(|_| wrong())?;
        let host = url.host_str().ok_or_else(wrong)?;
        let starred = host.strip_prefix("*.").unwrap_or(host).contains('*');
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        let anonymous = url.username().is_empty() && url.password().is_none();
        if !matches!(url.scheme(), "http" | "https") || starred || !bare || !anonymous {
            return Err(wrong());
        }
        Ok(Self(url))
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl Secret {
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl HttpUrl {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HttpUrl {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
                Ok(Self(text.trim_end_matches('/').to_owned()))
            }
            _ => Err(format!("`{text}` is not a URL that starts with http:// or https://")),
        }
    }
}

impl DatabaseUrl {
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    #[must_use]
    pub fn is_sqlite(&self) -> bool {
        self.0.starts_with("sqlite:")
    }
}

impl Default for DatabaseUrl {
    fn default() -> Self {
        Self("sqlite://skald.db".into())
    }
}

impl FromStr for DatabaseUrl {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        // The text itself stays out of the message: it may hold a password.
        let url = Url::parse(text).map_err(|error| {
            format!(
                "it is not a database URL ({error}): write sqlite://skald.db or postgres://user:password@host/database"
            )
        })?;
        match url.scheme() {
            "sqlite" | "postgres" | "postgresql" => Ok(Self(text.to_owned())),
            other => Err(format!("`{other}://` is no database that Skald knows: sqlite:// and postgres:// are")),
        }
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(mut url) = Url::parse(&self.0) else { return f.write_str(REDACTED) };
        if url.scheme() == "sqlite" {
            return f.write_str(&self.0);
        }
        if url.password().is_some() && url.set_password(Some("***")).is_err() {
            return f.write_str(REDACTED);
        }
        // libpq and its kin also take the password as a parameter.
        if url.query_pairs().any(|(key, _)| key == "password") {
            let kept: Vec<(String, String)> =
                url.query_pairs().filter(|(key, _)| key != "password").map(|(k, v)| (k.into(), v.into())).collect();
            url.query_pairs_mut().clear().extend_pairs(kept).append_pair("password", "***");
        }
        f.write_str(url.as_str())
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&duration_text(self.0))
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        parse_duration(text).map(Self)
    }
}

/// Serde by way of a text's own reading and writing.
macro_rules! as_text {
    ($name:ident, $expected:literal) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl de::Visitor<'_> for Text {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expected)
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }
    };
}

as_text!(Span, "a duration such as \"500ms\", \"3s\" or \"7d\"");
as_text!(HttpUrl, "an http or https URL");
as_text!(DatabaseUrl, "a database URL");
as_text!(Destination, "a host such as \"pay.example.com\" or \"http://localhost:8080\"");

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "write a secret as text, or as { file = \"PATH\" }")]
        enum Written {
            Text(String),
            File { file: PathBuf },
        }
        let text = match Written::deserialize(deserializer)? {
            Written::Text(text) => text,
            Written::File { file } => std::fs::read_to_string(&file)
                .map_err(|error| de::Error::custom(format!("{}: {error}", file.display())))?
                .trim_end_matches(['\r', '\n'])
                .to_owned(),
        };
        if text.is_empty() {
            return Err(de::Error::custom("a secret must not be empty"));
        }
        Ok(text.into())
    }
}

/// Header values written as text may be credentials, so none is shown.
pub(super) fn redact_headers<S: Serializer>(
    headers: &BTreeMap<String, Value>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(headers.iter().map(|(name, value)| match value {
        Value::Secret(secret) => (name, format!("secret {}", secret.secret)),
        Value::Text(_) => (name, REDACTED.to_owned()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_a_host_and_nothing_beside_it() {
        for (text, shown) in [
            ("pay.example.com", "https://pay.example.com"),
            ("PAY.example.com:443", "https://pay.example.com"),
            ("*.example.com:8443", "https://*.example.com:8443"),
            ("http://localhost:8080", "http://localhost:8080"),
            ("[fd00::1]", "https://[fd00::1]"),
        ] {
            assert_eq!(text.parse::<Destination>().unwrap().to_string(), shown);
        }
        for text in ["", "ftp://x", "pay/charge", "https://pay?x", "user@pay", "*", "*.*.com", "a.*.com", "pay:port"] {
            assert!(text.parse::<Destination>().is_err(), "{text}");
        }
    }
}
