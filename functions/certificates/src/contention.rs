//! What documents of one installation want of each other (rule 12): nobody takes from a neighbour.
//!
//! Two documents that want one default, or a name with the same key type on one listener, would
//! take it from each other at each pass. The one that was deployed there first holds it, ties by
//! name; the other changes nothing there and says so.

use std::collections::{BTreeMap, BTreeSet};

use time::OffsetDateTime;

use crate::arn::{CertificateArn, ListenerArn};
use crate::certificate_manager::CertificateManager;
use crate::classes::Ours;
use crate::cycle::{Cycle, Ports, TAG_CERTIFICATE, TAG_INSTALLATION};
use crate::document::{Placement, Target, Wanted};
use crate::key::KeyType;
use crate::names::{CertificateName, DnsName};
use crate::problem::{Problem, ServiceError};
use crate::state::{Contended, State};
use crate::store::{self, Store, read_record};
use crate::targets::target_id;

/// What one document wants of one listener.
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
    /// The kind of key that it wants.
    pub(crate) key_type: KeyType,
    /// The names and the kind of key of its certificate that stands there.
    pub(crate) stands: Option<(Vec<DnsName>, KeyType)>,
    /// Whether a certificate was issued for it.
    pub(crate) is_issued: bool,
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
                lose(&mut lost, other, holder, Contended::DEFAULT, listener);
            }
        }
        let mut held = BTreeMap::<(&DnsName, String), &Claim>::new();
        let claims = by_age(&claims, |claim| claim.since);
        // What stands there comes before what is wished.
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

/// Why nothing is taken from a neighbour now, whatever it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Neighbour {
    Unreadable,
    /// It has a certificate and no document any more.
    Orphan,
    Busy,
}

impl Neighbour {
    fn problem_type(self) -> Ours {
        match self {
            Self::Unreadable | Self::Orphan => Ours::Contended,
            Self::Busy => Ours::LoadBalancer,
        }
    }
}

impl std::fmt::Display for Neighbour {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "whose document or state cannot be read",
            Self::Orphan => "which has no document any more (put that back, or remove it)",
            Self::Busy => "which is being worked on",
        })
    }
}

/// Why the default of a listener is not replaced.
#[derive(Debug)]
pub(crate) enum MayNot {
    /// Another document holds it, or a name of this one.
    Contended(Problem),
    /// It stays for now.
    Stays(Problem),
}

/// Who stands there comes first, the longest first; then who has a certificate; then by name.
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
        let serial = record.and_then(|record| record.serial.as_deref());
        let standing = serial.and_then(|serial| state.held(serial));
        let standing = standing.or(state.certificate.as_ref());
        let stands = (record.and(standing)).map(|held| (held.domains.clone(), held.key_type));
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
            stands,
            is_issued: state.certificate.is_some(),
            since,
            default_since,
            listener,
        });
    }
    claims
}

