//! The caller's trace (W3C Trace Context), and the trace of a transaction that begins.

use http::HeaderMap;
use rand::Rng;
use skald_engine::TraceContext;

/// How much of `tracestate` and `baggage` goes along; beyond it they are dropped whole, as the specifications allow.
const STATE_LENGTH: usize = 512;
const BAGGAGE_LENGTH: usize = 8192;

pub(super) struct Caller {
    pub(super) trace_id: String,
    pub(super) span_id: String,
    pub(super) sampled: bool,
}

/// Reads `traceparent`; one that is malformed is as good as none.
pub(super) fn caller(headers: &HeaderMap) -> Option<Caller> {
    let text = headers.get("traceparent")?.to_str().ok()?.trim();
    let mut parts = text.split('-');
    let (version, trace_id, span_id, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let is_id = |part: &str, length: usize| is_hex(part, length) && part.bytes().any(|byte| byte != b'0');
    let is_good = is_hex(version, 2)
        && version != "ff"
        && (version != "00" || parts.next().is_none())
        && is_id(trace_id, 32)
        && is_id(span_id, 16)
        && is_hex(flags, 2);
    is_good.then(|| Caller {
        trace_id: trace_id.to_owned(),
        span_id: span_id.to_owned(),
        sampled: u8::from_str_radix(flags, 16).is_ok_and(|flags| flags & 1 == 1),
    })
}

pub(super) fn new_id() -> String {
    let mut id = [0u8; 16];
    rand::rng().fill_bytes(&mut id);
    hex::encode(id)
}

/// The caller's trace goes on in the transaction; without one it starts its own.
pub(super) fn of_transaction(headers: &HeaderMap) -> TraceContext {
    let short = |name: &str, length: usize| {
        let text = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if text.len() <= length { text.to_owned() } else { String::new() }
    };
    let mut root = [0u8; 8];
    rand::rng().fill_bytes(&mut root);
    let root_span_id = hex::encode(root);
    let baggage = short("baggage", BAGGAGE_LENGTH);
    match caller(headers) {
        Some(Caller { trace_id, span_id, sampled }) => TraceContext {
            trace_id,
            root_span_id,
            parent_span_id: Some(span_id),
            sampled,
            state: short("tracestate", STATE_LENGTH),
            baggage,
        },
        None => TraceContext {
            trace_id: new_id(),
            root_span_id,
            parent_span_id: None,
            sampled: true,
            state: String::new(),
            baggage,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_traceparent_is_as_good_as_none() {
        let read = |text: &str| {
            let headers = HeaderMap::from_iter([(http::HeaderName::from_static("traceparent"), text.parse().unwrap())]);
            caller(&headers).map(|caller| (caller.trace_id, caller.span_id, caller.sampled))
        };
        let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        assert_eq!(read(&format!("00-{trace}-{span}-01")), Some((trace.to_owned(), span.to_owned(), true)));
        assert_eq!(read(&format!("cc-{trace}-{span}-00-more")).map(|(_, _, sampled)| sampled), Some(false));
        for bad in [
            String::new(),
            format!("00-{trace}-{span}"),
            format!("00-{trace}-{span}-01-more"),
            format!("ff-{trace}-{span}-01"),
            format!("00-{}-{span}-01", "0".repeat(32)),
            format!("00-{}-{span}-01", trace.to_uppercase()),
        ] {
            assert_eq!(read(&bad), None, "{bad}");
        }
    }
}
