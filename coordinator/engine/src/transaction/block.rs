//! Branches without a participant: conditions, choices, maps, waits, computations. What they come to is a pure function of
//! recorded state, is recorded as soon as their turn comes, and goes into the same append as what led to it.

use std::time::Duration;

use serde_json::Value;
use skald_protocol::{BranchStatus, Decision, Json, Timestamp, parse_duration};

use super::{
    Transaction,
    render::Here,
    state::{BranchState, MapState, Waiting},
};
use crate::{
    cel::Meter,
    definition::is_signal,
    event::{Error, Event, millis},
    limit,
    plan::{Block, Branch, Map, Wait},
    template::Template,
};

type Evaluated = Result<Event, Error>;

impl Transaction {
    /// What the next branch whose turn has come comes to.
    pub(super) fn next_block(&self, now: Timestamp) -> Option<Event> {
        let branch = *self.ready.first()?;
        let event = self.evaluate(branch, now).unwrap_or_else(|error| Event::Faulted { branch, error });
        Some(event)
    }

    fn evaluate(&self, branch: usize, now: Timestamp) -> Evaluated {
        let spec = self.spec(branch);
        let scope = Here::of(self, Some(branch), None);
        let state = &self.state.branches[branch];
        if state.block.is_none()
            && let Some(when) = &spec.when
            && !truth(when, &scope)?
        {
            return Ok(Event::Passed { branch, reason: None });
        }
        let computed = |output| Event::Computed { branch, output, reason: None };
        let armed = |delay_ms, signal| Event::Armed { branch, delay_ms, signal };
        match &spec.block {
            None if spec.forward.is_some() => Ok(Event::Admitted { branch }),
            None => Ok(computed(None)),
            Some(Block::Set(template)) => {
                let output = rendered(template, &scope)?;
                if output.text().len() > limit::OUTPUT {
                    return Err(failed(format!("its output is over {} KiB", limit::OUTPUT >> 10)));
                }
                Ok(computed(Some(output)))
            }
            Some(Block::Choose(conditions)) => {
                for (arm, condition) in conditions.iter().enumerate() {
                    if truth(condition, &scope)? {
                        return Ok(Event::Chosen { branch, arm });
                    }
                }
                Ok(Event::Chosen { branch, arm: conditions.len() })
            }
            Some(Block::Fail { error, message }) => {
                // The code is what was said, also where its message cannot be made.
                let message = message.as_ref().map(|message| text(message, &scope));
                let message = message.map(|made| made.unwrap_or_else(|error| error.message.unwrap_or_default()));
                Err(Error { code: error.clone(), message })
            }
            Some(Block::Wait(Wait::For(duration))) => Ok(armed(millis(span(&text(duration, &scope)?)?), None)),
            Some(Block::Wait(Wait::Until(moment))) => {
                let text = text(moment, &scope)?;
                let moment: Timestamp =
                    text.parse().map_err(|_| failed(format!("{:?} is no timestamp (RFC 3339)", shortened(&text))))?;
                let ahead = Timestamp(now.0.saturating_add(self.ahead_ms)).until(moment);
                if ahead > limit::TIMEOUT {
                    return Err(failed(format!("{text} is more than a year ahead")));
                }
                Ok(armed(millis(ahead), None))
            }
            Some(Block::Wait(Wait::Signal { name, timeout, .. })) => {
                let known = state.block.as_ref().and_then(|block| block.waits.as_ref()?.signal.clone());
                let name = match known {
                    Some(name) => name,
                    None => text(name, &scope)?,
                };
                match self.state.signals.iter().find(|signal| signal.name == name) {
                    Some(signal) => Ok(computed(Some(signal.payload.clone().unwrap_or_default()))),
                    None if !is_signal(&name) => {
                        let name = shortened(&name);
                        Err(failed(format!("{name:?} is no signal's name: letters, digits and `_.~-`, at most 128")))
                    }
                    None => Ok(armed(millis(*timeout), Some(name))),
                }
            }
            Some(Block::Map(map)) if state.map().is_some() => self.gather(branch, spec, map).map(computed),
            Some(Block::Map(map)) => self.items(branch, map, &scope),
        }
    }

    fn items(&self, branch: usize, map: &Map, scope: &Here<'_>) -> Evaluated {
        let items = rendered(&map.items, scope)?;
        let Value::Array(items) = items.value() else {
            return Err(failed(format!("the items of a map are a list, and not {}", shortened(items.text()))));
        };
        if items.len() > map.max_items {
            return Err(failed(format!("{} items, and the map takes {}", items.len(), map.max_items)));
        }
        if self.state.branches.len() + items.len() * map.branches.len() > limit::BRANCHES {
            return Err(failed(format!("a transaction has at most {} branches", limit::BRANCHES)));
        }
        Ok(Event::Mapped { branch, items: items.into_iter().map(Json::from).collect() })
    }

