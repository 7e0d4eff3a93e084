//! Looks at the targets before an order is made: what cannot be deployed is neither ordered nor
//! imported (rule 12). What cannot be read blocks no order.

use std::collections::BTreeMap;

use crate::contract::certificate::Wanted;
use crate::contract::report::TargetState;
use crate::contract::target::{ListenerAt, NewListener, Target};
use crate::pass::context::Cycle;
use crate::ports::Ports;
use crate::ports::load_balancer::{Holding, LoadBalancer};
use crate::records::state::State;
use crate::rules::listener::{balancer_of, balancer_of_text, listener_gone, not_https, not_made};
use crate::values::arn::ListenerArn;
use crate::values::problem::Problem;
use crate::values::problem_types::ProblemType;

/// The result of the look at the targets before an order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Prospect {
    /// Why the certificate could go on none of its targets.
    pub(crate) problem: Option<Problem>,
    /// The places that it takes in lists of limited length.
    pub(crate) places: Vec<ListPlace>,
}

/// A place in the certificate list of a listener: its load balancer has a limited number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListPlace(ListenerArn);

impl ListPlace {
    /// Why an order waits: others may take the room.
    pub(crate) const MAY_BE_FULL: &str =
        "its load balancer may be full: the next pass orders it if there is room";

    /// Returns the text that is the same for all places that are counted together.
    pub(crate) fn shared_by(&self) -> String {
        balancer_of(&self.0)
    }
}

/// The state of one target.
enum Ahead {
    /// The certificate can go there.
    Open,
    /// It can, and takes a place in the list of this listener.
    TakesPlace(ListenerArn),
    Closed(Problem),
}

