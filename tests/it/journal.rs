//! Group commit over a real store: what is answered is durable, once, whatever the database's answers do.

#![allow(clippy::unwrap_used, reason = "a test fails where it meets what it did not expect")]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use skald::{
    journal::{AppendOutcome, Claim, Done, Ended, Journal, PendingAppend},
    store::{Append, Begin, Options, Projection, SqlStore, Store, StoredPlan},
    telemetry::Metrics,
};
use skald_protocol::{Gid, Status, Timestamp};
use skald_tests::{Faulty, faulty::Lost};
use tokio::{sync::mpsc, task::JoinHandle};

struct Stage {
    store: Faulty,
    shard: i32,
    journal: Journal,
    done: mpsc::UnboundedReceiver<Done>,
    writer: JoinHandle<Ended>,
    metrics: Arc<Metrics>,
}

fn gid(text: &str) -> Gid {
    Gid::new(text).unwrap()
}

impl Stage {
    async fn start() -> Self {
        let sql = SqlStore::connect("sqlite::memory:", Options::default()).await.unwrap();
        sql.migrate().await.unwrap();
        let store = Faulty::over(sql);
        let node = store.join("here", Duration::from_secs(60)).await.unwrap().node;
        let shard = store.claim(node, 1).await.unwrap()[0].id;
        let (client, done) = mpsc::unbounded_channel();
        let metrics = Arc::new(Metrics::new());
        let (journal, writer) = Journal::open(Arc::new(store.clone()), node, Arc::clone(&metrics), vec![client]);
        Self { store, shard, journal, done, writer: tokio::spawn(writer.run()), metrics }
    }

    fn begin(&self, text: &str) -> Append {
        let plan = [3; 32];
        let begin = Begin {
            shard: self.shard,
            workflow: None,
            request_digest: [1; 32],
            labels: BTreeMap::new(),
            created_at: Timestamp(1),
            plan,
            store_plan: Some(StoredPlan { digest: plan, format: 1, definition: None, plan: b"{}".to_vec() }),
        };
        let begin = Some(Box::new(begin));
        Append { gid: gid(text), seq: 0, record: text.as_bytes().to_vec(), begin, foreign: false }
    }

    fn submit(&self, appends: impl IntoIterator<Item = Append>) {
        let entries =
            appends.into_iter().zip(0..).map(|(append, ticket)| PendingAppend { append, ticket, claims: Vec::new() });
        self.journal.submit(0, entries.collect(), Vec::new());
    }

    /// What became of so many appends, and in how many pieces it was told.
    async fn landed(&mut self, appends: usize) -> (BTreeMap<String, AppendOutcome>, usize) {
        let (mut landed, mut pieces) = (BTreeMap::new(), 0);
        while landed.len() < appends {
            let done = self.done.recv().await.unwrap();
            landed.extend(done.appends.into_iter().map(|one| (one.gid.to_string(), one.outcome)));
            pieces += 1;
        }
        (landed, pieces)
    }

    async fn records(&self, text: &str) -> usize {
        self.store.load(&[gid(text)]).await.unwrap().first().map_or(0, |loaded| loaded.records.len())
    }
}

#[tokio::test]
async fn what_is_submitted_together_is_one_commit() {
    let mut stage = Stage::start().await;
    let appends: Vec<_> = (0..300).map(|n| stage.begin(&format!("g{n}"))).collect();
    stage.submit(appends);
    let (landed, pieces) = stage.landed(300).await;
    assert!(landed.values().all(|outcome| *outcome == AppendOutcome::Durable));
    assert_eq!(pieces, 1);
    assert!(stage.metrics.render().contains("skald_journal_batch_appends_count 1"));
    assert_eq!(stage.records("g299").await, 1);
    assert_eq!(stage.journal.depth(), 0);
}

#[tokio::test]
async fn a_lost_answer_is_found_out_before_anything_else_is_written() {
    for lost in [vec![Lost::After], vec![Lost::Before], vec![Lost::Before, Lost::After]] {
        let mut stage = Stage::start().await;
        stage.store.lose(lost);
        stage.submit([stage.begin("a"), stage.begin("b")]);
        let (landed, _) = stage.landed(2).await;
        assert!(landed.values().all(|outcome| *outcome == AppendOutcome::Durable), "{landed:?}");
        stage.submit([stage.begin("c"), stage.begin("a")]);
        let (landed, _) = stage.landed(2).await;
        assert_eq!((landed["c"], landed["a"]), (AppendOutcome::Durable, AppendOutcome::Conflict));
        assert_eq!(stage.records("a").await, 1);
    }
}

#[tokio::test]
async fn nothing_is_answered_while_the_database_is_away() {
    let mut stage = Stage::start().await;
    stage.store.cut_off(true);
    stage.submit([stage.begin("a")]);
    assert!(tokio::time::timeout(Duration::from_millis(300), stage.done.recv()).await.is_err());
    stage.store.cut_off(false);
    assert_eq!(stage.landed(1).await.0["a"], AppendOutcome::Durable);
}

