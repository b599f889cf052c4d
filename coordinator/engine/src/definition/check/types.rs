//! What expressions come to where they stand: E204 to E207, E209.
//!
//! Known are the `input` by its schema, what `output` mappings make, texts and numbers of the language itself. Answers of
//! participants may be anything. What a stored plan holds was judged when it was published, by the compiler of that day.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use crate::{
    cel::{
        COST,
        infer::{Facts, Flaw, Inferred, Root, Roots, What},
        types::{Kinds, Member, Presence, Type},
    },
    definition::{
        check::{
            include_input::{Given, LOOKED_AT},
            order::Order,
        },
        diagnostic::Code,
        input_schema::type_of,
        syntax::{
            include::Included,
            operation::Draft,
            read::{Faults, Place, list, quote},
            step::{Kind, Step, Steps},
        },
    },
    limit,
    path::Path,
    plan::{Body, Phase, Target, Wait},
    template::{Found, Standing, Template},
    value::Value,
};

/// Members named in a fault.
const NAMED: usize = 8;

/// What a step evaluates without a call, in thousands of steps, with lists as long as they may be.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::definition) struct Cost {
    /// When its turn comes.
    pub(in crate::definition) turn: u64,
    /// Of a map: once all of its items are done.
    pub(in crate::definition) end: u64,
}

/// Where a template stands, and so what may come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spot {
    Url,
    Header,
    /// The time of a wait, the name of a signal, what is told of a failure.
    Text,
    Condition,
    Items,
    Json,
}

/// By block and arm; `None` is the top.
type Around = BTreeMap<Option<(usize, usize)>, Rc<Facts>>;

/// What is known of all data of a definition.
pub(in crate::definition) struct Types<'s, 'a> {
    steps: Option<&'s Steps<'a>>,
    /// Of the definition itself, and of each that it includes.
    inputs: Vec<Type>,
    /// Of `steps.<name>.output`.
    outputs: Vec<Type>,
    /// Of the items of each map, once they are asked for: all that they read has come before.
    items: Vec<OnceCell<Type>>,
    order: Option<&'s Order>,
    /// The waits that fail without the signal of that name.
    waits: BTreeMap<String, Vec<usize>>,
    /// What the conditions around an arm's steps say, by block and arm.
    around: RefCell<Around>,
}

/// The same, as seen from a step; without one all are done.
#[derive(Clone)]
struct Here<'t, 's, 'a> {
    types: &'t Types<'s, 'a>,
    step: Option<usize>,
    /// Whose names are known: an index in `Steps::names`.
    names: usize,
    /// What stands in the step is done too.
    from_end: bool,
    /// What the conditions around say is there: wherever this is evaluated they came out so.
    known: Rc<Facts>,
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

