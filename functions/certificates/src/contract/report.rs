//! The report of a pass: the function's result, and the summary counted from it.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::contract::message::Sent;
use crate::values::problem::Problem;

/// The report of a pass.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// One entry per certificate.
    pub certificates: Vec<Entry>,
    /// How many entries of each outcome, including entries left out.
    pub summary: Summary,
    /// How many entries were left out.
    pub omitted: usize,
    /// How the channels for messages did, if there was something to send.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<Messages>,
}

/// How the channels for messages did in a pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Messages {
    /// How many messages the channels accepted; each channel counts separately.
    pub sent: usize,
    /// The channels that did not accept one. A later pass sends it again.
    pub failed: Vec<ChannelFailure>,
}

/// A channel that did not accept a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChannelFailure {
    /// The channel, in words.
    pub channel: String,
    /// The reason.
    pub detail: String,
}

/// What happened to one certificate in a pass.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// The document's name.
    pub name: String,
    /// The outcome, in one word.
    pub outcome: Outcome,
    /// The outcome, in a sentence.
    pub reason: String,
    /// ARN of the first target's certificate.
    pub certificate_arn: Option<String>,
    /// Serial number of the certificate that should be served.
    pub serial: Option<String>,
    /// Start of its validity.
    #[serde(with = "time::serde::rfc3339::option")]
    pub not_before: Option<OffsetDateTime>,
    /// End of its validity.
    #[serde(with = "time::serde::rfc3339::option")]
    pub not_after: Option<OffsetDateTime>,
    /// When it will be renewed.
    #[serde(with = "time::serde::rfc3339::option")]
    pub renew_at: Option<OffsetDateTime>,
    /// The instant before which nothing is tried.
    #[serde(with = "time::serde::rfc3339::option")]
    pub next_attempt: Option<OffsetDateTime>,
    /// Its targets.
    pub targets: Vec<TargetEntry>,
    /// What is wrong.
    pub problem: Option<Problem>,
    /// Whether its chain ends in no public root, although its authority is not private.
    #[serde(skip)]
    pub is_untrusted: bool,
    /// Whether the last attempt failed and none has succeeded since.
    #[serde(skip)]
    pub is_failing: bool,
    /// Since when none of it is served although it should be; `None` while it is paused.
    #[serde(skip)]
    pub unserved_since: Option<OffsetDateTime>,
    /// Whether the pass had no time for it.
    #[serde(skip)]
    pub is_unseen: bool,
}

/// What happened to a certificate, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Its first certificate is on its targets.
    Issued,
    /// A later certificate is on its targets.
    Renewed,
    /// The certificate went to a target without a new order.
    Deployed,
    /// There was nothing to do.
    Kept,
    /// There is something to do, but not now.
    Waiting,
    /// The problem says why.
    Failed,
    /// It was removed.
    Removed,
    /// Another invocation works on it.
    Queued,
}

/// One target of one certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetEntry {
    /// What kind of target.
    #[serde(rename = "type")]
    pub kind: TargetKind,
    /// The target's ARN. A `certificateManager` target has no ARN but the certificate's.
    pub arn: Option<String>,
    /// ARN of our certificate that it holds.
    pub certificate_arn: Option<String>,
    /// Its state.
    pub state: TargetState,
    /// Whether the served leaf is ours.
    pub proved: Option<bool>,
}

/// What kind of target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TargetKind {
    /// An HTTPS listener of an Application Load Balancer.
    Listener,
    /// The certificate manager of a region.
    CertificateManager,
}

/// The state of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TargetState {
    /// The listener holds it.
    Attached,
    /// The certificate manager holds it.
    Imported,
    /// It does not hold the certificate yet.
    Pending,
    /// Putting the certificate there failed.
    Failed,
    /// The certificate was removed from it.
    Detached,
}

/// How many entries of each outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)] // the fields have the names of the outcomes
pub struct Summary {
    pub issued: usize,
    pub renewed: usize,
    pub deployed: usize,
    pub kept: usize,
    pub waiting: usize,
    pub failed: usize,
    pub removed: usize,
    pub queued: usize,
}

