//! A plan as a picture, in Mermaid or DOT: pure text, the same for the same plan.
//!
//! Steps in their order; blocks and maps as frames; a choice a diamond, the pivot a hexagon; what follows it tinted; dashed,
//! what an abort undoes. With a transaction laid over it every step has the colour of its branch, a step of a map that of
//! the item that is worst off.

mod dot;
mod mermaid;

use std::{
    collections::BTreeMap,
    fmt::{Display, Write},
};

use skald_protocol::{BranchStatus, TransactionView, duration_text};

use crate::{
    plan::{Arm, Block, Branch, Fail, Phase, Plan, Role, Wait},
    template::Template,
    text::shortened,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A flowchart.
    Mermaid,
    /// Graphviz.
    Dot,
}

/// Of an expression in a picture.
const SHOWN: usize = 40;

/// Draws a plan; `execution` is laid over it, as far as its page of branches goes.
#[must_use]
pub fn graph(plan: &Plan, execution: Option<&TransactionView>, form: Form) -> String {
    let chart = Chart::of(plan, execution);
    match form {
        Form::Mermaid => mermaid::write(&chart),
        Form::Dot => dot::write(&chart),
    }
}

#[derive(Default)]
struct Chart {
    title: String,
    nodes: Vec<Node>,
    frames: Vec<Frame>,
    edges: Vec<Edge>,
    /// The frames of the phases after the main one.
    lanes: BTreeMap<Phase, usize>,
}

struct Node {
    key: usize,
    lines: Vec<String>,
    shape: Shape,
    tail: bool,
    frame: Option<usize>,
    status: Option<BranchStatus>,
}

struct Frame {
    key: usize,
    title: String,
    frame: Option<usize>,
}

struct Edge {
    from: End,
    to: End,
    kind: Arrow,
}

