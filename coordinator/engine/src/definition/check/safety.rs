//! What makes a definition safe: every failure ends fully done or fully undone (docs/workflows.md, What the compiler says).

use skald_protocol::{BranchId, OperationKind};

use crate::{
    definition::{
        check::order::Order,
        diagnostic::Code,
        syntax::{
            operation::Draft,
            read::{Faults, Place, list, quote},
            step::{Kind, Said, Step, Steps},
        },
    },
    plan::{OnExhausted, Phase, Role},
};

/// What a step is to the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::definition) enum Part {
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
            Kind::Choice { .. }
            | Kind::Map { .. }
            | Kind::Wait { .. }
            | Kind::Include { .. }
            | Kind::Set { .. }
            | Kind::Fail { .. }
            | Kind::Succeed { .. } => Self::As(Role::Pure),
            Kind::Unread => Self::Unread,
        }
    }

    const fn is_effectful(self) -> bool {
        match self {
            Self::As(Role::Compensatable | Role::Pivot | Role::Retriable | Role::Tcc) | Self::Bare => true,
            Self::As(Role::ReadOnly | Role::Parallel { .. } | Role::Pure) | Self::Unread => false,
        }
    }
}

/// What every step is, and whether it runs only after the commit.
#[derive(Debug)]
pub(in crate::definition) struct Parts {
    pub(in crate::definition) list: Vec<Part>,
    pub(in crate::definition) tail: Vec<bool>,
}

/// `order` is absent where it is cyclic.
pub(in crate::definition) fn parts(steps: &Steps<'_>, order: Option<&Order>, faults: &mut Faults) -> Parts {
    let list: Vec<_> = steps.list.iter().map(Part::of).collect();
    let mut pivots = all(&list, Role::Pivot);
    pivots.retain(|pivot| steps.list[*pivot].phase == Phase::Main);
    let mut tail = vec![false; list.len()];
    if let Some(order) = order {
        let starts = if pivots.is_empty() { all(&list, Role::Retriable) } else { pivots.clone() };
        for (step, tail) in tail.iter_mut().enumerate() {
            *tail = starts.iter().any(|start| order.follows(step, *start) || pivots.is_empty() && step == *start);
        }
        // A map starts once: one that holds the tail's first step is in the tail, with all that stands in it.
        for step in 0..list.len() {
            let is_late = steps.list[step].phase != Phase::Main;
            if tail[step] || is_late || steps.around(step).any(|(block, _)| steps.is_map(block) && tail[block]) {
                tail[step] = true;
            }
        }
    }
    let parts = Parts { list, tail };
    for (index, step) in steps.list.iter().enumerate() {
        faults.of_another(steps.stand_in(index), |faults| {
            undo(step, parts.list[index], parts.tail[index], faults);
            fails_in_tail(step, parts.tail[index], faults);
            exhaustion(step, parts.list[index], faults);
            path(steps, index, faults);
        });
    }
    conditions(steps, &pivots, faults);
    if let Some(order) = order {
        around_pivots(steps, &parts, &pivots, order, faults);
        ends(steps, &parts, order, faults);
    }
    parts
}

fn all(list: &[Part], role: Role) -> Vec<usize> {
    (0..list.len()).filter(|step| list[*step] == Part::As(role)).collect()
}

impl Steps<'_> {
    /// Where faults of an included definition's step are told.
    pub(in crate::definition) fn stand_in(&self, step: usize) -> Option<(String, String)> {
        let step = &self.list[step];
        let included = self.included.get(step.scope.checked_sub(1)?)?;
        Some((step.place.pointer(), format!("in {}, step {}", included.title, quote(step.name))))
    }
}

/// What stands where nothing is taken back: the place, and why.
const fn of_tail(phase: Phase) -> (&'static str, &'static str) {
    match phase {
        Phase::Main => ("the tail", "after the commit"),
        Phase::OnAbort => ("`on_abort`", "once the transaction is decided"),
        Phase::OnEnd => ("`on_end`", "once the transaction is decided"),
    }
}

