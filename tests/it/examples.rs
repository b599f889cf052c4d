//! `examples/workflows`: the right ones have no fault and no bad end and run both ways against real participants; of the
//! wrong ones each is told what is wrong with it.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use serde_json::{Value, json};
use skald_protocol::{BranchStatus, Status, TransactionView};
use skald_tests::{
    Backend, Database, Node, Participants, World,
    cluster::{Ran, run_with},
    eventually, promises,
};

const ALL: [&str; 6] = ["transfer", "order", "payment", "travel", "refund", "gift"];

/// What `check` says of each wrong variant that it refuses.
const REFUSED: [(&str, &[&str]); 12] = [
    ("transfer_without_undo", &["E110"]),
    ("transfer_misspelt_input", &["E205"]),
    ("order_hold_without_cancel", &["E120"]),
    ("order_no_otherwise", &["E105"]),
    ("order_optional_input", &["E204"]),
    ("order_undo_after_the_pivot", &["E112"]),
    ("order_list_in_a_path", &["E209"]),
    ("travel_unknown_workflow", &["E102"]),
    ("travel_reads_what_runs_beside_it", &["E203"]),
    ("travel_approval_after_the_payment", &["E113"]),
    ("travel_tickets_before_the_payment", &["E117"]),
    ("gift_reads_what_may_not_have_run", &["E204"]),
];

/// What `explore` shows of each wrong variant that compiles, and the warning that it compiles with.
const EXPLORED: [(&str, Option<&str>, &str); 7] = [
    ("transfer_undo_by_answer", Some("W303"), "the compensate of `withdraw` is stuck (expression_failed"),
    ("transfer_pivot_nobody_can_ask", Some("W307"), "the action of `deposit` is stuck (http_503"),
    ("transfer_undo_that_gives_up", None, "the compensate of `withdraw` is stuck (http_503"),
    ("order_confirm_by_answer", None, "the confirm of `reserve.0.hold` is stuck (expression_failed"),
    ("travel_cancel_by_answer", Some("W303"), "the cancel of `flight` is stuck (expression_failed"),
    ("travel_tail_reads_what_may_be_absent", None, "the action of `ticket` is stuck (expression_failed"),
    ("order_void_by_answer", Some("W303"), "the compensate of `authorize` is stuck (expression_failed"),
];

fn path(name: &str) -> String {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/workflows"));
    folder.join(format!("{name}.json")).display().to_string()
}

fn read(name: &str) -> Value {
    let text = std::fs::read_to_string(path(name)).expect("an example");
    serde_json::from_str(&text).expect("JSON")
}

/// The example that a wrong variant was made of.
fn original(variant: &str) -> &str {
    variant.split('_').next().unwrap_or(variant)
}

async fn workflow(arguments: &[&str]) -> Ran {
    let mut all = vec!["workflow"];
    all.extend(arguments);
    run_with(&all, &[]).await
}

fn input_of(name: &str) -> String {
    format!("@{}", path(&format!("{name}.input")))
}

async fn explore(name: &str, input: &str) -> Ran {
    workflow(&["explore", &path(name), "--with", &path("payment"), "--input", input]).await
}

/// The codes that `check` tells of the first file, with the other one beside it.
async fn codes(file: &str, beside: &str) -> (i32, BTreeSet<String>) {
    let ran = workflow(&["check", "--output", "json", file, beside]).await;
    let found: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{}{}", ran.stdout, ran.stderr));
    let found = found.as_array().expect("a list").iter().filter(|finding| finding["file"] == file);
    (ran.code, found.map(|finding| finding["code"].as_str().expect("a code").to_owned()).collect())
}

fn set(codes: impl IntoIterator<Item = &'static str>) -> BTreeSet<String> {
    codes.into_iter().map(str::to_owned).collect()
}

#[tokio::test]
async fn no_example_has_a_fault_or_a_warning() {
    let all = ALL.map(path);
    let files: Vec<_> = all.iter().map(String::as_str).collect();
    let ran = workflow(&[&["check"], &files[..]].concat()).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{}", ran.stderr);
    assert_eq!(ran.stderr.trim(), "6 definitions: 0 faults, 0 warnings");
}

