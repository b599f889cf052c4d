//! Sagas stated in Rust: the same JSON that a workflow file holds (docs/workflows.md).
//!
//! What varies from one transaction to the next goes into the input, so that the coordinator stores one definition for
//! all of them. All faults that can be seen here are said at once; the coordinator's compiler sees the rest.

mod step;

use std::{collections::BTreeMap, fmt, marker::PhantomData, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use skald_protocol::{Begin, Json, duration_text};

pub use step::{Action, IntoStep, Service, Step, Try, TryWithConfirm};

use crate::Error;

/// A saga with an input of type `I` and an output of type `O`.
#[derive(Clone)]
#[must_use]
pub struct Saga<I = Json, O = Json> {
    name: String,
    version: String,
    services: BTreeMap<String, String>,
    steps: Vec<Value>,
    members: Map<String, Value>,
    faults: Vec<String>,
    types: PhantomData<fn(I) -> O>,
}

impl<I, O> fmt::Debug for Saga<I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Saga").field("name", &self.name).field("steps", &self.steps.len()).finish_non_exhaustive()
    }
}

impl<I, O> Saga<I, O> {
    /// `name`: lower-case letters, digits and `-`, as a DNS label.
    pub fn named(name: impl Into<String>) -> Self {
        let name = name.into();
        let mut saga = Self {
            version: "1.0.0".to_owned(),
            services: BTreeMap::new(),
            steps: Vec::new(),
            members: Map::new(),
            faults: Vec::new(),
            types: PhantomData,
            name,
        };
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if saga.name.is_empty() || !saga.name.bytes().all(inner) {
            saga.faults.push(format!("`{}` is no name of a saga: lower-case letters, digits and `-`", saga.name));
        }
        saga
    }

    /// By SemVer; `1.0.0` where it is not said.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// Runs after the step before it, unless it says otherwise.
    pub fn step(mut self, name: impl Into<String>, step: impl IntoStep) -> Self {
        let (name, step) = (name.into(), step.into_step());
        if !is_step_name(&name) {
            self.faults.push(format!("`{name}` is no name of a step: a lower-case letter, then those, digits and `_`"));
        }
        if self.steps.iter().any(|other| other["name"] == name.as_str()) {
            self.faults.push(format!("two steps are named `{name}`"));
        }
        for service in step.services {
            match self.services.get(&service.name) {
                Some(url) if *url != service.url => {
                    let fault = format!("service `{}` has two URLs: {url} and {}", service.name, service.url);
                    self.faults.push(fault);
                }
                Some(_) => {}
                None => drop(self.services.insert(service.name, service.url)),
            }
        }
        self.faults.extend(step.faults.into_iter().map(|fault| format!("step `{name}`: {fault}")));
        let mut members = step.members;
        members.insert("name".to_owned(), name.into());
        self.steps.push(Value::Object(members));
        self
    }

    /// The transaction is cancelled where it has not committed within this time.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with("timeout", duration_text(timeout))
    }

    /// What the transaction gives, as a template: `json!({"id": "${steps.reserve.output.id}"})`.
    pub fn output(self, template: Value) -> Self {
        self.with("output", template)
    }

    /// A JSON Schema that inputs must fit; expressions are checked against it.
    pub fn input_schema(self, schema: Value) -> Self {
        self.with("input", schema)
    }

    /// Any other member of a definition.
    pub fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.members.insert(member.to_owned(), value.into());
        self
    }

    /// The definition as JSON.
    ///
    /// # Errors
    /// All faults that can be seen here, a line each.
    pub fn definition(&self) -> Result<Json, Error> {
        let mut faults = self.faults.clone();
        if self.steps.is_empty() {
            faults.push("it has no steps".to_owned());
        }
        if !faults.is_empty() {
            return Err(Error::Misconfigured(format!("saga `{}`:\n  {}", self.name, faults.join("\n  "))));
        }
        let services: Map<_, _> = self.services.iter().map(|(name, url)| (name.clone(), json!({"url": url}))).collect();
        let mut definition = self.members.clone();
        definition.insert("dsl".to_owned(), "1.0".into());
        definition.insert("name".to_owned(), self.name.clone().into());
        definition.insert("version".to_owned(), self.version.clone().into());
        definition.insert("services".to_owned(), services.into());
        definition.insert("steps".to_owned(), self.steps.clone().into());
        Ok(Value::Object(definition).into())
    }
}

