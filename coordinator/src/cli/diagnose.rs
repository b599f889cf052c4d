//! A definition's faults for whoever wrote it: each with its code, file, line, column, the line itself, and help.

use std::ops::Range;

use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, MietteError, MietteSpanContents, Severity,
    SourceCode, SourceSpan, SpanContents,
};
use serde::Serialize;
use skald_engine::definition::Diagnostic;
use skald_protocol::Fault;

/// How much of a line is shown around its fault: a minified definition is one line.
const SHOWN: usize = 60;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Weight {
    Fault,
    Warning,
}

/// One fault of a file; lines and columns count from 1, columns in characters.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    pub(super) file: String,
    pub(super) weight: Weight,
    pub(super) code: String,
    pub(super) pointer: String,
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) message: String,
    pub(super) help: Option<String>,
    #[serde(skip)]
    excerpt: Excerpt,
}

impl Finding {
    /// The fault's place counts from `sent` on.
    fn of(file: &str, text: &str, sent: usize, weight: Weight, fault: Fault) -> Self {
        let Fault { pointer, message, code, line, column, help } = fault;
        let code = code.unwrap_or_default();
        let span = span(text, sent + offset(&text[sent..], line.unwrap_or(1), column.unwrap_or(1)));
        let excerpt = Excerpt::of(file, text, &span);
        let (line, column) = (excerpt.line + 1, excerpt.column + 1);
        Self { file: file.to_owned(), weight, code, pointer, line, column, message, help, excerpt }
    }

    /// Some lines, the last one ended.
    pub(super) fn render(&self) -> String {
        let Excerpt { marked, .. } = &self.excerpt;
        let mut diagnostic = MietteDiagnostic::new(self.message.clone())
            .with_severity(match self.weight {
                Weight::Fault => Severity::Error,
                Weight::Warning => Severity::Warning,
            })
            .with_label(LabeledSpan::new_primary_with_span(None, marked.clone()));
        if !self.code.is_empty() {
            diagnostic = diagnostic.with_code(self.code.clone());
        }
        diagnostic.help.clone_from(&self.help);
        let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode()).with_width(100).with_links(false);
        let report = miette::Report::new(diagnostic).with_source_code(self.excerpt.clone());
        let mut text = String::new();
        match handler.render_report(&mut text, &*report) {
            Ok(()) => text,
            // A terminal's arts are no reason to keep the fault to oneself.
            Err(std::fmt::Error) => {
                format!("{}:{}:{} {} {}\n", self.file, self.line, self.column, self.code, self.message)
            }
        }
    }
}

/// What the compiler says of a text, in the order of its lines.
pub(super) fn findings(file: &str, text: &str, weight: Weight, diagnostics: Vec<Diagnostic>) -> Vec<Finding> {
    let faults = diagnostics.into_iter().map(|diagnostic| diagnostic.into_fault(""));
    sorted(faults.map(|fault| Finding::of(file, text, 0, weight, fault)))
}

/// What a coordinator says of it. It was sent without the space around it.
pub(super) fn of_coordinator(
    file: &str,
    text: &str,
    weight: Weight,
    faults: impl IntoIterator<Item = Fault>,
) -> Vec<Finding> {
    let sent = text.len() - text.trim_start().len();
    sorted(faults.into_iter().map(|fault| Finding::of(file, text, sent, weight, fault)))
}

fn sorted(findings: impl Iterator<Item = Finding>) -> Vec<Finding> {
    let mut findings: Vec<_> = findings.collect();
    findings.sort_by_key(|finding| (finding.line, finding.column));
    findings
}

/// The byte at a line and a column, both from 1.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let within = text[start..].char_indices().nth(column.saturating_sub(1));
    within.map_or(text.len(), |(at, _)| start + at)
}

