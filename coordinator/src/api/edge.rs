//! What stands around every call: admission, the body's limits, the writing of problems.
//!
//! A request that is only waiting (for a settlement, for the next event) gives its place back first, so that waiters
//! never crowd out work; they have places of their own.

use std::{
    any::Any,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    body::{Body, HttpBody},
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
use tokio::sync::OwnedSemaphorePermit;

use super::{Api, error::Error, trace};
use crate::telemetry::Metrics;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
/// A body that takes longer holds its place for nothing.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// How much of a body that is too large is still read, so that its sender gets to read the answer.
const DRAINED: usize = 16 << 20;

const SHED_RETRY: Duration = Duration::from_secs(1);

/// A request's place among those being served.
#[derive(Clone)]
pub(super) struct Place(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Place {
    /// Called before a wait.
    pub(super) fn give_back(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Takes a request or sheds it, before anything of it is read.
pub(super) async fn admit(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let Ok(permit) = api.places.clone().try_acquire_owned() else {
        return Error::Busy { retry_after: SHED_RETRY }.into_response();
    };
    let place = Place(Arc::new(Mutex::new(Some(permit))));
    request.extensions_mut().insert(place.clone());
    let response = next.run(request).await;
    drop(place);
    response
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

/// The whole body; empty or JSON, and within the limit.
pub(super) async fn body(headers: &HeaderMap, body: Body) -> Result<Bytes, Error> {
    let bytes = tokio::time::timeout(BODY_TIMEOUT, collect(headers, body))
        .await
        .map_err(|_| Error::BodyTimeout(BODY_TIMEOUT))??;
    if !bytes.is_empty() && !is_json(headers) {
        return Err(Error::UnsupportedMediaType);
    }
    if bytes.starts_with(BYTE_ORDER_MARK) {
        let message = "it begins with a byte-order mark (U+FEFF): send UTF-8 without one (RFC 8259, 8.1)".to_owned();
        return Err(Error::InvalidJson { message });
    }
    Ok(bytes)
}

async fn collect(headers: &HeaderMap, body: Body) -> Result<Bytes, Error> {
    let announced = body.size_hint().lower();
    if announced > limit::REQUEST_BODY as u64 && headers.contains_key(EXPECT) {
        return Err(Error::BodyTooLarge);
    }
    let mut stream = body.into_data_stream();
    let Some(first) = stream.next().await.transpose().map_err(Error::BodyCut)? else { return Ok(Bytes::new()) };
    let mut size = first.len();
    let mut parts = vec![first];
    while let Some(part) = stream.next().await.transpose().map_err(Error::BodyCut)? {
        size += part.len();
        if size <= limit::REQUEST_BODY {
            parts.push(part);
        } else {
            parts.clear();
        }
        if size > DRAINED {
            break;
        }
    }
    if size > limit::REQUEST_BODY {
        return Err(Error::BodyTooLarge);
    }
    if parts.len() == 1 {
        return Ok(parts.swap_remove(0));
    }
    let mut whole = BytesMut::with_capacity(size);
    for part in &parts {
        whole.extend_from_slice(part);
    }
    Ok(whole.freeze())
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
        let most = limit::REQUEST_BODY;
        for (chunks, whole) in
            [(vec![], 0), (vec![5], 5), (vec![1, 2, 3], 6), (vec![most], most), (vec![most - 1, 1], most)]
        {
            assert_eq!(body(&json, of(&chunks)).await.unwrap().len(), whole, "{chunks:?}");
        }
        for chunks in [vec![most + 1], vec![most, 1], vec![1, most, 1], vec![DRAINED; 3]] {
            assert!(matches!(body(&json, of(&chunks)).await, Err(Error::BodyTooLarge)), "{chunks:?}");
        }
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
