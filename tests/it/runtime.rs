//! A coordinator in this process, over a real database and real participants: what no request shows from outside.

#![allow(clippy::unwrap_used, reason = "a test fails where it meets what it did not expect")]

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use skald::{
    dispatch::{self, Dispatcher, EgressPolicy, token::CallbackTokens},
    runtime::{
        Begun, Coordinator, Dependencies, Error, Filter, MembershipStore, MembershipThread, NewTransaction, Options,
        PreparedPlan, Until,
    },
    store::{self, SqlStore},
    telemetry::{Metrics, Spans},
};
use skald_engine::{Command, TraceContext, definition::compile};
use skald_protocol::{CallbackVerdict, Gid, OperationKind, Status, TransactionView};
use skald_tests::{
    Faulty, Participants, database,
    definition::{definition, step},
    eventually,
    faulty::Lost,
};
use sqlx::{AssertSqlSafe, Connection};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(10);

struct Stage {
    url: String,
    store: Faulty,
    participants: Participants,
    _folder: Option<TempDir>,
}

/// A coordinator with the handles that its test looks at.
struct Running {
    coordinator: Coordinator,
    metrics: Arc<Metrics>,
}

impl std::ops::Deref for Running {
    type Target = Coordinator;
    fn deref(&self) -> &Coordinator {
        &self.coordinator
    }
}

fn quick() -> Options {
    Options {
        lease: Duration::from_secs(1),
        sweep_every: Duration::from_millis(200),
        linger: Duration::from_millis(100),
        park_beyond: Duration::from_secs(5),
        ..Options::default()
    }
}

impl Stage {
    async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("skald.db").display());
        Self::on(url, Some(folder)).await
    }

    async fn postgres() -> Self {
        Self::on(database::shared().await.empty().await.unwrap(), None).await
    }

    async fn on(url: String, folder: Option<TempDir>) -> Self {
        let store = SqlStore::connect(&url, store::Options::default()).await.unwrap();
        store.migrate().await.unwrap();
        Self { url, store: Faulty::over(store), participants: Participants::start().await, _folder: folder }
    }

    async fn node(&self, options: Options) -> Running {
        self.node_with(options, None).await
    }

    async fn node_with(&self, options: Options, membership: Option<MembershipStore>) -> Running {
        let tokens = Arc::new(CallbackTokens::new(b"key"));
        let mut dispatch = dispatch::Options::new("http://127.0.0.1:1", Arc::clone(&tokens));
        dispatch.egress = EgressPolicy { loopback: true, private: true };
        let metrics = Arc::new(Metrics::new());
        let foundation = Dependencies {
            store: Arc::new(self.store.clone()),
            membership,
            dispatcher: Dispatcher::start(dispatch).unwrap(),
            callback_tokens: tokens,
            metrics: Arc::clone(&metrics),
            spans: Spans::off(),
        };
        let coordinator = Coordinator::start(foundation, options).await.unwrap();
        eventually("ready", SOON, async || coordinator.ready().await.ok()).await;
        Running { coordinator, metrics }
    }

    fn transaction(&self, gid: &str, steps: &Value) -> NewTransaction {
        let source = definition(&self.participants.url(), steps).to_string();
        let compiled = compile(&source).unwrap_or_else(|faults| panic!("{faults:?}"));
        NewTransaction {
            gid: Some(Gid::new(gid).unwrap()),
            plan: Arc::new(PreparedPlan::new(compiled.plan, Some(source))),
            workflow: None,
            input: None,
            labels: [("for".to_owned(), "test".to_owned())].into(),
            timeout: None,
            request_digest: [7; 32],
            trace: TraceContext::default(),
        }
    }

    async fn execute(&self, statement: &str) {
        let statement = AssertSqlSafe(statement.to_owned());
        if self.url.starts_with("sqlite") {
            let mut connection = sqlx::SqliteConnection::connect(&self.url).await.unwrap();
            sqlx::query(statement).execute(&mut connection).await.unwrap();
        } else {
            let mut connection = sqlx::PgConnection::connect(&self.url).await.unwrap();
            sqlx::query(statement).execute(&mut connection).await.unwrap();
        }
    }

    async fn called(&self, gid: &str, what: &str) {
        eventually(what, SOON, async || self.participants.called(gid).iter().any(|call| call == what).then_some(()))
            .await;
    }
}

