//! E207 of all that is evaluated with no call between: no call's outcome may set off more than a transaction may evaluate
//! until the next one's.

use crate::{
    definition::{
        check::{
            order::Order,
            types::{Cost, known},
        },
        diagnostic::Code,
        syntax::{
            read::{Faults, list, quote},
            step::{Kind, Steps},
        },
    },
    limit,
};

/// Steps named in a fault.
const NAMED: usize = 3;
const MOST: u64 = limit::EVALUATED >> 10;

pub(in crate::definition) fn check(steps: &Steps<'_>, order: &Order, costs: &[Cost], faults: &mut Faults) {
    let chain = |from| Chain::from(from, steps, order, costs);
    // All of it together, for most definitions.
    let all = Chain { steps, costs, begun: vec![true; costs.len()], ended: vec![true; costs.len()], from: None };
    if all.whole() <= MOST {
        return;
    }
    let calls = (0..costs.len()).filter(|step| steps.list[*step].operations().next().is_some());
    for from in std::iter::once(None).chain(calls.map(Some)) {
        let chain = chain(from);
        let total = chain.whole();
        if total > MOST {
            return chain.report(total, faults);
        }
    }
}

/// What one call's outcome (or the begin) sets off, up to the next calls.
struct Chain<'c, 'a> {
    steps: &'c Steps<'a>,
    costs: &'c [Cost],
    /// Steps whose turn comes.
    begun: Vec<bool>,
    /// Blocks of which all has come to its end.
    ended: Vec<bool>,
    from: Option<usize>,
}

impl<'c, 'a> Chain<'c, 'a> {
    fn from(from: Option<usize>, steps: &'c Steps<'a>, order: &Order, costs: &'c [Cost]) -> Self {
        let none = || vec![false; costs.len()];
        let mut chain = Self { steps, costs, begun: none(), ended: none(), from };
        let mut passes = none();
        for step in order.sequence.iter().copied() {
            // A phase may begin after whatever happened before it.
            let is_behind = from.is_none_or(|from| steps.list[from].phase < steps.list[step].phase);
            let follows = |before: &[usize], passes: &[bool]| {
                is_behind && before.is_empty() || before.iter().any(|one| Some(*one) == from || passes[*one])
            };
            let spec = &steps.list[step];
            let is_block = !order.exits[step].is_empty();
            chain.begun[step] = follows(if is_block { &order.entries[step] } else { &order.after[step] }, &passes);
            chain.ended[step] = follows(&order.after[step], &passes);
            let calls = spec.operations().next().is_some();
            // A call that is skipped is none.
            passes[step] = chain.ended[step] && (!calls || spec.when.is_some());
        }
        chain
    }

    fn whole(&self) -> u64 {
        self.steps.tops().fold(0, |sum: u64, top| sum.saturating_add(self.total(top)))
    }

    /// Blocks nest no deeper than JSON does, so neither does this.
    fn total(&self, array: &[usize]) -> u64 {
        array.iter().fold(0, |sum: u64, step| sum.saturating_add(self.of(*step)))
    }

    fn of(&self, step: usize) -> u64 {
        let spec = &self.steps.list[step];
        let arms = spec.arms().into_iter().map(|arm| self.total(arm));
        let within = match &spec.kind {
            // One of them runs.
            Kind::Choice { .. } => arms.max().unwrap_or(0),
            Kind::Map { max_items, max_concurrency, .. } => {
                // An item goes on by itself behind its call; in front of the first all that may run side by side do.
                let inside = self.from.is_some_and(|from| self.steps.around(from).any(|(block, _)| block == step));
                let items = match (inside, self.ended[step]) {
                    (true, _) => 1,
                    (false, true) => known(*max_items),
                    (false, false) => known(*max_items).min(*max_concurrency as u64),
                };
                arms.fold(0, u64::saturating_add).saturating_mul(items)
            }
            _ => arms.fold(0, u64::saturating_add),
        };
        let own = if self.begun[step] { self.costs[step].turn } else { 0 };
        let end = if self.ended[step] { self.costs[step].end } else { 0 };
        within.saturating_add(own).saturating_add(end)
    }

    fn report(&self, total: u64, faults: &mut Faults) {
        let own = |step: &usize| self.costs[*step].turn + self.costs[*step].end;
        let mut costly: Vec<usize> = (0..self.costs.len()).filter(|step| self.begun[*step] && own(step) > 0).collect();
        costly.sort_by_key(|step| std::cmp::Reverse(own(step)));
        let Some(worst) = costly.first().copied() else { return };
        let named = costly.iter().take(NAMED).map(|step| self.steps.list[*step].name);
        let more = costly.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let since = self.from.map_or_else(
            || "from the begin to the first call".to_owned(),
            |from| format!("between {} and the next call", quote(self.steps.list[from].name)),
        );
        let message = format!(
            "too costly together: with lists as long as they may be, what is evaluated {since} ({}{more}) takes {} \
             steps; a transaction may take {} between two calls",
            list(named),
            total << 10,
            limit::EVALUATED
        );
        let help =
            "Lower the `maxItems` (of a map: `max_items`) of what they go through, or let a participant compute it.";
        faults.of_another(self.steps.stand_in(worst), |faults| {
            faults.add_with(Code::TooCostly, &self.steps.list[worst].place, message, help);
        });
    }
}
