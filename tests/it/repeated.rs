//! Every call whose answer may be lost can be sent again, for as long as the journal is kept: the same is answered as the first
//! was, another one under the same name is refused. One test a row of the table in docs/api.md.

use serde_json::{Value, json};
use skald_protocol::Status;
use skald_tests::{
    World,
    client::http,
    definition::{begin, definition, enlist, step, with_gid},
    eventually, promises,
};

/// What is sent, and what it is answered, by status and code.
struct Row {
    path: String,
    key: Option<&'static str>,
    same: Value,
    other: Option<(Value, &'static str)>,
}

impl Row {
    fn new(path: String, same: Value) -> Self {
        Self { path, key: None, same, other: None }
    }

    fn or(self, other: Value, code: &'static str) -> Self {
        Self { other: Some((other, code)), ..self }
    }

    fn keyed(self, key: &'static str) -> Self {
        Self { key: Some(key), ..self }
    }

    async fn send(&self, world: &World, body: &Value) -> (u16, Value) {
        let mut request = http().post(format!("{}{}", world.node.url(), self.path)).json(body);
        if let Some(key) = self.key {
            request = request.header("idempotency-key", key);
        }
        let answer = request.send().await.expect("an answer");
        (answer.status().as_u16(), answer.json().await.expect("JSON"))
    }