#[tokio::test]
async fn no_fault_brings_an_example_to_a_bad_end() {
    let mut express = read("order.input");
    express["express"] = json!(true);
    let with_a_courier = ("order", express.to_string());
    for (name, input) in ALL.map(|name| (name, input_of(name))).into_iter().chain([with_a_courier]) {
        let ran = explore(name, &input).await;
        assert_eq!(ran.code, 0, "{name}: {}{}", ran.stdout, ran.stderr);
        assert!(ran.stdout.contains(" 0 bad ends"), "{}", ran.stdout);
    }
}

#[tokio::test]
async fn each_wrong_variant_that_is_refused_is_told_its_code() {
    for (name, expected) in REFUSED {
        let found = codes(&path(&format!("wrong/{name}")), &path("payment")).await;
        assert_eq!(found, (1, set(expected.iter().copied())), "{name}");
    }
}

#[tokio::test]
async fn each_wrong_variant_that_compiles_is_shown_its_bad_end() {
    for (name, warning, told) in EXPLORED {
        let file = format!("wrong/{name}");
        assert_eq!(codes(&path(&file), &path("payment")).await, (0, set(warning)), "{name}");
        let ran = explore(&file, &input_of(original(name))).await;
        assert_eq!(ran.code, 1, "{name}: {}", ran.stderr);
        assert!(ran.stdout.contains("counter-example 1 of") && ran.stdout.contains(told), "{name}: {}", ran.stdout);
    }
}

#[test]
fn the_page_of_the_examples_names_each_of_them_and_what_each_wrong_one_is_told() {
    let page = std::fs::read_to_string(path("x").replace("x.json", "README.md")).expect("a page");
    let rows = REFUSED.iter().map(|(name, codes)| (*name, codes[0]));
    let told: Vec<_> = rows.chain(EXPLORED.iter().map(|(name, _, told)| (*name, *told))).collect();
    let folder = std::fs::read_dir(path("wrong/x").replace("/x.json", "")).expect("a folder");
    let files: BTreeSet<_> =
        folder.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name")).collect();
    let tested: BTreeSet<_> = told.iter().map(|(name, _)| format!("{name}.json")).collect();
    assert_eq!(files, tested, "each wrong variant is tested");
    for (name, word) in told {
        let row = page.lines().find(|line| line.contains(&format!("({})", format_args!("wrong/{name}.json"))));
        let row = row.unwrap_or_else(|| panic!("no row of {name}"));
        let word = word.replace('`', "");
        let word = word.split('(').next().unwrap_or("").trim();
        assert!(row.replace('`', "").contains(word), "{name} is told {word}: {row}");
    }
}

/// A node at which the examples' services answer as paths of one server: `stock` at `/stock`, the banks at `/`.
async fn world(backend: Backend) -> World {
    let participants = Participants::start().await;
    let database = Database::fresh(backend).await;
    let mut node = Node::new(database.url())
        .with_environment("SKALD_SECRET_PAY_TOKEN", "well kept")
        // What is said of a service here replaces all that the definition says of it.
        .with_environment("SKALD_SERVICES__PAY__AUTH__BEARER__SECRET", "pay_token");
    for service in ["stock", "pay", "ship", "airline", "hotels", "mail", "desk"] {
        let url = format!("{}/{service}", participants.url());
        node = node.with_environment(&format!("SKALD_SERVICES__{}__URL", service.to_uppercase()), &url);
    }
    for bank in ["HERE", "THERE"] {
        node = node.with_environment(&format!("SKALD_SERVICES__{bank}__URL"), &participants.url());
    }
    node.start().await;
    let world = World { participants, client: node.client(), node, database };
    for name in ALL {
        let published = world.client.publish(&read(name)).await;
        assert_eq!(published.status, 201, "{}", published.body);
    }
    world
}

fn begin(name: &str) -> Value {
    json!({"workflow": name, "input": read(&format!("{name}.input"))})
}

async fn run(world: &World, name: &str) -> TransactionView {
    world.client.run(&begin(name)).await
}

fn sorted(mut effects: Vec<String>) -> Vec<String> {
    effects.sort();
    effects
}

fn code(view: &TransactionView) -> &str {
    view.error.as_ref().map_or("", |error| error.code.as_str())
}

async fn waits_for_approval(world: &World, gid: &str) {
    eventually("both are held", Duration::from_secs(10), || async {
        (world.participants.effects(gid).len() == 2).then_some(())
    })
    .await;
}

