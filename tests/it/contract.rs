//! The contract check is green for what keeps the contract and red for each way of breaking it.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use skald_protocol::OperationKind;
use skald_sdk::{
    SigningKeys,
    contract::{Conformance, Report, Subject, check},
};
use skald_tests::cluster::run_with;

/// How a hand-written service gets it wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    NotIdempotent,
    UndoesWhatNeverRan,
    ExecutesLate,
    RefusalFlips,
    OverlappingBothExecute,
    AnswersBeforeItsCommit,
    TakesUnsignedCalls,
}

#[derive(Default)]
struct Books {
    sold: i64,
    /// By idempotency key: what was answered.
    answers: HashMap<String, u16>,
}

#[derive(Clone)]
struct Shop {
    flaw: Flaw,
    keys: SigningKeys,
    books: Arc<Mutex<Books>>,
}

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=";

impl Shop {
    fn books(&self) -> std::sync::MutexGuard<'_, Books> {
        self.books.lock().expect("nobody panics")
    }

    async fn call(&self, headers: &HeaderMap, body: &Bytes) -> u16 {
        let now = super::barrier::services::now();
        if self.flaw != Flaw::TakesUnsignedCalls && self.keys.verify(headers, body, now).is_err() {
            return 401;
        }
        let text = |name: &str| headers[name].to_str().expect("text").to_owned();
        let key = text("idempotency-key");
        let forward = text("skald-operation") == "action";
        let other = key
            .replace(if forward { "/action" } else { "/compensate" }, if forward { "/compensate" } else { "/action" });
        let known = self.books().answers.get(&key).copied();
        let other = self.books().answers.get(&other).copied();
        if let Some(known) = known
            && self.flaw != Flaw::NotIdempotent
            && !(self.flaw == Flaw::RefusalFlips && known == 422)
        {
            return known;
        }
        if self.flaw == Flaw::OverlappingBothExecute {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let body: Value = serde_json::from_slice(body).expect("JSON");
        let by = match (forward, other) {
            (true, Some(_)) if self.flaw != Flaw::ExecutesLate => return 409,
            (true, _) if body["refuse"] == true => {
                self.books().answers.insert(key, 422);
                return 422;
            }
            (true, _) => 1,
            (false, Some(200)) => -1,
            (false, _) if self.flaw == Flaw::UndoesWhatNeverRan => -1,
            (false, _) => 0,
        };
        let mut books = self.books();
        books.answers.insert(key, 200);
        if self.flaw == Flaw::AnswersBeforeItsCommit {
            let shop = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                shop.books().sold += by;
            });
        } else {
            books.sold += by;
        }
        200
    }
}

async fn called(State(shop): State<Shop>, headers: HeaderMap, body: Bytes) -> Response {
    StatusCode::from_u16(shop.call(&headers, &body).await).expect("a status").into_response()
}

async fn state(State(shop): State<Shop>) -> String {
    shop.books().sold.to_string()
}

async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

fn subject(url: &str) -> Subject {
    Subject {
        forward: OperationKind::Action,
        forward_url: format!("{url}/action"),
        undo_url: Some(format!("{url}/compensate")),
        body: json!({"item": 1, "refuse": false}),
        refused_body: Some(json!({"item": 1, "refuse": true})),
        observe_url: Some(format!("{url}/state")),
        keys: Some(SigningKeys::new([KEY]).expect("a key")),
    }
}

async fn checked(flaw: Flaw) -> Report {
    let shop = Shop { flaw, keys: SigningKeys::new([KEY]).expect("a key"), books: Arc::default() };
    let router = Router::new()
        .route("/action", post(called))
        .route("/compensate", post(called))
        .route("/state", get(state))
        .with_state(shop);
    check(&subject(&serve(router).await)).await.expect("a report")
}

