//! Secrets by name: the environment (`SKALD_SECRET_<NAME>`), then a directory with one file per secret.
//!
//! Files are read again after ten seconds, so a secret rotates without a restart. Values are never printed.
//!
//! Whoever writes a definition may name any secret. So one goes only where the server's own configuration says: with the
//! services that name it there, and for the services of definitions to the destinations that are listed for it.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use secrecy::{ExposeSecret, SecretString};
use url::Url;

const FRESH: Duration = Duration::from_secs(10);

#[derive(Clone, Default)]
pub struct Secrets(Arc<Inner>);

#[derive(Default)]
struct Inner {
    directory: Option<PathBuf>,
    /// Where each may go when a definition names it.
    destinations: BTreeMap<String, Vec<Url>>,
    read: Mutex<HashMap<String, (Instant, SecretString)>>,
}

/// A scheme, a host and a port; a host `*.domain` stands for all below the domain.
fn takes(destination: &Url, url: &Url) -> bool {
    let host = match (destination.host_str(), url.host_str()) {
        (Some(own), Some(host)) => match own.strip_prefix('*') {
            Some(domain) => host.strip_suffix(domain).is_some_and(|labels| !labels.is_empty()),
            None => own == host,
        },
        _ => false,
    };
    host && destination.scheme() == url.scheme() && destination.port_or_known_default() == url.port_or_known_default()
}

impl Secrets {
    /// `destinations`: by the secret's name, as `https://host:port` or `https://*.domain`.
    #[must_use]
    pub fn new(directory: Option<PathBuf>, destinations: BTreeMap<String, Vec<Url>>) -> Self {
        Self(Arc::new(Inner { directory, destinations, read: Mutex::default() }))
    }

    /// Whether a definition may send this secret there.
    pub(super) fn may_go(&self, name: &str, to: &Url) -> bool {
        self.0.destinations.get(name).is_some_and(|listed| listed.iter().any(|destination| takes(destination, to)))
    }

    /// `prefix` + the value, or why there is none: that is for the log alone, since it tells where secrets are kept.
    pub(super) fn text(&self, name: &str, prefix: &str) -> Result<String, String> {
        let mut read = self.0.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, secret)) = read.get(name)
            && at.elapsed() < FRESH
        {
            return Ok(format!("{prefix}{}", secret.expose_secret()));
        }
        let secret = self.look_up(name)?;
        let text = format!("{prefix}{}", secret.expose_secret());
        read.insert(name.to_owned(), (Instant::now(), secret));
        Ok(text)
    }

    fn look_up(&self, name: &str) -> Result<SecretString, String> {
        // The name becomes a file's name.
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
            return Err(format!("`{name}` cannot be the name of a secret"));
        }
        let variable =
            format!("SKALD_SECRET_{}", name.replace(|c: char| !c.is_ascii_alphanumeric(), "_").to_ascii_uppercase());
        if let Ok(value) = std::env::var(&variable) {
            return Ok(value.into());
        }
        let Some(directory) = &self.0.directory else {
            return Err(format!("secret `{name}` is not set: set {variable}"));
        };
        match std::fs::read_to_string(directory.join(name)) {
            Ok(value) => Ok(value.trim_end_matches(['\r', '\n']).into()),
            Err(error) => {
                Err(format!("secret `{name}` is neither in {variable} nor in {}: {error}", directory.display()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_from_its_file_and_its_name_cannot_leave_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("pay_token"), "s3cret\n").unwrap();
        let secrets = Secrets::new(Some(directory.path().to_owned()), BTreeMap::new());
        assert_eq!(secrets.text("pay_token", "Bearer ").unwrap(), "Bearer s3cret");
        assert!(secrets.text("missing", "").unwrap_err().contains("SKALD_SECRET_MISSING"));
        for name in ["../pay_token", "/etc/hostname", "", ".", "..", "a/b"] {
            assert!(secrets.text(name, "").is_err(), "{name}");
        }
    }
    #[test]
    fn a_destination_is_a_scheme_a_host_and_a_port() {
        let takes = |destination: &str, url: &str| takes(&Url::parse(destination).unwrap(), &Url::parse(url).unwrap());
        for (destination, url) in [
            ("https://pay.example.com", "https://pay.example.com/charge?x=1"),
            ("https://pay.example.com", "https://PAY.example.com:443"),
            ("https://pay.example.com:8443", "https://pay.example.com:8443/"),
            ("https://*.example.com", "https://a.b.example.com/"),
            ("http://localhost:8080", "http://localhost:8080/x"),
            ("https://[fd00::1]", "https://[fd00:0::1]/"),
        ] {
            assert!(takes(destination, url), "{destination} {url}");
        }
        for (destination, url) in [
            ("https://pay.example.com", "http://pay.example.com/"),
            ("https://pay.example.com", "https://pay.example.com:8443/"),
            ("https://pay.example.com", "https://pay.example.com.evil.example/"),
            ("https://pay.example.com", "https://evil.example/?pay.example.com"),
            ("https://pay.example.com", "https://pay.example.com./"),
            ("https://*.example.com", "https://example.com/"),
            ("https://*.example.com", "https://.example.com/"),
            ("https://*.example.com", "https://badexample.com/"),
            ("https://*.example.com", "https://a.example.com:8443/"),
        ] {
            assert!(!takes(destination, url), "{destination} {url}");
        }
    }
}
