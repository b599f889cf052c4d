//! Why something did not happen.

use serde::{Deserialize, Serialize};
use skald_protocol::ErrorView;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Error {
    pub code: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Error {
    #[must_use]
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: Some(message.into()) }
    }

    #[must_use]
    pub fn at(&self, step: &str) -> ErrorView {
        ErrorView { step: Some(step.to_owned()), code: self.code.clone(), message: self.message.clone() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    Refused,
    Unknown,
    Unsent,
}
