//! The record of what was taken from rate limits.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::values::problem::Problem;

/// A kind of limit, by its name in the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LimitKind {
    /// New orders of an account.
    OrdersPerAccount,
    /// Certificates for names under one registered domain.
    CertificatesPerDomain,
    /// Certificates for exactly the same names.
    CertificatesPerNameSet,
    /// Failed validations of one name.
    FailedValidationsPerName,
}

/// A token bucket that is not full. One instant describes it: when it will be full again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenBucket {
    /// Each token taken moves this instant ahead.
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) full_at: OffsetDateTime,
    /// What its key stands for, if the key does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) about: Option<String>,
}

/// A token taken: the part of its bucket's refill time that it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TakenToken {
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) from: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) until: OffsetDateTime,
}

/// The tokens taken for one order; kept with the order until they are settled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserved {
    /// The certificate's name. A certificate has one order at a time.
    pub(crate) owner: String,
    /// A random word.
    pub(crate) id: String,
    pub(crate) tokens: BTreeMap<LimitKind, BTreeMap<String, TakenToken>>,
}

/// Orders that an authority does not accept for now: all new orders, those with a certain name, or
/// those under a registered domain.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hold {
    /// Until when.
    #[serde(with = "time::serde::rfc3339")]
    pub until: OffsetDateTime,
    /// What the authority said.
    pub problem: Problem,
}

impl Reserved {
    /// Whether nothing was taken, so that there is nothing to settle.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}
