//! What an expression gives, what is wrong with it whatever comes, and what it may cost.
//!
//! Only what can never work is told, and what is known to be absent sometimes; `has(…)`, `coalesce` and `in` answer for
//! the latter: `has(x) && …`, `!has(x) || …`, `has(x) ? … : …`. It goes through the tree once.

mod fits;
mod guard;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::{
    Expression, ITEMS,
    lower::{Loop, LoopBody, Op, Read, push},
    types::{Kinds, Member, Presence, Type},
    value::Val,
};
use crate::{
    limit,
    path::{Path, Segment},
};

use fits::result;
pub(crate) use guard::Facts;
use guard::{Asked, Way};

/// What the roots are where an expression stands.
pub(crate) trait Roots {
    fn root(&self, path: &Path) -> Root;
}

/// What a root holds at a path.
pub(crate) struct Root {
    pub(crate) kind: Type,
    /// Segments of the path that lead to it.
    pub(crate) taken: usize,
    pub(crate) presence: Presence,
}

/// What is wrong with an expression.
#[derive(Debug, Clone)]
pub(crate) struct Flaw {
    pub(crate) what: What,
    pub(crate) message: String,
}

#[derive(Debug, Clone)]
pub(crate) enum What {
    /// Of this path, which may be absent; or else the output of this step.
    Absent { path: String },
    /// There never is such a member; what there is instead.
    NoMember { written: String, of: Option<Type>, help: Option<&'static str> },
    /// A value of that kind is never taken there.
    Unfit { help: Option<&'static str> },
}

/// What an expression comes to.
#[derive(Debug)]
pub(crate) struct Inferred {
    pub(crate) kind: Type,
    pub(crate) flaws: Vec<Flaw>,
    /// Steps of evaluation, for lists as long as is known; unbounded ones count as one item.
    pub(crate) cost: u64,
    /// What was gone through, with how many items it may have.
    pub(crate) bounds: Vec<(String, u64)>,
}

/// A plain path.
pub(crate) fn path(path: &Path, roots: &dyn Roots, known: &Facts) -> Inferred {
    let mut infer = Infer::new(&[], roots, known);
    let kind = infer.root(path);
    Inferred { kind, flaws: infer.flaws, cost: 0, bounds: Vec::new() }
}

impl Expression {
    pub(crate) fn infer(&self, roots: &dyn Roots, known: &Facts) -> Inferred {
        let mut infer = Infer::new(&self.reads, roots, known);
        let (kind, cost) = infer.op(&self.op);
        let cost = cost.saturating_add(infer.reading).saturating_add(kind.weight().min(VALUES));
        Inferred { kind, flaws: infer.flaws, cost, bounds: infer.bounds }
    }
}

struct Infer<'a> {
    reads: &'a [Read],
    roots: &'a dyn Roots,
    known: &'a Facts,
    /// What is known to be there where this stands.
    facts: Vec<Way>,
    /// The items of the comprehensions around, outermost first.
    locals: Vec<Item>,
    /// `coalesce` around: there absence is no fault.
    lenient: usize,
    flaws: Vec<Flaw>,
    /// Once for each path that is read, however often.
    reading: u64,
    read: Vec<bool>,
    bounds: Vec<(String, u64)>,
}

type Known = (Type, u64);

/// Of a comprehension.
#[derive(Clone)]
struct Item {
    name: String,
    kind: Type,
    /// How many there are at most, as far as is known.
    count: u64,
}

/// Values that 256 KiB of JSON hold at most, the limit of an input, an output and a result: each takes two bytes.
const VALUES: u64 = (limit::INPUT as u64) / 2;

impl<'a> Infer<'a> {
    fn new(reads: &'a [Read], roots: &'a dyn Roots, known: &'a Facts) -> Self {
        Self {
            reads,
            roots,
            known,
            facts: Vec::new(),
            locals: Vec::new(),
            lenient: 0,
            flaws: Vec::new(),
            reading: 0,
            read: vec![false; reads.len()],
            bounds: Vec::new(),
        }
    }

