//! What goes on beside the requests: one session after another, gauges, retention, setting aside.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use skald_protocol::Gid;
use tokio::{sync::mpsc, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{Inner, OVERTAKEN, POLL, POLL_MAX};
use crate::{
    runtime::{
        Shared,
        clock::{Jump, Moment},
        membership::{Drain, End, Membership},
        session::NodeSession,
    },
    store::{Error, Joined},
};

const JOIN_PAUSE: Duration = Duration::from_millis(200);
const JOIN_PAUSE_MAX: Duration = Duration::from_secs(5);
/// It looks at all transactions.
const PLANS_EVERY: Duration = Duration::from_secs(3600);
/// At least: tasks bring again with a begin what they have known as stored for `KNOWN_FOR`, far less than this.
const PLANS_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// Of one batch of retention.
const PRUNE: usize = 500;

impl Inner {
    /// One session after another.
    pub(super) async fn live(
        self: Arc<Self>,
        mut membership: Membership,
        mut timeline: Option<u32>,
        mut drains: mpsc::Receiver<Drain>,
        stop: CancellationToken,
    ) {
        loop {
            let ended = membership.session();
            let end = membership.run(&mut drains).await;
            self.current.send_replace(None);
            match end {
                End::Left => return,
                End::Damaged => return self.stand_still(drains).await,
                End::Deposed => {}
            }
            tracing::warn!("this node was deposed: everything in memory is dropped");
            self.shared.metrics.deposed();
            let mut pause = JOIN_PAUSE;
            let mut ended = Some(ended);
            membership = loop {
                if let Ok(Drain { done, .. }) = drains.try_recv() {
                    let _ = done.send(());
                    return;
                }
                match self.join_again(&mut ended, &mut timeline).await {
                    Ok((asked, joined)) => {
                        break Membership::open(Arc::clone(&self.shared), &joined, asked, stop.child_token());
                    }
                    Err(Error::Damaged(_)) => return self.stand_still(drains).await,
                    Err(error) => tracing::warn!(%error, "this node cannot join again yet"),
                }
                sleep(pause).await;
                pause = (pause * 2).min(JOIN_PAUSE_MAX);
            };
            self.current.send_replace(Some(membership.session()));
        }
    }

    /// `ended`: the session before, until it is known whether the database has all of it.
    async fn join_again(
        &self,
        ended: &mut Option<Arc<NodeSession>>,
        timeline: &mut Option<u32>,
    ) -> Result<(Moment, Joined), Error> {
        let Shared { options, .. } = &*self.shared;
        if let Some(session) = ended {
            let now = self.shared.members().timeline().await;
            self.shared.look_back(session, [*timeline, now]).await?;
            (*ended, *timeline) = (None, now);
        }
        let asked = Moment::now();
        Ok((asked, self.shared.members().join(&options.address, options.lease).await?))
    }

    /// Says why, and waits to be stopped.
    async fn stand_still(&self, mut drains: mpsc::Receiver<Drain>) {
        let damage = self.damage.borrow().clone().unwrap_or_default();
        tracing::error!("{damage}");
        self.shared.metrics.database_damaged();
        while let Some(Drain { done, .. }) = drains.recv().await {
            let _ = done.send(());
        }
    }

    /// Gauges that are cheaper to read than to keep.
    pub(super) fn observe(self: &Arc<Self>) {
        let inner = Arc::downgrade(self);
        self.shared.metrics.before_render(move |metrics| {
            let session = inner.upgrade().and_then(|inner| inner.current.borrow().clone());
            let count = |depth: usize| i64::try_from(depth).unwrap_or(i64::MAX);
            metrics.in_memory.set(session.as_ref().map_or(0, |session| count(session.in_memory())));
            metrics.inbox_depth.set(session.as_ref().map_or(0, |session| count(session.inbox_depth())));
            metrics.journal_depth.set(session.as_ref().map_or(0, |session| count(session.journal.depth())));
            metrics.overdue.set(session.as_ref().map_or(0.0, |session| session.overdue().as_secs_f64()));
        });
    }

    /// Retention, in small batches; also counts those who wait for an operator.
    pub(super) async fn retain(self: Arc<Self>) {
        let options = &self.shared.options;
        let mut plans_at = Instant::now();
        loop {
            sleep(options.prune_every).await;
            if self.draining.load(Ordering::Acquire) {
                return;
            }
            let Some(now) = self.current.borrow().as_ref().map(|session| session.clock.now()) else { continue };
            let before = |keep: Duration| {
                skald_protocol::Timestamp(now.0.saturating_sub(i64::try_from(keep.as_millis()).unwrap_or(i64::MAX)))
            };
            let (journals, tombstones) = (before(options.keep_journals), before(options.keep_tombstones));
            loop {
                match self.shared.store.prune(journals, tombstones, PRUNE).await {
                    Ok((0, 0)) => break,
                    Ok((journals, tombstones)) => tracing::debug!(journals, tombstones, "retention removed"),
                    Err(error) => {
                        tracing::warn!(%error, "retention failed");
                        break;
                    }
                }
                sleep(POLL).await;
            }
            if plans_at.elapsed() >= PLANS_EVERY {
                plans_at = Instant::now();
                match self.shared.store.prune_plans(options.keep_journals.max(PLANS_KEPT)).await {
                    Ok(plans) => tracing::debug!(plans, "retention removed plans that nothing uses"),
                    Err(error) => tracing::warn!(%error, "plans that nothing uses cannot be removed"),
                }
            }
        }
    }
}

impl Shared {
    pub(in crate::runtime) fn clock_jumped(&self, Jump(by_ms): Jump) {
        let (direction, by) =
            if by_ms < 0 { ("back", by_ms.unsigned_abs()) } else { ("forward", by_ms.unsigned_abs()) };
        let by = Duration::from_millis(by);
        tracing::warn!(
            "The database's clock was set {direction} by {by:?}. Timeouts, retries and waits go on unmoved; recorded times \
             approach the new time by 1 % of the time that passes, or at once when this node is restarted."
        );
        self.metrics.clock_jumped(direction);
    }

    /// Sets a transaction aside, however long the database makes it take.
    pub(in crate::runtime) fn quarantine(self: &Arc<Self>, gid: Gid, reason: String) {
        tracing::error!(%gid, reason, "a transaction is quarantined");
        self.metrics.quarantined();
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            let mut pause = POLL;
            for _ in 0..OVERTAKEN {
                match shared.store.quarantine(&gid, &reason).await {
                    Ok(()) => return,
                    Err(error) => tracing::warn!(%gid, %error, "a transaction cannot be set aside yet"),
                }
                sleep(pause).await;
                pause = (pause * 2).min(POLL_MAX);
            }
        });
    }
}
