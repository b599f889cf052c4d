//! From a JSON pointer to the bytes it means.
//!
//! The text need not be JSON to its end: what can be found is found, and of a pointer that leads nowhere its deepest part
//! that leads somewhere. Nothing recurses.

use std::ops::Range;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Located {
    /// Of a member: its name, quotes included.
    pub(super) key: Option<Range<usize>>,
    pub(super) value: Range<usize>,
}

pub(super) fn locate(text: &str, pointer: &str) -> Located {
    let mut scan = Scan { bytes: text.as_bytes(), at: 0 };
    scan.space();
    let mut found = Located { key: None, value: scan.value() };
    for segment in pointer.split('/').skip(1) {
        let segment = segment.replace("~1", "/").replace("~0", "~");
        let mut inner = Scan { bytes: scan.bytes, at: found.value.start };
        let below = match inner.bytes.get(inner.at) {
            Some(b'{') => inner.member(text, &segment),
            Some(b'[') => segment.parse().ok().and_then(|index| inner.item(index)),
            Some(_) | None => None,
        };
        match below {
            Some(below) => found = below,
            None => break,
        }
    }
    found
}

struct Scan<'t> {
    bytes: &'t [u8],
    at: usize,
}

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    /// Past the end of the value that starts here, however deep it is.
    fn value(&mut self) -> Range<usize> {
        let start = self.at;
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
        start..self.at
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

    /// The member of this name; of two, the second, which is the one to take out.
    fn member(&mut self, text: &str, name: &str) -> Option<Located> {
        let mut found = None;
        self.at += 1;
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return found;
            }
            let start = self.at;
            self.string();
            let key = start..self.at;
            self.space();
            if self.peek() != Some(b':') {
                return found;
            }
            self.at += 1;
            self.space();
            let value = self.value();
            if text.get(key.clone()).and_then(|key| serde_json::from_str::<String>(key).ok()).as_deref() == Some(name) {
                found = Some(Located { key: Some(key), value });
            }
            if !self.comma() {
                return found;
            }
        }
    }

    fn item(&mut self, index: usize) -> Option<Located> {
        self.at += 1;
        for at in 0.. {
            self.space();
            if matches!(self.peek(), None | Some(b']')) {
                return None;
            }
            let value = self.value();
            if at == index {
                return Some(Located { key: None, value });
            }
            if !self.comma() {
                return None;
            }
        }
        None
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

    fn found(text: &str, pointer: &str) -> (Option<String>, String) {
        let Located { key, value } = locate(text, pointer);
        (key.map(|key| text[key].to_owned()), text[value].to_owned())
    }

    #[test]
    fn a_pointer_leads_to_a_member_s_name_and_value() {
        let text = r#" {"a/b": {"~": [1, "]", {"\u0063": tru}]}, "x": "\"}", "x": 2 } "#;
        assert_eq!(found(text, "").1, text.trim());
        assert_eq!(found(text, "/a~1b/~0/0"), (None, "1".into()));
        assert_eq!(found(text, "/a~1b/~0/1"), (None, "\"]\"".into()));
        assert_eq!(found(text, "/a~1b/~0/2/c"), (Some("\"\\u0063\"".into()), "tru".into()));
        assert_eq!(found(text, "/x"), (Some("\"x\"".into()), "2".into()), "the second of two");
    }

    #[test]
    fn what_leads_nowhere_is_found_as_far_as_it_leads_somewhere() {
        let text = r#"{"steps": [{"name": "a"}]}"#;
        assert_eq!(found(text, "/steps/0/action/path"), (None, r#"{"name": "a"}"#.into()));
        assert_eq!(found(text, "/steps/7").1, r#"[{"name": "a"}]"#);
        assert_eq!(found(text, "/steps/x").1, r#"[{"name": "a"}]"#);
        assert_eq!(found(text, "/steps/0/name/deeper").1, "\"a\"");
    }

    #[test]
    fn broken_text_is_searched_without_a_panic() {
        let text = r#"{"a": [1, {"b": "\\é", "c" : }, ]], "d": nul"#;
        for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
            for pointer in ["", "/a", "/a/1", "/a/1/b", "/a/1/c", "/a/2", "/d", "/d/e"] {
                let Located { key, value } = locate(&text[..end], pointer);
                assert!(value.end <= end && value.start <= value.end && key.is_none_or(|key| key.end <= end));
            }
        }
        let deep = "[".repeat(1_000_000);
        assert_eq!(locate(&deep, "/0/0").value, 2..1_000_000);
    }
}
