//! Definitions written briefly.

use serde_json::{Value, json};

/// A definition with these steps on one service.
pub(crate) fn saga(steps: &Value) -> Value {
    json!({"dsl": "1.0", "name": "order", "version": "1.0.0", "services": {"shop": {"url": "http://shop"}}, "steps": steps})
}

/// An action that is undone by its key.
pub(crate) fn step(name: &str) -> Value {
    json!({"name": name, "service": "shop", "action": {"path": format!("/{name}")},
        "compensate": {"path": format!("/{name}/undo"), "body": {"key": "${self.idempotency_key}"}}})
}

pub(crate) fn pivot(name: &str) -> Value {
    json!({"name": name, "service": "shop", "role": "pivot",
        "action": {"path": format!("/{name}"), "status_check": {"path": format!("/{name}")}}})
}

pub(crate) fn retriable(name: &str) -> Value {
    json!({"name": name, "service": "shop", "role": "retriable", "action": {"path": format!("/{name}")}})
}

pub(crate) fn tcc(name: &str) -> Value {
    json!({"name": name, "service": "shop", "try": {"path": format!("/{name}")},
        "confirm": {"path": format!("/{name}/confirm"), "body": {"key": "${self.idempotency_key}"}},
        "cancel": {"path": format!("/{name}/cancel"), "body": {"key": "${self.idempotency_key}"}}})
}

/// With what `more` says over it.
pub(crate) fn with(mut value: Value, more: &Value) -> Value {
    for (key, more) in more.as_object().unwrap() {
        match (value.get(key), more) {
            (Some(Value::Object(_)), Value::Object(_)) => {
                let inner = with(value[key].clone(), more);
                value[key] = inner;
            }
            _ => value[key] = more.clone(),
        }
    }
    value
}
