//! What is known of a value before it is there: which kinds it may be, and what is in it.
//!
//! A type never promises less than may come: what is not known may be anything, and nothing is said against it. Types
//! are shared, and nest no deeper than JSON does (`DEPTH`): beyond that nothing is known.

use std::{collections::BTreeMap, rc::Rc};

use crate::value::{Number, Value};

const DEPTH: usize = crate::limit::JSON_DEPTH;

/// The kinds that a value may be, as a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kinds(u16);

impl Kinds {
    pub(crate) const NULL: Self = Self(1);
    pub(crate) const BOOL: Self = Self(1 << 1);
    pub(crate) const INT: Self = Self(1 << 2);
    pub(crate) const UINT: Self = Self(1 << 3);
    pub(crate) const DOUBLE: Self = Self(1 << 4);
    pub(crate) const TEXT: Self = Self(1 << 5);
    pub(crate) const BYTES: Self = Self(1 << 6);
    pub(crate) const LIST: Self = Self(1 << 7);
    pub(crate) const MAP: Self = Self(1 << 8);
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const ALL: Self = Self((1 << 9) - 1);
    pub(crate) const NUMBER: Self = Self::INT.or(Self::UINT).or(Self::DOUBLE);
    /// What text can be made of.
    pub(crate) const SCALAR: Self = Self::NUMBER.or(Self::BOOL).or(Self::TEXT).or(Self::BYTES);

