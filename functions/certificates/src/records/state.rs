//! `state/<name>.json`: what is true of a certificate, what is under way, who works on it, and what happened.
//!
//! ```text
//!  absent ─▶ ordered ─▶ finalizing ─▶ held (in the vault) ─▶ imported ─▶ attached ─▶ proved
//!               │ url       │ key stored   │ serial             │ ARN        │ targets
//! ```
//!
//! Every arrow is saved before the next is begun; each step can be repeated after a stop.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::contract::certificate::Wanted;
use crate::contract::report::{TargetKind, TargetState};
use crate::contract::target::ListenerAt;
use crate::contract::word::Word;
use crate::records::certificate::{IssuedCertificate, Validity};
use crate::records::deployment::{Import, Standby, TargetRecord};
use crate::records::notified::Notified;
use crate::records::order::{Missing, OrderRecord, Rehearsed};
use crate::records::record::Record;
use crate::values::arn::ListenerArn;
use crate::values::chain::same_serial;
use crate::values::names::DnsName;
use crate::values::problem::{Failure, Problem};
use crate::values::problem_types::ProblemType;
use crate::values::revocation_reason::Reason;

/// The record of one certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    version: u32,
    write_id: String,
    /// Who works on it now.
    #[serde(default)]
    pub lease: Option<Lease>,
    /// The certificate in the vault that is to be served.
    #[serde(default)]
    pub certificate: Option<IssuedCertificate>,
    /// The serial of the one before, kept in the vault as well.
    #[serde(default)]
    pub previous: Option<String>,
    /// What is known of the one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_held: Option<Box<IssuedCertificate>>,
    /// That somebody went back to an earlier certificate, which is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<RolledBack>,
    /// What we had revoked and has not ended yet, by serial.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub revoked: BTreeMap<String, Revoked>,
    /// A revocation asked for and not done yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revoking: Vec<Revocation>,
    /// That everything of ours is to go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removing: Option<Removal>,
    /// Names that stood in the way of an order and are left out of it until their next attempt.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub missing: BTreeMap<DnsName, Missing>,
    /// The last set of names that was ordered for nothing, and passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearsed: Option<Rehearsed>,
    /// What is served, as far as that was looked at; `None` where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served: Option<Served>,
    /// Since when it is wanted and nothing of it is served.
    #[serde(
        default,
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub unserved_since: Option<OffsetDateTime>,
    /// What the document said when a leaf for it was issued last: that is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_force: Option<Box<Word>>,
    /// The listeners on which another document holds the place that this one wants, by target id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub contended: BTreeMap<String, Contended>,
    /// The validity of the one before, while it may still be what is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub still_served: Option<Validity>,
    /// The order under way.
    #[serde(default)]
    pub order: Option<OrderRecord>,
    /// What stands in the certificate manager, by region.
    #[serde(default)]
    pub imports: BTreeMap<String, Import>,
    /// What is known of each target.
    #[serde(default)]
    pub targets: Vec<TargetRecord>,
    /// The listeners that the document names by load balancer and port, once they were found or made.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub listeners: BTreeMap<String, ListenerArn>,
    /// What failed last while ordering.
    #[serde(default)]
    pub order_failure: Option<Failure>,
    /// What failed last at other authorities than that one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures_elsewhere: Vec<Failure>,
    /// What failed last while deploying.
    #[serde(default)]
    pub deployment_failure: Option<Failure>,
    /// What the last look ahead found: whether the next order would come off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preflight: Option<Preflight>,
    /// The ETag of the document as it was last read; not stored.
    #[serde(skip)]
    pub document: Option<String>,
    /// What the document said as it was last read, where it was valid; not stored.
    #[serde(skip)]
    pub says: Option<Box<Word>>,
    /// What still has to be deleted from the bucket.
    #[serde(default)]
    pub leftovers: Leftovers,
    /// What people were told of it; `None` in records from before they were told anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<Notified>,
    /// The last steps, oldest first.
    #[serde(default)]
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
            previous: None,
            previous_held: None,
            rolled_back: None,
            revoked: BTreeMap::new(),
            revoking: Vec::new(),
            removing: None,
            missing: BTreeMap::new(),
            rehearsed: None,
            served: None,
            unserved_since: None,
            in_force: None,
            contended: BTreeMap::new(),
            still_served: None,
            order: None,
            imports: BTreeMap::new(),
            targets: Vec::new(),
            listeners: BTreeMap::new(),
            order_failure: None,
            failures_elsewhere: Vec::new(),
            deployment_failure: None,
            preflight: None,
            document: None,
            says: None,
            leftovers: Leftovers::default(),
            told: Some(Notified::default()),
            history: Vec::new(),
        }
    }
}

