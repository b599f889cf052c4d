//! CEL (<https://cel.dev>, docs/workflows.md, Expressions): pure, bounded, a function of recorded state.
//!
//! The crate `cel` gives the syntax, and nothing of it is seen outside this module. Its evaluation is not used: it cannot
//! be stopped (its `||` and `all` swallow whatever error would end it), it walks maps in the random order of a hash
//! table, and its errors print whole values. Here each node that is evaluated and each byte that is made costs from a
//! `Meter`, maps are in the order of their keys, and what is over a bound is an error that nothing swallows.
//!
//! Values are JSON's, with CEL's numbers: a whole number that fits is an `int`, a larger one a `uint`, any other a
//! `double`. What was read keeps its digits until it is computed with; that it then must fit is never passed over. Keys of maps are strings. There is no clock, no randomness, no regular expression, no message type.

mod function;
pub(crate) mod infer;
mod lower;
mod operators;
mod run;
mod source;
pub(crate) mod types;
mod value;

use std::fmt;

use crate::{
    budget::Budget,
    path::{Path, Scope},
    value::Value,
};
use lower::{Op, Read};
pub(crate) use source::end;

/// Bytes of one expression.
pub const SOURCE: usize = 4 << 10;
/// Names, literals, operators and brackets of one expression.
pub const NODES: usize = 500;
/// Of all expressions of one definition, weighed by what parsing takes (`source::measure`): some ten milliseconds in all.
pub const WEIGHT_IN_ALL: usize = 20_000;
/// Calls on a value, `a.f()`, in one expression.
pub const CALLS: usize = 64;
/// Brackets within brackets.
pub const BRACKETS: u16 = 32;
/// Operations within operations: as deep as JSON, so that a megabyte of stack is enough without optimization.
pub const DEPTH: usize = 64;
/// Comprehensions (`all`, `exists`, `exists_one`, `filter`, `map`) within a comprehension's body.
pub const LOOPS: usize = 2;
/// Items of a list that is made or gone through.
pub const ITEMS: usize = 10_000;
/// Bytes of a result, as JSON.
pub const RESULT: usize = 256 << 10;
/// Of all that is rendered together, as one request: nodes evaluated, items touched, and text in pieces of 16 bytes.
pub const COST: u64 = 500_000;
/// Bytes of text that are one step.
const PIECE: usize = 16;
/// Bytes that all expressions rendered together may make, plain paths included.
pub const MADE: usize = 1 << 20;

/// A compiled expression. Two are equal when they were written alike.
#[derive(Clone)]
pub struct Expression {
    source: String,
    op: Op,
    reads: Vec<Read>,
}

/// Why text is no expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    pub reason: Reason,
    pub message: String,
}

/// What the author can do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Write it as CEL.
    Syntax,
    /// Name one of these functions.
    Function { written: String, known: &'static [&'static str] },
    /// Write less.
    Bound,
}

/// What is left for all expressions that are rendered together.
#[derive(Debug)]
pub struct Meter {
    cost: u64,
    most: u64,
    room: usize,
    is_over: bool,
}

impl Meter {
    #[must_use]
    pub const fn new() -> Self {
        Self { cost: COST, most: COST, room: MADE, is_over: false }
    }

    /// As much as the language allows and the budget has left.
    #[must_use]
    pub const fn within(budget: &Budget) -> Self {
        let most = if budget.left() < COST { budget.left() } else { COST };
        Self { cost: most, most, room: MADE, is_over: false }
    }

    /// The budget, and not the language, ended an evaluation: what it came to means nothing.
    #[must_use]
    pub const fn is_cut(&self) -> bool {
        self.is_over && self.most < COST
    }

    /// What all of it took, text that was only passed on included.
    #[must_use]
    pub const fn work(&self) -> u64 {
        self.spent() + ((MADE - self.room) / PIECE) as u64
    }

    /// The same, as so much JSON taken apart.
    pub(crate) fn bytes(&self) -> usize {
        usize::try_from(self.spent()).unwrap_or(usize::MAX).saturating_mul(PIECE)
    }

