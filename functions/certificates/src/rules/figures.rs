//! What a full pass counts of its certificates for the alarms.
//!
//! If a pass had no time for some certificates, a count of zero would be a guess. It then reports a
//! number only if it is above zero.

use time::{Duration, OffsetDateTime};

use crate::contract::report::{Entry, Outcome};
use crate::records::state::State;
use crate::values::problem_types::Retry;

/// Whether the last attempt for a certificate failed and none has succeeded since. An attempt in
/// this pass is not necessary. `needs_order` says whether an order is still needed: if not, a
/// failed order no longer counts.
pub(crate) fn is_failing(
    outcome: Outcome,
    paused: bool,
    state: &State,
    needs_order: impl FnOnce() -> bool,
) -> bool {
    // If nothing had to be done, no failed work is left.
    outcome != Outcome::Kept
        && (state.deployment.failure.is_some()
            || (state.revocations.pending.iter()).any(|revocation| revocation.failure.is_some())
            || state.orders.failure.is_some() && !paused && needs_order())
}

/// Counts the certificates that fail, in this pass or since an earlier one; `None` if unknown.
pub(crate) fn failing(entries: &[Entry]) -> Option<usize> {
    told(entries, |entry| {
        entry.is_failing || entry.outcome == Outcome::Failed
    })
}

/// Counts the certificates that have been wanted for a day and are not served at all; `None` if
/// unknown.
pub(crate) fn unserved(entries: &[Entry], now: OffsetDateTime) -> Option<usize> {
    told(entries, |entry| {
        (entry.unserved_since).is_some_and(|since| since <= now - PATIENCE)
    })
}

/// Counts the certificates that wait for a person to act.
pub(crate) fn needing_a_person(entries: &[Entry]) -> usize {
    let needs_person = |entry: &&Entry| {
        entry
            .problem
            .as_ref()
            .is_some_and(|problem| matches!(problem.retry, Retry::Person | Retry::Never))
    };
    entries.iter().filter(needs_person).count()
}

/// Counts the targets that were seen to serve another certificate than they should.
pub(crate) fn unproved(entries: &[Entry]) -> usize {
    let targets = entries.iter().flat_map(|entry| &entry.targets);
    targets
        .filter(|target| target.proved == Some(false))
        .count()
}

fn told(entries: &[Entry], counts: impl Fn(&Entry) -> bool) -> Option<usize> {
    let count = entries.iter().filter(|entry| counts(entry)).count();
    let is_known = count > 0 || entries.iter().all(|entry| !entry.is_unseen);
    is_known.then_some(count)
}

