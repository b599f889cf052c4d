//! Fluent fakes and judges for Skald's promises: real processes, real databases, real HTTP.
//!
//! `Participants` are services with a ledger; `Node` is the real `skald serve`; `World` puts one of each on a fresh
//! database; `checker` judges a run by the invariants of BARS.md.

pub mod begins;
pub mod checker;
pub mod client;
pub mod cluster;
pub mod collector;
pub mod database;
pub mod definition;
pub mod disk;
mod eventually;
mod fake_time;
pub mod faulty;
pub mod ledger;
pub mod mariadb;
pub mod participants;
pub mod pooler;
pub mod tls;
pub mod world;

pub use client::{Answer, Client};
pub use cluster::Node;
pub use eventually::eventually;
pub use fake_time::FakeTime;
pub use faulty::Faulty;
pub use participants::{Behaviour, Chance, Participants};
pub use world::{Backend, Database, World};
