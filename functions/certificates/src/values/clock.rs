//! Time within one invocation (rule 11): read off the wall clock once, then counted on the monotonic clock.

use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use tokio::time::Instant;

/// The time of one invocation: what the clock says and how much of the invocation is left.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    received: OffsetDateTime,
    started: Instant,
    remaining: Duration,
}

/// Kept free at the end, for saving the state, releasing the lease and sending the report.
const RESERVE: Duration = Duration::from_secs(3);

impl Clock {
    /// Starts counting on receipt of an invocation. `deadline` is what the Lambda Runtime API names; what remains is taken
    /// once, as deadline minus wall clock.
    pub fn start(deadline: SystemTime) -> Self {
        let now = SystemTime::now();
        Self::starting(now.into(), deadline.duration_since(now).unwrap_or_default())
    }

    /// Starts counting from what the wall clock shows now, with so much of the invocation left.
    pub fn starting(received: OffsetDateTime, remaining: Duration) -> Self {
        Self {
            received,
            started: Instant::now(),
            remaining,
        }
    }

    /// Returns a clock that shows another instant now, with as much of the invocation left.
    pub fn showing(self, now: OffsetDateTime) -> Self {
        Self {
            received: now - self.started.elapsed(),
            ..self
        }
    }

    /// Returns when the invocation was received.
    pub fn received(&self) -> OffsetDateTime {
        self.received
    }

    /// Returns the present instant.
    pub fn now(&self) -> OffsetDateTime {
        self.received + self.started.elapsed()
    }

    /// Returns the invocation's deadline.
    pub fn deadline(&self) -> OffsetDateTime {
        self.received + self.remaining
    }

    /// Returns how long a step may still take, the reserve for ending well already taken off.
    pub fn left(&self) -> Duration {
        self.remaining
            .saturating_sub(self.started.elapsed())
            .saturating_sub(RESERVE)
    }

    /// Returns the bound for a step that wants `wish`, or `None` when not even `least` is left: then it must not start.
    pub fn grant(&self, least: Duration, wish: Duration) -> Option<Duration> {
        let left = self.left();
        (left >= least).then(|| wish.min(left))
    }

    /// Returns the seconds since the invocation was received.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}
