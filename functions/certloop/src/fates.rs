//! Pure: what happens to which certificate and name, said before it is done.

use certificates::invocation::status::Standing;

use crate::status::{Serving, to_be_served};
use crate::words::day;

/// A revocation, as the function gets it once it is known what is served.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Revocation {
    /// The serial to name, so that what was said is what is done.
    ///
    /// `None` where only the function can tell.
    pub(crate) serial: Option<String>,
    /// What happens to each certificate, a line each.
    pub(crate) fates: Vec<String>,
}

impl Revocation {
    /// Says what happens to each certificate where this serial is revoked, or what is served.
    pub(crate) fn of(standing: &Standing, asked: Option<&str>) -> Self {
        let serving = Serving::of(standing);
        let served = match serving {
            Serving::Seen(served) => Some((served.serial.as_str(), served.not_after)),
            _ => None,
        };
        let wanted = standing.serial.as_deref();
        let serial = asked.or(served.map(|(serial, _)| serial)).or(wanted);
        let replaced = if standing.paused {
            "revoked, and not replaced while it is paused"
        } else {
            "revoked, and its replacement is ordered at once"
        };
        let mut fates = Vec::new();
        if let Some((this, end)) = served {
            let fate = match (serial == Some(this), wanted == Some(this)) {
                (true, true) => replaced,
                (true, false) => "revoked; the next one takes its place",
                (false, _) => "kept",
            };
            let end = day(end);
            fates.push(format!("{this}, which is served until {end}: {fate}"));
        } else if matches!(serving, Serving::Unknown | Serving::NotYet) {
            fates
                .push("what is served is unknown; --serial names the one that you mean".to_owned());
        }
        if let Some((this, words)) = wanted.zip(to_be_served(standing))
            && served.is_none_or(|(served, _)| served != this)
        {
            let fate = if serial == Some(this) {
                replaced
            } else {
                "kept"
            };
            let what = match serving {
                Serving::Ready(_) => "is held ready",
                _ => "is next",
            };
            fates.push(format!("{words}, which {what}: {fate}"));
        }
        let is_known =
            |serial: &str| wanted == Some(serial) || served.is_some_and(|(one, _)| one == serial);
        if let Some(other) = serial.filter(|serial| !is_known(serial)) {
            fates.push(format!(
                "{other}, which is neither served nor next: revoked"
            ));
        }
        if serial.is_none() {
            fates.push("there is no certificate to revoke".to_owned());
        }
        Self {
            // Where it is not known here what is served, the function decides.
            serial: asked
                .map(str::to_owned)
                .or(served.map(|(serial, _)| serial.to_owned())),
            fates,
        }
    }
}

/// Says to which certificate a rollback goes.
pub(crate) fn of_rollback(standing: &Standing, asked: Option<&str>) -> Vec<String> {
    let served = match Serving::of(standing) {
        Serving::Seen(served) => Some(served.serial.as_str()),
        _ => None,
    };
    let wanted = standing.serial.as_deref();
    let to = match (asked, &standing.rolled_back) {
        (Some(serial), _) => Some(serial),
        (None, Some(back)) => {
            let stays = wanted.unwrap_or("unknown");
            return vec![format!(
                "rolled back from {} already: {stays} stays",
                back.from
            )];
        }
        (None, None) => standing.previous.as_deref(),
    };
    let Some(to) = to else {
        return vec!["there is no certificate before this one".to_owned()];
    };
    let mut fates = match (served, wanted) {
        (Some(served), _) if served == to => {
            vec![format!("{to}, which is served, stays and is held")]
        }
        (Some(served), _) => vec![format!("{to} replaces {served}")],
        (None, _) => vec![format!(
            "{to} is served again; what is served now is unknown"
        )],
    };
    let put_aside = wanted.filter(|wanted| *wanted != to && served != Some(*wanted));
    fates.extend(put_aside.map(|wanted| {
        format!("{wanted}, which was next and is not known to be served: put aside")
    }));
    fates
}

