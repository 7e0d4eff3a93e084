//! What a pass tells: the function's result, and the summary counted from it.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::contract::message::Sent;
use crate::values::problem::Problem;

/// The report of a pass.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// One entry per certificate.
    pub certificates: Vec<Entry>,
    /// How many of each outcome, left-out entries included.
    pub summary: Summary,
    /// How many entries were left out.
    pub omitted: usize,
    /// How the channels for messages did, where there was something to tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<Messages>,
}

/// How the channels for messages did in a pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Messages {
    /// How many messages were taken, each channel counted.
    pub sent: usize,
    /// The channels that did not take one. It is sent again by a later pass.
    pub failed: Vec<ChannelFailure>,
}

/// A channel that did not take a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChannelFailure {
    /// Which, in words.
    pub channel: String,
    /// Why.
    pub detail: String,
}

/// What became of one certificate in a pass.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// The document's name.
    pub name: String,
    /// In one word.
    pub outcome: Outcome,
    /// In a sentence.
    pub reason: String,
    /// The first target's certificate.
    pub certificate_arn: Option<String>,
    /// Of the certificate that is to be served.
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
    /// Until when nothing is tried.
    #[serde(with = "time::serde::rfc3339::option")]
    pub next_attempt: Option<OffsetDateTime>,
    /// Where it is deployed.
    pub targets: Vec<TargetEntry>,
    /// What went wrong, or is not as it should be.
    pub problem: Option<Problem>,
    /// Whether what it serves is trusted by no public root and of no private authority.
    #[serde(skip)]
    pub is_untrusted: bool,
    /// Whether what was tried last failed and has not succeeded since.
    #[serde(skip)]
    pub is_failing: bool,
    /// Since when nothing of it is served although that is wanted; `None` while it is paused.
    #[serde(skip)]
    pub unserved_since: Option<OffsetDateTime>,
    /// Whether the pass had no time to look at it.
    #[serde(skip)]
    pub is_unseen: bool,
}

/// What became of a certificate, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Its first certificate is on its targets.
    Issued,
    /// A later one is.
    Renewed,
    /// It was put on a target without a new order.
    Deployed,
    /// Nothing had to be done.
    Kept,
    /// Something has to be done, but not now.
    Waiting,
    /// The problem says why.
    Failed,
    /// It was removed.
    Removed,
    /// Another invocation will deal with it.
    Queued,
}

/// One target of one certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetEntry {
    /// What kind of target.
    #[serde(rename = "type")]
    pub kind: TargetKind,
    /// The target's ARN; a `certificateManager` target has none but the certificate's.
    pub arn: Option<String>,
    /// What it holds of ours.
    pub certificate_arn: Option<String>,
    /// Where it stands.
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

/// Where a target stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TargetState {
    /// The listener holds it.
    Attached,
    /// The certificate manager holds it.
    Imported,
    /// Not yet there.
    Pending,
    /// It could not be put there.
    Failed,
    /// It was taken off.
    Detached,
}

/// How many of each outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)] // the names are the outcomes
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

    /// Makes the entry of one that failed.
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
    /// Makes the report of a pass, leaving out what a large fleet would only drown in.
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
        // What needs attention comes first if not even the rest fits.
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

/// Returns how many of these, from the first on, an answer can hold.
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

/// Up to this many certificates, every entry is listed.
const LISTED_WHOLE: usize = 1_000;
/// No result exceeds 5 MB; the rest is for the frame.
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
