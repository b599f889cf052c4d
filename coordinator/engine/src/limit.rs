//! The limits of docs/workflows.md. Over one of them is a 4xx with its code, and nothing is stored.

use std::time::Duration;

pub const REQUEST_BODY: usize = 1 << 20;
pub const DEFINITION: usize = 256 << 10;
pub const INPUT: usize = 256 << 10;
/// Of one step.
pub const OUTPUT: usize = 256 << 10;
/// Of one transaction, in encoded bytes.
pub const JOURNAL: usize = 16 << 20;
pub const JSON_DEPTH: usize = 64;
pub const STEPS: usize = 1_000;
pub const MAP_ITEMS: usize = 10_000;
/// Of one transaction, those of its maps' items included.
pub const BRANCHES: usize = 50_000;
pub const SIGNALS: usize = 100;
pub const SIGNAL_NAME: usize = 128;
pub const LABELS: usize = 16;
pub const LABEL_KEY: usize = 63;
pub const LABEL_VALUE: usize = 255;
pub const PREFER_WAIT: Duration = Duration::from_secs(60);
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5 * 60);
pub const ATTEMPTS: u32 = 1_000;
/// Of a transaction, and of a pending operation.
pub const TIMEOUT: Duration = Duration::from_secs(365 * 24 * 3600);
/// Records between two snapshots, at least.
pub const SNAPSHOT_EVERY: u64 = 512;
