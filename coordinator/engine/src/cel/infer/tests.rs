//! What is inferred holds of what evaluation gives, whatever the expression.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    cel::{Allowance, Meter},
    path::Scope,
    value::{Number, Value},
};

/// An expression, from bytes that choose.
struct Writer<'b> {
    bytes: std::slice::Iter<'b, u8>,
    names: Vec<&'static str>,
}

impl Writer<'_> {
    fn choose(&mut self, among: usize) -> usize {
        usize::from(self.bytes.next().copied().unwrap_or(0)) % among
    }

    fn write(&mut self, depth: usize) -> String {
        const LEAVES: &[&str] = &[
            "input.n",
            "input.x",
            "input.s",
            "input.b",
            "input.l",
            "input.m",
            "input.m.a",
            "input.m.t",
            "input.o",
            "input.p",
            "input.p.q",
            "input.p.r",
            "1",
            "2u",
            "1.5",
            "'a'",
            "true",
            "null",
            "[1, 2]",
            "{'k': 1}",
            "has(input.o)",
            "has(input.p)",
            "has(input.p.q)",
            "has(input.m.a)",
        ];
        const BINARY: &[&str] = &["+", "-", "*", "/", "%", "==", "!=", "<", ">=", "in"];
        if depth == 0 {
            let among = LEAVES.len() + self.names.len() * 4;
            let chosen = self.choose(among);
            return match LEAVES.get(chosen) {
                Some(leaf) => (*leaf).to_owned(),
                None => self.names[(chosen - LEAVES.len()) / 4].to_owned(),
            };
        }
        let one = |writer: &mut Self| writer.write(depth - 1);
        match self.choose(16) {
            0 | 1 => {
                let operator = BINARY[self.choose(BINARY.len())];
                format!("({} {operator} {})", one(self), one(self))
            }
            2..=4 => format!("({} && {})", one(self), one(self)),
            5 | 6 => format!("({} || {})", one(self), one(self)),
            7 => format!("(!{})", one(self)),
            8 => format!("({} ? {} : {})", one(self), one(self), one(self)),
            9 => {
                let function = ["size", "string", "int", "double", "sum", "json", "dyn", "base64"][self.choose(8)];
                format!("{function}({})", one(self))
            }
            10 => format!("coalesce({}, {})", one(self), one(self)),
            11 => format!("[{}, {}]", one(self), one(self)),
            12 if self.names.len() < 2 => {
                let looped = ["map", "filter", "all", "exists"][self.choose(4)];
                let range = one(self);
                let name = ["v", "w"][self.names.len()];
                self.names.push(name);
                let body = one(self);
                self.names.pop();
                format!("{range}.{looped}({name}, {body})")
            }
            13 => format!("{{'a': {}, 'b': {}}}.a", one(self), one(self)),
            _ => self.write(0),
        }
    }
}

impl Writer<'_> {
    /// One that is true or false, whose types all fit.
    fn condition(&mut self, depth: usize) -> String {
        const LEAVES: &[&str] = &[
            "has(input.o)",
            "input.o == 'o'",
            "has(input.p)",
            "has(input.p.q)",
            "input.p.q > 0",
            "input.p.r == 'a'",
            "has(input.m.a)",
            "input.m.a > 0",
            "'o' in input",
            "'q' in input.p",
            "coalesce(input.o, 'x') == 'o'",
            "input.b",
            "has(input.l[0].a)",
            "input.l[0].a > 0",
        ];
        const OF_ITEM: &[&str] = &["has(v.a)", "v.a > 0", "'a' in v"];
        if depth == 0 {
            let of_item = if self.names.is_empty() { &[] } else { OF_ITEM };
            let chosen = self.choose(LEAVES.len() + 3 * of_item.len());
            return LEAVES.get(chosen).unwrap_or_else(|| &of_item[(chosen - LEAVES.len()) / 3]).to_string();
        }
        let one = |writer: &mut Self| writer.condition(depth - 1);
        match self.choose(12) {
            0..=2 => format!("({} && {})", one(self), one(self)),
            3..=5 => format!("({} || {})", one(self), one(self)),
            6 | 7 => format!("(!{})", one(self)),
            8 | 9 => format!("({} ? {} : {})", one(self), one(self), one(self)),
            10 if self.names.is_empty() => {
                self.names.push("v");
                let looped = ["all", "exists"][self.choose(2)];
                let body = one(self);
                self.names.pop();
                format!("input.l.{looped}(v, {body})")
            }
            _ => self.condition(0),
        }
    }
}

#[derive(Debug)]
struct World(Value);

impl Scope for World {
    fn read(&self, path: &Path) -> Result<Value, String> {
        Path::walk(&path.segments, &self.0)
    }
}

