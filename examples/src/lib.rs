//! Stories a reader would tell, each a binary: `cargo run -p skald-examples --bin transfer`.

pub mod order;
