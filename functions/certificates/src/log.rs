//! Log lines: JSON on standard output.

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::{fmt, prelude::*, registry};

/// Starts logging at the level that the function is configured with (`AWS_LAMBDA_LOG_LEVEL`),
/// `INFO` by default.
///
/// Below `INFO` only our own lines are printed: libraries print whole events and answers there, and
/// an answer is a key authorization. There is no directive syntax, because it would cost a
/// regular-expression engine at each start.
pub fn init(level: Option<&str>, function: &'static str) {
    let level = match level {
        Some("FATAL") => LevelFilter::ERROR,
        Some(level) => level.parse().unwrap_or(LevelFilter::INFO),
        None => LevelFilter::INFO,
    };
    let targets = Targets::new()
        .with_default(level.min(LevelFilter::INFO))
        .with_target(env!("CARGO_CRATE_NAME"), level)
        .with_target(function, level);
    let lines = fmt::layer()
        .json()
        .flatten_event(true)
        .with_span_list(false)
        .without_time();
    registry().with(lines).with(targets).init();
}
