//! What happened to a transaction: pages of it, or a stream that follows it live.
//!
//! A stream ends after the settlement (or when this node goes down); `Last-Event-ID` takes it up again anywhere.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::{
    Extension, Json,
    extract::{Request, State},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use http::{HeaderMap, HeaderValue, StatusCode, header::ACCEPT};
use skald_protocol::{Gid, Page, Problem, PublicEvent};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    Api,
    error::Error,
    middleware::Admission,
    params::{self, InPath, Query},
};

const PAGE: usize = 500;
const LONGEST_PAGE: usize = 5_000;
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const BUSY_RETRY: Duration = Duration::from_secs(5);

/// After which event; `None`: from the first.
type After = Option<(u64, usize)>;

/// Read or follow what happened
///
/// With `Accept: text/event-stream` the stream goes on live until the settlement; each message's id is the event's.
#[utoipa::path(
    get, path = "/v1/transactions/{gid}/events", tag = "transactions",
    params(
        ("gid" = String, Path),
        ("limit" = Option<u32>, Query, description = "1 to 5000, default 500; not of a stream"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before, or any event's id"),
        ("last-event-id" = Option<String>, Header, description = "Of a stream: the id of the last event seen"),
    ),
    responses(
        (status = 200, content(
            (Page<PublicEvent> = "application/json"),
            (String = "text/event-stream"),
        )),
        (status = 204, description = "Of a stream: the last event was seen, nothing more will come"),
        (status = 404, description = "`unknown_gid`", body = Problem, content_type = "application/problem+json"),
        (status = 410, description = "`expired`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn events(
    State(api): State<Api>,
    Extension(place): Extension<Admission>,
    InPath(gid): InPath,
    request: Request,
) -> Result<Response, Error> {
    let (parts, _) = request.into_parts();
    let mut query = Query::of(&parts);
    let cursor = query.one("cursor")?;
    let after = cursor.map(|id| params::event_place(&id).ok_or(Error::BadCursor)).transpose()?;
    let limit = query.limit("limit", PAGE, LONGEST_PAGE)?;
    query.end()?;
    if wants_stream(&parts.headers) {
        let after = last_seen(&parts.headers)?.or(after);
        return follow(api, place, gid, after).await;
    }
    let mut items = api.coordinator.events(&gid, after).await?;
    let has_more = items.len() > limit;
    items.truncate(limit);
    let next_cursor = items.last().filter(|_| has_more).map(|last| last.id.clone());
    Ok(Json(Page { items, next_cursor }).into_response())
}

fn wants_stream(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|media| {
        media.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case("text/event-stream"))
    })
}

fn last_seen(headers: &HeaderMap) -> Result<After, Error> {
    let Some(id) = headers.get("last-event-id").filter(|id| !id.is_empty()) else { return Ok(None) };
    let place = id.to_str().ok().and_then(params::event_place);
    place.map(Some).ok_or_else(|| Error::InvalidHeader {
        name: "last-event-id",
        message: "is the id of an event, `<seq>.<index>`".to_owned(),
    })
}

async fn follow(api: Api, place: Admission, gid: Gid, after: After) -> Result<Response, Error> {
    let Ok(waiting) = api.waiting.clone().try_acquire_owned() else {
        let what = "too many requests are waiting (this node's setting limits.waiting)".into();
        return Err(Error::Busy { what, retry_after: BUSY_RETRY });
    };
    place.give_back();
    // The first page is read before the answer starts, so that a fault is still a problem.
    let first = api.coordinator.events(&gid, after).await?;
    if first.is_empty() && api.coordinator.get(&gid, 0..0).await?.status.is_final() {
        // EventSource opens a stream that ended again, unless it is told that there is nothing.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let follow = Follow { api, gid, after, queue: first.into(), ended: false, _waiting: waiting };
    let stream = futures_util::stream::unfold(follow, Follow::next);
    let mut response = Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    // A proxy that buffers would hold events back.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

struct Follow {
    api: Api,
    gid: Gid,
    after: After,
    queue: VecDeque<PublicEvent>,
    ended: bool,
    _waiting: OwnedSemaphorePermit,
}

impl Follow {
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        while !self.ended {
            if let Some(event) = self.queue.pop_front() {
                self.after = params::event_place(&event.id).or(self.after);
                self.ended = event.kind.is_last();
                let message = Event::default().id(&event.id).json_data(&event).ok()?;
                return Some((Ok(message), self));
            }
            self.wait().await?;
        }
        None
    }

    /// `None`: the stream ends here, and may be taken up again elsewhere.
    async fn wait(&mut self) -> Option<()> {
        // Asked for before the look, so that nothing falls in between.
        let changed = self.api.coordinator.changed(&self.gid);
        self.queue = self.api.coordinator.events(&self.gid, self.after).await.ok()?.into();
        if self.queue.is_empty() {
            tokio::select! {
                () = changed => {}
                () = self.api.drain.cancelled() => return None,
            }
        }
        Some(())
    }
}
