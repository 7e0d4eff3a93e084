//! `state/<name>.json`, the record of one certificate: what is true, what is in progress, which
//! invocation works on it, and what happened.
//!
//! ```text
//!  absent ─▶ ordered ─▶ finalizing ─▶ held (in the vault) ─▶ imported ─▶ attached ─▶ proved
//!               │ url       │ key stored   │ serial             │ ARN        │ targets
//! ```
//!
//! The record is saved after each arrow, before the next begins. Each step can be repeated after a
//! stop.
//!
//! Each part owns its data: [`Orders`], [`DeploymentRecord`], [`Previous`], [`Revocations`]. In
//! JSON all members are at one level (`Stored`).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize, Serializer};
use time::{Duration, OffsetDateTime};

use crate::contract::certificate::Wanted;
use crate::contract::report::TargetState;
use crate::contract::word::Word;
use crate::records::certificate::{IssuedCertificate, Validity};
use crate::records::deployment::{
    Contended, DeploymentRecord, Import, SeenBy, Served, TargetRecord,
};
use crate::records::notified::Notified;
use crate::records::order::{Missing, OrderRecord, Orders, Preflight, Rehearsed};
use crate::records::previous::{Previous, RolledBack};
use crate::records::record::Record;
use crate::records::revocation::{Revocation, Revocations, Revoked};
use crate::values::arn::ListenerArn;
use crate::values::chain::same_serial;
use crate::values::names::DnsName;
use crate::values::problem::Failure;

/// The record of one certificate.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Stored<'_>")]
pub struct State {
    version: u32,
    write_id: String,
    /// Which invocation works on it now.
    pub lease: Option<Lease>,
    /// The certificate in the vault that should be served.
    pub certificate: Option<IssuedCertificate>,
    /// The previous certificate.
    pub previous: Previous,
    /// Revocations, done and pending.
    pub revocations: Revocations,
    /// The removal in progress, if there is one.
    pub removing: Option<Removal>,
    /// What the document said when its last leaf was issued. This is in force.
    pub in_force: Option<Box<Word>>,
    /// What is known of its orders.
    pub orders: Orders,
    /// Where the certificate is, and which one is served.
    pub deployment: DeploymentRecord,
    /// The ETag of the document as it was last read; not stored.
    pub document: Option<String>,
    /// What the document said when it was last read, if it was valid; not stored.
    pub says: Option<Box<Word>>,
    /// What still has to be deleted from the bucket.
    pub leftovers: Leftovers,
    /// What people know from our messages; `None` in records that are older than messages.
    pub told: Option<Notified>,
    /// The last steps, oldest first.
    pub history: Vec<HistoryStep>,
}

impl Record for State {
    fn stamp(&mut self, write_id: String) {
        self.version = Self::VERSION;
        self.write_id = write_id;
    }
}

impl Default for State {
    fn default() -> Self {
        Self {
            version: Self::VERSION,
            write_id: String::new(),
            lease: None,
            certificate: None,
            previous: Previous::default(),
            revocations: Revocations::default(),
            removing: None,
            in_force: None,
            orders: Orders::default(),
            deployment: DeploymentRecord::default(),
            document: None,
            says: None,
            leftovers: Leftovers::default(),
            told: Some(Notified::default()),
            history: Vec::new(),
        }
    }
}

impl State {
    /// Adds a step to the history, and drops the oldest beyond [`HISTORY`].
    pub fn note(&mut self, at: OffsetDateTime, step: &str, detail: impl Into<String>) {
        let detail: String = detail.into();
        let detail = detail.chars().take(LONGEST_DETAIL).collect();
        self.history.push(HistoryStep {
            at,
            step: step.to_owned(),
            detail,
        });
        let surplus = self.history.len().saturating_sub(HISTORY);
        self.history.drain(..surplus);
    }

