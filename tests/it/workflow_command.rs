//! `skald workflow`: faults at the desk as a person reads them, publishing that may be repeated, exit codes.

use std::path::Path;

use serde_json::{Value, json};
use skald_protocol::Status;
use skald_tests::{
    Backend, World,
    cluster::{Ran, run_with},
    definition::{definition, step},
};

fn written(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("a file");
    path.display().to_string()
}

async fn workflow(arguments: &[&str]) -> Ran {
    let mut all = vec!["workflow"];
    all.extend(arguments);
    run_with(&all, &[]).await
}

#[tokio::test]
async fn a_check_tells_every_fault_of_every_file_without_a_coordinator() {
    let folder = tempfile::tempdir().expect("a folder");
    let good = written(folder.path(), "good.json", &definition("http://shop", &json!([step("a")])).to_string());
    let mut one = definition("http://shop", &json!([step("a"), step("a")]));
    one["timeoutt"] = json!("5s");
    let one = written(folder.path(), "one.json", &serde_json::to_string_pretty(&one).expect("JSON"));
    let two = written(folder.path(), "two.json", "{\n  \"dsl\": \"1.0\",\n  \"name\": order\n}");

    let fine = workflow(&["check", &good]).await;
    assert_eq!((fine.code, fine.stdout.as_str()), (0, ""), "{}", fine.stderr);
    assert_eq!(fine.stderr.trim(), "1 definition: 0 faults, 0 warnings");

    let checked = workflow(&["check", &good, &one, &two, "/nowhere.json"]).await;
    assert_eq!(checked.code, 1, "{}", checked.stderr);
    for told in ["E101", "E002", "Did you mean `timeout`?", "E001", "two.json:3:11", "\"name\": order", "─"] {
        assert!(checked.stdout.contains(told), "{told}: {}", checked.stdout);
    }
    assert!(!checked.stdout.contains('\u{1b}'), "no colours where there is no terminal");
    assert!(checked.stderr.contains("/nowhere.json") && checked.stderr.contains("3 faults"), "{}", checked.stderr);

    let json = workflow(&["check", "--output", "json", &one]).await;
    let found: Value = serde_json::from_str(&json.stdout).expect("JSON");
    let unknown = found.as_array().expect("a list").iter().find(|fault| fault["code"] == "E002").expect("E002");
    assert_eq!(unknown["pointer"], "/timeoutt");
    assert!(unknown["line"].as_u64() > Some(1) && unknown["column"] == 3, "{unknown}");
    assert_eq!(workflow(&["check"]).await.code, 2);
}

#[tokio::test]
async fn the_schema_of_the_language_is_printed_as_it_is_committed() {
    let printed = workflow(&["schema"]).await;
    let committed = include_str!("../../docs/workflow.schema.json");
    assert_eq!((printed.code, printed.stdout.trim_end()), (0, committed.trim_end()), "{}", printed.stderr);
}

#[tokio::test]
async fn a_code_is_explained_and_an_unknown_one_says_where_all_are() {
    let one = workflow(&["explain", "e110"]).await;
    assert_eq!((one.code, one.stdout.lines().count()), (0, 2), "{}", one.stdout);
    assert!(one.stdout.contains("E110  no undo") && one.stdout.contains("Add `compensate`"), "{}", one.stdout);
    let all = workflow(&["explain", "--output", "json"]).await;
    let all: Vec<Value> = serde_json::from_str(&all.stdout).expect("JSON");
    assert_eq!(all.len(), skald_engine::definition::Code::ALL.len());
    let unknown = workflow(&["explain", "E999"]).await;
    assert_eq!(unknown.code, 2);
    assert!(unknown.stderr.contains("`E999` is no code of the compiler"), "{}", unknown.stderr);
}

#[tokio::test]
async fn a_warning_is_told_and_is_no_fault() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut idle = definition("http://shop", &json!([step("a")]));
    idle["services"]["idle"] = json!({"url": "http://idle"});
    let idle = written(folder.path(), "idle.json", &idle.to_string());
    let checked = workflow(&["check", &idle]).await;
    assert_eq!(checked.code, 0, "{}", checked.stderr);
    assert!(checked.stdout.contains("W305") && checked.stderr.contains("1 warning"), "{}", checked.stdout);
}

