//! Pure: the inventory as a table, the most urgent first. Below what is not fine is what to do,
//! once for all certificates with the same cause.

use certificates::contract::report::TargetState;
use certificates::invocation::status::{Inventory, Standing, TargetStanding};
use certificates::values::text::abridged;
use time::OffsetDateTime;

use super::causes::{Cause, causes};
use super::health::{Health, by_urgency};
use super::notes;
use super::reasons::lines;
use super::serving::Serving;
use crate::terminal::{Ink, Screen};
use crate::words::{counted, cut, day, detailed, minute, relative, wrapped};

/// So many certificates that are fine are shown where not all are asked for.
pub(crate) const MOST: usize = 40;

/// Renders the whole inventory; of those that are fine `most` at most.
pub(crate) fn rendered(
    inventory: &Inventory,
    now: OffsetDateTime,
    screen: Screen,
    most: usize,
) -> String {
    let sorted = by_urgency(inventory, now);
    let fine = sorted.iter().filter(|(health, _)| *health == Health::Fine);
    let hidden = fine.count().saturating_sub(most);
    let shown = &sorted[..sorted.len() - hidden];
    let mut text = String::new();
    if !shown.is_empty() {
        let causes = causes(shown, now);
        let rows: Vec<Vec<Row>> = (causes.iter())
            .map(|cause| rows_of(cause, now, most))
            .collect();
        let widths = Widths::of(rows.iter().flatten(), screen.width);
        text += &screen.ink(Ink::Faint, &widths.header());
        text.push('\n');
        for (cause, rows) in causes.iter().zip(&rows) {
            for row in rows {
                text += &widths.line(row, cause.health, screen);
            }
            text += &told_once(cause, rows.len(), now, screen, most);
        }
    }
    if hidden > 0 {
        text += &format!("  ... and {hidden} more that are fine (--all shows them)\n");
    }
    text += &notes::rendered(inventory, now, screen);
    if !text.is_empty() {
        text.push('\n');
    }
    text + &summary(&sorted, now, screen)
}

/// The cells of one certificate.
struct Row {
    name: String,
    domains: String,
    until: String,
    left: String,
    renews: String,
    targets: String,
}

impl Row {
    fn of(standing: &Standing, now: OffsetDateTime) -> Self {
        let nothing = || "-".to_owned();
        let domains = match standing.domains.as_slice() {
            [] => nothing(),
            [one] => one.clone(),
            [first, others @ ..] => format!("{} +{}", cut(first, LONGEST_DOMAIN), others.len()),
        };
        let serving = Serving::of(standing);
        let until = match (serving, serving.end()) {
            (Serving::Unknown, _) => "unknown".to_owned(),
            (Serving::NotYet, _) => "not yet".to_owned(),
            (_, Some(end)) if serving.is_revoked(standing) => format!("REVOKED ({})", day(end)),
            (_, Some(end)) if end <= now => format!("{} (ended)", day(end)),
            (Serving::Ready(_), Some(end)) => format!("ready {} ({})", day(end), left_of(end, now)),
            (_, Some(end)) => format!("{} ({})", day(end), left_of(end, now)),
            (_, None) => nothing(),
        };
        // The share is that of the latest certificate.
        let is_share_of_served = serving.is_wanted(standing) && !serving.is_revoked(standing);
        let renews = match standing.renew_at {
            _ if standing.paused => "paused".to_owned(),
            Some(at) if at <= now => "due".to_owned(),
            Some(at) => day(at),
            None => nothing(),
        };
        Self {
            name: cut(&standing.name, LONGEST_NAME),
            domains: cut(&domains, LONGEST_DOMAIN + 6),
            until,
            left: (standing.lifetime_left_share)
                .filter(|_| is_share_of_served)
                .map_or_else(nothing, bar),
            renews,
            targets: match serving {
                Serving::Ready(_) => "held ready".to_owned(),
                _ => targets(&standing.targets),
            },
        }
    }

    fn cells(&self) -> [&str; COLUMNS] {
        let Self {
            name,
            domains,
            until,
            left,
            renews,
            targets,
        } = self;
        [name, domains, until, left, renews, targets]
    }
}

