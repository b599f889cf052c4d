//! kill -9 in the middle of what the JSON language can say: items, waits, polls, choices, included sagas. After the restart
//! it goes on from where it was, and every effect stands once.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::{Value, json};
use skald_protocol::{Decision, OperationKind, Status, TransactionView};
use skald_tests::{
    Backend, Chance, World,
    definition::{definition, pivot, retriable, step, tcc},
    eventually, promises,
};

/// Calls time out soon: after a restart an undo waits for the timeout of the call it undoes.
fn quick(world: &World, steps: &Value) -> Value {
    let mut definition = definition(&world.participants.url(), steps);
    definition["defaults"]["timeout"] = json!("1s");
    definition
}

async fn begun(world: &World, definition: &Value, input: &Value) -> String {
    world.client.begin(&json!({"definition": definition, "input": input})).await
}

/// Waits for the call of each of these, as `branch operation`.
async fn called(world: &World, gid: &str, calls: &[&str]) {
    eventually(&format!("{calls:?} of {gid}"), Duration::from_secs(10), || async {
        let called = world.participants.called(gid);
        calls.iter().all(|call| called.iter().any(|other| other == call)).then_some(())
    })
    .await;
}

/// Waits until the step's branch is there and waits.
async fn waits(world: &World, gid: &str, branch: &str) {
    eventually(&format!("{branch} of {gid} waits"), Duration::from_secs(10), || async {
        let view = world.client.transaction(gid).await;
        (view.next_wake_at.is_some() && status(&view, branch) == "running").then_some(())
    })
    .await;
}

fn status(view: &TransactionView, branch: &str) -> String {
    let found = view.branches.iter().find(|one| one.branch.as_str() == branch);
    found.map_or_else(String::new, |one| one.status.to_string())
}

async fn restarted(world: &mut World) {
    world.node.kill();
    world.participants.behave();
    world.node.start().await;
}

/// The effects, sorted. Each stands once, and each operation kept one idempotency key over all its attempts.
fn effects_once(world: &World, gid: &str) -> Vec<String> {
    let mut effects = world.participants.effects(gid);
    effects.sort();
    let once: BTreeSet<_> = effects.iter().collect();
    assert_eq!(once.len(), effects.len(), "an effect stands twice: {effects:?}");
    let mut keys = BTreeMap::<_, BTreeSet<_>>::new();
    for call in world.participants.arrivals(gid) {
        if call.operation != OperationKind::Status {
            let key = format!("{gid}/{}/{}", call.branch, call.operation);
            keys.entry(key).or_default().insert(call.key);
        }
    }
    for (key, sent) in keys {
        assert_eq!(sent, BTreeSet::from([key]), "one key for all attempts");
    }
    effects
}

fn attempts(world: &World, gid: &str, branch: &str, operation: OperationKind) -> usize {
    let arrivals = world.participants.arrivals(gid);
    arrivals.iter().filter(|call| call.branch == branch && call.operation == operation).count()
}

/// A map `m` over `input.items` whose step `a` calls `/a/<item>`, undone at `/undo/<item>`.
fn map(concurrency: usize) -> Value {
    let mut each = step("a");
    each["action"]["path"] = json!("/a/${item}");
    each["compensate"]["path"] = json!("/undo/${item}");
    json!({"name": "m", "map": {"items": "${input.items}", "max_concurrency": concurrency, "steps": [each]}})
}

fn signal(name: &str) -> Value {
    json!({"name": "w", "wait": {"signal": name, "timeout": "1h"}})
}

async fn send(world: &World, gid: &str, payload: &Value) {
    let answer = world.client.post(&format!("/v1/transactions/{gid}/signals/go"), &json!({"payload": payload})).await;
    assert!(answer.is_success(), "{} {}", answer.status, answer.body);
}

/// Two steps around a wait for the signal `go`, whose payload `b` sends on.
fn around_a_signal(world: &World) -> Value {
    let mut b = step("b");
    b["action"]["body"] = json!({"by": "${steps.w.output.by}"});
    quick(world, &json!([step("a"), signal("go"), b]))
}

async fn went_on_with_the_signal(world: &World, gid: &str) {
    world.client.reaches(gid, Status::Succeeded).await;
    assert_eq!(effects_once(world, gid), ["a action", "b action"]);
    let b = world.participants.arrivals(gid).pop().expect("a call");
    assert_eq!((b.branch.as_str(), b.body), ("b", json!({"by": "eve"})));
}

