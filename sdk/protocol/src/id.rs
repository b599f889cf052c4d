use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// An id that breaks its alphabet or length; the text says which rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be 1 to {max} characters of {alphabet}, not dots alone")]
pub struct InvalidId {
    pub what: &'static str,
    pub max: usize,
    pub alphabet: &'static str,
}

macro_rules! id {
    ($name:ident, $what:literal, $max:literal, $alphabet:literal, $allowed:expr) => {
        impl $name {
            pub const MAX: usize = $max;

            pub fn new(text: impl AsRef<str>) -> Result<Self, InvalidId> {
                let text = text.as_ref();
                let allowed: fn(u8) -> bool = $allowed;
                // URL clients take `.` and `..` out of a path.
                let dots = text.bytes().all(|b| b == b'.');
                if dots || text.len() > $max || !text.bytes().all(allowed) {
                    return Err(InvalidId { what: $what, max: $max, alphabet: $alphabet });
                }
                Ok(Self(text.into()))
            }

            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().to_owned()
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

/// A global transaction's id: 1–128 of `[A-Za-z0-9._:~-]`. What stands before its first `:` is its namespace.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Gid(Arc<str>);

/// A branch's path in its transaction: 1–256 of `[A-Za-z0-9_~.-]`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BranchId(Arc<str>);

id!(Gid, "gid", 128, "[A-Za-z0-9._:~-]", |b| b.is_ascii_alphanumeric() || b"._:~-".contains(&b));
id!(BranchId, "branch", 256, "[A-Za-z0-9_~.-]", |b| b.is_ascii_alphanumeric() || b"_~.-".contains(&b));

impl Gid {
    /// What stands before the first `:`, if there is one.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.0.split_once(':').map(|(namespace, _)| namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gid_keeps_to_its_alphabet_and_can_stand_in_a_path() {
        for good in ["a", "shop:order-1.2~3_x", "a..b", &"x".repeat(128)] {
            assert_eq!(Gid::new(good).unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "a b", "a/b", "\u{e9}", &"x".repeat(129)] {
            assert!(Gid::new(bad).is_err(), "{bad}");
        }
        assert_eq!(Gid::new("shop:1:2").unwrap().namespace(), Some("shop"));
        assert_eq!(Gid::new("shop").unwrap().namespace(), None);
    }
}