pub(in crate::definition) fn check(
    steps: &Steps<'_>,
    order: Option<&Order>,
    input: Option<&Value>,
    output: Option<&(Template, Place<'_>)>,
    faults: &mut Faults,
) -> Vec<Cost> {
    let types = Types::of(steps, order, input);
    // What is included was judged when it was published: what it costs is asked anew.
    let mut judged = Faults::new();
    let each = |(index, step): (usize, &Step<'_>)| {
        types.at(Some(index)).step(step, if step.scope == 0 { &mut *faults } else { &mut judged })
    };
    let costs = steps.list.iter().enumerate().map(each).collect();
    if let Some((template, place)) = output {
        types.at(None).alone(template, place, Spot::Json, faults);
    }
    costs
}

/// An operation of an enlisted branch, which reads nothing that has a type but what it calls for.
pub(in crate::definition) fn check_enlisted(operation: &Draft<'_>, faults: &mut Faults) {
    let types = Types {
        steps: None,
        inputs: Vec::new(),
        outputs: Vec::new(),
        items: Vec::new(),
        order: None,
        waits: BTreeMap::new(),
        around: RefCell::default(),
    };
    types.at(None).operation(operation, faults);
}

impl<'s, 'a> Types<'s, 'a> {
    /// `input`: a schema that was read without a fault.
    fn of(steps: &'s Steps<'a>, order: Option<&'s Order>, input: Option<&Value>) -> Self {
        let included = steps.included.iter().map(|included| included.schema);
        let inputs = std::iter::once(input).chain(included);
        // One that is included often is read once.
        let mut read: BTreeMap<usize, Type> = BTreeMap::new();
        let mut typed =
            |schema: &Value| read.entry(std::ptr::from_ref(schema).addr()).or_insert_with(|| type_of(schema)).clone();
        let inputs = inputs.map(|schema| schema.map_or(Type::DYN, &mut typed)).collect();
        let outputs = vec![Type::DYN; steps.list.len()];
        let items = steps.list.iter().map(|_| OnceCell::new()).collect();
        let mut waits: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, step) in steps.list.iter().enumerate() {
            if let Kind::Wait { wait, .. } = &step.kind
                && !wait.goes_on()
                && let [name] = wait.signals()
                && name.is_static()
                && let Value::String(name) = name.value()
            {
                waits.entry(name).or_default().push(index);
            }
        }
        let around = RefCell::default();
        let mut types = Self { steps: Some(steps), inputs, outputs, items, order, waits, around };
        // Each reads what comes before it.
        for index in order.into_iter().flat_map(|order| &order.sequence).copied() {
            types.outputs[index] = types.output(index, &steps.list[index]);
        }
        types
    }

    fn at(&self, step: Option<usize>) -> Here<'_, 's, 'a> {
        let names = self.steps.zip(step).map_or(0, |(steps, step)| steps.list[step].scope);
        let mut here = Here { types: self, step, names, from_end: false, known: Rc::default() };
        let within = self.steps.zip(step).and_then(|(steps, step)| steps.list[step].within);
        let mut around = self.around.borrow_mut();
        here.known = Rc::clone(around.entry(within).or_insert_with(|| Rc::new(here.known_around())));
        if let Some((when, _)) = here.own_condition() {
            when.facts(true, Rc::make_mut(&mut here.known));
        }
        drop(around);
        here
    }

    /// What `steps.<name>.output` is of that step.
    fn output(&self, index: usize, step: &Step<'_>) -> Type {
        let here = self.at(Some(index));
        let mapped = step.output.as_ref().map(|(template, _)| template);
        match &step.kind {
            Kind::Set { template, .. } => here.infer(template),
            Kind::Wait { wait: Wait::First { .. }, .. } => first(),
            Kind::Map { max_items, steps, .. } => {
                let item = match (mapped, steps.last()) {
                    (Some(template), _) => here.ended().infer(template),
                    // The last step's, or null where that was skipped.
                    (None, Some(last)) => self.outputs[*last].join(&Type::of(Kinds::NULL)),
                    (None, None) => Type::DYN,
                };
                Type::list(item, Some(*max_items as u64))
            }
            Kind::Include { scope, .. } => {
                let included = self.steps.and_then(|steps| steps.included.get(scope.checked_sub(1)?));
                let written = included.and_then(|included| included.output.as_ref());
                // What stands around is of another definition, with other names.
                let inside = Here { names: *scope, known: Rc::default(), ..here.ended() };
                written.map_or(Type::DYN, |(template, _)| inside.infer(template))
            }
            _ => mapped.map_or(Type::DYN, |template| here.infer(template)),
        }
    }

    /// What one item of a map is.
    fn item(&self, map: usize, items: &Template) -> Type {
        self.items[map].get_or_init(|| self.at(Some(map)).infer(items).item()).clone()
    }

    fn find(&self, name: &str, names: usize) -> Option<usize> {
        self.steps?.names.get(names)?.get(name).copied()
    }
}

impl<'s, 'a> Here<'_, 's, 'a> {
    fn infer(&self, template: &Template) -> Type {
        template.infer(self, &self.known, &mut |_| {})
    }

    /// The blocks around, outermost first, each with the arm; of the same definition alone.
    fn around(&self) -> Vec<(&'s Step<'a>, usize, usize)> {
        let (Some(steps), Some(step)) = (self.types.steps, self.step) else { return Vec::new() };
        let own = self.from_end.then_some((step, 0));
        let around = own.into_iter().chain(steps.around(step));
        let of_same = around.filter(|(block, _)| steps.list[*block].scope == self.names);
        let mut around: Vec<_> = of_same.map(|(block, arm)| (&steps.list[block], block, arm)).collect();
        around.reverse();
        around
    }

    fn own_condition(&self) -> Option<&'s (Template, Place<'a>)> {
        self.types.steps?.list.get(self.step?)?.when.as_ref()
    }

    /// Where what stands in the step is done.
    fn ended(&self) -> Self {
        let inside = Self { from_end: true, ..self.clone() };
        Self { known: Rc::new(inside.known_around()), ..inside }
    }

    fn known_around(&self) -> Facts {
        let mut facts = Facts::default();
        for (block, _, arm) in self.around() {
            if let Some((when, _)) = &block.when {
                when.facts(true, &mut facts);
            }
            match &block.kind {
                Kind::Map { variable, .. } => facts.forget(variable),
                Kind::Choice { arms } => {
                    for (index, condition) in arms.iter().take(arm + 1).enumerate() {
                        if let Some((when, _)) = &condition.when {
                            when.facts(index == arm, &mut facts);
                        }
                    }
                }
                _ => {}
            }
        }
        facts
    }

    /// The item that a name means.
    fn variable(&self, name: &str) -> Option<Type> {
        self.around().into_iter().rev().find_map(|(step, block, _)| match &step.kind {
            Kind::Map { variable, items: (items, _), .. } if *variable == name => Some(self.types.item(block, items)),
            _ => None,
        })
    }
}

