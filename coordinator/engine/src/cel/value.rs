//! CEL's values, as far as JSON holds them: cheap to clone, maps in the order of their keys.

use std::{borrow::Cow, cmp::Ordering, collections::BTreeMap, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};

use super::{Meter, RESULT, Stop};
use crate::{
    limit,
    value::{Decimal, Map, Number, Value, exactly, of_double},
};

#[derive(Debug, Clone)]
pub(super) enum Val {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    /// As it was written, until something computes with it: `Number::Written`.
    Number(Arc<str>),
    Text(Arc<str>),
    Bytes(Arc<[u8]>),
    List(Arc<[Val]>),
    Map(Arc<BTreeMap<Arc<str>, Val>>),
}

impl Val {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a bool",
            Self::Int(_) => "an int",
            Self::Uint(_) => "a uint",
            Self::Number(text) if &**text == "-0" => "an int",
            Self::Number(text) if is_whole(text) => "a whole number beyond 64 bits",
            Self::Double(_) | Self::Number(_) => "a double",
            Self::Text(_) => "a string",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }

    pub(super) fn text(text: &str) -> Self {
        Self::Text(text.into())
    }

    pub(super) fn of_json(value: Value, meter: &mut Meter) -> Result<Self, Stop> {
        meter.spend(1)?;
        Ok(match value {
            Value::Null => Self::Null,
            Value::Bool(truth) => Self::Bool(truth),
            Value::Number(Number::Int(int)) => Self::Int(int),
            Value::Number(Number::Uint(uint)) => Self::Uint(uint),
            Value::Number(Number::Written(text)) => {
                meter.text(text.len())?;
                Self::Number(text)
            }
            Value::String(text) => {
                meter.text(text.len())?;
                Self::Text(text.into())
            }
            Value::Array(items) => {
                Self::List(items.into_iter().map(|item| Self::of_json(item, meter)).collect::<Result<_, _>>()?)
            }
            Value::Object(members) => {
                let mut map = BTreeMap::new();
                for (key, member) in members {
                    meter.text(key.len())?;
                    map.insert(key.into(), Self::of_json(member, meter)?);
                }
                Self::Map(Arc::new(map))
            }
        })
    }

    /// What is computed with in its place: JSON knows one kind of number, and what is whole is an int, whatever its sign.
    pub(super) fn operand(&self) -> Result<Cow<'_, Self>, Stop> {
        let Self::Number(text) = self else { return Ok(Cow::Borrowed(self)) };
        if &**text == "-0" {
            return Ok(Cow::Owned(Self::Int(0)));
        }
        let shown = || text.chars().take(40).collect::<String>();
        let why = match exactly(text) {
            _ if is_whole(text) => "is beyond 64 bits",
            Some(double) => return Ok(Cow::Owned(Self::Double(double))),
            None => "has more digits than a double holds",
        };
        let message = format!("{} {why}: it can be passed on and compared, and not computed with", shown());
        Err(Stop::Wrong(message))
    }

    pub(super) fn into_json(self, meter: &mut Meter) -> Result<Value, Stop> {
        let mut room = RESULT;
        self.json_within(&mut room, 0, meter)
    }

    /// `room`: how many bytes of JSON are left, roughly counted.
    fn json_within(&self, room: &mut usize, depth: usize, meter: &mut Meter) -> Result<Value, Stop> {
        if depth > limit::JSON_DEPTH {
            return Err(Stop::Over(format!("too deep: a result nests at most {} levels", limit::JSON_DEPTH)));
        }
        meter.spend(1)?;
        take(room, 1)?;
        Ok(match self {
            Self::Null => Value::Null,
            Self::Bool(truth) => Value::Bool(*truth),
            Self::Int(int) => Value::Number(Number::Int(*int)),
            Self::Uint(uint) => Value::Number(number_of(*uint)),
            Self::Double(double) => Value::Number(Number::Written(double_text(*double)?.into())),
            Self::Number(text) => {
                take(room, text.len())?;
                meter.text(text.len())?;
                Value::Number(Number::Written(Arc::clone(text)))
            }
            Self::Text(text) => {
                take(room, text.len())?;
                meter.text(text.len())?;
                Value::from(&**text)
            }
            Self::Bytes(bytes) => {
                take(room, bytes.len() / 3 * 4)?;
                meter.text(bytes.len())?;
                Value::from(BASE64_STANDARD.encode(bytes))
            }
            Self::List(items) => {
                let items = items.iter().map(|item| item.json_within(room, depth + 1, meter));
                Value::Array(items.collect::<Result<_, _>>()?)
            }
            Self::Map(members) => {
                let mut object = Map::new();
                for (key, member) in members.iter() {
                    take(room, key.len())?;
                    meter.text(key.len())?;
                    object.insert(key.to_string(), member.json_within(room, depth + 1, meter)?);
                }
                Value::Object(object)
            }
        })
    }

    /// As the CEL specification has it: numbers by what they are worth, other kinds never equal one another.
    pub(super) fn equals(&self, other: &Self, meter: &mut Meter) -> Result<bool, Stop> {
        meter.spend(1)?;
        Ok(match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Text(a), Self::Text(b)) => {
                meter.text(a.len().min(b.len()))?;
                a == b
            }
            (Self::Bytes(a), Self::Bytes(b)) => {
                meter.text(a.len().min(b.len()))?;
                a == b
            }
            (Self::List(a), Self::List(b)) => {
                if a.len() != b.len() {
                    return Ok(false);
                }
                for (a, b) in a.iter().zip(b.iter()) {
                    if !a.equals(b, meter)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Self::Map(a), Self::Map(b)) => {
                if a.len() != b.len() {
                    return Ok(false);
                }
                for ((key, a), (other, b)) in a.iter().zip(b.iter()) {
                    meter.text(key.len().min(other.len()))?;
                    if key != other || !a.equals(b, meter)? {
                        return Ok(false);
                    }
                }
                true
            }
            _ => numbers(self, other, meter)? == Some(Ordering::Equal),
        })
    }

    /// `None`: these two have no order.
    pub(super) fn order(&self, other: &Self, meter: &mut Meter) -> Result<Option<Ordering>, Stop> {
        Ok(match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::Text(a), Self::Text(b)) => {
                meter.text(a.len().min(b.len()))?;
                Some(a.cmp(b))
            }
            (Self::Bytes(a), Self::Bytes(b)) => {
                meter.text(a.len().min(b.len()))?;
                Some(a.cmp(b))
            }
            _ => numbers(self, other, meter)?,
        })
    }
}

