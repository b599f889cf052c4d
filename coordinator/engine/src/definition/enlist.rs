//! A branch of an open transaction: the operations of the language, read from a request.

use std::collections::BTreeMap;

use skald_protocol::{BranchRequest, OperationKind};

use crate::{
    definition::{
        Diagnostic,
        check::{
            safety,
            scope::{ENLISTED, Scope},
            types,
        },
        diagnostic::Code,
        lower::defaults::Filling,
        syntax::{
            document::Defaults,
            json,
            operation::{Draft, Inherited, Known},
            read::{Faults, Node, Object, Place, quote},
        },
    },
    plan::{Body, Branch, Operation, Role},
    value::{Map, Value},
};

/// Lowers a branch enlisted into an open transaction; pointers are into the request's body.
///
/// Services are those of the server's configuration, known where the call is sent. Without a `try` the client makes the
/// forward call itself, so nothing of it but its idempotency key can be read.
pub fn enlist(request: &BranchRequest) -> Result<Branch, Vec<Diagnostic>> {
    enlisted(request).map_err(|mut faults| {
        // Only parts of the body come this far: lines of one of them would mislead.
        faults.iter_mut().for_each(|fault| fault.position = None);
        faults
    })
}

fn enlisted(request: &BranchRequest) -> Result<Branch, Vec<Diagnostic>> {
    let mut faults = Faults::new();
    let Some(value) = parts(request, &mut faults) else { return Err(faults.into_list()) };
    let branch = read(request, &value, &mut faults);
    match branch {
        Some(branch) if faults.is_empty() => Ok(branch),
        _ => Err(faults.into_list()),
    }
}

/// The request as one value again, as far as the language speaks in it.
fn parts(request: &BranchRequest, faults: &mut Faults) -> Option<Value> {
    let root = Place::default();
    let operation = |operation: &skald_protocol::EnlistedOperation| operation.0.clone();
    let parts = [
        ("try", request.try_.as_ref().map(operation)),
        ("confirm", Some(operation(&request.confirm))),
        ("cancel", Some(operation(&request.cancel))),
        ("body", request.body.clone()),
    ];
    let mut members = Map::new();
    for (name, part) in parts {
        if let Some(json) = part
            && let Some(value) = json::parse(json.text(), &root.key(name), faults)
        {
            members.insert(name.to_owned(), value);
        }
    }
    if let Some(service) = &request.service {
        members.insert("service".to_owned(), service.clone().into());
    }
    faults.is_empty().then_some(Value::Object(members))
}

fn read(request: &BranchRequest, value: &Value, faults: &mut Faults) -> Option<Branch> {
    let mut object = Node::new(value, Place::default()).object(faults)?;
    let id = request.branch.as_str();
    if id.contains('.') {
        let place = object.place.key("branch");
        faults.add(
            Code::InvalidValue,
            &place,
            format!("{} is not a branch's name: [A-Za-z0-9_~-], at most 256", quote(id)),
        );
    }
    let known = Known { services: None, retries: BTreeMap::new() };
    let inherited = object.take("service").map(|node| Inherited { name: known.service(&node, faults) });
    let scope = Scope { roots: ENLISTED, own: &["idempotency_key"], steps: None, ..Scope::default() };
    let called = request.try_.is_some();
    let body = object.take("body").filter(|node| !node.value.is_null()).and_then(|node| {
        let template = node.template(faults)?;
        scope.template(&template, &node.place, faults);
        Some(Body::Given(template))
    });
    let filling = Filling {
        known: &known,
        defaults: &Defaults::default(),
        retry: None,
        tail: false,
        pivot: false,
        forward_body: &body.clone().unwrap_or(Body::None),
        settling_body: &body.unwrap_or(if called { Body::Forward } else { Body::None }),
    };
    let mut operation = |object: &mut Object<'_>, name, kind| -> Option<Operation> {
        let node = object.take(name)?;
        let draft = Draft::read(&node, kind, inherited.as_ref(), &known, faults);
        scope.operation(&draft, called, &mut |scope, place, template| scope.template(template, place, faults));
        types::check_enlisted(&draft, faults);
        safety::on_exhausted(&draft, Role::Tcc, faults);
        Some(filling.operation(&draft))
    };
    Some(Branch {
        forward: operation(&mut object, "try", OperationKind::Try),
        confirm: operation(&mut object, "confirm", OperationKind::Confirm),
        undo: operation(&mut object, "cancel", OperationKind::Cancel),
        ..Branch::new(request.branch.clone(), id, Role::Tcc)
    })
}
