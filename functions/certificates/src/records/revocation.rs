//! The record of revocations: those done, and those still pending.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::values::problem::Failure;
use crate::values::revocation_reason::Reason;

/// The revocations of one certificate's leaves.
#[derive(Clone, Debug, Default)]
pub struct Revocations {
    /// Leaves that the authority revoked for us and that have not ended yet, by serial.
    pub revoked: BTreeMap<String, Revoked>,
    /// Revocations that were requested and are not done yet.
    pub pending: Vec<Revocation>,
}

impl Revocations {
    /// Whether the revocation of a certificate is pending.
    pub fn is_pending(&self, serial: &str) -> bool {
        let mut pending = self.pending.iter();
        pending.any(|revocation| revocation.serial == serial)
    }

    /// Notes that a certificate is revoked, and forgets those that have ended since.
    pub(super) fn note(&mut self, serial: &str, not_after: OffsetDateTime, at: OffsetDateTime) {
        // A target may hold an ended one for a while, and clocks differ.
        self.revoked
            .retain(|_, known| at < known.not_after + Duration::days(7));
        self.revoked
            .insert(serial.to_owned(), Revoked { at, not_after });
    }
}

/// A certificate that the authority revoked for us.
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

/// A requested revocation (RFC 8555 section 7.6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// The certificate's serial. The vault keeps the certificate until this is done.
    pub serial: String,
    /// The directory URL of the authority that issued it.
    pub directory: String,
    /// When the certificate ends. After that there is nothing to revoke.
    #[serde(with = "time::serde::rfc3339")]
    pub not_after: OffsetDateTime,
    /// Why.
    pub reason: Reason,
    /// When it was requested.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// What failed last.
    #[serde(default)]
    pub failure: Option<Failure>,
}

impl Revocation {
    /// Returns the last failure and until when to wait after it; `None` if an attempt is possible
    /// now.
    pub fn waits(&self, now: OffsetDateTime) -> Option<(&Failure, OffsetDateTime)> {
        let failure = self.failure.as_ref()?;
        let until = failure.holds(now, false, &failure.document, &failure.directory, &[])?;
        Some((failure, until))
    }
}
