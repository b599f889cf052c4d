//! A request's body: whole, within the limits, at the least rate, and JSON.

use std::sync::Arc;

use axum::body::{Body, HttpBody, to_bytes};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::{
    HeaderMap,
    header::{CONTENT_ENCODING, CONTENT_TYPE, EXPECT},
};
use skald_engine::limit;
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;

use super::{
    error::Error,
    memory::Room,
    slow_peers::{BODY_GRACE, BODY_TIMEOUT, at_least_rate},
};

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// How much of a body that is too large is still read, so that its sender gets to read the answer.
const DRAINED: usize = 16 << 20;

/// The whole body of an admitted request; empty or JSON.
pub(super) async fn whole(headers: &HeaderMap, body: Body) -> Result<Bytes, Error> {
    let bytes = to_bytes(body, limit::REQUEST_BODY).await.map_err(Error::BodyCut)?;
    if !bytes.is_empty() && !is_json(headers) {
        return Err(Error::UnsupportedMediaType);
    }
    if bytes.starts_with(BYTE_ORDER_MARK) {
        let message = "it begins with a byte-order mark (U+FEFF): send UTF-8 without one (RFC 8259, 8.1)".to_owned();
        return Err(Error::InvalidJson { message });
    }
    Ok(bytes)
}

/// The whole body, within the limit, if it comes fast enough and there is room for it.
pub(super) async fn collect(room: &Arc<Room>, headers: &HeaderMap, body: Body) -> Result<Bytes, Error> {
    let announced = body.size_hint().lower();
    if announced > limit::REQUEST_BODY as u64 && headers.contains_key(EXPECT) {
        return Err(Error::BodyTooLarge);
    }
    let began = tokio::time::Instant::now();
    let mut stream = body.into_data_stream();
    let mut size = 0;
    // Copied: each part, however small, would hold a buffer of its own.
    let mut whole = BytesMut::new();
    let gives_way = CancellationToken::new();
    let mut share = None;
    loop {
        let until = (BODY_GRACE + at_least_rate(size)).min(BODY_TIMEOUT);
        let part = tokio::select! {
            part = timeout_at(began + until, stream.next()) => part,
            () = gives_way.cancelled() => return Err(no_room()),
        };
        let part = part.map_err(|_| Error::BodyTimeout { received: size, after: until })?;
        let Some(part) = part.transpose().map_err(Error::BodyCut)? else { break };
        size += part.len();
        if size > DRAINED {
            break;
        }
        if size > limit::REQUEST_BODY {
            whole = BytesMut::new();
        } else if size == part.len() && stream.is_end_stream() {
            return Ok(part);
        } else {
            whole.extend_from_slice(&part);
        }
        if !share.get_or_insert_with(|| room.share(gives_way.clone())).hold(whole.capacity()) {
            return Err(no_room());
        }
    }
    if size > limit::REQUEST_BODY {
        return Err(Error::BodyTooLarge);
    }
    Ok(whole.freeze())
}

fn no_room() -> Error {
    Error::busy("too many bodies are still arriving")
}

/// A body without a `Content-Type` is refused too: a page of another site may send such a one unasked.
fn is_json(headers: &HeaderMap) -> bool {
    let encoded = headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity");
    let Some(media) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    let media = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    !encoded && (media == "application/json" || (media.starts_with("application/") && media.ends_with("+json")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderValue;
    use tokio::time::sleep;

    use super::*;

    fn of(chunks: &[usize]) -> Body {
        let parts: Vec<_> = chunks.iter().map(|size| Ok::<_, std::io::Error>(Bytes::from(vec![b' '; *size]))).collect();
        Body::from_stream(futures_util::stream::iter(parts))
    }

    #[tokio::test]
    async fn a_body_in_any_chunks_is_whole_or_too_large() {
        let json = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"))]);
        let (most, room) = (limit::REQUEST_BODY, Room::new(64 << 20));
        for (chunks, whole) in
            [(vec![], 0), (vec![5], 5), (vec![1, 2, 3], 6), (vec![most], most), (vec![most - 1, 1], most)]
        {
            assert_eq!(collect(&room, &json, of(&chunks)).await.unwrap().len(), whole, "{chunks:?}");
        }
        for chunks in [vec![most + 1], vec![most, 1], vec![1, most, 1], vec![DRAINED; 3]] {
            assert!(matches!(collect(&room, &json, of(&chunks)).await, Err(Error::BodyTooLarge)), "{chunks:?}");
        }
        let small = Room::new(10);
        assert!(matches!(collect(&small, &json, of(&[6, 5])).await, Err(Error::Busy { .. })));
    }

    /// So many bytes, each after so long.
    async fn drop_by_drop(bytes: usize, pause: Duration) -> Result<usize, (usize, u64)> {
        let drops = futures_util::stream::iter(0..bytes).then(move |_| async move {
            sleep(pause).await;
            Ok::<_, std::io::Error>(Bytes::from_static(b" "))
        });
        match collect(&Room::new(1 << 20), &HeaderMap::new(), Body::from_stream(drops)).await {
            Ok(whole) => Ok(whole.len()),
            Err(Error::BodyTimeout { received, after }) => Err((received, after.as_secs())),
            Err(other) => panic!("{other}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_comes_at_the_least_rate_and_within_its_time() {
        let (ms, second) = (Duration::from_millis(1), Duration::from_secs(1));
        assert_eq!(drop_by_drop(4, second).await, Ok(4), "within the grace any rate will do");
        assert_eq!(drop_by_drop(10, second).await, Err((5, 5)));
        assert_eq!(drop_by_drop(20_000, ms).await.map_err(|(_, after)| after), Ok(20_000));
        assert_eq!(drop_by_drop(1 << 20, ms).await.map_err(|(_, after)| after), Err(30));
    }

    #[tokio::test]
    async fn a_body_says_that_it_is_json() {
        let headers = |media: &'static str| HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(media))]);
        for media in ["application/json", "Application/JSON; charset=utf-8", "application/merge-patch+json"] {
            assert!(whole(&headers(media), of(&[1])).await.is_ok(), "{media}");
        }
        for media in ["text/plain", "text/json", "application/x-www-form-urlencoded", ""] {
            assert!(matches!(whole(&headers(media), of(&[1])).await, Err(Error::UnsupportedMediaType)), "{media}");
            assert!(whole(&headers(media), of(&[])).await.is_ok(), "an empty body needs no type");
        }
    }
}
