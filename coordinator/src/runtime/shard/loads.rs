//! What comes into memory: because somebody waits, because it is due, or because another node moved what is held.

use std::{sync::Arc, time::Duration};

use skald_protocol::Gid;
use tokio::time::sleep;

use super::ShardTask;
use crate::{
    runtime::{
        Error,
        active::{ActiveTransaction, Appending, Busy},
        inbox::{Control, Purpose, Report, TaskRequest, Work},
        load::{self, Found, guarded},
    },
    store,
};

/// After the database could not be asked for a page.
const LOAD_PAUSE: Duration = Duration::from_millis(500);

impl ShardTask {
    /// Another node moved first (or, of a begin, the gid is taken).
    pub(super) fn overtaken(&mut self, gid: Gid, after: Duration) {
        let Some(active) = self.active.get_mut(&gid) else { return };
        match active.append {
            Appending::Begin => {
                // The database knows what has the gid.
                if let Some(active) = self.active.remove(&gid) {
                    active.dismiss();
                }
            }
            // It was not adopted, so nothing is known that a fresh load would lose.
            Appending::Adoption => {
                if let Some(active) = self.active.remove(&gid) {
                    self.loading.insert(gid.clone(), active.into_works());
                    self.loads += 1;
                    self.spawn_load(Purpose::Hold, vec![gid], after);
                }
            }
            Appending::Decision => {
                active.busy = Busy::Reloading;
                self.spawn_load(Purpose::Reload, vec![gid], after);
            }
        }
    }

    /// The database does not take it: nothing was written, and what was decided is decided again later.
    pub(super) fn refused(&mut self, gid: Gid) {
        if self.active.get(&gid).is_some_and(|active| active.append == Appending::Begin) {
            if let Some(active) = self.active.remove(&gid) {
                active.fail(|| Error::Store(store::Error::Refused("the transaction was not stored".to_owned())));
            }
        } else {
            self.overtaken(gid, 2 * LOAD_PAUSE);
        }
    }

    /// One who waited for it gave up, so it was not written: what the others asked is done again.
    pub(super) fn withdrawn(&mut self, gid: &Gid) {
        if self.active.get(gid).is_none_or(|active| active.append != Appending::Begin) {
            return self.overtaken(gid.clone(), Duration::ZERO);
        }
        for work in self.active.remove(gid).map(|active| active.into_works()).unwrap_or_default() {
            self.request(TaskRequest { gid: gid.clone(), work });
        }
    }

    pub(super) fn loaded(&mut self, purpose: Purpose, gid: Gid, found: Found) {
        if let Found::Corrupt(_, reason) = found {
            if let Some(works) = self.loading.remove(&gid) {
                works.into_iter().for_each(Work::refuse);
            }
            return self.quarantine(&gid, reason);
        }
        if let Found::Newer(row) = &found {
            let _ = self.reports.send(Report::Unreadable { shard: row.shard });
        }
        match (purpose, found) {
            (Purpose::Reload, Found::Here(replayed)) if self.context.shards.contains_key(&replayed.row.shard) => {
                self.with(&gid, |active, context| {
                    if active.busy == Busy::Reloading {
                        active.reload(*replayed, context);
                    }
                });
            }
            (Purpose::Reload, _) => {
                if let Some(active) = self.active.remove(&gid) {
                    active.dismiss();
                }
            }
            (Purpose::Hold, Found::Here(replayed)) if self.context.holds(replayed.row.shard) => {
                let works = self.loading.remove(&gid).unwrap_or_default();
                let ticket = self.ticket();
                let context = &mut self.context;
                match guarded("load", || ActiveTransaction::load(*replayed, ticket, works, context)) {
                    Ok(active) => drop(self.active.insert(gid, Box::new(active))),
                    Err(reason) => self.quarantine(&gid, reason),
                }
            }
            (Purpose::Hold, _) => {
                self.loading.remove(&gid).unwrap_or_default().into_iter().for_each(Work::refuse);
            }
        }
    }

    pub(super) fn start_loads(&mut self) {
        if !self.urgent.is_empty() {
            let gids = std::mem::take(&mut self.urgent);
            self.loads += 1;
            self.spawn_load(Purpose::Hold, gids, Duration::ZERO);
        }
        let page = self.shared.options.page;
        while self.loads < self.shared.options.pages_in_flight
            && !self.backlog.is_empty()
            && self.active.len() + self.loads * page < self.max_held
        {
            let gids = self.backlog.drain(..page.min(self.backlog.len())).map(|(_, gid)| gid).collect();
            self.loads += 1;
            self.spawn_load(Purpose::Hold, gids, Duration::ZERO);
        }
        if self.backlog.len() < page {
            for more in self.sweeps_waiting.drain(..) {
                let _ = more.send(());
            }
        }
    }

    pub(super) fn spawn_load(&self, purpose: Purpose, gids: Vec<Gid>, after: Duration) {
        let (shared, control) = (Arc::clone(&self.shared), self.control.clone());
        tokio::spawn(self.cancel.clone().run_until_cancelled_owned(async move {
            sleep(after).await;
            let message = match load::load(&shared.plans, &*shared.store, &gids).await {
                Ok(found) => Control::Loaded(purpose, found),
                Err(error) => {
                    tracing::warn!(%error, transactions = gids.len(), "transactions cannot be loaded now");
                    sleep(LOAD_PAUSE).await;
                    Control::LoadFailed(purpose, gids, error.to_string())
                }
            };
            let _ = control.send(message);
        }));
    }
}
