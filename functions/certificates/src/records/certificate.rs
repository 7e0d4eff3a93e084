//! An issued certificate, as it is kept: what it is, and when it is to be renewed.

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::values::key::KeyType;
use crate::values::lifetime::urgent;
use crate::values::names::DnsName;

/// An issued certificate that is in the vault.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IssuedCertificate {
    /// Lower-case hex.
    pub serial: String,
    /// SHA-256 of the leaf's DER, hex.
    pub fingerprint: String,
    /// Start of its validity.
    #[serde(with = "time::serde::rfc3339")]
    pub not_before: OffsetDateTime,
    /// End of its validity.
    #[serde(with = "time::serde::rfc3339")]
    pub not_after: OffsetDateTime,
    /// Its names, sorted.
    pub domains: Vec<DnsName>,
    /// Its key type.
    pub key_type: KeyType,
    /// The settings' name of the authority it came from.
    pub authority: String,
    /// That authority's directory URL.
    pub directory: String,
    /// The profile asked for.
    pub profile: Option<String>,
    /// Its unique identifier (RFC 9773 section 4.1), where the leaf names its authority's key.
    #[serde(default)]
    pub identifier: Option<String>,
    /// When it is to be renewed.
    pub renewal: Renewal,
    /// Whether the platform's trust roots know its chain; `None` where that was not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<bool>,
    /// Whether it was taken over as the certificate manager held it under our tags: the vault does
    /// not hold its key.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
    /// Whether a target of ours ever held it; `None` in records of before this was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was_served: Option<bool>,
    /// When we had it revoked.
    #[serde(
        default,
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub revoked_at: Option<OffsetDateTime>,
}

impl IssuedCertificate {
    /// Returns its validity.
    pub fn validity(&self) -> Validity {
        Validity {
            not_before: self.not_before,
            not_after: self.not_after,
        }
    }

    /// Whether little of its lifetime is left.
    pub fn is_urgent(&self, now: OffsetDateTime) -> bool {
        urgent(self.not_before, self.not_after, now)
    }

    /// Whether whatever stands in the way of another one does more harm than it prevents.
    pub fn cannot_wait(&self, now: OffsetDateTime) -> bool {
        self.is_urgent(now) || self.revoked_at.is_some()
    }

    /// Returns the length of its validity.
    pub fn lifetime(&self) -> Duration {
        self.not_after - self.not_before
    }

    /// Returns the share of its lifetime that is left, 0 when it has ended.
    pub fn share_left(&self, now: OffsetDateTime) -> f64 {
        ((self.not_after - now).as_seconds_f64() / self.lifetime().as_seconds_f64().max(1.0))
            .clamp(0.0, 1.0)
    }
}

/// From when until when a certificate is valid.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Validity {
    /// Start.
    #[serde(with = "time::serde::rfc3339")]
    pub not_before: OffsetDateTime,
    /// End.
    #[serde(with = "time::serde::rfc3339")]
    pub not_after: OffsetDateTime,
}

/// When a certificate is to be renewed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Renewal {
    /// By its lifetime: drawn once and kept. It holds while the authority suggests nothing.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The authority's renewal information (RFC 9773), once it was asked for.
    #[serde(default)]
    pub information: Option<RenewalInformation>,
    /// How many certificates in a row were replaced early because of their window.
    #[serde(default, rename = "hasty")]
    pub early_windows: u32,
    /// Before this instant no window makes it due: one that is wrong must not have it replaced again and again.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub window_counts_from: Option<OffsetDateTime>,
    /// Whether the authority did not take a successor of it for one.
    #[serde(default)]
    pub replaces_refused: bool,
}

/// What came of asking an authority for renewal information (RFC 9773 section 4.2), and the next time to ask.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenewalInformation {
    /// The last valid window told.
    #[serde(default)]
    pub window: Option<Window>,
    /// The stored Retry-After, or a wait of ours.
    #[serde(with = "time::serde::rfc3339")]
    pub ask_again: OffsetDateTime,
    /// How often in a row no answer came that may yet come.
    #[serde(default)]
    pub unanswered: u32,
}

/// A suggested window, and our instant in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// Its start.
    #[serde(with = "time::serde::rfc3339")]
    pub start: OffsetDateTime,
    /// Its end.
    #[serde(with = "time::serde::rfc3339")]
    pub end: OffsetDateTime,
    /// Drawn once; kept for as long as it lies in the window told.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// A page for people that says why.
    #[serde(
        default,
        rename = "explanationURL",
        skip_serializing_if = "Option::is_none"
    )]
    pub explanation_url: Option<String>,
}