    fn op(&mut self, op: &Op) -> Known {
        let (kind, cost) = match op {
            Op::Const(value) => (of_constant(value), 0),
            Op::Read(index) => (self.read(*index), 0),
            Op::Local(out) => (self.local(*out).map_or(Type::DYN, |item| item.kind.clone()), 0),
            Op::Has(index) => {
                // What is asked for may be absent at any name, but none of the names may be a slip.
                let before = self.flaws.len();
                if let Some(read) = self.reads.get(*index) {
                    self.root(&read.path);
                }
                let told = self.flaws.split_off(before);
                self.flaws.extend(told.into_iter().filter(|flaw| !matches!(flaw.what, What::Absent { .. })));
                (Type::BOOL, 0)
            }
            Op::HasField(operand, field) => self.has_field(operand, field),
            Op::Select(operand, field) => {
                let (kind, cost) = self.op(operand);
                let way = self.way(operand);
                (self.below(&kind, &Segment::Key(field.clone()), || way), cost)
            }
            Op::Index(both) => self.index(both),
            Op::List(items) => {
                let items: Vec<_> = items.iter().map(|item| self.op(item)).collect();
                let cost = items.iter().fold(0, |sum: u64, (_, cost)| sum.saturating_add(*cost));
                (Type::list_of(items.into_iter().map(|(kind, _)| kind)), cost)
            }
            Op::Map(entries) => self.map(entries),
            Op::Not(operand) => {
                let (kind, cost) = self.op(operand);
                self.needs(&kind, Kinds::BOOL, "`!`", operand);
                (Type::BOOL, cost)
            }
            Op::Negate(operand) => {
                let (kind, cost) = self.op(operand);
                let taken = Kinds::INT.or(Kinds::DOUBLE);
                self.needs(&kind, taken, "`-`", operand);
                (result(kind.kinds.and(taken)), cost)
            }
            Op::And(both) => self.logic(both, "`&&`", true),
            Op::Or(both) => self.logic(both, "`||`", false),
            Op::If(three) => self.condition(three),
            Op::Binary(binary, both) => {
                let ((a, one), (b, two)) = (self.op(&both[0]), self.op(&both[1]));
                let (kind, own) = self.binary(*binary, &a, &b, both);
                (kind, one.saturating_add(two).saturating_add(own))
            }
            Op::Call(function, args) => self.call(*function, args),
            Op::Loop(looped) => self.comprehension(looped),
        };
        (kind, cost.saturating_add(1))
    }

    fn local(&self, out: usize) -> Option<&Item> {
        self.locals.len().checked_sub(out + 1).and_then(|at| self.locals.get(at))
    }

    fn read(&mut self, index: usize) -> Type {
        let Some(read) = self.reads.get(index) else { return Type::DYN };
        let kind = self.root(&read.path);
        if !std::mem::replace(&mut self.read[index], true) {
            self.reading = self.reading.saturating_add(kind.weight().min(VALUES));
        }
        kind
    }

    fn root(&mut self, path: &Path) -> Type {
        let Root { kind, taken, presence } = self.roots.root(path);
        let upto = |end: usize| {
            let mut way = Path { source: path.root.clone(), root: path.root.clone(), segments: Vec::new() };
            path.segments.iter().take(end).for_each(|segment| push(&mut way, segment.clone()));
            Some(Way { local: None, path: way })
        };
        if presence == Presence::Optional {
            self.absent(upto(taken));
        }
        let mut kind = kind;
        for (index, segment) in path.segments.iter().enumerate().skip(taken) {
            kind = self.below(&kind, segment, || upto(index));
        }
        kind
    }

    /// One segment further; `way` leads to what it is a segment of.
    fn below(&mut self, kind: &Type, segment: &Segment, way: impl FnOnce() -> Option<Way>) -> Type {
        let (container, wanted) = match segment {
            Segment::Key(_) => (Kinds::MAP, "a member"),
            Segment::Index(_) => (Kinds::LIST, "an item"),
        };
        let help = match segment {
            Segment::Key(_) if kind.kinds == Kinds::LIST => {
                Some("Read one item, as in list[0].name, or all with map().")
            }
            Segment::Index(_) if kind.kinds == Kinds::MAP => Some("Read a member by its name."),
            Segment::Key(_) | Segment::Index(_) => None,
        };
        if !kind.kinds.may_be(container) {
            let shown = way().map_or_else(|| "this".to_owned(), |way| quoted(&way.path.source));
            let message = format!("{shown} is {}, and {wanted} of it is read", kind.kinds.describe());
            self.flaw(What::NoMember { written: String::new(), of: None, help }, message);
            return Type::DYN;
        }
        match segment {
            Segment::Index(_) => kind.list.as_ref().map_or(Type::DYN, |list| list.item.clone()),
            Segment::Key(key) => {
                let Some(map) = &kind.map else { return Type::DYN };
                match (map.members.get(key.as_str()), &map.rest) {
                    (Some(member), _) => {
                        if member.presence == Presence::Optional {
                            let mut way = way();
                            way.iter_mut().for_each(|way| push(&mut way.path, segment.clone()));
                            self.absent(way);
                        }
                        member.kind.clone()
                    }
                    (None, Some(rest)) => rest.clone(),
                    (None, None) => self.no_member(kind, key, way()),
                }
            }
        }
    }

