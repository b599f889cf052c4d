//! From what is written to the plan: defaults filled in, names resolved, branches in order.

use std::time::Duration;

use skald_protocol::{BranchId, OperationKind};

use super::{
    check::{Part, Parts},
    document::{Defaults, Document},
    operation::{Draft, Known},
    order::Order,
    read::Faults,
    retry::Policy,
    step::Kind,
};
use crate::plan::{Body, Branch, Index, Operation, Plan, Retry, Role};

/// Of one attempt.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Whose requests have no body unless one is written.
const BODYLESS: [&str; 3] = ["GET", "HEAD", "DELETE"];

/// Everything that a draft's defaults come from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filling<'s, 'a> {
    pub(super) known: &'s Known<'a>,
    pub(super) defaults: &'s Defaults,
    /// The step's own policy, for its forward operation.
    pub(super) retry: Option<&'s Policy>,
    /// Driven to its end whatever it is.
    pub(super) tail: bool,
    pub(super) pivot: bool,
    /// Of operations that state none and whose method has one: forward ones, and the others.
    pub(super) forward_body: &'s Body,
    pub(super) settling_body: &'s Body,
}

impl<'s, 'a> Filling<'s, 'a> {
    fn of(known: &'s Known<'a>, defaults: &'s Defaults, retry: Option<&'s Policy>, parts: &Parts, step: usize) -> Self {
        Self {
            known,
            defaults,
            retry,
            tail: parts.tail[step],
            pivot: parts.list[step] == Part::As(Role::Pivot),
            forward_body: &Body::Input,
            settling_body: &Body::Forward,
        }
    }

    fn settles(&self, kind: OperationKind) -> bool {
        self.tail || kind.is_undo() || kind == OperationKind::Confirm
    }

    fn settling(&self) -> Retry {
        self.defaults.settle_retry.over(&Retry::settling())
    }

    /// What the operation retries by before and, of a pivot, after it may have run.
    pub(super) fn retry(&self, draft: &Draft<'_>) -> Retry {
        let base = if self.settles(draft.kind) { self.settling() } else { self.defaults.retry.over(&Retry::forward()) };
        let own = draft.retry.as_ref().or(self.retry.filter(|_| draft.kind.is_forward()));
        own.map_or_else(|| base.clone(), |own| own.over(&base))
    }

    pub(super) fn operation(&self, draft: Draft<'_>) -> Operation {
        let retry = self.retry(&draft);
        let settles = self.settles(draft.kind);
        let of_service = |name: &str| self.known.services.as_ref()?.get(name)?.timeout;
        let timeout = draft
            .timeout
            .or_else(|| draft.service.and_then(of_service))
            .or(self.defaults.settle_timeout.filter(|_| settles))
            .or(self.defaults.timeout)
            .unwrap_or(TIMEOUT);
        let status_check = draft.status_check.map(|draft| {
            let mut status = Self { tail: settles, ..*self }.operation(*draft);
            // It is asked at the pace of the operation it asks about.
            status.retry = retry.clone();
            Box::new(status)
        });
        let body = draft.body.unwrap_or_else(|| match draft.kind {
            OperationKind::Status => Body::None,
            _ if BODYLESS.contains(&draft.method) => Body::None,
            kind if kind.is_forward() => self.forward_body.clone(),
            _ => self.settling_body.clone(),
        });
        Operation {
            kind: draft.kind,
            method: draft.method.to_owned(),
            service: draft.service.map(str::to_owned),
            target: draft.target,
            query: draft.query.into_iter().map(|(name, template)| (name.to_owned(), template)).collect(),
            headers: draft.headers.into_iter().map(|(name, template)| (name.to_owned(), template)).collect(),
            body,
            timeout,
            retry,
            settle: (self.pivot && draft.kind.is_forward()).then(|| self.settling()),
            pending: draft.pending,
            status_check,
            idempotent: draft.idempotent,
            on_exhausted: draft.on_exhausted.unwrap_or_default(),
        }
    }
}

/// Forward operations that never give up, in a transaction that has no deadline either.
pub(super) fn check_bounds(document: &Document<'_>, parts: &Parts, faults: &mut Faults) {
    if document.timeout.is_some() {
        return;
    }
    for (index, step) in document.steps.list.iter().enumerate() {
        let filling = Filling::of(
            &document.known,
            &document.defaults,
            step.retry.as_ref().map(|(policy, _)| policy),
            parts,
            index,
        );
        for draft in step.operations().filter(|draft| !filling.settles(draft.kind)) {
            if filling.retry(draft).max_attempts.is_none() {
                let place = match (&draft.retry, &step.retry) {
                    (Some(_), _) => draft.place.key("retry"),
                    (None, Some((_, place))) => place.clone(),
                    (None, None) => draft.place.clone(),
                };
                let message = "attempts before the commit are unlimited only in a transaction with a `timeout`";
                faults.add_with("E004", &place, message, "Add a `timeout` to the definition, or a `max_attempts`.");
            }
        }
    }
}

/// The plan of a definition without faults.
pub(super) fn plan(document: Document<'_>, parts: &Parts, order: &Order) -> Plan {
    let Document { workflow, known, defaults, timeout, on_timeout, steps, output, .. } = document;
    let mut ranks = vec![0; order.sequence.len()];
    for (rank, step) in order.sequence.iter().enumerate() {
        ranks[*step] = rank;
    }
    let mut drafts: Vec<_> = steps.list.into_iter().map(Some).collect();
    let mut branches = Vec::with_capacity(drafts.len());
    for index in &order.sequence {
        let (Some(step), Part::As(role)) = (drafts[*index].take(), parts.list[*index]) else { continue };
        let mut after: Vec<_> = order.after[*index].iter().map(|before| ranks[*before]).collect();
        after.sort_unstable();
        let retry = step.retry.map(|(policy, _)| policy);
        let filling = Filling::of(&known, &defaults, retry.as_ref(), parts, *index);
        let fill = |draft: Option<Box<Draft<'_>>>| draft.map(|draft| filling.operation(*draft));
        let (forward, confirm, undo) = match step.kind {
            Kind::Saga { action, compensate } => (Some(action), None, compensate),
            Kind::Tcc { try_, confirm, cancel } => (try_, confirm, cancel),
            Kind::Parallel { .. } | Kind::Unread => (None, None, None),
        };
        branches.push(Branch {
            id: BranchId::new(step.name).expect("a step's name is a branch's"),
            step: step.name.to_owned(),
            role,
            after,
            tail: parts.tail[*index],
            within: step.within.map(|block| ranks[block]),
            forward: fill(forward),
            confirm: fill(confirm),
            undo: fill(undo),
            output: step.output.map(|(template, _)| template),
        });
    }
    let services = known.services.unwrap_or_default().into_iter();
    Plan {
        workflow,
        open: false,
        timeout,
        on_timeout,
        services: services.map(|(name, declared)| (name.to_owned(), declared.service)).collect(),
        branches,
        output: output.map(|(template, _)| template),
        index: Index::default(),
    }
}