/// Returns how long it is still good, short: `89 d`, `30 h`.
fn left_of(end: OffsetDateTime, now: OffsetDateTime) -> String {
    let left = end - now;
    match left.whole_hours() {
        hours @ ..48 => format!("{hours} h"),
        hours => format!("{} d", hours / 24),
    }
}

/// Draws the share of a lifetime that is left.
fn bar(share: f64) -> String {
    let share = share.clamp(0.0, 1.0);
    // A share is within 0..=1.
    let filled = (share * BAR as f64).round() as usize;
    let (filled, empty) = ("#".repeat(filled), "-".repeat(BAR.saturating_sub(filled)));
    format!("{filled}{empty} {:3.0}%", share * 100.0)
}

/// Says in a word how the targets are, counted where there are several.
fn targets(all: &[TargetStanding]) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for target in all {
        let word = word_of(target);
        match counts.iter_mut().find(|(known, _)| *known == word) {
            Some((_, count)) => *count += 1,
            None => counts.push((word, 1)),
        }
    }
    match (all.len(), counts.as_slice()) {
        (0, _) => "none".to_owned(),
        (1, [(word, _)]) => (*word).to_owned(),
        _ => {
            let words = counts.iter().map(|(word, count)| format!("{count} {word}"));
            words.collect::<Vec<_>>().join(", ")
        }
    }
}

/// Says in a word how a target is; what is wrong is loud.
pub(crate) fn word_of(target: &TargetStanding) -> &'static str {
    match (target.entry.state, target.entry.proved, target.trusted) {
        (_, Some(false), _) => "NOT PROVED",
        (_, _, Some(false)) => "NOT TRUSTED",
        (TargetState::Failed, ..) => "FAILED",
        (TargetState::Pending, ..) => "pending",
        (TargetState::Detached, ..) => "detached",
        (_, Some(true), _) => "proved",
        (TargetState::Attached, ..) => "attached",
        (TargetState::Imported, ..) => "imported",
    }
}

struct Widths([usize; COLUMNS]);

impl Widths {
    /// Fits the columns to what they hold. Where that is too wide, the bar goes and the domains are
    /// cut, then the renewal and the domains go, then the names are cut and at last the targets.
    fn of<'r>(rows: impl Iterator<Item = &'r Row>, width: usize) -> Self {
        let mut natural = HEADERS.map(str::len);
        for row in rows {
            for (width, cell) in natural.iter_mut().zip(row.cells()) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut widths = natural;
        for dropped in DROPPED {
            widths = natural;
            for column in *dropped {
                widths[*column] = 0;
            }
            if widths[DOMAINS] > 0 && !dropped.is_empty() {
                let over = total(&widths).saturating_sub(width);
                let cut = widths[DOMAINS].saturating_sub(over);
                widths[DOMAINS] = cut.max(SHORTEST_DOMAINS);
            }
            if total(&widths) <= width {
                return Self(widths);
            }
        }
        for (column, shortest) in [(NAME, SHORTEST_NAME), (TARGETS, SHORTEST_TARGETS)] {
            let over = total(&widths).saturating_sub(width);
            let cut = widths[column].saturating_sub(over).max(shortest);
            widths[column] = widths[column].min(cut);
        }
        Self(widths)
    }

    fn joined(&self, cells: [String; COLUMNS]) -> String {
        let shown = cells.into_iter().zip(self.0);
        let shown = shown.filter(|(_, width)| *width > 0).map(|(cell, _)| cell);
        let line = shown.collect::<Vec<_>>().join(&" ".repeat(GAP));
        line.trim_end().to_owned()
    }

    fn header(&self) -> String {
        let mut cells = HEADERS.map(str::to_owned);
        for (cell, width) in cells.iter_mut().zip(self.0) {
            *cell = padded(&cut(cell, width), width);
        }
        format!("{}{}", " ".repeat(MARK), self.joined(cells))
    }

    fn line(&self, row: &Row, health: Health, screen: Screen) -> String {
        let mut cells = row.cells().map(str::to_owned);
        for (cell, width) in cells.iter_mut().zip(self.0) {
            *cell = padded(&cut(cell, width), width);
        }
        let (mark, ink) = match health {
            Health::NeedsPerson => ("!", Ink::Bad),
            Health::Troubled => ("~", Ink::Warning),
            Health::Unserved => ("?", Ink::Warning),
            Health::Working => ("+", Ink::Warning),
            Health::Fine => (" ", Ink::Good),
        };
        cells[0] = screen.ink(Ink::Strong, &cells[0]);
        cells[LEFT] = screen.ink(ink, &cells[LEFT]);
        cells[COLUMNS - 1] = screen.ink(ink, &cells[COLUMNS - 1]);
        format!("{} {}\n", screen.ink(ink, mark), self.joined(cells))
    }
}

