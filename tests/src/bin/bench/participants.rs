//! Trivial participants, their own process: they answer at once, and count.
//!
//! `/hold…` waits until the gate opens, `/accept…` answers 202, `/refuse…` 409; all else 200. `/control/open` opens the
//! gate, `/control/count` tells what came since the last `/control/mark`.

use std::{
    collections::HashSet,
    convert::Infallible,
    io::Write,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, StatusCode, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::sync::watch;

/// 100 bytes.
const ANSWER: &[u8] =
    br#"{"id":"0123456789abcdef","note":"a body of exactly one hundred bytes, as the bars of speed demand."}"#;

struct Counts {
    calls: AtomicU64,
    /// Unix milliseconds of the first call since the mark; 0: none yet.
    first: AtomicU64,
    /// Whether `/last…` keys are kept, to count each once.
    marked: AtomicBool,
    finished: Mutex<HashSet<String>>,
    gate: watch::Sender<bool>,
}

pub(crate) async fn serve() -> anyhow::Result<Value> {
    let counts = Arc::new(Counts {
        calls: AtomicU64::new(0),
        first: AtomicU64::new(0),
        marked: AtomicBool::new(false),
        finished: Mutex::default(),
        gate: watch::Sender::new(false),
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let counts = Arc::clone(&counts);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&counts)));
            // A peer that was killed leaves a broken connection: nothing to do about it here.
            let _broken = hyper::server::conn::http1::Builder::new()
                .pipeline_flush(true)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

async fn answer(request: Request<Incoming>, counts: Arc<Counts>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    if let Some(control) = path.strip_prefix("/control/") {
        return Ok(Response::new(Full::from(counts.control(control).to_string())));
    }
    counts.calls.fetch_add(1, Ordering::Relaxed);
    if counts.marked.load(Ordering::Relaxed) {
        let _set_before = counts.first.compare_exchange(0, unix_millis(), Ordering::Relaxed, Ordering::Relaxed);
        if path.starts_with("/last") {
            let key = request.headers().get("idempotency-key").and_then(|key| key.to_str().ok()).unwrap_or("");
            counts.finished.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned());
        }
    }
    // The whole request is read before it is answered, as any service would.
    let _cut_off = request.into_body().collect().await;
    if path.starts_with("/hold") {
        let mut gate = counts.gate.subscribe();
        let _open = gate.wait_for(|open| *open).await;
    }
    let mut response = Response::new(Full::from(ANSWER));
    if path.starts_with("/accept") {
        *response.status_mut() = StatusCode::ACCEPTED;
    } else if path.starts_with("/refuse") {
        *response.status_mut() = StatusCode::CONFLICT;
        *response.body_mut() = Full::from(&br#"{"code":"no"}"#[..]);
    }
    response.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static("application/json"));
    Ok(response)
}

impl Counts {
    fn control(&self, word: &str) -> Value {
        match word {
            "open" => self.gate.send_modify(|open| *open = true),
            "mark" => {
                self.calls.store(0, Ordering::Relaxed);
                self.first.store(0, Ordering::Relaxed);
                self.marked.store(true, Ordering::Relaxed);
            }
            _ => {}
        }
        json!({
            "calls": self.calls.load(Ordering::Relaxed),
            "first_ms": self.first.load(Ordering::Relaxed),
            "finished": self.finished.lock().unwrap_or_else(PoisonError::into_inner).len(),
        })
    }
}