impl State {
    /// Adds a step to the history, dropping the oldest beyond [`HISTORY`].
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

    /// Sets right what a clock wrote that was far ahead: no attempt of ours lies further ahead than
    /// a day. Returns whether there was any.
    pub fn set_right(&mut self, now: OffsetDateTime) -> bool {
        let revoking = self.revoking.iter_mut();
        let failures = (self.order_failure.iter_mut())
            .chain(&mut self.failures_elsewhere)
            .chain(&mut self.deployment_failure)
            .chain(revoking.filter_map(|revocation| revocation.failure.as_mut()));
        let mut any = false;
        for failure in failures.filter(|failure| failure.is_too_far_ahead(now)) {
            (failure.at, failure.next_attempt) = (now, now);
            any = true;
        }
        for missing in self
            .missing
            .values_mut()
            .filter(|missing| missing.is_too_far_ahead(now))
        {
            missing.next_attempt = now;
            any = true;
        }
        any
    }

    /// Returns the lease that keeps others away now. One that ends too far ahead is void: the clock that wrote it was wrong.
    pub fn lease_in_force(&self, now: OffsetDateTime) -> Option<&Lease> {
        self.lease
            .as_ref()
            .filter(|lease| lease.until > now && lease.until <= now + LONGEST_LEASE + CLOCKS_DIFFER)
    }

    /// Returns what failed last when ordering at a directory.
    pub fn failure_at(&self, directory: &str) -> Option<&Failure> {
        // Older records do not say where it was.
        let last = self.order_failure.as_ref();
        last.filter(|failure| failure.directory.is_empty() || failure.directory == directory)
            .or_else(|| {
                let elsewhere = &mut self.failures_elsewhere.iter();
                elsewhere.find(|failure| failure.directory == directory)
            })
    }

    /// Remembers what failed when ordering, beside what failed at other directories.
    pub fn remember(&mut self, failure: Failure) {
        self.failures_elsewhere
            .retain(|other| other.directory != failure.directory);
        if let Some(last) = self.order_failure.replace(failure) {
            let is_elsewhere = (self.order_failure.as_ref())
                .is_some_and(|failure| failure.directory != last.directory);
            if is_elsewhere {
                self.failures_elsewhere
                    .retain(|other| other.directory != last.directory);
                self.failures_elsewhere.push(last);
            }
        }
    }

    /// Forgets what failed when ordering, after an order at this directory: what other authorities asked for stays.
    pub fn has_ordered_at(&mut self, directory: &str, now: OffsetDateTime) {
        let stays = |failure: &Failure| {
            failure.binding && failure.directory != directory && failure.next_attempt > now
        };
        self.order_failure.take_if(|failure| !stays(failure));
        self.failures_elsewhere.retain(stays);
    }

    /// Makes a certificate the one before. One that was never served takes nobody's place: a
    /// rollback goes to what was served last.
    pub fn supersede(&mut self, before: IssuedCertificate) {
        let was_served = |held: &IssuedCertificate| {
            held.was_served == Some(true) || self.is_in_use(&held.serial)
        };
        let stays = (self.previous_held.as_deref())
            .is_some_and(|previous| was_served(previous) && !was_served(&before));
        let goes = match stays {
            true => Some(before.serial),
            false => {
                let oldest = self.previous.replace(before.serial.clone());
                self.previous_held = Some(Box::new(before));
                oldest
            }
        };
        // What targets hold besides, the certificate manager holds as well.
        let is_needed =
            |serial: &String| self.held(serial).is_some() || self.is_to_be_revoked(serial);
        let goes = goes.filter(|serial| !is_needed(serial));
        self.leftovers.serials.extend(goes);
    }