/// Most of what the language can say, in one definition: the even go left, every third is declined before its pivot.
fn whole(world: &World) -> Value {
    let mut hold = tcc("hold");
    hold["try"]["body"] = json!({"item": "${item}"});
    let mut pay = pivot("pay");
    pay["action"]["status_check"] = json!({"path": "/pay/status"});
    let mut print = retriable("print");
    print["action"]["async"] = json!({"timeout": "1m", "heartbeat": "30s"});
    let arm = |step: Value| json!({"steps": [step]});
    let steps = json!([
        {"name": "m", "map": {"items": "${input.items}", "max_concurrency": 2, "steps": [hold]}},
        {"name": "c", "choice": [
            {"when": "input.n % 2 == 0", "steps": [step("left")]}, {"otherwise": true, "steps": [step("right")]}]},
        {"name": "w", "wait": {"for": "100ms"}},
        {"name": "sub", "saga": {"workflow": "inner"}},
        {"name": "d", "choice": [
            {"when": "input.n % 3 == 0", "steps": [{"name": "f", "fail": {"error": "declined"}}]},
            {"otherwise": true, "steps": []}]},
        pay,
        {"name": "tail", "parallel": [arm(retriable("receipt")), arm(print)]},
    ]);
    let mut whole = quick(world, &steps);
    whole["defaults"]["retry"]["max_attempts"] = json!(100);
    whole["timeout"] = json!("10m");
    whole
}

/// What stands of the `n`th of them at its end.
fn end_of(n: usize) -> (Status, Vec<String>) {
    let side = if n.is_multiple_of(2) { "left" } else { "right" };
    let saga = [side, "sub.one", "sub.two"];
    let declined = n.is_multiple_of(3);
    let (confirmed, tail): (_, &[&str]) =
        if declined { ("cancel", &[]) } else { ("confirm", &["pay", "receipt", "print"]) };
    let tries = (0..3).flat_map(|i| ["try", confirmed].map(|operation| format!("m.{i}.hold {operation}")));
    let done = saga.iter().chain(tail).map(|step| format!("{step} action"));
    let undone = saga.iter().filter(|_| declined).map(|step| format!("{step} compensate"));
    let mut effects: Vec<_> = tries.chain(done).chain(undone).collect();
    effects.sort();
    (if declined { Status::Compensated } else { Status::Succeeded }, effects)
}

