//! One file per promise of the README.

mod floors;
mod runtime;
mod store;
