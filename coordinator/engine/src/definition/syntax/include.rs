//! Definitions within definitions: a `saga` step brings in all steps of another workflow, under its own path.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    definition::{
        diagnostic::Code,
        syntax::{
            document::{Defaults, Document},
            json,
            operation::Known,
            read::{Faults, Node, Place, quote},
            step::{Kind, Steps},
            step_kind::Reading,
        },
    },
    limit,
    template::Template,
    value::Value,
};
use semver::Version;

/// Within each other.
const DEPTH: usize = 16;

/// A workflow that a definition asks for; without a version it is the latest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    pub workflow: String,
    pub version: Option<String>,
}

/// The definitions that others may include.
#[derive(Debug, Default)]
pub struct Library {
    shelves: BTreeMap<Wanted, Shelved>,
    /// The latest version of workflows of which another one was asked for.
    latest: BTreeMap<String, String>,
}

#[derive(Debug)]
struct Shelved {
    version: String,
    definition: Value,
}

impl Library {
    /// What `definition` and all that it includes ask for and the library does not have.
    #[must_use]
    pub fn missing(&self, definition: &str) -> BTreeSet<Wanted> {
        let mut wanted = BTreeSet::new();
        if let Some(value) = json::parse(definition, &Place::default(), &mut Faults::new()) {
            each_wanted(&value, &mut wanted);
        }
        for shelved in self.shelves.values() {
            each_wanted(&shelved.definition, &mut wanted);
        }
        wanted.into_iter().filter(|wanted| !self.shelves.contains_key(wanted)).collect()
    }

    /// Answers `wanted` with a published definition; one that is no JSON is passed over.
    pub fn shelve(&mut self, wanted: Wanted, version: &str, definition: &str) {
        if let Some(definition) = json::parse(definition, &Place::default(), &mut Faults::new()) {
            self.shelves.insert(wanted, Shelved { version: version.to_owned(), definition });
        }
    }

    /// Puts a definition where its name and version ask for it, and as the latest if no later one is there.
    pub fn add(&mut self, definition: &str) {
        let Some(value) = json::parse(definition, &Place::default(), &mut Faults::new()) else { return };
        let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        let (Some(workflow), Some(version)) = (text("name"), text("version")) else { return };
        let latest = Wanted { workflow: workflow.clone(), version: None };
        let newer = |known: &Shelved| Version::parse(&version).ok() >= Version::parse(&known.version).ok();
        if self.shelves.get(&latest).is_none_or(newer) {
            self.shelves.insert(latest, Shelved { version: version.clone(), definition: value.clone() });
        }
        let exact = Wanted { workflow, version: Some(version.clone()) };
        self.shelves.insert(exact, Shelved { version, definition: value });
    }

    /// Notes that a workflow is there, though not in the version that was asked for.
    pub fn note_latest(&mut self, workflow: &str, latest: &str) {
        self.latest.insert(workflow.to_owned(), latest.to_owned());
    }

    fn latest(&self, workflow: &str) -> Option<&str> {
        let noted = self.latest.get(workflow).map(String::as_str);
        noted.or_else(|| self.find(workflow, None).map(|shelved| shelved.version.as_str()))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shelves.is_empty()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.shelves.len()
    }

    fn find(&self, workflow: &str, version: Option<&str>) -> Option<&Shelved> {
        self.shelves.get(&Wanted { workflow: workflow.to_owned(), version: version.map(str::to_owned) })
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.shelves.keys().map(|wanted| wanted.workflow.as_str())
    }
}

fn each_wanted(value: &Value, wanted: &mut BTreeSet<Wanted>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| each_wanted(item, wanted)),
        Value::Object(members) => {
            if let Some(workflow) = value.pointer("/saga/workflow").and_then(Value::as_str)
                && wanted.len() < limit::STEPS
            {
                let version = value.pointer("/saga/version").and_then(Value::as_str).map(str::to_owned);
                wanted.insert(Wanted { workflow: workflow.to_owned(), version });
            }
            members.values().for_each(|member| each_wanted(member, wanted));
        }
        _ => {}
    }
}

