//! Operations: what is called, and what its answers mean.

use serde_json::{Value, json};

use super::{closed, each, of, or, together};
use crate::definition::syntax::http::METHODS;

/// RFC 9110, field names.
pub(super) fn header_name() -> Value {
    json!({"pattern": r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$", "maxLength": 256})
}

pub(super) fn defs() -> Value {
    let default =
        |what: &str| format!("What is sent. Default: none for GET, HEAD and DELETE; else {what}. null: none.");
    let forward = default("the transaction's input");
    let settling = default("the forward operation's body");
    let asked = "What is sent. Default: none.";
    let outcomes = ["succeeded", "refused", "pending", "unknown", "unsent"];
    let answers = ["succeeded", "refused", "pending", "unknown", "unsent", "not_found"];
    let operation = |body: &str, words: &[&str], method: &str, more: Value| {
        let mut schema = closed(together([request(body, words, method), more]), &[]);
        schema["oneOf"] = json!([{"required": ["path"]}, {"required": ["url"]}]);
        schema
    };
    let exhausted =
        |words: &[&str], default: &str, what: &str| json!({"enum": words, "default": default, "description": what});
    let gives_up = exhausted(
        &["compensate", "suspend", "ignore"],
        "compensate",
        "When no attempt is left: abort, or wait for a person's word. `ignore` is for retriable steps alone.",
    );
    let stays = exhausted(&["suspend"], "suspend", "When no attempt is left: always wait for a person's word.");
    let poll = json!({
        "interval": of("duration", "The first pause between two questions."),
        "max_interval": of("duration", "The longest pause: it doubles up to this."),
    });
    let mut poll = operation(asked, &answers, "GET", poll);
    poll["required"] = json!(["interval"]);
    json!({
        "forward": operation(&forward, &outcomes, "POST", together([called(), json!({"on_exhausted": gives_up})])),
        "settling": operation(&settling, &outcomes, "POST", together([called(), json!({"on_exhausted": stays})])),
        "status_check": operation(asked, &answers, "GET", json!({})),
        "poll": poll,
        "async": asynchronous(),
    })
}

fn request(body: &str, words: &[&str], method: &str) -> Value {
    let scalar = json!({"type": ["string", "number", "boolean"]});
    json!({
        "service": of("name", "Default: the step's."),
        "method": {"enum": METHODS, "default": method},
        "path": {"type": "string", "pattern": "^/", "description": "On the service's url. Values of expressions are percent-encoded."},
        "url": {"type": "string", "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://", "description": "In place of service and path. Scheme and host are written out."},
        "query": each(json!({}), scalar, "Appended to the address."),
        "headers": each(header_name(), json!({"type": "string"}), "Sent with the call."),
        "body": of("template", body),
        "timeout": or("duration", "10s", "Of one attempt, at most 5m."),
        "outcome": rules(words),
    })
}

fn rules(words: &[&str]) -> Value {
    let rule = closed(
        json!({
            "when": of("condition", "Reads `response`: {status, headers (lower-case), body}."),
            "is": {"enum": words},
            "error": {"type": "string", "minLength": 1, "maxLength": 64, "description": "The code of the error; of what is refused, unknown or unsent."},
            "message": {"type": "string", "description": "What people are told of it; may hold ${…} over `response`. Default: the answer's own message."},
        }),
        &["when", "is"],
    );
    json!({"type": "array", "items": rule, "description": "What an answer means: the first rule that is true, else the default. 2xx succeeded (202 pending where `async`); 409, 422 and any other 4xx but 408, 425, 429 refused; 429 unsent; the rest unknown."})
}

/// What is driven until it is done, as questions are not.
fn called() -> Value {
    json!({
        "retry": of("retry_or_name", "A policy, or the name of one in `retries`."),
        "async": of("async", "A 202 is no end: the operation is finished by a callback, or asked for."),
        "status_check": of("status_check", "Asked after each attempt whose outcome is unknown, before a resend. Its answer is 200 with {outcome, output?, error?}, or by `outcome` rules; not_found: it did not run."),
        "idempotent": {"type": "boolean", "default": false, "description": "The answer to a resend may be trusted."},
    })
}

fn asynchronous() -> Value {
    let mut schema = closed(
        json!({
            "timeout": of("duration", "How long the operation may be pending, at most 365d; after it the outcome is unknown."),
            "heartbeat": of("duration", "A participant that is silent for longer is taken for dead. Not beside `poll`."),
            "poll": of("poll", "The operation that asks how it went; without it the participant calls back."),
        }),
        &["timeout"],
    );
    schema["not"] = json!({"required": ["heartbeat", "poll"]});
    schema["examples"] = json!([{"timeout": "24h", "heartbeat": "1h"}]);
    schema["description"] = "A participant that answers 202 and finishes later.".into();
    schema
}
