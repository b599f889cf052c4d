//! Connections: how many there may be, and how long one may take to say what it wants and to read what it is told.
//!
//! Nobody can hold all of them for nothing: of one peer there are only so many, an idle one gives way where all are
//! taken, and one whose answer is not read is closed. One too many is told so and closed.

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::IpAddr,
    pin::pin,
    time::{Duration, Instant},
};

use axum::Router;
use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use skald_protocol::Problem;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::{
    connections::{Full, Seats},
    error::Error,
    slow_peers::{Paced, PacedBody},
};

/// After an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// For heads that have begun to arrive when it is time to stop.
const LAST_HEADS: Duration = Duration::from_secs(1);

/// What is read ahead of one connection at most, so how large a head may be; and what is written ahead.
const BUFFER: usize = 32 << 10;

/// Connections that are turned away are told once in so long.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// What a connection may take.
#[derive(Debug, Clone, Copy)]
pub struct Connections {
    pub most: usize,
    /// Of one address, or of one /64 of IPv6.
    pub per_peer: usize,
    /// For a request's head, from the moment the connection waits for one: an idle connection lasts as long.
    pub head: Duration,
    /// How long an answer may stay unread; what is read makes up for it, a second a KiB.
    pub unread: Duration,
}

impl Default for Connections {
    /// The time for a head is more than clients commonly keep an idle connection for, so that it is they who close it.
    fn default() -> Self {
        Self { most: 10_000, per_peer: 5_000, head: Duration::from_secs(120), unread: Duration::from_secs(30) }
    }
}

/// Serves until `stop`, then lets the requests under way end. If it is dropped before, every connection is closed.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    connections: Connections,
    stop: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(connections.head).max_buf_size(BUFFER);
    let seats = Seats::new(connections.most, connections.per_peer);
    let mut door = Door::new(&connections);
    let all = CancellationToken::new();
    let _closes_all = all.clone().drop_guard();
    let open = GracefulShutdown::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            // Its peer has left again.
            Err(error) if is_of_the_peer(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "connections cannot be accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let seat = match seats.take(peer.ip(), all.child_token()) {
            Ok(seat) => seat,
            Err(full) => {
                door.turn_away(&stream, peer.ip(), full);
                continue;
            }
        };
        // Without NODELAY the first answer to a peer may wait for its delayed ACK.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY was refused");
        }
        let closed = seat.closed().clone();
        let router = router.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            let busy = seat.serve();
            request.extensions_mut().insert(Closing(seat.closed().clone()));
            let answer = router.clone().oneshot(request);
            async move { Ok::<_, Infallible>(answer.await?.map(|body| PacedBody::new(body, busy))) }
        });
        let io = TokioIo::new(Paced::new(stream, connections.unread));
        let connection = open.watch(builder.serve_connection(io, service));
        tokio::spawn(async move {
            tokio::select! {
                ended = connection => {
                    if let Err(error) = ended {
                        tracing::debug!(%peer, error = &error as &dyn std::error::Error, "a connection ended");
                    }
                }
                () = closed.cancelled() => tracing::debug!(%peer, "a connection gave way"),
            }
        });
    }
    drop(listener);
    let mark = seats.mark();
    let mut ended = pin!(open.shutdown());
    if timeout(LAST_HEADS, ended.as_mut()).await.is_err() {
        seats.dismiss(mark);
        ended.await;
    }
    Ok(())
}

/// Of a request: cancelled, it closes the connection that the request came over.
#[derive(Clone)]
pub(super) struct Closing(pub(super) CancellationToken);

/// Turns connections away, each with an answer, and logs it now and then.
struct Door {
    node: (String, Vec<u8>),
    peer: (String, Vec<u8>),
    told: Option<Instant>,
    untold: u64,
}

impl Door {
    fn new(connections: &Connections) -> Self {
        let said = |detail: String| {
            let answer = too_many(&detail);
            (detail, answer)
        };
        let Connections { most, per_peer, .. } = connections;
        Self {
            node: said(format!("this node has {most} connections (its setting limits.connections), none of them idle")),
            peer: said(format!(
                "{per_peer} connections come from your address already (this node's setting limits.connections_per_peer)"
            )),
            told: None,
            untold: 0,
        }
    }

    fn turn_away(&mut self, stream: &TcpStream, peer: IpAddr, full: Full) {
        let (detail, answer) = match full {
            Full::Node => &self.node,
            Full::Peer => &self.peer,
        };
        // As much as goes into an empty socket without waiting.
        if let Err(error) = stream.try_write(answer) {
            tracing::debug!(%error, "a connection too many could not be told so");
        }
        self.untold += 1;
        if self.told.is_none_or(|told| told.elapsed() > TOLD_EVERY) {
            tracing::warn!(%peer, connections = self.untold, "connections were turned away: {detail}");
            (self.told, self.untold) = (Some(Instant::now()), 0);
        }
    }
}

fn too_many(detail: &str) -> Vec<u8> {
    let error = Error::Busy { what: detail.to_owned().into(), retry_after: Duration::from_secs(1) };
    let body = serde_json::to_string(&Problem { trace_id: None, ..error.problem("") }).unwrap_or_default();
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\
         content-type: application/problem+json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
