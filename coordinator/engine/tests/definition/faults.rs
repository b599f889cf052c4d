//! A definition for each code, with what is told of it: `faults/<code>_<what>.json` and `.txt`.
//!
//! `SKALD_RENEW=1 cargo test -p skald-engine --test definition faults` writes the texts anew.

use std::{collections::BTreeSet, fs, path::PathBuf};

use skald_engine::definition::{Code, Diagnostic, Library, compile_with};

use super::*;

fn definitions() -> Vec<PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/definition/faults");
    let files = fs::read_dir(folder).expect("the folder").map(|file| file.expect("a file").path());
    let mut files: Vec<_> = files.filter(|file| file.extension().is_some_and(|kind| kind == "json")).collect();
    files.sort();
    files
}

fn code(file: &std::path::Path) -> String {
    let name = file.file_stem().and_then(std::ffi::OsStr::to_str).expect("a name");
    name.split('_').next().unwrap_or_default().to_uppercase()
}

fn rendered(faults: &[Diagnostic]) -> String {
    let mut text = String::new();
    for fault in faults {
        let at = fault.position.expect("a place");
        let _ = writeln!(text, "{} {}:{} {:?}", fault.code, at.line, at.column, fault.pointer);
        let _ = writeln!(text, "  {}", fault.message);
        if let Some(help) = &fault.help {
            let _ = writeln!(text, "  help: {help}");
        }
    }
    text
}

#[test]
fn each_definition_with_a_fault_is_told_just_that() {
    let renew = std::env::var_os("SKALD_RENEW").is_some();
    let mut wrong = Vec::new();
    for file in definitions() {
        let source = fs::read_to_string(&file).expect("a definition");
        // It is published itself, so that it can ask for itself.
        let mut library = Library::default();
        library.add(&source);
        let faults = match compile_with(&source, &library) {
            Ok(compiled) => compiled.warnings,
            Err(faults) => faults,
        };
        let (code, told) = (code(&file), rendered(&faults));
        if faults.is_empty() || faults.iter().any(|fault| fault.code.as_str() != code) {
            wrong.push(format!("{} is not told {code} alone:\n{told}", file.display()));
        }
        let committed = file.with_extension("txt");
        if renew {
            fs::write(&committed, &told).expect("it can be written");
        }
        let expected = fs::read_to_string(&committed).unwrap_or_default();
        if expected != told {
            wrong.push(format!("{} is told:\n{told}and not:\n{expected}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_code_has_a_definition() {
    let found: BTreeSet<_> = definitions().iter().map(|file| code(file)).collect();
    let known: BTreeSet<_> = Code::ALL.iter().map(|code| code.to_string()).collect();
    assert_eq!(found, known);
}

/// The table of docs/workflows.md; `SKALD_RENEW=1` writes it anew.
#[test]
fn the_documentation_has_each_code_with_what_to_do() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/workflows.md");
    let page = fs::read_to_string(path).expect("the page");
    let head = "| code | what to do |\n|---|---|\n";
    let (before, table) = page.split_once(head).expect("the table");
    let rows = table.lines().take_while(|line| line.starts_with('|')).map(str::len).map(|row| row + 1).sum();
    let expected: String = Code::ALL.iter().map(|code| format!("| {code} | {} |\n", code.remedy())).collect();
    if std::env::var_os("SKALD_RENEW").is_some() {
        fs::write(path, format!("{before}{head}{expected}{}", &table[rows..])).expect("it can be written");
    } else {
        assert_eq!(table[..rows], expected);
    }
}

/// Words of a compiler's insides, and of nobody who wants to help.
#[test]
fn what_is_told_is_said_in_the_words_of_the_language() {
    for file in definitions() {
        let text = fs::read_to_string(file.with_extension("txt")).expect("a text");
        for word in ["EOF", "ident", "token", "Some(", "None", "Err(", "panicked", "serde"] {
            assert!(!text.contains(word), "{}: {word}\n{text}", file.display());
        }
    }
}