/// Says which names a removal takes from visitors.
pub(crate) fn of_removal(standing: &Standing) -> Vec<String> {
    let lost = match standing.domains.as_slice() {
        [] => "those of its certificate (its document cannot be read)".to_owned(),
        names => names.join(", "),
    };
    vec![match Serving::of(standing) {
        Serving::Nothing => "no names are lost: there is no certificate".to_owned(),
        Serving::NotYet => "no names are lost: nothing of it is served yet".to_owned(),
        Serving::Ready(_) => format!("names lost to hosts that pull it: {lost}"),
        Serving::Seen(_) => format!("names lost: {lost}; {ELSE}"),
        Serving::Unknown => format!("names lost, where they are served: {lost}; {ELSE}"),
    }]
}

/// What visitors of a lost name get.
pub(crate) const ELSE: &str =
    "their visitors get another certificate that the listener holds, or its default";

#[cfg(test)]
mod tests {
    use super::*;

    /// The sample's certificate, of which another one is served.
    fn stuck(served: &str, wanted: &str) -> Standing {
        let sample = include_str!("../../../events/status.sample.json");
        let mut told: certificates::invocation::status::Inventory =
            serde_json::from_str(sample).unwrap();
        let mut one = told.certificates.remove(0);
        one.serial = Some(wanted.to_owned());
        if let Some(known) = &mut one.served {
            known.serial = served.to_owned();
        }
        one
    }

    #[test]
    fn what_is_served_is_revoked_and_what_is_next_is_kept() {
        let revocation = Revocation::of(&stuck("01", "02"), None);
        assert_eq!(revocation.serial.as_deref(), Some("01"));
        assert_eq!(
            revocation.fates,
            [
                "01, which is served until 2026-04-08: revoked; the next one takes its place",
                "02, valid until 2026-04-08, which is next: kept",
            ]
        );
        let revocation = Revocation::of(&stuck("01", "02"), Some("02"));
        assert_eq!(
            revocation.fates,
            [
                "01, which is served until 2026-04-08: kept",
                "02, valid until 2026-04-08, which is next: revoked, and its replacement is \
                 ordered at once",
            ]
        );
        let revocation = Revocation::of(&stuck("01", "02"), Some("00"));
        assert_eq!(revocation.serial.as_deref(), Some("00"));
        assert_eq!(
            revocation.fates[2],
            "00, which is neither served nor next: revoked"
        );
        let mut one = stuck("01", "01");
        assert_eq!(
            Revocation::of(&one, None).fates,
            [
                "01, which is served until 2026-04-08: revoked, and its replacement is ordered at \
                 once"
            ]
        );
        one.paused = true;
        assert!(Revocation::of(&one, None).fates[0].ends_with("not replaced while it is paused"));
    }

    #[test]
    fn where_nobody_knows_what_is_served_the_function_says_it() {
        let mut one = stuck("01", "02");
        one.served = None;
        let revocation = Revocation::of(&one, None);
        assert_eq!(revocation.serial, None);
        assert_eq!(
            revocation.fates,
            [
                "what is served is unknown; --serial names the one that you mean",
                "02, valid until 2026-04-08, which is next: revoked, and its replacement is \
                 ordered at once",
            ]
        );
        one.targets.clear();
        assert_eq!(
            Revocation::of(&one, None).fates,
            [
                "02, valid until 2026-04-08, which is held ready: revoked, and its replacement is \
                 ordered at once"
            ]
        );
    }

    #[test]
    fn a_rollback_goes_to_the_last_one_that_was_served() {
        let mut one = stuck("01", "03");
        one.previous = Some("01".to_owned());
        assert_eq!(
            of_rollback(&one, None),
            [
                "01, which is served, stays and is held",
                "03, which was next and is not known to be served: put aside",
            ]
        );
        let mut one = stuck("02", "02");
        one.previous = Some("01".to_owned());
        assert_eq!(of_rollback(&one, None), ["01 replaces 02"]);
        one.previous = None;
        assert_eq!(
            of_rollback(&one, None),
            ["there is no certificate before this one"]
        );
    }

    #[test]
    fn a_removal_names_what_is_lost() {
        let mut one = stuck("01", "01");
        assert_eq!(
            of_removal(&one),
            [format!(
                "names lost: shop.example.com, www.shop.example.com; {ELSE}"
            )]
        );
        one.served = None;
        assert!(of_removal(&one)[0].starts_with("names lost, where they are served: shop"));
        assert!(of_removal(&Standing::default())[0].starts_with("no names are lost"));
    }
}
