//! Pure: is an order due, and when will the next one be (rule 8)?

use time::{Duration, OffsetDateTime};

use crate::document::Wanted;
use crate::state::{Held, Renewal};

/// What is to be done about a certificate's order, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// A new certificate has to be ordered.
    Order {
        /// Why, for a person.
        reason: String,
    },
    /// The one in the vault is right for now.
    Keep,
}

/// Decides whether to order: the first of these checks that speaks.
pub fn decide(
    wanted: &Wanted,
    directory: &str,
    held: Option<&Held>,
    now: OffsetDateTime,
    force: bool,
) -> Decision {
    let order = |reason: String| Decision::Order { reason };
    let Some(held) = held else {
        return order("no certificate yet".to_owned());
    };
    if held.domains != wanted.domains {
        let plus: Vec<&str> = wanted
            .domains
            .iter()
            .filter(|name| !held.domains.contains(name))
            .map(|name| name.as_str())
            .collect();
        let minus: Vec<&str> = held
            .domains
            .iter()
            .filter(|name| !wanted.domains.contains(name))
            .map(|name| name.as_str())
            .collect();
        return order(format!(
            "the domains changed (new: {}; gone: {})",
            listed(&plus),
            listed(&minus)
        ));
    }
    if held.key_type != wanted.key_type {
        return order(format!(
            "the key type changed from {} to {}",
            held.key_type, wanted.key_type
        ));
    }
    if held.directory != directory {
        return order(format!(
            "the directory changed from {} to {directory}",
            held.directory
        ));
    }
    if held.renewal.at <= now {
        return order(format!("renewal is due since {}", rfc3339(held.renewal.at)));
    }
    if force {
        return order("renewal was forced".to_owned());
    }
    Decision::Keep
}

/// Draws the renewal instant of a certificate: when 1/3 of its lifetime is left (1/2 below 10 days), spread over the tenth of
/// the lifetime before that. `luck` in 0..1 is drawn by the caller, once; the result is stored.
pub fn draw(not_before: OffsetDateTime, not_after: OffsetDateTime, luck: f64) -> Renewal {
    let lifetime = not_after - not_before;
    let left = if lifetime < SHORT {
        lifetime / 2
    } else {
        lifetime / 3
    };
    let latest = not_after - left;
    Renewal {
        at: latest - lifetime / 10 * luck.clamp(0.0, 1.0),
        information: None,
    }
}

/// Whether little of the lifetime is left, so that our own waits are capped (rule 7).
pub fn urgent(not_before: OffsetDateTime, not_after: OffsetDateTime, now: OffsetDateTime) -> bool {
    let lifetime = not_after - not_before;
    let little: Duration = if lifetime < SHORT {
        lifetime / 4
    } else {
        Duration::max(lifetime / 20, Duration::days(1))
    };
    not_after - now < little
}

/// Writes an instant for a person and for machines alike.
pub fn rfc3339(at: OffsetDateTime) -> String {
    at.replace_nanosecond(0)
        .unwrap_or(at)
        .format(&time::format_description::well_known::Rfc3339)
        .unwrap_or_else(|_| at.to_string())
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

/// Certificates below this lifetime are renewed at half of it.
const SHORT: Duration = Duration::days(10);

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn the_instant_lies_in_the_tenth_before_a_third_is_left() {
        let start = datetime!(2026-01-01 0:00 UTC);
        let end = start + Duration::days(90);
        assert_eq!(draw(start, end, 0.0).at, start + Duration::days(60));
        assert_eq!(draw(start, end, 1.0).at, start + Duration::days(51));
    }

    #[test]
    fn a_short_lived_one_is_renewed_at_half() {
        let start = datetime!(2026-01-01 0:00 UTC);
        let end = start + Duration::hours(160);
        assert_eq!(draw(start, end, 0.0).at, start + Duration::hours(80));
    }

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
