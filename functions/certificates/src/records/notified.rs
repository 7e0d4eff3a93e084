//! What people were told of a certificate, and what is on its way to them.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::contract::message::{Message, ProblemSummary};

/// What people were told of a certificate, and what they are still to be told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Notified {
    /// The serial that was last told of, or that there was nothing to tell of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// The problem that people know of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<ProblemSummary>,
    /// Others that they know of and that stand: of several a pass tells one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<ProblemSummary>,
    /// The end of validity of which they know that it comes near.
    #[serde(
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub running_out: Option<OffsetDateTime>,
    /// Messages that have not reached every channel, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outbox: Vec<Outgoing>,
}

/// A message on its way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outgoing {
    /// What is to be told.
    pub message: Message,
    /// The channels that have not taken it yet, by the key of each.
    pub to: Vec<String>,
    /// How often in a row one of them did not.
    #[serde(default)]
    pub attempts: u32,
    /// It is not sent before this instant.
    #[serde(with = "time::serde::rfc3339")]
    pub next_attempt: OffsetDateTime,
    /// Why it was not taken last.
    #[serde(default)]
    pub failure: Option<String>,
}
