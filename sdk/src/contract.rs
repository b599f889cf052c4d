//! Does a service keep what a participant promises? Sends it what a bad day sends, and says in words what it does wrong.
//!
//! The service may be written in any language; it is called over HTTP as a coordinator calls it. What it *did* is seen by
//! an address that tells its net state (a balance, a stock): after an undo the state is what it was before. Without such
//! an address only its answers can be judged.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use futures_util::future::join_all;
use reqwest::{StatusCode, Url};
use serde::Serialize;
use serde_json::Value;
use skald_protocol::{
    IDEMPOTENCY_KEY, OperationKind, SKALD_ATTEMPT, SKALD_BEGAN, SKALD_BRANCH, SKALD_DEADLINE, SKALD_OPERATION,
    SKALD_TRANSACTION, Timestamp,
};

use crate::{Error, SigningKeys, client::plain_http, proxy};

const BRANCH: &str = "contract-check";
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Duplicates that are sent side by side.
const OVERLAPPING: usize = 8;
/// An effect that shows only later than this after its answer was not committed when it was answered.
const LATER: Duration = Duration::from_millis(500);

/// The operations to be checked, and what they are sent.
#[derive(Debug, Clone)]
pub struct Subject {
    /// `Action` or `Try`.
    pub forward: OperationKind,
    /// Where the forward operation is called.
    pub forward_url: String,
    /// Where it is undone (compensate, cancel).
    pub undo_url: Option<String>,
    /// A body that the service accepts, several times over.
    pub body: Value,
    /// A body that the service refuses.
    pub refused_body: Option<Value>,
    /// A GET gives the service's net state.
    pub observe_url: Option<String>,
    /// With which the service expects its calls to be signed.
    pub keys: Option<SigningKeys>,
}

/// What came of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Conformance {
    /// The service does what it must.
    Kept,
    /// It does not.
    Broken,
    /// Something was missing that the check needs.
    NotChecked,
}

/// One check and what came of it.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// The check's name.
    pub check: &'static str,
    /// What came of it.
    pub verdict: Conformance,
    /// In words.
    pub message: String,
}

/// What came of all checks.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// In the order in which they were made.
    pub findings: Vec<Finding>,
}

impl Report {
    /// No check found the contract broken.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.findings.iter().all(|finding| finding.verdict != Conformance::Broken)
    }

    /// The names of the checks that found it broken.
    #[must_use]
    pub fn broken(&self) -> Vec<&'static str> {
        let broken = self.findings.iter().filter(|finding| finding.verdict == Conformance::Broken);
        broken.map(|finding| finding.check).collect()
    }

    fn add(&mut self, check: &'static str, verdict: Conformance, message: impl Into<String>) {
        self.findings.push(Finding { check, verdict, message: message.into() });
    }

    /// Broken with these words, or kept.
    fn judge(&mut self, check: &'static str, broken: Option<String>, kept: &str) {
        match broken {
            Some(message) => self.add(check, Conformance::Broken, message),
            None => self.add(check, Conformance::Kept, kept),
        }
    }
}

/// Makes every check that the subject allows. It leaves no effect standing where the service keeps its contract.
///
/// # Errors
/// Where the service cannot be reached at all, or does not accept the body that it should accept.
pub async fn check(subject: &Subject) -> Result<Report, Error> {
    let run = uuid::Uuid::now_v7().simple().to_string();
    let urls = [Some(&subject.forward_url), subject.undo_url.as_ref(), subject.observe_url.as_ref()];
    let clients = urls.into_iter().flatten().map(|url| Ok((url.as_str(), plain_http(url)?)));
    let checker = Checker { clients: clients.collect::<Result<_, Error>>()?, subject, run };
    let mut report = Report::default();
    checker.duplicates(&mut report).await?;
    checker.overlapping(&mut report).await?;
    checker.undo_first(&mut report).await?;
    checker.refusals(&mut report).await?;
    checker.signatures(&mut report).await?;
    Ok(report)
}

#[derive(Debug, Clone, PartialEq)]
struct ServiceAnswer {
    status: StatusCode,
    body: String,
}

impl ServiceAnswer {
    fn is_refusal(&self) -> bool {
        self.status.is_client_error() && ![408, 425, 429].contains(&self.status.as_u16())
    }
}

impl std::fmt::Display for ServiceAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.status.as_u16())?;
        let body: String = self.body.chars().take(120).collect();
        if body.is_empty() { Ok(()) } else { write!(f, " {body}") }
    }
}

struct Checker<'a> {
    /// By URL.
    clients: BTreeMap<&'a str, reqwest::Client>,
    subject: &'a Subject,
    run: String,
}

