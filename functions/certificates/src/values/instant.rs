//! Instants, as people and machines read them.

use time::{OffsetDateTime, UtcOffset};

/// Writes an instant for a person and for machines alike.
pub fn rfc3339(at: OffsetDateTime) -> String {
    at.replace_nanosecond(0)
        .unwrap_or(at)
        .format(&time::format_description::well_known::Rfc3339)
        .unwrap_or_else(|_| at.to_string())
}

/// Returns the instant without the fraction of a second that only noise would add.
pub fn whole_seconds(at: OffsetDateTime) -> OffsetDateTime {
    at.replace_nanosecond(0).unwrap_or(at)
}

/// Returns the day of an instant, `2026-03-04`.
pub fn day(at: OffsetDateTime) -> String {
    let at = at.to_offset(UtcOffset::UTC);
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    format!("{year:04}-{month:02}-{day:02}")
}

/// An hour, in seconds.
pub(crate) const HOUR: u64 = 3_600;
/// A day, in seconds.
pub(crate) const DAY: u64 = 86_400;
