use std::{process::ExitCode, thread::available_parallelism, time::Duration};

use tokio::runtime::Builder;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// tokio's own name for it.
const THREADS: &str = "TOKIO_WORKER_THREADS";
const MOST_THREADS: usize = 1024;

fn main() -> ExitCode {
    let Some(threads) = threads() else {
        eprintln!("error: {THREADS} must be a whole number from 1 to {MOST_THREADS}");
        return ExitCode::from(2);
    };
    let runtime = match Builder::new_multi_thread().worker_threads(threads).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no threads to run on: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(skald::cli::run(std::env::args_os()));
    // Whatever still runs was told to stop and did not: the journal makes up for it.
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}

/// All cores but one: the kernel's work for the connections, and on a small machine the database, need that one. Two
/// threads on two cores cost a quarter more of the processor for the same throughput, and each hop between them a wake.
fn threads() -> Option<usize> {
    match std::env::var_os(THREADS) {
        None => Some(available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1))),
        // tokio would panic on what is none.
        Some(text) => text.to_str()?.parse().ok().filter(|threads| (1..=MOST_THREADS).contains(threads)),
    }
}
