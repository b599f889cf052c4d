use clap::Args;
use skald_sdk::Client;

use super::Error;

/// Which coordinator is meant, and as whom.
#[derive(Debug, Args)]
pub(super) struct Remote {
    /// The coordinator.
    #[arg(long, visible_alias = "to", global = true, env = "SKALD_URL", default_value = "http://127.0.0.1:7410")]
    url: String,
    /// Sent as a bearer token.
    #[arg(long, global = true, env = "SKALD_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

impl Remote {
    pub(super) fn client(self) -> Result<Client, Error> {
        // A person waits: half a second of retries, not half a minute.
        let mut builder = Client::builder(&self.url).retries(3);
        if let Some(token) = self.token {
            builder = builder.token(token);
        }
        Ok(builder.build()?)
    }
}

/// `NAME` or `NAME@VERSION`.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) version: Option<String>,
}

pub(super) fn named(text: &str) -> Result<Named, String> {
    let (name, version) = match text.split_once('@') {
        Some((name, version)) => (name, Some(version)),
        None => (text, None),
    };
    if name.is_empty() || version == Some("") {
        return Err("write NAME or NAME@VERSION".into());
    }
    Ok(Named { name: name.to_owned(), version: version.map(str::to_owned) })
}
