//! Whatever one definition asks to be computed, others have their turn: nodes answer, keep their place, and begin what they
//! are asked to.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use skald_protocol::Status;
use skald_tests::{
    Backend, Client, Node, World,
    client::http,
    definition::{begin, definition, step},
    eventually,
};

/// As much as one expression may take, over a list of three hundred that no schema tells of.
const COSTLY: &str = "${input.l.exists(x, input.l.exists(y, x + y < 0))}";
const SIDE_BY_SIDE: usize = 16;

/// One call, then what would hold a thread for half a minute.
fn many_sets(url: &str) -> Value {
    let sets = (0..930).map(|set| json!({"name": format!("s{set}"), "set": COSTLY}));
    poison(url, [step("first")].into_iter().chain(sets).collect())
}

/// Hundreds of calls at once, each with a body that takes as much as it may.
fn many_bodies(url: &str) -> Value {
    let mut call = step("each");
    call["action"]["body"] = json!({"any": COSTLY, "one": "${one}"});
    let map = json!({"items": "${input.l}", "as": "one", "max_concurrency": 300, "steps": [call]});
    poison(url, vec![json!({"name": "m", "map": map})])
}

/// A list of outputs, each of which takes as much as it may.
fn many_outputs(url: &str) -> Value {
    let map = json!({"items": "${input.l}", "as": "one", "steps": [{"name": "each", "set": "${one}"}]});
    poison(url, vec![step("first"), json!({"name": "m", "map": map, "output": COSTLY})])
}

fn poison(url: &str, steps: Vec<Value>) -> Value {
    json!({"definition": definition(url, &Value::from(steps)), "input": {"l": vec![1; 300]}})
}

/// How long each of so many begins took to be acknowledged, in order; spread over the nodes.
async fn begins(nodes: &[Client], url: &str, count: usize) -> Vec<Duration> {
    let ordinary = begin(&definition(url, &json!([step("a"), step("b")])));
    let one = |index: usize| {
        let (client, body) = (nodes[index % nodes.len()].clone(), ordinary.clone());
        async move {
            let asked = Instant::now();
            let answer = client.try_post("/v1/transactions", &body, None).await.expect("an answer");
            assert!(answer.is_success(), "{}", answer.body);
            (asked.elapsed(), answer.transaction().gid.to_string())
        }
    };
    let begun: Vec<_> = stream::iter(0..count).map(one).buffer_unordered(SIDE_BY_SIDE).collect().await;
    let mut took: Vec<_> = begun.iter().map(|(took, _)| *took).collect();
    for (index, (_, gid)) in begun.iter().enumerate().step_by(count / 20) {
        nodes[index % nodes.len()].reaches(gid, Status::Succeeded).await;
    }
    took.sort_unstable();
    took
}

fn quantile(sorted: &[Duration], part: f64) -> Duration {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "an index")]
    let index = (sorted.len() as f64 * part) as usize;
    sorted[index.min(sorted.len() - 1)]
}

/// Asks a node again and again whether it lives; the longest that an answer took.
async fn longest_silence(url: String, until: tokio_util::sync::CancellationToken) -> Duration {
    let (client, mut longest) = (http(), Duration::ZERO);
    while !until.is_cancelled() {
        let asked = Instant::now();
        let alive = client.get(format!("{url}/healthz")).send().await.expect("a node that lives answers");
        assert_eq!(alive.status(), 200);
        longest = longest.max(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    longest
}

/// The body of its begin, for participants at that URL.
type Poison = fn(&str) -> Value;

struct Beside {
    without: Vec<Duration>,
    with: Vec<Duration>,
    /// Of `/healthz`.
    silence: Duration,
}

/// `count` begins on two nodes without, then with the poisons beside them, each on both; the first `undone` of these fail.
async fn beside(count: usize, poisons: &[Poison], undone: usize) -> Beside {
    let world = World::start(Backend::Postgres).await;
    let mut second = world.another_node();
    second.start().await;
    let url = world.participants.url();
    let nodes = [world.client.clone(), second.client()];
    eventually("both hold their part", Duration::from_secs(20), async || {
        let both = [&world.node, &second].iter().all(|node| shards(node) > 0);
        both.then_some(())
    })
    .await;
    let without = begins(&nodes, &url, count).await;
    let before = (shards(&world.node), shards(&second));

    let stop = tokio_util::sync::CancellationToken::new();
    let watches: Vec<_> =
        [world.node.url(), second.url()].map(|url| tokio::spawn(longest_silence(url, stop.clone()))).into();
    let mut begun = Vec::new();
    for poison in poisons {
        for client in &nodes {
            begun.push(client.begin(&poison(&url)).await);
        }
    }
    let with = begins(&nodes, &url, count).await;
    // Too much between two calls: it fails as any expression may, and is undone.
    for gid in begun.iter().take(undone) {
        // They share a quarter of the time, of a machine that may be busy.
        let view = eventually("it is undone", Duration::from_secs(180), async || {
            Some(world.client.transaction(gid).await).filter(|view| view.status == Status::Compensated)
        })
        .await;
        let error = view.error.expect("an error");
        assert_eq!(error.code, "expression_failed");
        assert!(error.message.unwrap_or_default().contains("between two calls"));
    }
    stop.cancel();
    let mut silence = Duration::ZERO;
    for watch in watches {
        silence = silence.max(watch.await.expect("a watch"));
    }
    for node in [&world.node, &second] {
        let log = node.log();
        assert!(!log.contains("deposed") && !log.contains("shards were lost"), "{log}");
        assert!(!log.contains("quarantined"), "{log}");
    }
    assert_eq!((shards(&world.node), shards(&second)), before, "nothing was taken over");
    Beside { without, with, silence }
}

/// How often it took shards.
fn shards(node: &Node) -> usize {
    node.log().matches("took shards").count()
}

#[tokio::test]
async fn begins_beside_definitions_that_compute_without_end_are_acknowledged_and_no_node_loses_its_place() {
    let Beside { with, silence, .. } = beside(200, &[many_sets, many_outputs, many_bodies], 4).await;
    assert!(silence < Duration::from_secs(1), "a node did not answer for {silence:?}");
    let p99 = quantile(&with, 0.99);
    // A turn by itself, and more than one, in a build without optimization.
    assert!(p99 < Duration::from_secs(4), "{p99:?}");
}

#[tokio::test]
#[ignore = "measures, for a person: run it alone, on a release build, with --nocapture"]
async fn two_thousand_begins_beside_each_poison() {
    let kinds: [(&str, Poison, usize); 3] =
        [("sets", many_sets, 2), ("outputs", many_outputs, 2), ("bodies", many_bodies, 0)];
    for (name, kind, undone) in kinds {
        let Beside { without, with, silence } = beside(2_000, &[kind], undone).await;
        let told = |took: &[Duration]| format!("p50 {:?}, p99 {:?}", quantile(took, 0.5), quantile(took, 0.99));
        eprintln!("{name}: without {}; with {}; /healthz at most {silence:?}", told(&without), told(&with));
    }
}
