//! Transactions and settings as tables.

use std::fmt::Write;

use skald_protocol::{
    BranchView, DryRun, Page, PublicEvent, TransactionSummary, TransactionView, WorkflowRef, WorkflowSummary,
    WorkflowView,
};

use super::{Error, output::Output};
use crate::{
    config::Setting,
    terminal::{
        table,
        timeline::{awaited, error_text, line, status_style},
    },
};

pub(super) fn settings(output: &Output, settings: &[Setting]) -> Result<(), Error> {
    output.put(&settings, || {
        let rows = settings.iter().map(|setting| {
            let value = match &setting.value {
                serde_json::Value::String(text) => text.clone(),
                serde_json::Value::Null => "-".into(),
                other => other.to_string(),
            };
            [setting.key.clone(), value, setting.from.to_string()]
        });
        table(["KEY", "VALUE", "FROM"], rows)
    })
}

pub(super) fn list(output: &Output, page: &Page<TransactionSummary>) -> Result<(), Error> {
    output.put(page, || {
        let rows = page.items.iter().map(|item| {
            let labels: Vec<_> = item.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            [
                item.gid.to_string(),
                item.status.to_string(),
                workflow(item.workflow.as_ref()),
                item.created_at.to_string(),
                item.settled_at.map_or_else(|| "-".into(), |at| at.to_string()),
                labels.join(","),
            ]
        });
        table(["GID", "STATUS", "WORKFLOW", "CREATED", "SETTLED", "LABELS"], rows)
    })?;
    more(output, page);
    Ok(())
}

fn more<T>(output: &Output, page: &Page<T>) {
    if let (super::output::Format::Table, Some(cursor)) = (output.format, &page.next_cursor) {
        anstream::eprintln!("there are more: --cursor {cursor}");
    }
}

pub(super) fn workflows(output: &Output, page: &Page<WorkflowSummary>) -> Result<(), Error> {
    output.put(page, || {
        let rows = page.items.iter().map(|item| {
            let digest = item.digest.chars().take(12).collect();
            [item.name.clone(), item.version.clone(), item.published_at.to_string(), digest]
        });
        table(["NAME", "VERSION", "PUBLISHED", "DIGEST"], rows)
    })?;
    more(output, page);
    Ok(())
}

pub(super) fn published(output: &Output, view: &WorkflowView) -> Result<(), Error> {
    output.put(view, || {
        let rows = [
            ["name".into(), view.name.clone()],
            ["version".into(), view.version.clone()],
            ["published".into(), view.published_at.to_string()],
            ["digest".into(), view.digest.clone()],
            ["plan".into(), view.plan_digest.clone()],
        ];
        format!("{}\n{}", table(["", ""], rows), view.definition.text())
    })
}

pub(super) fn transaction(output: &Output, view: &TransactionView) -> Result<(), Error> {
    output.put(view, || {
        let style = status_style(view.status);
        let mut text = String::new();
        let mut put = |key: &str, value: &str| {
            // Writing to a String does not fail.
            let _infallible = writeln!(text, "{key:<10} {value}");
        };
        put("gid", view.gid.as_str());
        put("status", &format!("{style}{}{style:#}", view.status));
        put("workflow", &workflow(view.workflow.as_ref()));
        put("created", &view.created_at.to_string());
        if let Some(at) = view.settled_at {
            put("settled", &format!("{at} (after {:.3}s)", view.created_at.until(at).as_secs_f64()));
        }
        if let Some(at) = view.deadline {
            put("deadline", &at.to_string());
        }
        if let Some(at) = view.next_wake_at {
            put("wakes", &at.to_string());
        }
        if let Some(error) = &view.error {
            let at = error.step.as_ref().map(|step| format!(" at {step}")).unwrap_or_default();
            put("error", &format!("{}{at}", error_text(error)));
        }
        for (key, value) in &view.labels {
            put("label", &format!("{key}={value}"));
        }
        if let Some(output) = &view.output {
            put("output", output.text());
        }
        if let Some(trace) = &view.trace_id {
            put("trace", trace);
        }
        if !view.branches.is_empty() {
            text.push('\n');
            text.push_str(&branches(&view.branches));
        }
        text
    })
}

fn branches(branches: &[BranchView]) -> String {
    let rows = branches.iter().flat_map(|branch| {
        let blank = [
            branch.branch.to_string(),
            branch.status.to_string(),
            "-".into(),
            without_operation(branch),
            String::new(),
            branch.error.as_ref().map(error_text).unwrap_or_default(),
        ];
        let mut rows: Vec<[String; 6]> = Vec::new();
        for operation in &branch.operations {
            let first = rows.is_empty();
            rows.push([
                if first { branch.branch.to_string() } else { String::new() },
                if first { branch.status.to_string() } else { String::new() },
                operation.operation.to_string(),
                operation.status.to_string(),
                operation.attempts.to_string(),
                operation.last_error.as_ref().map(error_text).unwrap_or_default(),
            ]);
        }
        if rows.is_empty() { vec![blank] } else { rows }
    });
    table(["BRANCH", "STATUS", "OPERATION", "STATE", "ATTEMPTS", "LAST ERROR"], rows)
}

/// What is to be said of a step that makes no call.
fn without_operation(branch: &BranchView) -> String {
    match (&branch.waits_until, branch.items) {
        (Some(until), _) => {
            format!("waits {}until {until}", awaited(branch.signal.as_ref(), &branch.signals))
        }
        (_, Some(1)) => "1 item".to_owned(),
        (_, Some(items)) => format!("{items} items"),
        _ => String::new(),
    }
}

pub(super) fn dry_run(output: &Output, dry: &DryRun) -> Result<(), Error> {
    output.put(dry, || {
        let rows = dry.calls.iter().map(|call| {
            let place = match (&call.url, &call.path) {
                (Some(url), _) => url.clone(),
                (None, Some(path)) => format!("{}{path}", call.service.as_deref().unwrap_or_default()),
                (None, None) => String::new(),
            };
            [call.branch.to_string(), call.operation.to_string(), format!("{} {place}", call.method)]
        });
        table(["BRANCH", "OPERATION", "WOULD CALL"], rows)
    })
}

pub(super) fn event(output: &Output, event: &PublicEvent, began: skald_protocol::Timestamp) -> Result<(), Error> {
    output.put_line(event, || line(event, began))
}

fn workflow(workflow: Option<&WorkflowRef>) -> String {
    workflow.map_or_else(|| "-".into(), |workflow| format!("{} {}", workflow.name, workflow.version))
}
