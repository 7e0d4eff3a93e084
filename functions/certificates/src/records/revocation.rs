//! What was revoked and what is still to be revoked, as it is kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::values::problem::Failure;
use crate::values::revocation_reason::Reason;

/// The revocations of one certificate's leaves.
#[derive(Clone, Debug, Default)]
pub struct Revocations {
    /// What we had revoked and has not ended yet, by serial.
    pub revoked: BTreeMap<String, Revoked>,
    /// What was asked for and is not done yet.
    pub pending: Vec<Revocation>,
}

impl Revocations {
    /// Whether a certificate is still to be revoked.
    pub fn is_pending(&self, serial: &str) -> bool {
        let mut pending = self.pending.iter();
        pending.any(|revocation| revocation.serial == serial)
    }

    /// Notes that a certificate was revoked, and forgets those that have ended since.
    pub(super) fn note(&mut self, serial: &str, not_after: OffsetDateTime, at: OffsetDateTime) {
        // One that ended may stand somewhere for a while, and clocks differ.
        self.revoked
            .retain(|_, known| at < known.not_after + Duration::days(7));
        self.revoked
            .insert(serial.to_owned(), Revoked { at, not_after });
    }
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

impl Revocation {
    /// Returns what failed last and until when that is waited out; `None` where it may be tried now.
    pub fn waits(&self, now: OffsetDateTime) -> Option<(&Failure, OffsetDateTime)> {
        let failure = self.failure.as_ref()?;
        let until = failure.holds(now, false, &failure.document, &failure.directory, &[])?;
        Some((failure, until))
    }
}
