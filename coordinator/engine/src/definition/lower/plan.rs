//! From what is written to the plan: defaults filled in, names resolved, branches in order, blocks taken apart.
//!
//! A `parallel` becomes the branch that waits for its arms. What chooses whether others run (a `choice`, a condition on a
//! block) or brings names of its own (an included saga) has one more branch in front, its gate, named `<step>~`.

use std::collections::BTreeMap;

use skald_protocol::{BranchId, Json};

use crate::{
    definition::{
        check::{
            order::Order,
            safety::{Part, Parts},
            scope,
        },
        diagnostic::Code,
        lower::defaults::{Filling, renamed},
        syntax::{
            document::Document,
            operation::Draft,
            read::Faults,
            step::{Kind, Step, Steps},
        },
    },
    plan::{Arm, Block, Branch, Index, Map, Phase, Plan, Role, Service, Takes},
    template::Template,
};

/// Forward operations that never give up, in a transaction that has no deadline either.
pub(in crate::definition) fn check_bounds(document: &Document<'_>, parts: &Parts, faults: &mut Faults) {
    if document.timeout.is_some() {
        return;
    }
    for (index, step) in document.steps.list.iter().enumerate() {
        let filling = Filling::of(document, parts, index);
        for draft in step.operations().filter(|draft| !filling.settles(draft.kind)) {
            if filling.retry(draft).max_attempts.is_some() {
                continue;
            }
            let place = match (&draft.retry, &step.retry) {
                (Some(_), _) => draft.place.key("retry"),
                (None, Some((_, place))) => place.clone(),
                (None, None) => draft.place.clone(),
            };
            let message = "attempts before the commit are unlimited only in a transaction with a `timeout`";
            let help = "Add a `timeout` to the definition, or a `max_attempts`.";
            faults.of_another(document.steps.stand_in(index), |faults| {
                faults.add_with(Code::InvalidValue, &place, message, help);
            });
        }
    }
}

/// The plan of a definition without faults.
pub(in crate::definition) fn plan(document: &Document<'_>, parts: &Parts, order: &Order) -> Plan {
    let (services, names) = services(document);
    let whole = Whole { document, steps: &document.steps, parts, order, names };
    let branches = Space::lower(&whole, None).branches;
    let mut reads_config = false;
    scope::each(&document.steps, Some(order), document.output.as_ref(), |_, _, template, _| {
        template.each_path(|_, path| reads_config |= path.root == "config");
    });
    Plan {
        workflow: document.workflow.clone(),
        open: false,
        timeout: document.timeout,
        on_timeout: document.on_timeout,
        services,
        reads_config,
        branches,
        output: document.output.as_ref().map(|(template, _)| template.clone()),
        index: Index::default(),
    }
}

type Named = BTreeMap<(usize, String), String>;

/// All services of all definitions; of two that share a name and differ, the included one gets its workflow behind it.
fn services(document: &Document<'_>) -> (BTreeMap<String, Service>, Named) {
    let mut services: BTreeMap<String, Service> = BTreeMap::new();
    let mut names = Named::new();
    let included = document.steps.included.iter();
    let all = std::iter::once((&document.known, None)).chain(included.map(|one| (&one.known, Some(&one.title))));
    for (scope, (known, title)) in all.enumerate() {
        for (name, declared) in known.services.iter().flatten() {
            let key = match (services.get(*name), title) {
                (Some(other), Some(title)) if *other != declared.service => format!("{name}@{title}"),
                _ => (*name).to_owned(),
            };
            names.insert((scope, (*name).to_owned()), key.clone());
            services.insert(key, declared.service.clone());
        }
    }
    (services, names)
}

struct Whole<'s, 'a> {
    document: &'s Document<'a>,
    steps: &'s Steps<'a>,
    parts: &'s Parts,
    order: &'s Order,
    names: Named,
}

/// The branches of the plan or of one map.
struct Space<'w, 's, 'a> {
    whole: &'w Whole<'s, 'a>,
    map: Option<usize>,
    branches: Vec<Branch>,
    nodes: BTreeMap<usize, usize>,
    gates: BTreeMap<usize, usize>,
}