impl<P: Ports> Cycle<'_, P> {
    /// Notes what a document wants of its listeners.
    pub(crate) fn note_claims(&self, wanted: &Wanted, state: &State) {
        let in_force = state.in_force(wanted, &self.directories(wanted), &self.home);
        let claims = claims(wanted, &in_force, state, &self.home);
        let mut known = self.claims.borrow_mut();
        known.insert(wanted.name.to_string(), (claims, state.contended.clone()));
    }

    /// Decides who holds what, from all documents that were looked at, and returns the names for
    /// which that is another than their record says.
    ///
    /// What could not be told of a document leaves those alone that it was in the way of.
    pub(crate) async fn settle_contention(
        &self,
        names: &[&str],
        due: &[CertificateName],
    ) -> Vec<CertificateName> {
        if self.is_full {
            let known = self.claims.borrow();
            let unknown = names.iter().filter(|name| !known.contains_key(**name));
            let unknown = unknown.map(|name| (*name).to_owned());
            self.unknown_claims.borrow_mut().extend(unknown);
        } else {
            self.look_at_neighbours(names, due).await;
        }
        let mut lost = self.decided();
        let known = self.claims.borrow();
        let unknown = self.unknown_claims.borrow();
        for (name, (_, recorded)) in known.iter() {
            for (listener, contended) in recorded {
                if unknown.contains(&contended.holder) {
                    let of_name = lost.entry(name.clone()).or_default();
                    of_name.insert(listener.clone(), contended.clone());
                }
            }
        }
        drop(unknown);
        let changed = known.iter().filter_map(|(name, (_, recorded))| {
            let found = lost.get(name).cloned().unwrap_or_default();
            (found != *recorded).then(|| name.parse().ok()).flatten()
        });
        let changed: Vec<CertificateName> = changed.collect();
        drop(known);
        *self.contention.borrow_mut() = Some(lost);
        changed
    }

    /// Returns what each document does not get, by all that were looked at.
    fn decided(&self) -> Lost {
        let known = self.claims.borrow();
        let all = known.values().flat_map(|(claims, _)| claims.clone());
        resolve(&all.collect::<Vec<_>>())
    }

    /// Brings what is known of contention into a record that was read; returns whether that is news.
    pub(crate) fn apply_contention(&self, name: &CertificateName, state: &mut State) -> bool {
        let lost = self.contention.borrow();
        let Some(lost) = lost.as_ref() else {
            return false;
        };
        let found = lost.get(name.as_str()).cloned().unwrap_or_default();
        let is_news = found != state.contended;
        state.contended = found;
        is_news
    }

    /// Looks at the documents that hold what a named one wants, by its record, and at those whose
    /// certificates stand where a due one is to go: only these can be in its way.
    async fn look_at_neighbours(&self, names: &[&str], due: &[CertificateName]) {
        let mut owners = BTreeSet::new();
        for name in names {
            let (claims, recorded) = match self.claims.borrow().get(*name) {
                Some(known) => known.clone(),
                None => continue,
            };
            owners.extend(recorded.into_values().map(|contended| contended.holder));
            let is_due = due.iter().any(|due| due.as_str() == *name);
            for claim in claims.iter().filter(|_| is_due) {
                let Ok(listener) = claim.listener.parse() else {
                    continue;
                };
                let near = self.owners_on(&listener, &claim.names, claim.wants_default);
                owners.extend(near.await);
            }
        }
        for owner in owners {
            let is_known = self.claims.borrow().contains_key(&owner);
            if let (false, Ok(name)) = (is_known, owner.parse::<CertificateName>()) {
                self.look_at_neighbour(&name).await;
            }
        }
    }

    /// Returns the documents whose certificates on a listener hold one of these names, or are its
    /// default. What cannot be told is in nobody's way.
    pub(crate) async fn owners_on(
        &self,
        listener: &ListenerArn,
        names: &[DnsName],
        or_default: bool,
    ) -> Vec<String> {
        let Ok(holding) = self.holding_seen(listener).await else {
            return Vec::new();
        };
        let region = listener.region();
        let Ok(listing) = self.listing(region, None).await else {
            return Vec::new();
        };
        let shares_a_name = |arn: &str| {
            let listed = listing.iter().find(|listed| listed.arn.as_str() == arn);
            listed.is_some_and(|listed| match &listed.names {
                Some(held) => {
                    (names.iter()).any(|name| held.iter().any(|held| held == name.as_str()))
                }
                None => true,
            })
        };
        let default = holding.default.as_ref().filter(|_| or_default);
        let near = holding
            .list
            .iter()
            .filter(|arn| shares_a_name(arn))
            .chain(default);
        let near: BTreeSet<CertificateArn> = near.filter_map(|arn| arn.parse().ok()).collect();
        let mut owners = Vec::new();
        for arn in near {
            let tags = self.ports.certificate_manager(region).tags(&arn).await;
            let tags = tags.ok().flatten().unwrap_or_default();
            if tags.get(TAG_INSTALLATION) == Some(&self.installation) {
                owners.extend(tags.get(TAG_CERTIFICATE).cloned());
            }
        }
        owners
    }

    /// Notes what another document wants and has; returns why nothing of its is to be taken now,
    /// whatever it wants.
    async fn look_at_neighbour(&self, name: &CertificateName) -> Option<Neighbour> {
        let store = self.ports.store();
        let object = store.read(&store::certificate_key(name)).await;
        let state = read_record::<State>(store, &store::state_key(name)).await;
        let (Ok(object), Ok(state)) = (object, state) else {
            self.unknown_claims.borrow_mut().insert(name.to_string());
            return Some(Neighbour::Unreadable);
        };
        let state = state.map(|(state, _)| state);
        let Some(object) = object else {
            // It stays where it is, unless it is being removed or the settings say so.
            let stays = state.is_some_and(|state| state.removing.is_none());
            let stays = stays && !self.removes_orphans();
            return stays.then_some(Neighbour::Orphan);
        };
        let state = state.unwrap_or_default();
        let account = self.account_id.as_deref();
        let Ok(wanted) = Wanted::parse(name, &object.body, &self.settings, account) else {
            self.unknown_claims.borrow_mut().insert(name.to_string());
            return Some(Neighbour::Unreadable);
        };
        self.note_claims(&wanted, &state);
        let is_busy = state.lease_in_force(self.clock.now()).is_some()
            || (state.targets.iter()).any(|target| !target.standby.is_empty());
        is_busy.then_some(Neighbour::Busy)
    }

    /// Asks once more, right before a default that is not this document's is replaced, whether
    /// another document holds it. What cannot be told stays as it is.
    ///
    /// # Errors
    ///
    /// Why the default stays.
    pub(crate) async fn may_displace(
        &self,
        wanted: &Wanted,
        state: &State,
        listener: &ListenerArn,
        default: &str,
    ) -> Result<(), MayNot> {
        let name = &wanted.name;
        let Ok(arn) = default.parse::<CertificateArn>() else {
            return Ok(());
        };
        let tags = self
            .ports
            .certificate_manager(arn.region())
            .tags(&arn)
            .await;
        let stays =
            |error: ServiceError| MayNot::Stays(error.problem(Ours::CertificateManager, default));
        let tags = tags.map_err(stays)?.unwrap_or_default();
        let owner = tags
            .get(TAG_CERTIFICATE)
            .filter(|owner| *owner != name.as_str());
        let (Some(owner), true) = (
            owner,
            tags.get(TAG_INSTALLATION) == Some(&self.installation),
        ) else {
            return Ok(());
        };
        // What a person asks for by name was not looked at before.
        self.note_claims(wanted, state);
        let why_not = match owner.parse::<CertificateName>() {
            Ok(owner) => self.look_at_neighbour(&owner).await,
            Err(_) => None,
        };
        if let Some(why) = why_not {
            let detail = format!(
                "{default} is the default of {listener} and belongs to {owner}, {why}: it stays the \
                 default, and {name} is served there to those who say its names"
            );
            let problem = Problem::ours(why.problem_type(), detail);
            return Err(MayNot::Stays(problem));
        }
        let lost = self.decided();
        match lost
            .get(name.as_str())
            .and_then(|lost| lost.get(listener.as_str()))
        {
            Some(contended) => Err(MayNot::Contended(
                contended.problem(name.as_str(), listener.as_str()),
            )),
            None => Ok(()),
        }
    }

    /// Refuses what a document must not supersede: a certificate of this installation. Documents
    /// take over from each other by `remove`.
    pub(crate) async fn may_supersede(
        &self,
        wanted: &Wanted,
        arn: &CertificateArn,
    ) -> Result<(), Problem> {
        let Some(index) = wanted.supersedes.iter().position(|known| known == arn) else {
            return Ok(());
        };
        let tags = self.ports.certificate_manager(arn.region()).tags(arn).await;
        let tags = tags.map_err(|error| error.problem(Ours::CertificateManager, arn.as_str()))?;
        let tags = tags.unwrap_or_default();
        if tags.get(TAG_INSTALLATION) != Some(&self.installation) {
            return Ok(());
        }
        let owner = tags.get(TAG_CERTIFICATE).map_or("?", String::as_str);
        let detail = format!(
            "certificates/{}.json: supersedes[{index}]: {arn} is the certificate {owner} of this \
             installation: remove it here, and invoke {{\"action\":\"remove\",\"name\":\"{owner}\"}} \
             if {owner} is no longer wanted",
            wanted.name
        );
        Err(Problem::ours(Ours::InvalidDocument, detail))
    }
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
