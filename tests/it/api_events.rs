//! What happened to a transaction can be read in pages and followed live, from any event on.

#![allow(clippy::unwrap_used, reason = "a test fails where it meets what it did not expect")]

use serde_json::{Value, json};
use skald_protocol::{PublicEvent, PublicEventKind, Status};
use skald_tests::{Backend, World, client, definition::*};

/// All messages of a stream that ends: `(id, data)`.
async fn stream(world: &World, gid: &str, after: Option<&str>) -> (u16, Vec<(String, Value)>) {
    let url = format!("{}/v1/transactions/{gid}/events", world.node.url());
    let mut request = client::http().get(url).header("accept", "text/event-stream");
    if let Some(after) = after {
        request = request.header("last-event-id", after);
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    let messages = text.split("\n\n").filter_map(|message| {
        let line = |name: &str| message.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        Some((line("id:")?.to_owned(), serde_json::from_str(line("data:")?).unwrap()))
    });
    (status, messages.collect())
}

#[tokio::test]
async fn a_stream_follows_live_ends_with_the_settlement_and_is_taken_up_anywhere() {
    let world = World::start(Backend::Sqlite).await;
    world.participants.on("/b").is_held();
    let gid = world.client.begin(&begin(&definition(&world.participants.url(), &json!([step("a"), step("b")])))).await;
    let (followed, ()) = tokio::join!(stream(&world, &gid, None), async {
        skald_tests::eventually("b is called", std::time::Duration::from_secs(10), || async {
            world.participants.called(&gid).contains(&"b action".to_owned()).then_some(())
        })
        .await;
        world.participants.release();
    });
    let (status, messages) = followed;
    assert_eq!(status, 200);
    let types: Vec<_> = messages.iter().map(|(_, data)| data["type"].as_str().unwrap().to_owned()).collect();
    assert_eq!(types.first().map(String::as_str), Some("began"));
    assert_eq!(types.last().map(String::as_str), Some("settled"));
    assert_eq!(types.iter().filter(|kind| *kind == "operation_succeeded").count(), 2);
    assert!(messages.iter().all(|(id, data)| data["id"] == *id));

    for (at, (id, _)) in messages.iter().enumerate() {
        let (status, rest) = stream(&world, &gid, Some(id)).await;
        assert_eq!(rest, messages[at + 1..], "after {id}");
        assert_eq!(status, if rest.is_empty() { 204 } else { 200 });
    }

    let (mut read, mut cursor) = (Vec::new(), Some(String::new()));
    while let Some(next) = cursor {
        let page = world.client.get(&format!("/v1/transactions/{gid}/events?limit=2{next}")).await.body;
        read.extend(page["items"].as_array().unwrap().clone());
        cursor = page["next_cursor"].as_str().map(|next| format!("&cursor={next}"));
    }
    assert_eq!(read, messages.into_iter().map(|(_, data)| data).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_events_of_an_abort_tell_why_and_what_was_undone() {
    let world = World::start(Backend::Sqlite).await;
    world.participants.on("/b").refuses("sold_out");
    let view = world.client.run(&begin(&definition(&world.participants.url(), &json!([step("a"), step("b")])))).await;
    assert_eq!(view.status, Status::Compensated);
    let page = world.client.get(&format!("/v1/transactions/{}/events", view.gid)).await.body;
    let events: Vec<PublicEvent> = serde_json::from_value(page["items"].clone()).unwrap();
    let refused = events.iter().find_map(|event| match &event.kind {
        PublicEventKind::OperationRefused { branch, error, .. } => Some((branch.to_string(), error.code.clone())),
        _ => None,
    });
    assert_eq!(refused, Some(("b".to_owned(), "sold_out".to_owned())));
    let settled =
        events.last().map(|event| matches!(event.kind, PublicEventKind::Settled { status: Status::Compensated, .. }));
    assert_eq!(settled, Some(true));
}
