//! JSON pointers (RFC 6901).

/// One segment as a pointer has it.
#[must_use]
pub fn escape(segment: &str) -> String {
    segment.replace('~', "~0").replace('/', "~1")
}

/// The segments of a pointer, as the members' names are.
pub fn segments(pointer: &str) -> impl Iterator<Item = String> {
    pointer.split('/').skip(1).map(|segment| segment.replace("~1", "/").replace("~0", "~"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_escaped_reads_as_it_was() {
        let names = ["a/b", "~", "~1", "", "plain"];
        let pointer: String = names.iter().map(|name| format!("/{}", escape(name))).collect();
        assert_eq!(segments(&pointer).collect::<Vec<_>>(), names);
        assert_eq!(segments("").count(), 0);
    }
}
