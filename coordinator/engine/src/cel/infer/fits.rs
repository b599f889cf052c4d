//! What operators and functions take, and what they give: as `run` and `function` have it, by kinds.

use super::{Infer, Known};
use crate::cel::{
    function::Function,
    lower::Op,
    operators::Binary,
    types::{Kinds, Type},
};

const CONVERT: &str = "Convert one with int(), uint() or double().";

impl Infer<'_> {
    pub(super) fn binary(&mut self, binary: Binary, a: &Type, b: &Type, both: &[Op; 2]) -> Known {
        let (one, two) = (a.kinds, b.kinds);
        match binary {
            Binary::Equals | Binary::NotEquals => {
                let classes =
                    [Kinds::NULL, Kinds::BOOL, Kinds::NUMBER, Kinds::TEXT, Kinds::BYTES, Kinds::LIST, Kinds::MAP];
                let is_null = one == Kinds::NULL || two == Kinds::NULL;
                if !is_null && !classes.iter().any(|class| one.may_be(*class) && two.may_be(*class)) {
                    let message =
                        format!("{} never equals {}", self.type_label(a, &both[0]), self.type_label(b, &both[1]));
                    self.unfit(message, None);
                }
                (Type::BOOL, a.weight().min(b.weight()))
            }
            Binary::Less | Binary::LessEquals | Binary::Greater | Binary::GreaterEquals => {
                let classes = [Kinds::BOOL, Kinds::NUMBER, Kinds::TEXT, Kinds::BYTES];
                if !classes.iter().any(|class| one.may_be(*class) && two.may_be(*class)) {
                    self.pair(binary.name(), a, b, both, None);
                }
                (Type::BOOL, 0)
            }
            Binary::In => {
                let fits = two.may_be(Kinds::LIST) || two.may_be(Kinds::MAP) && one.may_be(Kinds::SCALAR);
                if !fits {
                    self.pair("in", a, b, both, None);
                }
                (Type::BOOL, b.most().unwrap_or(0).saturating_mul(a.weight()))
            }
            Binary::Add => {
                let kinds = [Kinds::INT, Kinds::UINT, Kinds::DOUBLE, Kinds::TEXT, Kinds::BYTES, Kinds::LIST];
                let most = a.most().zip(b.most()).map(|(a, b)| a.saturating_add(b));
                let kind = self.arithmetic(binary, a, b, both, &kinds);
                if kind.kinds == Kinds::LIST {
                    (Type::list(a.item().join(&b.item()), most), most.unwrap_or(0))
                } else {
                    (kind, 0)
                }
            }
            Binary::Subtract | Binary::Multiply | Binary::Divide => {
                (self.arithmetic(binary, a, b, both, &[Kinds::INT, Kinds::UINT, Kinds::DOUBLE]), 0)
            }
            Binary::Modulo => (self.arithmetic(binary, a, b, both, &[Kinds::INT, Kinds::UINT]), 0),
        }
    }

    /// Both sides are of one of these kinds.
    fn arithmetic(&mut self, binary: Binary, a: &Type, b: &Type, both: &[Op; 2], kinds: &[Kinds]) -> Type {
        let shared = kinds.iter().filter(|kind| a.kinds.may_be(**kind) && b.kinds.may_be(**kind));
        let kinds = shared.fold(Kinds::NONE, |all, kind| all.or(*kind));
        if kinds == Kinds::NONE {
            let numbers = a.kinds.may_be(Kinds::NUMBER) && b.kinds.may_be(Kinds::NUMBER);
            let text = a.kinds.may_be(Kinds::TEXT) || b.kinds.may_be(Kinds::TEXT);
            let help = match binary {
                Binary::Modulo if numbers => None,
                _ if numbers => Some(CONVERT),
                Binary::Add if text => Some("Convert the other one with string()."),
                _ => None,
            };
            self.pair(binary.name(), a, b, both, help);
        }
        result(kinds)
    }

    pub(super) fn pair(&mut self, name: &str, a: &Type, b: &Type, both: &[Op; 2], help: Option<&'static str>) {
        let (one, two) = (self.type_label(a, &both[0]), self.type_label(b, &both[1]));
        self.unfit(format!("`{name}` does not take {one} and {two}"), help);
    }

    pub(super) fn call(&mut self, function: Function, args: &[Op]) -> Known {
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
        for ((kind, taken), arg) in kinds.iter().zip(function.takes()).zip(args) {
            if !kind.kinds.may_be(*taken) {
                let name = function.name();
                let message = format!("`{name}` does not take {}", self.type_label(kind, arg));
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
                    self.must_be(&item, Kinds::NUMBER, "an item that `sum` adds", None);
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
pub(super) fn result(kinds: Kinds) -> Type {
    if kinds == Kinds::NONE { Type::DYN } else { Type::of(kinds) }
}