impl Entry {
    /// Makes the entry of a certificate of which only the name is known.
    pub fn bare(name: &str, outcome: Outcome, reason: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            outcome,
            reason: reason.into(),
            certificate_arn: None,
            serial: None,
            not_before: None,
            not_after: None,
            renew_at: None,
            next_attempt: None,
            targets: Vec::new(),
            problem: None,
            is_untrusted: false,
            is_failing: false,
            unserved_since: None,
            is_unseen: false,
        }
    }

    /// Makes the entry of a certificate that failed.
    pub fn failed(name: &str, problem: Problem, next_attempt: Option<OffsetDateTime>) -> Self {
        let reason = problem.detail.clone();
        Self {
            problem: Some(problem),
            next_attempt,
            ..Self::bare(name, Outcome::Failed, reason)
        }
    }
}

impl Report {
    /// Makes the report of a pass. In a large fleet it leaves out entries that need no attention.
    pub fn new(mut certificates: Vec<Entry>, sent: Sent) -> Self {
        certificates.sort_by(|a, b| a.name.cmp(&b.name));
        let mut summary = Summary::default();
        for entry in &certificates {
            *match entry.outcome {
                Outcome::Issued => &mut summary.issued,
                Outcome::Renewed => &mut summary.renewed,
                Outcome::Deployed => &mut summary.deployed,
                Outcome::Kept => &mut summary.kept,
                Outcome::Waiting => &mut summary.waiting,
                Outcome::Failed => &mut summary.failed,
                Outcome::Removed => &mut summary.removed,
                Outcome::Queued => &mut summary.queued,
            } += 1;
        }
        let all = certificates.len();
        if all > LISTED_WHOLE {
            certificates.retain(|entry| entry.outcome != Outcome::Kept);
        }
        // Entries that need attention come first: even these may not all fit.
        certificates.sort_by_key(|entry| (entry.problem.is_none(), entry.name.clone()));
        certificates.truncate(fitting(&certificates));
        certificates.sort_by(|a, b| a.name.cmp(&b.name));
        Self {
            omitted: all - certificates.len(),
            certificates,
            summary,
            messages: (sent != Sent::default()).then(|| Messages {
                sent: sent.taken,
                failed: (sent.failed.into_iter())
                    .map(|(channel, detail)| ChannelFailure { channel, detail })
                    .collect(),
            }),
        }
    }
}

/// Returns how many entries, from the first on, fit into an answer.
pub fn fitting<T: Serialize>(entries: &[T]) -> usize {
    let mut size = 0;
    entries
        .iter()
        .take_while(|entry| {
            size += serde_json::to_vec(entry).map_or(0, |json| json.len() + 1);
            size < LARGEST
        })
        .count()
}

/// Up to this many certificates, the report lists every entry.
const LISTED_WHOLE: usize = 1_000;
/// The entries stay below 5 MB in total; the rest of an answer's 6 MB is for the frame.
const LARGEST: usize = 4_900_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn above_a_thousand_the_kept_ones_are_counted_only() {
        let mut entries: Vec<Entry> = (0..1_500)
            .map(|n| Entry::bare(&format!("c{n}"), Outcome::Kept, ""))
            .collect();
        entries.push(Entry::failed(
            "bad",
            Problem::ours(crate::values::problem_types::ProblemType::Order, "no"),
            None,
        ));
        let report = Report::new(entries, Sent::default());
        assert_eq!((report.certificates.len(), report.omitted), (1, 1_500));
        assert_eq!((report.summary.kept, report.summary.failed), (1_500, 1));
    }

    #[test]
    fn no_report_exceeds_five_megabytes() {
        let entries = (0..20_000)
            .map(|n| {
                Entry::failed(
                    &format!("c{n}"),
                    Problem::ours(
                        crate::values::problem_types::ProblemType::Order,
                        "no ".repeat(200),
                    ),
                    None,
                )
            })
            .collect();
        let report = Report::new(entries, Sent::default());
        assert!(serde_json::to_vec(&report).unwrap().len() < 5_000_000);
        assert_eq!(report.certificates.len() + report.omitted, 20_000);
    }
}
