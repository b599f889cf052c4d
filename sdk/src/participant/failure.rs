use std::{error::Error, fmt};

use serde::{Deserialize, Serialize};

/// A business "no": nothing was done, and the answer to this call stays the same however often it is repeated.
///
/// The transaction is aborted by it, if this is a forward operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub(crate) code: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
}

impl Refusal {
    /// `code` is for programs (`not_enough`): it becomes the transaction's `error.code`.
    #[must_use]
    pub fn new(code: impl Into<String>) -> Self {
        Self { code: code.into(), message: None }
    }

    /// A sentence for people.
    #[must_use]
    pub fn message(self, message: impl Into<String>) -> Self {
        Self { message: Some(message.into()), ..self }
    }

    /// The code given to `new`.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.message {
            Some(message) => write!(f, "{message} ({})", self.code),
            None => f.write_str(&self.code),
        }
    }
}

/// Why an effect did not happen.
///
/// Any error converts by `?` into `Failed`, a [`Refusal`] into `Refused`.
#[derive(Debug)]
pub enum Failure {
    /// Kept, so that the answer never changes.
    Refused(Refusal),
    /// Rolled back and not kept: the coordinator calls again.
    Failed(Box<dyn Error + Send + Sync>),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

// Possible because `Refusal` and `Failure` are no `Error`s themselves.
impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(Box::new(error))
    }
}
