//! What comes after what: predecessors, a topological order, ancestors.
//!
//! Ancestors are a matrix of bits, so that a thousand steps cost a thousand unions of sixteen words each and no walk.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use crate::definition::{
    diagnostic::Code,
    syntax::{
        read::{Faults, Node, quote},
        step::Steps,
    },
};

/// Between steps. A wide block behind a long `after` would make a large plan of a small definition.
const EDGES: usize = 50_000;

#[derive(Debug)]
pub(in crate::definition) struct Order {
    /// Direct predecessors by step that stand beside it; none: it is among the first of its arm.
    pub(in crate::definition) own: Vec<Vec<usize>>,
    /// Of a block: the last steps of its arms.
    pub(in crate::definition) exits: Vec<Vec<usize>>,
    /// Direct predecessors by step: of a block its exits, ...
    pub(in crate::definition) after: Vec<Vec<usize>>,
    /// ... and what it begins after.
    pub(in crate::definition) entries: Vec<Vec<usize>>,
    /// All steps, predecessors first, else as they stand in the document; a block comes after what is in it.
    pub(in crate::definition) sequence: Vec<usize>,
    ancestors: Bits,
}

#[derive(Debug)]
struct Bits {
    width: usize,
    words: Vec<u64>,
}

impl Bits {
    fn new(count: usize) -> Self {
        let width = count.div_ceil(64);
        Self { width, words: vec![0; width * count] }
    }

    fn has(&self, row: usize, column: usize) -> bool {
        self.words[row * self.width + column / 64] >> (column % 64) & 1 == 1
    }

    fn set(&mut self, row: usize, column: usize) {
        self.words[row * self.width + column / 64] |= 1 << (column % 64);
    }

    fn unite(&mut self, row: usize, other: usize) {
        for word in 0..self.width {
            self.words[row * self.width + word] |= self.words[other * self.width + word];
        }
    }
}

impl Order {
    /// `None`: there is a cycle, or no end of edges, which is reported.
    pub(in crate::definition) fn of(steps: &Steps<'_>, faults: &mut Faults) -> Option<Self> {
        let count = steps.list.len();
        let none = || vec![Vec::new(); count];
        let mut edges = Edges { after: none(), own: none(), exits: none(), entries: none() };
        for top in steps.tops() {
            siblings(steps, top, &[], &mut edges, faults);
        }
        let Edges { after, own, exits, entries } = edges;

        let edges: usize = after.iter().map(Vec::len).sum();
        if edges > EDGES {
            let message =
                format!("too_many_edges: {edges} pairs of steps that follow each other; at most {EDGES} are taken");
            faults.add_with(
                Code::InvalidJson,
                &steps.place,
                message,
                "Put a step or a block between those that all wait for all.",
            );
            return None;
        }
        let mut followers = vec![Vec::new(); count];
        let mut waits: Vec<usize> = after.iter().map(Vec::len).collect();
        for (step, predecessors) in after.iter().enumerate() {
            for predecessor in predecessors {
                followers[*predecessor].push(step);
            }
        }
        let mut ready: BinaryHeap<_> = (0..count).filter(|step| waits[*step] == 0).map(Reverse).collect();
        let mut sequence = Vec::with_capacity(count);
        let mut ancestors = Bits::new(count);
        while let Some(Reverse(step)) = ready.pop() {
            sequence.push(step);
            for predecessor in &after[step] {
                ancestors.unite(step, *predecessor);
                ancestors.set(step, *predecessor);
            }
            for follower in &followers[step] {
                waits[*follower] -= 1;
                if waits[*follower] == 0 {
                    ready.push(Reverse(*follower));
                }
            }
        }
        if sequence.len() < count {
            report_cycles(steps, &after, &waits, faults);
            return None;
        }
        Some(Self { own, exits, after, entries, sequence, ancestors })
    }

    pub(in crate::definition) fn follows(&self, step: usize, earlier: usize) -> bool {
        self.ancestors.has(step, earlier)
    }

    pub(in crate::definition) fn are_related(&self, one: usize, other: usize) -> bool {
        one == other || self.follows(one, other) || self.follows(other, one)
    }
}

