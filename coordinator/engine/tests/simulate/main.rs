//! Definitions played on a virtual clock: right ones end well whatever fault strikes, wrong ones are caught in the act.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod build;
mod kinds;
mod plays;
mod right;
mod tampered;
mod wrong;

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;
use skald_engine::{
    definition,
    simulate::{Answers, End, InjectedFault, Run, Scenarios, Stage, Verdict, explore, judge, sample},
};
use skald_protocol::Json;

pub(crate) use self::build::{pivot, retriable, saga, step, tcc, with};

pub(crate) fn stage(definition: &Value) -> Stage {
    let compiled = definition::compile(&definition.to_string());
    let compiled = compiled.unwrap_or_else(|faults| panic!("{definition}: {faults:?}"));
    let input = definition.get("input").map(|schema| sample(schema).into());
    let plan = Arc::new(compiled.plan);
    let answers = Answers::made(&plan);
    Stage::new(plan, input, answers)
}

/// With what it includes.
pub(crate) fn including(definition: &Value, included: &Value) -> Stage {
    let mut library = definition::Library::default();
    library.add(&included.to_string());
    let plan = Arc::new(definition::compile_with(&definition.to_string(), &library).unwrap().plan);
    let answers = Answers::made(&plan);
    Stage::new(plan, definition.get("input").map(|schema| sample(schema).into()), answers)
}

pub(crate) fn answering(definition: &Value, script: &Value) -> Stage {
    recorder(definition, &Json::of(script))
}

/// The script as it is written.
pub(crate) fn recorder(definition: &Value, script: &Json) -> Stage {
    let stage = stage(definition);
    let answers = Answers::scripted(&stage.plan, script).unwrap();
    Stage::new(Arc::clone(&stage.plan), stage.input.clone(), answers)
}

/// Every run with its verdict, the one without a fault first.
pub(crate) struct Explored {
    pub(crate) runs: Vec<(Vec<InjectedFault>, Run, Verdict)>,
    pub(crate) unreached: Vec<String>,
}

pub(crate) fn explored(stage: &Stage) -> Explored {
    let Scenarios { good, list, unreached, .. } = explore(stage, false);
    let verdict = judge(stage, &[], &good);
    let mut runs = vec![(Vec::new(), good, verdict)];
    for faults in list {
        let run = stage.play(&faults);
        let verdict = judge(stage, &faults, &run);
        runs.push((faults, run, verdict));
    }
    Explored { runs, unreached }
}

impl Explored {
    pub(crate) fn ends(&self) -> BTreeMap<End, usize> {
        let mut ends = BTreeMap::new();
        for (.., verdict) in &self.runs {
            *ends.entry(verdict.end).or_default() += 1;
        }
        ends
    }

    /// `fault => flaws`, a line for every bad end.
    pub(crate) fn bad(&self) -> Vec<String> {
        let bad = self.runs.iter().filter(|(.., verdict)| verdict.end == End::Bad);
        bad.map(|(faults, _, verdict)| {
            let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
            let flaws: Vec<_> = verdict.flaws.iter().map(|flaw| flaw.what.as_str()).collect();
            format!("{} => {}", faults.join(" + "), flaws.join("; "))
        })
        .collect()
    }

    pub(crate) fn all_is_well(&self) {
        let bad = self.bad();
        assert!(bad.is_empty(), "{} bad ends:\n{}", bad.len(), bad.join("\n"));
    }

    /// Every bad end is one of these, and each of these is one.
    pub(crate) fn all_bad_ends_are(&self, expected: &[(&str, &str)]) {
        let bad = self.bad();
        assert!(!bad.is_empty(), "no bad end");
        for (fault, flaw) in expected {
            let found = bad
                .iter()
                .any(|line| line.split_once(" => ").is_some_and(|(f, w)| f.contains(fault) && w.contains(flaw)));
            assert!(found, "no `{fault}` with `{flaw}` in\n{}", bad.join("\n"));
        }
        for line in &bad {
            assert!(expected.iter().any(|(_, flaw)| line.contains(flaw)), "unexpected: {line}");
        }
    }
}
