//! Pictures over HTTP and on the command line: of a published workflow, and of what became of a transaction.

use serde_json::json;
use skald_protocol::Status;
use skald_tests::{
    World, client,
    cluster::run_with,
    definition::{begin, definition, pivot, retriable, step, with_gid},
    promises,
};

async fn drawn(world: &World, path: &str, accept: &str) -> (u16, String, String) {
    let url = format!("{}{path}", world.node.url());
    let answer = client::http().get(url).header("accept", accept).send().await.expect("an answer");
    let media = answer.headers()["content-type"].to_str().expect("text").to_owned();
    (answer.status().as_u16(), media, answer.text().await.expect("text"))
}

promises! {
    async fn a_workflow_and_a_transaction_are_drawn_in_the_form_that_is_asked_for(backend: Backend) {
        let world = World::start(backend).await;
        let steps = json!([step("reserve"), pivot("pay"), retriable("mail")]);
        let definition = definition(&world.participants.url(), &steps);
        assert_eq!(world.client.publish(&definition).await.status, 201);
        for version in ["1.0.0", "latest"] {
            let path = format!("/v1/workflows/promise/{version}/graph");
            let (status, media, text) = drawn(&world, &path, "*/*").await;
            assert_eq!((status, media.as_str()), (200, "text/vnd.mermaid; charset=utf-8"));
            assert!(text.contains("flowchart TD") && text.contains("n1{{\"pay<br/>shop · pivot\"}}"), "{text}");
        }
        let path = "/v1/workflows/promise/1.0.0/graph";
        let (_, media, plain) = drawn(&world, path, "text/plain").await;
        assert!(media == "text/plain; charset=utf-8" && plain.contains("flowchart TD"), "{media}");
        let (_, media, dot) = drawn(&world, path, "text/html, text/vnd.graphviz;q=0.9").await;
        assert!(media.starts_with("text/vnd.graphviz") && dot.starts_with("digraph \"promise 1.0.0\""), "{media} {dot}");

        world.participants.on("/pay").refuses("no");
        world.client.begin(&with_gid(begin(&definition), "drawn")).await;
        world.client.reaches("drawn", Status::Compensated).await;
        let (status, _, text) = drawn(&world, "/v1/transactions/drawn/graph", "*/*").await;
        assert_eq!(status, 200);
        for told in ["reserve<br/>shop<br/>undone", "class n1 refused", "class n2 skipped"] {
            assert!(text.contains(told), "{told}: {text}");
        }
        for (path, status, code) in [
            ("/v1/transactions/nobody/graph", 404, "unknown_gid"),
            ("/v1/workflows/promise/9.9.9/graph", 404, "unknown_workflow"),
            ("/v1/transactions/drawn/graph?x=1", 400, "invalid_query"),
        ] {
            let answer = world.client.get(path).await;
            assert_eq!((answer.status, answer.code()), (status, code), "{path}");
        }
    }
}

#[tokio::test]
async fn a_file_is_drawn_without_a_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("order.json");
    std::fs::write(&file, definition("http://shop", &json!([step("a"), pivot("b")])).to_string()).expect("a file");
    let file = file.display().to_string();
    let mermaid = run_with(&["workflow", "graph", &file], &[]).await;
    assert!(mermaid.code == 0 && mermaid.stdout.contains("n1 -.->|compensate| n0"), "{}", mermaid.stdout);
    let dot = run_with(&["workflow", "graph", &file, "--dot"], &[]).await;
    assert!(dot.code == 0 && dot.stdout.starts_with("digraph"), "{}", dot.stdout);
    std::fs::write(&file, "{}").expect("a file");
    let faulty = run_with(&["workflow", "graph", &file], &[]).await;
    assert!(faulty.code == 1 && faulty.stderr.contains("E002"), "{}", faulty.stderr);
}
