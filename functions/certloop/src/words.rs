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

/// Returns when something is, as seen from `now`: `in 9 minutes`, `2 days ago`, `just now`.
pub(crate) fn relative(at: OffsetDateTime, now: OffsetDateTime) -> String {
    let away = at - now;
    if away.abs() < MOMENT {
        let words = if away.is_positive() {
            "in a moment"
        } else {
            "just now"
        };
        words.to_owned()
    } else if away.is_negative() {
        format!("{} ago", span(-away))
    } else {
        format!("in {}", span(away))
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

const MOMENT: Duration = Duration::seconds(30);

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

/// Breaks a text into lines of at most `width` columns, each behind `indent`. Words that are longer
/// stay whole, so that commands and ARNs can be copied.
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

/// Puts a text behind `before`: on the same line if it fits, otherwise in lines of its own behind
/// `indent`.
pub(crate) fn behind(before: &str, text: &str, width: usize, indent: &str) -> String {
    let line = format!("{before}{}", cut(text, usize::MAX));
    let line = line.trim_end();
    if line.chars().count() <= width || text.is_empty() {
        return format!("{line}\n");
    }
    let lines = wrapped(text, width, indent);
    format!("{}\n{lines}", before.trim_end())
}

/// Breaks a detail as [`wrapped`] does, with its ARNs shortened. The command that it may end with
/// stays whole on a line of its own, so that it can be copied.
pub(crate) fn detailed(detail: &str, width: usize, indent: &str) -> String {
    let (before, command) = split_repair(detail);
    let lines = wrapped(&with_short_arns(before), width, indent);
    match command {
        Some(command) => format!("{lines}{indent}repair: {}\n", cut(command, usize::MAX)),
        None => lines,
    }
}

/// Returns a detail without the command that it may end with, and that command.
pub(crate) fn split_repair(detail: &str) -> (&str, Option<&str>) {
    match detail.split_once(REPAIR) {
        Some((before, command)) => (before, Some(command)),
        None => (detail, None),
    }
}

/// What comes before a command in the details of problems and checks.
const REPAIR: &str = "; to repair it: ";

/// Returns the text with each ARN in it shortened.
pub(crate) fn with_short_arns(text: &str) -> String {
    let parts = arns_apart(text).into_iter().map(|(part, is_arn)| {
        if is_arn {
            short_arn(part)
        } else {
            part.to_owned()
        }
    });
    parts.collect()
}

/// Cuts a text into its ARNs (`true`) and what is between them.
pub(crate) fn arns_apart(text: &str) -> Vec<(&str, bool)> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("arn:") {
        let (before, from) = rest.split_at(at);
        let ends = |c: char| c.is_whitespace() || "\"'()[],;<>".contains(c);
        let whole = &from[..from.find(ends).unwrap_or(from.len())];
        // A sentence may go on behind it.
        let arn = whole.trim_end_matches([':', '.', '?', '!']);
        parts.push((before, false));
        parts.push((arn, arn.split(':').count() >= 6));
        rest = &from[arn.len()..];
    }
    parts.push((rest, false));
    parts.retain(|(part, _)| !part.is_empty());
    parts
}

/// Returns in few words what an ARN names: `listener app/web/f2f7dc8e (eu-west-1)`.
pub(crate) fn short_arn(arn: &str) -> String {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let [_, _, service, region, _, resource] = parts[..] else {
        return arn.to_owned();
    };
    let (kind, name) = resource.split_once(['/', ':']).unwrap_or(("", resource));
    let names: Vec<&str> = name.split('/').collect();
    let what = match (service, kind, names.as_slice()) {
        ("elasticloadbalancing", "listener", [scheme, balancer, _, id, ..]) => {
            format!("listener {scheme}/{balancer}/{}", beginning(id))
        }
        ("elasticloadbalancing", "loadbalancer", [scheme, balancer, ..]) => {
            format!("load balancer {scheme}/{balancer}")
        }
        ("elasticloadbalancing", "targetgroup", [group, ..]) => format!("target group {group}"),
        ("acm", "certificate", [id, ..]) => format!("certificate {}", beginning(id)),
        _ => format!("{service} {resource}"),
    };
    match region {
        "" => what,
        region => format!("{what} ({region})"),
    }
}

/// So much of an identifier tells it from others here.
fn beginning(id: &str) -> String {
    id.chars().take(8).collect()
}

/// Whether a character can be shown as it is: controls move the cursor, and marks of direction
/// turn what others read.
pub(crate) fn is_plain(c: char) -> bool {
    let turns = matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
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
        assert_eq!(relative(now + Duration::seconds(5), now), "in a moment");
        assert_eq!(relative(now - Duration::seconds(5), now), "just now");
        assert_eq!(relative(now, now), "just now");
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
        let detail = "the rule of priority 5 redirects; to repair it: aws elbv2 \
                      set-rule-priorities --region eu-central-1";
        assert_eq!(
            detailed(detail, 30, "  "),
            "  the rule of priority 5\n  redirects\n  repair: aws elbv2 set-rule-priorities \
                --region eu-central-1\n"
        );
    }

    #[test]
    fn arns_are_shortened_in_sentences_and_whole_in_commands() {
        let listener = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:listener/app/web/50dc6c495c0c9188/f2f7dc8efc522ab2";
        let ours =
            "arn:aws:acm:eu-west-1:123456789012:certificate/6d0ecf83-1eec-4f09-8a4b-1f0a5b0f8c11";
        let text = format!("{listener} has no room for {ours} (x): take {ours}; x");
        assert_eq!(
            with_short_arns(&text),
            "listener app/web/f2f7dc8e (eu-west-1) has no room for certificate 6d0ecf83 \
             (eu-west-1) (x): take certificate 6d0ecf83 (eu-west-1); x"
        );
        assert_eq!(with_short_arns("learn: to barn:"), "learn: to barn:");
        assert_eq!(short_arn("arn:aws:iam::1:role/renew"), "iam role/renew");
        let command = format!("it is full; to repair it: aws x {listener}");
        assert!(detailed(&command, 60, "").contains(listener));
    }

    #[test]
    fn what_does_not_fit_behind_something_is_below_it() {
        assert_eq!(behind("a  ", "b c", 10, "  "), "a  b c\n");
        assert_eq!(
            behind("a  ", "one two three four five", 24, "  "),
            "a\n  one two three four\n  five\n"
        );
        assert_eq!(behind("a  ", "", 10, "  "), "a\n");
    }

    #[test]
    fn nothing_that_others_wrote_moves_the_cursor() {
        assert_eq!(wrapped("a\u{1b}[2Jb", 40, ""), "a[2Jb\n");
        assert_eq!(cut("a\u{1b}[2Jb", 40), "a[2Jb");
        assert_eq!(cut("abcdefgh", 6), "abcd..");
    }
}