    /// Corrects instants that come from a clock far ahead: none of our attempts is more than a day
    /// in the future. Returns whether it corrected any.
    pub fn set_right(&mut self, now: OffsetDateTime) -> bool {
        let revocations = self.revocations.pending.iter_mut();
        let failures = (self.orders.failure.iter_mut())
            .chain(&mut self.orders.failures_elsewhere)
            .chain(&mut self.deployment.failure)
            .chain(revocations.filter_map(|revocation| revocation.failure.as_mut()));
        let mut any = false;
        for failure in failures.filter(|failure| failure.is_too_far_ahead(now)) {
            (failure.at, failure.next_attempt) = (now, now);
            any = true;
        }
        let missing = self.orders.missing.values_mut();
        for missing in missing.filter(|missing| missing.is_too_far_ahead(now)) {
            missing.next_attempt = now;
            any = true;
        }
        any
    }

    /// Returns the lease that keeps other invocations away now. A lease that ends too far ahead is
    /// void: it comes from a wrong clock.
    pub fn lease_in_force(&self, now: OffsetDateTime) -> Option<&Lease> {
        self.lease
            .as_ref()
            .filter(|lease| lease.until > now && lease.until <= now + LONGEST_LEASE + CLOCKS_DIFFER)
    }

    /// Makes a certificate the previous one. One that was never served does not replace one that
    /// was: a rollback goes to the certificate that was served last.
    pub fn supersede(&mut self, before: IssuedCertificate) {
        let was_served = |held: &IssuedCertificate| {
            held.was_served == Some(true) || self.deployment.is_in_use(&held.serial)
        };
        let stays = (self.previous.certificate.as_deref())
            .is_some_and(|previous| was_served(previous) && !was_served(&before));
        let goes = match stays {
            true => Some(before.serial),
            false => {
                let oldest = self.previous.serial.replace(before.serial.clone());
                self.previous.certificate = Some(Box::new(before));
                oldest
            }
        };
        // A serial that only targets still hold can go from the vault: the certificate manager has
        // it as well.
        let is_needed =
            |serial: &String| self.held(serial).is_some() || self.revocations.is_pending(serial);
        let goes = goes.filter(|serial| !is_needed(serial));
        self.leftovers.serials.extend(goes);
    }

    /// Notes the document as read now: its ETag, and what it says if it is valid.
    pub fn note_document(&mut self, etag: &str, wanted: Option<&Wanted>) {
        self.document = Some(etag.to_owned());
        self.says = wanted.map(|wanted| Box::new(Word::from(wanted)));
    }

    /// Returns the rollback that is in force by the document. It ends only when the document says
    /// something else.
    pub fn held_back(&self) -> Option<&RolledBack> {
        let back = self.previous.rolled_back.as_ref();
        back.filter(|back| match (&back.word, &self.says) {
            (Some(word), Some(says)) => word == says,
            // An invalid document changes nothing.
            (Some(_), None) => true,
            (None, _) => self.document.as_ref() == Some(&back.document),
        })
    }

    /// Returns the certificate of this serial: the current one or the previous one.
    pub fn held(&self, serial: &str) -> Option<&IssuedCertificate> {
        let previous = self.previous.certificate.as_deref();
        (self.certificate.iter())
            .chain(previous)
            .find(|held| held.serial == serial)
    }

    /// When the authority revoked the certificate of a serial for us.
    pub fn revoked_at(&self, serial: &str) -> Option<OffsetDateTime> {
        let known = self.revocations.revoked.iter();
        let mut known = known.filter(|(known, _)| same_serial(known, serial));
        (self.held(serial).and_then(|held| held.revoked_at))
            .or(known.next().map(|(_, revoked)| revoked.at))
    }

    /// Notes that a certificate is revoked, and forgets those that have ended since.
    pub fn note_revoked(&mut self, serial: &str, not_after: OffsetDateTime, at: OffsetDateTime) {
        let previous = self.previous.certificate.as_deref_mut();
        let both = self.certificate.iter_mut().chain(previous);
        for held in both.filter(|held| held.serial == serial) {
            held.revoked_at = Some(at);
        }
        self.revocations.note(serial, not_after, at);
    }

    /// Ends a requested revocation, done or not. If the vault kept the certificate only for this,
    /// the certificate can go.
    pub fn end_revocation(&mut self, serial: &str) {
        self.revocations
            .pending
            .retain(|known| known.serial != serial);
        if self.held(serial).is_none() {
            self.leftovers.serials.insert(serial.to_owned());
        }
    }

