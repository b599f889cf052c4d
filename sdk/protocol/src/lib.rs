//! What travels between Skald, its clients and its participants: serde types and nothing else.
//!
//! Every status, decision and kind is spelt here once; the engine, the coordinator and the SDK all speak these types.

mod enums;
mod event;
mod headers;
mod id;
mod json;
mod problem;
mod request;
mod time;
mod view;

pub use enums::{BranchStatus, CallOutcome, Decision, OperationKind, OperationStatus, Status};
pub use event::{PublicEvent, PublicEventKind};
pub use headers::*;
pub use id::{BranchId, Gid, InvalidId};
pub use json::Json;
pub use problem::{Fault, Problem};
pub use request::{
    Begin, BranchRequest, CallbackRequest, CallbackVerdict, EnlistedOperation, FailRequest, ReasonRequest,
    ResolveRequest, ResolvedOutcome, RetryRequest, SignalRequest, SkipRequest,
};
pub use time::{Timestamp, duration_meant, duration_text, parse_duration};
pub use view::{
    BranchView, DryRun, EnlistedView, ErrorView, OperationView, OwedCall, Page, ParticipantError, PublishedView,
    TransactionSummary, TransactionView, WorkflowRef, WorkflowSummary, WorkflowView,
};
