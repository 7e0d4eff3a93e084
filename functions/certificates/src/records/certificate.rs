//! The record of an issued certificate: what it is, and when it will be renewed.

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
    /// Its unique identifier (RFC 9773 section 4.1); `None` if the leaf does not name its
    /// authority's key.
    #[serde(default)]
    pub identifier: Option<String>,
    /// When it will be renewed.
    pub renewal: Renewal,
    /// Whether its chain leads to a trust root of the platform; `None` if that was not checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<bool>,
    /// Whether the vault does not hold its key: the certificate manager does, where it carries our
    /// tags.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
    /// The ETag of the document under which it was adopted, if that document lacks a name or the
    /// key type of it: the document may be an older copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_under: Option<String>,
    /// Whether a target of ours ever held it; `None` in older records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was_served: Option<bool>,
    /// When the authority revoked it for us.
    #[serde(
        default,
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub revoked_at: Option<OffsetDateTime>,
    /// When a certificate manager last refused to import it, as a certificate that it never takes.
    #[serde(
        default,
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub refused_at: Option<OffsetDateTime>,
    /// Whether the certificate before it was refused so too: then another one does not help.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refused_before: bool,
}

impl IssuedCertificate {
    /// From when until when it is valid.
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

    /// Whether the next certificate must not wait: this one ends soon or is revoked. An obstacle
    /// to the next one then does more harm than it prevents.
    pub fn cannot_wait(&self, now: OffsetDateTime) -> bool {
        self.is_urgent(now) || self.revoked_at.is_some()
    }

    /// How long it is valid in all.
    pub fn lifetime(&self) -> Duration {
        self.not_after - self.not_before
    }

    /// Which share of its lifetime is left, from 1 (all) to 0 (it has ended).
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

/// When a certificate will be renewed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Renewal {
    /// A random instant from its lifetime: drawn once and kept. It counts while the authority
    /// suggests nothing.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The authority's renewal information (RFC 9773); `None` until we have asked for it.
    #[serde(default)]
    pub information: Option<RenewalInformation>,
    /// How many certificates in a row were replaced early because of their window.
    #[serde(default, rename = "hasty")]
    pub early_windows: u32,
    /// Before this instant no window makes it due. A wrong window must not cause one replacement
    /// after the other.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub window_counts_from: Option<OffsetDateTime>,
    /// Whether the authority refused an order that named this certificate as replaced.
    #[serde(default)]
    pub replaces_refused: bool,
}

/// An authority's renewal information (RFC 9773 section 4.2), and when to ask for it again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenewalInformation {
    /// The last valid window that the authority suggested.
    #[serde(default)]
    pub window: Option<Window>,
    /// When to ask again: from Retry-After, or from a wait of our own.
    #[serde(with = "time::serde::rfc3339")]
    pub ask_again: OffsetDateTime,
    /// How many times in a row there was no answer, although one may come later.
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
    /// Drawn once; kept while it lies in the suggested window.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// A web page that explains the window to people.
    #[serde(
        default,
        rename = "explanationURL",
        skip_serializing_if = "Option::is_none"
    )]
    pub explanation_url: Option<String>,
}
