//! Who is no participant: whoever sends the signals that steps wait for.

use skald_protocol::Json;

use super::{Happening, WAY_MS, WORK_MS, World, millis};
use crate::{
    journal::Event,
    plan::{Block, Branch},
    simulate::{
        fault::{Fate, InjectedFault},
        lookup,
    },
    transaction::Command,
};

impl World<'_> {
    /// Signals whose moment does not depend on who waits.
    pub(super) fn announce(&mut self) {
        for signal in &self.stage.signals {
            if self.fate(&signal.name).is_none() {
                let command = Command::Signal { name: signal.name.clone(), payload: signal.payload.clone() };
                self.after(millis(signal.after), Happening::Command(Box::new(command)));
            }
        }
        for fault in self.faults {
            if let InjectedFault::Signal { name, fate: Fate::Early } = fault {
                let step = lookup::all(&self.stage.plan).into_iter().find(|branch| waits_for(branch, name));
                let payload = self.payload(name, step.map_or("", |branch| &branch.step));
                self.signals.push(name.clone());
                self.after(0, Happening::Command(Box::new(Command::Signal { name: name.clone(), payload })));
            }
        }
    }

    pub(super) fn fate(&self, name: &str) -> Option<Fate> {
        self.faults.iter().find_map(|fault| match fault {
            InjectedFault::Signal { name: struck, fate } if struck == name => Some(*fate),
            _ => None,
        })
    }

    pub(super) fn payload(&self, name: &str, step: &str) -> Option<Json> {
        match self.stage.signals.iter().find(|signal| signal.name == name) {
            Some(signal) => signal.payload.clone(),
            None => self.stage.answers.payload(name, step).map(Json::from),
        }
    }

    /// Whoever is waited for answers in a while; of several the one that is named first.
    pub(super) fn signal(&mut self, events: &[Event]) {
        for event in events {
            let Event::Armed { branch, delay_ms, signals } = event else { continue };
            let is_scripted = signals.iter().any(|name| self.stage.signals.iter().any(|signal| signal.name == *name));
            for (place, name) in signals.iter().enumerate() {
                if !self.signals.contains(name) {
                    self.answer(*branch, *delay_ms, name, place == 0 && !is_scripted);
                }
            }
        }
    }

    fn answer(&mut self, branch: usize, delay_ms: u64, name: &str, comes: bool) {
        self.signals.push(name.to_owned());
        let wait = i64::try_from(delay_ms).unwrap_or(i64::MAX);
        let soon = WORK_MS.min(wait / 2);
        let command =
            || Command::Signal { name: name.to_owned(), payload: self.payload(name, &self.tx.branch(branch).step) };
        let (times, first) = match self.fate(name) {
            Some(Fate::Missing) => (0, 0),
            Some(Fate::Late) => (1, wait.saturating_add(WORK_MS)),
            Some(Fate::Twice) => (2, soon),
            None if !comes => (0, 0),
            Some(Fate::Early) | None => (1, soon),
        };
        let commands: Vec<Command> = (0..times).map(|_| command()).collect();
        for (command, after) in commands.into_iter().zip([first, first.saturating_add(2 * WAY_MS)]) {
            self.after(after, Happening::Command(Box::new(command)));
        }
    }
}

fn waits_for(branch: &Branch, signal: &str) -> bool {
    let Some(Block::Wait(wait)) = &branch.block else { return false };
    wait.signals().iter().any(|name| name.value().as_str() == Some(signal))
}
