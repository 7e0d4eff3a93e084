//! Where a certificate stands, as it is kept: in certificate managers and on targets.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::contract::report::{TargetKind, TargetState};
use crate::values::arn::CertificateArn;
use crate::values::problem::Problem;

/// What stands in the certificate manager of one region.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Import {
    /// The certificate's ARN.
    #[serde(default)]
    pub arn: Option<CertificateArn>,
    /// The serial that was imported there last.
    #[serde(default)]
    pub serial: Option<String>,
    /// The serial that stood under this ARN before, until its successor is proved: what an undoing puts back.
    #[serde(default)]
    pub replaced: Option<String>,
    /// Written before a first import, so that a lost ARN can be found again.
    #[serde(default)]
    pub importing: Option<Importing>,
    /// Our certificates that this one took over from.
    #[serde(default)]
    pub superseded: Vec<Superseded>,
    /// The serial for which the one before was imported back: once is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undone: Option<String>,
    /// Certificates that we imported and that carry our tags no more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub untagged: Vec<Untagged>,
}

/// A certificate that we imported and that carries our tags no more: it is not ours to change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Untagged {
    /// Its ARN.
    pub arn: CertificateArn,
    /// What we imported there last.
    pub serial: String,
}

/// The intent of a first import.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Importing {
    /// What is being imported.
    pub serial: String,
    /// Since when.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

/// A certificate of ours in the certificate manager that has a successor.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Superseded {
    /// Its ARN.
    pub arn: CertificateArn,
    /// Since when no target of ours holds it.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub detached_at: Option<OffsetDateTime>,
}

impl Superseded {
    /// Returns since when no target of ours holds it. An instant to come was written by a clock that was wrong.
    pub fn detached_since(&self, now: OffsetDateTime) -> Option<OffsetDateTime> {
        self.detached_at.filter(|at| *at <= now + Duration::HOUR)
    }
}

/// What is known of one target.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetRecord {
    /// What kind it is.
    pub kind: TargetKind,
    /// A listener's ARN, or `<load balancer's ARN>:<port>` before it has one; or `certificateManager:<region>`.
    pub id: String,
    /// What it holds of ours.
    pub certificate_arn: Option<CertificateArn>,
    /// The serial it was last seen to get.
    pub serial: Option<String>,
    /// Where it stands.
    pub state: TargetState,
    /// Whether the served leaf is ours; `None` for off or could not tell.
    pub proved: Option<bool>,
    /// When that was looked at last.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub checked_at: Option<OffsetDateTime>,
    /// Whether the served chain leads to a known root.
    #[serde(default)]
    pub trusted: Option<bool>,
    /// What could not be taken off because it is the default, or the default as well.
    #[serde(default)]
    pub stuck: BTreeSet<String>,
    /// What the last look said, where it did not succeed.
    #[serde(default)]
    pub detail: Option<String>,
    /// What was taken off for ours and comes back if ours is not proved.
    #[serde(default, skip_serializing_if = "Standby::is_empty")]
    pub standby: Standby,
    /// Since when it holds ours without a break.
    #[serde(
        default,
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub since: Option<OffsetDateTime>,
    /// Since when ours was seen to be the default there without a break.
    #[serde(
        default,
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub default_since: Option<OffsetDateTime>,
    /// What the document supersedes and yet stays here, by ARN, each with why (rule 12).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stays: BTreeMap<String, Problem>,
    /// When that was looked at last.
    #[serde(
        default,
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub stays_seen_at: Option<OffsetDateTime>,
    /// The serial for which what was there before was put back: once is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undone: Option<String>,
}

impl TargetRecord {
    /// Notes that somebody took ours off it.
    pub(crate) fn took_off(&mut self) {
        (self.certificate_arn, self.serial) = (None, None);
        (self.since, self.default_since) = (None, None);
    }

    /// Whether it holds a certificate of ours.
    pub fn holds_ours(&self) -> bool {
        // One on which another could not be put goes on holding what it held.
        !matches!(self.state, TargetState::Detached | TargetState::Pending)
            && self.certificate_arn.is_some()
    }

    /// Whether what stays there is to be looked at again: it may be readable by now, or have ended.
    pub fn stays_are_old(&self, now: OffsetDateTime) -> bool {
        let is_old = |at: OffsetDateTime| (now - at).abs() >= Duration::HOUR;
        !self.stays.is_empty() && self.stays_seen_at.is_none_or(is_old)
    }
}

/// Certificates that ours took over from on a listener, until ours is proved; written down before they are taken off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standby {
    /// The default before.
    #[serde(default)]
    pub default: Option<String>,
    /// Those of the certificate list.
    #[serde(default)]
    pub list: BTreeSet<String>,
}

impl Standby {
    /// Whether nothing stands by.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// All that may have to come back.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        self.list.iter().chain(&self.default).map(String::as_str)
    }

    /// Whether this certificate may still have to come back.
    pub fn holds(&self, arn: &str) -> bool {
        self.default.as_deref() == Some(arn) || self.list.contains(arn)
    }
}
