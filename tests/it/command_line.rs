//! The binary does what the README says of it: the demo, the page's saga, exit codes, refusals.

use std::{process::Stdio, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use skald_protocol::Status;
use skald_tests::{
    Backend, Client, Database, Node, Participants, World,
    cluster::{Ran, command, run_with},
    database,
    definition::{definition, step},
};
use tokio::io::{AsyncBufReadExt, BufReader};

async fn run(arguments: &[&str]) -> Ran {
    run_with(arguments, &[]).await
}

#[tokio::test]
async fn the_demo_ends_with_every_order_as_it_should() {
    let ran = run(&["demo"]).await;
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert!(!ran.stdout.contains("WRONG"), "{}", ran.stdout);
    assert_eq!(ran.stdout.matches("■ settled").count(), 8, "{}", ran.stdout);
    assert_eq!(ran.stdout.matches("as it should").count(), 8 + 9, "{}", ran.stdout);
    assert!(!ran.stdout.contains('\u{1b}'), "no colours where there is no terminal");
}

#[tokio::test]
async fn the_readmes_saga_runs_as_it_is_written() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let (_, rest) = page.split_once("-d '").unwrap();
    let (body, _) = rest.split_once("\n}'").unwrap();
    let body: Value = serde_json::from_str(&format!("{body}\n}}")).unwrap();

    let mut demo = command(&["demo", "--serve"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let first = lines.next_line().await.unwrap().unwrap();
    let url = first.split_whitespace().find(|word| word.starts_with("http://")).unwrap().trim_end_matches(',');
    let last = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("ctrl-c") {
                return;
            }
        }
        panic!("the demo ended by itself");
    };
    tokio::time::timeout(Duration::from_secs(60), last).await.expect("the stories end");

    let client = Client::new(url);
    assert_eq!(client.run(&body).await.status, Status::Succeeded);
    let mut declined = body;
    declined["definition"]["steps"][1]["action"]["body"]["card"] = json!("expired");
    assert_eq!(client.run(&declined).await.status, Status::Compensated);

    let pid = Pid::from_raw(i32::try_from(demo.id().unwrap()).unwrap());
    kill(pid, Signal::SIGINT).unwrap();
    let status = tokio::time::timeout(Duration::from_secs(30), demo.wait()).await.expect("ctrl-c ends it").unwrap();
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn exit_codes_tell_what_became_of_a_transaction() {
    let participants = Participants::start().await;
    participants.on("/declined").refuses("card_declined");
    let world = World::with(Backend::Sqlite, participants).await;
    let url = world.node.url();
    let tx = async |arguments: &[&str]| {
        let mut all = vec!["tx", "--output", "json"];
        all.extend(arguments);
        run_with(&all, &[("SKALD_URL", &url)]).await
    };
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, steps: Value| {
        let path = folder.path().join(name);
        std::fs::write(&path, definition(&world.participants.url(), &steps).to_string()).unwrap();
        path.display().to_string()
    };
    let good = file("good.json", json!([step("a")]));
    let declined = file("declined.json", json!([step("a"), step("declined")]));

    let begun =
        tx(&["begin", &good, "--gid", "good", "--input", "{\"n\": 1}", "--label", "kind=test", "--wait", "20s"]).await;
    assert_eq!(begun.code, 0, "{}", begun.stderr);
    let view: Value = serde_json::from_str(&begun.stdout).unwrap();
    assert_eq!((&view["status"], &view["labels"]["kind"]), (&json!("succeeded"), &json!("test")));

    let refused = tx(&["begin", &declined, "--gid", "declined", "--input", "{\"n\": 1}", "--wait", "20s"]).await;
    assert_eq!(refused.code, 4, "{}{}", refused.stdout, refused.stderr);
    let watched = tx(&["watch", "declined"]).await;
    assert_eq!(watched.code, 4);
    let last: Value = serde_json::from_str(watched.stdout.lines().last().unwrap()).unwrap();
    assert_eq!((&last["type"], &last["status"]), (&json!("settled"), &json!("compensated")));

    let unknown = tx(&["show", "nobody"]).await;
    assert_eq!((unknown.code, unknown.stdout.as_str()), (3, ""));
    assert!(unknown.stderr.contains("unknown_gid"), "{}", unknown.stderr);
    assert_eq!(
        tx(&["begin", &good, "--gid", "good", "--input", "{\"n\": 2}"]).await.code,
        1,
        "another request, one gid"
    );
    assert_eq!(tx(&["show", "not a gid"]).await.code, 2);
    assert_eq!(tx(&["cancel", "good"]).await.code, 1, "it is committed");

    let open = tx(&["begin", "--open", "--timeout", "1m", "--gid", "open"]).await;
    assert_eq!(open.code, 0, "{}", open.stderr);
    assert_eq!(tx(&["cancel", "open", "--reason", "changed my mind", "--wait", "20s"]).await.code, 0);
    assert_eq!(tx(&["show", "open"]).await.code, 0);
    assert_eq!(run(&["tx", "--url", "http://127.0.0.1:1", "list"]).await.code, 1, "nobody listens there");
}

#[tokio::test]
async fn nobody_but_this_machine_is_listened_to_unless_it_is_said() {
    let refused = run(&["serve", "--listen", "0.0.0.0:0", "--database", "sqlite::memory:"]).await;
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("--insecure"), "{}", refused.stderr);
}

