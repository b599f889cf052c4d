use std::{
    collections::BTreeMap,
    sync::{Arc, Once},
    time::Duration,
};

use backon::{ExponentialBuilder, Retryable};
use reqwest::{
    Method, RequestBuilder, Response, Url,
    header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue},
};
use serde::{Serialize, de::DeserializeOwned};
use skald_protocol::{
    Begin, BranchRequest, DryRun, EnlistedView, FailRequest, Gid, Json, Page, PublicEvent, ReasonRequest,
    ResolveRequest, RetryRequest, SignalRequest, SkipRequest, Status, Timestamp, TransactionSummary, TransactionView,
};

use crate::{Error, Follow, proxy};

/// Beside what a call may itself wait for.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(30);
const RETRIES: usize = 6;

/// A connection pool to one coordinator (or to many behind one URL). Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Arc<str>,
    proxy: Option<Arc<str>>,
    retries: usize,
}

/// A client to be: its token and how often it repeats calls.
#[derive(Debug)]
#[must_use]
pub struct ClientBuilder {
    url: String,
    token: Option<String>,
    retries: usize,
}

/// Which transactions `list` gives; none set: all, newest first.
#[derive(Debug, Clone, Default)]
pub struct ListFilter {
    /// In one of these.
    pub status: Vec<Status>,
    /// Of the published workflow of this name.
    pub workflow: Option<String>,
    /// With all of these labels.
    pub labels: BTreeMap<String, String>,
    /// Whose gid starts so.
    pub gid_prefix: Option<String>,
    /// Begun at this time or later.
    pub created_after: Option<Timestamp>,
    /// Begun before this time.
    pub created_before: Option<Timestamp>,
    /// So many on a page: from 1 to 500, without it 50.
    pub limit: Option<usize>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// An operator's command about one transaction.
#[derive(Debug, Clone)]
pub enum Operator {
    /// Makes what is stuck, or waits for its next attempt, due now.
    Retry(RetryRequest),
    /// Passes over a stuck operation as if it had been done.
    Skip(SkipRequest),
    /// Says what became of an operation that nobody can ask about.
    Resolve(ResolveRequest),
    /// Ends the transaction as `failed`, whatever stands.
    Fail(FailRequest),
    /// Lets a suspended transaction go on.
    Resume,
}

impl ClientBuilder {
    /// Sent as a bearer token.
    pub fn token(self, token: impl Into<String>) -> Self {
        Self { token: Some(token.into()), ..self }
    }

    /// How often a call that may be repeated is repeated.
    pub fn retries(self, retries: usize) -> Self {
        Self { retries, ..self }
    }

    /// # Errors
    /// [`Error::Misconfigured`] where the URL or the token cannot be used.
    pub fn build(self) -> Result<Client, Error> {
        let url = Url::parse(&self.url).map_err(|error| {
            Error::Misconfigured(format!("`{}` is not the URL of a coordinator: {error}", self.url))
        })?;
        if !matches!(url.scheme(), "http" | "https") || url.cannot_be_a_base() {
            return Err(Error::Misconfigured(format!("`{}` must start with http:// or https://", self.url)));
        }
        let mut headers = HeaderMap::new();
        if let Some(token) = &self.token {
            let mut value = HeaderValue::try_from(format!("Bearer {token}"))
                .map_err(|_| Error::Misconfigured("the token holds characters that a header cannot".into()))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        install_tls();
        let http = proxy::client(&url)
            .user_agent(concat!("skald-sdk/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .connect_timeout(Duration::from_secs(5))
            .build()
            .map_err(|error| Error::Misconfigured(error.to_string()))?;
        let proxy = proxy::of(&url).map(Into::into);
        Ok(Client { http, base: url.as_str().trim_end_matches('/').into(), proxy, retries: self.retries })
    }
}

/// For addresses that are no coordinator's: one client for each host.
#[cfg(feature = "testing")]
pub(crate) fn plain_http(url: &str) -> Result<reqwest::Client, Error> {
    install_tls();
    let url = Url::parse(url).map_err(|error| Error::Misconfigured(format!("`{url}` is no URL: {error}")))?;
    proxy::client(&url).build().map_err(|error| Error::Misconfigured(error.to_string()))
}

/// reqwest is built without a TLS provider of its own; the first one installed in the process stays.
fn install_tls() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error means that the program chose its provider already: that one is used.
        let _chosen_before = rustls::crypto::ring::default_provider().install_default();
    });
}

impl Client {
    /// For the coordinator at this URL, without a token.
    ///
    /// # Errors
    /// [`Error::Misconfigured`] where the URL cannot be used.
    pub fn new(url: &str) -> Result<Self, Error> {
        Self::builder(url).build()
    }

    /// For the coordinator at this URL, with what the builder is told.
    pub fn builder(url: &str) -> ClientBuilder {
        ClientBuilder { url: url.to_owned(), token: None, retries: RETRIES }
    }

