//! A text that a simple regular expression matches: letters, classes, groups, alternatives, repetitions. What else there
//! is in expressions is not understood, and then there is no text.

use std::{iter::Peekable, str::Chars};

/// Of `*`, `+` and open repetitions.
const DEEPEST: usize = 16;

pub(super) fn matching(pattern: &str) -> Option<String> {
    let mut read = Reader { rest: pattern.chars().peekable() };
    let text = read.alternatives(DEEPEST)?;
    read.rest.peek().is_none().then_some(text)
}

struct Reader<'p> {
    rest: Peekable<Chars<'p>>,
}

impl Reader<'_> {
    /// The first of them.
    fn alternatives(&mut self, depth: usize) -> Option<String> {
        let first = self.sequence(depth)?;
        while self.rest.next_if_eq(&'|').is_some() {
            self.sequence(depth)?;
        }
        Some(first)
    }

    fn sequence(&mut self, depth: usize) -> Option<String> {
        let depth = depth.checked_sub(1)?;
        let mut text = String::new();
        while let Some(next) = self.rest.next_if(|next| !matches!(next, '|' | ')')) {
            let atom = match next {
                '^' | '$' => continue,
                '(' => {
                    if self.rest.next_if_eq(&'?').is_some() && self.rest.next() != Some(':') {
                        return None;
                    }
                    let inside = self.alternatives(depth)?;
                    self.rest.next_if_eq(&')')?;
                    inside
                }
                '[' => self.class()?.to_string(),
                '\\' => escaped(self.rest.next()?)?.to_string(),
                '.' => "x".to_owned(),
                '*' | '+' | '?' | '{' => return None,
                letter => letter.to_string(),
            };
            let count = self.count()?;
            text.push_str(&atom.repeat(count));
        }
        Some(text)
    }

    /// A letter of the class.
    fn class(&mut self) -> Option<char> {
        if self.rest.peek() == Some(&'^') {
            return None;
        }
        let mut first = None;
        loop {
            match self.rest.next()? {
                ']' if first.is_some() => return first,
                '\\' => {
                    let letter = escaped(self.rest.next()?)?;
                    first.get_or_insert(letter);
                }
                letter => {
                    first.get_or_insert(letter);
                }
            }
        }
    }

    /// How often what stands before is repeated, at the least.
    fn count(&mut self) -> Option<usize> {
        let count = match self.rest.peek() {
            Some('*' | '+' | '?') => {
                self.rest.next();
                1
            }
            Some('{') => {
                self.rest.next();
                let mut inside = String::new();
                loop {
                    match self.rest.next()? {
                        '}' => break,
                        letter => inside.push(letter),
                    }
                }
                let least = inside.split(',').next()?.trim();
                if least.is_empty() { 0 } else { least.parse().ok().filter(|least| *least <= 1_000)? }
            }
            _ => return Some(1),
        };
        self.rest.next_if_eq(&'?');
        Some(count)
    }
}

fn escaped(letter: char) -> Option<char> {
    match letter {
        'd' => Some('1'),
        'w' => Some('a'),
        's' => Some(' '),
        'p' | 'P' | 'D' | 'W' | 'S' | 'b' | 'B' => None,
        other => Some(other),
    }
}

#[cfg(test)]
mod tests {
    use super::matching;

    #[test]
    fn a_simple_pattern_is_matched_and_another_is_left_alone() {
        for (pattern, text) in [
            ("^[A-Z]{3}-\\d{4}$", "AAA-1111"),
            ("^(order|cart)_[a-z0-9]+$", "order_a"),
            ("^\\+?[1-9]\\d{1,14}$", "+11"),
            ("^a?(?:b|c)*\\.$", "ab."),
        ] {
            assert_eq!(matching(pattern).as_deref(), Some(text), "{pattern}");
        }
        for other in ["^[^a]$", "^(?=x)", "\\p{L}", "(", "[a", "a{2"] {
            assert_eq!(matching(other), None, "{other}");
        }
    }
}