    /// The output that is mapped of each item.
    fn gather(&self, branch: usize, spec: &Branch, map: &Map) -> Result<Option<Json>, Error> {
        let (Some(output), Some(state)) = (&spec.output, self.state.branches[branch].map()) else { return Ok(None) };
        let mut outputs = Vec::with_capacity(state.items.len());
        let mut bytes = 0;
        for item in 0..state.items.len() {
            let first = state.base + item * map.branches.len();
            // An included saga's own names end with it: its gate stands among those of the map.
            let among = map.branches[map.result].saga.unwrap_or(map.result);
            let one = rendered(output, &Here::of(self, Some(first + among), None))?;
            bytes += one.text().len();
            if bytes > limit::OUTPUT {
                return Err(failed(format!("the outputs of the items are over {} bytes together", limit::OUTPUT)));
            }
            outputs.push(one.value());
        }
        Ok(Some(Json::from(Value::Array(outputs))))
    }

    pub(super) fn fold_turn(&mut self, event: &Event, branch: usize, at: Timestamp) {
        match event {
            Event::Admitted { .. } => {
                self.ready.remove(&branch);
                self.owe_forward(branch, at);
            }
            Event::Passed { .. } => {
                let mut work = Vec::new();
                self.pass(branch, &mut work);
                self.pass_on(work, at);
                self.state.suspended = false;
            }
            Event::Computed { output, .. } => {
                self.state.branches[branch].block_mut().output.clone_from(output);
                self.complete(branch, at);
                self.state.suspended = false;
            }
            Event::Elapsed { .. } => self.complete(branch, at),
            Event::Chosen { arm, .. } => {
                self.state.branches[branch].block_mut().arm = Some(*arm);
                let (base, members) = self.members(branch);
                let graph = self.spot(branch).map(|spot| spot.graph);
                let others = members.iter().filter(|member| {
                    let of = graph.and_then(|graph| graph.branches[**member].arm?.index);
                    of.is_some_and(|index| index != *arm)
                });
                let others: Vec<usize> = others.map(|member| base + member).collect();
                let mut work = Vec::new();
                for other in others {
                    self.pass(other, &mut work);
                }
                self.pass_on(work, at);
                self.complete(branch, at);
            }
            Event::Armed { delay_ms, signal, .. } => {
                let due_at = at.plus(Duration::from_millis(*delay_ms)).0;
                let waits = Waiting { due_at, delay_ms: *delay_ms, signal: signal.clone() };
                self.state.branches[branch].block_mut().waits = Some(waits);
                self.index_block(branch);
            }
            Event::Mapped { items, .. } => self.expand(branch, items, at),
            Event::Faulted { error, .. } => {
                self.state.branches[branch].block_mut().error = Some(error.clone());
                if self.state.decision == Some(Decision::Commit) || self.spec(branch).tail {
                    self.set_status(branch, BranchStatus::Stuck);
                } else {
                    self.set_status(branch, BranchStatus::Refused);
                    self.fail(branch, error);
                }
                self.index_block(branch);
            }
            _ => {}
        }
    }

    fn complete(&mut self, branch: usize, at: Timestamp) {
        self.finish(branch, BranchStatus::Done, at);
        self.index_block(branch);
    }

    /// Skips the branch and, if it is a gate, all behind it.
    fn pass(&mut self, branch: usize, work: &mut Vec<usize>) {
        let mut passed = vec![branch];
        while let Some(branch) = passed.pop() {
            match self.state.branches[branch].status {
                BranchStatus::Waiting | BranchStatus::Running | BranchStatus::Stuck => {}
                _ => continue,
            }
            self.set_status(branch, BranchStatus::Skipped);
            self.index_block(branch);
            work.push(branch);
            let (base, members) = self.members(branch);
            passed.extend(members.iter().map(|member| base + member));
        }
    }

    fn expand(&mut self, branch: usize, items: &[Json], at: Timestamp) {
        let Some(map) = self.map_of(branch) else { return };
        let (stride, base) = (map.branches.len(), self.state.branches.len());
        // An item's first branches wait for the item's turn.
        let waits: Vec<usize> = map.branches.iter().map(|branch| branch.after.len().max(1)).collect();
        let state = MapState {
            items: items.to_vec(),
            base,
            started: 0,
            finished: 0,
            left: vec![stride; items.len()],
            undoing: None,
        };
        self.state.branches[branch].block_mut().map = Some(state);
        self.layout.push(branch, base, stride, items.len());
        for _ in items {
            self.state.branches.extend(waits.iter().map(|waits| BranchState::waiting(*waits)));
        }
        for one in base..self.state.branches.len() {
            self.count(one, 1);
        }
        self.index_block(branch);
        let mut work = Vec::new();
        self.fill(branch, at, &mut work);
        self.close_if_done(branch, &mut work);
        self.pass_on(work, at);
    }

    /// Starts as many items as may run side by side.
    pub(super) fn fill(&mut self, branch: usize, at: Timestamp, work: &mut Vec<usize>) {
        let Some(map) = self.map_of(branch) else { return };
        let (most, stride) = (map.max_concurrency, map.branches.len());
        let entries: Vec<usize> = (0..stride).filter(|local| map.branches[*local].after.is_empty()).collect();
        while let Some(state) = self.state.branches[branch].map_mut() {
            if state.started == state.items.len() || state.started - state.finished >= most {
                return;
            }
            let first = state.base + state.started * stride;
            if !self.may_start(first) {
                return;
            }
            if let Some(state) = self.state.branches[branch].map_mut() {
                state.started += 1;
            }
            for entry in &entries {
                self.arrive(first + entry, at, work);
            }
        }
    }

