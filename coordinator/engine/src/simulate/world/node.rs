//! The coordinator: what a node does around the engine, and what strikes it.

use std::sync::Arc;

use skald_protocol::OperationStatus;

use super::{
    Happening, MOST, Message, Point, TAKE_OVER_MS, World,
    network::{address, service},
};
use crate::{
    call::{Call, Request},
    journal::Record,
    simulate::{
        fault::{InjectedFault, When},
        timeline::{Attempt, What},
    },
    transaction::{Command, Continuity, Decided, Input, Transaction},
};

impl World<'_> {
    pub(super) fn record(&mut self, decided: Decided) {
        if !decided.record || decided.events.is_empty() {
            return;
        }
        self.signal(&decided.events);
        let index = self.records.len();
        self.records.push(self.now);
        let crash = self.faults.iter().find_map(|fault| match fault {
            InjectedFault::Crash { record, when } if *record == index => Some(*when),
            _ => None,
        });
        for fault in self.faults {
            if let InjectedFault::Cancel { record, when } = fault
                && *record == index
            {
                self.cancels.insert(*when == When::Sent);
            }
        }
        if crash == Some(When::Lost) {
            return self.kill(true);
        }
        self.journal.push(Record::new(self.now, decided.events));
        self.crash = self.crash.or(crash);
        self.record_events();
    }

    pub(super) fn decide(&mut self, input: Input) {
        if let Ok(decided) = self.tx.decide(input, self.now) {
            self.record(decided);
        }
    }

    pub(super) fn strike_the_node(&mut self) {
        if self.down {
            return;
        }
        if self.crash == Some(When::Recorded) {
            return self.kill(false);
        }
        if self.cancels.remove(&false) {
            self.cancel();
        }
    }

    pub(super) fn strike_after_sending(&mut self) {
        if self.crash == Some(When::Sent) {
            return self.kill(false);
        }
        if self.cancels.remove(&true) {
            self.cancel();
        }
    }

    pub(super) fn cancel(&mut self) {
        self.note(|| What::Cancelled);
        self.decide(Input::Command(Command::Cancel { reason: None }));
    }

    pub(super) fn kill(&mut self, lost: bool) {
        self.note(|| What::Killed { lost });
        self.crash = None;
        self.down = true;
        self.holder += 1;
        self.after(TAKE_OVER_MS, Happening::Load);
    }

    pub(super) fn load(&mut self) {
        let replayed = Transaction::replay(self.stage.gid.clone(), Arc::clone(&self.stage.plan), self.journal.clone());
        match replayed {
            Ok(tx) => self.tx = tx,
            Err(corrupt) => {
                // The node cannot go on; the verdict shows it.
                self.wrongs.push((String::new(), corrupt.to_string()));
                return;
            }
        }
        self.down = false;
        self.note(|| What::TakenOver);
        let decided = self.tx.load(Continuity::Broken, self.now);
        self.record(decided);
    }

    pub(super) fn send(&mut self) {
        for _ in 0..MOST {
            let owed = self.tx.owed(self.now);
            if owed.is_empty() {
                return;
            }
            for call in owed {
                match self.tx.render(call) {
                    Ok(request) => self.call(call, request),
                    Err(error) => {
                        let of = self.attempt(call);
                        self.unrenderable.push((of.branch.to_string(), call.operation, error.to_string()));
                        self.note(|| What::Unrenderable { of, reason: error.to_string() });
                        self.decide(Input::Unrenderable { call, error });
                        break;
                    }
                }
                if self.down {
                    return;
                }
            }
        }
    }

    pub(super) fn attempt(&self, call: Call) -> Attempt {
        let branch = self.tx.branch_id(call.branch);
        Attempt { branch, operation: call.operation, attempt: call.attempt, ask: call.ask }
    }

    pub(super) fn call(&mut self, call: Call, request: Request) {
        let of = self.attempt(call);
        let service = service(&request);
        self.points.push(Point {
            branch: of.branch.to_string(),
            operation: call.operation,
            ask: call.ask,
            attempt: call.attempt,
            asynchronous: request.asynchronous,
        });
        if self.timeline.is_some() {
            let (to, of) = (service.clone(), of.clone());
            let (method, target, body) = (request.method.clone(), address(&request), request.body.clone());
            self.note(|| What::Call { of, service: to, method, target, body });
        }
        let (timeout, asynchronous) = (request.timeout, request.asynchronous);
        let key = (call.branch, call.operation, self.question(call));
        match self.first.get(&key) {
            None => drop(self.first.insert(key, request)),
            Some(first) if *first != request => {
                let what = format!("attempt {} of its {} differs from an earlier one", call.attempt, call.operation);
                self.wrongs.push((of.branch.to_string(), what));
            }
            Some(_) => {}
        }
        self.tx.sent(call, self.now);
        let strike = self.strike(&of);
        let message = self.messages.len();
        let holder = self.holder;
        self.messages.push(Message { call, of, service, asynchronous, holder, awaited: true, strike });
        self.after(i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX), Happening::Expire { message });
        self.travel(message, strike, timeout);
    }

    /// A pending operation is polled, one that is owed is asked about: other requests.
    pub(super) fn question(&self, call: Call) -> Option<OperationStatus> {
        let view = call.ask.then(|| self.tx.branch_view(call.branch))?;
        view.operations.iter().find(|operation| operation.operation == call.operation).map(|operation| operation.status)
    }
}
