//! With the barrier each effect happens once, is undone once and only if it happened, and never happens after its undo.

mod rules;
pub(crate) mod services;
mod storm;
