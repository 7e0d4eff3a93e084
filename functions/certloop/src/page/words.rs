//! Pure: text, instants and numbers as the page has them.

use std::fmt::{self, Write as _};

use time::{OffsetDateTime, UtcOffset};

use crate::words::{arns_apart, relative, short_arn};

/// Text that others wrote: harmless inside an element and inside a quoted attribute, and what it
/// shows is what it says.
pub(super) struct Text<'t>(pub(super) &'t str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for character in self.0.chars() {
            match character {
                '&' => out.write_str("&amp;")?,
                '<' => out.write_str("&lt;")?,
                '>' => out.write_str("&gt;")?,
                '"' => out.write_str("&quot;")?,
                '\'' => out.write_str("&#39;")?,
                '\n' | '\t' => out.write_char(character)?,
                _ if character.is_control() || turns_the_text(character) => {
                    out.write_char(char::REPLACEMENT_CHARACTER)?;
                }
                _ => out.write_char(character)?,
            }
        }
        Ok(())
    }
}

/// Whether a character changes the direction of what follows: with them a name can look like
/// another one.
fn turns_the_text(character: char) -> bool {
    matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

/// A sentence that others wrote: its ARNs are shortened, each with the whole in its title.
pub(super) struct Sentence<'t>(pub(super) &'t str);

impl fmt::Display for Sentence<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (part, is_arn) in arns_apart(self.0) {
            if is_arn {
                write!(out, "{}", Arn(part))?;
            } else {
                write!(out, "{}", Text(part))?;
            }
        }
        Ok(())
    }
}

/// An ARN, shortened, with the whole in its title.
pub(super) struct Arn<'t>(pub(super) &'t str);

impl fmt::Display for Arn<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, short) = (Text(self.0), short_arn(self.0));
        write!(out, "<abbr title=\"{whole}\">{}</abbr>", Text(&short))
    }
}

/// An instant as a `time` element, to the minute, in UTC.
pub(super) struct Instant(pub(super) OffsetDateTime);

/// The same behind how far off it is: `in 3 days, 2026-03-04 09:20 UTC`.
pub(super) struct Relative {
    pub(super) at: OffsetDateTime,
    pub(super) now: OffsetDateTime,
}

impl fmt::Display for Relative {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}, {}", relative(self.at, self.now), Instant(self.at))
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.0.to_offset(UtcOffset::UTC);
        let (year, month, day) = at.to_calendar_date();
        let (hour, minute, second) = at.to_hms();
        let month = u8::from(month);
        write!(
            out,
            "<time datetime=\"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z\">\
             {}</time>",
            crate::words::minute(at)
        )
    }
}

/// A number with its thousands set apart.
pub(super) struct Figure(pub(super) u64);

impl fmt::Display for Figure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (index, digit) in digits.char_indices() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                write!(out, ",")?;
            }
            write!(out, "{digit}")?;
        }
        Ok(())
    }
}

/// Writes the command that helps, where there is one. People copy it into a shell: a name that
/// would do something there gets no command.
pub(super) fn what_helps(out: &mut String, command: Option<String>) {
    let is_harmless = |command: &String| {
        let mut characters = command.chars();
        characters.all(|c| c.is_ascii_alphanumeric() || " .-_".contains(c))
    };
    if let Some(command) = command.filter(is_harmless) {
        let _ = writeln!(
            out,
            "<p class=\"do\">What helps: <code>{}</code></p>",
            Text(&command)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    #[test]
    fn text_is_only_text() {
        assert_eq!(
            Text("<b title=\"a\" id='b'>&amp;").to_string(),
            "&lt;b title=&quot;a&quot; id=&#39;b&#39;&gt;&amp;amp;"
        );
        assert_eq!(
            Text("a\u{202e}moc\u{2066}\0\u{1b}[31m\r\n\té").to_string(),
            "a\u{fffd}moc\u{fffd}\u{fffd}\u{fffd}[31m\u{fffd}\n\té"
        );
    }

    #[test]
    fn an_arn_is_shortened_and_its_title_has_the_whole() {
        let arn = "arn:aws:acm:eu-west-1:123456789012:certificate/6d0ecf83-1eec-4f09";
        let sentence = format!("<b>{arn}\"> is full");
        assert_eq!(
            Sentence(&sentence).to_string(),
            format!(
                "&lt;b&gt;<abbr title=\"{arn}\">certificate 6d0ecf83 (eu-west-1)</abbr>&quot;&gt; \
                 is full"
            )
        );
    }

    #[test]
    fn instants_are_told_in_utc() {
        let east = AT.to_offset(UtcOffset::from_hms(5, 30, 0).unwrap());
        assert_eq!(
            Instant(east).to_string(),
            "<time datetime=\"1970-01-01T00:00:00Z\">1970-01-01 00:00 UTC</time>"
        );
    }

    #[test]
    fn thousands_are_set_apart() {
        for (count, wanted) in [
            (0, "0"),
            (999, "999"),
            (5000, "5,000"),
            (1234567, "1,234,567"),
        ] {
            assert_eq!(Figure(count).to_string(), wanted);
        }
    }
}
