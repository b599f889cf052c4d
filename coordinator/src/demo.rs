//! `skald demo`.