    /// The first is taken; once the transaction settled, from memory and from the journal, the same is taken and another is not.
    async fn holds(&self, mut world: World, gid: &str, settled: Status) {
        let (status, body) = self.send(&world, &self.same).await;
        assert!((200..300).contains(&status), "{}: {body}", self.path);
        world.participants.release();
        world.client.reaches(gid, settled).await;
        let calls = world.participants.called(gid);
        for _ in ["in memory", "in the journal"] {
            let (status, body) = self.send(&world, &self.same).await;
            assert!((200..300).contains(&status), "{} again: {body}", self.path);
            if let Some((other, code)) = &self.other {
                let (status, body) = self.send(&world, other).await;
                assert_eq!((status, body["code"].as_str()), (409, Some(*code)), "{}: {body}", self.path);
            }
            world.node.kill();
            world.node.start().await;
        }
        assert_eq!(world.participants.called(gid), calls, "nothing ran twice");
        assert_eq!(world.client.transaction(gid).await.status, settled);
    }
}

fn saga(world: &World, steps: &Value) -> Value {
    begin(&definition(&world.participants.url(), steps))
}

async fn open(world: &World) {
    let body = json!({"gid": "g", "open": true, "timeout": "1h"});
    assert_eq!(world.client.post("/v1/transactions", &body).await.status, 201);
    let body = enlist(&world.participants.url(), "b");
    assert_eq!(world.client.post("/v1/transactions/g/branches", &body).await.status, 200);
}

/// Suspended, since the undo of `a` is given up after one attempt.
async fn stuck(world: &World) {
    world.participants.on("/b").refuses("no");
    world.participants.on("/a/compensate").is_unavailable(1);
    let mut definition = definition(&world.participants.url(), &json!([step("a"), step("b")]));
    definition["defaults"]["settle"]["retry"]["max_attempts"] = json!(1);
    world.client.begin(&with_gid(begin(&definition), "g")).await;
    world.client.reaches("g", Status::Suspended).await;
    world.participants.behave();
}

fn to(word: &str) -> String {
    format!("/v1/transactions/g/{word}")
}

const KEY: &str = "idempotency_key_conflict";

promises! {
    async fn a_begin(backend: Backend) {
        let world = World::start(backend).await;
        let body = with_gid(saga(&world, &json!([step("a")])), "g");
        let mut other = body.clone();
        other["input"] = json!({"n": 2});
        Row::new("/v1/transactions".into(), body).or(other, "gid_conflict").holds(world, "g", Status::Succeeded).await;
    }

    async fn an_enlisted_branch(backend: Backend) {
        let world = World::start(backend).await;
        open(&world).await;
        let body = enlist(&world.participants.url(), "b");
        let mut other = body.clone();
        other["body"] = json!({"amount": 2});
        assert_eq!(world.client.command("g", "cancel", &json!({})).await.status / 100, 2);
        Row::new(to("branches"), body).or(other, "branch_conflict").holds(world, "g", Status::Compensated).await;
    }

    async fn a_commit(backend: Backend) {
        let world = World::start(backend).await;
        open(&world).await;
        Row::new(to("commit"), json!({})).holds(world, "g", Status::Succeeded).await;
    }

    async fn a_cancel(backend: Backend) {
        let world = World::start(backend).await;
        open(&world).await;
        Row::new(to("cancel"), json!({"reason": "r"})).holds(world, "g", Status::Compensated).await;
    }

    async fn a_cancel_of_what_an_operator_then_ended(backend: Backend) {
        let world = World::start(backend).await;
        world.participants.on("/a/compensate").is_unavailable(1);
        world.participants.on("/b").is_held();
        let mut definition = definition(&world.participants.url(), &json!([step("a"), step("b")]));
        definition["defaults"]["settle"]["retry"]["max_attempts"] = json!(1);
        world.client.begin(&with_gid(begin(&definition), "g")).await;
        assert_eq!(world.client.command("g", "cancel", &json!({})).await.status / 100, 2);
        world.participants.release();
        world.client.reaches("g", Status::Suspended).await;
        assert_eq!(world.client.command("g", "fail", &json!({"reason": "r"})).await.status, 200);
        Row::new(to("cancel"), json!({})).holds(world, "g", Status::Failed).await;
    }

    async fn a_signal(backend: Backend) {
        let world = World::start(backend).await;
        let wait = json!({"name": "w", "wait": {"signal": "go", "timeout": "1h"}});
        world.client.begin(&with_gid(saga(&world, &json!([step("a"), wait])), "g")).await;
        Row::new(to("signals/go"), json!({"payload": {"by": "eve", "sum": 12345678901234567890_u64}}))
            .or(json!({"payload": {"by": "eve", "sum": 12345678901234567891_u64}}), "signal_conflict")
            .holds(world, "g", Status::Succeeded)
            .await;
    }

    async fn a_signal_that_comes_only_after_the_end_is_not_taken(backend: Backend) {
        let world = World::start(backend).await;
        world.client.run(&with_gid(saga(&world, &json!([step("a")])), "g")).await;
        let late = world.client.post(&to("signals/go"), &json!({})).await;
        assert_eq!((late.status, late.code()), (409, "settled"));
    }

    async fn a_callback(backend: Backend) {
        let mut world = World::start(backend).await;
        world.participants.on("/print").accepts();
        let mut print = step("print");
        print["action"]["async"] = json!({"timeout": "30s"});
        world.client.begin(&with_gid(saga(&world, &json!([print])), "g")).await;
        eventually("it is called", std::time::Duration::from_secs(10), || async {
            (!world.participants.called("g").is_empty()).then_some(())
        })
        .await;
        let done = json!({"outcome": "succeeded", "output": {"page": 9}});
        assert_eq!(world.participants.call_back("g", "print", &done).await.0, 200);
        world.client.reaches("g", Status::Succeeded).await;
        for _ in ["in memory", "in the journal"] {
            for (body, told) in [
                (&done, (200, None)),
                (&json!({"outcome": "succeeded"}), (200, None)),
                (&json!({"outcome": "succeeded", "output": {"page": 9.0}}), (200, None)),
                (&json!({"outcome": "succeeded", "output": {"page": 10}}), (409, Some("callback_conflict"))),
                (&json!({"outcome": "refused"}), (409, Some("callback_conflict"))),
            ] {
                let (status, answer) = world.participants.call_back("g", "print", body).await;
                assert_eq!((status, answer["code"].as_str()), told, "{body}");
            }
            world.node.kill();
            world.node.start().await;
        }
    }

    async fn a_retry(backend: Backend) {
        let world = World::start(backend).await;
        stuck(&world).await;
        let row = Row::new(to("retry"), json!({"branch": "a"})).keyed("k").or(json!({}), KEY);
        row.holds(world, "g", Status::Compensated).await;
    }

    async fn a_skip(backend: Backend) {
        let world = World::start(backend).await;
        stuck(&world).await;
        Row::new(to("skip"), json!({"branch": "a", "reason": "r"}))
            .keyed("k")
            .or(json!({"branch": "a", "reason": "another"}), KEY)
            .holds(world, "g", Status::Compensated)
            .await;
    }

    async fn a_resolve(backend: Backend) {
        let world = World::start(backend).await;
        stuck(&world).await;
        Row::new(to("resolve"), json!({"branch": "a", "outcome": "succeeded", "reason": "r"}))
            .keyed("k")
            .or(json!({"branch": "a", "outcome": "succeeded", "reason": "another"}), KEY)
            .holds(world, "g", Status::Compensated)
            .await;
    }

    async fn a_fail(backend: Backend) {
        let world = World::start(backend).await;
        stuck(&world).await;
        let row = Row::new(to("fail"), json!({"reason": "r"})).keyed("k").or(json!({"reason": "another"}), KEY);
        row.holds(world, "g", Status::Failed).await;
    }

    async fn a_resume(backend: Backend) {
        let world = World::start(backend).await;
        stuck(&world).await;
        Row::new(to("resume"), json!({})).keyed("k").holds(world, "g", Status::Compensated).await;
    }

    async fn a_key_stands_for_one_word_and_is_not_used_up_by_a_refusal(backend: Backend) {
        let world = World::start(backend).await;
        stuck(&world).await;
        let wrong = Row::new(to("skip"), json!({"branch": "b", "reason": "r"})).keyed("k");
        let (status, body) = wrong.send(&world, &wrong.same).await;
        assert_eq!((status, body["code"].as_str()), (409, Some("not_stuck")), "{body}");
        let right = Row::new(to("retry"), json!({"branch": "a"})).keyed("k");
        assert_eq!(right.send(&world, &right.same).await.0 / 100, 2);
        let (status, body) = wrong.send(&world, &wrong.same).await;
        assert_eq!((status, body["code"].as_str()), (409, Some(KEY)), "{body}");
    }
}
