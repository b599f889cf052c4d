//! The participants: what they do with a call that reached them.

use std::collections::{BTreeMap, BTreeSet};

use skald_protocol::{CallbackVerdict, Json};

use super::{Happening, Message, WAY_MS, WORK_MS, World, millis};
use crate::{
    call::{Call, Dropped, Outcome, Reply, Response},
    journal::Error,
    outcome::Answered,
    plan::Means,
    simulate::{
        Strike,
        answer::{CallbackOutcome, ScriptedAnswer},
        participant::{Business, How, Manners, response},
        timeline::{Attempt, What},
    },
    transaction::Command,
};

impl World<'_> {
    pub(super) fn arrive(&mut self, message: usize, answered: bool) {
        let Message { call, strike, awaited, holder, .. } = self.messages[message];
        let of = self.messages[message].of.clone();
        if call.operation.is_undo() {
            self.check_order(call.branch, &of);
        }
        // Whoever answers so stands before the participant and its barrier.
        let is_down = matches!(strike, Some(Strike::Unavailable | Strike::Outage | Strike::Exhausted));
        let (reply, how, delay) = match call.ask {
            _ if is_down => {
                let error = Error::new("http_503", "503 Service Unavailable");
                (Reply::of(Outcome::Unknown(error)), How::Failed, 0)
            }
            true => {
                let ledger = self.ledgers.entry(of.branch.to_string()).or_default();
                (Reply::of(ledger.truth(of.operation)), How::Asked, 0)
            }
            false => self.execute(message, &of),
        };
        let late = !(answered && awaited && holder == self.holder);
        if self.timeline.is_some() {
            let service = self.messages[message].service.clone();
            let of = of.clone();
            self.note(|| What::Arrival { of, service, how, late });
        }
        if how == How::Accepted {
            self.work(message, strike);
        }
        if answered {
            let reply = match strike {
                Some(Strike::FailedAfter) => {
                    Reply::of(Outcome::Unknown(Error::new("http_500", "500 Internal Server Error")))
                }
                _ if how == How::Stored && matches!(reply.outcome, Outcome::Refused(_)) => {
                    self.paced(message, Some(Strike::RefusedForEver), reply)
                }
                _ => self.paced(message, strike, reply),
            };
            let reply = if call.ask { reply } else { self.judged(call, reply) };
            self.after(delay + WAY_MS, Happening::Answer { message, reply });
        }
    }

    pub(super) fn execute(&mut self, message: usize, of: &Attempt) -> (Reply, How, i64) {
        let Message { call, asynchronous, strike, .. } = self.messages[message];
        let spec = self.tx.branch(call.branch);
        let turn = self.ledgers.get(of.branch.as_str()).map_or(0, |ledger| ledger.turn(call.operation));
        let scripted = self.stage.answers.script(spec, &of.branch, call.operation, turn);
        let answer = scripted.cloned().unwrap_or_default();
        let (step, forward) = (spec.step.clone(), call.operation.is_forward());
        let made = || if forward { self.stage.answers.body(&step) } else { serde_json::json!({}) };
        let delay = millis(answer.delay);
        let rules = spec.operation(call.operation).map_or(&[][..], |operation| &operation.outcome);
        let business = match strike {
            Some(Strike::Refused | Strike::RefusedForEver) => Business::Refuses(Error::new("refused", "409 Conflict")),
            Some(Strike::Bare) => {
                Business::Does(response(200, BTreeMap::new(), Some(Json::of(&serde_json::json!({})))))
            }
            Some(Strike::NotJson) => Business::Does(response(200, BTreeMap::new(), None).dropped(Dropped::NotJson)),
            _ => answer.business(asynchronous, rules, made),
        };
        let idempotent = spec.operation(call.operation).is_some_and(|operation| operation.idempotent);
        let manners = Manners { barrier: self.stage.barrier, idempotent };
        let ledger = self.ledgers.entry(of.branch.to_string()).or_default();
        let (reply, how) = ledger.answer(call.operation, manners, business);
        (reply, how, delay)
    }

    /// What the operation's own rules make of a refusal or a failure; a success was judged when it was made.
    pub(super) fn judged(&self, call: Call, reply: Reply) -> Reply {
        let operation = self.tx.branch(call.branch).operation(call.operation);
        let Some(rules) = operation.map(|operation| &operation.outcome).filter(|rules| !rules.is_empty()) else {
            return reply;
        };
        let (Outcome::Refused(error) | Outcome::Unknown(error)) = &reply.outcome else { return reply };
        let told = error.code.strip_prefix("http_").or(error.message.as_deref());
        let status = told.and_then(|told| told.split(' ').next()?.parse().ok()).unwrap_or(409);
        let body = Json::of(error);
        let Some(judged) = Answered::new(status, BTreeMap::new(), Some(&body)).judge(rules) else {
            return reply;
        };
        let means = judged.is;
        let error = judged.error(error.clone());
        let outcome = match means {
            Means::Succeeded => Outcome::Succeeded(response(status, BTreeMap::new(), Some(body))),
            Means::Refused => Outcome::Refused(error),
            Means::Pending => Outcome::Pending,
            Means::Unknown | Means::NotFound => Outcome::Unknown(error),
            Means::Unsent => Outcome::Unsent(error),
        };
        Reply { outcome, ..reply }
    }

    /// An accepted operation comes to its end later.
    pub(super) fn work(&mut self, message: usize, strike: Option<Strike>) {
        let call = self.messages[message].call;
        let spec = self.tx.branch(call.branch);
        let id = self.tx.branch_id(call.branch);
        let turn = self.ledgers.get(id.as_str()).map_or(0, |ledger| ledger.turn(call.operation)).saturating_sub(1);
        let scripted = self.stage.answers.script(spec, &id, call.operation, turn);
        let callback = scripted.and_then(|answer: &ScriptedAnswer| answer.callback.clone());
        let pending = spec.operation(call.operation).and_then(|operation| operation.pending.as_ref());
        let half =
            pending.map(|pending| pending.heartbeat.map_or(pending.timeout, |beat| beat.min(pending.timeout)) / 2);
        let usual = half.map_or(WORK_MS, |half| WORK_MS.min(i64::try_from(half.as_millis()).unwrap_or(WORK_MS)));
        let after = callback.as_ref().and_then(|callback| callback.after);
        let after = after.map_or(usual, |after| i64::try_from(after.as_millis()).unwrap_or(i64::MAX));
        let refused = |error: Option<Error>| Err(error.unwrap_or_else(|| Error::new("refused", "refused by callback")));
        let end = match callback {
            _ if strike == Some(Strike::CallbackRefused) => refused(None),
            Some(callback) if callback.outcome == CallbackOutcome::Refused => refused(callback.error),
            other => {
                let output = other.and_then(|callback| callback.output);
                let body = output.unwrap_or_else(|| Json::of(&self.stage.answers.body(&spec.step)));
                Ok(response(200, BTreeMap::new(), Some(body)))
            }
        };
        let after = if strike == Some(Strike::CallbackEarly) { 0 } else { after };
        self.after(after, Happening::Finish { message, end: Box::new(end) });
    }

    pub(super) fn finish(&mut self, message: usize, end: Result<Response, Error>) {
        let Message { call, strike, .. } = self.messages[message];
        let branch = self.tx.branch_id(call.branch);
        let ledger = self.ledgers.entry(branch.to_string()).or_default();
        if !ledger.finish(call.operation, end.clone()) || strike == Some(Strike::CallbackLost) {
            return;
        }
        let (verdict, output, error) = match end {
            Ok(response) => (CallbackVerdict::Succeeded, response.body, None),
            Err(error) => (CallbackVerdict::Refused, None, Some(error)),
        };
        let command = Command::Callback { branch, operation: call.operation, verdict, output, error };
        // Before the 202 has come all the way back.
        let way = if strike == Some(Strike::CallbackEarly) { 1 } else { WAY_MS };
        if strike == Some(Strike::CallbackTwice) {
            self.after(way + 2 * WAY_MS, Happening::Command(Box::new(command.clone())));
        }
        self.after(way, Happening::Command(Box::new(command)));
    }

    /// Undoing runs in reverse dependency order.
    pub(super) fn check_order(&mut self, branch: usize, of: &Attempt) {
        let mut work: Vec<usize> = self.tx.followers(branch);
        let mut seen = BTreeSet::new();
        while let Some(follower) = work.pop() {
            if !seen.insert(follower) {
                continue;
            }
            let spec = self.tx.branch(follower);
            let id = self.tx.branch_id(follower);
            let stands = self.ledgers.get(id.as_str()).is_some_and(|ledger| ledger.stands > 0);
            if stands && spec.undo.is_some() {
                let what = format!("its {} came before that of `{id}`, which follows it", of.operation);
                self.wrongs.push((of.branch.to_string(), what));
                return;
            }
            work.extend(self.tx.followers(follower));
        }
    }
}
