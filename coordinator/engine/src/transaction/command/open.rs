//! Of an open transaction: enlisting a branch and deciding. A closed one can be cancelled too.

use skald_protocol::{BranchStatus, Decision, Status, Timestamp};

use super::Commanded;
use crate::{
    journal::{Enlistment, Event},
    limit,
    transaction::{Decided, Rejection, Transaction},
};

impl Transaction {
    pub(super) fn enlist(&mut self, enlistment: Box<Enlistment>, now: Timestamp, out: &mut Decided) -> Commanded {
        if !self.plan.open {
            return Err(Rejection::NotOpen);
        }
        if let Some(branch) = self.find(&enlistment.branch.id) {
            let same = self.enlisted_digest(branch) == Some(enlistment.digest.as_str());
            return if same { Ok(()) } else { Err(Rejection::BranchConflict { branch: enlistment.branch.id }) };
        }
        if self.state.decision.is_some() || self.state.settled.is_some() {
            return Err(Rejection::Decided);
        }
        if self.state.branches.len() >= limit::STEPS {
            return Err(Rejection::TooManyBranches { limit: limit::STEPS });
        }
        self.emit(out, Event::Enlisted(enlistment), now);
        Ok(())
    }

    pub(super) fn commit(&mut self, now: Timestamp, out: &mut Decided) -> Commanded {
        if !self.plan.open {
            return Err(Rejection::NotOpen);
        }
        match (self.state.decision, self.status()) {
            (Some(Decision::Commit), _) => return Ok(()),
            (Some(Decision::Abort), _) => return Err(Rejection::AlreadyCancelled),
            (None, Status::Failed) => return Err(Rejection::Settled),
            (None, _) => {}
        }
        for (index, branch) in self.state.branches.iter().enumerate() {
            let why = match branch.status {
                BranchStatus::Done => continue,
                BranchStatus::Refused if !branch.may_have_run(self.spec(index)) => continue,
                BranchStatus::Refused => "its try was refused or gave up, but may have run; cancel instead",
                BranchStatus::Waiting
                | BranchStatus::Running
                | BranchStatus::Skipped
                | BranchStatus::Confirming
                | BranchStatus::Confirmed
                | BranchStatus::Undoing
                | BranchStatus::Undone
                | BranchStatus::Stuck => "its try has no outcome yet; wait for it or cancel",
            };
            return Err(Rejection::BranchUnsettled { branch: self.spec(index).id.clone(), why });
        }
        self.emit(out, Event::Decided { decision: Decision::Commit, error: None }, now);
        Ok(())
    }

    pub(super) fn cancel(&mut self, reason: Option<String>, now: Timestamp, out: &mut Decided) -> Commanded {
        match (self.state.decision, self.status()) {
            (Some(Decision::Commit), _) => Err(Rejection::AlreadyCommitted),
            (Some(Decision::Abort), _) => Ok(()),
            (None, _) if self.state.cancel.is_some() => Ok(()),
            (None, Status::Failed) => Err(Rejection::Settled),
            (None, _) => {
                self.emit(out, Event::CancelRequested { reason }, now);
                Ok(())
            }
        }
    }
}
