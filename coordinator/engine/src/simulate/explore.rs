//! Which faults are worth a run.
//!
//! Every strike that fits at every call of the good run; a crash, a cancel and a deadline around each of its records. Then
//! the same for what only an abort calls: undos, and questions about unknown outcomes, struck one at a time in runs that
//! are forced into them.

use std::collections::{BTreeMap, BTreeSet};

use skald_protocol::{Decision, OperationKind, Timestamp};

use super::{
    Fate, InjectedFault, Run, Stage, Strike, When, lookup,
    world::{Point, START},
};
use crate::plan::{Block, Branch, Phase, Role};

/// Aborts of longer definitions are chosen so that each undo is called in one of them.
const ABORTS: usize = 24;
/// Of one run; of more some are chosen.
const RECORDS: usize = 300;

/// What is worth a run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Scenarios {
    pub good: Run,
    pub list: Vec<Vec<InjectedFault>>,
    /// Steps that no run calls: this input takes another way.
    pub unreached: Vec<String>,
    /// What was left out because there is so much of it.
    pub left_out: Vec<String>,
}

/// `pairs`: after each single fault every other one as well.
#[must_use]
pub fn explore(stage: &Stage, pairs: bool) -> Scenarios {
    let good = stage.play(&[]);
    let single = around(stage, &good);
    let mut list: Vec<Vec<InjectedFault>> = single.iter().map(|fault| vec![fault.clone()]).collect();
    let mut known: BTreeSet<Point> = good.points.iter().cloned().collect();
    for (base, run) in aborts(stage, &good).into_iter().chain(questions(stage, &good)) {
        known.extend(run.points.iter().cloned());
        let beside = around(stage, &run).into_iter().filter(|fault| match fault {
            // What arrives late arrives after its undo here.
            InjectedFault::Strike { strike: Strike::DuplicateLate | Strike::Late, .. } => !same_point(&base, fault),
            InjectedFault::Strike { branch, operation, ask, .. } => {
                let late = lookup::spec(&stage.plan, branch).is_some_and(|spec| spec.phase != Phase::Main);
                operation.is_undo() || *ask || late
            }
            InjectedFault::Crash { .. } => true,
            InjectedFault::Cancel { .. } | InjectedFault::Deadline { .. } | InjectedFault::Signal { .. } => false,
        });
        list.extend(beside.map(|fault| vec![base.clone(), fault]));
    }
    list.extend(lacking(stage, &good));
    if pairs {
        for first in &single {
            let run = stage.play(std::slice::from_ref(first));
            let beside = around(stage, &run).into_iter().filter(|second| second != first && !same_point(first, second));
            list.extend(beside.map(|second| vec![first.clone(), second]));
        }
    }
    let reached: BTreeSet<String> = known.iter().map(|point| lookup::of_any_item(&point.branch)).collect();
    let unreached = unreached(&stage.plan.branches, "", &reached);
    let left_out = left_out(&good);
    Scenarios { good, list, unreached, left_out }
}

/// Steps that call somebody, and whom no run called.
fn unreached(branches: &[Branch], path: &str, reached: &BTreeSet<String>) -> Vec<String> {
    let mut missed = Vec::new();
    for branch in branches {
        let id = format!("{path}{}", branch.id);
        if branch.forward.is_some() && !reached.contains(&id) {
            missed.push(id.clone());
        }
        if let Some(Block::Map(map)) = &branch.block {
            missed.extend(unreached(&map.branches, &format!("{id}."), reached));
        }
    }
    missed
}

fn same_point(first: &InjectedFault, second: &InjectedFault) -> bool {
    match (first, second) {
        (
            InjectedFault::Strike { branch, operation, ask, attempt, .. },
            InjectedFault::Strike { branch: other, operation: of, ask: asks, attempt: at, .. },
        ) => branch == other && operation == of && ask == asks && attempt == at,
        _ => false,
    }
}

/// All that can strike a run: its calls and its records.
fn around(stage: &Stage, run: &Run) -> Vec<InjectedFault> {
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    for point in chosen(&run.points) {
        // Of a long row of attempts the first are enough.
        if point.attempt > 2 || !seen.insert(point.clone()) {
            continue;
        }
        let Some(spec) = spec(stage, point) else { continue };
        for strike in Strike::ALL.iter().filter(|strike| fits(stage, spec, point, **strike)) {
            faults.push(strike_at(point, *strike));
        }
    }
    let mut deadlines = BTreeSet::new();
    for (record, at) in run.records.iter().enumerate().filter(|(record, _)| is_chosen(*record, run.records.len())) {
        for when in [When::Lost, When::Recorded, When::Sent] {
            if record > 0 || when != When::Lost {
                faults.push(InjectedFault::Crash { record, when });
            }
        }
        faults.push(InjectedFault::Cancel { record, when: When::Recorded });
        faults.push(InjectedFault::Cancel { record, when: When::Sent });
        deadlines.insert(after(*at));
    }
    for signal in &run.signals {
        for fate in [Fate::Missing, Fate::Late, Fate::Early, Fate::Twice] {
            faults.push(InjectedFault::Signal { name: signal.clone(), fate });
        }
    }
    faults.extend(deadlines.into_iter().map(|after_ms| InjectedFault::Deadline { after_ms }));
    faults
}

/// Calls of many items of a map: those of the first two and of the last.
fn chosen(points: &[Point]) -> Vec<&Point> {
    let key = |point: &Point| (lookup::of_any_item(&point.branch), point.operation, point.ask);
    let mut items: BTreeMap<_, Vec<&str>> = BTreeMap::new();
    for point in points {
        let known = items.entry(key(point)).or_default();
        if !known.contains(&point.branch.as_str()) {
            match known.len() {
                0..=2 => known.push(&point.branch),
                _ => known[2] = &point.branch,
            }
        }
    }
    points.iter().filter(|point| items[&key(point)].contains(&point.branch.as_str())).collect()
}

