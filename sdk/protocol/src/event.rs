use serde::{Deserialize, Serialize};

use crate::{BranchId, CallOutcome, Decision, ErrorView, OperationKind, Status, Timestamp};

/// One thing that happened to a transaction, as the world may know it. The journal's own encoding is private.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PublicEvent {
    /// `<seq>.<index>`: the place to resume from (`Last-Event-ID`).
    pub id: String,
    pub at: Timestamp,
    #[serde(flatten)]
    pub kind: PublicEventKind,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum PublicEventKind {
    Began,
    Enlisted {
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        branch: BranchId,
    },
    /// An attempt that did not end its operation; some are not recorded (1, 2, 4, 8, … are).
    AttemptFailed {
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        branch: BranchId,
        operation: OperationKind,
        attempt: u32,
        outcome: CallOutcome,
        error: ErrorView,
        next_attempt_at: Timestamp,
    },
    OperationPending {
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        branch: BranchId,
        operation: OperationKind,
    },
    OperationSucceeded {
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        branch: BranchId,
        operation: OperationKind,
        attempt: u32,
        output: Option<serde_json::Value>,
    },
    OperationRefused {
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        branch: BranchId,
        operation: OperationKind,
        attempt: u32,
        error: ErrorView,
    },
    OperationExhausted {
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        branch: BranchId,
        operation: OperationKind,
        error: ErrorView,
    },
    BranchStuck {
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        branch: BranchId,
        operation: OperationKind,
        error: ErrorView,
    },
    CancelRequested {
        reason: Option<String>,
    },
    DeadlinePassed,
    Decided {
        decision: Decision,
        error: Option<ErrorView>,
    },
    /// A signal's first arrival.
    Signalled {
        name: String,
        payload: Option<serde_json::Value>,
    },
    /// Its `when` was not true.
    StepSkipped {
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        branch: BranchId,
    },
    /// Of a step without an operation.
    StepDone {
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        branch: BranchId,
        output: Option<serde_json::Value>,
    },
    /// A step without an operation, or a condition, that failed.
    StepFailed {
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        branch: BranchId,
        error: ErrorView,
    },
    /// Of a `choice`: the arm, counted from 0.
    ArmChosen {
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        branch: BranchId,
        arm: usize,
    },
    WaitBegan {
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        branch: BranchId,
        signal: Option<String>,
        /// When it ends at the latest.
        until: Timestamp,
    },
    MapBegan {
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        branch: BranchId,
        items: usize,
    },
    Suspended,
    Resumed,
    /// An operator's word: `retry`, `skip`, `resolve`.
    Intervened {
        word: String,
        #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
        branch: Option<BranchId>,
        reason: Option<String>,
    },
    /// Another node (or a later life of the same one) took the transaction over.
    Adopted,
    Settled {
        status: Status,
        output: Option<serde_json::Value>,
    },
}

impl PublicEventKind {
    /// Whether the stream ends here.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        matches!(self, Self::Settled { .. })
    }
}
