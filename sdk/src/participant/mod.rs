//! The participant's side: HTTP calls of a coordinator, answered so that no effect happens twice or too late.
//!
//! A [`Participant`] runs each effect inside one local transaction of the service's own database, together with one row
//! of the [`barrier`]. That row is what ends the three troubles of every saga: a call that comes twice, an undo that
//! overtakes what it undoes, and a call that arrives after its undo.

mod answer;
pub mod barrier;
mod context;
mod effect;
mod failure;
mod service;

pub use answer::{Answer, BarrierWord};
pub use context::{CallContext, InvalidCall};
pub use effect::{Call, Effect};
pub use failure::{Failure, Refusal};
pub use service::{Participant, ParticipantService};