enum Arrow {
    Then,
    /// Into the arm of a choice, with its condition.
    If(String),
    /// The operation.
    Undo(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Node(usize),
    Frame(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Step,
    Tcc,
    Pivot,
    Retriable,
    ReadOnly,
    Choice,
    Wait,
    Set,
    Fail,
    Succeed,
    /// Where arms come together.
    Joint,
}

impl Chart {
    fn of(plan: &Plan, execution: Option<&TransactionView>) -> Self {
        let title = plan.workflow.as_ref().map(|workflow| format!("{} {}", workflow.name, workflow.version));
        let mut chart = Self { title: title.unwrap_or_default(), ..Self::default() };
        let mut statuses: BTreeMap<String, Vec<BranchStatus>> = BTreeMap::new();
        for branch in execution.into_iter().flat_map(|execution| &execution.branches) {
            statuses.entry(shared(branch.branch.as_str())).or_default().push(branch.status);
        }
        let mut next = plan.branches.len();
        for phase in plan.branches.iter().map(|branch| branch.phase).filter(|phase| *phase != Phase::Main) {
            chart.lanes.entry(phase).or_insert_with(|| {
                let key = next;
                next += 1;
                chart.frames.push(Frame { key, title: phase.as_str().to_owned(), frame: None });
                key
            });
        }
        chart.add(&plan.branches, Space { base: 0, path: "", frame: None }, &mut statuses, &mut next);
        // What was enlisted by a client is in no plan.
        for (id, of) in statuses.iter().filter(|_| plan.open) {
            let status = of.first().copied();
            let lines = std::iter::once(id.clone()).chain(status.map(|status| status.to_string())).collect();
            chart.nodes.push(Node { key: next, lines, shape: Shape::Tcc, tail: false, frame: None, status });
            next += 1;
        }
        chart
    }

    /// The branches of the plan or, below it, of a map.
    fn add(
        &mut self,
        branches: &[Branch],
        space: Space<'_>,
        statuses: &mut BTreeMap<String, Vec<BranchStatus>>,
        next: &mut usize,
    ) {
        for (index, branch) in branches.iter().enumerate() {
            let key = space.base + index;
            let frame = branch
                .within
                .map(|block| space.base + block)
                .or(space.frame)
                .or_else(|| self.lanes.get(&branch.phase).copied());
            let id = format!("{}{}", space.path, branch.id);
            if let Some(title) = frame_title(branch) {
                self.frames.push(Frame { key, title, frame });
            } else {
                let of = statuses.remove(&shared(id.trim_end_matches('~'))).unwrap_or_default();
                let lines = lines(branch, &of);
                let status = worst(&of);
                self.nodes.push(Node { key, lines, shape: shape(branch), tail: branch.tail, frame, status });
            }
            self.edges_to(branches, space, key, branch);
            if let Some(Block::Map(map)) = &branch.block {
                let base = *next;
                *next += map.branches.len();
                let path = format!("{id}.0.");
                self.add(&map.branches, Space { base, path: &path, frame: Some(key) }, statuses, next);
            }
        }
    }

    fn edges_to(&mut self, branches: &[Branch], space: Space<'_>, key: usize, branch: &Branch) {
        // The arms of a `parallel` end at its border.
        if matches!(branch.role, Role::Parallel { .. }) {
            return;
        }
        let end_of = |index: usize, branch: &Branch| {
            let key = space.base + index;
            if frame_title(branch).is_some() { End::Frame(key) } else { End::Node(key) }
        };
        let to = if frame_title(branch).is_some() { End::Frame(key) } else { End::Node(key) };
        self.empty_arms(branches, space, to, branch);
        for before in &branch.after {
            let Some(previous) = branches.get(*before) else { continue };
            let from = end_of(*before, previous);
            let kind = match (&previous.block, branch.arm) {
                (Some(Block::Choose(conditions)), Some(arm)) if arm.gate == *before => {
                    let condition = arm
                        .index
                        .map(|index| conditions.get(index).map_or_else(|| "otherwise".to_owned(), template_text));
                    condition.map_or(Arrow::Then, Arrow::If)
                }
                _ => Arrow::Then,
            };
            self.edges.push(Edge { from, to, kind });
            if branch.tail {
                continue;
            }
            let undo = match &previous.undo {
                Some(undo) => Some(undo.kind.to_string()),
                None => undoes_within(branches, *before).then(|| "undo".to_owned()),
            };
            if let Some(undo) = undo {
                self.edges.push(Edge { from: to, to: from, kind: Arrow::Undo(undo) });
            }
        }
    }

    /// An arm without steps leads straight to where the arms come together.
    fn empty_arms(&mut self, branches: &[Branch], space: Space<'_>, to: End, joint: &Branch) {
        let Some(arm) = joint.arm.filter(|arm| arm.index.is_none()) else { return };
        let gate = branches.get(arm.gate).filter(|gate| gate.step == joint.step);
        let Some(Block::Choose(conditions)) = gate.and_then(|gate| gate.block.as_ref()) else { return };
        for index in 0..=conditions.len() {
            let is_in = |other: Arm| other.gate == arm.gate && other.index == Some(index);
            if !branches.iter().any(|branch| branch.arm.is_some_and(is_in)) {
                let from = End::Node(space.base + arm.gate);
                let condition = conditions.get(index).map_or_else(|| "otherwise".to_owned(), template_text);
                self.edges.push(Edge { from, to, kind: Arrow::If(condition) });
            }
        }
    }

    /// The nodes and frames directly in a frame, or in none.
    fn within(&self, frame: Option<usize>) -> (impl Iterator<Item = &Node>, impl Iterator<Item = &Frame>) {
        let nodes = self.nodes.iter().filter(move |node| node.frame == frame);
        (nodes, self.frames.iter().filter(move |inner| inner.frame == frame))
    }
}

#[derive(Clone, Copy)]
struct Space<'a> {
    /// The key of its first branch.
    base: usize,
    /// Of its branches.
    path: &'a str,
    frame: Option<usize>,
}

/// The path that all items of a map have in common.
fn shared(id: &str) -> String {
    let segments = id.split('.').map(|segment| {
        let is_index = !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit());
        if is_index { "0" } else { segment }
    });
    segments.collect::<Vec<_>>().join(".")
}

fn undoes_within(branches: &[Branch], block: usize) -> bool {
    let undoes = |branch: &Branch| branch.undo.is_some();
    match branches.get(block).map(|branch| (&branch.role, &branch.block)) {
        Some((_, Some(Block::Map(map)))) => map.branches.iter().any(undoes),
        Some((Role::Parallel { .. }, _)) => {
            branches.iter().any(|branch| branch.within == Some(block) && undoes(branch))
        }
        _ => false,
    }
}

fn frame_title(branch: &Branch) -> Option<String> {
    match (branch.role, &branch.block) {
        (_, Some(Block::Map(map))) => {
            Some(format!("{}: for each {} of {}", branch.step, map.variable, template_text(&map.items)))
        }
        (Role::Parallel { fail: Fail::Fast }, _) => Some(branch.step.clone()),
        (Role::Parallel { fail: Fail::WaitAll }, _) => Some(format!("{} (wait_all)", branch.step)),
        _ => None,
    }
}

/// A gate stands before the block whose name it has.
fn is_gate(branch: &Branch) -> bool {
    branch.id.as_str().ends_with('~')
}

fn shape(branch: &Branch) -> Shape {
    match (branch.role, &branch.block) {
        (Role::Pivot, _) => Shape::Pivot,
        (Role::Retriable, _) => Shape::Retriable,
        (Role::ReadOnly, _) => Shape::ReadOnly,
        (Role::Tcc, _) => Shape::Tcc,
        (_, Some(Block::Choose(_))) => Shape::Choice,
        (_, Some(Block::Wait(_))) => Shape::Wait,
        (_, Some(Block::Set(_))) => Shape::Set,
        (_, Some(Block::Fail { .. })) => Shape::Fail,
        (_, Some(Block::Succeed { .. })) => Shape::Succeed,
        (Role::Pure, None) if is_gate(branch) => Shape::Choice,
        (Role::Pure, None) => Shape::Joint,
        (Role::Compensatable | Role::Parallel { .. } | Role::Pure, _) => Shape::Step,
    }
}

