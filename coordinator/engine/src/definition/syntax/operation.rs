//! Operations as they are written, of a definition's steps and of enlisted branches alike.

use std::{collections::BTreeMap, time::Duration};

use skald_protocol::OperationKind;

use crate::{
    definition::{
        diagnostic::Code,
        syntax::{
            http::{headers, method, query, target},
            read::{Faults, Node, Object, Place, quote},
            retry::Policy,
            service::Services,
        },
    },
    limit,
    plan::{Body, Means, OnExhausted, Rule, Target},
    template::Template,
};

/// An operation before its defaults.
#[derive(Debug)]
pub(in crate::definition) struct Draft<'a> {
    pub(in crate::definition) place: Place<'a>,
    pub(in crate::definition) kind: OperationKind,
    pub(in crate::definition) service: Option<&'a str>,
    pub(in crate::definition) method: &'a str,
    pub(in crate::definition) target: Target,
    pub(in crate::definition) query: Vec<(&'a str, Template)>,
    pub(in crate::definition) headers: Vec<(&'a str, Template)>,
    /// Absent: the default of its kind.
    pub(in crate::definition) body: Option<Body>,
    pub(in crate::definition) timeout: Option<Duration>,
    pub(in crate::definition) retry: Option<Policy>,
    pub(in crate::definition) pending: Option<Pending<'a>>,
    pub(in crate::definition) status_check: Option<Box<Draft<'a>>>,
    /// Each with its place.
    pub(in crate::definition) outcome: Vec<(Rule, Place<'a>)>,
    pub(in crate::definition) idempotent: bool,
    pub(in crate::definition) on_exhausted: Option<OnExhausted>,
}

/// `async`
#[derive(Debug)]
pub(in crate::definition) struct Pending<'a> {
    pub(in crate::definition) timeout: Duration,
    pub(in crate::definition) heartbeat: Option<Duration>,
    pub(in crate::definition) poll: Option<Polling<'a>>,
}

#[derive(Debug)]
pub(in crate::definition) struct Polling<'a> {
    pub(in crate::definition) operation: Box<Draft<'a>>,
    pub(in crate::definition) interval: Duration,
    pub(in crate::definition) max_interval: Option<Duration>,
}

/// What an operation may name.
#[derive(Debug)]
pub(in crate::definition) struct Known<'a> {
    /// `None`: services are the server's, known where the call is sent.
    pub(in crate::definition) services: Option<Services<'a>>,
    pub(in crate::definition) retries: BTreeMap<&'a str, Policy>,
}

impl<'a> Known<'a> {
    pub(in crate::definition) fn service(&self, node: &Node<'a>, faults: &mut Faults) -> Option<&'a str> {
        let name = node.text(faults)?;
        if let Some(services) = &self.services
            && !services.contains_key(name)
        {
            let help = faults.nearest(name, services.keys().copied());
            faults.add_at(
                Code::UnknownReference,
                node.place.pointer(),
                format!("there is no service {}", quote(name)),
                help,
            );
            return None;
        }
        Some(name)
    }

    pub(in crate::definition) fn policy(&self, node: &Node<'a>, faults: &mut Faults) -> Option<Policy> {
        let named = |name: &str, faults: &mut Faults| match self.retries.get(name) {
            Some(policy) => Ok(policy.clone()),
            None => Err(faults.nearest(name, self.retries.keys().copied())),
        };
        Policy::read_reference(node, named, faults)
    }
}

impl<'a> Draft<'a> {
    /// `service`: the step's, where it states one.
    pub(in crate::definition) fn read(
        node: &Node<'a>,
        kind: OperationKind,
        service: Option<&Inherited<'a>>,
        known: &Known<'a>,
        faults: &mut Faults,
    ) -> Self {
        match node.object(faults) {
            Some(object) => Self::read_object(object, kind, service, known, faults),
            None => Self::empty(kind, node.place.clone()),
        }
    }

    fn read_object(
        mut object: Object<'a>,
        kind: OperationKind,
        service: Option<&Inherited<'a>>,
        known: &Known<'a>,
        faults: &mut Faults,
    ) -> Self {
        let mut draft = Self::empty(kind, object.place.clone());
        let asks = kind == OperationKind::Status;
        let own = object.take("service");
        draft.service = match (&own, service) {
            (Some(node), _) => known.service(node, faults),
            (None, Some(inherited)) => inherited.name,
            (None, None) => None,
        };
        if let Some(node) = object.take("method") {
            draft.method = method(&node, faults).unwrap_or(draft.method);
        }
        let has_service = own.is_some() || service.is_some();
        draft.target = target(&mut object, has_service, faults).unwrap_or(draft.target);
        draft.query = object.take("query").map(|node| query(&node, faults)).unwrap_or_default();
        draft.headers = object.take("headers").map(|node| headers(&node, faults)).unwrap_or_default();
        draft.body = object.take("body").and_then(|node| {
            // `"body": null` says that there is none.
            if node.value.is_null() { Some(Body::None) } else { node.template(faults).map(Body::Given) }
        });
        draft.timeout = object.take("timeout").and_then(|node| node.duration(limit::ATTEMPT_TIMEOUT, faults));
        draft.outcome = object.take("outcome").map(|node| outcome(&node, asks, faults)).unwrap_or_default();
        if asks {
            for name in ["retry", "async", "status_check", "idempotent", "on_exhausted"] {
                object.forbid(name, &format!("a question about an operation takes no `{name}`"), faults);
            }
        } else {
            draft.retry = object.take("retry").and_then(|node| known.policy(&node, faults));
            draft.pending = object.take("async").and_then(|node| {
                let inherited = Inherited { name: draft.service };
                pending(&node, has_service.then_some(&inherited), known, faults)
            });
            draft.status_check = object.take("status_check").map(|node| {
                let inherited = Inherited { name: draft.service };
                let inherited = has_service.then_some(&inherited);
                Box::new(Self::read(&node, OperationKind::Status, inherited, known, faults))
            });
            draft.idempotent = object.take("idempotent").and_then(|node| node.boolean(faults)).unwrap_or(false);
            draft.on_exhausted = object.take("on_exhausted").and_then(|node| {
                let words = [
                    ("compensate", OnExhausted::Compensate),
                    ("suspend", OnExhausted::Suspend),
                    ("ignore", OnExhausted::Ignore),
                ];
                node.word(&words, faults)
            });
        }
        object.end(faults);
        draft
    }

