//! Money goes from one bank to another: withdrawn here, deposited there, and given back if the other bank refuses.
//!
//! Needs a coordinator (`cargo run -- serve`) at `SKALD_URL`, by default http://127.0.0.1:7410. The two banks run in this
//! process; they are idempotent by the `Idempotency-Key` of each call, as every participant must be.

use std::{
    collections::{HashMap, HashSet},
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    routing::post,
};
use serde_json::{Value, json};
use skald_protocol::{Begin, IDEMPOTENCY_KEY};
use skald_sdk::Client;

#[derive(Default)]
struct Bank {
    accounts: HashMap<String, i64>,
    seen: HashSet<String>,
}

type Shared = Arc<Mutex<Bank>>;

async fn call(
    State(bank): State<Shared>,
    Path(operation): Path<String>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Result<Json<Value>, (StatusCode, Json<Value>)> {
    let key = headers.get(IDEMPOTENCY_KEY).and_then(|key| key.to_str().ok()).unwrap_or_default().to_owned();
    let account = body["account"].as_str().unwrap_or_default();
    let amount = body["amount"].as_i64().unwrap_or_default();
    let mut bank = bank.lock().expect("nobody panics with the books open");
    let Bank { accounts, seen } = &mut *bank;
    let refuse = |code: &str| Err((StatusCode::UNPROCESSABLE_ENTITY, Json(json!({"code": code}))));
    let Some(balance) = accounts.get_mut(account) else { return refuse("no_such_account") };
    if !seen.contains(&key) {
        *balance += match operation.as_str() {
            "withdraw" if *balance < amount => return refuse("not_enough"),
            "withdraw" => -amount,
            _ => amount,
        };
        seen.insert(key);
    }
    Ok(Json(json!({"balance": balance})))
}

async fn open(account: &str, balance: i64) -> anyhow::Result<(String, Shared)> {
    let bank = Shared::default();
    bank.lock().expect("a new lock").accounts.insert(account.to_owned(), balance);
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let router = Router::new().route("/{operation}", post(call)).with_state(Arc::clone(&bank));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok((url, bank))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("SKALD_URL").unwrap_or_else(|_| "http://127.0.0.1:7410".into());
    let client = Client::new(&url)?;
    let (north, north_books) = open("ada", 100).await?;
    let (south, south_books) = open("bob", 0).await?;
    let definition = json!({
        "dsl": "1.0", "name": "transfer", "version": "1.0.0",
        "services": {"north": {"url": north}, "south": {"url": south}},
        "steps": [
            {"name": "withdraw", "service": "north",
             "action": {"path": "/withdraw", "body": {"account": "${input.from}", "amount": "${input.amount}"}},
             "compensate": {"path": "/give_back"}},
            {"name": "deposit", "service": "south", "role": "pivot",
             "action": {"path": "/deposit", "body": {"account": "${input.to}", "amount": "${input.amount}"},
                        "idempotent": true}}
        ]
    });
    for to in ["bob", "nobody"] {
        let begin = Begin {
            definition: Some(definition.clone().into()),
            input: Some(json!({"from": "ada", "to": to, "amount": 30}).into()),
            ..Begin::default()
        };
        let view = client.begin_with(begin, Some(Duration::from_secs(30))).await?;
        let balance = |books: &Shared, name| books.lock().expect("nobody panics").accounts[name];
        eprintln!(
            "30 to {to}: {} (ada {}, bob {})",
            view.status,
            balance(&north_books, "ada"),
            balance(&south_books, "bob")
        );
    }
    Ok(())
}
