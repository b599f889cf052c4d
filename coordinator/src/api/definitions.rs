//! Definitions, compiled once: inline ones per text, published ones per name and version.
//!
//! What is kept is bounded in number and in bytes; a definition that is in use survives, for each use renews it. Only
//! definitions that were proven are kept. A published one runs by the plan that was stored when it was published: a newer
//! compiler is not asked about its steps again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use quick_cache::{Weighter, sync::Cache};
use skald_engine::{
    Plan,
    definition::{self, Compiled, Diagnostic, InputSchema, Library},
    limit,
    value::pointer::escape,
    value::{Canonical, Map, Value},
};
use skald_protocol::{Fault, WorkflowRef};

use super::error::Error;
use crate::runtime::{Coordinator, PreparedPlan};

/// Workflows that one definition may bring in: more would be more steps than it may have.
const MOST_INCLUDED: usize = limit::STEPS;
const KEPT: usize = 512;
const KEPT_BYTES: usize = 16 << 20;

pub(super) struct Definition {
    pub(super) plan: Arc<PreparedPlan>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) input: Option<InputSchema>,
}

pub(super) struct Inline {
    pub(super) definition: Definition,
    /// The canonical form of its text: part of what a begin is compared by.
    pub(super) canonical: Arc<Canonical>,
}

#[derive(Default)]
pub(super) struct Definitions {
    inline: Kept<Inline>,
    published: Kept<Definition>,
}

impl Definitions {
    pub(super) fn inline(&self, source: &str) -> Option<Arc<Inline>> {
        self.inline.get(source)
    }

    /// Reads, proves and keeps a definition; `canonical` is that of `source`.
    pub(super) async fn compile(
        &self,
        coordinator: &Coordinator,
        source: &str,
        canonical: Arc<Canonical>,
    ) -> Result<Arc<Inline>, Error> {
        let library = library(coordinator, source).await?;
        // The latest version that it may include is fixed at each begin.
        let is_whole = library.is_empty();
        let compiled = compile(source, library).await?;
        let compiled = compiled.map_err(|faults| Error::InvalidDefinition(to_faults("/definition", faults)))?;
        check_secrets(coordinator, &compiled.plan, Some("/definition"))?;
        let definition = Definition {
            plan: Arc::new(PreparedPlan::new(compiled.plan, Some(source.to_owned()))),
            labels: compiled.labels,
            input: compiled.input,
        };
        let inline = Arc::new(Inline { definition, canonical });
        if is_whole {
            self.inline.put(source.into(), &inline, source.len());
        }
        Ok(inline)
    }

    /// A published definition, read once.
    pub(super) async fn published(
        &self,
        coordinator: &Coordinator,
        wanted: &WorkflowRef,
    ) -> Result<Option<Arc<Definition>>, Error> {
        let key = format!("{}@{}", wanted.name, wanted.version);
        if let Some(definition) = self.published.get(&key) {
            return Ok(Some(definition));
        }
        let Some(workflow) = coordinator.workflow(wanted).await? else { return Ok(None) };
        let plan = Arc::new(coordinator.published_plan(&workflow).await?);
        check_secrets(coordinator, &plan.plan, None)?;
        let Compiled { labels, input, .. } =
            compile(&preface(&workflow.definition), Library::default()).await?.map_err(|mut faults| {
                // It was not the definition's own text that was compiled.
                faults.iter_mut().for_each(|fault| fault.position = None);
                Error::InvalidDefinition(to_faults("/definition", faults))
            })?;
        let definition = Arc::new(Definition { plan, labels, input });
        self.published.put(key.into(), &definition, workflow.definition.len());
        Ok(Some(definition))
    }
}

/// A large definition takes milliseconds; other requests do not wait for it.
pub(super) async fn compile(source: &str, library: Library) -> Result<Result<Compiled, Vec<Diagnostic>>, Error> {
    let source = source.to_owned();
    let compiled = tokio::task::spawn_blocking(move || definition::compile_with(&source, &library));
    compiled.await.map_err(|_| Error::Panicked)
}

/// All that a definition includes, and what that includes, as far as it is published.
pub(super) async fn library(coordinator: &Coordinator, source: &str) -> Result<Library, Error> {
    let mut library = Library::default();
    let mut absent = BTreeSet::new();
    // Most include nothing, and are not read twice.
    while source.contains("\"saga\"") {
        let missing: Vec<_> = library.missing(source).difference(&absent).cloned().collect();
        if missing.is_empty() {
            break;
        }
        for wanted in missing {
            let version = match &wanted.version {
                Some(version) => Some(version.clone()),
                None => coordinator.latest_version(&wanted.workflow).await?,
            };
            let name = wanted.workflow.clone();
            let found = match version.map(|version| WorkflowRef { name, version }) {
                Some(exact) => coordinator.workflow(&exact).await?,
                None => None,
            };
            match found {
                Some(found) => library.shelve(wanted, &found.row.workflow.version, &found.definition),
                None => {
                    if wanted.version.is_some()
                        && let Some(latest) = coordinator.latest_version(&wanted.workflow).await?
                    {
                        library.note_latest(&wanted.workflow, &latest);
                    }
                    absent.insert(wanted);
                }
            }
        }
        if library.len() > MOST_INCLUDED {
            break;
        }
    }
    Ok(library)
}