fn is_step_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// What `Client::begin` takes: something that says which transaction an input begins.
pub trait Workflow {
    /// What it takes.
    type Input: Serialize;
    /// What it gives once it has succeeded.
    type Output: DeserializeOwned;

    /// The request that begins one transaction.
    ///
    /// # Errors
    /// Where it is not well stated, or the input is no JSON.
    fn begin(&self, input: &Self::Input) -> Result<Begin, Error>;
}

impl<I: Serialize, O: DeserializeOwned> Workflow for Saga<I, O> {
    type Input = I;
    type Output = O;

    fn begin(&self, input: &I) -> Result<Begin, Error> {
        Ok(Begin { definition: Some(self.definition()?), input: Some(as_json(input)?), ..Begin::default() })
    }
}

/// A workflow that was published under a name.
#[derive(Debug, Clone)]
#[must_use]
pub struct Published<I = Json, O = Json> {
    name: String,
    version: Option<String>,
    types: PhantomData<fn(I) -> O>,
}

impl<I, O> Published<I, O> {
    /// The latest version when a transaction begins.
    pub fn latest(name: impl Into<String>) -> Self {
        Self { name: name.into(), version: None, types: PhantomData }
    }

    /// This version and no other.
    pub fn exactly(name: impl Into<String>, version: impl Into<String>) -> Self {
        Self { name: name.into(), version: Some(version.into()), types: PhantomData }
    }
}

impl<I: Serialize, O: DeserializeOwned> Workflow for Published<I, O> {
    type Input = I;
    type Output = O;

    fn begin(&self, input: &I) -> Result<Begin, Error> {
        let (workflow, version) = (Some(self.name.clone()), self.version.clone());
        Ok(Begin { workflow, version, input: Some(as_json(input)?), ..Begin::default() })
    }
}

fn as_json(input: &impl Serialize) -> Result<Json, Error> {
    let raw = serde_json::value::to_raw_value(input)
        .map_err(|error| Error::Misconfigured(format!("the input cannot be written as JSON: {error}")))?;
    Ok(raw.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> Saga {
        let (stock, card, mail) = (
            Service::new("stock", "http://stock"),
            Service::new("card", "http://card"),
            Service::new("mail", "http://m"),
        );
        Saga::named("order")
            .step("reserve", stock.action("/reserve").compensate("/release"))
            .step("charge", card.action("/charge").compensate("/refund").timeout(Duration::from_secs(5)))
            .step("seat", stock.try_("/seats").confirm("/seats/confirm").cancel("/seats/cancel"))
            .step("receipt", mail.action("/send").retriable().after(["charge"]))
            .output(json!({"paid": "${steps.charge.output.id}"}))
    }

    #[test]
    fn a_saga_is_the_language_s_own_json() {
        let definition = order().definition().unwrap().value();
        let expected = json!({
            "dsl": "1.0", "name": "order", "version": "1.0.0",
            "services": {
                "card": {"url": "http://card"}, "mail": {"url": "http://m"}, "stock": {"url": "http://stock"}
            },
            "steps": [
                {"name": "reserve", "service": "stock", "action": {"path": "/reserve"}, "compensate": {"path": "/release"}},
                {"name": "charge", "service": "card", "action": {"path": "/charge", "timeout": "5s"},
                 "compensate": {"path": "/refund"}},
                {"name": "seat", "service": "stock", "try": {"path": "/seats"}, "confirm": {"path": "/seats/confirm"},
                 "cancel": {"path": "/seats/cancel"}},
                {"name": "receipt", "service": "mail", "role": "retriable", "action": {"path": "/send"}, "after": ["charge"]}
            ],
            "output": {"paid": "${steps.charge.output.id}"}
        });
        assert_eq!(definition, expected);
        assert_eq!(order().definition().unwrap(), order().definition().unwrap(), "one text, so that it is stored once");
    }

    #[test]
    fn all_faults_are_said_at_once() {
        let (here, there) = (Service::new("stock", "http://here"), Service::new("stock", "http://there"));
        let saga: Saga = Saga::named("Order!")
            .step("a", here.action("/a").pivot())
            .step("a", there.action("b").read_only())
            .step("Ship", here.action("/c").read_only());
        let error = saga.definition().unwrap_err().to_string();
        for fault in ["`Order!`", "two steps are named `a`", "two URLs", "`b` must start with `/`", "`Ship`"] {
            assert!(error.contains(fault), "{fault}: {error}");
        }
        assert!(Saga::<Json, Json>::named("empty").definition().unwrap_err().to_string().contains("no steps"));
    }
}
