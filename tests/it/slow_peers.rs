//! Who is slow is waited for at nobody else's cost: with a body, with reading an answer, with too many connections.

#![allow(clippy::unwrap_used, reason = "a test fails where it meets what it did not expect")]

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::Value;
use skald::{api, runtime};
use skald_protocol::Status;
use skald_tests::{
    Backend, Database, Node, World, client,
    definition::{begin, definition, step, with_gid},
    eventually,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};

use crate::api_edge::Edge;

const LONG: Duration = Duration::from_secs(30);
/// The largest thing that is served without a transaction.
const LARGE: &str = "/docs/swagger-ui-bundle.js";

fn head(length: usize) -> String {
    format!(
        "POST /v1/transactions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    )
}

/// A connection with a begin of which so much has been sent.
async fn with_a_part(address: &str, length: usize, part: usize) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all((head(length) + &" ".repeat(part)).as_bytes()).await.unwrap();
    stream
}

/// All that is answered until the connection ends.
async fn told(stream: &mut TcpStream) -> String {
    let mut told = Vec::new();
    let _may_be_reset = timeout(LONG, stream.read_to_end(&mut told)).await.expect("the connection ends");
    String::from_utf8_lossy(&told).into_owned()
}

fn address(world: &World) -> String {
    world.node.url().trim_start_matches("http://").to_owned()
}

#[tokio::test]
async fn beside_1100_bodies_that_do_not_come_begins_are_acknowledged_and_those_are_cut_off() {
    let world = World::start(Backend::Sqlite).await;
    let address = address(&world);
    let mut slow = join_all((0..1_100).map(|_| with_a_part(&address, 1_000, 1))).await;
    let sent = Instant::now();
    let cut = tokio::spawn(async move {
        let told = join_all(slow.iter_mut().map(told)).await;
        (told, sent.elapsed())
    });
    let begin = begin(&definition(&world.participants.url(), &serde_json::json!([step("a")])));
    let mut acknowledged = 0;
    while !cut.is_finished() {
        let answer = world.client.post("/v1/transactions", &begin).await;
        assert_eq!(answer.status, 202, "after {acknowledged}, {:?}: {}", sent.elapsed(), answer.body);
        acknowledged += 1;
    }
    let (told, took) = cut.await.unwrap();
    assert!(took < Duration::from_secs(15), "{took:?}");
    assert!(acknowledged > 20, "{acknowledged}");
    for told in told {
        assert!(told.starts_with("HTTP/1.1 408 ") && told.contains("\"body_timeout\""), "{told}");
    }
}

#[tokio::test]
async fn a_large_body_that_comes_slowly_but_steadily_is_taken() {
    let world = World::start(Backend::Sqlite).await;
    let begin = begin(&definition(&world.participants.url(), &serde_json::json!([step("a")])));
    let mut body = with_gid(begin, "steady").to_string();
    body.push_str(&" ".repeat((1 << 20) - body.len()));
    let mut stream = TcpStream::connect(address(&world)).await.unwrap();
    stream.write_all(head(body.len()).replace("host: x", "host: x\r\nconnection: close").as_bytes()).await.unwrap();
    for part in body.as_bytes().chunks(64 << 10) {
        sleep(Duration::from_millis(450)).await;
        stream.write_all(part).await.unwrap();
    }
    let told = told(&mut stream).await;
    assert!(told.starts_with("HTTP/1.1 202 "), "{told}");
    world.client.reaches("steady", Status::Succeeded).await;
}

#[tokio::test]
async fn bodies_that_wait_hold_no_more_than_their_room_and_the_slow_give_way() {
    let options = api::Options { max_arriving: 3 << 20, ..api::Options::default() };
    let edge = Edge::over(runtime::Options::default(), options, api::Connections::default()).await;
    let mut slow = join_all((0..3).map(|_| with_a_part(&edge.address, 1 << 20, 900 << 10))).await;
    sleep(Duration::from_secs(3)).await;
    let mut body = edge.begin().to_string();
    body.push_str(&" ".repeat((1 << 20) - body.len()));
    let url = format!("http://{}/v1/transactions", edge.address);
    let request = client::http().post(url).header("content-type", "application/json").body(body);
    assert_eq!(request.send().await.unwrap().status().as_u16(), 202);
    let told = join_all(slow.iter_mut().map(told)).await;
    let gave_way = told.iter().filter(|told| told.starts_with("HTTP/1.1 503 ")).count();
    let in_time = told.iter().filter(|told| told.starts_with("HTTP/1.1 408 ")).count();
    assert!(gave_way >= 1 && gave_way + in_time == 3, "{told:?}");
}

