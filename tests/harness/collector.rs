//! A collector of spans with Jaeger's API: a real Jaeger (`JAEGER_URL`, its OTLP/gRPC on port 4317 of the same host), else
//! the one in `tests/otlp`, built when it is first needed (`OTLP_COLLECTOR` names one that is built already).

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::{client, eventually};

/// Spans leave a node in batches, a second apart.
const ARRIVAL: Duration = Duration::from_secs(20);

pub struct Collector {
    otlp: String,
    pages: String,
    child: Option<Child>,
}

/// A span as Jaeger shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    pub id: String,
    pub name: String,
    pub parent: Option<String>,
    /// Spans that this one follows from.
    pub links: Vec<String>,
    pub tags: BTreeMap<String, String>,
    /// The service's name.
    pub service: String,
    pub start_us: u64,
    pub duration_us: u64,
}

impl Collector {
    /// # Panics
    /// Where there is none and none can be built: what it says is what to do.
    #[must_use]
    pub fn start() -> Self {
        if let Ok(url) = std::env::var("JAEGER_URL") {
            let url: reqwest::Url = url.parse().expect("JAEGER_URL is a URL");
            let host = url.host_str().expect("JAEGER_URL has a host");
            let pages = url.as_str().trim_end_matches('/').to_owned();
            return Self { otlp: format!("http://{host}:4317"), pages, child: None };
        }
        let mut child = Command::new(binary())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the collector of tests/otlp starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("its standard output");
        BufReader::new(stdout).read_line(&mut line).expect("the collector says where it listens");
        let (otlp, pages) = line.trim().split_once(' ').expect("two URLs");
        Self { otlp: otlp.to_owned(), pages: pages.to_owned(), child: Some(child) }
    }

    /// What a node is told.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.otlp
    }

    /// The spans of a trace, oldest first, once those that `enough` asks for are there.
    ///
    /// # Panics
    /// If they do not come.
    pub async fn trace(&self, trace_id: &str, enough: impl Fn(&[Span]) -> bool) -> Vec<Span> {
        let url = format!("{}/api/traces/{trace_id}", self.pages);
        let mut last = Vec::new();
        let found = tokio::time::timeout(ARRIVAL, async {
            loop {
                last = spans(&url).await;
                if enough(&last) {
                    return last.clone();
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        found.unwrap_or_else(|_| panic!("trace {trace_id} stays incomplete: {last:#?}"))
    }

    /// Waits until a span of this name is there.
    pub async fn has(&self, trace_id: &str, name: &str) -> Span {
        let url = format!("{}/api/traces/{trace_id}", self.pages);
        eventually(&format!("span `{name}`"), ARRIVAL, || async {
            spans(&url).await.into_iter().find(|span| span.name == name)
        })
        .await
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It ends with its standard input; this only makes sure.
            let _ended_before = child.kill();
            let _reaped = child.wait();
        }
    }
}

fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("OTLP_COLLECTOR") {
        return path.into();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("otlp/build");
    let built = Command::new(&script).stderr(Stdio::inherit()).output();
    let built = built.unwrap_or_else(|error| panic!("{}: {error}", script.display()));
    assert!(
        built.status.success(),
        "{} failed; the tracing test needs it, or a Jaeger at JAEGER_URL",
        script.display()
    );
    String::from_utf8_lossy(&built.stdout).trim().into()
}

async fn spans(url: &str) -> Vec<Span> {
    let Ok(answer) = client::http().get(url).send().await else { return Vec::new() };
    let Ok(body) = answer.json::<Value>().await else { return Vec::new() };
    let mut spans: Vec<Span> = body["data"].as_array().into_iter().flatten().flat_map(of_trace).collect();
    spans.sort_by_key(|span| span.start_us);
    spans
}

fn of_trace(trace: &Value) -> Vec<Span> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let spans = trace["spans"].as_array().into_iter().flatten();
    let references = |span: &Value, kind: &str| -> Vec<String> {
        let all = span["references"].as_array().into_iter().flatten();
        all.filter(|reference| reference["refType"] == kind).map(|reference| text(&reference["spanID"])).collect()
    };
    spans
        .map(|span| Span {
            id: text(&span["spanID"]),
            name: text(&span["operationName"]),
            parent: references(span, "CHILD_OF").pop(),
            links: references(span, "FOLLOWS_FROM"),
            tags: span["tags"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|tag| (text(&tag["key"]), text(&tag["value"])))
                .collect(),
            service: text(&trace["processes"][text(&span["processID"])]["serviceName"]),
            start_us: span["startTime"].as_u64().unwrap_or(0),
            duration_us: span["duration"].as_u64().unwrap_or(0),
        })
        .collect()
}
