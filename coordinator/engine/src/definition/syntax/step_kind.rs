//! What a step does: the field that says it, and what stands below that field.

use skald_protocol::{OperationKind, parse_duration};

use crate::{
    definition::{
        diagnostic::Code,
        syntax::{
            include::Library,
            operation::{Draft, Inherited, Known},
            read::{Faults, Node, Object, Place, list, quote},
            step::{Kind, Steps},
        },
    },
    limit,
    path::is_name,
    plan::{Fail, Phase, Wait},
    template::Template,
};

/// Side by side, where nothing is said.
pub(in crate::definition) const CONCURRENCY: u32 = 16;
/// What an item is called, where nothing is said.
pub(in crate::definition) const ITEM: &str = "item";
/// What an expression may start with; no map's variable hides one of them.
pub(in crate::definition) const ROOTS: [&str; 8] =
    ["input", "steps", "transaction", "self", "response", "signals", "config", "items"];
const BLOCKS: [&str; 8] = ["parallel", "choice", "map", "wait", "saga", "set", "fail", "succeed"];

/// Everything that reading a step needs beside the step.
#[derive(Clone, Copy)]
pub(in crate::definition) struct Reading<'s, 'a> {
    pub(in crate::definition) known: &'s Known<'a>,
    pub(in crate::definition) library: &'a Library,
    /// The definitions around this one, that it must not include again.
    pub(in crate::definition) including: &'s [(&'a str, &'a str)],
    pub(in crate::definition) phase: Phase,
}

/// A step's condition and arm, or an arm without one.
#[derive(Debug)]
pub(in crate::definition) struct Arm<'a> {
    pub(in crate::definition) when: Option<(Template, Place<'a>)>,
    pub(in crate::definition) steps: Vec<usize>,
}

