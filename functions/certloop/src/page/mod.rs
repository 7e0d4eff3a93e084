//! Pure: the fleet as one page that needs nothing else: no script, style, font or picture from
//! elsewhere.
//!
//! All text is there without scripts; the script adds the search and the page's age. What others
//! wrote goes through [`Text`], and the page's policy lets nothing run but that script.

mod certificate;
pub(crate) mod show;
mod words;

use std::fmt::Write as _;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use certificates::invocation::status::Inventory;
use certificates::pass::ledgers::LimitsLeft;
use certificates::records::ledger::LimitKind;
use certificates::rules::ledger::Left;
use certificates::rules::remedy;
use certificates::values::problem::Problem;
use certificates::values::problem_types::ProblemType;
use time::{Duration, OffsetDateTime};

use crate::status::{Cause, Health, Serving, by_urgency, causes};
use crate::words::span;

use self::certificate::entry;
use self::words::{Figure, Instant, Relative, Sentence, Text, what_helps};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Which installation a page is about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    /// What its reader calls it: the function's name, or the bucket's.
    pub(crate) name: String,
    /// The AWS account, where it is known.
    pub(crate) account: Option<String>,
    /// The region of function and bucket, where it is known.
    pub(crate) region: Option<String>,
}

/// Returns an inventory as HTML.
pub(crate) fn page_of(inventory: &Inventory, place: &Place) -> String {
    let now = inventory.at.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let sorted = by_urgency(inventory, now);
    let causes = causes(&sorted, now);
    let of = |health| -> Vec<&Cause<'_>> {
        let found = causes.iter().filter(|cause| cause.health == health);
        found.collect()
    };
    let groups = GROUPS.map(|group| (group, of(group.health)));
    let count = |health| -> usize {
        let found = sorted.iter().filter(|(other, _)| *other == health);
        found.count()
    };
    let verdict = verdict(inventory, count);

    let mut out = String::with_capacity(8192 + 4096 * sorted.len());
    head(&mut out, &place.name, &verdict);
    header(&mut out, inventory, place, &verdict);
    let limits = limits(&inventory.limits, now);
    summary(&mut out, inventory, now, limits.len(), count);
    out.push_str(SEARCH);
    out.push_str("<main id=\"fleet\">\n");
    for (
        Group {
            health,
            id,
            heading,
        },
        causes,
    ) in &groups
    {
        if *health == Health::Working {
            section(
                &mut out,
                "limits",
                "Limits nearly used up",
                limits.len(),
                &limits,
                |out, limit| {
                    let _ = writeln!(out, "<li class=\"c problem\">{limit}</li>");
                },
            );
            removing(&mut out, inventory);
        }
        section(
            &mut out,
            id,
            heading,
            count(*health),
            causes,
            |out, cause| {
                entry(out, cause, now);
            },
        );
        if *health == Health::NeedsPerson {
            orphans(&mut out, inventory);
        }
    }
    let _ = write!(
        out,
        "</main>\n<footer><p>The mark on a bar shows when certloop renews it. \
         <code>certloop page</code> made this page; it does not change by itself.</p></footer>\n\
         <script>{SCRIPT}</script>\n</body>\n</html>\n"
    );
    out
}

/// Certificates of one health, in the order of the page.
#[derive(Clone, Copy)]
struct Group {
    health: Health,
    id: &'static str,
    heading: &'static str,
}

const GROUPS: [Group; 5] = [
    Group {
        health: Health::NeedsPerson,
        id: "needs-person",
        heading: "Needs a person",
    },
    Group {
        health: Health::Troubled,
        id: "problems",
        heading: "Other problems",
    },
    Group {
        health: Health::Unserved,
        id: "unserved",
        heading: "Not known to be served",
    },
    Group {
        health: Health::Working,
        id: "in-progress",
        heading: "In progress",
    },
    Group {
        health: Health::Fine,
        id: "fine",
        heading: "Fine",
    },
];

/// The script shows the form: without a script it would do nothing.
const SEARCH: &str = "<form role=\"search\" id=\"search\" hidden>\n\
     <label for=\"q\">Search names, domains, problems</label>\n\
     <input id=\"q\" type=\"search\" autocomplete=\"off\" autocapitalize=\"none\" \
     spellcheck=\"false\">\n\
     <p id=\"found\" role=\"status\" aria-live=\"polite\"></p>\n</form>\n\
     <noscript><p class=\"note\">Scripts are off: search with your browser, which finds folded \
     text too.</p></noscript>\n";

