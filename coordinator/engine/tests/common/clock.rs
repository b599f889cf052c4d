//! How long work takes, other work on the machine left out.

use std::time::Duration;

/// What the thread has had of a CPU so far (Linux, `schedstat`); elsewhere the time that has passed.
pub(crate) fn spent() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = stat.and_then(|stat| stat.split_whitespace().next()?.parse().ok());
    nanoseconds.map_or_else(passed, Duration::from_nanos)
}

fn passed() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}
