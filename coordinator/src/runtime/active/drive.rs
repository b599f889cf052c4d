//! From what is owed to calls, and from what is not to a wake or to sleep.

use std::{sync::Arc, time::Duration};

use skald_engine::{Call, Input, Unrendered};
use skald_protocol::Timestamp;

use super::{Busy, Held};
use crate::{
    dispatch::{Outgoing, Permit},
    runtime::{
        inbox::{Slot, Work},
        outlet::Outlet,
    },
};

/// Between two looks at one that is due; longer while its calls cannot go out.
const LEAST_PAUSE: Duration = Duration::from_millis(10);
const BLOCKED_PAUSE: Duration = Duration::from_secs(1);

impl Held {
    /// Sends what is owed and due, as far as this node may and there are places for the answers.
    pub(in crate::runtime) fn drive(&mut self, out: &mut Outlet) {
        if self.busy != Busy::No || self.retired || !out.drives(self.shard) {
            return;
        }
        self.undriven = false;
        for call in self.tx.owed(out.now) {
            let Some(permit) = out.place() else {
                if !std::mem::replace(&mut self.starved, true) {
                    out.starved.push_back((self.tx.gid().clone(), self.ticket));
                }
                return;
            };
            let lent = out.turn.lend();
            let mut left = lent.clone();
            let rendered = self.tx.render_within(call, &mut left);
            let heavy = out.turn.take_back(&lent, &left);
            if rendered != Err(Unrendered::Later) {
                self.tx.sent(call, out.now);
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
                        permit: self.permit(out),
                    };
                    let slot = Slot::new(permit, self.ticket, self.tx.gid().clone(), call);
                    out.dispatcher.send(outgoing, slot);
                }
                Err(Unrendered::Never(error)) => {
                    self.push(Work::Input(Input::Unrenderable { call, error }), out);
                }
                Err(Unrendered::Later) => {
                    (self.undriven, self.heavy) = (true, self.heavy || heavy);
                    return;
                }
            }
        }
    }

    /// A call may wait long on its way: it goes out only while this node may send and still holds the transaction.
    fn permit(&self, out: &Outlet) -> Permit {
        let (clock, stay) = (Arc::clone(&out.clock), Arc::downgrade(&self.stay));
        Permit::new(move || stay.strong_count() > 0 && clock.may_send())
    }

    /// A call came back unsent: it is owed again.
    pub(in crate::runtime) fn withheld(&mut self, call: Call, out: &mut Outlet) {
        self.tx.withheld(call);
        self.rest(out);
    }

    /// A place may be free for one that starved.
    pub(in crate::runtime) fn fed(&mut self, out: &mut Outlet) {
        self.starved = false;
        self.drive(out);
        self.again(out);
    }

    /// Arms the next wake, or leaves memory if it is far.
    pub(in crate::runtime) fn rest(&mut self, out: &mut Outlet) {
        if self.retired || self.busy != Busy::No {
            return;
        }
        let wake = self.tx.next_wake();
        let far = wake.is_none_or(|wake| wake > out.now.plus(out.park_beyond));
        self.watchers.retain(|watcher| !watcher.is_closed());
        self.waiters.retain(|(_, answer)| !answer.is_closed());
        if self.tx.goes_on() {
            return;
        }
        if far && self.tx.in_flight() == 0 && self.queue.is_empty() && !self.undriven && self.parking.is_none() {
            let leave_at = self.touched.plus(out.linger);
            if out.now >= leave_at && self.waiters.is_empty() && self.watchers.is_empty() {
                self.parking = Some(self.next_seq);
                self.row_sleeps = true;
                return self.submit(wake, out.parked_by(self.shard), None, out);
            }
            return self.arm(leave_at.max(out.now.plus(out.linger / 2)), out);
        }
        if let Some(wake) = wake {
            self.arm(wake, out);
        }
    }

    fn arm(&mut self, at: Timestamp, out: &mut Outlet) {
        // What is due already and was not done now (no place, no lease) is not asked for in a circle.
        let blocked = self.starved || !out.drives(self.shard);
        let at = at.max(out.now.plus(if blocked { BLOCKED_PAUSE } else { LEAST_PAUSE }));
        if at < self.armed {
            self.armed = at;
            out.timers.push(at, self.tx.gid().clone(), self.ticket);
        }
    }

    /// Its timer fired.
    pub(in crate::runtime) fn wake(&mut self, out: &mut Outlet) {
        self.armed = Timestamp::NEVER;
        if self.busy != Busy::No || self.retired {
            return;
        }
        if self.tx.next_wake().is_some_and(|wake| wake <= out.now) {
            self.push(Work::Input(Input::Tick), out);
        } else {
            self.rest(out);
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
