//! Texts that a person reads.

use std::borrow::Cow;

/// At most so many characters, and then `…`.
#[must_use]
pub fn shortened(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters_and_says_so() {
        assert_eq!(shortened("žluť", 4), "žluť");
        assert_eq!(shortened("žluť", 3), "žlu…");
    }
}
