//! Pure: which names an order should have now, and whether an order in progress still fits.

use std::collections::BTreeMap;

use time::{Duration, OffsetDateTime};

use crate::contract::certificate::Wanted;
use crate::records::order::{Missing, OrderRecord};
use crate::records::state::State;
use crate::values::instant::whole_seconds;
use crate::values::names::DnsName;
use crate::values::problem::{Problem, backoff};
use crate::values::problem_types::{ProblemType, Retry};

/// A name that makes an order fail, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedName {
    /// The name.
    pub name: DnsName,
    /// Why no certificate is possible for it.
    pub problem: Problem,
    /// The instant that the authority named for the next attempt.
    pub not_before: Option<OffsetDateTime>,
}

/// Returns the names for an order now: all wanted names, except those that made an order fail and
/// still wait.
///
/// A name in the present certificate is left out only if a tenth of its lifetime is left or it is
/// revoked (rule 12).
pub fn names_now(wanted: &Wanted, state: &State, now: OffsetDateTime) -> Vec<DnsName> {
    let names: Vec<DnsName> = (wanted.domains.iter())
        .filter(|name| !is_left_out(name, wanted, state, now))
        .cloned()
        .collect();
    match names.is_empty() {
        true => wanted.domains.clone(),
        false => names,
    }
}

fn is_left_out(name: &DnsName, wanted: &Wanted, state: &State, now: OffsetDateTime) -> bool {
    let missing = state
        .orders
        .missing
        .get(name)
        .filter(|missing| missing.waits(now));
    missing.is_some() && may_be_given_up(name, wanted, state, now)
}

fn may_be_given_up(name: &DnsName, wanted: &Wanted, state: &State, now: OffsetDateTime) -> bool {
    let held = state.certificate.as_ref();
    let held = held.filter(|held| held.domains.contains(name));
    wanted.partial
        && held.is_none_or(|held| held.revoked_at.is_some() || held.share_left(now) <= A_TENTH)
}

/// Whether an order is possible without these names if they make it fail once more.
pub fn can_go_without(
    names: &[DnsName],
    ordered: &[DnsName],
    wanted: &Wanted,
    state: &State,
    now: OffsetDateTime,
) -> bool {
    let may = |name: &DnsName| may_be_given_up(name, wanted, state, now);
    !names.is_empty() && names.len() < ordered.len() && names.iter().all(may)
}

/// Whether an order is for what is wanted at this directory. Missing names need not be in it; while
/// they wait, they must not be in it.
pub fn fits(
    order: &OrderRecord,
    wanted: &Wanted,
    state: &State,
    directory: &str,
    now: OffsetDateTime,
) -> bool {
    let mut left_out = (wanted.domains.iter()).filter(|name| !order.domains.contains(name));
    let belongs =
        |name: &DnsName| wanted.domains.contains(name) && !is_left_out(name, wanted, state, now);
    let names_fit = match wanted.partial {
        true => {
            left_out.all(|name| state.orders.missing.contains_key(name))
                && order.domains.iter().all(belongs)
        }
        false => order.domains == wanted.domains,
    };
    names_fit
        && order.key_type == wanted.key_type
        && order.directory == directory
        && order.profile == wanted.profile
}

/// Leaves these names out of orders until their next attempt, if the document allows that and other
/// names remain. Returns whether an order without all of them is possible now.
///
/// `jitter` in 0..1 shortens the waits, see [`backoff`]. An attempt by hand does not lengthen the
/// next wait.
pub fn leave_out(
    state: &mut State,
    wanted: &Wanted,
    ordered: &[DnsName],
    failed_names: &[FailedName],
    now: OffsetDateTime,
    (jitter, by_hand): (f64, bool),
) -> bool {
    let failed_names: Vec<&FailedName> = (failed_names.iter())
        .filter(|failed_name| ordered.contains(&failed_name.name))
        .collect();
    if !wanted.partial || failed_names.is_empty() || failed_names.len() >= ordered.len() {
        return false;
    }
    for failed_name in &failed_names {
        let before = state.orders.missing.get(&failed_name.name);
        let attempts = match before {
            Some(before) if by_hand => before.attempts.max(1),
            before => before.map_or(0, |missing| missing.attempts) + 1,
        };
        let ours = now + backoff(attempts, failed_name.problem.costs_nobody(), jitter);
        let next_attempt = failed_name
            .not_before
            .map_or(ours, |instant| instant.max(now));
        let missing = Missing {
            problem: failed_name.problem.clone(),
            attempts,
            next_attempt: whole_seconds(next_attempt) + Duration::SECOND,
            binding: failed_name.not_before.is_some(),
        };
        state
            .orders
            .missing
            .insert(failed_name.name.clone(), missing);
    }
    (failed_names.iter()).all(|failed_name| is_left_out(&failed_name.name, wanted, state, now))
}

