//! Why a certificate is revoked.

use serde::{Deserialize, Serialize};

/// Why a certificate is revoked (RFC 5280 section 5.3.1), as far as authorities take it from subscribers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reason {
    /// None given.
    #[default]
    Unspecified,
    /// Somebody else may have the private key.
    KeyCompromise,
    /// The subject's names or other information in it changed.
    AffiliationChanged,
    /// Another one took its place.
    Superseded,
    /// The names are no longer used.
    CessationOfOperation,
}
