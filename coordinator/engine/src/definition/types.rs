//! What expressions come to where they stand: E204 to E207, E209.
//!
//! Known are the `input` by its schema, what `output` mappings make, texts and numbers of the language itself. Answers of
//! participants may be anything. What a stored plan holds was judged when it was published, by the compiler of that day.

use serde_json::Value;

use super::{
    operation::Draft,
    order::Order,
    read::{Faults, Place, list, quote},
    schema::type_of,
    step::Steps,
};
use crate::{
    cel::{
        COST,
        infer::{Facts, Flaw, Inferred, Root, Roots, What},
        types::{Kinds, Presence, Type},
    },
    path::Path,
    plan::{Body, Target},
    template::{Found, Standing, Template},
};

/// Members named in a fault.
const NAMED: usize = 8;

/// Where a template stands, and so what may come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spot {
    Url,
    Header,
    Json,
}

/// What is known of all data of a definition.
pub(super) struct Types<'s, 'a> {
    steps: Option<&'s Steps<'a>>,
    input: Type,
    /// Of `steps.<name>.output`.
    outputs: Vec<Type>,
}

/// The same, as seen from a step; without one all are done.
struct Here<'t, 's, 'a> {
    types: &'t Types<'s, 'a>,
    step: Option<usize>,
}

/// Of one request, or of what is evaluated together as one is.
#[derive(Default)]
struct Bill {
    cost: u64,
    /// The expression that costs most.
    worst: Option<Item>,
}

struct Item {
    cost: u64,
    pointer: String,
    bounds: Vec<(String, u64)>,
}

pub(super) fn check(
    steps: &Steps<'_>,
    order: Option<&Order>,
    input: Option<&Value>,
    output: Option<&(Template, Place<'_>)>,
    faults: &mut Faults,
) {
    let types = Types::of(steps, order, input);
    for (index, step) in steps.list.iter().enumerate() {
        let here = Here { types: &types, step: Some(index) };
        for operation in step.operations() {
            here.operation(operation, faults);
        }
        if let Some((template, place)) = &step.output {
            here.mapping(template, place, faults);
        }
    }
    if let Some((template, place)) = output {
        Here { types: &types, step: None }.mapping(template, place, faults);
    }
}

/// An operation of an enlisted branch, which reads nothing that has a type but what it calls for.
pub(super) fn check_enlisted(operation: &Draft<'_>, faults: &mut Faults) {
    let types = Types { steps: None, input: Type::DYN, outputs: Vec::new() };
    Here { types: &types, step: None }.operation(operation, faults);
}

impl<'s, 'a> Types<'s, 'a> {
    /// `input`: a schema that was read without a fault.
    fn of(steps: &'s Steps<'a>, order: Option<&Order>, input: Option<&Value>) -> Self {
        let outputs = vec![Type::DYN; steps.list.len()];
        let mut types = Self { steps: Some(steps), input: input.map_or(Type::DYN, type_of), outputs };
        // Each reads what comes before it.
        for index in order.into_iter().flat_map(|order| &order.sequence).copied() {
            types.outputs[index] = types.output(index);
        }
        types
    }

    /// What `steps.<name>.output` is of that step.
    fn output(&self, step: usize) -> Type {
        let written = self.steps.and_then(|steps| steps.list[step].output.as_ref());
        let Some((template, _)) = written else { return Type::DYN };
        let here = Here { types: self, step: Some(step) };
        template.infer(&here, &self.known(Some(step)), &mut |_| {})
    }

    /// What the conditions around a step say is there: wherever it runs they are true.
    #[allow(clippy::unused_self, reason = "a step has conditions as soon as the language has")]
    fn known(&self, _step: Option<usize>) -> Facts {
        Facts::default()
    }

    /// Whether a step may be skipped although the one that reads it runs.
    fn may_be_absent(&self, step: usize, reader: Option<usize>) -> bool {
        self.steps.is_some_and(|steps| steps.may_be_absent(step, reader))
    }

    fn find(&self, name: &str, reader: Option<usize>) -> Option<usize> {
        let steps = self.steps?;
        let scope = reader.map_or(0, |reader| steps.list[reader].scope);
        steps.names[scope].get(name).copied()
    }
}

impl Here<'_, '_, '_> {
    /// In another definition, which knows its own input.
    fn is_included(&self) -> bool {
        self.types.steps.zip(self.step).is_some_and(|(steps, step)| steps.list[step].scope > 0)
    }
}

