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
    body::{Body, HttpBody},
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{
    HeaderValue,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use tokio::{sync::OwnedSemaphorePermit, time::sleep};

use super::{
    Api, body,
    error::{Error, SHED_RETRY},
    memory::Room,
    serve::Closing,
    slow_peers::PacedBody,
    trace,
};
use crate::telemetry::Metrics;

/// For a body that arrives while the node goes down.
const LAST_BODIES: Duration = Duration::from_secs(1);

/// What an answer may have without being counted: the pieces in which each is written.
const SMALL_ANSWER: u64 = 64 << 10;

/// A request's place among those being served.
#[derive(Clone)]
pub(super) struct Admission(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Admission {
    /// Called before a wait.
    pub(super) fn give_back(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
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
    let full = || Error::busy("too many requests are being served (this node's setting limits.requests)");
    // Nothing is read in vain.
    if api.places.available_permits() == 0 {
        return Err(full());
    }
    let (mut parts, body) = request.into_parts();
    let body = if body.is_end_stream() {
        body
    } else {
        let whole = body::collect(&api.arriving, &parts.headers, body);
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
        return Error::busy("too much of what was answered is still to be read").into_response();
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
}