/// What is marked of the value or the name that starts there: all of it, or where it goes on over lines its first letter.
fn span(text: &str, start: usize) -> Range<usize> {
    let line = text[start..].lines().next().unwrap_or("");
    let (mut depth, mut in_string) = (0_usize, false);
    let mut letters = line.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' if in_string => drop(letters.next()),
            '"' => in_string = !in_string,
            _ if in_string => continue,
            '{' | '[' => depth += 1,
            '}' | ']' if depth > 0 => depth -= 1,
            ',' | ':' | '}' | ']' if depth == 0 && at > 0 => return start..start + at,
            letter if depth == 0 && at > 0 && letter.is_whitespace() => return start..start + at,
            _ => continue,
        }
        if depth == 0 && !in_string {
            return start..start + at + letter.len_utf8();
        }
    }
    let whole = depth == 0 && !in_string;
    start..start + if whole { line.len() } else { line.chars().next().map_or(0, char::len_utf8) }
}

/// The line of a fault, or the part of it that matters.
#[derive(Debug, Clone)]
struct Excerpt {
    file: String,
    text: String,
    marked: Range<usize>,
    /// Of the mark, from 0.
    line: usize,
    column: usize,
}

impl Excerpt {
    fn of(file: &str, text: &str, span: &Range<usize>) -> Self {
        let start = text[..span.start].rfind('\n').map_or(0, |newline| newline + 1);
        let end = text[span.start..].find('\n').map_or(text.len(), |newline| span.start + newline);
        let marked = &text[span.start..span.end.min(end)];
        let (before, after) = (&text[start..span.start], &text[span.start + marked.len()..end]);
        let (lead, before) = last(before, SHOWN);
        let (marked, cut) = first(marked, SHOWN);
        let (after, trail) = if cut.is_empty() { first(after, SHOWN) } else { (cut, "…") };
        let mut shown = format!("{lead}{before}");
        let from = shown.len();
        shown.push_str(marked);
        let to = shown.len();
        if trail != "…" {
            shown.push_str(after.trim_end_matches('\r'));
        }
        if !trail.is_empty() {
            shown.push('…');
        }
        let line = text[..start].matches('\n').count();
        let column = text[start..span.start].chars().count();
        Self { file: file.to_owned(), text: shown, marked: from..to, line, column }
    }
}

/// The last characters, led by a mark where there are more.
fn last(text: &str, most: usize) -> (&'static str, &str) {
    match text.char_indices().rev().nth(most) {
        Some((at, more)) => ("…", &text[at + more.len_utf8()..]),
        None => ("", text),
    }
}

/// The first characters, and the rest.
fn first(text: &str, most: usize) -> (&str, &str) {
    text.char_indices().nth(most).map_or((text, ""), |(at, _)| text.split_at(at))
}

impl SourceCode for Excerpt {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let alone = before == 0 && after == 0;
        let (range, column) =
            if alone { (span.offset()..span.offset() + span.len(), self.column) } else { (0..self.text.len(), 0) };
        let bytes = self.text.as_bytes().get(range.clone()).ok_or(MietteError::OutOfBounds)?;
        let (file, span) = (self.file.clone(), range.into());
        Ok(Box::new(MietteSpanContents::new_named(file, bytes, span, self.line, column, 1)))
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use skald_engine::definition::compile;

    use super::*;

    fn check(text: &str, expect: &Expect) {
        let findings = findings("order.json", text, Weight::Fault, compile(text).expect_err("faults"));
        let rendered: Vec<_> = findings.iter().map(Finding::render).collect();
        expect.assert_eq(&anstream::adapter::strip_str(&rendered.join("\n")).to_string());
    }

