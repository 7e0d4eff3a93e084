//! Time within one invocation (rule 11): we read the wall clock once, then count on the monotonic
//! clock.

use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use tokio::time::Instant;

/// The time of one invocation: the present instant and the time left until the deadline.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    received: OffsetDateTime,
    started: Instant,
    remaining: Duration,
}

/// Reserved at the end for saving the state, releasing the lease and sending the report.
const RESERVE: Duration = Duration::from_secs(3);

impl Clock {
    /// Starts to count when an invocation is received. `deadline` comes from the Lambda Runtime
    /// API; the remaining time is computed once, as deadline minus wall clock.
    pub fn start(deadline: SystemTime) -> Self {
        let now = SystemTime::now();
        Self::starting(now.into(), deadline.duration_since(now).unwrap_or_default())
    }

    /// Starts to count from the wall clock, with this much of the invocation left.
    pub fn starting(received: OffsetDateTime, remaining: Duration) -> Self {
        Self {
            received,
            started: Instant::now(),
            remaining,
        }
    }

    /// Returns a clock that shows another instant, with the same time left.
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

    /// Returns how long a step may still take; the reserve is already subtracted.
    pub fn left(&self) -> Duration {
        self.remaining
            .saturating_sub(self.started.elapsed())
            .saturating_sub(RESERVE)
    }

    /// Returns the time limit for a step that wants `wish`. `None` when less than `least` is left:
    /// then the step must not start.
    pub fn grant(&self, least: Duration, wish: Duration) -> Option<Duration> {
        let left = self.left();
        (left >= least).then(|| wish.min(left))
    }

    /// Returns the seconds since the invocation was received.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}
