//! Lifetimes of certificates, and when a certificate is close to its end.

use time::{Duration, OffsetDateTime};

/// Whether little of the lifetime is left. If so, our own waits are capped (rule 7).
pub fn urgent(not_before: OffsetDateTime, not_after: OffsetDateTime, now: OffsetDateTime) -> bool {
    not_after - now < little(not_after - not_before)
}

pub(crate) fn little(lifetime: Duration) -> Duration {
    if lifetime < SHORT {
        lifetime / 4
    } else {
        Duration::max(lifetime / 20, Duration::days(1))
    }
}

/// A certificate with a shorter lifetime is renewed at half of it.
pub(crate) const SHORT: Duration = Duration::days(10);

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn little_is_left_in_the_last_twentieth_or_day_or_quarter() {
        let start = datetime!(2026-01-01 0:00 UTC);
        let end = start + Duration::days(90);
        assert!(!urgent(start, end, end - Duration::days(5)));
        assert!(urgent(start, end, end - Duration::days(4)));
        let end = start + Duration::days(12);
        assert!(urgent(start, end, end - Duration::hours(23)));
        let end = start + Duration::days(6);
        assert!(urgent(start, end, end - Duration::hours(35)));
        assert!(!urgent(start, end, end - Duration::hours(37)));
    }
}
