use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, IgnoredAny},
};
use serde_json::value::RawValue;

use crate::{BranchId, CallOutcome, Decision, ErrorView, Json, OperationKind, Status, Timestamp};

/// One thing that happened to a transaction, as the world may know it. The journal's own encoding is private.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PublicEvent {
    /// `<seq>.<index>`: the place to resume from (`Last-Event-ID`).
    pub id: String,
    pub at: Timestamp,
    #[serde(flatten)]
    pub kind: PublicEventKind,
}

/// Read as part of a `PublicEvent`: by itself it has no `output` and no `payload`.
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
        #[serde(default, deserialize_with = "read_apart")]
        output: Option<Json>,
        /// Why nothing of the answer is kept, where something was to be.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output_error: Option<ErrorView>,
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
        #[serde(default, deserialize_with = "read_apart")]
        payload: Option<Json>,
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
        #[serde(default, deserialize_with = "read_apart")]
        output: Option<Json>,
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
        /// The signals of which it waits for the first, if there are several.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        signals: Vec<String>,
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
    /// An operator's command: `retry`, `skip`, `resolve`.
    Intervened {
        command: String,
        #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
        branch: Option<BranchId>,
        reason: Option<String>,
    },
    /// Another node (or a later life of the same one) took the transaction over.
    Adopted,
    Settled {
        status: Status,
        #[serde(default, deserialize_with = "read_apart")]
        output: Option<Json>,
    },
}

impl PublicEventKind {
    /// Whether the stream ends here.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        matches!(self, Self::Settled { .. })
    }
}

/// What serde reads by its tag it holds as values first, and a value has not the text of its numbers. So what is kept as
/// text is read for itself.
fn read_apart<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Json>, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| None)
}

impl<'de> Deserialize<'de> for PublicEvent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Apart {
            id: String,
            at: Timestamp,
            output: Option<Json>,
            payload: Option<Json>,
        }
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let apart: Apart = serde_json::from_str(raw.get()).map_err(de::Error::custom)?;
        let mut kind: PublicEventKind = serde_json::from_str(raw.get()).map_err(de::Error::custom)?;
        match &mut kind {
            PublicEventKind::OperationSucceeded { output, .. }
            | PublicEventKind::StepDone { output, .. }
            | PublicEventKind::Settled { output, .. } => *output = apart.output,
            PublicEventKind::Signalled { payload, .. } => *payload = apart.payload,
            _ => {}
        }
        Ok(Self { id: apart.id, at: apart.at, kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_reads_as_it_was_written_also_inside_others() {
        for text in [
            r#"{"id":"1.0","at":"2026-01-31T12:00:00.000Z","type":"settled","status":"succeeded","output":{"n":0.10,"m":123456789012345678901234567890}}"#,
            r#"{"id":"2.1","at":"2026-01-31T12:00:00.000Z","type":"signalled","name":"go","payload":[1e-7,-0]}"#,
            r#"{"id":"2.1","at":"2026-01-31T12:00:00.000Z","type":"operation_succeeded","branch":"a","operation":"action","attempt":3,"output":null}"#,
            r#"{"id":"2.1","at":"2026-01-31T12:00:00.000Z","type":"began"}"#,
        ] {
            let event: PublicEvent = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&event).unwrap(), text);
            let page = format!(r#"{{"items":[{text}],"next_cursor":null}}"#);
            let read: crate::Page<PublicEvent> = serde_json::from_str(&page).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), page);
        }
    }
}