    /// Returns what is served. If the record does not say, this is what its targets hold.
    pub fn known_served(&self, now: OffsetDateTime) -> Option<Served> {
        let known = self.deployment.served.clone();
        known.or_else(|| self.served_by_targets(now))
    }

    /// Notes what is served, from what the targets hold now: of several certificates the one that
    /// ends first.
    pub fn note_served(&mut self, now: OffsetDateTime) {
        let served = self.served_by_targets(now);
        self.deployment.served = served;
        let deployment = &self.deployment;
        let serials: BTreeSet<&str> = (deployment.holding())
            .filter_map(|target| deployment.serial_on(target))
            .collect();
        let previous = self.previous.certificate.as_deref_mut();
        let held = self.certificate.iter_mut().chain(previous);
        for held in held.filter(|held| serials.contains(held.serial.as_str())) {
            held.was_served = Some(true);
        }
        self.note_unserved(now);
    }

    /// Notes since when a certificate is wanted and none is served.
    pub fn note_unserved(&mut self, now: OffsetDateTime) {
        let since = self.deployment.unserved_since.filter(|since| *since <= now);
        self.deployment.unserved_since = self.lacks_service().then(|| since.unwrap_or(now));
    }

    /// Whether no certificate is served. Without targets: whether there is no certificate.
    fn lacks_service(&self) -> bool {
        if self.deployment.targets.is_empty() {
            self.certificate.is_none()
        } else {
            self.deployment.served.is_none()
        }
    }

    fn served_by_targets(&self, now: OffsetDateTime) -> Option<Served> {
        let before = self.deployment.served.as_ref();
        let of_target = |target: &TargetRecord| {
            let serial = self.deployment.serial_on(target)?;
            let known = before.filter(|served| served.serial == serial);
            let not_after = (self.held(serial).map(|held| held.not_after))
                .or(known.map(|served| served.not_after))?;
            let (by, at) = match (target.proved, target.checked_at, known) {
                (Some(true), Some(at), _) => (SeenBy::Handshake, at),
                // This time the target could not be checked.
                (_, _, Some(known)) if target.state == TargetState::Failed => (known.by, known.at),
                _ => (SeenBy::Held, now),
            };
            Some(Served {
                serial: serial.to_owned(),
                not_after,
                by,
                at,
            })
        };
        (self.deployment.holding())
            .filter_map(of_target)
            .min_by_key(|served| served.not_after)
    }
}

/// The right to work on a certificate, until the holder's invocation ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// A random word of the holder's invocation.
    pub owner: String,
    /// The holder's deadline.
    #[serde(with = "time::serde::rfc3339")]
    pub until: OffsetDateTime,
}

/// A removal in progress: we take everything of ours away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// Since when.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The ETag of the document that will be deleted. Another document ends the removal.
    #[serde(default)]
    pub document: Option<String>,
    /// When that document was written, by the clock of the bucket.
    #[serde(
        default,
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub document_modified: Option<OffsetDateTime>,
}

/// What still has to be deleted from the bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Leftovers {
    /// Tokens under `challenges/`. They are recorded here before they are stored there.
    #[serde(default)]
    pub tokens: BTreeSet<String>,
    /// Tokens of a failed order of which other challenges were still being validated. Each stays
    /// until its instant.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub asked_for: BTreeMap<String, AskedFor>,
    /// Whether `vault/<name>/pending.json` is no longer needed.
    #[serde(default)]
    pub pending_key: bool,
    /// Serials in the vault that are older than the previous one.
    #[serde(default)]
    pub serials: BTreeSet<String>,
}

impl AskedFor {
    /// Whether the authority no longer asks. An instant too far ahead comes from a wrong clock and
    /// does not count.
    pub fn is_over(self, now: OffsetDateTime) -> bool {
        self.0 <= now || self.0 > now + Duration::HOUR
    }
}

