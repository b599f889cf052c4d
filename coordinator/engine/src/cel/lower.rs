//! From the crate's tree to what is evaluated: names resolved, functions known, macros told apart again.

use cel::{
    IdedExpr,
    common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, SelectExpr, operators},
};

use super::{
    DEPTH, LOOPS, Reason, Refused,
    function::{self, Function},
    operators::Binary,
    value::Val,
};
use crate::path::{Path, Segment, is_name};

#[derive(Clone)]
pub(super) enum Op {
    Const(Val),
    /// Of `reads`.
    Read(usize),
    /// Whether one of `reads` is there.
    Has(usize),
    HasField(Box<Op>, String),
    /// How many comprehensions out its item is bound.
    Local(usize),
    Select(Box<Op>, String),
    Index(Box<[Op; 2]>),
    List(Vec<Op>),
    Map(Vec<(Op, Op)>),
    Not(Box<Op>),
    Negate(Box<Op>),
    And(Box<[Op; 2]>),
    Or(Box<[Op; 2]>),
    If(Box<[Op; 3]>),
    Binary(Binary, Box<[Op; 2]>),
    Call(Function, Vec<Op>),
    Loop(Box<Loop>),
}

#[derive(Clone)]
pub(super) struct Loop {
    /// Of the item.
    pub(super) name: String,
    pub(super) range: Op,
    pub(super) body: LoopBody,
}

#[derive(Clone)]
pub(super) enum LoopBody {
    All(Op),
    Exists(Op),
    ExistsOne(Op),
    /// `filter` is one whose item is kept as it is.
    Map {
        test: Option<Op>,
        item: Op,
    },
}

/// A way from a root, as long as it is written out.
#[derive(Clone)]
pub(super) struct Read {
    pub(super) path: Path,
    /// Names of items that are known where it stands.
    pub(super) names: Vec<String>,
}

pub(super) fn lower(tree: &IdedExpr) -> Result<(Op, Vec<Read>), Refused> {
    let mut lowering = Lowering { reads: Vec::new(), names: Vec::new(), depth: 0, loops: 0 };
    let op = lowering.op(&tree.expr)?;
    Ok((op, lowering.reads))
}

struct Lowering {
    reads: Vec<Read>,
    /// The items of the comprehensions around, outermost first.
    names: Vec<String>,
    depth: usize,
    /// Comprehensions whose body this stands in.
    loops: usize,
}

