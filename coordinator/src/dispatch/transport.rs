//! One HTTP exchange: the shared client, and what may be known when there is no whole answer.
//!
//! Only a failure to connect (name, TCP, TLS) proves that nothing was sent. Whatever fails later may have run, and a
//! deadline that passes may have run too, as nobody can tell how far the request came.

use std::{error::Error as StdError, fmt::Write as _, path::Path, sync::Once, time::Duration};

use bytes::Bytes;
use reqwest::{Body, Certificate, Client, ClientBuilder, Request, redirect};
use url::Url;

use super::{
    Error,
    contract::{HttpAnswer, Message, Payload},
    egress::{Denied, EgressPolicy, Guarded},
    permit::{HeldBack, Permit, PermittedBody},
};

/// Below the five seconds after which common servers (Node.js) close an idle connection: a request that meets the
/// closing is lost, and a lost request may have run.
const IDLE: Duration = Duration::from_secs(4);

pub(super) struct Transport {
    client: Client,
    egress: EgressPolicy,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{0}")]
    Denied(Denied),
    /// Not a byte of the request was written.
    #[error("{0}")]
    NotSent(String),
    #[error("{0}")]
    Lost(String),
    #[error("no whole answer within {0:?}")]
    TimedOut(Duration),
}

/// Why there is no answer, or no attempt.
#[derive(Debug)]
pub(super) enum Unanswered {
    Failed(Failure),
    /// Its permit ended before a byte of it was written.
    Withheld,
}

impl From<Failure> for Unanswered {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Failure {
    pub(super) const fn code(&self) -> &'static str {
        match self {
            Self::Denied(_) => "egress_denied",
            Self::NotSent(_) => "not_sent",
            Self::Lost(_) => "connection_lost",
            Self::TimedOut(_) => "timeout",
        }
    }
}

/// Makes ring the process's TLS provider. Whoever uses TLS calls it; only the first call does something.
pub fn install_tls() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Only fails where the process has one already.
        drop(rustls::crypto::ring::default_provider().install_default());
    });
}

impl Transport {
    pub(super) fn new(
        egress: EgressPolicy,
        connect_timeout: Duration,
        idle_per_host: usize,
        extra_roots: Option<&Path>,
    ) -> Result<Self, Error> {
        let builder = || {
            Client::builder()
                .user_agent(concat!("skald/", env!("CARGO_PKG_VERSION")))
                .dns_resolver(Guarded(egress))
                .redirect(redirect::Policy::none())
                .retry(reqwest::retry::never())
                .referer(false)
                .no_proxy()
                .connect_timeout(connect_timeout)
                .tcp_nodelay(true)
                .tcp_keepalive(Duration::from_secs(30))
                .pool_idle_timeout(IDLE)
                .pool_max_idle_per_host(idle_per_host)
        };
        let client = match extra_roots {
            Some(path) => with_roots(builder(), path)?.build(),
            None => builder().build().or_else(|error| {
                // Plain HTTP must work in an image without any certificates.
                tracing::warn!(%error, "no system certificates: calls over https will fail");
                builder().tls_certs_only([]).build()
            }),
        };
        Ok(Self { client: client.map_err(Error::Client)?, egress })
    }

    /// `most`: bytes of an answer that are read.
    pub(super) async fn exchange(
        &self,
        url: Url,
        message: Message,
        most: usize,
        permit: &Permit,
    ) -> Result<HttpAnswer, Unanswered> {
        self.egress.check(&url).map_err(Failure::Denied)?;
        let mut request = Request::new(message.method, url);
        *request.headers_mut() = message.headers;
        let (body, fate) = PermittedBody::new(message.body, permit.clone());
        *request.body_mut() = Some(Body::wrap(body));
        let sent = self.client.execute(request).await;
        let mut response = sent.map_err(|error| match fate.held_back() {
            Some(HeldBack::Whole) => Unanswered::Withheld,
            Some(HeldBack::InPart) => Failure::Lost("the lease ended while the request was written".to_owned()).into(),
            None => unanswered(error).into(),
        })?;
        let expected = response.content_length().unwrap_or(0);
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        let Ok(expected) = usize::try_from(expected) else {
            return Ok(HttpAnswer { status, headers, body: Payload::TooLarge });
        };
        if expected > most {
            return Ok(HttpAnswer { status, headers, body: Payload::TooLarge });
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(cut_off)? {
            if body.len() + chunk.len() > most {
                return Ok(HttpAnswer { status, headers, body: Payload::TooLarge });
            }
            if body.is_empty() {
                body.reserve_exact(expected.max(chunk.len()));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(HttpAnswer { status, headers, body: Payload::Whole(body) })
    }
}

fn with_roots(builder: ClientBuilder, path: &Path) -> Result<ClientBuilder, Error> {
    let wrong = |why: String| Error::Misconfigured(format!("certificates in {}: {why}", path.display()));
    let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let roots = Certificate::from_pem_bundle(&pem).map_err(|error| wrong(error.to_string()))?;
    Ok(builder.tls_certs_merge(roots))
}

fn unanswered(error: reqwest::Error) -> Failure {
    let error = error.without_url();
    if let Some(denied) = causes(&error).find_map(|cause| cause.downcast_ref::<Denied>()) {
        return Failure::Denied(denied.clone());
    }
    if error.is_connect() || error.is_builder() {
        Failure::NotSent(story(&error))
    } else {
        Failure::Lost(story(&error))
    }
}

fn cut_off(error: reqwest::Error) -> Failure {
    Failure::Lost(format!("the answer was cut off: {}", story(&error.without_url())))
}

fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn StdError + 'static)| (*error).source())
}

/// An error with its causes; a cause that only repeats the one before is left out.
fn story(error: &(dyn StdError + 'static)) -> String {
    let mut text = String::new();
    for cause in causes(error) {
        let word = cause.to_string();
        if !text.ends_with(&word) {
            let separator = if text.is_empty() { "" } else { ": " };
            write!(text, "{separator}{word}").expect("a String takes any text");
        }
    }
    text
}

/// A body without a copy.
pub(super) struct Shared(pub(super) skald_protocol::Json);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.0.text().as_bytes()
    }
}

impl From<Shared> for Bytes {
    fn from(shared: Shared) -> Self {
        Self::from_owner(shared)
    }
}
