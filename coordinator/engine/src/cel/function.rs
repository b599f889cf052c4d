//! The functions: CEL's own, without time, regular expressions and types, and the language's `base64 sha256 uuid_v5 sum
//! coalesce json`. (`coalesce` is evaluated where its arguments are: it takes those that are missing.)

use std::{borrow::Cow, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    Meter, RESULT, Stop,
    operators::add,
    value::{Val, double_text},
};
use crate::value::{Decimal, exactly};

pub(super) const GLOBALS: &[&str] = &[
    "size", "string", "int", "uint", "double", "bool", "bytes", "dyn", "base64", "sha256", "uuid_v5", "sum",
    "coalesce", "json", "has",
];
pub(super) const METHODS: &[&str] = &["size", "contains", "startsWith", "endsWith"];
pub(super) const MACROS: &[&str] = &["all", "exists", "exists_one", "filter", "map"];
pub(super) const METHODS_AND_MACROS: &[&str] =
    &["size", "contains", "startsWith", "endsWith", "all", "exists", "exists_one", "filter", "map"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Size,
    Contains,
    StartsWith,
    EndsWith,
    Text,
    Int,
    Uint,
    Double,
    Bool,
    Bytes,
    Dyn,
    Base64,
    Sha256,
    UuidV5,
    Sum,
    Coalesce,
    Json,
}

impl Function {
    pub(super) fn find(name: &str) -> Option<Self> {
        Some(match name {
            "size" => Self::Size,
            "contains" => Self::Contains,
            "startsWith" => Self::StartsWith,
            "endsWith" => Self::EndsWith,
            "string" => Self::Text,
            "int" => Self::Int,
            "uint" => Self::Uint,
            "double" => Self::Double,
            "bool" => Self::Bool,
            "bytes" => Self::Bytes,
            "dyn" => Self::Dyn,
            "base64" => Self::Base64,
            "sha256" => Self::Sha256,
            "uuid_v5" => Self::UuidV5,
            "sum" => Self::Sum,
            "coalesce" => Self::Coalesce,
            "json" => Self::Json,
            _ => return None,
        })
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Contains => "contains",
            Self::StartsWith => "startsWith",
            Self::EndsWith => "endsWith",
            Self::Text => "string",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::Bool => "bool",
            Self::Bytes => "bytes",
            Self::Dyn => "dyn",
            Self::Base64 => "base64",
            Self::Sha256 => "sha256",
            Self::UuidV5 => "uuid_v5",
            Self::Sum => "sum",
            Self::Coalesce => "coalesce",
            Self::Json => "json",
        }
    }

    /// Least and most arguments, with what it is called on.
    pub(super) const fn arity(self) -> (usize, usize) {
        match self {
            Self::Contains | Self::StartsWith | Self::EndsWith | Self::UuidV5 => (2, 2),
            Self::Coalesce => (1, usize::MAX),
            _ => (1, 1),
        }
    }

    /// `args` are as many as `arity` says.
    pub(super) fn call(self, args: &[Val], meter: &mut Meter) -> Result<Val, Stop> {
        let (Some(one), two) = (args.first(), args.get(1)) else { return Err(self.refuses(args)) };
        for arg in args {
            meter.text(length(arg))?;
        }
        match (self, one, two) {
            (Self::Size, _, _) => size(one).ok_or_else(|| self.refuses(args)),
            (Self::Contains, Val::Text(text), Some(Val::Text(part))) => Ok(Val::Bool(text.contains(&**part))),
            (Self::StartsWith, Val::Text(text), Some(Val::Text(part))) => Ok(Val::Bool(text.starts_with(&**part))),
            (Self::EndsWith, Val::Text(text), Some(Val::Text(part))) => Ok(Val::Bool(text.ends_with(&**part))),
            (Self::Text, _, _) => self.to_text(one),
            (Self::Int, _, _) => self.to_int(one),
            (Self::Uint, _, _) => self.to_uint(one),
            (Self::Double, _, _) => self.to_double(one),
            (Self::Bool, Val::Bool(_), _) | (Self::Bytes, Val::Bytes(_), _) | (Self::Dyn | Self::Coalesce, _, _) => {
                Ok(one.clone())
            }
            (Self::Bool, Val::Text(text), _) => match &**text {
                "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(Val::Bool(true)),
                "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(Val::Bool(false)),
                _ => Err(self.unfit("the string says neither true nor false")),
            },
            (Self::Bytes, Val::Text(text), _) => Ok(Val::Bytes(text.as_bytes().into())),
            (Self::Base64, Val::Text(_) | Val::Bytes(_), _) => Ok(Val::text(&BASE64_STANDARD.encode(raw(one)))),
            (Self::Sha256, Val::Text(_) | Val::Bytes(_), _) => {
                // About four times as slow as going through the text.
                meter.text(length(one) * 4)?;
                Ok(Val::text(&hex(&Sha256::digest(raw(one)))))
            }
            (Self::UuidV5, Val::Text(space), Some(Val::Text(name))) => {
                meter.text(name.len() * 4)?;
                Ok(Val::text(&Uuid::new_v5(&self.namespace(space)?, name.as_bytes()).to_string()))
            }
            (Self::Sum, Val::List(items), _) => sum(items, meter),
            (Self::Json, _, _) => {
                let text = one.clone().into_json(meter)?.to_string();
                meter.text(text.len())?;
                if text.len() > RESULT {
                    return Err(Stop::Over(format!("too large: `json` makes at most {RESULT} bytes")));
                }
                Ok(Val::Text(text.into()))
            }
            _ => Err(self.refuses(args)),
        }
    }

    fn refuses(self, args: &[Val]) -> Stop {
        let kinds: Vec<_> = args.iter().map(Val::kind).collect();
        Stop::Wrong(format!("`{}` does not take {}", self.name(), kinds.join(" and ")))
    }

    fn unfit(self, why: &str) -> Stop {
        Stop::Wrong(format!("`{}`: {why}", self.name()))
    }

    fn to_text(self, value: &Val) -> Result<Val, Stop> {
        Ok(Val::Text(match value {
            Val::Text(text) => Arc::clone(text),
            Val::Bool(truth) => truth.to_string().into(),
            Val::Int(int) => int.to_string().into(),
            Val::Uint(uint) => uint.to_string().into(),
            Val::Number(text) => Arc::clone(text),
            Val::Double(double) => double_text(*double)?.into(),
            Val::Bytes(bytes) => std::str::from_utf8(bytes).map_err(|_| self.unfit("the bytes are not UTF-8"))?.into(),
            Val::Null | Val::List(_) | Val::Map(_) => return Err(self.refuses(std::slice::from_ref(value))),
        }))
    }

    #[allow(
        clippy::cast_possible_truncation,
        reason = "towards zero, as CEL has it; what does not fit is refused first"
    )]
    fn to_int(self, value: &Val) -> Result<Val, Stop> {
        let beyond = || self.unfit("the number is beyond what an int holds");
        match value {
            Val::Int(int) => Ok(Val::Int(*int)),
            Val::Uint(uint) => i64::try_from(*uint).map(Val::Int).map_err(|_| beyond()),
            // Both bounds are doubles, and neither is taken.
            Val::Double(double) if *double > -9_223_372_036_854_775_808.0 && *double < 9_223_372_036_854_775_808.0 => {
                Ok(Val::Int(*double as i64))
            }
            Val::Double(_) => Err(beyond()),
            Val::Number(text) => cut(text).and_then(|whole| i64::try_from(whole).ok()).map(Val::Int).ok_or_else(beyond),
            Val::Text(text) => text.parse().map(Val::Int).map_err(|_| self.unfit("the string is no whole number")),
            _ => Err(self.refuses(std::slice::from_ref(value))),
        }
    }

    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "towards zero, as CEL has it; what does not fit is refused first"
    )]
    fn to_uint(self, value: &Val) -> Result<Val, Stop> {
        let beyond = || self.unfit("the number is beyond what a uint holds");
        match value {
            Val::Uint(uint) => Ok(Val::Uint(*uint)),
            Val::Int(int) => u64::try_from(*int).map(Val::Uint).map_err(|_| beyond()),
            Val::Double(double) if *double >= 0.0 && *double < 18_446_744_073_709_551_616.0 => {
                Ok(Val::Uint(*double as u64))
            }
            Val::Double(_) => Err(beyond()),
            Val::Number(text) => {
                cut(text).and_then(|whole| u64::try_from(whole).ok()).map(Val::Uint).ok_or_else(beyond)
            }
            Val::Text(text) => text.parse().map(Val::Uint).map_err(|_| self.unfit("the string is no whole number")),
            _ => Err(self.refuses(std::slice::from_ref(value))),
        }
    }

    fn to_double(self, value: &Val) -> Result<Val, Stop> {
        let text: Cow<'_, str> = match value {
            Val::Double(double) => return Ok(Val::Double(*double)),
            Val::Int(int) => int.to_string().into(),
            Val::Uint(uint) => uint.to_string().into(),
            Val::Number(text) => Cow::Borrowed(text),
            Val::Text(text) if Decimal::of(text).is_some() => Cow::Borrowed(text),
            Val::Text(_) => return Err(self.unfit("the string is no number")),
            _ => return Err(self.refuses(std::slice::from_ref(value))),
        };
        exactly(&text).map(Val::Double).ok_or_else(|| self.unfit("the number has more digits than a double holds"))
    }

    /// RFC 9562, §6.6: a UUID, or the name of one of its own namespaces.
    fn namespace(self, space: &str) -> Result<Uuid, Stop> {
        match space {
            "dns" => Ok(Uuid::NAMESPACE_DNS),
            "url" => Ok(Uuid::NAMESPACE_URL),
            "oid" => Ok(Uuid::NAMESPACE_OID),
            "x500" => Ok(Uuid::NAMESPACE_X500),
            _ => Uuid::try_parse(space).map_err(|_| self.unfit("the namespace is a UUID, dns, url, oid or x500")),
        }
    }
}