struct Edges {
    after: Vec<Vec<usize>>,
    own: Vec<Vec<usize>>,
    exits: Vec<Vec<usize>>,
    entries: Vec<Vec<usize>>,
}

/// Fills in the predecessors of the steps of one array and gives its last ones; `entry` is what the block around them
/// comes after. Blocks nest no deeper than JSON does, so neither does this.
fn siblings(steps: &Steps<'_>, array: &[usize], entry: &[usize], edges: &mut Edges, faults: &mut Faults) -> Vec<usize> {
    let known = |step: usize| steps.names.get(steps.list[step].scope)?.get(steps.list[step].name);
    let names: BTreeMap<&str, usize> =
        array.iter().filter(|step| known(**step) == Some(*step)).map(|step| (steps.list[*step].name, *step)).collect();
    let mut followed = BTreeSet::new();
    for (position, step) in array.iter().copied().enumerate() {
        let own = match &steps.list[step].after {
            Some(nodes) => named(nodes, steps, steps.list[step].scope, &names, faults),
            None => position.checked_sub(1).map(|before| array[before]).into_iter().collect(),
        };
        followed.extend(own.iter().copied());
        edges.after[step] = if own.is_empty() { entry.to_vec() } else { own.clone() };
        edges.own[step] = own;
    }
    for step in array {
        let arms = steps.list[*step].arms();
        if arms.is_empty() {
            continue;
        }
        let entry = std::mem::take(&mut edges.after[*step]);
        let mut last = Vec::new();
        for arm in arms {
            last.extend(siblings(steps, arm, &entry, edges, faults));
        }
        last.sort_unstable();
        edges.after[*step] = if last.is_empty() { entry.clone() } else { last.clone() };
        edges.entries[*step] = entry;
        edges.exits[*step] = last;
    }
    array.iter().copied().filter(|step| !followed.contains(step)).collect()
}

/// The siblings that an `after` names.
fn named(
    nodes: &[Node<'_>],
    steps: &Steps<'_>,
    scope: usize,
    names: &BTreeMap<&str, usize>,
    faults: &mut Faults,
) -> Vec<usize> {
    let mut own = BTreeSet::new();
    for node in nodes {
        let Some(name) = node.text(faults) else { continue };
        if let Some(sibling) = names.get(name) {
            own.insert(*sibling);
        } else if steps.names[scope].contains_key(name) {
            let message = format!("{} stands in another array than this step", quote(name));
            faults.add_with(
                Code::InvalidAfter,
                &node.place,
                message,
                "Name the block that holds it, or move one of the two.",
            );
        } else {
            let help = faults.nearest(name, names.keys().copied());
            let message = format!("there is no step {} beside this one", quote(name));
            faults.add_at(Code::InvalidAfter, node.place.pointer(), message, help);
        }
    }
    own.into_iter().collect()
}

/// Says each cycle once. Every step left over waits for another one left over, so walking backwards ends in one.
fn report_cycles(steps: &Steps<'_>, after: &[Vec<usize>], waits: &[usize], faults: &mut Faults) {
    let mut seen = vec![0_usize; after.len()];
    for start in (0..after.len()).filter(|step| waits[*step] > 0) {
        let mut walk = Vec::new();
        let mut at = start;
        while seen[at] == 0 {
            seen[at] = start + 1;
            walk.push(at);
            let Some(before) = after[at].iter().find(|before| waits[**before] > 0) else { break };
            at = *before;
        }
        let Some(from) = walk.iter().position(|step| *step == at).filter(|_| seen[at] == start + 1) else { continue };
        let mut cycle = walk.split_off(from);
        cycle.reverse();
        let first = cycle.iter().copied().min().unwrap_or(at);
        let turn = cycle.iter().position(|step| *step == first).unwrap_or(0);
        cycle.rotate_left(turn);
        let mut names: Vec<_> = cycle.iter().take(12).map(|step| steps.list[*step].name).collect();
        if cycle.len() > 12 {
            names.push("…");
        }
        names.push(steps.list[first].name);
        let place = &steps.list[first].place;
        faults.add(Code::OrderCycle, place, format!("these steps wait for each other: {}", names.join(" → ")));
    }
}
