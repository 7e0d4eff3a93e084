//! The record of the previous certificate, and of a rollback to it.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::contract::word::Word;
use crate::records::certificate::IssuedCertificate;

/// The certificate before the one that should be served.
#[derive(Clone, Debug, Default)]
pub struct Previous {
    /// Its serial. The vault keeps the certificate as well.
    pub serial: Option<String>,
    /// What is known of it; older records have only the serial.
    pub certificate: Option<Box<IssuedCertificate>>,
    /// The rollback in force, if there is one.
    pub rolled_back: Option<RolledBack>,
}

impl Previous {
    /// Whether it is revoked. A revoked one is never served again, even if the proof of the new one
    /// fails.
    pub fn is_revoked(&self) -> bool {
        let certificate = self.certificate.as_ref();
        certificate.is_some_and(|certificate| certificate.revoked_at.is_some())
    }
}

/// A rollback to an earlier certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolledBack {
    /// The serial that was in use before the rollback.
    pub from: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The ETag of the document at that time.
    pub document: String,
    /// What the document said at that time. The rollback holds while the document says the same.
    /// Records of older builds have only the ETag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub word: Option<Box<Word>>,
}
