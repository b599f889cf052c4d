//! From text to the crate's tree. Everything that is over a static bound is refused by counting tokens, before anything
//! is parsed: the parser then meets only what it parses in well under a millisecond.

use cel::{
    IdedExpr, ParseErrors,
    parser::{
        PrattParser,
        pratt_parser::{Lexer, Token, TokenKind},
    },
};

use super::{BRACKETS, CALLS, NODES, Refused, SOURCE};
use crate::value::exactly;

/// Where the expression that `text` starts with ends: at the first `}` that closes no bracket of its own and stands in no
/// string. `Ok(None)`: nowhere.
pub(crate) fn end(text: &str) -> Result<Option<usize>, Refused> {
    // One byte more than is taken, so that what is too long is told as such.
    let window = text.get(..text.floor_char_boundary(SOURCE + 1)).unwrap_or(text);
    let mut lexer = Lexer::new(window);
    let mut depth = 0_usize;
    loop {
        let token = lexer.lex();
        match token.kind {
            TokenKind::TokLeftBrace => depth += 1,
            TokenKind::TokRightBrace if depth == 0 => return Ok(Some(token.start)),
            TokenKind::TokRightBrace => depth -= 1,
            TokenKind::TokError | TokenKind::TokEnd if window.len() > SOURCE => return Err(too_long()),
            TokenKind::TokEnd => return Ok(None),
            TokenKind::TokError => return Err(unreadable(window, &token, &lexer)),
            _ => {}
        }
    }
}

/// What parsing it weighs; refuses what is over a bound or holds what is no token.
///
/// The parser copies what a call stands on, calls and all, and looks ahead to the end of a group for each bracket it is in:
/// hence the square of the calls, and the tokens that are no nodes.
pub(super) fn measure(text: &str) -> Result<usize, Refused> {
    if text.len() > SOURCE {
        return Err(too_long());
    }
    let (mut tokens, mut nodes, mut calls, mut depth) = (0_usize, 0_usize, 0_usize, 0_u16);
    let mut before = [TokenKind::TokEnd; 2];
    let mut lexer = Lexer::new(text);
    loop {
        let token = lexer.lex();
        match token.kind {
            TokenKind::TokError => return Err(unreadable(text, &token, &lexer)),
            TokenKind::TokEnd => break,
            TokenKind::TokWhitespace | TokenKind::TokComment => continue,
            TokenKind::TokLeftParen => {
                calls += usize::from(before == [TokenKind::TokDot, TokenKind::TokIdent]);
                depth = depth.saturating_add(1);
            }
            TokenKind::TokLeftBracket | TokenKind::TokLeftBrace => {
                nodes += 1;
                depth = depth.saturating_add(1);
            }
            TokenKind::TokRightParen | TokenKind::TokRightBracket | TokenKind::TokRightBrace => {
                depth = depth.saturating_sub(1);
            }
            TokenKind::TokDot | TokenKind::TokComma | TokenKind::TokColon => {}
            _ => nodes += 1,
        }
        if depth > BRACKETS {
            return Err(too_deep());
        }
        tokens += 1;
        before = [before[1], token.kind];
    }
    if nodes > NODES {
        return Err(Refused::bound(format!("the expression has {nodes} nodes; at most {NODES} are taken")));
    }
    if calls > CALLS {
        return Err(Refused::bound(format!(
            "the expression calls {calls} times on a value; at most {CALLS} are taken"
        )));
    }
    Ok(4 + nodes.max(tokens / 2) + calls * calls)
}

/// Refuses a fraction that would be rounded as it is read; the parser itself refuses a whole number beyond 64 bits.
pub(super) fn literals(text: &str) -> Result<(), Refused> {
    let mut lexer = Lexer::new(text);
    loop {
        let token = lexer.lex();
        match token.kind {
            TokenKind::TokError | TokenKind::TokEnd => return Ok(()),
            TokenKind::TokFloat if text.get(token.start..token.end).is_some_and(|text| exactly(text).is_none()) => {
                return Err(fault(text, token.start, "this number has more digits than a double holds"));
            }
            _ => {}
        }
    }
}

pub(super) fn parse(text: &str) -> Result<IdedExpr, Refused> {
    if text.is_empty() {
        return Err(Refused::syntax("nothing stands between ${ and }"));
    }
    let parser = PrattParser::new().max_recursion_depth(BRACKETS + 1).error_recovery_limit(0);
    parser.parse(text).map_err(|errors| first_fault(text, &errors))
}

fn too_deep() -> Refused {
    Refused::bound(format!("the expression nests brackets deeper than {BRACKETS}"))
}

fn too_long() -> Refused {
    Refused::bound(format!("the expression is longer than {SOURCE} bytes"))
}

fn unreadable(text: &str, token: &Token, lexer: &Lexer<'_>) -> Refused {
    let message = lexer.get_error().map_or("unexpected character", |error| error.message.as_str());
    let at = text.floor_char_boundary(token.start);
    match (message, text[at..].chars().next()) {
        ("unexpected character", Some(letter)) => fault(text, at, &format!("`{letter}` means nothing in CEL")),
        _ => fault(text, at, message),
    }
}

/// A fault at a byte of the text.
fn fault(text: &str, at: usize, what: &str) -> Refused {
    let place = text[..at].chars().count() + 1;
    let shown = match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    };
    Refused::syntax(format!("`{shown}`, character {place}: {what}"))
}

/// The first fault in the house's words.
fn first_fault(text: &str, errors: &ParseErrors) -> Refused {
    if let Some(deep) = errors.errors.iter().find(|error| error.msg.starts_with("expression recursion limit")) {
        debug_assert_eq!(deep.pos, (0, 0), "it has no place");
        return too_deep();
    }
    let Some(first) = errors.errors.iter().find(|error| error.pos.0 > 0) else {
        return Refused::syntax("the expression cannot be read");
    };
    let at = offset(text, first.pos);
    let (expected, found) = expected(&first.msg);
    if !found {
        return fault(text, at, &expected);
    }
    let mut lexer = Lexer::new(&text[at..]);
    let token = lexer.lex();
    let found = match text[at..].get(token.start..token.end) {
        None | Some("") => "the end".to_owned(),
        Some(found) => format!("`{}`", found.chars().take(40).collect::<String>()),
    };
    fault(text, at, &format!("expected {expected}, found {found}"))
}

/// The byte that the crate's line and column (in bytes, both from 1) stand for.
fn offset(text: &str, (line, column): (isize, isize)) -> usize {
    let line = usize::try_from(line - 1).unwrap_or(0);
    let column = usize::try_from(column - 1).unwrap_or(0);
    let before: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    text.floor_char_boundary((before + column).min(text.len()))
}

/// What the crate says it expected, and whether what was found instead is to be added.
fn expected(message: &str) -> (String, bool) {
    if let Some((_, expected)) = message.split_once(" expecting ") {
        return match expected {
            "expression" => ("an expression".to_owned(), true),
            "<EOF>" => ("an operator or the end".to_owned(), true),
            token => (format!("`{}`", token.trim_matches('\'')), true),
        };
    }
    match message {
        "unexpected token" => ("an expression".to_owned(), true),
        "expected identifier after '.'" => ("a name after `.`".to_owned(), true),
        "argument must be a simple name" => ("the first argument must be a name for the item".to_owned(), false),
        "invalid argument to has() macro" => ("`has` takes a field, as in has(input.note)".to_owned(), false),
        other => match other.strip_prefix("expected ") {
            Some(expected) => (expected.replace('\'', "`"), true),
            None => (other.to_owned(), false),
        },
    }
}