    fn empty(kind: OperationKind, place: Place<'a>) -> Self {
        let nothing = Template::compile("").expect("a text without expressions");
        Self {
            place,
            kind,
            service: None,
            method: if kind == OperationKind::Status { "GET" } else { "POST" },
            target: Target::Path(nothing),
            query: Vec::new(),
            headers: Vec::new(),
            body: None,
            timeout: None,
            retry: None,
            pending: None,
            status_check: None,
            outcome: Vec::new(),
            idempotent: false,
            on_exhausted: None,
        }
    }

    /// Everything of it that is rendered, but for its `status_check`.
    pub(in crate::definition) fn each_template(&self, mut show: impl FnMut(&Place<'a>, &Template)) {
        let (name, target) = match &self.target {
            Target::Path(template) => ("path", template),
            Target::Url(template) => ("url", template),
        };
        show(&self.place.key(name), target);
        for (field, entries) in [("query", &self.query), ("headers", &self.headers)] {
            let place = self.place.key(field);
            for (name, template) in entries {
                show(&place.key(name), template);
            }
        }
        if let Some(Body::Given(template)) = &self.body {
            show(&self.place.key("body"), template);
        }
    }
}

/// A service stated further out; `None` if it was stated and is unknown, which is reported already.
#[derive(Debug, Clone, Copy)]
pub(in crate::definition) struct Inherited<'a> {
    pub(in crate::definition) name: Option<&'a str>,
}

fn pending<'a>(
    node: &Node<'a>,
    service: Option<&Inherited<'a>>,
    known: &Known<'a>,
    faults: &mut Faults,
) -> Option<Pending<'a>> {
    let mut object = node.object(faults)?;
    let timeout = object.require("timeout", faults).and_then(|node| node.duration(limit::TIMEOUT, faults));
    let heartbeat = object.take("heartbeat").map(|node| (node.duration(limit::TIMEOUT, faults), node.place));
    let poll = object.take("poll");
    if let (Some((_, place)), Some(_)) = (&heartbeat, &poll) {
        let help = "Drop one of the two: a poll's answer is a sign of life.";
        faults.add_with(
            Code::UnknownOrMissingField,
            place,
            "a `heartbeat` is for callbacks, and this operation is polled",
            help,
        );
    }
    let poll = poll.and_then(|node| {
        let mut object = node.object(faults)?;
        let interval = object.require("interval", faults).and_then(|node| node.duration(limit::TIMEOUT, faults));
        let max_interval = object.take("max_interval").and_then(|node| node.duration(limit::TIMEOUT, faults));
        if let (Some(interval), Some(most)) = (interval, max_interval)
            && interval > most
        {
            faults.add(Code::InvalidValue, &object.place, "`interval` is longer than `max_interval`");
        }
        let operation = Draft::read_object(object, OperationKind::Status, service, known, faults);
        Some(Polling { operation: Box::new(operation), interval: interval?, max_interval })
    });
    object.end(faults);
    timeout.map(|timeout| Pending { timeout, heartbeat: heartbeat.and_then(|(heartbeat, _)| heartbeat), poll })
}

/// `outcome`: what answers mean, in order.
fn outcome<'a>(node: &Node<'a>, asks: bool, faults: &mut Faults) -> Vec<(Rule, Place<'a>)> {
    let mut rules = Vec::new();
    for node in node.array(faults).unwrap_or_default() {
        let Some(mut object) = node.object(faults) else { continue };
        let when = object.require("when", faults).and_then(|node| node.condition(faults));
        let words = [
            ("succeeded", Means::Succeeded),
            ("refused", Means::Refused),
            ("pending", Means::Pending),
            ("unknown", Means::Unknown),
            ("unsent", Means::Unsent),
            ("not_found", Means::NotFound),
        ];
        let words = if asks { &words[..] } else { &words[..5] };
        let is = object.require("is", faults).and_then(|node| node.word(words, faults));
        let error = object.take("error").and_then(|node| Some((node.text(faults)?, node)));
        let message = object.take("message").and_then(|node| {
            node.text(faults)?;
            Some((node.template(faults)?, node))
        });
        if let Some(Means::Succeeded | Means::Pending | Means::NotFound) = is {
            let stated =
                [("error", error.as_ref().map(|error| &error.1)), ("message", message.as_ref().map(|it| &it.1))];
            for (name, node) in stated {
                if let Some(node) = node {
                    let article = if name == "error" { "an" } else { "a" };
                    let told = format!("only what is refused, unknown or unsent has {article} `{name}`");
                    faults.add(Code::UnknownOrMissingField, &node.place, told);
                }
            }
        }
        if let Some((text, node)) = &error
            && (text.is_empty() || text.len() > 64)
        {
            node.bad::<()>("an error's code has 1 to 64 characters", faults);
        }
        let place = object.place.clone();
        object.end(faults);
        if let (Some(when), Some(is)) = (when, is) {
            let error = error.map(|(error, _)| error.to_owned());
            rules.push((Rule { when, is, error, message: message.map(|(message, _)| message) }, place));
        }
    }
    rules
}
