//! One file per promise of the README.

mod floors;
mod journal;
mod runtime;
mod store;