impl<'a> Steps<'a> {
    /// `None`: nothing says what it does.
    pub(in crate::definition) fn kind(
        &mut self,
        object: &mut Object<'a>,
        index: usize,
        service: Option<&Inherited<'a>>,
        reading: Reading<'_, 'a>,
        faults: &mut Faults,
    ) -> Option<Kind<'a>> {
        let operation = |object: &mut Object<'a>, name, kind, faults: &mut Faults| {
            object.take(name).map(|node| Box::new(Draft::read(&node, kind, service, reading.known, faults)))
        };
        let [action, compensate, try_, confirm, cancel] = [
            ("action", OperationKind::Action),
            ("compensate", OperationKind::Compensate),
            ("try", OperationKind::Try),
            ("confirm", OperationKind::Confirm),
            ("cancel", OperationKind::Cancel),
        ]
        .map(|(name, kind)| operation(object, name, kind, faults));
        let blocks = BLOCKS.map(|name| object.take(name));
        let [parallel, choice, map, wait, saga, set, fail, succeed] = &blocks;
        // Beside `parallel` it is a word, else a step of its own.
        let fails = parallel.is_none() && fail.is_some();
        let tcc = try_.is_some() || confirm.is_some() || cancel.is_some();
        let said = [action.is_some(), tcc, parallel.is_some(), choice.is_some(), map.is_some(), wait.is_some()];
        let said = said.into_iter().chain([saga.is_some(), set.is_some(), fails, succeed.is_some()]);
        let said = said.filter(|said| *said).count();
        if said > 1 {
            let message = "a step does one thing: an `action`, a `try` with `confirm` and `cancel`, or one of";
            let message = format!("{message} {}", list(BLOCKS));
            faults.add(Code::UnknownOrMissingField, &object.place, message);
            return Some(Kind::Unread);
        }
        if said == 1 && action.is_none() && !tcc {
            self.refuse_on_block(index, map.is_some(), compensate.as_deref(), service.is_some(), faults);
        }
        if let Some(node) = parallel {
            return Some(self.parallel(node, fail.as_ref(), index, reading, faults));
        }
        if let Some(node) = choice {
            return Some(self.choice(node, index, reading, faults));
        }
        if let Some(node) = map {
            return Some(self.map(node, index, reading, faults).unwrap_or(Kind::Unread));
        }
        if let Some(node) = wait {
            return Some(wait_of(node, faults).map_or(Kind::Unread, |(wait, place)| Kind::Wait { wait, place }));
        }
        if let Some(node) = saga {
            return Some(self.include(node, index, reading, faults).unwrap_or(Kind::Unread));
        }
        if let Some(node) = set {
            let set = node.template(faults).map(|template| Kind::Set { template, place: node.place.clone() });
            return Some(set.unwrap_or(Kind::Unread));
        }
        if let Some(node) = fail {
            return Some(fail_of(node, faults).unwrap_or(Kind::Unread));
        }
        if let Some(node) = succeed {
            return Some(succeed_of(node, faults).unwrap_or(Kind::Unread));
        }
        if tcc {
            if let Some(compensate) = compensate {
                let message = "a TCC step is undone by its `cancel`; `compensate` belongs to an `action`";
                faults.add(Code::UnknownOrMissingField, &compensate.place, message);
            }
            return Some(Kind::Tcc { try_, confirm, cancel });
        }
        match (action, compensate) {
            (Some(action), compensate) => Some(Kind::Saga { action, compensate }),
            (None, Some(compensate)) => {
                faults.add(
                    Code::UnknownOrMissingField,
                    &compensate.place,
                    "a `compensate` without an `action` has nothing to undo",
                );
                Some(Kind::Unread)
            }
            (None, None) => None,
        }
    }

    /// What a step without operations has no use for would be passed over in silence.
    fn refuse_on_block(
        &self,
        index: usize,
        is_map: bool,
        compensate: Option<&Draft<'a>>,
        has_service: bool,
        faults: &mut Faults,
    ) {
        let step = &self.list[index];
        let role = step.role.as_ref().map(|(_, place)| place.clone());
        let retry = step.retry.as_ref().map(|(_, place)| place.clone());
        let output = step.output.as_ref().filter(|_| !is_map).map(|(_, place)| place.clone());
        let service = has_service.then(|| step.place.key("service"));
        let compensate = compensate.map(|draft| draft.place.clone());
        for place in [role, retry, output, service, compensate].into_iter().flatten() {
            let message = "a step without an operation of its own does not take this";
            faults.add_with(Code::UnknownOrMissingField, &place, message, "Write it on steps with an operation.");
        }
    }

    fn arm(
        &mut self,
        steps: &Node<'a>,
        at: (usize, usize),
        reading: Reading<'_, 'a>,
        faults: &mut Faults,
    ) -> Vec<usize> {
        self.siblings(steps, Some(at), reading, faults)
    }

    fn parallel(
        &mut self,
        node: &Node<'a>,
        fail: Option<&Node<'a>>,
        index: usize,
        reading: Reading<'_, 'a>,
        faults: &mut Faults,
    ) -> Kind<'a> {
        let fail = fail.and_then(|node| node.word(&[("fast", Fail::Fast), ("wait_all", Fail::WaitAll)], faults));
        let mut arms = Vec::new();
        let nodes = node.array(faults).unwrap_or_default();
        if node.value.as_array().is_some_and(Vec::is_empty) {
            faults.add(Code::EmptyBlock, &node.place, "a `parallel` block without arms");
        }
        for node in nodes {
            let Some(mut object) = node.object(faults) else { continue };
            if let Some(steps) = object.require("steps", faults) {
                if steps.value.as_array().is_some_and(Vec::is_empty) {
                    faults.add(Code::EmptyBlock, &steps.place, "an arm without steps");
                }
                arms.push(self.arm(&steps, (index, arms.len()), reading, faults));
            }
            object.end(faults);
        }
        Kind::Parallel { fail: fail.unwrap_or(Fail::Fast), arms }
    }

    fn choice(&mut self, node: &Node<'a>, index: usize, reading: Reading<'_, 'a>, faults: &mut Faults) -> Kind<'a> {
        let mut arms: Vec<Arm<'a>> = Vec::new();
        let nodes = node.array(faults).unwrap_or_default();
        let last = nodes.len();
        let mut otherwise = false;
        for (position, node) in nodes.into_iter().enumerate() {
            let Some(mut object) = node.object(faults) else { continue };
            let (when, other) = (object.take("when"), object.take("otherwise"));
            match (&when, &other) {
                (Some(_), Some(other)) => {
                    faults.add(Code::UnknownOrMissingField, &other.place, "an arm has a `when` or is the `otherwise`")
                }
                (None, None) => {
                    let help = "Write a condition, or \"otherwise\": true on the last arm.";
                    faults.add_with(Code::UnknownOrMissingField, &object.place, "`when` is missing", help);
                }
                (None, Some(node)) => {
                    otherwise = true;
                    if node.value != &crate::value::Value::Bool(true) {
                        node.wrong::<()>("true", faults);
                    } else if position + 1 < last {
                        faults.add(
                            Code::EmptyBlock,
                            &node.place,
                            "`otherwise` is the last arm: what comes after it is never run",
                        );
                    }
                }
                (Some(_), None) => {}
            }
            let when = when.and_then(|node| Some((node.condition(faults)?, node.place)));
            let steps = object.require("steps", faults);
            let steps = steps.map(|steps| self.arm(&steps, (index, arms.len()), reading, faults)).unwrap_or_default();
            arms.push(Arm { when, steps });
            object.end(faults);
        }
        if !otherwise && node.value.is_array() {
            let help = "Add {\"otherwise\": true, \"steps\": […]} as the last arm; its steps may be empty.";
            faults.add_with(
                Code::EmptyBlock,
                &node.place,
                "the choice does not say what is done where no condition is true",
                help,
            );
        }
        Kind::Choice { arms }
    }

    fn map(
        &mut self,
        node: &Node<'a>,
        index: usize,
        reading: Reading<'_, 'a>,
        faults: &mut Faults,
    ) -> Option<Kind<'a>> {
        let mut object = node.object(faults)?;
        let items = object.require("items", faults).and_then(|node| {
            let written = node.value.is_array() || node.value.as_str().is_some_and(|text| text.contains("${"));
            if !written {
                return node.wrong("a list, or an expression that gives one", faults);
            }
            Some((node.template(faults)?, node.place))
        });
        let variable = object.take("as").and_then(|node| {
            let name = node.text(faults)?;
            if is_name(name) && !ROOTS.contains(&name) && !["true", "false", "null", "in"].contains(&name) {
                return Some(name);
            }
            let message = format!("{} cannot be the name of an item: [A-Za-z_][A-Za-z0-9_]*", quote(name));
            node.bad(format!("{message}, and none of {}", list(ROOTS)), faults)
        });
        let most = u32::try_from(limit::MAP_ITEMS).unwrap_or(u32::MAX);
        let mut count = |name| object.take(name).and_then(|node| node.count(most, faults));
        let (max_items, max_concurrency) = (count("max_items"), count("max_concurrency"));
        let steps = object.require("steps", faults);
        if let Some(steps) = &steps
            && steps.value.as_array().is_some_and(Vec::is_empty)
        {
            faults.add(Code::EmptyBlock, &steps.place, "a `map` without steps");
        }
        let steps = steps.map(|steps| self.arm(&steps, (index, 0), reading, faults)).unwrap_or_default();
        object.end(faults);
        Some(Kind::Map {
            items: items?,
            variable: variable.unwrap_or(ITEM),
            max_items: max_items.unwrap_or(most) as usize,
            max_concurrency: max_concurrency.unwrap_or(CONCURRENCY) as usize,
            steps,
        })
    }
}