impl Leftovers {
    /// Whether there is nothing to delete now.
    pub fn is_empty(&self, now: OffsetDateTime) -> bool {
        let Self {
            tokens,
            asked_for,
            pending_key,
            serials,
        } = self;
        let asked_for = asked_for.values().any(|until| until.is_over(now));
        tokens.is_empty() && serials.is_empty() && !pending_key && !asked_for
    }
}

/// Until when an authority may ask for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AskedFor(#[serde(with = "time::serde::rfc3339")] pub OffsetDateTime);

/// One step of the history.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HistoryStep {
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// What happened, in a word or two.
    pub step: String,
    /// Details, in words.
    pub detail: String,
}

/// The members of `state/<name>.json` in their order, at one level. Other builds and people read
/// them in this form. To write, it borrows from the record.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored<'s> {
    version: u32,
    write_id: Cow<'s, str>,
    #[serde(default)]
    lease: Cow<'s, Option<Lease>>,
    #[serde(default)]
    certificate: Cow<'s, Option<IssuedCertificate>>,
    #[serde(default)]
    previous: Cow<'s, Option<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous_held: Cow<'s, Option<Box<IssuedCertificate>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rolled_back: Cow<'s, Option<RolledBack>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    revoked: Cow<'s, BTreeMap<String, Revoked>>,
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    revoking: Cow<'s, [Revocation]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    removing: Cow<'s, Option<Removal>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    missing: Cow<'s, BTreeMap<DnsName, Missing>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rehearsed: Cow<'s, Option<Rehearsed>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    served: Cow<'s, Option<Served>>,
    #[serde(
        default,
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    unserved_since: Option<OffsetDateTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    in_force: Cow<'s, Option<Box<Word>>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    contended: Cow<'s, BTreeMap<String, Contended>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    still_served: Option<Validity>,
    #[serde(default)]
    order: Cow<'s, Option<OrderRecord>>,
    #[serde(default)]
    imports: Cow<'s, BTreeMap<String, Import>>,
    #[serde(default)]
    targets: Cow<'s, [TargetRecord]>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    listeners: Cow<'s, BTreeMap<String, ListenerArn>>,
    #[serde(default)]
    order_failure: Cow<'s, Option<Failure>>,
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    failures_elsewhere: Cow<'s, [Failure]>,
    #[serde(default)]
    deployment_failure: Cow<'s, Option<Failure>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    preflight: Cow<'s, Option<Preflight>>,
    #[serde(default)]
    leftovers: Cow<'s, Leftovers>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    told: Cow<'s, Option<Notified>>,
    #[serde(default)]
    history: Cow<'s, [HistoryStep]>,
}

impl From<Stored<'_>> for State {
    fn from(stored: Stored<'_>) -> Self {
        Self {
            version: stored.version,
            write_id: stored.write_id.into_owned(),
            lease: stored.lease.into_owned(),
            certificate: stored.certificate.into_owned(),
            previous: Previous {
                serial: stored.previous.into_owned(),
                certificate: stored.previous_held.into_owned(),
                rolled_back: stored.rolled_back.into_owned(),
            },
            revocations: Revocations {
                revoked: stored.revoked.into_owned(),
                pending: stored.revoking.into_owned(),
            },
            removing: stored.removing.into_owned(),
            in_force: stored.in_force.into_owned(),
            orders: Orders {
                current: stored.order.into_owned(),
                failure: stored.order_failure.into_owned(),
                failures_elsewhere: stored.failures_elsewhere.into_owned(),
                missing: stored.missing.into_owned(),
                rehearsed: stored.rehearsed.into_owned(),
                preflight: stored.preflight.into_owned(),
            },
            deployment: DeploymentRecord {
                imports: stored.imports.into_owned(),
                targets: stored.targets.into_owned(),
                listeners: stored.listeners.into_owned(),
                contended: stored.contended.into_owned(),
                failure: stored.deployment_failure.into_owned(),
                served: stored.served.into_owned(),
                unserved_since: stored.unserved_since,
                still_served: stored.still_served,
            },
            document: None,
            says: None,
            leftovers: stored.leftovers.into_owned(),
            told: stored.told.into_owned(),
            history: stored.history.into_owned(),
        }
    }
}

