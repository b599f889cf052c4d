//! With the SDK a service states a saga and takes part in one; what crashes between, no effect happens twice.

use std::time::Duration;

use serde_json::{Value, json};
use skald_examples::order::{Order, Receipt, Shop};
use skald_protocol::Status;
use skald_sdk::{Client, Error, OpenTransaction, Saga, Service, blocking};
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

    async fn a_program_without_a_runtime_begins_and_waits(backend: Backend) {
        let world = World::start(backend).await;
        world.participants.on("/no").refuses("sold_out");
        let service = Service::new("shop", world.participants.url());
        let url = world.node.url();
        let work = move || -> Result<(Status, Status), Error> {
            let saga: Saga<Value, Value> =
                Saga::named("plain").step("a", service.action("/a").compensate("/b")).output(json!("${input.n}"));
            let client = blocking::Client::new(&url)?;
            let begun = client.begin(&saga, &json!({"n": 7}))?;
            let gid = begun.gid().clone();
            assert_eq!(begun.settled()?, json!(7));
            let (view, late) = client.wait(async |client| {
                (client.get(&gid).await, client.cancel(&gid, None, None).await)
            });
            assert!(matches!(late, Err(Error::Conflict(_))), "{late:?}");
            let refused: Saga<Value, Value> =
                Saga::named("refused").step("no", service.action("/no").compensate("/b"));
            let Err(Error::Unsuccessful(undone)) = client.begin(&refused, &json!({}))?.settled() else {
                panic!("it is refused")
            };
            Ok((view?.status, undone.status))
        };
        let (first, second) = tokio::task::spawn_blocking(work).await.expect("it runs").expect("it works");
        assert_eq!((first, second), (Status::Succeeded, Status::Compensated));
    }

    async fn a_tcc_scope_commits_what_it_gives_and_cancels_all_else(backend: Backend) {
        let world = World::start(backend).await;
        world.participants.on("/meal").refuses("sold_out");
        let client = Client::new(&world.node.url()).expect("a client");
        let service = Service::new("travel", world.participants.url());
        let step = |name: &str| {
            let path = format!("/{name}");
            service.try_(&path).confirm(&format!("{path}/confirm")).cancel(&format!("{path}/cancel"))
        };
        let body = json!({"amount": 1});
        let reserve = async |transaction: &OpenTransaction, branch: &str| -> Result<Value, Error> {
            transaction.branch(branch, step(branch), &body).await
        };
        let within = Duration::from_secs(30);

        let (gid, output) = client
            .tcc(within, async |tx| {
                let seat = reserve(tx, "seat").await?;
                Ok::<_, Error>((tx.gid().clone(), seat))
            })
            .await
            .expect("it is committed");
        assert!(!output.is_null());
        world.client.reaches(gid.as_str(), Status::Succeeded).await;
        assert_eq!(world.participants.effects(gid.as_str()), ["seat try", "seat confirm"]);

        // The work's own error: cancelled, with what was reserved before it.
        let mut gid = None;
        let refused = client
            .tcc(within, async |tx| {
                gid = Some(tx.gid().clone());
                reserve(tx, "seat").await?;
                reserve(tx, "meal").await
            })
            .await
            .expect_err("the meal is sold out");
        assert!(matches!(&refused, Error::Refused { branch, .. } if branch == "meal"), "{refused}");
        let gid = gid.expect("it was opened");
        world.client.reaches(gid.as_str(), Status::Compensated).await;
        assert_eq!(world.participants.effects(gid.as_str()), ["seat try", "seat cancel"]);

        // A future that is dropped, and a panic.
        for panics in [false, true] {
            let (sender, opened) = tokio::sync::oneshot::channel();
            let (client, step) = (client.clone(), step("seat"));
            let task = tokio::spawn(async move {
                let done: Result<(), Error> = client
                    .tcc(within, async |tx| {
                        let _seat: Value = tx.branch("seat", step, &json!({"amount": 1})).await?;
                        sender.send(tx.gid().clone()).expect("a listener");
                        assert!(!panics, "the work panics");
                        std::future::pending().await
                    })
                    .await;
                done
            });
            let gid = opened.await.expect("it was opened");
            if !panics {
                task.abort();
            }
            task.await.expect_err("it did not end well");
            let view = world.client.reaches(gid.as_str(), Status::Compensated).await;
            assert_eq!(view.error.expect("an error").code, "cancelled", "not by the deadline");
            assert_eq!(world.participants.effects(gid.as_str()), ["seat try", "seat cancel"]);
        }
    }
}
