//! CEL: what stored definitions mean, what no source and no value can do, and what it costs.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "the clock measures the engine, which reads none")]

mod bounds;
#[path = "../common/clock.rs"]
mod clock;
mod cost;
mod golden;
mod random;

use std::collections::BTreeMap;

use serde_json::Value;
use skald_engine::{
    cel::{Allowance, Expression, Meter, Refused},
    path::{Path, Scope},
    value,
};

/// Roots and their values.
#[derive(Debug, Default)]
pub(crate) struct Roots(pub(crate) BTreeMap<String, Value>);

impl Scope for Roots {
    fn read(&self, path: &Path) -> Result<value::Value, String> {
        let root = self.0.get(&path.root).ok_or_else(|| format!("there is no `{}`", path.root))?;
        Path::walk(&path.segments, &root.into())
    }
}

pub(crate) fn input(input: Value) -> Roots {
    Roots([("input".to_owned(), input)].into())
}

pub(crate) fn compile(source: &str) -> Result<Expression, Refused> {
    Expression::compile(source, &mut Allowance::of_a_definition())
}

pub(crate) fn evaluate(source: &str, roots: &Roots) -> Result<value::Value, String> {
    compile(source).map_err(|refused| refused.to_string())?.evaluate(roots, &mut Meter::new())
}
