//! What an expression gives, what is wrong with it whatever comes, and what it may cost.
//!
//! Only what can never work is told, and what is known to be absent sometimes; `has(…)`, `coalesce` and `in` answer for
//! the latter: `has(x) && …`, `!has(x) || …`, `has(x) ? … : …`. It goes through the tree once.

use std::collections::BTreeMap;

use super::{
    Expression, ITEMS,
    function::Function,
    lower::{Binary, Loop, LoopBody, Op, Read, push},
    types::{Kinds, Member, Presence, Type},
    value::Val,
};
use crate::{
    limit,
    path::{Path, Segment},
};

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

/// What an expression that came out true says is there.
#[derive(Debug, Default)]
pub(crate) struct Facts(Vec<Way>);

/// A way from a root or from the item of a comprehension.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Way {
    /// Of the comprehensions around, outermost first.
    local: Option<usize>,
    path: Path,
}

const CONVERT: &str = "Convert one with int(), uint() or double().";

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

    /// What is there where this is true.
    #[allow(dead_code, reason = "steps have no conditions yet")]
    pub(crate) fn facts(&self, known: &mut Facts) {
        struct Nowhere;
        impl Roots for Nowhere {
            fn root(&self, path: &Path) -> Root {
                Root { kind: Type::DYN, taken: path.segments.len(), presence: Presence::Assumed }
            }
        }
        let before = Facts::default();
        let found = Infer::new(&self.reads, &Nowhere, &before).facts_of(&self.op, true);
        known.0.extend(found);
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
            Op::Has(_) => (Type::BOOL, 0),
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
                self.needs(&kind, Kinds::BOOL, "`!`");
                (Type::BOOL, cost)
            }
            Op::Negate(operand) => {
                let (kind, cost) = self.op(operand);
                let taken = Kinds::INT.or(Kinds::DOUBLE);
                self.needs(&kind, taken, "`-`");
                (result(kind.kinds.and(taken)), cost)
            }
            Op::And(both) => self.logic(both, "`&&`", true),
            Op::Or(both) => self.logic(both, "`||`", false),
            Op::If(three) => self.condition(three),
            Op::Binary(binary, both) => {
                let ((a, one), (b, two)) = (self.op(&both[0]), self.op(&both[1]));
                let (kind, own) = self.binary(*binary, &a, &b);
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
        let is_known = |way: &Way| self.facts.iter().chain(&self.known.0).any(|fact| fact.holds(way));
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

    fn needs(&mut self, kind: &Type, taken: Kinds, what: &str) {
        if !kind.kinds.may_be(taken) {
            self.unfit(format!("{what} does not take {}", kind.kinds.describe()), None);
        }
    }

    fn must_be(&mut self, kind: &Type, wanted: Kinds, what: &str) {
        if !kind.kinds.may_be(wanted) {
            self.unfit(format!("{what} is {} and not {}", kind.kinds.describe(), wanted.describe()), None);
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
                    self.pair("[]", &value, &index, None);
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
            self.must_be(&written, Kinds::TEXT, "a map's key");
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
        let of_right = self.certain(&both[1], says);
        let (left, one) = self.with(of_right, &both[0]);
        let of_left = self.facts_of(&both[0], says);
        let (right, two) = self.with(of_left, &both[1]);
        for side in [left, right] {
            self.needs(&side, Kinds::BOOL, name);
        }
        (Type::BOOL, one.saturating_add(two))
    }

    fn condition(&mut self, three: &[Op; 3]) -> Known {
        let (test, cost) = self.op(&three[0]);
        self.must_be(&test, Kinds::BOOL, "the condition before `?`");
        let (yes, no) = (self.facts_of(&three[0], true), self.facts_of(&three[0], false));
        let (then, one) = self.with(yes, &three[1]);
        let (otherwise, two) = self.with(no, &three[2]);
        (then.join(&otherwise), cost.saturating_add(one.max(two)))
    }

    fn with(&mut self, facts: Vec<Way>, op: &Op) -> Known {
        let before = self.facts.len();
        self.facts.extend(facts);
        let known = self.op(op);
        self.facts.truncate(before);
        known
    }

    /// What is there if `op` comes to `says`.
    fn facts_of(&self, op: &Op, says: bool) -> Vec<Way> {
        match (op, says) {
            (Op::Has(index), true) => {
                let path = self.reads.get(*index).map(|read| read.path.clone());
                path.map(|path| Way { local: None, path }).into_iter().collect()
            }
            (Op::HasField(operand, field), true) => self.member(operand, field).into_iter().collect(),
            (Op::Binary(Binary::In, both), true) => match &both[0] {
                Op::Const(Val::Text(key)) => self.member(&both[1], key).into_iter().collect(),
                _ => Vec::new(),
            },
            (Op::Not(operand), _) => self.facts_of(operand, !says),
            (Op::And(both), true) | (Op::Or(both), false) => {
                let mut facts = self.facts_of(&both[0], says);
                facts.extend(self.facts_of(&both[1], says));
                facts
            }
            _ => Vec::new(),
        }
    }

    /// As `facts_of`, but only what `op` says whatever else is absent.
    fn certain(&mut self, op: &Op, says: bool) -> Vec<Way> {
        let mut facts = self.facts_of(op, says);
        facts.retain(|fact| {
            let mut apart = Infer { locals: self.locals.clone(), ..Infer::new(self.reads, self.roots, self.known) };
            apart.facts.clone_from(&self.facts);
            let end = fact.path.segments.len().saturating_sub(1);
            match fact.local.map(|at| self.locals.get(at)) {
                None => {
                    let mut path = fact.path.clone();
                    path.segments.truncate(end);
                    let taken = apart.roots.root(&fact.path).taken;
                    end < taken || apart.root(&path).kinds != Kinds::NONE && apart.flaws.is_empty()
                }
                Some(local) => end == 0 && local.is_some(),
            }
        });
        facts
    }

    fn member(&self, operand: &Op, field: &str) -> Option<Way> {
        let mut way = self.way(operand)?;
        push(&mut way.path, Segment::Key(field.to_owned()));
        Some(way)
    }

    fn way(&self, op: &Op) -> Option<Way> {
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

    fn binary(&mut self, binary: Binary, a: &Type, b: &Type) -> Known {
        let (one, two) = (a.kinds, b.kinds);
        match binary {
            Binary::Equals | Binary::NotEquals => {
                let classes =
                    [Kinds::NULL, Kinds::BOOL, Kinds::NUMBER, Kinds::TEXT, Kinds::BYTES, Kinds::LIST, Kinds::MAP];
                let is_null = one == Kinds::NULL || two == Kinds::NULL;
                if !is_null && !classes.iter().any(|class| one.may_be(*class) && two.may_be(*class)) {
                    let message = format!("{} never equals {}", one.describe(), two.describe());
                    self.unfit(message, None);
                }
                (Type::BOOL, a.weight().min(b.weight()))
            }
            Binary::Less | Binary::LessEquals | Binary::Greater | Binary::GreaterEquals => {
                let classes = [Kinds::BOOL, Kinds::NUMBER, Kinds::TEXT, Kinds::BYTES];
                if !classes.iter().any(|class| one.may_be(*class) && two.may_be(*class)) {
                    self.pair(binary.name(), a, b, None);
                }
                (Type::BOOL, 0)
            }
            Binary::In => {
                let fits = two.may_be(Kinds::LIST) || two.may_be(Kinds::MAP) && one.may_be(Kinds::SCALAR);
                if !fits {
                    self.pair("in", a, b, None);
                }
                (Type::BOOL, b.most().unwrap_or(0).saturating_mul(a.weight()))
            }
            Binary::Add => {
                let kinds = [Kinds::INT, Kinds::UINT, Kinds::DOUBLE, Kinds::TEXT, Kinds::BYTES, Kinds::LIST];
                let most = a.most().zip(b.most()).map(|(a, b)| a.saturating_add(b));
                let kind = self.arithmetic(binary, a, b, &kinds);
                if kind.kinds == Kinds::LIST {
                    (Type::list(a.item().join(&b.item()), most), most.unwrap_or(0))
                } else {
                    (kind, 0)
                }
            }
            Binary::Subtract | Binary::Multiply | Binary::Divide => {
                (self.arithmetic(binary, a, b, &[Kinds::INT, Kinds::UINT, Kinds::DOUBLE]), 0)
            }
            Binary::Modulo => (self.arithmetic(binary, a, b, &[Kinds::INT, Kinds::UINT]), 0),
        }
    }

    /// Both sides are of one of these kinds.
    fn arithmetic(&mut self, binary: Binary, a: &Type, b: &Type, kinds: &[Kinds]) -> Type {
        let both = kinds.iter().filter(|kind| a.kinds.may_be(**kind) && b.kinds.may_be(**kind));
        let kinds = both.fold(Kinds::NONE, |all, kind| all.or(*kind));
        if kinds == Kinds::NONE {
            let numbers = a.kinds.may_be(Kinds::NUMBER) && b.kinds.may_be(Kinds::NUMBER);
            let text = a.kinds.may_be(Kinds::TEXT) || b.kinds.may_be(Kinds::TEXT);
            let help = match binary {
                Binary::Modulo if numbers => None,
                _ if numbers => Some(CONVERT),
                Binary::Add if text => Some("Convert the other one with string()."),
                _ => None,
            };
            self.pair(binary.name(), a, b, help);
        }
        result(kinds)
    }

    fn pair(&mut self, name: &str, a: &Type, b: &Type, help: Option<&'static str>) {
        self.unfit(format!("`{name}` does not take {} and {}", a.kinds.describe(), b.kinds.describe()), help);
    }

    fn call(&mut self, function: Function, args: &[Op]) -> Known {
        let lenient = usize::from(function == Function::Coalesce);
        self.lenient += lenient;
        let mut sum = 0_u64;
        let mut kinds = Vec::with_capacity(args.len());
        for arg in args {
            let (kind, cost) = self.op(arg);
            sum = sum.saturating_add(cost);
            kinds.push(kind);
        }
        self.lenient -= lenient;
        for (kind, taken) in kinds.iter().zip(function.takes()) {
            if !kind.kinds.may_be(*taken) {
                let name = function.name();
                let message = format!("`{name}` does not take {}", kind.kinds.describe());
                let help = (function == Function::Text).then_some("Write json() for the JSON text of a value.");
                self.unfit(message, help);
            }
        }
        let one = kinds.first().cloned().unwrap_or(Type::DYN);
        let kind = match function {
            Function::Size | Function::Int => Type::INT,
            Function::Contains | Function::StartsWith | Function::EndsWith | Function::Bool => Type::BOOL,
            Function::Text | Function::Base64 | Function::Sha256 | Function::UuidV5 | Function::Json => Type::TEXT,
            Function::Uint => Type::of(Kinds::UINT),
            Function::Double => Type::of(Kinds::DOUBLE),
            Function::Bytes => Type::of(Kinds::BYTES),
            Function::Dyn => Type::DYN,
            Function::Sum => {
                sum = sum.saturating_add(one.most().unwrap_or(0));
                let item = one.item();
                if one.kinds == Kinds::LIST {
                    self.must_be(&item, Kinds::NUMBER, "an item that `sum` adds");
                }
                // Of none it is the int 0.
                result(item.kinds.and(Kinds::NUMBER).or(Kinds::INT))
            }
            Function::Coalesce => {
                let first = Type::of(Kinds::NULL);
                kinds.iter().fold(first, |all, kind| all.join(kind))
            }
        };
        if function == Function::Json {
            sum = sum.saturating_add(one.weight());
        }
        (kind, sum)
    }

    fn comprehension(&mut self, looped: &Loop) -> Known {
        let (range, cost) = self.op(&looped.range);
        if !range.kinds.may_be(Kinds::LIST.or(Kinds::MAP)) {
            self.unfit(format!("{} has no items to go through", range.kinds.describe()), None);
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
                let facts = self.facts_of(test, true);
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
        self.must_be(&kind, Kinds::BOOL, &format!("the test of {name}"));
        (gives, cost)
    }
}

impl Way {
    /// Whether what is there at the end of this way is there on the other, too.
    fn holds(&self, other: &Self) -> bool {
        self.local == other.local
            && self.path.root == other.path.root
            && self.path.segments.starts_with(&other.path.segments)
    }
}

impl Function {
    /// What each argument may be.
    fn takes(self) -> &'static [Kinds] {
        const TEXT: Kinds = Kinds::TEXT;
        const RAW: Kinds = Kinds::TEXT.or(Kinds::BYTES);
        const NUMERIC: Kinds = Kinds::NUMBER.or(Kinds::TEXT);
        const SIZED: Kinds = RAW.or(Kinds::LIST).or(Kinds::MAP);
        match self {
            Self::Size => &[SIZED],
            Self::Contains | Self::StartsWith | Self::EndsWith | Self::UuidV5 => &[TEXT, TEXT],
            Self::Text => &[Kinds::SCALAR],
            Self::Int | Self::Uint | Self::Double => &[NUMERIC],
            Self::Bool => &[const { Kinds::BOOL.or(TEXT) }],
            Self::Bytes | Self::Base64 | Self::Sha256 => &[RAW],
            Self::Sum => &[Kinds::LIST],
            Self::Dyn | Self::Coalesce | Self::Json => &[],
        }
    }
}

impl Binary {
    const fn name(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Modulo => "%",
            Self::Equals => "==",
            Self::NotEquals => "!=",
            Self::Less => "<",
            Self::LessEquals => "<=",
            Self::Greater => ">",
            Self::GreaterEquals => ">=",
            Self::In => "in",
        }
    }
}

/// What was refused already may be anything.
fn result(kinds: Kinds) -> Type {
    if kinds == Kinds::NONE { Type::DYN } else { Type::of(kinds) }
}

fn of_constant(value: &Val) -> Type {
    Type::of(match value {
        Val::Null => Kinds::NULL,
        Val::Bool(_) => Kinds::BOOL,
        Val::Int(_) => Kinds::INT,
        Val::Uint(_) => Kinds::UINT,
        Val::Double(_) => Kinds::DOUBLE,
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
