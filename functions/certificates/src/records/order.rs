//! An order under way, as it is kept, and what earlier ones left to remember.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::records::ledger::Reserved;
use crate::values::key::KeyType;
use crate::values::names::DnsName;
use crate::values::problem::{LONGEST_RETRY_AFTER, LONGEST_WAIT, Problem};

/// An order under way, with what it was made for.
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