impl Roots for Here<'_, '_, '_> {
    fn root(&self, path: &Path) -> Root {
        let known = |kind, taken| Root { kind, taken, presence: Presence::Assumed };
        let unknown = || known(Type::DYN, path.segments.len());
        // What is no field of them is told elsewhere.
        match (path.root.as_str(), path.key(0), path.key(1)) {
            ("input", _, _) if self.is_included() => unknown(),
            ("input", _, _) => known(self.types.input.clone(), 0),
            ("transaction", Some(_), _) if path.segments.len() == 1 => known(Type::TEXT, 1),
            ("steps", Some(name), Some(field @ ("output" | "status"))) => {
                let Some(step) = self.types.find(name, self.step) else { return unknown() };
                if field == "status" {
                    return known(Type::TEXT, 2);
                }
                let absent = self.types.may_be_absent(step, self.step);
                let presence = if absent { Presence::Optional } else { Presence::Assumed };
                Root { presence, ..known(self.types.outputs[step].clone(), 2) }
            }
            ("self", Some("idempotency_key"), _) => known(Type::TEXT, 1),
            ("self", Some("output"), _) => match self.step {
                Some(step) => known(self.types.outputs[step].clone(), 1),
                None => unknown(),
            },
            ("self", Some("response"), Some("status")) => known(Type::INT, 2),
            ("self", Some("response"), Some("headers")) => known(Type::of(Kinds::MAP), 2),
            ("response", Some("status"), _) => known(Type::INT, 1),
            ("response", Some("headers"), _) => known(Type::of(Kinds::MAP), 1),
            _ => unknown(),
        }
    }
}

impl Here<'_, '_, '_> {
    fn operation(&self, operation: &Draft<'_>, faults: &mut Faults) {
        let mut bill = Bill::default();
        let place = &operation.place;
        match &operation.target {
            Target::Path(template) => self.template(template, &place.key("path"), Spot::Url, &mut bill, faults),
            Target::Url(template) => self.template(template, &place.key("url"), Spot::Url, &mut bill, faults),
        }
        for (name, template) in &operation.query {
            self.template(template, &place.key("query").key(name), Spot::Url, &mut bill, faults);
        }
        for (name, template) in &operation.headers {
            self.template(template, &place.key("headers").key(name), Spot::Header, &mut bill, faults);
        }
        if let Some(Body::Given(template)) = &operation.body {
            self.template(template, &place.key("body"), Spot::Json, &mut bill, faults);
        }
        bill.settle(faults);
        if let Some(status_check) = &operation.status_check {
            self.operation(status_check, faults);
        }
    }

    fn mapping(&self, template: &Template, place: &Place<'_>, faults: &mut Faults) {
        let mut bill = Bill::default();
        self.template(template, place, Spot::Json, &mut bill, faults);
        bill.settle(faults);
    }

    fn template(&self, template: &Template, place: &Place<'_>, spot: Spot, bill: &mut Bill, faults: &mut Faults) {
        let facts = self.types.known(self.step);
        template.infer(self, &facts, &mut |found: Found<'_>| {
            if faults.is_full() {
                return;
            }
            let pointer = || format!("{}{}", place.pointer(), found.pointer);
            let Inferred { kind, flaws, cost, bounds } = found.inferred;
            bill.add(cost, bounds, pointer);
            let clean = flaws.is_empty();
            for Flaw { what, message } in flaws {
                let (code, message, help) = tell(what, message, faults);
                faults.add_at(code, pointer(), message, help);
            }
            let in_text = found.standing == Standing::InText || spot != Spot::Json;
            if in_text && clean && !kind.kinds.may_be(Kinds::SCALAR) {
                let (source, kinds) = (quote(found.source), kind.kinds.describe());
                let (code, message, help) = match spot {
                    Spot::Url => (
                        "E209",
                        format!("{source} is {kinds}: a URL takes strings, numbers and booleans alone"),
                        "Read a member of it, or send it in the `body`.",
                    ),
                    Spot::Header => (
                        "E206",
                        format!("{source} is {kinds}: a header takes strings, numbers and booleans alone"),
                        "Read a member of it, write json() around it, or send it in the `body`.",
                    ),
                    Spot::Json => (
                        "E206",
                        format!("{source} is {kinds}, and stands in a longer text"),
                        "Write json() around it, or let the string be this one expression.",
                    ),
                };
                faults.add_at(code, pointer(), message, Some(help.to_owned()));
            }
        });
    }
}

