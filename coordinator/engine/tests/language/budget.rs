//! What a decision may take at one go, and what a transaction may evaluate between two calls.

use std::sync::Arc;

use serde_json::{Value, json};
use skald_engine::{
    Began, Budget, Command, Event, Input, Record, TraceContext, Transaction, Unrendered,
    definition::compile,
    journal::State,
    limit,
    transaction::{Continuity, Decided},
};
use skald_protocol::{BranchStatus, Decision, Gid, Json, Status};

use super::{
    common::{START, reply},
    definition, role, saga, with,
};

/// Some 50,000 steps of evaluation over a list of a hundred.
const COSTLY: &str = "${input.l.exists(x, input.l.exists(y, x + y < 0))}";
const PART: u64 = 60_000;

fn sets(name: &str, count: usize) -> Vec<Value> {
    (0..count).map(|index| json!({"name": format!("{name}{index}"), "set": {"any": COSTLY}})).collect()
}

fn of(steps: &[Value]) -> Value {
    definition(&Value::from(steps.to_vec()))
}

/// One node's hold on a transaction that decides within `part`, with its journal.
struct Held {
    plan: Arc<skald_engine::Plan>,
    tx: Transaction,
    journal: Vec<Record>,
    part: Budget,
}

impl Held {
    fn begin(definition: &Value, items: usize, part: Budget) -> Self {
        let compiled = compile(&definition.to_string()).unwrap_or_else(|faults| panic!("{faults:#?}"));
        let plan = Arc::new(compiled.plan);
        let began = Began {
            plan: String::new(),
            contract: "native".to_owned(),
            input: Some(Json::of(&json!({"l": vec![1; items]}))),
            config: None,
            labels: std::collections::BTreeMap::new(),
            timeout_ms: None,
            trace: TraceContext::default(),
        };
        let gid = Gid::new("g").unwrap();
        let (tx, events) = Transaction::begin_within(part.clone(), 0, gid, Arc::clone(&plan), began, START);
        Self { plan, tx, journal: vec![Record::new(START, events)], part }
    }

    fn record(&mut self, decided: &Decided) {
        assert_eq!(decided.record, !decided.events.is_empty());
        if decided.record {
            self.journal.push(Record::decode(&Record::new(START, decided.events.clone()).encode()).unwrap());
        }
    }

    fn decide(&mut self, input: Input) -> Vec<Event> {
        self.tx.allow(self.part.clone());
        let decided = self.tx.decide(input, START).unwrap();
        self.record(&decided);
        decided.events
    }

    fn answer(&mut self, step: &str, word: &str) -> Vec<Event> {
        let call = self.tx.owed(START).into_iter().find(|call| self.tx.branch(call.branch).step == step).unwrap();
        self.tx.sent(call, START);
        self.decide(Input::Replied { call, reply: reply(word) })
    }

    /// Until nothing more follows; how often it went on. With `crash` another node takes over before each time.
    fn go_on(&mut self, crash: bool) -> usize {
        let mut parts = 0;
        while self.tx.goes_on() {
            assert!(self.tx.next_wake().is_some_and(|wake| wake <= START), "what goes on is due");
            parts += 1;
            assert!(parts < 1_000, "it never ends");
            if crash {
                self.crash();
            } else {
                self.decide(Input::Tick);
            }
        }
        parts
    }

    fn crash(&mut self) {
        let gid = Gid::new("g").unwrap();
        self.tx = Transaction::replay(gid, Arc::clone(&self.plan), self.journal.clone()).unwrap();
        self.tx.allow(self.part.clone());
        let decided = self.tx.load(Continuity::Broken, START);
        self.record(&decided);
    }

    fn state(&self) -> State {
        match self.tx.clone().snapshot() {
            Event::Snapshot(state) => *state,
            other => panic!("{other:?}"),
        }
    }

    fn status(&self, step: &str) -> BranchStatus {
        let branch = (0..self.tx.branch_count()).find(|branch| self.tx.branch(*branch).step == step).unwrap();
        self.tx.branch_status(branch)
    }

    fn failed(&self) -> String {
        self.tx.view(0..usize::MAX).error.and_then(|error| error.message).unwrap_or_default()
    }
}

#[test]
fn a_decision_over_its_budget_ends_there_and_goes_on_to_the_same_end_also_after_a_crash_between_any_two_parts() {
    let mut steps = vec![saga("first")];
    steps.extend(sets("s", 40));
    steps.push(role("last", "pivot"));
    let definition = of(&steps);
    let mut whole = Held::begin(&definition, 100, Budget::unlimited());
    whole.answer("first", "ok");
    assert!(!whole.tx.goes_on());
    assert_eq!(whole.status("last"), BranchStatus::Running);
    for crash in [false, true] {
        let mut parts = Held::begin(&definition, 100, Budget::of(PART));
        let events = parts.answer("first", "ok");
        assert!(events.len() < 6 && parts.tx.goes_on(), "{events:?}");
        assert!(parts.go_on(crash) >= 35);
        assert_eq!(parts.state(), whole.state());
        assert!(parts.journal.len() > 35);
        let last = |held: &mut Held| {
            held.answer("last", "ok");
            held.go_on(crash);
            assert_eq!(held.tx.status(), Status::Succeeded);
        };
        last(&mut parts);
    }
}

