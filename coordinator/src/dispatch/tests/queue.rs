//! Concurrency, connections, draining.

use super::{
    server::{Act, Server, answer, say},
    *,
};

fn send(dispatcher: &Dispatcher, outgoing: Outgoing) -> oneshot::Receiver<Incoming> {
    let (slot, answer) = oneshot::channel();
    dispatcher.send(outgoing, Box::new(slot));
    answer
}

fn gated() -> Vec<Act> {
    [vec![Act::Wait], answer("200 OK", "", "{}")].concat()
}

fn numbered(url: &str, number: u32) -> Outgoing {
    let mut outgoing = call(url);
    outgoing.call.attempt = number;
    outgoing.request.timeout = Duration::from_secs(20);
    outgoing
}

#[tokio::test]
async fn a_destination_gets_its_limit_at_once_and_the_rest_in_order() {
    let server = Server::start(gated()).await;
    let mut options = options();
    options.per_destination = 3;
    let dispatcher = Dispatcher::start(options).unwrap();
    let answers: Vec<_> = (1..=10).map(|n| send(&dispatcher, numbered(&server.url(), n))).collect();
    server.came(3).await;
    assert_eq!((dispatcher.in_flight(), dispatcher.waiting()), (3, 7));
    for more in 4..=10 {
        server.gate.add_permits(1);
        server.came(more).await;
        assert!(dispatcher.in_flight() <= 3);
    }
    server.gate.add_permits(3);
    for answer in answers {
        assert!(matches!(answer.await.unwrap().reply.outcome, Outcome::Succeeded(_)));
    }
    let order: Vec<u32> = server
        .requests()
        .iter()
        .map(|head| head.lines().find_map(|line| line.strip_prefix("skald-attempt: ")).unwrap().parse().unwrap())
        .collect();
    assert_eq!(order[3..], [4, 5, 6, 7, 8, 9, 10], "first come, first served");
}

#[tokio::test]
async fn a_service_may_ask_for_less_and_a_stuck_destination_holds_up_nobody_else() {
    let (stuck, quick) = (Server::start(gated()).await, Server::start(answer("200 OK", "", "{}")).await);
    let dispatcher = dispatcher();
    let waiting: Vec<_> = (1..=50)
        .map(|n| {
            let mut outgoing = numbered(&stuck.url(), n);
            stock(&mut outgoing).max_concurrency = Some(2);
            send(&dispatcher, outgoing)
        })
        .collect();
    stuck.came(2).await;
    assert_eq!((dispatcher.in_flight(), dispatcher.waiting()), (2, 48));
    for _ in 0..20 {
        assert!(matches!(reply(&dispatcher, call(&quick.url())).await.outcome, Outcome::Succeeded(_)));
    }
    assert_eq!(stuck.requests().len(), 2);
    drop(waiting);
}

#[tokio::test]
async fn draining_withholds_what_waits_and_finishes_what_is_in_flight() {
    let server = Server::start(gated()).await;
    let mut options = options();
    options.per_destination = 1;
    let dispatcher = Dispatcher::start(options).unwrap();
    let first = send(&dispatcher, numbered(&server.url(), 1));
    let second = send(&dispatcher, numbered(&server.url(), 2));
    server.came(1).await;

    assert_eq!(dispatcher.drain(Duration::from_millis(20)).await, 1, "one is still in flight");
    assert!(second.await.is_err(), "its place is given back unused");
    let late = send(&dispatcher, numbered(&server.url(), 3));
    assert!(late.await.is_err());

    server.gate.add_permits(1);
    assert_eq!(dispatcher.drain(Duration::from_secs(10)).await, 0);
    assert!(matches!(first.await.unwrap().reply.outcome, Outcome::Succeeded(_)));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_connection_is_kept_and_one_that_was_closed_meanwhile_is_replaced() {
    let server = Server::each(|before| {
        let mut acts = answer("200 OK", "", "{}");
        if before == 1 {
            acts.push(Act::Close);
        }
        acts
    })
    .await;
    let dispatcher = dispatcher();
    for _ in 0..2 {
        assert!(matches!(reply(&dispatcher, call(&server.url())).await.outcome, Outcome::Succeeded(_)));
    }
    // The server's FIN has arrived by now or arrives while the next request looks for a connection.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(matches!(reply(&dispatcher, call(&server.url())).await.outcome, Outcome::Succeeded(_)));
}

#[tokio::test]
async fn a_request_that_was_written_to_a_kept_connection_is_never_sent_again_by_itself() {
    for end in [Act::Close, Act::Reset] {
        let server =
            Server::each(move |before| if before == 0 { answer("200 OK", "", "{}") } else { vec![end.clone()] }).await;
        let dispatcher = dispatcher();
        assert!(matches!(reply(&dispatcher, call(&server.url())).await.outcome, Outcome::Succeeded(_)));
        let outcome = reply(&dispatcher, call(&server.url())).await.outcome;
        assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
        assert_eq!(server.requests().len(), 2);
    }
}

#[tokio::test]
async fn whoever_watches_sees_each_attempt_with_its_outcome() {
    let server = Server::start(vec![say("HTTP/1.1 409 Conflict\r\ncontent-length: 0\r\n\r\n")]).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let mut options = options();
    let log = seen.clone();
    options.watch = Some(Arc::new(move |attempt: &Attempt<'_>| {
        let refused = matches!(attempt.reply.outcome, Outcome::Refused(_));
        log.lock().unwrap().push((attempt.outgoing.gid.to_string(), attempt.status, refused));
    }));
    reply(&Dispatcher::start(options).unwrap(), call(&server.url())).await;
    assert_eq!(*seen.lock().unwrap(), [("order:1".to_owned(), Some(409), true)]);
}
