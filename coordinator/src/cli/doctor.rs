use clap::Args;

use super::{Error, Exit, Output, settings::Settings, warn};
use crate::{
    config, server,
    store::{Finding, Weight},
    terminal::table,
};

/// Where no node runs on a SQLite file.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    #[command(flatten)]
    settings: Settings,
}

impl Doctor {
    pub(super) async fn run(&self, output: &Output) -> Result<Exit, Error> {
        let config::Loaded { config, warnings, .. } = self.settings.load()?;
        warn(&warnings);
        let findings = server::examine(&config).await?;
        output.put(&findings, || {
            let rows = findings.iter().map(|Finding { check, weight, found, advice }| {
                [(*check).to_owned(), weight.as_str().to_owned(), found.clone(), advice.unwrap_or_default().to_owned()]
            });
            table(["CHECK", "", "FOUND", "WHAT TO DO"], rows)
        })?;
        let faulty = findings.iter().any(|finding| finding.weight == Weight::Fault);
        Ok(if faulty { Exit::Faulty } else { Exit::Done })
    }
}
