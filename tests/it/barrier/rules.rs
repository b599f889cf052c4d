//! The barrier's rules one by one, on each database.

use serde_json::json;
use sqlx::{MySql, Postgres, Sqlite};

use super::services::{Order, Sent, Shop, Told, call, now, once, shop};

const SOLD: Order = Order { item: 1, refuse: false };
const REFUSED: Order = Order { item: 1, refuse: true };

fn is(told: &Told, status: u16, barrier: &str) {
    assert_eq!((told.status, told.barrier.as_deref()), (status, Some(barrier)), "{told:?}");
}

async fn rules<DB: Shop>() {
    let pool = DB::open(DB::ISOLATIONS[0]).await;
    let service = shop(pool.clone()).into_service();
    let told = async |gid: &str, operation: &'static str, order: &Order| {
        call(&service, &Sent::new(gid, operation), order).await
    };
    let status = async |gid: &str, operation: &'static str| {
        let sent = Sent { asks_status: true, ..Sent::new(gid, operation) };
        call(&service, &sent, &SOLD).await.body
    };

    // A duplicate gets the first answer.
    assert_eq!(status("twice", "action").await, json!({"outcome": "not_found"}));
    let first = told("twice", "action", &SOLD).await;
    is(&first, 200, "executed");
    let again = told("twice", "action", &SOLD).await;
    is(&again, 200, "stored");
    assert_eq!(first.body, again.body);
    assert_eq!(status("twice", "action").await, json!({"outcome": "succeeded", "output": first.body}));
    is(&told("twice", "compensate", &SOLD).await, 204, "executed");
    is(&told("twice", "compensate", &SOLD).await, 204, "stored");
    assert_eq!(status("twice", "compensate").await["outcome"], "succeeded");

    // A refusal never flips, does nothing, and leaves nothing to undo.
    for (order, word) in [(&REFUSED, "executed"), (&SOLD, "stored")] {
        let told = told("refused", "action", order).await;
        is(&told, 422, word);
        assert_eq!(told.body, json!({"code": "not_for_sale", "message": "this one is not sold"}));
    }
    assert_eq!(status("refused", "action").await["error"]["code"], "not_for_sale");
    is(&told("refused", "compensate", &SOLD).await, 204, "empty");

    // An undo of what never ran is empty, and what comes late is refused.
    for (forward, undo) in [("action", "compensate"), ("try", "cancel")] {
        is(&told("empty", undo, &SOLD).await, 204, "empty");
        is(&told("empty", undo, &SOLD).await, 204, "stored");
        let late = told("empty", forward, &SOLD).await;
        is(&late, 409, "superseded");
        assert_eq!(late.body["code"], "superseded");
        assert_eq!(status("empty", forward).await, json!({"outcome": "not_found"}));
    }

    // Confirm and cancel exclude each other, whichever came first.
    is(&told("confirmed", "try", &SOLD).await, 200, "executed");
    is(&told("confirmed", "confirm", &SOLD).await, 204, "executed");
    is(&told("confirmed", "confirm", &SOLD).await, 204, "stored");
    assert_eq!(told("confirmed", "cancel", &SOLD).await.body["code"], "protocol_broken");
    is(&told("cancelled", "try", &SOLD).await, 200, "executed");
    is(&told("cancelled", "cancel", &SOLD).await, 204, "executed");
    assert_eq!(told("cancelled", "confirm", &SOLD).await.body["code"], "protocol_broken");

    // A call whose time is over does nothing.
    let late = Sent { deadline: now(), ..Sent::new("late", "action") };
    assert_eq!(once(&service, &late, &SOLD).await.status, 408);

    let effects = DB::ledger(&pool).await;
    let effects: Vec<_> = effects.iter().map(|(gid, operation)| format!("{gid} {operation}")).collect();
    let expected =
        ["twice action", "twice compensate", "confirmed try", "confirmed confirm", "cancelled try", "cancelled cancel"];
    assert_eq!(effects, expected);
}

#[tokio::test]
async fn the_rules_on_postgres() {
    rules::<Postgres>().await;
}

#[tokio::test]
async fn the_rules_on_mariadb() {
    rules::<MySql>().await;
}

#[tokio::test]
async fn the_rules_on_sqlite() {
    rules::<Sqlite>().await;
}

#[tokio::test]
async fn a_call_that_is_none_is_told_what_is_wrong_with_it() {
    let pool = Sqlite::open("").await;
    let service = shop(pool).into_service();
    let other = Sent::new("shop:1", "action");
    let mut request = other.request(&SOLD);
    *request.uri_mut() = "/nowhere".parse().expect("a path");
    let told =
        super::services::read(tower::ServiceExt::oneshot(service.clone(), request).await.expect("an answer")).await;
    assert_eq!(told.status, 404);
    assert!(told.body["message"].as_str().expect("text").contains("/compensate"), "{told:?}");
    let mut request = other.request(&SOLD);
    *request.uri_mut() = "/compensate".parse().expect("a path");
    let told =
        super::services::read(tower::ServiceExt::oneshot(service.clone(), request).await.expect("an answer")).await;
    assert_eq!((told.status, told.body["code"].as_str()), (400, Some("invalid_call")));
    let old = Sent { began: now(), ..Sent::new("shop:1", "action") };
    let mut request = old.request(&SOLD);
    *request.body_mut() = http_body_util::Full::new("{}".into());
    let told = super::services::read(tower::ServiceExt::oneshot(service, request).await.expect("an answer")).await;
    assert_eq!(told.status, 400);
    assert!(told.body["message"].as_str().expect("text").contains("missing field"), "{told:?}");
}