    /// Where the coordinator answers, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.base
    }

    pub(crate) fn retries(&self) -> usize {
        self.retries
    }

    /// As `begin`, from the request itself. With `wait`, returns once it settled or was suspended, or when that time (60 s at most)
    /// is over.
    pub async fn begin_with(&self, mut begin: Begin, wait: Option<Duration>) -> Result<TransactionView, Error> {
        begin.gid.get_or_insert_with(new_gid);
        self.post("/v1/transactions", &begin, wait).await
    }

    /// An open transaction: branches are enlisted, then it is committed or cancelled; its `timeout` cancels it.
    pub async fn begin_open(
        &self,
        gid: Option<Gid>,
        timeout: &str,
        labels: BTreeMap<String, String>,
    ) -> Result<TransactionView, Error> {
        let begin = Begin { gid, open: true, timeout: Some(timeout.to_owned()), labels, ..Begin::default() };
        self.begin_with(begin, None).await
    }

    /// With a `try` in it, returns once the try has an outcome, or when `wait` (default 30 s) is over.
    pub async fn enlist(
        &self,
        gid: &Gid,
        branch: &BranchRequest,
        wait: Option<Duration>,
    ) -> Result<EnlistedView, Error> {
        self.post(&format!("/v1/transactions/{gid}/branches"), branch, wait.or(Some(Duration::from_secs(30)))).await
    }

    /// Commits an open transaction: every branch that was tried is confirmed. Waits so long for its end.
    pub async fn commit(&self, gid: &Gid, wait: Option<Duration>) -> Result<TransactionView, Error> {
        self.post(&format!("/v1/transactions/{gid}/commit"), &serde_json::json!({}), wait).await
    }

    /// Asks for a transaction to be undone; one whose pivot has happened is not. Waits so long for its end.
    pub async fn cancel(
        &self,
        gid: &Gid,
        reason: Option<String>,
        wait: Option<Duration>,
    ) -> Result<TransactionView, Error> {
        self.post(&format!("/v1/transactions/{gid}/cancel"), &ReasonRequest { reason }, wait).await
    }

    /// Sends a signal to a transaction, which keeps the first of each name: also before something waits for it.
    pub async fn signal(&self, gid: &Gid, name: &str, payload: Option<Json>) -> Result<TransactionView, Error> {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b"_.~-".contains(&b);
        if name.is_empty() || !name.bytes().all(inner) {
            return Err(Error::Misconfigured(format!("{name:?} is no signal's name: letters, digits and `_.~-`")));
        }
        self.post(&format!("/v1/transactions/{gid}/signals/{name}"), &SignalRequest { payload }, None).await
    }

    /// The transaction with all its branches, however many pages they take.
    pub async fn get(&self, gid: &Gid) -> Result<TransactionView, Error> {
        let path = format!("/v1/transactions/{gid}");
        let mut view: TransactionView = self.read(&path, &[] as &[(&str, String)]).await?;
        while let Some(cursor) = view.branches_next_cursor.take() {
            let next: TransactionView = self.read(&path, &[("branch_cursor", cursor)]).await?;
            let mut branches = view.branches;
            branches.extend(next.branches.iter().cloned());
            view = TransactionView { branches, ..next };
        }
        Ok(view)
    }

    /// A page of transactions, newest first.
    pub async fn list(&self, filter: &ListFilter) -> Result<Page<TransactionSummary>, Error> {
        let mut query: Vec<(String, String)> = Vec::new();
        let mut put = |key: &str, value: Option<String>| query.extend(value.map(|value| (key.to_owned(), value)));
        for status in &filter.status {
            put("status", Some(status.to_string()));
        }
        put("workflow", filter.workflow.clone());
        put("gid", filter.gid_prefix.clone());
        put("created_after", filter.created_after.map(|at| at.to_string()));
        put("created_before", filter.created_before.map(|at| at.to_string()));
        put("limit", filter.limit.map(|limit| limit.to_string()));
        put("cursor", filter.cursor.clone());
        for (key, value) in &filter.labels {
            put(&format!("label.{key}"), Some(value.clone()));
        }
        self.read("/v1/transactions", &query).await
    }

    /// What has happened so far.
    pub async fn events(&self, gid: &Gid) -> Result<Vec<PublicEvent>, Error> {
        let path = format!("/v1/transactions/{gid}/events");
        let mut all = Vec::new();
        let mut query = Vec::new();
        loop {
            let page: Page<PublicEvent> = self.read(&path, &query).await?;
            all.extend(page.items);
            match page.next_cursor {
                Some(cursor) => query = vec![("cursor", cursor)],
                None => return Ok(all),
            }
        }
    }

    /// What has happened and what happens, as it does, until the transaction settles.
    #[must_use]
    pub fn follow(&self, gid: &Gid) -> Follow {
        Follow::new(self.clone(), gid.clone())
    }

