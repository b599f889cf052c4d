use std::{marker::PhantomData, time::Duration};

use serde::de::DeserializeOwned;
use skald_protocol::{Begin, Gid, Status, TransactionView};

use crate::{Client, Error, saga::Workflow};

/// As long as a coordinator lets one request wait.
const WAIT: Duration = Duration::from_secs(60);

/// A transaction that was begun: whatever crashes, it is driven to its end.
#[derive(Debug)]
#[must_use = "`settled` waits for what becomes of it"]
pub struct Begun<O> {
    client: Client,
    begin: Begin,
    view: TransactionView,
    output: PhantomData<fn() -> O>,
}

impl Client {
    /// Begins a transaction; it is durable when this returns.
    ///
    /// # Errors
    /// Where the workflow is not well stated, the coordinator refuses it, or cannot be reached.
    pub async fn begin<W: Workflow>(&self, workflow: &W, input: &W::Input) -> Result<Begun<W::Output>, Error> {
        let mut begin = workflow.begin(input)?;
        // Under one gid all repetitions are one transaction, `settled` included.
        begin.gid.get_or_insert_with(crate::client::new_gid);
        let view = self.begin_with(begin.clone(), None).await?;
        Ok(Begun { client: self.clone(), begin, view, output: PhantomData })
    }
}

impl<O: DeserializeOwned> Begun<O> {
    /// The transaction's id.
    #[must_use]
    pub fn gid(&self) -> &Gid {
        &self.view.gid
    }

    /// As it stood when it was begun.
    #[must_use]
    pub fn view(&self) -> &TransactionView {
        &self.view
    }

    /// Waits for the end; however long that takes.
    ///
    /// # Errors
    /// `Error::Unsuccessful` where it was undone, failed, or waits for a person. Where the coordinator cannot be reached,
    /// the transaction goes on all the same: `Client::get` tells later.
    pub async fn settled(self) -> Result<O, Error> {
        loop {
            let view = self.client.begin_with(self.begin.clone(), Some(WAIT)).await?;
            match view.status {
                Status::Succeeded => {
                    let output = view.output.as_ref().map_or("null", |output| output.text());
                    return serde_json::from_str(output).map_err(|error| Error::Unintelligible {
                        url: format!("{}/v1/transactions/{}", self.client.url(), view.gid),
                        proxy: None,
                        reason: format!("its output is not of the type asked for: {error}"),
                    });
                }
                Status::Compensated | Status::Failed | Status::Suspended => {
                    return Err(Error::Unsuccessful(Box::new(view)));
                }
                Status::Running | Status::Confirming | Status::Compensating => {}
            }
        }
    }
}