#[tokio::test]
async fn each_way_of_breaking_the_contract_is_found_and_no_other() {
    for (flaw, broken) in [
        (Flaw::None, &[][..]),
        (Flaw::NotIdempotent, &["duplicate", "undo", "overlapping_duplicates", "stable_refusal"][..]),
        (Flaw::UndoesWhatNeverRan, &["empty_undo"]),
        (Flaw::ExecutesLate, &["late_call"]),
        (Flaw::RefusalFlips, &["stable_refusal"]),
        (Flaw::OverlappingBothExecute, &["overlapping_duplicates"]),
        (Flaw::TakesUnsignedCalls, &["signatures"]),
    ] {
        let report = checked(flaw).await;
        assert_eq!(report.broken(), broken, "{flaw:?}: {report:#?}");
        assert_eq!(report.is_kept(), broken.is_empty());
    }
    // It disturbs whatever is looked at right after an answer.
    let report = checked(Flaw::AnswersBeforeItsCommit).await;
    assert!(report.broken().contains(&"committed_before_the_answer"), "{report:#?}");
}

#[tokio::test]
async fn a_participant_of_the_sdk_keeps_the_contract() {
    use super::barrier::services::{Shop as _, shop};
    let pool = sqlx::Sqlite::open("SERIALIZABLE").await;
    let observed = pool.clone();
    let router = shop(pool).signed_with(SigningKeys::new([KEY]).expect("a key")).into_router();
    let state = get(|| async move { sqlx::Sqlite::left(&observed).await.to_string() });
    let report =
        check(&subject(&serve(Router::new().route("/state", state).merge(router)).await)).await.expect("a report");
    assert!(report.is_kept(), "{report:#?}");
    assert!(report.findings.iter().all(|finding| finding.verdict == Conformance::Kept), "all was checked: {report:#?}");
}

#[tokio::test]
async fn without_a_state_to_look_at_it_says_what_it_cannot_see() {
    let router = Router::new().fallback(post(|| async { StatusCode::OK }));
    let url = serve(router).await;
    let blind = Subject { observe_url: None, keys: None, refused_body: None, ..subject(&url) };
    let report = check(&blind).await.expect("a report");
    let not_checked: Vec<_> =
        report.findings.iter().filter(|finding| finding.verdict == Conformance::NotChecked).map(|f| f.check).collect();
    assert_eq!(not_checked, ["committed_before_the_answer", "overlapping_duplicates", "stable_refusal", "signatures"]);
    assert_eq!(report.broken(), ["late_call"], "what can be seen by its answers");
}

#[tokio::test]
async fn the_command_line_checks_a_service_and_says_what_is_broken() {
    for (flaw, code, words) in [(Flaw::None, 0, "kept"), (Flaw::ExecutesLate, 1, "came after its undo was executed")] {
        let shop = Shop { flaw, keys: SigningKeys::new([KEY]).expect("a key"), books: Arc::default() };
        let router = Router::new()
            .route("/action", post(called))
            .route("/compensate", post(called))
            .route("/state", get(state))
            .with_state(shop);
        let url = serve(router).await;
        let folder = tempfile::tempdir().expect("a folder");
        let definition = folder.path().join("order.json");
        let step = json!({"name": "reserve", "action": {"path": "/action"}, "compensate": {"path": "/compensate"}});
        std::fs::write(&definition, json!({"steps": [{"parallel": [{"steps": [step]}]}]}).to_string()).expect("a file");
        let file = definition.to_str().expect("text");
        let observe = format!("{url}/state");
        let arguments = [
            "participant",
            "check",
            "--url",
            &url,
            "--definition",
            file,
            "--step",
            "reserve",
            "--body",
            r#"{"refuse": false}"#,
            "--refused-body",
            r#"{"refuse": true}"#,
            "--observe",
            &observe,
            "--signing-key",
            KEY,
        ];
        let done = run_with(&arguments, &[]).await;
        assert_eq!(done.code, code, "{}", done.stderr);
        assert!(done.stdout.contains(words) && !done.stdout.contains("not checked"), "{}", done.stdout);
        let unknown =
            run_with(&["participant", "check", "--url", &url, "--definition", file, "--step", "no"], &[]).await;
        assert_eq!(unknown.code, 2);
        assert!(unknown.stderr.contains("step `no` of"), "{}", unknown.stderr);
    }
}
