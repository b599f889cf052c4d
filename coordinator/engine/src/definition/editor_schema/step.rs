//! Steps: one field says what a step does.

use serde_json::{Value, json};
use skald_protocol::BranchId;

use super::{closed, of, text, together};
use crate::{
    definition::syntax::{
        step::ROLES,
        step_kind::{CONCURRENCY, ITEM, ROOTS},
    },
    limit,
};

/// Kinds that have no operation of their own.
const BLOCKS: [&str; 7] = ["parallel", "choice", "map", "wait", "saga", "set", "succeed"];

pub(super) fn defs() -> Value {
    json!({
        "step_name": {"type": "string", "pattern": "^[a-z][a-z0-9_]*$", "maxLength": BranchId::MAX},
        "steps": {"type": "array", "items": {"$ref": "#/$defs/step"}},
        "step": step(),
        "map": map(),
        "wait": wait(),
        "saga": saga(),
        "fail": fail(),
        "succeed": succeed(),
        "arm": arm(),
    })
}

fn step() -> Value {
    let roles: Vec<_> = ROLES.iter().map(|(role, _)| *role).collect();
    let common = json!({
        "name": of("step_name", "Unique in the definition; expressions read `steps.<name>.output`."),
        "description": text("For people."),
        "service": of("name", "Of its operations, where they name none."),
        "role": {"enum": roles, "description": "Why the step needs no undo: pivot (its success commits), retriable (driven until done, after the commit), read_only. With `compensate` it is compensatable."},
        "retry": of("retry_or_name", "Of its forward operation."),
        "when": of("condition", "The step is skipped unless this is true."),
        "after": {"type": "array", "items": {"$ref": "#/$defs/step_name"}, "description": "The siblings it waits for. Default: the one before it. []: it starts at once."},
        "output": of("template", "What is kept as `steps.<name>.output`. Default: the response's body."),
    });
    let kinds = json!({
        "action": of("forward", "A saga step's call. It needs `compensate` or a `role`."),
        "compensate": of("settling", "Takes the action back, driven until done."),
        "try": of("forward", "Of a TCC step: reserves, in its place in the order."),
        "confirm": of("settling", "Of a TCC step: makes it good once the transaction commits."),
        "cancel": of("settling", "Of a TCC step: gives it back if the transaction aborts."),
        "parallel": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/arm"}, "description": "Arms that run side by side."},
        "choice": {"type": "array", "minItems": 1, "items": choice_arm(), "contains": {"required": ["otherwise"]}, "maxContains": 1,
            "description": "The first arm whose condition is true; the last one is `otherwise`."},
        "map": of("map", "The same steps for each item of a list."),
        "wait": of("wait", "Waits for a time, or for a signal."),
        "saga": of("saga", "Another workflow's steps, as part of this one."),
        "set": of("template", "Computes; kept as `steps.<name>.output`."),
        "succeed": of("succeed", "Commits now; what has not begun is skipped."),
        "fail": {"description": "Beside `parallel`: what a failed arm does to the others. Else: aborts now."},
    });
    let mut schema = closed(together([common, kinds]), &["name"]);
    let blocks = BLOCKS.iter().map(|kind| json!({"required": [kind]}));
    let operations = [json!({"required": ["action"]}), json!({"required": ["try"]})];
    let fails = json!({"required": ["fail"], "not": {"required": ["parallel"]}});
    schema["oneOf"] = operations.into_iter().chain(blocks).chain([fails]).collect();
    schema["dependentRequired"] = json!({
        "compensate": ["action"], "try": ["confirm", "cancel"], "confirm": ["try", "cancel"], "cancel": ["try", "confirm"],
    });
    schema["dependentSchemas"] = dependent();
    schema["if"] = json!({"required": ["parallel"]});
    schema["then"] = json!({"properties": {"fail": {"enum": ["fast", "wait_all"], "default": "fast",
        "description": "fast: nothing new starts, calls in flight finish, then it aborts."}}});
    schema["else"] = json!({"properties": {"fail": {"$ref": "#/$defs/fail"}}});
    schema
}

