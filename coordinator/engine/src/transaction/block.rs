//! Branches without a participant: conditions, choices, maps, waits, computations. What they come to is a pure function of
//! recorded state, is recorded as soon as their turn comes, and goes into the same append as what led to it.

use std::{sync::PoisonError, time::Duration};

use serde::Serialize;
use skald_protocol::{BranchStatus, Decision, Json, Timestamp, parse_duration};

use super::{Transaction, consequence::Next, render::Here};
use crate::{
    budget::Budget,
    cel::Meter,
    definition::{InputSchema, is_signal},
    journal::{
        Error, Event, about_operation, about_transaction,
        encoding::millis,
        state::{BranchState, MapState, Signal, Waiting},
    },
    limit,
    plan::{Block, Branch, Map, Phase, Wait},
    template::Template,
    value::Value,
};

type Evaluated = Result<Event, Error>;

/// The outputs of a map's items, as far as they are mapped. Only its holder knows: another starts anew.
#[derive(Debug, Clone)]
pub(super) struct Gathered {
    map: usize,
    /// Signals that had arrived when it began: all items see the same.
    signals: usize,
    outputs: Vec<Json>,
    bytes: usize,
    cost: u64,
}

impl Transaction {
    /// What the next branch whose turn has come comes to.
    pub(super) fn next_block(&mut self, now: Timestamp) -> Option<Next> {
        let branch = *self.ready.first()?;
        if self.budget.left() == 0 {
            return Some(Next::Later);
        }
        let spec = self.spec(branch);
        let fails = matches!(spec.block, Some(Block::Fail { .. }));
        let gathers = matches!(spec.block, Some(Block::Map(_))) && self.state.branches[branch].map().is_some();
        let evaluated = if self.has_overspent(0) && !fails {
            Err(overspent())
        } else if gathers {
            match self.gather(branch) {
                Some(gathered) => gathered.map(|output| Event::Computed { branch, output, reason: None }),
                None => return Some(Next::Later),
            }
        } else {
            let mut meter = Meter::within(&self.budget);
            let evaluated = self.evaluate(branch, now, &mut meter);
            self.budget.spend(meter.work());
            if meter.is_cut() {
                return Some(Next::Later);
            }
            self.tally.cost += meter.work() >> 10;
            evaluated
        };
        Some(Next::Event(evaluated.unwrap_or_else(|error| Event::Faulted { branch, error })))
    }

    /// More than a transaction may evaluate between two calls, `more` steps included.
    fn has_overspent(&self, more: u64) -> bool {
        self.state.evaluated + self.tally.cost + (more >> 10) >= limit::EVALUATED >> 10
    }