/// A first certificate that is not served after this time counts as unserved.
const PATIENCE: Duration = Duration::DAY;

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::values::problem::{Failure, Problem, backoff};
    use crate::values::problem_types::ProblemType;

    const NOW: OffsetDateTime = datetime!(2026-11-22 12:00 UTC);
    /// The time between two passes.
    const EVERY: Duration = Duration::minutes(10);

    fn failure(attempts: u32, at: OffsetDateTime, jitter: f64) -> Failure {
        Failure {
            problem: Problem::ours(ProblemType::Order, "the authority is down"),
            attempts,
            at,
            next_attempt: at + backoff(attempts, false, jitter),
            identifiers: Vec::new(),
            binding: false,
            document: String::new(),
            directory: String::new(),
            unavailable: false,
        }
    }

    /// What a pass at this instant says of a certificate whose orders fail until `mended`.
    fn passed(
        state: &mut State,
        now: OffsetDateTime,
        mended: OffsetDateTime,
        jitter: f64,
    ) -> Entry {
        let holds = |failure: &Failure| failure.holds(now, false, "", "", &[]).is_some();
        let outcome = match &state.orders.failure {
            Some(failure) if holds(failure) => Outcome::Waiting,
            _ if now >= mended => {
                state.orders.failure = None;
                Outcome::Issued
            }
            before => {
                let attempts = before.as_ref().map_or(0, |failure| failure.attempts);
                state.orders.failure = Some(failure(attempts + 1, now, jitter));
                Outcome::Failed
            }
        };
        let mut entry = Entry::bare("shop", outcome, "");
        entry.is_failing = is_failing(outcome, false, state, || outcome != Outcome::Issued);
        entry
    }

    /// The alarm of infra/alarms.tf: every pass of the last two hours counted one.
    fn rings(counts: &[(OffsetDateTime, usize)], at: OffsetDateTime) -> bool {
        (0..2).all(|hour| {
            let to = at - Duration::hours(hour);
            let in_hour =
                |(pass, _): &&(OffsetDateTime, usize)| *pass <= to && *pass > to - Duration::HOUR;
            let least = counts.iter().filter(in_hour).map(|(_, count)| *count).min();
            least.is_some_and(|least| least > 0)
        })
    }

    #[test]
    fn what_fails_for_ever_rings_along_the_whole_ladder() {
        for jitter in [0.0, 0.5, 1.0] {
            let begun = NOW;
            let never = NOW + Duration::days(400);
            // Two good hours before.
            let before = (1..=12).map(|pass| (begun - EVERY * pass, 0));
            let (mut failing_at, mut failed_at) = (before.collect::<Vec<_>>(), Vec::new());
            let mut state = State::default();
            for pass in 0..(5 * 24 * 6) {
                let now = begun + EVERY * pass;
                let entry = [passed(&mut state, now, never, jitter)];
                failing_at.push((now, failing(&entry).unwrap()));
                failed_at.push((now, usize::from(entry[0].outcome == Outcome::Failed)));
                let rang = rings(&failing_at, now);
                assert_eq!(rang, now >= begun + Duration::hours(2) - EVERY, "{now}");
            }
            // Failures in this pass alone would not be enough: after some failures there is only
            // one attempt a day.
            let tries = failed_at.iter().filter(|(_, count)| *count > 0).count();
            assert!((6..=10).contains(&tries), "{tries} tries in five days");
            let sums = |hour: i32| -> usize {
                let from = begun + Duration::HOUR * hour;
                let in_hour = failed_at
                    .iter()
                    .filter(|(at, _)| *at >= from && *at < from + Duration::HOUR);
                in_hour.map(|(_, count)| count).sum()
            };
            let later = (2..5 * 24 - 1).filter(|hour| sums(*hour) > 0 && sums(hour + 1) > 0);
            assert_eq!(later.count(), 0, "failed two hours running");
        }
    }

    #[test]
    fn what_comes_right_in_time_does_not_ring_and_clears() {
        // The fourth attempt is two hours after the first: the alarm rings until that attempt.
        for (mended, passes) in [(5, 0), (15, 0), (30, 1)] {
            let (mut state, mut counts, mut rang) = (State::default(), Vec::new(), 0);
            let mended = NOW + Duration::minutes(mended);
            for pass in -12..6 * 24 {
                let now = NOW + EVERY * pass;
                let count = match pass {
                    ..0 => 0,
                    _ => failing(&[passed(&mut state, now, mended, 0.0)]).unwrap(),
                };
                counts.push((now, count));
                rang += i32::from(rings(&counts, now));
            }
            assert_eq!(rang, passes, "mended at {mended}");
            assert_eq!(counts.last().map(|(_, count)| *count), Some(0));
        }
    }

    #[test]
    fn a_failure_counts_until_what_failed_has_succeeded() {
        let failed = |order: bool, deployment: bool| {
            let mut state = State::default();
            state.orders.failure = order.then(|| failure(3, NOW, 0.0));
            state.deployment.failure = deployment.then(|| failure(1, NOW, 0.0));
            state
        };
        let of =
            |outcome, paused, state: &State, needed| is_failing(outcome, paused, state, || needed);
        for outcome in [Outcome::Waiting, Outcome::Failed, Outcome::Queued] {
            assert!(of(outcome, false, &failed(true, false), true));
            assert!(of(outcome, false, &failed(false, true), false));
            // The failure of an order that is no longer needed is kept, but does not count.
            assert!(!of(outcome, false, &failed(true, false), false));
            // While a certificate is paused, nothing is ordered, but it is still deployed.
            assert!(!of(outcome, true, &failed(true, false), true));
            assert!(of(outcome, true, &failed(false, true), true));
            assert!(!of(outcome, false, &failed(false, false), true));
        }
        assert!(!of(Outcome::Kept, false, &failed(false, true), false));
    }

    #[test]
    fn what_is_wanted_for_a_day_and_not_served_counts() {
        let entry = |since| Entry {
            unserved_since: since,
            ..Entry::bare("shop", Outcome::Waiting, "")
        };
        for (since, counts) in [
            (None, 0),
            (Some(NOW), 0),
            (Some(NOW - Duration::hours(23)), 0),
            (Some(NOW - Duration::DAY), 1),
            (Some(NOW - Duration::days(90)), 1),
            // From a wrong clock.
            (Some(NOW + Duration::days(90)), 0),
        ] {
            assert_eq!(unserved(&[entry(since)], NOW), Some(counts), "{since:?}");
        }
    }

    #[test]
    fn what_was_not_looked_at_is_not_known_to_be_well() {
        let unseen = Entry {
            is_unseen: true,
            ..Entry::bare("late", Outcome::Waiting, "")
        };
        let fails = Entry::bare("shop", Outcome::Failed, "");
        assert_eq!(failing(std::slice::from_ref(&unseen)), None);
        assert_eq!(unserved(std::slice::from_ref(&unseen), NOW), None);
        assert_eq!(failing(&[unseen, fails]), Some(1));
        assert_eq!(failing(&[]), Some(0));
    }
}