impl Lowering {
    fn op(&mut self, expr: &Expr) -> Result<Op, Refused> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(Refused::bound(format!("the expression nests operations deeper than {DEPTH}")));
        }
        let op = self.any(expr);
        self.depth -= 1;
        op
    }

    fn any(&mut self, expr: &Expr) -> Result<Op, Refused> {
        if let Some(way) = self.way(expr) {
            return Ok(Op::Read(self.read(path(&way))));
        }
        match expr {
            Expr::Literal(literal) => Ok(Op::Const(constant(literal))),
            Expr::Ident(name) => match self.local(name) {
                Some(local) => Ok(Op::Local(local)),
                None => Err(Refused::syntax(format!("`{name}` is not a name"))),
            },
            Expr::Select(select) => self.select(select),
            Expr::Call(call) => self.call(call),
            Expr::List(list) => Ok(Op::List(self.all(&list.elements)?)),
            Expr::Map(map) => {
                let mut entries = Vec::with_capacity(map.entries.len());
                for entry in &map.entries {
                    let EntryExpr::MapEntry(entry) = &entry.expr else {
                        return Err(Refused::syntax("a map has keys and values"));
                    };
                    entries.push((self.op(&entry.key.expr)?, self.op(&entry.value.expr)?));
                }
                Ok(Op::Map(entries))
            }
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::Struct(message) => Err(Refused::syntax(format!(
                "`{}` is made as a message, and there are no message types: write a map, {{\"key\": value}}",
                message.type_name.chars().take(60).collect::<String>()
            ))),
            Expr::Unspecified => Err(Refused::syntax("the expression cannot be read")),
        }
    }

    fn all(&mut self, exprs: &[IdedExpr]) -> Result<Vec<Op>, Refused> {
        exprs.iter().map(|expr| self.op(&expr.expr)).collect()
    }

    fn local(&self, name: &str) -> Option<usize> {
        self.names.iter().rev().position(|known| known == name)
    }

    /// The nodes of a way that starts at a root, which is what no comprehension binds.
    fn way<'e>(&self, mut expr: &'e Expr) -> Option<Vec<&'e Expr>> {
        let mut way = vec![expr];
        loop {
            expr = match expr {
                Expr::Ident(name) if is_name(name) && self.local(name).is_none() => {
                    way.reverse();
                    return Some(way);
                }
                Expr::Select(select) if !select.test => &select.operand.expr,
                Expr::Call(call) if segment_of_index(call).is_some() => &call.args[0].expr,
                _ => return None,
            };
            way.push(expr);
        }
    }

    fn read(&mut self, path: Path) -> usize {
        let same = |read: &Read| read.path.root == path.root && read.path.segments == path.segments;
        match self.reads.iter().position(same) {
            Some(index) => index,
            None => {
                self.reads.push(Read { path, names: self.names.clone() });
                self.reads.len() - 1
            }
        }
    }

    fn select(&mut self, select: &SelectExpr) -> Result<Op, Refused> {
        if select.test
            && let Some(way) = self.way(&select.operand.expr)
        {
            // Other than in CEL, false also where something before the last name is absent: what may be absent is asked for
            // once, not at each dot.
            let mut path = path(&way);
            push(&mut path, Segment::Key(select.field.clone()));
            return Ok(Op::Has(self.read(path)));
        }
        let operand = Box::new(self.op(&select.operand.expr)?);
        let field = select.field.clone();
        Ok(if select.test { Op::HasField(operand, field) } else { Op::Select(operand, field) })
    }

    fn call(&mut self, call: &CallExpr) -> Result<Op, Refused> {
        let name = call.func_name.as_str();
        if call.target.is_none()
            && let Some(op) = self.operator(call)?
        {
            return Ok(op);
        }
        let args = call.args.len() + usize::from(call.target.is_some());
        let known = if call.target.is_some() { function::METHODS } else { function::GLOBALS };
        let Some(function) = Function::find(name).filter(|_| known.contains(&name)) else {
            return Err(unknown(name, call.target.is_some()));
        };
        let (least, most) = function.arity();
        if args < least || args > most {
            let taken = if least == most { least.to_string() } else { format!("at least {least}") };
            let counted = if call.target.is_some() { ", what it is called on included" } else { "" };
            let plural = if most == 1 { "" } else { "s" };
            return Err(Refused::syntax(format!("`{name}` takes {taken} argument{plural}, not {args}{counted}")));
        }
        let mut ops = Vec::with_capacity(args);
        if let Some(target) = &call.target {
            ops.push(self.op(&target.expr)?);
        }
        for arg in &call.args {
            ops.push(self.op(&arg.expr)?);
        }
        Ok(Op::Call(function, ops))
    }

    fn operator(&mut self, call: &CallExpr) -> Result<Option<Op>, Refused> {
        let binary = match call.func_name.as_str() {
            operators::CONDITIONAL => return Ok(Some(Op::If(self.three(&call.args)?))),
            operators::LOGICAL_AND => return Ok(Some(Op::And(self.two(&call.args)?))),
            operators::LOGICAL_OR => return Ok(Some(Op::Or(self.two(&call.args)?))),
            operators::INDEX => return Ok(Some(Op::Index(self.two(&call.args)?))),
            operators::LOGICAL_NOT => return Ok(Some(Op::Not(self.one(&call.args)?))),
            operators::NEGATE => return Ok(Some(Op::Negate(self.one(&call.args)?))),
            operators::ADD => Binary::Add,
            operators::SUBSTRACT => Binary::Subtract,
            operators::MULTIPLY => Binary::Multiply,
            operators::DIVIDE => Binary::Divide,
            operators::MODULO => Binary::Modulo,
            operators::EQUALS => Binary::Equals,
            operators::NOT_EQUALS => Binary::NotEquals,
            operators::LESS => Binary::Less,
            operators::LESS_EQUALS => Binary::LessEquals,
            operators::GREATER => Binary::Greater,
            operators::GREATER_EQUALS => Binary::GreaterEquals,
            operators::IN => Binary::In,
            _ => return Ok(None),
        };
        Ok(Some(Op::Binary(binary, self.two(&call.args)?)))
    }

    fn one(&mut self, args: &[IdedExpr]) -> Result<Box<Op>, Refused> {
        let [a] = args else { return Err(Refused::syntax("the expression cannot be read")) };
        Ok(Box::new(self.op(&a.expr)?))
    }

    fn two(&mut self, args: &[IdedExpr]) -> Result<Box<[Op; 2]>, Refused> {
        let [a, b] = args else { return Err(Refused::syntax("the expression cannot be read")) };
        Ok(Box::new([self.op(&a.expr)?, self.op(&b.expr)?]))
    }

    fn three(&mut self, args: &[IdedExpr]) -> Result<Box<[Op; 3]>, Refused> {
        let [a, b, c] = args else { return Err(Refused::syntax("the expression cannot be read")) };
        Ok(Box::new([self.op(&a.expr)?, self.op(&b.expr)?, self.op(&c.expr)?]))
    }

    fn comprehension(&mut self, comprehension: &ComprehensionExpr) -> Result<Op, Refused> {
        let range = self.op(&comprehension.iter_range.expr)?;
        if self.loops == LOOPS {
            return Err(Refused::bound(format!("comprehensions stand in one another deeper than {LOOPS}")));
        }
        self.loops += 1;
        self.names.push(comprehension.iter_var.clone());
        let body = self.body(&comprehension.loop_step.expr);
        self.names.pop();
        self.loops -= 1;
        Ok(Op::Loop(Box::new(Loop { name: comprehension.iter_var.clone(), range, body: body? })))
    }

    /// The macro that the crate expanded to this step.
    fn body(&mut self, step: &Expr) -> Result<LoopBody, Refused> {
        let unread = || Refused::syntax("the comprehension cannot be read");
        let Expr::Call(step) = step else { return Err(unread()) };
        match (step.func_name.as_str(), step.args.as_slice()) {
            (operators::LOGICAL_AND, [_, test]) => Ok(LoopBody::All(self.op(&test.expr)?)),
            (operators::LOGICAL_OR, [_, test]) => Ok(LoopBody::Exists(self.op(&test.expr)?)),
            (operators::ADD, [_, item]) => {
                let item = appended(&item.expr).ok_or_else(unread)?;
                Ok(LoopBody::Map { test: None, item: self.op(item)? })
            }
            (operators::CONDITIONAL, [test, then, _]) => {
                let Expr::Call(then) = &then.expr else { return Err(unread()) };
                let test = self.op(&test.expr)?;
                match then.args.get(1).and_then(|item| appended(&item.expr)) {
                    Some(item) => Ok(LoopBody::Map { test: Some(test), item: self.op(item)? }),
                    None => Ok(LoopBody::ExistsOne(test)),
                }
            }
            _ => Err(unread()),
        }
    }
}

