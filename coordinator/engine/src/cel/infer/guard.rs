//! What is there because it was asked for: `has(x) && …`, `!has(x) || …`, `has(x) ? … : …`, `'x' in y && …`.

use super::{Infer, Known, Root, Roots, constant_segment};
use crate::{
    cel::{
        Expression,
        lower::{Op, push},
        operators::Binary,
        types::{Presence, Type},
        value::Val,
    },
    path::{Path, Segment},
};

/// What an expression that came out true says is there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts(Vec<Way>);

/// A way from a root or from the item of a comprehension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Way {
    /// Of the comprehensions around, outermost first.
    pub(super) local: Option<usize>,
    pub(super) path: Path,
}

/// Of the conditions around one step; what is not known is asked for again.
const MOST: usize = 256;

impl Expression {
    /// What is there where this came to `says`.
    pub(crate) fn facts(&self, says: bool, known: &mut Facts) {
        struct Nowhere;
        impl Roots for Nowhere {
            fn root(&self, path: &Path) -> Root {
                Root { kind: Type::DYN, taken: path.segments.len(), presence: Presence::Assumed }
            }
        }
        if known.0.len() >= MOST {
            return;
        }
        let before = Facts::default();
        let found = Infer::new(&self.reads, &Nowhere, &before).facts_of(&self.op, says, Asked::Anyhow);
        let room = MOST - known.0.len();
        known.0.extend(found.into_iter().take(room));
    }
}

/// How something was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Anyhow,
    /// In a way that does not fail whatever is absent.
    Safely,
}

impl Facts {
    /// Below a name that means something else from here on nothing is known.
    pub(crate) fn forget(&mut self, root: &str) {
        self.0.retain(|way| way.path.root != root);
    }

    pub(super) fn hold(&self, way: &Way) -> bool {
        self.0.iter().any(|fact| fact.holds(way))
    }
}

impl Infer<'_> {
    pub(super) fn with(&mut self, facts: Vec<Way>, op: &Op) -> Known {
        let before = self.facts.len();
        self.facts.extend(facts);
        let known = self.op(op);
        self.facts.truncate(before);
        known
    }

    /// What is there if `op` comes to `says`.
    pub(super) fn facts_of(&self, op: &Op, says: bool, asked: Asked) -> Vec<Way> {
        match (op, says) {
            (Op::Has(index), true) => {
                let path = self.reads.get(*index).map(|read| read.path.clone());
                path.map(|path| Way { local: None, path }).into_iter().collect()
            }
            (Op::HasField(operand, field), true) if asked == Asked::Anyhow || matches!(**operand, Op::Local(_)) => {
                self.member(operand, field).into_iter().collect()
            }
            (Op::Binary(Binary::In, both), true) if asked == Asked::Anyhow => match &both[0] {
                Op::Const(Val::Text(key)) => self.member(&both[1], key).into_iter().collect(),
                _ => Vec::new(),
            },
            (Op::Not(operand), _) => self.facts_of(operand, !says, asked),
            (Op::And(both), true) | (Op::Or(both), false) => {
                let mut facts = self.facts_of(&both[0], says, asked);
                facts.extend(self.facts_of(&both[1], says, asked));
                facts
            }
            _ => Vec::new(),
        }
    }

    fn member(&self, operand: &Op, field: &str) -> Option<Way> {
        let mut way = self.way(operand)?;
        push(&mut way.path, Segment::Key(field.to_owned()));
        Some(way)
    }

    pub(super) fn way(&self, op: &Op) -> Option<Way> {
        match op {
            Op::Read(index) => Some(Way { local: None, path: self.reads.get(*index)?.path.clone() }),
            Op::Local(out) => {
                let at = self.locals.len().checked_sub(out + 1)?;
                let name = self.locals.get(at)?.name.clone();
                let path = Path { source: name.clone(), root: name, segments: Vec::new() };
                Some(Way { local: Some(at), path })
            }
            Op::Select(operand, field) => self.member(operand, field),
            Op::Index(both) => {
                let mut way = self.way(&both[0])?;
                push(&mut way.path, constant_segment(&both[1])?);
                Some(way)
            }
            _ => None,
        }
    }
}

impl Way {
    /// Whether what is there at the end of this way is there on the other, too.
    pub(super) fn holds(&self, other: &Self) -> bool {
        self.local == other.local
            && self.path.root == other.path.root
            && self.path.segments.starts_with(&other.path.segments)
    }
}
