//! The record of where a certificate is: in certificate managers and on targets.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::contract::report::{TargetKind, TargetState};
use crate::contract::target::ListenerAt;
use crate::records::certificate::Validity;
use crate::values::arn::{CertificateArn, ListenerArn};
use crate::values::problem::{Failure, Problem};
use crate::values::problem_types::ProblemType;

/// Where a certificate is, and which one is served.
#[derive(Clone, Debug, Default)]
pub struct DeploymentRecord {
    /// What the certificate managers hold, by region.
    pub imports: BTreeMap<String, Import>,
    /// What is known of each target.
    pub targets: Vec<TargetRecord>,
    /// The listeners that the document names by load balancer and port, once we found or created
    /// them.
    pub listeners: BTreeMap<String, ListenerArn>,
    /// The listeners on which another document holds what this one wants, by target id.
    pub contended: BTreeMap<String, Contended>,
    /// What failed last.
    pub failure: Option<Failure>,
    /// What was last seen to be served; `None` if that is not known.
    pub served: Option<Served>,
    /// Since when a certificate is wanted and none is served.
    pub unserved_since: Option<OffsetDateTime>,
    /// The validity of the previous certificate, while it may still be served.
    pub still_served: Option<Validity>,
}

impl DeploymentRecord {
    /// Whether a target holds the certificate of this serial, as far as we know.
    fn is_held_somewhere(&self, serial: &str) -> bool {
        let mut holding = self.holding();
        holding.any(|target| target.serial.as_deref() == Some(serial))
    }

    /// Whether the certificate of this serial is in use: it is served, or a target holds it, or
    /// there are no targets and programs read it from the vault.
    pub fn is_in_use(&self, serial: &str) -> bool {
        let served = self.served.as_ref();
        let is_served = served.is_some_and(|served| served.serial == serial);
        is_served || self.is_held_somewhere(serial) || self.targets.is_empty()
    }

    /// The targets that hold a certificate of ours.
    pub(super) fn holding(&self) -> impl Iterator<Item = &TargetRecord> {
        self.targets.iter().filter(|target| target.holds_ours())
    }

    /// Returns the serial that a target serves: the one that its ARN holds now, even if the last
    /// check of the target failed.
    pub(super) fn serial_on<'s>(&'s self, target: &'s TargetRecord) -> Option<&'s str> {
        let follows = |import: &&Import| {
            import.arn.is_some() && import.arn == target.certificate_arn && import.serial.is_some()
        };
        let import = self.imports.values().find(follows);
        import
            .and_then(|import| import.serial.as_deref())
            .or(target.serial.as_deref())
    }

    /// Returns the ARNs of our certificates in a region.
    pub fn ours_in(&self, region: &str) -> Vec<String> {
        let import = self.imports.get(region).into_iter();
        let ours = import.flat_map(|import| {
            let old = import.superseded.iter().map(|old| &old.arn);
            import.arn.iter().chain(old)
        });
        ours.map(ToString::to_string).collect()
    }

    /// Notes that a superseded certificate was just taken off: the overlap begins now.
    pub fn note_removal(&mut self, region: &str, certificate: &str) {
        let import = self.imports.get_mut(region);
        for old in import.into_iter().flat_map(|import| &mut import.superseded) {
            if old.arn.as_str() == certificate {
                old.detached_at = None;
            }
        }
    }

    /// Returns the ARN of a listener; `None` until it is found or created.
    pub fn listener<'s>(&'s self, at: &'s ListenerAt) -> Option<&'s ListenerArn> {
        match at {
            ListenerAt::Arn(arn) => Some(arn),
            ListenerAt::Port(new) => self.listeners.get(&new.key()),
        }
    }

    /// What is known of a target, if anything.
    pub fn target(&self, id: &str) -> Option<&TargetRecord> {
        self.targets.iter().find(|target| target.id == id)
    }

    /// The record of a target; a new target gets one.
    pub fn target_mut(&mut self, kind: TargetKind, id: &str) -> &mut TargetRecord {
        let known = self.targets.iter().position(|target| target.id == id);
        let index = known.unwrap_or_else(|| {
            self.targets.push(TargetRecord::new(kind, id));
            self.targets.len() - 1
        });
        &mut self.targets[index]
    }
}

/// What the certificate manager of one region holds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Import {
    /// The certificate's ARN.
    #[serde(default)]
    pub arn: Option<CertificateArn>,
    /// The serial that was imported there last.
    #[serde(default)]
    pub serial: Option<String>,
    /// The serial that this ARN held before. It is kept until its successor is proved, and it is
    /// imported again if the proof fails.
    #[serde(default)]
    pub replaced: Option<String>,
    /// Stored before a first import, so that a lost ARN can be found again.
    #[serde(default)]
    pub importing: Option<Importing>,
    /// Our certificates that this one replaces.
    #[serde(default)]
    pub superseded: Vec<Superseded>,
    /// The serial after which the previous one was imported again: this is done only once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undone: Option<String>,
    /// Certificates that we imported and that no longer carry our tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub untagged: Vec<Untagged>,
    /// The tags of the document that were brought there last; `None` if that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, String>>,
    /// Why the document's tags are not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags_failure: Option<TagsFailure>,
}

impl Import {
    /// Whether certloop must bring a document's tags there now. Unknown tags count as none; after a
    /// failure the same tags wait for a day.
    pub fn wants_tags(&self, wanted: &BTreeMap<String, String>, now: OffsetDateTime) -> bool {
        let has_them = match &self.tags {
            Some(tags) => tags == wanted,
            None => wanted.is_empty(),
        };
        let waits = self.tags_failure.as_ref().is_some_and(|failure| {
            failure.tags == *wanted && failure.at <= now && now < failure.at + Duration::DAY
        });
        !has_them && !waits
    }
}

