//! Pure: what is served, what is next, and what is unknown: never one for another.

use certificates::contract::report::TargetState;
use certificates::invocation::status::Standing;
use certificates::records::deployment::{SeenBy, Served};
use certificates::rules::remedy;
use certificates::values::names::CertificateName;
use certificates::values::problem::Problem;
use certificates::values::problem_types::ProblemType;
use time::OffsetDateTime;

use crate::words::{day, relative};

/// What visitors get of a certificate, as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Serving<'s> {
    /// There is no certificate.
    Nothing,
    /// It has no targets: the vault holds it ready for hosts that pull it, until it ends.
    Ready(OffsetDateTime),
    /// It was seen, or its targets hold it.
    Seen(&'s Served),
    /// It is issued, and was never on any of its targets.
    NotYet,
    /// Its targets hold something of ours, and nobody has looked which.
    Unknown,
}

impl<'s> Serving<'s> {
    /// Judges by what the inventory knows.
    ///
    /// A function of an older build does not say what is served.
    pub(crate) fn of(standing: &'s Standing) -> Self {
        if let Some(served) = &standing.served {
            return Self::Seen(served);
        }
        let Some(end) = standing.not_after.filter(|_| standing.serial.is_some()) else {
            return Self::Nothing;
        };
        let states = || standing.targets.iter().map(|target| target.entry.state);
        let is_off = |state| matches!(state, TargetState::Pending | TargetState::Detached);
        match standing.targets.is_empty() {
            // Without a document that can be read nobody knows its targets.
            true if standing.domains.is_empty() => Self::Unknown,
            true => Self::Ready(end),
            false if states().all(is_off) && standing.previous.is_none() => Self::NotYet,
            false => Self::Unknown,
        }
    }

    /// Returns the end of what visitors or hosts get, where that is known.
    pub(crate) fn end(self) -> Option<OffsetDateTime> {
        match self {
            Self::Seen(served) => Some(served.not_after),
            Self::Ready(end) => Some(end),
            Self::Nothing | Self::NotYet | Self::Unknown => None,
        }
    }

    /// Whether what they get is the latest certificate: its lifetime counts.
    pub(crate) fn is_wanted(self, standing: &Standing) -> bool {
        match self {
            Self::Seen(served) => standing.serial.as_ref() == Some(&served.serial),
            Self::Ready(_) => true,
            Self::Nothing | Self::NotYet | Self::Unknown => false,
        }
    }

    /// Whether what they get was revoked.
    pub(crate) fn is_revoked(self, standing: &Standing) -> bool {
        let serial = match self {
            Self::Seen(served) => Some(&served.serial),
            Self::Ready(_) => standing.serial.as_ref(),
            Self::Nothing | Self::NotYet | Self::Unknown => None,
        };
        let problem = revoked(standing);
        serial
            .zip(problem)
            .is_some_and(|(serial, problem)| problem.detail.starts_with(serial.as_str()))
    }

    /// Says what is served and what is next, a line each.
    pub(crate) fn lines(self, standing: &Standing, now: OffsetDateTime) -> Vec<String> {
        let wanted = to_be_served(standing);
        let follows = |why: &str| (wanted.as_ref()).map(|wanted| format!("Next: {wanted}{why}."));
        let (first, follows) = match self {
            Self::Nothing if standing.paused => (
                "There is no certificate, and none is ordered while it is paused.".to_owned(),
                None,
            ),
            Self::Nothing => ("There is no certificate yet.".to_owned(), None),
            Self::Ready(_) => {
                let wanted = wanted.as_deref().unwrap_or_default();
                let words = format!("Held ready for hosts that pull it: {wanted}.");
                (words, None)
            }
            Self::Seen(served) => {
                let (end, seen) = (ends(served.not_after, now), seen(served, now));
                let words = format!("Served: {}, {end}, {seen}.", served.serial);
                let is_another = !self.is_wanted(standing);
                let follows = is_another.then(|| follows(", not on all its targets yet"));
                (words, follows.flatten())
            }
            Self::NotYet => ("Nothing is served yet.".to_owned(), follows("")),
            Self::Unknown => ("What is served is unknown.".to_owned(), follows("")),
        };
        std::iter::once(first).chain(follows).collect()
    }
}

/// Returns the problem of a certificate that was revoked and is served, or is not replaced.
pub(crate) fn revoked(standing: &Standing) -> Option<&Problem> {
    let revoked = Problem::kind_of(ProblemType::Revoked);
    (standing.problem.as_ref()).filter(|problem| problem.kind == revoked)
}

