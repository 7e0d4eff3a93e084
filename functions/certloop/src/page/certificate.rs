//! Pure: one certificate of the page.

use std::fmt::Write as _;

use certificates::contract::report::TargetState;
use certificates::invocation::status::{Standing, TargetStanding};
use certificates::records::deployment::SeenBy;
use certificates::records::order::Stage;
use certificates::values::problem::Problem;
use certificates::values::problem_types::Retry;
use time::{Duration, OffsetDateTime};

use crate::status::{Cause, Health, Serving, is_running_out, name_of, to_be_served};
use crate::words::{minute, span, split_repair};

use super::words::{Arn, Figure, Instant, Relative, Sentence, Text, what_helps};

/// So many domains are shown; the rest is folded.
const DOMAINS: usize = 4;

/// Writes the entry of a cause: a certificate with its problem, or one problem with all the
/// certificates that have it.
pub(super) fn entry(out: &mut String, cause: &Cause<'_>, now: OffsetDateTime) {
    let is_wrong = is_wrong(cause.health);
    if !is_wrong || !cause.is_shared() {
        for standing in &cause.members {
            let wrong = Some(cause).filter(|_| is_wrong);
            card(out, standing, wrong, cause.health, now);
        }
        return;
    }
    let count = Figure(cause.members.len() as u64);
    let class = class_of(cause.health);
    let _ = write!(
        out,
        "<li class=\"cause {class}\">\n<h3>{count} certificates, one cause</h3>\n"
    );
    trouble(out, cause, now);
    out.push_str("<ul class=\"list\">\n");
    for standing in &cause.members {
        card(out, standing, None, cause.health, now);
    }
    out.push_str("</ul>\n</li>\n");
}

fn is_wrong(health: Health) -> bool {
    matches!(health, Health::NeedsPerson | Health::Troubled)
}

fn class_of(health: Health) -> &'static str {
    match health {
        Health::NeedsPerson => "person",
        Health::Troubled | Health::Unserved => "problem",
        Health::Working => "working",
        Health::Fine => "fine",
    }
}

/// Writes a certificate, with what is wrong where no other entry says so.
fn card(
    out: &mut String,
    standing: &Standing,
    wrong: Option<&Cause<'_>>,
    health: Health,
    now: OffsetDateTime,
) {
    let class = class_of(health);
    let _ = write!(
        out,
        "<li class=\"c {class}\" id=\"certificate-{0}\">\n\
         <div class=\"who\"><h3 class=\"f\">{0}</h3>\n",
        Text(&standing.name)
    );
    domains(out, standing);
    out.push_str("</div>\n<div class=\"life\">");
    life(out, standing, now);
    out.push_str("</div>\n");
    match wrong {
        Some(cause) => trouble(out, cause, now),
        None if is_wrong(health) => urgency(out, standing, now),
        None => {}
    }
    notes(out, standing, health);
    more(out, standing, now);
    out.push_str("</li>\n");
}

fn domains(out: &mut String, standing: &Standing) {
    let joined = |out: &mut String, domains: &[String]| {
        for (index, domain) in domains.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let _ = write!(out, "{comma}{}", Text(domain));
        }
    };
    let (shown, folded) = standing
        .domains
        .split_at(standing.domains.len().min(DOMAINS));
    if shown.is_empty() {
        return;
    }
    out.push_str("<p class=\"domains f\">");
    joined(out, shown);
    out.push_str("</p>\n");
    if !folded.is_empty() {
        let _ = write!(
            out,
            "<details class=\"domains rest\"><summary>and {} more</summary><p class=\"f\">",
            folded.len()
        );
        joined(out, folded);
        out.push_str("</p></details>\n");
    }
}

