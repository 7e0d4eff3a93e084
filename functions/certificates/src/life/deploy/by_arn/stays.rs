//! Which certificates stay on a listener when ours comes (rule 12), by the leaves that were read.

use std::collections::{BTreeMap, BTreeSet};

use crate::contract::target::Placement;
use crate::life::deploy::by_arn::import::Arrived;
use crate::life::deploy::by_arn::placing::{Displaced, Placing};
use crate::life::work::Work;
use crate::ports::Ports;
use crate::ports::certificate_manager::CertificateManager;
use crate::ports::load_balancer::Holding;
use crate::rules::takeover;
use crate::values::arn::{CertificateArn, ListenerArn};
use crate::values::chain::{Chain, Leaf};
use crate::values::problem::{Problem, ServiceError};
use crate::values::problem_types::{ProblemType, Retry};

impl<P: Ports> Work<'_, '_, P> {
    /// Whether a leaf lacks names that the document wants (`partial`).
    pub(super) fn lacks_names(&self, leaf: &Leaf) -> bool {
        let mut names = self.state.names_in_force(&self.in_force).iter();
        names.any(|name| !leaf.names.iter().any(|held| held.covers(name)))
    }

    /// Returns which certificates stay on a listener although ours would replace them, each with
    /// the reason: it carries our tags, it cannot be read, or visitors would lose names.
    pub(super) async fn what_stays(
        &self,
        region: &str,
        holding: &Holding,
        placing: &Placing,
        ours: &Leaf,
    ) -> BTreeMap<String, Problem> {
        let mut stays = BTreeMap::new();
        for theirs in placing
            .supersedes
            .iter()
            .filter(|theirs| holding.has(theirs))
        {
            if let Some(problem) = self.why_it_stays(region, theirs, ours).await {
                stays.insert(theirs.clone(), problem);
            }
        }
        for old in placing.old.iter().filter(|old| holding.has(old)) {
            let Ok(arn) = old.parse() else { continue };
            let problem = match self.leaf_at(region, &arn).await {
                Ok(leaf) => leaf.and_then(|leaf| self.loses_by(&arn, &leaf, ours)),
                // The next pass may be able to read it.
                Err(error) => Some(error.problem(ProblemType::CertificateManager, old)),
            };
            if let Some(problem) = problem {
                stays.insert(old.clone(), problem);
            }
        }
        stays
    }

    /// Why a certificate without public trust is not put on a listener: another certificate there,
    /// which the public may trust, serves one of its names. Visitors might get this one instead.
    ///
    /// `has_stood`: whether the record says that one of ours was there before this pass.
    pub(super) async fn shadows(
        &self,
        listener: &ListenerArn,
        holding: &Holding,
        has_stood: bool,
        arrived: &Arrived<'_>,
    ) -> Option<Problem> {
        let (arn, ours) = (&arrived.arn, arrived.issued.leaf());
        let held = self.state.certificate.as_ref()?;
        if !self.cycle.judge().is_distrusted(held) || holding.has(arn.as_str()) {
            return None;
        }
        let region = listener.region();
        let import = self.state.deployment.imports.get(region);
        let own: BTreeSet<&str> = import
            .into_iter()
            .flat_map(|import| &import.superseded)
            .map(|old| old.arn.as_str())
            .collect();
        let now = self.cycle.clock.now();
        let all = || holding.list.iter().chain(&holding.default);
        // Beside one that can never be read, one of ours has an heir: it is no new shadow.
        let has_stood = has_stood || all().any(|held| own.contains(held.as_str()));
        for other in all().filter(|other| !own.contains(other.as_str())) {
            let served = match self.leaf_if_readable(region, other).await {
                // The next pass may be able to read it.
                Err(problem) => return Some(problem),
                Ok(Some(leaf)) => takeover::shared_name(&leaf, ours, now).map(ToString::to_string),
                Ok(None) => (!has_stood).then(|| "names that cannot be read".to_owned()),
            };
            if let Some(served) = served {
                let detail = format!(
                    "{} of {} is trusted by no public root, and {other} serves {served} on \
                     {listener}: nothing is changed there; name another authority in the \
                     document, or set authorities.{}.private to true if only your own machines \
                     need to trust it",
                    held.serial, held.directory, held.authority
                );
                return Some(Problem::ours(ProblemType::Untrusted, detail));
            }
        }
        None
    }