/// Returns the command that helps most with a problem.
///
/// What replaces a revoked one is deployed again, or ordered, unless it is paused.
pub(crate) fn helps(problem: &Problem, name: &str) -> Option<String> {
    let is_revoked = problem.kind == Problem::kind_of(ProblemType::Revoked);
    match name.parse::<CertificateName>() {
        Ok(name) if is_revoked && !problem.detail.contains("while it is paused") => {
            Some(format!("certloop renew {name} --force"))
        }
        _ => remedy::command(problem, name),
    }
}

/// Names the latest certificate, with its end.
pub(crate) fn to_be_served(standing: &Standing) -> Option<String> {
    let (serial, end) = (standing.serial.as_ref()?, standing.not_after?);
    Some(format!("{serial}, valid until {}", day(end)))
}

/// Says how it is known what is served, and since when.
fn seen(served: &Served, now: OffsetDateTime) -> String {
    let at = relative(served.at, now);
    match served.by {
        SeenBy::Handshake => format!("seen by a handshake {at}"),
        SeenBy::Held => format!("held by its targets {at}"),
    }
}

fn ends(end: OffsetDateTime, now: OffsetDateTime) -> String {
    match end <= now {
        true => format!("ended {}", day(end)),
        false => format!("valid until {}", day(end)),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use time::Duration;
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-03-04 09:20 UTC);

    pub(crate) fn served(serial: &str, end: OffsetDateTime, by: SeenBy) -> Served {
        Served {
            serial: serial.to_owned(),
            not_after: end,
            by,
            at: end - Duration::days(60),
        }
    }

    fn standing(states: &[&str]) -> Standing {
        let targets = states.iter().map(|state| {
            serde_json::json!({
                "type": "listener", "arn": null, "certificateArn": null, "state": state,
                "proved": null, "trusted": null, "detail": null,
            })
        });
        let targets = targets.map(|target| serde_json::from_value(target).unwrap());
        Standing {
            name: "shop".to_owned(),
            domains: vec!["shop.example.com".to_owned()],
            serial: Some("02".to_owned()),
            not_after: Some(NOW + Duration::days(80)),
            targets: targets.collect(),
            ..Standing::default()
        }
    }

    fn said(standing: &Standing) -> String {
        Serving::of(standing).lines(standing, NOW).join("|")
    }

    #[test]
    fn what_is_next_is_never_shown_as_served() {
        let mut one = standing(&["failed"]);
        assert_eq!(Serving::of(&one), Serving::Unknown);
        assert_eq!(
            said(&one),
            "What is served is unknown.|Next: 02, valid until 2026-05-23."
        );
        // Nobody has looked since an older build wrote the state.
        assert_eq!(Serving::of(&standing(&["attached"])), Serving::Unknown);
        assert_eq!(Serving::of(&one).end(), None);

        one = standing(&["pending"]);
        assert_eq!(Serving::of(&one), Serving::NotYet);
        assert_eq!(
            said(&one),
            "Nothing is served yet.|Next: 02, valid until 2026-05-23."
        );
        one.previous = Some("01".to_owned());
        assert_eq!(
            Serving::of(&one),
            Serving::Unknown,
            "the one before may be served"
        );

        one.served = Some(served("01", NOW + Duration::days(9), SeenBy::Held));
        assert_eq!(Serving::of(&one).end(), Some(NOW + Duration::days(9)));
        assert!(!Serving::of(&one).is_wanted(&one));
        assert_eq!(
            said(&one),
            "Served: 01, valid until 2026-03-13, held by its targets 51 days ago.|Next: 02, valid \
             until 2026-05-23, not on all its targets yet."
        );
        one.serial = Some("01".to_owned());
        assert!(Serving::of(&one).is_wanted(&one));
    }

    #[test]
    fn what_hosts_pull_is_held_ready_and_what_cannot_be_read_is_unknown() {
        let mut one = standing(&[]);
        assert_eq!(Serving::of(&one).end(), one.not_after);
        assert_eq!(
            said(&one),
            "Held ready for hosts that pull it: 02, valid until 2026-05-23."
        );
        one.domains.clear();
        assert_eq!(Serving::of(&one), Serving::Unknown);
        assert_eq!(Serving::of(&Standing::default()), Serving::Nothing);
    }

    #[test]
    fn what_is_revoked_is_known_by_its_serial() {
        let mut one = standing(&["failed"]);
        one.served = Some(served("01", NOW + Duration::days(9), SeenBy::Handshake));
        one.problem = Some(Problem::ours(
            ProblemType::Revoked,
            "01 is served and was revoked",
        ));
        assert!(Serving::of(&one).is_revoked(&one));
        one.problem = Some(Problem::ours(
            ProblemType::Revoked,
            "02 was revoked while paused",
        ));
        assert!(!Serving::of(&one).is_revoked(&one));
        one.problem = Some(Problem::ours(ProblemType::ListenerFull, "01 is full"));
        assert!(!Serving::of(&one).is_revoked(&one));
    }
}