fn raw(value: &Val) -> &[u8] {
    match value {
        Val::Text(text) => text.as_bytes(),
        Val::Bytes(bytes) => bytes,
        _ => &[],
    }
}

fn length(value: &Val) -> usize {
    raw(value).len()
}

/// Characters of a string, bytes, items, entries.
fn size(value: &Val) -> Option<Val> {
    let count = match value {
        Val::Text(text) => text.chars().count(),
        Val::Bytes(bytes) => bytes.len(),
        Val::List(items) => items.len(),
        Val::Map(members) => members.len(),
        _ => return None,
    };
    i64::try_from(count).ok().map(Val::Int)
}

/// Of none: the int 0.
fn sum(items: &[Val], meter: &mut Meter) -> Result<Val, Stop> {
    Meter::items(items.len())?;
    let mut total = None;
    for item in items {
        let item = item.operand()?;
        if !matches!(*item, Val::Int(_) | Val::Uint(_) | Val::Double(_)) {
            return Err(Stop::Wrong(format!("`sum` adds numbers, and here is {}", item.kind())));
        }
        total = Some(match total {
            None => item.into_owned(),
            Some(total) => {
                meter.spend(1)?;
                add(&total, &item, meter)?
            }
        });
    }
    Ok(total.unwrap_or(Val::Int(0)))
}

/// A number as it was written, without its fraction.
fn cut(text: &str) -> Option<i128> {
    Decimal::of(text)?.whole()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
