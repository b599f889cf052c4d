//! What stands around every call: the body's limits, admission, the writing of problems.
//!
//! A place is for work: it is taken once the body is there, and a request that is only waiting (for a settlement, for
//! the next event) gives it back first. What is held before and after, bodies that arrive and answers that are read, is
//! counted in bytes.

use std::{
    any::Any,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    body::{Body, HttpBody, to_bytes},
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::{
    HeaderMap, HeaderValue,
    header::{CONTENT_ENCODING, CONTENT_TYPE, EXPECT, RETRY_AFTER},
};
use skald_engine::limit;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    Api,
    error::Error,
    memory::Room,
    serve::Closing,
    slow_readers::{PacedBody, at_least_rate},
    trace,
};
use crate::telemetry::Metrics;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// For a body, however large it is.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// For a body before it has to come at the least rate.
pub(super) const BODY_GRACE: Duration = Duration::from_secs(5);

/// For a body that arrives while the node goes down.
const LAST_BODIES: Duration = Duration::from_secs(1);

/// What an answer may have without being counted: the pieces in which each is written.
const SMALL_ANSWER: u64 = 64 << 10;

/// How much of a body that is too large is still read, so that its sender gets to read the answer.
const DRAINED: usize = 16 << 20;

const SHED_RETRY: Duration = Duration::from_secs(1);

/// A request's place among those being served.
#[derive(Clone)]
pub(super) struct Admission(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Admission {
    /// Called before a wait.
    pub(super) fn give_back(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

fn busy(what: &'static str) -> Error {
    Error::Busy { what: what.into(), retry_after: SHED_RETRY }
}

/// Takes a request or sheds it.
pub(super) async fn admit(State(api): State<Api>, request: Request, next: Next) -> Response {
    match placed(&api, request).await {
        Ok((place, request)) => {
            let response = next.run(request).await;
            drop(place);
            response
        }
        Err(error) => error.into_response(),
    }
}

async fn placed(api: &Api, request: Request) -> Result<(Admission, Request), Error> {
    let full = || busy("too many requests are being served (this node's setting limits.requests)");
    // Nothing is read in vain.
    if api.places.available_permits() == 0 {
        return Err(full());
    }
    let (mut parts, body) = request.into_parts();
    let body = if body.is_end_stream() {
        body
    } else {
        let whole = collect(&api.arriving, &parts.headers, body);
        let going_down = async {
            api.drain.cancelled().await;
            sleep(LAST_BODIES).await;
        };
        tokio::select! {
            biased;
            whole = whole => whole?.into(),
            () = going_down => return Err(Error::Draining { retry_after: SHED_RETRY }),
        }
    };
    let permit = api.places.clone().try_acquire_owned().map_err(|_| full())?;
    let place = Admission(Arc::new(Mutex::new(Some(permit))));
    parts.extensions.insert(place.clone());
    Ok((place, Request::from_parts(parts, body)))
}

/// Keeps the answers that wait to be read within their room, by closing the connections of those who read slowest. What
/// changed something is answered all the same.
pub(super) async fn keep(State(unread): State<Arc<Room>>, request: Request, next: Next) -> Response {
    let closing = request.extensions().get::<Closing>().cloned();
    let safe = request.method().is_safe();
    let response = next.run(request).await;
    let size = response.body().size_hint().lower();
    let Some(Closing(closing)) = closing.filter(|_| size > SMALL_ANSWER) else { return response };
    let share = unread.share(closing);
    if !share.hold(usize::try_from(size).unwrap_or(usize::MAX)) && safe {
        return busy("too much of what was answered is still to be read").into_response();
    }
    response.map(|body| Body::new(PacedBody::new(body, share)))
}

/// Writes the problem and the one log line of a call that failed.
pub(super) async fn answer(State(metrics): State<Arc<Metrics>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let caller = trace::caller(request.headers());
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    let route = route.as_ref().map_or("-", MatchedPath::as_str);
    metrics.http_request(method.as_str(), route, response.status().as_u16(), started.elapsed());
    let Some(error) = response.extensions_mut().remove::<Arc<Error>>() else { return response };
    let trace_id = caller.map_or_else(trace::new_id, |caller| caller.trace_id);
    let problem = error.problem(&trace_id);
    let (status, code) = (problem.status, problem.code.as_str());
    match error.level() {
        tracing::Level::ERROR => {
            tracing::error!(%method, route, status, code, trace_id, error = &*error as &dyn std::error::Error, "request failed");
        }
        // Who asks for it asks again, and what keeps the node from being ready has its own line.
        tracing::Level::WARN if route != "/readyz" => {
            tracing::warn!(%method, route, status, code, trace_id, %error, "request turned away")
        }
        _ => tracing::debug!(%method, route, status, code, trace_id, %error, "request refused"),
    }
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if let Some(pause) = error.retry_after() {
        headers.insert(RETRY_AFTER, HeaderValue::from(pause.as_secs().max(1)));
    }
    headers.remove(http::header::CONTENT_LENGTH);
    *response.body_mut() = Body::from(body);
    response
}

/// A panic is a fault of ours: told as a problem, its text only in the log.
pub(super) fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast_ref::<&str>().map_or_else(|| "no text".to_owned(), |text| (*text).to_owned()),
    };
    tracing::error!(panic = text, "a request panicked");
    Error::Panicked.into_response()
}

/// The whole body of an admitted request; empty or JSON.
pub(super) async fn body(headers: &HeaderMap, body: Body) -> Result<Bytes, Error> {
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
async fn collect(room: &Arc<Room>, headers: &HeaderMap, body: Body) -> Result<Bytes, Error> {
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
    busy("too many bodies are still arriving")
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
    use axum::{Router, middleware, routing::get};
    use tower::ServiceExt;
    use tower_http::catch_panic::CatchPanicLayer;

    use super::*;

    async fn told(router: Router, request: Request) -> (u16, serde_json::Value) {
        let response = router.oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    fn panicking(metrics: &Arc<Metrics>) -> Router {
        Router::new()
            .route(
                "/panics",
                get(|| async {
                    if true {
                        panic!("the secret")
                    }
                }),
            )
            .layer(CatchPanicLayer::custom(panicked))
            .layer(middleware::from_fn_with_state(Arc::clone(metrics), answer))
    }

    #[tokio::test]
    async fn a_panic_is_a_counted_problem_that_keeps_its_text_to_itself() {
        let metrics = Arc::new(Metrics::new());
        let request = Request::get("/panics").body(Body::empty()).unwrap();
        let (status, problem) = told(panicking(&metrics), request).await;
        assert_eq!((status, &problem["code"]), (500, &serde_json::json!("internal")));
        assert!(!problem.to_string().contains("secret"), "{problem}");
        let counted = "skald_http_requests_total{method=\"GET\",route=\"/panics\",status=\"500\"} 1";
        assert!(metrics.render().contains(counted), "{}", metrics.render());
    }

    #[tokio::test]
    async fn a_problem_carries_the_caller_s_trace() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let request = Request::get("/panics").header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"));
        let (_, problem) = told(panicking(&Arc::default()), request.body(Body::empty()).unwrap()).await;
        assert_eq!(problem["trace_id"], trace);
    }

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
            assert!(body(&headers(media), of(&[1])).await.is_ok(), "{media}");
        }
        for media in ["text/plain", "text/json", "application/x-www-form-urlencoded", ""] {
            assert!(matches!(body(&headers(media), of(&[1])).await, Err(Error::UnsupportedMediaType)), "{media}");
            assert!(body(&headers(media), of(&[])).await.is_ok(), "an empty body needs no type");
        }
    }
}