impl<'w, 's, 'a> Space<'w, 's, 'a> {
    fn lower(whole: &'w Whole<'s, 'a>, map: Option<usize>) -> Self {
        let mut space = Self { whole, map, branches: Vec::new(), nodes: BTreeMap::new(), gates: BTreeMap::new() };
        for step in whole.order.sequence.iter().copied() {
            if whole.steps.map_around(step) == map {
                space.open(step);
                space.emit(step);
            }
        }
        // A block's branch comes after those in it.
        for (step, node) in &space.nodes {
            let parallel = |block: &usize| matches!(whole.steps.list[*block].kind, Kind::Parallel { .. });
            space.branches[*node].within =
                space.around(*step).map(|(block, _)| block).find(parallel).map(|block| space.nodes[&block]);
        }
        for (block, gate) in &space.gates {
            space.branches[*gate].within = space.branches[space.nodes[block]].within;
        }
        space
    }

    fn step(&self, step: usize) -> &'s Step<'a> {
        &self.whole.steps.list[step]
    }

    /// The blocks around it that stand in this space.
    fn around(&self, step: usize) -> impl Iterator<Item = (usize, usize)> + use<'s, 'a> {
        let (steps, map) = (self.whole.steps, self.map);
        steps.around(step).take_while(move |(block, _)| Some(*block) != map)
    }

    fn is_gated(&self, block: usize) -> bool {
        let step = self.step(block);
        match step.kind {
            Kind::Choice { .. } | Kind::Include { .. } => true,
            Kind::Parallel { .. } => step.when.is_some(),
            _ => false,
        }
    }

    /// Puts in front of the step what the blocks around it begin with.
    fn open(&mut self, step: usize) {
        let mut blocks: Vec<usize> = self.around(step).map(|(block, _)| block).collect();
        blocks.reverse();
        blocks.push(step);
        for block in blocks {
            if self.is_gated(block) && !self.gates.contains_key(&block) {
                let gate = self.gate(block);
                self.gates.insert(block, self.branches.len());
                self.branches.push(gate);
            }
        }
    }

    fn gate(&self, block: usize) -> Branch {
        let step = self.step(block);
        let after = self.entry_of(block);
        let follows = |before: &usize| self.branches[*before].tail || self.branches[*before].role == Role::Pivot;
        let included = |scope: usize| &self.whole.steps.included[scope - 1];
        let takes = match &step.kind {
            Kind::Include { scope, .. } => included(*scope)
                .schema
                .map(|schema| Takes { workflow: included(*scope).title.clone(), schema: Json::of(schema) }),
            _ => None,
        };
        let block_of = match &step.kind {
            Kind::Choice { arms } => {
                let conditions = arms.iter().filter_map(|arm| Some(arm.when.as_ref()?.0.clone()));
                Some(Block::Choose(conditions.collect()))
            }
            Kind::Include { scope, .. } => {
                let input = included(*scope).input.as_ref().map(|(template, _)| template.clone());
                Some(Block::Set(input.unwrap_or_else(whole_input)))
            }
            _ => None,
        };
        Branch {
            phase: step.phase,
            tail: step.phase != Phase::Main
                || after.iter().any(follows)
                || self.map.is_some_and(|map| self.whole.parts.tail[map]),
            after,
            when: step.when.as_ref().map(|(template, _)| template.clone()),
            arm: self.arm(block),
            saga: self.saga(step.scope),
            takes,
            block: block_of,
            ..Branch::new(id(&format!("{}~", self.path(block))), step.name, Role::Pure)
        }
    }

