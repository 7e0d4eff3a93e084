//! Pure: the certificates that are not ours, and how to take them over.

use certificates::invocation::unmanaged::Unmanaged;
use certificates::values::names::{CertificateName, DnsName};
use time::OffsetDateTime;

use crate::terminal::{Ink, Screen};
use crate::words::{cut, day, relative};

/// Lists them, those that end soonest first.
pub(super) fn rendered(all: &[Unmanaged], now: OffsetDateTime, screen: Screen) -> String {
    if all.is_empty() {
        return "\nNo certificate here is not ours.\n".to_owned();
    }
    let mut sorted: Vec<&Unmanaged> = all.iter().collect();
    sorted.sort_by(|a, b| (a.not_after, &a.arn).cmp(&(b.not_after, &b.arn)));
    let mut text = format!("\n{}\n", screen.ink(Ink::Strong, "Not ours"));
    for one in sorted {
        text += &entry(one, now, screen);
    }
    text
}

fn entry(one: &Unmanaged, now: OffsetDateTime, screen: Screen) -> String {
    let names = one.domains.iter().take(3).map(String::as_str);
    let mut names = names.collect::<Vec<_>>().join(", ");
    if one.domains.len() > 3 {
        names += &format!(" +{}", one.domains.len() - 3);
    }
    let ends = match one.not_after {
        Some(end) => {
            let words = format!("ends {} ({})", day(end), relative(end, now));
            let soon = end <= now + time::Duration::days(30);
            screen.ink(if soon { Ink::Bad } else { Ink::Faint }, &words)
        }
        None => "end unknown".to_owned(),
    };
    let stray = one.stray.as_ref().map(|name| {
        let words = format!("once {name:?} of this installation: nothing in the bucket knows it, and nobody renews it");
        format!("    {}\n", screen.ink(Ink::Bad, &cut(&words, usize::MAX)))
    });
    let issuer = one.issuer.as_deref().unwrap_or("unknown issuer");
    let mut text = format!("  {}  {ends}  {}\n", cut(&names, 60), cut(issuer, 40));
    text += &format!("    {}\n", cut(&one.arn, usize::MAX));
    text += stray.as_deref().unwrap_or_default();
    if one.in_use_by.is_empty() {
        text += "    in use by nothing\n";
    }
    for user in &one.in_use_by {
        text += &format!("    in use by {}\n", cut(user, usize::MAX));
    }
    // What carries our tag is no other's to take over from.
    if let Some(command) = command(one).filter(|_| one.stray.is_none()) {
        text += &format!("    take over: {}\n", cut(&command, usize::MAX));
    }
    text
}

/// Returns the command that takes it over from the listeners it is on.
fn command(one: &Unmanaged) -> Option<String> {
    let of = |kind: &'static str| one.in_use_by.iter().filter(move |arn| arn.contains(kind));
    let mut listeners: Vec<_> = of(":listener/")
        .map(|arn| format!(" --listener {arn}"))
        .collect();
    // Which of its listeners it is on is not known before one of ours is there.
    if listeners.is_empty() && of(":loadbalancer/app/").next().is_some() {
        listeners.push(" --listener ARN-OF-THE-LISTENER".to_owned());
    }
    // What others have written into a certificate gets into no command unless it is a name.
    let are_names = one
        .domains
        .iter()
        .all(|domain| domain.parse::<DnsName>().is_ok());
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
            {"arn": "arn:later", "domains": ["later.example.com"], "notAfter": "2027-01-01T00:00:00Z", "inUseBy": []},
            {"arn": arn, "domains": ["old.example.com", "www.old.example.com"], "notAfter": "2026-03-14T09:20:00Z",
             "inUseBy": [listener], "issuer": "Some CA"},
            {"arn": "arn:stray", "domains": ["lost.example.com"], "notAfter": "2028-01-01T00:00:00Z", "inUseBy": [listener],
             "stray": "lost"},
        ]);
        let listed: Vec<Unmanaged> = serde_json::from_value(listed).unwrap();
        let text = rendered(&listed, NOW, PLAIN);
        let (first, second) = text.split_once("later.example.com").unwrap();
        assert!(
            first.contains("ends 2026-03-14 (in 10 days)  Some CA"),
            "{text}"
        );
        let command = format!(
            "take over: certloop add old-example-com --domain old.example.com --domain www.old.example.com --listener {listener} \
             --supersedes {arn}"
        );
        assert!(first.contains(&command), "{text}");
        assert!(second.contains("in use by nothing"), "{text}");
        let (before, stray) = text.split_once("arn:stray").unwrap();
        assert!(!before.contains("nothing in the bucket knows it"), "{text}");
        assert!(
            stray.contains("once \"lost\" of this installation: nothing in the bucket knows it"),
            "{text}"
        );
        assert!(!stray.contains("take over"), "{text}");
    }
}