/// E110, E112, E113, E120.
fn undo(step: &Step<'_>, part: Part, tail: bool, faults: &mut Faults) {
    let (place, since) = of_tail(step.phase);
    let main = step.phase == Phase::Main;
    let ahead = if main { "Move it before the pivot and the retriable steps." } else { "Move it to `steps`." };
    match &step.kind {
        Kind::Saga { .. } if part == Part::As(Role::Pivot) && !main => {
            let message = format!("a pivot in {place}: {since} there is nothing to decide");
            faults.add_with(Code::MisplacedInTail, &step.place, message, "Write \"role\": \"retriable\".");
        }
        Kind::Saga { compensate: Some(compensate), .. } => {
            if let Some((said, _)) = &step.role
                && *said != Said::Compensatable
            {
                let message = "an undo on a step that is never undone";
                let help = "Drop `compensate`, or drop `role`: the undo makes the step compensatable.";
                faults.add_with(Code::MisplacedUndo, &compensate.place, message, help);
            } else if tail {
                let message = format!("an undo in {place}: {since} nothing is undone");
                let help = if main {
                    "Move the step before the pivot and the retriable steps, or make it `retriable`."
                } else {
                    "Drop `compensate`, and make the step `retriable`."
                };
                faults.add_with(Code::MisplacedUndo, &compensate.place, message, help);
            }
        }
        Kind::Saga { .. } if part == Part::Bare && !step.misspelt => {
            if tail {
                let message = format!("in {place} a step with an effect must be driven until it is done");
                faults.add_with(
                    Code::MisplacedInTail,
                    &step.place,
                    message,
                    "Write \"role\": \"retriable\", or \"read_only\".",
                );
            } else {
                let message = "the step can be neither undone nor is it said why it need not be";
                let help = "Add `compensate`, or a `role`: pivot, retriable or read_only.";
                faults.add_with(Code::MissingUndo, &step.place, message, help);
            }
        }
        Kind::Tcc { try_, confirm, cancel } => {
            let three = [("try", try_), ("confirm", confirm), ("cancel", cancel)];
            let missing: Vec<_> =
                three.iter().filter(|(_, operation)| operation.is_none()).map(|(name, _)| *name).collect();
            if !missing.is_empty() && !step.misspelt {
                faults.add(Code::IncompleteTcc, &step.place, format!("the TCC step lacks {}", list(missing)));
            }
            if let Some((_, place)) = &step.role {
                let help = "Drop `role`: a TCC step is confirmed or cancelled.";
                faults.add_with(Code::MisplacedUndo, place, "a TCC step takes no role", help);
            }
            if tail {
                let message = format!("a TCC step in {place}: {since} nothing is tried");
                faults.add_with(Code::MisplacedUndo, &step.place, message, ahead);
            }
        }
        _ => {}
    }
}

/// Whether it may fail by itself, without a participant.
fn fails(step: &Step<'_>) -> bool {
    match &step.kind {
        Kind::Fail { .. } => true,
        Kind::Wait { wait, .. } => !wait.goes_on(),
        _ => false,
    }
}

/// E113 of what has no operation.
fn fails_in_tail(step: &Step<'_>, tail: bool, faults: &mut Faults) {
    let (spot, since) = of_tail(step.phase);
    match &step.kind {
        Kind::Fail { .. } if tail => {
            let help = match step.phase {
                Phase::Main => "Move it before the pivot and the retriable steps.",
                Phase::OnAbort | Phase::OnEnd => "Move it to `steps`.",
            };
            faults.add_with(
                Code::MisplacedInTail,
                &step.place,
                format!("a `fail` in {spot}: {since} nothing is given up"),
                help,
            );
        }
        Kind::Wait { place, .. } if tail && fails(step) => {
            let message = format!("a wait in {spot} that may fail: {since} nothing is given up");
            faults.add_with(Code::MisplacedInTail, place, message, "Write \"on_timeout\": \"continue\".");
        }
        _ => {}
    }
}

