//! An order over three services, each with a database of its own: stock is reserved, a card is charged, a receipt is sent.
//!
//! Every service is a `Participant`: its handler writes through the transaction it is given, and the barrier beside it
//! sees to it that no call has an effect twice, nor after its undo.

use std::{net::Ipv4Addr, path::Path};

use serde::{Deserialize, Serialize};
use serde_json::json;
use skald_sdk::{
    Client, Error, Saga, Service,
    participant::{Call, Failure, Participant, Refusal, barrier},
};
use sqlx::{
    Sqlite, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};

/// What is ordered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    pub item: String,
    pub pieces: i64,
    pub card: String,
    pub cents: i64,
}

/// What the buyer gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    pub left_on_card: i64,
    pub left_in_stock: i64,
}

#[derive(Debug, Serialize)]
struct Left {
    left: i64,
}

async fn reserve(tx: &mut Transaction<'_, Sqlite>, call: Call<Order>) -> Result<Left, Failure> {
    Ok(Left { left: take(tx, &call.input.item, call.input.pieces, "sold_out").await? })
}

async fn release(tx: &mut Transaction<'_, Sqlite>, call: Call<Order>) -> Result<(), Failure> {
    give_back(tx, &call.input.item, call.input.pieces).await
}

async fn charge(tx: &mut Transaction<'_, Sqlite>, call: Call<Order>) -> Result<Left, Failure> {
    Ok(Left { left: take(tx, &call.input.card, call.input.cents, "card_declined").await? })
}

async fn refund(tx: &mut Transaction<'_, Sqlite>, call: Call<Order>) -> Result<(), Failure> {
    give_back(tx, &call.input.card, call.input.cents).await
}

async fn send(tx: &mut Transaction<'_, Sqlite>, call: Call<Order>) -> Result<(), Failure> {
    give_back(tx, &call.input.card, 1).await
}

async fn take(tx: &mut Transaction<'_, Sqlite>, name: &str, much: i64, lack: &str) -> Result<i64, Failure> {
    sqlx::query("UPDATE accounts SET balance = balance - ? WHERE name = ?")
        .bind(much)
        .bind(name)
        .execute(&mut **tx)
        .await?;
    let left: Option<i64> =
        sqlx::query_scalar("SELECT balance FROM accounts WHERE name = ?").bind(name).fetch_optional(&mut **tx).await?;
    match left {
        Some(left) if left >= 0 => Ok(left),
        // The barrier takes back what was written before a refusal.
        Some(left) => Err(Refusal::new(lack).message(format!("`{name}` lacks {}", -left)).into()),
        None => Err(Refusal::new("unknown").message(format!("there is no `{name}`")).into()),
    }
}

async fn give_back(tx: &mut Transaction<'_, Sqlite>, name: &str, much: i64) -> Result<(), Failure> {
    sqlx::query("UPDATE accounts SET balance = balance + ? WHERE name = ?")
        .bind(much)
        .bind(name)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// The three services, running in this process.
pub struct Shop {
    saga: Saga<Order, Receipt>,
    stock: SqlitePool,
    cards: SqlitePool,
    mail: SqlitePool,
}

impl Shop {
    /// Opens the services with their databases in this folder: 3 lamps, 100 euros on the card `valid`.
    pub async fn open(folder: &Path) -> anyhow::Result<Self> {
        let stock = database(folder, "stock", &[("lamp", 3)]).await?;
        let cards = database(folder, "cards", &[("valid", 10_000)]).await?;
        let mail = database(folder, "mail", &[("valid", 0)]).await?;
        let stock_service = Participant::new(stock.clone()).action("/reserve", reserve).compensate("/release", release);
        let card_service = Participant::new(cards.clone()).action("/charge", charge).compensate("/refund", refund);
        let mail_service = Participant::new(mail.clone()).action("/send", send);

        let stock_service = Service::new("stock", serve(stock_service).await?);
        let card_service = Service::new("card", serve(card_service).await?);
        let mail_service = Service::new("mail", serve(mail_service).await?);
        let saga = Saga::named("order")
            .step("reserve", stock_service.action("/reserve").compensate("/release"))
            .step("charge", card_service.action("/charge").compensate("/refund"))
            .step("receipt", mail_service.action("/send").retriable())
            .output(json!({
                "left_in_stock": "${steps.reserve.output.left}",
                "left_on_card": "${steps.charge.output.left}"
            }));
        Ok(Self { saga, stock, cards, mail })
    }

    /// Begins an order and waits for its end.
    pub async fn order(&self, client: &Client, order: &Order) -> Result<Receipt, Error> {
        client.begin(&self.saga, order).await?.settled().await
    }

    /// Lamps in stock, cents on the card, receipts sent.
    pub async fn books(&self) -> anyhow::Result<(i64, i64, i64)> {
        Ok((
            balance(&self.stock, "lamp").await?,
            balance(&self.cards, "valid").await?,
            balance(&self.mail, "valid").await?,
        ))
    }
}

async fn balance(pool: &SqlitePool, name: &str) -> sqlx::Result<i64> {
    sqlx::query_scalar("SELECT balance FROM accounts WHERE name = ?").bind(name).fetch_one(pool).await
}

async fn database(folder: &Path, name: &str, accounts: &[(&str, i64)]) -> sqlx::Result<SqlitePool> {
    let options = SqliteConnectOptions::new()
        .filename(folder.join(format!("{name}.db")))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal);
    let pool = SqlitePool::connect_with(options).await?;
    barrier::create_tables(&pool).await?;
    sqlx::query("CREATE TABLE IF NOT EXISTS accounts (name TEXT PRIMARY KEY, balance INTEGER NOT NULL)")
        .execute(&pool)
        .await?;
    for (name, balance) in accounts {
        sqlx::query("INSERT OR IGNORE INTO accounts VALUES (?, ?)").bind(*name).bind(*balance).execute(&pool).await?;
    }
    Ok(pool)
}

async fn serve(participant: Participant<Sqlite>) -> anyhow::Result<String> {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let router = participant.into_router();
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(url)
}
