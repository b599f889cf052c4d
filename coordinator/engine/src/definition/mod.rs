//! The JSON saga language (docs/workflows.md): a definition is read, proven and lowered to a `Plan`.
//!
//! All faults come at once, each with its code and its place. What a definition costs is bounded before it is read, so
//! hostile text is refused or compiled in milliseconds; nothing recurses deeper than JSON may nest.

mod chain;
mod check;
mod document;
mod enlist;
mod fill;
mod given;
mod idle;
mod include;
mod kind;
mod language;
mod locate;
mod lower;
mod operation;
mod order;
mod read;
mod retry;
mod schema;
mod scope;
mod secret;
mod service;
mod source;
mod step;
mod types;
mod warn;

use std::collections::BTreeMap;

pub use enlist::enlist;
pub use include::{Library, Wanted};
pub use kind::is_signal;
pub use language::language_schema;
pub use locate::{Position, position};
pub use schema::{InputSchema, is_format};
pub(crate) use source::reason;

use crate::plan::Plan;
use document::Document;
use locate::Mark;
use order::Order;
use read::{Faults, Node, Place};

/// One fault of a definition: a code of docs/workflows.md, the JSON pointer of its place, what is wrong and what to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub code: &'static str,
    pub pointer: String,
    pub message: String,
    pub help: Option<String>,
    /// In the text of a definition: of the name where it should not be there, else of the value.
    pub position: Option<Position>,
    mark: Mark,
}

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
        Ok(compiled) => locate::place(source, &mut compiled.warnings),
        Err(faults) => locate::place(source, faults),
    }
    compiled
}

fn compiled(source: &str, library: &Library) -> Result<Compiled, Vec<Diagnostic>> {
    let mut faults = Faults::new();
    let Some(value) = source::parse(source, &Place::default(), &mut faults) else { return Err(faults.into_list()) };
    let Some(mut document) = Document::read(&Node::new(&value, Place::default()), library, &[], &mut faults) else {
        return Err(faults.into_list());
    };
    let order = Order::of(&document.steps, &mut faults);
    let parts = check::parts(&document.steps, order.as_ref(), &mut faults);
    lower::check_bounds(&document, &parts, &mut faults);
    scope::check(&document.steps, order.as_ref(), document.output.as_ref(), &mut faults);
    let costs = types::check(&document.steps, order.as_ref(), document.schema, document.output.as_ref(), &mut faults);
    if let Some(order) = &order {
        chain::check(&document.steps, order, &costs, &mut faults);
    }
    match order {
        Some(order) if faults.is_empty() => {
            let warnings = warn::warnings(&document, &parts, &order);
            let labels = std::mem::take(&mut document.labels);
            let input = document.input.take();
            Ok(Compiled { plan: lower::plan(&document, &parts, &order), warnings, labels, input })
        }
        _ => Err(faults.into_list()),
    }
}
