//! An order in progress, as it is kept, and what earlier ones left to remember.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::records::ledger::Reserved;
use crate::values::key::KeyType;
use crate::values::names::DnsName;
use crate::values::problem::{Failure, LONGEST_RETRY_AFTER, LONGEST_WAIT, Problem};

/// What is known of a certificate's orders: the one in progress, and what stands in the way of the
/// next.
#[derive(Clone, Debug, Default)]
pub struct Orders {
    /// The order in progress.
    pub current: Option<OrderRecord>,
    /// What failed last.
    pub failure: Option<Failure>,
    /// What failed last at other authorities than that one.
    pub failures_elsewhere: Vec<Failure>,
    /// Names that stood in the way of an order and are left out of it until their next attempt.
    pub missing: BTreeMap<DnsName, Missing>,
    /// The last set of names that was ordered for nothing, and passed.
    pub rehearsed: Option<Rehearsed>,
    /// What the last look ahead found: whether the next order would succeed.
    pub preflight: Option<Preflight>,
}

impl Orders {
    /// Returns what failed last when ordering at a directory.
    pub fn failure_at(&self, directory: &str) -> Option<&Failure> {
        // Older records do not say where it was.
        let last = self.failure.as_ref();
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

    /// Forgets what failed, after an order at this directory: what other authorities asked for
    /// stays.
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
    /// The key to be certified.
    pub key_type: KeyType,
    /// The order's URL (RFC 8555 section 7.1.3).
    pub url: String,
    /// How far it is.
    pub stage: Stage,
    /// Why it was made, in words.
    pub reason: String,
    /// When it was made.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub ordered_at: Option<OffsetDateTime>,
    /// Whether our own fetch of a challenge could not connect at the last attempt (rule 9: it blocks one step only).
    #[serde(default)]
    pub unreachable_once: bool,
    /// When the authority wants to be looked at again.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub not_before: Option<OffsetDateTime>,
    /// What was taken from the authority's limits for it.
    #[serde(default, skip_serializing_if = "Reserved::is_empty")]
    pub reserved: Reserved,
    /// Whether nothing of it is to be deployed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rehearsal: bool,
}

/// How far an order is, in our words; the authority's status is asked for anew at each visit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Made at the authority; its authorizations are being dealt with.
    Ordered,
    /// The key is stored; the CSR may have been handed in.
    Finalizing,
}

/// A name that stood in the way of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Missing {
    /// Why.
    pub problem: Problem,
    /// How often in a row.
    pub attempts: u32,
    /// It is not ordered before this instant.
    #[serde(with = "time::serde::rfc3339")]
    pub next_attempt: OffsetDateTime,
    /// Whether the authority named the instant.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub binding: bool,
}

/// A set of names that was ordered for nothing, and passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearsed {
    /// The names, sorted.
    pub domains: Vec<DnsName>,
    /// Where.
    pub directory: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
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

impl Missing {
    /// Whether the name is left out of orders. An instant too far ahead was written by a clock that was wrong.
    pub fn waits(&self, now: OffsetDateTime) -> bool {
        self.next_attempt > now && !self.is_too_far_ahead(now)
    }

    /// Whether the next attempt is so far ahead that a clock that was wrong wrote it down.
    pub fn is_too_far_ahead(&self, now: OffsetDateTime) -> bool {
        let longest = match self.binding {
            true => LONGEST_RETRY_AFTER,
            false => LONGEST_WAIT,
        };
        self.next_attempt > now + longest
    }
}