/// The code, the words and the remedy for what is wrong with an expression.
fn tell(what: What, message: String, faults: &mut Faults) -> (&'static str, String, Option<String>) {
    match what {
        What::Unfit { help } => ("E206", message, help.map(str::to_owned)),
        What::Absent { path } => {
            let of_step = path.starts_with("steps.");
            let message = if of_step {
                format!("{message}: the step may be skipped")
            } else {
                format!("{message}: the schema does not require it")
            };
            let path = if path.len() > 60 || path.is_empty() { "…".to_owned() } else { path };
            let guard = if path.ends_with(']') { String::new() } else { format!("Ask has({path}) first, or r") };
            let read = if guard.is_empty() { "R" } else { "" };
            let required = if of_step { "" } else { ", or name it in the schema's `required`" };
            ("E204", message, Some(format!("{guard}{read}ead it as coalesce({path}, …){required}.")))
        }
        What::NoMember { written, of, help } => {
            let map = of.as_ref().and_then(|kind| kind.map.as_ref());
            let names = || map.iter().flat_map(|map| map.members.keys()).map(|name| &**name);
            let count = names().count();
            let near = faults.nearest(&written, names());
            let more = if count > NAMED { ", …" } else { "" };
            let message = match count {
                0 => message,
                _ => format!("{message}: it has {}{more}", list(names().take(NAMED))),
            };
            let named = || message.starts_with("`input").then_some("Name it in the schema's `properties`.");
            let help = near.or_else(|| help.or_else(|| named().filter(|_| count > 0)).map(str::to_owned));
            ("E205", message, help)
        }
    }
}

impl Bill {
    fn add(&mut self, cost: u64, bounds: Vec<(String, u64)>, pointer: impl FnOnce() -> String) {
        self.cost = self.cost.saturating_add(cost);
        if cost > 0 && self.worst.as_ref().is_none_or(|worst| worst.cost < cost) {
            self.worst = Some(Item { cost, pointer: pointer(), bounds });
        }
    }

    /// E207, where the run-time bound would be met.
    fn settle(self, faults: &mut Faults) {
        let Some(Item { pointer, mut bounds, .. }) = self.worst.filter(|_| self.cost > COST) else { return };
        bounds.sort_by_key(|(_, most)| std::cmp::Reverse(*most));
        let loops: Vec<_> = bounds.iter().take(3).map(|(name, most)| format!("{} (now {most})", quote(name))).collect();
        let message = format!(
            "too costly: with lists as long as they may be this takes {} steps; one request may take {COST}",
            self.cost
        );
        let help = if loops.is_empty() {
            "Read less, or let the participant compute it.".to_owned()
        } else {
            format!("Lower the `maxItems` of {}, or let the participant compute it.", loops.join(" and "))
        };
        faults.add_at("E207", pointer, message, Some(help));
    }
}
