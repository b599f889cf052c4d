//! Where a step stands in a definition.

use serde_json::Value;
use skald_protocol::OperationKind;

/// The JSON pointer of a branch's step, or of one of its operations; of a step in an included saga, that of the step which
/// includes it.
#[must_use]
pub fn pointer(definition: &Value, branch: &str, operation: Option<OperationKind>) -> Option<String> {
    let mut deepest = None;
    for name in branch.split('.').map(|name| name.trim_end_matches('~')) {
        let Some((pointer, found)) = find(definition, name, "") else { continue };
        let is_foreign = found.get("saga").is_some();
        deepest = Some((pointer, found));
        if is_foreign {
            break;
        }
    }
    let (pointer, found) = deepest?;
    let operation = operation.map(OperationKind::as_str).filter(|operation| found.get(operation).is_some());
    Some(operation.map_or_else(|| pointer.clone(), |operation| format!("{pointer}/{operation}")))
}

/// Definitions nest no deeper than JSON may.
fn find<'d>(value: &'d Value, step: &str, pointer: &str) -> Option<(String, &'d Value)> {
    let lists = ["steps", "on_abort", "on_end"].into_iter().flat_map(|list| {
        let steps = value.get(list).and_then(Value::as_array).into_iter().flatten().enumerate();
        steps.map(move |(index, inner)| (list, index, inner))
    });
    for (list, index, inner) in lists {
        let pointer = format!("{pointer}/{list}/{index}");
        if inner.get("name").and_then(Value::as_str) == Some(step) {
            return Some((pointer, inner));
        }
        for block in ["parallel", "choice"] {
            let arms = inner.get(block).and_then(Value::as_array).into_iter().flatten().enumerate();
            for (arm, inner) in arms {
                if let Some(found) = find(inner, step, &format!("{pointer}/{block}/{arm}")) {
                    return Some(found);
                }
            }
        }
        if let Some(found) = inner.get("map").and_then(|map| find(map, step, &format!("{pointer}/map"))) {
            return Some(found);
        }
    }
    None
}
