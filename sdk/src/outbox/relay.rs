use std::{future::Future, time::Duration};

use futures_util::{StreamExt as _, stream};
use skald_protocol::Begin;
use sqlx::Pool;
use tokio::time::sleep;

use super::Dialect;
use crate::{Client, Error};

/// How a relay works.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// Between two looks at an empty outbox: the delay of a begin in a quiet service.
    pub pause: Duration,
    /// Requests that one round takes; also how many are sent again after a kill.
    pub batch: u16,
    /// Requests that are sent side by side.
    pub side_by_side: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { pause: Duration::from_millis(50), batch: 256, side_by_side: 64 }
    }
}

/// Delivers what is in the outbox to the coordinator.
#[derive(Debug, Clone)]
#[must_use = "a relay does nothing until it runs"]
pub struct Relay<DB: Dialect> {
    pool: Pool<DB>,
    client: Client,
    options: Options,
}

/// What one round came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Round {
    /// Begun, or found begun before.
    pub delivered: usize,
    /// Refused by the coordinator for good; they stay in the table, with the reason in `rejected`.
    pub rejected: usize,
    /// The coordinator could not be asked; they are sent again.
    pub left: usize,
}

enum Fate {
    Delivered(String),
    Rejected(String, String),
    Left,
}

impl<DB: Dialect> Relay<DB> {
    /// From this database's outbox to that coordinator.
    pub fn new(pool: Pool<DB>, client: Client) -> Self {
        Self { pool, client, options: Options::default() }
    }

    /// With other options than the default.
    pub fn with(self, options: Options) -> Self {
        Self { options, ..self }
    }

    /// Delivers until `stop` resolves; then the round under way is finished. `failed` hears of the rounds that the
    /// database did not allow; they are tried again.
    pub async fn run(&self, stop: impl Future<Output = ()>, mut failed: impl FnMut(sqlx::Error)) {
        tokio::pin!(stop);
        loop {
            let idle = match self.round().await {
                Ok(round) => round.delivered + round.rejected == 0,
                Err(error) => {
                    failed(error);
                    true
                }
            };
            let pause = if idle { self.options.pause } else { Duration::ZERO };
            tokio::select! {
                biased;
                () = &mut stop => return,
                () = sleep(pause) => {}
            }
        }
    }

    /// One batch: takes it, delivers it, removes what was delivered.
    ///
    /// # Errors
    /// Those of the database. What was delivered before is delivered again by the next round, which changes nothing.
    pub async fn round(&self) -> sqlx::Result<Round> {
        let mut tx = self.pool.begin().await?;
        let taken = DB::take(&mut tx, i64::from(self.options.batch)).await?;
        if taken.is_empty() {
            return Ok(Round::default());
        }
        // Where nothing is locked nothing is held open either.
        let mut held = if DB::LOCKS { Some(tx) } else { tx.rollback().await.map(|()| None)? };
        let fates: Vec<Fate> = stream::iter(taken)
            .map(|(gid, request)| self.deliver(gid, request))
            .buffer_unordered(self.options.side_by_side)
            .collect()
            .await;
        let mut tx = match held.take() {
            Some(tx) => tx,
            None => self.pool.begin().await?,
        };
        let mut round = Round::default();
        let mut delivered = Vec::new();
        for fate in fates {
            match fate {
                Fate::Delivered(gid) => delivered.push(gid),
                Fate::Rejected(gid, reason) => {
                    DB::reject(&mut tx, &gid, &reason).await?;
                    round.rejected += 1;
                }
                Fate::Left => round.left += 1,
            }
        }
        round.delivered = delivered.len();
        DB::remove(&mut tx, &delivered).await?;
        tx.commit().await?;
        Ok(round)
    }

    async fn deliver(&self, gid: String, request: String) -> Fate {
        let begin: Begin = match serde_json::from_str(&request) {
            Ok(begin) => begin,
            Err(error) => return Fate::Rejected(gid, format!("the row holds no request: {error}")),
        };
        match self.client.begin_with(begin, None).await {
            // Taken by retention since: it was begun, and has ended.
            Ok(_) | Err(Error::Expired(_)) => Fate::Delivered(gid),
            Err(error @ (Error::Rejected(_) | Error::Conflict(_) | Error::NotFound(_) | Error::Misconfigured(_))) => {
                Fate::Rejected(gid, error.to_string())
            }
            Err(
                Error::Unreachable { .. }
                | Error::Unavailable { .. }
                | Error::Failed(_)
                | Error::Unintelligible { .. }
                | Error::Refused { .. }
                | Error::Unsuccessful(_),
            ) => Fate::Left,
        }
    }
}
