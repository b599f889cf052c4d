//! Real journals, tampered with: corrupt or another history, never a panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

use skald_engine::{Record, Transaction, transaction::Continuity};
use skald_protocol::Timestamp;

use crate::{plans::Tape, world::World};

/// Numbers that a bit flip, a bug or an attacker may leave in a record.
const NUMBERS: [&str; 6] = ["0", "1", "7", "4294967295", "-9223372036854775808", "9223372036854775807"];

fn exchange_a_number(record: &Record, tape: &mut Tape<'_>) -> Option<Record> {
    let text = String::from_utf8(record.encode()).ok()?;
    let starts: Vec<usize> =
        (1..text.len()).filter(|at| text.as_bytes()[*at].is_ascii_digit() && text.as_bytes()[at - 1] == b':').collect();
    let start = *starts.get(tape.pick(starts.len().max(1)))?;
    let length = text[start..].bytes().take_while(u8::is_ascii_digit).count();
    let text = format!("{}{}{}", &text[..start], NUMBERS[tape.pick(NUMBERS.len())], &text[start + length..]);
    Record::decode(text.as_bytes()).ok()
}

fn tamper(journal: &mut Vec<Record>, tape: &mut Tape<'_>) {
    if journal.is_empty() {
        return;
    }
    let (one, other) = (tape.pick(journal.len()), tape.pick(journal.len()));
    match tape.pick(6) {
        0 => drop(journal.remove(one)),
        1 => journal.insert(other, journal[one].clone()),
        2 => journal.swap(one, other),
        3 => {
            let event = tape.pick(journal[one].events.len().max(1));
            if event < journal[one].events.len() {
                let event = journal[one].events.remove(event);
                journal[other].events.push(event);
            }
        }
        _ => {
            if let Some(record) = exchange_a_number(&journal[one], tape) {
                journal[one] = record;
            }
        }
    }
}

/// All that a node does with a transaction before it decides anything of it.
fn read(world: &World, journal: &[Record]) {
    let numbered: Vec<(u64, Record)> = (0..).zip(journal.iter().cloned()).collect();
    let _ = Transaction::publish(&world.gid, &world.plan, &numbered);
    let Ok(transaction) = Transaction::replay(world.gid.clone(), world.plan.clone(), journal.to_vec()) else { return };
    let _ = transaction.view(0..usize::MAX);
    let _ = transaction.next_wake();
    for now in [world.now, Timestamp(0), Timestamp::NEVER] {
        for call in transaction.owed(now) {
            let _ = transaction.render(call);
        }
        let _ = transaction.clone().load(Continuity::Broken, now);
        let _ = transaction.clone().load(Continuity::Unbroken, now);
    }
}

pub(crate) fn check(world: &World, tape: &mut Tape<'_>) {
    for _ in 0..4 {
        let mut journal = world.journal.clone();
        for _ in 0..=tape.pick(2) {
            tamper(&mut journal, tape);
        }
        if catch_unwind(AssertUnwindSafe(|| read(world, &journal))).is_err() {
            let text: Vec<_> = journal.iter().map(|record| String::from_utf8(record.encode()).unwrap()).collect();
            world.fail(&format!("a tampered journal panics:\n{}", text.join("\n")));
        }
    }
}
