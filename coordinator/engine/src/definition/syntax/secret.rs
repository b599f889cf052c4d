//! E208: a secret is never stored, so nothing that is may hold one.

use crate::{
    definition::{
        diagnostic::Code,
        syntax::{
            read::{Faults, Node, Place},
            service::is_name,
        },
    },
    value::Value,
};

/// Refuses every `{"secret": name}` in what is rendered; true if there was one. What only looks alike, with more members
/// or a value that is no name, is data.
pub(in crate::definition) fn refuse(node: &Node<'_>, faults: &mut Faults) -> bool {
    let before = faults.len();
    find(node.value, &node.place, faults);
    faults.len() > before
}

/// JSON nests no deeper than `limit::JSON_DEPTH`.
fn find<'a>(value: &'a Value, place: &Place<'a>, faults: &mut Faults) {
    match value {
        Value::Object(members) => {
            if members.len() == 1
                && let Some(Value::String(name)) = members.get("secret")
                && is_name(name)
            {
                let message = "a secret where it would be stored";
                let help =
                    "Secrets stand in a service's `auth` and `headers` alone: add one there, and call through it.";
                faults.add_with(Code::MisplacedSecret, place, message, help);
                return;
            }
            members.iter().for_each(|(key, member)| find(member, &place.key(key), faults));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| find(item, &place.index(index), faults));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