fn take(room: &mut usize, bytes: usize) -> Result<(), Stop> {
    match room.checked_sub(bytes) {
        Some(left) => {
            *room = left;
            Ok(())
        }
        None => Err(Stop::Over(format!("too large: a result has at most {RESULT} bytes"))),
    }
}

fn is_whole(number: &str) -> bool {
    !number.contains(['.', 'e', 'E'])
}

/// Small ones are ints again where JSON is read.
fn number_of(uint: u64) -> Number {
    i64::try_from(uint).map_or(Number::Uint(uint), Number::Int)
}

/// The one text of a double, in JSON and in text alike.
pub(super) fn double_text(double: f64) -> Result<String, Stop> {
    of_double(double).ok_or_else(|| Stop::Wrong(format!("JSON has no number for {double}")))
}

/// Numbers of different kinds compare on one line.
fn numbers(a: &Val, b: &Val, meter: &mut Meter) -> Result<Option<Ordering>, Stop> {
    if matches!((a, b), (Val::Number(_), _) | (_, Val::Number(_))) {
        return written(a, b, meter);
    }
    Ok(match (whole(a), whole(b), a, b) {
        (Some(a), Some(b), _, _) => Some(a.cmp(&b)),
        (None, None, Val::Double(a), Val::Double(b)) => a.partial_cmp(b),
        (Some(a), None, _, Val::Double(b)) => whole_and_double(a, *b),
        (None, Some(b), Val::Double(a), _) => whole_and_double(b, *a).map(Ordering::reverse),
        _ => None,
    })
}

/// As they are written, digit by digit; with a double as doubles where one holds what is written.
fn written(a: &Val, b: &Val, meter: &mut Meter) -> Result<Option<Ordering>, Stop> {
    let held = |number: &Val| match number {
        Val::Number(text) => exactly(text),
        Val::Double(double) => Some(*double),
        _ => None,
    };
    if matches!((a, b), (Val::Double(_), _) | (_, Val::Double(_)))
        && let (Some(a), Some(b)) = (held(a), held(b))
    {
        return Ok(a.partial_cmp(&b));
    }
    let (Some(a), Some(b)) = (digits(a)?, digits(b)?) else { return Ok(None) };
    meter.text(a.len() + b.len())?;
    let decimal = |text| {
        let beyond = || Stop::Wrong("a number's exponent has too many digits to compare it".to_owned());
        Decimal::of(text).ok_or_else(beyond)
    };
    Ok(Some(decimal(&a)?.cmp(&decimal(&b)?)))
}

/// `None`: it is no number.
fn digits(value: &Val) -> Result<Option<Cow<'_, str>>, Stop> {
    Ok(Some(match value {
        Val::Number(text) => Cow::Borrowed(text),
        Val::Int(int) => Cow::Owned(int.to_string()),
        Val::Uint(uint) => Cow::Owned(uint.to_string()),
        Val::Double(double) => Cow::Owned(double_text(*double)?),
        _ => return Ok(None),
    }))
}

const fn whole(value: &Val) -> Option<i128> {
    match value {
        Val::Int(int) => Some(*int as i128),
        Val::Uint(uint) => Some(*uint as i128),
        _ => None,
    }
}

#[allow(clippy::cast_possible_truncation, reason = "what is cut off is compared next; beyond i128 it saturates")]
fn whole_and_double(whole: i128, double: f64) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    let floor = double.floor();
    Some(match whole.cmp(&(floor as i128)) {
        Ordering::Equal if double > floor => Ordering::Less,
        order => order,
    })
}
