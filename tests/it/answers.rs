//! What becomes of an answer that is no output: it leaves a word, and a step's `output` takes its part of a large one.

use axum::{Router, extract::State, http::Uri};
use serde_json::{Value, json};
use skald_protocol::Status;
use skald_tests::{
    World,
    definition::{begin, definition, step},
    promises,
};

const KIB: usize = 1 << 10;
const LARGE: &str = "the answer is over 256 KiB, or over 4 MiB where an `output` takes its part of it";

type Answers = &'static [(&'static str, fn() -> String)];

/// Answers each path with its own text.
async fn service(answers: Answers) -> String {
    async fn answer(State(answers): State<Answers>, uri: Uri) -> String {
        answers.iter().find(|(path, _)| *path == uri.path()).map_or_else(|| "{}".to_owned(), |(_, text)| text())
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let router = Router::new().fallback(answer).with_state(answers);
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

fn mapped(name: &str) -> Value {
    let mut step = step(name);
    step["output"] = json!("${self.response.body.id}");
    step
}

promises! {
    async fn an_answer_that_is_no_output_leaves_a_word(backend: Backend) {
        let world = World::start(backend).await;
        let url = service(&[
            ("/broken", || "{\"id\": ".to_owned()),
            ("/deep", || format!("{}{}", "[".repeat(65), "]".repeat(65))),
            ("/large", || format!("\"{}\"", "x".repeat(300 * KIB))),
        ])
        .await;
        let steps = json!([step("broken"), step("deep"), step("large"), step("good")]);
        let view = world.client.run(&begin(&definition(&url, &steps))).await;
        assert_eq!(view.status, Status::Succeeded);
        let words: Vec<_> = view.branches.iter().map(|branch| {
            let operation = &branch.operations[0];
            let error = operation.last_error.as_ref();
            (operation.output.is_some(), error.map(|error| (error.code.as_str(), error.message.as_deref().unwrap_or_default())))
        }).collect();
        assert_eq!(words, [
            (false, Some(("output_dropped", "the answer is not JSON"))),
            (false, Some(("output_dropped", "the answer nests deeper than 64 levels"))),
            (false, Some(("output_dropped", LARGE))),
            (true, None),
        ]);
        let page = world.client.get(&format!("/v1/transactions/{}/events?limit=1000", view.gid)).await.body;
        let told: Vec<_> = page["items"].as_array().expect("a list").iter()
            .filter(|event| event["type"] == "operation_succeeded")
            .map(|event| event["output_error"]["code"].as_str())
            .collect();
        assert_eq!(told, [Some("output_dropped"), Some("output_dropped"), Some("output_dropped"), None]);
    }

    async fn an_output_takes_its_part_of_a_large_answer(backend: Backend) {
        let world = World::start(backend).await;
        let url = service(&[
            ("/large", || format!(r#"{{"id": 0.5, "rest": "{}"}}"#, "x".repeat(3 * KIB * KIB))),
            ("/over", || format!(r#"{{"id": 7, "rest": "{}"}}"#, "x".repeat(4 * KIB * KIB))),
        ])
        .await;
        let view = world.client.run(&begin(&definition(&url, &json!([mapped("large")])))).await;
        assert_eq!(view.status, Status::Succeeded);
        let operation = &view.branches[0].operations[0];
        assert_eq!(operation.output.as_ref().expect("an output").text(), "0.5");
        let view = world.client.run(&begin(&definition(&url, &json!([mapped("over")])))).await;
        assert_eq!(view.status, Status::Compensated);
        let error = view.error.expect("why");
        assert_eq!(error.code, "expression_failed");
        assert!(error.message.as_ref().is_some_and(|why| why.ends_with(LARGE)), "{error:?}");
    }
}
