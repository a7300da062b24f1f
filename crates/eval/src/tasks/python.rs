//! What Python's string methods do, where the harness's prompts depend on it and Rust's do otherwise.

/// `str.isspace` of one character. Rust's notion lacks the four separators from U+001C.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

/// `str.strip`.
pub fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// The text without trailing white space, and that white space.
pub fn split_trailing_space(text: &str) -> (&str, &str) {
    text.split_at(text.trim_end_matches(is_space).len())
}

/// `str.capitalize`: the first letter large and all others small. Of the letters whose title case is not their upper case only
/// the Latin digraphs (dž, lj, nj, dz) are told apart; Georgian and Greek ones with iota subscript become upper case.
pub fn capitalize(text: &str) -> String {
    let mut characters = text.chars();
    let Some(first) = characters.next() else { return String::new() };
    let mut upper = first.to_uppercase();
    let title = match first {
        '\u{01c4}'..='\u{01c6}' => '\u{01c5}',
        '\u{01c7}'..='\u{01c9}' => '\u{01c8}',
        '\u{01ca}'..='\u{01cc}' => '\u{01cb}',
        '\u{01f1}'..='\u{01f3}' => '\u{01f2}',
        _ => upper.next().unwrap_or(first),
    };
    // one letter may become two, of which only the first is large: ß, Ss
    let rest: String = if title == first { String::new() } else { upper.collect() };
    let mut capitalized = String::from(title);
    if !matches!(first, '\u{01c4}'..='\u{01cc}' | '\u{01f1}'..='\u{01f3}') {
        capitalized.push_str(&rest.to_lowercase());
    }
    capitalized.push_str(&characters.as_str().to_lowercase());
    capitalized
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What CPython 3.11 answers.
    #[test]
    fn capitals_are_those_of_python() {
        for (text, expected) in [
            ("", ""),
            ("he Said NO.", "He said no."),
            ("[title] A B", "[title] a b"),
            ("ßa", "Ssa"),
            ("ǆA", "ǅa"),
            ("ÉCOLE", "École"),
            ("한국 A", "한국 a"),
        ] {
            assert_eq!(capitalize(text), expected, "{text}");
        }
    }

    #[test]
    fn space_is_that_of_python() {
        assert_eq!(strip("\u{1f} a\u{a0}"), "a");
        assert_eq!(split_trailing_space("a b \n"), ("a b", " \n"));
        assert_eq!(split_trailing_space("a"), ("a", ""));
    }
}
