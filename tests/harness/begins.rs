//! Clients that begin one transaction after another.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use tokio::task::JoinSet;

use crate::{Client, definition::with_gid};

/// Each has one begin under way at most.
pub const CLIENTS: usize = 4;

/// Begins without end until it is told to stop; the gids that were acknowledged.
pub struct Begins {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Vec<String>>>,
    clients: JoinSet<()>,
}

impl Begins {
    #[must_use]
    pub fn start(client: &Client, body: &Value) -> Self {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let (client, body) = (client.clone(), body.clone());
            let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
            clients.spawn(async move {
                for turn in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let gid = format!("begin-{number}-{turn}");
                    if begun(&client, &with_gid(body.clone(), &gid)).await {
                        acknowledged.lock().expect("no client panicked").push(gid);
                    }
                }
            });
        }
        Self { stop, acknowledged, clients }
    }

    /// How many were acknowledged so far.
    ///
    /// # Panics
    /// If a client did.
    #[must_use]
    pub fn count(&self) -> usize {
        self.acknowledged.lock().expect("no client panicked").len()
    }

    /// The gids that were acknowledged, in that order.
    ///
    /// # Panics
    /// If a client did.
    pub async fn stop(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.join_all().await;
        std::mem::take(&mut self.acknowledged.lock().expect("no client panicked"))
    }
}

/// Whether a begin is acknowledged within a second.
async fn begun(client: &Client, body: &Value) -> bool {
    let answer = tokio::time::timeout(Duration::from_secs(1), client.try_post("/v1/transactions", body, None)).await;
    matches!(answer, Ok(Ok(answer)) if answer.is_success())
}
