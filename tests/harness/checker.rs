//! The invariants of a run (BARS.md), judged from what participants did, what the API answered and what the journal
//! holds. One verdict each; nothing is assumed that the evidence does not show.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;
use serde_json::Value;
use skald_protocol::{OperationKind, Status};

pub use crate::ledger::{Entry, Mark};

/// What a client knows of one transaction that it began.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Subject {
    pub gid: String,
    /// Some begin of it was answered with success.
    pub acknowledged: bool,
    /// A cancel was asked for, by a client or by a deadline.
    pub cancelled: bool,
    /// `(earlier, later)` branches of the plan.
    pub order: Vec<(String, String)>,
    /// Branches that must all have taken effect when it succeeds.
    pub branches: Vec<String>,
    /// What the API said once it had settled, each time it was asked: status, output and error as JSON.
    pub answers: Vec<Value>,
    /// Every final status that was ever seen, also while faults went on.
    pub finals: BTreeSet<String>,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct Evidence {
    pub subjects: Vec<Subject>,
    pub ledger: Vec<Entry>,
    /// Balances before anything ran.
    pub opening: BTreeMap<String, i64>,
    /// `(gid, seq)` of every journal row.
    pub journal: Vec<(String, i64)>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    pub invariant: &'static str,
    pub says: &'static str,
    /// How many things were looked at: a verdict over nothing is none.
    pub checked: usize,
    pub breaches: Vec<String>,
}

impl Verdict {
    #[must_use]
    pub const fn holds(&self) -> bool {
        self.breaches.is_empty() && self.checked > 0
    }
}

struct Judge<'a> {
    evidence: &'a Evidence,
    by_gid: HashMap<&'a str, Vec<(usize, &'a Entry)>>,
}

/// All verdicts, in the order of the invariants' numbers.
#[must_use]
pub fn judge(evidence: &Evidence) -> Vec<Verdict> {
    let mut by_gid: HashMap<&str, Vec<(usize, &Entry)>> = HashMap::new();
    for (place, entry) in evidence.ledger.iter().enumerate() {
        by_gid.entry(&entry.gid).or_default().push((place, entry));
    }
    let judge = Judge { evidence, by_gid };
    vec![
        judge.money(),
        judge.settled_once(),
        judge.undone_exactly(),
        judge.one_decision(),
        judge.nothing_after_the_undo(),
        judge.each_effect_once(),
        judge.no_gaps(),
        judge.undo_order(),
        judge.nothing_left(),
        judge.same_answer(),
    ]
}

fn verdict(invariant: &'static str, says: &'static str, checked: usize, breaches: Vec<String>) -> Verdict {
    Verdict { invariant, says, checked, breaches }
}

impl Subject {
    fn status(&self) -> Option<Status> {
        self.answers.last()?["status"].as_str()?.parse().ok()
    }

    fn settled(&self) -> Option<Status> {
        self.status().filter(|status| status.is_final())
    }
}

fn is_effect(entry: &Entry) -> bool {
    entry.mark == Mark::Effect
}

