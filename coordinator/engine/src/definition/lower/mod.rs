//! From a proven document to a plan, with all defaults filled in.

pub(super) mod defaults;
pub(super) mod plan;
