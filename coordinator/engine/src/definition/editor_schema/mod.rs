//! The JSON Schema (2020-12) of the language, for editors: every field of docs/workflows.md with its meaning, default and limit.
//!
//! It knows what stands where, not what is safe: whatever it refuses the compiler refuses, too, and not the other way
//! round. Unknown fields are refused, `x-…` aside; names, words and limits are those of the compiler.

mod operation;
mod step;

use serde_json::{Map, Value, json};
use skald_protocol::duration_text;

use crate::{limit, plan::Retry};

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// The JSON Schema of a definition.
#[must_use]
pub fn language_schema() -> Value {
    let mut schema = closed(fields(), &["dsl", "name", "version", "steps"]);
    schema["$schema"] = DRAFT.into();
    schema["title"] = "Skald workflow".into();
    schema["description"] = "A definition in the JSON saga language, dsl 1.0.".into();
    schema["$defs"] = defs();
    schema
}

/// An object with these fields and no others.
fn closed(properties: Value, required: &[&str]) -> Value {
    let mut schema = json!({"type": "object", "patternProperties": {"^x-": true}, "additionalProperties": false});
    schema["properties"] = properties;
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    schema
}

/// A definition of `$defs`, with what it means here.
fn of(name: &str, description: &str) -> Value {
    json!({"$ref": format!("#/$defs/{name}"), "description": description})
}

/// The same with a default.
fn or(name: &str, default: impl Into<Value>, description: &str) -> Value {
    json!({"$ref": format!("#/$defs/{name}"), "default": default.into(), "description": description})
}

