//! The JSON saga language (docs/workflows.md): a definition is read, proven and lowered to a `Plan`.
//!
//! All faults come at once, each with its code and its place. What a definition costs is bounded before it is read, so
//! hostile text is refused or compiled in milliseconds; nothing recurses deeper than JSON may nest.

mod check;
mod diagnostic;
mod editor_schema;
mod enlist;
mod input_schema;
mod lower;
mod syntax;

use std::collections::BTreeMap;

pub use diagnostic::{Code, Diagnostic, Position};
pub use editor_schema::language_schema;
pub use enlist::enlist;
pub use input_schema::{InputSchema, is_format};
pub(crate) use syntax::json::reason;
pub use syntax::{
    include::{Library, Wanted},
    position::position,
    step_kind::is_signal,
};

use crate::plan::Plan;
use check::{cost, lint, order::Order, safety, scope, types};
use syntax::{
    document::Document,
    json, position as positions,
    read::{Faults, Node, Place},
};

/// A definition that was proven.
#[derive(Debug, Clone)]
pub struct Compiled {
    pub plan: Plan,
    pub warnings: Vec<Diagnostic>,
    pub labels: BTreeMap<String, String>,
    /// The definition's `input` schema, if it states one.
    pub input: Option<InputSchema>,
}

/// Reads, proves and lowers a definition that includes no other; all faults at once.
pub fn compile(source: &str) -> Result<Compiled, Vec<Diagnostic>> {
    compile_with(source, &Library::default())
}

/// The same, for one that may include what is in the library.
pub fn compile_with(source: &str, library: &Library) -> Result<Compiled, Vec<Diagnostic>> {
    let mut compiled = compiled(source, library);
    match &mut compiled {
        Ok(compiled) => positions::place(source, &mut compiled.warnings),
        Err(faults) => positions::place(source, faults),
    }
    compiled
}

fn compiled(source: &str, library: &Library) -> Result<Compiled, Vec<Diagnostic>> {
    let mut faults = Faults::new();
    let Some(value) = json::parse(source, &Place::default(), &mut faults) else { return Err(faults.into_list()) };
    let Some(mut document) = Document::read(&Node::new(&value, Place::default()), library, &[], &mut faults) else {
        return Err(faults.into_list());
    };
    let order = Order::of(&document.steps, &mut faults);
    let parts = safety::parts(&document.steps, order.as_ref(), &mut faults);
    lower::plan::check_bounds(&document, &parts, &mut faults);
    scope::check(&document.steps, order.as_ref(), document.output.as_ref(), &mut faults);
    let costs = types::check(&document.steps, order.as_ref(), document.schema, document.output.as_ref(), &mut faults);
    if let Some(order) = &order {
        cost::check(&document.steps, order, &costs, &mut faults);
    }
    match order {
        Some(order) if faults.is_empty() => {
            let warnings = lint::warnings(&document, &parts, &order);
            let labels = std::mem::take(&mut document.labels);
            let input = document.input.take();
            Ok(Compiled { plan: lower::plan::plan(&document, &parts, &order), warnings, labels, input })
        }
        _ => Err(faults.into_list()),
    }
}
