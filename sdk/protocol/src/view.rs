use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    BranchId, BranchStatus, CallOutcome, Decision, Fault, Gid, Json, OperationKind, OperationStatus, Status, Timestamp,
};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WorkflowRef {
    pub name: String,
    pub version: String,
}

/// A published definition, all but its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WorkflowSummary {
    pub name: String,
    pub version: String,
    /// SHA-256 of the definition's RFC 8785 form, in hex.
    pub digest: String,
    /// The plan's SHA-256, in hex: the `digest` of the transactions it begins.
    pub plan_digest: String,
    pub published_at: Timestamp,
}

/// A published definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WorkflowView {
    pub name: String,
    pub version: String,
    /// SHA-256 of the definition's RFC 8785 form, in hex.
    pub digest: String,
    /// The plan's SHA-256, in hex: the `digest` of the transactions it begins.
    pub plan_digest: String,
    pub published_at: Timestamp,
    /// As it was sent.
    pub definition: Json,
}

/// The answer to a definition that is published, now or before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PublishedView {
    pub name: String,
    pub version: String,
    /// SHA-256 of the definition's RFC 8785 form, in hex.
    pub digest: String,
    /// The plan's SHA-256, in hex: the `digest` of the transactions it begins.
    pub plan_digest: String,
    pub published_at: Timestamp,
    /// What the compiler takes and would not write so; pointers into the definition.
    pub warnings: Vec<Fault>,
}

/// Why a transaction did not simply succeed. `step` is the branch it came from, where there is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ErrorView {
    pub step: Option<String>,
    pub code: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A participant's word on a refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ParticipantError {
    pub code: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TransactionView {
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub gid: Gid,
    pub status: Status,
    pub decision: Option<Decision>,
    pub cancel_requested: bool,
    pub workflow: Option<WorkflowRef>,
    /// The plan's SHA-256, in hex.
    pub digest: String,
    pub input: Option<Json>,
    pub output: Option<Json>,
    pub error: Option<ErrorView>,
    pub labels: BTreeMap<String, String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub settled_at: Option<Timestamp>,
    pub deadline: Option<Timestamp>,
    pub next_wake_at: Option<Timestamp>,
    pub trace_id: Option<String>,
    pub branches: Vec<BranchView>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branches_next_cursor: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BranchView {
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub branch: BranchId,
    pub step: String,
    pub status: BranchStatus,
    pub operations: Vec<OperationView>,
    /// Of a step without an operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Json>,
    /// Of a step without an operation, or of its condition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorView>,
    /// The signal that it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// The signals of which it waits for the first, if there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signals: Vec<String>,
    /// When its wait ends at the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_until: Option<Timestamp>,
    /// Of a map: how many items it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<usize>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OperationView {
    pub operation: OperationKind,
    pub status: OperationStatus,
    pub attempts: u32,
    pub last_error: Option<ErrorView>,
    pub next_attempt_at: Option<Timestamp>,
    pub output: Option<Json>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
}

/// A row of a list, read from the projection: it lags the journal by at most a second.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TransactionSummary {
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub gid: Gid,
    pub status: Status,
    pub workflow: Option<WorkflowRef>,
    pub created_at: Timestamp,
    pub settled_at: Option<Timestamp>,
    pub labels: BTreeMap<String, String>,
}

/// The answer to an enlisted branch.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EnlistedView {
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub branch: BranchId,
    pub status: BranchStatus,
    /// Of the try; absent while it is not known, or where the client calls it.
    pub outcome: Option<CallOutcome>,
    pub output: Option<Json>,
    pub error: Option<ErrorView>,
    /// What the client sends with its own try, so that the participant knows the branch.
    pub headers: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next_cursor: Option<String>,
}

/// The answer to an operator's command with `?dry_run=true`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DryRun {
    /// What would be called.
    pub calls: Vec<OwedCall>,
}

/// A call as it would be sent; what a service's configuration adds (its base URL, headers, secrets) is not shown.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OwedCall {
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub branch: BranchId,
    pub operation: OperationKind,
    pub method: String,
    pub service: Option<String>,
    /// Either this or `path`, which is appended to the service's URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    pub query: Vec<(String, String)>,
    pub headers: BTreeMap<String, String>,
    pub body: Option<Json>,
    /// Of one attempt; a duration.
    pub timeout: String,
    pub idempotency_key: String,
}