    /// Notes the document as it was read now: its ETag, and what it says where it is valid.
    pub fn note_document(&mut self, etag: &str, wanted: Option<&Wanted>) {
        self.document = Some(etag.to_owned());
        self.says = wanted.map(|wanted| Box::new(Word::from(wanted)));
    }

    /// Returns the rollback that holds as far as the document goes: only another word of the
    /// document ends it.
    pub fn held_back(&self) -> Option<&RolledBack> {
        let back = self.rolled_back.as_ref();
        back.filter(|back| match (&back.word, &self.says) {
            (Some(word), Some(says)) => word == says,
            // Nobody acts on a document that cannot be read.
            (Some(_), None) => true,
            (None, _) => self.document.as_ref() == Some(&back.document),
        })
    }

    /// Returns the certificate of this serial, the one to be served or the one before.
    pub fn held(&self, serial: &str) -> Option<&IssuedCertificate> {
        let previous = self.previous_held.as_deref();
        (self.certificate.iter())
            .chain(previous)
            .find(|held| held.serial == serial)
    }

    /// Returns when we had the certificate of a serial revoked.
    pub fn revoked_at(&self, serial: &str) -> Option<OffsetDateTime> {
        let known = self.revoked.iter();
        let mut known = known.filter(|(known, _)| same_serial(known, serial));
        (self.held(serial).and_then(|held| held.revoked_at))
            .or(known.next().map(|(_, revoked)| revoked.at))
    }

    /// Notes that a certificate was revoked, and forgets those that have ended since.
    pub fn note_revoked(&mut self, serial: &str, not_after: OffsetDateTime, at: OffsetDateTime) {
        let previous = self.previous_held.as_deref_mut();
        let both = self.certificate.iter_mut().chain(previous);
        for held in both.filter(|held| held.serial == serial) {
            held.revoked_at = Some(at);
        }
        // One that ended may stand somewhere for a while, and clocks differ.
        self.revoked
            .retain(|_, known| at < known.not_after + Duration::days(7));
        self.revoked
            .insert(serial.to_owned(), Revoked { at, not_after });
    }

    /// Whether a target holds the certificate of this serial, by what is known of it.
    pub fn is_held_somewhere(&self, serial: &str) -> bool {
        let mut holding = self.targets.iter().filter(|target| target.holds_ours());
        holding.any(|target| target.serial.as_deref() == Some(serial))
    }

    /// Whether the certificate of this serial is served, or is what those follow who read the vault.
    pub fn is_in_use(&self, serial: &str) -> bool {
        let is_served = self
            .served
            .as_ref()
            .is_some_and(|served| served.serial == serial);
        is_served || self.is_held_somewhere(serial) || self.targets.is_empty()
    }

    /// Returns what is served; in a record that does not say, what its targets were found to hold.
    pub fn known_served(&self, now: OffsetDateTime) -> Option<Served> {
        let known = self.served.clone();
        known.or_else(|| self.served_by_targets(now))
    }

    /// Notes what is served, as the targets were found now: of several the one that ends first.
    pub fn note_served(&mut self, now: OffsetDateTime) {
        let served = self.served_by_targets(now);
        self.served = served;
        let serials: BTreeSet<String> = (self.targets.iter())
            .filter(|target| target.holds_ours())
            .filter_map(|target| Some(self.serial_on(target)?.to_owned()))
            .collect();
        let previous = self.previous_held.as_deref_mut();
        let held = self.certificate.iter_mut().chain(previous);
        for held in held.filter(|held| serials.contains(&held.serial)) {
            held.was_served = Some(true);
        }
        self.note_unserved(now);
    }

    /// Notes since when it is wanted and nothing of it is served.
    pub fn note_unserved(&mut self, now: OffsetDateTime) {
        let since = self.unserved_since.filter(|since| *since <= now);
        self.unserved_since = self.lacks_service().then(|| since.unwrap_or(now));
    }

    /// Whether nothing of it is served; where it has no targets, whether there is none.
    fn lacks_service(&self) -> bool {
        match self.targets.is_empty() {
            true => self.certificate.is_none(),
            false => self.served.is_none(),
        }
    }