#[tokio::test]
async fn definitions_are_published_listed_shown_and_begun_by_name() {
    let world = World::start(Backend::Sqlite).await;
    let (to, url) = (world.node.url(), world.participants.url());
    let folder = tempfile::tempdir().expect("a folder");
    let file = |version: &str, steps: Value| {
        let mut one = definition(&url, &steps);
        one["version"] = json!(version);
        written(folder.path(), &format!("{version}.json"), &one.to_string())
    };
    let (old, new) = (file("1.0.0", json!([step("a")])), file("1.1.0", json!([step("b")])));
    for result in ["published", "unchanged"] {
        let ran = workflow(&["publish", &old, &new, "--to", &to, "--output", "json"]).await;
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let lines: Value = serde_json::from_str(&ran.stdout).expect("JSON");
        assert_eq!((&lines[0]["result"], &lines[1]["result"]), (&json!(result), &json!(result)));
    }
    let listed = workflow(&["list", "--to", &to]).await;
    assert!(listed.code == 0 && listed.stdout.contains("promise  1.1.0"), "{}{}", listed.stdout, listed.stderr);
    let versions = workflow(&["list", "promise", "--to", &to, "--output", "json"]).await;
    let versions: Value = serde_json::from_str(&versions.stdout).expect("JSON");
    assert_eq!(versions["items"].as_array().map(Vec::len), Some(2));

    for (asked, version) in [("promise", "1.1.0"), ("promise@1.0.0", "1.0.0")] {
        let shown = workflow(&["show", asked, "--to", &to, "--output", "json"]).await;
        let shown: Value = serde_json::from_str(&shown.stdout).expect("JSON");
        assert_eq!((&shown["version"], &shown["definition"]["version"]), (&json!(version), &json!(version)));
        let begin = ["tx", "begin", "--workflow", asked, "--gid", version, "--wait", "20s", "--url", &to];
        let begun = run_with(&begin, &[]).await;
        assert_eq!(begun.code, 0, "{}", begun.stderr);
        assert!(begun.stdout.contains(&format!("promise {version}")), "{}", begun.stdout);
        assert_eq!(world.client.transaction(version).await.status, Status::Succeeded);
    }
    assert_eq!(world.participants.effects("1.1.0"), ["b action"]);

    for unknown in [["show", "nobody"], ["show", "promise@9.0.0"], ["list", "nobody"]] {
        let ran = workflow(&[unknown[0], unknown[1], "--to", &to]).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{}", ran.stderr);
    }
    assert_eq!(workflow(&["show", "promise@", "--to", &to]).await.code, 2);
    assert_eq!(workflow(&["list", "--to", "http://127.0.0.1:1"]).await.code, 1);
}

#[tokio::test]
async fn what_is_refused_is_told_with_its_place_and_the_rest_is_published() {
    let world = World::start(Backend::Sqlite).await;
    let to = world.node.url();
    let folder = tempfile::tempdir().expect("a folder");
    let good = definition(&world.participants.url(), &json!([step("a")]));
    let good_file = written(folder.path(), "good.json", &good.to_string());
    let mut faulty = good.clone();
    faulty["name"] = json!("faulty");
    faulty["timeoutt"] = json!("5s");
    let faulty = written(folder.path(), "faulty.json", &serde_json::to_string_pretty(&faulty).expect("JSON"));
    let broken = written(folder.path(), "broken.json", "{\"name\": \"broken\"");
    let mut dots = good.clone();
    dots["name"] = json!("..");
    let dots = written(folder.path(), "dots.json", &dots.to_string());
    let ran = workflow(&["publish", &broken, &dots, &faulty, "/nowhere.json", &good_file, "--to", &to]).await;
    assert_eq!(ran.code, 1);
    for told in ["broken.json:1:", "dots.json:1:", "faulty.json:", "E002", "Did you mean `timeout`?", "/nowhere.json"] {
        assert!(ran.stderr.contains(told), "{told}: {}", ran.stderr);
    }
    assert!(ran.stdout.contains("published") && ran.stdout.lines().count() == 2, "{}", ran.stdout);

    let mut other = good;
    other["description"] = json!("another");
    let other = written(folder.path(), "other.json", &other.to_string());
    let conflict = workflow(&["publish", &other, "--to", &to]).await;
    assert_eq!(conflict.code, 1);
    assert!(conflict.stderr.contains("version_conflict") && conflict.stderr.contains("1.0.0"), "{}", conflict.stderr);
    assert_eq!(workflow(&["publish", &good_file, "--to", "http://127.0.0.1:1"]).await.code, 1);
    assert_eq!(workflow(&["publish", &good_file, "--to", "nonsense"]).await.code, 2);
}
