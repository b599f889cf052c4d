//! Random plans, random histories, participants with a ledger: whatever is lost, doubled, late or crashed, every
//! transaction ends fully done or fully undone, and nothing is undone that surely never ran.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../common/mod.rs"]
mod common;
mod language;
mod participant;
mod plans;
mod steps;
mod tampered;
mod verdict;
mod world;

use proptest::{prelude::*, test_runner::Config};

use self::{
    plans::{Tape, plan},
    world::World,
};

/// All of them together are the suite's 10,000 and more; `PROPTEST_CASES` asks for another number of each.
const CASES: u32 = 2_600;

fn tapes() -> impl Strategy<Value = Vec<u16>> {
    proptest::collection::vec(any::<u16>(), 12..180)
}

/// A history that fails is run again, and tells what happened.
fn live(choices: &[u16], barrier: bool) {
    if std::panic::catch_unwind(|| run(choices, barrier, false)).is_err() {
        run(choices, barrier, true);
        panic!("it failed, and not again");
    }
}

fn run(choices: &[u16], barrier: bool, loud: bool) {
    let mut tape = Tape::new(choices);
    let (plan, timeout) = plan(&mut tape);
    let mut world = World::begin(plan, timeout, barrier, loud);
    while !tape.is_over() {
        world.step(&mut tape);
        world.send(&mut tape);
        world.check_now();
    }
    world.check_replay();
    world.settle();
    world.check_replay();
    world.judge();
}

fn config() -> Config {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES);
    Config { cases, failure_persistence: None, max_shrink_iters: 4_000, ..Config::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn with_the_barrier_every_history_ends_fully_done_or_fully_undone(choices in tapes()) {
        live(&choices, true);
    }

    #[test]
    fn without_the_barrier_too_as_long_as_an_attempt_ends_with_its_timeout(choices in tapes()) {
        live(&choices, false);
    }

    #[test]
    fn with_the_barrier_more_of_them(choices in tapes()) {
        live(&choices, true);
    }

    #[test]
    fn without_the_barrier_more_of_them(choices in tapes()) {
        live(&choices, false);
    }

    #[test]
    fn a_tampered_journal_is_corrupt_or_another_history_and_never_a_panic(
        choices in tapes(),
        tampering in proptest::collection::vec(any::<u16>(), 24),
    ) {
        let mut tape = Tape::new(&choices);
        let (plan, timeout) = plan(&mut tape);
        let mut world = World::begin(plan, timeout, false, false);
        while !tape.is_over() {
            world.step(&mut tape);
            world.send(&mut tape);
        }
        tampered::check(&world, &mut Tape::new(&tampering));
    }
}
