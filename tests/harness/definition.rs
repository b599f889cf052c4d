//! Definitions (docs/workflows.md) written briefly: step `x` calls `/x`, its other operations `/x/<operation>`.

use serde_json::{Value, json};

/// A definition with quick retries whose steps call the service `shop` at `url`.
#[must_use]
pub fn definition(url: &str, steps: &Value) -> Value {
    json!({
        "dsl": "1.0", "name": "promise", "version": "1.0.0",
        "services": {"shop": {"url": url}},
        "defaults": {
            "timeout": "2s",
            "retry": {"max_attempts": 5, "initial_interval": "20ms", "max_interval": "200ms"},
            "settle": {"retry": {"initial_interval": "20ms", "max_interval": "200ms"}}
        },
        "steps": steps
    })
}

/// The body of a begin.
#[must_use]
pub fn begin(definition: &Value) -> Value {
    json!({"definition": definition, "input": {"n": 1}})
}

#[must_use]
pub fn with_gid(mut begin: Value, gid: &str) -> Value {
    begin["gid"] = json!(gid);
    begin
}

/// A saga step with a compensation.
#[must_use]
pub fn step(name: &str) -> Value {
    json!({"name": name, "service": "shop", "action": {"path": format!("/{name}")},
        "compensate": {"path": format!("/{name}/compensate")}})
}

#[must_use]
pub fn pivot(name: &str) -> Value {
    json!({"name": name, "service": "shop", "role": "pivot", "action": {"path": format!("/{name}")}})
}

#[must_use]
pub fn retriable(name: &str) -> Value {
    json!({"name": name, "service": "shop", "role": "retriable", "action": {"path": format!("/{name}")}})
}

#[must_use]
pub fn tcc(name: &str) -> Value {
    json!({"name": name, "service": "shop", "try": {"path": format!("/{name}")},
        "confirm": {"path": format!("/{name}/confirm")}, "cancel": {"path": format!("/{name}/cancel")}})
}

/// The body that enlists a branch whose try the coordinator calls.
#[must_use]
pub fn enlist(url: &str, branch: &str) -> Value {
    json!({"branch": branch, "try": {"url": format!("{url}/{branch}")},
        "confirm": {"url": format!("{url}/{branch}/confirm")}, "cancel": {"url": format!("{url}/{branch}/cancel")},
        "body": {"amount": 1}})
}