    pub(crate) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether it may be one of those.
    pub(crate) const fn may_be(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// As in "does not take …".
    pub(crate) fn describe(self) -> String {
        const NAMES: [(Kinds, &str); 9] = [
            (Kinds::TEXT, "a string"),
            (Kinds::BOOL, "a bool"),
            (Kinds::INT, "an int"),
            (Kinds::UINT, "a uint"),
            (Kinds::DOUBLE, "a double"),
            (Kinds::BYTES, "bytes"),
            (Kinds::LIST, "a list"),
            (Kinds::MAP, "a map"),
            (Kinds::NULL, "null"),
        ];
        if self == Self::ALL {
            return "any value".to_owned();
        }
        let number = self.and(Self::NUMBER) == Self::NUMBER;
        let mut names: Vec<_> = number.then_some("a number").into_iter().collect();
        let single = NAMES.iter().filter(|(kind, _)| self.may_be(*kind) && !(number && Self::NUMBER.may_be(*kind)));
        names.extend(single.map(|(_, name)| *name));
        names.join(" or ")
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Type {
    pub(crate) kinds: Kinds,
    /// Of what is a list, as far as something is known of it.
    pub(crate) list: Option<Rc<List>>,
    pub(crate) map: Option<Rc<Map>>,
}

#[derive(Debug)]
pub(crate) struct List {
    pub(crate) item: Type,
    /// How many items it has at most.
    pub(crate) most: Option<u64>,
    depth: usize,
    weight: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Map {
    pub(crate) members: BTreeMap<Rc<str>, Member>,
    /// Of members beside those; absent: there are none.
    pub(crate) rest: Option<Type>,
    depth: usize,
    weight: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) kind: Type,
    pub(crate) presence: Presence,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Presence {
    /// It is known that it may be absent.
    Optional,
    /// It is there, or nothing is known of that.
    Assumed,
    /// A schema takes nothing without it.
    Required,
}

impl Type {
    pub(crate) const DYN: Self = Self::of(Kinds::ALL);
    pub(crate) const TEXT: Self = Self::of(Kinds::TEXT);
    pub(crate) const BOOL: Self = Self::of(Kinds::BOOL);
    pub(crate) const INT: Self = Self::of(Kinds::INT);

    pub(crate) const fn of(kinds: Kinds) -> Self {
        Self { kinds, list: None, map: None }
    }

    pub(crate) fn list(item: Self, most: Option<u64>) -> Self {
        let depth = item.depth() + 1;
        if depth > DEPTH {
            return Self::of(Kinds::LIST);
        }
        let weight = most.unwrap_or(0).saturating_mul(item.weight());
        Self { kinds: Kinds::LIST, list: Some(Rc::new(List { item, most, depth, weight })), map: None }
    }

    pub(crate) fn map(members: BTreeMap<Rc<str>, Member>, rest: Option<Self>) -> Self {
        let below = members.values().map(|member| &member.kind).chain(&rest).map(Self::depth).max();
        let depth = below.unwrap_or(0) + 1;
        if depth > DEPTH {
            return Self::of(Kinds::MAP);
        }
        let weight = members.values().fold(0_u64, |sum, member| sum.saturating_add(member.kind.weight()));
        Self { kinds: Kinds::MAP, list: None, map: Some(Rc::new(Map { members, rest, depth, weight })) }
    }

    /// Of a value that is written out.
    pub(crate) fn of_value(value: &Value) -> Self {
        match value {
            Value::Null => Self::of(Kinds::NULL),
            Value::Bool(_) => Self::BOOL,
            Value::Number(Number::Int(_)) => Self::INT,
            Value::Number(Number::Uint(_)) => Self::of(Kinds::UINT),
            Value::Number(Number::Written(text)) if &**text == "-0" => Self::INT,
            Value::Number(Number::Written(_)) => Self::of(Kinds::DOUBLE),
            Value::String(_) => Self::TEXT,
            Value::Array(items) => Self::list_of(items.iter().map(Self::of_value)),
            Value::Object(members) => {
                Self::object(members.iter().map(|(key, member)| (&**key, Self::of_value(member))))
            }
        }
    }

    /// A list of just these.
    pub(crate) fn list_of(items: impl IntoIterator<Item = Self>) -> Self {
        let mut count = 0;
        let mut joined: Option<Self> = None;
        for item in items {
            count += 1;
            joined = Some(match joined {
                Some(joined) => joined.join(&item),
                None => item,
            });
        }
        Self::list(joined.unwrap_or(Self::DYN), Some(count))
    }

    /// A map of just these.
    pub(crate) fn object<'k>(members: impl IntoIterator<Item = (&'k str, Self)>) -> Self {
        let member = |(key, kind): (&'k str, Self)| (key.into(), Member { kind, presence: Presence::Assumed });
        Self::map(members.into_iter().map(member).collect(), None)
    }

    /// One of the two.
    pub(crate) fn join(&self, other: &Self) -> Self {
        let list = match (&self.list, &other.list) {
            (Some(one), Some(two)) if Rc::ptr_eq(one, two) => Some(Rc::clone(one)),
            (Some(one), Some(two)) => {
                let most = one.most.zip(two.most).map(|(one, two)| one.max(two));
                Self::list(one.item.join(&two.item), most).list
            }
            (Some(one), None) if !other.kinds.may_be(Kinds::LIST) => Some(Rc::clone(one)),
            (None, Some(two)) if !self.kinds.may_be(Kinds::LIST) => Some(Rc::clone(two)),
            _ => None,
        };
        // Two maps member by member would cost what their definitions do not pay for.
        let map = match (&self.map, &other.map) {
            (Some(one), Some(two)) if Rc::ptr_eq(one, two) => Some(Rc::clone(one)),
            (Some(one), None) if !other.kinds.may_be(Kinds::MAP) => Some(Rc::clone(one)),
            (None, Some(two)) if !self.kinds.may_be(Kinds::MAP) => Some(Rc::clone(two)),
            _ => None,
        };
        Self { kinds: self.kinds.or(other.kinds), list, map }
    }

    /// Both of the two, as schemas that hold at once.
    pub(crate) fn meet(&self, other: &Self) -> Self {
        let both = self.kinds.and(other.kinds);
        let kinds = if both == Kinds::NONE { Kinds::ALL } else { both };
        let list = match (&self.list, &other.list) {
            (Some(one), Some(two)) => {
                let most = [one.most, two.most].into_iter().flatten().min();
                Self::list(one.item.meet(&two.item), most).list
            }
            (one, two) => one.as_ref().or(two.as_ref()).map(Rc::clone),
        };
        let map = match (&self.map, &other.map) {
            (Some(one), Some(two)) => one.meet(two).map,
            (one, two) => one.as_ref().or(two.as_ref()).map(Rc::clone),
        };
        Self { kinds, list: list.filter(|_| kinds.may_be(Kinds::LIST)), map: map.filter(|_| kinds.may_be(Kinds::MAP)) }
    }

    /// The same, where something else may say more of its members.
    pub(crate) fn loosened(&self) -> Self {
        let Some(map) = &self.map else { return self.clone() };
        let assumed = |member: &Member| Member { presence: member.presence.max(Presence::Assumed), ..member.clone() };
        let members = map.members.iter().map(|(key, member)| (Rc::clone(key), assumed(member))).collect();
        let map = Self::map(members, Some(Self::DYN)).map;
        Self { map, ..self.clone() }
    }

    /// Values in it at most, where lists have a known bound; a list without one counts as one.
    pub(crate) fn weight(&self) -> u64 {
        let list = self.list.as_ref().map_or(0, |list| list.weight);
        self.map.as_ref().map_or(0, |map| map.weight).max(list).saturating_add(1)
    }

    /// The item of what is gone through.
    pub(crate) fn item(&self) -> Self {
        let of_list = self.list.as_ref().map_or(Self::DYN, |list| list.item.clone());
        match (self.kinds.may_be(Kinds::LIST), self.kinds.may_be(Kinds::MAP)) {
            (true, false) => of_list,
            // A map's items are its keys.
            (false, true) => Self::TEXT,
            _ => of_list.join(&Self::TEXT),
        }
    }

    /// How many items at most.
    pub(crate) fn most(&self) -> Option<u64> {
        let list = || self.list.as_ref()?.most;
        let map = || self.map.as_ref().filter(|map| map.rest.is_none()).map(|map| map.members.len() as u64);
        match (self.kinds.may_be(Kinds::LIST), self.kinds.may_be(Kinds::MAP)) {
            (true, false) => list(),
            (false, true) => map(),
            _ => list().zip(map()).map(|(list, map)| list.max(map)),
        }
    }

    fn depth(&self) -> usize {
        let list = self.list.as_ref().map_or(0, |list| list.depth);
        self.map.as_ref().map_or(0, |map| map.depth).max(list)
    }
}

impl Map {
    fn meet(&self, other: &Self) -> Type {
        let mut members = self.members.clone();
        for (key, two) in &other.members {
            let met = match self.members.get(key) {
                Some(one) => Member { kind: one.kind.meet(&two.kind), presence: one.presence.max(two.presence) },
                None => two.clone(),
            };
            members.insert(Rc::clone(key), met);
        }
        // Each may name what the other does not.
        let rest = match (&self.rest, &other.rest) {
            (Some(one), Some(two)) => Some(one.meet(two)),
            (one, two) => one.as_ref().or(two.as_ref()).cloned(),
        };
        Type::map(members, rest)
    }
}