    /// Returns what a target serves: what its ARN holds by now, also where a look at it failed.
    fn serial_on<'s>(&'s self, target: &'s TargetRecord) -> Option<&'s str> {
        let follows = |import: &&Import| {
            import.arn.is_some() && import.arn == target.certificate_arn && import.serial.is_some()
        };
        let import = self.imports.values().find(follows);
        import
            .and_then(|import| import.serial.as_deref())
            .or(target.serial.as_deref())
    }

    fn served_by_targets(&self, now: OffsetDateTime) -> Option<Served> {
        let before = self.served.as_ref();
        let of_target = |target: &TargetRecord| {
            let serial = self.serial_on(target)?;
            let known = before.filter(|served| served.serial == serial);
            let not_after = (self.held(serial).map(|held| held.not_after))
                .or(known.map(|served| served.not_after))?;
            let (by, at) = match (target.proved, target.checked_at, known) {
                (Some(true), Some(at), _) => (SeenBy::Handshake, at),
                // It was not looked at now.
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
        let holding = self.targets.iter().filter(|target| target.holds_ours());
        holding
            .filter_map(of_target)
            .min_by_key(|served| served.not_after)
    }

    /// Returns the ARN of a listener, once it has one.
    pub fn listener<'s>(&'s self, at: &'s ListenerAt) -> Option<&'s ListenerArn> {
        match at {
            ListenerAt::Arn(arn) => Some(arn),
            ListenerAt::Port(new) => self.listeners.get(&new.key()),
        }
    }

    /// Returns what is known of a target.
    pub fn target(&self, id: &str) -> Option<&TargetRecord> {
        self.targets.iter().find(|target| target.id == id)
    }

    /// Returns the record of a target, made when it is new.
    pub fn target_mut(&mut self, kind: TargetKind, id: &str) -> &mut TargetRecord {
        let index = self
            .targets
            .iter()
            .position(|target| target.id == id)
            .unwrap_or_else(|| {
                self.targets.push(TargetRecord {
                    kind,
                    id: id.to_owned(),
                    certificate_arn: None,
                    serial: None,
                    state: TargetState::Pending,
                    proved: None,
                    checked_at: None,
                    trusted: None,
                    detail: None,
                    stuck: BTreeSet::new(),
                    standby: Standby::default(),
                    since: None,
                    default_since: None,
                    stays: BTreeMap::new(),
                    stays_seen_at: None,
                    undone: None,
                });
                self.targets.len() - 1
            });
        &mut self.targets[index]
    }
}

/// What a look ahead found: whether authorities could validate the names now, and may issue for them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Preflight {
    /// When all of it was looked at.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// When to do so again, unless the rules change before.
    #[serde(with = "time::serde::rfc3339")]
    pub next: OffsetDateTime,
    /// What stands in the way.
    #[serde(default)]
    pub problem: Option<Problem>,
    /// What was last found about the rules on port 80, where they are not right.
    #[serde(default)]
    pub rule: Option<String>,
    /// The target groups that the challenge path led to where they were.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub leads_to: BTreeSet<String>,
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

/// That we had a certificate revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Revoked {
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// When it ends.
    #[serde(with = "time::serde::rfc3339")]
    pub not_after: OffsetDateTime,
}

/// That somebody went back to an earlier certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolledBack {
    /// The serial that was left.
    pub from: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The ETag of the document at that time.
    pub document: String,
    /// What it said. While it says the same this holds; records of older builds go by the ETag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub word: Option<Box<Word>>,
}

/// What is served, as far as that was looked at.
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

/// How it is known what is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SeenBy {
    /// A TLS handshake was answered with it.
    Handshake,
    /// The targets hold it.
    Held,
}

/// A place that another document holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contended {
    /// The document that holds it.
    pub holder: String,
    /// What both want, for a person.
    pub what: String,
}

impl Contended {
    /// What both want, where that is to be the default of a listener.
    pub const DEFAULT: &'static str = "the default";

    /// Whether both want to be the default, and no name of theirs is in the way.
    pub fn is_about_default(&self) -> bool {
        self.what == Self::DEFAULT
    }

