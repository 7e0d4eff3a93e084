//! The family by ARN: the certificate manager of a region holds the certificate, and its places
//! hold the ARN, so that an import over it renews them all (rule 4).
//!
//! Its places: a listener of a load balancer; and `certificateManager`, for any service that
//! follows the ARN.

pub mod attach;
mod change;
pub mod clean_up;
pub mod create_listener;
pub mod import;
mod needed;
mod placing;
pub mod prove;
mod put_back;
mod stays;
mod tags;

use crate::contract::report::{TargetKind, TargetState};
use crate::contract::settings::CheckMode;
use crate::contract::target::{ListenerAt, Placement, Target};
use crate::life::deploy::by_arn::import::{Arrived, Imported, Region};
use crate::life::deploy::by_arn::needed::has_a_place_still;
use crate::life::deploy::by_arn::placing::ProofOutcome;
use crate::life::deploy::issued::{Brought, Issued};
use crate::life::work::Work;
use crate::pass::stop::Stop;
use crate::ports::Ports;
use crate::ports::certificate_manager::CertificateManager;
use crate::records::certificate::IssuedCertificate;
use crate::rules::renewal;
use crate::rules::takeover;
use crate::rules::targets::regions;
use crate::values::arn::CertificateArn;
use crate::values::chain::{Chain, Leaf, same_serial};
use crate::values::instant::{rfc3339, whole_seconds};
use crate::values::problem::Problem;
use crate::values::problem_types::ProblemType;

/// The result of an import into a region.
enum InRegion<'i> {
    /// The region holds the certificate.
    Arrived(Arrived<'i>),
    /// The region holds a newer certificate of ours, which was adopted.
    Adopted,
    /// The import failed; that is noted.
    Failed,
}

impl<P: Ports> Work<'_, '_, P> {
    /// Brings a certificate to all regions in which it has a place, and to its places there.
    pub(crate) async fn bring_by_arn(&mut self, issued: &Issued) -> Result<Brought, Stop> {
        for region in regions(&self.in_force, &self.cycle.home) {
            if let Brought::Adopted = self.bring_to_region(&region, issued).await? {
                return Ok(Brought::Adopted);
            }
        }
        Ok(Brought::Done)
    }

    #[tracing::instrument(name = "bring", level = "error", skip_all, fields(region))]
    async fn bring_to_region(&mut self, region: &str, issued: &Issued) -> Result<Brought, Stop> {
        let home = &self.cycle.home;
        let targets = self.in_force.targets.iter();
        let targets: Vec<Target> = targets
            .filter(|target| target.region(home) == region)
            .cloned()
            .collect();
        let arrived = match self.import_into(region, &targets, issued).await? {
            InRegion::Arrived(arrived) => arrived,
            InRegion::Adopted => return Ok(Brought::Adopted),
            InRegion::Failed => return Ok(Brought::Done),
        };
        self.bring_tags(region, &arrived).await?;
        let mut all_proved = true;
        for target in &targets {
            let proof = match target {
                Target::CertificateManager { .. } => {
                    self.note_imported(target, &arrived);
                    ProofOutcome::Passed
                }
                Target::Listener { .. } if self.is_contended(target, &arrived.arn).await => {
                    self.note_contended(target, &arrived).await;
                    ProofOutcome::Passed
                }
                Target::Listener { at, placement } => {
                    let id = target.id(&self.state, &self.cycle.home);
                    let placement = match self.state.deployment.contended.contains_key(&id) {
                        true => Placement::Sni,
                        false => *placement,
                    };
                    let placed = self.bring_to_listener(at, placement, &arrived).await;
                    self.note_failure(target, placed)?
                }
            };
            all_proved &= proof == ProofOutcome::Passed;
        }
        if !all_proved {
            self.undo_import(region, &arrived.arn, &targets).await?;
        }
        if self.deployed.problem.is_none()
            && let Some(import) = self.state.deployment.imports.get_mut(region)
        {
            import.replaced = None;
            import.undone = None;
        }
        self.mark_detached(region).await?;
        Ok(Brought::Done)
    }