#[test]
fn what_does_not_fit_into_a_budget_leaves_nothing_behind() {
    let definition = of(&[json!({"name": "s", "set": {"any": COSTLY}}), role("last", "pivot")]);
    let mut held = Held::begin(&definition, 100, Budget::of(1_000));
    assert_eq!(held.journal[0].events.len(), 1, "the begin alone");
    assert!(held.tx.goes_on());
    let before = held.state();
    assert!(held.decide(Input::Tick).is_empty() && held.tx.goes_on());
    assert_eq!(held.state(), before);
    held.part = Budget::of(PART);
    held.go_on(false);
    assert_eq!(held.status("last"), BranchStatus::Running);
}

#[test]
fn more_than_a_transaction_may_evaluate_between_two_calls_fails_it_before_the_commit() {
    let mut steps = vec![saga("first")];
    steps.extend(sets("s", 500));
    steps.push(role("last", "pivot"));
    for part in [Budget::unlimited(), Budget::of(PART)] {
        let mut held = Held::begin(&of(&steps), 100, part);
        held.answer("first", "ok");
        held.go_on(false);
        assert_eq!(held.tx.decision(), Some(Decision::Abort));
        assert!(
            held.failed().contains(&format!("between two calls may take {}", limit::EVALUATED)),
            "{}",
            held.failed()
        );
        let done = (0..500).filter(|set| held.status(&format!("s{set}")) == BranchStatus::Done).count();
        assert!((80..130).contains(&done), "{done} were evaluated");
        assert_eq!(held.status("first"), BranchStatus::Undoing);
        held.answer("first", "ok");
        assert_eq!(held.tx.status(), Status::Compensated);
    }
}

#[test]
fn each_call_lets_a_transaction_evaluate_anew() {
    let mut steps = Vec::new();
    for call in 0..3 {
        steps.push(saga(&format!("c{call}")));
        steps.extend(sets(&format!("s{call}_"), 60));
    }
    let mut held = Held::begin(&of(&steps), 100, Budget::of(PART));
    for call in 0..3 {
        held.answer(&format!("c{call}"), "ok");
        held.go_on(call == 1);
    }
    assert_eq!(held.tx.status(), Status::Succeeded);
}

#[test]
fn after_the_commit_what_is_too_much_waits_for_a_person_whose_retry_goes_on() {
    let mut steps = vec![role("pivot", "pivot")];
    steps.extend(sets("s", 150));
    steps.push(role("last", "retriable"));
    let mut held = Held::begin(&of(&steps), 100, Budget::of(PART));
    held.answer("pivot", "ok");
    held.go_on(false);
    assert_eq!((held.tx.status(), held.tx.decision()), (Status::Suspended, Some(Decision::Commit)));
    let stuck = (0..150).find(|set| held.status(&format!("s{set}")) == BranchStatus::Stuck).unwrap();
    assert!((80..130).contains(&stuck), "{stuck}");
    held.decide(Input::Command(Command::Retry { branch: None }));
    held.go_on(true);
    held.answer("last", "ok");
    assert_eq!(held.tx.status(), Status::Succeeded);
}

#[test]
fn the_outputs_of_a_map_are_gathered_part_by_part() {
    let map = json!({"name": "m", "map": {"items": "${input.l}", "as": "one", "steps": [
        {"name": "inner", "set": {"it": "${one}"}}]}, "output": {"n": "${input.l.map(x, x + one).size()}"}});
    let definition = of(&[with(map, &json!({})), role("last", "pivot")]);
    let mut whole = Held::begin(&definition, 300, Budget::unlimited());
    assert_eq!(whole.go_on(false), 0);
    for crash in [false, true] {
        let mut parts = Held::begin(&definition, 300, Budget::of(PART));
        if crash {
            (0..5).for_each(|_| drop(parts.decide(Input::Tick)));
            parts.crash();
        }
        assert!(parts.go_on(false) >= 5);
        assert_eq!(parts.state(), whole.state());
    }
    whole.answer("last", "ok");
    assert_eq!(whole.tx.status(), Status::Succeeded);
}

#[test]
fn a_call_is_rendered_within_a_budget_or_later() {
    let body = json!({"path": "/", "body": {"any": COSTLY}});
    let definition = of(&[json!({"name": "a", "service": "s", "role": "read_only", "action": body})]);
    let held = Held::begin(&definition, 100, Budget::unlimited());
    let call = held.tx.owed(START)[0];
    let (mut small, mut large) = (Budget::of(1_000), Budget::of(PART));
    assert_eq!(held.tx.render_within(call, &mut small), Err(Unrendered::Later));
    assert_eq!(small.left(), 0);
    assert_eq!(held.tx.render_within(call, &mut large).unwrap(), held.tx.render(call).unwrap());
    assert!(large.left() < PART / 2);
}
