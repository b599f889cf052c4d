//! Connections: how many there may be, and how long one may take to say what it wants.
//!
//! One too many is told so and closed. Whoever opens a connection and never finishes a request's head loses it, so that
//! nobody can hold all of them for nothing.

use std::{future::Future, io, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::sleep,
};

/// After an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\
    content-type: application/problem+json\r\ncontent-length: 93\r\n\r\n\
    {\"status\":503,\"code\":\"overloaded\",\"title\":\"too many connections\",\"detail\":\"try again later\"}\n";

/// What a connection may take.
#[derive(Debug, Clone, Copy)]
pub struct Connections {
    pub most: usize,
    /// For a request's head, from the moment the connection waits for one: an idle connection lasts as long.
    pub head: Duration,
}

impl Default for Connections {
    /// The time is more than clients commonly keep an idle connection for, so that it is they who close it.
    fn default() -> Self {
        Self { most: 10_000, head: Duration::from_secs(120) }
    }
}

/// Serves until `stop`, then lets the requests under way end.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    connections: Connections,
    stop: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(connections.head);
    let service = TowerToHyperService::new(router);
    let places = Arc::new(Semaphore::new(connections.most.min(Semaphore::MAX_PERMITS)));
    let open = GracefulShutdown::new();
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            // Its peer has left again.
            Err(error) if is_of_the_peer(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "connections cannot be accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            refuse(&stream);
            continue;
        };
        // Without NODELAY the first answer to a peer may wait for its delayed ACK.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY was refused");
        }
        let connection = open.watch(builder.serve_connection(TokioIo::new(stream), service.clone()));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended");
            }
            drop(place);
        });
    }
    drop(listener);
    open.shutdown().await;
    Ok(())
}

fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// As much as goes into an empty socket without waiting.
fn refuse(stream: &TcpStream) {
    if let Err(error) = stream.try_write(TOO_MANY) {
        tracing::debug!(%error, "a connection too many could not be told so");
    }
}