/// E113 and E114 of what ends the transaction well: nothing may be under way beside it, nor have committed before it.
fn ends(steps: &Steps<'_>, parts: &Parts, order: &Order, faults: &mut Faults) {
    for (index, step) in steps.list.iter().enumerate() {
        if !matches!(step.kind, Kind::Succeed { .. }) {
            continue;
        }
        let place = &step.place;
        let mut around = steps.around(index).map(|(block, _)| block);
        let many = around.find(|block| matches!(steps.list[*block].kind, Kind::Parallel { .. } | Kind::Map { .. }));
        let is_around = |other: usize| steps.around(index).any(|(block, _)| block == other);
        let beside = (0..steps.list.len()).find(|other| {
            let is_main = steps.list[*other].phase == Phase::Main;
            is_main && !order.are_related(*other, index) && !steps.are_exclusive(*other, index) && !is_around(*other)
        });
        faults.of_another(steps.stand_in(index), |faults| {
            if step.scope != 0 {
                let message = "a `succeed` in an included workflow would end the whole transaction";
                let help = "Include a version without it: skip what is not needed with `when` or a `choice`.";
                faults.add_with(Code::UnsafePlace, place, message, help);
            } else if parts.tail[index] {
                let (spot, since) = of_tail(step.phase);
                let message = format!("a `succeed` in {spot}: {since} there is nothing to decide");
                let help = match step.phase {
                    Phase::Main => {
                        "Move it before the pivot and the retriable steps, or skip what follows with `when`."
                    }
                    Phase::OnAbort | Phase::OnEnd => "Skip what follows with `when`.",
                };
                faults.add_with(Code::MisplacedInTail, place, message, help);
            } else if let Some(block) = many {
                let (kind, name) = match steps.list[block].kind {
                    Kind::Map { .. } => ("map", steps.list[block].name),
                    _ => ("block", steps.list[block].name),
                };
                let message = format!("a `succeed` in the {kind} {}: others of it may be under way", quote(name));
                faults.add_with(
                    Code::UnsafePlace,
                    place,
                    message,
                    "Let a step in it compute what decides, and end behind it.",
                );
            } else if let Some(other) = beside {
                let name = quote(steps.list[other].name);
                let message = format!("{name} may be under way when this ends the transaction");
                faults.add_with(
                    Code::UnsafePlace,
                    place,
                    message,
                    "Put it behind that step, with `after` or outside the block.",
                );
            }
        });
    }
}

impl Steps<'_> {
    /// Whether one of these steps surely ends the transaction well, where no pivot is.
    fn ends_in(&self, array: &[usize]) -> bool {
        array.iter().map(|step| &self.list[*step]).filter(|step| step.when.is_none()).any(|step| match &step.kind {
            Kind::Succeed { .. } => true,
            Kind::Choice { arms } => arms.iter().all(|arm| self.ends_in(&arm.steps)),
            _ => false,
        })
    }
}

/// E118, and E114 of pivots in maps.
fn conditions(steps: &Steps<'_>, pivots: &[usize], faults: &mut Faults) {
    for pivot in pivots.iter().copied() {
        let step = &steps.list[pivot];
        let stand_in = steps.stand_in(pivot);
        let own = step.when.as_ref().map(|(_, place)| place);
        let around: Vec<usize> = steps.around(pivot).map(|(block, _)| block).collect();
        faults.of_another(stand_in, |faults| {
            if let Some(place) = own {
                let help = "Let a step before it decide, or put one pivot into every arm of a `choice`.";
                faults.add_with(
                    Code::ConditionalPivot,
                    place,
                    "a pivot with a condition: without it nothing would commit",
                    help,
                );
            }
            if let Some(map) = around.iter().copied().find(|block| steps.is_map(*block)) {
                let message = format!("a pivot in the map {}: only one step commits", quote(steps.list[map].name));
                faults.add_with(Code::UnsafePlace, &step.place, message, "Put it behind the map.");
            }
        });
        for block in around {
            let Some((_, place)) = &steps.list[block].when else { continue };
            let message = format!("a condition on a block that holds the pivot {}", quote(step.name));
            let help = "Put one pivot into every arm of a `choice` instead.";
            faults.of_another(steps.stand_in(block), |faults| {
                faults.add_with(Code::ConditionalPivot, place, message, help)
            });
        }
    }
    for (index, step) in steps.list.iter().enumerate() {
        let Kind::Choice { arms } = &step.kind else { continue };
        let holds = |arm: usize| pivots.iter().any(|pivot| steps.around(*pivot).any(|at| at == (index, arm)));
        let with = (0..arms.len()).filter(|arm| holds(*arm)).count();
        let neither = (0..arms.len()).any(|arm| !holds(arm) && !steps.ends_in(&arms[arm].steps));
        if with > 0 && neither {
            let message = format!("{with} of the {} arms hold a pivot, the others do not", arms.len());
            let help = "Put a pivot or a `succeed` into every arm, or one pivot behind the choice.";
            faults.of_another(steps.stand_in(index), |faults| {
                faults.add_with(Code::ConditionalPivot, &step.place, message, help)
            });
        }
    }
}