fn text(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

/// Each member of an object is of that kind, whatever it is called.
fn each(names: Value, values: Value, description: &str) -> Value {
    let mut schema = json!({"type": "object", "description": description});
    schema["propertyNames"] = names;
    schema["additionalProperties"] = values;
    schema
}

fn together(parts: impl IntoIterator<Item = Value>) -> Value {
    let mut all = Map::new();
    for part in parts {
        if let Value::Object(members) = part {
            all.extend(members);
        }
    }
    Value::Object(all)
}

fn fields() -> Value {
    let schema = json!({"$ref": DRAFT, "description": "JSON Schema 2020-12 of the input, checked at begin and used to type expressions."});
    json!({
        "dsl": {"const": "1.0", "description": "The version of the language."},
        "name": {"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", "maxLength": 63,
            "description": "The workflow's name, a DNS label. Name and version never change once they are published."},
        "version": {"type": "string", "maxLength": 128, "description": "SemVer.",
            "pattern": r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$"},
        "title": text("For people."),
        "description": text("For people."),
        "labels": {"type": "object", "maxProperties": limit::LABELS, "description": "Searchable; a begin's own labels stand over them.",
            "propertyNames": {"minLength": 1, "maxLength": limit::LABEL_KEY},
            "additionalProperties": {"type": "string", "maxLength": limit::LABEL_VALUE}},
        "input": schema,
        "services": each(json!({"$ref": "#/$defs/name"}), json!({"$ref": "#/$defs/service"}), "Where participants answer."),
        "retries": each(json!({"$ref": "#/$defs/name"}), json!({"$ref": "#/$defs/retry"}), "Policies to be named by `retry`."),
        "defaults": of("defaults", "What operations do that say nothing else."),
        "timeout": of("duration", "The deadline of the decision, at most 365d. Without it a transaction may take for ever."),
        "on_timeout": {"enum": ["compensate", "suspend"], "default": "compensate",
            "description": "What the deadline does: abort, or wait once for a person's word."},
        "steps": {"$ref": "#/$defs/steps", "minItems": 1, "maxItems": limit::STEPS, "description": "In order; see `after`."},
        "on_abort": {"$ref": "#/$defs/steps", "minItems": 1, "maxItems": limit::STEPS,
            "description": "Retriable steps that run once an aborted transaction is undone. They read `transaction.error`."},
        "on_end": {"$ref": "#/$defs/steps", "minItems": 1, "maxItems": limit::STEPS,
            "description": "Retriable steps that run last, however it was decided. They read `transaction.status`."},
        "output": of("template", "The transaction's output, made at success."),
    })
}

fn defs() -> Value {
    let own = json!({
        "template": {"description": "JSON whose strings may hold ${expression}: alone it gives its value, else its text. $${ is a plain ${."},
        "condition": {"type": "string", "minLength": 1, "maxLength": crate::cel::SOURCE, "description": "A bare CEL expression that is true or false.",
            "examples": ["has(input.express) && input.express"]},
        "duration": {"type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$", "description": "A whole number and a unit.",
            "examples": ["500ms", "3s", "15m", "24h", "7d"]},
        "name": {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_-]*$", "maxLength": 63},
        "secret": secret(),
        "service": service(),
        "defaults": defaults(),
        "retry": retry(),
        "retry_or_name": {"anyOf": [{"$ref": "#/$defs/retry"}, {"$ref": "#/$defs/name"}]},
    });
    together([own, operation::defs(), step::defs()])
}

fn secret() -> Value {
    let mut secret = closed(json!({"secret": of("name", "Its name in the server's configuration.")}), &["secret"]);
    secret["description"] = "Never stored, logged or traced.".into();
    secret
}

fn service() -> Value {
    let secret = || json!({"$ref": "#/$defs/secret"});
    let basic = closed(json!({"username": text("Sent as it is."), "password": secret()}), &["username", "password"]);
    let header = closed(json!({"name": text("Of the header."), "value": secret()}), &["name", "value"]);
    let mut auth = closed(json!({"bearer": secret(), "basic": basic, "header": header}), &[]);
    auth["oneOf"] = json!([{"required": ["bearer"]}, {"required": ["basic"]}, {"required": ["header"]}]);
    auth["description"] = "How the coordinator proves who it is: one of these.".into();
    let value = json!({"anyOf": [{"type": "string"}, secret()]});
    closed(
        json!({
            "url": {"type": "string", "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://[^?#]+$",
                "description": "Paths are appended to it. Server configuration may set another one per environment."},
            "headers": each(operation::header_name(), value, "Sent with every call."),
            "auth": auth,
            "timeout": or("duration", "10s", "Of one attempt, at most 5m."),
            "max_concurrency": {"type": "integer", "minimum": 1, "maximum": u32::MAX, "description": "Calls at once, of one node."},
        }),
        &["url"],
    )
}

fn defaults() -> Value {
    let read = |what: &str| {
        json!({
            "timeout": or("duration", "10s", "Of one attempt, at most 5m."),
            "retry": of("retry_or_name", what),
        })
    };
    let settling = "Of undos, confirms and what follows the commit.";
    let settle = json!({"settle": closed(read(settling), &[])});
    closed(together([read("Of forward operations before the commit."), settle]), &[])
}

fn retry() -> Value {
    let (forward, settling) = (Retry::forward(), Retry::settling());
    let attempts = forward.max_attempts;
    let [initial, most, settling_most] =
        [forward.initial_interval, forward.max_interval, settling.max_interval].map(duration_text);
    let elapsed = settling.max_elapsed.map(duration_text).unwrap_or_default();
    closed(
        json!({
            "max_attempts": {"anyOf": [{"type": "integer", "minimum": 1, "maximum": limit::ATTEMPTS}, {"const": "unlimited"}], "default": attempts,
                "description": "Default of settling operations: unlimited. Before the commit unlimited needs a `timeout` of the transaction."},
            "initial_interval": or("duration", initial, "The first pause."),
            "backoff_coefficient": {"type": "number", "minimum": 1, "maximum": 100, "default": forward.backoff_coefficient,
                "description": "What each pause is multiplied by."},
            "max_interval": or("duration", most, &format!("The longest pause; default of settling operations: {settling_most}.")),
            "jitter": {"enum": ["full", "none"], "default": "full", "description": "full: any pause up to the reckoned one."},
            "max_elapsed": of("duration", &format!("After it no attempt is made; pending time does not count. Default of settling operations: {elapsed}, after which they are stuck.")),
        }),
        &[],
    )
}
