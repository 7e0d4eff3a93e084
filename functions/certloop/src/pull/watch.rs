//! `--watch`: pull, again and again.

use std::convert::Infallible;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use certificates::ports::store::Store;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::error::PullError;
use super::options::PullOptions;
use super::outcome::Outcome;
use super::round::take_up;
use super::wanted;

/// Pulls every so often, up to a fifth later, and tells what came of each run.
///
/// After an error that says nothing about the certificate it asks again sooner, within `every`. A
/// certificate with which the command failed is tried again after 5, 10, 20 minutes and so on, a
/// day at most; another one at once. There is no end to prepare for: every step may be the last.
pub(super) async fn watch(
    store: &impl Store,
    options: &PullOptions,
    every: Duration,
    mut tell: impl FnMut(Result<Outcome, PullError>),
) -> Infallible {
    let mut failures = Failures::default();
    loop {
        let now = OffsetDateTime::now_utc();
        let found = wanted::find(store, &options.name, now).await;
        let wanted = found
            .as_ref()
            .map_or(String::new(), |found| found.serial.clone());
        let round = match found {
            Ok(_) if failures.waits(&wanted, Instant::now()) => None,
            Ok(found) => Some(take_up(store, options, &found, now).await),
            Err(error) => Some(Err(error)),
        };
        let wait = failures.after(&wanted, round.as_ref(), every, Instant::now());
        if let Some(round) = round {
            tell(round);
        }
        tokio::time::sleep(about(wait)).await;
    }
}

/// What went wrong lately.
#[derive(Default)]
pub(super) struct Failures {
    /// Runs in a row that could not tell.
    untold: u32,
    /// The serial that was wanted when the command failed, how often, and until when it is left
    /// alone. The command may have run with another one, which the directory keeps.
    avoided: Option<(String, u32, Instant)>,
}

impl Failures {
    /// Whether a certificate is left alone for now.
    pub(super) fn waits(&self, serial: &str, now: Instant) -> bool {
        let avoided = self.avoided.as_ref();
        avoided.is_some_and(|(avoided, _, until)| avoided == serial && now < *until)
    }

    /// Notes what came of a run for the wanted serial, `None` if nothing was tried, and returns the
    /// time until the next.
    pub(super) fn after(
        &mut self,
        wanted: &str,
        round: Option<&Result<Outcome, PullError>>,
        every: Duration,
        now: Instant,
    ) -> Duration {
        match round {
            None => self.untold = 0,
            Some(Ok(_)) => *self = Self::default(),
            Some(Err(PullError::Command { .. })) => {
                let before = self.avoided.take();
                let before = before.filter(|(avoided, ..)| avoided == wanted);
                let times = before.map_or(0, |(_, times, _)| times);
                let wait = doubled(AFTER_COMMAND, times, LONGEST_AFTER_COMMAND);
                self.avoided = Some((wanted.to_owned(), times.saturating_add(1), now + wait));
                self.untold = 0;
            }
            Some(Err(_)) => {
                self.untold = self.untold.saturating_add(1);
                return doubled(AFTER_ERROR, self.untold - 1, every);
            }
        }
        match &self.avoided {
            Some((_, _, until)) => every.min(until.saturating_duration_since(now)),
            None => every,
        }
    }
}

fn doubled(first: Duration, times: u32, most: Duration) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(times)).min(most)
}

/// Up to a fifth more, so that a fleet does not come all at once.
fn about(wait: Duration) -> Duration {
    let drawn = RandomState::new().build_hasher().finish();
    let share = f64::from(u32::try_from(drawn >> 32).unwrap_or_default()) / f64::from(u32::MAX);
    wait.max(SHORTEST).mul_f64(1.0 + share / 5.0)
}

const SHORTEST: Duration = Duration::from_secs(1);
const AFTER_ERROR: Duration = Duration::from_secs(60);
const AFTER_COMMAND: Duration = Duration::from_secs(5 * 60);
const LONGEST_AFTER_COMMAND: Duration = Duration::from_secs(24 * 60 * 60);
