//! Evaluation. Every node costs, and so does all that is made; nothing recurses deeper than `DEPTH` and JSON allow.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

use super::{
    Meter, Stop,
    function::Function,
    lower::{Binary, Loop, LoopBody, Op, Read},
    value::Val,
};
use crate::{path::Scope, value::Value};

pub(super) fn run(op: &Op, reads: &[Read], scope: &dyn Scope, meter: &mut Meter) -> Result<Value, Stop> {
    let mut run = Run { reads, read: vec![None; reads.len()], scope, meter, locals: Vec::new() };
    let value = run.op(op)?;
    value.into_json(run.meter)
}

struct Run<'a> {
    reads: &'a [Read],
    /// What was read already: a comprehension reads it once and not for each item.
    read: Vec<Option<Result<Val, Stop>>>,
    scope: &'a dyn Scope,
    meter: &'a mut Meter,
    /// The items of the comprehensions around, outermost first.
    locals: Vec<Val>,
}

impl Run<'_> {
    fn op(&mut self, op: &Op) -> Result<Val, Stop> {
        self.meter.spend(1)?;
        match op {
            Op::Const(value) => Ok(value.clone()),
            Op::Read(index) => self.read(*index),
            Op::Local(out) => {
                let local = self.locals.len().checked_sub(out + 1).and_then(|at| self.locals.get(at));
                local.cloned().ok_or_else(|| Stop::Wrong("there is no such name".to_owned()))
            }
            Op::Has(index) => match self.read(*index) {
                Ok(_) => Ok(Val::Bool(true)),
                Err(Stop::Missing(_)) => Ok(Val::Bool(false)),
                Err(stop) => Err(stop),
            },
            Op::HasField(operand, field) => has_field(&self.op(operand)?, field),
            Op::Select(operand, field) => select(&self.op(operand)?, field),
            Op::Index(both) => {
                let (value, index) = self.both(both)?;
                at(&value, &index)
            }
            Op::List(items) => {
                let items = items.iter().map(|item| self.op(item)).collect::<Result<_, _>>()?;
                Ok(Val::List(items))
            }
            Op::Map(entries) => self.map(entries),
            Op::Not(operand) => match self.op(operand)? {
                Val::Bool(truth) => Ok(Val::Bool(!truth)),
                other => Err(wrong_unary("!", &other)),
            },
            Op::Negate(operand) => negate(&self.op(operand)?),
            Op::And(both) => self.logic(both, "&&", false),
            Op::Or(both) => self.logic(both, "||", true),
            Op::If(three) => match self.op(&three[0])? {
                Val::Bool(true) => self.op(&three[1]),
                Val::Bool(false) => self.op(&three[2]),
                other => Err(Stop::Wrong(format!("the condition before `?` is {} and not a bool", other.kind()))),
            },
            Op::Binary(binary, both) => {
                let (a, b) = self.both(both)?;
                calculate(*binary, &a, &b, self.meter)
            }
            Op::Call(Function::Coalesce, args) => self.coalesce(args),
            Op::Call(function, args) => self.call(*function, args),
            Op::Loop(looped) => self.comprehension(looped),
        }
    }

    fn both(&mut self, both: &[Op; 2]) -> Result<(Val, Val), Stop> {
        Ok((self.op(&both[0])?, self.op(&both[1])?))
    }

    fn call(&mut self, function: Function, args: &[Op]) -> Result<Val, Stop> {
        let args = args.iter().map(|arg| self.op(arg)).collect::<Result<Vec<_>, _>>()?;
        function.call(&args, self.meter)
    }

    fn read(&mut self, index: usize) -> Result<Val, Stop> {
        if let Some(Some(known)) = self.read.get(index) {
            return known.clone();
        }
        let path = &self.reads[index].path;
        let read = self.scope.read(path);
        self.meter.text(self.scope.parsed())?;
        let value = match read {
            Ok(value) => Val::of_json(value, self.meter),
            Err(missing) => Err(Stop::Missing(missing)),
        };
        self.read[index] = Some(value.clone());
        value
    }

    fn map(&mut self, entries: &[(Op, Op)]) -> Result<Val, Stop> {
        let mut map = BTreeMap::new();
        for (key, value) in entries {
            let key = match self.op(key)? {
                Val::Text(key) => key,
                other => return Err(Stop::Wrong(format!("a map's key is {} and not a string", other.kind()))),
            };
            let value = self.op(value)?;
            if map.insert(Arc::clone(&key), value).is_some() {
                let key: String = key.chars().take(60).collect();
                return Err(Stop::Wrong(format!("the key `{key}` stands in a map twice")));
            }
        }
        Ok(Val::Map(Arc::new(map)))
    }

    /// The side that decides wins whatever the other is, an error included, unless nothing may go on.
    fn logic(&mut self, both: &[Op; 2], name: &str, decides: bool) -> Result<Val, Stop> {
        let left = match self.op(&both[0]) {
            Ok(Val::Bool(left)) if left == decides => return Ok(Val::Bool(decides)),
            Err(over @ Stop::Over(_)) => return Err(over),
            left => left,
        };
        match (left, self.op(&both[1])?) {
            (_, Val::Bool(right)) if right == decides => Ok(Val::Bool(decides)),
            (Err(stop), _) => Err(stop),
            (Ok(Val::Bool(_)), Val::Bool(right)) => Ok(Val::Bool(right)),
            (Ok(left), right) => Err(wrong_binary(name, &left, &right)),
        }
    }

    /// The first that is there and not null; null if none is.
    fn coalesce(&mut self, args: &[Op]) -> Result<Val, Stop> {
        for arg in args {
            match self.op(arg) {
                Ok(Val::Null) | Err(Stop::Missing(_)) => {}
                found => return found,
            }
        }
        Ok(Val::Null)
    }

    fn comprehension(&mut self, looped: &Loop) -> Result<Val, Stop> {
        let items = match self.op(&looped.range)? {
            Val::List(items) => items,
            Val::Map(members) => {
                Meter::items(members.len())?;
                self.meter.spend(members.len())?;
                members.keys().cloned().map(Val::Text).collect()
            }
            other => return Err(Stop::Wrong(format!("{} has no items to go through", other.kind()))),
        };
        Meter::items(items.len())?;
        match &looped.body {
            LoopBody::All(test) => self.decided(&items, test, "all", false),
            LoopBody::Exists(test) => self.decided(&items, test, "exists", true),
            LoopBody::ExistsOne(test) => {
                let mut count = 0_usize;
                for item in items.iter() {
                    count += usize::from(self.test(item, test, "exists_one")?);
                }
                Ok(Val::Bool(count == 1))
            }
            LoopBody::Map { test, item: made } => {
                let mut list = Vec::new();
                for item in items.iter() {
                    let keep = match test {
                        Some(test) => self.test(item, test, "filter")?,
                        None => true,
                    };
                    if keep {
                        list.push(self.with(item, made)?);
                    }
                }
                Ok(Val::List(list.into()))
            }
        }
    }

    /// `all` and `exists`: an item that decides wins over an error of another.
    fn decided(&mut self, items: &[Val], test: &Op, name: &str, decides: bool) -> Result<Val, Stop> {
        let mut failed = None;
        for item in items {
            match self.test(item, test, name) {
                Ok(truth) if truth == decides => return Ok(Val::Bool(decides)),
                Err(over @ Stop::Over(_)) => return Err(over),
                Ok(_) => {}
                Err(stop) => failed = failed.or(Some(stop)),
            }
        }
        failed.map_or(Ok(Val::Bool(!decides)), Err)
    }

    fn test(&mut self, item: &Val, test: &Op, name: &str) -> Result<bool, Stop> {
        match self.with(item, test)? {
            Val::Bool(truth) => Ok(truth),
            other => Err(Stop::Wrong(format!("the test of `{name}` is {} and not a bool", other.kind()))),
        }
    }

    fn with(&mut self, item: &Val, op: &Op) -> Result<Val, Stop> {
        self.locals.push(item.clone());
        let value = self.op(op);
        self.locals.pop();
        value
    }
}

