//! What operators give of two values, or of one; what is not exact is an error.

use std::cmp::Ordering;

use super::{Meter, Stop, value::Val};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binary {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Equals,
    NotEquals,
    Less,
    LessEquals,
    Greater,
    GreaterEquals,
    In,
}

pub(super) fn negate(value: &Val) -> Result<Val, Stop> {
    match &*value.operand()? {
        Val::Int(int) => int.checked_neg().map(Val::Int).ok_or_else(|| overflow("-")),
        Val::Double(double) => Ok(Val::Double(-double)),
        other => Err(wrong_unary("-", other)),
    }
}

pub(super) fn calculate(binary: Binary, a: &Val, b: &Val, meter: &mut Meter) -> Result<Val, Stop> {
    match binary {
        Binary::Equals => a.equals(b, meter).map(Val::Bool),
        Binary::NotEquals => a.equals(b, meter).map(|equal| Val::Bool(!equal)),
        Binary::Less => ordered("<", a, b, meter, Ordering::is_lt),
        Binary::LessEquals => ordered("<=", a, b, meter, Ordering::is_le),
        Binary::Greater => ordered(">", a, b, meter, Ordering::is_gt),
        Binary::GreaterEquals => ordered(">=", a, b, meter, Ordering::is_ge),
        Binary::In => contains(a, b, meter),
        Binary::Add => add(a, b, meter),
        Binary::Subtract | Binary::Multiply | Binary::Divide | Binary::Modulo => {
            arithmetic(binary, &*a.operand()?, &*b.operand()?)
        }
    }
}

fn arithmetic(binary: Binary, a: &Val, b: &Val) -> Result<Val, Stop> {
    match binary {
        Binary::Subtract => number("-", a, b, i64::checked_sub, u64::checked_sub, |a, b| (a - b, left_of_sum(a, -b))),
        Binary::Multiply => {
            number("*", a, b, i64::checked_mul, u64::checked_mul, |a, b| (a * b, a.mul_add(b, -(a * b))))
        }
        Binary::Divide | Binary::Modulo if matches!(b, Val::Int(0) | Val::Uint(0)) && !matches!(a, Val::Double(_)) => {
            Err(Stop::Wrong("a number is divided by zero".to_owned()))
        }
        Binary::Divide => number("/", a, b, i64::checked_div, u64::checked_div, |a, b| (a / b, 0.0)),
        _ => match (a, b) {
            (Val::Int(a), Val::Int(b)) => a.checked_rem(*b).map(Val::Int).ok_or_else(|| overflow("%")),
            (Val::Uint(a), Val::Uint(b)) => a.checked_rem(*b).map(Val::Uint).ok_or_else(|| overflow("%")),
            _ => Err(mixed("%", a, b)),
        },
    }
}

/// Two numbers of one kind. `double` gives its result, and what rounding took from it.
fn number(
    name: &str,
    a: &Val,
    b: &Val,
    int: impl Fn(i64, i64) -> Option<i64>,
    uint: impl Fn(u64, u64) -> Option<u64>,
    double: impl Fn(f64, f64) -> (f64, f64),
) -> Result<Val, Stop> {
    match (a, b) {
        (Val::Int(a), Val::Int(b)) => int(*a, *b).map(Val::Int).ok_or_else(|| overflow(name)),
        (Val::Uint(a), Val::Uint(b)) => uint(*a, *b).map(Val::Uint).ok_or_else(|| overflow(name)),
        (Val::Double(a), Val::Double(b)) => {
            let (result, rest) = double(*a, *b);
            // Below it rounding takes less than a double's last digit of a fraction; from it on it takes whole ones.
            if !result.is_finite() {
                return Err(Stop::Wrong(format!("JSON has no number for {result}")));
            }
            if rest != 0.0 && result.abs() >= WHOLE {
                return Err(Stop::Wrong(format!("the result of `{name}` has more digits than a double holds")));
            }
            Ok(Val::Double(result))
        }
        _ => Err(mixed(name, a, b)),
    }
}

/// 2^53: up to it every whole number is a double.
const WHOLE: f64 = 9_007_199_254_740_992.0;

/// What rounding took from `a + b` (Knuth's two-sum).
fn left_of_sum(a: f64, b: f64) -> f64 {
    let sum = a + b;
    let of_b = sum - a;
    (a - (sum - of_b)) + (b - of_b)
}

pub(super) fn add(a: &Val, b: &Val, meter: &mut Meter) -> Result<Val, Stop> {
    match (&*a.operand()?, &*b.operand()?) {
        (Val::Text(a), Val::Text(b)) => {
            meter.text(a.len() + b.len())?;
            Ok(Val::Text([&**a, &**b].concat().into()))
        }
        (Val::Bytes(a), Val::Bytes(b)) => {
            meter.text(a.len() + b.len())?;
            Ok(Val::Bytes([&**a, &**b].concat().into()))
        }
        (Val::List(a), Val::List(b)) => {
            let count = a.len() + b.len();
            Meter::items(count)?;
            meter.spend(count)?;
            Ok(Val::List(a.iter().chain(b.iter()).cloned().collect()))
        }
        (a, b) => number("+", a, b, i64::checked_add, u64::checked_add, |a, b| (a + b, left_of_sum(a, b))),
    }
}

fn contains(item: &Val, container: &Val, meter: &mut Meter) -> Result<Val, Stop> {
    match (item, container) {
        (_, Val::List(items)) => {
            for other in items.iter() {
                if item.equals(other, meter)? {
                    return Ok(Val::Bool(true));
                }
            }
            Ok(Val::Bool(false))
        }
        (Val::Text(key), Val::Map(members)) => Ok(Val::Bool(members.contains_key(key))),
        // Kinds of keys that CEL has and JSON has not.
        (Val::Bool(_) | Val::Int(_) | Val::Uint(_) | Val::Double(_) | Val::Number(_), Val::Map(_)) => {
            Ok(Val::Bool(false))
        }
        _ => Err(wrong_binary("in", item, container)),
    }
}

fn ordered(name: &str, a: &Val, b: &Val, meter: &mut Meter, is: fn(Ordering) -> bool) -> Result<Val, Stop> {
    a.order(b, meter)?.map(|order| Val::Bool(is(order))).ok_or_else(|| wrong_binary(name, a, b))
}

fn overflow(name: &str) -> Stop {
    Stop::Wrong(format!("the result of `{name}` is beyond what the number's kind holds"))
}

pub(super) fn wrong_unary(name: &str, value: &Val) -> Stop {
    Stop::Wrong(format!("`{name}` does not take {}", value.kind()))
}

pub(super) fn wrong_binary(name: &str, a: &Val, b: &Val) -> Stop {
    Stop::Wrong(format!("`{name}` does not take {} and {}", a.kind(), b.kind()))
}

/// Arithmetic does not mix kinds of numbers.
fn mixed(name: &str, a: &Val, b: &Val) -> Stop {
    let number = |value: &Val| matches!(value, Val::Int(_) | Val::Uint(_) | Val::Double(_));
    if number(a) && number(b) {
        let (a, b) = (a.kind(), b.kind());
        return Stop::Wrong(format!("`{name}` does not take {a} and {b}: convert one with int(), uint() or double()"));
    }
    wrong_binary(name, a, b)
}
