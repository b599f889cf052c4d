//! Any text as an expression over any JSON: a value or an error, within its bounds, the same twice.
#![no_main]

use libfuzzer_sys::fuzz_target;

use skald_engine::{
    Value,
    cel::{Allowance, COST, Expression, Meter},
    path::{Path, Scope},
};

struct Input(Value);

impl Scope for Input {
    fn read(&self, path: &Path) -> Result<Value, String> {
        Path::walk(&path.segments, &self.0)
    }
}

fuzz_target!(|given: (&str, &str)| {
    let (source, input) = given;
    let Ok(expression) = Expression::compile(source, &mut Allowance::of_a_definition()) else { return };
    let scope = Input(serde_json::from_str(input).unwrap_or(Value::Null));
    let (mut meter, mut again) = (Meter::new(), Meter::new());
    let value = expression.evaluate(&scope, &mut meter);
    assert!(meter.spent() <= COST);
    assert_eq!(value, expression.evaluate(&scope, &mut again));
    assert_eq!(meter.spent(), again.spent());
});