async fn approve(world: &World, gid: &str, approved: bool) {
    let path = format!("/v1/transactions/{gid}/signals/approval");
    let answer = world.client.post(&path, &json!({"payload": {"approved": approved, "by": "eve"}})).await;
    assert!(answer.is_success(), "{}", answer.body);
}

promises! {
    async fn a_transfer_moves_the_money_or_leaves_it(backend: Backend) {
        let world = world(backend).await;
        world.participants.open_account("ann", 100);
        let done = run(&world, "transfer").await;
        assert_eq!(done.status, Status::Succeeded, "{done:?}");
        assert_eq!(world.participants.effects(done.gid.as_str()), ["withdraw action", "deposit action"]);
        let balances = |ann: i64, bob: i64| [("ann".to_owned(), ann), ("bob".to_owned(), bob)].into();
        assert_eq!(world.participants.balances(), balances(60, 40));

        world.participants.on("/accounts/bob/credit").refuses("account_closed");
        let undone = run(&world, "transfer").await;
        assert_eq!((undone.status, code(&undone)), (Status::Compensated, "account_closed"));
        assert_eq!(world.participants.effects(undone.gid.as_str()), ["withdraw action", "withdraw compensate"]);
        assert_eq!(world.participants.balances(), balances(60, 40));
    }

    async fn a_gift_is_sent_or_its_sender_is_told_why_not(backend: Backend) {
        let world = world(backend).await;
        let done = run(&world, "gift").await;
        assert_eq!(done.status, Status::Succeeded, "{done:?}");
        assert_eq!(world.participants.effects(done.gid.as_str()), ["set_aside action", "courier action", "report action"]);

        world.participants.on("/ship/couriers").refuses("no_courier");
        let undone = run(&world, "gift").await;
        assert_eq!((undone.status, code(&undone)), (Status::Compensated, "no_courier"));
        let gid = undone.gid.as_str();
        let expected = ["set_aside action", "set_aside compensate", "sorry action", "report action"];
        assert_eq!(world.participants.effects(gid), expected);
        let calls = world.participants.arrivals(gid);
        let body = |branch: &str| calls.iter().find(|call| call.branch == branch).expect("a call").body.clone();
        assert_eq!(body("sorry"), json!({"to": "ann@example.com", "why": "no_courier", "was_in_stock": true}));
        assert_eq!(body("report"), json!({"gift": "lamp", "ended": "compensated"}));
    }

    async fn an_order_goes_through_with_all_its_lines(backend: Backend) {
        let world = world(backend).await;
        let view = run(&world, "order").await;
        assert_eq!(view.status, Status::Succeeded, "{view:?}");
        let output = view.output.as_ref().expect("an output").value();
        assert_eq!(output, json!({"payment": "capture-action", "holds": 2}));
        let expected = [
            "authorize action", "capture action", "parcel action", "reserve.0.hold confirm", "reserve.0.hold try",
            "reserve.1.hold confirm", "reserve.1.hold try",
        ];
        assert_eq!(sorted(world.participants.effects(view.gid.as_str())), expected);
        let calls = world.participants.arrivals(view.gid.as_str());
        let paid = calls.iter().find(|call| call.branch == "capture").expect("a call");
        assert_eq!(paid.headers.get("authorization").map(String::as_str), Some("Bearer well kept"));
        let confirm = calls.iter().find(|call| call.path == "/stock/holds/confirm").expect("a call");
        assert_eq!(confirm.body["key"], format!("{}/{}/try", view.gid, confirm.branch));
    }

    async fn an_order_whose_capture_is_refused_is_undone_and_nothing_else(backend: Backend) {
        let world = world(backend).await;
        world.participants.on("/pay/authorizations/authorize-action/capture").refuses("no_funds");
        let view = run(&world, "order").await;
        assert_eq!((view.status, code(&view)), (Status::Compensated, "no_funds"));
        let gid = view.gid.as_str();
        let expected = [
            "authorize action", "authorize compensate", "reserve.0.hold cancel", "reserve.0.hold try",
            "reserve.1.hold cancel", "reserve.1.hold try",
        ];
        assert_eq!(sorted(world.participants.effects(gid)), expected);
        assert!(!world.participants.called(gid).iter().any(|call| call.starts_with("parcel")));

        world.participants.on("/stock/holds").succeeds().refuses("sold_out");
        let view = run(&world, "order").await;
        assert_eq!((view.status, code(&view)), (Status::Compensated, "sold_out"));
        let effects = world.participants.effects(view.gid.as_str());
        assert_eq!(effects.len(), 2, "one hold, and its cancel: {effects:?}");
        assert!(effects[0].ends_with("hold try") && effects[1].ends_with("hold cancel"), "{effects:?}");
    }

    async fn a_trip_is_held_approved_paid_and_ticketed(backend: Backend) {
        let world = world(backend).await;
        world.participants.on("/airline/tickets").works();
        let gid = world.client.begin(&begin("travel")).await;
        waits_for_approval(&world, &gid).await;
        assert_eq!(sorted(world.participants.effects(&gid)), ["flight try", "room try"]);
        approve(&world, &gid, true).await;
        eventually("tickets are being made", Duration::from_secs(10), || async {
            world.participants.called(&gid).contains(&"ticket action".to_owned()).then_some(())
        })
        .await;
        world.participants.finish(&gid, "ticket");
        let view = world.client.reaches(&gid, Status::Succeeded).await;
        let output = view.output.expect("an output").value();
        assert_eq!(output, json!({"payment": "payment.authorize-action", "ticket": "ticket-action"}));
        let expected = [
            "flight confirm", "flight try", "payment.authorize action", "payment.capture action", "receipt action",
            "room confirm", "room try", "ticket action", "voucher action",
        ];
        assert_eq!(sorted(world.participants.effects(&gid)), expected);
    }

    async fn of_a_refund_the_first_word_decides(backend: Backend) {
        let world = world(backend).await;
        let told = |word: &'static str| {
            let world = &world;
            async move {
                let gid = world.client.begin(&begin("refund")).await;
                eventually("it waits", Duration::from_secs(10), || async {
                    let view = world.client.transaction(&gid).await;
                    view.branches.iter().any(|one| one.signals.len() == 3).then_some(())
                })
                .await;
                let path = format!("/v1/transactions/{gid}/signals/{word}");
                let answer = world.client.post(&path, &json!({"payload": {"reason": "too late"}})).await;
                assert!(answer.is_success(), "{}", answer.body);
                gid
            }
        };
        let gid = told("withdrawn").await;
        let view = world.client.reaches(&gid, Status::Succeeded).await;
        assert_eq!(world.participants.effects(&gid), ["open action", "close action"]);
        assert_eq!(view.output.as_ref().expect("an output").value(), json!({"refunded": 0}));
        let left_out = view.branches.iter().filter(|branch| branch.status == BranchStatus::Skipped);
        assert_eq!(left_out.map(|branch| branch.branch.as_str()).collect::<Vec<_>>(), ["decline", "refund", "receipt"]);

        let gid = told("approved").await;
        let view = world.client.reaches(&gid, Status::Succeeded).await;
        assert_eq!(world.participants.effects(&gid), ["open action", "refund action", "receipt action"]);
        assert_eq!(view.output.as_ref().expect("an output").value(), json!({"refunded": 4900}));

        let gid = told("declined").await;
        let view = world.client.reaches(&gid, Status::Compensated).await;
        assert_eq!(code(&view), "declined");
        assert_eq!(view.error.and_then(|error| error.message).as_deref(), Some("too late"));
        assert_eq!(world.participants.effects(&gid), ["open action", "open compensate"]);
    }

    async fn a_trip_that_is_not_approved_or_not_paid_is_given_back(backend: Backend) {
        let world = world(backend).await;
        let gid = world.client.begin(&begin("travel")).await;
        waits_for_approval(&world, &gid).await;
        approve(&world, &gid, false).await;
        let view = world.client.reaches(&gid, Status::Compensated).await;
        assert_eq!(code(&view), "not_approved");
        let held_and_given_back = ["flight cancel", "flight try", "room cancel", "room try"];
        assert_eq!(sorted(world.participants.effects(&gid)), held_and_given_back);

        world.participants.on("/pay/authorizations/payment.authorize-action/capture").refuses("no_funds");
        let gid = world.client.begin(&begin("travel")).await;
        approve(&world, &gid, true).await;
        let view = world.client.reaches(&gid, Status::Compensated).await;
        assert_eq!(code(&view), "no_funds");
        let expected = [
            "flight cancel", "flight try", "payment.authorize action", "payment.authorize compensate", "room cancel",
            "room try",
        ];
        assert_eq!(sorted(world.participants.effects(&gid)), expected);
    }
}