/// E111, E114, E117.
fn around_pivots(steps: &Steps<'_>, parts: &Parts, pivots: &[usize], order: &Order, faults: &mut Faults) {
    for (step, part) in parts.list.iter().copied().enumerate() {
        if pivots.is_empty() || faults.is_full() {
            return;
        }
        if steps.list[step].phase != Phase::Main {
            continue;
        }
        faults.of_another(steps.stand_in(step), |faults| around_pivot(steps, step, part, pivots, order, faults));
    }
}

fn around_pivot(steps: &Steps<'_>, step: usize, part: Part, pivots: &[usize], order: &Order, faults: &mut Faults) {
    let Step { place, .. } = &steps.list[step];
    if part == Part::As(Role::Pivot)
        && let Some(first) = pivots.iter().find(|pivot| order.follows(step, **pivot))
    {
        let message = format!("a second pivot: {} comes before it", quote(steps.list[*first].name));
        faults.add_with(Code::SecondPivot, place, message, "One step commits; what follows it is `retriable`.");
    }
    if part == Part::As(Role::Retriable)
        && let Some(pivot) = pivots.iter().find(|pivot| order.follows(**pivot, step))
    {
        let message = format!("the pivot {} follows this retriable step", quote(steps.list[*pivot].name));
        let help = "A retriable step runs after the commit: move it behind the pivot, or give it an undo.";
        faults.add_with(Code::RetriableBeforePivot, place, message, help);
    }
    // Of two pivots side by side the later one is told.
    let stranger = |pivot: &&usize| {
        !order.are_related(step, **pivot)
            && !steps.are_exclusive(step, **pivot)
            && (part != Part::As(Role::Pivot) || **pivot < step)
    };
    if (part.is_effectful() || fails(&steps.list[step]))
        && let Some(pivot) = pivots.iter().find(stranger)
    {
        let message = format!("the step may run before or after the pivot {}", quote(steps.list[*pivot].name));
        let help = "Put it before the pivot or behind it, with `after` or outside the block.";
        faults.add_with(Code::UnsafePlace, place, message, help);
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
        faults.add_with(Code::ExhaustionUndecided, &place, message, help);
    }
}

/// What `on_exhausted` may say where.
pub(in crate::definition) fn on_exhausted(operation: &Draft<'_>, role: Role, faults: &mut Faults) {
    let Some(said) = operation.on_exhausted else { return };
    let allowed: &[(&str, OnExhausted)] = match (operation.kind.is_forward(), role) {
        (true, Role::Retriable) => &[("suspend", OnExhausted::Suspend), ("ignore", OnExhausted::Ignore)],
        (true, _) => &[("compensate", OnExhausted::Compensate), ("suspend", OnExhausted::Suspend)],
        (false, _) => &[("suspend", OnExhausted::Suspend)],
    };
    if !allowed.iter().any(|(_, allowed)| *allowed == said) {
        let place = operation.place.key("on_exhausted");
        let words = list(allowed.iter().map(|(word, _)| *word));
        faults.add(Code::InvalidValue, &place, format!("here `on_exhausted` can only be {words}"));
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

/// A branch's path through sagas and maps has its bound, which each name alone keeps.
fn path(steps: &Steps<'_>, index: usize, faults: &mut Faults) {
    let step = &steps.list[index];
    let around = steps.around(index).map(|(block, _)| match &steps.list[block].kind {
        Kind::Map { max_items, .. } => steps.list[block].name.len() + 2 + max_items.saturating_sub(1).to_string().len(),
        Kind::Include { .. } => steps.list[block].name.len() + 1,
        _ => 0,
    });
    // One more letter for a block's gate.
    let gated = match step.kind {
        Kind::Choice { .. } | Kind::Include { .. } => true,
        Kind::Parallel { .. } => step.when.is_some(),
        _ => false,
    };
    let length = around.sum::<usize>() + step.name.len() + usize::from(gated);
    if length > BranchId::MAX {
        let message =
            format!("the path of {} is {length} letters long, and {} are taken", quote(step.name), BranchId::MAX);
        faults.add_with(Code::InvalidValue, &step.place, message, "Shorten the names of the blocks around it.");
    }
}
