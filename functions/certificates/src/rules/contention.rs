//! Pure: what documents of one installation want of each other (rule 12): nobody takes from a
//! neighbour.
//!
//! Two documents that want one default, or a name with the same key type on one listener, would
//! take it from each other at each pass. The one that was deployed there first holds it, ties by
//! name; the other changes nothing there and says so.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use crate::contract::certificate::Wanted;
use crate::contract::target::{Placement, Target};
use crate::records::state::{Contended, State};
use crate::rules::targets::target_id;
use crate::values::key::KeyType;
use crate::values::names::DnsName;

/// What one document wants of one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// The document.
    pub(crate) name: String,
    /// The id of its target.
    pub(crate) listener: String,
    /// Whether it wants to be the default.
    pub(crate) wants_default: bool,
    /// Its names.
    pub(crate) names: Vec<DnsName>,
    /// The kind of key.
    pub(crate) key_type: KeyType,
    /// Since when it stands there; `None` where it does not.
    pub(crate) since: Option<OffsetDateTime>,
    /// Since when it stands there as the default; `None` where it does not.
    pub(crate) default_since: Option<OffsetDateTime>,
}

/// What documents want of listeners, and what their records say of that, by name.
pub(crate) type Claims = BTreeMap<String, (Vec<Claim>, BTreeMap<String, Contended>)>;

/// What a document does not get, by its name and the id of the target.
pub(crate) type Lost = BTreeMap<String, BTreeMap<String, Contended>>;

/// Decides who holds which place.
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
                lose(&mut lost, other, holder, "the default", listener);
            }
        }
        let mut held = BTreeMap::<(&DnsName, String), &Claim>::new();
        for claim in by_age(&claims, |claim| claim.since) {
            let taken = claim.names.iter().find_map(|name| {
                held.get(&(name, claim.key_type.to_string()))
                    .map(|holder| (name, *holder))
            });
            if let Some((name, holder)) = taken {
                let what = format!("{name} with the key type {}", claim.key_type);
                lose(&mut lost, claim, holder, &what, listener);
                continue;
            }
            for name in &claim.names {
                held.insert((name, claim.key_type.to_string()), claim);
            }
        }
    }
    lost
}

/// Who stands there comes first, the longest first; then by name.
fn by_age<'c>(
    claims: &[&'c Claim],
    since: impl Fn(&Claim) -> Option<OffsetDateTime>,
) -> Vec<&'c Claim> {
    let mut claims = claims.to_vec();
    claims.sort_by(|one, other| {
        let key = |claim: &Claim| (since(claim).is_none(), since(claim), claim.name.clone());
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

/// Returns what a document wants of its listeners, and what it has on them as long as its word does
/// not count yet.
pub(crate) fn claims(wanted: &Wanted, in_force: &Wanted, state: &State, home: &str) -> Vec<Claim> {
    // One that is paused before it had a certificate is in nobody's way.
    let is_idle = wanted.paused && state.certificate.is_none();
    let mut claims = Vec::<Claim>::new();
    let targets = wanted.targets.iter().chain(&in_force.targets);
    for target in targets.filter(|_| !is_idle) {
        let Target::Listener { placement, .. } = target else {
            continue;
        };
        let wants_default = *placement == Placement::Default;
        let listener = target_id(target, state, home).1;
        if let Some(known) = claims.iter_mut().find(|claim| claim.listener == listener) {
            known.wants_default |= wants_default;
            continue;
        }
        let record = state.target(&listener).filter(|record| record.holds_ours());
        // Records of older builds do not say since when: they come first.
        let since = record.map(|record| record.since.unwrap_or(OffsetDateTime::UNIX_EPOCH));
        // What it says is a wish: what counts is what was seen there.
        let default_since = match record {
            Some(record) if record.since.is_some() => record.default_since,
            _ => since.filter(|_| wants_default),
        };
        claims.push(Claim {
            name: wanted.name.to_string(),
            wants_default,
            names: wanted.domains.clone(),
            key_type: wanted.key_type,
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
