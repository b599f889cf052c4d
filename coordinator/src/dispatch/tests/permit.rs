//! What may no longer go out does not, wherever it waits.

use std::{
    io::Read as _,
    net::TcpListener,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use super::{
    server::{Act, Server, answer},
    *,
};

fn send(dispatcher: &Dispatcher, outgoing: Outgoing) -> oneshot::Receiver<Incoming> {
    let (slot, answer) = oneshot::channel();
    dispatcher.send(outgoing, Box::new(slot));
    answer
}

/// Holds for so many questions.
fn for_questions(count: usize) -> (Permit, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    (Permit::new(move || counter.fetch_add(1, Ordering::SeqCst) < count), asked)
}

/// A forward call with a body, one without, and a question.
fn kinds(url: &str) -> [Outgoing; 3] {
    let mut bare = call(url);
    bare.request.body = None;
    [call(url), bare, ask(url)]
}

#[tokio::test]
async fn a_call_is_withheld_at_whatever_step_its_permit_ends() {
    let server = Server::start(answer("200 OK", "", "{}")).await;
    let dispatcher = dispatcher();
    for kind in 0..3 {
        let mut questions = 0;
        loop {
            let before = server.requests().len();
            let (permit, asked) = for_questions(questions);
            let outgoing = Outgoing { permit, ..kinds(&server.url())[kind].clone() };
            let answered = send(&dispatcher, outgoing).await;
            if answered.is_ok() {
                assert!(asked.load(Ordering::SeqCst) <= questions, "an answered call's permit always held");
                assert_eq!(server.requests().len(), before + 1);
                break;
            }
            questions += 1;
            assert_eq!(server.requests().len(), before, "kind {kind}, withheld at question {questions}");
            assert!(questions < 20);
        }
        // When it is sent, when it is launched, when it is written.
        assert!(questions >= 3, "kind {kind}: {questions}");
    }
}

#[tokio::test]
async fn a_call_whose_permit_ends_while_it_waits_for_its_destination_is_withheld() {
    let server = Server::start([vec![Act::Wait], answer("200 OK", "", "{}")].concat()).await;
    let mut options = options();
    options.per_destination = 1;
    let dispatcher = Dispatcher::start(options).unwrap();
    let first = send(&dispatcher, call(&server.url()));
    server.came(1).await;
    let leased = Arc::new(AtomicBool::new(true));
    let lease = Arc::clone(&leased);
    let permit = Permit::new(move || lease.load(Ordering::SeqCst));
    let second = send(&dispatcher, Outgoing { permit, ..call(&server.url()) });
    let third = send(&dispatcher, call(&server.url()));
    leased.store(false, Ordering::SeqCst);
    server.gate.add_permits(2);
    assert!(first.await.is_ok());
    assert!(second.await.is_err(), "its place is given back unused");
    assert!(third.await.is_ok(), "and the next has its turn");
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_call_whose_permit_ends_while_it_connects_is_withheld() {
    for kind in 0..3 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut outgoing = kinds(&format!("http://{}", listener.local_addr().unwrap()))[kind].clone();
        outgoing.request.timeout = Duration::from_millis(500);
        // Ends with the question that finds a connection made.
        let connection = Arc::new(Mutex::new(None));
        let made = Arc::clone(&connection);
        outgoing.permit = Permit::new(move || {
            let mut made = made.lock().unwrap();
            if made.is_none() {
                *made = listener.accept().ok();
            }
            made.is_none()
        });
        assert!(send(&dispatcher(), outgoing).await.is_err(), "kind {kind}: its place is given back unused");
        let (mut stream, _) = connection.lock().unwrap().take().expect("asked once it was connected");
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let read = stream.read(&mut [0]);
        assert!(matches!(read, Ok(0)), "kind {kind}: {read:?}, not a byte was written");
    }
}

#[tokio::test]
async fn a_large_body_is_not_finished_once_its_permit_has_ended() {
    let server = Server::start(answer("200 OK", "", "{}")).await;
    let text = "x".repeat(1 << 20);
    let whole = |permit| {
        let mut outgoing = Outgoing { permit, ..call(&server.url()) };
        outgoing.request.body = Some(serde_json::json!({ "text": text }).into());
        outgoing
    };
    let dispatcher = dispatcher();
    let (permit, asked) = for_questions(usize::MAX);
    assert!(send(&dispatcher, whole(permit)).await.is_ok());
    let all = asked.load(Ordering::SeqCst);
    assert!(all > 16, "{all}: it is asked again while the body is written");
    let (permit, _) = for_questions(all - 1);
    let cut = send(&dispatcher, whole(permit)).await.unwrap().reply.outcome;
    assert!(matches!(&cut, Outcome::Unknown(_)), "{cut:?}: some of it was written");
    assert_eq!(server.requests().len(), 1);
}