fn wait_of<'a>(node: &Node<'a>, faults: &mut Faults) -> Option<(Wait, Place<'a>)> {
    let mut object = node.object(faults)?;
    let [span, until, signal] = ["for", "until", "signal"].map(|name| object.take(name));
    let timeout = object.take("timeout");
    let on_timeout = object.take("on_timeout");
    let one = [span.is_some(), until.is_some(), signal.is_some()].into_iter().filter(|said| *said).count() == 1;
    if !one {
        faults.add(Code::UnknownOrMissingField, &object.place, "a wait has one of `for`, `until` and `signal`");
    }
    if signal.is_none() {
        for node in [&timeout, &on_timeout].into_iter().flatten() {
            faults.add(Code::UnknownOrMissingField, &node.place, "only a wait for a `signal` has a timeout");
        }
    }
    let text = |node: &Node<'a>, faults: &mut Faults| {
        node.text(faults)?;
        let template = node.template(faults)?;
        Some((template, node.place.clone()))
    };
    let wait = match (span, until, signal) {
        (Some(node), None, None) => {
            let (template, place) = text(&node, faults)?;
            if template.is_static() && parse_duration(node.value.as_str().unwrap_or_default()).is_err() {
                node.duration(limit::TIMEOUT, faults)?;
            }
            (Wait::For(template), place)
        }
        (None, Some(node), None) => {
            let (template, place) = text(&node, faults)?;
            let moment = node.value.as_str().unwrap_or_default();
            if template.is_static() && moment.parse::<skald_protocol::Timestamp>().is_err() {
                let message = format!("{} is no timestamp", quote(moment));
                faults.add_with(
                    Code::InvalidValue,
                    &node.place,
                    message,
                    "Write it as RFC 3339: 2026-01-31T12:00:00Z.",
                );
            }
            (Wait::Until(template), place)
        }
        (None, None, Some(node)) => {
            let names = signals_of(&node, faults)?;
            let goes_on = on_timeout.and_then(|node| node.word(&[("fail", false), ("continue", true)], faults));
            let timeout = match timeout {
                Some(node) => node.duration(limit::TIMEOUT, faults)?,
                None => {
                    let help = "Write how long: 24h, 7d. After it the wait fails, or goes on with `on_timeout`.";
                    faults.add_with(Code::UnknownOrMissingField, &object.place, "`timeout` is missing", help);
                    return None;
                }
            };
            let goes_on = goes_on.unwrap_or(false);
            let wait = match names {
                Names::One(name) => Wait::Signal { name, timeout, goes_on },
                Names::Several(names) => Wait::First { names, timeout, goes_on },
            };
            (wait, node.place)
        }
        _ => return None,
    };
    object.end(faults);
    Some(wait)
}