impl Roots for Here<'_, '_, '_> {
    fn root(&self, path: &Path) -> Root {
        let known = |kind, taken| Root { kind, taken, presence: Presence::Assumed };
        let unknown = || known(Type::DYN, path.segments.len());
        // What is no field of them is told elsewhere.
        match (path.root.as_str(), path.key(0), path.key(1)) {
            ("input", _, _) => known(self.types.inputs.get(self.names).cloned().unwrap_or(Type::DYN), 0),
            ("transaction", Some("error"), _) => {
                let phase = self.types.steps.zip(self.step).map(|(steps, step)| steps.list[step].phase);
                match phase {
                    Some(Phase::OnAbort) => known(error(), 1),
                    Some(Phase::OnEnd) => Root { presence: Presence::Optional, ..known(error(), 1) },
                    Some(Phase::Main) | None => unknown(),
                }
            }
            ("transaction", Some(_), _) if path.segments.len() == 1 => known(Type::TEXT, 1),
            ("steps", Some(name), Some(field @ ("output" | "status"))) => {
                let Some(step) = self.types.find(name, self.names) else { return unknown() };
                if field == "status" {
                    return known(Type::TEXT, 2);
                }
                let absent = self.types.steps.is_some_and(|steps| steps.may_lack_output(step, self.step));
                let presence = if absent { Presence::Optional } else { Presence::Assumed };
                Root { presence, ..known(self.types.outputs[step].clone(), 2) }
            }
            ("signals", Some(name), _) => {
                let presence = if self.is_awaited(name) { Presence::Assumed } else { Presence::Optional };
                Root { presence, ..known(Type::DYN, 1) }
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
            (name, _, _) => self.variable(name).map_or_else(unknown, |kind| known(kind, 0)),
        }
    }
}