/// What a begin needs of a definition beside its plan: its labels and its `input`, over a step that stands for the others.
fn preface(source: &str) -> String {
    let mut members = match Value::read(source) {
        Ok(Value::Object(members)) => members,
        Ok(_) | Err(_) => Map::new(),
    };
    members.retain(|name, _| ["dsl", "name", "version", "labels", "input"].contains(&name.as_str()));
    if let Some(input) = members.get_mut("input") {
        forget_formats(input);
    }
    let step = serde_json::json!({"name": "none", "role": "read_only", "action": {"url": "http://localhost"}});
    members.insert("steps".to_owned(), serde_json::json!([step]).into());
    Value::Object(members).to_string()
}

/// Drops formats that no compiler refused when the definition was published.
fn forget_formats(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(forget_formats),
        Value::Object(members) => {
            members.retain(|key, member| key != "format" || member.as_str().is_none_or(definition::is_format));
            for (key, member) in members {
                // These hold values, not schemas.
                if !["const", "default", "enum", "examples"].contains(&key.as_str()) {
                    forget_formats(member);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Refuses a plan whose services would get secrets that they may not have; `base`: where the definition stands in the body.
pub(super) fn check_secrets(coordinator: &Coordinator, plan: &Plan, base: Option<&str>) -> Result<(), Error> {
    let faults: Vec<_> = coordinator
        .withheld_secrets(plan)
        .into_iter()
        .map(|withheld| {
            let service = withheld.place.first().copied().unwrap_or_default();
            // What an included definition brought in stands elsewhere.
            let pointer = match base.filter(|_| !service.contains('@')) {
                Some(base) => {
                    let place: String = withheld.place.iter().map(|part| format!("/{}", escape(part))).collect();
                    format!("{base}/services{place}")
                }
                None => String::new(),
            };
            Fault {
                code: Some("secret_withheld".to_owned()),
                ..Fault::at(pointer, format!("service `{service}`: {withheld}"))
            }
        })
        .collect();
    if faults.is_empty() { Ok(()) } else { Err(Error::SecretWithheld(faults)) }
}

/// A definition whose JSON is broken in a way that only the compiler tells well.
pub(super) fn diagnose(base: &str, source: &str, otherwise: Error) -> Error {
    match definition::compile(source) {
        Err(faults) => Error::InvalidDefinition(to_faults(base, faults)),
        Ok(_) => otherwise,
    }
}

/// The compiler's diagnostics as faults of a body that holds the definition at `base`.
pub(super) fn to_faults(base: &str, diagnostics: Vec<Diagnostic>) -> Vec<Fault> {
    diagnostics.into_iter().map(|diagnostic| diagnostic.into_fault(base)).collect()
}

/// By text, or by name and version; those longest unused make room.
struct Kept<T>(Cache<Arc<str>, (Arc<T>, usize), Bytes>);

#[derive(Clone)]
struct Bytes;

impl<T> Weighter<Arc<str>, (Arc<T>, usize)> for Bytes {
    fn weight(&self, _: &Arc<str>, (_, bytes): &(Arc<T>, usize)) -> u64 {
        (*bytes).max(KEPT_BYTES / KEPT) as u64
    }
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Cache::with_weighter(KEPT, KEPT_BYTES as u64, Bytes))
    }
}

impl<T> Kept<T> {
    fn get(&self, key: &str) -> Option<Arc<T>> {
        self.0.get(key).map(|(kept, _)| kept)
    }

    fn put(&self, key: Arc<str>, value: &Arc<T>, bytes: usize) {
        self.0.insert(key, (Arc::clone(value), bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_begin_reads_labels_and_input_of_a_published_definition_whose_steps_no_compiler_takes_any_more() {
        let source = r#"{"dsl": "1.0", "name": "a", "version": "1.0.0", "labels": {"team": "red"},
            "input": {"type": "integer", "format": "once_unknown"}, "steps": [{"name": "x", "old": true}], "output": "${nothing}"}"#;
        assert!(definition::compile(source).is_err());
        let compiled = definition::compile(&preface(source)).expect("a preface compiles");
        assert_eq!(compiled.labels["team"], "red");
        let input = compiled.input.expect("a schema");
        assert!(input.check(&1_u16.into()).is_ok() && input.check(&"one".into()).is_err());
    }

    #[test]
    fn what_is_in_use_is_kept_and_what_is_not_is_dropped() {
        let kept = Kept::<usize>::default();
        for key in 0..4 * KEPT {
            kept.put(key.to_string().into(), &Arc::new(key), 1);
            assert!(kept.get("0").is_some());
        }
        let there = (0..4 * KEPT).filter(|key| kept.get(&key.to_string()).is_some()).count();
        assert!(there <= KEPT, "{there}");
        for key in ["large", "larger", "largest"] {
            kept.put(key.into(), &Arc::new(0), KEPT_BYTES / 2);
        }
        kept.put("as large as one may be".into(), &Arc::new(0), limit::DEFINITION);
        assert!(kept.get("as large as one may be").is_some());
        let weight = kept.0.weight();
        assert!(weight <= KEPT_BYTES as u64, "{weight}");
    }
}
