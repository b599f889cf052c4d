//! Inline definitions, compiled once per text.
//!
//! What is kept is bounded in number and in bytes; a definition that is in use survives, for each use renews it. Only
//! definitions that were proven are kept.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use skald_engine::definition::{self, Diagnostic, InputSchema};
use skald_protocol::Fault;

use super::{error::Error, json};
use crate::runtime::PreparedPlan;

const KEPT: usize = 512;
const KEPT_BYTES: usize = 16 << 20;

pub(super) struct Definition {
    pub(super) plan: Arc<PreparedPlan>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) input: Option<InputSchema>,
    /// The RFC 8785 form of its text: part of what a begin is compared by.
    pub(super) canonical: Arc<[u8]>,
}

/// Two generations: what was not used while the young one filled up is dropped.
#[derive(Default)]
struct Generations {
    young: HashMap<Arc<str>, Arc<Definition>>,
    young_bytes: usize,
    old: HashMap<Arc<str>, Arc<Definition>>,
}

#[derive(Default)]
pub(super) struct Definitions(Mutex<Generations>);

impl Definitions {
    pub(super) fn known(&self, source: &str) -> Option<Arc<Definition>> {
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(definition) = generations.young.get(source) {
            return Some(definition.clone());
        }
        let (source, definition) = generations.old.remove_entry(source)?;
        generations.keep(source, definition.clone());
        Some(definition)
    }

    /// Reads, proves and keeps a definition; `canonical` is the RFC 8785 form of `source`.
    pub(super) async fn compile(
        self: &Arc<Self>,
        source: &str,
        canonical: Arc<[u8]>,
    ) -> Result<Arc<Definition>, Error> {
        let source: Arc<str> = source.into();
        let read = source.clone();
        // A large definition takes milliseconds; other requests do not wait for it.
        let compiled =
            tokio::task::spawn_blocking(move || definition::compile(&read)).await.map_err(|_| Error::Panicked)?;
        let compiled = compiled.map_err(|faults| Error::InvalidDefinition(told("/definition", faults)))?;
        let definition = Arc::new(Definition {
            plan: Arc::new(PreparedPlan::new(compiled.plan, Some(source.as_ref().to_owned()))),
            labels: compiled.labels,
            input: compiled.input,
            canonical,
        });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keep(source, definition.clone());
        Ok(definition)
    }
}

impl Generations {
    fn keep(&mut self, source: Arc<str>, definition: Arc<Definition>) {
        if self.young.len() >= KEPT || self.young_bytes >= KEPT_BYTES {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += source.len();
        self.young.insert(source, definition);
    }
}

/// A definition whose JSON is broken in a way that only the compiler tells well.
pub(super) fn diagnose(source: &str, otherwise: Error) -> Error {
    match definition::compile(source) {
        Err(faults) => Error::InvalidDefinition(told("/definition", faults)),
        Ok(_) => otherwise,
    }
}

/// The compiler's diagnostics as faults of a body that holds the definition at `base`.
pub(super) fn told(base: &str, diagnostics: Vec<Diagnostic>) -> Vec<Fault> {
    diagnostics
        .into_iter()
        .map(|Diagnostic { code, pointer, message, help }| Fault {
            code: Some(code.to_owned()).filter(|code| !code.is_empty()),
            help,
            ..json::fault(&format!("{base}{pointer}"), &message)
        })
        .collect()
}
