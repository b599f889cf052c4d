//! What makes a definition safe: every failure ends fully done or fully undone (WORKFLOW.md, What the compiler refuses).

use skald_protocol::OperationKind;

use super::{
    operation::Draft,
    order::Order,
    read::{Faults, Place, list, quote},
    step::{Kind, Said, Step, Steps},
};
use crate::plan::{OnExhausted, Role};

/// What a step is to the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    As(Role),
    /// An action with neither undo nor role.
    Bare,
    Unread,
}

impl Part {
    fn of(step: &Step<'_>) -> Self {
        match &step.kind {
            Kind::Saga { compensate, .. } => match step.role {
                Some((Said::Pivot, _)) => Self::As(Role::Pivot),
                Some((Said::Retriable, _)) => Self::As(Role::Retriable),
                Some((Said::ReadOnly, _)) => Self::As(Role::ReadOnly),
                Some((Said::Compensatable, _)) | None if compensate.is_some() => Self::As(Role::Compensatable),
                Some((Said::Compensatable, _)) | None => Self::Bare,
            },
            Kind::Tcc { .. } => Self::As(Role::Tcc),
            Kind::Parallel { fail, .. } => Self::As(Role::Parallel { fail: *fail }),
            Kind::Unread => Self::Unread,
        }
    }

    const fn is_effectful(self) -> bool {
        match self {
            Self::As(Role::Compensatable | Role::Pivot | Role::Retriable | Role::Tcc) | Self::Bare => true,
            Self::As(Role::ReadOnly | Role::Parallel { .. }) | Self::Unread => false,
        }
    }
}

/// What every step is, and whether it runs only after the commit.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) list: Vec<Part>,
    pub(super) tail: Vec<bool>,
}

/// `order` is absent where it is cyclic.
pub(super) fn parts(steps: &Steps<'_>, order: Option<&Order>, faults: &mut Faults) -> Parts {
    let list: Vec<_> = steps.list.iter().map(Part::of).collect();
    let pivots = all(&list, Role::Pivot);
    let mut tail = vec![false; list.len()];
    if let Some(order) = order {
        let starts = if pivots.is_empty() { all(&list, Role::Retriable) } else { pivots.clone() };
        for (step, tail) in tail.iter_mut().enumerate() {
            *tail = starts.iter().any(|start| order.follows(step, *start) || pivots.is_empty() && step == *start);
        }
    }
    let parts = Parts { list, tail };
    for (index, step) in steps.list.iter().enumerate() {
        undo(step, parts.list[index], parts.tail[index], faults);
        exhaustion(step, parts.list[index], faults);
    }
    if let Some(order) = order {
        around_pivots(steps, &parts, &pivots, order, faults);
    }
    parts
}

fn all(list: &[Part], role: Role) -> Vec<usize> {
    (0..list.len()).filter(|step| list[*step] == Part::As(role)).collect()
}

/// E110, E112, E113, E120.
fn undo(step: &Step<'_>, part: Part, tail: bool, faults: &mut Faults) {
    match &step.kind {
        Kind::Saga { compensate: Some(compensate), .. } => {
            if let Some((said, _)) = &step.role
                && *said != Said::Compensatable
            {
                let message = "an undo on a step that is never undone";
                let help = "Drop `compensate`, or drop `role`: the undo makes the step compensatable.";
                faults.add_with("E112", &compensate.place, message, help);
            } else if tail {
                let message = "an undo in the tail: after the commit nothing is undone";
                let help = "Move the step before the pivot and the retriable steps, or make it `retriable`.";
                faults.add_with("E112", &compensate.place, message, help);
            }
        }
        Kind::Saga { .. } if part == Part::Bare && !step.misspelt => {
            if tail {
                let message = "in the tail a step with an effect must be driven until it is done";
                faults.add_with("E113", &step.place, message, "Write \"role\": \"retriable\", or \"read_only\".");
            } else {
                let message = "the step can be neither undone nor is it said why it need not be";
                let help = "Add `compensate`, or a `role`: pivot, retriable or read_only.";
                faults.add_with("E110", &step.place, message, help);
            }
        }
        Kind::Tcc { try_, confirm, cancel } => {
            let three = [("try", try_), ("confirm", confirm), ("cancel", cancel)];
            let missing: Vec<_> =
                three.iter().filter(|(_, operation)| operation.is_none()).map(|(name, _)| *name).collect();
            if !missing.is_empty() && !step.misspelt {
                faults.add("E120", &step.place, format!("the TCC step lacks {}", list(missing)));
            }
            if let Some((_, place)) = &step.role {
                let help = "Drop `role`: a TCC step is confirmed or cancelled.";
                faults.add_with("E112", place, "a TCC step takes no role", help);
            }
            if tail {
                let message = "a TCC step in the tail: after the commit nothing is tried";
                faults.add_with("E112", &step.place, message, "Move it before the pivot and the retriable steps.");
            }
        }
        Kind::Saga { .. } | Kind::Parallel { .. } | Kind::Unread => {}
    }
}

