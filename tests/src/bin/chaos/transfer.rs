//! Bank transfers of every shape a plan can have, each a function of (seed, number) alone.

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};
use skald_tests::checker::Subject;

pub(crate) const ACCOUNTS: u32 = 24;
pub(crate) const BALANCE: i64 = 100_000;

pub(crate) struct Transfer {
    pub(crate) gid: String,
    pub(crate) kind: Kind,
    order: Vec<(&'static str, &'static str)>,
    branches: Vec<&'static str>,
}

pub(crate) enum Kind {
    /// The body of its begin.
    Closed(Value),
    /// The branches to enlist; whether the client commits.
    Open { branches: Vec<Value>, commit: bool },
}

struct Draft {
    rng: StdRng,
    url: String,
}

pub(crate) fn account(number: u32) -> String {
    format!("account-{number}")
}

impl Draft {
    fn account(&mut self) -> String {
        account(self.rng.random_range(0..ACCOUNTS))
    }

    fn saga(&mut self, name: &str, verb: &str, amount: i64) -> Value {
        let path = format!("/accounts/{}/{verb}", self.account());
        json!({"name": name, "service": "bank", "action": {"path": path, "body": {"amount": amount}},
            "compensate": {"path": format!("{path}/undo")}})
    }

    /// Answered 202; the participant calls back.
    fn later(&mut self, name: &str, verb: &str, amount: i64) -> Value {
        let path = format!("/later/accounts/{}/{verb}", self.account());
        json!({"name": name, "service": "bank", "compensate": {"path": format!("{path}/undo")},
            "action": {"path": path, "body": {"amount": amount}, "async": {"timeout": "20s"}}})
    }

    fn tcc(&mut self, name: &str, verb: &str, amount: i64) -> Value {
        let path = format!("/accounts/{}/{verb}", self.account());
        json!({"name": name, "service": "bank", "try": {"path": path, "body": {"amount": amount}},
            "confirm": {"path": format!("{path}/confirm")}, "cancel": {"path": format!("{path}/cancel")}})
    }

    fn pivot(&mut self, name: &str, amount: i64) -> Value {
        let path = format!("/accounts/{}/credit", self.account());
        let mut action = json!({"path": path, "body": {"amount": amount}});
        if self.rng.random() {
            action["idempotent"] = json!(true);
        } else {
            action["status_check"] = json!({"path": path});
        }
        json!({"name": name, "service": "bank", "role": "pivot", "action": action})
    }

    fn enlisted(&mut self, name: &str, verb: &str, amount: i64) -> Value {
        let account = self.account();
        let url = format!("{}/accounts/{account}/{verb}", self.url);
        json!({"branch": name, "try": {"url": url, "timeout": "1s"}, "confirm": {"url": format!("{url}/confirm")},
            "cancel": {"url": format!("{url}/cancel")}, "body": {"amount": amount}})
    }
}

fn notice(name: &str) -> Value {
    json!({"name": name, "service": "bank", "role": "retriable", "action": {"path": "/notices"}})
}

impl Transfer {
    pub(crate) fn of(seed: u64, number: u64, urls: &[String]) -> Self {
        let mut rng = StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(number));
        let url = urls.choose(&mut rng).cloned().unwrap_or_default();
        let amount = rng.random_range(1..50);
        let shape = rng.random_range(0..9);
        let mut draft = Draft { rng, url };
        let gid = format!("chaos:{seed}-{number}");
        if shape == 7 {
            let branches = vec![draft.enlisted("out", "hold", amount), draft.enlisted("in", "expect", amount)];
            let kind = Kind::Open { branches, commit: draft.rng.random_bool(0.85) };
            return Self { gid, kind, order: Vec::new(), branches: vec!["out", "in"] };
        }
        let (steps, order) = steps(&mut draft, shape, amount);
        let branches = steps.iter().flat_map(names).collect();
        let definition = json!({
            "dsl": "1.0", "name": "transfer", "version": "1.0.0", "services": {"bank": {"url": draft.url}},
            "defaults": {
                "timeout": "1s",
                "retry": {"max_attempts": 8, "initial_interval": "30ms", "max_interval": "500ms"},
                "settle": {"timeout": "1s", "retry": {"initial_interval": "30ms", "max_interval": "1s"}}
            },
            "steps": steps
        });
        let begin = json!({"gid": gid, "definition": definition, "input": {"amount": amount}});
        Self { gid, kind: Kind::Closed(begin), order, branches }
    }

    pub(crate) fn subject(&self) -> Subject {
        let pair = |(earlier, later): &(&str, &str)| ((*earlier).to_owned(), (*later).to_owned());
        Subject {
            gid: self.gid.clone(),
            order: self.order.iter().map(pair).collect(),
            branches: self.branches.iter().map(|branch| (*branch).to_owned()).collect(),
            ..Subject::default()
        }
    }
}

