//! The documents say what is so: ARCHITECTURE.md names tests that exist; every definition of docs/workflows.md compiles, and
//! its commands, and those of the examples' page, print what stands below them.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use skald_engine::definition::{Code, Library, compile_with};
use skald_tests::cluster::command;

fn root() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).to_owned()
}

fn page(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn sources(folder: &Path, all: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, all);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push(path);
        }
    }
}

#[test]
fn every_invariant_names_tests_that_exist() {
    let root = root();
    let mut files = Vec::new();
    for folder in ["coordinator", "sdk", "tests"] {
        sources(&root.join(folder), &mut files);
    }
    let code: String = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let page = page("ARCHITECTURE.md");
    let (_, table) = page.split_once("## Invariants").unwrap();
    let guards = table.lines().filter_map(|line| line.trim_end_matches(" |").rsplit_once(" | "));
    let names: Vec<&str> =
        guards.flat_map(|(_, names)| names.split('`').skip(1).step_by(2)).filter(|name| name.len() > 12).collect();
    assert!(names.len() > 20, "{names:?}");
    let missing: Vec<_> = names.iter().filter(|name| !code.contains(&format!("fn {name}("))).collect();
    assert!(missing.is_empty(), "no such test: {missing:?}");
}

#[test]
fn whatever_the_architecture_says_to_look_for_is_there() {
    let page = page("ARCHITECTURE.md");
    let (_, section) = page.split_once("## Where do I change").unwrap();
    let (table, _) = section.split_once("\n## ").unwrap();
    let mut rows = 0;
    for line in table.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let named: Vec<&str> = line.split('`').collect();
        let [.., path, _, item, _] = named[..] else { panic!("{line}") };
        let file = match path.split_once('/') {
            Some(("engine", rest)) => format!("coordinator/engine/src/{rest}"),
            Some(("src", rest)) => format!("coordinator/src/{rest}"),
            _ => path.to_owned(),
        };
        let text = std::fs::read_to_string(root().join(&file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(text.contains(item), "{file} does not hold `{item}`");
        rows += 1;
    }
    assert!(rows >= 20, "{rows} rows");
}

fn config(file: Option<&Path>) -> Vec<Value> {
    let mut command = command(&["config", "--output", "json"]).into_std();
    if let Some(file) = file {
        command.arg("--config").arg(file);
    }
    let done = command.output().expect("it runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).expect("JSON")
}

#[test]
fn the_page_on_configuration_has_every_setting_with_its_default() {
    let page = page("docs/configuration.md");
    let (_, table) = page.split_once("## Settings").unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `")).map(|line| {
        let cells: Vec<_> = line.split('|').collect();
        let plain = |cell: &str| cell.trim_matches([' ', '`']).to_owned();
        (plain(cells[1]), plain(cells[2]))
    });
    let told: std::collections::BTreeMap<_, _> = rows.collect();
    let text = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let is = config(None).iter().map(|row| (text(&row["key"]), text(&row["value"]))).collect();
    assert_eq!(told, is);
}

#[test]
fn the_files_of_the_page_on_configuration_are_taken() {
    let page = page("docs/configuration.md");
    let files: Vec<_> = blocks(&page).into_iter().filter(|(info, ..)| info == "toml").collect();
    assert!(files.len() >= 2);
    let folder = tempfile::tempdir().expect("a folder");
    for (_, line, text) in files {
        let file = folder.path().join(format!("{line}.toml"));
        std::fs::write(&file, text).expect("it can be written");
        let set = config(Some(&file)).iter().filter(|row| row["from"] != "default").count();
        assert!(set >= 4, "line {line}: {set} settings");
    }
}