fn has_field(value: &Val, field: &str) -> Result<Val, Stop> {
    match value {
        Val::Map(members) => Ok(Val::Bool(members.contains_key(field))),
        other => Err(Stop::Wrong(format!("{} has no fields that `has` could ask for", other.kind()))),
    }
}

fn missing(field: &str) -> Stop {
    Stop::Missing(format!("there is no `{}`", field.chars().take(60).collect::<String>()))
}

fn select(value: &Val, field: &str) -> Result<Val, Stop> {
    match value {
        Val::Map(members) => members.get(field).cloned().ok_or_else(|| missing(field)),
        other => Err(Stop::Wrong(format!("{} has no field `{field}`", other.kind()))),
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "only a whole double from 0 on is taken")]
fn at(value: &Val, index: &Val) -> Result<Val, Stop> {
    let index = match (value, &*index.operand()?) {
        (Val::Map(_), Val::Text(key)) => return select(value, key),
        (Val::Map(_), index @ (Val::Bool(_) | Val::Int(_) | Val::Uint(_) | Val::Double(_))) => {
            return Err(Stop::Missing(format!("there is no such key: keys are strings, and this is {}", index.kind())));
        }
        (Val::List(_), Val::Int(index)) => usize::try_from(*index).ok(),
        (Val::List(_), Val::Uint(index)) => usize::try_from(*index).ok(),
        (Val::List(_), Val::Double(index)) if index.fract() == 0.0 => (*index >= 0.0).then_some(*index as usize),
        (_, index) => return Err(wrong_binary("[]", value, index)),
    };
    let Val::List(items) = value else { return Err(Stop::Wrong("there are no items".to_owned())) };
    index.and_then(|index| items.get(index).cloned()).ok_or_else(|| {
        let places = items.len();
        Stop::Missing(format!("there is no such item: the list has {places}"))
    })
}

fn negate(value: &Val) -> Result<Val, Stop> {
    match &*value.operand()? {
        Val::Int(int) => int.checked_neg().map(Val::Int).ok_or_else(|| overflow("-")),
        Val::Double(double) => Ok(Val::Double(-double)),
        other => Err(wrong_unary("-", other)),
    }
}

fn calculate(binary: Binary, a: &Val, b: &Val, meter: &mut Meter) -> Result<Val, Stop> {
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

fn wrong_unary(name: &str, value: &Val) -> Stop {
    Stop::Wrong(format!("`{name}` does not take {}", value.kind()))
}

fn wrong_binary(name: &str, a: &Val, b: &Val) -> Stop {
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
