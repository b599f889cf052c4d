//! W305: what is written and makes no difference.

use crate::{
    cel::Meter,
    definition::{
        check::{order::Order, scope},
        diagnostic::Code,
        syntax::{
            document::Document,
            read::{Faults, quote},
            step::{Kind, Step, Steps},
        },
    },
    path::{Path, Scope},
    template::Template,
};

/// Outputs that nothing reads, steps and arms that never run. An included definition was warned about by itself.
pub(in crate::definition) fn warn(document: &Document<'_>, order: &Order, warnings: &mut Faults) {
    let steps = &document.steps;
    let used = used(document, order);
    for (index, step) in steps.list.iter().enumerate().filter(|(_, step)| step.scope == 0) {
        let written = match (&step.kind, &step.output) {
            (Kind::Set { .. }, _) => Some("set"),
            (_, Some(_)) => Some("output"),
            (_, None) => None,
        };
        if let Some(field) = written.filter(|_| !used[index]) {
            let message = format!("nothing reads the output of {}", quote(step.name));
            let help = format!("Drop it, or read it as `steps.{}.output`.", step.name);
            warnings.add_with(Code::Unused, &step.place.key(field), message, help);
        }
        dead(step, warnings);
        behind_the_end(index, steps, order, warnings);
    }
}

/// Steps that a `succeed` without a condition stands in front of.
fn behind_the_end(index: usize, steps: &Steps<'_>, order: &Order, warnings: &mut Faults) {
    let ends = |end: &Step<'_>| matches!(end.kind, Kind::Succeed { .. }) && end.when.is_none();
    let step = &steps.list[index];
    let end = (0..steps.list.len())
        .find(|end| ends(&steps.list[*end]) && steps.list[*end].within == step.within && order.follows(index, *end));
    if let Some(end) = end {
        let message = format!("the step never runs: {} ends the transaction before it", quote(steps.list[end].name));
        warnings.add_with(Code::Unused, &step.place, message, "Give the `succeed` a `when`, or drop the step.");
    }
}

/// The steps whose output some expression reads.
fn used(document: &Document<'_>, order: &Order) -> Vec<bool> {
    let steps: &Steps<'_> = &document.steps;
    let mut used = vec![false; steps.list.len()];
    scope::each(steps, Some(order), document.output.as_ref(), |step, scope, template, _| {
        template.each_path(|_, path| {
            let read = match (path.root.as_str(), path.key(0)) {
                ("steps", Some(name)) if path.key(1) != Some("status") => {
                    steps.names.get(scope.names).and_then(|names| names.get(name)).copied()
                }
                ("self", Some("output")) => step,
                _ => None,
            };
            if let Some(read) = read {
                used[read] = true;
            }
        });
    });
    // A map's output is made of its last steps'.
    for index in order.sequence.iter().rev().copied() {
        if let (Kind::Map { steps: inner, .. }, None, true) =
            (&steps.list[index].kind, &steps.list[index].output, used[index])
            && let Some(last) = inner.last()
        {
            used[*last] = true;
        }
    }
    used
}

/// A step or an arm whose condition is the same whatever comes.
fn dead(step: &Step<'_>, warnings: &mut Faults) {
    if let Some((when, place)) = &step.when
        && constant(when) == Some(false)
    {
        warnings.add_with(
            Code::Unused,
            place,
            "the step never runs: its condition is false whatever comes",
            "Drop the step.",
        );
    }
    let Kind::Choice { arms } = &step.kind else { return };
    let mut decided = false;
    for (index, arm) in arms.iter().enumerate() {
        let place = step.place.key("choice");
        let place = place.index(index);
        let own = arm.when.as_ref().map(|(when, _)| constant(when));
        if decided && !arm.steps.is_empty() {
            let message = "the arm never runs: the condition of one before it is true whatever comes";
            warnings.add_with(Code::Unused, &place, message, "Drop one of the two.");
        } else if own == Some(Some(false)) {
            let message = "the arm never runs: its condition is false whatever comes";
            warnings.add_with(Code::Unused, &place, message, "Drop the arm.");
        }
        decided |= own == Some(Some(true));
    }
}

/// What a condition that reads nothing comes to.
fn constant(when: &Template) -> Option<bool> {
    struct Nothing;
    impl Scope for Nothing {
        fn read(&self, _path: &Path) -> Result<crate::value::Value, String> {
            Err("nothing is read".to_owned())
        }
    }
    let mut reads = false;
    when.each_path(|_, _| reads = true);
    if reads {
        return None;
    }
    match when.render(&Nothing, &mut Meter::new()).ok()?.text() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}
