//! Pure: what a pass did with each certificate, as the reports of the function say it.

use std::collections::BTreeMap;

use certificates::contract::report::{TargetEntry, TargetState};
use certificates::invocation::status::TargetStanding;
use certificates::values::problem::Problem;
use certificates::values::problem_types::Retry;
use serde::Deserialize;
use time::OffsetDateTime;

use crate::cli_error::Ends;
use crate::status::{helps, is_unknown, name_of, word_of};
use crate::terminal::{Ink, Screen};
use crate::words::{counted, cut, day, detailed, minute, relative};

/// The answer to a request that does something.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Report {
    pub(crate) certificates: Vec<Entry>,
    pub(crate) summary: BTreeMap<String, usize>,
    pub(crate) omitted: usize,
}

/// What a pass did with one certificate.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) outcome: String,
    pub(crate) reason: String,
    serial: Option<String>,
    #[serde(with = "time::serde::rfc3339::option")]
    not_after: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    renew_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    next_attempt: Option<OffsetDateTime>,
    targets: Vec<TargetEntry>,
    pub(crate) problem: Option<Problem>,
}

impl Report {
    /// Returns how the command ends that brought it.
    pub(crate) fn ends(&self) -> Ends {
        let mut entries = self.certificates.iter();
        if entries.any(|entry| entry.outcome == "failed" || needs_person(&entry.problem)) {
            Ends::NeedsPerson
        } else {
            Ends::Well
        }
    }

    /// Returns the names in it that nobody knows.
    pub(crate) fn unknown(&self) -> Vec<String> {
        let unknown = self.certificates.iter();
        let unknown = unknown.filter(|entry| is_unknown(entry.problem.as_ref()));
        unknown.map(|entry| entry.name.clone()).collect()
    }

    /// Whether nobody knows any of its names, so that nothing was done.
    pub(crate) fn knows_none(&self) -> bool {
        self.omitted == 0 && self.unknown().len() == self.certificates.len()
    }

    /// Whether nothing was done and nothing is wrong: another invocation works, or the authority.
    pub(crate) fn only_waits(&self) -> bool {
        let mut entries = self.certificates.iter();
        entries.any(|entry| entry.outcome == "waiting" && entry.problem.is_none())
    }

    /// Renders it; where there are many, those that were kept are counted only.
    pub(crate) fn rendered(&self, now: OffsetDateTime, screen: Screen) -> String {
        let few = self.certificates.len() <= FEW;
        let mut text = String::new();
        for entry in &self.certificates {
            if few || entry.outcome != "kept" || entry.problem.is_some() {
                text += &entry.rendered(now, screen);
            }
        }
        let all = self.certificates.len() + self.omitted;
        if all != 1 {
            let counts = self.summary.iter().filter(|(_, count)| **count > 0);
            let counts: Vec<_> = counts
                .map(|(outcome, count)| format!("{count} {outcome}"))
                .collect();
            let all = i64::try_from(all).unwrap_or(i64::MAX);
            text += &format!("{}: {}\n", counted(all, "certificate"), counts.join(", "));
        }
        text
    }
}

impl Entry {
    fn rendered(&self, now: OffsetDateTime, screen: Screen) -> String {
        let ink = ink_of(&self.outcome, &self.problem);
        let name = screen.ink(Ink::Strong, &cut(&self.name, usize::MAX));
        let mut text = format!("{name}  {}\n", screen.ink(ink, &self.outcome));
        let mut add = |words: &str| text += &detailed(words, screen.width, INDENT);
        let said = self.problem.as_ref().map(|problem| problem.detail.as_str());
        if said != Some(self.reason.as_str()) {
            add(&self.reason);
        }
        if let (Some(serial), Some(end)) = (&self.serial, self.not_after) {
            // What is not on all its targets may not be served.
            let is_on = |state| matches!(state, TargetState::Attached | TargetState::Imported);
            let what = match self.targets.iter().all(|target| is_on(target.state)) {
                true if self.outcome != "failed" => "serial",
                _ => "next: serial",
            };
            let mut words = format!(
                "{what} {serial}, valid until {} ({})",
                day(end),
                relative(end, now)
            );
            if let Some(at) = self.renew_at {
                words += &format!(", renews {}", day(at));
            }
            add(&words);
        }
        for target in &self.targets {
            let target_standing = TargetStanding {
                entry: target.clone(),
                checked_at: None,
                trusted: None,
                detail: None,
            };
            add(&format!(
                "{}: {}",
                name_of(target),
                word_of(&target_standing)
            ));
        }
        if let Some(said) = said {
            add(said);
        }
        if let Some(at) = self.next_attempt.filter(|at| *at > now) {
            add(&format!(
                "next attempt {} ({})",
                relative(at, now),
                minute(at)
            ));
        }
        let command = self.problem.as_ref();
        if let Some(command) = command.and_then(|problem| helps(problem, &self.name)) {
            text += &format!("{INDENT}try: {}\n", screen.ink(Ink::Strong, &command));
        }
        text
    }
}