/// Writes what is served and until when, what comes next where that is another one, and when
/// it will be renewed.
fn life(out: &mut String, standing: &Standing, now: OffsetDateTime) {
    let serving = Serving::of(standing);
    match (serving, serving.end()) {
        (Serving::Nothing, _) => {
            let words = if standing.problem.is_some() && standing.domains.is_empty() {
                "Not known"
            } else {
                "No certificate yet"
            };
            let _ = write!(out, "<p><b>{words}</b></p>");
            return;
        }
        (_, Some(end)) => lifetime(out, standing, serving, end, now),
        (Serving::NotYet, None) => out.push_str("<p><b>Nothing is served yet</b></p>\n"),
        (_, None) => out.push_str("<p><b>What is served is unknown</b></p>\n"),
    }
    if !serving.is_wanted(standing)
        && let Some(wanted) = to_be_served(standing)
    {
        let _ = writeln!(out, "<p class=\"quiet\">Next: {}</p>", Text(&wanted));
    }
    if let Some(at) = standing.renew_at {
        let words = match (standing.paused, at <= now) {
            (true, _) => "Paused; renewal would be",
            (false, true) => "Renewal was due",
            (false, false) => "Renewal",
        };
        let _ = writeln!(
            out,
            "<p class=\"quiet\">{words} {}</p>",
            Relative { at, now }
        );
    }
}

/// Writes how much is left of what is served or held ready, as a bar and in words.
///
/// Of one that is replaced the whole lifetime is unknown: it has a bar only if it has ended or was
/// revoked.
fn lifetime(
    out: &mut String,
    standing: &Standing,
    serving: Serving<'_>,
    end: OffsetDateTime,
    now: OffsetDateTime,
) {
    // The last second counts (RFC 5280 section 4.1.2.5).
    let whole = (standing.not_before)
        .filter(|_| serving.is_wanted(standing))
        .map(|start| end - start + Duration::SECOND);
    let share = (standing.lifetime_left_share)
        .filter(|_| serving.is_wanted(standing))
        .map(|share| share.clamp(0.0, 1.0));
    let is_revoked = serving.is_revoked(standing);
    let class = if end <= now || is_revoked {
        "ended"
    } else if is_running_out(standing, now) {
        "short"
    } else {
        "enough"
    };
    if class == "ended" || share.is_some() {
        let mark = (standing.renew_at.zip(whole))
            .filter(|(_, whole)| whole.is_positive())
            .map(|(renew, whole)| (end - renew) / whole * 100.0)
            .filter(|mark| class != "ended" && (0.0..=100.0).contains(mark));
        bar(out, class, share.unwrap_or_default(), mark);
    }
    out.push_str("<p>");
    let until = match serving {
        Serving::Ready(_) => "held ready until",
        _ => "served until",
    };
    let has = if is_revoked { "<b>Revoked</b>, " } else { "" };
    if end <= now {
        let _ = write!(
            out,
            "{has}<b>Ended {} ago</b>, {}",
            span(now - end),
            Instant(end)
        );
    } else if is_revoked {
        let _ = write!(out, "{has}{until} {}", Instant(end));
    } else {
        time_left(out, end - now, whole, share);
        let _ = write!(out, ", {until} {}", Instant(end));
    }
    out.push_str("</p>\n");
    if let Serving::Seen(served) = serving
        && !serving.is_wanted(standing)
    {
        let _ = writeln!(
            out,
            "<p class=\"quiet\">Served: <code>{}</code></p>",
            Text(&served.serial)
        );
    }
}

/// Writes how much is left, and of how much where that is known.
fn time_left(out: &mut String, left: Duration, whole: Option<Duration>, share: Option<f64>) {
    let _ = write!(out, "<b>{}</b>", span(left));
    if let Some(whole) = whole {
        let _ = write!(out, " of {}", span(whole));
    }
    out.push_str(" left");
    if let Some(share) = share {
        let _ = write!(out, " ({:.0}&nbsp;%)", share * 100.0);
    }
}

