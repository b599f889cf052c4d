use std::{collections::BTreeMap, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use skald_protocol::{BranchId, BranchRequest, CallOutcome, EnlistedOperation, ErrorView, Gid, Json, duration_text};

use crate::{Client, Error, saga::Step};

/// A TCC transaction that its client decides; given to the work of [`Client::tcc`].
#[derive(Debug)]
pub struct OpenTransaction {
    client: Client,
    gid: Gid,
}

/// Cancels what is left undecided: an error, a panic, a future that was dropped.
struct Undecided<'a> {
    transaction: &'a OpenTransaction,
    decided: bool,
}

impl Drop for Undecided<'_> {
    fn drop(&mut self) {
        if self.decided {
            return;
        }
        let (client, gid) = (self.transaction.client.clone(), self.transaction.gid.clone());
        // Without a runtime (the process ends) the deadline does it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let reason = Some("its client gave up before it decided".to_owned());
                // Also where this fails the deadline does it.
                let _cancelled = client.cancel(&gid, reason, None).await;
            });
        }
    }
}

impl Client {
    /// A TCC transaction as a scope: the work reserves branch by branch, and what it gives decides.
    ///
    /// `Ok` commits (all branches are confirmed), and is only given back once that is durable. `Err`, a panic, or dropping
    /// the future cancels. A client that dies is cancelled by the deadline, so choose `timeout` longer than the work takes.
    ///
    /// # Errors
    /// The work's own, or what kept the transaction from being opened or committed.
    pub async fn tcc<T, E: From<Error>>(
        &self,
        timeout: Duration,
        work: impl AsyncFnOnce(&OpenTransaction) -> Result<T, E>,
    ) -> Result<T, E> {
        let view = self.begin_open(None, &duration_text(timeout), BTreeMap::new()).await?;
        let transaction = OpenTransaction { client: self.clone(), gid: view.gid };
        let mut undecided = Undecided { transaction: &transaction, decided: false };
        match work(&transaction).await {
            Ok(output) => {
                self.commit(&transaction.gid, None).await?;
                undecided.decided = true;
                Ok(output)
            }
            Err(error) => {
                let cancelled = self.cancel(&transaction.gid, None, None).await;
                undecided.decided = cancelled.is_ok();
                Err(error)
            }
        }
    }
}

impl OpenTransaction {
    /// The transaction's id.
    #[must_use]
    pub fn gid(&self) -> &Gid {
        &self.gid
    }

    /// Enlists a branch and has the coordinator call its try; gives the try's answer.
    ///
    /// `step` is `service.try_(…).confirm(…).cancel(…)`, and `input` what all three are sent. The branch is durable before
    /// its try is called, so nothing is reserved that nobody would give back.
    ///
    /// # Errors
    /// `Error::Refused` where the participant refuses; that alone cancels nothing.
    pub async fn branch<O: DeserializeOwned>(
        &self,
        branch: &str,
        step: Step,
        input: &impl Serialize,
    ) -> Result<O, Error> {
        let misconfigured = |problem: String| Error::Misconfigured(format!("branch `{branch}`: {problem}"));
        let request = BranchRequest {
            branch: BranchId::new(branch).map_err(|error| misconfigured(error.to_string()))?,
            service: None,
            try_: Some(operation(&step, "try").map_err(misconfigured)?),
            confirm: operation(&step, "confirm").map_err(misconfigured)?,
            cancel: operation(&step, "cancel").map_err(misconfigured)?,
            body: Some(
                serde_json::value::to_raw_value(input)
                    .map_err(|error| misconfigured(format!("its input is no JSON: {error}")))?
                    .into(),
            ),
        };
        loop {
            let view = self.client.enlist(&self.gid, &request, None).await?;
            match view.outcome {
                Some(CallOutcome::Succeeded) => {
                    let output = view.output.as_ref().map_or("null", Json::text);
                    return serde_json::from_str(output).map_err(|error| Error::Unintelligible {
                        url: format!("branch `{branch}`"),
                        proxy: None,
                        reason: format!("the try's answer is not of the type asked for: {error}"),
                    });
                }
                Some(CallOutcome::Refused) => {
                    let error = view.error.unwrap_or_else(|| ErrorView {
                        step: None,
                        code: "refused".to_owned(),
                        message: None,
                    });
                    return Err(Error::Refused { branch: branch.to_owned(), error: Box::new(error) });
                }
                // Under way; the transaction's deadline ends it.
                Some(CallOutcome::Pending | CallOutcome::Unknown | CallOutcome::Unsent) | None => {}
            }
        }
    }
}

/// An open transaction has no services of its own: its operations name whole URLs.
fn operation(step: &Step, operation: &str) -> Result<EnlistedOperation, String> {
    let whole = "it must be a whole TCC step: service.try_(path).confirm(path).cancel(path)";
    let mut members = match (step.members.get(operation), step.services.first()) {
        (Some(Value::Object(members)), Some(_)) if step.faults.is_empty() => members.clone(),
        _ => return Err(step.faults.first().cloned().unwrap_or_else(|| whole.to_owned())),
    };
    if let (Some(Value::String(path)), Some(service)) = (members.remove("path"), step.services.first()) {
        members.insert("url".to_owned(), json!(format!("{}{path}", service.url.trim_end_matches('/'))));
    }
    Ok(EnlistedOperation(Value::Object(members).into()))
}
