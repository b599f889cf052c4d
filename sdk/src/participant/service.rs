use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use serde::de::DeserializeOwned;
use skald_protocol::{OperationKind, Timestamp};
use sqlx::Pool;
use tokio::time::{sleep, timeout};

use super::{
    Answer, CallContext, Effect, Failure,
    barrier::{self, Dialect, Entry},
    effect::{Erased, Ran, erase},
};
use crate::SigningKeys;

/// No coordinator sends a larger body.
const BODY: usize = 8 << 20;
/// How often a local transaction is started again where the database asks for it.
const TRIES: u32 = 8;
const BACKOFF: Duration = Duration::from_millis(4);

/// The HTTP side of a service that takes part in sagas and TCC transactions.
///
/// Every route is a `POST` of a coordinator to a path, and belongs to one operation. Whatever the routes do happens once
/// per idempotency key, never after its undo, and is undone only if it happened; see [`barrier`].
#[must_use]
pub struct Participant<DB: Dialect> {
    inner: Inner<DB>,
}

struct Inner<DB: Dialect> {
    pool: Pool<DB>,
    routes: BTreeMap<String, Route<DB>>,
    keys: Option<SigningKeys>,
}

struct Route<DB: Dialect> {
    operation: OperationKind,
    effect: Arc<dyn Erased<DB>>,
}

impl<DB: Dialect> Participant<DB> {
    /// A participant whose effects and barrier live in this database. `barrier::create_tables` makes the tables.
    pub fn new(pool: Pool<DB>) -> Self {
        Self { inner: Inner { pool, routes: BTreeMap::new(), keys: None } }
    }

    /// Takes only calls that are signed with one of these keys.
    pub fn signed_with(mut self, keys: SigningKeys) -> Self {
        self.inner.keys = Some(keys);
        self
    }

    /// What a saga step does.
    ///
    /// # Panics
    /// Where the path does not start with `/` or is taken; so do the four below.
    pub fn action<I, F>(self, path: &str, effect: F) -> Self
    where
        I: DeserializeOwned + Send + 'static,
        F: for<'t> Effect<'t, DB, I> + 'static,
    {
        self.route(path, OperationKind::Action, erase(effect))
    }

    /// What undoes a saga step.
    pub fn compensate<I, F>(self, path: &str, effect: F) -> Self
    where
        I: DeserializeOwned + Send + 'static,
        F: for<'t> Effect<'t, DB, I> + 'static,
    {
        self.route(path, OperationKind::Compensate, erase(effect))
    }

    /// What a TCC branch sets aside.
    pub fn try_<I, F>(self, path: &str, effect: F) -> Self
    where
        I: DeserializeOwned + Send + 'static,
        F: for<'t> Effect<'t, DB, I> + 'static,
    {
        self.route(path, OperationKind::Try, erase(effect))
    }

    /// What makes good what was set aside.
    pub fn confirm<I, F>(self, path: &str, effect: F) -> Self
    where
        I: DeserializeOwned + Send + 'static,
        F: for<'t> Effect<'t, DB, I> + 'static,
    {
        self.route(path, OperationKind::Confirm, erase(effect))
    }

    /// What gives back what was set aside.
    pub fn cancel<I, F>(self, path: &str, effect: F) -> Self
    where
        I: DeserializeOwned + Send + 'static,
        F: for<'t> Effect<'t, DB, I> + 'static,
    {
        self.route(path, OperationKind::Cancel, erase(effect))
    }

    fn route(mut self, path: &str, operation: OperationKind, effect: Arc<dyn Erased<DB>>) -> Self {
        assert!(path.starts_with('/'), "the path `{path}` must start with `/`");
        let taken = self.inner.routes.insert(path.to_owned(), Route { operation, effect });
        assert!(taken.is_none(), "the path `{path}` has two effects");
        self
    }

    /// A `tower::Service`, for whatever framework serves it.
    #[must_use]
    pub fn into_service(self) -> ParticipantService<DB> {
        ParticipantService(Arc::new(self.inner))
    }

    /// A router to serve, or to nest into the service's own.
    #[cfg(feature = "axum")]
    pub fn into_router(self) -> axum::Router {
        axum::Router::new().fallback_service(self.into_service())
    }
}

/// Answers the calls of coordinators; cheap to clone.
pub struct ParticipantService<DB: Dialect>(Arc<Inner<DB>>);

