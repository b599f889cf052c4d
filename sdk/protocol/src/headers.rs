//! The headers of PARTICIPANT.md, in the lower case that HTTP/2 asks for.

pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
pub const SKALD_TRANSACTION: &str = "skald-transaction";
pub const SKALD_BRANCH: &str = "skald-branch";
pub const SKALD_OPERATION: &str = "skald-operation";
pub const SKALD_ATTEMPT: &str = "skald-attempt";
pub const SKALD_BEGAN: &str = "skald-began";
pub const SKALD_DEADLINE: &str = "skald-deadline";
pub const SKALD_CALLBACK: &str = "skald-callback";
pub const SKALD_BARRIER: &str = "skald-barrier";
