use std::fmt;

use http::HeaderMap;
use skald_protocol::{
    BranchId, Gid, IDEMPOTENCY_KEY, OperationKind, SKALD_ATTEMPT, SKALD_BEGAN, SKALD_BRANCH, SKALD_CALLBACK,
    SKALD_DEADLINE, SKALD_OPERATION, SKALD_TRANSACTION, Timestamp,
};

/// What the headers of a coordinator's call say.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallContext {
    /// The global transaction.
    pub gid: Gid,
    /// The branch (step) of it that this service plays.
    pub branch: BranchId,
    /// What is asked for. Of a status check: the operation that it asks about.
    pub operation: OperationKind,
    /// The call only asks what became of `operation`, and must change nothing.
    pub asks_status: bool,
    /// 1, 2, … over the retries of one operation.
    pub attempt: u32,
    /// When the global transaction began, by the coordinator's clock.
    pub began: Timestamp,
    /// When the coordinator stops waiting for this attempt.
    pub deadline: Timestamp,
    /// Where an asynchronous operation is finished.
    pub callback: Option<String>,
}

/// A call whose headers are not those of a coordinator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("header `{header}` {problem}")]
pub struct InvalidCall {
    /// In lower case.
    pub header: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl CallContext {
    /// Reads the headers of one call; every one of them but `skald-callback` must be there.
    ///
    /// # Errors
    /// Names the first header that is missing, unreadable, or disagrees with `idempotency-key`.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, InvalidCall> {
        let gid: Gid = parse(headers, SKALD_TRANSACTION)?;
        let branch: BranchId = parse(headers, SKALD_BRANCH)?;
        let operation: OperationKind = parse(headers, SKALD_OPERATION)?;
        let key = text(headers, IDEMPOTENCY_KEY)?;
        let asked = key
            .strip_prefix(gid.as_str())
            .and_then(|rest| rest.strip_prefix('/')?.strip_prefix(branch.as_str())?.strip_prefix('/'))
            .and_then(|operation| operation.parse::<OperationKind>().ok())
            .filter(|asked| *asked != OperationKind::Status);
        let asks_status = operation == OperationKind::Status;
        let operation = match asked {
            Some(asked) if asks_status || asked == operation => asked,
            Some(_) | None => {
                let problem = format!("is `{key}`, which disagrees with the `skald-…` headers beside it");
                return Err(InvalidCall { header: IDEMPOTENCY_KEY, problem });
            }
        };
        Ok(Self {
            gid,
            branch,
            operation,
            asks_status,
            attempt: parse(headers, SKALD_ATTEMPT)?,
            began: parse(headers, SKALD_BEGAN)?,
            deadline: parse(headers, SKALD_DEADLINE)?,
            callback: headers.contains_key(SKALD_CALLBACK).then(|| parse(headers, SKALD_CALLBACK)).transpose()?,
        })
    }

    /// The same over all attempts, restarts and coordinators: `<gid>/<branch>/<operation>`.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        format!("{}/{}/{}", self.gid, self.branch, self.operation)
    }
}

fn text<'a>(headers: &'a HeaderMap, header: &'static str) -> Result<&'a str, InvalidCall> {
    let value = headers.get(header).ok_or_else(|| InvalidCall {
        header,
        problem: "is missing: is the caller a Skald coordinator, and does a proxy between drop headers?".to_owned(),
    })?;
    value.to_str().map_err(|_| InvalidCall { header, problem: "is not text".to_owned() })
}

fn parse<T: std::str::FromStr<Err: fmt::Display>>(headers: &HeaderMap, header: &'static str) -> Result<T, InvalidCall> {
    text(headers, header)?
        .parse()
        .map_err(|error: T::Err| InvalidCall { header, problem: format!("cannot be read: {error}") })
}

#[cfg(test)]
pub(crate) mod tests {
    use http::HeaderValue;

    use super::*;

    pub(crate) fn headers(operation: &str, key: &str) -> HeaderMap {
        let pairs = [
            (IDEMPOTENCY_KEY, key),
            (SKALD_TRANSACTION, "shop:1"),
            (SKALD_BRANCH, "reserve"),
            (SKALD_OPERATION, operation),
            (SKALD_ATTEMPT, "2"),
            (SKALD_BEGAN, "2026-01-31T12:00:00Z"),
            (SKALD_DEADLINE, "2026-01-31T12:00:10Z"),
        ];
        pairs.into_iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn a_call_is_read_from_its_headers_alone() {
        let call = CallContext::from_headers(&headers("action", "shop:1/reserve/action")).unwrap();
        assert_eq!((call.gid.as_str(), call.branch.as_str(), call.attempt), ("shop:1", "reserve", 2));
        assert_eq!((call.operation, call.asks_status, call.callback.as_deref()), (OperationKind::Action, false, None));
        assert_eq!(call.idempotency_key(), "shop:1/reserve/action");
        assert_eq!(call.began.until(call.deadline).as_secs(), 10);
    }

    #[test]
    fn a_status_check_asks_about_the_operation_of_its_key() {
        let call = CallContext::from_headers(&headers("status", "shop:1/reserve/compensate")).unwrap();
        assert_eq!((call.operation, call.asks_status), (OperationKind::Compensate, true));
    }

    #[test]
    fn headers_that_disagree_are_refused_by_name() {
        for (operation, key) in [
            ("action", "shop:2/reserve/action"),
            ("action", "shop:1/reserve/compensate"),
            ("action", "shop:1/reserve"),
            ("status", "shop:1/reserve/status"),
            ("action", ""),
        ] {
            let error = CallContext::from_headers(&headers(operation, key)).unwrap_err();
            assert_eq!(error.header, IDEMPOTENCY_KEY, "{operation} {key}");
        }
        let mut without = headers("action", "shop:1/reserve/action");
        without.remove(SKALD_BEGAN);
        let error = CallContext::from_headers(&without).unwrap_err();
        assert!(error.to_string().contains("skald-began") && error.to_string().contains("missing"), "{error}");
    }
}
