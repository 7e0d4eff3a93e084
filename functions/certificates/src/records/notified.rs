//! The notifications of a certificate: what people know, and what is on its way to them.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::contract::message::{Message, ProblemSummary};

/// What people know of a certificate from our messages, and the messages still on their way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Notified {
    /// The serial of the last message, or the last serial that needed no message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// The problem that the last message reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<ProblemSummary>,
    /// Other reported problems that still exist. A pass reports one problem of several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<ProblemSummary>,
    /// The end of validity that a message has warned of.
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
    /// What it says.
    pub message: Message,
    /// The channels that have not accepted it yet, by key.
    pub to: Vec<String>,
    /// How many times in a row a channel did not accept it.
    #[serde(default)]
    pub attempts: u32,
    /// The message is not sent before this instant.
    #[serde(with = "time::serde::rfc3339")]
    pub next_attempt: OffsetDateTime,
    /// Why the last attempt failed.
    #[serde(default)]
    pub failure: Option<String>,
}
