//! What the order of the examples costs: compiled, and driven without a database or a network. For a person to read.

use std::{hint::black_box, sync::Arc};

use skald_engine::{Input, Outcome, Plan, Reply, Response, Transaction, definition::compile};
use skald_protocol::{Gid, Json, Status, Timestamp};

const ROUNDS: u32 = 2_000;
const ORDER: &str = include_str!("../../../../examples/workflows/order.json");
const INPUT: &str = include_str!("../../../../examples/workflows/order.input.json");

#[allow(clippy::disallowed_methods, reason = "the clock measures the engine, which reads none")]
fn measured(what: &str, per: u32, mut work: impl FnMut()) {
    work();
    let began = std::time::Instant::now();
    for _ in 0..ROUNDS {
        work();
    }
    let each = began.elapsed() / ROUNDS;
    eprintln!("{what}: {each:?}, {:?} of each of {per}", each / per);
}

/// To its end, with answers that have an id; how many calls it made.
fn drive(plan: &Arc<Plan>, input: &Json) -> u32 {
    let began = skald_engine::Began {
        plan: String::new(),
        contract: "native".to_owned(),
        input: Some(input.clone()),
        config: None,
        labels: std::collections::BTreeMap::new(),
        timeout_ms: None,
        trace: skald_engine::TraceContext::default(),
    };
    let now = Timestamp(0);
    let (mut transaction, _) = Transaction::begin(Gid::new("g").unwrap(), Arc::clone(plan), began, now);
    let answer = Json::from_text(r#"{"id": "0123456789abcdef"}"#.to_owned()).unwrap();
    let mut calls = 0;
    loop {
        let owed = transaction.owed(now);
        if owed.is_empty() {
            assert_eq!(transaction.status(), Status::Succeeded);
            return calls;
        }
        for call in owed {
            black_box(transaction.render(call).unwrap());
            transaction.sent(call, now);
            let response = Response { status: 200, body: Some(answer.clone()), ..Response::default() };
            let reply = Reply::of(Outcome::Succeeded(response));
            let _ = transaction.decide(Input::Replied { call, reply }, now).unwrap();
            calls += 1;
        }
    }
}

#[test]
#[ignore = "measures, for a person: run it alone, in a release build, with --nocapture"]
fn the_order_compiled_and_driven() {
    let steps = u32::try_from(compile(ORDER).unwrap().plan.branches.len()).unwrap();
    measured("compiling the order", steps, || drop(black_box(compile(ORDER).unwrap())));
    let plan = Arc::new(compile(ORDER).unwrap().plan);
    let input = Json::from_text(INPUT.to_owned()).unwrap();
    let calls = drive(&plan, &input);
    measured("deciding and rendering the order", calls, || {
        black_box(drive(&plan, &input));
    });
}