#[tokio::test]
async fn one_that_the_database_refuses_does_not_stop_the_rest() {
    let mut stage = Stage::start().await;
    stage.store.refuse("g13");
    let appends: Vec<_> = (0..50).map(|n| stage.begin(&format!("g{n}"))).collect();
    stage.submit(appends);
    let (landed, _) = stage.landed(50).await;
    for (gid, outcome) in landed {
        assert_eq!(outcome, if gid == "g13" { AppendOutcome::Refused } else { AppendOutcome::Durable }, "{gid}");
    }
    assert_eq!(stage.records("g13").await, 0);
    stage.store.accept();
    stage.submit([stage.begin("g13")]);
    assert_eq!(stage.landed(1).await.0["g13"], AppendOutcome::Durable);
}

/// Of an append that carries the words of several, one who gave up is enough: the others are decided again.
#[tokio::test]
async fn what_one_gave_up_who_waited_for_it_is_not_written_and_the_rest_is() {
    let mut stage = Stage::start().await;
    let (stays, gives_up) = (Claim::default(), Claim::default());
    let claims = [vec![stays.clone()], vec![Claim::default(), gives_up.clone()], Vec::new()];
    let appends = ["kept", "given-up", "nobodys"].map(|text| stage.begin(text));
    let entries = appends.into_iter().zip(claims).zip(0..);
    let entries = entries.map(|((append, claims), ticket)| PendingAppend { append, ticket, claims }).collect();
    assert!(gives_up.withdraw());
    stage.journal.submit(0, entries, Vec::new());
    let (landed, _) = stage.landed(3).await;
    let became = ["kept", "given-up", "nobodys"].map(|text| landed[text]);
    assert_eq!(became, [AppendOutcome::Durable, AppendOutcome::Withdrawn, AppendOutcome::Durable]);
    assert_eq!((stage.records("given-up").await, stage.journal.depth()), (0, 0));
    assert!(!stays.withdraw(), "it was handed over");
}

#[tokio::test]
async fn of_two_with_one_place_in_a_journal_one_lands() {
    let stage = Stage::start().await;
    assert_eq!(stage.journal.append(stage.begin("a"), Claim::default()).await, Ok(AppendOutcome::Durable));
    let foreign = |record: &str| {
        let record = record.as_bytes().to_vec();
        stage.journal.append(Append { gid: gid("a"), seq: 1, record, begin: None, foreign: true }, Claim::default())
    };
    let (first, second) = tokio::join!(foreign("first"), foreign("second"));
    let outcomes = [first.unwrap(), second.unwrap()];
    assert!(outcomes.contains(&AppendOutcome::Durable) && outcomes.contains(&AppendOutcome::Conflict), "{outcomes:?}");
    assert_eq!(stage.records("a").await, 2);
}

#[tokio::test]
async fn a_projection_is_written_within_a_second_and_told_of() {
    let mut stage = Stage::start().await;
    stage.submit([stage.begin("a")]);
    stage.landed(1).await;
    let projection = |status, settled_at| Projection {
        gid: gid("a"),
        seq: 1,
        status,
        next_wake_at: None,
        parked_by: None,
        settled_at,
    };
    stage.journal.submit(0, Vec::new(), vec![projection(Status::Confirming, None)]);
    stage.journal.submit(0, Vec::new(), vec![projection(Status::Succeeded, Some(Timestamp(5)))]);
    let done = tokio::time::timeout(Duration::from_secs(1), stage.done.recv()).await.unwrap().unwrap();
    assert_eq!(done.projected, [(gid("a"), 1)]);
    let row = stage.store.load(&[gid("a")]).await.unwrap().remove(0).row;
    assert_eq!((row.status, row.settled_at), (Status::Succeeded, Some(Timestamp(5))));
}

#[tokio::test]
async fn a_flush_waits_for_no_age() {
    let stage = Stage::start().await;
    stage.journal.append(stage.begin("a"), Claim::default()).await.unwrap();
    let status = Status::Compensating;
    let projection =
        Projection { gid: gid("a"), seq: 1, status, next_wake_at: None, parked_by: None, settled_at: None };
    stage.journal.submit(0, Vec::new(), vec![projection]);
    stage.journal.flush().await.unwrap();
    assert_eq!(stage.store.load(&[gid("a")]).await.unwrap()[0].row.status, status);
}

#[tokio::test]
async fn a_deposed_nodes_journal_closes_and_answers_nothing() {
    let mut stage = Stage::start().await;
    stage.journal.append(stage.begin("a"), Claim::default()).await.unwrap();
    stage.store.join("here", Duration::from_secs(60)).await.unwrap();
    assert!(stage.journal.append(stage.begin("b"), Claim::default()).await.is_err());
    assert_eq!(stage.writer.await.unwrap(), Ended::Deposed);
    assert!(stage.done.try_recv().is_err());
    assert_eq!(stage.store.load(&[gid("b")]).await.unwrap().len(), 0);
}
