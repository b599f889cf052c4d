//! Published workflows: a version never changes, a transaction begins by name, and configuration says where services are.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use skald::store::{Options, Publish, SqlStore, Store, StoredPlan};
use skald_engine::{Plan, definition::compile, plan::FORMAT};
use skald_protocol::{Status, WorkflowRef};
use skald_tests::{
    Answer, Backend, Client, Node, Participants, World, client,
    definition::{definition, step, with_gid},
    eventually, promises,
    world::Database,
};
use tokio::{sync::Notify, time::timeout};

fn order(url: &str, version: &str, steps: &[&str]) -> Value {
    let steps: Vec<_> = steps.iter().map(|name| step(name)).collect();
    let mut order = definition(url, &json!(steps));
    order["name"] = json!("order");
    order["version"] = json!(version);
    order
}

fn named(gid: &str) -> Value {
    with_gid(json!({"workflow": "order", "input": {"n": 1}}), gid)
}

fn told(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.code())
}

/// The pointers of a problem's faults.
fn pointers(answer: &Answer) -> Vec<&str> {
    let faults = answer.body["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
    faults.iter().filter_map(|fault| fault["pointer"].as_str()).collect()
}

async fn versions(client: &Client, query: &str) -> Vec<String> {
    let answer = client.get(&format!("/v1/workflows{query}")).await;
    let items = answer.body["items"].as_array().unwrap_or_else(|| panic!("no list: {}", answer.body)).clone();
    items.iter().map(|item| format!("{}@{}", item["name"], item["version"]).replace('"', "")).collect()
}

promises! {
    async fn a_version_is_published_once_and_never_changes(backend: Backend) {
        let world = World::start(backend).await;
        let first = order(&world.participants.url(), "1.0.0", &["a"]);
        let published = world.client.publish(&first).await;
        assert_eq!(published.status, 201, "{}", published.body);
        let again = world.client.publish(&first).await;
        assert_eq!((again.status, &again.body), (200, &published.body));

        // The same content, spelt otherwise.
        let spelt = serde_json::to_string_pretty(&first).expect("JSON").replace("\"order\"", "\"\\u006frder\"");
        let url = format!("{}/v1/workflows/order/1.0.0", world.node.url());
        let respelt = client::http().put(&url).header("content-type", "application/json").body(spelt);
        assert_eq!(respelt.send().await.expect("an answer").status().as_u16(), 200);

        let other = world.client.publish(&order(&world.participants.url(), "1.0.0", &["a", "b"])).await;
        assert_eq!(told(&other), (409, "version_conflict"));
        let mut described = first.clone();
        described["description"] = json!("the same steps");
        assert_eq!(told(&world.client.publish(&described).await), (409, "version_conflict"));

        let read = world.client.get("/v1/workflows/order/1.0.0").await;
        assert_eq!((read.status, &read.body["definition"]), (200, &first));
        for member in ["name", "version", "digest", "plan_digest", "published_at"] {
            assert_eq!(read.body[member], published.body[member], "{member}");
        }
    }

    async fn a_begin_by_name_runs_the_latest_or_the_version_it_says(backend: Backend) {
        let world = World::start(backend).await;
        let url = world.participants.url();
        for (version, steps) in [("1.0.0", ["a"]), ("1.10.0", ["c"]), ("1.9.0", ["b"]), ("2.0.0-rc.1", ["d"])] {
            assert_eq!(world.client.publish(&order(&url, version, &steps)).await.status, 201);
        }
        let view = world.client.run(&named("latest")).await;
        assert_eq!(view.status, Status::Succeeded);
        assert_eq!(view.workflow.expect("a workflow").version, "1.10.0");
        assert_eq!(world.participants.effects("latest"), ["c action"]);
        let latest = world.client.get("/v1/workflows/order/latest").await;
        assert_eq!((&latest.body["version"], &latest.body["plan_digest"]), (&json!("1.10.0"), &json!(view.digest)));
        for (gid, version, effect) in [("one", "1.0.0", "a action"), ("candidate", "2.0.0-rc.1", "d action")] {
            let mut begin = named(gid);
            begin["version"] = json!(version);
            assert_eq!(world.client.run(&begin).await.workflow.expect("a workflow").version, version);
            assert_eq!(world.participants.effects(gid), [effect]);
        }
        let listed = world.client.get("/v1/transactions?workflow=order&gid=one").await;
        assert_eq!(listed.body["items"][0]["workflow"], json!({"name": "order", "version": "1.0.0"}));
    }

    async fn the_same_begin_is_the_same_transaction_also_after_a_newer_version(backend: Backend) {
        let world = World::start(backend).await;
        let url = world.participants.url();
        world.client.publish(&order(&url, "1.0.0", &["a"])).await;
        let first = world.client.run(&named("g")).await;
        world.client.publish(&order(&url, "2.0.0", &["b"])).await;
        let again = world.client.run(&named("g")).await;
        assert_eq!((again.workflow.expect("a workflow").version.as_str(), again.digest), ("1.0.0", first.digest));
        assert_eq!(world.participants.effects("g"), ["a action"]);
        let mut said = named("g");
        said["version"] = json!("1.0.0");
        let answer = world.client.post("/v1/transactions", &said).await;
        assert_eq!(told(&answer), (409, "gid_conflict"), "another request, though it means the same");
        assert_eq!(world.client.run(&named("h")).await.workflow.expect("a workflow").version, "2.0.0");
    }

    async fn labels_and_input_schema_are_those_of_the_published_definition(backend: Backend) {
        let world = World::start(backend).await;
        let mut order = order(&world.participants.url(), "1.0.0", &["a"]);
        order["labels"] = json!({"team": "red", "kind": "order"});
        order["input"] = json!({"type": "object", "required": ["total"], "properties": {"total": {"type": "integer"}}});
        assert_eq!(world.client.publish(&order).await.status, 201);
        let answer = world.client.post("/v1/transactions", &named("g")).await;
        assert_eq!(told(&answer), (422, "invalid_input"));
        assert_eq!(pointers(&answer), ["/input"]);
        let begin = json!({"gid": "g", "workflow": "order", "input": {"total": 1}, "labels": {"kind": "test"}});
        let view = world.client.run(&begin).await;
        assert_eq!(json!(view.labels), json!({"team": "red", "kind": "test"}));
    }

    async fn of_nodes_that_publish_one_version_at_once_exactly_one_wins(backend: Backend) {
        let world = World::start(backend).await;
        let mut second = world.another_node();
        let clients = match backend {
            Backend::Postgres => {
                second.start().await;
                [world.client.clone(), second.client()]
            }
            // One process holds a SQLite file.
            Backend::Sqlite => [world.client.clone(), world.client.clone()],
        };
        let url = world.participants.url();
        for round in 0..5 {
            let version = format!("1.0.{round}");
            let contents = [order(&url, &version, &["a"]), order(&url, &version, &["b"])];
            let asked = (0..8).map(|n| clients[n % 2].publish(&contents[n % 2]));
            let answers = join_all(asked).await;
            let count = |wanted: u16| answers.iter().filter(|answer| answer.status == wanted).count();
            assert_eq!((count(201), count(200), count(409)), (1, 3, 4), "{answers:?}");
            let winner = answers.iter().position(|answer| answer.status == 201).expect("a winner") % 2;
            for client in &clients {
                let read = client.get(&format!("/v1/workflows/order/{version}")).await;
                assert_eq!(read.body["definition"], contents[winner]);
                let view = client.run(&json!({"workflow": "order", "input": null})).await;
                assert_eq!(view.workflow.expect("a workflow").version, version, "each node begins the newest");
                assert_eq!(json!(view.digest), read.body["plan_digest"]);
            }
        }
    }

    async fn a_workflow_published_before_a_kill_begins_after_it(backend: Backend) {
        let mut world = World::start(backend).await;
        let order = order(&world.participants.url(), "1.0.0", &["a", "b"]);
        assert_eq!(world.client.publish(&order).await.status, 201);
        world.node.kill();
        world.node.start().await;
        assert_eq!(world.client.publish(&order).await.status, 200);
        world.participants.on("/b").is_held();
        let gid = world.client.begin(&named("g")).await;
        eventually("b is called", Duration::from_secs(10), || async {
            world.participants.arrivals(&gid).iter().any(|call| call.branch == "b").then_some(())
        })
        .await;
        world.node.kill();
        world.participants.behave();
        world.node.start().await;
        let view = world.client.reaches(&gid, Status::Succeeded).await;
        assert_eq!(view.workflow.expect("a workflow").version, "1.0.0");
        assert_eq!(world.participants.effects(&gid), ["a action", "b action"]);
        assert_eq!(world.client.run(&named("g")).await.gid.as_str(), "g", "the same begin, by a node that never saw it");
    }

    async fn a_service_s_address_is_that_of_the_configuration(backend: Backend) {
        let participants = Participants::start().await;
        let database = Database::fresh(backend).await;
        let mut node = Node::new(database.url()).with_environment("SKALD_SERVICES__SHOP__URL", &participants.url());
        node.start().await;
        let client = node.client();
        assert_eq!(client.publish(&order("http://shop.invalid", "1.0.0", &["a"])).await.status, 201);
        let view = client.run(&named("g")).await;
        assert_eq!(view.status, Status::Succeeded);
        assert_eq!(participants.effects("g"), ["a action"]);
        let read = client.get("/v1/workflows/order/1.0.0").await;
        assert_eq!(read.body["definition"]["services"]["shop"]["url"], "http://shop.invalid", "one text for all");
    }

    async fn what_expressions_read_as_config_is_the_server_s_as_it_stood_at_the_begin(backend: Backend) {
        let participants = Participants::start().await;
        let database = Database::fresh(backend).await;
        let in_region = |region| Node::new(database.url()).with_environment("SKALD_WORKFLOW_CONFIG__REGION", region);
        let mut order = order(&participants.url(), "1.0.0", &["a", "b"]);
        order["steps"][0]["action"]["path"] = json!("/a/${config.region}");
        order["steps"][1]["action"]["path"] = json!("/b/${config.region}");
        participants.on("/b/eu").is_held();
        let mut node = in_region("eu");
        node.start().await;
        let client = node.client();
        assert_eq!(client.publish(&order).await.status, 201);
        let gid = client.begin(&named("g")).await;
        eventually("b is called", Duration::from_secs(10), || async {
            participants.arrivals(&gid).iter().any(|call| call.branch == "b").then_some(())
        })
        .await;
        node.kill();
        participants.behave();
        let mut other = in_region("us");
        other.start().await;
        let client = other.client();
        client.reaches(&gid, Status::Succeeded).await;
        let paths: Vec<_> = participants.arrivals(&gid).into_iter().map(|call| call.path).collect();
        assert!(paths.iter().all(|path| path.ends_with("/eu")), "{paths:?}");
    }

    async fn a_secret_is_published_by_its_name_and_travels_only_where_the_server_lets_it(backend: Backend) {
        let participants = Participants::start().await;
        let thief = Participants::start().await;
        let database = Database::fresh(backend).await;
        let serve = |hosts: &str| {
            Node::new(database.url())
                .with_environment("SKALD_SECRET_PAY_TOKEN", "hunter2")
                .with_environment("SKALD_SECRETS__PAY_TOKEN__HOSTS", &format!("[\"{hosts}\"]"))
        };
        let ways = [
            json!({"auth": {"bearer": {"secret": "pay_token"}}}),
            json!({"auth": {"basic": {"username": "u", "password": {"secret": "pay_token"}}}}),
            json!({"auth": {"header": {"name": "X-Key", "value": {"secret": "pay_token"}}}}),
            json!({"headers": {"X-Key": {"secret": "pay_token"}}}),
        ];
        let with = |url: &str, version: &str, way: &Value| {
            let mut order = order(url, version, &["a"]);
            let service = order["services"]["shop"].as_object_mut().expect("a service");
            service.extend(way.as_object().expect("members").clone());
            order
        };
        let mut node = serve(&participants.url());
        node.start().await;
        let client = node.client();
        for (n, way) in ways.iter().enumerate() {
            let inline = json!({"definition": with(&thief.url(), "1.0.0", way)});
            let begun = client.post("/v1/transactions", &inline).await;
            let published = client.publish(&with(&thief.url(), "1.0.0", way)).await;
            for (refused, base) in [(begun, "/definition"), (published, "")] {
                assert_eq!(told(&refused), (403, "secret_withheld"), "{}", refused.body);
                let pointer = refused.body["errors"][0]["pointer"].as_str().expect("a pointer").to_owned();
                assert!(pointer.starts_with(&format!("{base}/services/shop/")), "{pointer}");
                let text = refused.body.to_string();
                assert!(!text.contains("SKALD_") && !text.contains(&participants.url()), "{text}");
            }
            let version = format!("1.0.{n}");
            let order = with(&participants.url(), &version, way);
            assert_eq!(client.publish(&order).await.status, 201);
            let gid = format!("g{n}");
            let begin = json!({"gid": gid, "workflow": "order", "version": version});
            assert_eq!(client.run(&begin).await.status, Status::Succeeded);
            let headers = &participants.arrivals(&gid)[0].headers;
            assert!(headers.values().any(|value| value.contains("hunter2") || value.contains("dTpodW50ZXIy")), "{way}");
            for path in [format!("/v1/workflows/order/{version}"), format!("/v1/transactions/{gid}/events")] {
                let read = client.get(&path).await;
                assert!(read.status == 200 && !read.body.to_string().contains("hunter2"), "{path}: {}", read.body);
            }
        }
        node.kill();

        // What was published stays published, and is not begun where the secret may not go any more.
        let mut node = serve("elsewhere.example");
        node.start().await;
        let client = node.client();
        let order = with(&participants.url(), "1.0.0", &ways[0]);
        assert_eq!(client.publish(&order).await.status, 200);
        let begin = json!({"workflow": "order", "version": "1.0.0"});
        let refused = client.post("/v1/transactions", &begin).await;
        assert_eq!(told(&refused), (403, "secret_withheld"), "{}", refused.body);
        let same = json!({"gid": "g0", "workflow": "order", "version": "1.0.0"});
        assert_eq!(client.run(&same).await.status, Status::Succeeded, "it was begun before");
        assert_eq!(thief.arrived(), 0);
    }

    async fn what_was_published_runs_on_where_a_newer_compiler_would_refuse_it(backend: Backend) {
        let participants = Participants::start().await;
        let database = Database::fresh(backend).await;
        let mut order = order(&participants.url(), "1.0.0", &["a"]);
        order["labels"] = json!({"team": "red"});
        order["input"] = json!({"type": "object"});
        let encoded = compile(&order.to_string()).expect("a definition").plan.encode();
        order["steps"][0]["of_an_older_language"] = json!(true);
        compile(&order.to_string()).expect_err("no definition any more");
        let plan = StoredPlan { digest: Plan::digest(&encoded), format: FORMAT, definition: None, plan: encoded };
        let digest = Sha256::digest(serde_json_canonicalizer::to_vec(&order).expect("JSON")).into();
        let workflow = WorkflowRef { name: "order".into(), version: "1.0.0".into() };
        let store = SqlStore::connect(database.url(), Options::default()).await.expect("a database");
        store.migrate().await.expect("a schema");
        store.publish(&Publish { workflow, digest, definition: order.to_string(), plan }).await.expect("published");
        store.close().await;
        // With it goes the lock on a SQLite file.
        drop(store);

        let mut node = Node::new(database.url());
        node.start().await;
        let client = node.client();
        let again = client.publish(&order).await;
        assert_eq!(again.status, 200, "{}", again.body);
        let view = client.run(&named("g")).await;
        assert_eq!((view.status, json!(view.labels)), (Status::Succeeded, json!({"team": "red"})));
        assert_eq!(participants.effects("g"), ["a action"]);
        let wrong = client.post("/v1/transactions", &json!({"workflow": "order", "input": 5})).await;
        assert_eq!(told(&wrong), (422, "invalid_input"));
        order["version"] = json!("1.0.1");
        assert_eq!(told(&client.publish(&order).await), (422, "invalid_definition"));
    }

    async fn what_was_acknowledged_stands_after_a_kill_in_the_middle_of_publishing(backend: Backend) {
        let mut world = World::start(backend).await;
        let url = world.participants.url();
        let all: Vec<_> = (0..200).map(|n| order(&url, &format!("1.0.{n}"), &["a"])).collect();
        let known = Arc::new(Notify::new());
        let asked = all.iter().map(|order| {
            let (client, order, known) = (world.client.clone(), order.clone(), known.clone());
            tokio::spawn(async move {
                let path = format!("/v1/workflows/order/{}", order["version"].as_str().expect("a version"));
                let acknowledged = client.try_put(&path, &order).await.is_ok_and(|answer| answer.status == 201);
                if acknowledged {
                    known.notify_one();
                }
                acknowledged
            })
        });
        let asked: Vec<_> = asked.collect();
        timeout(Duration::from_secs(60), known.notified()).await.expect("a publication is acknowledged");
        world.node.kill();
        let mut acknowledged = Vec::new();
        for one in asked {
            acknowledged.push(one.await.expect("a task"));
        }
        world.node.start().await;
        for (order, acknowledged) in all.iter().zip(acknowledged) {
            let status = world.client.publish(order).await.status;
            assert!(status == 200 || (status == 201 && !acknowledged), "{status} {acknowledged} {}", order["version"]);
        }
    }

    async fn lists_go_by_pages(backend: Backend) {
        let world = World::start(backend).await;
        let url = world.participants.url();
        assert!(versions(&world.client, "").await.is_empty());
        for version in ["1.0.0", "1.1.0-a", "0.1.0"] {
            for name in ["order", "booking", "transfer"] {
                let mut one = order(&url, version, &["a"]);
                one["name"] = json!(name);
                assert_eq!(world.client.publish(&one).await.status, 201);
            }
        }
        assert_eq!(versions(&world.client, "").await, ["booking@1.0.0", "order@1.0.0", "transfer@1.0.0"]);
        assert_eq!(versions(&world.client, "/order").await, ["order@1.0.0", "order@0.1.0", "order@1.1.0-a"]);
        for (list, kind) in [("", "names"), ("/order", "versions")] {
            let (mut seen, mut cursor) = (Vec::new(), Some(String::new()));
            while let Some(next) = cursor {
                let page = world.client.get(&format!("/v1/workflows{list}?limit=2{next}")).await.body;
                seen.extend(page["items"].as_array().expect("items").clone());
                cursor = page["next_cursor"].as_str().map(|next| format!("&cursor={next}"));
            }
            assert_eq!(seen.len(), 3, "{kind}");
        }
    }
}

/// `(method, path, body, status, code)`.
fn bad(url: &str) -> Vec<(Method, String, Option<String>, u16, &'static str)> {
    let good = order(url, "1.0.0", &["a"]);
    let text = good.to_string();
    let with = |member: &str, value: Value| {
        let mut order = good.clone();
        order[member] = value;
        order.to_string()
    };
    let puts = [
        (String::new(), 422, "invalid_definition"),
        (text[..text.len() - 1].to_owned(), 422, "invalid_definition"),
        (text[..text.len() / 2].to_owned(), 422, "invalid_definition"),
        (format!("{text} {text}"), 422, "invalid_definition"),
        ("null".into(), 422, "invalid_definition"),
        ("[]".into(), 422, "invalid_definition"),
        ("\"order\"".into(), 422, "invalid_definition"),
        ("{}".into(), 422, "invalid_definition"),
        (json!({"definition": good}).to_string(), 422, "invalid_definition"),
        (text.replacen("\"dsl\"", "\"dsl\": \"1.0\", \"dsl\"", 1), 422, "invalid_definition"),
        (with("name", json!(5)), 422, "invalid_definition"),
        (with("name", json!("Order")), 422, "invalid_definition"),
        (with("name", json!("o\0")), 422, "invalid_definition"),
        (with("name", json!("orders")), 422, "invalid_request"),
        (with("version", json!("1.0.1")), 422, "invalid_request"),
        (with("version", json!("1.0")), 422, "invalid_definition"),
        (with("dsl", json!("2.0")), 422, "invalid_definition"),
        (with("steps", json!([])), 422, "invalid_definition"),
        (with("steps", json!({"a": 1})), 422, "invalid_definition"),
        (with("description", json!("x".repeat(257 << 10))), 422, "definition_too_large"),
        (" ".repeat(2 << 20), 413, "body_too_large"),
        (
            with("x-deep", json!(null)).replace("null", &format!("{}{}", "[".repeat(64), "]".repeat(64))),
            400,
            "too_deep",
        ),
        ("[".repeat(200_000), 400, "too_deep"),
    ];
    let mut all: Vec<_> = puts
        .into_iter()
        .map(|(body, status, code)| (Method::PUT, "/v1/workflows/order/1.0.0".to_owned(), Some(body), status, code))
        .collect();
    let long = "n".repeat(10_000);
    for path in ["/Order/1.0.0", "/order/1.0", "/order/latest", "/a%00b/1.0.0", "/order/1.0.0%00", "/%ff/1.0.0", "/-/-"]
    {
        all.push((Method::PUT, format!("/v1/workflows{path}"), Some(text.clone()), 422, "invalid_request"));
        all.push((Method::GET, format!("/v1/workflows{path}"), None, 404, "unknown_workflow"));
    }
    all.push((Method::PUT, format!("/v1/workflows/{long}/1.0.0"), Some(text.clone()), 422, "invalid_request"));
    let put = |path: &str, code| (Method::PUT, path.to_owned(), Some(text.clone()), 400, code);
    all.push(put("/v1/workflows/order/1.0.0?dry_run=true", "invalid_query"));
    let get = |path: &str, status, code| (Method::GET, format!("/v1/workflows{path}"), None, status, code);
    all.extend([
        get("/order", 404, "unknown_workflow"),
        get("/Order", 404, "unknown_workflow"),
        get("/a%00b", 404, "unknown_workflow"),
        get("/order/1.0.0", 404, "unknown_workflow"),
        get("/order/1.0.0?full=true", 400, "invalid_query"),
        get("/order/1.0.0/steps", 404, "unknown_route"),
        get("?limit=0", 400, "invalid_query"),
        get("?limit=501", 400, "invalid_query"),
        get("?name=order", 400, "invalid_query"),
        get("?cursor=x", 400, "bad_cursor"),
        get("?cursor=dzpBAGI", 400, "bad_cursor"),
        get("/order?cursor=djoxLjA", 400, "bad_cursor"),
        (Method::DELETE, "/v1/workflows/order/1.0.0".into(), None, 405, "method_not_allowed"),
        (Method::POST, "/v1/workflows".into(), Some("{}".into()), 405, "method_not_allowed"),
    ]);
    let post =
        |begin: Value| (Method::POST, "/v1/transactions".to_owned(), Some(begin.to_string()), 422, "unknown_workflow");
    all.extend([
        post(json!({"workflow": "order"})),
        post(json!({"workflow": "order", "version": "latest"})),
        post(json!({"workflow": "order", "version": "1.0.0\0"})),
        post(json!({"workflow": "o\0", "gid": "g"})),
        post(json!({"workflow": ""})),
        post(json!({"workflow": long, "version": "1.0.0"})),
    ]);
    all
}

promises! {
    async fn a_bad_definition_name_or_version_is_a_clear_problem_and_nothing_is_stored(backend: Backend) {
        let world = World::start(backend).await;
        let mut wrong = Vec::new();
        for (method, path, body, status, code) in bad(&world.participants.url()) {
            let mut request = client::http().request(method.clone(), format!("{}{path}", world.node.url()));
            let shown: String = format!("{path} {}", body.as_deref().unwrap_or_default()).chars().take(120).collect();
            if let Some(body) = body {
                request = request.header("content-type", "application/json").body(body);
            }
            let response = request.send().await.expect("an answer");
            let got = response.status().as_u16();
            let problem: Value = response.json().await.unwrap_or_default();
            let is_told = problem["detail"].as_str().is_some_and(|detail| !detail.is_empty() && detail.len() < 500);
            if (got, problem["code"].as_str()) != (status, Some(code)) || !is_told {
                wrong.push(format!("{method} {shown}: {got} and not {status} {code}: {problem}"));
            }
        }
        assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
        for list in ["/v1/workflows", "/v1/transactions"] {
            assert_eq!(world.client.get(list).await.body, json!({"items": [], "next_cursor": null}));
        }
    }
}

#[tokio::test]
async fn all_faults_come_at_once_with_pointers_into_the_definition() {
    let world = World::start(Backend::Sqlite).await;
    let mut faulty = order(&world.participants.url(), "1.0.0", &["a", "a"]);
    faulty["timeoutt"] = json!("5s");
    let answer = world.client.try_put("/v1/workflows/orders/1.0.1", &faulty).await.expect("an answer");
    assert_eq!(told(&answer), (422, "invalid_definition"));
    let found = pointers(&answer);
    for pointer in ["/timeoutt", "/steps/1/name", "/name", "/version"] {
        assert!(found.contains(&pointer), "{pointer}: {}", answer.body);
    }
}

#[tokio::test]
async fn a_fault_says_its_line_and_column_in_the_definition_as_it_was_sent() {
    let world = World::start(Backend::Sqlite).await;
    let mut faulty = order(&world.participants.url(), "1.0.0", &["a"]);
    faulty["timeoutt"] = json!("5s");
    let column = faulty.to_string().find("\"timeoutt\"").map(|at| at + 1);
    let published = world.client.try_put("/v1/workflows/orders/1.0.0", &faulty).await.expect("an answer");
    let begun = world.client.post("/v1/transactions", &json!({"definition": faulty})).await;
    for (answer, pointer) in [(published, "/timeoutt"), (begun, "/definition/timeoutt")] {
        assert_eq!(told(&answer), (422, "invalid_definition"));
        let faults = answer.body["errors"].as_array().expect("faults");
        assert!(faults.iter().all(|fault| fault["line"] == 1 && fault["column"].is_u64()), "{}", answer.body);
        let found = faults.iter().find(|fault| fault["pointer"] == pointer).expect("the fault");
        assert_eq!(found["column"].as_u64(), column.map(|column| column as u64), "{found}");
    }
}

#[tokio::test]
async fn warnings_are_told_and_do_not_keep_a_definition_back() {
    let world = World::start(Backend::Sqlite).await;
    let mut order = order(&world.participants.url(), "1.0.0", &["a"]);
    order["services"]["idle"] = json!({"url": "http://idle"});
    for status in [201, 200] {
        let answer = world.client.publish(&order).await;
        assert_eq!((answer.status, &answer.body["warnings"][0]["code"]), (status, &json!("W305")), "{}", answer.body);
    }
}

#[tokio::test]
async fn a_version_that_was_never_published_is_told_with_the_latest() {
    let world = World::start(Backend::Sqlite).await;
    world.client.publish(&order(&world.participants.url(), "1.2.0", &["a"])).await;
    let begin = json!({"workflow": "order", "version": "2.0.0"});
    for (answer, status) in [
        (world.client.post("/v1/transactions", &begin).await, 422),
        (world.client.get("/v1/workflows/order/2.0.0").await, 404),
    ] {
        assert_eq!(told(&answer), (status, "unknown_workflow"));
        assert!(answer.body["detail"].as_str().is_some_and(|detail| detail.contains("`1.2.0`")), "{}", answer.body);
    }
    let including = |workflow: &str| {
        let mut including = order(&world.participants.url(), "1.0.0", &["a"]);
        including["name"] = json!("including");
        including["steps"] = json!([{"name": "sub", "saga": {"workflow": workflow, "version": "2.0.0"}}]);
        including
    };
    for (workflow, message, help) in [
        ("order", "there is no version `2.0.0` of the workflow `order`", "Its latest is `1.2.0`."),
        ("other", "there is no workflow `other`", "Publish it first, or hand its file over beside this one."),
    ] {
        let answer =
            world.client.try_put("/v1/workflows/including/1.0.0", &including(workflow)).await.expect("an answer");
        assert_eq!(told(&answer), (422, "invalid_definition"));
        let fault = &answer.body["errors"][0];
        let found = (&fault["code"], &fault["message"], &fault["help"]);
        assert_eq!(found, (&json!("E102"), &json!(message), &json!(help)), "{}", answer.body);
    }
}
