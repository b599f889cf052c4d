//! A definition as it is written: its top level, with everything below read.

use std::{collections::BTreeMap, time::Duration};

use semver::Version;
use skald_protocol::{Json, WorkflowRef};

use crate::{
    definition::{
        diagnostic::Code,
        input_schema::InputSchema,
        syntax::{
            include::Library,
            operation::Known,
            read::{Faults, Node, Object, Place, is_name, quote},
            retry::Policy,
            service::{self, Services},
            step::Steps,
            step_kind::Reading,
        },
    },
    limit,
    plan::{OnTimeout, Phase},
    template::Template,
    value::Value,
};

const DSL: &str = "1.0";

#[derive(Debug)]
pub(in crate::definition) struct Document<'a> {
    pub(in crate::definition) workflow: Option<WorkflowRef>,
    pub(in crate::definition) labels: BTreeMap<String, String>,
    pub(in crate::definition) input: Option<InputSchema>,
    /// As it is written, of an `input` without faults.
    pub(in crate::definition) schema: Option<&'a Value>,
    pub(in crate::definition) known: Known<'a>,
    pub(in crate::definition) defaults: Defaults,
    pub(in crate::definition) timeout: Option<Duration>,
    pub(in crate::definition) on_timeout: OnTimeout,
    pub(in crate::definition) steps: Steps<'a>,
    pub(in crate::definition) output: Option<(Template, Place<'a>)>,
}

#[derive(Debug, Default)]
pub(in crate::definition) struct Defaults {
    pub(in crate::definition) timeout: Option<Duration>,
    pub(in crate::definition) retry: Policy,
    pub(in crate::definition) settle_timeout: Option<Duration>,
    pub(in crate::definition) settle_retry: Policy,
}

impl<'a> Document<'a> {
    /// `None`: it is no definition of this language, so nothing else said about it would help.
    ///
    /// `including`: the workflows around it, name and version.
    pub(in crate::definition) fn read(
        node: &Node<'a>,
        library: &'a Library,
        including: &[(&'a str, &'a str)],
        faults: &mut Faults,
    ) -> Option<Self> {
        let mut object = node.object(faults)?;
        if !dsl(&mut object, faults) {
            return None;
        }
        let workflow = workflow(&mut object, faults);
        for name in ["title", "description"] {
            object.take(name).and_then(|node| node.text(faults));
        }
        let labels = object.take("labels").map(|node| labels(&node, faults)).unwrap_or_default();
        let stated = object.take("input");
        let input = stated.as_ref().and_then(|node| InputSchema::read(node, faults));
        let schema = stated.filter(|_| input.is_some()).map(|node| node.value);
        let services = object.take("services").map(|node| service::read_all(&node, faults));
        let retries = object.take("retries").map(|node| retries(&node, faults)).unwrap_or_default();
        let known = Known { services: Some(services.unwrap_or_else(Services::new)), retries };
        let defaults = object.take("defaults").map(|node| defaults(&node, &known, faults)).unwrap_or_default();
        let timeout = object.take("timeout").and_then(|node| node.duration(limit::TIMEOUT, faults));
        let on_timeout = object.take("on_timeout").and_then(|node| {
            node.word(&[("compensate", OnTimeout::Compensate), ("suspend", OnTimeout::Suspend)], faults)
        });
        let stated = |name: &str| node.value.get(name).and_then(Value::as_str).unwrap_or_default();
        let own = [(stated("name"), stated("version"))];
        let including = if including.is_empty() { &own[..] } else { including };
        let reading = Reading { known: &known, library, including, phase: Phase::Main };
        let mut steps = match object.require("steps", faults) {
            Some(node) => Steps::read(&node, reading, faults),
            None => Steps::none(),
        };
        for phase in [Phase::OnAbort, Phase::OnEnd] {
            if let Some(node) = object.take(phase.as_str()) {
                steps.read_late(&node, Reading { phase, ..reading }, faults);
            }
        }
        let output = object.take("output").and_then(|node| Some((node.template(faults)?, node.place)));
        object.end(faults);
        let on_timeout = on_timeout.unwrap_or_default();
        Some(Self { workflow, labels, input, schema, known, defaults, timeout, on_timeout, steps, output })
    }
}