impl Running {
    async fn settled(&self, gid: &str) -> TransactionView {
        let view = self.wait(&Gid::new(gid).unwrap(), Until::Settled, SOON).await.unwrap();
        assert!(view.status.is_final(), "{view:?}");
        view
    }

    fn in_memory(&self) -> i64 {
        let _ = self.metrics.render();
        self.metrics.in_memory.get()
    }
}

fn two_steps() -> Value {
    json!([step("reserve"), step("charge")])
}

fn gid(text: &str) -> Gid {
    Gid::new(text).unwrap()
}

/// A begin whose acknowledgement must be there, and its view.
async fn begin(node: &Running, new: NewTransaction) -> TransactionView {
    match node.begin(new).await.unwrap() {
        Begun::New(view) => *view,
        Begun::Existing(view) => panic!("it existed: {view:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saga_runs_to_its_end_and_its_row_follows() {
    let stage = Stage::sqlite().await;
    let node = stage.node(quick()).await;
    assert_eq!(begin(&node, stage.transaction("g", &two_steps())).await.status, Status::Running);
    assert_eq!(node.settled("g").await.status, Status::Succeeded);
    assert_eq!(stage.participants.effects("g"), ["reserve action", "charge action"]);
    let filter = Filter { status: vec![Status::Succeeded], limit: 10, ..Filter::default() };
    eventually("the list shows it", SOON, async || {
        let items = node.list(&filter).await.unwrap();
        items.iter().any(|item| item.gid == gid("g") && item.settled_at.is_some()).then_some(())
    })
    .await;
    let events = node.events(&gid("g"), None).await.unwrap();
    assert!(events.last().unwrap().kind.is_last(), "{events:?}");
    let rest = node.events(&gid("g"), Some((0, 0))).await.unwrap();
    assert_eq!(rest.len() + 1, events.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_undoes_what_was_done_before_it() {
    let stage = Stage::sqlite().await;
    let node = stage.node(quick()).await;
    stage.participants.on("/charge").refuses("no_credit");
    begin(&node, stage.transaction("g", &two_steps())).await;
    let view = node.settled("g").await;
    assert_eq!((view.status, view.error.unwrap().code.as_str()), (Status::Compensated, "no_credit"));
    assert_eq!(stage.participants.effects("g"), ["reserve action", "reserve compensate"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_begin_again_finds_the_first_in_memory_and_out_of_it() {
    let stage = Stage::sqlite().await;
    let node = stage.node(quick()).await;
    let new = stage.transaction("g", &two_steps());
    let other = NewTransaction { request_digest: [8; 32], ..new.clone() };
    let twice = [node.begin(new.clone()), node.begin(new.clone())];
    let begun = futures_util::future::join_all(twice).await;
    let made = begun.iter().filter(|begun| matches!(begun, Ok(Begun::New(_)))).count();
    assert_eq!(made, 1, "{begun:?}");
    node.settled("g").await;
    assert!(matches!(node.begin(other.clone()).await, Err(Error::GidConflict(_))));
    eventually("it left memory", SOON, async || (node.in_memory() == 0).then_some(())).await;
    assert!(matches!(node.begin(new).await, Ok(Begun::Existing(view)) if view.status == Status::Succeeded));
    assert!(matches!(node.begin(other).await, Err(Error::GidConflict(_))));
    assert!(node.existing(&gid("g"), &[7; 32]).await.unwrap().is_some());
    assert!(node.existing(&gid("h"), &[7; 32]).await.unwrap().is_none());
    assert_eq!(stage.participants.effects("g"), ["reserve action", "charge action"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_goes_on_after_a_crash() {
    let stage = Stage::sqlite().await;
    let node = stage.node(quick()).await;
    stage.participants.on("/charge").is_held();
    for n in 0..50 {
        begin(&node, stage.transaction(&format!("g{n}"), &two_steps())).await;
    }
    for n in 0..50 {
        stage.called(&format!("g{n}"), "charge action").await;
    }
    drop(node);
    stage.participants.behave();
    let node = stage.node(quick()).await;
    for n in 0..50 {
        let view = node.settled(&format!("g{n}")).await;
        assert_eq!(view.status, Status::Succeeded);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_memory_takes_is_recovered_page_by_page() {
    let stage = Stage::sqlite().await;
    let node = stage.node(quick()).await;
    stage.participants.on("/reserve").is_held();
    let begins = (0..600).map(|n| node.begin(stage.transaction(&format!("g{n}"), &two_steps())));
    for begun in futures_util::future::join_all(begins).await {
        begun.unwrap();
    }
    drop(node);
    stage.participants.behave();
    let small = Options { max_in_memory: 100, page: 20, settled_grace: Duration::from_millis(50), ..quick() };
    let node = stage.node(small).await;
    eventually("all settle", 3 * SOON, async || {
        assert!(node.in_memory() <= 200, "{}", node.in_memory());
        let filter = Filter { status: vec![Status::Succeeded], limit: 1000, ..Filter::default() };
        (node.list(&filter).await.unwrap().len() == 600).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sleeps_long_leaves_memory_and_a_word_brings_it_back() {
    let stage = Stage::sqlite().await;
    let node = stage.node(quick()).await;
    stage.participants.on("/approve").accepts();
    let approve = json!({"name": "approve", "service": "shop", "compensate": {"path": "/approve/compensate"},
        "action": {"path": "/approve", "async": {"timeout": "2h"}}});
    begin(&node, stage.transaction("g", &json!([approve, step("charge")]))).await;
    stage.called("g", "approve action").await;
    eventually("it left memory", SOON, async || (node.in_memory() == 0).then_some(())).await;
    assert_eq!(node.get(&gid("g"), 0..10).await.unwrap().status, Status::Running);
    let callback = Command::Callback {
        branch: "approve".parse().unwrap(),
        operation: OperationKind::Action,
        verdict: CallbackVerdict::Succeeded,
        output: None,
        error: None,
    };
    node.command(&gid("g"), callback).await.unwrap();
    assert_eq!(node.settled("g").await.status, Status::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sleeper_wakes_when_its_time_has_come() {
    let stage = Stage::sqlite().await;
    let node = stage.node(quick()).await;
    stage.participants.on("/reserve").is_unavailable(1).succeeds();
    let mut definition = definition(&stage.participants.url(), &two_steps());
    let slowly = json!({"max_attempts": 3, "initial_interval": "6s", "max_interval": "6s", "jitter": "none"});
    definition["defaults"]["retry"] = slowly;
    let compiled = compile(&definition.to_string()).unwrap();
    let plan = Arc::new(PreparedPlan::new(compiled.plan, None));
    begin(&node, NewTransaction { plan, ..stage.transaction("g", &two_steps()) }).await;
    eventually("it left memory", SOON, async || {
        (stage.participants.arrived() > 0 && node.in_memory() == 0).then_some(())
    })
    .await;
    assert_eq!(node.settled("g").await.status, Status::Succeeded);
    let arrivals = stage.participants.arrivals("g");
    let retried = arrivals.iter().find(|call| call.attempt == 2).unwrap();
    let pause = retried.at - arrivals[0].at;
    assert!(pause >= Duration::from_secs(6) && pause < Duration::from_millis(6900), "{pause:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_transaction_is_set_aside_and_stops_nobody() {
    let stage = Stage::sqlite().await;
    let node = stage.node(quick()).await;
    stage.participants.on("/reserve").is_held();
    begin(&node, stage.transaction("bad", &two_steps())).await;
    begin(&node, stage.transaction("good", &two_steps())).await;
    stage.called("good", "reserve action").await;
    drop(node);
    stage.execute("UPDATE journal SET events = x'7b' WHERE gid = 'bad'").await;
    stage.participants.behave();
    let node = stage.node(quick()).await;
    assert_eq!(node.settled("good").await.status, Status::Succeeded);
    let view = eventually("it is set aside", SOON, async || node.get(&gid("bad"), 0..10).await.ok()).await;
    assert_eq!((view.status, view.error.unwrap().code.as_str()), (Status::Suspended, "quarantined"));
    assert!(view.branches.is_empty());
    assert!(matches!(node.command(&gid("bad"), Command::Resume).await, Err(Error::Quarantined(_))));
    let failed = node.command(&gid("bad"), Command::Fail { reason: "lost".into() }).await.unwrap();
    assert_eq!(failed.status, Status::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_is_refused_and_the_rest_goes_on() {
    let stage = Stage::sqlite().await;
    let node = stage.node(Options { tasks: 1, max_in_memory: 3, ..quick() }).await;
    stage.participants.on("/reserve").is_held();
    for n in 0..3 {
        begin(&node, stage.transaction(&format!("g{n}"), &two_steps())).await;
    }
    let refused = node.begin(stage.transaction("g3", &two_steps())).await;
    assert!(matches!(refused, Err(Error::Overloaded { .. })), "{refused:?}");
    for n in 0..3 {
        stage.called(&format!("g{n}"), "reserve action").await;
    }
    stage.participants.behave();
    for n in 0..3 {
        node.settled(&format!("g{n}")).await;
    }
    eventually("there is room again", SOON, async || node.begin(stage.transaction("g4", &two_steps())).await.ok())
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn few_places_for_answers_delay_calls_but_lose_none() {
    let stage = Stage::sqlite().await;
    let node = stage.node(Options { tasks: 1, max_calls: 2, ..quick() }).await;
    for n in 0..40 {
        begin(&node, stage.transaction(&format!("g{n}"), &two_steps())).await;
    }
    for n in 0..40 {
        assert_eq!(node.settled(&format!("g{n}")).await.status, Status::Succeeded);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_and_an_absent_database_cost_time_and_nothing_else() {
    let stage = Stage::sqlite().await;
    let node = stage.node(quick()).await;
    for n in 0..60 {
        stage.store.lose([Lost::After, Lost::Before, Lost::After].into_iter().take(n % 4));
        begin(&node, stage.transaction(&format!("g{n}"), &two_steps())).await;
        if n == 30 {
            // Longer than the lease: it stops driving, and goes on once the lease is renewed.
            stage.store.cut_off(true);
            tokio::time::sleep(Duration::from_millis(1500)).await;
            assert!(node.ready().await.is_err());
            stage.store.cut_off(false);
            eventually("ready again", SOON, async || node.ready().await.is_ok().then_some(())).await;
        }
    }
    for n in 0..60 {
        assert_eq!(node.settled(&format!("g{n}")).await.status, Status::Succeeded);
        assert_eq!(stage.participants.effects(&format!("g{n}")), ["reserve action", "charge action"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_database_does_not_take_is_refused_or_tried_again() {
    let stage = Stage::sqlite().await;
    let node = stage.node(quick()).await;
    stage.store.refuse("a");
    let refused = node.begin(stage.transaction("a", &two_steps())).await;
    assert!(matches!(refused, Err(Error::Store(_))), "{refused:?}");
    stage.participants.on("/reserve").is_held();
    begin(&node, stage.transaction("b", &two_steps())).await;
    stage.called("b", "reserve action").await;
    stage.store.refuse("b");
    stage.participants.behave();
    begin(&node, stage.transaction("c", &two_steps())).await;
    assert_eq!(node.settled("c").await.status, Status::Succeeded);
    assert_eq!(stage.participants.called("b"), ["reserve action"]);
    stage.store.accept();
    assert_eq!(node.settled("b").await.status, Status::Succeeded);
    assert_eq!(stage.participants.effects("b"), ["reserve action", "charge action"]);
    assert!(stage.participants.called("a").is_empty());
}

fn at(address: &str) -> Options {
    Options { address: address.to_owned(), ..quick() }
}

async fn shards_of(node: &Running) -> i64 {
    node.metrics.shards_held.get()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_joins_gets_its_share_and_one_that_leaves_gives_it_back() {
    let stage = Stage::postgres().await;
    let a = stage.node(at("a")).await;
    eventually("a has all", SOON, async || (shards_of(&a).await == 64).then_some(())).await;
    let b = stage.node(at("b")).await;
    eventually("shared", SOON, async || (shards_of(&a).await == 32 && shards_of(&b).await == 32).then_some(())).await;
    stage.participants.on("/charge").is_held();
    begin(&a, stage.transaction("g", &two_steps())).await;
    stage.called("g", "charge action").await;
    let refused = {
        let drained = a.drain(Duration::from_secs(5));
        stage.participants.behave();
        drained.await;
        a.begin(stage.transaction("h", &two_steps())).await
    };
    assert!(matches!(refused, Err(Error::NotReady { .. })), "{refused:?}");
    eventually("b has all", SOON, async || (shards_of(&b).await == 64).then_some(())).await;
    assert_eq!(b.settled("g").await.status, Status::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crashed_nodes_work_is_taken_over() {
    let stage = Stage::postgres().await;
    let a = stage.node(at("a")).await;
    let b = stage.node(at("b")).await;
    eventually("shared", SOON, async || (shards_of(&a).await == 32 && shards_of(&b).await == 32).then_some(())).await;
    stage.participants.on("/charge").is_held();
    for n in 0..20 {
        begin(&a, stage.transaction(&format!("g{n}"), &two_steps())).await;
        stage.called(&format!("g{n}"), "charge action").await;
    }
    drop(a);
    stage.participants.behave();
    for n in 0..20 {
        assert_eq!(b.settled(&format!("g{n}")).await.status, Status::Succeeded);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_node_takes_a_word_and_the_owner_acts_on_it() {
    let stage = Stage::postgres().await;
    let a = stage.node(at("a")).await;
    let b = stage.node(at("b")).await;
    stage.participants.on("/charge").is_unavailable(1000);
    let mut definition = definition(&stage.participants.url(), &two_steps());
    let slowly = json!({"max_attempts": 1000, "initial_interval": "100ms", "max_interval": "100ms"});
    definition["defaults"]["retry"] = slowly;
    let plan = Arc::new(PreparedPlan::new(compile(&definition.to_string()).unwrap().plan, None));
    begin(&a, NewTransaction { plan, ..stage.transaction("g", &two_steps()) }).await;
    stage.called("g", "charge action").await;
    assert!(b.get(&gid("g"), 0..10).await.unwrap().decision.is_none());
    let view = b.command(&gid("g"), Command::Cancel { reason: None }).await.unwrap();
    assert_eq!(view.status, Status::Compensating);
    assert!(matches!(b.command(&gid("g"), Command::Commit).await, Err(Error::Rejected(_))));
    assert_eq!(b.settled("g").await.status, Status::Compensated);
    assert_eq!(a.settled("g").await.status, Status::Compensated);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deposed_node_drops_everything_and_comes_back() {
    let stage = Stage::postgres().await;
    let a = stage.node(at("a")).await;
    stage.participants.on("/charge").is_held();
    begin(&a, stage.transaction("g", &two_steps())).await;
    stage.called("g", "charge action").await;
    stage.execute("UPDATE nodes SET dead = true").await;
    stage.participants.behave();
    assert_eq!(a.settled("g").await.status, Status::Succeeded);

    assert!(a.metrics.render().contains("skald_node_deposed_total 1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_whose_turns_take_too_long_again_and_again_is_set_aside_and_the_others_go_on() {
    let stage = Stage::sqlite().await;
    let node = stage.node(Options { longest_turn: Duration::from_millis(5), ..quick() }).await;
    let costly = json!({"any": "${input.l.exists(x, input.l.exists(y, x + y < 0))}"});
    let sets: Vec<_> = (0..8).map(|set| json!({"name": format!("s{set}"), "set": costly})).collect();
    let input = skald_protocol::Json::of(&json!({"l": vec![1; 300]}));
    begin(&node, NewTransaction { input: Some(input), ..stage.transaction("long", &json!(sets)) }).await;
    let view = eventually("it is set aside", SOON, async || {
        node.get(&gid("long"), 0..0).await.ok().filter(|view| view.status == Status::Suspended)
    })
    .await;
    let error = view.error.unwrap();
    assert_eq!(error.code, "quarantined");
    assert!(error.message.unwrap().contains("of its turns took more than"));
    begin(&node, stage.transaction("short", &two_steps())).await;
    assert_eq!(node.settled("short").await.status, Status::Succeeded);
}

/// How long the lease of a node lasts that three of its leases long has had no thread to decide on, in milliseconds.
async fn lease_left(apart: bool) -> i64 {
    let stage = Stage::postgres().await;
    let membership = if apart {
        let (thread, url) = (MembershipThread::start().unwrap(), stage.url.clone());
        let store = thread.handle().spawn(async move { SqlStore::connect(&url, store::Options::default()).await });
        Some(MembershipStore { store: Arc::new(store.await.unwrap().unwrap()), thread })
    } else {
        None
    };
    let node = stage.node_with(quick(), membership).await;
    tokio::spawn(async { std::thread::sleep(4 * quick().lease) });
    let url = stage.url.clone();
    let asked = std::thread::spawn(move || {
        std::thread::sleep(3 * quick().lease);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            const LEFT: &str =
                "SELECT max(expires_at) - (extract(epoch FROM clock_timestamp()) * 1000)::bigint FROM nodes";
            let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
            sqlx::query_scalar::<_, i64>(LEFT).fetch_one(&mut connection).await.unwrap()
        })
    });
    let left = asked.join().unwrap();
    drop(node);
    left
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_place_of_a_node_is_kept_while_the_threads_that_decide_are_busy() {
    let (apart, among_others) = (lease_left(true).await, lease_left(false).await);
    assert!(apart > 0 && among_others < 0, "{apart} and {among_others} ms");
}
