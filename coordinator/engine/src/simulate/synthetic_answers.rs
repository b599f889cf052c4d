//! Made answers: bodies that have every member which an expression of the plan reads of them, with a value of the kind that
//! a member of such a name mostly is.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::lookup::all;
use crate::{
    plan::{Block, Body, Branch, Operation, Plan, Target, Wait},
    template::{Path, Segment, Template},
};

/// Answers by step, and payloads by signal.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct SyntheticAnswers {
    pub(super) bodies: BTreeMap<String, Value>,
    pub(super) payloads: BTreeMap<String, Value>,
}

impl SyntheticAnswers {
    pub(super) fn of(plan: &Plan) -> Self {
        let mut members = Members { plan, bodies: BTreeMap::new(), payloads: BTreeMap::new(), depth: 0 };
        members.branches(&plan.branches, &[]);
        if let Some(output) = &plan.output {
            members.template(None, &[], output);
        }
        Self { bodies: values(&members.bodies), payloads: values(&members.payloads) }
    }
}

fn values(reads: &BTreeMap<String, Read>) -> BTreeMap<String, Value> {
    let value = |(name, read): (&String, &Read)| {
        let is_read = !read.keys.is_empty() || read.items.is_some();
        (name.clone(), if is_read { read.value(name, name) } else { json!({}) })
    };
    reads.iter().map(value).collect()
}

/// What is read of one answer.
#[derive(Debug, Clone, Default)]
struct Read {
    keys: BTreeMap<String, Read>,
    items: Option<(usize, Box<Read>)>,
}

/// Beyond it an index makes no array.
const LONGEST: usize = 64;

impl Read {
    fn note(&mut self, segments: &[Segment]) {
        match segments {
            [] => {}
            [Segment::Key(key), rest @ ..] => self.keys.entry(key.clone()).or_default().note(rest),
            [Segment::Index(index), rest @ ..] => {
                let (most, item) = self.items.get_or_insert_default();
                *most = (*most).max(*index + 1).min(LONGEST);
                item.note(rest);
            }
        }
    }

    fn value(&self, step: &str, name: &str) -> Value {
        if let Some((count, item)) = &self.items {
            return Value::Array(vec![item.value(step, name); *count]);
        }
        if self.keys.is_empty() {
            return plausible(step, name);
        }
        let members: Map<_, _> = self.keys.iter().map(|(key, read)| (key.clone(), read.value(step, key))).collect();
        Value::Object(members)
    }
}

/// A value of the kind that a member of such a name mostly is.
fn plausible(step: &str, name: &str) -> Value {
    const NUMBERS: [&str; 17] = [
        "amount", "total", "price", "count", "qty", "quantity", "size", "score", "number", "sum", "balance", "fee",
        "rate", "limit", "index", "seconds", "weight",
    ];
    const TRUTHS: [&str; 12] = [
        "ok",
        "approved",
        "accepted",
        "available",
        "valid",
        "enabled",
        "allowed",
        "active",
        "success",
        "confirmed",
        "found",
        "in_stock",
    ];
    const LISTS: [&str; 8] = ["items", "lines", "results", "entries", "rows", "parts", "list", "holds"];
    let name = name.to_ascii_lowercase();
    let last = name.rsplit('_').next().unwrap_or(&name);
    if NUMBERS.contains(&last) {
        json!(100)
    } else if TRUTHS.contains(&last)
        || TRUTHS.contains(&name.as_str())
        || name.starts_with("is_")
        || name.starts_with("has_")
    {
        json!(true)
    } else if LISTS.contains(&last) {
        json!([format!("{step}-{name}-1"), format!("{step}-{name}-2")])
    } else if last == "at" || last == "date" {
        json!("2026-01-31T12:00:00Z")
    } else {
        json!(format!("{step}-{name}"))
    }
}

/// Mappings through which one read is followed.
const DEEPEST: usize = 32;

struct Members<'p> {
    plan: &'p Plan,
    bodies: BTreeMap<String, Read>,
    payloads: BTreeMap<String, Read>,
    depth: usize,
}

/// A map's variable, and where its items come from if that is a plain path.
#[derive(Clone)]
struct Variable<'p> {
    name: &'p str,
    origin: Option<(&'p Branch, Path)>,
}