/// The names of all steps, those of parallel arms included.
fn names(step: &Value) -> Vec<&'static str> {
    const KNOWN: [&str; 8] = ["debit", "fee", "credit", "hold", "expect", "late", "settle", "notice"];
    if step["name"] == "each" {
        return EACH.to_vec();
    }
    if let Some(arms) = step["choice"].as_array() {
        // The first one's condition always holds.
        return arms[0]["steps"].as_array().into_iter().flatten().flat_map(names).collect();
    }
    if let Some(arms) = step["parallel"].as_array() {
        let steps = arms.iter().filter_map(|arm| arm["steps"].as_array()).flatten();
        return steps.flat_map(names).collect();
    }
    KNOWN.into_iter().filter(|known| step["name"] == *known).collect()
}

const EACH: [&str; 3] = ["each.0.debit", "each.1.debit", "each.2.debit"];

/// A debit of each of a few accounts, a pause, and a choice of where the sum goes.
fn mapped(draft: &mut Draft, amount: i64) -> (Vec<Value>, Order) {
    let accounts: Vec<String> = EACH.iter().map(|_| draft.account()).collect();
    let debit = json!({"name": "debit", "service": "bank", "compensate": {"path": "/accounts/${item}/debit/undo"},
        "action": {"path": "/accounts/${item}/debit", "body": {"amount": "${input.amount}"}}});
    let sum = amount * i64::try_from(EACH.len()).unwrap_or(0);
    let mut other = draft.saga("credit", "credit", sum);
    other["name"] = json!("other");
    let steps = vec![
        json!({"name": "each", "map": {"items": accounts, "max_concurrency": 2, "steps": [debit]}}),
        json!({"name": "pause", "wait": {"for": "20ms"}}),
        json!({"name": "way", "choice": [
            {"when": "input.amount > 0", "steps": [draft.saga("credit", "credit", sum)]},
            {"otherwise": true, "steps": [other]}]}),
        notice("notice"),
    ];
    (steps, EACH.map(|debit| (debit, "credit")).to_vec())
}

type Order = Vec<(&'static str, &'static str)>;

fn steps(draft: &mut Draft, shape: u32, amount: i64) -> (Vec<Value>, Order) {
    match shape {
        0 => (
            vec![draft.saga("debit", "debit", amount), draft.saga("credit", "credit", amount)],
            vec![("debit", "credit")],
        ),
        1 => {
            let arms = json!([
                {"steps": [draft.saga("debit", "debit", amount)]},
                {"steps": [draft.saga("fee", "debit", 1)]}
            ]);
            let join = draft.saga("credit", "credit", amount + 1);
            (
                vec![json!({"name": "both", "parallel": arms}), join, notice("notice")],
                vec![("debit", "credit"), ("fee", "credit")],
            )
        }
        2 => (vec![draft.tcc("hold", "hold", amount), draft.tcc("expect", "expect", amount)], vec![("hold", "expect")]),
        3 => (
            vec![
                draft.tcc("hold", "hold", amount),
                draft.saga("debit", "debit", 2),
                draft.saga("credit", "credit", 2),
                draft.tcc("expect", "expect", amount),
            ],
            vec![("hold", "debit"), ("debit", "credit"), ("credit", "expect")],
        ),
        4 => (vec![draft.saga("debit", "debit", amount), draft.pivot("settle", amount), notice("notice")], Vec::new()),
        5 => {
            let mut fee = draft.saga("fee", "debit", 3);
            fee["after"] = json!([]);
            let mut credit = draft.saga("credit", "credit", amount + 3);
            credit["after"] = json!(["debit", "fee"]);
            (
                vec![draft.saga("debit", "debit", amount), fee, credit, notice("notice")],
                vec![("debit", "credit"), ("fee", "credit")],
            )
        }
        8 => mapped(draft, amount),
        _ => (
            vec![
                draft.saga("debit", "debit", amount),
                draft.later("late", "debit", 1),
                draft.saga("credit", "credit", amount + 1),
            ],
            vec![("debit", "late"), ("late", "credit")],
        ),
    }
}
