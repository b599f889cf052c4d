//! What an expression may read where it stands (docs/workflows.md, Expressions): E202 and E203, in plain paths and in CEL.

use crate::{
    definition::{
        check::order::Order,
        diagnostic::Code,
        syntax::{
            operation::Draft,
            read::{Faults, Place, list, quote},
            step::{Kind, Steps},
        },
    },
    plan::{Phase, Wait},
    template::{Path, Template},
};

const TRANSACTION: [&str; 6] = ["gid", "workflow", "version", "began_at", "status", "error"];
/// Of them, those that are there before the decision.
const UNDECIDED: usize = 4;
const SELF: [&str; 4] = ["request", "response", "output", "idempotency_key"];

/// Where an expression stands.
#[derive(Clone, Copy, Default)]
pub(in crate::definition) struct Scope<'s> {
    pub(in crate::definition) roots: &'static [&'static str],
    /// What of `self` is there.
    pub(in crate::definition) own: &'static [&'static str],
    pub(in crate::definition) steps: Option<&'s Steps<'s>>,
    /// Whose names are known: an index in `Steps::names`.
    pub(in crate::definition) names: usize,
    /// The step it stands in, and what comes before that; without one all steps are done.
    pub(in crate::definition) step: Option<usize>,
    /// What stands in the step is done too.
    pub(in crate::definition) from_end: bool,
    pub(in crate::definition) order: Option<&'s Order>,
}

const IN_STEP: &[&str] = &["input", "steps", "transaction", "signals", "config", "self"];
const BESIDE_STEP: &[&str] = &["input", "steps", "transaction", "signals", "config"];
const IN_RULE: &[&str] = &["response"];
pub(in crate::definition) const ENLISTED: &[&str] = &["transaction", "self"];