/// A connection on which much is asked for and whose peer takes little of it into its own buffers.
async fn asks_for_much(address: &str, times: usize) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(32 << 10).unwrap();
    let mut stream = socket.connect(address.parse().unwrap()).await.unwrap();
    let request = format!("GET {LARGE} HTTP/1.1\r\nhost: x\r\n\r\n").repeat(times);
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

async fn size_of_the_large(edge: &Edge) -> usize {
    let url = format!("http://{}{LARGE}", edge.address);
    client::http().get(url).send().await.unwrap().bytes().await.unwrap().len()
}

#[tokio::test]
async fn who_does_not_read_loses_the_connection_and_who_reads_slowly_does_not() {
    let connections = api::Connections { unread: Duration::from_secs(2), ..api::Connections::default() };
    let edge = Edge::over(runtime::Options::default(), api::Options::default(), connections).await;
    let large = size_of_the_large(&edge).await;
    let mut deaf = asks_for_much(&edge.address, 20).await;
    let mut slow = asks_for_much(&edge.address, 4).await;
    let reads = async {
        let (mut read, mut buffer) = (0, vec![0; 64 << 10]);
        while read < 4 * large {
            sleep(Duration::from_millis(50)).await;
            let more = slow.read(&mut buffer).await.expect("it is not cut off");
            assert!(more > 0, "cut off after {read} B");
            read += more;
        }
    };
    let began = Instant::now();
    timeout(LONG, reads).await.expect("all is read");
    assert!(began.elapsed() > Duration::from_secs(4), "it was slow: {:?}", began.elapsed());
    let told = told(&mut deaf).await;
    assert!(told.len() < 20 * large, "{} B of 20 × {large} B", told.len());
}

#[tokio::test]
async fn a_stream_with_nothing_to_say_stays_open() {
    let connections = api::Connections { unread: Duration::from_millis(300), ..api::Connections::default() };
    let edge = Edge::over(runtime::Options::default(), api::Options::default(), connections).await;
    edge.participants.on("/a").is_held();
    edge.client.begin(&with_gid(edge.begin(), "g")).await;
    let url = format!("http://{}/v1/transactions/g/events", edge.address);
    let stream = client::http().get(url).header("accept", "text/event-stream").send().await.unwrap();
    let waits = tokio::spawn(stream.text());
    sleep(Duration::from_secs(2)).await;
    assert!(!waits.is_finished());
    edge.participants.release();
    let text = timeout(LONG, waits).await.expect("it settles").unwrap().unwrap();
    assert!(text.contains("\"settled\""), "{text}");
}

#[tokio::test]
async fn answers_that_are_not_read_hold_no_more_than_their_room() {
    let edge = Edge::over(runtime::Options::default(), api::Options::default(), api::Connections::default()).await;
    let large = size_of_the_large(&edge).await;
    let options = api::Options { max_unread: 2 * large, ..api::Options::default() };
    let edge = Edge::over(runtime::Options::default(), options, api::Connections::default()).await;
    let mut deaf = join_all((0..2).map(|_| asks_for_much(&edge.address, 20))).await;
    let refused = eventually("the room is used up", LONG, || async {
        let answer = client::http().get(format!("http://{}{LARGE}", edge.address)).send().await.unwrap();
        (answer.status().as_u16() == 503).then_some(answer)
    })
    .await;
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], "overloaded");
    assert_eq!(edge.client.get("/v1/transactions").await.status, 200, "what is small needs no room");
    sleep(Duration::from_secs(3)).await;
    assert_eq!(size_of_the_large(&edge).await, large);
    let told = told(&mut deaf.swap_remove(0)).await;
    assert!(told.len() < 20 * large, "the oldest gave way");
}

