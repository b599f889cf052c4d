//! One file per promise of the README.

mod api_begin;
mod api_callbacks;
mod api_edge;
mod api_events;
mod api_input;
mod api_open;
mod api_operators;
mod floors;
mod journal;
mod runtime;
mod store;