impl Here<'_, '_, '_> {
    /// Whether a wait before this, which fails without it, has seen the signal.
    fn is_awaited(&self, signal: &str) -> bool {
        let (Some(steps), Some(order)) = (self.types.steps, self.types.order) else { return false };
        let waits = self.types.waits.get(signal).into_iter().flatten();
        waits.copied().any(|wait| {
            let before = self.step.is_none_or(|step| order.follows(step, wait));
            before && !steps.may_be_absent(wait, self.step)
        })
    }

    fn step(&self, step: &Step<'_>, faults: &mut Faults) -> Cost {
        // Its condition and what it does by itself are evaluated as one.
        let mut bill = Bill::default();
        if let Some((when, place)) = &step.when {
            // It says nothing of itself.
            let outside = Self { known: Rc::new(self.known_around()), ..self.clone() };
            outside.template(when, place, Spot::Condition, &mut bill, faults);
        }
        for operation in step.operations() {
            self.operation(operation, faults);
        }
        match &step.kind {
            Kind::Choice { arms } => {
                let mut known = Facts::clone(&self.known);
                for (when, place) in arms.iter().filter_map(|arm| arm.when.as_ref()) {
                    let here = Self { known: Rc::new(known.clone()), ..self.clone() };
                    here.template(when, place, Spot::Condition, &mut bill, faults);
                    when.facts(false, &mut known);
                }
            }
            Kind::Map { items: (items, place), .. } => self.template(items, place, Spot::Items, &mut bill, faults),
            Kind::Wait { .. } => {
                for (template, place) in step.awaited() {
                    self.template(template, &place, Spot::Text, &mut bill, faults);
                }
            }
            Kind::Set { template, place } | Kind::Succeed { output: Some((template, place)) } => {
                self.template(template, place, Spot::Json, &mut bill, faults);
            }
            Kind::Fail { message: Some((message, place)), .. } => {
                self.template(message, place, Spot::Text, &mut bill, faults);
            }
            Kind::Include { scope, .. } => {
                let included = self.types.steps.and_then(|steps| steps.included.get(scope.checked_sub(1)?));
                if let Some((input, place)) = included.and_then(|included| included.input.as_ref()) {
                    self.template(input, place, Spot::Json, &mut bill, faults);
                }
                if let Some(included) = included {
                    self.given(included, *scope, step, faults);
                }
            }
            Kind::Saga { .. }
            | Kind::Tcc { .. }
            | Kind::Parallel { .. }
            | Kind::Fail { .. }
            | Kind::Succeed { .. }
            | Kind::Unread => {}
        }
        let mut cost = Cost { turn: bill.settle(faults) >> 10, end: 0 };
        match (&step.output, &step.kind) {
            (Some((template, place)), Kind::Map { max_items, .. }) => {
                let each = self.ended().alone(template, place, Spot::Json, faults);
                cost.end = each.saturating_mul(known(*max_items)) >> 10;
            }
            (Some((template, place)), _) => {
                self.alone(template, place, Spot::Json, faults);
            }
            (None, _) => {}
        }
        cost
    }

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
        let _ = bill.settle(faults);
        let mut bill = Bill::default();
        for (rule, place) in &operation.outcome {
            self.template(&rule.when, &place.key("when"), Spot::Condition, &mut bill, faults);
            if let Some(message) = &rule.message {
                self.template(message, &place.key("message"), Spot::Text, &mut bill, faults);
            }
        }
        bill.settle(faults);
        let poll = operation.pending.as_ref().and_then(|pending| pending.poll.as_ref()).map(|poll| &poll.operation);
        for question in operation.status_check.iter().chain(poll) {
            self.operation(question, faults);
        }
    }

    /// The input of an included workflow; without one it is the including transaction's.
    fn given(&self, included: &Included<'_>, scope: usize, step: &Step<'_>, faults: &mut Faults) {
        let Some(wanted) = self.types.inputs.get(scope) else { return };
        let (kind, pointer, source) = match &included.input {
            Some((template, place)) => (self.infer(template), place.pointer(), template.value()),
            None => {
                let own = self.types.inputs.get(self.names).cloned();
                (own.unwrap_or(Type::DYN), step.place.key("saga").pointer(), Value::Null)
            }
        };
        let is_written = |below: &str| source.pointer(below).is_some();
        let given =
            Given { kind: &kind, pointer, is_written: &is_written, title: &included.title, left: Cell::new(LOOKED_AT) };
        given.check(wanted, faults);
    }

    /// What is evaluated by itself, and what that costs.
    fn alone(&self, template: &Template, place: &Place<'_>, spot: Spot, faults: &mut Faults) -> u64 {
        let mut bill = Bill::default();
        self.template(template, place, spot, &mut bill, faults);
        bill.settle(faults)
    }

    fn template(&self, template: &Template, place: &Place<'_>, spot: Spot, bill: &mut Bill, faults: &mut Faults) {
        template.infer(self, &self.known, &mut |found: Found<'_>| {
            if faults.is_full() {
                return;
            }
            let pointer = || format!("{}{}", place.pointer(), found.pointer);
            let Inferred { kind, flaws, cost, bounds } = found.inferred;
            bill.add(cost, bounds, pointer);
            let clean = flaws.is_empty();
            for Flaw { what, message } in flaws {
                let (code, message, help) = describe(what, message, faults);
                faults.add_at(code, pointer(), message, help);
            }
            let in_text = found.standing == Standing::InText || !matches!(spot, Spot::Json | Spot::Items);
            let wanted = match spot {
                Spot::Condition => Kinds::BOOL,
                Spot::Items if found.standing == Standing::Alone && found.pointer.is_empty() => Kinds::LIST,
                _ if in_text => Kinds::SCALAR,
                _ => Kinds::ALL,
            };
            if clean && !kind.kinds.may_be(wanted) {
                let (code, message, help) = misfit(spot, &quote(found.source), kind.kinds);
                faults.add_at(code, pointer(), message, Some(help.to_owned()));
            }
        });
    }
}

/// Of `transaction.error`.
fn error() -> Type {
    let member = |name: &str, presence| (Rc::from(name), Member { kind: Type::TEXT, presence });
    let optional = ["message", "step"].map(|name| member(name, Presence::Optional));
    Type::map(BTreeMap::from_iter(optional.into_iter().chain([member("code", Presence::Assumed)])), None)
}

