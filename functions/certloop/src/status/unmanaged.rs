//! Pure: the certificates that certloop does not manage, and how to take them over.

use certificates::invocation::unmanaged::Unmanaged;
use certificates::values::names::{CertificateName, DnsName};
use certificates::values::text::abridged;
use time::OffsetDateTime;

use crate::terminal::{Ink, Screen};
use crate::words::{cut, day, relative, short_arn, wrapped};

/// Lists them, those that end soonest first, `most` at most; then the commands that take them over,
/// of many only one.
pub(super) fn rendered(
    all: &[Unmanaged],
    now: OffsetDateTime,
    screen: Screen,
    most: usize,
) -> String {
    if all.is_empty() {
        return "\ncertloop manages all certificates here.\n".to_owned();
    }
    let mut sorted: Vec<&Unmanaged> = all.iter().collect();
    sorted.sort_by(|a, b| (a.not_after, &a.arn).cmp(&(b.not_after, &b.arn)));
    let heading = screen.ink(Ink::Strong, "Not managed by certloop");
    let mut text = format!("\n{heading}\n");
    let shown = &sorted[..sorted.len().min(most)];
    let widest = shown.iter().map(|one| names_of(one).chars().count()).max();
    let widest = widest.unwrap_or_default();
    for place in places(shown) {
        text += &wrapped(&place, screen.width, "  ");
        for one in shown.iter().filter(|one| place_of(one) == place) {
            text += &entry(one, widest, now, screen);
        }
    }
    let more = sorted.len().saturating_sub(most);
    if more > 0 {
        text += &format!("  ... and {more} more (--all shows them)\n");
    }
    let mut commands = Vec::new();
    for one in sorted {
        // What carries our tag is no other's to take over from.
        commands.extend(command(one).filter(|_| one.stray.is_none()));
    }
    text + &takeover(&commands, most == usize::MAX)
}

/// Shows how to take them over: all commands if there are few or if they are asked for.
fn takeover(commands: &[String], is_all: bool) -> String {
    let shown = if is_all || commands.len() <= FEW {
        commands.len()
    } else {
        1
    };
    let mut text = String::new();
    for command in commands.iter().take(shown) {
        text += &format!("  take over: {}\n", cut(command, usize::MAX));
    }
    let more = commands.len() - shown;
    if more > 0 {
        text += &format!("  {more} more can be taken over: --all shows the commands\n");
    }
    text
}

