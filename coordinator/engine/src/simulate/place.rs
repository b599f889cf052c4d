//! Where a step stands in a definition.

use serde_json::Value;
use skald_protocol::OperationKind;

/// The JSON pointer of a step, or of one of its operations.
#[must_use]
pub fn pointer(definition: &Value, step: &str, operation: Option<OperationKind>) -> Option<String> {
    // A step inside another workflow's lowering is named by its path; its own name is the last of it.
    let (pointer, found) = find(definition, step, "")?;
    let operation = operation.map(OperationKind::as_str).filter(|operation| found.get(operation).is_some());
    Some(operation.map_or_else(|| pointer.clone(), |operation| format!("{pointer}/{operation}")))
}

/// Definitions nest no deeper than JSON may.
fn find<'d>(value: &'d Value, step: &str, pointer: &str) -> Option<(String, &'d Value)> {
    let below = value.get("steps").and_then(Value::as_array).into_iter().flatten().enumerate();
    for (index, inner) in below {
        let pointer = format!("{pointer}/steps/{index}");
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