    fn emit(&mut self, index: usize) {
        let whole = self.whole;
        let step = self.step(index);
        let Part::As(role) = whole.parts.list[index] else { return };
        let is_joint = matches!(step.kind, Kind::Parallel { .. } | Kind::Choice { .. } | Kind::Include { .. });
        let mut after = match whole.order.exits[index].as_slice() {
            exits if is_joint && !exits.is_empty() => exits.iter().map(|exit| self.nodes[exit]).collect(),
            _ if is_joint => self.entry(index),
            _ => self.entry_of(index),
        };
        after.sort_unstable();
        after.dedup();
        let filling = Filling::of(whole.document, whole.parts, index);
        let fill = |draft: Option<&Draft<'_>>| {
            draft.map(|draft| {
                let mut operation = filling.operation(draft);
                renamed(&mut operation, &|name| whole.names.get(&(step.scope, name.to_owned())).cloned());
                operation
            })
        };
        let (forward, confirm, undo) = match &step.kind {
            Kind::Saga { action, compensate } => (Some(&**action), None, compensate.as_deref()),
            Kind::Tcc { try_, confirm, cancel } => (try_.as_deref(), confirm.as_deref(), cancel.as_deref()),
            _ => (None, None, None),
        };
        let gate = self.gates.get(&index).copied();
        let mut forward = fill(forward);
        if let Some(forward) = &mut forward {
            forward.keep_headers = reads_headers(step);
        }
        let branch = Branch {
            after,
            tail: whole.parts.tail[index],
            phase: step.phase,
            when: step.when.as_ref().filter(|_| gate.is_none()).map(|(template, _)| template.clone()),
            arm: gate.map(|gate| Arm { gate, index: None }).or_else(|| self.arm(index)),
            saga: match step.kind {
                Kind::Include { .. } => gate,
                _ => self.saga(step.scope),
            },
            block: self.block(index),
            forward,
            confirm: fill(confirm),
            undo: fill(undo),
            output: step.output.as_ref().map(|(template, _)| template.clone()),
            ..Branch::new(id(&self.path(index)), step.name, role)
        };
        self.nodes.insert(index, self.branches.len());
        self.branches.push(branch);
    }

    fn block(&self, index: usize) -> Option<Block> {
        match &self.step(index).kind {
            Kind::Map { items, variable, max_items, max_concurrency, steps } => {
                let inner = Space::lower(self.whole, Some(index));
                Some(Block::Map(Box::new(Map {
                    items: items.0.clone(),
                    variable: (*variable).to_owned(),
                    max_items: *max_items,
                    max_concurrency: *max_concurrency,
                    result: steps.last().map_or(0, |last| inner.nodes[last]),
                    branches: inner.branches,
                    index: Index::default(),
                })))
            }
            Kind::Wait { wait, .. } => Some(Block::Wait(wait.clone())),
            Kind::Set { template, .. } => Some(Block::Set(template.clone())),
            Kind::Fail { error, message } => Some(Block::Fail {
                error: (*error).to_owned(),
                message: message.as_ref().map(|(template, _)| template.clone()),
            }),
            Kind::Succeed { output } => {
                Some(Block::Succeed { output: output.as_ref().map(|(template, _)| template.clone()) })
            }
            Kind::Include { scope, .. } => {
                let output = self.whole.steps.included[scope - 1].output.as_ref();
                output.map(|(template, _)| Block::Set(template.clone()))
            }
            _ => None,
        }
    }

    /// What the step comes after.
    fn entry_of(&self, step: usize) -> Vec<usize> {
        let own = &self.whole.order.own[step];
        if !own.is_empty() {
            return own.iter().map(|before| self.nodes[before]).collect();
        }
        self.around(step).next().map_or_else(Vec::new, |(block, _)| self.entry(block))
    }

    /// What the first steps in a block come after.
    fn entry(&self, block: usize) -> Vec<usize> {
        self.gates.get(&block).map_or_else(|| self.entry_of(block), |gate| vec![*gate])
    }

    fn arm(&self, step: usize) -> Option<Arm> {
        self.around(step).find_map(|(block, arm)| {
            let gate = *self.gates.get(&block)?;
            let chooses = matches!(self.step(block).kind, Kind::Choice { .. });
            Some(Arm { gate, index: chooses.then_some(arm) })
        })
    }

    /// The gate of the included definition that the step is of, if that stands in this space.
    fn saga(&self, scope: usize) -> Option<usize> {
        let included = &self.whole.steps.included[scope.checked_sub(1)?];
        self.gates.get(&included.step).copied()
    }

    fn path(&self, step: usize) -> String {
        let spec = self.step(step);
        let include = spec.scope.checked_sub(1).map(|scope| self.whole.steps.included[scope].step);
        match include.filter(|include| self.whole.steps.map_around(*include) == self.map) {
            Some(include) => format!("{}.{}", self.path(include), spec.name),
            None => spec.name.to_owned(),
        }
    }
}

/// Whether anything of the step reads the headers of the forward operation's answer.
fn reads_headers(step: &Step<'_>) -> bool {
    let mut found = false;
    let mut look = |template: &Template| {
        template.each_path(|_, path| {
            let whole = path.root == "self" && path.key(0) == Some("response");
            found |= whole && path.key(1).is_none_or(|field| field == "headers");
        });
    };
    for operation in step.operations() {
        operation.each_template(|_, template| look(template));
        let poll = operation.pending.as_ref().and_then(|pending| pending.poll.as_ref()).map(|poll| &poll.operation);
        for question in operation.status_check.iter().chain(poll) {
            question.each_template(|_, template| look(template));
        }
    }
    if let Some((output, _)) = &step.output {
        look(output);
    }
    found
}

fn whole_input() -> Template {
    Template::compile("${input}").expect("a path")
}

fn id(path: &str) -> BranchId {
    BranchId::new(path).expect("a step's path is a branch's")
}
