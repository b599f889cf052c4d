//! Steps as they are written, blocks laid flat: one list in document order, each step knowing the block it stands in.

use std::collections::BTreeMap;

use skald_protocol::{BranchId, OperationKind};

use super::{
    operation::{Draft, Inherited, Known},
    read::{Faults, Node, Object, Place, quote},
    retry::Policy,
};
use crate::{limit, plan::Fail, template::Template};

#[derive(Debug)]
pub(super) struct Step<'a> {
    /// Empty where it could not be read.
    pub(super) name: &'a str,
    pub(super) place: Place<'a>,
    /// The nearest block around it.
    pub(super) within: Option<usize>,
    pub(super) after: Option<Vec<Node<'a>>>,
    pub(super) role: Option<(Said, Place<'a>)>,
    pub(super) retry: Option<(Policy, Place<'a>)>,
    pub(super) output: Option<(Template, Place<'a>)>,
    pub(super) kind: Kind<'a>,
    /// An unknown field stands in it, most likely the one that seems to be missing.
    pub(super) misspelt: bool,
}

#[derive(Debug)]
pub(super) enum Kind<'a> {
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
    /// What it is could not be read, which is reported.
    Unread,
}

/// A `role` that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    Compensatable,
    Pivot,
    Retriable,
    ReadOnly,
}

pub(super) const ROLES: [(&str, Said); 4] = [
    ("compensatable", Said::Compensatable),
    ("pivot", Said::Pivot),
    ("retriable", Said::Retriable),
    ("read_only", Said::ReadOnly),
];

/// The fields that say what a step is; those after `parallel` are not in this version.
const KINDS: [&str; 10] = ["action", "try", "confirm", "cancel", "parallel", "choice", "map", "wait", "saga", "set"];

#[derive(Debug, Default)]
pub(super) struct Steps<'a> {
    pub(super) place: Place<'a>,
    pub(super) list: Vec<Step<'a>>,
    /// Those that stand in no block.
    pub(super) top: Vec<usize>,
    pub(super) names: BTreeMap<&'a str, usize>,
}

impl<'a> Step<'a> {
    pub(super) fn operations(&self) -> impl Iterator<Item = &Draft<'a>> {
        let all = match &self.kind {
            Kind::Saga { action, compensate } => [Some(action), compensate.as_ref(), None],
            Kind::Tcc { try_, confirm, cancel } => [try_.as_ref(), confirm.as_ref(), cancel.as_ref()],
            Kind::Parallel { .. } | Kind::Unread => [None, None, None],
        };
        all.into_iter().flatten().map(Box::as_ref)
    }
}

impl<'a> Steps<'a> {
    pub(super) fn read(node: &Node<'a>, known: &Known<'a>, faults: &mut Faults) -> Self {
        let mut steps = Self { place: node.place.clone(), ..Self::default() };
        let top = steps.siblings(node, None, known, faults);
        steps.top = top;
        if steps.top.is_empty() && node.value.as_array().is_some_and(Vec::is_empty) {
            faults.add("E105", &node.place, "there is no step");
        }
        steps
    }

    /// Blocks nest no deeper than JSON does, so neither does this.
    fn siblings(
        &mut self,
        node: &Node<'a>,
        within: Option<usize>,
        known: &Known<'a>,
        faults: &mut Faults,
    ) -> Vec<usize> {
        let mut siblings = Vec::new();
        for node in node.array(faults).unwrap_or_default() {
            if self.list.len() == limit::STEPS {
                let before = faults.len();
                let message = format!("too_many_steps: at most {} are taken", limit::STEPS);
                faults.add("E001", &node.place, message);
                debug_assert!(faults.len() > before || faults.is_full());
                break;
            }
            if let Some(index) = self.step(&node, within, known, faults) {
                siblings.push(index);
            }
        }
        siblings
    }

    fn step(
        &mut self,
        node: &Node<'a>,
        within: Option<usize>,
        known: &Known<'a>,
        faults: &mut Faults,
    ) -> Option<usize> {
        let mut object = node.object(faults)?;
        let index = self.list.len();
        let name = object.require("name", faults).and_then(|node| self.name(&node, index, faults)).unwrap_or_default();
        let inherited = object.take("service").map(|node| Inherited { name: known.service(&node, faults) });
        let after = object.take("after").and_then(|node| node.array(faults));
        let role = object.take("role").and_then(|node| Some((node.word(&ROLES, faults)?, node.place)));
        let retry = object.take("retry").and_then(|node| Some((known.policy(&node, faults)?, node.place)));
        let output = object.take("output").and_then(|node| Some((node.template(faults)?, node.place)));
        object.take("description").and_then(|node| node.text(faults));
        object.later("when", faults);
        self.list.push(Step {
            name,
            place: node.place.clone(),
            within,
            after,
            role,
            retry,
            output,
            kind: Kind::Unread,
            misspelt: false,
        });
        let kind = self.kind(&mut object, index, inherited.as_ref(), known, faults);
        let clean = object.end(faults);
        if kind.is_none() && clean {
            let help = "Write `action`, `try` with `confirm` and `cancel`, or `parallel`.";
            faults.add_with("E002", &node.place, "what the step does is missing", help);
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
            faults.add("E004", &node.place, message);
            return None;
        }
        if let Some(first) = self.names.get(name) {
            let first = self.list[*first].place.pointer();
            faults.add("E101", &node.place, format!("there is another step {} at {first}", quote(name)));
            return Some(name);
        }
        self.names.insert(name, index);
        Some(name)
    }

