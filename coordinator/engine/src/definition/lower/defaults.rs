//! An operation as it is written, with its defaults.

use std::time::Duration;

use skald_protocol::OperationKind;

use crate::{
    definition::{
        check::safety::{Part, Parts},
        syntax::{
            document::{Defaults, Document},
            operation::{Draft, Known},
            retry::Policy,
        },
    },
    plan::{Body, Operation, Pending, Poll, Retry, Role},
};

/// Of one attempt.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Whose requests have no body unless one is written.
const BODYLESS: [&str; 3] = ["GET", "HEAD", "DELETE"];

/// Everything that a draft's defaults come from.
#[derive(Debug, Clone, Copy)]
pub(in crate::definition) struct Filling<'s, 'a> {
    pub(in crate::definition) known: &'s Known<'a>,
    pub(in crate::definition) defaults: &'s Defaults,
    /// The step's own policy, for its forward operation.
    pub(in crate::definition) retry: Option<&'s Policy>,
    /// Driven to its end whatever it is.
    pub(in crate::definition) tail: bool,
    pub(in crate::definition) pivot: bool,
    /// Of operations that state none and whose method has one: forward ones, and the others.
    pub(in crate::definition) forward_body: &'s Body,
    pub(in crate::definition) settling_body: &'s Body,
}

impl<'s, 'a> Filling<'s, 'a> {
    pub(in crate::definition) fn of(document: &'s Document<'a>, parts: &Parts, index: usize) -> Self {
        let step = &document.steps.list[index];
        let included = step.scope.checked_sub(1).map(|scope| &document.steps.included[scope]);
        Self {
            known: included.map_or(&document.known, |included| &included.known),
            defaults: included.map_or(&document.defaults, |included| &included.defaults),
            retry: step.retry.as_ref().map(|(policy, _)| policy),
            tail: parts.tail[index],
            pivot: parts.list[index] == Part::As(Role::Pivot),
            forward_body: &Body::Input,
            settling_body: &Body::Forward,
        }
    }

    pub(in crate::definition) fn settles(&self, kind: OperationKind) -> bool {
        self.tail || kind.is_undo() || kind == OperationKind::Confirm
    }

    fn settling(&self) -> Retry {
        self.defaults.settle_retry.over(&Retry::settling())
    }

    /// What the operation retries by before and, of a pivot, after it may have run.
    pub(in crate::definition) fn retry(&self, draft: &Draft<'_>) -> Retry {
        let base = if self.settles(draft.kind) { self.settling() } else { self.defaults.retry.over(&Retry::forward()) };
        let own = draft.retry.as_ref().or(self.retry.filter(|_| draft.kind.is_forward()));
        own.map_or_else(|| base.clone(), |own| own.over(&base))
    }

    pub(in crate::definition) fn operation(&self, draft: &Draft<'_>) -> Operation {
        let retry = self.retry(draft);
        let settles = self.settles(draft.kind);
        let of_service = |name: &str| self.known.services.as_ref()?.get(name)?.timeout;
        let timeout = draft
            .timeout
            .or_else(|| draft.service.and_then(of_service))
            .or(self.defaults.settle_timeout.filter(|_| settles))
            .or(self.defaults.timeout)
            .unwrap_or(TIMEOUT);
        // A question is asked at the pace of the operation it asks about.
        let question = |draft: &Draft<'_>| {
            let asked = Self { tail: settles, ..*self }.operation(draft);
            Operation { retry: retry.clone(), ..asked }
        };
        let pending = draft.pending.as_ref().map(|pending| Pending {
            timeout: pending.timeout,
            heartbeat: pending.heartbeat,
            poll: pending.poll.as_ref().map(|poll| {
                let (interval, max_interval) = (poll.interval, poll.max_interval.unwrap_or(poll.interval));
                Box::new(Poll { operation: question(&poll.operation), interval, max_interval })
            }),
        });
        let body = draft.body.clone().unwrap_or_else(|| match draft.kind {
            OperationKind::Status => Body::None,
            _ if BODYLESS.contains(&draft.method) => Body::None,
            kind if kind.is_forward() => self.forward_body.clone(),
            _ => self.settling_body.clone(),
        });
        let owned = |(name, template): &(&str, _)| ((*name).to_owned(), Clone::clone(template));
        Operation {
            kind: draft.kind,
            method: draft.method.to_owned(),
            service: draft.service.map(str::to_owned),
            target: draft.target.clone(),
            query: draft.query.iter().map(owned).collect(),
            headers: draft.headers.iter().map(owned).collect(),
            body,
            timeout,
            settle: (self.pivot && draft.kind.is_forward()).then(|| self.settling()),
            pending,
            status_check: draft.status_check.as_ref().map(|draft| Box::new(question(draft))),
            outcome: draft.outcome.iter().map(|(rule, _)| rule.clone()).collect(),
            keep_headers: false,
            idempotent: draft.idempotent,
            on_exhausted: draft.on_exhausted.unwrap_or_default(),
            retry,
        }
    }
}

/// Names its services, and those of its questions, as the plan does.
pub(in crate::definition) fn renamed(operation: &mut Operation, name: &dyn Fn(&str) -> Option<String>) {
    if let Some(known) = operation.service.as_deref().and_then(name) {
        operation.service = Some(known);
    }
    let poll = operation.pending.as_mut().and_then(|pending| pending.poll.as_mut()).map(|poll| &mut poll.operation);
    let questions = operation.status_check.as_deref_mut().into_iter().chain(poll);
    questions.for_each(|question| renamed(question, name));
}
