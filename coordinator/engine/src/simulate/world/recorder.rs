//! The tale of a run, where it is asked for.

use skald_protocol::CallOutcome;

use super::{START, World};
use crate::{
    call::{Outcome, Reply},
    journal::{Error, Record},
    simulate::timeline::{Attempt, TimelineEntry, What},
    transaction::Transaction,
};

impl World<'_> {
    pub(super) fn note(&mut self, what: impl FnOnce() -> What) {
        if let Some(timeline) = &mut self.timeline {
            let at_ms = u64::try_from(self.now.0 - START.0).unwrap_or(0);
            timeline.push(TimelineEntry { at_ms, what: what() });
        }
    }

    /// The public events of what was recorded since.
    pub(super) fn record_events(&mut self) {
        if self.timeline.is_none() || self.told == self.journal.len() {
            return;
        }
        let records: Vec<(u64, Record)> = (0..).zip(self.journal.iter().cloned()).collect();
        let Ok(published) = Transaction::publish(&self.stage.gid, &self.stage.plan, &records) else { return };
        let from = self.told;
        self.told = self.journal.len();
        for event in published {
            let seq = event.id.split('.').next().and_then(|seq| seq.parse::<usize>().ok());
            if seq.is_some_and(|seq| seq >= from) {
                self.note(|| What::Event { event });
            }
        }
    }

    pub(super) fn service_of(&self, branch: &str) -> String {
        let message = self.messages.iter().rev().find(|message| message.of.branch.as_str() == branch);
        message.map_or_else(|| branch.to_owned(), |message| message.service.clone())
    }
}

pub(super) fn recorded_answer(of: Attempt, service: String, reply: &Reply) -> What {
    let (outcome, status, error, body) = match &reply.outcome {
        Outcome::Succeeded(response) => (CallOutcome::Succeeded, Some(response.status), None, response.body.clone()),
        Outcome::Refused(error) => (CallOutcome::Refused, None, Some(error.clone()), None),
        Outcome::Pending => (CallOutcome::Pending, Some(202), None, None),
        Outcome::Unknown(error) => (CallOutcome::Unknown, None, Some(error.clone()), None),
        Outcome::Unsent(error) => (CallOutcome::Unsent, None, Some(error.clone()), None),
        Outcome::NotFound => {
            let error = Error { code: "not_found".to_owned(), message: Some("it did not run".to_owned()) };
            (CallOutcome::Unknown, None, Some(error), None)
        }
    };
    What::Answer { of, service, outcome, status, error, body, barrier: reply.barrier }
}
