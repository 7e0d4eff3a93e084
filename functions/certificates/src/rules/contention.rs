//! Pure: conflicts between documents of one installation (rule 12). No document takes a place from
//! another.
//!
//! Two documents may want the same default, or the same name with the same key type on one
//! listener. Without a decision, each would take it from the other at each pass. So the document
//! that was deployed there first holds it; on a tie, the one whose name sorts first. The other one
//! changes nothing there and says so.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use crate::contract::certificate::Wanted;
use crate::records::deployment::Contended;
use crate::records::state::State;
use crate::values::key::KeyType;
use crate::values::names::DnsName;

/// What one document wants on one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// The document.
    pub(crate) name: String,
    /// The id of its target.
    pub(crate) listener: String,
    /// Whether it wants to be the default.
    pub(crate) wants_default: bool,
    /// The names that it wants.
    pub(crate) names: Vec<DnsName>,
    /// The key type that it wants.
    pub(crate) key_type: KeyType,
    /// The names and the key type of its certificate on the listener.
    pub(crate) stands: Option<(Vec<DnsName>, KeyType)>,
    /// Whether a certificate was issued for it.
    pub(crate) is_issued: bool,
    /// Since when its certificate is there; `None` if it is not.
    pub(crate) since: Option<OffsetDateTime>,
    /// Since when its certificate is the default there; `None` if it is not.
    pub(crate) default_since: Option<OffsetDateTime>,
}

/// What documents want on listeners, and what their records say of it, by name.
pub(crate) type Claims = BTreeMap<String, (Vec<Claim>, BTreeMap<String, Contended>)>;

/// What a document does not get, by its name and the id of the target.
pub(crate) type Lost = BTreeMap<String, BTreeMap<String, Contended>>;

/// Decides which document holds which place.
pub(crate) fn resolve(claims: &[Claim]) -> Lost {
    let mut by_listener = BTreeMap::<&str, Vec<&Claim>>::new();
    for claim in claims {
        by_listener.entry(&claim.listener).or_default().push(claim);
    }
    let mut lost = Lost::new();
    for (listener, claims) in by_listener {
        let defaults = by_age(&claims, |claim| claim.default_since);
        let mut defaults = defaults.into_iter().filter(|claim| claim.wants_default);
        if let Some(holder) = defaults.next() {
            for other in defaults {
                lose(&mut lost, other, holder, Contended::DEFAULT, listener);
            }
        }
        let mut held = BTreeMap::<(&DnsName, String), &Claim>::new();
        let claims = by_age(&claims, |claim| claim.since);
        // A certificate that is there comes before one that is only wanted.
        for claim in &claims {
            let (names, key_type) = match &claim.stands {
                Some((names, key_type)) => (names.as_slice(), key_type.to_string()),
                None => continue,
            };
            for name in names {
                held.entry((name, key_type.clone())).or_insert(claim);
            }
        }
        for claim in claims {
            let taken = claim.names.iter().find_map(|name| {
                let holder = held.get(&(name, claim.key_type.to_string()))?;
                (holder.name != claim.name).then_some((name, *holder))
            });
            if let Some((name, holder)) = taken {
                let what = format!("{name} with the key type {}", claim.key_type);
                lose(&mut lost, claim, holder, &what, listener);
                continue;
            }
            for name in &claim.names {
                let place = (name, claim.key_type.to_string());
                held.entry(place).or_insert(claim);
            }
        }
    }
    lost
}

/// First the documents with a certificate there, the longest first. Then those with any
/// certificate. Then the others. Ties go by name.
fn by_age<'c>(
    claims: &[&'c Claim],
    since: impl Fn(&Claim) -> Option<OffsetDateTime>,
) -> Vec<&'c Claim> {
    let mut claims = claims.to_vec();
    claims.sort_by(|one, other| {
        let key = |claim: &Claim| {
            let (since, is_wish) = (since(claim), !claim.is_issued);
            (since.is_none(), since, is_wish, claim.name.clone())
        };
        key(one).cmp(&key(other))
    });
    claims
}

fn lose(lost: &mut Lost, loser: &Claim, holder: &Claim, what: &str, listener: &str) {
    let of_loser = lost.entry(loser.name.clone()).or_default();
    of_loser
        .entry(listener.to_owned())
        .or_insert_with(|| Contended {
            holder: holder.name.clone(),
            what: what.to_owned(),
        });
}

