//! Calls on their way, and what becomes of them there.

use skald_protocol::Timestamp;

use super::{Happening, Message, PATIENCE, PATIENCE_MS, TAKE_OVER_MS, WAY_MS, World, recorder::recorded_answer};
use crate::{
    call::{Outcome, Reply, Request, Target},
    journal::Error,
    simulate::{
        Strike,
        fault::{InjectedFault, OUTAGE_MS},
        timeline::{Attempt, What},
    },
    transaction::{Command, Input},
};

impl World<'_> {
    /// What strikes this attempt.
    pub(super) fn strike(&mut self, of: &Attempt) -> Option<Strike> {
        let now = self.now;
        // A step's name stands for its branches: a map makes one for each item.
        let step = self.tx.find(&of.branch).map(|branch| self.tx.branch(branch).step.clone());
        for (index, fault) in self.faults.iter().enumerate() {
            let InjectedFault::Strike { branch, operation, ask, attempt, strike } = fault else { continue };
            let named = *branch == of.branch.as_str() || step.as_deref() == Some(branch);
            if !named || *operation != of.operation || *ask != of.ask || of.attempt < *attempt {
                continue;
            }
            let since = *self.struck_at.entry(index).or_insert(now);
            let is_first = of.attempt == *attempt;
            let then = match strike {
                Strike::Exhausted | Strike::Unreachable | Strike::RefusedForEver => Some(*strike),
                Strike::Outage if now.0 - since.0 < OUTAGE_MS => Some(Strike::Outage),
                Strike::Outage => None,
                Strike::DoneThenExhausted if is_first => Some(Strike::TimeoutAfter),
                Strike::DoneThenExhausted => Some(Strike::Exhausted),
                Strike::LateAfterUndo if !is_first => Some(Strike::Unreachable),
                Strike::TimeoutThenRefused if is_first => Some(Strike::Timeout),
                Strike::TimeoutThenRefused if of.attempt == attempt + 1 => Some(Strike::Refused),
                other => is_first.then_some(*other),
            };
            if then.is_some() {
                return then;
            }
        }
        None
    }

    pub(super) fn travel(&mut self, message: usize, strike: Option<Strike>, timeout: std::time::Duration) {
        let arrive = |answered| Happening::Arrive { message, answered };
        match strike {
            Some(Strike::Timeout) => {}
            Some(Strike::Unsent | Strike::Unreachable) => {
                let reply = Reply::of(Outcome::Unsent(Error::new("connect", "connection refused")));
                let reply = self.paced(message, strike, reply);
                self.after(1, Happening::Answer { message, reply });
            }
            Some(Strike::TimeoutAfter) => self.after(WAY_MS, arrive(false)),
            Some(Strike::Duplicate) => {
                self.after(WAY_MS, arrive(true));
                self.after(WAY_MS + 1, arrive(false));
            }
            Some(Strike::DuplicateLate) => {
                self.after(WAY_MS, arrive(true));
                self.held.push(message);
            }
            // What somebody may ask about, and what nothing undoes, ends with its attempt's deadline.
            Some(Strike::Late | Strike::LateAfterUndo) if !self.may_outlive(message) => {
                let timeout = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
                self.after((timeout - 1).max(0), arrive(false));
            }
            Some(Strike::Late | Strike::LateAfterUndo) => self.held.push(message),
            _ => self.after(WAY_MS, arrive(true)),
        }
    }

    pub(super) fn paced(&self, message: usize, strike: Option<Strike>, reply: Reply) -> Reply {
        // Without a strike it is the script that says so.
        let fails = !matches!(reply.outcome, Outcome::Succeeded(_) | Outcome::Pending);
        let lasts = strike.map_or(fails, Strike::is_permanent) && self.messages[message].call.attempt > PATIENCE;
        let retry_after = lasts.then(|| std::time::Duration::from_millis(PATIENCE_MS)).or(reply.retry_after);
        Reply { retry_after, ..reply }
    }

    pub(super) fn may_outlive(&self, message: usize) -> bool {
        let spec = self.tx.branch(self.messages[message].call.branch);
        let asked = spec.forward.as_ref().is_some_and(|operation| operation.status_check.is_some());
        spec.undo.is_some() && !asked
    }

    pub(super) fn after(&mut self, ms: i64, happening: Happening) {
        let at = Timestamp(self.now.0.saturating_add(ms));
        self.next += 1;
        self.queue.insert((at, self.next), happening);
    }

    pub(super) fn happen(&mut self, key: (Timestamp, u64)) {
        let Some(happening) = self.queue.remove(&key) else { return };
        self.now = self.now.max(key.0);
        match happening {
            Happening::Arrive { message, answered } => self.arrive(message, answered),
            Happening::Answer { message, reply } => self.answered(message, reply),
            Happening::Expire { message } => {
                let error = Error::new("timeout", "no answer within the attempt's timeout");
                self.answered(message, Reply::of(Outcome::Unknown(error)));
            }
            Happening::Finish { message, end } => self.finish(message, *end),
            // Callbacks and clients try again until somebody answers.
            Happening::Command(command) if self.down => self.after(TAKE_OVER_MS, Happening::Command(command)),
            Happening::Command(command) => {
                if let Command::Callback { branch, operation, verdict, .. } = &*command {
                    let service = self.service_of(branch.as_str());
                    let (branch, operation, verdict) = (branch.clone(), *operation, *verdict);
                    self.note(|| What::CalledBack { branch, operation, service, verdict });
                }
                if let Command::Signal { name, payload } = &*command {
                    let (name, payload) = (name.clone(), payload.clone());
                    self.note(|| What::Signal { name, payload });
                }
                self.decide(Input::Command(*command));
            }
            Happening::Load => self.load(),
        }
    }

    pub(super) fn answered(&mut self, message: usize, reply: Reply) {
        let Message { awaited, holder, call, .. } = self.messages[message];
        if !awaited || holder != self.holder || self.down {
            return;
        }
        self.messages[message].awaited = false;
        if self.timeline.is_some() {
            let (of, service) = (self.messages[message].of.clone(), self.messages[message].service.clone());
            let what = recorded_answer(of, service, &reply);
            self.note(|| what);
        }
        self.decide(Input::Replied { call, reply });
    }
}

/// What is called: the service or, without one, the host.
pub(super) fn service(request: &Request) -> String {
    match (&request.service, &request.target) {
        (Some(service), _) => service.clone(),
        (None, Target::Url(target)) => {
            let host = url::Url::parse(target).ok().and_then(|url| url.host_str().map(str::to_owned));
            host.unwrap_or_else(|| target.clone())
        }
        (None, Target::Path(_)) => request.branch.to_string(),
    }
}

pub(super) fn address(request: &Request) -> String {
    let (Target::Path(target) | Target::Url(target)) = &request.target;
    let query: Vec<_> = request.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if query.is_empty() { target.clone() } else { format!("{target}?{}", query.join("&")) }
}
