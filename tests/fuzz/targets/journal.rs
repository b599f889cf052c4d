//! Any bytes as the records of a journal: a transaction or an error, never a panic, whatever is then asked of it.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use skald_engine::{
    Plan, Record, Transaction,
    definition::{Library, compile_with},
    transaction::Continuity,
};
use skald_protocol::{Gid, Timestamp};

/// One of every kind of step.
static PLAN: LazyLock<Arc<Plan>> = LazyLock::new(|| {
    let mut library = Library::default();
    library.add(include_str!("../../../coordinator/engine/tests/golden/included.json"));
    let definition = include_str!("../../../coordinator/engine/tests/golden/language.json");
    Arc::new(compile_with(definition, &library).expect("a definition").plan)
});

fuzz_target!(|text: &str| {
    let records: Vec<Record> = text.lines().filter_map(|line| Record::decode(line.as_bytes()).ok()).collect();
    let gid = Gid::new("g").expect("a gid");
    let Ok(mut transaction) = Transaction::replay(gid, Arc::clone(&PLAN), records) else { return };
    let _view = transaction.view(0..usize::MAX);
    for now in [Timestamp(0), Timestamp(1_000_000), Timestamp::NEVER] {
        for call in transaction.owed(now) {
            let _request = transaction.render(call);
        }
    }
    let _decided = transaction.load(Continuity::Broken, Timestamp(1_000_000));
});
