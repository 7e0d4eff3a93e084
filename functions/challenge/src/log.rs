//! Log lines: JSON on standard output, one per challenge asked for.

use lambda_runtime::tracing::subscriber::filter::{LevelFilter, Targets};
use lambda_runtime::tracing::subscriber::{fmt, prelude::*, registry};

/// Starts logging at the level the function is configured for, `INFO` by default.
///
/// Below `INFO` it is our own lines only: what the libraries print there are whole events and answers, and an answer
/// is a key authorization. There is no directive syntax: it would cost a regular-expression engine at each start.
pub(crate) fn init(level: Option<&str>) {
    let level = match level {
        Some("FATAL") => LevelFilter::ERROR,
        Some(level) => level.parse().unwrap_or(LevelFilter::INFO),
        None => LevelFilter::INFO,
    };
    let targets = Targets::new()
        .with_default(level.min(LevelFilter::INFO))
        .with_target(env!("CARGO_CRATE_NAME"), level);
    let lines = fmt::layer().json().flatten_event(true).without_time();
    registry().with(lines).with(targets).init();
}
