//! The limits of docs/workflows.md. Over one of them is a 4xx with its code, and nothing is stored.

use std::time::Duration;

pub const REQUEST_BODY: usize = 1 << 20;
pub const DEFINITION: usize = 256 << 10;
pub const INPUT: usize = 256 << 10;
/// Of one step.
pub const OUTPUT: usize = 256 << 10;
/// Of an answer that a step's `output` takes its part of; what is kept is bounded by `OUTPUT`.
pub const MAPPED_ANSWER: usize = 4 << 20;
/// Of one transaction, in encoded bytes.
pub const JOURNAL: usize = 16 << 20;
pub const JSON_DEPTH: usize = 64;
pub const STEPS: usize = 1_000;
pub const MAP_ITEMS: usize = 10_000;
/// Of one transaction, those of its maps' items included.
pub const BRANCHES: usize = 50_000;
pub const SIGNALS: usize = 100;
/// Of operators' requests to one transaction.
pub const IDEMPOTENCY_KEYS: usize = 1_000;
pub const SIGNAL_NAME: usize = 128;
pub const LABELS: usize = 16;
pub const LABEL_KEY: usize = 63;
pub const LABEL_VALUE: usize = 255;
pub const PREFER_WAIT: Duration = Duration::from_secs(60);
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5 * 60);
pub const ATTEMPTS: u32 = 1_000;
/// Of a transaction, and of a pending operation.
pub const TIMEOUT: Duration = Duration::from_secs(365 * 24 * 3600);
/// Steps of evaluation (`cel::COST`) of all that a transaction evaluates from one call's outcome to the next call's. What
/// takes less than a thousand at once is not counted.
pub const EVALUATED: u64 = 5_000_000;
/// Records between two snapshots, at least.
pub const SNAPSHOT_EVERY: u64 = 512;

/// Where a JSON text first nests deeper than `JSON_DEPTH`; everything else about it is a parser's to judge.
#[must_use]
pub fn too_deep(text: &[u8]) -> Option<usize> {
    // What opens so few does not nest deeper, whatever of it stands in strings.
    if text.iter().filter(|byte| matches!(byte, b'{' | b'[')).count() <= JSON_DEPTH {
        return None;
    }
    let mut depth = 0usize;
    let mut bytes = text.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'{' | b'[' if depth == JSON_DEPTH => return Some(at),
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                while let Some((_, byte)) = bytes.next() {
                    match byte {
                        b'\\' => drop(bytes.next()),
                        b'"' => break,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    None
}
