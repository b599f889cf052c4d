//! Any text as a definition: refused or compiled, never a panic; what compiles is stored and read back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skald_engine::{Plan, definition::compile, plan::FORMAT};

fuzz_target!(|text: &str| {
    if let Ok(compiled) = compile(text) {
        let encoded = compiled.plan.encode();
        let read = Plan::decode(FORMAT, &encoded).expect("a plan reads what it wrote");
        assert_eq!(read, compiled.plan);
    }
});