fn dependent() -> Value {
    let no_operation = json!({"properties": {"service": false, "role": false, "retry": false, "output": false}});
    let mut dependent = json!({
        "action": {"anyOf": [{"required": ["compensate"]}, {"required": ["role"]}]},
        "compensate": {"properties": {"role": {"const": "compensatable"}}},
        "try": {"properties": {"role": false}},
        "map": {"properties": {"service": false, "role": false, "retry": false}},
    });
    for kind in ["parallel", "choice", "wait", "saga", "set", "fail", "succeed"] {
        dependent[kind] = no_operation.clone();
    }
    dependent
}

fn arm() -> Value {
    closed(json!({"steps": {"$ref": "#/$defs/steps", "minItems": 1}}), &["steps"])
}

fn choice_arm() -> Value {
    let mut arm = closed(
        json!({
            "when": of("condition", "The arm runs if this is true and none before it was."),
            "otherwise": {"const": true, "description": "The last arm, which runs if none before it did."},
            "steps": of("steps", "May be empty."),
        }),
        &["steps"],
    );
    arm["oneOf"] = json!([{"required": ["when"]}, {"required": ["otherwise"]}]);
    arm
}

fn map() -> Value {
    let count = |default: u32, description: &str| json!({"type": "integer", "minimum": 1, "maximum": limit::MAP_ITEMS, "default": default, "description": description});
    closed(
        json!({
            "items": {"anyOf": [{"type": "string", "pattern": r"\$\{"}, {"type": "array"}],
                "description": "The list, fixed when the map starts.", "examples": ["${input.lines}"]},
            "as": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$", "default": ITEM, "description": "The name of the item in expressions.",
                "not": {"enum": ROOTS.iter().copied().chain(["true", "false", "null", "in"]).collect::<Vec<_>>()}},
            "max_items": count(u32::try_from(limit::MAP_ITEMS).unwrap_or(u32::MAX), "A longer list fails the step."),
            "max_concurrency": count(CONCURRENCY, "Items that are worked on at once."),
            "steps": {"$ref": "#/$defs/steps", "minItems": 1, "description": "For each item. Outside the map only its array of outputs exists."},
        }),
        &["items", "steps"],
    )
}

fn wait() -> Value {
    let name = json!({"type": "string", "minLength": 1});
    let mut schema = closed(
        json!({
            "for": {"type": "string", "description": "A duration, or an expression that gives one.",
                "anyOf": [{"$ref": "#/$defs/duration"}, {"pattern": r"\$\{"}]},
            "until": {"type": "string", "description": "A time (RFC 3339), or an expression that gives one.",
                "anyOf": [{"format": "date-time", "pattern": "^[0-9]{4}-"}, {"pattern": r"\$\{"}]},
            "signal": {"description": "The name of a signal, or an expression that gives one. One that came before is seen. Of a list the first that comes ends the wait.",
                "anyOf": [name, {"type": "array", "items": name, "minItems": 1, "maxItems": limit::SIGNALS, "uniqueItems": true}]},
            "timeout": of("duration", "Of a signal: how long it is waited for, at most 365d."),
            "on_timeout": {"enum": ["fail", "continue"], "default": "fail", "description": "Of a signal that did not come."},
        }),
        &[],
    );
    schema["oneOf"] = json!([{"required": ["for"]}, {"required": ["until"]}, {"required": ["signal"]}]);
    schema["dependentRequired"] = json!({"signal": ["timeout"], "timeout": ["signal"], "on_timeout": ["signal"]});
    schema
}

fn saga() -> Value {
    closed(
        json!({
            "workflow": text("The name of a published workflow."),
            "version": text("The exact version. Default: the latest when this definition is published, fixed from then on."),
            "input": of("template", "Its input."),
        }),
        &["workflow"],
    )
}

fn succeed() -> Value {
    closed(json!({"output": of("template", "The transaction's output, in place of the definition's.")}), &[])
}

fn fail() -> Value {
    closed(
        json!({
            "error": {"type": "string", "pattern": "^[a-z][a-z0-9_]*$", "maxLength": 64, "description": "The code of the error."},
            "message": text("For people; it may hold ${expression}."),
        }),
        &["error"],
    )
}
