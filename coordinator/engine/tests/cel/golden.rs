//! What stored definitions mean: `tests/golden/expressions.txt` holds expressions with their results. A line
//! `scope {…}` gives the roots of what follows; `=` a result as JSON, `!` an error, `?` a refusal. `UPDATE_GOLDEN=1`
//! writes the answers of lines that have none or another; an answer that was released is never to change.

use std::{fmt::Write as _, path::PathBuf};

use skald_engine::cel::Meter;

use super::{Roots, compile};

fn answer(source: &str, roots: &Roots) -> String {
    match compile(source) {
        Err(refused) => format!("? {refused}"),
        Ok(expression) => match expression.evaluate(roots, &mut Meter::new()) {
            Ok(value) => format!("= {value}"),
            Err(error) => format!("! {error}"),
        },
    }
}

#[test]
fn expressions_mean_what_they_meant_when_they_were_released() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/expressions.txt");
    let golden = std::fs::read_to_string(&path).unwrap();
    let mut roots = Roots::default();
    let mut written = String::new();
    let mut answered = true;
    let mut count = 0;
    for line in golden.lines() {
        if ["= ", "! ", "? "].iter().any(|mark| line.starts_with(mark)) {
            assert!(!answered, "an answer to nothing: {line}");
            answered = true;
            continue;
        }
        let _ = writeln!(written, "{line}");
        if let Some(scope) = line.strip_prefix("scope ") {
            roots = Roots(serde_json::from_str(scope).unwrap());
        } else if !line.is_empty() && !line.starts_with("# ") {
            count += 1;
            let _ = writeln!(written, "{}", answer(line, &roots));
            answered = false;
        }
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &written).unwrap();
    } else {
        expect_test::expect_file!["../golden/expressions.txt"].assert_eq(&written);
    }
    assert!(count > 150, "{count}");
}
