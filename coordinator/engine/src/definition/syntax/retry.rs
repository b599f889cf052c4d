//! Retry policies as they are written: what a policy leaves out comes from the one it stands over.

use std::time::Duration;

use crate::{
    definition::{
        diagnostic::Code,
        syntax::read::{Faults, Node, quote},
    },
    limit,
    plan::{Jitter, Retry},
};

#[derive(Debug, Clone, Default)]
pub(in crate::definition) struct Policy {
    /// `Some(None)` is "unlimited".
    max_attempts: Option<Option<u32>>,
    initial_interval: Option<Duration>,
    backoff_coefficient: Option<f64>,
    max_interval: Option<Duration>,
    jitter: Option<Jitter>,
    max_elapsed: Option<Duration>,
}

impl Policy {
    pub(in crate::definition) fn read(node: &Node<'_>, faults: &mut Faults) -> Self {
        let Some(mut object) = node.object(faults) else { return Self::default() };
        let max_attempts = object.take("max_attempts").and_then(|node| {
            if node.value == "unlimited" { Some(None) } else { node.count(limit::ATTEMPTS, faults).map(Some) }
        });
        let backoff_coefficient = object.take("backoff_coefficient").and_then(|node| match node.value.as_f64() {
            Some(coefficient) if (1.0..=100.0).contains(&coefficient) => Some(coefficient),
            Some(coefficient) => node.bad(format!("`{coefficient}` is not a number from 1 to 100"), faults),
            None => node.wrong("a number", faults),
        });
        let mut duration = |name| object.take(name).and_then(|node| node.duration(limit::TIMEOUT, faults));
        let (initial_interval, max_interval) = (duration("initial_interval"), duration("max_interval"));
        let max_elapsed = duration("max_elapsed");
        let jitter =
            object.take("jitter").and_then(|node| node.word(&[("full", Jitter::Full), ("none", Jitter::None)], faults));
        if let (Some(initial), Some(most)) = (initial_interval, max_interval)
            && initial > most
        {
            faults.add(Code::InvalidValue, &object.place, "`initial_interval` is longer than `max_interval`");
        }
        object.end(faults);
        Self { max_attempts, initial_interval, backoff_coefficient, max_interval, jitter, max_elapsed }
    }

    /// An inline policy or the name of one.
    pub(in crate::definition) fn read_reference(
        node: &Node<'_>,
        named: impl FnOnce(&str, &mut Faults) -> Result<Self, Option<String>>,
        faults: &mut Faults,
    ) -> Option<Self> {
        let Some(name) = node.value.as_str() else { return Some(Self::read(node, faults)) };
        match named(name, faults) {
            Ok(policy) => Some(policy),
            Err(help) => {
                let message = format!("there is no retry policy {}", quote(name));
                faults.add_at(Code::UnknownReference, node.place.pointer(), message, help);
                None
            }
        }
    }

    pub(in crate::definition) fn over(&self, base: &Retry) -> Retry {
        let initial_interval = self.initial_interval.unwrap_or(base.initial_interval);
        Retry {
            max_attempts: self.max_attempts.unwrap_or(base.max_attempts),
            initial_interval,
            backoff_coefficient: self.backoff_coefficient.unwrap_or(base.backoff_coefficient),
            // A first pause beyond the inherited cap was said; the cap was not.
            max_interval: self.max_interval.unwrap_or_else(|| base.max_interval.max(initial_interval)),
            jitter: self.jitter.unwrap_or(base.jitter),
            max_elapsed: self.max_elapsed.or(base.max_elapsed),
        }
    }

    /// Says itself that it ends.
    pub(in crate::definition) const fn is_finite(&self) -> bool {
        matches!(self.max_attempts, Some(Some(_))) || self.max_elapsed.is_some()
    }
}