/// Draws the share of a lifetime that is left, and marks at which percentage it is renewed.
fn bar(out: &mut String, class: &str, share: f64, mark: Option<f64>) {
    let _ = write!(
        out,
        "<svg class=\"bar {class}\" viewBox=\"0 0 100 10\" preserveAspectRatio=\"none\" \
         aria-hidden=\"true\"><rect width=\"100\" height=\"10\"/>\
         <rect class=\"left\" width=\"{:.1}\" height=\"10\"/>",
        share * 100.0
    );
    if let Some(mark) = mark {
        let _ = write!(
            out,
            "<path class=\"gap\" d=\"M{mark:.1} 0V10\"/><path d=\"M{mark:.1} 0V10\"/>"
        );
    }
    out.push_str("</svg>\n");
}

/// Writes what is wrong, what helps and when it is tried again: once for all of a cause.
fn trouble(out: &mut String, cause: &Cause<'_>, now: OffsetDateTime) {
    out.push_str("<div class=\"trouble\">\n");
    let standing = cause.speaker();
    let problem = standing.problem.as_ref();
    if !cause.is_shared() {
        urgency(out, standing, now);
    }
    if let Some(problem) = problem {
        let detail = cause.of_all(&problem.detail);
        let (detail, repair) = split_repair(&detail);
        let _ = writeln!(out, "<p class=\"why f\">{}</p>", Sentence(detail));
        if let Some(repair) = repair {
            let _ = writeln!(
                out,
                "<p class=\"do\">Repair: <code>{}</code></p>",
                Text(repair)
            );
        }
    }
    for target in (standing.targets.iter()).filter(|target| is_not_as_wanted(target)) {
        out.push_str("<p>");
        target_in_words(out, target, now);
        // What the problem says already is not said again.
        let said = problem.map_or("", |problem| problem.detail.as_str());
        if let Some(detail) = target
            .detail
            .as_ref()
            .filter(|detail| !said.contains(detail.as_str()))
        {
            let _ = write!(out, ": {}", Sentence(detail));
        }
        out.push_str("</p>\n");
    }
    for missing in &standing.missing {
        let next = missing.next_attempt;
        let _ = writeln!(
            out,
            "<p>Without <b class=\"f\">{}</b>: {} (next attempt {})</p>",
            Text(&cause.of_all(&missing.domain)),
            Sentence(&cause.of_all(&missing.problem.detail)),
            Relative { at: next, now }
        );
    }
    if !standing.revoking.is_empty() {
        let serials = standing.revoking.iter();
        let serials: Vec<String> = serials
            .map(|serial| format!("<code>{}</code>", Text(serial)))
            .collect();
        let _ = writeln!(out, "<p>Not revoked yet: {}</p>", serials.join(", "));
    }
    what_helps(out, cause.command());
    if let Some(problem) = problem {
        let _ = write!(out, "<p class=\"quiet\">{}", what_follows(problem));
        if let Some(at) = cause.next_attempt() {
            let _ = write!(out, " Next attempt: {}.", Relative { at, now });
        }
        let _ = writeln!(out, " <code class=\"f\">{}</code></p>", Text(&problem.kind));
    }
    out.push_str("</div>\n");
}

/// Writes what is urgent besides the problem.
fn urgency(out: &mut String, standing: &Standing, now: OffsetDateTime) {
    if let Some(words) = urgency_in_words(standing, now) {
        let _ = writeln!(out, "<p><b class=\"f\">{words}</b></p>");
    }
}

fn urgency_in_words(standing: &Standing, now: OffsetDateTime) -> Option<&'static str> {
    let serving = Serving::of(standing);
    if serving.is_revoked(standing) {
        Some("The certificate that is served was revoked.")
    } else if serving.end().is_some_and(|end| end <= now) {
        Some("The certificate that is served has ended.")
    } else if !is_running_out(standing, now) {
        None
    } else if !serving.is_wanted(standing) {
        Some("The certificate that is served ends soon, and the next one has not replaced it.")
    } else if standing.paused {
        Some("Less than a quarter of the lifetime is left, and it is paused.")
    } else if standing.problem.is_none() {
        Some(
            "Less than a quarter of the lifetime is left, and no pass has said why: does the \
             schedule run?",
        )
    } else {
        Some("Less than a quarter of the lifetime is left.")
    }
}

