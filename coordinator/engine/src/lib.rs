//! Skald's pure core. A transaction is a value folded from its journal, and what it owes its participants is a function
//! of that value. Nothing here reads a clock, draws a random number or touches the outside.

pub mod budget;
pub mod call;
pub mod cel;
pub mod definition;

pub mod graph;
pub mod journal;
pub mod limit;
pub mod outcome;
pub mod path;
pub mod plan;
pub mod simulate;
pub mod template;
pub mod text;
pub mod trace;
pub mod transaction;
pub mod value;

pub use budget::Budget;
pub use call::{Barrier, Call, Dropped, Outcome, Reply, Request, Response, Target};
pub use journal::{Began, Enlistment, Error, Event, Record, TraceContext};
pub use plan::{Branch, Operation, Plan, Retry, Service};
pub use trace::SpanId;
pub use transaction::{Command, Corrupt, Input, Rejection, Transaction, Unrendered};
pub use value::Value;
