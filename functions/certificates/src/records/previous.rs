//! The certificate before, as it is kept, and that somebody went back to it.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::contract::word::Word;
use crate::records::certificate::IssuedCertificate;

/// The certificate before the one to be served.
#[derive(Clone, Debug, Default)]
pub struct Previous {
    /// Its serial; the vault keeps it as well.
    pub serial: Option<String>,
    /// What is known of it; older records have the serial alone.
    pub certificate: Option<Box<IssuedCertificate>>,
    /// That somebody went back to an earlier certificate.
    pub rolled_back: Option<RolledBack>,
}

impl Previous {
    /// Whether it was revoked: it is never served again, whatever the proof says of the new one.
    pub fn is_revoked(&self) -> bool {
        let certificate = self.certificate.as_ref();
        certificate.is_some_and(|certificate| certificate.revoked_at.is_some())
    }
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