fn what_follows(problem: &Problem) -> &'static str {
    match problem.retry {
        Retry::Soon => "certloop tries it again by itself.",
        Retry::At => "certloop tries it again when the other side allows it.",
        Retry::Person => "Somebody has to act.",
        Retry::Never => "certloop tries nothing until something is changed.",
    }
}

/// Writes what is unusual and no problem.
fn notes(out: &mut String, standing: &Standing, health: Health) {
    let mut note = |text: &dyn std::fmt::Display| {
        let _ = writeln!(out, "<p class=\"note\">{text}</p>");
    };
    if standing.paused {
        note(&"Paused: certloop orders nothing for it.");
    }
    match (health, Serving::of(standing)) {
        (Health::Unserved, Serving::Unknown) => {
            note(&"No pass has looked at what is served since then: a pass looks once a day.");
        }
        (Health::Working, Serving::NotYet) if standing.under_way.is_none() => {
            note(&"The next pass puts it on its targets.");
        }
        _ => {}
    }
    if let Some(under_way) = &standing.under_way {
        let stage = match under_way.stage {
            Stage::Ordered => "the authority checks the names",
            Stage::Finalizing => "the authority is issuing",
        };
        note(&format_args!(
            "Order in progress ({}): {stage}.",
            Text(&under_way.reason)
        ));
    }
    if let Some(back) = &standing.rolled_back {
        note(&format_args!(
            "Rolled back from <code>{}</code> on {}: it stays until the document changes or its \
             end is near.",
            Text(&back.from),
            Instant(back.at)
        ));
    }
}

/// Writes the targets in a line, and everything else folded.
fn more(out: &mut String, standing: &Standing, now: OffsetDateTime) {
    let is_known = standing.serial.is_some() || !standing.domains.is_empty();
    if !is_known && standing.history.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "<details class=\"more\"><summary>{}</summary>",
        match Serving::of(standing) {
            Serving::Ready(_) => "No targets: held ready for hosts that pull it".to_owned(),
            _ => targets_in_a_line(&standing.targets),
        }
    );
    if !standing.targets.is_empty() {
        out.push_str("<ul>\n");
        for target in &standing.targets {
            out.push_str("<li>");
            target_in_words(out, target, now);
            if let Some(detail) = target.detail.as_ref().filter(|_| !is_not_as_wanted(target)) {
                let _ = write!(out, ": {}", Sentence(detail));
            }
            for arn in (target.entry.arn.iter()).chain(&target.entry.certificate_arn) {
                let _ = write!(out, "<br><code>{}</code>", Arn(arn));
            }
            out.push_str("</li>\n");
        }
        out.push_str("</ul>\n");
    }
    out.push_str("<dl>\n");
    facts(out, standing, now);
    out.push_str("</dl>\n");
    if !standing.history.is_empty() {
        out.push_str("<h4>Last steps</h4>\n<ol class=\"steps\">\n");
        let said = standing.problem.as_ref();
        let said = said.map(|problem| problem.detail.as_str());
        for step in standing.history.iter().rev() {
            let _ = write!(
                out,
                "<li><span>{}</span> <b>{}</b>",
                minute(step.at),
                Text(&step.step)
            );
            // The problem is above, once.
            if said != Some(step.detail.as_str()) {
                let _ = write!(out, " {}", Sentence(&step.detail));
            }
            out.push_str("</li>\n");
        }
        out.push_str("</ol>\n");
    }
    out.push_str("</details>\n");
}

