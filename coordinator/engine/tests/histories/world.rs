//! One transaction among nodes that crash, messages that are lost or late, and participants with a ledger.
//!
//! An attempt ends with its timeout; one that the barrier alone judges (nobody is asked about it) may come at any
//! later time. What the world
//! knows of each branch (`may`) is kept by hand from what the holder saw, apart from the engine.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use skald_engine::{
    Began, Branch, Budget, Call, Command, Event, Input, Outcome, Plan, Record, Rejection, Reply, TraceContext,
    Transaction,
    journal::State,
    plan::{Phase, Role},
    transaction::{Continuity, Decided},
};
use skald_protocol::{BranchStatus, CallbackVerdict, Decision, Gid, OperationKind, OperationStatus, Timestamp};

use crate::{
    common::START,
    participant::{Manners, Part, Will},
    plans::Tape,
};

/// Notes what happened, where somebody will read it.
macro_rules! tell {
    ($world:expr, $($what:tt)+) => {
        if $world.loud {
            let what = format!($($what)+);
            let at = $world.now.0 - $crate::common::START.0;
            $world.told.push(format!("{at:>8} {what}"));
        }
    };
}
pub(crate) use tell;

const TIMEOUT_MS: i64 = 5_000;

#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) call: Call,
    pub(crate) sent: i64,
    /// The holder that sent it still waits for its answer.
    pub(crate) awaited: bool,
    /// It may still be executed.
    pub(crate) alive: bool,
    pub(crate) answer: Option<Reply>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    pub(crate) part: Part,
    /// As far as the holder can tell, the forward operation may have run.
    pub(crate) may: bool,
    pub(crate) undo_sent: bool,
    /// A person said so, against or without the ledger.
    pub(crate) excused: bool,
}

pub(crate) struct World {
    pub(crate) gid: Gid,
    pub(crate) plan: Arc<Plan>,
    /// Of the plan's branches, then of those enlisted.
    pub(crate) specs: Vec<Branch>,
    pub(crate) tx: Transaction,
    pub(crate) journal: Vec<Record>,
    /// Every event since the last load, minor ones too, from a snapshot on.
    pub(crate) all: Vec<Record>,
    pub(crate) now: Timestamp,
    pub(crate) air: Vec<Message>,
    pub(crate) ledgers: Vec<Ledger>,
    pub(crate) barrier: bool,
    pub(crate) answered: Vec<Input>,
    pub(crate) enlisted: usize,
    pub(crate) told: Vec<String>,
    /// Nothing was loaded yet: `all` is everything.
    pub(crate) from_start: bool,
    pub(crate) persons: usize,
    pub(crate) loud: bool,
}

pub(crate) fn state(tx: &Transaction) -> State {
    match tx.clone().snapshot() {
        Event::Snapshot(state) => *state,
        other => panic!("{other:?} is no snapshot"),
    }
}