    /// `None`: nothing says what it does.
    fn kind(
        &mut self,
        object: &mut Object<'a>,
        index: usize,
        service: Option<&Inherited<'a>>,
        known: &Known<'a>,
        faults: &mut Faults,
    ) -> Option<Kind<'a>> {
        let operation = |object: &mut Object<'a>, name, kind, faults: &mut Faults| {
            object.take(name).map(|node| Box::new(Draft::read(&node, kind, service, known, faults)))
        };
        let [action, compensate, try_, confirm, cancel] = [
            ("action", OperationKind::Action),
            ("compensate", OperationKind::Compensate),
            ("try", OperationKind::Try),
            ("confirm", OperationKind::Confirm),
            ("cancel", OperationKind::Cancel),
        ]
        .map(|(name, kind)| operation(object, name, kind, faults));
        let parallel = object.take("parallel");
        let fail = object.take("fail");
        let mut unread = false;
        for name in &KINDS[5..] {
            unread |= object.later(name, faults);
        }
        // A step's `fail` is a step of its own but beside `parallel`, where it is a word.
        if parallel.is_none()
            && let Some(fail) = &fail
        {
            faults.add("E002", &fail.place, "`fail` is not in this version yet");
            unread = true;
        }
        let tcc = try_.is_some() || confirm.is_some() || cancel.is_some();
        let place = object.place.clone();
        if usize::from(action.is_some()) + usize::from(tcc) + usize::from(parallel.is_some()) > 1 {
            let message = "a step is one of `action`, `try` with `confirm` and `cancel`, and `parallel`";
            faults.add("E002", &place, message);
            return Some(Kind::Unread);
        }
        if let Some(node) = parallel {
            self.refuse_on_block(index, compensate.as_deref(), service.is_some(), faults);
            return Some(self.parallel(&node, fail.as_ref(), index, known, faults));
        }
        if tcc {
            if let Some(compensate) = compensate {
                let message = "a TCC step is undone by its `cancel`; `compensate` belongs to an `action`";
                faults.add("E002", &compensate.place, message);
            }
            return Some(Kind::Tcc { try_, confirm, cancel });
        }
        match (action, compensate) {
            (Some(action), compensate) => Some(Kind::Saga { action, compensate }),
            (None, Some(compensate)) => {
                faults.add("E002", &compensate.place, "a `compensate` without an `action` has nothing to undo");
                Some(Kind::Unread)
            }
            (None, None) => unread.then_some(Kind::Unread),
        }
    }

    /// What a block has no use for would be passed over in silence.
    fn refuse_on_block(&self, index: usize, compensate: Option<&Draft<'a>>, has_service: bool, faults: &mut Faults) {
        let step = &self.list[index];
        let role = step.role.as_ref().map(|(_, place)| place.clone());
        let retry = step.retry.as_ref().map(|(_, place)| place.clone());
        let output = step.output.as_ref().map(|(_, place)| place.clone());
        let service = has_service.then(|| step.place.key("service"));
        let compensate = compensate.map(|draft| draft.place.clone());
        for place in [role, retry, output, service, compensate].into_iter().flatten() {
            faults.add_with(
                "E002",
                &place,
                "a `parallel` block does not take this",
                "Write it on the steps in the block.",
            );
        }
    }

    fn parallel(
        &mut self,
        node: &Node<'a>,
        fail: Option<&Node<'a>>,
        index: usize,
        known: &Known<'a>,
        faults: &mut Faults,
    ) -> Kind<'a> {
        let fail = fail.and_then(|node| node.word(&[("fast", Fail::Fast), ("wait_all", Fail::WaitAll)], faults));
        let mut arms = Vec::new();
        let nodes = node.array(faults).unwrap_or_default();
        if node.value.as_array().is_some_and(Vec::is_empty) {
            faults.add("E105", &node.place, "a `parallel` block without arms");
        }
        for node in nodes {
            let Some(mut object) = node.object(faults) else { continue };
            if let Some(steps) = object.require("steps", faults) {
                if steps.value.as_array().is_some_and(Vec::is_empty) {
                    faults.add("E105", &steps.place, "an arm without steps");
                }
                arms.push(self.siblings(&steps, Some(index), known, faults));
            }
            object.end(faults);
        }
        Kind::Parallel { fail: fail.unwrap_or(Fail::Fast), arms }
    }
}
