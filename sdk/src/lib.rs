//! Skald's SDK: state a saga, begin it, follow it; and take part in one, with every effect exactly once.
//!
//! - [`Saga`] states a saga, [`Client::begin`] begins it, and [`Begun::settled`] waits for its end.
//! - `participant` (one of the features `postgres`, `mysql`, `sqlite`) is the other side: a service's effects behind the
//!   barrier in its own database. With `axum` it is a router.
//!
//! Every call but an operator's may be made twice without harm, so the client makes it again by itself when no answer
//! came or the coordinator said to come back later. A begin without a gid is given one here for that reason: twice is
//! once. The guide is `docs/rust.md`.

#![deny(missing_docs)]

mod begun;
#[cfg(feature = "blocking")]
pub mod blocking;
mod client;
#[cfg(feature = "testing")]
pub mod contract;
mod error;
mod follow;
#[cfg(feature = "participant")]
pub mod outbox;
#[cfg(feature = "participant")]
pub mod participant;
mod proxy;
mod registry;
pub mod saga;
#[cfg(feature = "signing")]
mod signature;
mod tcc;

pub use begun::Begun;
pub use client::{Client, ClientBuilder, ListFilter, Operator};
pub use error::Error;
pub use follow::Follow;
pub use registry::Publication;
pub use saga::{Saga, Service};
#[cfg(feature = "signing")]
pub use signature::{InvalidKey, SigningKeys};
pub use skald_protocol as protocol;
pub use tcc::OpenTransaction;

/// The guide's programs are compiled with the doc tests.
#[cfg(all(doctest, feature = "axum", feature = "postgres"))]
#[doc = include_str!("../../docs/rust.md")]
struct Guide;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
