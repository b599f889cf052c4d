//! The token in a callback's URL: whose operation it finishes, and that we said so.
//!
//! The same operation always has the same token, over attempts, restarts and nodes that share the key.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use skald_protocol::{BranchId, Gid, OperationKind};

const MAC: usize = 32;
/// Longer than any token ever minted.
const LONGEST: usize = (Gid::MAX + BranchId::MAX + 16 + MAC) * 4 / 3 + 4;

#[derive(Clone)]
pub struct CallbackTokens {
    keyed: Hmac<Sha256>,
}

impl CallbackTokens {
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        Self { keyed: Hmac::new_from_slice(key).expect("HMAC takes a key of any length") }
    }

    #[must_use]
    pub fn mint(&self, gid: &Gid, branch: &BranchId, operation: OperationKind) -> String {
        // No gid and no branch holds a slash.
        let mut token = format!("{gid}/{branch}/{operation}").into_bytes();
        let mac = self.keyed.clone().chain_update(&token).finalize();
        token.extend_from_slice(&mac.into_bytes());
        URL_SAFE_NO_PAD.encode(token)
    }

    /// `None`: not one of ours.
    #[must_use]
    pub fn read(&self, token: &str) -> Option<(Gid, BranchId, OperationKind)> {
        if token.len() > LONGEST {
            return None;
        }
        let token = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (said, mac) = token.split_at_checked(token.len().checked_sub(MAC)?)?;
        self.keyed.clone().chain_update(said).verify_slice(mac).ok()?;
        let mut parts = std::str::from_utf8(said).ok()?.split('/');
        let (gid, branch, operation) = (parts.next()?, parts.next()?, parts.next()?);
        Some((gid.parse().ok()?, branch.parse().ok()?, operation.parse().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_back_by_its_key_and_by_no_other() {
        let tokens = CallbackTokens::new(b"key");
        let (gid, branch) = (Gid::new("shop:42").unwrap(), BranchId::new("pay.0.charge").unwrap());
        let token = tokens.mint(&gid, &branch, OperationKind::Action);
        assert_eq!(token, tokens.mint(&gid, &branch, OperationKind::Action));
        assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'), "{token}");
        assert_eq!(tokens.read(&token), Some((gid, branch, OperationKind::Action)));
        assert_eq!(CallbackTokens::new(b"other").read(&token), None);
    }

    #[test]
    fn the_longest_ids_have_a_token_that_is_read_back() {
        let tokens = CallbackTokens::new(&[7; 32]);
        let (gid, branch) =
            (Gid::new("g".repeat(Gid::MAX)).unwrap(), BranchId::new("b".repeat(BranchId::MAX)).unwrap());
        let token = tokens.mint(&gid, &branch, OperationKind::Compensate);
        assert_eq!(tokens.read(&token), Some((gid, branch, OperationKind::Compensate)));
    }

    #[test]
    fn a_token_with_any_character_changed_is_not_ours() {
        let tokens = CallbackTokens::new(b"key");
        let token = tokens.mint(&Gid::new("g").unwrap(), &BranchId::new("b").unwrap(), OperationKind::Try);
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'Q' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            if changed != token {
                assert_eq!(tokens.read(&changed), None, "{changed}");
            }
        }
        for garbage in ["", "A", "not a token", &"A".repeat(10_000), &token[..20]] {
            assert_eq!(tokens.read(garbage), None);
        }
    }
}