    /// Repeated where its answer is lost, under a key of its own, so that it is taken once.
    pub async fn operate(&self, gid: &Gid, command: &Operator) -> Result<TransactionView, Error> {
        let key = uuid::Uuid::now_v7().to_string();
        let send = || async { self.once(self.command(gid, command, "")?.header("idempotency-key", &key)).await };
        self.repeated(send).await
    }

    /// The calls that the command would lead to; nothing changes.
    pub async fn dry_run(&self, gid: &Gid, command: &Operator) -> Result<DryRun, Error> {
        self.once(self.command(gid, command, "?dry_run=true")?).await
    }

    fn command(&self, gid: &Gid, command: &Operator, query: &str) -> Result<RequestBuilder, Error> {
        let (name, body) = match command {
            Operator::Retry(body) => ("retry", serde_json::to_value(body)),
            Operator::Skip(body) => ("skip", serde_json::to_value(body)),
            Operator::Resolve(body) => ("resolve", serde_json::to_value(body)),
            Operator::Fail(body) => ("fail", serde_json::to_value(body)),
            Operator::Resume => ("resume", Ok(serde_json::json!({}))),
        };
        let body = body.map_err(|error| Error::Misconfigured(error.to_string()))?;
        let url = format!("{}/v1/transactions/{gid}/{name}{query}", self.base);
        Ok(self.http.post(url).json(&body).timeout(ANSWER_WITHIN))
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        wait: Option<Duration>,
    ) -> Result<T, Error> {
        let url = format!("{}{path}", self.base);
        let body = serde_json::to_vec(body).map_err(|error| Error::Misconfigured(error.to_string()))?;
        let request = || {
            let request = self.http.post(&url).header("content-type", "application/json").body(body.clone());
            match wait {
                Some(wait) => request
                    .header("prefer", format!("wait={}", wait.as_secs().clamp(1, 60)))
                    .timeout(wait + ANSWER_WITHIN),
                None => request.timeout(ANSWER_WITHIN),
            }
        };
        self.repeated(|| self.once(request())).await
    }

    async fn read<T: DeserializeOwned, K: AsRef<str>>(&self, path: &str, query: &[(K, String)]) -> Result<T, Error> {
        let mut url = Url::parse(&format!("{}{path}", self.base))
            .map_err(|error| Error::Misconfigured(format!("{}{path}: {error}", self.base)))?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.read_at(url).await
    }

    pub(crate) async fn read_at<T: DeserializeOwned>(&self, url: Url) -> Result<T, Error> {
        self.repeated(|| self.once(self.http.get(url.clone()).timeout(ANSWER_WITHIN))).await
    }

    pub(crate) fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.http.request(method, url)
    }

    /// A live stream of events after `last`; reconnecting is the caller's.
    pub(crate) async fn open_events(&self, gid: &Gid, last: Option<&str>) -> Result<Response, Error> {
        let url = format!("{}/v1/transactions/{gid}/events", self.base);
        let mut request = self.http.request(Method::GET, url).header(ACCEPT, "text/event-stream");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        self.send(request).await
    }

    pub(crate) async fn repeated<T, F>(&self, call: impl FnMut() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let backoff = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(100))
            .with_max_delay(Duration::from_secs(5))
            .with_max_times(self.retries)
            .with_jitter();
        call.retry(backoff)
            .when(Error::is_transient)
            .adjust(|error, pause| {
                pause.map(|pause| match error {
                    Error::Unavailable { retry_after: Some(asked), .. } => pause.max(*asked),
                    _ => pause,
                })
            })
            .await
    }

    async fn once<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Error> {
        self.read_answer(self.send(request).await?).await
    }

    pub(crate) async fn read_answer<T: DeserializeOwned>(&self, response: Response) -> Result<T, Error> {
        let url = response.url().to_string();
        let body = response.bytes().await.map_err(|source| self.unreachable(source))?;
        serde_json::from_slice(&body).map_err(|error| self.unintelligible(&url, error.to_string()))
    }

    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, Error> {
        let response = request.send().await.map_err(|source| self.unreachable(source))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let (status, headers, url) = (response.status(), response.headers().clone(), response.url().to_string());
        let body = response.bytes().await.map_err(|source| self.unreachable(source))?;
        Err(Error::of_answer(status, &headers, &body, |reason| self.unintelligible(&url, reason)))
    }

    fn unreachable(&self, source: reqwest::Error) -> Error {
        Error::Unreachable { url: self.base.to_string(), proxy: self.proxy.as_deref().map(str::to_owned), source }
    }

    pub(crate) fn unintelligible(&self, url: &str, reason: String) -> Error {
        Error::Unintelligible { url: url.to_owned(), proxy: self.proxy.as_deref().map(str::to_owned), reason }
    }
}

pub(crate) fn new_gid() -> Gid {
    Gid::new(uuid::Uuid::now_v7().to_string()).expect("a UUID is a gid")
}