impl World {
    pub(crate) fn begin(plan: Plan, timeout: Option<Duration>, barrier: bool, loud: bool) -> Self {
        let plan = Arc::new(plan);
        let timeout_ms = timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap());
        let began = Began {
            plan: String::new(),
            contract: "native".to_owned(),
            input: None,
            config: None,
            labels: std::collections::BTreeMap::new(),
            timeout_ms,
            trace: TraceContext::default(),
        };
        let gid = Gid::new("g").unwrap();
        let (tx, events) = Transaction::begin(gid.clone(), Arc::clone(&plan), began, START);
        let journal = vec![Record::new(START, events)];
        let ledgers = Vec::new();
        let told = Vec::new();
        let all = journal.clone();
        let (air, answered) = (Vec::new(), Vec::new());
        let mut world = Self {
            gid,
            specs: Vec::new(),
            plan,
            tx,
            journal,
            all,
            now: START,
            air,
            ledgers,
            barrier,
            answered,
            enlisted: 0,
            told,
            from_start: true,
            persons: 0,
            loud,
        };
        world.meet();
        world
    }

    pub(crate) fn fail(&self, why: &str) -> ! {
        let branches: Vec<String> = self
            .plan
            .branches
            .iter()
            .map(|b| format!("{}({:?}) after {:?} within {:?}", b.id, b.role, b.after, b.within))
            .collect();
        panic!(
            "{why}\nbarrier: {}; on_timeout {:?}\n{}\n{}\nview: {:?}",
            self.barrier,
            self.plan.on_timeout,
            branches.join("\n"),
            self.told.join("\n"),
            self.tx.view(0..99).branches.iter().map(|b| format!("{} {}", b.branch, b.status)).collect::<Vec<_>>()
        );
    }

    pub(crate) fn ensure(&self, holds: bool, why: &str) {
        if !holds {
            self.fail(why);
        }
    }

    pub(crate) fn manners(&self, branch: usize) -> Manners {
        match self.specs.get(branch) {
            Some(spec) if spec.tail => Manners { barrier: self.barrier, keeps: false, conflicts: false },
            Some(Branch { forward: Some(spec), .. }) => Manners::of(spec, self.barrier, false),
            Some(_) | None => Manners { barrier: self.barrier, keeps: self.barrier, conflicts: !self.barrier },
        }
    }

    /// By the name of the step, or of one around it.
    pub(crate) fn is_dead(&self, branch: usize) -> bool {
        self.tx.branch_id(branch).as_str().split('.').any(|name| name.starts_with('n'))
    }

    pub(crate) fn is_async(&self, branch: usize) -> bool {
        let spec = self.specs.get(branch).and_then(|spec| spec.forward.as_ref());
        spec.is_some_and(|spec| spec.pending.is_some())
    }

    /// Whether the branch has an undo, which must not be overtaken by what it undoes.
    pub(crate) fn is_undoable(&self, branch: usize) -> bool {
        self.specs.get(branch).is_none_or(|spec| spec.undo.is_some())
    }

    /// Of every other plan a decision ends where it has come to one or two steps' ends, and goes on with the next.
    fn budget(&self) -> Budget {
        if self.plan.branches.len().is_multiple_of(2) { Budget::unlimited() } else { Budget::of(30) }
    }

    // --- deciding -------------------------------------------------------------------------------------------------

    fn record(&mut self, decided: &Decided) {
        for event in &decided.events {
            tell!(self, "  {event:?}");
            if let Event::NotFound { branch, operation, cleared: true, .. } = event
                && operation.is_forward()
            {
                self.ledgers[*branch].may = false;
            }
        }
        self.meet();
        if !decided.events.is_empty() {
            self.all.push(Record::new(self.now, decided.events.clone()));
        }
        if decided.record {
            self.journal.push(Record::new(self.now, decided.events.clone()));
        }
    }

    /// Branches that came into being, enlisted ones and those of a map's items, or were lost with an append.
    fn meet(&mut self) {
        self.specs.truncate(self.tx.branch_count());
        self.ledgers.truncate(self.tx.branch_count());
        for branch in self.specs.len()..self.tx.branch_count() {
            self.specs.push(self.tx.branch(branch).clone());
            self.ledgers.push(Ledger::default());
        }
    }

    pub(crate) fn decide(&mut self, input: Input) -> Result<Decided, Rejection> {
        let before = matches!(input, Input::Command(_)).then(|| state(&self.tx));
        self.tx.allow(self.budget());
        let decided = self.tx.decide(input, self.now);
        match &decided {
            Ok(decided) => self.record(decided),
            Err(_) => {
                self.ensure(before.is_some_and(|before| before == state(&self.tx)), "a rejection changed the state")
            }
        }
        decided
    }

    /// An answer that the holder waits for; what it learns of the branch is noted.
    pub(crate) fn take(&mut self, input: Input) {
        let Input::Replied { call, reply } = &input else { return drop(self.decide(input)) };
        let view = self.tx.branch_view(call.branch);
        let forward = view.operations.iter().find(|op| op.operation.is_forward());
        let finished = matches!(reply.outcome, Outcome::Succeeded(_) | Outcome::Refused(_));
        let heard = forward.is_some_and(|op| {
            op.status == OperationStatus::Owed || (op.status == OperationStatus::Pending && finished)
        });
        if call.operation.is_forward() && heard && view.status == BranchStatus::Running {
            let trusted = call.ask || self.is_idempotent(call.branch) || reply.barrier.is_some();
            let may = &mut self.ledgers[call.branch].may;
            match &reply.outcome {
                Outcome::Succeeded(_) | Outcome::Pending | Outcome::Unknown(_) => *may = true,
                Outcome::Refused(_) if trusted => *may = false,
                Outcome::Refused(_) | Outcome::Unsent(_) | Outcome::NotFound => {}
            }
        }
        drop(self.decide(input));
    }

    pub(crate) fn replay(&self, records: &[Record]) -> Transaction {
        match Transaction::replay(self.gid.clone(), Arc::clone(&self.plan), records.to_vec()) {
            Ok(tx) => tx,
            Err(corrupt) => self.fail(&format!("{corrupt}")),
        }
    }

    /// From here on `all` starts with what the holder has.
    fn restart_all(&mut self) {
        self.from_start = false;
        self.all = vec![Record::new(self.now, vec![self.tx.clone().snapshot()])];
    }

    pub(crate) fn load(&mut self, continuity: Continuity) {
        if continuity == Continuity::Broken {
            for branch in self.tx.view(0..usize::MAX).branches {
                let owed =
                    branch.operations.iter().any(|op| op.operation.is_forward() && op.status == OperationStatus::Owed);
                let index = self.tx.find(&branch.branch).unwrap();
                if owed && branch.status == BranchStatus::Running {
                    self.ledgers[index].may = true;
                }
            }
            for message in &mut self.air {
                message.awaited = false;
            }
        }
        self.tx = self.replay(&self.journal);
        self.tx.allow(self.budget());
        let decided = self.tx.load(continuity, self.now);
        self.record(&decided);
        self.restart_all();
    }

    /// Another node decides a word. If the holder decided `lost` at that moment, its append fails and it starts over.
    fn foreign(&mut self, word: Command, lost: Option<Input>) {
        let mut other = self.replay(&self.journal);
        other.allow(self.budget());
        let decided = other.decide(Input::Command(word), self.now).unwrap_or_default();
        if !decided.record {
            return lost.into_iter().for_each(|input| self.take(input));
        }
        let landed = match &lost {
            Some(Input::Replied { call, .. }) => Some(*call),
            Some(_) | None => None,
        };
        if let Some(input) = &lost {
            self.tx.allow(self.budget());
            let _ = self.tx.decide(input.clone(), self.now);
            tell!(self, "  (lost an append)");
        }
        if let Some(call) = landed {
            self.tx.unanswered(call);
        }
        self.record(&decided);
        let mut reloaded = self.replay(&self.journal);
        reloaded.allow(self.budget());
        let follows = reloaded.inherit(&self.tx, self.now);
        self.tx = reloaded;
        self.meet();
        self.record(&follows);
        self.restart_all();
        if let Some(input) = lost {
            self.take(input);
        }
    }

    // --- the participants' side -----------------------------------------------------------------------------------

    /// Sends what is owed, now and then not all of it at once.
    pub(crate) fn send(&mut self, tape: &mut Tape<'_>) {
        for call in self.tx.owed(self.now) {
            if !tape.one_in(12) {
                self.send_one(call);
            }
        }
    }

    pub(crate) fn send_one(&mut self, call: Call) {
        let Call { branch, operation, .. } = call;
        tell!(self, "-> {}{operation} {branch} #{}", if call.ask { "ask " } else { "" }, call.attempt);
        if let Err(error) = self.tx.render(call) {
            self.fail(&format!("{error}"));
        }
        self.ensure(!self.is_dead(branch), "a call of a step that is never to run");
        let under_way = |message: &&Message| message.call.branch == branch && message.call.operation.is_forward();
        if operation.is_undo() {
            let mut forwards = self.air.iter().filter(under_way);
            // A poll is no attempt.
            let polls = self.specs[branch].forward.as_ref().and_then(|op| op.pending.as_ref()?.poll.as_ref()).is_some();
            let races = forwards.any(|message| {
                (message.awaited && !(polls && message.call.ask))
                    || (message.alive && !self.barrier && !message.call.ask)
            });
            self.ensure(!races, "an undo races a forward attempt");
            self.ensure(self.ledgers[branch].may, "an undo of what surely never ran");
            self.ensure(!self.ledgers[branch].part.confirmed, "an undo of what was confirmed");
            self.ensure(self.tx.decision() == Some(Decision::Abort), "an undo without an abort");
            self.ensure(self.followers_are_undone(branch), "an undo before those of its followers");
            self.ledgers[branch].undo_sent = true;
        } else if operation == OperationKind::Confirm {
            self.ensure(self.tx.decision() == Some(Decision::Commit), "a confirm without a commit");
        } else {
            match (self.specs.get(branch).map_or(Phase::Main, |spec| spec.phase), self.tx.decision()) {
                (Phase::Main, decision) => {
                    self.ensure(decision != Some(Decision::Abort), "a forward call after the abort");
                }
                (Phase::OnAbort, decision) => {
                    self.ensure(decision == Some(Decision::Abort), "`on_abort` without an abort");
                }
                (Phase::OnEnd, decision) => self.ensure(decision.is_some(), "`on_end` before the decision"),
            }
        }
        let twice = self
            .air
            .iter()
            .any(|message| message.awaited && message.call.branch == branch && message.call.operation == operation);
        self.ensure(!twice, "two calls of one operation at once");
        self.tx.sent(call, self.now);
        self.air.push(Message { call, sent: self.now.0, awaited: true, alive: true, answer: None });
    }

    fn followers_are_undone(&self, branch: usize) -> bool {
        let mut work = vec![branch];
        let mut seen = BTreeSet::new();
        while let Some(branch) = work.pop() {
            for follower in self.tx.followers(branch) {
                let ledger = &self.ledgers[follower];
                let open = (ledger.part.effect || ledger.part.working) && self.is_undoable(follower);
                if open && !ledger.excused {
                    return false;
                }
                if seen.insert(follower) {
                    work.push(follower);
                }
            }
        }
        true
    }

    pub(crate) fn execute(&mut self, index: usize, will: Will) {
        let Message { call, .. } = self.air[index].clone();
        let manners = self.manners(call.branch);
        let part = &mut self.ledgers[call.branch].part;
        let reply = part.execute(call.operation, call.ask, will, &manners);
        tell!(self, "   {} {} runs: {:?}", call.operation, call.branch, reply.outcome);
        let message = &mut self.air[index];
        (message.alive, message.answer) = (false, Some(reply));
    }

    /// The answer is on its way to the holder.
    pub(crate) fn answer(&mut self, index: usize, reply: Reply) -> Input {
        let call = self.air[index].call;
        self.air[index].awaited = false;
        tell!(self, "<- {} {}: {:?}", call.operation, call.branch, reply.outcome);
        let undoable = self.is_undoable(call.branch);
        let pivot = self.specs.get(call.branch).is_some_and(|spec| spec.role == Role::Pivot);
        let message = &mut self.air[index];
        // Without the barrier only a call that nothing undoes may outlive its broken connection.
        if !self.barrier && undoable && !pivot && call.operation.is_forward() {
            message.alive = false;
        }
        if matches!(reply.outcome, Outcome::Unsent(_)) {
            message.alive = false;
        }
        Input::Replied { call, reply }
    }

    fn is_idempotent(&self, branch: usize) -> bool {
        let spec = self.specs.get(branch).and_then(|spec| spec.forward.as_ref());
        spec.is_some_and(|spec| spec.idempotent)
    }

    /// An asynchronous operation comes to its end; its callback, if it is not lost.
    pub(crate) fn finish(&mut self, branch: usize, succeeds: bool) -> Command {
        let keeps = self.manners(branch).keeps;
        let part = &mut self.ledgers[branch].part;
        part.working = false;
        if succeeds {
            (part.effect, part.happened) = (true, true);
        } else {
            part.refused = keeps;
        }
        tell!(self, "   {branch} finishes: {succeeds}");
        self.callback(branch, if succeeds { CallbackVerdict::Succeeded } else { CallbackVerdict::Refused })
    }

    pub(crate) fn callback(&self, branch: usize, verdict: CallbackVerdict) -> Command {
        let operation = self.specs.get(branch).map_or(OperationKind::Try, |spec| spec.forward.as_ref().unwrap().kind);
        Command::Callback { branch: self.tx.branch_id(branch), operation, verdict, output: None, error: None }
    }

    pub(crate) fn deliver(&mut self, word: Command, tape: &mut Tape<'_>) {
        tell!(self, "word {word:?}");
        if let Command::Callback { branch, verdict, .. } = &word {
            let index = self.tx.find(branch).unwrap();
            let status = self.tx.branch_status(index);
            let stuck = status == BranchStatus::Stuck && self.tx.decision() != Some(Decision::Abort);
            let running = status == BranchStatus::Running || stuck;
            match verdict {
                CallbackVerdict::Succeeded if running => self.ledgers[index].may = true,
                CallbackVerdict::Refused if running => self.ledgers[index].may = false,
                CallbackVerdict::Succeeded | CallbackVerdict::Refused | CallbackVerdict::Pending => {}
            }
        }
        match tape.pick(4) {
            0 => {
                let lost = self.some_reply(tape);
                self.foreign(word, lost);
            }
            _ => drop(self.decide(Input::Command(word))),
        }
    }

    pub(crate) fn some_reply(&mut self, tape: &mut Tape<'_>) -> Option<Input> {
        let awaited: Vec<usize> = (0..self.air.len()).filter(|index| self.air[*index].awaited).collect();
        if awaited.is_empty() {
            return None;
        }
        let index = awaited[tape.pick(awaited.len())];
        if self.air[index].alive && tape.pick(4) > 0 {
            let will = [Will::Do, Will::Do, Will::Refuse, Will::Work][tape.pick(4)];
            let will = if will == Will::Work && !self.is_async(self.air[index].call.branch) { Will::Do } else { will };
            self.execute(index, will);
        }
        let error = || skald_engine::Error { code: "broken".to_owned(), message: None };
        let lost = tape.one_in(4);
        let reply = match self.air[index].answer.clone() {
            Some(reply) if !lost => reply,
            Some(_) => Reply::of(Outcome::Unknown(error())),
            None if lost => Reply::of(Outcome::Unknown(error())),
            None => Reply::of(Outcome::Unsent(error())),
        };
        Some(self.answer(index, reply))
    }

    // --- time -----------------------------------------------------------------------------------------------------

    /// Attempts whose time is over are answered as unknown before it goes on.
    pub(crate) fn pass(&mut self, to: Timestamp) {
        loop {
            let late = (0..self.air.len()).filter(|index| self.air[*index].awaited);
            let late = late.min_by_key(|index| self.air[*index].sent);
            let Some(index) = late.filter(|index| self.air[*index].sent + TIMEOUT_MS <= to.0) else { break };
            self.now = self.now.max(Timestamp(self.air[index].sent + TIMEOUT_MS));
            self.die();
            let error = skald_engine::Error { code: "timeout".to_owned(), message: None };
            let input = self.answer(index, Reply::of(Outcome::Unknown(error)));
            self.take(input);
        }
        self.now = self.now.max(to);
        self.die();
        self.air.retain(|message| message.awaited || message.alive);
        tell!(self, "tick");
        drop(self.decide(Input::Tick));
    }

    fn die(&mut self) {
        for message in &mut self.air {
            let Call { branch, operation, .. } = message.call;
            let asked = |spec: &skald_engine::Branch| {
                spec.forward.as_ref().is_some_and(|op| {
                    op.status_check.is_some() || op.pending.as_ref().is_some_and(|pending| pending.poll.is_some())
                })
            };
            let undone = self.specs.get(branch).is_none_or(|spec| spec.undo.is_some() && !asked(spec));
            let outlives = self.barrier && undone && operation.is_forward();
            message.alive &= outlives || message.sent + TIMEOUT_MS > self.now.0;
        }
    }
}