fn forward(run: &Run) -> Vec<&Point> {
    chosen(&run.points).into_iter().filter(|point| point.operation.is_forward() && !point.ask).collect()
}

/// Of a long journal's records: the first, the last, and some between.
fn is_chosen(record: usize, of: usize) -> bool {
    of <= RECORDS
        || record < RECORDS / 3
        || record + RECORDS / 3 >= of
        || record.is_multiple_of(of.div_ceil(RECORDS / 3))
}

fn left_out(run: &Run) -> Vec<String> {
    let distinct = |points: &mut dyn Iterator<Item = &Point>| {
        points.map(|point| (point.branch.clone(), point.operation)).collect::<BTreeSet<_>>().len()
    };
    let (all, struck) = (distinct(&mut run.points.iter()), distinct(&mut chosen(&run.points).into_iter()));
    let records = (0..run.records.len()).filter(|record| is_chosen(*record, run.records.len())).count();
    let mut left_out = Vec::new();
    if struck < all {
        left_out.push(format!("{struck} of {all} operations are struck: those of the first and last items of a map"));
    }
    if records < run.records.len() {
        left_out.push(format!("a crash is tried around {records} of {} records", run.records.len()));
    }
    left_out
}

fn after(at: Timestamp) -> u64 {
    u64::try_from(at.0 - START.0).unwrap_or(0) + 1
}

fn strike_at(point: &Point, strike: Strike) -> InjectedFault {
    let Point { branch, operation, ask, attempt, .. } = point.clone();
    InjectedFault::Strike { branch, operation, ask, attempt, strike }
}

fn spec<'s>(stage: &'s Stage, point: &Point) -> Option<&'s Branch> {
    lookup::spec(&stage.plan, &point.branch)
}

fn fits(stage: &Stage, spec: &Branch, point: &Point, strike: Strike) -> bool {
    let forward = point.operation.is_forward();
    if point.ask {
        return matches!(
            strike,
            Strike::Timeout | Strike::Unsent | Strike::Unavailable | Strike::Outage | Strike::Exhausted
        );
    }
    match strike {
        Strike::Bare | Strike::NotJson => forward && !point.asynchronous && stage.answers.is_read(&spec.step),
        Strike::TimeoutThenRefused | Strike::DoneThenExhausted => forward,
        Strike::LateAfterUndo => forward && spec.undo.is_some(),
        Strike::RefusedForEver => !forward || spec.tail,
        strike if strike.is_of_callback() => point.asynchronous,
        _ => true,
    }
}

/// Runs that are forced to abort, and what forced them.
fn aborts(stage: &Stage, good: &Run) -> Vec<(InjectedFault, Run)> {
    let forward = forward(good);
    let undos = |run: &Run| -> BTreeSet<(String, OperationKind)> {
        let undos = run.points.iter().filter(|point| point.operation.is_undo());
        undos.map(|point| (point.branch.clone(), point.operation)).collect()
    };
    let mut covered = BTreeSet::new();
    let mut bases = Vec::new();
    let few = forward.len() <= ABORTS;
    // The later ones undo more. What no refusal undoes is undone where its outcome stays unknown.
    for strike in [Strike::Refused, Strike::DoneThenExhausted] {
        for point in forward.iter().rev() {
            let Some(spec) = spec(stage, point).filter(|spec| !spec.tail) else { continue };
            if spec.role == Role::Pivot && strike == Strike::DoneThenExhausted {
                continue;
            }
            let fault = strike_at(point, strike);
            let run = stage.play(std::slice::from_ref(&fault));
            if run.decision != Some(Decision::Abort) {
                continue;
            }
            let more = undos(&run).difference(&covered).count() > 0;
            if more || (few && strike == Strike::Refused) {
                covered.extend(undos(&run));
                bases.push((fault, run));
            }
        }
    }
    bases
}

/// What an abort makes of an answer that lacks what an undo reads of it.
fn lacking(stage: &Stage, good: &Run) -> Vec<Vec<InjectedFault>> {
    let forward = forward(good);
    let mut both = Vec::new();
    for (index, point) in forward.iter().enumerate() {
        let Some(spec) = spec(stage, point).filter(|spec| !spec.tail && spec.role != Role::Pivot) else { continue };
        for strike in [Strike::Bare, Strike::NotJson].into_iter().filter(|strike| fits(stage, spec, point, *strike)) {
            let later =
                forward[index + 1..].iter().filter(|point| self::spec(stage, point).is_some_and(|spec| !spec.tail));
            both.extend(later.map(|later| vec![strike_at(point, strike), strike_at(later, Strike::Refused)]));
        }
    }
    both
}

/// Runs in which a `status_check` is asked.
fn questions(stage: &Stage, good: &Run) -> Vec<(InjectedFault, Run)> {
    let mut bases = Vec::new();
    let mut seen = BTreeSet::new();
    for point in chosen(&good.points) {
        let asked = spec(stage, point).and_then(|spec| spec.operation(point.operation)?.status_check.as_ref());
        if point.ask || asked.is_none() || !seen.insert((point.branch.clone(), point.operation)) {
            continue;
        }
        for strike in [Strike::Timeout, Strike::TimeoutAfter] {
            let fault = strike_at(point, strike);
            let run = stage.play(std::slice::from_ref(&fault));
            bases.push((fault, run));
        }
    }
    bases
}
