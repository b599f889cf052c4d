//! The JSON saga language (WORKFLOW.md): a definition is read, proven and lowered to a `Plan`.

use crate::plan::{Branch, Operation, Plan};
use skald_protocol::{BranchRequest, Json};

/// One fault of a definition: a code of WORKFLOW.md, the JSON pointer of its place, what is wrong and what to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub code: &'static str,
    pub pointer: String,
    pub message: String,
    pub help: Option<String>,
}

/// A definition that was proven.
#[derive(Debug, Clone)]
pub struct Compiled {
    pub plan: Plan,
    pub warnings: Vec<Diagnostic>,
    pub labels: std::collections::BTreeMap<String, String>,
    /// The definition's `input` schema, if it states one.
    pub input: Option<InputSchema>,
}

/// A compiled JSON Schema (2020-12) of a definition's input.
#[derive(Debug, Clone)]
pub struct InputSchema {}

impl InputSchema {
    /// All faults of an input, with pointers into it.
    pub fn check(&self, input: &serde_json::Value) -> Result<(), Vec<Diagnostic>> {
        let _ = input;
        unimplemented!()
    }
}

/// Reads, proves and lowers a definition; all faults at once.
pub fn compile(source: &str) -> Result<Compiled, Vec<Diagnostic>> {
    let _ = source;
    unimplemented!()
}

/// Lowers a branch enlisted into an open transaction; pointers are into the request's body.
pub fn enlist(request: &BranchRequest) -> Result<Branch, Vec<Diagnostic>> {
    let _: (Option<Json>, Option<Operation>) = (None, None);
    let _ = request;
    unimplemented!()
}
