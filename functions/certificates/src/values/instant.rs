//! Instants in the form that people and programs read.

use time::{OffsetDateTime, UtcOffset};

/// Formats an instant as RFC 3339, in whole seconds of UTC.
pub fn rfc3339(at: OffsetDateTime) -> String {
    at.replace_nanosecond(0)
        .unwrap_or(at)
        .format(&time::format_description::well_known::Rfc3339)
        .unwrap_or_else(|_| at.to_string())
}

/// Returns the instant without its fraction of a second, which is only noise to a reader.
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