/// Returns the problem of a certificate that does not cover all names, and when the first of these
/// names is tried again.
pub fn missing_problem(wanted: &Wanted, state: &State) -> Option<(Problem, OffsetDateTime)> {
    let held = state.certificate.as_ref();
    let is_missing = |name: &DnsName| {
        wanted.partial
            && wanted.domains.contains(name)
            && held.is_none_or(|held| !held.domains.contains(name))
    };
    let missing: BTreeMap<&DnsName, &Missing> = (state.orders.missing.iter())
        .filter(|(name, _)| is_missing(name))
        .collect();
    let next = missing.values().map(|missing| missing.next_attempt).min()?;
    let words: Vec<String> = (missing.iter())
        .map(|(name, missing)| {
            let said = &missing.problem.detail;
            match said.starts_with(name.as_str()) {
                true => said.clone(),
                false => format!("{name}: {said}"),
            }
        })
        .collect();
    let needs_person =
        |missing: &&Missing| matches!(missing.problem.retry, Retry::Person | Retry::Never);
    let mut problem = Problem::ours(
        ProblemType::NamesMissing,
        format!("the certificate does not cover {}", words.join("; ")),
    );
    if missing
        .values()
        .copied()
        .any(|missing| needs_person(&missing))
    {
        problem.retry = Retry::Person;
    }
    Some((problem, next))
}

/// Whether so little of the lifetime is left that another authority than the preferred one may be
/// used. Without a certificate, or with a revoked one, nothing is left.
pub fn little_is_left(state: &State, share: f64, now: OffsetDateTime) -> bool {
    let held = state.certificate.as_ref();
    let held = held.filter(|held| held.revoked_at.is_none());
    held.map_or(0.0, |held| held.share_left(now)) < share
}

/// Below this share of the lifetime, an order may leave out a name that is served.
const A_TENTH: f64 = 0.1;

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::values::key::KeyType;

    const NOW: OffsetDateTime = datetime!(2026-03-01 12:00 UTC);

    fn names(list: &[&str]) -> Vec<DnsName> {
        list.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn wanted(partial: bool) -> Wanted {
        Wanted {
            name: "shop".parse().unwrap(),
            domains: names(&["a.example.com", "b.example.com", "c.example.com"]),
            authorities: vec!["ca".to_owned()],
            profile: None,
            partial,
            key_type: KeyType::EcdsaP256,
            targets: Vec::new(),
            supersedes: Vec::new(),
            paused: false,
            tags: BTreeMap::new(),
        }
    }

    fn failed_name(name: &str) -> FailedName {
        FailedName {
            name: name.parse().unwrap(),
            problem: Problem::ours(ProblemType::SelfCheck, "404"),
            not_before: None,
        }
    }

    #[test]
    fn a_name_in_the_way_is_left_out_until_its_next_attempt() {
        let (wanted, mut state) = (wanted(true), State::default());
        let all = wanted.domains.clone();
        assert!(leave_out(
            &mut state,
            &wanted,
            &all,
            &[failed_name("b.example.com")],
            NOW,
            (0.0, false)
        ));
        let rest = names(&["a.example.com", "c.example.com"]);
        assert_eq!(names_now(&wanted, &state, NOW), rest);
        assert_eq!(names_now(&wanted, &state, NOW + Duration::minutes(2)), all);
        let (problem, next) = missing_problem(&wanted, &state).unwrap();
        assert!(problem.detail.contains("b.example.com: 404"), "{problem:?}");
        assert_eq!(next, NOW + Duration::seconds(61));
        // Once more: the next, longer wait.
        assert!(leave_out(
            &mut state,
            &wanted,
            &all,
            &[failed_name("b.example.com")],
            NOW,
            (0.0, false)
        ));
        assert_eq!(names_now(&wanted, &state, NOW + Duration::minutes(9)), rest);
    }

    #[test]
    fn nothing_is_left_out_of_what_must_be_whole_or_would_be_empty() {
        let mut state = State::default();
        let bad: Vec<FailedName> = ["a.example.com", "b.example.com", "c.example.com"]
            .map(failed_name)
            .to_vec();
        let whole = wanted(false);
        assert!(!leave_out(
            &mut state,
            &whole,
            &whole.domains,
            &bad[..1],
            NOW,
            (0.0, false)
        ));
        let partial = wanted(true);
        assert!(!leave_out(
            &mut state,
            &partial,
            &partial.domains,
            &bad,
            NOW,
            (0.0, false)
        ));
        assert_eq!(state.orders.missing, BTreeMap::new());
    }
}