    /// For taking so many bytes of JSON apart.
    pub(crate) fn parsed(&mut self, bytes: usize) -> Result<(), String> {
        self.text(bytes).map_err(|stop| stop.to_string())
    }

    /// Counts a value that an expression or a path gave: many of them could make what no request may be.
    pub(crate) fn made(&mut self, value: &Value) -> Result<(), String> {
        let over = || format!("too large: the expressions of one request may make {MADE} bytes");
        let bytes = match value {
            Value::Null | Value::Bool(_) => 4,
            Value::Number(number) => number.length(),
            Value::String(text) => text.len(),
            Value::Array(items) => return items.iter().try_for_each(|item| self.made(item)),
            Value::Object(members) => {
                return members.iter().try_for_each(|(key, member)| {
                    self.room = self.room.checked_sub(key.len()).ok_or_else(over)?;
                    self.made(member)
                });
            }
        };
        self.room = self.room.checked_sub(bytes).ok_or_else(over)?;
        Ok(())
    }

    #[must_use]
    pub const fn spent(&self) -> u64 {
        self.most - self.cost
    }
}

impl Default for Meter {
    fn default() -> Self {
        Self::new()
    }
}

/// What is left to compile the expressions of one definition.
#[derive(Debug)]
pub struct Allowance {
    weight: usize,
}

impl Allowance {
    #[must_use]
    pub const fn of_a_definition() -> Self {
        Self { weight: WEIGHT_IN_ALL }
    }

    /// For what was compiled before.
    #[must_use]
    pub const fn unlimited() -> Self {
        Self { weight: usize::MAX }
    }
}

impl Expression {
    pub fn compile(text: &str, allowance: &mut Allowance) -> Result<Self, Refused> {
        let weight = source::measure(text)?;
        let Some(left) = allowance.weight.checked_sub(weight) else {
            return Err(Refused::bound("the expressions of the definition are too many or too large together"));
        };
        allowance.weight = left;
        // What was compiled before reads as it did then.
        if allowance.weight < usize::MAX / 2 {
            source::literals(text)?;
        }
        let tree = source::parse(text)?;
        let (op, reads) = lower::lower(&tree)?;
        Ok(Self { source: text.to_owned(), op, reads })
    }

    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Every path from a root that evaluation may read, with the names of comprehensions that are known beside the roots.
    pub fn reads(&self) -> impl Iterator<Item = (&Path, &[String])> {
        self.reads.iter().map(|read| (&read.path, read.names.as_slice()))
    }

    /// The value, as JSON; `Err` says why there is none.
    pub fn evaluate(&self, scope: &dyn Scope, meter: &mut Meter) -> Result<Value, String> {
        run::run(&self.op, &self.reads, scope, meter).map_err(|stop| stop.to_string())
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.source).finish()
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Refused {
    fn syntax(message: impl Into<String>) -> Self {
        Self { reason: Reason::Syntax, message: message.into() }
    }

    fn bound(message: impl Into<String>) -> Self {
        Self { reason: Reason::Bound, message: message.into() }
    }
}

/// Why evaluation stopped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Stop {
    /// `coalesce` goes on to its next argument; so may `&&` and `||` to their other side.
    #[error("{0}")]
    Missing(String),
    /// `&&` and `||` may still know from their other side.
    #[error("{0}")]
    Wrong(String),
    /// Nothing goes on.
    #[error("{0}")]
    Over(String),
}

impl Meter {
    fn spend(&mut self, cost: usize) -> Result<(), Stop> {
        match self.cost.checked_sub(cost as u64) {
            Some(left) => {
                self.cost = left;
                Ok(())
            }
            None => {
                self.cost = 0;
                self.is_over = true;
                Err(Stop::Over(format!("too costly: the expressions of one request may take {COST} steps")))
            }
        }
    }

    /// For making, comparing or going through so many bytes of text.
    fn text(&mut self, bytes: usize) -> Result<(), Stop> {
        self.spend(bytes / PIECE)
    }

    fn items(count: usize) -> Result<(), Stop> {
        if count <= ITEMS {
            return Ok(());
        }
        Err(Stop::Over(format!("a list of {count} items: at most {ITEMS} are gone through or made")))
    }
}
