//! One trace per transaction, from its begin to its settlement, whatever node or life of a node is at work.
//!
//! The trace is recorded with the transaction, and span ids are hashes of what they are about, so spans need not be held
//! open: the root is exported at once, short, when the transaction begins; each attempt and the settlement are its
//! children, exported when they are over. Recording costs a hash and a queue's place, and never blocks: spans that a
//! slow collector has no room for are dropped.

use std::{
    borrow::Cow,
    fmt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use opentelemetry::{
    InstrumentationScope, KeyValue,
    trace::{self, Link, SpanContext, SpanKind, TraceFlags, TraceId, TraceState},
};
use opentelemetry_otlp::{
    SpanExporter, WithExportConfig as _, WithTonicConfig as _,
    tonic_types::transport::{Certificate, ClientTlsConfig},
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanEvents, SpanExporter as Export, SpanLinks,
        SpanProcessor as _,
    },
};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use skald_engine::{Call, Outcome, Reply, Request, SpanId, TraceContext};
use skald_protocol::{Gid, OperationKind, Status, Timestamp, WorkflowRef};
use url::Url;

use super::{Error, Metrics, outcome_label};

/// Room for some seconds of a busy node's spans.
const QUEUE: usize = 1 << 16;
const BATCH: usize = 2_048;
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Cheap to clone; without a collector it does nothing.
#[derive(Clone)]
pub struct Spans(Option<Arc<Exporting>>);

struct Exporting {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
}

/// One call that was made.
#[derive(Debug)]
pub struct AttemptSpan<'a> {
    pub gid: &'a Gid,
    pub trace: &'a TraceContext,
    pub call: &'a Call,
    pub request: &'a Request,
    pub started: SystemTime,
    pub took: Duration,
    /// Of the answer, where there was one.
    pub status: Option<u16>,
    pub reply: &'a Reply,
}

impl fmt::Debug for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Spans(exporting)" } else { "Spans(off)" })
    }
}

impl Spans {
    #[must_use]
    pub const fn off() -> Self {
        Self(None)
    }

