//! Span ids that can be known before (and after) their spans are exported: hashes of what the span is about.

use std::fmt;

use sha2::{Digest, Sha256};
use skald_protocol::{Gid, OperationKind};

use crate::{
    call::{Call, Request},
    journal::TraceContext,
};

/// Hex in text, as W3C trace context wants it; never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(pub [u8; 8]);

impl SpanId {
    /// The first eight bytes of the SHA-256 of the gid and `what`.
    #[must_use]
    pub fn of(gid: &Gid, what: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        hash.update(gid.as_str());
        for part in what {
            hash.update([0]);
            hash.update(part);
        }
        let mut id = [1; 8];
        id.copy_from_slice(&hash.finalize()[..8]);
        Self(id)
    }

    /// Of one attempt; the same in every life of the coordinator.
    #[must_use]
    pub fn of_call(gid: &Gid, call: &Call, request: &Request) -> Self {
        let operation = if call.ask { OperationKind::Status } else { call.operation };
        Self::of_attempt(gid, request.branch.as_str(), call.operation, operation, call.attempt)
    }

    /// `asked` is `status` for a `status_check` of `operation`, else the operation itself.
    #[must_use]
    pub fn of_attempt(gid: &Gid, branch: &str, operation: OperationKind, asked: OperationKind, attempt: u32) -> Self {
        let parts =
            [branch.as_bytes(), operation.as_str().as_bytes(), asked.as_str().as_bytes(), &attempt.to_be_bytes()];
        Self::of(gid, &parts)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl TraceContext {
    /// The `traceparent` header (W3C Trace Context, version 00) that makes `span` the parent; `None` without a trace.
    #[must_use]
    pub fn traceparent(&self, span: SpanId) -> Option<String> {
        let flags = if self.sampled { "01" } else { "00" };
        (!self.trace_id.is_empty()).then(|| format!("00-{}-{span}-{flags}", self.trace_id))
    }
}