    fn evaluate(&self, branch: usize, now: Timestamp, meter: &mut Meter) -> Evaluated {
        let spec = self.spec(branch);
        let scope = Here::of(self, Some(branch), None);
        let state = &self.state.branches[branch];
        if state.block.is_none()
            && let Some(when) = &spec.when
            && !truth(when, "`when`", &scope, meter)?
        {
            return Ok(Event::Passed { branch, reason: None });
        }
        let computed = |output| Event::Computed { branch, output, reason: None };
        let armed = |delay, signals| Event::Armed { branch, delay_ms: millis(delay), signals };
        match &spec.block {
            None if spec.forward.is_some() => Ok(Event::Admitted { branch }),
            None => Ok(computed(None)),
            Some(Block::Set(template)) => {
                let output = output(template, &scope, meter)?;
                self.take(spec, &output)?;
                Ok(computed(Some(output)))
            }
            Some(Block::Succeed { output: template }) => {
                let made = template.as_ref().map(|template| output(template, &scope, meter));
                Ok(computed(made.transpose()?))
            }
            Some(Block::Choose(conditions)) => {
                for (arm, condition) in conditions.iter().enumerate() {
                    if truth(condition, &format!("`when` of arm {}", arm + 1), &scope, meter)? {
                        return Ok(Event::Chosen { branch, arm });
                    }
                }
                Ok(Event::Chosen { branch, arm: conditions.len() })
            }
            Some(Block::Fail { error, message }) => {
                // The code is what was said, also where its message cannot be made.
                let message = message.as_ref().map(|message| text(message, &scope, meter));
                let message = message.map(|made| made.unwrap_or_else(|error| error.message.unwrap_or_default()));
                Err(Error { code: error.clone(), message })
            }
            Some(Block::Wait(Wait::For(duration))) => Ok(armed(span(&text(duration, &scope, meter)?)?, Vec::new())),
            Some(Block::Wait(Wait::Until(moment))) => {
                let text = text(moment, &scope, meter)?;
                let moment: Timestamp =
                    text.parse().map_err(|_| failed(format!("{:?} is no timestamp (RFC 3339)", shortened(&text))))?;
                let ahead = Timestamp(now.0.saturating_add(self.ahead_ms)).until(moment);
                if ahead > limit::TIMEOUT {
                    return Err(failed(format!("{text} is more than a year ahead")));
                }
                Ok(armed(ahead, Vec::new()))
            }
            Some(Block::Wait(wait @ (Wait::Signal { timeout, .. } | Wait::First { timeout, .. }))) => {
                let known = state.block.as_ref().and_then(|block| block.waits.as_ref());
                let names = match known {
                    Some(known) => known.signals.clone(),
                    None => signals(wait, &scope, meter)?,
                };
                match (self.first_of(&names), wait) {
                    (Some(first), Wait::First { .. }) => {
                        let first = First { signal: &first.name, payload: first.payload.as_ref() };
                        Ok(computed(Some(Json::of(&first))))
                    }
                    (Some(first), _) => Ok(computed(Some(first.payload.clone().unwrap_or_default()))),
                    (None, _) => Ok(armed(*timeout, names)),
                }
            }
            Some(Block::Map(map)) => self.items(branch, map, &scope, meter),
        }
    }

    /// What an included saga is handed must be what it takes. Each schema is compiled once.
    fn take(&self, spec: &Branch, input: &Json) -> Result<(), Error> {
        let Some(takes) = &spec.takes else { return Ok(()) };
        let mut schemas = self.schemas.lock().unwrap_or_else(PoisonError::into_inner);
        let compiled = schemas
            .entry(takes.workflow.clone())
            .or_insert_with(|| Value::of(&takes.schema).ok().and_then(|schema| InputSchema::proven(&schema)));
        let Some(schema) = compiled else { return Ok(()) };
        let Ok(input) = Value::of(input) else { return Ok(()) };
        schema.check(&input).map_err(|faults| {
            let told = faults.iter().take(3).map(|fault| match fault.pointer.as_str() {
                "" => fault.message.clone(),
                pointer => format!("{pointer}: {}", fault.message),
            });
            let told: Vec<_> = told.collect();
            Error::new("invalid_input", format!("the input of {}: {}", takes.workflow, told.join("; ")))
        })
    }

    fn items(&self, branch: usize, map: &Map, scope: &Here<'_>, meter: &mut Meter) -> Evaluated {
        let place = "`items`";
        let items = rendered(&map.items, scope, meter).map_err(|error| at(place, error))?;
        let Ok(Value::Array(items)) = Value::of(&items) else {
            let told = format!("the items of a map are a list, and not {}", shortened(items.text()));
            return Err(failed(format!("{place}: {}{told}", quoted(&map.items))));
        };
        if items.len() > map.max_items {
            return Err(failed(format!("{} items, and the map takes {}", items.len(), map.max_items)));
        }
        if self.state.branches.len() + items.len() * map.branches.len() > limit::BRANCHES {
            return Err(failed(format!("a transaction has at most {} branches", limit::BRANCHES)));
        }
        Ok(Event::Mapped { branch, items: items.into_iter().map(Json::from).collect() })
    }

