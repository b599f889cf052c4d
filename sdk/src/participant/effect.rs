use std::{marker::PhantomData, sync::Arc};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::{Serialize, de::DeserializeOwned};
use skald_protocol::Json;
use sqlx::Transaction;

use super::{CallContext, Failure};

/// One call as an effect sees it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Call<I> {
    /// Whose call it is.
    pub context: CallContext,
    /// The body. A call without one is read as `null`, so `()` and `Option<T>` fit.
    pub input: I,
    /// Of an undo or a confirm: what the forward operation answered, where the barrier knows it.
    pub forward_output: Option<Json>,
}

impl<I> Call<I> {
    /// A call without a barrier behind it, for tests of an effect.
    #[must_use]
    pub fn new(context: CallContext, input: I) -> Self {
        Self { context, input, forward_output: None }
    }
}

/// An async function that makes an effect inside the barrier's transaction:
/// `async fn(&mut Transaction<'_, DB>, Call<I>) -> Result<O, E>`.
///
/// It writes through the transaction it is given and nowhere else, and it may be run again from the start where the
/// database asks for that (serialization failures, deadlocks).
#[diagnostic::on_unimplemented(
    message = "this function cannot be an effect of a participant",
    label = "expected `async fn(&mut sqlx::Transaction<'_, {DB}>, Call<{I}>) -> Result<Output, Refusal or Failure>`",
    note = "the input must implement `DeserializeOwned`, the output `Serialize`, and the future must be `Send`"
)]
pub trait Effect<'t, DB: sqlx::Database, I>: Send + Sync {
    /// What the participant answers with, as JSON.
    type Output: Serialize;
    /// A `Refusal` or a `Failure`.
    type Error: Into<Failure>;
    /// Of the call.
    type Future: Future<Output = Result<Self::Output, Self::Error>> + Send + 't;

    /// Starts the effect.
    fn call(&self, tx: &'t mut Transaction<'static, DB>, call: Call<I>) -> Self::Future;
}

impl<'t, DB, I, F, Fut, O, E> Effect<'t, DB, I> for F
where
    DB: sqlx::Database,
    F: Fn(&'t mut Transaction<'static, DB>, Call<I>) -> Fut + Send + Sync,
    Fut: Future<Output = Result<O, E>> + Send + 't,
    O: Serialize,
    E: Into<Failure>,
{
    type Output = O;
    type Error = E;
    type Future = Fut;

    fn call(&self, tx: &'t mut Transaction<'static, DB>, call: Call<I>) -> Fut {
        self(tx, call)
    }
}

/// What became of running an erased effect.
pub(super) enum Ran {
    Done(Option<Json>),
    /// The body is not what the effect takes.
    Unreadable(serde_json::Error),
    Failure(Failure),
}

/// An effect whose types are forgotten.
pub(super) trait Erased<DB: sqlx::Database>: Send + Sync {
    fn run<'t>(
        &'t self,
        tx: &'t mut Transaction<'static, DB>,
        context: CallContext,
        body: Bytes,
        forward_output: Option<Json>,
    ) -> BoxFuture<'t, Ran>;
}

struct Typed<F, I> {
    effect: F,
    input: PhantomData<fn() -> I>,
}

pub(super) fn erase<DB, I, F>(effect: F) -> Arc<dyn Erased<DB>>
where
    DB: sqlx::Database,
    I: DeserializeOwned + Send + 'static,
    F: for<'t> Effect<'t, DB, I> + 'static,
{
    Arc::new(Typed { effect, input: PhantomData })
}

impl<DB, I, F> Erased<DB> for Typed<F, I>
where
    DB: sqlx::Database,
    I: DeserializeOwned + Send + 'static,
    F: for<'t> Effect<'t, DB, I>,
{
    fn run<'t>(
        &'t self,
        tx: &'t mut Transaction<'static, DB>,
        context: CallContext,
        body: Bytes,
        forward_output: Option<Json>,
    ) -> BoxFuture<'t, Ran> {
        let input = if body.is_empty() { serde_json::from_str("null") } else { serde_json::from_slice(&body) };
        let input: I = match input {
            Ok(input) => input,
            Err(error) => return Box::pin(std::future::ready(Ran::Unreadable(error))),
        };
        let future = self.effect.call(tx, Call { context, input, forward_output });
        Box::pin(async move {
            match future.await {
                Ok(output) => match serde_json::value::to_raw_value(&output) {
                    Ok(output) => Ran::Done(Some(Json::from(output)).filter(|output| !output.is_null())),
                    Err(error) => Ran::Failure(error.into()),
                },
                Err(error) => Ran::Failure(error.into()),
            }
        })
    }
}
