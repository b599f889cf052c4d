//! Polling is the truth: what is due in this node's shards and not in memory is found here.
//!
//! A row's next wake is never too late, so a shard that has just been taken is swept as a whole: that is recovery. After
//! that, what becomes due has a recent `next_wake_at` (a sleeper wakes, or another node's append woke it), so each sweep
//! looks only at a short window; a whole one now and then forgives what a window missed. Where clocks were set, all that
//! sleeps in a shard is looked at when the shard is taken: a row's time may be by another clock than this node's.

use std::{sync::Arc, time::Duration};

use skald_protocol::{Gid, Status, Timestamp};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval},
};

use super::{Shared, clock::Clock, inbox::Control, session::NodeSession};
use crate::store::{Error, Filter};

/// A commit may become visible this much later than the time it carries.
const OVERLAP: Duration = Duration::from_secs(10);
const WHOLE_EVERY: Duration = Duration::from_secs(60);
const FOREIGN: usize = 1000;
const COUNT_EVERY: Duration = Duration::from_secs(15);
/// Whoever has more of them to look at need not know how many.
const COUNT: usize = 1000;

pub(super) struct Sweeper {
    pub(super) shared: Arc<Shared>,
    pub(super) session: Arc<NodeSession>,
    /// Shards that have just become this node's.
    pub(super) gained: mpsc::UnboundedReceiver<Vec<i32>>,
}

impl Sweeper {
    pub(super) async fn run(mut self) {
        let mut tick = interval(self.shared.options.sweep_every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut swept: Option<Timestamp> = None;
        let mut whole = Instant::now();
        let mut counted: Option<Instant> = None;
        loop {
            tokio::select! {
                Some(shards) = self.gained.recv() => {
                    let (shared, session) = (Arc::clone(&self.shared), Arc::clone(&self.session));
                    let cancel = session.cancel.clone();
                    tokio::spawn(cancel.run_until_cancelled_owned(async move {
                        until_done(&shared, &session, &shards).await;
                    }));
                }
                _ = tick.tick() => {
                    let shards = self.session.owned();
                    if shards.is_empty() {
                        continue;
                    }
                    let now = self.session.clock.now();
                    let from = swept.filter(|_| whole.elapsed() < WHOLE_EVERY).map(|swept| Timestamp(swept.0 - millis(OVERLAP)));
                    if from.is_none() {
                        whole = Instant::now();
                    }
                    match self.sweep(&shards, from, now).await {
                        Ok(()) => swept = Some(now),
                        Err(error) => tracing::debug!(%error, "a sweep failed"),
                    }
                    if counted.is_none_or(|counted| counted.elapsed() >= COUNT_EVERY) {
                        counted = Some(Instant::now());
                        self.count_suspended().await;
                    }
                }
            }
        }
    }

    /// They leave memory, so only the database knows how many wait for a person.
    async fn count_suspended(&self) {
        let filter = Filter { status: vec![Status::Suspended], limit: COUNT, ..Filter::default() };
        if let Ok(suspended) = self.shared.store.list(&filter).await {
            self.shared.metrics.suspended.set(i64::try_from(suspended.len()).unwrap_or(i64::MAX));
        }
    }

    async fn sweep(&self, shards: &[i32], from: Option<Timestamp>, now: Timestamp) -> Result<(), Error> {
        pass(&self.shared, &self.session, shards, from, now.plus(self.shared.options.lookahead())).await?;
        let on_change = self.shared.store.foreign(shards, FOREIGN).await?;
        for (task, on_change) in self.session.by_task(on_change, |(gid, _)| gid) {
            self.session.send_control(task, Control::Foreign(on_change));
        }
        Ok(())
    }
}

/// The whole of some shards, however long the database makes it take.
async fn until_done(shared: &Shared, session: &NodeSession, shards: &[i32]) {
    let upto = |clock: &Clock| match clock.disagrees() {
        // A recorded delay counts from the load at most, and this is the only way to see how long it was.
        true => Timestamp::NEVER,
        false => clock.now().plus(shared.options.lookahead()),
    };
    while let Err(error) = pass(shared, session, shards, None, upto(&session.clock)).await {
        tracing::warn!(%error, shards = shards.len(), "new shards cannot be swept yet");
        tokio::time::sleep(shared.options.sweep_every).await;
    }
    tracing::debug!(shards = shards.len(), "new shards are swept");
}

async fn pass(
    shared: &Shared,
    session: &NodeSession,
    shards: &[i32],
    from: Option<Timestamp>,
    upto: Timestamp,
) -> Result<(), Error> {
    // `-` is the first of a gid's alphabet.
    let mut after = from.and_then(|from| Some((from, Gid::new("-").ok()?)));
    loop {
        let page = shared.store.due(shards, upto, after, shared.options.page).await?;
        after = page.last().cloned();
        let last = page.len() < shared.options.page;
        let mut room = Vec::new();
        for (task, due) in session.by_task(page, |(_, gid)| gid) {
            let (more, wanted) = oneshot::channel();
            session.send_control(task, Control::Due(due, more));
            room.push(wanted);
        }
        if last {
            return Ok(());
        }
        for wanted in room {
            let _ = wanted.await;
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
