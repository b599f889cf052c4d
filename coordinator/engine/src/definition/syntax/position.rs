//! From JSON pointers to lines and columns, those of a whole text in one pass.
//!
//! The text need not be JSON to its end: what can be found is found, and of a pointer that leads nowhere its deepest part
//! that leads somewhere. Nothing recurses deeper than the pointers are long.

use std::collections::BTreeMap;

use crate::{
    definition::diagnostic::{Diagnostic, Mark, Position},
    value::pointer::segments,
};

/// Where the value of a JSON pointer stands in a text.
#[must_use]
pub fn position(text: &str, pointer: &str) -> Position {
    let mut scan = Scan::new(text);
    scan.want(pointer);
    scan.run();
    Position::of(text, scan.found(pointer, Mark::Value))
}

/// Gives every diagnostic that has none its place.
pub(in crate::definition) fn place(text: &str, diagnostics: &mut [Diagnostic]) {
    let mut scan = Scan::new(text);
    let mut missing: Vec<_> = diagnostics.iter_mut().filter(|diagnostic| diagnostic.position.is_none()).collect();
    if missing.is_empty() {
        return;
    }
    missing.iter().for_each(|diagnostic| scan.want(&diagnostic.pointer));
    scan.run();
    let mut offsets: Vec<_> = missing.iter().map(|fault| scan.found(&fault.pointer, fault.mark)).zip(0..).collect();
    offsets.sort_unstable();
    let (mut at, mut here) = (0, Position { line: 1, column: 1 });
    for (offset, index) in offsets {
        for letter in text[at..offset].chars() {
            here = match letter {
                '\n' => Position { line: here.line + 1, column: 1 },
                _ => Position { column: here.column + 1, ..here },
            };
        }
        at = offset;
        let fault: &mut Diagnostic = missing[index];
        fault.position = Some(here);
    }
}

/// A value that some pointer leads to or through.
#[derive(Debug, Default)]
struct Wanted {
    members: BTreeMap<String, usize>,
    items: BTreeMap<usize, usize>,
    key: Option<usize>,
    value: Option<usize>,
}

struct Scan<'t> {
    text: &'t str,
    bytes: &'t [u8],
    at: usize,
    /// The first is the whole text.
    wanted: Vec<Wanted>,
}

impl<'t> Scan<'t> {
    fn new(text: &'t str) -> Self {
        Self { text, bytes: text.as_bytes(), at: 0, wanted: vec![Wanted::default()] }
    }

    fn want(&mut self, pointer: &str) {
        let mut node = 0;
        for segment in segments(pointer) {
            node = match self.wanted[node].members.get(&segment) {
                Some(below) => *below,
                None => {
                    let below = self.wanted.len();
                    self.wanted.push(Wanted::default());
                    if let Ok(index) = segment.parse() {
                        self.wanted[node].items.insert(index, below);
                    }
                    self.wanted[node].members.insert(segment, below);
                    below
                }
            };
        }
    }

    /// The byte to point at.
    fn found(&self, pointer: &str, mark: Mark) -> usize {
        let (mut node, mut start) = (0, self.wanted[0].value.unwrap_or(0));
        let mut key = None;
        for segment in segments(pointer) {
            key = None;
            let Some(below) = self.wanted[node].members.get(&segment).copied() else { break };
            // Of two members of one name the second counts; what was found in the first stands before it.
            let Some(value) = self.wanted[below].value.filter(|value| *value > start) else { break };
            (node, start, key) = (below, value, self.wanted[below].key);
        }
        match mark {
            Mark::Key => key.unwrap_or(start),
            Mark::Value => start,
        }
    }