    /// The output that is mapped of each item, as far as the budget goes; `None`: it goes on later.
    fn gather(&mut self, map: usize) -> Option<Result<Option<Json>, Error>> {
        let signals = self.state.signals.len();
        let known = self.gathered.take().filter(|known| known.map == map && known.signals == signals);
        let mut gathered = known.unwrap_or(Gathered { map, signals, outputs: Vec::new(), bytes: 0, cost: 0 });
        let mut budget = self.budget.clone();
        let outcome = self.gather_on(&mut gathered, &mut budget);
        self.budget = budget;
        match outcome {
            None => self.gathered = Some(gathered),
            Some(_) => self.tally.cost += gathered.cost >> 10,
        }
        outcome
    }

    fn gather_on(&self, gathered: &mut Gathered, budget: &mut Budget) -> Option<Result<Option<Json>, Error>> {
        let state = self.state.branches[gathered.map].map();
        let (Some(output), Some(map), Some(state)) =
            (&self.spec(gathered.map).output, self.map_of(gathered.map), state)
        else {
            return Some(Ok(None));
        };
        for item in gathered.outputs.len()..state.items.len() {
            if budget.left() == 0 {
                return None;
            }
            if self.has_overspent(gathered.cost) {
                return Some(Err(overspent()));
            }
            let first = state.base + item * map.branches.len();
            // An included saga's own names end with it: its gate stands among those of the map.
            let among = map.branches[map.result].saga.unwrap_or(map.result);
            let mut meter = Meter::within(budget);
            let one = rendered(output, &Here::of(self, Some(first + among), None), &mut meter);
            budget.spend(meter.work());
            if meter.is_cut() {
                return None;
            }
            gathered.cost += meter.work();
            let one = match one {
                Ok(one) => one,
                Err(error) => return Some(Err(at_item(item, error))),
            };
            gathered.bytes += one.text().len();
            if gathered.bytes > limit::OUTPUT {
                let message = format!("the outputs of the items are over {} bytes together", limit::OUTPUT);
                return Some(Err(failed(message)));
            }
            gathered.outputs.push(one);
        }
        Some(Ok(Some(Json::of(&gathered.outputs))))
    }

    pub(super) fn apply_turn(&mut self, event: &Event, branch: usize, at: Timestamp) {
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
                if matches!(self.spec(branch).block, Some(Block::Succeed { .. })) {
                    self.leave_out_the_rest(branch);
                }
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
            Event::Armed { delay_ms, signals, .. } => {
                let due_at = at.plus(Duration::from_millis(*delay_ms)).0;
                let waits = Waiting { due_at, delay_ms: *delay_ms, signals: signals.clone() };
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
            about_operation!() | about_transaction!() => debug_assert!(false, "a turn's event"),
        }
    }

    fn complete(&mut self, branch: usize, at: Timestamp) {
        self.finish(branch, BranchStatus::Done, at);
        self.index_block(branch);
    }

    /// What has not begun when `end` ends the transaction is skipped; the choices that it stands in are done with it.
    fn leave_out_the_rest(&mut self, end: usize) {
        let arms = std::iter::successors(self.spec(end).arm, |arm| self.spec(arm.gate).arm);
        let gates: Vec<usize> = arms.map(|arm| arm.gate).collect();
        for branch in 0..self.state.branches.len() {
            let is_main = self.spec(branch).phase == Phase::Main;
            if is_main && self.state.branches[branch].status == BranchStatus::Waiting {
                let joins = self.spec(branch).arm.is_some_and(|arm| arm.index.is_none() && gates.contains(&arm.gate));
                self.set_status(branch, if joins { BranchStatus::Done } else { BranchStatus::Skipped });
                self.index_block(branch);
            }
        }
    }

    /// Skips the branch and, if it is a gate, all behind it.
    fn pass(&mut self, branch: usize, work: &mut Vec<usize>) {
        let mut passed = vec![branch];
        while let Some(branch) = passed.pop() {
            match self.state.branches[branch].status {
                BranchStatus::Waiting | BranchStatus::Running | BranchStatus::Stuck => {}
                BranchStatus::Done
                | BranchStatus::Refused
                | BranchStatus::Skipped
                | BranchStatus::Confirming
                | BranchStatus::Confirmed
                | BranchStatus::Undoing
                | BranchStatus::Undone => continue,
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
                (None, Some(waits)) => self.first_of(&waits.signals).is_some(),
                (None, None) => block.error.is_none(),
            },
        }
    }

