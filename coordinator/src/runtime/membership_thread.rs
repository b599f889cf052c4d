//! A node's place among the others, kept on a thread of its own: whatever the other threads compute, its heartbeats go out
//! and its lease holds.

use std::{io, sync::Arc, thread};

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::store::Store;

/// What heartbeats go through: connections that no other thread has to serve.
pub struct MembershipStore {
    pub store: Arc<dyn Store>,
    pub thread: MembershipThread,
}

/// It ends when this is dropped.
pub struct MembershipThread {
    handle: Handle,
    _alive: DropGuard,
}

impl MembershipThread {
    pub fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (handle, ended) = (runtime.handle().clone(), CancellationToken::new());
        let end = ended.clone();
        thread::Builder::new().name("membership".to_owned()).spawn(move || runtime.block_on(end.cancelled()))?;
        Ok(Self { handle, _alive: ended.drop_guard() })
    }

    #[must_use]
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }
}