/// The fenced blocks of a page, as info string, line and text.
fn blocks(page: &str) -> Vec<(String, usize, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, usize, String)> = None;
    for (number, line) in (1..).zip(page.lines()) {
        match (line.strip_prefix("```"), &mut open) {
            (Some(info), None) => open = Some((info.to_owned(), number, String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((.., text))) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is never closed");
    blocks
}

/// What the fragments of the page stand in: an input that has what they read, and services under their names.
fn frame(steps: &Value) -> Value {
    let text = || json!({"type": "string"});
    let line = json!({"type": "object", "required": ["sku", "qty"], "properties": {"sku": text(), "qty": {"type": "integer"}}});
    let services = ["stock", "pay", "ship", "mail", "travel"]
        .map(|name| (name.to_owned(), json!({"url": format!("http://{name}:8080")})));
    json!({
        "dsl": "1.0", "name": "frame", "version": "1.0.0",
        "input": {
            "type": "object",
            "required": ["sku", "order_id", "customer", "total", "email", "lines", "days", "flight"],
            "properties": {
                "sku": text(), "order_id": text(), "customer": text(), "email": text(), "flight": text(),
                "total": {"type": "integer"}, "days": {"type": "integer"}, "express": {"type": "boolean"},
                "lines": {"type": "array", "maxItems": 50, "items": line},
            },
        },
        "services": services.into_iter().collect::<serde_json::Map<_, _>>(),
        "steps": steps,
    })
}

/// A block as a whole definition: what its info string says it is, in its frame.
fn whole(info: &str, text: &str) -> Result<Value, String> {
    let parsed = |text: String| serde_json::from_str::<Value>(&text).map_err(|error| error.to_string());
    match info {
        "json" => parsed(text.to_owned()),
        "json step" | "json steps" => Ok(frame(&parsed(format!("[{text}]"))?)),
        "json members" => {
            let step = json!({"name": "a", "service": "stock", "role": "read_only", "action": {"path": "/a"}});
            let mut whole = frame(&json!([step]));
            for (name, member) in parsed(format!("{{{text}}}"))?.as_object().expect("an object") {
                whole[name] = member.clone();
            }
            Ok(whole)
        }
        other => Err(format!("`{other}` is none of json, json step, json steps, json members")),
    }
}

#[test]
fn every_definition_of_the_page_on_workflows_compiles_without_a_fault_or_a_warning() {
    let mut library = Library::default();
    library.add(&page("examples/workflows/payment.json"));
    let mut count = 0;
    for (info, line, text) in
        blocks(&page("docs/workflows.md")).into_iter().filter(|(info, ..)| info.starts_with("json"))
    {
        let whole = whole(&info, &text).unwrap_or_else(|error| panic!("docs/workflows.md:{line}: {error}"));
        match compile_with(&whole.to_string(), &library) {
            Ok(compiled) => {
                // A frame has services that its fragment does not use, and a fragment gives what others read.
                let warnings: Vec<_> =
                    compiled.warnings.iter().filter(|warning| info == "json" || warning.code != Code::Unused).collect();
                assert!(warnings.is_empty(), "docs/workflows.md:{line}: {warnings:#?}");
            }
            Err(faults) => panic!("docs/workflows.md:{line}: {faults:#?}"),
        }
        count += 1;
    }
    assert!(count >= 17, "{count} definitions");
}

#[test]
fn every_link_within_the_pages_on_workflows_leads_somewhere() {
    for (path, folder) in [("docs/workflows.md", "docs"), ("examples/workflows/README.md", "examples/workflows")] {
        let text = page(path);
        let anchors: Vec<String> = text
            .lines()
            .filter_map(|line| line.strip_prefix("## "))
            .map(|heading| {
                let kept = heading
                    .to_lowercase()
                    .chars()
                    .filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-')
                    .collect::<String>();
                format!("#{}", kept.replace(' ', "-"))
            })
            .collect();
        for (number, line) in (1..).zip(text.lines()) {
            for link in line.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
                let exists = match link {
                    anchor if anchor.starts_with('#') => anchors.iter().any(|known| known == anchor),
                    address if address.starts_with("https://") => true,
                    file => root().join(folder).join(file).is_file(),
                };
                assert!(exists, "{path}:{number}: {link}");
            }
        }
    }
}

/// Runs each command of the ```console blocks where the page says, and looks for the lines below it in what it prints.
#[tokio::test]
async fn the_commands_of_the_pages_on_workflows_print_what_stands_below_them() {
    let mut count = 0;
    for path in ["docs/workflows.md", "examples/workflows/README.md"] {
        for (info, line, text) in blocks(&page(path)).into_iter().filter(|(info, ..)| info.starts_with("console")) {
            for said in text.split("$ ").filter(|said| !said.is_empty()) {
                let (written, expected) = said.split_once('\n').expect("a line");
                let arguments: Vec<_> = written.split_whitespace().skip(1).collect();
                let run = command(&arguments).current_dir(root().join("examples/workflows")).output();
                let ran = run.await.expect("it runs");
                let printed =
                    format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
                assert_eq!(ran.status.success(), info == "console", "{path}:{line}: {written}\n{printed}");
                for wanted in expected.lines().filter(|wanted| !wanted.is_empty()) {
                    assert!(printed.contains(wanted), "{path}:{line}: {written} does not print `{wanted}`:\n{printed}");
                }
                count += 1;
            }
        }
    }
    assert!(count >= 7, "{count} commands");
}