    fn no_member(&mut self, kind: &Type, key: &str, way: Option<Way>) -> Type {
        let shown = way.map_or_else(|| "this".to_owned(), |way| quoted(&way.path.source));
        let message = format!("{shown} has no {}", quoted(key));
        self.flaw(What::NoMember { written: key.to_owned(), of: Some(kind.clone()), help: None }, message);
        Type::DYN
    }

    /// What may be absent is read there.
    fn absent(&mut self, way: Option<Way>) {
        let is_known = |way: &Way| self.known.hold(way) || self.facts.iter().any(|fact| fact.holds(way));
        if self.lenient > 0 || way.as_ref().is_some_and(is_known) {
            return;
        }
        let path = way.map_or_else(String::new, |way| way.path.source);
        let message = if path.is_empty() {
            "what is read may be absent".to_owned()
        } else {
            format!("{} may be absent", quoted(&path))
        };
        self.flaw(What::Absent { path }, message);
    }

    /// Once each.
    fn flaw(&mut self, what: What, message: String) {
        if !self.flaws.iter().any(|flaw| flaw.message == message) {
            self.flaws.push(Flaw { what, message });
        }
    }

    fn unfit(&mut self, message: String, help: Option<&'static str>) {
        self.flaw(What::Unfit { help }, message);
    }

    fn needs(&mut self, kind: &Type, taken: Kinds, what: &str, op: &Op) {
        if !kind.kinds.may_be(taken) {
            self.unfit(format!("{what} does not take {}", self.type_label(kind, op)), None);
        }
    }

    fn must_be(&mut self, kind: &Type, wanted: Kinds, what: &str, op: Option<&Op>) {
        if !kind.kinds.may_be(wanted) {
            let said = op.map_or_else(|| kind.kinds.describe(), |op| self.type_label(kind, op));
            self.unfit(format!("{what} is {said} and not {}", wanted.describe()), None);
        }
    }

    /// What a value is, with its name where it has one.
    fn type_label(&self, kind: &Type, op: &Op) -> String {
        let described = kind.kinds.describe();
        match self.way(op) {
            Some(way) if way.path.source.len() <= 60 => format!("{described} (`{}`)", way.path.source),
            Some(_) | None => described,
        }
    }

    fn has_field(&mut self, operand: &Op, field: &str) -> Known {
        let (kind, cost) = self.op(operand);
        let way = self.way(operand);
        if !kind.kinds.may_be(Kinds::MAP) {
            self.below(&kind, &Segment::Key(field.to_owned()), || way);
        } else if let Some(map) = &kind.map
            && map.rest.is_none()
            && !map.members.contains_key(field)
        {
            self.no_member(&kind, field, way);
        }
        (Type::BOOL, cost)
    }

    fn index(&mut self, both: &[Op; 2]) -> Known {
        let ((value, one), (index, two)) = (self.op(&both[0]), self.op(&both[1]));
        let cost = one.saturating_add(two);
        let way = self.way(&both[0]);
        let kind = match constant_segment(&both[1]) {
            Some(segment) => self.below(&value, &segment, || way),
            None => {
                let fits = value.kinds.may_be(Kinds::LIST) && index.kinds.may_be(Kinds::NUMBER)
                    || value.kinds.may_be(Kinds::MAP) && index.kinds.may_be(Kinds::TEXT);
                if !fits {
                    self.pair("[]", &value, &index, both, None);
                }
                // Of a map any member.
                if value.kinds.may_be(Kinds::MAP) { Type::DYN } else { value.item() }
            }
        };
        (kind, cost)
    }

    fn map(&mut self, entries: &[(Op, Op)]) -> Known {
        let (mut members, mut rest, mut sum) = (BTreeMap::new(), None, 0_u64);
        for (key, value) in entries {
            let (written, one) = self.op(key);
            let (kind, two) = self.op(value);
            sum = sum.saturating_add(one).saturating_add(two);
            self.must_be(&written, Kinds::TEXT, "a map's key", Some(key));
            match key {
                Op::Const(Val::Text(key)) => {
                    members.insert((&**key).into(), Member { kind, presence: Presence::Assumed });
                }
                _ => rest = Some(Type::DYN),
            }
        }
        (Type::map(members, rest), sum)
    }

