//! What those who wait for a transaction are told, and when: never before what they are told of is durable.

use std::{mem::take, time::Instant};

use skald_engine::{Budget, Command, Input, Request, Transaction, limit};
use skald_protocol::{BranchStatus, Status, Timestamp, TransactionView};

use super::{ActiveTransaction, WorkOutcome};
use crate::runtime::{
    Begun, Error, Until,
    context::TaskContext,
    inbox::{Refusal, Work},
};

/// Branches in the view of a whole transaction: more than the API shows at once, whatever is hidden of them.
pub(in crate::runtime) const SHOWN: usize = 5_000;

impl ActiveTransaction {
    pub(super) fn notify_watchers(&mut self) {
        self.changed_at = Instant::now();
        for watcher in self.watchers.drain(..) {
            let _ = watcher.send(());
        }
    }

    fn whole(&self) -> TransactionView {
        self.tx.view(0..SHOWN)
    }

    pub(super) fn respond(&mut self, context: &mut TaskContext) {
        for (work, verdict) in take(&mut self.carried) {
            match work {
                Work::Input(_) => {}
                Work::Begin(new, _, responder) => {
                    let begun = if matches!(verdict, WorkOutcome::Began) {
                        context.begun(&new.plan, &self.tx);
                        Ok(Begun::New(Box::new(self.whole())))
                    } else if new.request_digest == self.request_digest {
                        Ok(Begun::Existing(Box::new(self.whole())))
                    } else {
                        Err(self.conflict())
                    };
                    drop(responder.send(begun));
                }
                Work::Command(_, _, responder) => drop(responder.send(match verdict {
                    WorkOutcome::Began | WorkOutcome::Taken => Ok(self.whole()),
                    WorkOutcome::Rejected(rejection) => Err(Refusal::Failed(Error::Rejected(rejection))),
                })),
                Work::DryRun(command, responder) => {
                    let (tx, now) = (self.tx.clone(), context.now);
                    tokio::task::spawn_blocking(move || {
                        drop(responder.send(dry_run(tx, command, now).map_err(Refusal::Failed)));
                    });
                }
                Work::View(branches, responder) => {
                    drop(responder.send(Ok(self.tx.view(branches))));
                }
                Work::Compare(digest, responder) => {
                    let same = digest == self.request_digest;
                    drop(responder.send(if same { Ok(self.whole()) } else { Err(self.conflict()) }));
                }
                Work::Wait(until, responder) => self.waiters.push((until, responder)),
                // It waited while something was recorded: whoever asked may have looked before.
                Work::Change(asked, responder) if asked <= self.changed_at => drop(responder.send(())),
                Work::Change(_, responder) => self.watchers.push(responder),
            }
        }
    }

    pub(super) fn notify_waiters(&mut self) {
        for (until, responder) in take(&mut self.waiters) {
            if is_satisfied(&self.tx, &until) {
                drop(responder.send(Ok(self.whole())));
            } else if !responder.is_closed() {
                self.waiters.push((until, responder));
            }
        }
    }

    /// What it was asked and did not do.
    pub(in crate::runtime) fn into_works(self) -> Vec<Work> {
        self.carried.into_iter().map(|(work, _)| work).chain(self.queue).collect()
    }

    /// Whoever waits here has to ask another node.
    pub(in crate::runtime) fn dismiss(mut self) {
        for (_, responder) in self.waiters.drain(..) {
            drop(responder.send(Err(Refusal::NotHeld)));
        }
        self.into_works().into_iter().for_each(Work::refuse);
    }

    /// The database does not take its begin.
    pub(in crate::runtime) fn fail(self, error: impl Fn() -> Error) {
        self.into_works().into_iter().for_each(|work| work.fail(error()));
    }

    fn conflict(&self) -> Refusal {
        Refusal::Failed(Error::GidConflict(self.tx.gid().clone()))
    }
}

/// What the command would call, as far as that is found out in a moment; nothing of it is kept.
pub(in crate::runtime) fn dry_run(
    mut tx: Transaction,
    command: Command,
    now: Timestamp,
) -> Result<Vec<Request>, Error> {
    let mut budget = Budget::of(limit::EVALUATED);
    tx.allow(budget.clone());
    let _ = tx.decide(Input::Command(command), now)?;
    Ok(tx.owed(now).into_iter().filter_map(|call| tx.render_within(call, &mut budget).ok()).collect())
}

/// Settlement and suspension end every wait.
pub(in crate::runtime) fn is_satisfied(tx: &Transaction, until: &Until) -> bool {
    if tx.status().is_final() || tx.status() == Status::Suspended {
        return true;
    }
    match until {
        Until::Settled => false,
        Until::Branch(branch) => tx
            .find(branch)
            .is_none_or(|branch| !matches!(tx.branch_status(branch), BranchStatus::Waiting | BranchStatus::Running)),
    }
}