promises! {
    async fn transactions_of_all_kinds_of_steps_end_well_over_kills_and_faults(backend: Backend) {
        const COUNT: usize = 40;
        let mut world = World::start(backend).await;
        let mut inner = quick(&world, &json!([step("one"), step("two")]));
        inner["name"] = json!("inner");
        inner["defaults"]["retry"]["max_attempts"] = json!(100);
        assert_eq!(world.client.publish(&inner).await.status, 201);
        let definition = whole(&world);
        world.participants.by_chance(Chance { unavailable: 0.1, cut_off: 0.1, seed: 7, ..Chance::default() });
        let mut gids = Vec::new();
        for n in 0..COUNT {
            gids.push(begun(&world, &definition, &json!({"n": n, "items": ["a", "b", "c"]})).await);
        }
        for calls in [200, 350, 500] {
            eventually(&format!("{calls} calls"), Duration::from_secs(30), || async {
                (world.participants.arrived() >= calls).then_some(())
            })
            .await;
            world.node.kill();
            world.node.start().await;
        }
        for (n, gid) in gids.iter().enumerate() {
            let (status, effects) = end_of(n);
            world.client.reaches(gid, status).await;
            assert_eq!(effects_once(&world, gid), effects, "{n}");
        }
    }

    async fn a_map_killed_in_the_middle_goes_on_with_what_is_left(backend: Backend) {
        let mut world = World::start(backend).await;
        let definition = quick(&world, &json!([map(2), step("z")]));
        for path in ["/a/2", "/a/3"] {
            world.participants.on(path).is_held();
        }
        let gid = begun(&world, &definition, &json!({"items": [0, 1, 2, 3, 4]})).await;
        called(&world, &gid, &["m.2.a action", "m.3.a action"]).await;
        restarted(&mut world).await;
        world.client.reaches(&gid, Status::Succeeded).await;
        let expected = ["m.0.a action", "m.1.a action", "m.2.a action", "m.3.a action", "m.4.a action", "z action"];
        assert_eq!(effects_once(&world, &gid), expected);
        for recorded in ["m.0.a", "m.1.a"] {
            assert_eq!(attempts(&world, &gid, recorded, OperationKind::Action), 1, "{recorded} was recorded");
        }
    }

    async fn a_map_killed_while_it_is_undone_is_undone_item_by_item(backend: Backend) {
        let mut world = World::start(backend).await;
        let definition = quick(&world, &json!([step("first"), map(3), step("z")]));
        world.participants.on("/z").refuses("no");
        world.participants.on("/undo/1").is_held();
        let gid = begun(&world, &definition, &json!({"items": [0, 1, 2]})).await;
        called(&world, &gid, &["m.0.a compensate", "m.1.a compensate", "m.2.a compensate"]).await;
        restarted(&mut world).await;
        world.client.reaches(&gid, Status::Compensated).await;
        let expected = [
            "first action", "first compensate", "m.0.a action", "m.0.a compensate", "m.1.a action", "m.1.a compensate",
            "m.2.a action", "m.2.a compensate",
        ];
        assert_eq!(effects_once(&world, &gid), expected);
        assert_eq!(world.participants.effects(&gid).last().map(String::as_str), Some("first compensate"));
    }

    async fn an_abort_killed_while_it_is_told_is_told_after_the_restart(backend: Backend) {
        let mut world = World::start(backend).await;
        let mut definition = quick(&world, &json!([step("a"), step("b")]));
        definition["on_abort"] = json!([retriable("log"), retriable("tell"), retriable("ticket")]);
        definition["on_end"] = json!([retriable("close")]);
        world.participants.on("/b").refuses("no");
        world.participants.on("/tell").is_held();
        let gid = begun(&world, &definition, &json!({})).await;
        called(&world, &gid, &["tell action"]).await;
        let view = world.client.transaction(&gid).await;
        assert_eq!((view.status, view.decision), (Status::Compensating, Some(Decision::Abort)));
        restarted(&mut world).await;
        world.client.reaches(&gid, Status::Compensated).await;
        let expected = ["a action", "a compensate", "close action", "log action", "tell action", "ticket action"];
        assert_eq!(effects_once(&world, &gid), expected);
        assert_eq!(attempts(&world, &gid, "log", OperationKind::Action), 1, "it was recorded");
        let effects = world.participants.effects(&gid);
        assert_eq!(effects.last().map(String::as_str), Some("close action"), "{effects:?}");
    }

    async fn a_map_killed_while_items_are_tried_confirms_each_of_them(backend: Backend) {
        let mut world = World::start(backend).await;
        let mut hold = tcc("hold");
        hold["try"]["path"] = json!("/hold/${item}");
        let map = json!({"name": "m", "map": {"items": "${input.items}", "max_concurrency": 1, "steps": [hold]}});
        let definition = quick(&world, &json!([map]));
        world.participants.on("/hold/1").is_held();
        let gid = begun(&world, &definition, &json!({"items": [0, 1]})).await;
        called(&world, &gid, &["m.1.hold try"]).await;
        restarted(&mut world).await;
        world.client.reaches(&gid, Status::Succeeded).await;
        let expected = ["m.0.hold confirm", "m.0.hold try", "m.1.hold confirm", "m.1.hold try"];
        assert_eq!(effects_once(&world, &gid), expected);
    }

    async fn a_wait_for_a_time_is_as_long_as_it_was_whatever_is_killed(backend: Backend) {
        let mut world = World::start(backend).await;
        let definition = quick(&world, &json!([step("a"), {"name": "w", "wait": {"for": "${input.pause}"}}, step("b")]));
        let gid = begun(&world, &definition, &json!({"pause": "3s"})).await;
        waits(&world, &gid, "w").await;
        restarted(&mut world).await;
        assert_eq!(world.participants.called(&gid), ["a action"], "it still waits");
        world.client.reaches(&gid, Status::Succeeded).await;
        assert_eq!(effects_once(&world, &gid), ["a action", "b action"]);
        let at: Vec<_> = world.participants.arrivals(&gid).iter().map(|call| call.at).collect();
        assert!(at[1] - at[0] >= Duration::from_millis(2_900), "{:?}", at[1] - at[0]);
    }

    async fn a_wait_whose_time_passed_while_the_node_was_down_is_over(backend: Backend) {
        let mut world = World::start(backend).await;
        let definition = quick(&world, &json!([step("a"), {"name": "w", "wait": {"for": "1s"}}, step("b")]));
        let gid = begun(&world, &definition, &json!({})).await;
        waits(&world, &gid, "w").await;
        world.node.kill();
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        world.node.start().await;
        world.client.reaches(&gid, Status::Succeeded).await;
        assert_eq!(effects_once(&world, &gid), ["a action", "b action"]);
    }

    async fn a_signal_sent_before_the_kill_and_before_its_wait_is_kept(backend: Backend) {
        let mut world = World::start(backend).await;
        let definition = around_a_signal(&world);
        world.participants.on("/a").is_held();
        let gid = begun(&world, &definition, &json!({})).await;
        called(&world, &gid, &["a action"]).await;
        send(&world, &gid, &json!({"by": "eve"})).await;
        restarted(&mut world).await;
        went_on_with_the_signal(&world, &gid).await;
    }

    async fn a_wait_goes_on_by_a_signal_that_was_sent_just_before_the_kill(backend: Backend) {
        let mut world = World::start(backend).await;
        let definition = around_a_signal(&world);
        world.participants.on("/b").is_held();
        let gid = begun(&world, &definition, &json!({})).await;
        waits(&world, &gid, "w").await;
        send(&world, &gid, &json!({"by": "eve"})).await;
        restarted(&mut world).await;
        went_on_with_the_signal(&world, &gid).await;
    }

    async fn a_wait_goes_on_by_a_signal_that_is_sent_after_the_restart(backend: Backend) {
        let mut world = World::start(backend).await;
        let definition = around_a_signal(&world);
        let gid = begun(&world, &definition, &json!({})).await;
        waits(&world, &gid, "w").await;
        restarted(&mut world).await;
        assert_eq!(world.participants.called(&gid), ["a action"], "it still waits");
        send(&world, &gid, &json!({"by": "eve"})).await;
        went_on_with_the_signal(&world, &gid).await;
    }

    async fn a_wait_whose_signal_never_comes_gives_up_after_the_restart_too(backend: Backend) {
        let mut world = World::start(backend).await;
        let wait = json!({"name": "w", "wait": {"signal": "go", "timeout": "2s"}});
        let definition = quick(&world, &json!([step("a"), wait, step("b")]));
        let gid = begun(&world, &definition, &json!({})).await;
        waits(&world, &gid, "w").await;
        restarted(&mut world).await;
        let view = world.client.reaches(&gid, Status::Compensated).await;
        assert_eq!(view.error.expect("an error").code, "signal_timeout");
        assert_eq!(effects_once(&world, &gid), ["a action", "a compensate"]);
    }

    async fn a_pending_operation_is_polled_on_after_a_kill(backend: Backend) {
        let mut world = World::start(backend).await;
        let mut print = step("print");
        print["action"]["async"] = json!({"timeout": "1h",
            "poll": {"path": "/print/${transaction.gid}", "interval": "100ms", "max_interval": "200ms"}});
        let mut after = step("after");
        after["action"]["body"] = json!({"page": "${steps.print.output.id}"});
        let definition = quick(&world, &json!([print, after]));
        world.participants.on("/print").works();
        let gid = begun(&world, &definition, &json!({})).await;
        called(&world, &gid, &["print status"]).await;
        restarted(&mut world).await;
        let asked = attempts(&world, &gid, "print", OperationKind::Status);
        eventually("it is asked again", Duration::from_secs(10), || async {
            (attempts(&world, &gid, "print", OperationKind::Status) > asked).then_some(())
        })
        .await;
        assert!(world.participants.effects(&gid).is_empty());
        world.participants.finish(&gid, "print");
        world.client.reaches(&gid, Status::Succeeded).await;
        assert_eq!(effects_once(&world, &gid), ["after action", "print action"]);
        assert_eq!(attempts(&world, &gid, "print", OperationKind::Action), 1, "what is pending is not sent again");
        let call = world.participants.arrivals(&gid).pop().expect("a call");
        assert_eq!(call.body, json!({"page": "print-action"}));
    }

    async fn a_pivot_killed_before_its_answer_is_asked_about_and_never_guessed(backend: Backend) {
        for took_effect in [true, false] {
            let mut world = World::start(backend).await;
            let mut pay = pivot("pay");
            pay["action"]["status_check"] = json!({"path": "/pay/status"});
            let definition = quick(&world, &json!([step("reserve"), pay, retriable("receipt")]));
            let script = world.participants.on("/pay");
            if took_effect { script.is_silent_after_the_effect(1) } else { script.is_silent_before_the_effect(1) };
            let gid = begun(&world, &definition, &json!({})).await;
            called(&world, &gid, &["pay action"]).await;
            restarted(&mut world).await;
            world.client.reaches(&gid, Status::Succeeded).await;
            assert_eq!(effects_once(&world, &gid), ["pay action", "receipt action", "reserve action"]);
            assert!(attempts(&world, &gid, "pay", OperationKind::Status) > 0, "it is asked");
            let sent = attempts(&world, &gid, "pay", OperationKind::Action);
            assert_eq!(sent, if took_effect { 1 } else { 2 }, "it is sent again only where it did not run");
        }
    }

    async fn a_choice_keeps_to_its_arm_whatever_is_killed(backend: Backend) {
        let mut world = World::start(backend).await;
        let choice = json!({"name": "c", "choice": [
            {"when": "steps.a.output.id == 'a-action'", "steps": [step("x"), step("y")]},
            {"otherwise": true, "steps": [step("o")]},
        ]});
        let definition = quick(&world, &json!([step("a"), choice, step("z")]));
        world.participants.on("/x").is_held();
        let gid = begun(&world, &definition, &json!({})).await;
        called(&world, &gid, &["x action"]).await;
        restarted(&mut world).await;
        world.client.reaches(&gid, Status::Succeeded).await;
        assert_eq!(effects_once(&world, &gid), ["a action", "x action", "y action", "z action"]);
        assert_eq!(status(&world.client.transaction(&gid).await, "o"), "skipped");

        world.participants.on("/x").is_held();
        world.participants.on("/z").refuses("no");
        let gid = begun(&world, &definition, &json!({})).await;
        called(&world, &gid, &["x action"]).await;
        world.node.kill();
        world.participants.release();
        world.participants.on("/x").succeeds();
        world.node.start().await;
        world.client.reaches(&gid, Status::Compensated).await;
        let expected = ["a action", "a compensate", "x action", "x compensate", "y action", "y compensate"];
        assert_eq!(effects_once(&world, &gid), expected, "the other arm is left alone");
    }

    async fn an_included_saga_killed_inside_goes_on_as_the_version_it_began_with(backend: Backend) {
        let mut world = World::start(backend).await;
        let named = |version: &str, steps: &Value| {
            let mut inner = quick(&world, steps);
            inner["name"] = json!("inner");
            inner["version"] = json!(version);
            inner
        };
        let (old, new) = (named("1.0.0", &json!([step("one"), step("two")])), named("2.0.0", &json!([step("three")])));
        assert_eq!(world.client.publish(&old).await.status, 201);
        let including = |saga: Value| quick(&world, &json!([step("a"), {"name": "sub", "saga": saga}, step("z")]));
        let latest = including(json!({"workflow": "inner"}));
        let exact = including(json!({"workflow": "inner", "version": "1.0.0"}));
        for (definition, refused, end) in [(latest, false, Status::Succeeded), (exact, true, Status::Compensated)] {
            world.participants.on("/two").is_held();
            let gid = begun(&world, &definition, &json!({})).await;
            called(&world, &gid, &["sub.two action"]).await;
            let newer = world.client.publish(&new).await;
            assert!(newer.is_success(), "{}", newer.body);
            world.node.kill();
            world.participants.behave();
            if refused {
                world.participants.on("/z").refuses("no");
            }
            world.node.start().await;
            world.client.reaches(&gid, end).await;
            let done = ["a action", "sub.one action", "sub.two action"];
            let undone = ["sub.two compensate", "sub.one compensate", "a compensate"];
            let expected = if refused { [done, undone].concat() } else { [&done[..], &["z action"]].concat() };
            assert_eq!(world.participants.effects(&gid), expected);
            let _each_once = effects_once(&world, &gid);
        }
    }
}

#[tokio::test]
async fn a_signal_may_be_sent_to_any_node_and_is_kept_when_the_one_that_held_the_wait_is_killed() {
    let mut world = World::start(Backend::Postgres).await;
    let mut second = world.another_node();
    second.start().await;
    let definition = around_a_signal(&world);
    for kill in [false, true] {
        let gid = begun(&world, &definition, &json!({})).await;
        waits(&world, &gid, "w").await;
        if kill {
            world.node.kill();
        }
        let path = format!("/v1/transactions/{gid}/signals/go");
        let sent = second.client().post(&path, &json!({"payload": {"by": "eve"}})).await;
        assert!(sent.is_success(), "{} {}", sent.status, sent.body);
        second.client().reaches(&gid, Status::Succeeded).await;
        assert_eq!(effects_once(&world, &gid), ["a action", "b action"]);
    }
}
