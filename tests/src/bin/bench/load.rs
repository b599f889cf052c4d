//! The load, its own process: clients that each make one request after the other through one pooled client, the same for
//! the coordinator and for the bare chain.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, header};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use memchr::memmem::Finder;
use serde_json::{Value, json};

use crate::{measure, throughput::Workload};

#[derive(Args, Clone)]
pub(crate) struct Order {
    #[arg(long)]
    pub(crate) workload: Workload,
    /// Without it: the bare chain.
    #[arg(long)]
    pub(crate) coordinator: Option<String>,
    #[arg(long)]
    pub(crate) participants: String,
    #[arg(long)]
    pub(crate) clients: usize,
    #[arg(long)]
    pub(crate) seconds: u64,
}

pub(crate) type Http = Client<HttpConnector, Full<Bytes>>;

pub(crate) fn http() -> Http {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).pool_max_idle_per_host(usize::MAX).build(connector)
}

/// Status and body of a POST; `wait`: `Prefer: wait`.
pub(crate) async fn post(http: &Http, url: &str, body: Bytes, wait: Option<u32>) -> anyhow::Result<(u16, Bytes)> {
    let mut request = Request::builder().method(Method::POST).uri(url).header(header::CONTENT_TYPE, "application/json");
    if let Some(seconds) = wait {
        request = request.header("prefer", format!("wait={seconds}"));
    }
    let response = http.request(request.body(Full::from(body))?).await?;
    let status = response.status().as_u16();
    Ok((status, response.into_body().collect().await?.to_bytes()))
}

pub(crate) async fn run(order: &Order) -> anyhow::Result<Value> {
    let http = http();
    let chain: Arc<Vec<String>> =
        Arc::new(order.workload.chain().iter().map(|path| format!("{}{path}", order.participants)).collect());
    let begin = Bytes::from(order.workload.begin(&order.participants).to_string());
    let body = Bytes::from(crate::throughput::body().to_string());
    let start = Instant::now();
    let end = start + Duration::from_secs(order.seconds);
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..order.clients {
        let (http, chain, begin, body) = (http.clone(), Arc::clone(&chain), begin.clone(), body.clone());
        let coordinator = order.coordinator.as_ref().map(|url| format!("{url}/v1/transactions"));
        let expected = Finder::new(&format!(r#""status":"{}""#, order.workload.ends_as())).into_owned();
        clients.spawn(async move {
            let mut times = Vec::new();
            while Instant::now() < end {
                let start = Instant::now();
                match &coordinator {
                    Some(url) => {
                        let (status, answer) = post(&http, url, begin.clone(), Some(30)).await?;
                        let settled = expected.find(&answer).is_some();
                        ensure!(settled, "{status} {}", String::from_utf8_lossy(&answer));
                    }
                    None => {
                        for url in chain.iter() {
                            post(&http, url, body.clone(), None).await?;
                        }
                    }
                }
                times.push(u32::try_from(start.elapsed().as_micros()).unwrap_or(u32::MAX));
            }
            anyhow::Ok(times)
        });
    }
    let mut times = Vec::new();
    while let Some(client) = clients.join_next().await {
        times.extend(client?.context("a client's request")?);
    }
    let elapsed = start.elapsed();
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 1000).copied().unwrap_or(0);
    Ok(json!({
        "count": times.len(),
        "elapsed_us": u64::try_from(elapsed.as_micros())?,
        "p50_us": at(500),
        "p99_us": at(990),
        "cpu_us": u64::try_from(measure::cpu(std::process::id()).as_micros())?,
    }))
}