    /// One branch of an item is done or skipped.
    pub(super) fn leave(&mut self, map: usize, item: usize, at: Timestamp, work: &mut Vec<usize>) {
        let Some(state) = self.state.branches[map].map_mut() else { return };
        state.left[item] = state.left[item].saturating_sub(1);
        if state.left[item] == 0 {
            state.finished += 1;
            self.fill(map, at, work);
            self.close_if_done(map, work);
        }
    }

    fn close_if_done(&mut self, map: usize, work: &mut Vec<usize>) {
        let done = self.state.branches[map].map().is_some_and(|state| state.finished == state.items.len());
        if !done || self.state.branches[map].status != BranchStatus::Running {
            return;
        }
        if self.spec(map).output.is_none() {
            self.set_status(map, BranchStatus::Done);
            work.push(map);
        }
        self.index_block(map);
    }

    /// Its turn has come, and nothing is recorded yet of what it comes to.
    fn is_ready(&self, branch: usize) -> bool {
        let state = &self.state.branches[branch];
        if state.status != BranchStatus::Running || state.forward.is_some() {
            return false;
        }
        match state.block.as_deref() {
            None => true,
            Some(block) => match (&block.map, &block.waits) {
                (Some(map), _) => map.finished == map.items.len(),
                (None, Some(waits)) => waits.signal.as_ref().is_some_and(|name| self.signal(name).is_some()),
                (None, None) => block.error.is_none(),
            },
        }
    }

    pub(super) fn signal(&self, name: &str) -> Option<usize> {
        self.state.signals.iter().position(|signal| signal.name == name)
    }

    /// Keeps what is counted of a branch without an operation: whether its turn has come, and when its wait is over.
    pub(super) fn index_block(&mut self, branch: usize) {
        if self.is_ready(branch) {
            self.ready.insert(branch);
        } else {
            self.ready.remove(&branch);
        }
        let state = &self.state.branches[branch];
        if let Some(waits) = state.block.as_ref().and_then(|block| block.waits.as_ref()) {
            let timer = (waits.due_at, branch);
            if state.status == BranchStatus::Running {
                self.timers.insert(timer);
            } else {
                self.timers.remove(&timer);
            }
        }
    }

    /// What a failed or stuck branch came to is forgotten: it is evaluated anew.
    pub(super) fn turn_again(&mut self, branch: usize) {
        self.set_status(branch, BranchStatus::Running);
        let state = &mut self.state.branches[branch];
        match state.block.as_deref_mut() {
            Some(block) if block.map.is_some() => block.error = None,
            _ => state.block = None,
        }
        self.index_block(branch);
    }

    /// Done by itself, without an operation.
    pub(super) fn is_pure(&self, branch: usize) -> bool {
        let spec = self.spec(branch);
        self.state.branches[branch].forward.is_none() && (spec.block.is_some() || spec.when.is_some())
    }

    /// A wait's time is over.
    pub(super) fn elapsed(&self, branch: usize) -> Event {
        match &self.spec(branch).block {
            Some(Block::Wait(Wait::Signal { goes_on: false, timeout, .. })) => {
                let waits = self.state.branches[branch].block.as_ref().and_then(|block| block.waits.as_ref());
                let name = waits.and_then(|waits| waits.signal.as_deref()).unwrap_or_default();
                let message = format!("no signal {name:?} came in {}", skald_protocol::duration_text(*timeout));
                Event::Faulted { branch, error: Error::new("signal_timeout", message) }
            }
            _ => Event::Elapsed { branch },
        }
    }
}

fn failed(message: impl Into<String>) -> Error {
    Error::new("expression_failed", message)
}

fn rendered(template: &Template, scope: &Here<'_>) -> Result<Json, Error> {
    template.render(scope, &mut Meter::new()).map_err(|error| failed(error.to_string()))
}

fn text(template: &Template, scope: &Here<'_>) -> Result<String, Error> {
    template.render_text(scope, &mut Meter::new(), |text| text).map_err(|error| failed(error.to_string()))
}

fn truth(template: &Template, scope: &Here<'_>) -> Result<bool, Error> {
    match rendered(template, scope)?.value() {
        Value::Bool(truth) => Ok(truth),
        other => Err(failed(format!("a condition is true or false, and not {}", shortened(&other.to_string())))),
    }
}

fn span(text: &str) -> Result<Duration, Error> {
    match parse_duration(text) {
        Ok(span) if span <= limit::TIMEOUT => Ok(span),
        Ok(_) => Err(failed(format!("{text} is more than a year"))),
        Err(_) => Err(failed(format!("{:?} is no duration: 500ms, 3s, 15m, 24h, 7d", shortened(text)))),
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}