/// Lets this page's own style and script work and nothing else.
fn policy() -> String {
    format!(
        "default-src 'none'; style-src '{}'; script-src '{}'; base-uri 'none'; form-action 'none'",
        source(STYLE),
        source(SCRIPT)
    )
}

/// Returns how a Content Security Policy names an inline text (CSP level 3, section 2.3.1).
fn source(text: &str) -> String {
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    format!("sha256-{}", BASE64_STANDARD.encode(digest))
}

/// Says in one line how the fleet is.
fn verdict(inventory: &Inventory, count: impl Fn(Health) -> usize) -> String {
    let needs = count(Health::NeedsPerson) + inventory.orphans.len();
    let [problem, unserved, working] =
        [Health::Troubled, Health::Unserved, Health::Working].map(count);
    let plural = |count: usize, one: &str, several: &str| {
        let words = if count == 1 { one } else { several };
        format!("{} {words}", counted(count))
    };
    if needs > 0 {
        plural(needs, "needs a person", "need a person")
    } else if problem > 0 {
        plural(
            problem,
            "problem, nobody has to act",
            "problems, nobody has to act",
        )
    } else if inventory.certificates.is_empty() {
        "No certificates yet".to_owned()
    } else if unserved > 0 {
        plural(
            unserved,
            "certificate is not known to be served",
            "certificates are not known to be served",
        )
    } else if working > 0 {
        plural(
            working,
            "certificate is being made",
            "certificates are being made",
        )
    } else {
        plural(
            inventory.certificates.len(),
            "certificate, and it is fine",
            "certificates, all fine",
        )
    }
}

/// Writes what the browser needs to know of the page, up to the beginning of its body.
fn head(out: &mut String, installation: &str, verdict: &str) {
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n<meta name=\"robots\" \
         content=\"noindex\">\n\
         <title>{verdict} · {}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n",
        policy(),
        Text(installation),
    );
}

fn header(out: &mut String, inventory: &Inventory, place: &Place, verdict: &str) {
    let _ = write!(
        out,
        "<header>\n<h1><span>certloop</span> {}</h1>\n<p id=\"verdict\">{verdict}</p>\n",
        Text(&place.name)
    );
    let account = place.account.as_ref().map(|id| format!("account {id}"));
    let known: Vec<String> = account.into_iter().chain(place.region.clone()).collect();
    if !known.is_empty() {
        let _ = writeln!(out, "<p id=\"place\">AWS {}</p>", Text(&known.join(", ")));
    }
    if let Some(at) = inventory.at {
        let _ = writeln!(
            out,
            "<p id=\"as-of\">As of {}<span id=\"age\"></span></p>",
            Instant(at)
        );
    }
    out.push_str("</header>\n");
}

fn summary(
    out: &mut String,
    inventory: &Inventory,
    now: OffsetDateTime,
    limits: usize,
    count: impl Fn(Health) -> usize,
) {
    how_many_of_each(out, inventory, limits, count);
    first_to_end(out, inventory, now);
    if inventory.certificates.len() < inventory.total {
        let _ = writeln!(
            out,
            "<p class=\"note warning\">Only {} of {} certificates are on this page.</p>",
            counted(inventory.certificates.len()),
            counted(inventory.total)
        );
    }
    if inventory.certificates.is_empty() && inventory.total == 0 {
        out.push_str(
            "<p class=\"note\">To add the first: <code>certloop add NAME --domain shop.example.com \
             --listener ARN</code></p>\n",
        );
    }
}

/// Writes how many there are of each group, with the way there.
fn how_many_of_each(
    out: &mut String,
    inventory: &Inventory,
    limits: usize,
    count: impl Fn(Health) -> usize,
) {
    out.push_str("<nav aria-label=\"Summary\">\n<ul id=\"summary\">\n");
    for (id, class, label, count) in [
        (
            "needs-person",
            "person",
            "needs a person",
            count(Health::NeedsPerson),
        ),
        (
            "orphans",
            "person",
            "without a document",
            inventory.orphans.len(),
        ),
        (
            "problems",
            "problem",
            "other problems",
            count(Health::Troubled),
        ),
        ("limits", "problem", "limits nearly used up", limits),
        (
            "removing",
            "quiet",
            "being removed",
            inventory.removing.len(),
        ),
        (
            "unserved",
            "problem",
            "not known to be served",
            count(Health::Unserved),
        ),
        (
            "in-progress",
            "quiet",
            "in progress",
            count(Health::Working),
        ),
        ("fine", "fine", "fine", count(Health::Fine)),
    ] {
        let always = ["needs-person", "problems", "fine"].contains(&id);
        let count_words = counted(count);
        if count > 0 {
            let _ = writeln!(
                out,
                "<li class=\"{class}\"><a href=\"#{id}\">{label}: <b>{count_words}</b></a></li>"
            );
        } else if always {
            let _ = writeln!(out, "<li><span>{label}: <b>0</b></span></li>");
        }
    }
    out.push_str("</ul>\n</nav>\n");
}

