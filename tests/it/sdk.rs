//! With the SDK a service states a saga and takes part in one; what crashes between, no effect happens twice.

use std::time::Duration;

use skald_examples::order::{Order, Receipt, Shop};
use skald_protocol::Status;
use skald_sdk::{Client, Error};
use skald_tests::{World, eventually, promises};

fn lamps(pieces: i64, cents: i64) -> Order {
    Order { item: "lamp".into(), pieces, card: "valid".into(), cents }
}

promises! {
    async fn an_order_over_three_databases_is_done_or_undone(backend: Backend) {
        let world = World::start(backend).await;
        let folder = tempfile::tempdir().expect("a folder");
        let shop = Shop::open(folder.path()).await.expect("it works");
        let client = Client::new(&world.node.url()).expect("it works");

        let receipt = shop.order(&client, &lamps(1, 4_000)).await.expect("it works");
        assert_eq!(receipt, Receipt { left_on_card: 6_000, left_in_stock: 2 });
        assert_eq!(shop.books().await.expect("it works"), (2, 6_000, 1));

        let declined = shop.order(&client, &lamps(1, 7_000)).await.expect_err("it is undone");
        let Error::Unsuccessful(view) = &declined else { panic!("{declined}") };
        assert_eq!((view.status, view.error.as_ref().expect("an error").code.as_str()), (Status::Compensated, "card_declined"));
        assert!(declined.to_string().contains("`valid` lacks 1000"), "{declined}");
        assert_eq!(shop.books().await.expect("it works"), (2, 6_000, 1), "the reservation was released, nothing was charged");

        let sold_out = shop.order(&client, &lamps(3, 100)).await.expect_err("it is undone");
        assert!(sold_out.to_string().contains("step `reserve`"), "{sold_out}");
        assert_eq!(shop.books().await.expect("it works"), (2, 6_000, 1));
    }

    async fn orders_under_way_when_the_coordinator_is_killed_are_each_done_once(backend: Backend) {
        let mut world = World::start(backend).await;
        let folder = tempfile::tempdir().expect("a folder");
        let shop = std::sync::Arc::new(Shop::open(folder.path()).await.expect("it works"));
        let client = Client::builder(&world.node.url()).retries(40).build().expect("it works");
        // Nobody may order more than there are: 3 lamps.
        let orders: Vec<_> = (0..12)
            .map(|_| {
                let (shop, client) = (std::sync::Arc::clone(&shop), client.clone());
                tokio::spawn(async move { shop.order(&client, &lamps(1, 100)).await })
            })
            .collect();
        eventually("an order is under way", Duration::from_secs(10), async || {
            (shop.books().await.expect("it works").0 < 3).then_some(())
        })
        .await;
        world.node.kill();
        world.node.start().await;
        let mut done = 0;
        for order in orders {
            match order.await.expect("it works") {
                Ok(_) => done += 1,
                Err(Error::Unsuccessful(view)) => assert_eq!(view.status, Status::Compensated),
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(done, 3);
        assert_eq!(shop.books().await.expect("it works"), (0, 10_000 - 300, 3));
    }
}
