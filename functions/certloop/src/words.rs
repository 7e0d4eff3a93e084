//! Pure: instants, spans and long sentences as people read them, and names as they type them.

pub(crate) use certificates::values::instant::day;
use certificates::values::names::CertificateName;
use time::{Duration, OffsetDateTime, UtcOffset};

use crate::cli_error::CliError;

/// Returns the minute, `2026-03-04 09:20 UTC`.
pub(crate) fn minute(at: OffsetDateTime) -> String {
    let utc = at.to_offset(UtcOffset::UTC);
    format!("{} {:02}:{:02} UTC", day(at), utc.hour(), utc.minute())
}

/// Returns the second, `2026-03-04 09:20:44 UTC`.
pub(crate) fn second(at: OffsetDateTime) -> String {
    let utc = at.to_offset(UtcOffset::UTC);
    let (hour, minute, second) = (utc.hour(), utc.minute(), utc.second());
    format!("{} {hour:02}:{minute:02}:{second:02} UTC", day(at))
}

/// Returns when something is, as seen from `now`: `in 9 minutes`, `2 days ago`, `now`.
pub(crate) fn relative(at: OffsetDateTime, now: OffsetDateTime) -> String {
    let away = at - now;
    match away.abs() < Duration::seconds(30) {
        true => "now".to_owned(),
        false if away.is_negative() => format!("{} ago", span(-away)),
        false => format!("in {}", span(away)),
    }
}

/// Returns a span in one unit: `45 seconds`, `9 minutes`, `30 hours`, `89 days`.
pub(crate) fn span(span: Duration) -> String {
    let (count, unit) = match span.whole_seconds() {
        seconds @ ..100 => (seconds, "second"),
        seconds @ ..5_400 => (rounded(seconds, 60), "minute"),
        seconds @ ..172_800 => (rounded(seconds, 3_600), "hour"),
        seconds => (seconds / 86_400, "day"),
    };
    counted(count, unit)
}

fn rounded(of: i64, by: i64) -> i64 {
    (of + by / 2) / by
}

/// Returns a count with its noun: `1 day`, `3 days`.
pub(crate) fn counted(count: i64, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}

/// Breaks a text into lines of at most `width` columns, each behind `indent`. Words that are longer stay whole, so that commands and ARNs
/// can be copied.
pub(crate) fn wrapped(text: &str, width: usize, indent: &str) -> String {
    let room = width.saturating_sub(indent.chars().count()).max(20);
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut columns = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if columns > 0 && columns + 1 + length > room {
            lines.push(std::mem::take(&mut line));
            columns = 0;
        }
        if columns > 0 {
            line.push(' ');
            columns += 1;
        }
        // What others wrote may not move the cursor.
        line.extend(word.chars().filter(|c| is_plain(*c)));
        columns += length;
    }
    lines.push(line);
    lines
        .iter()
        .map(|line| format!("{indent}{line}\n"))
        .collect()
}

/// Breaks a detail as [`wrapped`] does, but leaves the command that it may end with whole on a line of its own, so that it can be copied.
pub(crate) fn detailed(detail: &str, width: usize, indent: &str) -> String {
    let Some((before, command)) = detail.split_once(REPAIR) else {
        return wrapped(detail, width, indent);
    };
    let command = cut(command, usize::MAX);
    format!(
        "{}{indent}repair: {command}\n",
        wrapped(before, width, indent)
    )
}

/// What stands before a command in the details of problems and checks.
const REPAIR: &str = "; to repair it: ";

/// Whether a character is one that is seen where it stands: controls move the cursor, and marks of direction turn what others read.
pub(crate) fn is_plain(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !c.is_control() && !turns
}

/// Returns the text without what would move the cursor, but for its line breaks.
pub(crate) fn clean(text: &str) -> String {
    text.chars()
        .filter(|c| *c == '\n' || is_plain(*c))
        .collect()
}

/// Returns the text without what would move the cursor, cut to so many columns.
pub(crate) fn cut(text: &str, columns: usize) -> String {
    let clean: Vec<char> = text.chars().filter(|c| is_plain(*c)).collect();
    if clean.len() <= columns {
        return clean.into_iter().collect();
    }
    let kept = columns.saturating_sub(2);
    clean.into_iter().take(kept).chain("..".chars()).collect()
}

/// Reads a document's name as it was typed.
pub(crate) fn parsed(name: &str) -> Result<CertificateName, CliError> {
    name.parse()
        .map_err(|error| CliError::misused(format!("the name {name:?}: {error}")))
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn spans_are_told_in_the_unit_that_tells_most() {
        for (seconds, words) in [
            (1, "1 second"),
            (99, "99 seconds"),
            (600, "10 minutes"),
            (5_399, "90 minutes"),
            (6_000, "2 hours"),
            (172_799, "48 hours"),
            (172_800, "2 days"),
            (89 * 86_400 + 80_000, "89 days"),
        ] {
            assert_eq!(span(Duration::seconds(seconds)), words);
        }
    }

    #[test]
    fn instants_are_told_from_now() {
        let now = datetime!(2026-03-04 09:20 UTC);
        assert_eq!(relative(now + Duration::minutes(9), now), "in 9 minutes");
        assert_eq!(relative(now - Duration::days(3), now), "3 days ago");
        assert_eq!(relative(now + Duration::seconds(5), now), "now");
        assert_eq!(minute(now), "2026-03-04 09:20 UTC");
    }

    #[test]
    fn long_texts_are_broken_between_words_only() {
        let text = "one two three https://example.com/a/very/long/address four";
        assert_eq!(
            wrapped(text, 24, "  "),
            "  one two three\n  https://example.com/a/very/long/address\n  four\n"
        );
        assert_eq!(wrapped("", 24, "  "), "  \n");
    }

    #[test]
    fn a_command_at_the_end_can_be_copied() {
        let detail = "the rule of priority 5 redirects; to repair it: aws elbv2 set-rule-priorities --region eu-central-1";
        assert_eq!(
            detailed(detail, 30, "  "),
            "  the rule of priority 5\n  redirects\n  repair: aws elbv2 set-rule-priorities --region eu-central-1\n"
        );
    }

    #[test]
    fn nothing_that_others_wrote_moves_the_cursor() {
        assert_eq!(wrapped("a\u{1b}[2Jb", 40, ""), "a[2Jb\n");
        assert_eq!(cut("a\u{1b}[2Jb", 40), "a[2Jb");
        assert_eq!(cut("abcdefgh", 6), "abcd..");
    }
}