/// Returns the width of a line with these columns.
fn total(widths: &[usize; COLUMNS]) -> usize {
    let columns = widths.iter().filter(|width| **width > 0);
    MARK + columns.map(|width| width + GAP).sum::<usize>() - GAP
}

fn padded(text: &str, width: usize) -> String {
    format!("{text:width$}")
}

/// Returns the rows of a cause: all, or the most urgent ones where there are many.
fn rows_of(cause: &Cause<'_>, now: OffsetDateTime, most: usize) -> Vec<Row> {
    let members = cause.members.iter();
    let shown = match cause.members.len() {
        few @ ..=FEW => few,
        all if most == usize::MAX => all,
        _ => SOME,
    };
    members.take(shown).map(|one| Row::of(one, now)).collect()
}

/// Says what is below the rows of a cause: which certificates it has besides, the problem in words,
/// what comes next, the command that helps.
fn told_once(
    cause: &Cause<'_>,
    rows: usize,
    now: OffsetDateTime,
    screen: Screen,
    most: usize,
) -> String {
    let mut text = String::new();
    let others = &cause.members[rows.min(cause.members.len())..];
    if !others.is_empty() {
        let names = abridged(others.iter().map(|one| &one.name), most);
        let words = format!("and {} more: {names}", others.len());
        text += &wrapped(&words, screen.width, "  ");
    }
    if cause.is_shared() {
        text += &format!("{INDENT}all {}:\n", cause.members.len());
    }
    let standing = cause.speaker();
    for line in lines(cause.health, standing, now) {
        text += &detailed(&cause.of_all(&line), screen.width, INDENT);
    }
    if !cause.is_shared() {
        for line in of_its_own(standing, now) {
            text += &detailed(&line, screen.width, INDENT);
        }
    }
    let next = cause.next_attempt();
    if let Some(at) = next.filter(|_| cause.health != Health::Fine) {
        let words = format!("next attempt {} ({})", relative(at, now), minute(at));
        text += &wrapped(&words, screen.width, INDENT);
    }
    if let Some(command) = cause.command() {
        text += &format!("{INDENT}try: {}\n", screen.ink(Ink::Strong, &command));
    }
    text
}

/// Says what is true of one certificate alone: what is served and what follows, and a rollback.
fn of_its_own(standing: &Standing, now: OffsetDateTime) -> Vec<String> {
    let mut lines = Vec::new();
    let serving = Serving::of(standing);
    let is_another = matches!(serving, Serving::Seen(_)) && !serving.is_wanted(standing);
    if is_another || matches!(serving, Serving::NotYet | Serving::Unknown) {
        lines.extend(serving.lines(standing, now));
    }
    if let Some(back) = &standing.rolled_back {
        let (from, at) = (&back.from, minute(back.at));
        lines.push(format!("rolled back from {from} on {at}"));
    }
    lines
}

