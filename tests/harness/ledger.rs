//! What participants did, in the order in which they did it, with the barrier that makes each effect happen at most once.
//!
//! A `Book` is a participant's own database: barrier rows, balances and ledger change together, under one lock. Nothing
//! is ever removed from it, so the checker can replay it.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use skald_protocol::OperationKind;

/// A call as it arrived.
#[derive(Debug, Clone)]
pub struct Arrival {
    pub gid: String,
    pub branch: String,
    pub operation: OperationKind,
    pub key: String,
    pub attempt: u32,
    pub path: String,
    pub body: Value,
    pub headers: BTreeMap<String, String>,
    pub callback: Option<String>,
    pub at: std::time::Instant,
}

/// What a call came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    Effect,
    /// An undo of what never ran.
    Empty,
    Refused(String),
    /// A forward call after its undo: not executed.
    Superseded,
    /// A confirm after a cancel, or the reverse: not executed.
    Broken,
}

/// One line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub gid: String,
    pub branch: String,
    pub operation: OperationKind,
    pub key: String,
    pub mark: Mark,
    /// Account and change of its balance.
    pub moves: Vec<(String, i64)>,
}

/// What the business answers, before it is made HTTP.
#[derive(Debug, Clone, PartialEq)]
pub enum Done {
    Succeeded(Value),
    Refused(String),
}

/// An answer with the word of the barrier.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    pub done: Done,
    pub barrier: &'static str,
}

/// Why a call could not be executed now; it may come again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotNow(pub &'static str);

#[derive(Debug, Default)]
struct Row {
    forward: Option<Done>,
    forward_moves: Vec<(String, i64)>,
    blocked: bool,
    confirm: Option<Done>,
    undo: Option<Done>,
}

#[derive(Debug, Default)]
pub struct Book {
    pub entries: Vec<Entry>,
    pub balances: BTreeMap<String, i64>,
    rows: HashMap<(String, String), Row>,
}

impl Book {
    /// Runs a call behind the barrier. `refuse`: the business refuses a forward operation.
    pub fn apply(&mut self, call: &Arrival, refuse: Option<&str>) -> Result<Answered, NotNow> {
        match call.operation {
            OperationKind::Action | OperationKind::Try => self.forward(call, refuse),
            OperationKind::Confirm => self.confirm(call),
            OperationKind::Compensate | OperationKind::Cancel => self.undo(call),
            OperationKind::Status => Ok(self.status(call)),
        }
    }

    fn forward(&mut self, call: &Arrival, refuse: Option<&str>) -> Result<Answered, NotNow> {
        let row = self.rows.entry((call.gid.clone(), call.branch.clone())).or_default();
        if row.blocked {
            self.write(call, Mark::Superseded, Vec::new());
            return Ok(Answered { done: Done::Refused("superseded".into()), barrier: "superseded" });
        }
        if let Some(done) = &row.forward {
            return Ok(Answered { done: done.clone(), barrier: "stored" });
        }
        let moves = match refuse {
            Some(code) => Err(code.to_owned()),
            None => moves_of(call).and_then(|moves| self.affordable(&moves).map(|()| moves)),
        };
        let (done, mark, moves) = match moves {
            Ok(moves) => (Done::Succeeded(output_of(call)), Mark::Effect, moves),
            Err(code) => (Done::Refused(code.clone()), Mark::Refused(code), Vec::new()),
        };
        let row = self.rows.entry((call.gid.clone(), call.branch.clone())).or_default();
        row.forward = Some(done.clone());
        row.forward_moves.clone_from(&moves);
        self.write(call, mark, moves);
        Ok(Answered { done, barrier: "executed" })
    }

    fn confirm(&mut self, call: &Arrival) -> Result<Answered, NotNow> {
        let row = self.rows.entry((call.gid.clone(), call.branch.clone())).or_default();
        if let Some(done) = &row.confirm {
            return Ok(Answered { done: done.clone(), barrier: "stored" });
        }
        if row.undo.is_some() {
            self.write(call, Mark::Broken, Vec::new());
            return Ok(Answered { done: Done::Refused("confirm_after_cancel".into()), barrier: "executed" });
        }
        let done = Done::Succeeded(output_of(call));
        row.confirm = Some(done.clone());
        let moves = moves_of(call).unwrap_or_default();
        self.write(call, Mark::Effect, moves);
        Ok(Answered { done, barrier: "executed" })
    }

