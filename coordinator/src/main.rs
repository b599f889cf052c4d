use std::{io, process::ExitCode, thread::available_parallelism, time::Duration};

use tokio::runtime::{Builder, Runtime};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let runtime = match runtime() {
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
fn runtime() -> io::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    if std::env::var_os("TOKIO_WORKER_THREADS").is_none() {
        builder.worker_threads(available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1)));
    }
    builder.enable_all().build()
}