/// Returns the places where certificates are used, each once.
fn places(all: &[&Unmanaged]) -> Vec<String> {
    let mut places: Vec<String> = Vec::new();
    for place in all.iter().map(|one| place_of(one)) {
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

/// Says where a certificate is used.
fn place_of(one: &Unmanaged) -> String {
    match one.in_use_by.as_slice() {
        [] => "in use by nothing:".to_owned(),
        users => {
            let users = users.iter().map(|arn| short_arn(arn));
            format!("on {}:", abridged(users, MOST_USERS))
        }
    }
}

fn names_of(one: &Unmanaged) -> String {
    match one.domains.as_slice() {
        [] => "no names".to_owned(),
        [first] => cut(first, LONGEST),
        [first, others @ ..] => format!("{} +{}", cut(first, LONGEST), others.len()),
    }
}

/// Says in a line what it is, until when and who issued it.
fn entry(one: &Unmanaged, widest: usize, now: OffsetDateTime, screen: Screen) -> String {
    let (ends, is_soon) = match one.not_after {
        Some(end) => {
            let words = format!("ends {} ({})", day(end), relative(end, now));
            (words, end <= now + time::Duration::days(30))
        }
        None => ("end unknown".to_owned(), false),
    };
    let names = names_of(one);
    let issuer = one.issuer.as_deref().unwrap_or("unknown issuer");
    let before = format!("{INDENT}{names:widest$}  {ends}  ");
    let room = screen.width.saturating_sub(before.chars().count());
    // Where there is no room for it, the issuer is what people miss least.
    let line = if room < 8 {
        before.trim_end().to_owned()
    } else {
        format!("{before}{}", cut(issuer, room))
    };
    let line = if is_soon {
        line.replacen(&ends, &screen.ink(Ink::Bad, &ends), 1)
    } else {
        line
    };
    let mut text = format!("{line}\n");
    if let Some(name) = &one.stray {
        let words = format!(
            "once {name:?} of this installation: nothing in the bucket knows it, and nothing \
             renews it"
        );
        let lines = wrapped(&words, screen.width, FURTHER);
        text += &format!("{}\n", screen.ink(Ink::Bad, lines.trim_end()));
    }
    text
}

/// Returns the command that takes it over from the listeners it is on.
fn command(one: &Unmanaged) -> Option<String> {
    let of = |kind: &'static str| one.in_use_by.iter().filter(move |arn| arn.contains(kind));
    let mut listeners: Vec<_> = of(":listener/")
        .map(|arn| format!(" --listener {arn}"))
        .collect();
    // Which of its listeners holds it is known only where a listener holds one of ours.
    if listeners.is_empty() && of(":loadbalancer/app/").next().is_some() {
        listeners.push(" --listener ARN-OF-THE-LISTENER".to_owned());
    }
    // What others have written into a certificate gets into no command unless it is a name.
    let mut domains = one.domains.iter();
    let are_names = domains.all(|domain| domain.parse::<DnsName>().is_ok() && is_public(domain));
    let first = one
        .domains
        .first()
        .filter(|_| !listeners.is_empty() && are_names)?;
    let name: CertificateName = first.replace('.', "-").parse().ok()?;
    let domains: String = (one.domains.iter())
        .map(|domain| format!(" --domain {domain}"))
        .collect();
    Some(format!(
        "certloop add {name}{domains}{} --supersedes {}",
        listeners.concat(),
        one.arn
    ))
}

/// Whether an authority may issue for the name: the DNS keeps some endings for other uses (RFC
/// 6761, RFC 6762, and `internal`).
fn is_public(domain: &str) -> bool {
    let ending = domain.rsplit('.').next().unwrap_or_default();
    !["internal", "invalid", "local", "localhost", "test"].contains(&ending)
}

const FEW: usize = 3;
const MOST_USERS: usize = 3;
const LONGEST: usize = 30;
const INDENT: &str = "    ";
const FURTHER: &str = "      ";

#[cfg(test)]
mod tests {
    use serde_json::json;
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-03-04 09:20 UTC);
    const PLAIN: Screen = Screen {
        colours: false,
        width: 400,
    };

    #[test]
    fn each_is_shown_with_its_end_and_the_command_that_takes_it_over() {
        let listener = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:listener/app/web/1/2";
        let arn = "arn:aws:acm:eu-west-1:123456789012:certificate/1";
        let listed = json!([
            {"arn": "arn:later", "domains": ["later.example.com"],
             "notAfter": "2027-01-01T00:00:00Z", "inUseBy": []},
            {"arn": arn, "domains": ["old.example.com", "www.old.example.com"],
             "notAfter": "2026-03-14T09:20:00Z",
             "inUseBy": [listener], "issuer": "Some CA"},
            {"arn": "arn:stray", "domains": ["lost.example.com"],
             "notAfter": "2028-01-01T00:00:00Z", "inUseBy": [listener],
             "stray": "lost"},
        ]);
        let listed: Vec<Unmanaged> = serde_json::from_value(listed).unwrap();
        let text = rendered(&listed, NOW, PLAIN, 40);
        let command = format!(
            "\n  take over: certloop add old-example-com --domain old.example.com --domain \
             www.old.example.com --listener {listener} --supersedes {arn}\n"
        );
        for words in [
            "\n  on listener app/web/2 (eu-west-1):\n    old.example.com +1  ends 2026-03-14 (in \
             10 days)  Some CA\n    lost.example.com ",
            "\n  in use by nothing:\n    later.example.com   ends 2027-01-01 (in 302 days)  \
             unknown issuer\n",
            "\n      once \"lost\" of this installation: nothing in the bucket knows it",
            &command,
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert_eq!(text.matches("take over").count(), 1, "{text}");
        assert_eq!(text.matches("arn:").count(), 2, "{text}");
    }

    #[test]
    fn of_many_one_command_is_shown_and_no_line_is_too_wide() {
        let listener = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:listener/app/web/1/2";
        let of = |count: usize, ending: &str| -> Vec<Unmanaged> {
            let one = |index| Unmanaged {
                arn: format!("arn:aws:acm:eu-west-1:123456789012:certificate/{index}"),
                domains: vec![format!("old-{index}.{ending}")],
                in_use_by: vec![listener.to_owned()],
                ..Unmanaged::default()
            };
            (0..count).map(one).collect()
        };
        let narrow = Screen {
            colours: false,
            width: 60,
        };
        let text = rendered(&of(25, "example.com"), NOW, narrow, 40);
        assert_eq!(text.matches("take over:").count(), 1, "{text}");
        assert!(
            text.contains("  24 more can be taken over: --all"),
            "{text}"
        );
        let wide = text
            .lines()
            .find(|line| line.chars().count() > 60 && !line.contains("take over:"));
        assert_eq!(wide, None, "{text}");
        let all = rendered(&of(45, "example.com"), NOW, narrow, usize::MAX);
        assert_eq!(all.matches("take over:").count(), 45);
        let none = rendered(&of(1, "invalid"), NOW, narrow, 40);
        assert!(!none.contains("take over"), "{none}");
    }
}
