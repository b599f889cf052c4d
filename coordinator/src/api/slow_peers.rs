//! How slowly a peer may read what it is answered.
//!
//! Only the time that a write is blocked counts, so a stream that has nothing to say stays open. Whoever reads makes up
//! for it, byte by byte; whoever reads slower than the least rate runs out of time and loses the connection.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep},
};

/// Bytes per second.
pub(super) const LEAST_RATE: u32 = 1 << 10;

/// For a body, however large it is.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// For a body before it has to come at the least rate.
pub(super) const BODY_GRACE: Duration = Duration::from_secs(5);

/// How long so many bytes may take at the least rate.
pub(super) fn at_least_rate(bytes: usize) -> Duration {
    Duration::from_secs(1) * u32::try_from(bytes).unwrap_or(u32::MAX) / LEAST_RATE
}

pub(super) struct Paced {
    stream: TcpStream,
    /// The longest that writes may be blocked on end.
    most: Duration,
    left: Duration,
    blocked: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Paced {
    pub(super) fn new(stream: TcpStream, most: Duration) -> Self {
        Self { stream, most, left: most, blocked: None }
    }

    fn paced(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let Poll::Ready(written) = written else {
            let left = self.left;
            let (_, over) = self.blocked.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(left))));
            ready!(over.as_mut().poll(cx));
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read its answer")));
        };
        if let Some((since, _)) = self.blocked.take() {
            self.left = self.left.saturating_sub(since.elapsed());
        }
        if let Ok(bytes) = written {
            self.left = self.most.min(self.left + at_least_rate(bytes));
        }
        Poll::Ready(written)
    }
}

impl AsyncRead for Paced {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Paced {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.paced(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.paced(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// An answer in pieces, so that it is as much read as is taken of it; and what is kept until the last piece is taken.
pub(super) struct PacedBody<K> {
    body: Body,
    rest: Bytes,
    _kept: K,
}

const PIECE: usize = 32 << 10;

impl<K> PacedBody<K> {
    pub(super) fn new(body: Body, kept: K) -> Self {
        Self { body, rest: Bytes::new(), _kept: kept }
    }
}

impl<K: Unpin> HttpBody for PacedBody<K> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)).transpose()?.map(Frame::into_data) {
                Some(Ok(data)) => self.rest = data,
                Some(Err(other)) => return Poll::Ready(Some(Ok(other))),
                None => return Poll::Ready(None),
            }
        }
        let piece = self.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, of_body) = (self.rest.len() as u64, self.body.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(of_body.lower() + rest);
        if let Some(upper) = of_body.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    #[tokio::test]
    async fn an_answer_in_pieces_is_the_answer() {
        for size in [0, 1, PIECE, PIECE + 1, 5 * PIECE] {
            let whole: Bytes = (0..size).map(|n| n.to_le_bytes()[0]).collect();
            let answer = PacedBody::new(Body::from(whole.clone()), ());
            assert_eq!(answer.size_hint().exact(), Some(size as u64));
            assert_eq!(to_bytes(Body::new(answer), usize::MAX).await.unwrap(), whole);
        }
    }
}
