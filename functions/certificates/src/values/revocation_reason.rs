//! Why a certificate is revoked.

use serde::{Deserialize, Serialize};

/// Why a certificate is revoked (RFC 5280 section 5.3.1): the reasons that authorities accept from
/// subscribers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reason {
    /// No reason given.
    #[default]
    Unspecified,
    /// Another party may have the private key.
    KeyCompromise,
    /// The subject's names or other facts in it changed.
    AffiliationChanged,
    /// Another certificate took its place.
    Superseded,
    /// The names are no longer used.
    CessationOfOperation,
}