    /// Why a certificate of others stays although ours would replace it.
    async fn why_it_stays(&self, region: &str, theirs: &str, ours: &Leaf) -> Option<Problem> {
        if let Ok(arn) = theirs.parse()
            && let Err(problem) = self.cycle.may_supersede(&self.in_force, &arn).await
        {
            return Some(problem);
        }
        let stays = |why: String| Some(Problem::ours(ProblemType::Supersedes, why));
        let leaf = match self.leaf_if_readable(region, theirs).await {
            Ok(leaf) => leaf,
            // The next pass may be able to read it.
            Err(problem) => return Some(problem),
        };
        let Some(leaf) = leaf else {
            return stays(format!(
                "{theirs} stays on the listener: it cannot be read, so its visitors are unknown; \
                 take it off by hand if it has none"
            ));
        };
        let lost = takeover::lost(&leaf, ours, self.cycle.clock.now());
        if lost.is_empty() {
            return None;
        }
        let lost = lost.join(", ");
        let names =
            format!("{theirs} stays on the listener: without it visitors would lose {lost}");
        stays(
            match (takeover::same_kind(&leaf, ours), takeover::kind(&leaf)) {
                (true, _) => format!("{names}; add these names here, or take it off by hand"),
                (false, Some(kind)) => format!(
                    "{names}, if they speak only {kind}, the kind of its key and not of ours; \
                     add a document with a key type of that kind, or take it off by hand"
                ),
                (false, None) => {
                    format!("{names}: its key is of a kind that certloop does not know")
                }
            },
        )
    }

    /// Returns a leaf as the certificate manager holds it; `None` where it cannot be read.
    pub(super) async fn leaf_under(&self, region: &str, arn: &str) -> Option<Leaf> {
        self.leaf_at(region, &arn.parse().ok()?).await.ok()?
    }

    /// Returns a leaf as the certificate manager holds it; `None` where it can never be read: it is
    /// elsewhere, or cannot be parsed, or we may not read it.
    async fn leaf_if_readable(&self, region: &str, arn: &str) -> Result<Option<Leaf>, Problem> {
        let Ok(certificate) = arn.parse() else {
            return Ok(None);
        };
        let read = self.leaf_at(region, &certificate).await;
        let read = read.map_err(|error| error.problem(ProblemType::CertificateManager, arn));
        match read {
            Err(problem) if problem.retry == Retry::Person => Ok(None),
            read => read,
        }
    }

    /// Returns a leaf as the certificate manager holds it; `None` where there is none, or where it
    /// cannot be parsed.
    async fn leaf_at(
        &self,
        region: &str,
        arn: &CertificateArn,
    ) -> Result<Option<Leaf>, ServiceError> {
        let manager = self.cycle.ports.certificate_manager(region);
        let pem = manager.leaf_pem(arn).await?;
        Ok(pem.and_then(|pem| Some(Chain::parse(&pem).ok()?.leaf().clone())))
    }

    /// Decides what happens to the present default when ours takes its place. One that cannot be
    /// read must stay.
    pub(super) async fn displaced(
        &self,
        region: &str,
        holding: &Holding,
        placing: &Placing,
        ours: &Leaf,
    ) -> Displaced {
        let gives_way = |restore| Displaced {
            keep: false,
            restore,
        };
        let Some(default) = &holding.default else {
            return gives_way(false);
        };
        if placing.placement == Placement::Sni
            || *default == *placing.ours.as_str()
            || placing.old.contains(default)
            || placing.supersedes.contains(default)
        {
            return gives_way(true);
        }
        let Some(leaf) = self.leaf_under(region, default).await else {
            return Displaced {
                keep: true,
                restore: true,
            };
        };
        let now = self.cycle.clock.now();
        if leaf.self_signed || leaf.not_after <= now {
            return gives_way(false);
        }
        Displaced {
            keep: leaf.names.is_empty() || !takeover::lost(&leaf, ours, now).is_empty(),
            restore: true,
        }
    }
}