/// Why a document's tags are not there. They change no visitor's certificate, so nothing else waits
/// for them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagsFailure {
    /// The tags.
    pub tags: BTreeMap<String, String>,
    /// What happened.
    pub problem: Problem,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

/// A certificate that we imported and that no longer carries our tags. We do not change it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Untagged {
    /// Its ARN.
    pub arn: CertificateArn,
    /// The serial that we imported there last.
    pub serial: String,
}

/// The intent of a first import.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Importing {
    /// The serial that is being imported.
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
    /// Since when no target of ours holds it. An instant far in the future comes from a wrong
    /// clock and does not count.
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
    /// A listener's ARN, or `<load balancer's ARN>:<port>` before it has one; or
    /// `certificateManager:<region>`.
    pub id: String,
    /// Our certificate that it holds.
    pub certificate_arn: Option<CertificateArn>,
    /// The serial that it last received.
    pub serial: Option<String>,
    /// Its state.
    pub state: TargetState,
    /// Whether the served leaf is ours; `None` if the proof is off or was not possible.
    pub proved: Option<bool>,
    /// When the served leaf was last checked.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub checked_at: Option<OffsetDateTime>,
    /// Whether the served chain leads to a known root.
    #[serde(default)]
    pub trusted: Option<bool>,
    /// Certificates that could not be taken off because each is, or is also, the default.
    #[serde(default, rename = "stuck")]
    pub undetachable: BTreeSet<String>,
    /// What the last check said, if it failed.
    #[serde(default)]
    pub detail: Option<String>,
    /// Certificates that were taken off for ours. They come back if ours is not proved.
    #[serde(
        default,
        rename = "standby",
        skip_serializing_if = "ToRestore::is_empty"
    )]
    pub to_restore: ToRestore,
    /// Since when it holds our certificate without a break.
    #[serde(
        default,
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub since: Option<OffsetDateTime>,
    /// Since when our certificate is the default there without a break.
    #[serde(
        default,
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub default_since: Option<OffsetDateTime>,
    /// Certificates that the document supersedes and that stay here all the same, by ARN, each
    /// with the reason (rule 12).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stays: BTreeMap<String, Problem>,
    /// When `stays` was last checked.
    #[serde(
        default,
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub stays_seen_at: Option<OffsetDateTime>,
    /// The serial after which the previous certificates were put back: this is done only once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undone: Option<String>,
}

impl TargetRecord {
    /// The record of a new target: nothing is known of it yet.
    fn new(kind: TargetKind, id: &str) -> Self {
        Self {
            kind,
            id: id.to_owned(),
            certificate_arn: None,
            serial: None,
            state: TargetState::Pending,
            proved: None,
            checked_at: None,
            trusted: None,
            detail: None,
            undetachable: BTreeSet::new(),
            to_restore: ToRestore::default(),
            since: None,
            default_since: None,
            stays: BTreeMap::new(),
            stays_seen_at: None,
            undone: None,
        }
    }

    /// Notes that somebody took our certificate off.
    pub(crate) fn took_off(&mut self) {
        (self.certificate_arn, self.serial) = (None, None);
        (self.since, self.default_since) = (None, None);
    }

    /// Whether it holds a certificate of ours.
    pub fn holds_ours(&self) -> bool {
        // A target that failed to take another certificate still holds the one it held.
        !matches!(self.state, TargetState::Detached | TargetState::Pending)
            && self.certificate_arn.is_some()
    }

    /// Whether the certificates that stay there should be checked again: one may be readable now,
    /// or have ended.
    pub fn stays_are_old(&self, now: OffsetDateTime) -> bool {
        let is_old = |at: OffsetDateTime| (now - at).abs() >= Duration::HOUR;
        !self.stays.is_empty() && self.stays_seen_at.is_none_or(is_old)
    }
}

/// The certificates that ours replaces on a listener. They are stored before they are taken off,
/// and kept until ours is proved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToRestore {
    /// The previous default.
    #[serde(default)]
    pub default: Option<String>,
    /// Those from the certificate list.
    #[serde(default)]
    pub list: BTreeSet<String>,
}

impl ToRestore {
    /// Whether nothing has to come back.
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

/// What was last seen to be served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Served {
    /// Lower-case hex.
    pub serial: String,
    /// End of its validity.
    #[serde(with = "time::serde::rfc3339")]
    pub not_after: OffsetDateTime,
    /// How that is known.
    pub by: SeenBy,
    /// When it was seen.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

/// How we know what is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SeenBy {
    /// A TLS handshake showed it.
    Handshake,
    /// The targets hold it.
    Held,
}

/// A place on a listener that another document holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contended {
    /// The document that holds it.
    pub holder: String,
    /// What both documents want, in words for people.
    pub what: String,
}

impl Contended {
    /// The value of `what` if both want to be the default of a listener.
    pub const DEFAULT: &'static str = "the default";

    /// Whether both want to be the default. If not, they conflict over a name.
    pub fn is_about_default(&self) -> bool {
        self.what == Self::DEFAULT
    }

    /// The problem of a document that does not get what it wants on a listener.
    pub fn problem(&self, ours: &str, listener: &str) -> Problem {
        let Self { holder, what } = self;
        let detail = format!(
            "{holder} and {ours} both want {what} on {listener}, and {holder} holds it: nothing is \
             changed there; change certificates/{ours}.json, or remove {holder}"
        );
        Problem::ours(ProblemType::Contended, detail)
    }
}
