//! A Postgres that went back behind what it had acknowledged, as after a fail-over to a standby that lacked the end: the node
//! tells what is lost.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use serde_json::{Value, json};
use skald_tests::{
    Client, Node, Participants, client,
    database::Postgres,
    definition::{begin, definition, step},
    eventually,
};

const WITHIN: Duration = Duration::from_secs(60);

struct Scene {
    postgres: Postgres,
    node: Node,
    url: String,
    body: Value,
    _participants: Participants,
}

impl Scene {
    /// A node that does not run yet.
    async fn new() -> Self {
        let postgres = Postgres::own(&[]).await.expect("a Postgres");
        let participants = Participants::start().await;
        let url = postgres.migrated().await.expect("a database");
        let node = Node::new(&url);
        let body = begin(&definition(&participants.url(), &json!([step("a")])));
        Self { postgres, node, url, body, _participants: participants }
    }

    /// Begins some, and returns once all are acknowledged.
    async fn begin_some(&self) -> Vec<String> {
        let mut gids = Vec::new();
        for _ in 0..30 {
            gids.push(self.node.client().begin(&self.body).await);
        }
        gids
    }

    async fn crash_and(&mut self, meanwhile: impl FnOnce(&Postgres)) {
        self.postgres.crash().expect("a crash");
        meanwhile(&self.postgres);
        self.postgres.start_again().await.expect("a restart");
    }

    async fn metric(&self, name: &str) -> u64 {
        let text = client::http().get(format!("{}/metrics", self.node.url())).send().await.expect("an answer");
        let text = text.text().await.expect("a text");
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.expect("a metric").parse().expect("a number")
    }

    async fn told(&self) {
        eventually("the loss is told", WITHIN, || async {
            (self.metric("skald_database_rewinds_total").await == 1).then_some(())
        })
        .await;
    }

    /// The lines of the one list, whose name is in the log.
    fn list(&self) -> Vec<Value> {
        let log = self.node.log();
        let error = log.lines().find(|line| line.contains("The database went back in time")).expect("an error");
        assert!(error.contains("ERROR") && error.contains("docs/operations.md"), "{error}");
        let path = error.split("listed in ").nth(1).and_then(|rest| rest.split(".jsonl").next()).expect("a path");
        let text = fs::read_to_string(Path::new(&format!("{path}.jsonl"))).expect("a list");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    async fn goes_on(&self) {
        eventually("begins are taken again", WITHIN, || async {
            let answer = self.node.client().try_post("/v1/transactions", &self.body, None).await.ok()?;
            answer.is_success().then_some(())
        })
        .await;
    }
}

async fn is_there(client: &Client, gid: &str) -> bool {
    match client.get(&format!("/v1/transactions/{gid}")).await.status {
        200 => true,
        404 => false,
        other => panic!("{gid}: {other}"),
    }
}

/// What the list says of the begins is what the clients meet.
async fn listed_is_lost(scene: &Scene, there: &[String], lost: &[String]) {
    scene.told().await;
    let list = scene.list();
    assert_eq!(scene.metric("skald_acknowledged_records_lost_total").await, list.len() as u64);
    let begun: BTreeSet<_> =
        list.iter().filter(|line| line["seq"] == 0).filter_map(|line| line["gid"].as_str()).collect();
    assert_eq!(begun, lost.iter().map(String::as_str).collect());
    for line in &list {
        assert!(
            line["batch"].is_u64() && line["acknowledged_at"].as_str().is_some_and(|at| at.starts_with("20")),
            "{line}"
        );
    }
    scene.goes_on().await;
    let client = scene.node.client();
    for gid in there {
        assert!(is_there(&client, gid).await, "{gid} is there");
    }
    for gid in lost {
        assert!(!is_there(&client, gid).await, "{gid} was lost, and nobody began it again");
    }
}

#[tokio::test]
async fn what_was_acknowledged_and_lost_is_told() {
    let mut scene = Scene::new().await;
    scene.node.start().await;
    let there = scene.begin_some().await;
    scene.crash_and(|postgres| postgres.remember().expect("a copy")).await;
    scene.goes_on().await;
    assert_eq!(scene.metric("skald_database_rewinds_total").await, 0, "a crash loses nothing");
    let mut lost = vec![scene.node.client().begin(&scene.body).await];
    lost.extend(scene.begin_some().await);
    // `goes_on` has begun some of which nothing is known here.
    scene.crash_and(|postgres| postgres.go_back().expect("an earlier time")).await;
    scene.told().await;
    let list = scene.list();
    let begun: BTreeSet<_> =
        list.iter().filter(|line| line["seq"] == 0).filter_map(|line| line["gid"].as_str()).collect();
    assert!(lost.iter().all(|gid| begun.contains(gid.as_str())), "{begun:?}");
    lost = begun.iter().map(|gid| (*gid).to_owned()).collect();
    listed_is_lost(&scene, &there, &lost).await;
}

/// Nothing is begun after it: the heartbeat finds out.
#[tokio::test]
async fn a_node_whose_very_place_was_lost_tells_all_that_it_acknowledged() {
    let mut scene = Scene::new().await;
    scene.crash_and(|postgres| postgres.remember().expect("a copy")).await;
    scene.node.start().await;
    let lost = scene.begin_some().await;
    scene.crash_and(|postgres| postgres.go_back().expect("an earlier time")).await;
    listed_is_lost(&scene, &[], &lost).await;
}

/// Another took what it held: nothing of it is lost.
#[tokio::test]
async fn a_node_that_was_deposed_tells_of_no_loss() {
    let mut scene = Scene::new().await;
    scene.node.start().await;
    let there = scene.begin_some().await;
    scene.node.pause();
    let mut other = Node::new(&scene.url);
    other.start().await;
    eventually("the other has taken over", WITHIN, || async {
        (other.client().try_post("/v1/transactions", &scene.body, None).await.ok()?.is_success()).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    scene.node.resume();
    eventually("it was deposed", WITHIN, || async {
        (scene.metric("skald_node_deposed_total").await > 0).then_some(())
    })
    .await;
    scene.goes_on().await;
    assert_eq!(scene.metric("skald_database_rewinds_total").await, 0);
    for gid in &there {
        assert!(is_there(&scene.node.client(), gid).await);
    }
}