    pub(super) fn signal(&self, name: &str) -> Option<usize> {
        self.state.signals.iter().position(|signal| signal.name == name)
    }

    /// Of those that came, in the order of their arrival.
    fn first_of(&self, names: &[String]) -> Option<&Signal> {
        self.state.signals.iter().find(|signal| names.contains(&signal.name))
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
            Some(Block::Wait(
                Wait::Signal { goes_on: false, timeout, .. } | Wait::First { goes_on: false, timeout, .. },
            )) => {
                let waits = self.state.branches[branch].block.as_ref().and_then(|block| block.waits.as_ref());
                let names = waits.map(|waits| waits.signals.as_slice()).unwrap_or_default();
                let names: Vec<_> = names.iter().map(|name| format!("{name:?}")).collect();
                let timeout = skald_protocol::duration_text(*timeout);
                let message = format!("no signal {} came in {timeout}", names.join(" or "));
                Event::Faulted { branch, error: Error::new("signal_timeout", message) }
            }
            _ => Event::Elapsed { branch },
        }
    }
}

fn failed(message: impl Into<String>) -> Error {
    Error::new("expression_failed", message)
}

fn overspent() -> Error {
    failed(format!("too costly: what is evaluated between two calls may take {} steps", limit::EVALUATED))
}

fn rendered(template: &Template, scope: &Here<'_>, meter: &mut Meter) -> Result<Json, Error> {
    template.render(scope, meter).map_err(|error| failed(error.to_string()))
}

/// What is kept.
fn output(template: &Template, scope: &Here<'_>, meter: &mut Meter) -> Result<Json, Error> {
    let output = rendered(template, scope, meter)?;
    if output.text().len() > limit::OUTPUT {
        return Err(failed(format!("its output is over {} KiB", limit::OUTPUT >> 10)));
    }
    Ok(output)
}

fn text(template: &Template, scope: &Here<'_>, meter: &mut Meter) -> Result<String, Error> {
    template.render_text(scope, meter, |text| text).map_err(|error| failed(error.to_string()))
}

/// The names of the signals that a wait is for.
fn signals(wait: &Wait, scope: &Here<'_>, meter: &mut Meter) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for template in wait.signals() {
        let name = text(template, scope, meter)?;
        if !is_signal(&name) {
            let name = shortened(&name);
            return Err(failed(format!("{name:?} is no signal's name: letters, digits and `_.~-`, at most 128")));
        }
        names.push(name);
    }
    Ok(names)
}

/// What a wait for several signals comes to.
#[derive(Serialize)]
struct First<'s> {
    signal: &'s str,
    payload: Option<&'s Json>,
}

fn truth(template: &Template, place: &str, scope: &Here<'_>, meter: &mut Meter) -> Result<bool, Error> {
    match rendered(template, scope, meter).map_err(|error| at(place, error))?.text() {
        "true" => Ok(true),
        "false" => Ok(false),
        other => {
            let told = format!("a condition is true or false, and not {}", shortened(other));
            Err(failed(format!("{place}: {}{told}", quoted(template))))
        }
    }
}

/// The member of the step whose expression failed.
fn at(place: &str, error: Error) -> Error {
    Error { message: error.message.map(|message| format!("{place}: {message}")), ..error }
}

fn at_item(item: usize, error: Error) -> Error {
    at(&format!("`output` of item {item}"), error)
}

/// As `Unrenderable` quotes what it could not evaluate.
fn quoted(template: &Template) -> String {
    match serde_json::from_str::<String>(template.source().text()) {
        Ok(source) => format!("{}: ", shortened(&source)),
        Err(_) => String::new(),
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
