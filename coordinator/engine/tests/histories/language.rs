//! Random definitions of the JSON language. Conditions are constants, and a step that must never run is named `n…`.

use serde_json::{Value, json};
use skald_engine::{
    Plan,
    definition::{Library, compile_with},
};

use crate::plans::Tape;

const CHILD: &str = r#"{"dsl": "1.0", "name": "child", "version": "1.0.0", "services": {"s": {"url": "http://s"}}, "steps": [
    {"name": "c0", "service": "s", "action": {"path": "/"}, "compensate": {"path": "/"}},
    {"name": "m0", "map": {"items": "${input.parts}", "steps": [
        {"name": "c1", "service": "s", "try": {"path": "/"}, "confirm": {"path": "/"}, "cancel": {"path": "/"}}]}}]}"#;

struct Writer<'t, 'a> {
    tape: &'t mut Tape<'a>,
    count: usize,
}

pub(crate) fn plan(tape: &mut Tape<'_>, timeout: Option<&str>) -> Plan {
    let mut writer = Writer { tape, count: 0 };
    let mut steps = writer.steps(0, false);
    let ends = writer.tape.one_in(6);
    if ends {
        steps.push(writer.end(true));
        steps.extend(writer.steps(2, true));
    }
    if writer.tape.one_in(2) {
        steps.push(if ends { writer.pivot_in(true) } else { writer.pivot() });
    }
    if !ends && writer.tape.one_in(6) {
        steps.insert(0, writer.end(false));
    }
    for _ in 0..writer.tape.pick(3) {
        steps.push(if ends { writer.retriable(true) } else { writer.tail() });
    }
    let mut definition = json!({
        "dsl": "1.0", "name": "d", "version": "1.0.0", "services": {"s": {"url": "http://s"}},
        "defaults": {
            "timeout": "5s", "retry": {"max_attempts": 3, "initial_interval": "1s", "jitter": "none"},
            "settle": {"timeout": "5s", "retry": {"initial_interval": "1s", "max_elapsed": "60s", "jitter": "none"}},
        },
        "steps": steps,
    });
    for phase in ["on_abort", "on_end"] {
        if writer.tape.one_in(3) {
            definition[phase] = (0..=writer.tape.pick(2)).map(|_| writer.tail()).collect();
        }
    }
    if let Some(timeout) = timeout {
        definition["timeout"] = json!(timeout);
        if writer.tape.one_in(3) {
            definition["on_timeout"] = json!("suspend");
        }
    }
    let mut library = Library::default();
    library.add(CHILD);
    match compile_with(&definition.to_string(), &library) {
        Ok(compiled) => compiled.plan,
        Err(faults) => panic!("{definition:#}\n{faults:#?}"),
    }
}

impl Writer<'_, '_> {
    fn name(&mut self, dead: bool) -> String {
        self.count += 1;
        format!("{}{}", if dead { 'n' } else { 's' }, self.count)
    }

    fn steps(&mut self, depth: usize, dead: bool) -> Vec<Value> {
        (0..=self.tape.pick(3)).map(|_| self.step(depth, dead)).collect()
    }

    fn step(&mut self, depth: usize, dead: bool) -> Value {
        let deep = depth >= 3 || self.count > 12;
        match self.tape.pick(12) {
            5 if !deep => self.parallel(depth, dead),
            6 if !deep => self.choice(depth, dead),
            7 if !deep => self.map(depth, dead),
            8 => self.wait(dead, true),
            9 => self.guarded(depth, dead),
            10 => json!({"name": self.name(dead), "set": {"a": 1}}),
            11 if self.count < 12 => {
                let parts = [json!([]), json!([1]), json!([1, 2])][self.tape.pick(3)].clone();
                json!({"name": self.name(dead), "saga": {"workflow": "child", "input": {"parts": parts}}})
            }
            _ => self.operation(dead),
        }
    }

    fn call(&mut self) -> Value {
        let mut call = json!({"path": "/"});
        match self.tape.pick(12) {
            0 => call["async"] = json!({"timeout": "100s", "heartbeat": "30s"}),
            1 => {
                call["async"] =
                    json!({"timeout": "100s", "poll": {"path": "/", "interval": "3s", "max_interval": "20s"}})
            }
            2 => call["status_check"] = json!({"path": "/"}),
            3 => call["idempotent"] = json!(true),
            4 => call["on_exhausted"] = json!("suspend"),
            5 => {
                call["async"] = json!({"timeout": "100s", "poll": {"path": "/", "interval": "3s"}});
                call["status_check"] = json!({"path": "/"});
            }
            _ => {}
        }
        call
    }

    fn operation(&mut self, dead: bool) -> Value {
        let (name, call) = (self.name(dead), self.call());
        match self.tape.pick(4) {
            0 => json!({"name": name, "service": "s", "try": call, "confirm": {"path": "/"}, "cancel": {"path": "/"}}),
            1 => json!({"name": name, "service": "s", "role": "read_only", "action": call}),
            _ => json!({"name": name, "service": "s", "action": call, "compensate": {"path": "/"}}),
        }
    }