fn facts(out: &mut String, standing: &Standing, now: OffsetDateTime) {
    let mut fact = |term: &str, text: &dyn std::fmt::Display| {
        let _ = writeln!(out, "<div><dt>{term}</dt><dd>{text}</dd></div>");
    };
    // The one that is served is below.
    let served = standing.served.as_ref().map(|served| &served.serial);
    let next = standing.serial.as_ref();
    let next = next.filter(|next| Some(*next) != served);
    for (term, text) in [
        ("Authority", standing.authority.as_ref()),
        ("Profile", standing.profile.as_ref()),
        ("Key", standing.key_type.as_ref()),
        ("Next", next),
        ("Serial before", standing.previous.as_ref()),
    ] {
        if let Some(text) = text {
            fact(term, &Text(text));
        }
    }
    if let Some(served) = &standing.served {
        let how = match served.by {
            SeenBy::Handshake => "seen by a handshake",
            SeenBy::Held => "held by its targets",
        };
        let at = Relative { at: served.at, now };
        fact(
            "Served",
            &format_args!("{}, {how} {at}", Text(&served.serial)),
        );
    }
    if let Some(start) = standing.not_before {
        fact("Valid from", &Instant(start));
    }
    let Some(suggestion) = &standing.renewal_information else {
        return;
    };
    if let Some((start, end)) = suggestion.start.zip(suggestion.end) {
        fact(
            "Renewal suggested",
            &format_args!("{} to {}", Instant(start), Instant(end)),
        );
    }
    // Other schemes are no links: the authority chose the text.
    if let Some(url) = &suggestion.explanation_url {
        if url.starts_with("https://") {
            fact(
                "Why",
                &format_args!("<a rel=\"noreferrer\" href=\"{0}\">{0}</a>", Text(url)),
            );
        } else {
            fact("Why", &Text(url));
        }
    }
}

fn targets_in_a_line(targets: &[TargetStanding]) -> String {
    let total = targets.len();
    if total == 0 {
        return "No targets".to_owned();
    }
    let several = if total == 1 { "" } else { "s" };
    let mut line = format!("{} target{several}", Figure(total as u64));
    let mut words: Vec<(&str, usize)> = Vec::new();
    for target in targets {
        let word = in_a_word(target);
        match words.iter_mut().find(|(known, _)| *known == word) {
            Some((_, count)) => *count += 1,
            None => words.push((word, 1)),
        }
    }
    match words.as_slice() {
        [(word, 1)] => {
            let _ = write!(line, ", {word}");
        }
        [(word, _)] => {
            let _ = write!(line, ", all {word}");
        }
        several => {
            for (index, (word, count)) in several.iter().enumerate() {
                let mark = if index == 0 { ":" } else { "," };
                let _ = write!(line, "{mark} {} {word}", Figure(*count as u64));
            }
        }
    }
    line
}

/// Whether a target does not hold, or does not serve, what it should.
fn is_not_as_wanted(target: &TargetStanding) -> bool {
    let entry = &target.entry;
    entry.state == TargetState::Failed
        || entry.proved == Some(false)
        || target.trusted == Some(false)
}

fn in_a_word(target: &TargetStanding) -> &'static str {
    match (target.entry.state, target.entry.proved, target.trusted) {
        (_, Some(false), _) => "not proved",
        (_, _, Some(false)) => "not trusted",
        (TargetState::Failed, ..) => "failed",
        (TargetState::Pending, ..) => "not there yet",
        (TargetState::Detached, ..) => "taken off",
        (_, Some(true), _) => "proved",
        (TargetState::Attached, ..) => "attached, not looked at",
        (TargetState::Imported, ..) => "imported",
    }
}

fn target_in_words(out: &mut String, target: &TargetStanding, now: OffsetDateTime) {
    let named = name_of(&target.entry);
    let _ = write!(out, "{}", Text(&named));
    let _ = write!(out, ": {}", in_a_word(target));
    if let Some(checked) = target.checked_at {
        let _ = write!(out, " (looked at {})", Relative { at: checked, now });
    }
}