/// Writes which of the certificates that are served ends before all others.
fn first_to_end(out: &mut String, inventory: &Inventory, now: OffsetDateTime) {
    let ends = inventory.certificates.iter().filter_map(|standing| {
        let end = Serving::of(standing).end()?;
        Some((end, &standing.name))
    });
    if let Some((end, name)) = ends.min() {
        let _ = writeln!(
            out,
            "<p class=\"note\">First to end: <a href=\"#certificate-{0}\">{0}</a>, {1}.</p>",
            Text(name),
            Relative { at: end, now }
        );
    }
}

/// Writes a section with `count` in its heading; nothing where there are no entries.
fn section<T>(
    out: &mut String,
    id: &str,
    heading: &str,
    count: usize,
    entries: &[T],
    mut entry: impl FnMut(&mut String, &T),
) {
    if entries.is_empty() {
        return;
    }
    let _ = write!(
        out,
        "<section id=\"{id}\" aria-labelledby=\"{id}-heading\">\n\
         <h2 id=\"{id}-heading\">{heading} <span class=\"count\">{}</span></h2>\n<ul \
         class=\"list\">\n",
        counted(count)
    );
    for each in entries {
        entry(out, each);
    }
    out.push_str("</ul>\n</section>\n");
}

fn orphans(out: &mut String, inventory: &Inventory) {
    section(
        out,
        "orphans",
        "Without a document",
        inventory.orphans.len(),
        &inventory.orphans,
        |out, name| {
            let problem = Problem::ours(ProblemType::Orphan, "");
            let _ = write!(
                out,
                "<li class=\"c person\"><h3 class=\"f\">{}</h3>\n<p class=\"f\">It has a \
                 certificate and no document any more: nothing renews it. Put its document back, \
                 or remove it.</p>\n",
                Text(name)
            );
            what_helps(out, remedy::command(&problem, name));
            out.push_str("</li>\n");
        },
    );
}

fn removing(out: &mut String, inventory: &Inventory) {
    section(
        out,
        "removing",
        "Being removed",
        inventory.removing.len(),
        &inventory.removing,
        |out, name| {
            let _ = writeln!(
                out,
                "<li class=\"c\"><h3 class=\"f\">{}</h3>\n<p>certloop takes it off its targets, \
                 deletes it, and forgets it a week later.</p></li>",
                Text(name)
            );
        },
    );
}

/// Returns an entry for each limit of an authority, and for each quota, that is worth a note.
fn limits(limits: &LimitsLeft, now: OffsetDateTime) -> Vec<String> {
    let mut entries = Vec::new();
    if let Some(problem) = &limits.problem {
        let mut told = format!(
            "<p class=\"f\">What is left could not be read: {}</p>\n",
            Sentence(&problem.detail)
        );
        what_helps(&mut told, remedy::command(problem, ""));
        entries.push(told);
    }
    for (authority, left) in &limits.authorities {
        for hold in &left.holds {
            let subject = hold.subject.as_deref().unwrap_or("everything");
            entries.push(format!(
                "<p class=\"f\"><b>{}</b> refuses requests for <b>{}</b>; that ends {}: {}</p>",
                Text(authority),
                Text(subject),
                Relative {
                    at: hold.until,
                    now
                },
                Text(&hold.problem.detail)
            ));
        }
    }
    entries.extend(strained(limits, now));
    entries
}

