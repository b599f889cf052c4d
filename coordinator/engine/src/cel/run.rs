//! Evaluation. Every node costs, and so does all that is made; nothing recurses deeper than `DEPTH` and JSON allow.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Meter, Stop,
    function::Function,
    lower::{Loop, LoopBody, Op, Read},
    operators::{calculate, negate, wrong_binary, wrong_unary},
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
