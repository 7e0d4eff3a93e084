//! Helpers that make texts fit for their place: cut, listed, quoted for a shell.

use std::fmt::Display;

/// Returns the first `most` characters of a text.
pub(crate) fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

/// Returns all of them in one line: `a, b, c`.
pub(crate) fn listed<T: Display>(all: impl IntoIterator<Item = T>) -> String {
    let all: Vec<String> = all.into_iter().map(|one| one.to_string()).collect();
    all.join(", ")
}

/// Returns the first few in one line, and how many more there are.
pub fn abridged<T: Display>(all: impl ExactSizeIterator<Item = T>, most: usize) -> String {
    let more = all.len().saturating_sub(most);
    let first = listed(all.take(most));
    match more {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// Returns a text as one word for a shell.
pub(crate) fn shell_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_long_is_cut_and_what_is_many_counted() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("äbcd", 3), "äb…");
        assert_eq!(listed([1, 2, 3]), "1, 2, 3");
        assert_eq!(abridged(["a", "b"].iter(), 2), "a, b");
        assert_eq!(abridged(["a", "b", "c", "d"].iter(), 2), "a, b and 2 more");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
    }
}