/// Returns an entry for each limit of which a fifth or less is left.
fn strained(limits: &LimitsLeft, now: OffsetDateTime) -> Vec<String> {
    let mut entries = Vec::new();
    let is_strained = |left: u32, of: u32| u64::from(left) * 5 <= u64::from(of);
    let next = |next: Option<OffsetDateTime>| {
        let told = next.map(|at| format!(". The next: {}", Relative { at, now }));
        told.unwrap_or_default()
    };
    for (authority, left) in &limits.authorities {
        for left in (left.limits.iter()).filter(|left| is_strained(left.left, left.of)) {
            entries.push(format!(
                "<p class=\"f\"><b>{}</b>: {} of {} left for {}, per {}{}</p>",
                Text(authority),
                Figure(left.left.into()),
                Figure(left.of.into()),
                Text(&of_what(left)),
                span(Duration::seconds(
                    left.seconds.try_into().unwrap_or(i64::MAX)
                )),
                next(left.next_at)
            ));
        }
    }
    for (region, left) in &limits.imports {
        if is_strained(left.left, left.of) {
            entries.push(format!(
                "<p class=\"f\"><b>Certificate manager in {}</b>: {} of {} imports of a year \
                 left{}</p>",
                Text(region),
                Figure(left.left.into()),
                Figure(left.of.into()),
                next(left.next_at)
            ));
        }
    }
    entries
}

fn of_what(left: &Left) -> String {
    let subject = &left.subject;
    match left.limit {
        LimitKind::OrdersPerAccount => "new orders of the account".to_owned(),
        LimitKind::CertificatesPerDomain => format!("certificates under {subject}"),
        LimitKind::CertificatesPerNameSet => format!("certificates for exactly {subject}"),
        LimitKind::FailedValidationsPerName => format!("failed validations of {subject}"),
    }
}