#[tokio::test]
async fn an_unmigrated_postgres_is_refused_with_the_command_that_helps() {
    let url = database::shared().await.empty().await.unwrap();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--database", &url];
    let refused = run(&serve).await;
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(refused.stderr.contains("skald migrate"), "{}", refused.stderr);
    for _ in 0..2 {
        let migrated = run(&["migrate", "--database", &url]).await;
        assert_eq!(migrated.code, 0, "{}", migrated.stderr);
    }
    let mut served = command(&serve).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(served.stderr.take().unwrap()).lines();
    let ready = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.starts_with("listening on http://127.0.0.1:") {
                return !line.ends_with(":0");
            }
        }
        false
    };
    assert!(tokio::time::timeout(Duration::from_secs(20), ready).await.expect("it listens"), "with its real port");
    served.kill().await.unwrap();
}

#[tokio::test]
async fn the_configuration_in_effect_names_its_sources_and_no_secret() {
    let environment = [("SKALD_DATABASE", "postgres://skald:hunter2@db/skald"), ("SKALD_LEASE", "3s")];
    let ran = run_with(&["config", "--output", "json", "--listen", "127.0.0.1:1"], &environment).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(!ran.stdout.contains("hunter2"), "{}", ran.stdout);
    let settings: Vec<Value> = serde_json::from_str(&ran.stdout).unwrap();
    let from = |key: &str| settings.iter().find(|setting| setting["key"] == key).unwrap()["from"].clone();
    assert_eq!(
        (from("lease"), from("listen"), from("drain")),
        (json!("SKALD_LEASE"), json!("--listen"), json!("default"))
    );
    let wrong = run_with(&["config"], &[("SKALD_LISTN", "127.0.0.1:1")]).await;
    assert_eq!(wrong.code, 2);
    assert!(
        wrong.stderr.contains("SKALD_LISTN") && wrong.stderr.contains("did you mean SKALD_LISTEN?"),
        "{}",
        wrong.stderr
    );
}

#[tokio::test]
async fn the_number_of_threads_is_taken_or_refused_with_what_it_must_be() {
    for wrong in ["0", "two", "", "100000"] {
        let ran = run_with(&["config"], &[("TOKIO_WORKER_THREADS", wrong)]).await;
        assert_eq!(ran.code, 2, "{wrong}: {}", ran.stderr);
        assert_eq!(ran.stderr, "error: TOKIO_WORKER_THREADS must be a whole number from 1 to 1024\n");
    }
    let database = Database::fresh(Backend::Sqlite).await;
    let mut counts = Vec::new();
    for threads in ["1", "9"] {
        let mut node = Node::new(database.url()).with_environment("TOKIO_WORKER_THREADS", threads);
        node.start().await;
        let tasks = format!("/proc/{}/task", node.pid().expect("a process"));
        counts.push(std::fs::read_dir(tasks).expect("its threads").count());
        assert!(node.terminate().await.success());
    }
    assert!(counts[1] >= counts[0] + 5, "{counts:?}");
}
