//! What comes into memory: because somebody waits, because it is due, or because another node moved what is held.

use std::{sync::Arc, time::Duration};

use skald_protocol::Gid;
use tokio::time::sleep;

use super::ShardTask;
use crate::{
    runtime::{
        Error,
        held::{Appending, Busy, Held},
        inbox::{Ask, Control, Purpose, Report, Work},
        load::{self, Found, guarded},
    },
    store,
};

/// After the database could not be asked for a page.
const LOAD_PAUSE: Duration = Duration::from_millis(500);

impl ShardTask {
    /// Another node moved first (or, of a begin, the gid is taken).
    pub(super) fn overtaken(&mut self, gid: Gid, after: Duration) {
        let Some(held) = self.held.get_mut(&gid) else { return };
        match held.append {
            Appending::Begin => {
                // The database knows what has the gid.
                if let Some(held) = self.held.remove(&gid) {
                    held.dismiss();
                }
            }
            // It was not adopted, so nothing is known that a fresh load would lose.
            Appending::Adoption => {
                if let Some(held) = self.held.remove(&gid) {
                    self.loading.insert(gid.clone(), held.into_works());
                    self.loads += 1;
                    self.spawn_load(Purpose::Hold, vec![gid], after);
                }
            }
            Appending::Decision => {
                held.busy = Busy::Reloading;
                self.spawn_load(Purpose::Reload, vec![gid], after);
            }
        }
    }

    /// The database does not take it: nothing was written, and what was decided is decided again later.
    pub(super) fn refused(&mut self, gid: Gid) {
        if self.held.get(&gid).is_some_and(|held| held.append == Appending::Begin) {
            if let Some(held) = self.held.remove(&gid) {
                held.fail(|| Error::Store(store::Error::Refused("the transaction was not stored".to_owned())));
            }
        } else {
            self.overtaken(gid, 2 * LOAD_PAUSE);
        }
    }

    /// One who waited for it gave up, so it was not written: what the others asked is done again.
    pub(super) fn withdrawn(&mut self, gid: &Gid) {
        if self.held.get(gid).is_none_or(|held| held.append != Appending::Begin) {
            return self.overtaken(gid.clone(), Duration::ZERO);
        }
        for work in self.held.remove(gid).map(|held| held.into_works()).unwrap_or_default() {
            self.ask(Ask { gid: gid.clone(), work });
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
            (Purpose::Reload, Found::Here(replayed)) if self.out.shards.contains_key(&replayed.row.shard) => {
                self.with(&gid, |held, out| {
                    if held.busy == Busy::Reloading {
                        held.reload(*replayed, out);
                    }
                });
            }
            (Purpose::Reload, _) => {
                if let Some(held) = self.held.remove(&gid) {
                    held.dismiss();
                }
            }
            (Purpose::Hold, Found::Here(replayed)) if self.out.holds(replayed.row.shard) => {
                let works = self.loading.remove(&gid).unwrap_or_default();
                let ticket = self.ticket();
                let out = &mut self.out;
                match guarded("load", || Held::load(*replayed, ticket, works, out)) {
                    Ok(held) => drop(self.held.insert(gid, Box::new(held))),
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
        let page = self.house.options.page;
        while self.loads < self.house.options.pages_in_flight
            && !self.backlog.is_empty()
            && self.held.len() + self.loads * page < self.max_held
        {
            let gids = self.backlog.drain(..page.min(self.backlog.len())).map(|(_, gid)| gid).collect();
            self.loads += 1;
            self.spawn_load(Purpose::Hold, gids, Duration::ZERO);
        }
        if self.backlog.len() < page {
            for more in self.hungry.drain(..) {
                let _ = more.send(());
            }
        }
    }

    pub(super) fn spawn_load(&self, purpose: Purpose, gids: Vec<Gid>, after: Duration) {
        let (house, control) = (Arc::clone(&self.house), self.control.clone());
        tokio::spawn(self.cancel.clone().run_until_cancelled_owned(async move {
            sleep(after).await;
            let message = match load::load(&house.plans, &*house.store, &gids).await {
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