enum Names {
    One(Template),
    Several(Vec<Template>),
}

/// A list of names, also of one, has an output that tells which of them came.
fn signals_of(node: &Node<'_>, faults: &mut Faults) -> Option<Names> {
    if !node.value.is_array() {
        return signal_of(node, faults).map(Names::One);
    }
    let nodes = node.array(faults)?;
    if nodes.is_empty() || nodes.len() > limit::SIGNALS {
        return node
            .bad(format!("a wait is for one to {} signals, and not for {}", limit::SIGNALS, nodes.len()), faults);
    }
    let mut names: Vec<Template> = Vec::new();
    for node in &nodes {
        let name = signal_of(node, faults)?;
        if names.contains(&name) {
            let message = format!("the signal {} stands in the list twice", quote(node.text(faults)?));
            faults.add_with(Code::InvalidValue, &node.place, message, "Name each signal once.");
        }
        names.push(name);
    }
    Some(Names::Several(names))
}

fn signal_of(node: &Node<'_>, faults: &mut Faults) -> Option<Template> {
    let written = node.text(faults)?;
    let name = node.template(faults)?;
    if name.is_static() && !is_signal(written) {
        let message = format!("{} is no signal's name: letters, digits and `_.~-`", quote(written));
        faults.add(Code::InvalidValue, &node.place, format!("{message}, at most {}", limit::SIGNAL_NAME));
    }
    Some(name)
}

/// What may be the name of a signal.
#[must_use]
pub fn is_signal(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"_.~-".contains(&b);
    // Dots alone would be steps in a path.
    name.bytes().any(|b| b != b'.') && name.len() <= limit::SIGNAL_NAME && name.bytes().all(inner)
}

fn succeed_of<'a>(node: &Node<'a>, faults: &mut Faults) -> Option<Kind<'a>> {
    let mut object = node.object(faults)?;
    let output = object.take("output").and_then(|node| Some((node.template(faults)?, node.place)));
    object.end(faults);
    Some(Kind::Succeed { output })
}

fn fail_of<'a>(node: &Node<'a>, faults: &mut Faults) -> Option<Kind<'a>> {
    let mut object = node.object(faults)?;
    let error = object.require("error", faults).and_then(|node| {
        let code = node.text(faults)?;
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        if code.len() <= 64 && code.starts_with(|first: char| first.is_ascii_lowercase()) && code.bytes().all(inner) {
            return Some(code);
        }
        node.bad(format!("{} is no error code: [a-z][a-z0-9_]*, at most 64", quote(code)), faults)
    });
    let message = object.take("message").and_then(|node| {
        node.text(faults)?;
        Some((node.template(faults)?, node.place))
    });
    object.end(faults);
    Some(Kind::Fail { error: error?, message })
}
