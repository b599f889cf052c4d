//! What can happen next: chaos from a tape, then benign driving to the end.

use std::time::Duration;

use skald_engine::{
    Call, Command, Error, Event, Input, Outcome, Record, Reply, Response, template::Unrenderable,
    transaction::Continuity,
};
use skald_protocol::{BranchStatus, CallbackVerdict, Decision, OperationKind, ResolvedOutcome, Status, Timestamp};

use crate::{
    common::enlistment,
    participant::{Will, ok},
    plans::Tape,
    world::{World, tell},
};

const PAUSES_MS: [u64; 7] = [1, 200, 1_000, 2_000, 5_000, 20_000, 40_000];

impl World {
    pub(crate) fn step(&mut self, tape: &mut Tape<'_>) {
        match tape.pick(18) {
            0..=6 => {
                if let Some(input) = self.some_reply(tape) {
                    self.answered.push(input.clone());
                    self.take(input);
                }
            }
            7 => self.run_early(tape),
            8 => self.pass(self.now.plus(Duration::from_millis(PAUSES_MS[tape.pick(7)]))),
            9 | 10 => {
                if let Some(wake) = self.tx.next_wake().filter(|wake| wake.0 < self.now.0 + 200_000) {
                    self.pass(wake.max(self.now));
                }
            }
            11 => {
                tell!(self, "crash");
                self.load(Continuity::Broken);
            }
            12 if self.tx.in_flight() == 0 => {
                tell!(self, "park");
                self.load(Continuity::Unbroken);
            }
            13 => self.finish_one(tape),
            14 => {
                tell!(self, "snapshot");
                let event = self.tx.snapshot();
                self.all.push(Record::new(self.now, vec![event.clone()]));
                self.journal.push(Record::new(self.now, vec![event]));
            }
            15 => self.nonsense(tape),
            16 if self.plan.open => self.client(tape),
            _ => self.word(tape),
        }
    }

    /// A message is executed, and its answer is on its way or lost with its sender.
    fn run_early(&mut self, tape: &mut Tape<'_>) {
        let alive: Vec<usize> = (0..self.air.len()).filter(|index| self.air[*index].alive).collect();
        if alive.is_empty() {
            return;
        }
        let index = alive[tape.pick(alive.len())];
        let asynchronous = self.is_async(self.air[index].call.branch);
        let will = [Will::Do, Will::Refuse, if asynchronous { Will::Work } else { Will::Do }][tape.pick(3)];
        self.execute(index, will);
    }

    fn finish_one(&mut self, tape: &mut Tape<'_>) {
        let working: Vec<usize> = (0..self.ledgers.len()).filter(|branch| self.ledgers[*branch].part.working).collect();
        if working.is_empty() {
            return;
        }
        let branch = working[tape.pick(working.len())];
        match tape.pick(4) {
            0 => {
                let word = self.callback(branch, CallbackVerdict::Pending);
                self.deliver(word, tape);
            }
            1 => drop(self.finish(branch, true)),
            way => {
                let word = self.finish(branch, way == 2);
                self.deliver(word, tape);
            }
        }
    }

    fn client(&mut self, tape: &mut Tape<'_>) {
        if tape.one_in(4) {
            return self.deliver(Command::Commit, tape);
        }
        let flags: &[&str] = [&[][..], &["client"], &["ask"], &["idem"], &["suspend"]][tape.pick(5)];
        let name = format!("x{}", self.enlisted);
        self.enlisted += 1;
        let before = self.ledgers.len();
        self.deliver(Command::Enlist(Box::new(enlistment(&name, flags))), tape);
        if self.ledgers.len() > before && flags.contains(&"client") {
            let ledger = &mut self.ledgers[before];
            ledger.may = true;
            (ledger.part.effect, ledger.part.happened) = (tape.one_in(2), true);
        }
    }

    fn word(&mut self, tape: &mut Tape<'_>) {
        let word = match tape.pick(16) {
            0 | 1 => Command::Cancel { reason: None },
            2 | 3 => Command::Resume,
            4 => Command::JournalFull,
            5 if tape.one_in(4) => Command::Fail { reason: "so".to_owned() },
            6 if tape.one_in(2) => Command::Signal { name: "go".to_owned(), payload: None },
            13 => Command::Signal { name: "stop".to_owned(), payload: None },
            6 => Command::Commit,
            7 => Command::Enlist(Box::new(enlistment("x0", &[]))),
            8 | 9 => Command::Retry { branch: Some(self.some_branch(tape)) },
            10 | 11 => return self.operate(tape),
            12 => {
                let word = Command::Skip { branch: self.some_branch(tape), reason: "so".to_owned() };
                if let Command::Skip { branch, .. } = &word
                    && let Some(index) = self.tx.find(branch)
                    && self.tx.branch_status(index) == BranchStatus::Stuck
                {
                    (self.ledgers[index].excused, self.ledgers[index].may) = (true, true);
                }
                word
            }
            _ => Command::Retry { branch: None },
        };
        if matches!(word, Command::Enlist(_)) && self.enlisted == 0 {
            return;
        }
        self.deliver(word, tape);
    }

    fn some_branch(&self, tape: &mut Tape<'_>) -> skald_protocol::BranchId {
        match self.tx.branch_count() {
            0 => skald_protocol::BranchId::new("nobody").unwrap(),
            count => self.tx.branch_id(tape.pick(count)),
        }
    }

    /// An operator looks at the participant's books before a stuck operation is resolved.
    fn operate(&mut self, tape: &mut Tape<'_>) {
        let stuck = |branch: &usize| self.tx.branch_status(*branch) == BranchStatus::Stuck;
        let Some(branch) = (0..self.tx.branch_count()).find(stuck) else { return };
        if let Some(word) = self.truth(branch) {
            self.deliver(word, tape);
        }
    }

