use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::HeaderMap;
use sha2::Sha256;
use skald_protocol::{IDEMPOTENCY_KEY, Timestamp};

/// How far the coordinator's clock and this one may be apart, and how old a call may be.
const TOLERANCE: Duration = Duration::from_secs(300);

/// The keys that calls may be signed with (Standard Webhooks, HMAC-SHA256); several while one is replaced.
#[derive(Clone, Default)]
pub struct SigningKeys(Vec<Vec<u8>>);

/// A key that is none; the text does not show it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a signing key must be base64 of 24 to 64 bytes, with or without `whsec_` before it")]
pub struct InvalidKey;

impl std::fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKeys({})", self.0.len())
    }
}

impl SigningKeys {
    /// Takes keys as they are written down: `whsec_` and base64.
    ///
    /// # Errors
    /// On the first that is no key.
    pub fn new<K: AsRef<str>>(keys: impl IntoIterator<Item = K>) -> Result<Self, InvalidKey> {
        let read = |key: K| {
            let key = key.as_ref().trim();
            let bytes = BASE64_STANDARD.decode(key.strip_prefix("whsec_").unwrap_or(key)).map_err(|_| InvalidKey)?;
            if (24..=64).contains(&bytes.len()) { Ok(bytes) } else { Err(InvalidKey) }
        };
        keys.into_iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// The `webhook-signature` of a message: one signature a key, so that receivers may still know only an older one.
    #[must_use]
    pub fn sign(&self, id: &str, sent_at: &str, body: &[u8]) -> String {
        let signatures = self.0.iter().filter_map(|key| {
            let mac = mac(key, id, sent_at, body)?;
            Some(format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes())))
        });
        signatures.collect::<Vec<_>>().join(" ")
    }

    /// Checks a call's `webhook-id`, `webhook-timestamp` and `webhook-signature`; the id must be its idempotency key, so
    /// that no call passes for another.
    ///
    /// # Errors
    /// Says what is wrong with it, for whoever sent it.
    pub fn verify(&self, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<(), &'static str> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let (Some(id), Some(sent_at), Some(signatures)) =
            (text("webhook-id"), text("webhook-timestamp"), text("webhook-signature"))
        else {
            return Err("the call is not signed: this participant wants Standard Webhooks signatures");
        };
        if text(IDEMPOTENCY_KEY) != Some(id) {
            return Err("`webhook-id` is not the call's idempotency key");
        }
        let at = sent_at.parse::<i64>().ok().and_then(|seconds| seconds.checked_mul(1000)).map(Timestamp);
        let apart = |at: Timestamp| at.until(now).max(now.until(at));
        if at.is_none_or(|at| apart(at) > TOLERANCE) {
            return Err("`webhook-timestamp` is more than five minutes away from this participant's clock");
        }
        let offered: Vec<_> = signatures
            .split(' ')
            .filter_map(|signature| BASE64_STANDARD.decode(signature.strip_prefix("v1,")?).ok())
            .collect();
        let signed = |key: &Vec<u8>| {
            mac(key, id, sent_at, body)
                .is_some_and(|mac| offered.iter().any(|signature| mac.clone().verify_slice(signature).is_ok()))
        };
        if self.0.iter().any(signed) { Ok(()) } else { Err("no signature of the call is by a key of this participant") }
    }
}

/// Of what is signed: id, time and body. HMAC takes a key of any length.
fn mac(key: &[u8], id: &str, sent_at: &str, body: &[u8]) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    for part in [id.as_bytes(), b".", sent_at.as_bytes(), b".", body] {
        mac.update(part);
    }
    Some(mac)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// The example that the Standard Webhooks libraries share.
    const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const AT: &str = "1614265330";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn headers(signature: &str) -> HeaderMap {
        let pairs =
            [(IDEMPOTENCY_KEY, ID), ("webhook-id", ID), ("webhook-timestamp", AT), ("webhook-signature", signature)];
        pairs.into_iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_str(value).unwrap())).collect()
    }

    fn verify(headers: &HeaderMap, body: &[u8], after: i64) -> Result<(), &'static str> {
        SigningKeys::new([KEY]).unwrap().verify(headers, body, Timestamp((1_614_265_330 + after) * 1000))
    }

    #[test]
    fn the_reference_signature_is_good_and_no_other() {
        assert_eq!(verify(&headers(SIGNATURE), BODY, 0), Ok(()));
        assert_eq!(verify(&headers(&format!("v1,AAAA v1a,xx {SIGNATURE}")), BODY, 299), Ok(()), "one of several");
        assert!(verify(&headers(SIGNATURE), br#"{"test": 2432232315}"#, 0).is_err(), "another body");
        assert!(verify(&headers("v1,AAAA"), BODY, 0).is_err());
        assert!(verify(&headers(SIGNATURE), BODY, 301).is_err(), "too old");
        assert!(verify(&headers(SIGNATURE), BODY, -301).is_err(), "from the future");
        let mut forged = headers(SIGNATURE);
        forged.insert(IDEMPOTENCY_KEY, HeaderValue::from_static("shop:1/reserve/action"));
        assert!(verify(&forged, BODY, 0).is_err(), "signed for another call");
        let mut unsigned = headers(SIGNATURE);
        unsigned.remove("webhook-signature");
        assert!(verify(&unsigned, BODY, 0).unwrap_err().contains("not signed"));
    }

    #[test]
    fn what_is_signed_is_the_reference_signature() {
        assert_eq!(SigningKeys::new([KEY]).unwrap().sign(ID, AT, BODY), SIGNATURE);
    }

    #[test]
    fn while_a_key_is_replaced_both_are_good() {
        let keys = SigningKeys::new(["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", KEY]).unwrap();
        assert_eq!(keys.verify(&headers(SIGNATURE), BODY, Timestamp(1_614_265_330_000)), Ok(()));
        assert_eq!(SigningKeys::new(["short"]).unwrap_err(), InvalidKey);
        assert!(!format!("{keys:?}").contains("MfKQ"));
    }
}
