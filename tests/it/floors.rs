//! The floors of DESIGN.md §3: a module imports only downwards, and a floor never sees the crates it was built to forget.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// `(module, floor)`; what is not named here stands on the top floor with the wiring.
const FLOORS: [(&str, u8); 12] = [
    ("main", 6),
    ("server", 6),
    ("cli", 6),
    ("demo", 6),
    ("terminal", 6),
    ("api", 5),
    ("runtime", 4),
    ("journal", 3),
    ("store", 2),
    ("dispatch", 2),
    ("telemetry", 2),
    ("config", 6),
];

/// `(module, crates it never sees)`.
const BLIND: [(&str, &[&str]); 10] = [
    ("api", &["sqlx", "reqwest"]),
    ("runtime", &["axum", "reqwest", "sqlx"]),
    ("journal", &["axum", "reqwest", "sqlx"]),
    ("store", &["axum", "reqwest"]),
    ("dispatch", &["axum", "sqlx"]),
    ("telemetry", &["axum", "reqwest", "sqlx"]),
    ("config", &["axum", "reqwest", "sqlx"]),
    ("cli", &["sqlx"]),
    ("demo", &["sqlx"]),
    ("server", &["sqlx"]),
];

/// `(package's Cargo.toml, crates it may not name)`.
const PACKAGES: [(&str, &[&str]); 3] = [
    (
        "coordinator/engine/Cargo.toml",
        &["tokio", "sqlx", "reqwest", "axum", "tracing", "hyper", "rand", "futures-util", "skald", "skald-sdk"],
    ),
    ("sdk/protocol/Cargo.toml", &["tokio", "sqlx", "reqwest", "axum", "tracing", "hyper", "skald-engine", "skald"]),
    ("sdk/Cargo.toml", &["sqlx", "axum", "skald"]),
];

/// Beside one another, and not of each other: `store dispatch telemetry`.
fn may_import(from: &str, to: &str) -> bool {
    let floor = |module: &str| FLOORS.iter().find(|(name, _)| *name == module).map_or(6, |(_, floor)| *floor);
    let hidden = from == "api" && ["store", "dispatch", "journal"].contains(&to);
    let wiring = floor(from) == 6;
    from == to || (!hidden && (wiring || floor(to) < floor(from)))
}

/// The root of every `crate::…` path of a line, groups included.
fn imports(line: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut found = Vec::new();
    for (place, _) in line.match_indices("crate::") {
        let rest = &line[place + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => found.push(word(rest)),
            Some(group) => {
                let mut depth = 0;
                let mut start = true;
                for (place, c) in group.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        c if start && c.is_alphabetic() => {
                            found.push(word(&group[place..]));
                            start = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    found
}

/// Code with its line numbers: comments go, a `use` over several lines becomes one.
fn statements(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or("").trim();
        if open {
            let (_, whole) = lines.last_mut().expect("an open statement");
            whole.push_str(code);
        } else {
            lines.push((number + 1, code.to_owned()));
        }
        let whole = &lines.last().expect("a line").1;
        let is_use = whole.starts_with("use ") || whole.starts_with("pub use ") || whole.starts_with("pub(");
        open = is_use && whole.contains("use ") && !whole.ends_with(';');
    }
    lines
}

fn breaches_of(module: &str, file: &str, text: &str) -> Vec<String> {
    let blind = BLIND.iter().find(|(name, _)| *name == module).map_or(&[][..], |(_, crates)| crates);
    let mut breaches = Vec::new();
    // A module's own tests may build what it is given from below.
    let own = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    for (number, code) in statements(own) {
        for import in imports(&code).into_iter().collect::<BTreeSet<_>>() {
            if FLOORS.iter().any(|(name, _)| *name == import) && !may_import(module, &import) {
                breaches.push(format!("{file}:{number}: `{module}` may not import `crate::{import}`"));
            }
        }
        for name in blind {
            let path = format!("{name}::");
            let named = code.match_indices(&path).any(|(place, _)| {
                !code[..place].ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == ':')
            });
            if named || code.starts_with(&format!("use {name};")) {
                breaches.push(format!("{file}:{number}: `{module}` may not see the crate `{name}`"));
            }
        }
    }
    breaches
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

#[test]
fn a_module_of_the_coordinator_imports_only_downwards() {
    let source = root().join("coordinator/src");
    let mut breaches = Vec::new();
    let mut seen = 0;
    for path in sources(&source) {
        let inside = path.strip_prefix(&source).expect("a path below").to_string_lossy().into_owned();
        let module = inside.split('/').next().unwrap_or("").trim_end_matches(".rs").to_owned();
        if module == "lib" {
            continue;
        }
        seen += 1;
        let text = fs::read_to_string(&path).expect("readable source");
        breaches.extend(breaches_of(&module, &format!("coordinator/src/{inside}"), &text));
    }
    assert!(seen >= 9, "only {seen} files were read");
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}

#[test]
fn a_package_does_not_name_what_its_floor_forbids() {
    let mut breaches = Vec::new();
    for (file, forbidden) in PACKAGES {
        let text = fs::read_to_string(root().join(file)).expect("a Cargo.toml");
        let mut dependencies = false;
        for (number, line) in text.lines().enumerate() {
            if line.starts_with('[') {
                dependencies = line.contains("dependencies") && !line.contains("dev-dependencies");
            }
            let name = line.split(['.', ' ', '=']).next().unwrap_or("");
            // What is optional costs nobody who does not ask for it.
            if dependencies && forbidden.contains(&name) && !line.contains("optional = true") {
                breaches.push(format!("{file}:{}: `{name}`", number + 1));
            }
        }
    }
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}

#[test]
fn the_floor_test_sees_upward_sideways_and_grouped_imports() {
    let breaches = |module, text| breaches_of(module, "f.rs", text).len();
    assert_eq!(breaches("store", "use crate::runtime::Coordinator;"), 1);
    assert_eq!(breaches("store", "use crate::dispatch::Outgoing;"), 1);
    assert_eq!(breaches("api", "use crate::{\n    runtime::{Error, Coordinator},\n    store::Filter,\n};"), 1);
    assert_eq!(breaches("api", "let x = crate::journal::Journal::new();"), 1);
    assert_eq!(breaches("api", "use crate::{telemetry::Metrics, runtime::Filter};"), 0);
    assert_eq!(breaches("api", "use crate::config::Config;"), 1);
    assert_eq!(breaches("runtime", "use axum::Router;"), 1);
    assert_eq!(breaches("runtime", "let e: sqlx::Error = e;"), 1);
    assert_eq!(breaches("runtime", "// use axum::Router;\nuse crate::journal::Journal;"), 0);
    assert_eq!(breaches("journal", "use crate::journal::batch;"), 0);
    assert_eq!(breaches("server", "use crate::{api, cli, store};"), 0);
}
