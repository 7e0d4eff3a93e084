//! The record of an order in progress, and what is remembered of earlier ones.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::records::ledger::Reserved;
use crate::values::key::KeyType;
use crate::values::names::DnsName;
use crate::values::problem::{Failure, LONGEST_RETRY_AFTER, LONGEST_WAIT, Problem};

/// What is known of a certificate's orders: the one in progress, and what prevents the next.
#[derive(Clone, Debug, Default)]
pub struct Orders {
    /// The order in progress.
    pub current: Option<OrderRecord>,
    /// What failed last.
    pub failure: Option<Failure>,
    /// What failed last at each of the other authorities.
    pub failures_elsewhere: Vec<Failure>,
    /// Names that made an order fail. Orders leave them out until their next attempt.
    pub missing: BTreeMap<DnsName, Missing>,
    /// The last set of names whose rehearsal succeeded.
    pub rehearsed: Option<Rehearsed>,
    /// The last preflight: whether the next order would succeed.
    pub preflight: Option<Preflight>,
}

impl Orders {
    /// The last failed order at a directory.
    pub fn failure_at(&self, directory: &str) -> Option<&Failure> {
        // Older records do not say at which directory.
        let last = self.failure.as_ref();
        last.filter(|failure| failure.directory.is_empty() || failure.directory == directory)
            .or_else(|| {
                let elsewhere = &mut self.failures_elsewhere.iter();
                elsewhere.find(|failure| failure.directory == directory)
            })
    }

    /// Remembers a failed order, and keeps the failures at other directories.
    pub fn remember(&mut self, failure: Failure) {
        self.failures_elsewhere
            .retain(|other| other.directory != failure.directory);
        if let Some(last) = self.failure.replace(failure) {
            let is_elsewhere =
                (self.failure.as_ref()).is_some_and(|failure| failure.directory != last.directory);
            if is_elsewhere {
                self.failures_elsewhere
                    .retain(|other| other.directory != last.directory);
                self.failures_elsewhere.push(last);
            }
        }
    }

    /// Forgets the failures after an order at this directory. Waits that other authorities asked
    /// for stay.
    pub fn has_ordered_at(&mut self, directory: &str, now: OffsetDateTime) {
        let stays = |failure: &Failure| {
            failure.binding && failure.directory != directory && failure.next_attempt > now
        };
        self.failure.take_if(|failure| !stays(failure));
        self.failures_elsewhere.retain(stays);
    }
}

/// An order in progress, with what it was made for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderRecord {
    /// The settings' name of the authority.
    pub authority: String,
    /// Its directory URL.
    pub directory: String,
    /// The profile asked for.
    pub profile: Option<String>,
    /// The names, sorted.
    pub domains: Vec<DnsName>,
    /// The key type of the certificate.
    pub key_type: KeyType,
    /// The order's URL (RFC 8555 section 7.1.3).
    pub url: String,
    /// How far it is.
    pub stage: Stage,
    /// Why it was placed, in words.
    pub reason: String,
    /// When it was placed.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub ordered_at: Option<OffsetDateTime>,
    /// Whether our own fetch of a challenge could not connect at the last attempt. This blocks one
    /// step only (rule 9).
    #[serde(default)]
    pub unreachable_once: bool,
    /// Before this instant the authority wants no further request about the order.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub not_before: Option<OffsetDateTime>,
    /// What was taken from the authority's limits for it.
    #[serde(default, skip_serializing_if = "Reserved::is_empty")]
    pub reserved: Reserved,
    /// Whether it is a rehearsal: its certificate is not deployed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rehearsal: bool,
}

/// How far an order is, in our words. We ask for the authority's status again at each visit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The authority has the order; its authorizations are in progress.
    Ordered,
    /// The key is stored; the authority may have the CSR.
    Finalizing,
}

/// A name that made an order fail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Missing {
    /// Why.
    pub problem: Problem,
    /// How many times in a row.
    pub attempts: u32,
    /// The name is not ordered before this instant.
    #[serde(with = "time::serde::rfc3339")]
    pub next_attempt: OffsetDateTime,
    /// Whether the authority named that instant.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub binding: bool,
}

/// A set of names whose rehearsal succeeded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearsed {
    /// The names, sorted.
    pub domains: Vec<DnsName>,
    /// At which directory URL.
    pub directory: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

/// What a preflight found: whether authorities could validate the names now, and may issue for
/// them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Preflight {
    /// When everything was checked.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// When to check again, unless the rules change earlier.
    #[serde(with = "time::serde::rfc3339")]
    pub next: OffsetDateTime,
    /// What prevents the next order.
    #[serde(default)]
    pub problem: Option<Problem>,
    /// What is wrong with the rules on port 80, as last found.
    #[serde(default)]
    pub rule: Option<String>,
    /// The target groups that the correct rules for the challenge path led to.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub leads_to: BTreeSet<String>,
}

impl Missing {
    /// Whether orders leave the name out. An instant too far ahead comes from a wrong clock and
    /// does not count.
    pub fn waits(&self, now: OffsetDateTime) -> bool {
        self.next_attempt > now && !self.is_too_far_ahead(now)
    }

    /// Whether the next attempt is so far ahead that it must come from a wrong clock.
    pub fn is_too_far_ahead(&self, now: OffsetDateTime) -> bool {
        let longest = match self.binding {
            true => LONGEST_RETRY_AFTER,
            false => LONGEST_WAIT,
        };
        self.next_attempt > now + longest
    }
}
