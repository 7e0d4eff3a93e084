//! Patterns with wildcards, as AWS and the settings write them.

use std::str::Chars;

/// Returns whether the whole of `text` matches `pattern`. `*` matches any run of characters, also
/// an empty one. Takes at most as many steps as the product of both lengths.
pub fn fits_stars(pattern: &str, text: &str) -> bool {
    fits_by(pattern, text, |wanted, given| wanted == given)
}

/// The same for patterns where `?` also matches exactly one character.
pub fn fits(pattern: &str, text: &str) -> bool {
    fits_by(pattern, text, |wanted, given| {
        wanted == '?' || wanted == given
    })
}

fn fits_by(pattern: &str, text: &str, is_one: impl Fn(char, char) -> bool) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    // The pattern after the last star, and the text that this star has not matched yet. Only the
    // last star is tried again: a longer match of an earlier one cannot help.
    let mut star: Option<(Chars<'_>, Chars<'_>)> = None;
    loop {
        let wanted = pattern.next();
        if wanted == Some('*') {
            star = Some((pattern.clone(), text.clone()));
            continue;
        }
        match (wanted, text.next()) {
            (None, None) => return true,
            // If this star takes more, even less is left for the rest of the pattern.
            (Some(_), None) => return false,
            (Some(wanted), Some(given)) if is_one(wanted, given) => {}
            _ => {
                let Some((after, left)) = &mut star else {
                    return false;
                };
                left.next();
                (pattern, text) = (after.clone(), left.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_run() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("a", "a", true),
            ("a", "ab", false),
            ("a", "", false),
            ("*", "", true),
            ("*", "anything", true),
            ("a*", "a", true),
            ("a*c", "abc", true),
            ("a*c", "abbc", true),
            ("a*c", "abb", false),
            ("a*c", "abcd", false),
            ("*.example.com", "www.example.com", true),
            ("*.example.com", "a.b.example.com", true),
            ("*.example.com", "*.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "www.example.com.evil.example", false),
            ("a*b*c", "axxbyybzzc", true),
            ("a*b*c", "axxbyybzz", false),
            ("a*b*c", "a-b-b-c", true),
            ("*ab", "aab", true),
            ("*b*b", "abab", true),
            ("a**b", "ab", true),
            ("*/x/*", "b/x/", true),
            ("ü*", "üx", true),
            ("abc", "abcd", false),
            ("/a", "/A", false),
        ] {
            assert_eq!(fits_stars(pattern, text), expected, "{pattern} {text}");
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_question_mark_stands_for_one_character_where_it_is_a_wildcard() {
        for (pattern, text, expected) in [
            ("a?c", "abc", true),
            ("a?c", "aüc", true),
            ("a?c", "ac", false),
            ("*?", "", false),
            ("*?", "ab", true),
            ("*?c*", "abcd", true),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
            assert!(!fits_stars(pattern, text), "{pattern} {text}");
        }
        assert!(fits_stars("a?*", "a?b"));
    }

    #[test]
    fn many_stars_take_no_longer() {
        let text = "a".repeat(5000);
        let start = std::time::Instant::now();
        assert!(!fits_stars(&format!("{}b", "a*".repeat(500)), &text));
        assert!(!fits(&"*a".repeat(64), &text[..63]));
        assert!(start.elapsed() < std::time::Duration::from_secs(1));
    }
}
