//! Who holds which place on a listener (rule 12), as this pass knows it. What documents want and
//! what their records say is gathered before anything is changed.

use std::collections::BTreeSet;

use crate::contract::certificate::Wanted;
use crate::pass::context::{Cycle, TAG_CERTIFICATE, TAG_INSTALLATION};
use crate::ports::Ports;
use crate::ports::certificate_manager::CertificateManager;
use crate::ports::store::{self, Store, read_record};
use crate::records::state::State;
use crate::rules::contention::{Lost, claims, resolve};
use crate::values::arn::{CertificateArn, ListenerArn};
use crate::values::names::{CertificateName, DnsName};
use crate::values::problem::{Problem, ServiceError};
use crate::values::problem_types::ProblemType;

/// Why nothing may be taken from a neighbour now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Neighbour {
    Unreadable,
    /// It has a certificate and no document any more.
    Orphan,
    Busy,
}

impl Neighbour {
    fn problem_type(self) -> ProblemType {
        match self {
            Self::Unreadable | Self::Orphan => ProblemType::Contended,
            Self::Busy => ProblemType::LoadBalancer,
        }
    }
}

impl std::fmt::Display for Neighbour {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "whose document or state cannot be read",
            Self::Orphan => "which has no document any more (put the document back, or remove it)",
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

impl<P: Ports> Cycle<'_, P> {
    /// Notes what a document wants of its listeners.
    pub(crate) fn note_claims(&self, wanted: &Wanted, state: &State) {
        let in_force = state.in_force(wanted, &self.judge().directories(wanted), &self.home);
        let claims = claims(wanted, &in_force, state, &self.home);
        let mut known = self.claims.borrow_mut();
        known.insert(
            wanted.name.to_string(),
            (claims, state.deployment.contended.clone()),
        );
    }

    /// Decides who holds what, from all documents that this pass has read. Returns the names for
    /// which the record says something else.
    ///
    /// Where a document cannot be read, the contentions that its record caused stay as they are.
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

    /// Returns what each document does not get, by all documents that this pass has read.
    fn decided(&self) -> Lost {
        let known = self.claims.borrow();
        let all = known.values().flat_map(|(claims, _)| claims.clone());
        resolve(&all.collect::<Vec<_>>())
    }

    /// Writes what is known of contention into a record that was read; returns whether the record
    /// changed.
    pub(crate) fn apply_contention(&self, name: &CertificateName, state: &mut State) -> bool {
        let lost = self.contention.borrow();
        let Some(lost) = lost.as_ref() else {
            return false;
        };
        let found = lost.get(name.as_str()).cloned().unwrap_or_default();
        let is_news = found != state.deployment.contended;
        state.deployment.contended = found;
        is_news
    }

    /// Looks at the documents that hold what a named one wants, by its record, and at those whose
    /// certificates are where a due one must go: only these can be in its way.
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
    /// default. What cannot be read blocks no document.
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

    /// Notes what another document wants and has; returns why nothing may be taken from it now, if
    /// so.
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
            // It stays where it is, unless its removal is in progress or the settings remove it.
            let stays = state.is_some_and(|state| state.removing.is_none());
            let stays = stays && !self.judge().removes_orphans();
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
            || (state.deployment.targets.iter()).any(|target| !target.to_restore.is_empty());
        is_busy.then_some(Neighbour::Busy)
    }

    /// Asks once more, right before a default of others is replaced, whether another document holds
    /// it. What cannot be read stays as it is.
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
        let stays = |error: ServiceError| {
            MayNot::Stays(error.problem(ProblemType::CertificateManager, default))
        };
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
        // A certificate that a person names was not looked at before.
        self.note_claims(wanted, state);
        let why_not = match owner.parse::<CertificateName>() {
            Ok(owner) => self.look_at_neighbour(&owner).await,
            Err(_) => None,
        };
        if let Some(why) = why_not {
            let detail = format!(
                "{default} is the default of {listener} and belongs to {owner}, {why}: it stays \
                 the default, and {name} is served there to clients that ask for its names"
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

    /// Refuses what a document must not supersede: a certificate of this installation. One document
    /// makes room for another only by `remove`.
    pub(crate) async fn may_supersede(
        &self,
        wanted: &Wanted,
        arn: &CertificateArn,
    ) -> Result<(), Problem> {
        let Some(index) = wanted.supersedes.iter().position(|known| known == arn) else {
            return Ok(());
        };
        let tags = self.ports.certificate_manager(arn.region()).tags(arn).await;
        let tags =
            tags.map_err(|error| error.problem(ProblemType::CertificateManager, arn.as_str()))?;
        let tags = tags.unwrap_or_default();
        if tags.get(TAG_INSTALLATION) != Some(&self.installation) {
            return Ok(());
        }
        let owner = tags.get(TAG_CERTIFICATE).map_or("?", String::as_str);
        let detail = format!(
            "certificates/{}.json: supersedes[{index}]: {arn} is the certificate {owner} of this \
             installation: remove it here, and invoke \
             {{\"action\":\"remove\",\"name\":\"{owner}\"}} if {owner} is no longer wanted",
            wanted.name
        );
        Err(Problem::ours(ProblemType::InvalidDocument, detail))
    }
}
