//! Published workflows: any node answers, for they stand in the database alone and never change.

use std::sync::Arc;

use skald_engine::plan::FORMAT;
use skald_protocol::WorkflowRef;

use super::{super::PreparedPlan, Coordinator, Error, LoadError, unreachable};
use crate::store::{self, Publish, Published, StoredPlan, Workflow, WorkflowRow};

impl Coordinator {
    /// Durable before it returns. `digest`: SHA-256 of the definition's RFC 8785 form, by which it is compared.
    pub async fn publish(
        &self,
        workflow: WorkflowRef,
        digest: [u8; 32],
        definition: String,
        plan: &PreparedPlan,
    ) -> Result<Published, Error> {
        let plan = StoredPlan {
            digest: plan.digest,
            format: FORMAT,
            definition: plan.definition.clone(),
            plan: plan.encoded.clone(),
        };
        let new = Publish { workflow, digest, definition, plan };
        self.stored_within(self.inner.shared.store.publish(&new)).await
    }

    pub async fn workflow(&self, wanted: &WorkflowRef) -> Result<Option<Workflow>, Error> {
        self.inner.shared.store.workflow(wanted).await.map_err(unreachable)
    }

    /// The latest published version of this name; a pre-release only where there is nothing else.
    pub async fn latest_version(&self, name: &str) -> Result<Option<String>, Error> {
        self.inner.shared.store.latest(name).await.map_err(unreachable)
    }

    /// The latest version of each name behind `after`, in the order of names.
    pub async fn workflows(&self, after: &str, limit: usize) -> Result<Vec<WorkflowRow>, Error> {
        self.inner.shared.store.workflows(after, limit).await.map_err(unreachable)
    }

    /// The versions of one name, the latest first, behind `after`.
    pub async fn versions(&self, name: &str, after: Option<&str>, limit: usize) -> Result<Vec<WorkflowRow>, Error> {
        self.inner.shared.store.versions(name, after, limit).await.map_err(unreachable)
    }

    /// The plan that was proven when the workflow was published, whatever this build's compiler would make of it.
    pub async fn published_plan(&self, workflow: &Workflow) -> Result<PreparedPlan, Error> {
        let shared = &self.inner.shared;
        let digest = workflow.row.plan;
        let plan = shared.plans.get(&*shared.store, &digest).await.map_err(|fault| match fault {
            LoadError::Newer => Error::not_ready("the workflow was published by a newer build"),
            LoadError::Corrupt(reason) => Error::Store(store::Error::Refused(reason)),
            LoadError::Store(error) => unreachable(error),
        })?;
        let encoded = plan.encode();
        Ok(PreparedPlan { plan: Arc::clone(&plan), digest, encoded, definition: Some(workflow.definition.clone()) })
    }
}
