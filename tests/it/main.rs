//! One file per promise of the README, each kept on SQLite and on Postgres.

mod api_begin;
mod api_callbacks;
mod api_edge;
mod api_events;
mod api_input;
mod api_open;
mod api_operators;
mod begin;
mod callback;
mod command_line;
mod documents;
mod floors;
mod journal;
mod nodes;
mod open;
mod operator;
mod pivot;
mod registry;
mod restart;
mod retry;
mod runtime;
mod saga;
mod shutdown;
mod store;
mod tcc;
mod tracing;