/// The `f` of `@result + [f]`.
fn appended(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::List(list) => list.elements.first().map(|item| &item.expr),
        _ => None,
    }
}

fn path(way: &[&Expr]) -> Path {
    let mut path = Path { source: String::new(), root: String::new(), segments: Vec::new() };
    for step in way {
        match step {
            Expr::Ident(name) => {
                path.root.clone_from(name);
                path.source.clone_from(name);
            }
            Expr::Select(select) => push(&mut path, Segment::Key(select.field.clone())),
            Expr::Call(call) => segment_of_index(call).into_iter().for_each(|segment| push(&mut path, segment)),
            Expr::Unspecified
            | Expr::Comprehension(_)
            | Expr::List(_)
            | Expr::Literal(_)
            | Expr::Map(_)
            | Expr::Struct(_) => {}
        }
    }
    path
}

/// `a[0]` and `a["key"]`.
fn segment_of_index(call: &CallExpr) -> Option<Segment> {
    let [_, index] = call.args.as_slice() else { return None };
    let Expr::Literal(literal) = &index.expr else { return None };
    match literal {
        _ if call.func_name != operators::INDEX => None,
        LiteralValue::Int(index) => usize::try_from(*index.inner()).ok().map(Segment::Index),
        LiteralValue::String(key) => Some(Segment::Key(key.inner().to_owned())),
        _ => None,
    }
}

pub(super) fn push(path: &mut Path, segment: Segment) {
    match &segment {
        Segment::Key(key) if is_name(key) => path.source.push_str(&format!(".{key}")),
        Segment::Key(key) => path.source.push_str(&format!("[{}]", serde_json::Value::from(key.as_str()))),
        Segment::Index(index) => path.source.push_str(&format!("[{index}]")),
    }
    path.segments.push(segment);
}

fn constant(literal: &LiteralValue) -> Val {
    match literal {
        LiteralValue::Null => Val::Null,
        LiteralValue::Boolean(truth) => Val::Bool(*truth.inner()),
        LiteralValue::Int(number) => Val::Int(*number.inner()),
        LiteralValue::UInt(number) => Val::Uint(*number.inner()),
        LiteralValue::Double(number) => Val::Double(*number.inner()),
        LiteralValue::String(text) => Val::Text(text.inner().into()),
        LiteralValue::Bytes(bytes) => Val::Bytes(bytes.inner().into()),
    }
}

fn unknown(name: &str, on_value: bool) -> Refused {
    let usage = match name {
        "map" => "write list.map(item, value) or list.map(item, test, value)",
        "has" => "write has(value.field)",
        _ if function::MACROS.contains(&name) => "write it as list.filter(item, test)",
        _ => "",
    };
    if !usage.is_empty() {
        return Refused::syntax(format!("`{name}` is not called so: {usage}"));
    }
    let known = if on_value { function::METHODS_AND_MACROS } else { function::GLOBALS };
    let shown: String = name.chars().take(60).collect();
    let message = if on_value {
        format!("there is no function `{shown}` to call on a value")
    } else {
        format!("there is no function `{shown}`")
    };
    Refused { reason: Reason::Function { written: shown, known }, message }
}