    fn run(&mut self) {
        self.space();
        self.value(0);
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn value(&mut self, node: usize) {
        self.wanted[node].value = Some(self.at);
        match self.peek() {
            Some(b'{') if !self.wanted[node].members.is_empty() => self.object(node),
            Some(b'[') if !self.wanted[node].items.is_empty() => self.array(node),
            Some(_) | None => self.skip(),
        }
    }

    fn object(&mut self, node: usize) {
        self.at += 1;
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                break;
            }
            let start = self.at;
            self.string();
            let below = self.key(start..self.at).and_then(|key| self.wanted[node].members.get(&*key).copied());
            self.space();
            if self.peek() != Some(b':') {
                return;
            }
            self.at += 1;
            self.space();
            match below {
                Some(below) => {
                    self.wanted[below].key = Some(start);
                    self.value(below);
                }
                None => self.skip(),
            }
            if !self.comma() {
                break;
            }
        }
        self.at += usize::from(self.peek() == Some(b'}'));
    }

    fn array(&mut self, node: usize) {
        self.at += 1;
        for index in 0.. {
            self.space();
            if matches!(self.peek(), None | Some(b']')) {
                break;
            }
            match self.wanted[node].items.get(&index).copied() {
                Some(below) => self.value(below),
                None => self.skip(),
            }
            if !self.comma() {
                break;
            }
        }
        self.at += usize::from(self.peek() == Some(b']'));
    }

    /// A member's name, quotes included, as it is meant.
    fn key(&self, range: std::ops::Range<usize>) -> Option<std::borrow::Cow<'t, str>> {
        let written = self.text.get(range)?;
        if written.contains('\\') {
            return serde_json::from_str::<String>(written).ok().map(Into::into);
        }
        written.strip_prefix('"')?.strip_suffix('"').map(Into::into)
    }

    /// Past the end of the value that starts here, however deep it is.
    fn skip(&mut self) {
        let mut depth = 0_usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => self.string(),
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' if depth > 0 => {
                    depth -= 1;
                    self.at += 1;
                }
                b'}' | b']' => break,
                b',' | b':' if depth == 0 => break,
                byte if depth == 0 && byte.is_ascii_whitespace() => break,
                _ => {
                    self.at += 1;
                    continue;
                }
            }
            if depth == 0 {
                break;
            }
        }
    }

    fn string(&mut self) {
        self.at += 1;
        while let Some(byte) = self.peek() {
            self.at += 1;
            match byte {
                b'\\' => self.at += 1,
                b'"' => break,
                _ => {}
            }
        }
        self.at = self.at.min(self.bytes.len());
    }

    fn comma(&mut self) -> bool {
        self.space();
        let is_comma = self.peek() == Some(b',');
        self.at += usize::from(is_comma);
        is_comma
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::Code;

    fn found(text: &str, pointer: &str, mark: Mark) -> (usize, usize) {
        let pointer = pointer.to_owned();
        let mut diagnostics =
            [Diagnostic { code: Code::InvalidJson, pointer, message: String::new(), help: None, position: None, mark }];
        place(text, &mut diagnostics);
        let position = diagnostics[0].position.expect("a place");
        if mark == Mark::Value {
            assert_eq!(super::position(text, &diagnostics[0].pointer), position);
        }
        (position.line, position.column)
    }

    #[test]
    fn a_pointer_leads_to_a_member_s_name_and_value() {
        let text = " {\"a/b\": {\"~\": [1, \"é]\", {\"\\u0063\": tru}]},\n\"x\": \"\\\"}\",\r\n\t\"x\": {\"y\": 2} } ";
        assert_eq!(found(text, "", Mark::Value), (1, 2));
        assert_eq!(found(text, "/a~1b/~0/0", Mark::Value), (1, 17));
        assert_eq!(found(text, "/a~1b/~0/1", Mark::Key), (1, 20), "an item has no name");
        assert_eq!(found(text, "/a~1b/~0/2/c", Mark::Key), (1, 27));
        assert_eq!(found(text, "/a~1b/~0/2/c", Mark::Value), (1, 37));
        assert_eq!(found(text, "/x", Mark::Key), (3, 2), "the second of two");
        assert_eq!(found(text, "/x/y", Mark::Value), (3, 13));
    }

    #[test]
    fn what_leads_nowhere_is_found_as_far_as_it_leads_somewhere() {
        let text = r#"{"steps": [{"name": "a"}], "x": {"y": 1}, "x": {}}"#;
        assert_eq!(found(text, "/steps/0/action/path", Mark::Key), (1, 12));
        assert_eq!(found(text, "/steps/7", Mark::Value), (1, 11));
        assert_eq!(found(text, "/steps/x", Mark::Value), (1, 11));
        assert_eq!(found(text, "/steps/0/name/deeper", Mark::Value), (1, 21));
        assert_eq!(found(text, "/x/y", Mark::Value), (1, 48), "it stood in the first of two");
    }

    #[test]
    fn all_places_are_found_together_in_whatever_order_they_are_asked_for() {
        let text = "{\n\"a\": [1,\n2],\n\"b\": 3}";
        let mut diagnostics = ["/b", "/a/1", "", "/a/0", "/a/1"].map(|pointer| Diagnostic {
            code: Code::InvalidJson,
            pointer: pointer.to_owned(),
            message: String::new(),
            help: None,
            position: None,
            mark: Mark::Value,
        });
        place(text, &mut diagnostics);
        let lines = diagnostics.map(|diagnostic| diagnostic.position.expect("a place").line);
        assert_eq!(lines, [4, 3, 1, 2, 3]);
    }

    #[test]
    fn broken_text_is_searched_without_a_panic() {
        let text = r#"{"a": [1, {"b": "\\é", "c" : }, ]], "d": nul"#;
        for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
            for pointer in ["", "/a", "/a/1", "/a/1/b", "/a/1/c", "/a/2", "/d", "/d/e"] {
                let Position { line, column } = position(&text[..end], pointer);
                assert!(line == 1 && column <= end + 1);
            }
        }
        let deep = "[".repeat(1_000_000);
        assert_eq!(position(&deep, "/0/0"), Position { line: 1, column: 3 });
        assert_eq!(position(&deep, &"/0".repeat(1_000)), Position { line: 1, column: 1_001 });
    }
}
