//! What an expression may read where it stands (WORKFLOW.md, Expressions): E202 and E203, in plain paths and in CEL.

use super::{
    operation::Draft,
    order::Order,
    read::{Faults, Place, list, quote},
    step::{Kind, Steps},
};
use crate::template::{Path, Template};

const TRANSACTION: [&str; 4] = ["gid", "workflow", "version", "began_at"];
const SELF: [&str; 4] = ["request", "response", "output", "idempotency_key"];

/// Where an expression stands.
#[derive(Clone, Copy)]
pub(super) struct Scope<'s> {
    pub(super) roots: &'static [&'static str],
    /// What of `self` is there.
    pub(super) own: &'static [&'static str],
    pub(super) steps: Option<&'s Steps<'s>>,
    /// The step it stands in, and what comes before that; without one all steps are done.
    pub(super) step: Option<usize>,
    pub(super) order: Option<&'s Order>,
}

const IN_STEP: &[&str] = &["input", "steps", "transaction", "self"];
const AT_END: &[&str] = &["input", "steps", "transaction"];
pub(super) const ENLISTED: &[&str] = &["transaction", "self"];

pub(super) fn check(
    steps: &Steps<'_>,
    order: Option<&Order>,
    output: Option<&(Template, Place<'_>)>,
    faults: &mut Faults,
) {
    for (index, step) in steps.list.iter().enumerate() {
        let scope = Scope { roots: IN_STEP, own: &[], steps: Some(steps), step: Some(index), order };
        for operation in step.operations() {
            scope.operation(operation, true, faults);
        }
        if let Some((template, place)) = &step.output {
            let own = &["request", "response", "idempotency_key"];
            Scope { own, ..scope }.template(template, place, faults);
        }
    }
    if let Some((template, place)) = output {
        let scope = Scope { roots: AT_END, own: &[], steps: Some(steps), step: None, order };
        scope.template(template, place, faults);
    }
}

impl Scope<'_> {
    /// `called`: the coordinator makes the forward call, so it knows request and response.
    pub(super) fn operation(self, operation: &Draft<'_>, called: bool, faults: &mut Faults) {
        const KEY: &[&str] = &["idempotency_key"];
        let (own, asked): (_, &[_]) = match (operation.kind.is_forward(), called) {
            (true, _) => (KEY, &["request", "idempotency_key"]),
            (false, true) => (&SELF[..], &SELF),
            (false, false) => (KEY, KEY),
        };
        let scope = Self { own, ..self };
        operation.each_template(|place, template| scope.template(template, place, faults));
        if let Some(status_check) = &operation.status_check {
            let scope = Self { own: asked, ..self };
            status_check.each_template(|place, template| scope.template(template, place, faults));
        }
    }

    pub(super) fn template(self, template: &Template, place: &Place<'_>, faults: &mut Faults) {
        template.each_read(|below, path, names| {
            if !faults.is_full()
                && let Err((code, message, help)) = self.path(path, names, faults)
            {
                faults.add_at(code, format!("{}{below}", place.pointer()), message, help);
            }
        });
    }

    /// `names`: of items, known beside the roots.
    fn path(self, path: &Path, names: &[String], faults: &mut Faults) -> Result<(), Fault> {
        let root = path.root.as_str();
        if !self.roots.contains(&root) {
            return Err(match root {
                "signals" | "config" => unknown(format!("{} is not in this version yet", quote(root)), None),
                "response" => unknown("`response` is there in `outcome` rules alone".to_owned(), None),
                "self" => unknown("`self` is there in a step alone".to_owned(), None),
                _ => {
                    let known = || names.iter().map(String::as_str).chain(self.roots.iter().copied());
                    let help = faults.nearest(root, known());
                    unknown(format!("{} is none of {}", quote(root), list(known())), help)
                }
            });
        }
        match root {
            "transaction" => {
                self.field("transaction", path, 0, &TRANSACTION, faults)?;
                match path.segments.len() {
                    1 => Ok(()),
                    _ => Err(unknown(format!("{} is a text: nothing stands below it", quote(&path.source)), None)),
                }
            }
            "self" => self.own(path, faults),
            "steps" => self.step(path, faults),
            _ => Ok(()),
        }
    }

    fn own(self, path: &Path, faults: &mut Faults) -> Result<(), Fault> {
        let field = self.field("self", path, 0, &SELF, faults)?;
        if !self.own.contains(&field) {
            let message = format!("`self.{field}` is not known yet where this is rendered");
            return Err(unknown(message, Some(format!("Here `self` has {}.", list(self.own.iter().copied())))));
        }
        match field {
            "request" => self.field("self.request", path, 1, &["body"], faults).map(drop),
            "response" => self.field("self.response", path, 1, &["status", "headers", "body"], faults).map(drop),
            _ => Ok(()),
        }
    }

    fn step(self, path: &Path, faults: &mut Faults) -> Result<(), Fault> {
        let Some(steps) = self.steps else { return Ok(()) };
        let Some(name) = path.key(0) else {
            return Err(unknown(format!("{} names no step", quote(&path.source)), None));
        };
        let Some(step) = steps.names.get(name).copied() else {
            let help = faults.nearest(name, steps.names.keys().copied());
            return Err(unknown(format!("there is no step {}", quote(name)), help));
        };
        let field = self.field(&format!("steps.{name}"), path, 1, &["output", "status"], faults)?;
        if field == "output" && matches!(steps.list[step].kind, Kind::Parallel { .. }) {
            return Err(unknown(format!("the block {} has no output", quote(name)), None));
        }
        let (Some(here), Some(order)) = (self.step, self.order) else { return Ok(()) };
        if here == step {
            let help = "In `compensate`, `confirm` and `cancel` read `self.output`.".to_owned();
            return Err(("E203", "the step's own data is not there yet".to_owned(), Some(help)));
        }
        if order.follows(here, step) {
            return Ok(());
        }
        let message = format!("{} may not have run yet: this step does not come after it", quote(name));
        Err(("E203", message, Some(format!("Add {} to this step's `after`, or move the step.", quote(name)))))
    }

    /// One of the fields that are there below `base`.
    fn field(
        self,
        base: &str,
        path: &Path,
        at: usize,
        fields: &[&'static str],
        faults: &mut Faults,
    ) -> Result<&'static str, Fault> {
        let Some(name) = path.key(at) else {
            let message = format!("{} needs a field: one of {}", quote(base), list(fields.iter().copied()));
            return Err(unknown(message, None));
        };
        fields.iter().copied().find(|field| *field == name).ok_or_else(|| {
            let help = faults.nearest(name, fields.iter().copied());
            unknown(format!("{} has no {}: it has {}", quote(base), quote(name), list(fields.iter().copied())), help)
        })
    }
}

type Fault = (&'static str, String, Option<String>);

const fn unknown(message: String, help: Option<String>) -> Fault {
    ("E202", message, help)
}