/// E111, E114, E117.
fn around_pivots(steps: &Steps<'_>, parts: &Parts, pivots: &[usize], order: &Order, faults: &mut Faults) {
    for (step, part) in parts.list.iter().copied().enumerate() {
        if pivots.is_empty() || faults.is_full() {
            return;
        }
        let Step { place, .. } = &steps.list[step];
        if part == Part::As(Role::Pivot)
            && let Some(first) = pivots.iter().find(|pivot| order.follows(step, **pivot))
        {
            let message = format!("a second pivot: {} comes before it", quote(steps.list[*first].name));
            faults.add_with("E111", place, message, "One step commits; what follows it is `retriable`.");
        }
        if part == Part::As(Role::Retriable)
            && let Some(pivot) = pivots.iter().find(|pivot| order.follows(**pivot, step))
        {
            let message = format!("the pivot {} follows this retriable step", quote(steps.list[*pivot].name));
            let help = "A retriable step runs after the commit: move it behind the pivot, or give it an undo.";
            faults.add_with("E117", place, message, help);
        }
        // Of two pivots side by side the later one is told.
        let stranger =
            |pivot: &&usize| !order.are_related(step, **pivot) && (part != Part::As(Role::Pivot) || **pivot < step);
        if part.is_effectful()
            && let Some(pivot) = pivots.iter().find(stranger)
        {
            let message = format!("the step may run before or after the pivot {}", quote(steps.list[*pivot].name));
            let help = "Put it before the pivot or behind it, with `after` or outside the block.";
            faults.add_with("E114", place, message, help);
        }
    }
}

/// E115, and the words of `on_exhausted`.
fn exhaustion(step: &Step<'_>, part: Part, faults: &mut Faults) {
    if let Part::As(role) = part {
        step.operations().for_each(|operation| on_exhausted(operation, role, faults));
    }
    let Kind::Saga { action, .. } = &step.kind else { return };
    if part == Part::As(Role::Retriable)
        && action.on_exhausted.is_none()
        && let Some(place) = finite(step, action)
    {
        let message = "a retriable step that gives up must say what then";
        let help = "Add \"on_exhausted\": \"suspend\" or \"ignore\" to the action, or drop the bound.";
        faults.add_with("E115", &place, message, help);
    }
}

/// What `on_exhausted` may say where.
pub(super) fn on_exhausted(operation: &Draft<'_>, role: Role, faults: &mut Faults) {
    let Some(said) = operation.on_exhausted else { return };
    let allowed: &[(&str, OnExhausted)] = match (operation.kind.is_forward(), role) {
        (true, Role::Retriable) => &[("suspend", OnExhausted::Suspend), ("ignore", OnExhausted::Ignore)],
        (true, _) => &[("compensate", OnExhausted::Compensate), ("suspend", OnExhausted::Suspend)],
        (false, _) => &[("suspend", OnExhausted::Suspend)],
    };
    if !allowed.iter().any(|(_, allowed)| *allowed == said) {
        let place = operation.place.key("on_exhausted");
        let words = list(allowed.iter().map(|(word, _)| *word));
        faults.add("E004", &place, format!("here `on_exhausted` can only be {words}"));
    }
}

/// The place of the step's own policy, where it sets a bound.
fn finite<'a>(step: &Step<'a>, action: &Draft<'a>) -> Option<Place<'a>> {
    debug_assert_eq!(action.kind, OperationKind::Action);
    match (&action.retry, &step.retry) {
        (Some(policy), _) => policy.is_finite().then(|| action.place.key("retry")),
        (None, Some((policy, place))) => policy.is_finite().then(|| place.clone()),
        (None, None) => None,
    }
}