    fn parallel(&mut self, depth: usize, dead: bool) -> Value {
        let fail = ["fast", "wait_all"][self.tape.pick(2)];
        let (one, other) = (self.steps(depth + 1, dead), self.steps(depth + 1, dead));
        json!({"name": self.name(dead), "fail": fail, "parallel": [{"steps": one}, {"steps": other}]})
    }

    fn choice(&mut self, depth: usize, dead: bool) -> Value {
        let taken = self.tape.pick(3);
        let [one, two] = [0, 1].map(|arm| self.steps(depth + 1, dead || taken != arm));
        let other = if self.tape.one_in(2) { Vec::new() } else { self.steps(depth + 1, dead || taken != 2) };
        json!({"name": self.name(dead), "choice": [
            {"when": if taken == 0 { "1 < 2" } else { "1 > 2" }, "steps": one},
            {"when": if taken == 1 { "true" } else { "false" }, "steps": two},
            {"otherwise": true, "steps": other},
        ]})
    }

    fn map(&mut self, depth: usize, dead: bool) -> Value {
        let items: Vec<usize> = (0..self.tape.pick(4)).collect();
        let (concurrency, steps) = (self.tape.pick(3) + 1, self.steps(depth + 1, dead));
        json!({"name": self.name(dead), "map": {"items": items, "max_concurrency": concurrency, "steps": steps}})
    }

    fn wait(&mut self, dead: bool, may_fail: bool) -> Value {
        let wait = match self.tape.pick(5) {
            0 => json!({"for": "1s"}),
            1 => json!({"for": "25s"}),
            4 => json!({"signal": ["go", "stop"], "timeout": "20s", "on_timeout": "continue"}),
            2 if may_fail => json!({"signal": "go", "timeout": "20s"}),
            _ => json!({"signal": "go", "timeout": "20s", "on_timeout": "continue"}),
        };
        json!({"name": self.name(dead), "wait": wait})
    }

    fn guarded(&mut self, depth: usize, dead: bool) -> Value {
        let holds = self.tape.one_in(2);
        if !holds && self.tape.one_in(4) {
            return json!({"name": self.name(true), "when": "1 == 2", "fail": {"error": "never"}});
        }
        let dead = dead || !holds;
        let mut step = match self.tape.pick(4) {
            0 if depth < 3 && self.count < 12 => self.parallel(depth, dead),
            1 if depth < 3 && self.count < 12 => self.choice(depth, dead),
            2 if depth < 3 && self.count < 12 => self.map(depth, dead),
            _ => self.operation(dead),
        };
        step["when"] = json!(if holds { "size('a') == 1" } else { "1 == 2" });
        step
    }

    /// Ends it well early, or not.
    fn end(&mut self, holds: bool) -> Value {
        let when = if holds { "size('a') == 1" } else { "1 == 2" };
        if self.tape.one_in(2) {
            return json!({"name": self.name(!holds), "when": when, "succeed": {}});
        }
        let (step, end) = (self.operation(!holds), json!({"name": self.name(!holds), "succeed": {"output": 1}}));
        json!({"name": self.name(false), "choice": [
            {"when": when, "steps": [step, end]}, {"otherwise": true, "steps": []}]})
    }

    fn pivot(&mut self) -> Value {
        if self.tape.one_in(6) {
            let (end, pivot) = (json!({"name": self.name(true), "succeed": {}}), self.pivot_in(false));
            return json!({"name": self.name(false), "choice": [
                {"when": "1 > 2", "steps": [end]}, {"otherwise": true, "steps": [pivot]}]});
        }
        if self.tape.one_in(3) {
            let taken = self.tape.pick(2);
            let [one, other] = [0, 1].map(|arm| self.pivot_in(taken != arm));
            let when = if taken == 0 { "true" } else { "false" };
            return json!({"name": self.name(false), "choice": [
                {"when": when, "steps": [one]}, {"otherwise": true, "steps": [other]}]});
        }
        self.pivot_in(false)
    }

    fn pivot_in(&mut self, dead: bool) -> Value {
        let mut call = self.call();
        call["on_exhausted"] = json!("compensate");
        json!({"name": self.name(dead), "service": "s", "role": "pivot", "action": call})
    }

    fn retriable(&mut self, dead: bool) -> Value {
        let mut call = self.call();
        if call["on_exhausted"] == "suspend" {
            call["on_exhausted"] = json!("ignore");
        }
        json!({"name": self.name(dead), "service": "s", "role": "retriable", "action": call})
    }

    fn tail(&mut self) -> Value {
        match self.tape.pick(5) {
            0 => {
                let items: Vec<usize> = (0..self.tape.pick(3)).collect();
                let step = self.retriable(false);
                json!({"name": self.name(false), "map": {"items": items, "steps": [step]}})
            }
            1 => {
                let (one, other) = (self.retriable(false), self.retriable(true));
                json!({"name": self.name(false), "choice": [
                    {"when": "true", "steps": [one]}, {"otherwise": true, "steps": [other]}]})
            }
            // Behind the tail's first step.
            2 => {
                json!({"name": self.name(false), "parallel": [{"steps": [self.retriable(false), self.wait(false, false)]}]})
            }
            _ => self.retriable(false),
        }
    }
}
