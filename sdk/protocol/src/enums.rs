use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Declares an enum with its texts once: the spelling on the wire, in the database and in text is the same.
macro_rules! text_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        // Not a rename of each variant: utoipa does not see one that a macro wrote.
        #[serde(rename_all = "snake_case")]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(format!("`{text}` is none of: {}", [$($text),+].join(", "))),
                }
            }
        }
    };
}

text_enum! {
    /// Where a global transaction stands. `succeeded`, `compensated` and `failed` are final.
    Status {
        Running = "running",
        Confirming = "confirming",
        Compensating = "compensating",
        Suspended = "suspended",
        Succeeded = "succeeded",
        Compensated = "compensated",
        Failed = "failed",
    }
}

text_enum! {
    BranchStatus {
        Waiting = "waiting",
        Running = "running",
        Done = "done",
        Refused = "refused",
        Skipped = "skipped",
        Confirming = "confirming",
        Confirmed = "confirmed",
        Undoing = "undoing",
        Undone = "undone",
        Stuck = "stuck",
    }
}

text_enum! {
    OperationStatus {
        Owed = "owed",
        Pending = "pending",
        Succeeded = "succeeded",
        Refused = "refused",
        Exhausted = "exhausted",
        Skipped = "skipped",
    }
}

text_enum! {
    /// What is asked of a participant; `status` is never an operation of a branch but a question about one.
    OperationKind {
        Action = "action",
        Compensate = "compensate",
        Try = "try",
        Confirm = "confirm",
        Cancel = "cancel",
        Status = "status",
    }
}

text_enum! {
    Decision { Commit = "commit", Abort = "abort" }
}

text_enum! {
    /// What became of one attempt. `unsent`: not a byte of the request was written, so nothing ran.
    CallOutcome {
        Succeeded = "succeeded",
        Refused = "refused",
        Pending = "pending",
        Unknown = "unknown",
        Unsent = "unsent",
    }
}

impl Status {
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Compensated | Self::Failed)
    }
}

impl OperationKind {
    /// `action` and `try`.
    #[must_use]
    pub const fn is_forward(self) -> bool {
        matches!(self, Self::Action | Self::Try)
    }

    /// `compensate` and `cancel`.
    #[must_use]
    pub const fn is_undo(self) -> bool {
        matches!(self, Self::Compensate | Self::Cancel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: Serialize + Copy>(words: &[T], text: impl Fn(T) -> &'static str) {
        for word in words {
            assert_eq!(serde_json::to_value(word).unwrap(), text(*word));
        }
    }

    #[test]
    fn a_status_is_spelt_the_same_in_json_and_in_text() {
        check(Status::ALL, Status::as_str);
        check(BranchStatus::ALL, BranchStatus::as_str);
        check(OperationStatus::ALL, OperationStatus::as_str);
        check(OperationKind::ALL, OperationKind::as_str);
        check(Decision::ALL, Decision::as_str);
        check(CallOutcome::ALL, CallOutcome::as_str);
    }
}