impl<'s> From<&'s State> for Stored<'s> {
    fn from(state: &'s State) -> Self {
        Self {
            version: state.version,
            write_id: Cow::Borrowed(&state.write_id),
            lease: Cow::Borrowed(&state.lease),
            certificate: Cow::Borrowed(&state.certificate),
            previous: Cow::Borrowed(&state.previous.serial),
            previous_held: Cow::Borrowed(&state.previous.certificate),
            rolled_back: Cow::Borrowed(&state.previous.rolled_back),
            revoked: Cow::Borrowed(&state.revocations.revoked),
            revoking: Cow::Borrowed(&state.revocations.pending),
            removing: Cow::Borrowed(&state.removing),
            missing: Cow::Borrowed(&state.orders.missing),
            rehearsed: Cow::Borrowed(&state.orders.rehearsed),
            served: Cow::Borrowed(&state.deployment.served),
            unserved_since: state.deployment.unserved_since,
            in_force: Cow::Borrowed(&state.in_force),
            contended: Cow::Borrowed(&state.deployment.contended),
            still_served: state.deployment.still_served,
            order: Cow::Borrowed(&state.orders.current),
            imports: Cow::Borrowed(&state.deployment.imports),
            targets: Cow::Borrowed(&state.deployment.targets),
            listeners: Cow::Borrowed(&state.deployment.listeners),
            order_failure: Cow::Borrowed(&state.orders.failure),
            failures_elsewhere: Cow::Borrowed(&state.orders.failures_elsewhere),
            deployment_failure: Cow::Borrowed(&state.deployment.failure),
            preflight: Cow::Borrowed(&state.orders.preflight),
            leftovers: Cow::Borrowed(&state.leftovers),
            told: Cow::Borrowed(&state.told),
            history: Cow::Borrowed(&state.history),
        }
    }
}

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Stored::from(self).serialize(serializer)
    }
}

/// How long a detail of the history may be, in characters.
const LONGEST_DETAIL: usize = 2_000;
/// How many steps of the history are kept.
pub const HISTORY: usize = 100;
/// How long an invocation can last. A longer lease is void.
pub(crate) const LONGEST_LEASE: Duration = Duration::minutes(15);
/// How much the clocks of two functions may differ.
const CLOCKS_DIFFER: Duration = Duration::seconds(5);

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use crate::ports::store::parse_record;

    use super::State;

    /// Records of every build so far: `<name>.json`. Beside each, `<name>.written` has the text
    /// that we write for it, or why we refuse it.
    #[test]
    fn records_of_all_builds_are_written_as_before() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let fixtures = here.join("src/records/fixtures");
        let mut samples = json_files(&fixtures, "");
        let corpus = here.join("../../tests/fuzz/corpus/records");
        samples.extend(json_files(&corpus, "state"));
        for sample in samples {
            let name = sample.file_stem().unwrap().to_str().unwrap();
            let known = fixtures.join(name).with_extension("written");
            let written = match parse_record::<State>(name, &fs::read(&sample).unwrap()) {
                Ok(state) => serde_json::to_string_pretty(&state).unwrap(),
                Err(refusal) => refusal.to_string(),
            };
            let known = fs::read_to_string(known).unwrap();
            assert_eq!(written, known, "{name}");
        }
    }

    /// A record with all members is written as it was read.
    #[test]
    fn nothing_of_a_full_record_is_lost() {
        let full = include_str!("fixtures/full.json");
        let read: State = serde_json::from_str(full).unwrap();
        assert_eq!(
            serde_json::to_string_pretty(&read).unwrap(),
            full.trim_end()
        );
    }

    fn json_files(folder: &Path, prefix: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).unwrap();
        let files = entries.map(|entry| entry.unwrap().path());
        let is_sample = |file: &PathBuf| {
            let name = file.file_name().unwrap().to_str().unwrap();
            name.starts_with(prefix) && name.ends_with(".json")
        };
        let samples: Vec<PathBuf> = files.filter(is_sample).collect();
        assert!(!samples.is_empty(), "no sample in {}", folder.display());
        samples
    }
}