/// How many items a map goes through, where that is said: else one, as of a list without end.
pub(in crate::definition) const fn known(max_items: usize) -> u64 {
    if max_items < limit::MAP_ITEMS { max_items as u64 } else { 1 }
}

/// What cannot stand there, whatever it comes to.
fn misfit(spot: Spot, source: &str, kinds: Kinds) -> (Code, String, &'static str) {
    let kinds = kinds.describe();
    match spot {
        Spot::Url => (
            Code::StructureInUrl,
            format!("{source} is {kinds}: a URL takes strings, numbers and booleans alone"),
            "Read a member of it, or send it in the `body`.",
        ),
        Spot::Header => (
            Code::WrongType,
            format!("{source} is {kinds}: a header takes strings, numbers and booleans alone"),
            "Read a member of it, write json() around it, or send it in the `body`.",
        ),
        Spot::Text => (Code::WrongType, format!("{source} is {kinds} and no text"), "Read a member of it."),
        Spot::Condition => (
            Code::WrongType,
            format!("the condition is {kinds}, which is neither true nor false"),
            "Compare it with something.",
        ),
        Spot::Items => (
            Code::WrongType,
            format!("{source} is {kinds}: a map goes through a list"),
            "Give it a list, as in ${input.lines}.",
        ),
        Spot::Json => (
            Code::WrongType,
            format!("{source} is {kinds}, and stands in a longer text"),
            "Write json() around it, or let the string be this one expression.",
        ),
    }
}

/// The code, the words and the remedy for what is wrong with an expression.
fn describe(what: What, message: String, faults: &mut Faults) -> (Code, String, Option<String>) {
    match what {
        What::Unfit { help } => (Code::WrongType, message, help.map(str::to_owned)),
        What::Absent { path } => {
            let of_step = path.starts_with("steps.");
            let of_signal = path.starts_with("signals.");
            let of_error = path.starts_with("transaction.error");
            let message = if of_step {
                format!("{message}: the step may be skipped, or come to nothing")
            } else if of_error {
                format!("{message}: not every transaction has it")
            } else if of_signal {
                format!("{message}: no wait before this makes sure that the signal came")
            } else {
                format!("{message}: the schema does not require it")
            };
            let path = if path.len() > 60 || path.is_empty() { "…".to_owned() } else { path };
            let guard = if path.ends_with(']') { String::new() } else { format!("Ask has({path}) first, or r") };
            let read = if guard.is_empty() { "R" } else { "" };
            let required =
                if of_step || of_signal || of_error { "" } else { ", or name it in the schema's `required`" };
            (Code::MayBeAbsent, message, Some(format!("{guard}{read}ead it as coalesce({path}, …){required}.")))
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
            (Code::UnknownMember, message, help)
        }
    }
}

/// What a wait for several signals gives.
fn first() -> Type {
    let member = |kind| Member { kind, presence: Presence::Assumed };
    let members = [("signal", member(Type::TEXT)), ("payload", member(Type::DYN))];
    Type::map(members.into_iter().map(|(name, member)| (name.into(), member)).collect(), None)
}

impl Bill {
    fn add(&mut self, cost: u64, bounds: Vec<(String, u64)>, pointer: impl FnOnce() -> String) {
        self.cost = self.cost.saturating_add(cost);
        if cost > 0 && self.worst.as_ref().is_none_or(|worst| worst.cost < cost) {
            self.worst = Some(Item { cost, pointer: pointer(), bounds });
        }
    }

    /// What it comes to; E207, where the run-time bound would be met.
    fn settle(self, faults: &mut Faults) -> u64 {
        let Some(Item { pointer, mut bounds, .. }) = self.worst.filter(|_| self.cost > COST) else { return self.cost };
        bounds.sort_by_key(|(_, most)| std::cmp::Reverse(*most));
        let loops: Vec<_> = bounds.iter().take(3).map(|(name, most)| format!("{} (now {most})", quote(name))).collect();
        let message = format!(
            "too costly: with lists as long as they may be this takes {} steps; one request may take {COST}",
            self.cost
        );
        let help = if loops.is_empty() {
            "Read less, or let the participant compute it.".to_owned()
        } else {
            format!(
                "Lower the `maxItems` (of a map: `max_items`) of {}, or let the participant compute it.",
                loops.join(" and ")
            )
        };
        faults.add_at(Code::TooCostly, pointer, message, Some(help));
        self.cost
    }
}
