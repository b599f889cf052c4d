//! One test per rule, against real sockets.

mod outcome;
mod permit;
mod queue;
mod request;
mod server;

use std::time::Duration;

use skald_engine::{Service, Target};
use skald_protocol::{BranchId, OperationKind};
use tokio::sync::oneshot;

use super::*;

impl ReplySlot for oneshot::Sender<Incoming> {
    fn put(self: Box<Self>, incoming: Incoming) {
        drop((*self).send(incoming));
    }
}

fn options() -> Options {
    Options::new("http://skald.test/", Arc::new(CallbackTokens::new(b"key")))
}

fn dispatcher() -> Dispatcher {
    Dispatcher::start(options()).unwrap()
}

fn service(url: &str) -> Service {
    Service { url: url.to_owned(), headers: BTreeMap::new(), auth: None, max_concurrency: None }
}

/// A plan whose service `stock` it is.
fn with(service: Service) -> Arc<Plan> {
    Arc::new(Plan { services: BTreeMap::from([("stock".to_owned(), service)]), ..Plan::open() })
}

/// The service that `call` calls, to be made another.
fn stock(outgoing: &mut Outgoing) -> &mut Service {
    Arc::make_mut(&mut outgoing.plan).services.get_mut("stock").unwrap()
}

/// `POST <url>/reserve` of `order:1`, branch `reserve`, first attempt.
fn call(url: &str) -> Outgoing {
    let gid = Gid::new("order:1").unwrap();
    Outgoing {
        request: Request {
            branch: BranchId::new("reserve").unwrap(),
            operation: OperationKind::Action,
            method: "POST".to_owned(),
            service: Some("stock".to_owned()),
            target: Target::Path("/reserve".to_owned()),
            query: Vec::new(),
            headers: BTreeMap::new(),
            body: Some(serde_json::json!({"sku": "s"}).into()),
            timeout: Duration::from_secs(5),
            outcome: Vec::new(),
            keep_headers: false,
            largest_answer: skald_engine::limit::OUTPUT,
            asynchronous: false,
            idempotency_key: format!("{gid}/reserve/action"),
        },
        gid,
        call: Call { branch: 0, operation: OperationKind::Action, attempt: 1, ask: false },
        plan: with(service(url)),
        trace: TraceContext::default(),
        began_at: Timestamp(0),
        contract: Native::NAME.to_owned(),
        permit: Permit::new(|| true),
    }
}

fn ask(url: &str) -> Outgoing {
    let mut outgoing = call(url);
    outgoing.call.ask = true;
    outgoing.request.method = "GET".to_owned();
    outgoing.request.body = None;
    outgoing
}

async fn reply(dispatcher: &Dispatcher, outgoing: Outgoing) -> Reply {
    let (slot, answer) = oneshot::channel();
    dispatcher.send(outgoing, Box::new(slot));
    tokio::time::timeout(Duration::from_secs(30), answer).await.expect("an answer in time").expect("an answer").reply
}
