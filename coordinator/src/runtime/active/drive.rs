//! From what is owed to calls, and from what is not to a wake or to sleep.

use std::{sync::Arc, time::Duration};

use skald_engine::{Call, Input, Unrendered};
use skald_protocol::Timestamp;

use super::{ActiveTransaction, Busy};
use crate::{
    dispatch::{Outgoing, Permit},
    runtime::{
        context::TaskContext,
        inbox::{ReservedSlot, Work},
    },
};

/// Between two looks at one that is due; longer while its calls cannot go out.
const LEAST_PAUSE: Duration = Duration::from_millis(10);
const BLOCKED_PAUSE: Duration = Duration::from_secs(1);

impl ActiveTransaction {
    /// Sends what is owed and due, as far as this node may and there are places for the answers.
    pub(in crate::runtime) fn drive(&mut self, context: &mut TaskContext) {
        if self.busy != Busy::No || self.retired || !context.drives(self.shard) {
            return;
        }
        self.undriven = false;
        for call in self.tx.owed(context.now) {
            let Some(permit) = context.place() else {
                if !std::mem::replace(&mut self.awaiting_permit, true) {
                    context.awaiting_permit.push_back((self.tx.gid().clone(), self.ticket));
                }
                return;
            };
            let lent = context.turn.lend();
            let mut left = lent.clone();
            let rendered = self.tx.render_within(call, &mut left);
            let heavy = context.turn.take_back(&lent, &left);
            if rendered != Err(Unrendered::Later) {
                self.tx.sent(call, context.now);
            }
            match rendered {
                Ok(request) => {
                    let began = self.tx.began();
                    let outgoing = Outgoing {
                        gid: self.tx.gid().clone(),
                        call,
                        request,
                        plan: Arc::clone(self.tx.plan()),
                        trace: began.trace.clone(),
                        began_at: self.tx.began_at(),
                        contract: began.contract.clone(),
                        permit: self.permit(context),
                    };
                    let slot = ReservedSlot::new(permit, self.ticket, self.tx.gid().clone(), call);
                    context.dispatcher.send(outgoing, slot);
                }
                Err(Unrendered::Never(error)) => {
                    self.push(Work::Input(Input::Unrenderable { call, error }), context);
                }
                Err(Unrendered::Later) => {
                    (self.undriven, self.heavy) = (true, self.heavy || heavy);
                    return;
                }
            }
        }
    }

    /// A call may wait long on its way: it goes out only while this node may send and still holds the transaction.
    fn permit(&self, context: &TaskContext) -> Permit {
        let (clock, stay) = (Arc::clone(&context.clock), Arc::downgrade(&self.stay));
        Permit::new(move || stay.strong_count() > 0 && clock.may_send())
    }

    /// A call came back unsent: it is owed again.
    pub(in crate::runtime) fn withheld(&mut self, call: Call, context: &mut TaskContext) {
        self.tx.withheld(call);
        self.rest(context);
    }

    /// A place may be free for one that starved.
    pub(in crate::runtime) fn on_permit(&mut self, context: &mut TaskContext) {
        self.awaiting_permit = false;
        self.drive(context);
        self.again(context);
    }

    /// Arms the next wake, or leaves memory if it is far.
    pub(in crate::runtime) fn rest(&mut self, context: &mut TaskContext) {
        if self.retired || self.busy != Busy::No {
            return;
        }
        let wake = self.tx.next_wake();
        let far = wake.is_none_or(|wake| wake > context.now.plus(context.park_beyond));
        self.watchers.retain(|watcher| !watcher.is_closed());
        self.waiters.retain(|(_, responder)| !responder.is_closed());
        if self.tx.goes_on() {
            return;
        }
        if far && self.tx.in_flight() == 0 && self.queue.is_empty() && !self.undriven && self.parking.is_none() {
            let leave_at = self.touched.plus(context.linger);
            if context.now >= leave_at && self.waiters.is_empty() && self.watchers.is_empty() {
                self.parking = Some(self.next_seq);
                self.row_sleeps = true;
                return self.submit(wake, context.parked_by(self.shard), None, context);
            }
            return self.arm(leave_at.max(context.now.plus(context.linger / 2)), context);
        }
        if let Some(wake) = wake {
            self.arm(wake, context);
        }
    }

    fn arm(&mut self, at: Timestamp, context: &mut TaskContext) {
        // What is due already and was not done now (no place, no lease) is not asked for in a circle.
        let blocked = self.awaiting_permit || !context.drives(self.shard);
        let at = at.max(context.now.plus(if blocked { BLOCKED_PAUSE } else { LEAST_PAUSE }));
        if at < self.armed {
            self.armed = at;
            context.timers.push(at, self.tx.gid().clone(), self.ticket);
        }
    }

    /// Its timer fired.
    pub(in crate::runtime) fn wake(&mut self, context: &mut TaskContext) {
        self.armed = Timestamp::NEVER;
        if self.busy != Busy::No || self.retired {
            return;
        }
        if self.tx.next_wake().is_some_and(|wake| wake <= context.now) {
            self.push(Work::Input(Input::Tick), context);
        } else {
            self.rest(context);
        }
    }

    /// Its parking projection is written (or void): whether it may leave memory now.
    pub(in crate::runtime) fn parked(&mut self, seq: u64) -> bool {
        let parked = self.parking == Some(seq)
            && self.next_seq == seq
            && self.busy == Busy::No
            && self.queue.is_empty()
            && self.waiters.is_empty()
            && self.tx.in_flight() == 0;
        self.parking = None;
        parked
    }

    /// Nothing of it is under way here.
    pub(in crate::runtime) fn at_rest(&self) -> bool {
        self.busy == Busy::No && self.queue.is_empty() && self.tx.in_flight() == 0
    }
}
