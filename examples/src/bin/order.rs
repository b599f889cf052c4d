//! Four orders of lamps at 40 euros: the first two succeed, the third is refused by the card and undone, and so is one
//! of a lamp too many.
//!
//! Needs a coordinator (`cargo run -- serve`) at `SKALD_URL`, by default http://127.0.0.1:7410.

use skald_examples::order::{Order, Shop};
use skald_sdk::Client;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("SKALD_URL").unwrap_or_else(|_| "http://127.0.0.1:7410".into());
    let client = Client::new(&url)?;
    let folder = tempfile::tempdir()?;
    let shop = Shop::open(folder.path()).await?;
    for (pieces, cents) in [(1, 4_000), (1, 4_000), (1, 4_000), (2, 100)] {
        let order = Order { item: "lamp".into(), pieces, card: "valid".into(), cents };
        match shop.order(&client, &order).await {
            Ok(receipt) => eprintln!("{pieces} for {cents} cents: {receipt:?}"),
            Err(error) => eprintln!("{pieces} for {cents} cents: {error}"),
        }
        let (lamps, cents, receipts) = shop.books().await?;
        eprintln!("  {lamps} lamps in stock, {cents} cents on the card, {receipts} receipts sent");
    }
    Ok(())
}