impl Judge<'_> {
    fn entries(&self, gid: &str) -> &[(usize, &Entry)] {
        self.by_gid.get(gid).map_or(&[], Vec::as_slice)
    }

    fn acknowledged(&self) -> impl Iterator<Item = &Subject> {
        self.evidence.subjects.iter().filter(|subject| subject.acknowledged)
    }

    /// The first place of an undo of the branch, empty or not.
    fn undo_at(&self, gid: &str, branch: &str) -> Option<usize> {
        let undo = |entry: &Entry| {
            entry.branch == branch && entry.operation.is_undo() && matches!(entry.mark, Mark::Effect | Mark::Empty)
        };
        self.entries(gid).iter().find(|(_, entry)| undo(entry)).map(|(place, _)| *place)
    }

    fn money(&self) -> Verdict {
        let mut balances = self.evidence.opening.clone();
        let mut breaches = Vec::new();
        let mut moved = 0;
        for entry in &self.evidence.ledger {
            for (account, change) in &entry.moves {
                moved += 1;
                let balance = balances.entry(account.clone()).or_default();
                *balance += change;
                if *balance < 0 {
                    breaches.push(format!("{account} fell to {balance} by {}", entry.key));
                }
            }
        }
        let (before, after): (i64, i64) = (self.evidence.opening.values().sum(), balances.values().sum());
        if before != after {
            breaches.push(format!("{before} became {after}"));
        }
        for subject in self.evidence.subjects.iter().filter(|subject| subject.settled().is_some()) {
            let entries = self.entries(&subject.gid);
            let sum: i64 = entries.iter().flat_map(|(_, entry)| &entry.moves).map(|(_, change)| change).sum();
            if sum != 0 {
                breaches.push(format!("{} settled and left {sum} over", subject.gid));
            }
        }
        verdict("I1", "money is conserved, no balance negative", moved, breaches)
    }

    fn settled_once(&self) -> Verdict {
        let mut breaches = Vec::new();
        let mut checked = 0;
        for subject in self.acknowledged() {
            checked += 1;
            if subject.answers.is_empty() {
                breaches.push(format!("{} was acknowledged and does not exist", subject.gid));
            }
            if subject.finals.len() > 1 {
                breaches.push(format!("{} settled as {:?}", subject.gid, subject.finals));
            }
            if subject.settled() == Some(Status::Succeeded) {
                for branch in &subject.branches {
                    let entries = self.entries(&subject.gid);
                    if !entries.iter().any(|(_, entry)| entry.branch == *branch && is_effect(entry)) {
                        breaches.push(format!("{} succeeded without {branch}", subject.gid));
                    }
                }
            }
        }
        verdict("I2", "each acknowledged gid exists and settles in exactly one way", checked, breaches)
    }

    fn undone_exactly(&self) -> Verdict {
        let mut breaches = Vec::new();
        let mut checked = 0;
        for subject in &self.evidence.subjects {
            let Some(status) = subject.settled() else { continue };
            checked += 1;
            let gid = &subject.gid;
            let entries = self.entries(gid);
            let refused = entries.iter().any(|(_, e)| matches!(e.mark, Mark::Refused(_)) && e.operation.is_forward());
            let error = subject.answers.last().and_then(|answer| answer["error"]["code"].as_str()).unwrap_or("");
            let expired = matches!(error, "exhausted" | "deadline" | "cancelled");
            let has_reason = refused || expired || subject.cancelled;
            if status == Status::Compensated && !has_reason {
                breaches.push(format!("{gid} was compensated for no reason ({error})"));
            }
            if status == Status::Succeeded && refused {
                breaches.push(format!("{gid} succeeded although a participant refused"));
            }
            let branches: BTreeSet<_> = entries.iter().map(|(_, entry)| entry.branch.as_str()).collect();
            for branch in branches {
                let count = |wanted: fn(OperationKind) -> bool| {
                    let its = |entry: &Entry| entry.branch == branch && is_effect(entry) && wanted(entry.operation);
                    entries.iter().filter(|(_, entry)| its(entry)).count()
                };
                let (done, undone) = (count(OperationKind::is_forward), count(OperationKind::is_undo));
                match status {
                    Status::Compensated if done != undone => {
                        breaches.push(format!("{gid} {branch}: {done} done, {undone} undone"));
                    }
                    Status::Succeeded if undone > 0 => breaches.push(format!("{gid} {branch}: undone, yet succeeded")),
                    Status::Compensated
                    | Status::Succeeded
                    | Status::Failed
                    | Status::Running
                    | Status::Confirming
                    | Status::Compensating
                    | Status::Suspended => {}
                }
                if undone > done {
                    breaches.push(format!("{gid} {branch}: took back what did not happen"));
                }
            }
        }
        verdict("I3", "compensated for a reason; all that ran undone once, nothing else", checked, breaches)
    }

    fn one_decision(&self) -> Verdict {
        let mut breaches = Vec::new();
        for (gid, entries) in &self.by_gid {
            let some = |operations: [OperationKind; 2]| {
                entries.iter().any(|(_, entry)| operations.contains(&entry.operation) && is_effect(entry))
            };
            let confirmed = some([OperationKind::Confirm, OperationKind::Confirm]);
            if confirmed && some([OperationKind::Cancel, OperationKind::Compensate]) {
                breaches.push(format!("{gid} was both confirmed and undone"));
            }
            if entries.iter().any(|(_, entry)| entry.mark == Mark::Broken) {
                breaches.push(format!("{gid}: a confirm met a cancel at one branch"));
            }
        }
        verdict("I4", "never both confirmed and cancelled", self.by_gid.len(), breaches)
    }

    fn nothing_after_the_undo(&self) -> Verdict {
        let mut breaches = Vec::new();
        for (gid, entries) in &self.by_gid {
            for (place, entry) in entries {
                let late = is_effect(entry)
                    && !entry.operation.is_undo()
                    && self.undo_at(gid, &entry.branch).is_some_and(|undo| undo < *place);
                if late {
                    breaches.push(format!("{} took effect after its branch's undo", entry.key));
                }
            }
        }
        verdict("I5", "no effect of a branch after its own undo", self.evidence.ledger.len(), breaches)
    }

    fn each_effect_once(&self) -> Verdict {
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        for entry in self.evidence.ledger.iter().filter(|entry| is_effect(entry)) {
            *times.entry(&entry.key).or_default() += 1;
        }
        let twice = times.iter().filter(|(_, times)| **times > 1);
        let breaches = twice.map(|(key, times)| format!("{key} took effect {times} times")).collect();
        verdict("I6", "each effect exactly once", times.len(), breaches)
    }

    fn no_gaps(&self) -> Verdict {
        let mut seqs: BTreeMap<&str, BTreeSet<i64>> = BTreeMap::new();
        for (gid, seq) in &self.evidence.journal {
            seqs.entry(gid).or_default().insert(*seq);
        }
        let mut breaches = Vec::new();
        for (gid, seqs) in &seqs {
            let (first, last) = (seqs.first().copied(), seqs.last().copied());
            let gapless = first == Some(0) && last.is_some_and(|last| usize::try_from(last + 1) == Ok(seqs.len()));
            if !gapless {
                breaches.push(format!("{gid} has {} rows from {first:?} to {last:?}", seqs.len()));
            }
        }
        let lost = self.acknowledged().filter(|subject| !seqs.contains_key(subject.gid.as_str()));
        breaches.extend(lost.map(|subject| format!("{} has no journal", subject.gid)));
        verdict("I7", "journal without gaps", seqs.len(), breaches)
    }

    fn undo_order(&self) -> Verdict {
        let mut breaches = Vec::new();
        let mut checked = 0;
        for subject in &self.evidence.subjects {
            for (earlier, later) in &subject.order {
                let (first, second) = (self.undo_at(&subject.gid, earlier), self.undo_at(&subject.gid, later));
                let (Some(first), Some(second)) = (first, second) else { continue };
                checked += 1;
                if first < second {
                    breaches.push(format!("{}: {earlier} was undone before {later}", subject.gid));
                }
            }
        }
        verdict("I9", "undone in the reverse of the dependency order", checked, breaches)
    }

    fn nothing_left(&self) -> Verdict {
        let unsettled = self.acknowledged().filter(|subject| subject.settled().is_none());
        let breaches = unsettled.map(|subject| format!("{} is {:?}", subject.gid, subject.status())).collect();
        verdict("I10", "nothing stays unsettled for 60 s after the faults end", self.acknowledged().count(), breaches)
    }

    fn same_answer(&self) -> Verdict {
        let mut breaches = Vec::new();
        let mut checked = 0;
        for subject in self.acknowledged() {
            let settled = |answer: &&Value| {
                let status = answer["status"].as_str().and_then(|status| status.parse::<Status>().ok());
                status.is_some_and(Status::is_final)
            };
            let mut answers = subject.answers.iter().filter(settled);
            let Some(first) = answers.next() else { continue };
            for other in answers {
                checked += 1;
                if other != first {
                    breaches.push(format!("{}: {first} and then {other}", subject.gid));
                }
            }
        }
        verdict("I11", "the same gid always gets the same answer", checked, breaches)
    }
}

/// One line a verdict, with its first breaches.
#[must_use]
pub fn report(verdicts: &[Verdict]) -> String {
    let mut text = String::new();
    for verdict in verdicts {
        let word = if verdict.holds() { "holds " } else { "BROKEN" };
        text += &format!("{:>4} {word} {:>7} checked  {}\n", verdict.invariant, verdict.checked, verdict.says);
        for breach in verdict.breaches.iter().take(5) {
            text += &format!("            {breach}\n");
        }
        if verdict.breaches.len() > 5 {
            text += &format!("            and {} more\n", verdict.breaches.len() - 5);
        }
    }
    text
}

#[cfg(test)]
mod tests;