/// What an included definition brings beside its steps.
#[derive(Debug)]
pub(in crate::definition) struct Included<'a> {
    /// The step that includes it.
    pub(in crate::definition) step: usize,
    pub(in crate::definition) title: String,
    pub(in crate::definition) known: Known<'a>,
    pub(in crate::definition) defaults: Defaults,
    /// Of the including definition.
    pub(in crate::definition) input: Option<(Template, Place<'a>)>,
    /// What the included one takes, where it says so.
    pub(in crate::definition) schema: Option<&'a Value>,
    /// Of the included one.
    pub(in crate::definition) output: Option<(Template, Place<'a>)>,
}

impl<'a> Steps<'a> {
    pub(in crate::definition) fn include(
        &mut self,
        node: &Node<'a>,
        index: usize,
        reading: Reading<'_, 'a>,
        faults: &mut Faults,
    ) -> Option<Kind<'a>> {
        let mut object = node.object(faults)?;
        let workflow = object.require("workflow", faults).and_then(|node| Some((node.text(faults)?, node.place)));
        let version = object.take("version").and_then(|node| Some((node.text(faults)?, node.place)));
        let input = object.take("input").and_then(|node| Some((node.template(faults)?, node.place)));
        object.end(faults);
        let (workflow, place) = workflow?;
        let asked = version.as_ref().map(|(version, _)| *version);
        if reading.including.iter().any(|(name, _)| *name == workflow) {
            let path: Vec<_> = reading.including.iter().map(|(name, _)| *name).chain([workflow]).collect();
            faults.add(
                Code::InvalidInclusion,
                &place,
                format!("a workflow cannot include itself: {}", path.join(" → ")),
            );
            return None;
        }
        let Some(shelved) = reading.library.find(workflow, asked) else {
            let at = version.as_ref().map_or(&place, |(_, place)| place);
            if version.is_some()
                && let Some(latest) = reading.library.latest(workflow)
            {
                let message = format!("there is no version {} of the workflow {}", quote(asked?), quote(workflow));
                faults.add_with(Code::UnknownReference, at, message, format!("Its latest is {}.", quote(latest)));
            } else {
                let near = faults.nearest(workflow, reading.library.names());
                let help = near.or_else(|| Some("Publish it first, or hand its file over beside this one.".to_owned()));
                faults.add_at(
                    Code::UnknownReference,
                    place.pointer(),
                    format!("there is no workflow {}", quote(workflow)),
                    help,
                );
            }
            return None;
        };
        let title = format!("{workflow}@{}", shelved.version);
        if reading.including.len() >= DEPTH {
            faults.add(Code::InvalidInclusion, &place, format!("workflows include each other at most {DEPTH} deep"));
            return None;
        }
        let including: Vec<_> =
            reading.including.iter().copied().chain([(workflow, shelved.version.as_str())]).collect();
        let mut own = Faults::new();
        let root = Node::new(&shelved.definition, Place::default());
        let document = Document::read(&root, reading.library, &including, &mut own);
        let (Some(document), None) = (document, own.first()) else {
            let first = own.first().map_or_else(String::new, |fault| {
                format!(": {} at {:?}: {}", fault.code, fault.pointer, fault.message)
            });
            faults.add(Code::UnknownReference, &place, format!("the workflow {title} has faults of its own{first}"));
            return None;
        };
        if !document.steps.late.is_empty() {
            let message =
                format!("{title} has `on_abort` or `on_end`, and only a transaction of its own comes to them");
            let help = "Write what shall run then in this definition's own, and include a version without them.";
            faults.add_with(Code::InvalidInclusion, &place, message, help);
            return None;
        }
        Some(self.absorb(document, index, title, input, &place, faults))
    }

    /// Puts an included definition's steps behind those that are there.
    fn absorb(
        &mut self,
        document: Document<'a>,
        index: usize,
        title: String,
        input: Option<(Template, Place<'a>)>,
        place: &Place<'a>,
        faults: &mut Faults,
    ) -> Kind<'a> {
        let Document { known, defaults, steps, schema, output, .. } = document;
        if self.list.len() + steps.list.len() > limit::STEPS {
            let message = format!("too_many_steps: with those of {title} there are more than {}", limit::STEPS);
            faults.add(Code::InvalidJson, place, message);
            return Kind::Unread;
        }
        let (offset, scopes) = (self.list.len(), self.names.len());
        let scope = scopes;
        let phase = self.list[index].phase;
        for mut step in steps.list {
            step.shift(offset, scopes);
            step.within.get_or_insert((index, 0));
            step.place = place.clone();
            step.phase = phase;
            self.list.push(step);
        }
        self.names.extend(
            steps.names.into_iter().map(|names| names.into_iter().map(|(name, step)| (name, step + offset)).collect()),
        );
        self.included.push(Included { step: index, title, known, defaults, input, schema, output });
        self.included
            .extend(steps.included.into_iter().map(|included| Included { step: included.step + offset, ..included }));
        Kind::Include { scope, steps: steps.top.into_iter().map(|step| step + offset).collect() }
    }
}
