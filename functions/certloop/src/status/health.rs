//! Pure: how well a certificate is, and who has to act.

use certificates::invocation::status::{Inventory, Standing};
use certificates::values::problem_types::Retry;
use time::OffsetDateTime;

use super::serving::{Serving, revoked};

/// How well a certificate is, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Health {
    /// Somebody has to act.
    NeedsPerson,
    /// Something is wrong, and tried again.
    Troubled,
    /// Nothing is wrong, and nothing of it is known to be served.
    Unserved,
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
            || revoked(standing).is_some()
            || is_running_out(standing, now);
        if needs_person {
            return Self::NeedsPerson;
        }
        if retry.is_some() || !standing.missing.is_empty() || !standing.revoking.is_empty() {
            return Self::Troubled;
        }
        let is_worked_at = standing.under_way.is_some();
        match Serving::of(standing) {
            Serving::Unknown => Self::Unserved,
            Serving::Nothing if standing.paused => Self::Unserved,
            Serving::Nothing | Serving::NotYet => Self::Working,
            Serving::Ready(_) | Serving::Seen(_) if is_worked_at => Self::Working,
            // The passes put the other one in its place.
            serving if !serving.is_wanted(standing) => Self::Working,
            Serving::Ready(_) | Serving::Seen(_) => Self::Fine,
        }
    }
}

/// Whether some target serves another leaf than ours, or a chain that nobody trusts.
fn wrongly_served(standing: &Standing) -> bool {
    let mut targets = standing.targets.iter();
    targets.any(|target| target.entry.proved == Some(false) || target.trusted == Some(false))
}

/// Whether it has ended, or little of its lifetime is left and no renewal came: it is overdue, or
/// none will come.
pub(crate) fn is_running_out(standing: &Standing, now: OffsetDateTime) -> bool {
    let serving = Serving::of(standing);
    if let Serving::Seen(served) = serving
        && !serving.is_wanted(standing)
    {
        return runs_out(served.not_after, standing, now);
    }
    let has_ended = standing.not_after.is_some_and(|end| end <= now);
    let is_overdue = standing.renew_at.is_none_or(|at| at <= now);
    let share = standing.lifetime_left_share.unwrap_or(1.0);
    has_ended || (share < LITTLE && (is_overdue || standing.paused))
}

/// Whether what is served ends soon, although another one is issued.
///
/// Little is a quarter of the lifetime of the other one.
fn runs_out(end: OffsetDateTime, standing: &Standing, now: OffsetDateTime) -> bool {
    let whole = (standing.not_before.zip(standing.not_after)).map(|(from, to)| to - from);
    end <= now || whole.is_some_and(|whole| end - now < whole * LITTLE)
}

/// Returns the certificates with their health, the most urgent first.
///
/// Of those the revoked ones come first, then what is served least long.
pub(crate) fn by_urgency(inventory: &Inventory, now: OffsetDateTime) -> Vec<(Health, &Standing)> {
    let mut all: Vec<_> = (inventory.certificates.iter())
        .map(|standing| (Health::of(standing, now), standing))
        .collect();
    all.sort_by_cached_key(|(health, one)| {
        let serving = Serving::of(one);
        let is_quiet = !serving.is_revoked(one);
        (*health, is_quiet, serving.end(), one.name.as_str())
    });
    all
}

/// A quarter of the lifetime.
const LITTLE: f64 = 0.25;

#[cfg(test)]
mod tests {
    use certificates::records::deployment::SeenBy;
    use certificates::values::problem::Problem;
    use time::Duration;
    use time::macros::datetime;

    use super::super::serving::tests::served;
    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-03-04 09:20 UTC);

    fn fine(name: &str, days: i64) -> Standing {
        Standing {
            name: name.to_owned(),
            serial: Some("01".to_owned()),
            not_after: Some(NOW + Duration::days(days)),
            renew_at: Some(NOW + Duration::days(days - 30)),
            lifetime_left_share: Some(days as f64 / 90.0),
            served: Some(served("01", NOW + Duration::days(days), SeenBy::Held)),
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
    fn what_needs_a_person_comes_first_then_what_ends_soonest() {
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
                "type": "listener", "arn": null, "certificateArn": null, "state": "attached",
                 "proved": proved, "trusted": trusted,
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

    #[test]
    fn nothing_is_fine_of_which_nothing_is_known_to_be_served() {
        let target = serde_json::json!({
            "type": "listener", "arn": null, "certificateArn": null, "state": "attached",
             "proved": true, "trusted": true, "detail": null,
        });
        let mut one = Standing {
            domains: vec!["a.example.com".to_owned()],
            targets: vec![serde_json::from_value(target).unwrap()],
            ..fine("a", 80)
        };
        assert_eq!(Health::of(&one, NOW), Health::Fine);
        one.served = None;
        assert_eq!(Health::of(&one, NOW), Health::Unserved);
        // Hosts pull it.
        one.targets.clear();
        assert_eq!(Health::of(&one, NOW), Health::Fine);
        let mut none = Standing::default();
        assert_eq!(Health::of(&none, NOW), Health::Working);
        none.paused = true;
        assert_eq!(Health::of(&none, NOW), Health::Unserved);
    }

    #[test]
    fn what_counts_is_the_end_of_what_is_served() {
        let mut one = fine("a", 80);
        one.not_before = Some(NOW - Duration::days(10));
        one.serial = Some("02".to_owned());
        assert_eq!(Health::of(&one, NOW), Health::Working);
        for days in [-1, 20] {
            one.served = Some(served("01", NOW + Duration::days(days), SeenBy::Held));
            assert_eq!(Health::of(&one, NOW), Health::NeedsPerson, "{days}");
        }
    }

    #[test]
    fn what_is_served_and_revoked_is_on_top() {
        let mut revoked = with_problem(fine("z", 85), Retry::Person);
        if let Some(problem) = &mut revoked.problem {
            problem.kind = "certloop:revoked".to_owned();
            problem.detail = "01 is served and was revoked".to_owned();
        }
        let inventory = Inventory {
            certificates: vec![with_problem(fine("a", -3), Retry::Person), revoked],
            ..Inventory::default()
        };
        assert_eq!(by_urgency(&inventory, NOW)[0].1.name, "z");
    }
}