    /// What a person who can see the ledger says of a stuck branch; `None`: it is not to be known yet.
    fn truth(&mut self, branch: usize) -> Option<Command> {
        let id = self.tx.branch_id(branch);
        let kind = self.tx.branch_view(branch).operations.last()?.operation;
        let part = &self.ledgers[branch].part;
        let under_way = self.air.iter().any(|message| message.call.branch == branch && message.alive);
        let reason = "seen in the books".to_owned();
        let resolve =
            |outcome| Some(Command::Resolve { branch: id.clone(), outcome, output: None, reason: reason.clone() });
        if !kind.is_forward() || under_way || part.working {
            return None;
        }
        let refused = self.tx.decision() != Some(Decision::Commit) && !self.spec_is_tail(branch);
        if part.effect {
            self.ledgers[branch].may = true;
            resolve(ResolvedOutcome::Succeeded)
        } else if refused {
            self.ledgers[branch].may = false;
            resolve(ResolvedOutcome::Refused)
        } else if part.refused {
            self.ledgers[branch].excused = true;
            Some(Command::Skip { branch: id, reason })
        } else {
            None
        }
    }

    fn spec_is_tail(&self, branch: usize) -> bool {
        self.specs.get(branch).is_some_and(|spec| spec.tail)
    }

    /// Answers that nobody waits for, and calls that are not owed.
    fn nonsense(&mut self, tape: &mut Tape<'_>) {
        let kinds = [OperationKind::Action, OperationKind::Compensate, OperationKind::Try, OperationKind::Status];
        let call = Call {
            branch: tape.pick(12),
            operation: kinds[tape.pick(4)],
            attempt: u32::try_from(tape.pick(4)).unwrap() + 40,
            ask: tape.one_in(2),
        };
        let error = Error { code: "nonsense".to_owned(), message: None };
        // An attempt too minor to record is forgotten by a load, and may be awaited again under its old number.
        let awaited = |input: &Input| {
            let awaited = |call: &Call| self.air.iter().any(|message| message.awaited && message.call == *call);
            matches!(input, Input::Replied { call, .. } if awaited(call))
        };
        let stale: Vec<&Input> = self.answered.iter().filter(|input| !awaited(input)).collect();
        let input = match tape.pick(5) {
            0 if !stale.is_empty() => stale[tape.pick(stale.len())].clone(),
            1 => Input::Replied { call, reply: Reply::of(Outcome::Succeeded(Response::default())) },
            2 => Input::Replied { call, reply: Reply::of(Outcome::Refused(error)) },
            3 => Input::Replied { call, reply: Reply::of(Outcome::Unknown(error)) },
            _ => Input::Unrenderable { call, error: Unrenderable { path: String::new(), reason: String::new() } },
        };
        let went_on = self.tx.goes_on();
        let decided = self.decide(input).unwrap();
        self.ensure(went_on || decided.events.is_empty(), "an answer that nobody waits for changed something");
        self.ensure(self.tx.render(call).is_err() || call.branch < self.tx.branch_count(), "a call of no branch");
    }

    /// From here on all goes well: it must come to its end, and soon.
    pub(crate) fn settle(&mut self) {
        tell!(self, "from here on all goes well");
        for round in 0..600 {
            if self.tx.settled_at().is_some() {
                break;
            }
            self.ensure(round < 599, "it does not end");
            for call in self.tx.owed(self.now) {
                self.send_one(call);
            }
            self.check_now();
            if let Some(index) = (0..self.air.len()).find(|index| self.air[*index].awaited) {
                if self.air[index].alive {
                    self.execute(index, Will::Do);
                }
                let answer = self.air[index].answer.clone().unwrap_or_else(|| Reply::of(ok()));
                let input = self.answer(index, answer);
                self.take(input);
            } else if let Some(branch) = (0..self.ledgers.len()).find(|branch| self.ledgers[*branch].part.working) {
                let word = self.finish(branch, true);
                self.deliver(word, &mut Tape::new(&[1]));
            } else {
                self.nothing_in_flight();
            }
        }
        while let Some(index) = (0..self.air.len()).find(|index| self.air[*index].alive) {
            self.execute(index, Will::Do);
        }
    }

    fn nothing_in_flight(&mut self) {
        let undecided = self.tx.decision().is_none();
        if self.plan.open && undecided && self.decide(Input::Command(Command::Commit)).is_ok() {
            return;
        }
        if self.tx.status() == Status::Suspended {
            let stuck = |branch: &usize| self.tx.branch_status(*branch) == BranchStatus::Stuck;
            let branch = (0..self.tx.branch_count()).find(stuck);
            self.persons += 1;
            let truth = branch.filter(|_| self.persons.is_multiple_of(2)).and_then(|branch| self.truth(branch));
            tell!(self, "word {truth:?} or resume");
            drop(self.decide(Input::Command(truth.unwrap_or(Command::Resume))));
            let later = self.now.plus(Duration::from_secs(6));
            return self.pass(later);
        }
        if self.plan.open && undecided {
            return drop(self.decide(Input::Command(Command::Cancel { reason: None })));
        }
        if self.tx.settled_at().is_none() {
            let wake = self.tx.next_wake();
            self.ensure(wake.is_some(), "nothing will ever wake it");
            self.pass(wake.unwrap_or(Timestamp::NEVER).max(self.now));
        }
    }

    pub(crate) fn is_snapshot(event: &Event) -> bool {
        matches!(event, Event::Snapshot(_))
    }
}
