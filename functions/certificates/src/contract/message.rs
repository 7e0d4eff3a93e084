//! The messages about a certificate that people and programs receive.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::values::problem::Problem;
use crate::values::problem_types::Retry;
use crate::values::text::cut;

/// What a message is about.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// The first certificate is on its targets.
    Issued,
    /// A later certificate is on its targets.
    Renewed,
    /// There is a problem.
    ProblemStarted,
    /// The problem has another class, or is another one that needs a person.
    ProblemChanged,
    /// There is no problem any more.
    ProblemEnded,
    /// Less than a quarter of the lifetime is left, and no attempt has succeeded.
    RunningOut,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Issued,
        Self::Renewed,
        Self::ProblemStarted,
        Self::ProblemChanged,
        Self::ProblemEnded,
        Self::RunningOut,
    ];

    /// Returns EventBridge's `detail-type`.
    pub fn detail_type(self) -> &'static str {
        match self {
            Self::Issued => "Certificate Issued",
            Self::Renewed => "Certificate Renewed",
            Self::ProblemStarted => "Certificate Problem Started",
            Self::ProblemChanged => "Certificate Problem Changed",
            Self::ProblemEnded => "Certificate Problem Ended",
            Self::RunningOut => "Certificate Running Out",
        }
    }
}

/// One message for programs: the detail of EventBridge's event and the body of a `json` webhook.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// Identifies the message. It stays the same when the message is sent again, so receivers can
    /// ignore repeats.
    pub id: String,
    /// What it is about.
    pub kind: Kind,
    /// When the message was made.
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub at: OffsetDateTime,
    /// The bucket of the installation.
    pub installation: String,
    /// The certificate.
    pub certificate: About,
    /// The problem.
    pub problem: Option<ProblemSummary>,
    /// The problem before.
    pub before: Option<ProblemSummary>,
    /// When certloop tries again, where that is known.
    #[serde(default, with = "time::serde::rfc3339::option")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub next_attempt: Option<OffsetDateTime>,
    /// The command that helps, where one is needed.
    pub command: Option<String>,
    /// The whole message in words, one paragraph.
    pub text: String,
}

/// The certificate a message is about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct About {
    /// The document's name.
    pub name: String,
    /// The wanted names; a message lists at most 100.
    pub domains: Vec<String>,
    /// ARN of the first target's certificate.
    pub arn: Option<String>,
    /// The serial number, in lower-case hexadecimal.
    pub serial: Option<String>,
    /// End of the validity of the served certificate.
    #[serde(default, with = "time::serde::rfc3339::option")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub not_after: Option<OffsetDateTime>,
    /// The share of the lifetime that is left, 0 to 1.
    pub lifetime_left_share: Option<f64>,
}

/// A problem in a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Said")]
pub struct ProblemSummary {
    /// The authority's URN (RFC 8555 section 6.7) or `certloop:<word>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What happened and what the reader can do.
    pub detail: String,
    /// When a new attempt makes sense: `soon`, `at` an instant, after a `person` acted, or `never`.
    #[schemars(with = "String", extend("enum" = ["soon", "at", "person", "never"]))]
    pub retry: Retry,
}

impl From<&Problem> for ProblemSummary {
    fn from(problem: &Problem) -> Self {
        Self {
            kind: problem.kind.clone(),
            detail: cut(&problem.detail, LONGEST_DETAIL),
            retry: problem.retry,
        }
    }
}

impl ProblemSummary {
    /// Whether a person must act.
    pub fn needs_person(&self) -> bool {
        matches!(self.retry, Retry::Person | Retry::Never)
    }
}

/// How the channels did in a pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// How many messages the channels accepted; each channel counts separately.
    pub taken: usize,
    /// The channels that failed, and why.
    pub failed: Vec<(String, String)>,
}

/// Chats accept a few thousand characters. A longer message would never arrive.
const LONGEST_DETAIL: usize = 1_500;
