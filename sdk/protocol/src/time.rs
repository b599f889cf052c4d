use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Milliseconds since 1970 UTC; RFC 3339 in JSON.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Later than any other.
    pub const NEVER: Self = Self(i64::MAX);

    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long until `later`; zero if it has passed.
    #[must_use]
    pub fn until(self, later: Self) -> Duration {
        Duration::from_millis(u64::try_from(later.0.saturating_sub(self.0)).unwrap_or(0))
    }

    fn instant(self) -> jiff::Timestamp {
        jiff::Timestamp::from_millisecond(self.0).unwrap_or(jiff::Timestamp::MAX)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.instant())
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

impl std::str::FromStr for Timestamp {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        text.parse::<jiff::Timestamp>()
            .map(|instant| Self(instant.as_millisecond()))
            .map_err(|_| format!("`{text}` is not an RFC 3339 time such as 2026-01-31T12:00:00Z"))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for Timestamp {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::schema::Object::builder()
            .schema_type(utoipa::openapi::schema::Type::String)
            .format(Some(utoipa::openapi::SchemaFormat::KnownFormat(utoipa::openapi::KnownFormat::DateTime)))
            .into()
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for Timestamp {}

const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Reads `"500ms" "3s" "15m" "24h" "7d"`: a whole number and one unit (docs/workflows.md, Retries and deadlines).
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || match duration_meant(text) {
        Some(meant) => format!("`{text}` is not written as a duration: write one whole number and a unit, {meant}"),
        None => {
            format!("`{text}` is not a duration: write a whole number and a unit, such as 500ms, 3s, 15m, 24h or 7d")
        }
    };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    number.checked_mul(*factor).map(Duration::from_millis).ok_or_else(wrong)
}

/// What `0.5s`, `1m30s` or `5 m` would be if it were written as durations are.
#[must_use]
pub fn duration_meant(text: &str) -> Option<String> {
    let mut rest = text.trim();
    let mut ms = 0_u64;
    while !rest.is_empty() {
        let (number, unit) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let unit = unit.trim_start();
        let (unit, behind) = unit.split_at(unit.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(unit.len()));
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        let scale = 10_u64.checked_pow(u32::try_from(part.len()).ok()?)?;
        let part = part.parse::<u64>().ok()?.checked_mul(*factor)?;
        // What is no whole number of milliseconds cannot be written.
        let part = part.is_multiple_of(scale).then_some(part / scale)?;
        ms = ms.checked_add(whole.parse::<u64>().ok()?.checked_mul(*factor)?.checked_add(part)?)?;
        rest = behind.trim_start();
    }
    (ms > 0).then(|| duration_text(Duration::from_millis(ms)))
}

/// The shortest spelling that `parse_duration` reads back.
#[must_use]
pub fn duration_text(duration: Duration) -> String {
    let ms = duration.as_millis();
    let (unit, factor) =
        UNITS.iter().rev().find(|(_, factor)| ms > 0 && ms.is_multiple_of(u128::from(*factor))).unwrap_or(&UNITS[0]);
    format!("{}{unit}", ms / u128::from(*factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_back_as_they_are_written() {
        for text in ["500ms", "3s", "15m", "24h", "7d", "1500ms", "0ms"] {
            let parsed = parse_duration(text).unwrap();
            assert_eq!(parse_duration(&duration_text(parsed)), Ok(parsed));
        }
        for text in ["", "3", "s", "3 s", "-3s", "1.5s", "99999999999999999999s", "184467440737095516d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_duration_in_another_spelling_is_told_in_ours() {
        let told =
            [("0.5s", "500ms"), ("1m30s", "90s"), ("5 m", "5m"), ("1h 30m", "90m"), ("1.5h", "90m"), ("2d12h", "60h")];
        for (text, ours) in told {
            let message = parse_duration(text).unwrap_err();
            assert!(message.ends_with(&format!(", {ours}")), "{message}");
            assert!(parse_duration(ours).is_ok());
        }
        for text in
            ["", "5", "s", "-3s", "0.5ms", "1.s", "ten seconds", "0.0s", "99999999999999999999s", "1s-2s", "PT1H"]
        {
            assert_eq!(duration_meant(text), None, "{text}");
        }
    }
}
