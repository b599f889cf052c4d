//! What is proven of a document: its order, that it ends fully done or fully undone, what its expressions may read, of
//! which type that is and what it costs.

pub(super) mod cost;
pub(super) mod include_input;
pub(super) mod lint;
pub(super) mod order;
pub(super) mod safety;
pub(super) mod scope;
pub(super) mod types;
pub(super) mod unused;
