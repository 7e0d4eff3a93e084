//! What an authority allows in a period, as token buckets.

use crate::values::instant::{DAY, HOUR};

/// A limit as a token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Tokens in a full bucket.
    pub count: u32,
    /// Seconds in which an empty bucket refills evenly.
    pub seconds: u64,
}

/// What an authority allows; `None` means no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// New orders of an account.
    pub orders_per_account: Option<RateLimit>,
    /// Certificates for names under one registered domain, over all accounts.
    pub certificates_per_domain: Option<RateLimit>,
    /// Certificates for exactly the same names, over all accounts.
    pub certificates_per_name_set: Option<RateLimit>,
    /// Failed validations of one name by an account.
    pub failed_validations_per_name: Option<RateLimit>,
}

impl RateLimits {
    /// Returns the limits of Let's Encrypt, as published on
    /// <https://letsencrypt.org/docs/rate-limits/> (2026-08-05).
    pub fn letsencrypt() -> Self {
        let limit = |count, seconds| Some(RateLimit { count, seconds });
        Self {
            orders_per_account: limit(300, 3 * HOUR),
            certificates_per_domain: limit(50, 7 * DAY),
            certificates_per_name_set: limit(5, 7 * DAY),
            failed_validations_per_name: limit(5, HOUR),
        }
    }

    /// Whether there is no limit at all.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
