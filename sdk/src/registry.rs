//! Published workflows.

use reqwest::{Method, StatusCode, Url};
use skald_protocol::{Json, Page, PublishedView, WorkflowSummary, WorkflowView};

use crate::{Client, Error, client::ANSWER_WITHIN};

/// What came of publishing a definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Publication {
    /// Nothing stood there before.
    New(PublishedView),
    /// The same content stood there before.
    Unchanged(PublishedView),
}

impl Client {
    /// Publishes a definition under the name and version that it states. Publishing it again changes nothing; other content
    /// under the same version is a `Conflict`, a definition with faults is `Rejected`, each with the problem that says why.
    pub async fn publish(&self, name: &str, version: &str, definition: &Json) -> Result<Publication, Error> {
        let url = self.at(&["v1", "workflows", name, version])?;
        self.repeated(|| async {
            let request = self.request(Method::PUT, url.clone()).header("content-type", "application/json");
            let response = self.send(request.body(definition.text().to_owned()).timeout(ANSWER_WITHIN)).await?;
            let is_new = response.status() == StatusCode::CREATED;
            let view = self.read_answer(response).await?;
            Ok(if is_new { Publication::New(view) } else { Publication::Unchanged(view) })
        })
        .await
    }

    /// A published definition; without a version, the latest.
    pub async fn workflow(&self, name: &str, version: Option<&str>) -> Result<WorkflowView, Error> {
        let url = self.at(&["v1", "workflows", name, version.unwrap_or("latest")])?;
        self.read_at(url).await
    }

    /// A page of the published workflows, each with its latest version.
    pub async fn workflows(&self, limit: Option<usize>, cursor: Option<&str>) -> Result<Page<WorkflowSummary>, Error> {
        self.read_at(paged(self.at(&["v1", "workflows"])?, limit, cursor)).await
    }

    /// A page of the versions of one workflow, the latest first.
    pub async fn versions(
        &self,
        name: &str,
        limit: Option<usize>,
        cursor: Option<&str>,
    ) -> Result<Page<WorkflowSummary>, Error> {
        self.read_at(paged(self.at(&["v1", "workflows", name])?, limit, cursor)).await
    }

    /// Below the coordinator's address; each segment is encoded.
    fn at(&self, segments: &[&str]) -> Result<Url, Error> {
        let wrong = |why: String| Error::Misconfigured(format!("{}: {why}", self.url()));
        // `.` and `..` would be taken for steps in the path.
        if segments.iter().any(|segment| matches!(*segment, "" | "." | "..")) {
            return Err(wrong("a workflow's name and version cannot be empty or dots".to_owned()));
        }
        let mut url = Url::parse(self.url()).map_err(|error| wrong(error.to_string()))?;
        match url.path_segments_mut() {
            Ok(mut path) => drop(path.pop_if_empty().extend(segments)),
            Err(()) => return Err(wrong("it cannot be a base".to_owned())),
        }
        Ok(url)
    }
}

fn paged(mut url: Url, limit: Option<usize>, cursor: Option<&str>) -> Url {
    if let Some(limit) = limit {
        url.query_pairs_mut().append_pair("limit", &limit.to_string());
    }
    if let Some(cursor) = cursor {
        url.query_pairs_mut().append_pair("cursor", cursor);
    }
    url
}