    fn undo(&mut self, call: &Arrival) -> Result<Answered, NotNow> {
        let row = self.rows.entry((call.gid.clone(), call.branch.clone())).or_default();
        if let Some(done) = &row.undo {
            return Ok(Answered { done: done.clone(), barrier: "stored" });
        }
        if row.confirm.is_some() {
            self.write(call, Mark::Broken, Vec::new());
            return Ok(Answered { done: Done::Refused("cancel_after_confirm".into()), barrier: "executed" });
        }
        let done = Done::Succeeded(output_of(call));
        if !matches!(row.forward, Some(Done::Succeeded(_))) {
            row.blocked = row.forward.is_none();
            row.undo = Some(done.clone());
            self.write(call, Mark::Empty, Vec::new());
            return Ok(Answered { done, barrier: "empty" });
        }
        let moves: Vec<_> = row.forward_moves.iter().map(|(account, change)| (account.clone(), -change)).collect();
        if self.affordable(&moves).is_err() {
            return Err(NotNow("the money is elsewhere just now"));
        }
        let row = self.rows.entry((call.gid.clone(), call.branch.clone())).or_default();
        row.undo = Some(done.clone());
        self.write(call, Mark::Effect, moves);
        Ok(Answered { done, barrier: "executed" })
    }

    /// A `status_check`: answered from the row, without inserting one.
    fn status(&self, call: &Arrival) -> Answered {
        let row = self.rows.get(&(call.gid.clone(), call.branch.clone()));
        let asked = row.and_then(|row| match call.key.rsplit('/').next() {
            Some("confirm") => row.confirm.as_ref(),
            Some("compensate" | "cancel") => row.undo.as_ref(),
            _ => row.forward.as_ref(),
        });
        let word = match asked {
            Some(Done::Succeeded(output)) => serde_json::json!({"outcome": "succeeded", "output": output}),
            Some(Done::Refused(code)) => serde_json::json!({"outcome": "refused", "error": {"code": code}}),
            None => serde_json::json!({"outcome": "not_found"}),
        };
        Answered { done: Done::Succeeded(word), barrier: "stored" }
    }

    fn affordable(&self, moves: &[(String, i64)]) -> Result<(), String> {
        let poor = |(account, change): &(String, i64)| self.balances.get(account).copied().unwrap_or(0) + change < 0;
        if moves.iter().any(poor) { Err("insufficient".into()) } else { Ok(()) }
    }

    fn write(&mut self, call: &Arrival, mark: Mark, moves: Vec<(String, i64)>) {
        for (account, change) in &moves {
            *self.balances.entry(account.clone()).or_default() += change;
        }
        self.entries.push(Entry {
            gid: call.gid.clone(),
            branch: call.branch.clone(),
            operation: call.operation,
            key: call.key.clone(),
            mark,
            moves,
        });
    }
}

fn output_of(call: &Arrival) -> Value {
    serde_json::json!({"id": format!("{}-{}", call.branch, call.operation)})
}

/// The bank: `/accounts/<name>/<verb>` with `{"amount"}`. Any other path moves no money.
///
/// `debit` and `credit` are saga actions; `hold` (money set aside, gone at confirm) and `expect` (money that arrives at
/// confirm) are tries. An undo moves back what its forward operation moved.
fn moves_of(call: &Arrival) -> Result<Vec<(String, i64)>, String> {
    let path = call.path.strip_prefix("/later").unwrap_or(&call.path);
    let Some(rest) = path.strip_prefix("/accounts/") else { return Ok(Vec::new()) };
    let (account, verb) = rest.split_once('/').ok_or("bad_path")?;
    let amount = call.body.get("amount").and_then(Value::as_i64).ok_or("bad_amount")?;
    let held = format!("{account}/held");
    Ok(match verb {
        "debit" => vec![(account.to_owned(), -amount)],
        "credit" => vec![(account.to_owned(), amount)],
        "hold" => vec![(account.to_owned(), -amount), (held, amount)],
        "hold/confirm" => vec![(held, -amount)],
        "expect" => Vec::new(),
        "expect/confirm" => vec![(account.to_owned(), amount)],
        _ => return Err("bad_path".into()),
    })
}