    /// Exports to an OTLP collector's gRPC endpoint (`http://127.0.0.1:4317`), on the runtime this is called on.
    /// `roots`: a file of PEM certificates that an https endpoint's is verified with, in place of the system's. `instance`
    /// tells this process's spans from other nodes'.
    pub fn start(endpoint: &str, roots: Option<&Path>, instance: &str, metrics: Arc<Metrics>) -> Result<Self, Error> {
        let mut exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).with_timeout(EXPORT_TIMEOUT);
        if Url::parse(endpoint).is_ok_and(|url| url.scheme() == "https") {
            exporter = exporter.with_tls_config(trusting(roots)?);
        }
        let exporter =
            exporter.build().map_err(|error| Error::Misconfigured(format!("OTLP endpoint `{endpoint}`: {error}")))?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(Duration::from_secs(1))
            .build();
        let exporter = Counted { exporter, metrics, endpoint: endpoint.to_owned(), failing: AtomicBool::new(false) };
        let mut processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
        let about = [
            KeyValue::new("service.instance.id", instance.to_owned()),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        ];
        processor.set_resource(&Resource::builder().with_service_name("skald").with_attributes(about).build());
        let scope = InstrumentationScope::builder("skald").with_version(env!("CARGO_PKG_VERSION")).build();
        Ok(Self(Some(Arc::new(Exporting { processor, scope }))))
    }

    /// Whether spans leave this process.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The root: exported at the begin, so that a trace has it while its transaction still runs.
    pub fn began(&self, gid: &Gid, trace: &TraceContext, workflow: Option<&WorkflowRef>, at: Timestamp) {
        let Some((exporting, ids)) = self.of(trace) else { return };
        let mut attributes = vec![KeyValue::new("skald.gid", gid.to_string())];
        let name = match workflow {
            Some(workflow) => {
                attributes.push(KeyValue::new("skald.workflow.name", workflow.name.clone()));
                attributes.push(KeyValue::new("skald.workflow.version", workflow.version.clone()));
                Cow::Owned(format!("transaction {}", workflow.name))
            }
            None => Cow::Borrowed("transaction"),
        };
        let mut root = ids.span(ids.root, name, time(at), time(at), attributes);
        root.span_kind = SpanKind::Server;
        root.parent_span_id = ids.parent.unwrap_or(trace::SpanId::INVALID);
        root.parent_span_is_remote = ids.parent.is_some();
        exporting.end(root);
    }

    /// Undos are linked to the first attempt of what they undo.
    pub fn attempt(&self, attempt: &AttemptSpan<'_>) {
        let Some((exporting, ids)) = self.of(attempt.trace) else { return };
        let AttemptSpan { gid, call, request, started, took, reply, .. } = attempt;
        let asked = if call.ask { OperationKind::Status } else { call.operation };
        let mut attributes = vec![
            KeyValue::new("skald.gid", gid.to_string()),
            KeyValue::new("skald.branch", request.branch.to_string()),
            KeyValue::new("skald.operation", asked.as_str()),
            KeyValue::new("skald.attempt", i64::from(call.attempt)),
            KeyValue::new("skald.outcome", outcome_label(&reply.outcome).as_str()),
            KeyValue::new("http.request.method", request.method.clone()),
        ];
        if let Some(status) = attempt.status {
            attributes.push(KeyValue::new("http.response.status_code", i64::from(status)));
        }
        let id = trace::SpanId::from_bytes(SpanId::of_call(gid, call, request).0);
        let name = format!("{asked} {}", request.branch);
        let mut span = ids.span(id, name.into(), *started, *started + *took, attributes);
        span.span_kind = SpanKind::Client;
        if let Outcome::Refused(error) | Outcome::Unknown(error) | Outcome::Unsent(error) = &reply.outcome {
            span.status = trace::Status::error(error.code.clone());
            span.attributes.push(KeyValue::new("error.type", error.code.clone()));
        }
        let undone = match asked {
            OperationKind::Compensate => Some(OperationKind::Action),
            OperationKind::Cancel => Some(OperationKind::Try),
            OperationKind::Action | OperationKind::Try | OperationKind::Confirm | OperationKind::Status => None,
        };
        if let Some(forward) = undone {
            let first = SpanId::of_attempt(gid, request.branch.as_str(), forward, forward, 1);
            let about = vec![KeyValue::new("skald.link", "undoes")];
            span.links.links.push(Link::new(ids.context(trace::SpanId::from_bytes(first.0)), about, 0));
        }
        exporting.end(span);
    }

    /// The summary: as long as the transaction was.
    pub fn settled(&self, gid: &Gid, trace: &TraceContext, status: Status, began_at: Timestamp, at: Timestamp) {
        let Some((exporting, ids)) = self.of(trace) else { return };
        let id = trace::SpanId::from_bytes(SpanId::of(gid, &[b"settled"]).0);
        let attributes =
            vec![KeyValue::new("skald.gid", gid.to_string()), KeyValue::new("skald.status", status.as_str())];
        let mut span = ids.span(id, format!("settled {status}").into(), time(began_at), time(at), attributes);
        if status == Status::Failed {
            span.status = trace::Status::error("failed");
        }
        exporting.end(span);
    }

    /// Exports what is left; nothing is exported afterwards.
    pub async fn shutdown(&self) {
        let Some(exporting) = self.0.clone() else { return };
        // It waits for the exporter's own thread, which needs this runtime. What could not be exported was counted.
        let ended =
            tokio::task::spawn_blocking(move || exporting.processor.shutdown_with_timeout(EXPORT_TIMEOUT)).await;
        drop(ended);
    }

    fn of(&self, trace: &TraceContext) -> Option<(&Exporting, Ids<'_>)> {
        let exporting = self.0.as_deref().filter(|_| trace.sampled)?;
        let ids = Ids {
            trace: TraceId::from_hex(&trace.trace_id).ok()?,
            root: trace::SpanId::from_hex(&trace.root_span_id).ok()?,
            parent: trace.parent_span_id.as_deref().and_then(|id| trace::SpanId::from_hex(id).ok()),
            scope: &exporting.scope,
        };
        Some((exporting, ids))
    }
}