/// Returns what a document wants on its listeners, and what it already has there while its new text
/// does not count yet.
pub(crate) fn claims(wanted: &Wanted, in_force: &Wanted, state: &State, home: &str) -> Vec<Claim> {
    // A document that was paused before its first certificate conflicts with no other.
    let is_idle = wanted.paused && state.certificate.is_none();
    let mut claims = Vec::<Claim>::new();
    let targets = wanted.targets.iter().chain(&in_force.targets);
    for target in targets.filter(|_| !is_idle) {
        if target.listener_at().is_none() {
            continue;
        }
        let wants_default = target.wants_default();
        let listener = target.id(state, home);
        if let Some(known) = claims.iter_mut().find(|claim| claim.listener == listener) {
            known.wants_default |= wants_default;
            continue;
        }
        let record = state
            .deployment
            .target(&listener)
            .filter(|record| record.holds_ours());
        let serial = record.and_then(|record| record.serial.as_deref());
        let standing = serial.and_then(|serial| state.held(serial));
        let standing = standing.or(state.certificate.as_ref());
        let stands = (record.and(standing)).map(|held| (held.domains.clone(), held.key_type));
        // Records of older builds do not say since when: their documents come first.
        let since = record.map(|record| record.since.unwrap_or(OffsetDateTime::UNIX_EPOCH));
        // The document only says what it wants. What was seen there counts.
        let default_since = match record {
            Some(record) if record.since.is_some() => record.default_since,
            _ => since.filter(|_| wants_default),
        };
        claims.push(Claim {
            name: wanted.name.to_string(),
            wants_default,
            names: wanted.domains.clone(),
            key_type: wanted.key_type,
            stands,
            is_issued: state.certificate.is_some(),
            since,
            default_since,
            listener,
        });
    }
    claims
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::*;

    fn claim(name: &str, names: &[&str], since: Option<i64>) -> Claim {
        let since = since.map(|hours| OffsetDateTime::UNIX_EPOCH + Duration::hours(hours));
        Claim {
            name: name.to_owned(),
            listener: "listener".to_owned(),
            wants_default: false,
            names: names.iter().map(|name| name.parse().unwrap()).collect(),
            key_type: KeyType::EcdsaP256,
            stands: since.map(|_| {
                let names = names.iter().map(|name| name.parse().unwrap());
                (names.collect(), KeyType::EcdsaP256)
            }),
            is_issued: since.is_some(),
            since,
            default_since: None,
        }
    }

    fn losers(claims: &[Claim]) -> Vec<(String, String)> {
        let lost = resolve(claims);
        let of = |(name, lost): (&String, &BTreeMap<String, Contended>)| {
            (name.clone(), lost["listener"].holder.clone())
        };
        lost.iter().map(of).collect()
    }

    #[test]
    fn who_stood_there_first_holds_a_name_and_ties_go_by_name() {
        let names = ["a.example.com"];
        let (a, b) = (claim("a", &names, None), claim("b", &names, None));
        assert_eq!(
            losers(&[b.clone(), a.clone()]),
            [("b".to_owned(), "a".to_owned())]
        );
        let b = claim("b", &names, Some(1));
        assert_eq!(
            losers(&[a.clone(), b.clone()]),
            [("a".to_owned(), "b".to_owned())]
        );
        let a = claim("a", &names, Some(2));
        assert_eq!(losers(&[a, b]), [("a".to_owned(), "b".to_owned())]);
    }

    #[test]
    fn what_an_older_document_wishes_takes_nothing_that_stands() {
        let older = Claim {
            names: ["b.example.com", "a.example.com"]
                .map(|name| name.parse().unwrap())
                .into(),
            ..claim("b", &["b.example.com"], Some(1))
        };
        let younger = claim("a", &["a.example.com"], Some(2));
        assert_eq!(
            losers(&[older, younger]),
            [("b".to_owned(), "a".to_owned())]
        );
    }

    #[test]
    fn of_two_wishes_the_one_with_a_certificate_comes_first() {
        let names = ["a.example.com"];
        let issued = Claim {
            is_issued: true,
            ..claim("b", &names, None)
        };
        assert_eq!(
            losers(&[claim("a", &names, None), issued]),
            [("a".to_owned(), "b".to_owned())]
        );
    }

    #[test]
    fn another_kind_of_key_or_other_names_are_in_nobodys_way() {
        let a = claim("a", &["a.example.com", "b.example.com"], None);
        let rsa = Claim {
            key_type: KeyType::Rsa2048,
            ..claim("b", &["a.example.com"], None)
        };
        assert_eq!(losers(&[a, rsa, claim("c", &["c.example.com"], None)]), []);
    }

    #[test]
    fn one_default_is_for_one() {
        let wants = |name: &str, since: Option<i64>| {
            let claim = claim(name, &[&format!("{name}.example.com")], since);
            Claim {
                wants_default: true,
                default_since: claim.since,
                ..claim
            }
        };
        let (a, b) = (wants("a", Some(5)), wants("b", Some(3)));
        assert_eq!(losers(&[a, b]), [("a".to_owned(), "b".to_owned())]);
    }
}