fn lines(branch: &Branch, statuses: &[BranchStatus]) -> Vec<String> {
    let mut lines = vec![match (is_gate(branch), &branch.block) {
        (true, Some(Block::Set(_))) => format!("{}: input", branch.step),
        (false, Some(Block::Set(_))) if branch.arm.is_some_and(|arm| arm.index.is_none()) => {
            format!("{}: output", branch.step)
        }
        _ => branch.step.clone(),
    }];
    let service = branch.forward.as_ref().and_then(|forward| forward.service.clone());
    let kind = match (branch.role, &branch.block) {
        (Role::Pivot, _) => Some("pivot".to_owned()),
        (Role::Retriable, _) => Some("retriable".to_owned()),
        (Role::ReadOnly, _) => Some("read_only".to_owned()),
        (Role::Tcc, _) => Some("try, confirm, cancel".to_owned()),
        (_, Some(Block::Wait(Wait::For(time)))) => Some(format!("waits for {}", template_text(time))),
        (_, Some(Block::Wait(Wait::Until(time)))) => Some(format!("waits until {}", template_text(time))),
        (_, Some(Block::Wait(Wait::Signal { name, timeout, .. }))) => {
            Some(format!("waits for the signal {}, at most {}", template_text(name), duration_text(*timeout)))
        }
        (_, Some(Block::Wait(Wait::First { names, timeout, .. }))) => {
            let names: Vec<_> = names.iter().map(template_text).collect();
            Some(format!("waits for the first signal of {}, at most {}", names.join(", "), duration_text(*timeout)))
        }
        (_, Some(Block::Fail { error, .. })) => Some(format!("fails: {error}")),
        (_, Some(Block::Succeed { .. })) => Some("succeeds".to_owned()),
        (Role::Compensatable | Role::Parallel { .. } | Role::Pure, _) => None,
    };
    let second: Vec<_> = service.into_iter().chain(kind).collect();
    if !second.is_empty() {
        lines.push(second.join(" · "));
    }
    if let Some(when) = &branch.when {
        lines.push(format!("when {}", template_text(when)));
    }
    let mut counts: BTreeMap<BranchStatus, usize> = BTreeMap::new();
    for status in statuses {
        *counts.entry(*status).or_default() += 1;
    }
    let counts: Vec<_> = counts
        .into_iter()
        .map(|(status, count)| if count == 1 { status.to_string() } else { format!("{count} {status}") })
        .collect();
    if !counts.is_empty() {
        lines.push(counts.join(", "));
    }
    lines
}

/// A template as it was written, without the marks around an expression.
fn template_text(template: &Template) -> String {
    let source = template.source();
    let value = template.value();
    let text = value.as_str().map_or_else(|| source.text().to_owned(), str::to_owned);
    let inside = text.strip_prefix("${").and_then(|text| text.strip_suffix('}'));
    let text = inside.filter(|inside| !inside.contains("${")).unwrap_or(&text).trim();
    shortened(text, SHOWN).into_owned()
}

/// What a reader should see of many items.
fn worst(statuses: &[BranchStatus]) -> Option<BranchStatus> {
    let rank = |status: &BranchStatus| match status {
        BranchStatus::Skipped => 0,
        BranchStatus::Waiting => 1,
        BranchStatus::Done => 2,
        BranchStatus::Confirmed => 3,
        BranchStatus::Undone => 4,
        BranchStatus::Running => 5,
        BranchStatus::Confirming => 6,
        BranchStatus::Undoing => 7,
        BranchStatus::Refused => 8,
        BranchStatus::Stuck => 9,
    };
    statuses.iter().copied().max_by_key(rank)
}

/// Fill and border.
const fn colours(status: BranchStatus) -> (&'static str, &'static str) {
    match status {
        BranchStatus::Waiting | BranchStatus::Skipped => ("#f4f4f4", "#9e9e9e"),
        BranchStatus::Running | BranchStatus::Confirming => ("#dbeafe", "#1d4ed8"),
        BranchStatus::Done | BranchStatus::Confirmed => ("#dcfce7", "#15803d"),
        BranchStatus::Undoing | BranchStatus::Undone => ("#fef3c7", "#b45309"),
        BranchStatus::Refused => ("#fee2e2", "#b91c1c"),
        BranchStatus::Stuck => ("#b91c1c", "#450a0a"),
    }
}

/// Of what follows the pivot.
const TAIL: (&str, &str) = ("#eef2ff", "#6366f1");

/// One line of a chart's text.
fn line(text: &mut String, depth: usize, line: impl Display) {
    writeln!(text, "{:indent$}{line}", "", indent = depth * 4).expect("a String takes any text");
}
