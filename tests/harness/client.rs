//! The coordinator's API as a test sees it: status codes and JSON, nothing hidden.

use std::{sync::OnceLock, time::Duration};

use serde_json::Value;
use skald_protocol::{Status, TransactionView};

use crate::eventually;

static HTTP: OnceLock<()> = OnceLock::new();

/// A client without a connection of another test's runtime.
///
/// # Panics
/// Where no TLS provider can be installed.
#[must_use]
pub fn http() -> reqwest::Client {
    HTTP.get_or_init(|| {
        // Another part of the process may have installed it before: as good.
        let _already = rustls::crypto::ring::default_provider().install_default();
    });
    reqwest::Client::builder().tcp_nodelay(true).timeout(Duration::from_secs(70)).build().expect("an HTTP client")
}

pub(crate) async fn post_json(url: &str, body: &Value) -> anyhow::Result<(u16, Value)> {
    let response = http().post(url).json(body).send().await?;
    let status = response.status().as_u16();
    let bytes = response.bytes().await?;
    Ok((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
}

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

impl Answer {
    /// The answer as a transaction.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn transaction(&self) -> TransactionView {
        serde_json::from_value(self.body.clone())
            .unwrap_or_else(|error| panic!("no transaction in {} {}: {error}", self.status, self.body))
    }

    /// A problem's stable code.
    #[must_use]
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or("")
    }

    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
}

impl Client {
    #[must_use]
    pub fn new(base: impl Into<String>) -> Self {
        Self { http: http(), base: base.into() }
    }

    /// `wait_s`: `Prefer: wait=…`.
    pub async fn try_post(&self, path: &str, body: &Value, wait_s: Option<u32>) -> anyhow::Result<Answer> {
        let mut request = self.http.post(format!("{}{path}", self.base)).json(body);
        if let Some(seconds) = wait_s {
            request = request.header("prefer", format!("wait={seconds}"));
        }
        Self::read(request.send().await?).await
    }

    pub async fn try_put(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        Self::read(self.http.put(format!("{}{path}", self.base)).json(body).send().await?).await
    }

    pub async fn try_get(&self, path: &str) -> anyhow::Result<Answer> {
        Self::read(self.http.get(format!("{}{path}", self.base)).send().await?).await
    }

    async fn read(response: reqwest::Response) -> anyhow::Result<Answer> {
        let status = response.status().as_u16();
        let bytes = response.bytes().await?;
        Ok(Answer { status, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) })
    }

    /// # Panics
    /// If the coordinator does not answer.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.try_post(path, body, None).await.expect("the coordinator answers")
    }

    /// Publishes a definition under the name and version that it states.
    ///
    /// # Panics
    /// If it states none, or the coordinator does not answer.
    pub async fn publish(&self, definition: &Value) -> Answer {
        let stated = |member: &str| definition[member].as_str().expect("a name and a version").to_owned();
        let path = format!("/v1/workflows/{}/{}", stated("name"), stated("version"));
        self.try_put(&path, definition).await.expect("the coordinator answers")
    }

    /// # Panics
    /// If the coordinator does not answer.
    pub async fn get(&self, path: &str) -> Answer {
        self.try_get(path).await.expect("the coordinator answers")
    }

    /// Begins and waits up to 30 s for the end.
    ///
    /// # Panics
    /// If it is not taken.
    pub async fn run(&self, begin: &Value) -> TransactionView {
        let answer = self.try_post("/v1/transactions", begin, Some(30)).await.expect("the coordinator answers");
        assert!(answer.is_success(), "begin: {} {}", answer.status, answer.body);
        answer.transaction()
    }

    /// Begins without waiting; the gid.
    ///
    /// # Panics
    /// If it is not taken.
    pub async fn begin(&self, begin: &Value) -> String {
        let answer = self.post("/v1/transactions", begin).await;
        assert!(answer.is_success(), "begin: {} {}", answer.status, answer.body);
        answer.transaction().gid.to_string()
    }

    /// # Panics
    /// If there is none.
    pub async fn transaction(&self, gid: &str) -> TransactionView {
        let answer = self.get(&format!("/v1/transactions/{gid}")).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.transaction()
    }

    /// A word on a transaction: `commit`, `cancel`, `retry`, `skip`, `resolve`, `fail`, `resume`.
    pub async fn command(&self, gid: &str, word: &str, body: &Value) -> Answer {
        self.post(&format!("/v1/transactions/{gid}/{word}"), body).await
    }

    /// Waits until the transaction has this status.
    pub async fn reaches(&self, gid: &str, status: Status) -> TransactionView {
        eventually(&format!("{gid} is {status}"), Duration::from_secs(30), || async {
            let answer = self.try_get(&format!("/v1/transactions/{gid}")).await.ok()?;
            if answer.status != 200 {
                return None;
            }
            let view = answer.transaction();
            let dead_end = view.status.is_final() && view.status != status;
            assert!(!dead_end, "{gid} settled as {} and not as {status}: {}", view.status, answer.body);
            (view.status == status).then_some(view)
        })
        .await
    }
}
