//! What an included workflow is given, against the schema of its input: E204, E206.
//!
//! Nothing checks it again when it runs, so what can never fit is told here. What may fit is let through.

use std::cell::Cell;

use crate::{
    cel::types::{Kinds, Map, Presence, Type},
    definition::{
        diagnostic::Code,
        syntax::read::{Faults, quote},
    },
    value::pointer::escape,
};

/// What is given, where it stands, and to whom.
pub(in crate::definition) struct Given<'g> {
    pub(in crate::definition) kind: &'g Type,
    /// Of the `input`, or of the step where it is the including transaction's own.
    pub(in crate::definition) pointer: String,
    /// Whether something is written at a pointer below.
    pub(in crate::definition) is_written: &'g dyn Fn(&str) -> bool,
    pub(in crate::definition) title: &'g str,
    /// Members that are still looked at: one schema may be asked for in a thousand steps.
    pub(in crate::definition) left: Cell<usize>,
}

/// Of one step.
pub(in crate::definition) const LOOKED_AT: usize = 1_000;

impl Given<'_> {
    pub(in crate::definition) fn check(&self, wanted: &Type, faults: &mut Faults) {
        self.value(self.kind, wanted, "", faults);
    }

    /// Types nest no deeper than JSON does.
    fn value(&self, given: &Type, wanted: &Type, below: &str, faults: &mut Faults) {
        if !given.kinds.may_be(wanted.kinds) {
            let (given, wanted) = (given.kinds.describe(), wanted.kinds.describe());
            let name = below.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("input");
            let message = format!("{} is {given}, and the workflow {} takes {wanted}", quote(name), self.title);
            faults.add_at(Code::WrongType, self.pointer(below), message, None);
            return;
        }
        if given.kinds == Kinds::MAP
            && let (Some(given), Some(wanted)) = (&given.map, &wanted.map)
        {
            self.members(given, wanted, below, faults);
        }
        if let (Some(given), Some(wanted)) = (&given.list, &wanted.list) {
            self.value(&given.item, &wanted.item, below, faults);
        }
    }

    fn members(&self, given: &Map, wanted: &Map, below: &str, faults: &mut Faults) {
        for (name, member) in &wanted.members {
            let Some(left) = self.left.get().checked_sub(1) else { return };
            self.left.set(left);
            let required = member.presence == Presence::Required;
            match given.members.get(name) {
                Some(known) => {
                    let below = format!("{below}/{}", escape(name));
                    if required && known.presence == Presence::Optional {
                        let message =
                            format!("{} may be absent, and the workflow {} requires it", quote(name), self.title);
                        let help = format!("Name {} in the `required` of the schema that it comes from.", quote(name));
                        faults.add_at(Code::MayBeAbsent, self.pointer(&below), message, Some(help));
                    }
                    self.value(&known.kind, &member.kind, &below, faults);
                }
                None if required && given.rest.is_none() => {
                    let others = given.members.keys().filter(|name| !wanted.members.contains_key(*name));
                    let help = faults
                        .nearest(name, others.map(|name| &**name))
                        .map(|near| near.replace("Did you mean", "Is it what is given as"));
                    let message = format!("{} is missing: the workflow {} requires it", quote(name), self.title);
                    faults.add_at(Code::WrongType, self.pointer(below), message, help);
                }
                None => {}
            }
        }
    }

    /// As far down as something is written.
    fn pointer(&self, below: &str) -> String {
        let mut end = below.len();
        while !(self.is_written)(&below[..end]) {
            end = below[..end].rfind('/').unwrap_or(0);
            if end == 0 {
                break;
            }
        }
        format!("{}{}", self.pointer, &below[..end])
    }
}
