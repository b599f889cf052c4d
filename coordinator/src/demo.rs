//! `skald demo`.

/// What `skald demo` takes.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Leave everything up until ctrl-c.
    #[arg(long)]
    serve: bool,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error(transparent)]
    Client(#[from] skald_sdk::Error),
    /// Something did not end as it must.
    #[error("{0} of the demo's orders did not end as they should")]
    Unexpected(usize),
}

pub async fn run(options: &Options) -> Result<(), Error> {
    let _ = options.serve;
    unimplemented!()
}