fn summary(sorted: &[(Health, &Standing)], now: OffsetDateTime, screen: Screen) -> String {
    if sorted.is_empty() {
        let add = "certloop add NAME --domain DOMAIN --listener ARN";
        return format!("No certificates yet\n  try: {add}\n");
    }
    let count = |wanted: Health| {
        sorted
            .iter()
            .filter(|(health, _)| *health == wanted)
            .count()
    };
    let parts: Vec<(Ink, String)> = [
        (
            Health::NeedsPerson,
            Ink::Bad,
            ["needs a person", "need a person"],
        ),
        (
            Health::Troubled,
            Ink::Warning,
            ["is tried again", "are tried again"],
        ),
        (
            Health::Unserved,
            Ink::Warning,
            ["is not known to be served", "are not known to be served"],
        ),
        (
            Health::Working,
            Ink::Warning,
            ["is being made", "are being made"],
        ),
        (Health::Fine, Ink::Good, ["is fine", "are fine"]),
    ]
    .into_iter()
    .filter_map(|(health, ink, [one, many])| {
        let words = match count(health) {
            0 => return None,
            1 => format!("1 {one}"),
            count => format!("{count} {many}"),
        };
        Some((ink, words))
    })
    .collect();
    let all = counted(
        i64::try_from(sorted.len()).unwrap_or(i64::MAX),
        "certificate",
    );
    let renewals = sorted.iter().filter(|(_, one)| !one.paused);
    let next = renewals.filter_map(|(_, one)| Some((one.renew_at?, one.name.as_str())));
    let next = next.filter(|(at, _)| *at > now).min().map(|(at, name)| {
        let (name, when) = (cut(name, LONGEST_NAME), relative(at, now));
        format!("next renewal {when} ({name}, {})", day(at))
    });
    summed_up(&all, &parts, next, screen)
}

/// Puts the counts in a line, or in a line each where that is too wide. Inks have no columns.
fn summed_up(all: &str, parts: &[(Ink, String)], next: Option<String>, screen: Screen) -> String {
    let line = |ink: fn(&Screen, Ink, &str) -> String| {
        let parts: Vec<String> = (parts.iter())
            .map(|(of, words)| ink(&screen, *of, words))
            .collect();
        let next = next.as_ref().map(|next| format!("; {next}"));
        format!("{all}: {}{}", parts.join(", "), next.unwrap_or_default())
    };
    if line(|_, _, words| words.to_owned()).chars().count() <= screen.width {
        return line(Screen::ink) + "\n";
    }
    let mut text = format!("{all}:\n");
    for (ink, words) in parts {
        text += &format!("  {}\n", screen.ink(*ink, words));
    }
    if let Some(next) = next {
        text += &wrapped(&next, screen.width, "  ");
    }
    text
}

