//! A relay as its own process, to be killed: `relay <database URL> <coordinator URL>`.

use skald_sdk::{Client, outbox::Relay};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = std::env::args().collect();
    let [_, database, coordinator] = arguments.as_slice() else {
        anyhow::bail!("usage: relay <database URL> <coordinator URL>");
    };
    let client = Client::new(coordinator)?;
    let report = |error: sqlx::Error| eprintln!("{error}");
    if database.starts_with("postgres") {
        Relay::new(sqlx::PgPool::connect(database).await?, client).run(std::future::pending(), report).await;
    } else if database.starts_with("mysql") {
        Relay::new(sqlx::MySqlPool::connect(database).await?, client).run(std::future::pending(), report).await;
    } else {
        Relay::new(sqlx::SqlitePool::connect(database).await?, client).run(std::future::pending(), report).await;
    }
    Ok(())
}