/// Whether only a person can help.
pub(crate) fn needs_person(problem: &Option<Problem>) -> bool {
    let retry = problem.as_ref().map(|problem| problem.retry);
    matches!(retry, Some(Retry::Person | Retry::Never))
}

pub(crate) fn ink_of(outcome: &str, problem: &Option<Problem>) -> Ink {
    match outcome {
        "failed" => Ink::Bad,
        _ if needs_person(problem) => Ink::Bad,
        "waiting" | "queued" => Ink::Warning,
        _ if problem.is_some() => Ink::Warning,
        _ => Ink::Good,
    }
}

/// So many are listed one by one, those that were kept as well.
const FEW: usize = 20;
const INDENT: &str = "    ";

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-01-08 16:54 UTC);
    const PLAIN: Screen = Screen {
        colours: false,
        width: 100,
    };

    #[test]
    fn the_sample_is_shown_in_full() {
        let sample = include_str!("../../../events/report.sample.json");
        let report: Report = serde_json::from_str(sample).unwrap();
        assert_eq!(
            report.rendered(NOW, PLAIN),
            "shop  issued\n    no certificate yet\n    serial 03ab6d0ecf831eec9f09, valid until \
             2026-04-08 (in 89 days), renews 2026-03-04\n    listener of app/web (eu-west-1): \
             proved\n"
        );
        assert_eq!(report.ends(), Ends::Well);
    }

    #[test]
    fn a_failure_is_shown_with_the_command_that_helps_and_ends_so() {
        let entry = |outcome: &str, retry: &str| {
            let problem = serde_json::json!({"type": "certloop:challengePath", "detail": "a rule \
                is missing", "retry": retry});
            let entry = serde_json::json!({"name": "shop", "outcome": outcome, "reason": "x",
                "problem": problem});
            let report = serde_json::json!({"certificates": [entry], "summary": {}, "omitted": 0});
            serde_json::from_value::<Report>(report).unwrap()
        };
        let failed = entry("failed", "soon");
        let text = failed.rendered(NOW, PLAIN);
        assert!(
            text.ends_with("    a rule is missing\n    try: certloop check shop\n"),
            "{text}"
        );
        assert_eq!(failed.ends(), Ends::NeedsPerson);
        assert_eq!(entry("kept", "person").ends(), Ends::NeedsPerson);
        assert_eq!(entry("kept", "soon").ends(), Ends::Well);
    }

    #[test]
    fn nothing_was_done_only_where_all_names_are_unknown() {
        let report = |kinds: &[&str]| {
            let entry = |kind: &&str| {
                let problem = serde_json::json!({"type": kind, "detail": "x", "retry": "never"});
                serde_json::json!({"name": "shop", "outcome": "failed", "problem": problem})
            };
            let entries: Vec<_> = kinds.iter().map(entry).collect();
            let report = serde_json::json!({"certificates": entries});
            serde_json::from_value::<Report>(report).unwrap()
        };
        let (unknown, known) = ("certloop:unknownCertificate", "certloop:invalidDocument");
        assert!(report(&[unknown, unknown]).knows_none());
        let mixed = report(&[known, unknown]);
        assert!(!mixed.knows_none());
        assert_eq!(mixed.ends(), Ends::NeedsPerson);
    }

    #[test]
    fn of_many_the_kept_ones_are_counted() {
        let entry = |n: usize| Entry {
            name: format!("c{n}"),
            outcome: if n == 7 { "renewed" } else { "kept" }.to_owned(),
            ..Entry::default()
        };
        let report = Report {
            certificates: (0..30).map(entry).collect(),
            summary: [("kept".to_owned(), 29), ("renewed".to_owned(), 1)].into(),
            omitted: 0,
        };
        let text = report.rendered(NOW, PLAIN);
        assert!(
            text.contains("c7  renewed") && !text.contains("c8"),
            "{text}"
        );
        assert!(
            text.ends_with("30 certificates: 29 kept, 1 renewed\n"),
            "{text}"
        );
    }
}