const HEADERS: [&str; COLUMNS] = [
    "NAME",
    "DOMAINS",
    "SERVED UNTIL",
    "LIFETIME LEFT",
    "RENEWS",
    "TARGETS",
];
const COLUMNS: usize = 6;
const NAME: usize = 0;
const DOMAINS: usize = 1;
const LEFT: usize = 3;
const RENEWS: usize = 4;
const TARGETS: usize = 5;
/// What goes where the whole is too wide, one set after the other.
const DROPPED: &[&[usize]] = &[&[], &[LEFT], &[LEFT, RENEWS], &[LEFT, RENEWS, DOMAINS]];
const MARK: usize = 2;
const GAP: usize = 2;
const BAR: usize = 8;
const LONGEST_NAME: usize = 32;
const LONGEST_DOMAIN: usize = 34;
const SHORTEST_DOMAINS: usize = 12;
const SHORTEST_NAME: usize = 8;
const SHORTEST_TARGETS: usize = 10;
/// So many certificates of one cause have a row each.
const FEW: usize = 5;
/// So many of them have one where there are more.
const SOME: usize = 3;
const INDENT: &str = "    ";

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::super::causes::tests::without_room;
    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-01-08 16:54:20 UTC);

    fn screen(width: usize) -> Screen {
        Screen {
            colours: false,
            width,
        }
    }

    fn sample() -> Inventory {
        serde_json::from_str(include_str!("../../../../events/status.sample.json")).unwrap()
    }

    #[test]
    fn the_sample_is_one_line_and_a_summary() {
        assert_eq!(
            rendered(&sample(), NOW, screen(120), MOST),
            "  NAME  DOMAINS              SERVED UNTIL       LIFETIME LEFT  RENEWS      TARGETS\n  \
             shop  shop.example.com +1  2026-04-08 (89 d)  ######## 100%  2026-03-09  proved\n\n\
             1 certificate: 1 is fine; next renewal in 59 days (shop, 2026-03-09)\n"
        );
    }

    #[test]
    fn on_a_narrow_terminal_the_bar_goes_and_the_domains_are_cut() {
        let text = rendered(&sample(), NOW, screen(70), MOST);
        assert!(
            text.lines().all(|line| line.chars().count() <= 70),
            "{text}"
        );
        assert!(
            !text.contains('#') && text.contains("2026-04-08 (89 d)"),
            "{text}"
        );
    }

    #[test]
    fn no_line_is_wider_than_the_screen() {
        let inventory = without_room(28);
        for width in [60, 80, 100] {
            for text in [
                rendered(&inventory, NOW, screen(width), MOST),
                rendered(&sample(), NOW, screen(width), MOST),
            ] {
                let wide = text.lines().find(|line| line.chars().count() > width);
                assert_eq!(wide, None, "{text}");
            }
        }
    }

    #[test]
    fn one_cause_of_many_certificates_is_told_once() {
        let inventory = without_room(28);
        let text = rendered(&inventory, NOW, screen(100), MOST);
        assert_eq!(
            text.matches("listenerFull: listener app/web/").count(),
            1,
            "{text}"
        );
        for words in [
            "\n! site-02  site-02.example.com",
            "\n  and 25 more: site-03, site-04, ",
            "\n    all 28:\n    listenerFull: listener app/web/f2f7dc8e (eu-west-1) has no room \
             for the",
            "\n    next attempt in 5 minutes (2026-01-08 16:59 UTC)\n    try: certloop status \
             --unmanaged\n",
            "28 certificates: 28 need a person;",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert!(text.lines().count() < 20, "{text}");
        let all = rendered(&inventory, NOW, screen(100), usize::MAX);
        assert!(all.contains("\n! site-27 "), "{all}");
    }

    #[test]
    fn of_many_that_are_fine_some_are_shown_and_all_are_counted() {
        let mut inventory = sample();
        let one = inventory.certificates.remove(0);
        inventory.certificates = (0..5_000)
            .map(|n| Standing {
                name: format!("c{n}"),
                ..one.clone()
            })
            .collect();
        let text = rendered(&inventory, NOW, screen(120), MOST);
        assert_eq!(text.lines().count(), MOST + 4, "{text}");
        assert!(
            text.contains("and 4960 more that are fine (--all"),
            "{text}"
        );
        assert!(text.contains("5000 certificates: 5000 are fine"), "{text}");
        let all = rendered(&inventory, NOW, screen(120), usize::MAX);
        assert_eq!(all.lines().count(), 5_003);
    }

    #[test]
    fn a_problem_is_told_in_words_with_the_next_attempt_and_the_command() {
        let mut inventory = sample();
        let problem = serde_json::json!({
            "type": "certloop:challengePath",
            "detail": "the rule of priority 5 redirects\u{1b}[2J; to repair it: aws elbv2 \
                       set-rule-priorities --rule-priorities x=1",
            "retry": "person",
        });
        inventory.certificates[0].problem = Some(serde_json::from_value(problem).unwrap());
        inventory.certificates[0].next_attempt = Some(NOW + time::Duration::minutes(9));
        let text = rendered(&inventory, NOW, screen(80), MOST);
        assert!(text.contains("! shop"), "{text}");
        assert!(
            text.contains(
                "    challengePath: the rule of priority 5 redirects[2J\n    repair: aws elbv2 \
                    set-rule-priorities --rule-priorities x=1\n    \
                 next attempt in 9 minutes (2026-01-08 17:03 UTC)\n    try: certloop check shop\n"
            ),
            "{text}"
        );
        assert!(text.contains("1 certificate: 1 needs a person;"), "{text}");
    }

    #[test]
    fn limits_that_are_nearly_used_up_and_names_without_a_document_are_told() {
        let mut inventory = sample();
        assert!(!rendered(&inventory, NOW, screen(100), MOST).contains("Also"));
        inventory.orphans = vec!["old".to_owned()];
        inventory.removing = vec!["gone".to_owned()];
        for imports in inventory.limits.imports.values_mut() {
            imports.left = 7;
        }
        let text = rendered(&inventory, NOW, screen(100), MOST);
        for words in [
            "being removed: gone",
            "certloop remove old",
            "7 of 5000 imports",
        ] {
            assert!(text.contains(words), "{words} is not in {text}");
        }
    }

    #[test]
    fn targets_are_counted_by_how_they_stand() {
        let one = sample().certificates[0].targets[0].clone();
        let mut wrong = one.clone();
        wrong.entry.proved = Some(false);
        assert_eq!(targets(&[]), "none");
        assert_eq!(targets(std::slice::from_ref(&one)), "proved");
        assert_eq!(
            targets(&[one.clone(), one, wrong]),
            "2 proved, 1 NOT PROVED"
        );
    }

    fn row(certificate: &Standing) -> String {
        let inventory = Inventory {
            certificates: vec![certificate.clone()],
            ..Inventory::default()
        };
        rendered(&inventory, NOW, screen(110), MOST)
    }

    #[test]
    fn what_is_to_be_served_has_neither_the_date_nor_the_bar_of_what_is_served() {
        let mut one = sample().certificates.remove(0);
        one.served = None;
        let unknown = row(&one);
        assert!(
            unknown.contains("? shop  shop.example.com +1  unknown")
                && unknown.contains("    What is served is unknown.\n    Next: 03ab"),
            "{unknown}"
        );
        assert!(
            unknown.contains("1 is not known to be served") && !unknown.contains("fine"),
            "{unknown}"
        );
        one.targets[0].entry.state = TargetState::Pending;
        let not_yet = row(&one);
        assert!(not_yet.contains("  not yet "), "{not_yet}");
        assert!(not_yet.contains("Nothing is served yet."), "{not_yet}");
        for text in [unknown, not_yet] {
            let line = text.lines().nth(1).unwrap();
            assert!(!line.contains('#') && !line.contains("2026-04"), "{text}");
        }

        let mut one = sample().certificates.remove(0);
        if let Some(served) = &mut one.served {
            served.serial = "02ff".to_owned();
            served.not_after = NOW + time::Duration::days(30);
        }
        let another = row(&one);
        assert!(another.contains("2026-02-07 (30 d)"), "{another}");
        let words: Vec<&str> = another.split_whitespace().collect();
        let words = words.join(" ");
        for told in [
            "Served: 02ff, valid until 2026-02-07, seen by a handshake ",
            "Next: 03ab6d0ecf831eec9f09, valid until 2026-04-08, not on all its targets",
        ] {
            assert!(words.contains(told), "{told}: {another}");
        }
        assert!(!another.contains('#'), "{another}");
    }

    #[test]
    fn what_hosts_pull_is_held_ready_with_its_own_end() {
        let mut one = sample().certificates.remove(0);
        one.served = None;
        one.targets.clear();
        let text = row(&one);
        assert!(
            text.contains("  ready 2026-04-08 (89 d)  ######## 100%  2026-03-09  held ready"),
            "{text}"
        );
        assert!(text.contains("1 is fine"), "{text}");
    }

    #[test]
    fn what_is_served_and_revoked_is_loud() {
        let mut one = sample().certificates.remove(0);
        let serial = one.serial.clone().unwrap();
        one.problem = Some(certificates::values::problem::Problem::ours(
            certificates::values::problem_types::ProblemType::Revoked,
            format!("{serial} is served and was revoked"),
        ));
        let text = row(&one);
        assert!(text.contains("! shop"), "{text}");
        assert!(text.contains("REVOKED (2026-04-08)"), "{text}");
        assert!(!text.contains('#'), "{text}");
        assert!(
            text.contains("try: certloop renew shop --force\n"),
            "{text}"
        );
        one.paused = true;
        if let Some(problem) = &mut one.problem {
            problem.detail += " and is not replaced while it is paused";
        }
        assert!(row(&one).contains("try: certloop resume shop\n"));
    }
}