fn dsl(object: &mut Object<'_>, faults: &mut Faults) -> bool {
    let Some(node) = object.take("dsl") else {
        faults.add_with(
            Code::UnsupportedLanguage,
            &object.place,
            "`dsl` is missing",
            format!("Write \"dsl\": \"{DSL}\"."),
        );
        return true;
    };
    if *node.value == DSL {
        return true;
    }
    let written = Json::of(node.value);
    let message = format!("this version reads dsl \"{DSL}\" and not {}", quote(written.text()));
    faults.add_with(Code::UnsupportedLanguage, &node.place, message, format!("Write \"dsl\": \"{DSL}\"."));
    false
}

fn workflow(object: &mut Object<'_>, faults: &mut Faults) -> Option<WorkflowRef> {
    let name = object.require("name", faults).and_then(|node| {
        let name = node.text(faults)?;
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if (1..=63).contains(&name.len()) && name.bytes().all(inner) && !name.starts_with('-') && !name.ends_with('-') {
            return Some(name);
        }
        let message =
            format!("{} is not a workflow's name: lower-case letters, digits and `-`, at most 63", quote(name));
        node.bad(message, faults)
    });
    let version = object.require("version", faults).and_then(|node| {
        let version = node.text(faults)?;
        // Longer ones would not fit where versions are kept.
        if version.len() <= 128 && Version::parse(version).is_ok() {
            return Some(version);
        }
        let message = format!("{} is not a version", quote(version));
        faults.add_with(Code::InvalidValue, &node.place, message, "Write it as SemVer: 1.0.0.");
        None
    });
    Some(WorkflowRef { name: name?.to_owned(), version: version?.to_owned() })
}

fn labels(node: &Node<'_>, faults: &mut Faults) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let Some(object) = node.object(faults) else { return labels };
    for (name, node) in object.entries() {
        let Some(value) = node.text(faults) else { continue };
        if name.is_empty() || name.chars().count() > limit::LABEL_KEY {
            node.bad::<()>(format!("a label's name has 1 to {} characters", limit::LABEL_KEY), faults);
        } else if value.chars().count() > limit::LABEL_VALUE {
            node.bad::<()>(format!("a label's value has at most {} characters", limit::LABEL_VALUE), faults);
        } else {
            labels.insert(name.to_owned(), value.to_owned());
        }
    }
    if labels.len() > limit::LABELS {
        node.bad::<()>(format!("{} labels; at most {} are taken", labels.len(), limit::LABELS), faults);
    }
    labels
}

fn retries<'a>(node: &Node<'a>, faults: &mut Faults) -> BTreeMap<&'a str, Policy> {
    let mut policies = BTreeMap::new();
    let Some(object) = node.object(faults) else { return policies };
    for (name, node) in object.entries() {
        if !is_name(name) {
            let message = format!("{} is not a policy's name: [A-Za-z][A-Za-z0-9_-]*, at most 63", quote(name));
            node.bad::<()>(message, faults);
        }
        policies.insert(name, Policy::read(&node, faults));
    }
    policies
}

fn defaults<'a>(node: &Node<'a>, known: &Known<'a>, faults: &mut Faults) -> Defaults {
    let mut defaults = Defaults::default();
    let Some(mut object) = node.object(faults) else { return defaults };
    let read = |object: &mut Object<'a>, faults: &mut Faults| {
        let timeout = object.take("timeout").and_then(|node| node.duration(limit::ATTEMPT_TIMEOUT, faults));
        let retry = object.take("retry").and_then(|node| known.policy(&node, faults));
        (timeout, retry.unwrap_or_default())
    };
    (defaults.timeout, defaults.retry) = read(&mut object, faults);
    if let Some(mut settle) = object.take("settle").and_then(|node| node.object(faults)) {
        (defaults.settle_timeout, defaults.settle_retry) = read(&mut settle, faults);
        settle.end(faults);
    }
    object.end(faults);
    defaults
}