impl<DB: Dialect> Clone for ParticipantService<DB> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<DB, B> tower_service::Service<Request<B>> for ParticipantService<DB>
where
    DB: Dialect,
    B: http_body::Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let inner = Arc::clone(&self.0);
        Box::pin(async move { Ok(inner.answer(request).await.unwrap_or_else(|answer| answer).into_response()) })
    }
}

impl<DB: Dialect> Inner<DB> {
    /// Both sides are answers; the error only ends it early.
    async fn answer<B>(&self, request: Request<B>) -> Result<Answer, Answer>
    where
        B: http_body::Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send,
    {
        let (head, body) = request.into_parts();
        let invalid = |status, message: String| Answer::Invalid(status, message);
        let Some(route) = self.routes.get(head.uri.path()) else {
            let known: Vec<_> = self.routes.keys().map(String::as_str).collect();
            let message = format!("no operation has the path `{}`; there are {}", head.uri.path(), known.join(", "));
            return Err(invalid(StatusCode::NOT_FOUND, message));
        };
        let body = Limited::new(body, BODY).collect().await;
        let body =
            body.map_err(|error| invalid(StatusCode::BAD_REQUEST, format!("the body cannot be read: {error}")))?;
        let body = body.to_bytes();
        if let Some(keys) = &self.keys {
            let verified = keys.verify(&head.headers, &body, now());
            verified.map_err(|why| invalid(StatusCode::UNAUTHORIZED, why.to_owned()))?;
        }
        let context = CallContext::from_headers(&head.headers)?;
        if context.operation != route.operation {
            let (path, here, asked) = (head.uri.path(), route.operation, context.operation);
            let message = format!("`{path}` is a {here}, and the call asks for the {asked} of its branch");
            return Err(invalid(StatusCode::BAD_REQUEST, message));
        }
        let mut tries = 0;
        loop {
            match self.attempt(route, &context, &body).await {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    tries += 1;
                    if tries >= TRIES || !is_serialization_failure::<DB>(&*error) {
                        return Err(Answer::failed(&*error));
                    }
                    sleep(BACKOFF * 2u32.pow(tries - 1)).await;
                }
            }
        }
    }

    /// One local transaction.
    async fn attempt(
        &self,
        route: &Route<DB>,
        context: &CallContext,
        body: &Bytes,
    ) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
        let left = || Some(now().until(context.deadline)).filter(|left| !left.is_zero());
        let Some(within) = left() else { return Ok(Answer::TooLate) };
        let work = async {
            let mut tx = self.pool.begin_with(DB::BEGIN).await?;
            if context.asks_status {
                return Ok((None, barrier::status(tx, context).await?));
            }
            let pass = match barrier::enter::<DB>(&mut tx, context).await? {
                Entry::Decided(answer) => return Ok((Some(tx), answer)),
                Entry::Run(pass) => pass,
            };
            DB::execute(&mut tx, "SAVEPOINT skald_effect").await?;
            let forward_output = pass.forward_output().cloned();
            let answer = match route.effect.run(&mut tx, context.clone(), body.clone(), forward_output).await {
                Ran::Done(output) => pass.complete::<DB>(&mut tx, output).await?,
                Ran::Unreadable(error) => {
                    let message = format!("the body is not what `{}` takes: {error}", context.operation);
                    return Ok((None, Answer::Invalid(StatusCode::BAD_REQUEST, message)));
                }
                Ran::Failure(Failure::Failed(error)) => return Err(error),
                Ran::Failure(Failure::Refused(refusal)) => {
                    DB::execute(&mut tx, "ROLLBACK TO SAVEPOINT skald_effect").await?;
                    match pass.refuse::<DB>(&mut tx, &refusal).await? {
                        Some(answer) => answer,
                        None => return Ok((None, Answer::Refused(refusal, super::BarrierWord::Executed))),
                    }
                }
            };
            Ok((Some(tx), answer))
        };
        // Whatever is dropped here is rolled back.
        let Ok(done) = timeout(within, work).await else { return Ok(Answer::TooLate) };
        let (tx, answer) = done?;
        let Some(tx) = tx else { return Ok(answer) };
        // From here on nothing stops it: a commit that is given up on may have happened.
        if left().is_none() {
            return Ok(Answer::TooLate);
        }
        tx.commit().await?;
        Ok(answer)
    }
}

/// Also where the effect wrapped it.
fn is_serialization_failure<DB: Dialect>(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error: &&(dyn std::error::Error + 'static)| (*error).source())
        .filter_map(|error| error.downcast_ref::<sqlx::Error>())
        .any(DB::is_serialization_failure)
}

pub(super) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
