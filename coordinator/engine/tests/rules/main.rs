//! Every rule of DESIGN.md §2 as a picture.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../common/mod.rs"]
mod common;
mod forward;
mod pivot;
mod undo;
mod words;

use expect_test::Expect;

#[track_caller]
#[allow(clippy::needless_pass_by_value, reason = "expect![] reads best in place")]
fn check(plan: &str, script: &str, expected: Expect) {
    expected.assert_eq(&common::tell(plan, script));
}