    const ORDER: &str = r#"{
  "dsl": "1.0", "name": "order", "version": "1.0.0",
  "services": {"shop": {"url": "http://shop"}},
  "steps": [
    {"name": "réserve", "service": "shop", "actoin": {"path": "/reserve"}},
    {
      "name": "pay", "service": "shop",
      "action": {"path": "/pay"}
    }
  ]
}"#;

    #[test]
    fn every_fault_is_told_with_its_line_and_what_to_write() {
        check(
            ORDER,
            &expect![[r#"
            E004

              × `réserve` is not a step's name: [a-z][a-z0-9_]*, at most 256
               ╭─[order.json:5:14]
             5 │     {"name": "réserve", "service": "shop", "actoin": {"path": "/reserve"}},
               ·              ─────────
               ╰────

            E002

              × unknown field `actoin`
               ╭─[order.json:5:44]
             5 │     {"name": "réserve", "service": "shop", "actoin": {"path": "/reserve"}},
               ·                                            ────────
               ╰────
              help: Did you mean `action`?

            E110

              × the step can be neither undone nor is it said why it need not be
               ╭─[order.json:6:5]
             6 │     {
               ·     ─
               ╰────
              help: Add `compensate`, or a `role`: pivot, retriable or read_only.
        "#]],
        );
    }

    #[test]
    fn broken_json_is_told_where_it_breaks() {
        check(
            "{\n  \"dsl\": \"1.0\",\n  \"name\": [\"x\"\n\n",
            &expect![[r#"
                E001

                  × the text ends in the middle of an array
                   ╭─[order.json:3:14]
                 3 │   "name": ["x"
                   ·              ─
                   ╰────
                  help: Close it with `]`.
            "#]],
        );
        check(
            "{\n  \"dsl\": \"1.0\",\n  \"name\": order\n}",
            &expect![[r#"
                E001

                  × no value of JSON starts like this
                   ╭─[order.json:3:11]
                 3 │   "name": order
                   ·           ─────
                   ╰────
                  help: Write a text in double quotes; true, false and null stand without.
            "#]],
        );
        check(
            "",
            &expect![[r#"
                E001

                  × the text ends where a value should stand
                   ╭─[order.json:1:1]
                   ╰────
            "#]],
        );
        check(
            "{\"dsl\": \"1.0\", \"dsl\": \"1.0\"}",
            &expect![[r#"
                E002

                  × `name` is missing
                   ╭─[order.json:1:1]
                 1 │ {"dsl": "1.0", "dsl": "1.0"}
                   · ────────────────────────────
                   ╰────

                E002

                  × `version` is missing
                   ╭─[order.json:1:1]
                 1 │ {"dsl": "1.0", "dsl": "1.0"}
                   · ────────────────────────────
                   ╰────

                E002

                  × `steps` is missing
                   ╭─[order.json:1:1]
                 1 │ {"dsl": "1.0", "dsl": "1.0"}
                   · ────────────────────────────
                   ╰────

                E001

                  × `dsl` stands here twice
                   ╭─[order.json:1:16]
                 1 │ {"dsl": "1.0", "dsl": "1.0"}
                   ·                ─────
                   ╰────
                  help: Keep one of them.
            "#]],
        );
    }

    #[test]
    fn of_a_long_line_only_what_matters_is_shown() {
        let long = format!(
            r#"{{"dsl": "1.0", "x-a": "{}", "timeoutt": "{}", "steps": []}}"#,
            "é".repeat(300),
            "y".repeat(300)
        );
        check(
            &long,
            &expect![[r#"
                E002

                  × `name` is missing
                   ╭─[order.json:1:1]
                 1 │ {"dsl": "1.0", "x-a": "ééééééééééééééééééééééééééééééééééééé…
                   · ────────────────────────────────────────────────────────────
                   ╰────

                E002

                  × `version` is missing
                   ╭─[order.json:1:1]
                 1 │ {"dsl": "1.0", "x-a": "ééééééééééééééééééééééééééééééééééééé…
                   · ────────────────────────────────────────────────────────────
                   ╰────

                E002

                  × unknown field `timeoutt`
                   ╭─[order.json:1:327]
                 1 │ …ééééééééééééééééééééééééééééééééééééééééééééééééééééééééé", "timeoutt": "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy…
                   ·                                                              ──────────
                   ╰────
                  help: Did you mean `timeout`?

                E105

                  × there is no step
                   ╭─[order.json:1:652]
                 1 │ …yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy", "steps": []}
                   ·                                                              ──
                   ╰────
            "#]],
        );
    }
}