impl<'p> Members<'p> {
    fn branches(&mut self, branches: &'p [Branch], variables: &[Variable<'p>]) {
        for branch in branches {
            let mut templates: Vec<&'p Template> = branch.output.iter().chain(&branch.when).collect();
            for operation in [&branch.forward, &branch.confirm, &branch.undo].into_iter().flatten() {
                each_template(operation, &mut templates);
            }
            match &branch.block {
                Some(Block::Set(template)) => templates.push(template),
                Some(Block::Choose(conditions)) => templates.extend(conditions),
                Some(Block::Wait(wait)) => templates.extend(wait.templates()),
                Some(Block::Fail { message, .. }) => templates.extend(message),
                Some(Block::Succeed { output }) => templates.extend(output),
                Some(Block::Map(map)) => {
                    let origin = sole(&map.items).map(|path| (branch, item(path)));
                    if let Some((_, path)) = &origin {
                        self.path(Some(branch), variables, path);
                    }
                    let mut inner = variables.to_vec();
                    inner.push(Variable { name: &map.variable, origin });
                    self.branches(&map.branches, &inner);
                }
                None => {}
            }
            for template in templates {
                self.template(Some(branch), variables, template);
            }
        }
    }

    fn template(&mut self, own: Option<&'p Branch>, variables: &[Variable<'p>], template: &'p Template) {
        template.each_path(|_, path| self.path(own, variables, path));
    }

    fn path(&mut self, own: Option<&'p Branch>, variables: &[Variable<'p>], path: &Path) {
        if self.depth >= DEEPEST {
            return;
        }
        self.depth += 1;
        match (path.root.as_str(), path.key(0), path.key(1), own) {
            ("self", Some("output"), _, Some(own)) => self.output(own, variables, &path.segments[1..]),
            ("self", Some("response"), Some("body"), Some(own)) => self.note(&own.step, &path.segments[2..]),
            ("response", Some("body"), _, Some(own)) => self.note(&own.step, &path.segments[1..]),
            ("steps", Some(step), Some("output"), _) => {
                if let Some(branch) = self.named(own, step) {
                    self.output(branch, variables, &path.segments[2..]);
                }
            }
            ("signals", Some(name), ..) => {
                self.payloads.entry(name.to_owned()).or_default().note(&path.segments[1..]);
            }
            (root, ..) => {
                let variable = variables.iter().rev().find(|variable| variable.name == root);
                if let Some((map, origin)) = variable.and_then(|variable| variable.origin.clone()) {
                    self.path(Some(map), variables, &further(origin, &path.segments));
                }
            }
        }
        self.depth -= 1;
    }

    /// The step of that name, in the same included saga if there is one.
    fn named(&self, own: Option<&Branch>, step: &str) -> Option<&'p Branch> {
        let all: Vec<&'p Branch> = all(self.plan);
        let named = all.into_iter().filter(|branch| branch.step == step && !branch.id.as_str().ends_with('~'));
        let named: Vec<&'p Branch> = named.collect();
        let near = named.iter().find(|branch| own.is_some_and(|own| own.saga == branch.saga));
        near.or(named.first()).copied()
    }

    fn note(&mut self, step: &str, segments: &[Segment]) {
        self.bodies.entry(step.to_owned()).or_default().note(segments);
    }

    /// A step's output: the answer's body or, mapped, what the mapping takes of it.
    fn output(&mut self, branch: &'p Branch, variables: &[Variable<'p>], segments: &[Segment]) {
        let mapping = match (&branch.output, &branch.block, segments) {
            (Some(mapping), ..) => mapping,
            (None, Some(Block::Set(mapping)), _) => mapping,
            (None, Some(Block::Map(map)), [Segment::Index(_), rest @ ..]) => {
                if let Some(result) = map.branches.get(map.result) {
                    self.output(result, variables, rest);
                }
                return;
            }
            (None, Some(Block::Map(_)), _) => return,
            // What it says beside the payload is true by itself.
            (None, Some(Block::Wait(Wait::First { .. })), segments) => {
                if let [Segment::Key(key), rest @ ..] = segments
                    && key == "payload"
                {
                    self.note(&branch.step, rest);
                }
                return;
            }
            _ => return self.note(&branch.step, segments),
        };
        let mut at = mapping.value();
        let mut rest = segments;
        while let [segment, left @ ..] = rest {
            let next = match segment {
                Segment::Key(key) => at.get(key).cloned(),
                Segment::Index(index) => at.item(*index).cloned(),
            };
            let Some(next) = next else { break };
            (at, rest) = (next, left);
        }
        if let Some(path) = at.as_str().and_then(plain) {
            self.path(Some(branch), variables, &further(path, rest));
        }
    }
}

/// The path, where the text is nothing but one.
fn plain(text: &str) -> Option<Path> {
    Path::parse(text.strip_prefix("${")?.strip_suffix('}')?.trim())
}

fn sole(template: &Template) -> Option<Path> {
    template.value().as_str().and_then(plain)
}

fn further(mut path: Path, rest: &[Segment]) -> Path {
    path.segments.extend_from_slice(rest);
    path
}

/// The second item, so that there are two.
fn item(path: Path) -> Path {
    further(path, &[Segment::Index(1)])
}

fn each_template<'p>(operation: &'p Operation, templates: &mut Vec<&'p Template>) {
    let (Target::Path(target) | Target::Url(target)) = &operation.target;
    templates.push(target);
    templates.extend(operation.query.values().chain(operation.headers.values()));
    if let Body::Given(body) = &operation.body {
        templates.push(body);
    }
    templates.extend(rules(operation));
    if let Some(check) = &operation.status_check {
        // What its rules read is its own answer.
        let from = templates.len();
        each_template(check, templates);
        templates.truncate(from.max(templates.len() - rules(check).count()));
    }
}

/// What reads the operation's own answer.
fn rules(operation: &Operation) -> impl Iterator<Item = &Template> {
    operation.outcome.iter().flat_map(|rule| std::iter::once(&rule.when).chain(&rule.message))
}