fn counted(count: usize) -> String {
    Figure(count as u64).to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Instant as Clock;

    use certificates::invocation::status::Standing;
    use serde_json::{Value, json};

    use super::*;

    /// Returns the page of an installation of which the name is known.
    fn page(inventory: &Inventory, name: &str) -> String {
        let place = Place {
            name: name.to_owned(),
            ..Place::default()
        };
        page_of(inventory, &place)
    }

    const SAMPLE: &str = include_str!("../../../../events/status.sample.json");
    /// What is written into every field that others fill.
    const HOSTILE: [&str; 6] = [
        "<img src=x onerror=alert(1)>",
        "\"><script>alert(1)</script>",
        "' onmouseover='alert(1)' x='",
        "</style></script></title><script>alert(1)</script>",
        "<!--",
        "javascript:alert(1)",
    ];

    fn sample() -> Value {
        serde_json::from_str(SAMPLE).unwrap()
    }

    fn of(inventory: Value) -> Inventory {
        serde_json::from_value(inventory).unwrap()
    }

    fn with(problem: Value) -> Inventory {
        let mut inventory = sample();
        inventory["certificates"][0]["problem"] = problem;
        inventory["certificates"][0]["nextAttempt"] = json!("2026-01-08T17:04:20Z");
        of(inventory)
    }

    /// So many of the sample's certificate, every hundredth with a problem.
    fn fleet(count: usize) -> Inventory {
        let mut inventory = of(sample());
        let one = inventory.certificates.remove(0);
        inventory.total = count;
        inventory.certificates = (0..count)
            .map(|index| Standing {
                name: format!("site-{index:04}"),
                domains: vec![format!("site-{index}.example.com")],
                problem: (index % 100 == 50).then(|| Problem::ours(ProblemType::CaaForbids, "CAA")),
                ..one.clone()
            })
            .collect();
        inventory
    }

    /// What the page says, for a test that fails.
    fn body(page: &str) -> &str {
        within(page, "<body>", "<script>")
    }

    fn within<'p>(page: &'p str, from: &str, to: &str) -> &'p str {
        let (_, rest) = page.split_once(from).unwrap();
        rest.split_once(to).unwrap().0
    }

    #[test]
    fn the_sample_is_told_in_words() {
        let page = page(&of(sample()), "certloop-renew");
        for told in [
            "<title>1 certificate, and it is fine · certloop-renew</title>",
            "As of <time datetime=\"2026-01-08T16:54:20Z\">2026-01-08 16:54 UTC</time>",
            "<h3 class=\"f\">shop</h3>",
            "shop.example.com, www.shop.example.com",
            "<b>89 days</b> of 90 days left (100&nbsp;%), served until",
            "Renewal in 59 days, ",
            "1 target, proved",
            "listener of app/web (eu-west-1): proved (looked at 74 seconds ago, ",
        ] {
            assert!(page.contains(told), "{told}\n{}", body(&page));
        }
    }

    #[test]
    fn a_problem_comes_with_what_helps_and_the_next_attempt() {
        let problem = json!({"type": "certloop:caaForbids", "detail": "CAA records forbid \
            it", "retry": "person"});
        let page = page(&with(problem), "certloop-renew");
        assert!(page.contains("<title>1 needs a person · "), "{page}");
        let trouble = within(&page, "<div class=\"trouble\">", "</div>");
        for told in [
            "CAA records forbid it",
            "<code>certloop check shop</code>",
            "Somebody has to act. Next attempt: in 10 minutes, ",
            "certloop:caaForbids",
        ] {
            assert!(trouble.contains(told), "{told}\n{trouble}");
        }
    }

    #[test]
    fn a_problem_of_many_certificates_is_on_the_page_once() {
        let inventory = crate::status::without_room(28);
        let page = page(&inventory, "x");
        assert_eq!(page.matches("has no room for").count(), 1, "{page}");
        assert_eq!(page.matches("<div class=\"trouble\">").count(), 1);
        assert!(page.contains("<h3>28 certificates, one cause</h3>"));
        assert!(page.contains("Needs a person <span class=\"count\">28</span>"));
        assert_eq!(page.matches("<li class=\"c person\" id=").count(), 28);
        let trouble = within(&page, "<div class=\"trouble\">", "</div>");
        for words in [
            "title=\"arn:aws:elasticloadbalancing:eu-west-1:123456789012:listener/app/web/50dc6c",
            ">listener app/web/f2f7dc8e (eu-west-1)</abbr> has no room for the certificate",
            "Next attempt: in 5 minutes, ",
        ] {
            assert!(trouble.contains(words), "{words}: {trouble}");
        }
    }

    #[test]
    fn a_problem_of_one_certificate_is_on_its_card_once() {
        let problem =
            json!({"type": "certloop:unproved", "detail": "x serves another", "retry": "person"});
        let mut inventory = with(problem);
        let one = &mut inventory.certificates[0];
        one.targets[0].detail = Some("x serves another".to_owned());
        one.targets[0].entry.proved = Some(false);
        if let Some(step) = one.history.last_mut() {
            step.detail = "x serves another".to_owned();
        }
        let page = page(&inventory, "x");
        assert_eq!(
            page.matches("x serves another").count(),
            1,
            "{}",
            body(&page)
        );
    }

    #[test]
    fn the_page_names_account_and_region() {
        let place = Place {
            name: "certloop-renew".to_owned(),
            account: Some("123456789012".to_owned()),
            region: Some("eu-west-1".to_owned()),
        };
        let page = page_of(&of(sample()), &place);
        assert!(
            page.contains("<p id=\"place\">AWS account 123456789012, eu-west-1</p>"),
            "{}",
            body(&page)
        );
    }

    #[test]
    fn what_is_urgent_comes_first() {
        let mut inventory = fleet(4);
        inventory.certificates[3].problem = Some(Problem::ours(ProblemType::CaaForbids, ""));
        inventory.certificates[2].problem = Some(Problem::ours(ProblemType::Authority, ""));
        let served = inventory.certificates[1].served.as_mut().unwrap();
        served.not_after -= Duration::days(10);
        inventory.orphans = vec!["gone".into()];
        inventory.removing = vec!["going".into()];
        let page = page(&inventory, "x");
        let names: Vec<&str> = (page.split("<h3 class=\"f\">").skip(1))
            .map(|rest| rest.split_once('<').unwrap().0)
            .collect();
        assert_eq!(
            names,
            [
                "site-0003",
                "gone",
                "site-0002",
                "going",
                "site-0001",
                "site-0000"
            ]
        );
        assert!(page.contains("<title>2 need a person · "));
    }

    #[test]
    fn nothing_and_thousands_are_told() {
        let none = page(&Inventory::default(), "x");
        assert!(none.contains("No certificates yet"), "{none}");
        assert!(none.contains("certloop add NAME"), "{none}");
        assert!(!none.contains("<section"), "{none}");

        let inventory = fleet(5000);
        let before = Clock::now();
        let many = page(&inventory, "x");
        let took = before.elapsed();
        assert!(took.as_secs() < 2, "{took:?}");
        assert!(many.len() < 20_000_000, "{}", many.len());
        assert_eq!(many.matches("<li class=\"c ").count(), 5000);
        assert!(many.contains("<title>50 need a person · "));
        assert!(many.contains("Fine <span class=\"count\">4,950</span>"));
        assert_eq!(many.matches("<script>").count(), 1);

        let mut part = fleet(2);
        part.total = 5000;
        let part = page(&part, "x");
        assert!(part.contains("Only 2 of 5,000 certificates are on this page."));
    }

    #[test]
    fn limits_are_told_when_little_is_left() {
        let mut inventory = sample();
        let limit = |left| {
            json!({ "limit": "certificatesPerDomain", "subject": "example.com",
            "left": left, "of": 50, "seconds": 604800, "nextAt": "2026-01-08T18:54:20Z" })
        };
        let problem = json!({"type": "certloop:limit", "detail": "too many", "retry": "at"});
        inventory["limits"] = json!({
            "authorities": {"letsencrypt": {
                "limits": [limit(11), limit(10)],
                "holds": [{"subject": null, "until": "2026-01-08T17:54:20Z", "problem": problem}],
            }},
            "imports": {"eu-west-1": {"left": 1001, "of": 5000, "nextAt": null},
             "us-east-1": {"left": 0, "of": 5000, "nextAt": null}},
            "problem": {"type": "certloop:storeDenied", "detail": "AccessDenied",
             "retry": "person"},
        });
        let page = page(&of(inventory), "x");
        for told in [
            "limits nearly used up: <b>4</b>",
            "10 of 50 left for certificates under example.com, per 7 days. The next: in 2 hours, ",
            "refuses requests for <b>everything</b>; that ends in 60 minutes, ",
            "us-east-1</b>: 0 of 5,000 imports of a year left",
            "could not be read: AccessDenied",
            "<code>certloop doctor</code>",
        ] {
            assert!(page.contains(told), "{told}\n{}", body(&page));
        }
        assert!(!page.contains("11 of 50"), "{page}");
        assert!(!page.contains("1,001 of"), "{page}");
    }

    #[test]
    fn what_others_wrote_is_text_and_nothing_else() {
        for hostile in HOSTILE {
            let mut inventory = sample();
            fill(&mut inventory["certificates"], hostile);
            let certificate = &mut inventory["certificates"][0];
            certificate["problem"] = json!({"type": hostile, "detail": hostile, "retry": "person"});
            certificate["missing"] = json!([{ "domain": hostile,
                "problem": certificate["problem"], "nextAttempt": "2026-01-08T17:04:20Z" }]);
            certificate["rolledBack"] =
                json!({"from": hostile, "at": "2026-01-08T17:04:20Z", "document": hostile});
            certificate["revoking"] = json!([hostile]);
            certificate["underWay"] =
                json!({"stage": "ordered", "reason": hostile, "orderUrl": hostile});
            certificate["renewalInformation"]["explanationURL"] = json!(hostile);
            inventory["orphans"] = json!([hostile]);
            inventory["removing"] = json!([hostile]);
            let limits = inventory["limits"]["authorities"]["letsencrypt"].take();
            inventory["limits"] = json!({"authorities": {hostile: limits},
                "imports": {hostile: {"left": 0, "of": 1, "nextAt": null}}});
            let left = &mut inventory["limits"]["authorities"][hostile];
            left["limits"][0]["left"] = json!(0);
            left["limits"][0]["subject"] = json!(hostile);
            left["holds"] = json!([{ "subject": hostile, "until": "2026-01-08T17:04:20Z",
                "problem": {"type": hostile, "detail": hostile, "retry": "at"} }]);

            let harmless = page(&of(inventory.clone()), hostile);

            let shown = Text(hostile).to_string();
            assert!(harmless.matches(shown.as_str()).count() > 20, "{harmless}");
            let own = page(&of(sample()), "x");
            for mark in [
                "<script", "</script", "<style", "</style", "<!--", "<title", "<img",
            ] {
                assert_eq!(
                    harmless.matches(mark).count(),
                    own.matches(mark).count(),
                    "{mark}"
                );
            }
            assert!(!harmless.contains("href=\"javascript:"), "{harmless}");
            assert!(!harmless.contains("What helps"), "{harmless}");
            // Each attribute ends where it should: without them nothing of the kind is left over.
            let tags = harmless.split('<').filter_map(|tag| tag.split_once('>'));
            for (tag, _) in tags {
                assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
                let outside: String = tag.split('"').step_by(2).collect();
                assert!(!outside.contains(" on"), "{tag}");
            }
        }
    }

    /// Writes a text into every field that takes any.
    fn fill(value: &mut Value, text: &str) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| fill(item, text)),
            Value::Object(fields) => {
                for (field, value) in fields {
                    let is_free = !field.ends_with("At")
                        && !["at", "notBefore", "notAfter", "start", "end", "askAgain"]
                            .contains(&field.as_str())
                        && !["state", "type", "nextAttempt", "by"].contains(&field.as_str());
                    if is_free {
                        fill(value, text);
                    }
                }
            }
            Value::String(old) => *old = text.to_owned(),
            _ => {}
        }
    }

    #[test]
    fn nothing_is_fetched_from_elsewhere() {
        let page = page(&of(sample()), "x");
        for foreign in [
            "src=",
            "url(",
            "@import",
            "<link",
            "http-equiv=\"refresh\"",
            "<iframe",
        ] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        let policy = within(&page, "Security-Policy\" content=\"", "\"");
        assert!(policy.starts_with("default-src 'none'; "), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert!(!page.contains(" style=\""), "the policy forbids it");
    }

    #[test]
    fn a_source_is_named_by_its_digest() {
        // The example of CSP level 3, section 8.3.
        assert_eq!(
            source("alert('Hello, world.');"),
            "sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng="
        );
    }

    /// The relative luminance of `#rrggbb` (WCAG 2.2).
    fn luminance(colour: &str) -> f64 {
        let channel = |at: usize| {
            let value = u8::from_str_radix(&colour[at..at + 2], 16).unwrap();
            let value = f64::from(value) / 255.0;
            match value <= 0.04045 {
                true => value / 12.92,
                false => ((value + 0.055) / 1.055).powf(2.4),
            }
        };
        0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
    }

    fn contrast(one: &str, other: &str) -> f64 {
        let (one, other) = (luminance(one), luminance(other));
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    #[test]
    fn every_pair_of_colours_can_be_read() {
        let text = [
            ("ink", "paper"),
            ("ink", "card"),
            ("ink", "code"),
            ("ink", "person-paper"),
            ("ink", "problem-paper"),
            ("quiet", "paper"),
            ("quiet", "card"),
            ("link", "paper"),
            ("link", "card"),
            ("person", "person-paper"),
            ("problem", "problem-paper"),
            ("problem", "paper"),
        ];
        let shapes = [
            ("fine", "track"),
            ("fine", "card"),
            ("problem", "track"),
            ("problem", "card"),
            ("person", "card"),
            ("mark", "track"),
            ("quiet", "card"),
            ("link", "paper"),
        ];
        let schemes: Vec<HashMap<&str, &str>> = (STYLE.split(":root {").skip(1))
            .map(|scheme| {
                let scheme = scheme.split_once('}').unwrap().0;
                let colours = scheme.split(';').filter_map(|line| line.split_once(':'));
                colours
                    .map(|(name, colour)| (name.trim().trim_start_matches("--"), colour.trim()))
                    .collect()
            })
            .collect();
        assert_eq!(schemes.len(), 3, "light, dark, print");
        for scheme in &schemes {
            assert_eq!(scheme.len(), schemes[0].len());
            for (pairs, least) in [(text.as_slice(), 4.5), (&shapes, 3.0)] {
                for (front, back) in pairs {
                    let found = contrast(scheme[front], scheme[back]);
                    assert!(found >= least, "{front} on {back}: {found:.2} ({scheme:?})");
                }
            }
        }
        assert!((contrast("#ffffff", "#000000") - 21.0).abs() < 1e-9);
        assert!((contrast("#767676", "#ffffff") - 4.54).abs() < 0.01);
    }

    #[test]
    fn colours_are_named_once() {
        let rest: String = (STYLE.split(":root {"))
            .map(|part| part.split_once('}').map_or(part, |(_, rest)| rest))
            .collect();
        assert!(!rest.contains('#') || !rest.contains("#fff"), "{rest}");
        let literal = rest.split([' ', ':', ';']).find(|word| {
            word.strip_prefix('#').is_some_and(|hex| {
                [3, 6].contains(&hex.len()) && hex.chars().all(|c| c.is_ascii_hexdigit())
            })
        });
        assert_eq!(literal, None);
    }
}
