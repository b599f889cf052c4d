//! Random choices from a tape, and plans made of them. What is left of an empty tape is the simplest choice, so a
//! failing history shrinks to a short one.

use std::time::Duration;

use skald_engine::{
    Plan,
    plan::{OnTimeout, Role},
};

use crate::{common, language};

pub(crate) struct Tape<'a> {
    choices: &'a [u16],
    at: usize,
}

impl<'a> Tape<'a> {
    pub(crate) fn new(choices: &'a [u16]) -> Self {
        Self { choices, at: 0 }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.at >= self.choices.len()
    }

    pub(crate) fn pick(&mut self, count: usize) -> usize {
        let choice = self.choices.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        usize::from(choice) % count
    }

    pub(crate) fn one_in(&mut self, count: usize) -> bool {
        self.pick(count) == count - 1
    }
}

pub(crate) fn plan(tape: &mut Tape<'_>) -> (Plan, Option<Duration>) {
    let timeout = [None, Some(Duration::from_secs(30)), Some(Duration::from_secs(300))][tape.pick(3)];
    if tape.one_in(8) {
        return (common::plan("open"), Some(timeout.unwrap_or(Duration::from_secs(100))));
    }
    if tape.one_in(2) {
        let limit = timeout.map(|timeout| format!("{}s", timeout.as_secs()));
        return (language::plan(tape, limit.as_deref()), None);
    }
    let mut count = 0;
    let mut text = steps(tape, 0, &mut count);
    let has_pivot = tape.one_in(2);
    if has_pivot {
        let flags = ["", ",ask", ",idem", ",async", ",async,ask"][tape.pick(5)];
        match tape.pick(3) {
            0 => text.push_str(&format!(" [q(read) / p(pivot{flags})]")),
            1 => text.push_str(&format!(" {{q(read) / p(pivot{flags})}}")),
            _ => text.push_str(&format!(" p(pivot{flags})")),
        }
    }
    let tail = if has_pivot { tape.pick(3) } else { tape.pick(4).saturating_sub(1) };
    for index in 0..tail {
        let flags = ["", ",ask", ",async", ",ignore", ",ask,async"][tape.pick(5)];
        text.push_str(&format!(" t{index}(retriable{flags})"));
    }
    let mut plan = common::plan(&text);
    if !text.contains(['[', '{']) && tape.one_in(2) {
        any_order(&mut plan, tape);
    }
    if timeout.is_some() && tape.one_in(3) {
        plan.on_timeout = OnTimeout::Suspend;
    }
    (plan, timeout)
}

fn steps(tape: &mut Tape<'_>, depth: usize, count: &mut usize) -> String {
    let mut text = String::new();
    for _ in 0..=tape.pick(3) {
        if depth < 2 && *count < 9 && tape.one_in(3) {
            let (open, close) = if tape.one_in(2) { ('{', '}') } else { ('[', ']') };
            let one = steps(tape, depth + 1, count);
            let other = steps(tape, depth + 1, count);
            text.push_str(&format!(" {open} {one} / {other} {close}"));
            continue;
        }
        let role = ["", "", "tcc", "read"][tape.pick(4)];
        let flags = ["", "async", "ask", "idem", "suspend", "async,ask"][tape.pick(12).min(5)];
        text.push_str(&format!(" s{count}({role},{flags})"));
        *count += 1;
    }
    text
}

/// Any `after` that the compiler would take: the pivot after all of the head, the tail after the pivot.
fn any_order(plan: &mut Plan, tape: &mut Tape<'_>) {
    let pivot = plan.branches.iter().position(|branch| branch.role == Role::Pivot);
    for index in 0..plan.branches.len() {
        let first = if plan.branches[index].tail { pivot.unwrap_or(0) } else { 0 };
        let mut after: Vec<usize> = (first..index).filter(|_| tape.one_in(3)).collect();
        if Some(index) == pivot {
            after = (0..index).collect();
        } else if plan.branches[index].tail && after.is_empty() {
            after.extend(pivot);
        }
        plan.branches[index].after = after;
    }
}
