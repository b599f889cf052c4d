//! What a transaction begins with, and what joins an open one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use skald_protocol::Json;

use crate::plan::Branch;

/// W3C trace context: the trace of the transaction and its root span; `parent` is the caller's span, if there was one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceContext {
    pub trace_id: String,
    pub root_span_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_span_id: Option<String>,
    #[serde(default)]
    pub sampled: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub state: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub baggage: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Began {
    /// The plan's digest, in hex.
    pub plan: String,
    /// How participants are spoken to; `native` is PARTICIPANT.md.
    pub contract: String,
    #[serde(default, deserialize_with = "crate::journal::encoding::said", skip_serializing_if = "Option::is_none")]
    pub input: Option<Json>,
    /// What expressions read as `config`: the coordinator's own, as it stood then, of plans that read it.
    #[serde(default, deserialize_with = "crate::journal::encoding::said", skip_serializing_if = "Option::is_none")]
    pub config: Option<Json>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    #[serde(default)]
    pub trace: TraceContext,
}

/// A branch of an open transaction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enlistment {
    pub branch: Branch,
    /// SHA-256 of the request as sent, in hex: the same again is the same branch.
    pub digest: String,
}