impl Checker<'_> {
    fn undo(&self) -> OperationKind {
        if self.subject.forward == OperationKind::Try { OperationKind::Cancel } else { OperationKind::Compensate }
    }

    async fn forward(&self, gid: &str, body: &Value) -> Result<ServiceAnswer, Error> {
        self.call(gid, self.subject.forward, &self.subject.forward_url, body, self.subject.keys.as_ref()).await
    }

    async fn undone(&self, gid: &str, url: &str) -> Result<ServiceAnswer, Error> {
        self.call(gid, self.undo(), url, &self.subject.body, self.subject.keys.as_ref()).await
    }

    async fn call(
        &self,
        gid: &str,
        operation: OperationKind,
        url: &str,
        body: &Value,
        keys: Option<&SigningKeys>,
    ) -> Result<ServiceAnswer, Error> {
        let gid = format!("contract-check:{}-{gid}", self.run);
        let key = format!("{gid}/{BRANCH}/{operation}");
        let body = body.to_string();
        let now = now();
        let mut request = self.clients[url]
            .post(url)
            .timeout(ANSWER_WITHIN)
            .header("content-type", "application/json")
            .header(IDEMPOTENCY_KEY, &key)
            .header(SKALD_TRANSACTION, &gid)
            .header(SKALD_BRANCH, BRANCH)
            .header(SKALD_OPERATION, operation.as_str())
            .header(SKALD_ATTEMPT, 1)
            .header(SKALD_BEGAN, now.to_string())
            .header(SKALD_DEADLINE, now.plus(ANSWER_WITHIN).to_string());
        if let Some(keys) = keys {
            let sent_at = (now.0 / 1000).to_string();
            request = request
                .header("webhook-id", &key)
                .header("webhook-timestamp", &sent_at)
                .header("webhook-signature", keys.sign(&key, &sent_at, body.as_bytes()));
        }
        let unreachable = |source| unreachable(url, source);
        let response = request.body(body).send().await.map_err(unreachable)?;
        let status = response.status();
        Ok(ServiceAnswer { status, body: response.text().await.map_err(unreachable)? })
    }

    /// The service's net state; `None`: nobody said where it is told.
    async fn state(&self) -> Result<Option<String>, Error> {
        let Some(url) = &self.subject.observe_url else { return Ok(None) };
        let unreachable = |source| unreachable(url, source);
        let response = self.clients[url.as_str()].get(url).timeout(ANSWER_WITHIN).send().await.map_err(unreachable)?;
        if !response.status().is_success() {
            let reason = format!("the service's state cannot be read: {}", response.status());
            return Err(unintelligible(url, reason));
        }
        response.text().await.map(Some).map_err(unreachable)
    }

    /// A call twice, one after the other; then undone, twice.
    async fn duplicates(&self, report: &mut Report) -> Result<(), Error> {
        let before = self.state().await?;
        let first = self.forward("twice", &self.subject.body).await?;
        if !first.status.is_success() {
            let operation = self.subject.forward;
            let reason = format!("the {operation} should accept the body that is given, and answers {first}");
            return Err(unintelligible(&self.subject.forward_url, reason));
        }
        let once = self.state().await?;
        if before.is_some() {
            tokio::time::sleep(LATER).await;
            let later = self.state().await?;
            let broken = (once != later || before == later).then(|| {
                if before == later {
                    "after it was answered the state is what it was before: it did nothing, or the observed state does \
                     not tell"
                        .to_owned()
                } else {
                    format!("it answered {} before its effect was there: a crash in between loses it", first.status)
                }
            });
            report.judge("committed_before_the_answer", broken, "its effect was there when it answered");
        } else {
            self.needs_state(report, "committed_before_the_answer");
        }
        let settled = self.state().await?;
        let again = self.forward("twice", &self.subject.body).await?;
        let twice = self.state().await?;
        let broken = if twice != settled {
            Some("the same call again had a second effect: keep the idempotency key beside the effect".to_owned())
        } else if again != first {
            Some(format!("the same call was answered {first}, then {again}: give the first answer again"))
        } else {
            None
        };
        report.judge("duplicate", broken, "the same call again was answered the same, without a second effect");
        self.duplicate_undo(report, before).await
    }

    async fn duplicate_undo(&self, report: &mut Report, before: Option<String>) -> Result<(), Error> {
        let Some(undo_url) = &self.subject.undo_url else {
            report.add("undo", Conformance::NotChecked, "no undo was named");
            return Ok(());
        };
        let mut answers = Vec::new();
        for _ in 0..2 {
            answers.push((self.undone("twice", undo_url).await?, self.state().await?));
        }
        let broken = answers.iter().find_map(|(answer, state)| {
            if !answer.status.is_success() {
                Some(format!("the {} was answered {answer}: an undo must succeed, also a second time", self.undo()))
            } else if *state != before {
                Some("after the undo the state is not what it was before".to_owned())
            } else {
                None
            }
        });
        report.judge("undo", broken, "it was undone once, and the second undo was answered well");
        Ok(())
    }

    /// The same call several times at once; one undo must take all of it back.
    async fn overlapping(&self, report: &mut Report) -> Result<(), Error> {
        const CHECK: &str = "overlapping_duplicates";
        let Some(undo_url) = &self.subject.undo_url else {
            report.add(CHECK, Conformance::NotChecked, "no undo was named");
            return Ok(());
        };
        let before = self.state().await?;
        let answers = join_all((0..OVERLAPPING).map(|_| self.forward("overlapping", &self.subject.body))).await;
        let answers = answers.into_iter().collect::<Result<Vec<_>, _>>()?;
        self.undone("overlapping", undo_url).await?;
        let after = self.state().await?;
        let done: Vec<_> = answers.iter().filter(|answer| answer.status.is_success()).collect();
        let broken = if before != after {
            Some(format!(
                "{OVERLAPPING} equal calls at once had more than one effect: the key must be unique in the database"
            ))
        } else if done.windows(2).any(|pair| pair[0] != pair[1]) {
            Some("equal calls at once were answered differently".to_owned())
        } else if done.is_empty() {
            Some(format!("of {OVERLAPPING} equal calls at once none succeeded: the first was answered {}", answers[0]))
        } else {
            None
        };
        if broken.is_none() && before.is_none() {
            self.needs_state(report, CHECK);
        } else {
            report.judge(CHECK, broken, "equal calls at once had one effect");
        }
        Ok(())
    }

    /// An undo before its do, then the do.
    async fn undo_first(&self, report: &mut Report) -> Result<(), Error> {
        let Some(undo_url) = &self.subject.undo_url else {
            report.add("empty_undo", Conformance::NotChecked, "no undo was named");
            return Ok(());
        };
        let before = self.state().await?;
        let undone = self.undone("undo-first", undo_url).await?;
        let after = self.state().await?;
        let broken = if !undone.status.is_success() {
            Some(format!("the undo of what never ran was answered {undone}: it must succeed, and do nothing"))
        } else if before != after {
            Some("it undid what never ran: look whether the forward operation was executed".to_owned())
        } else {
            None
        };
        report.judge("empty_undo", broken, "the undo of what never ran succeeded and did nothing");

        let late = self.forward("undo-first", &self.subject.body).await?;
        let broken = if late.status.is_success() || after != self.state().await? {
            Some(format!("a call that came after its undo was executed ({late}): nothing will ever undo it"))
        } else if late.is_refusal() {
            None
        } else {
            Some(format!("a call that came after its undo was answered {late}: refuse it (409), else it is repeated"))
        };
        report.judge("late_call", broken, "a call that came after its undo was refused");
        Ok(())
    }

    /// A refusal must stay one, whatever changed meanwhile.
    async fn refusals(&self, report: &mut Report) -> Result<(), Error> {
        const CHECK: &str = "stable_refusal";
        let Some(refused) = &self.subject.refused_body else {
            report.add(CHECK, Conformance::NotChecked, "no body was given that the service refuses");
            return Ok(());
        };
        let before = self.state().await?;
        let first = self.forward("refused", refused).await?;
        if !first.is_refusal() {
            let message = format!("the body that it should refuse was answered {first}: a refusal is a 4xx");
            report.add(CHECK, Conformance::Broken, message);
            return Ok(());
        }
        // The same key; what made it refuse is gone.
        let again = self.forward("refused", &self.subject.body).await?;
        let broken = if !again.is_refusal() {
            Some(format!(
                "a refused call was answered {again} when it came again: the coordinator has counted it as refused"
            ))
        } else if before != self.state().await? {
            Some("a refused call had an effect".to_owned())
        } else {
            None
        };
        report.judge(CHECK, broken, "a refusal stayed one");
        Ok(())
    }

    async fn signatures(&self, report: &mut Report) -> Result<(), Error> {
        const CHECK: &str = "signatures";
        if self.subject.keys.is_none() {
            report.add(CHECK, Conformance::NotChecked, "no signing key was given");
            return Ok(());
        }
        let before = self.state().await?;
        let foreign = SigningKeys::new(["whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="]).ok();
        let mut broken = None;
        for (what, keys) in [("no signature", None), ("a signature by another key", foreign.as_ref())] {
            let (forward, url) = (self.subject.forward, &self.subject.forward_url);
            let answer = self.call("unsigned", forward, url, &self.subject.body, keys).await?;
            if !answer.is_refusal() || before != self.state().await? {
                broken = Some(format!("a call with {what} was answered {answer}: anybody could call"));
            }
        }
        report.judge(CHECK, broken, "calls without a signature, or with a wrong one, were refused");
        Ok(())
    }

    fn needs_state(&self, report: &mut Report, check: &'static str) {
        report.add(
            check,
            Conformance::NotChecked,
            "effects are not seen: name an address that tells the service's net state",
        );
    }
}

fn proxy_of(url: &str) -> Option<String> {
    Url::parse(url).ok().and_then(|url| proxy::of(&url))
}

fn unreachable(url: &str, source: reqwest::Error) -> Error {
    Error::Unreachable { url: url.to_owned(), proxy: proxy_of(url), source }
}

fn unintelligible(url: &str, reason: String) -> Error {
    Error::Unintelligible { url: url.to_owned(), proxy: proxy_of(url), reason }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