fn trusting(roots: Option<&Path>) -> Result<ClientTlsConfig, Error> {
    let Some(path) = roots else { return Ok(ClientTlsConfig::new().with_native_roots()) };
    let wrong =
        |why: String| Error::Misconfigured(format!("the collector's certificates in {}: {why}", path.display()));
    let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    match CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>() {
        Ok(found) if found.is_empty() => Err(wrong("the file holds none in PEM".to_owned())),
        Ok(_) => Ok(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))),
        Err(error) => Err(wrong(error.to_string())),
    }
}

impl Exporting {
    fn end(&self, span: SpanData) {
        self.processor.on_end(span);
    }
}

struct Ids<'a> {
    trace: TraceId,
    root: trace::SpanId,
    parent: Option<trace::SpanId>,
    scope: &'a InstrumentationScope,
}

impl Ids<'_> {
    fn context(&self, span: trace::SpanId) -> SpanContext {
        SpanContext::new(self.trace, span, TraceFlags::SAMPLED, false, TraceState::NONE)
    }

    /// A child of the root.
    fn span(
        &self,
        id: trace::SpanId,
        name: Cow<'static, str>,
        start_time: SystemTime,
        end_time: SystemTime,
        attributes: Vec<KeyValue>,
    ) -> SpanData {
        SpanData {
            span_context: self.context(id),
            parent_span_id: self.root,
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name,
            start_time,
            end_time,
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: trace::Status::Unset,
            instrumentation_scope: self.scope.clone(),
        }
    }
}

/// Counts what no collector took, and says so once per outage.
struct Counted {
    exporter: SpanExporter,
    metrics: Arc<Metrics>,
    endpoint: String,
    failing: AtomicBool,
}

impl fmt::Debug for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Counted").field(&self.endpoint).finish()
    }
}

impl Export for Counted {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let exported = self.exporter.export(batch).await;
        match &exported {
            Ok(()) => {
                if self.failing.swap(false, Relaxed) {
                    tracing::info!(endpoint = self.endpoint, "spans are exported again");
                }
            }
            Err(error) => {
                self.metrics.export_failed();
                if !self.failing.swap(true, Relaxed) {
                    tracing::warn!(endpoint = self.endpoint, %error, "spans cannot be exported");
                }
            }
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

fn time(at: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(at.0).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_absent_collector_costs_nothing_but_a_count() {
        let metrics = Arc::new(Metrics::new());
        let spans = Spans::start("http://127.0.0.1:1", None, "node", metrics.clone()).unwrap();
        let trace = TraceContext {
            trace_id: "0af7651916cd43dd8448eb211c80319c".to_owned(),
            root_span_id: "b7ad6b7169203331".to_owned(),
            sampled: true,
            ..TraceContext::default()
        };
        spans.began(&Gid::new("g").unwrap(), &trace, None, Timestamp(0));
        spans.shutdown().await;
        assert!(metrics.render().contains("skald_telemetry_export_failures_total 1\n"), "{}", metrics.render());
    }

    #[tokio::test]
    async fn certificates_that_are_none_are_told_when_it_starts() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "no certificate").unwrap();
        for (path, why) in [(file.path(), "holds none in PEM"), (Path::new("/nowhere.pem"), "No such file")] {
            let started = Spans::start("https://collector:4317", Some(path), "node", Arc::new(Metrics::new()));
            let said = started.unwrap_err().to_string();
            assert!(said.contains(why) && said.contains(&path.display().to_string()), "{said}");
        }
    }
}
