//! The HTTP half of an operation: method, URL, query, headers.

use std::collections::BTreeSet;

use url::Url;

use crate::{
    definition::{
        diagnostic::Code,
        syntax::read::{Faults, Node, Object, Place, list, quote, refuse_secrets},
    },
    plan::Target,
    template::{self, Template, Written},
};

pub(in crate::definition) const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
/// Set by the coordinator or by HTTP itself; every name that starts with `skald-` as well.
const RESERVED_HEADERS: [&str; 11] = [
    "idempotency-key",
    "traceparent",
    "tracestate",
    "baggage",
    "webhook-id",
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
];

pub(in crate::definition) fn method<'a>(node: &Node<'a>, faults: &mut Faults) -> Option<&'a str> {
    let text = node.text(faults)?;
    if METHODS.contains(&text) {
        return Some(text);
    }
    let help = faults.nearest(&text.chars().take(16).collect::<String>().to_uppercase(), METHODS);
    faults.add_at(
        Code::InvalidValue,
        node.place.pointer(),
        format!("{} is none of {}", quote(text), list(METHODS)),
        help,
    );
    None
}

pub(in crate::definition) fn target(object: &mut Object<'_>, has_service: bool, faults: &mut Faults) -> Option<Target> {
    let (path, url) = (object.take("path"), object.take("url"));
    match (path, url) {
        (Some(_), Some(url)) => {
            faults.add(Code::UnknownOrMissingField, &url.place, "an operation has a `path` or a `url`, not both");
            None
        }
        (Some(path), None) => {
            if !has_service {
                let help = "Write `service` here or on the step, or a `url`.";
                faults.add_with(Code::UnknownReference, &path.place, "a `path` needs a service to stand on", help);
            }
            self::path(&path, faults).map(Target::Path)
        }
        (None, Some(url)) => self::url(&url, faults).map(Target::Url),
        (None, None) => {
            let help = "Write a `path` on the service, or a `url`.";
            faults.add_with(Code::UnknownOrMissingField, &object.place, "where the operation goes is missing", help);
            None
        }
    }
}

/// What stands before the first expression.
fn literal(text: &str) -> (&str, bool) {
    text.find("${").map_or((text, false), |at| (&text[..at], true))
}

/// Whether it holds, outside of expressions, a space, a control character or `#`.
fn is_no_url(text: &str) -> bool {
    let mut literals = template::pieces(text).filter_map(|piece| match piece {
        Ok(Written::Literal(literal)) => Some(literal),
        Ok(Written::Escape | Written::Expression(_)) | Err(_) => None,
    });
    literals.any(|literal| literal.chars().any(|letter| letter.is_whitespace() || letter.is_control() || letter == '#'))
}

pub(in crate::definition) fn path(node: &Node<'_>, faults: &mut Faults) -> Option<Template> {
    let text = node.text(faults)?;
    if !text.starts_with('/') {
        return node.bad(format!("the path {} must start with `/`", quote(text)), faults);
    }
    if is_no_url(text) {
        return node.bad(format!("the path {} holds a space, a control character or `#`", quote(text)), faults);
    }
    node.template(faults)
}

/// The host must be written out: a value must not choose whom the coordinator calls.
pub(in crate::definition) fn url(node: &Node<'_>, faults: &mut Faults) -> Option<Template> {
    let text = node.text(faults)?;
    let (prefix, dynamic) = literal(text);
    let absolute = absolute_url(prefix).filter(|_| !is_no_url(text));
    let host_ends = prefix.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
    if absolute.is_none() || dynamic && !host_ends {
        let message = format!("{} is not an absolute http or https URL", quote(text));
        faults.add_with(
            Code::InvalidValue,
            &node.place,
            message,
            "Write scheme and host out; expressions may follow the first `/`.",
        );
        return None;
    }
    node.template(faults)
}

/// An http or https URL with a host and without credentials.
pub(in crate::definition) fn absolute_url(text: &str) -> Option<Url> {
    let (scheme, _) = text.split_once("://")?;
    if text.len() > 2048 || !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return None;
    }
    Url::parse(text).ok().filter(|url| url.has_host() && url.username().is_empty() && url.password().is_none())
}

pub(in crate::definition) fn query<'a>(node: &Node<'a>, faults: &mut Faults) -> Vec<(&'a str, Template)> {
    let Some(object) = node.object(faults) else { return Vec::new() };
    let mut entries = Vec::new();
    for (name, node) in object.entries() {
        if refuse_secrets(&node, faults) {
            continue;
        }
        if node.value.is_null() || node.value.is_array() || node.value.is_object() {
            node.wrong::<()>("a string, a number or a boolean", faults);
        } else if let Some(template) = node.template(faults) {
            entries.push((name, template));
        }
    }
    entries
}

pub(in crate::definition) fn headers<'a>(node: &Node<'a>, faults: &mut Faults) -> Vec<(&'a str, Template)> {
    let Some(object) = node.object(faults) else { return Vec::new() };
    let mut entries = Vec::new();
    twice(&object, faults);
    for (name, node) in object.entries() {
        if refuse_secrets(&node, faults) {
            continue;
        }
        let Some(text) = node.text(faults) else { continue };
        if header(name, text, &node.place, faults)
            && let Some(template) = node.template(faults)
        {
            entries.push((name, template));
        }
    }
    entries
}

/// Headers whose names differ only in case.
pub(in crate::definition) fn twice(headers: &Object<'_>, faults: &mut Faults) {
    let mut names = BTreeSet::new();
    for (name, node) in headers.entries() {
        if !names.insert(name.to_ascii_lowercase()) {
            faults.add(
                Code::InvalidValue,
                &node.place,
                format!("the header {} stands here twice: case does not matter", quote(name)),
            );
        }
    }
}

/// Whether a header may be set to this (RFC 9110, field syntax).
pub(in crate::definition) fn header(name: &str, value: &str, place: &Place<'_>, faults: &mut Faults) -> bool {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || name.len() > 256 || !name.bytes().all(token) {
        faults.add(Code::InvalidValue, place, format!("{} is not a header's name", quote(name)));
        return false;
    }
    let lower = name.to_ascii_lowercase();
    if lower.starts_with("skald-") || RESERVED_HEADERS.contains(&lower.as_str()) {
        faults.add(Code::InvalidValue, place, format!("the header {} is the coordinator's own", quote(name)));
        return false;
    }
    if !value.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        faults.add(Code::InvalidValue, place, "a header's value holds visible ASCII characters and spaces alone");
        return false;
    }
    true
}