impl<P: Ports> Cycle<'_, P> {
    /// Returns how many certificates the fullest load balancer holds beside the defaults, on its
    /// listeners that this pass has read: the quota is the load balancer's.
    pub fn most_certificates_on_a_load_balancer(&self) -> Option<usize> {
        self.certificates_by_load_balancer().into_values().max()
    }

    /// Looks at all targets of a document whose first certificate is about to be ordered. A
    /// certificate that exists is renewed even if its targets are not usable: it may be in use
    /// elsewhere. But an edit waits if it wants only places that another document holds.
    pub(crate) async fn prospect(&self, wanted: &Wanted, state: &State) -> Prospect {
        if let Some(held) = &state.certificate {
            let is_edit = !state.is_for(wanted, &self.judge().directories(wanted))
                && held.revoked_at.is_none()
                && held.share_left(self.clock.now()) > A_TENTH;
            let contended = |target: &Target| {
                let id = target.id(state, &self.home);
                let contended = state.deployment.contended.get(&id)?;
                (!contended.is_about_default())
                    .then(|| contended.problem(wanted.name.as_str(), &id))
            };
            let contended: Vec<Problem> = wanted.targets.iter().filter_map(contended).collect();
            let is_closed = is_edit && contended.len() == wanted.targets.len();
            return Prospect {
                problem: contended.into_iter().next().filter(|_| is_closed),
                places: Vec::new(),
            };
        }
        for arn in &wanted.supersedes {
            match self.may_supersede(wanted, arn).await {
                Err(problem) if problem.kind == Problem::kind_of(ProblemType::InvalidDocument) => {
                    return Prospect {
                        problem: Some(problem),
                        places: Vec::new(),
                    };
                }
                // A call that failed says nothing against it.
                Ok(()) | Err(_) => {}
            }
        }
        let mut prospect = Prospect::default();
        let (mut closed, mut first) = (0, None);
        for target in &wanted.targets {
            match self.ahead(wanted, state, target).await {
                Ahead::Open => {}
                Ahead::TakesPlace(listener) => prospect.places.push(ListPlace(listener)),
                Ahead::Closed(problem) => {
                    closed += 1;
                    first.get_or_insert(problem);
                }
            }
        }
        prospect.problem = first.filter(|_| closed == wanted.targets.len());
        prospect
    }

    async fn ahead(&self, wanted: &Wanted, state: &State, target: &Target) -> Ahead {
        let Some(at) = target.listener_at() else {
            return Ahead::Open;
        };
        let id = target.id(state, &self.home);
        if let Some(contended) = state.deployment.contended.get(&id) {
            return Ahead::Closed(contended.problem(wanted.name.as_str(), &id));
        }
        let listener = match (state.deployment.listener(at), at) {
            (Some(listener), _) => listener.clone(),
            (None, ListenerAt::Port(new)) => match self.on_port(new).await {
                Ok(Some(listener)) => listener,
                Ok(None) => return Ahead::Open,
                Err(problem) => return Ahead::Closed(problem),
            },
            (None, ListenerAt::Arn(arn)) => arn.clone(),
        };
        if let Some(problem) = self.cannot_hold(&listener).await {
            return Ahead::Closed(problem);
        }
        let holding = match self.holding_seen(&listener).await {
            Ok(holding) => holding,
            Err(error) if error.code.as_deref() == Some("ListenerNotFound") => {
                return Ahead::Closed(listener_gone(&listener));
            }
            Err(_) => return Ahead::Open,
        };
        let region = target.region(&self.home);
        // As the default it takes the default's place.
        if target.wants_default() || is_listed(state, region, &holding) {
            return Ahead::Open;
        }
        let Some(problem) = self.is_full(&listener) else {
            return Ahead::TakesPlace(listener);
        };
        // Where the state was lost, one of ours may be there: its tags show that.
        let is_lost = !state.deployment.imports.contains_key(region);
        if is_lost {
            let owners = self.owners_on(&listener, &wanted.domains, false).await;
            if owners.iter().any(|owner| owner == wanted.name.as_str()) {
                return Ahead::Open;
            }
        }
        Ahead::Closed(problem)
    }

    /// Returns the listener on a port, where there is one; an error only where the load balancer
    /// itself certainly does not exist.
    async fn on_port(&self, new: &NewListener) -> Result<Option<ListenerArn>, Problem> {
        let balancer = self.ports.load_balancer(new.load_balancer.region());
        match balancer.on_port(&new.load_balancer, new.port).await {
            Err(error) if error.code.as_deref() == Some("LoadBalancerNotFound") => {
                Err(not_made(new, &error))
            }
            found => Ok(found.unwrap_or_default()),
        }
    }

    /// Returns why a listener can hold no certificate, where that is certain.
    async fn cannot_hold(&self, arn: &ListenerArn) -> Option<Problem> {
        let balancer = self.ports.load_balancer(arn.region());
        match balancer.listener(arn).await {
            Ok(None) => Some(listener_gone(arn)),
            Ok(Some(listener)) if listener.protocol != "HTTPS" => Some(not_https(arn, &listener)),
            Ok(Some(_)) | Err(_) => None,
        }
    }

    /// Returns why a load balancer takes no further certificate, as far as that is known.
    pub(crate) fn is_full(&self, listener: &ListenerArn) -> Option<Problem> {
        let held = self.certificates_by_load_balancer();
        let balancer = balancer_of(listener);
        let count = held.get(&balancer).copied().unwrap_or_default();
        let was_refused = self.full.borrow().contains(&balancer);
        (was_refused || count >= self.quota(&held)).then(|| {
            let detail = format!(
                "{listener} has no room for another certificate: its load balancer holds {count} \
                 beside the defaults, so nothing is ordered; take one off, or raise the quota and \
                 name it in limits.certificatesPerLoadBalancer of settings.json"
            );
            Problem::ours(ProblemType::ListenerFull, detail)
        })
    }

    /// Returns how many certificates beside the defaults one load balancer takes, as far as that is
    /// known: one that holds more shows that the account's quota was raised.
    fn quota(&self, held: &BTreeMap<String, usize>) -> usize {
        let known = self.settings.limits.certificates_per_load_balancer;
        known.unwrap_or_else(|| match held.values().any(|count| *count > QUOTA) {
            true => usize::MAX,
            false => QUOTA,
        })
    }

    /// Returns why there is no room for a further certificate, if this pass has seen a refusal.
    pub(crate) fn refused_room(&self, place: &ListPlace) -> Option<Problem> {
        let was_refused = self.full.borrow().contains(&place.shared_by());
        was_refused.then(|| self.is_full(&place.0)).flatten()
    }

    /// Notes which load balancer refused a certificate of this document because it is full.
    pub(crate) fn note_refusals(&self, state: &State) {
        let full = Problem::kind_of(ProblemType::ListenerFull);
        let failure = state.deployment.failure.as_ref();
        // This counts for an hour: somebody may have made room since.
        let is_fresh = failure.is_some_and(|failure| {
            failure.problem.kind == full && self.clock.now() - failure.at < time::Duration::HOUR
        });
        if !is_fresh {
            return;
        }
        let failed = state
            .deployment
            .targets
            .iter()
            .filter(|target| target.state == TargetState::Failed);
        for listener in failed.filter_map(|target| target.id.parse().ok()) {
            self.note_full(&listener);
        }
    }

    /// Returns how many certificates beside the defaults load balancers hold, on the listeners that
    /// this pass has read.
    pub(crate) fn certificates_by_load_balancer(&self) -> BTreeMap<String, usize> {
        let mut held = BTreeMap::<String, usize>::new();
        for (listener, holding) in self.holdings_seen() {
            *held.entry(balancer_of_text(&listener)).or_default() += holding.list.len();
        }
        held
    }

    /// Allows as many orders, by name, as load balancers have room for. Where the quota is not
    /// known, allows one more, which shows whether it was raised. Returns the names that wait.
    pub(crate) fn without_a_place(&self, wishes: &[(&str, Vec<String>)]) -> Vec<String> {
        let held = self.certificates_by_load_balancer();
        let is_known = self
            .settings
            .limits
            .certificates_per_load_balancer
            .is_some();
        let most = self.quota(&held).saturating_add(usize::from(!is_known));
        let mut left = BTreeMap::<String, usize>::new();
        let mut sorted: Vec<_> = wishes.to_vec();
        sorted.sort();
        let mut waiting = Vec::new();
        for (name, balancers) in sorted {
            let room =
                |balancer: &str| most.saturating_sub(held.get(balancer).copied().unwrap_or(0));
            let fits = (balancers.iter()).all(|balancer| {
                *left
                    .entry(balancer.clone())
                    .or_insert_with(|| room(balancer))
                    > 0
            });
            if !fits {
                waiting.push(name.to_owned());
                continue;
            }
            for balancer in &balancers {
                if let Some(left) = left.get_mut(balancer.as_str()) {
                    *left -= 1;
                }
            }
        }
        waiting
    }
}

/// Whether ours is in the list already: then it takes no place there.
fn is_listed(state: &State, region: &str, holding: &Holding) -> bool {
    let import = state.deployment.imports.get(region);
    let ours = import.and_then(|import| import.arn.as_ref());
    ours.is_some_and(|ours| holding.list.iter().any(|held| *held == ours.as_str()))
}

/// Below this share of its lifetime a certificate is renewed even if its targets are not usable.
const A_TENTH: f64 = 0.1;
/// AWS's quota of certificates beside the defaults on one Application Load Balancer, unless raised.
const QUOTA: usize = 25;