impl Roots for World {
    fn root(&self, _path: &Path) -> Root {
        let member = |kind, presence| Member { kind, presence };
        let object = |members: Vec<(&str, Type, Presence)>| {
            let members = members.into_iter().map(|(name, kind, presence)| (name.into(), member(kind, presence)));
            Type::map(members.collect(), None)
        };
        use Presence::{Assumed, Optional};
        let m = object(vec![("a", Type::INT, Optional), ("t", Type::TEXT, Assumed)]);
        let p = object(vec![("q", Type::INT, Optional), ("r", Type::TEXT, Assumed)]);
        let kind = object(vec![
            ("n", Type::INT, Assumed),
            ("x", Type::of(Kinds::NUMBER), Assumed),
            ("s", Type::TEXT, Assumed),
            ("b", Type::BOOL, Assumed),
            ("l", Type::list(m.clone(), Some(2)), Assumed),
            ("m", m, Assumed),
            ("o", Type::TEXT, Optional),
            ("p", p, Optional),
        ]);
        Root { kind, taken: 0, presence: Assumed }
    }
}

fn world() -> impl Strategy<Value = World> {
    let bits = any::<[bool; 6]>();
    (bits, -3_i64..4, prop::sample::select(&["", "a", "7"][..])).prop_map(|([a, b, c, d, e, f], n, s)| {
        let m = if a { json!({"a": n, "t": s}) } else { json!({"t": s}) };
        let items = if b { vec![m.clone(), json!({"t": "x"})] } else { Vec::new() };
        let x = if c { json!(n) } else { json!(0.5) };
        let mut input = json!({"n": n, "x": x, "s": s, "b": d, "l": items, "m": m});
        if e {
            input["o"] = json!("o");
        }
        if f {
            input["p"] = if d { json!({"q": n, "r": s}) } else { json!({"r": s}) };
        }
        World(input.into())
    })
}

/// Whether JSON of that type is written so.
fn is_of(value: &Value, kind: &Type) -> bool {
    let written = match value {
        Value::Null => Kinds::NULL,
        Value::Bool(_) => Kinds::BOOL,
        Value::Number(Number::Written(_)) => Kinds::DOUBLE,
        Value::Number(_) => Kinds::INT.or(Kinds::UINT),
        Value::String(_) => Kinds::TEXT.or(Kinds::BYTES),
        Value::Array(_) => Kinds::LIST,
        Value::Object(_) => Kinds::MAP,
    };
    kind.kinds.may_be(written)
        && match (value, &kind.list, &kind.map) {
            (Value::Array(items), Some(list), _) => {
                list.most.is_none_or(|most| items.len() as u64 <= most)
                    && items.iter().all(|item| is_of(item, &list.item))
            }
            (Value::Object(members), _, Some(map)) => {
                let there = |(name, member): (&std::rc::Rc<str>, &Member)| {
                    member.presence == Presence::Optional || members.contains_key(&**name)
                };
                map.members.iter().all(there)
                    && members.iter().all(|(name, value)| match map.members.get(name.as_str()) {
                        Some(member) => is_of(value, &member.kind),
                        None => map.rest.as_ref().is_some_and(|rest| is_of(value, rest)),
                    })
            }
            _ => true,
        }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_evaluates_is_of_the_type_that_was_inferred_and_takes_no_more_than_was_reckoned(
        bytes in prop::collection::vec(any::<u8>(), 40), world in world(),
    ) {
        let text = Writer { bytes: bytes.iter(), names: Vec::new() }.write(4);
        let Ok(expression) = Expression::compile(&text, &mut Allowance::unlimited()) else { return Ok(()) };
        let inferred = expression.infer(&world, &Facts::default());
        let mut meter = Meter::new();
        let value = expression.evaluate(&world, &mut meter);
        if let Ok(value) = &value {
            prop_assert!(is_of(value, &inferred.kind), "{text} is {value}, not {:?}", inferred.kind);
        }
        // Text costs beside it, and comparing goes on where nothing is known of what is compared.
        prop_assert!(meter.spent() <= 3 * inferred.cost + 50, "{text}: {} > {}", meter.spent(), inferred.cost);
    }

    #[test]
    fn what_is_not_told_to_be_absent_is_there(
        bytes in prop::collection::vec(any::<u8>(), 40), world in world(),
    ) {
        let text = Writer { bytes: bytes.iter(), names: Vec::new() }.condition(4);
        let Ok(expression) = Expression::compile(&text, &mut Allowance::unlimited()) else { return Ok(()) };
        let inferred = expression.infer(&world, &Facts::default());
        if inferred.flaws.is_empty()
            && let Err(why) = expression.evaluate(&world, &mut Meter::new())
        {
            // No schema says how many items there are at least.
            prop_assert!(!why.contains("there is no `"), "{text} with {}: {why}", world.0);
        }
    }
}
