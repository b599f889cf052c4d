//! Participants in other languages, without any SDK: they keep the contract, and take part in a transaction while they are
//! killed.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use skald_protocol::Status;
use skald_tests::{Database, Node, World, cluster::run_with, eventually, promises};

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=";

const OTHER_KEY: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/participants"))
}

struct Service {
    program: &'static [&'static str],
    data: String,
    key: Option<&'static str>,
    child: Child,
    url: String,
}

impl Service {
    /// At any free port, or at the one that is given.
    fn start(program: &'static [&'static str], data: &Path, key: Option<&'static str>, port: &str) -> Self {
        let mut command = Command::new(program[0]);
        command
            .arg(folder().join(program[1]))
            .arg(port)
            .arg(data)
            .env_remove("SKALD_SIGNING_KEY")
            .stdout(Stdio::piped());
        if let Some(key) = key {
            command.env("SKALD_SIGNING_KEY", key);
        }
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program[0]));
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("stdout")).read_line(&mut line).expect("a line");
        let url = line.trim().rsplit(' ').next().expect("a URL").to_owned();
        assert!(url.starts_with("http://"), "{line}");
        Self { program, data: data.display().to_string(), key, child, url }
    }

    fn stock(data: &Path, key: Option<&'static str>) -> Self {
        Self::start(&["python3", "stock.py"], data, key, "0")
    }

    fn seats(data: &Path, key: Option<&'static str>) -> Self {
        Self::start(&["node", "seats.mjs"], data, key, "0")
    }

    /// Killed, and started again on what it had on disk.
    fn restart(&mut self) {
        self.stop();
        let port = self.url.rsplit(':').next().expect("a port").to_owned();
        let again = Self::start(self.program, Path::new(&self.data), self.key, &port);
        *self = again;
    }

    fn stop(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    async fn state(&self) -> Value {
        let answer = skald_tests::client::http().get(&self.url).send().await.expect("it answers");
        answer.json().await.expect("JSON")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn participants_in_python_and_in_node_keep_the_contract() {
    let data = tempfile::tempdir().expect("a folder");
    let stock = Service::stock(&data.path().join("stock.db"), Some(KEY));
    let seats = Service::seats(&data.path().join("seats.log"), Some(KEY));
    let definition = folder().join("trip.json").display().to_string();
    for (service, step, body, refused) in [
        (&stock, "provisions", r#"{"quantity": 1}"#, r#"{"quantity": 2000}"#),
        (&seats, "hold", r#"{"seats": 1}"#, r#"{"seats": 2000}"#),
    ] {
        let before = service.state().await;
        let arguments = ["participant", "check", "--url", &service.url, "--definition", &definition, "--step", step];
        let bodies = ["--body", body, "--refused-body", refused, "--observe", &service.url, "--signing-key", KEY];
        let checked = run_with(&[&arguments[..], &bodies[..]].concat(), &[]).await;
        assert_eq!(checked.code, 0, "{}{}", checked.stdout, checked.stderr);
        assert!(!checked.stdout.contains("not checked"), "{}", checked.stdout);
        assert_eq!(service.state().await, before);
    }
}

promises! {
    async fn a_trip_over_python_and_node_is_made_or_given_back_while_both_are_killed(backend: Backend) {
        let world = World::start(backend).await;
        let data = tempfile::tempdir().expect("a folder");
        let mut stock = Service::stock(&data.path().join("stock.db"), None);
        let mut seats = Service::seats(&data.path().join("seats.log"), None);
        let source = std::fs::read_to_string(folder().join("trip.json")).expect("a definition");
        let mut definition: Value = serde_json::from_str(&source).expect("JSON");
        definition["services"] = json!({"seats": {"url": seats.url}, "stock": {"url": stock.url}});

        let begin = |count: i64| json!({"definition": definition, "input": {"seats": count}});
        let mut gids = Vec::new();
        for _ in 0..20 {
            gids.push(world.client.begin(&begin(2)).await);
        }
        stock.restart();
        seats.restart();
        for gid in &gids {
            world.client.reaches(gid, Status::Succeeded).await;
        }
        assert_eq!((stock.state().await, seats.state().await), (json!({"reserved": 40}), json!({"held": 0, "sold": 40})));

        // Nothing is left there, so what was held here is given back, also where its holder is killed meanwhile.
        let mut wide = begin(9);
        wide["definition"]["steps"][1]["action"]["body"]["quantity"] = json!(5_000);
        let gid = world.client.begin(&wide).await;
        seats.restart();
        world.client.reaches(&gid, Status::Compensated).await;
        eventually("all is given back", Duration::from_secs(10), async || {
            (seats.state().await == json!({"held": 0, "sold": 40})).then_some(())
        })
        .await;
        assert_eq!(stock.state().await, json!({"reserved": 40}));
    }

    async fn calls_to_a_configured_service_are_signed_by_the_new_and_the_old_key_and_no_others_are(backend: Backend) {
        let data = tempfile::tempdir().expect("a folder");
        let stock = Service::stock(&data.path().join("stock.db"), Some(KEY));
        let seats = Service::seats(&data.path().join("seats.log"), Some(OTHER_KEY));
        let source = std::fs::read_to_string(folder().join("trip.json")).expect("a definition");
        let definition: Value = serde_json::from_str(&source).expect("JSON");
        let database = Database::fresh(backend).await;
        let mut node = Node::new(database.url());
        for (name, value) in [
            ("SKALD_SERVICES__STOCK__URL", stock.url.as_str()),
            ("SKALD_SERVICES__STOCK__SIGNING", r#"["new_key", "old_key"]"#),
            ("SKALD_SERVICES__SEATS__URL", &seats.url),
            ("SKALD_SERVICES__SEATS__SIGNING", r#"["new_key", "old_key"]"#),
            ("SKALD_SECRET_NEW_KEY", OTHER_KEY),
            ("SKALD_SECRET_OLD_KEY", KEY),
        ] {
            node = node.with_environment(name, value);
        }
        node.start().await;
        let client = node.client();
        let view = client.run(&json!({"definition": definition, "input": {"seats": 1}})).await;
        assert_eq!(view.status, Status::Succeeded, "{view:?}");

        // Where a definition says where a service is, nothing is signed: its author could send the call on.
        let mut elsewhere = definition;
        elsewhere["services"] = json!({"seats": {"url": "http://seats.invalid"}, "mine": {"url": stock.url}});
        elsewhere["steps"][1]["service"] = json!("mine");
        let view = client.run(&json!({"definition": elsewhere, "input": {"seats": 1}})).await;
        assert_eq!((view.status, view.error.expect("an error").code.as_str()), (Status::Compensated, "unsigned"));
    }
}
