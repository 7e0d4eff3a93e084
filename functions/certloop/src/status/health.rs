//! Pure: how it stands with a certificate, and who has to act.

use certificates::problem::Retry;
use certificates::status::{Inventory, Standing};
use time::OffsetDateTime;

/// How it stands with a certificate, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Health {
    /// Somebody has to act.
    NeedsPerson,
    /// Something is wrong, and tried again.
    Troubled,
    /// Its first certificate, or another one, is being made.
    Working,
    /// All is as it should be.
    Fine,
}

impl Health {
    /// Judges a certificate at the inventory's instant.
    pub(crate) fn of(standing: &Standing, now: OffsetDateTime) -> Self {
        let retry = standing.problem.as_ref().map(|problem| problem.retry);
        let needs_person = matches!(retry, Some(Retry::Person | Retry::Never))
            || wrongly_served(standing)
            || is_running_out(standing, now);
        if needs_person {
            return Self::NeedsPerson;
        }
        if retry.is_some() || !standing.missing.is_empty() || !standing.revoking.is_empty() {
            return Self::Troubled;
        }
        let is_first = standing.serial.is_none() && !standing.paused;
        match is_first || standing.under_way.is_some() {
            true => Self::Working,
            false => Self::Fine,
        }
    }
}

/// Whether some target serves another leaf than ours, or a chain that nobody trusts.
fn wrongly_served(standing: &Standing) -> bool {
    let mut targets = standing.targets.iter();
    targets.any(|target| target.entry.proved == Some(false) || target.trusted == Some(false))
}

/// Whether it has ended, or little of its lifetime is left and no renewal came: it is overdue, or none will come.
pub(crate) fn is_running_out(standing: &Standing, now: OffsetDateTime) -> bool {
    let has_ended = standing.not_after.is_some_and(|end| end <= now);
    let is_overdue = standing.renew_at.is_none_or(|at| at <= now);
    let share = standing.lifetime_left_share.unwrap_or(1.0);
    has_ended || (share < LITTLE && (is_overdue || standing.paused))
}

/// Returns the certificates with their health, the most urgent first, then those that are served least long.
pub(crate) fn by_urgency(inventory: &Inventory, now: OffsetDateTime) -> Vec<(Health, &Standing)> {
    let mut all: Vec<_> = (inventory.certificates.iter())
        .map(|standing| (Health::of(standing, now), standing))
        .collect();
    all.sort_by(|(a, one), (b, other)| {
        (a, one.not_after, &one.name).cmp(&(b, other.not_after, &other.name))
    });
    all
}

/// A quarter of the lifetime.
const LITTLE: f64 = 0.25;

#[cfg(test)]
mod tests {
    use certificates::problem::Problem;
    use time::Duration;
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-03-04 09:20 UTC);

    fn fine(name: &str, days: i64) -> Standing {
        Standing {
            name: name.to_owned(),
            serial: Some("01".to_owned()),
            not_after: Some(NOW + Duration::days(days)),
            renew_at: Some(NOW + Duration::days(days - 30)),
            lifetime_left_share: Some(days as f64 / 90.0),
            ..Standing::default()
        }
    }

    fn with_problem(standing: Standing, retry: Retry) -> Standing {
        let problem = Problem {
            kind: "certloop:order".to_owned(),
            detail: String::new(),
            retry,
        };
        Standing {
            problem: Some(problem),
            ..standing
        }
    }

    #[test]
    fn whoever_has_to_act_comes_first_then_what_ends_soonest() {
        let new = Standing {
            name: "new".to_owned(),
            ..Standing::default()
        };
        let certificates = vec![
            fine("fine-long", 80),
            fine("fine-short", 40),
            new,
            with_problem(fine("retried-long", 70), Retry::Soon),
            with_problem(fine("retried-short", 35), Retry::At),
            with_problem(fine("person", 85), Retry::Person),
        ];
        let inventory = Inventory {
            certificates,
            ..Inventory::default()
        };
        let sorted = by_urgency(&inventory, NOW);
        let names: Vec<_> = sorted.iter().map(|(_, one)| one.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "person",
                "retried-short",
                "retried-long",
                "new",
                "fine-short",
                "fine-long"
            ]
        );
        assert_eq!(sorted[0].0, Health::NeedsPerson);
    }

    #[test]
    fn a_renewal_that_does_not_come_needs_a_person_when_little_is_left() {
        let overdue = |days: i64| Standing {
            renew_at: Some(NOW - Duration::days(5)),
            ..fine("a", days)
        };
        assert_eq!(Health::of(&overdue(40), NOW), Health::Fine);
        assert_eq!(Health::of(&overdue(20), NOW), Health::NeedsPerson);
        // Due in time although little is left: a short window.
        let window = Standing {
            renew_at: Some(NOW + Duration::HOUR),
            ..fine("a", 20)
        };
        assert_eq!(Health::of(&window, NOW), Health::Fine);
        let paused = Standing {
            paused: true,
            ..window
        };
        assert_eq!(Health::of(&paused, NOW), Health::NeedsPerson);
        assert_eq!(Health::of(&fine("a", -1), NOW), Health::NeedsPerson);
    }

    #[test]
    fn what_is_served_wrongly_needs_a_person() {
        let target = |proved: Option<bool>, trusted: Option<bool>| -> Standing {
            let target = serde_json::json!({
                "type": "listener", "arn": null, "certificateArn": null, "state": "attached", "proved": proved, "trusted": trusted,
                "detail": null,
            });
            Standing {
                targets: vec![serde_json::from_value(target).unwrap()],
                ..fine("a", 80)
            }
        };
        assert_eq!(
            Health::of(&target(Some(true), Some(true)), NOW),
            Health::Fine
        );
        assert_eq!(Health::of(&target(None, None), NOW), Health::Fine);
        assert_eq!(
            Health::of(&target(Some(false), None), NOW),
            Health::NeedsPerson
        );
        assert_eq!(
            Health::of(&target(Some(true), Some(false)), NOW),
            Health::NeedsPerson
        );
    }
}