    /// Imports into a region. A failure is noted at all its places and does not stop other regions.
    async fn import_into<'i>(
        &mut self,
        region: &str,
        targets: &[Target],
        issued: &'i Issued,
    ) -> Result<InRegion<'i>, Stop> {
        let found = Region {
            name: region,
            is_followed_by_others: targets.iter().any(Target::is_followed_by_others),
            has_lost_a_place: self.lost_a_place(region, targets).await,
        };
        match self.import(&found, issued).await {
            Ok((arn, Imported::Newer(leaf))) => {
                self.deployed.changed = true;
                self.deployed.remarks.push(format!(
                    "{arn} holds {}, a newer certificate of ours that the bucket did not know: \
                     it was adopted",
                    leaf.serial
                ));
                self.adopt_newer(region, &arn, *leaf).await?;
                Ok(InRegion::Adopted)
            }
            Ok((arn, how)) => {
                self.deployed.changed |= how != Imported::Before;
                Ok(InRegion::Arrived(Arrived { arn, how, issued }))
            }
            Err(Stop::Failed(failing)) => {
                self.note_not_imported(targets, failing.problem);
                Ok(InRegion::Failed)
            }
            Err(stop) => Err(stop),
        }
    }

    fn note_not_imported(&mut self, targets: &[Target], problem: Problem) {
        if problem.kind == Problem::kind_of(ProblemType::VaultEntryLost)
            && let Some(held) = &mut self.state.certificate
        {
            // Without its key it cannot be moved: a new certificate is due now.
            held.renewal.at = whole_seconds(self.cycle.clock.now());
        }
        for target in targets {
            let id = target.id(&self.state, &self.cycle.home);
            let record = self.state.deployment.target_mut(target.kind(), &id);
            // A place keeps the certificate that it held before.
            if record.certificate_arn.is_none() {
                record.state = TargetState::Failed;
            }
            record.detail = Some(problem.detail.clone());
        }
        self.deployed.note(problem);
    }

    /// Notes that a region holds the certificate, for services that follow the ARN.
    fn note_imported(&mut self, target: &Target, arrived: &Arrived<'_>) {
        let id = target.id(&self.state, &self.cycle.home);
        let now = whole_seconds(self.cycle.clock.now());
        let record = self.state.deployment.target_mut(target.kind(), &id);
        self.deployed.changed |= record.state != TargetState::Imported;
        record.state = TargetState::Imported;
        record.certificate_arn = Some(arrived.arn.clone());
        record.serial = Some(arrived.issued.leaf().serial.clone());
        record.proved = None;
        record.checked_at = Some(now);
        record.detail = None;
    }

    /// Leaves a place that another document holds as it is. A certificate of ours there is still
    /// renewed.
    async fn note_contended(&mut self, target: &Target, arrived: &Arrived<'_>) {
        let id = target.id(&self.state, &self.cycle.home);
        let is_gone = match id.parse() {
            Ok(listener) => (self.cycle.holding_seen(&listener).await)
                .is_ok_and(|holding| !holding.has(arrived.arn.as_str())),
            Err(_) => false,
        };
        let record = self.state.deployment.target_mut(target.kind(), &id);
        if record.certificate_arn.as_ref() == Some(&arrived.arn) {
            record.serial = Some(arrived.issued.leaf().serial.clone());
            if is_gone {
                record.took_off();
            }
        }
    }

    /// Brings the certificate to a listener. Creates the listener where there is none yet.
    async fn bring_to_listener(
        &mut self,
        at: &ListenerAt,
        placement: Placement,
        arrived: &Arrived<'_>,
    ) -> Result<ProofOutcome, Stop> {
        let (listener, made) = self.listener_at(at, &arrived.arn).await?;
        let placed = self.place_on(&listener, placement, arrived).await;
        let record = (self.state)
            .deployment
            .target_mut(TargetKind::Listener, listener.as_str());
        if made && record.proved.is_none() {
            // A new listener does not answer at once: the next pass looks again.
            record.checked_at = None;
        }
        placed
    }

    /// Notes what failed at one place. It does not stop the others.
    fn note_failure(
        &mut self,
        target: &Target,
        placed: Result<ProofOutcome, Stop>,
    ) -> Result<ProofOutcome, Stop> {
        let problem = match placed {
            Err(Stop::Failed(failing)) => failing.problem,
            placed => return placed,
        };
        let id = target.id(&self.state, &self.cycle.home);
        let record = self.state.deployment.target_mut(target.kind(), &id);
        record.state = TargetState::Failed;
        if problem.kind == Problem::kind_of(ProblemType::ListenerGone) {
            // Nobody is served there any more.
            (record.certificate_arn, record.serial) = (None, None);
        }
        record.detail = Some(problem.detail.clone());
        self.deployed.note(problem);
        Ok(ProofOutcome::Passed)
    }

    /// Returns a certificate without its key, as the certificate manager of a region holds it.
    pub(crate) async fn in_certificate_managers(
        &self,
        serial: &str,
    ) -> Result<Option<Issued>, Stop> {
        for (region, import) in &self.state.deployment.imports {
            if import.serial.as_deref() != Some(serial) {
                continue;
            }
            let Some(arn) = &import.arn else { continue };
            let manager = self.cycle.ports.certificate_manager(region);
            let pem = manager.leaf_pem(arn).await;
            let pem =
                pem.map_err(|error| error.problem(ProblemType::CertificateManager, arn.as_str()))?;
            let chain = pem.and_then(|pem| Chain::parse(&pem).ok());
            if let Some(chain) = chain.filter(|chain| same_serial(&chain.leaf().serial, serial)) {
                return Ok(Some(Issued::without_key(chain)));
            }
        }
        Ok(None)
    }

    /// Adopts a newer certificate of ours that the certificate manager holds and no record knows.
    /// It stays in service, which does not need its key. If the vault does not hold that key, a new
    /// order is due now: hosts cannot pull this certificate.
    async fn adopt_newer(
        &mut self,
        region: &str,
        arn: &CertificateArn,
        leaf: Leaf,
    ) -> Result<(), Stop> {
        let Some(before) = self.state.certificate.clone() else {
            return Ok(());
        };
        let now = self.cycle.clock.now();
        let until = rfc3339(leaf.not_after);
        self.note(
            "adopted",
            format!(
                "{arn} holds {} of ours, valid until {until}, which is newer than {} of the bucket",
                leaf.serial, before.serial
            ),
        );
        let Some(held) = before.like(&leaf, now) else {
            return Ok(());
        };
        let adopted = self.issued(&leaf.serial).await?.is_none();
        let mut renewal =
            renewal::draw(leaf.not_before, leaf.not_after, None, now, fastrand::f64());
        if adopted {
            renewal.at = whole_seconds(now);
        }
        // Its names and its key are what visitors have now: the document may be an older copy.
        let wanted = &self.wanted;
        let mut domains = leaf.names.clone();
        domains.retain(|name| !takeover::may_be_added(name, &wanted.domains));
        let is_less = domains.iter().any(|name| !wanted.domains.contains(name))
            || leaf.key_type != Some(wanted.key_type);
        self.state.certificate = Some(IssuedCertificate {
            domains,
            adopted,
            kept_under: is_less.then(|| self.document.clone()),
            renewal,
            ..held
        });
        self.state.supersede(before);
        self.state.previous.rolled_back = None;
        let import = self
            .state
            .deployment
            .imports
            .entry(region.to_owned())
            .or_default();
        import.arn = Some(arn.clone());
        import.serial = Some(leaf.serial);
        import.importing = None;
        import.replaced = None;
        import.superseded.retain(|old| old.arn != *arn);
        self.save().await
    }

    /// Whether a listener does not hold what the record says, or not in the place that it says.
    async fn lost_a_place(&self, region: &str, targets: &[Target]) -> bool {
        let import = self.state.deployment.imports.get(region);
        let Some(arn) = import.and_then(|import| import.arn.as_ref()) else {
            return false;
        };
        for target in targets {
            let id = target.id(&self.state, &self.cycle.home);
            let (Some(record), Ok(listener)) = (self.state.deployment.target(&id), id.parse())
            else {
                continue;
            };
            if !record.holds_ours() || record.certificate_arn.as_ref() != Some(arn) {
                continue;
            }
            let Ok(holding) = self.cycle.holding_seen(&listener).await else {
                continue;
            };
            let was_default = record.default_since.is_some();
            if !holding.has(arn.as_str())
                || was_default && holding.default.as_deref() != Some(arn.as_str())
            {
                return true;
            }
        }
        false
    }

    /// Whether another document holds the place on a listener. Then the listener is left as it is,
    /// unless it holds an older certificate of ours that needs a successor.
    async fn is_contended(&self, target: &Target, arn: &CertificateArn) -> bool {
        let id = target.id(&self.state, &self.cycle.home);
        self.state.deployment.contended.contains_key(&id)
            && !(has_a_place_still(self.cycle, &self.state, &id, arn)).await
    }

    /// Puts back what the ARN held before, where the proof must succeed and failed: once for each
    /// leaf, and only if it lasts until a person has had time to look.
    async fn undo_import(
        &mut self,
        region: &str,
        arn: &CertificateArn,
        targets: &[Target],
    ) -> Result<(), Stop> {
        let import = self.state.deployment.imports.get(region);
        let Some(before) = import.and_then(|import| import.replaced.clone()) else {
            return Ok(());
        };
        let new = import.and_then(|import| import.serial.clone());
        let was_undone = new.is_some() && import.is_some_and(|import| import.undone == new);
        if self.cycle.settings.proof.mode != CheckMode::Require || self.state.previous.is_revoked()
        {
            return Ok(());
        }
        let was_revoked = self.state.revoked_at(&before).is_some();
        if was_undone
            || was_revoked
            || !self
                .state
                .lasts_long_enough(&before, self.cycle.clock.now())
        {
            self.deployed.stays_unproved();
            return Ok(());
        }
        if !self.import_back(region, arn, &before).await? {
            self.note("not undone", format!("{arn}: {before} cannot be put back"));
            return Ok(());
        }
        if let Some(import) = self.state.deployment.imports.get_mut(region) {
            import.undone = new;
            import.replaced = None;
        }
        for target in targets {
            let (kind, id) = (target.kind(), target.id(&self.state, &self.cycle.home));
            let record = self.state.deployment.target_mut(kind, &id);
            record.checked_at = None;
            if record.certificate_arn.as_ref() == Some(arn) {
                record.serial = Some(before.clone());
            }
        }
        Ok(())
    }
}
