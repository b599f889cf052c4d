//! Steps as they are written, blocks laid flat: one list in document order, each step knowing the block it stands in.

use std::collections::BTreeMap;

use skald_protocol::BranchId;

use crate::{
    definition::{
        diagnostic::Code,
        syntax::{
            include::Included,
            operation::{Draft, Inherited},
            read::{Faults, Node, Place, quote},
            retry::Policy,
            step_kind::{Arm, Reading},
        },
    },
    limit,
    plan::{Fail, OnExhausted, Phase, Wait},
    template::Template,
};

#[derive(Debug)]
pub(in crate::definition) struct Step<'a> {
    /// Empty where it could not be read.
    pub(in crate::definition) name: &'a str,
    /// Of an included definition's steps: where that is included.
    pub(in crate::definition) place: Place<'a>,
    /// The definition it is of: 0, or one more than the index in `Steps::included`.
    pub(in crate::definition) scope: usize,
    pub(in crate::definition) phase: Phase,
    /// The nearest block around it, and the arm.
    pub(in crate::definition) within: Option<(usize, usize)>,
    pub(in crate::definition) when: Option<(Template, Place<'a>)>,
    pub(in crate::definition) after: Option<Vec<Node<'a>>>,
    pub(in crate::definition) role: Option<(Said, Place<'a>)>,
    pub(in crate::definition) retry: Option<(Policy, Place<'a>)>,
    pub(in crate::definition) output: Option<(Template, Place<'a>)>,
    pub(in crate::definition) kind: Kind<'a>,
    /// An unknown field stands in it, most likely the one that seems to be missing.
    pub(in crate::definition) misspelt: bool,
}

#[derive(Debug)]
pub(in crate::definition) enum Kind<'a> {
    Saga {
        action: Box<Draft<'a>>,
        compensate: Option<Box<Draft<'a>>>,
    },
    Tcc {
        try_: Option<Box<Draft<'a>>>,
        confirm: Option<Box<Draft<'a>>>,
        cancel: Option<Box<Draft<'a>>>,
    },
    Parallel {
        fail: Fail,
        /// The steps that stand directly in each arm.
        arms: Vec<Vec<usize>>,
    },
    /// The last arm is the one without a condition.
    Choice {
        arms: Vec<Arm<'a>>,
    },
    Map {
        items: (Template, Place<'a>),
        variable: &'a str,
        max_items: usize,
        max_concurrency: usize,
        steps: Vec<usize>,
    },
    Wait {
        wait: Wait,
        place: Place<'a>,
    },
    /// A `saga` step: another definition's steps.
    Include {
        scope: usize,
        steps: Vec<usize>,
    },
    Set {
        template: Template,
        place: Place<'a>,
    },
    Fail {
        error: &'a str,
        message: Option<(Template, Place<'a>)>,
    },
    Succeed {
        output: Option<(Template, Place<'a>)>,
    },
    /// What it is could not be read, which is reported.
    Unread,
}

/// A `role` that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::definition) enum Said {
    Compensatable,
    Pivot,
    Retriable,
    ReadOnly,
}

pub(in crate::definition) const ROLES: [(&str, Said); 4] = [
    ("compensatable", Said::Compensatable),
    ("pivot", Said::Pivot),
    ("retriable", Said::Retriable),
    ("read_only", Said::ReadOnly),
];

#[derive(Debug)]
pub(in crate::definition) struct Steps<'a> {
    pub(in crate::definition) place: Place<'a>,
    pub(in crate::definition) list: Vec<Step<'a>>,
    /// Those that stand in no block.
    pub(in crate::definition) top: Vec<usize>,
    /// The same of `on_abort` and `on_end`, as far as they are written.
    pub(in crate::definition) late: Vec<Vec<usize>>,
    /// By definition.
    pub(in crate::definition) names: Vec<BTreeMap<&'a str, usize>>,
    pub(in crate::definition) included: Vec<Included<'a>>,
}

impl<'a> Step<'a> {
    /// What a wait reads, with the place of each.
    pub(in crate::definition) fn awaited(&self) -> impl Iterator<Item = (&Template, Place<'a>)> {
        let wait = match &self.kind {
            Kind::Wait { wait, place } => Some((wait, place)),
            _ => None,
        };
        wait.into_iter().flat_map(|(wait, place)| {
            wait.templates().iter().enumerate().map(|(index, template)| match wait {
                Wait::First { .. } => (template, place.index(index)),
                Wait::For(_) | Wait::Until(_) | Wait::Signal { .. } => (template, place.clone()),
            })
        })
    }

    pub(in crate::definition) fn operations(&self) -> impl Iterator<Item = &Draft<'a>> {
        let all = match &self.kind {
            Kind::Saga { action, compensate } => [Some(action), compensate.as_ref(), None],
            Kind::Tcc { try_, confirm, cancel } => [try_.as_ref(), confirm.as_ref(), cancel.as_ref()],
            _ => [None, None, None],
        };
        all.into_iter().flatten().map(Box::as_ref)
    }

    /// The steps that stand directly in each of its arms.
    pub(in crate::definition) fn arms(&self) -> Vec<&[usize]> {
        match &self.kind {
            Kind::Parallel { arms, .. } => arms.iter().map(Vec::as_slice).collect(),
            Kind::Choice { arms } => arms.iter().map(|arm| arm.steps.as_slice()).collect(),
            Kind::Map { steps, .. } | Kind::Include { steps, .. } => vec![steps],
            _ => Vec::new(),
        }
    }

    /// Moves what it says of other steps and of definitions.
    pub(in crate::definition) fn shift(&mut self, steps: usize, scopes: usize) {
        self.scope += scopes;
        let all = |list: &mut Vec<usize>| list.iter_mut().for_each(|step| *step += steps);
        if let Some((block, _)) = &mut self.within {
            *block += steps;
        }
        match &mut self.kind {
            Kind::Parallel { arms, .. } => arms.iter_mut().for_each(all),
            Kind::Choice { arms } => arms.iter_mut().for_each(|arm| all(&mut arm.steps)),
            Kind::Map { steps, .. } => all(steps),
            Kind::Include { scope, steps } => {
                *scope += scopes;
                all(steps);
            }
            _ => {}
        }
    }
}

impl<'a> Steps<'a> {
    pub(in crate::definition) fn none() -> Self {
        let place = Place::default();
        Self {
            place,
            list: Vec::new(),
            top: Vec::new(),
            late: Vec::new(),
            names: vec![BTreeMap::new()],
            included: Vec::new(),
        }
    }

    pub(in crate::definition) fn read(node: &Node<'a>, reading: Reading<'_, 'a>, faults: &mut Faults) -> Self {
        let mut steps = Self { place: node.place.clone(), ..Self::none() };
        let top = steps.siblings(node, None, reading, faults);
        steps.top = top;
        if steps.top.is_empty() && node.value.as_array().is_some_and(Vec::is_empty) {
            faults.add(Code::EmptyBlock, &node.place, "there is no step");
        }
        steps
    }

    /// The steps of `on_abort` or `on_end`.
    pub(in crate::definition) fn read_late(&mut self, node: &Node<'a>, reading: Reading<'_, 'a>, faults: &mut Faults) {
        let top = self.siblings(node, None, reading, faults);
        if node.value.as_array().is_some_and(Vec::is_empty) {
            faults.add(Code::EmptyBlock, &node.place, "there is no step");
        }
        self.late.push(top);
    }

    /// Those that stand in no block, by phase.
    pub(in crate::definition) fn tops(&self) -> impl Iterator<Item = &[usize]> {
        std::iter::once(&self.top).chain(&self.late).map(Vec::as_slice)
    }

    /// Blocks nest no deeper than JSON does, so neither does this.
    pub(in crate::definition) fn siblings(
        &mut self,
        node: &Node<'a>,
        within: Option<(usize, usize)>,
        reading: Reading<'_, 'a>,
        faults: &mut Faults,
    ) -> Vec<usize> {
        let mut siblings = Vec::new();
        for node in node.array(faults).unwrap_or_default() {
            if self.list.len() >= limit::STEPS {
                let before = faults.len();
                let message = format!("too_many_steps: at most {} are taken", limit::STEPS);
                faults.add(Code::InvalidJson, &node.place, message);
                debug_assert!(faults.len() > before || faults.is_full());
                break;
            }
            if let Some(index) = self.step(&node, within, reading, faults) {
                siblings.push(index);
            }
        }
        siblings
    }

    fn step(
        &mut self,
        node: &Node<'a>,
        within: Option<(usize, usize)>,
        reading: Reading<'_, 'a>,
        faults: &mut Faults,
    ) -> Option<usize> {
        let mut object = node.object(faults)?;
        let known = reading.known;
        let index = self.list.len();
        let name = object.require("name", faults).and_then(|node| self.name(&node, index, faults)).unwrap_or_default();
        let inherited = object.take("service").map(|node| Inherited { name: known.service(&node, faults) });
        let after = object.take("after").and_then(|node| node.array(faults));
        let role = object.take("role").and_then(|node| Some((node.word(&ROLES, faults)?, node.place)));
        let retry = object.take("retry").and_then(|node| Some((known.policy(&node, faults)?, node.place)));
        let output = object.take("output").and_then(|node| Some((node.template(faults)?, node.place)));
        let when = object.take("when").and_then(|node| Some((node.condition(faults)?, node.place)));
        object.take("description").and_then(|node| node.text(faults));
        self.list.push(Step {
            name,
            place: node.place.clone(),
            scope: 0,
            phase: reading.phase,
            within,
            when,
            after,
            role,
            retry,
            output,
            kind: Kind::Unread,
            misspelt: false,
        });
        let kind = self.kind(&mut object, index, inherited.as_ref(), reading, faults);
        let clean = object.end(faults);
        if kind.is_none() && clean {
            let help = "Write `action`, `try` with `confirm` and `cancel`, or one of `parallel`, `choice`, `map`, \
                        `wait`, `saga`, `set`, `fail`, `succeed`.";
            faults.add_with(Code::UnknownOrMissingField, &node.place, "what the step does is missing", help);
        }
        let step = &mut self.list[index];
        step.kind = kind.unwrap_or(Kind::Unread);
        step.misspelt = !clean;
        Some(index)
    }

    fn name(&mut self, node: &Node<'a>, index: usize, faults: &mut Faults) -> Option<&'a str> {
        let name = node.text(faults)?;
        let valid = name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            && name.len() <= BranchId::MAX;
        if !valid {
            let message = format!("{} is not a step's name: [a-z][a-z0-9_]*, at most {}", quote(name), BranchId::MAX);
            faults.add(Code::InvalidValue, &node.place, message);
            return None;
        }
        if let Some(first) = self.names[0].get(name) {
            let first = self.list[*first].place.pointer();
            faults.add(Code::DuplicateName, &node.place, format!("there is another step {} at {first}", quote(name)));
            return Some(name);
        }
        self.names[0].insert(name, index);
        Some(name)
    }

    /// The steps around it, nearest first, each with the arm that it stands in.
    pub(in crate::definition) fn around(&self, step: usize) -> impl Iterator<Item = (usize, usize)> {
        std::iter::successors(self.list[step].within, |(block, _)| self.list[*block].within)
    }

    pub(in crate::definition) fn is_map(&self, step: usize) -> bool {
        matches!(self.list[step].kind, Kind::Map { .. })
    }

    /// The nearest map around it.
    pub(in crate::definition) fn map_around(&self, step: usize) -> Option<usize> {
        self.around(step).map(|(block, _)| block).find(|block| self.is_map(*block))
    }

    /// Whether all maps around `step` are also around `here` or are `here` itself: what stands in a map is seen only there.
    pub(in crate::definition) fn is_in_sight(&self, step: usize, here: Option<usize>, seen_from_end: bool) -> bool {
        self.map_around(step).is_none_or(|map| {
            here.is_some_and(|here| (here == map && seen_from_end) || self.around(here).any(|(block, _)| block == map))
        })
    }

    /// Whether `step` may be skipped in a run that comes to `here` (to the end, without it).
    pub(in crate::definition) fn may_be_absent(&self, step: usize, here: Option<usize>) -> bool {
        let shared = |block: usize, arm: Option<usize>| {
            here.is_some_and(|here| {
                here == block && arm.is_none()
                    || self.around(here).any(|(one, in_arm)| one == block && arm.is_none_or(|arm| arm == in_arm))
            })
        };
        let own = self.list[step].when.is_some() && !shared(step, None);
        own || self.around(step).any(|(block, arm)| match &self.list[block].kind {
            Kind::Choice { .. } => !shared(block, Some(arm)),
            _ => self.list[block].when.is_some() && !shared(block, None),
        })
    }

    /// Whether `step` may be without output in a run that comes to `here`: skipped, given up, waited in vain, or never
    /// begun.
    pub(in crate::definition) fn may_lack_output(&self, step: usize, here: Option<usize>) -> bool {
        let in_vain = match &self.list[step].kind {
            Kind::Saga { action, .. } => action.on_exhausted == Some(OnExhausted::Ignore),
            Kind::Wait { wait, .. } => wait.goes_on(),
            _ => false,
        };
        // A phase begins whatever ran of the one before it.
        let of_before = here.is_some_and(|here| self.list[here].phase != self.list[step].phase);
        in_vain || of_before || self.may_be_absent(step, here)
    }

    /// Whether the two stand in different arms of one choice, so that never both of them run.
    pub(in crate::definition) fn are_exclusive(&self, one: usize, other: usize) -> bool {
        self.around(one).any(|(block, arm)| {
            matches!(self.list[block].kind, Kind::Choice { .. })
                && self.around(other).any(|(around, other)| around == block && other != arm)
        })
    }
}
