//! Spans over OTLP and metrics for Prometheus. Ids are fields; payloads never are.