pub(in crate::definition) fn check(
    steps: &Steps<'_>,
    order: Option<&Order>,
    output: Option<&(Template, Place<'_>)>,
    faults: &mut Faults,
) {
    each(steps, order, output, |step, scope, template, place| {
        let stand_in = step.and_then(|step| steps.stand_in(step));
        faults.of_another(stand_in, |faults| scope.template(template, place, faults));
    });
}

/// Shows every template of a definition, with the step whose place it has and the scope it is read in.
pub(in crate::definition) fn each<'s>(
    steps: &'s Steps<'s>,
    order: Option<&'s Order>,
    output: Option<&(Template, Place<'_>)>,
    mut show: impl FnMut(Option<usize>, Scope<'s>, &Template, &Place<'_>),
) {
    for (index, step) in steps.list.iter().enumerate() {
        let names = step.scope;
        let scope =
            Scope { roots: IN_STEP, own: &[], steps: Some(steps), names, step: Some(index), from_end: false, order };
        let beside = Scope { roots: BESIDE_STEP, ..scope };
        if let Some((when, place)) = &step.when {
            show(Some(index), beside, when, place);
        }
        for operation in step.operations() {
            scope.operation(operation, true, &mut |scope, place, template| show(Some(index), scope, template, place));
        }
        match &step.kind {
            Kind::Choice { arms } => {
                for (when, place) in arms.iter().filter_map(|arm| arm.when.as_ref()) {
                    show(Some(index), beside, when, place);
                }
            }
            Kind::Map { items: (items, place), .. } => {
                show(Some(index), beside, items, place);
                if let Some((output, place)) = &step.output {
                    show(Some(index), Scope { from_end: true, ..beside }, output, place);
                }
                continue;
            }
            Kind::Wait { .. } => {
                for (template, place) in step.awaited() {
                    show(Some(index), beside, template, &place);
                }
            }
            Kind::Set { template, place } => show(Some(index), beside, template, place),
            Kind::Fail { message: Some((message, place)), .. } => show(Some(index), beside, message, place),
            Kind::Succeed { output: Some((output, place)) } => show(Some(index), beside, output, place),
            Kind::Include { scope, .. } => {
                let included = &steps.included[scope - 1];
                if let Some((input, place)) = &included.input {
                    show(Some(index), beside, input, place);
                }
                if let Some((output, _)) = &included.output {
                    // Its own place is in another document.
                    show(Some(index), Scope { from_end: true, names: *scope, ..beside }, output, &step.place);
                }
            }
            _ => {}
        }
        if let Some((template, place)) = &step.output {
            let own = &["request", "response", "idempotency_key"];
            show(Some(index), Scope { own, ..scope }, template, place);
        }
    }
    if let Some((template, place)) = output {
        let scope = Scope { roots: BESIDE_STEP, steps: Some(steps), order, ..Scope::default() };
        show(None, scope, template, place);
    }
}

impl Scope<'_> {
    /// Every template of an operation. `called`: the coordinator makes the forward call, so it knows request and response.
    pub(in crate::definition) fn operation(
        self,
        operation: &Draft<'_>,
        called: bool,
        show: &mut impl FnMut(Self, &Place<'_>, &Template),
    ) {
        const KEY: &[&str] = &["idempotency_key"];
        let (own, asked): (_, &[_]) = match (operation.kind.is_forward(), called) {
            (true, _) => (KEY, &["request", "idempotency_key"]),
            (false, true) => (&SELF[..], &SELF),
            (false, false) => (KEY, KEY),
        };
        let rules = |operation: &Draft<'_>, show: &mut dyn FnMut(Self, &Place<'_>, &Template)| {
            for (rule, place) in &operation.outcome {
                let read = Scope { roots: IN_RULE, ..Scope::default() };
                show(read, &place.key("when"), &rule.when);
                if let Some(message) = &rule.message {
                    show(read, &place.key("message"), message);
                }
            }
        };
        operation.each_template(|place, template| show(Self { own, ..self }, place, template));
        rules(operation, show);
        let poll = operation.pending.as_ref().and_then(|pending| pending.poll.as_ref()).map(|poll| &poll.operation);
        for question in operation.status_check.iter().chain(poll) {
            question.each_template(|place, template| show(Self { own: asked, ..self }, place, template));
            rules(question, show);
        }
    }

    /// The names of the items of the maps around it.
    pub(in crate::definition) fn variables(&self) -> Vec<&str> {
        let (Some(steps), Some(step)) = (self.steps, self.step) else { return Vec::new() };
        let own = self.from_end.then_some(step);
        let around = own.into_iter().chain(steps.around(step).map(|(block, _)| block));
        around
            .filter(|block| steps.list[*block].scope == self.names)
            .filter_map(|block| match &steps.list[block].kind {
                Kind::Map { variable, .. } => Some(*variable),
                _ => None,
            })
            .collect()
    }

    pub(in crate::definition) fn template(self, template: &Template, place: &Place<'_>, faults: &mut Faults) {
        template.each_read(|below, path, names| {
            if !faults.is_full()
                && let Err((code, message, help)) = self.path(path, names, faults)
            {
                faults.add_at(code, format!("{}{below}", place.pointer()), message, help);
            }
        });
    }

    /// `names`: of items, known beside the roots.
    fn path(self, path: &Path, names: &[String], faults: &mut Faults) -> Result<(), Refusal> {
        let root = path.root.as_str();
        let variables = self.variables();
        if variables.contains(&root) {
            return Ok(());
        }
        if !self.roots.contains(&root) {
            return Err(match root {
                "response" => unknown("`response` is there in `outcome` rules alone".to_owned(), None),
                "self" => unknown("`self` is there in a step alone".to_owned(), None),
                _ => {
                    let known = || {
                        let names = names.iter().map(String::as_str);
                        names.chain(variables.iter().copied()).chain(self.roots.iter().copied())
                    };
                    let help = faults.nearest(root, known());
                    unknown(format!("{} is none of {}", quote(root), list(known())), help)
                }
            });
        }
        match root {
            "transaction" => {
                let late = self.phase() != Phase::Main;
                let known = if late { &TRANSACTION[..] } else { &TRANSACTION[..UNDECIDED] };
                if let Some(name @ ("status" | "error")) = path.key(0).filter(|_| !late) {
                    let message = format!("`transaction.{name}` is there in `on_abort` and `on_end` alone");
                    return Err(unknown(message, None));
                }
                let field = self.field("transaction", path, 0, known, faults)?;
                match path.segments.len() {
                    1 => Ok(()),
                    _ if field == "error" => Ok(()),
                    _ => Err(unknown(format!("{} is a text: nothing stands below it", quote(&path.source)), None)),
                }
            }
            "self" => self.own(path, faults),
            "response" => self.field("response", path, 0, &["status", "headers", "body"], faults).map(drop),
            "signals" if path.key(0).is_none() => {
                Err(unknown("`signals` needs the name of a signal: signals.<name>".to_owned(), None))
            }
            "config" if path.key(0).is_none() => {
                Err(unknown("`config` needs the name of a setting: config.<name>".to_owned(), None))
            }
            "steps" => self.step(path, faults),
            _ => Ok(()),
        }
    }

    fn phase(self) -> Phase {
        self.steps.zip(self.step).map_or(Phase::Main, |(steps, step)| steps.list[step].phase)
    }

    fn own(self, path: &Path, faults: &mut Faults) -> Result<(), Refusal> {
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

    fn step(self, path: &Path, faults: &mut Faults) -> Result<(), Refusal> {
        let Some(steps) = self.steps else { return Ok(()) };
        let Some(name) = path.key(0) else {
            return Err(unknown(format!("{} names no step", quote(&path.source)), None));
        };
        let known = &steps.names[self.names];
        let Some(step) = known.get(name).copied() else {
            let help = faults.nearest(name, known.keys().copied());
            return Err(unknown(format!("there is no step {}", quote(name)), help));
        };
        let field = self.field(&format!("steps.{name}"), path, 1, &["output", "status"], faults)?;
        if !steps.is_in_sight(step, self.step, self.from_end) {
            let map = steps.map_around(step).map_or("", |map| steps.list[map].name);
            let message = format!("{} is seen inside the map {} alone", quote(name), quote(map));
            let help = format!("Outside there is the list of all items: `steps.{map}.output`.");
            return Err((Code::NotRunYet, message, Some(help)));
        }
        let without = matches!(
            steps.list[step].kind,
            Kind::Parallel { .. }
                | Kind::Choice { .. }
                | Kind::Fail { .. }
                | Kind::Succeed { .. }
                | Kind::Wait { wait: Wait::For(_) | Wait::Until(_), .. }
        );
        if field == "output" && without {
            return Err(unknown(format!("the step {} has no output", quote(name)), None));
        }
        let (of, phase) = (steps.list[step].phase, self.phase());
        if of > phase {
            let message = format!("{} stands in `{}`, which begins after this", quote(name), of.as_str());
            return Err((Code::NotRunYet, message, None));
        }
        if of < phase {
            return Ok(());
        }
        let (Some(here), Some(order)) = (self.step, self.order) else { return Ok(()) };
        if !self.from_end && steps.around(step).any(|(block, _)| block == here) {
            let message = format!("{} stands in this step, and has not run yet", quote(name));
            return Err((Code::NotRunYet, message, None));
        }
        if here == step {
            let help = "In `compensate`, `confirm` and `cancel` read `self.output`.".to_owned();
            return Err((Code::NotRunYet, "the step's own data is not there yet".to_owned(), Some(help)));
        }
        if order.follows(here, step) {
            return Ok(());
        }
        let message = format!("{} may not have run yet: this step does not come after it", quote(name));
        Err((Code::NotRunYet, message, Some(format!("Add {} to this step's `after`, or move the step.", quote(name)))))
    }

    /// One of the fields that are there below `base`.
    fn field(
        self,
        base: &str,
        path: &Path,
        at: usize,
        fields: &[&'static str],
        faults: &mut Faults,
    ) -> Result<&'static str, Refusal> {
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

type Refusal = (Code, String, Option<String>);

const fn unknown(message: String, help: Option<String>) -> Refusal {
    (Code::UnknownName, message, help)
}