    /// Returns the problem of a document that does not get what it wants of a listener.
    pub fn problem(&self, ours: &str, listener: &str) -> Problem {
        let Self { holder, what } = self;
        let detail = format!(
            "{holder} and {ours} both want {what} on {listener}, and {holder} holds it: nothing is \
             changed there; change certificates/{ours}.json, or remove {holder}"
        );
        Problem::ours(ProblemType::Contended, detail)
    }
}

/// A revocation (RFC 8555 section 7.6) that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// Of which certificate. The vault keeps it until this is done.
    pub serial: String,
    /// The directory URL of the authority that issued it.
    pub directory: String,
    /// When it ends, and there is nothing to revoke any more.
    #[serde(with = "time::serde::rfc3339")]
    pub not_after: OffsetDateTime,
    /// Why.
    pub reason: Reason,
    /// Since when.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// What failed last.
    #[serde(default)]
    pub failure: Option<Failure>,
}

impl State {
    /// Whether the certificate before was revoked: it is never served again, whatever the proof says of the new one.
    pub fn replaces_revoked(&self) -> bool {
        let previous = self.previous_held.as_ref();
        previous.is_some_and(|previous| previous.revoked_at.is_some())
    }

    /// Notes that a superseded certificate has just been taken off: the overlap begins now.
    pub fn note_removal(&mut self, region: &str, certificate: &str) {
        let import = self.imports.get_mut(region);
        for old in import.into_iter().flat_map(|import| &mut import.superseded) {
            if old.arn.as_str() == certificate {
                old.detached_at = None;
            }
        }
    }

    /// Whether a certificate is still to be revoked.
    pub fn is_to_be_revoked(&self, serial: &str) -> bool {
        let mut revocations = self.revoking.iter();
        revocations.any(|revocation| revocation.serial == serial)
    }

    /// Ends what was asked for, done or not. What only this kept in the vault goes.
    pub fn end_revocation(&mut self, serial: &str) {
        self.revoking.retain(|known| known.serial != serial);
        if self.held(serial).is_none() {
            self.leftovers.serials.insert(serial.to_owned());
        }
    }
}

impl Revocation {
    /// Returns what failed last and until when that is waited out; `None` where it may be tried now.
    pub fn waits(&self, now: OffsetDateTime) -> Option<(&Failure, OffsetDateTime)> {
        let failure = self.failure.as_ref()?;
        let until = failure.holds(now, false, &failure.document, &failure.directory, &[])?;
        Some((failure, until))
    }
}

/// That everything of ours is to go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// Since when.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The ETag of the document that is still to be deleted; another document ends the removal.
    #[serde(default)]
    pub document: Option<String>,
}

/// What still has to be deleted from the bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Leftovers {
    /// Tokens under `challenges/`; recorded before they are put.
    #[serde(default)]
    pub tokens: BTreeSet<String>,
    /// Tokens of an order that died while others of its challenges were being validated: they stay until then.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub asked_for: BTreeMap<String, AskedFor>,
    /// Whether `vault/<name>/pending.json` has served its purpose.
    #[serde(default)]
    pub pending_key: bool,
    /// Serials in the vault that are older than the previous one.
    #[serde(default)]
    pub serials: BTreeSet<String>,
}

impl AskedFor {
    /// Whether nobody asks any more. An instant too far ahead was written by a clock that was wrong.
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
    /// What, in one word.
    pub step: String,
    /// More about it.
    pub detail: String,
}

/// In characters.
const LONGEST_DETAIL: usize = 2_000;
/// How many steps of the history are kept.
pub const HISTORY: usize = 100;
/// The longest an invocation can last; a lease beyond that is void.
pub(crate) const LONGEST_LEASE: Duration = Duration::minutes(15);
/// Two functions' clocks may differ by this much.
const CLOCKS_DIFFER: Duration = Duration::seconds(5);

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use crate::ports::store::parse_record;

    use super::State;

    /// Records of every build so far, each with the bytes that are written for it, or why it is
    /// refused: `<name>.written` beside `<name>.json`.
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

    /// What is written is whole: the record with all members is written as it was read.
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
