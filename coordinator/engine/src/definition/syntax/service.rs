//! `services`: where participants answer.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    definition::{
        diagnostic::Code,
        syntax::{
            http::{absolute_url, header, twice},
            read::{Faults, Node, Object, is_name, list, quote},
        },
    },
    limit,
    plan::{self, Auth, Secret},
};

/// All that are declared, so that a faulty one is not also an unknown one.
pub(in crate::definition) type Services<'a> = BTreeMap<&'a str, Declared>;

#[derive(Debug)]
pub(in crate::definition) struct Declared {
    pub(in crate::definition) service: plan::Service,
    /// Of one attempt.
    pub(in crate::definition) timeout: Option<Duration>,
}

pub(in crate::definition) fn read_all<'a>(node: &Node<'a>, faults: &mut Faults) -> Services<'a> {
    let Some(object) = node.object(faults) else { return Services::new() };
    let mut services = Services::new();
    for (name, node) in object.entries() {
        if !is_name(name) {
            node.bad::<()>(
                format!("{} is not a service's name: [A-Za-z][A-Za-z0-9_-]*, at most 63", quote(name)),
                faults,
            );
        }
        services.insert(name, read(&node, faults));
    }
    services
}

fn read(node: &Node<'_>, faults: &mut Faults) -> Declared {
    let mut service = plan::Service { url: String::new(), headers: BTreeMap::new(), auth: None, max_concurrency: None };
    let Some(mut object) = node.object(faults) else { return Declared { service, timeout: None } };
    if let Some(node) = object.require("url", faults)
        && let Some(text) = node.text(faults)
    {
        // Paths are appended to it.
        match absolute_url(text).filter(|url| url.query().is_none() && url.fragment().is_none()) {
            Some(_) => text.clone_into(&mut service.url),
            None => {
                let message = format!("{} is not an absolute http or https URL", quote(text));
                faults.add_with(
                    Code::InvalidValue,
                    &node.place,
                    message,
                    "Write scheme, host and path alone: http://stock:8080/api.",
                );
            }
        }
    }
    if let Some(headers) = object.take("headers").and_then(|node| node.object(faults)) {
        twice(&headers, faults);
        for (name, node) in headers.entries() {
            if let Some(value) = value(name, &node, faults) {
                service.headers.insert(name.to_owned(), value);
            }
        }
    }
    service.auth = object.take("auth").and_then(|node| auth(&node, faults));
    let timeout = object.take("timeout").and_then(|node| node.duration(limit::ATTEMPT_TIMEOUT, faults));
    service.max_concurrency = object.take("max_concurrency").and_then(|node| node.count(u32::MAX, faults));
    object.end(faults);
    Declared { service, timeout }
}

/// A header's value: text, or a secret.
fn value(name: &str, node: &Node<'_>, faults: &mut Faults) -> Option<plan::Value> {
    if node.value.is_object() {
        let secret = secret(node, faults)?;
        return header(name, "", &node.place, faults).then_some(plan::Value::Secret(secret));
    }
    let text = node.value.as_str().or_else(|| node.wrong("a string or {\"secret\": name}", faults))?;
    header(name, text, &node.place, faults).then(|| plan::Value::Text(text.to_owned()))
}

fn auth(node: &Node<'_>, faults: &mut Faults) -> Option<Auth> {
    const KINDS: [&str; 3] = ["bearer", "basic", "header"];
    let mut object = node.object(faults)?;
    let [bearer, basic, header] = KINDS.map(|kind| object.take(kind));
    let place = object.place.clone();
    if !object.end(faults) {
        return None;
    }
    match (bearer, basic, header) {
        (Some(node), None, None) => secret(&node, faults).map(Auth::Bearer),
        (None, Some(node), None) => {
            let mut object = node.object(faults)?;
            let username = object.require("username", faults).and_then(|node| node.text(faults));
            let password = object.require("password", faults).and_then(|node| secret(&node, faults));
            object.end(faults);
            Some(Auth::Basic { username: username?.to_owned(), password: password? })
        }
        (None, None, Some(node)) => {
            let mut object = node.object(faults)?;
            let name = header_name(&mut object, faults);
            let value = object.require("value", faults).and_then(|node| secret(&node, faults));
            object.end(faults);
            Some(Auth::Header { name: name?, value: value? })
        }
        _ => {
            faults.add(Code::UnknownOrMissingField, &place, format!("`auth` is exactly one of {}", list(KINDS)));
            None
        }
    }
}

fn header_name(object: &mut Object<'_>, faults: &mut Faults) -> Option<String> {
    let node = object.require("name", faults)?;
    let name = node.text(faults)?;
    header(name, "", &node.place, faults).then(|| name.to_owned())
}

fn secret(node: &Node<'_>, faults: &mut Faults) -> Option<Secret> {
    if node.value.is_string() {
        let help = "Write {\"secret\": name}; the value is in the server's configuration.";
        faults.add_with(Code::UnknownOrMissingField, &node.place, "expected a secret, found a string", help);
        return None;
    }
    let mut object = node.object(faults)?;
    let name = object.require("secret", faults).and_then(|node| {
        let name = node.text(faults)?;
        if is_name(name) { Some(name) } else { node.bad(format!("{} is not a secret's name", quote(name)), faults) }
    });
    object.end(faults);
    name.map(|name| Secret { secret: name.to_owned() })
}