#[tokio::test]
async fn one_peer_has_so_many_connections_and_the_others_go_on() {
    let mut world = World::start(Backend::Sqlite).await;
    world.node.terminate().await;
    let mut node = world.another_node().with_environment("SKALD_LIMITS__CONNECTIONS_PER_PEER", "20");
    node.start().await;
    let address: SocketAddr = node.url().trim_start_matches("http://").parse().unwrap();
    let mut held = Vec::new();
    let told = loop {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut told = String::new();
        match timeout(Duration::from_millis(500), stream.read_to_string(&mut told)).await {
            Err(_open) => held.push(stream),
            Ok(read) => {
                read.unwrap();
                break told;
            }
        }
    };
    assert!((15..=20).contains(&held.len()), "{}", held.len());
    let (head, body) = told.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert!(head.lines().any(|line| line == format!("content-length: {}", body.len())), "{told}");
    let problem: Value = serde_json::from_str(body).unwrap();
    assert_eq!(problem["code"], "overloaded");
    assert!(problem["detail"].as_str().unwrap().contains("limits.connections_per_peer"), "{problem}");
    assert!(node.log().contains("limits.connections_per_peer"), "{}", node.log());
    let from_elsewhere = || async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let mut stream = socket.connect(address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        self::told(&mut stream).await
    };
    assert!(from_elsewhere().await.starts_with("HTTP/1.1 200 "));
    held.clear();
    eventually("there is room again", LONG, || async {
        node.client().try_get("/healthz").await.is_ok_and(|answer| answer.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn where_all_connections_are_taken_an_idle_one_gives_way_and_none_that_is_served() {
    let connections = api::Connections { most: 3, ..api::Connections::default() };
    let edge = Edge::over(runtime::Options::default(), api::Options::default(), connections).await;
    // One of the three is the client's own.
    let mut idle = TcpStream::connect(&edge.address).await.unwrap();
    let slow = with_a_part(&edge.address, 100, 1).await;
    let mut served = Vec::new();
    for _ in 0..3 {
        let mut next = TcpStream::connect(&edge.address).await.unwrap();
        next.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut start = [0; 15];
        next.read_exact(&mut start).await.unwrap();
        assert_eq!(&start, b"HTTP/1.1 200 OK");
        served.push(next);
    }
    assert_eq!(told(&mut idle).await, "", "it gave way");
    let mut busy = vec![slow];
    let told = loop {
        let mut next = with_a_part(&edge.address, 100, 1).await;
        let mut start = [0; 1_000];
        match timeout(Duration::from_millis(300), next.read(&mut start)).await {
            Err(_taken) => busy.push(next),
            Ok(read) => break String::from_utf8_lossy(&start[..read.unwrap()]).into_owned(),
        }
    };
    assert_eq!(busy.len(), 3);
    assert!(told.starts_with("HTTP/1.1 503 ") && told.contains("limits.connections)"), "{told}");
    let mut first = busy.swap_remove(0);
    assert!(self::told(&mut first).await.starts_with("HTTP/1.1 408 "), "what is served is served to its end");
}

#[tokio::test]
async fn a_node_that_goes_down_does_not_wait_for_the_slow() {
    let database = Database::fresh(Backend::Sqlite).await;
    let mut node = Node::new(database.url()).with_environment("SKALD_DRAIN", "4s");
    node.start().await;
    let address = node.url().trim_start_matches("http://").to_owned();
    // So much of a body has half a minute.
    let mut slow = join_all((0..10).map(|_| with_a_part(&address, 100_000, 50_000))).await;
    let mut half_a_head = TcpStream::connect(&address).await.unwrap();
    half_a_head.write_all(b"GET /healthz HTTP/1.1\r\nhost:").await.unwrap();
    sleep(Duration::from_millis(500)).await;
    let told_to = Instant::now();
    let (status, told) = tokio::join!(node.terminate(), join_all(slow.iter_mut().map(told)));
    assert!(status.success(), "{status}; {}", node.log());
    for told in told {
        assert!(told.starts_with("HTTP/1.1 503 ") && told.contains("\"draining\""), "{told}");
    }
    assert!(told_to.elapsed() < Duration::from_secs(4), "{:?}", told_to.elapsed());
    // An answer may stay unread until the time to drain is over.
    node.start().await;
    let _deaf = join_all((0..10).map(|_| asks_for_much(&address, 20))).await;
    sleep(Duration::from_millis(500)).await;
    let told_to = Instant::now();
    assert!(node.terminate().await.success(), "{}", node.log());
    assert!(told_to.elapsed() < Duration::from_secs(8), "{:?}", told_to.elapsed());
}
