//! Secrets by name: the environment (`SKALD_SECRET_<NAME>`), then a directory with one file per secret.
//!
//! Files are read again after ten seconds, so a secret rotates without a restart. Values are never printed.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use secrecy::{ExposeSecret, SecretString};

const FRESH: Duration = Duration::from_secs(10);

#[derive(Clone, Default)]
pub struct Secrets(Arc<Inner>);

#[derive(Default)]
struct Inner {
    directory: Option<PathBuf>,
    read: Mutex<HashMap<String, (Instant, SecretString)>>,
}

impl Secrets {
    #[must_use]
    pub fn new(directory: Option<PathBuf>) -> Self {
        Self(Arc::new(Inner { directory, read: Mutex::default() }))
    }

    /// `prefix` + the value, or why there is none.
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
        let secrets = Secrets::new(Some(directory.path().to_owned()));
        assert_eq!(secrets.text("pay_token", "Bearer ").unwrap(), "Bearer s3cret");
        assert!(secrets.text("missing", "").unwrap_err().contains("SKALD_SECRET_MISSING"));
        for name in ["../pay_token", "/etc/hostname", "", ".", "..", "a/b"] {
            assert!(secrets.text(name, "").is_err(), "{name}");
        }
    }
}
