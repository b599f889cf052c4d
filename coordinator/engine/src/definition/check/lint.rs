//! What is allowed and may surprise: W303, W305, W306, W307.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    definition::{
        Diagnostic,
        check::{
            order::Order,
            safety::{Part, Parts},
            unused,
        },
        diagnostic::Code,
        syntax::{
            document::Document,
            operation::Draft,
            read::{Faults, Place, quote},
        },
    },
    plan::Role,
};

/// Below it an asynchronous participant hardly has the time to call back.
const TIGHT: Duration = Duration::from_secs(10);

pub(in crate::definition) fn warnings(document: &Document<'_>, parts: &Parts, order: &Order) -> Vec<Diagnostic> {
    let mut warnings = Faults::new();
    let mut used = BTreeSet::new();
    // An included definition was warned about when it was published.
    for (step, part) in document.steps.list.iter().zip(&parts.list).filter(|(step, _)| step.scope == 0) {
        for operation in step.operations() {
            used.extend(operation.service);
            used.extend(operation.status_check.as_ref().and_then(|check| check.service));
            let poll = operation.pending.as_ref().and_then(|pending| pending.poll.as_ref());
            used.extend(poll.and_then(|poll| poll.operation.service));
            pending(operation, &mut warnings);
            if operation.kind.is_undo() {
                operation.each_template(|place, template| {
                    template.each_path(|below, path| {
                        if path.root == "self" && matches!(path.key(0), Some("response" | "output")) {
                            let pointer = format!("{}{below}", place.pointer());
                            let message = "an undo also follows attempts of unknown outcome, which left no response";
                            let help = "Undo by what was sent: `self.request.body`, `self.idempotency_key`.";
                            warnings.add_at(Code::UndoByAnswer, pointer, message.to_owned(), Some(help.to_owned()));
                        }
                    });
                });
            }
            if *part == Part::As(Role::Pivot) && operation.status_check.is_none() && !operation.idempotent {
                let message = "a pivot of unknown outcome can only be resent, and a refusal of that is not believed";
                let help = "Add `status_check`, or \"idempotent\": true where a resend's answer may be trusted.";
                warnings.add_with(Code::PivotUnanswerable, &operation.place, message, help);
            }
        }
    }
    let services = Place::default().key("services");
    for name in document.known.services.iter().flat_map(|services| services.keys()) {
        if !used.contains(name) {
            warnings.add(Code::Unused, &services.key(name), format!("no step uses the service {}", quote(name)));
        }
    }
    unused::warn(document, order, &mut warnings);
    warnings.into_list()
}

fn pending(operation: &Draft<'_>, warnings: &mut Faults) {
    let Some(pending) = &operation.pending else { return };
    let place = operation.place.key("async");
    if pending.heartbeat.is_none() && pending.poll.is_none() {
        let message = "without a heartbeat a participant that died is noticed when the timeout ends";
        warnings.add_with(Code::ShortTimeout, &place, message, "Add `heartbeat`.");
    }
    if pending.timeout < TIGHT {
        warnings.add(Code::ShortTimeout, &place.key("timeout"), "the timeout leaves little time to finish");
    }
}