    /// Each side may count on what the other says is there: one that decides wins over an error of the other.
    fn logic(&mut self, both: &[Op; 2], name: &str, says: bool) -> Known {
        let of_right = self.facts_of(&both[1], says, Asked::Safely);
        let (left, one) = self.with(of_right, &both[0]);
        let of_left = self.facts_of(&both[0], says, Asked::Anyhow);
        let (right, two) = self.with(of_left, &both[1]);
        for (side, op) in [left, right].iter().zip(both) {
            self.needs(side, Kinds::BOOL, name, op);
        }
        (Type::BOOL, one.saturating_add(two))
    }

    fn condition(&mut self, three: &[Op; 3]) -> Known {
        let (test, cost) = self.op(&three[0]);
        self.must_be(&test, Kinds::BOOL, "the condition before `?`", Some(&three[0]));
        let (yes, no) = (self.facts_of(&three[0], true, Asked::Anyhow), self.facts_of(&three[0], false, Asked::Anyhow));
        let (then, one) = self.with(yes, &three[1]);
        let (otherwise, two) = self.with(no, &three[2]);
        (then.join(&otherwise), cost.saturating_add(one.max(two)))
    }

    fn comprehension(&mut self, looped: &Loop) -> Known {
        let (range, cost) = self.op(&looped.range);
        if !range.kinds.may_be(Kinds::LIST.or(Kinds::MAP)) {
            let said = self.type_label(&range, &looped.range);
            self.unfit(format!("{said} has no items to go through"), None);
        }
        let way = self.way(&looped.range);
        // What the items of one list hold came in one input, too.
        let around = way.as_ref().and_then(|way| self.locals.get(way.local?)).map_or(1, |item| item.count.max(1));
        let most = range.most().map(|most| most.min(ITEMS as u64).min(VALUES.div_ceil(around)));
        if let Some(most) = range.most() {
            let shown = way.map_or_else(|| looped.name.clone(), |way| way.path.source);
            if !self.bounds.iter().any(|(known, _)| *known == shown) {
                self.bounds.push((shown, most));
            }
        }
        self.locals.push(Item { name: looped.name.clone(), kind: range.item(), count: most.unwrap_or(1) });
        let (kind, body) = match &looped.body {
            LoopBody::All(test) => self.test(test, "`all`", Type::BOOL),
            LoopBody::Exists(test) => self.test(test, "`exists`", Type::BOOL),
            LoopBody::ExistsOne(test) => self.test(test, "`exists_one`", Type::BOOL),
            LoopBody::Map { test: None, item } => self.op(item),
            LoopBody::Map { test: Some(test), item } => {
                let (_, tested) = self.test(test, "`filter`", Type::BOOL);
                let facts = self.facts_of(test, true, Asked::Anyhow);
                let (kind, made) = self.with(facts, item);
                (kind, tested.saturating_add(made))
            }
        };
        self.locals.pop();
        let kind = match &looped.body {
            LoopBody::Map { .. } => Type::list(kind, most),
            LoopBody::All(_) | LoopBody::Exists(_) | LoopBody::ExistsOne(_) => kind,
        };
        (kind, cost.saturating_add(most.unwrap_or(1).saturating_mul(body)))
    }

    fn test(&mut self, test: &Op, name: &str, gives: Type) -> Known {
        let (kind, cost) = self.op(test);
        self.must_be(&kind, Kinds::BOOL, &format!("the test of {name}"), Some(test));
        (gives, cost)
    }
}

fn of_constant(value: &Val) -> Type {
    Type::of(match value {
        Val::Null => Kinds::NULL,
        Val::Bool(_) => Kinds::BOOL,
        Val::Int(_) => Kinds::INT,
        Val::Uint(_) => Kinds::UINT,
        Val::Double(_) | Val::Number(_) => Kinds::DOUBLE,
        Val::Text(_) => Kinds::TEXT,
        Val::Bytes(_) => Kinds::BYTES,
        Val::List(_) => Kinds::LIST,
        Val::Map(_) => Kinds::MAP,
    })
}

fn constant_segment(op: &Op) -> Option<Segment> {
    match op {
        Op::Const(Val::Int(index)) => usize::try_from(*index).ok().map(Segment::Index),
        Op::Const(Val::Text(key)) => Some(Segment::Key(key.to_string())),
        _ => None,
    }
}

fn quoted(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("`{}…`", &text[..end]),
        None => format!("`{text}`"),
    }
}
