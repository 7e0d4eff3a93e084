//! From "in the vault" to "served, and seen to be": import, attach, prove, take over, clean up (rules 3 and 4, Proof).
//!
//! A deployment can be repeated from any point. It never needs the authority.

use crate::classes::Ours;
use crate::cycle::{Cycle, Halt, Ports, Work};
use crate::document::{Target, Wanted};
use crate::import::{Imported, Issued};
use crate::listener;
use crate::placement::placing;
use crate::problem::Problem;
use crate::proving::{is_old, proof_is_due};
use crate::settings::CheckMode;
use crate::state::{State, TargetKind, TargetState};
use crate::targets::{Deployed, regions, stray_targets, target_id, target_region, uses_region};

impl<P: Ports> Cycle<'_, P> {
    /// Returns why a deployment is needed, or `None` when everything is as wanted. Reads each listener once per pass.
    pub(crate) async fn deployment_needed(&self, wanted: &Wanted, state: &State) -> Option<String> {
        let Some(held) = &state.certificate else {
            return None;
        };
        let now = self.clock.now();
        for target in &wanted.targets {
            let (_, id) = target_id(target, state, &self.home);
            let region = target_region(target, &self.home);
            let import = state
                .imports
                .get(region)
                .filter(|import| import.serial.as_ref() == Some(&held.serial));
            let Some(arn) = import.and_then(|import| import.arn.as_ref()) else {
                return Some(format!("the certificate is not yet imported in {region}"));
            };
            let Some(record) = state.target(&id).filter(|record| {
                record.serial.as_ref() == Some(&held.serial)
                    && record.certificate_arn.as_ref() == Some(arn)
                    && matches!(record.state, TargetState::Attached | TargetState::Imported)
            }) else {
                return Some(format!("the certificate is not yet on {id}"));
            };
            let Target::Listener { at, placement } = target else {
                if is_old(record.checked_at, now) {
                    return Some(format!(
                        "the daily look at the certificate manager of {region} is due"
                    ));
                }
                continue;
            };
            let Some(listener) = state.listener(at) else {
                return Some(format!("{id} is not yet known to have a listener"));
            };
            // Could not tell: the deployment reads it again, says what is wrong and remembers that.
            let Ok(holding) = self.holding_seen(listener).await else {
                return Some(format!("{listener} could not be read"));
            };
            let placing = placing(wanted, state, listener, *placement, arn.clone(), now);
            let holding = holding.without(&record.stuck);
            if !listener::is_as_wanted(&holding, &placing.wish()) {
                return Some(format!("{listener} does not hold what it should"));
            }
            if !record.standby.is_empty() {
                return Some(format!("a switch on {listener} is not finished"));
            }
            if proof_is_due(self.settings.proof.mode, record, now) {
                return Some(format!("a proof of {listener} is due"));
            }
        }
        if state.deployment_failure.is_some() {
            return Some("the last deployment did not succeed".to_owned());
        }
        if state.still_served.is_some() {
            return Some("the last deployment was not finished".to_owned());
        }
        if let Some(stray) = stray_targets(wanted, state, &self.home).first() {
            return Some(format!("the document does not name {stray} any more"));
        }
        if self.has_let_go(wanted, state).await {
            return Some("a superseded certificate is on no listener any more".to_owned());
        }
        let due = state
            .imports
            .values()
            .flat_map(|import| &import.superseded)
            .any(|old| self.may_delete(old));
        if due
            || state.imports.iter().any(|(region, import)| {
                (import.arn.is_some() || import.importing.is_some())
                    && !uses_region(wanted, region, &self.home)
            })
        {
            return Some("superseded certificates are to be deleted".to_owned());
        }
        None
    }
}

impl<P: Ports> Cycle<'_, P> {
    /// Whether a superseded certificate that was still listed after its switch has left the listeners since.
    async fn has_let_go(&self, wanted: &Wanted, state: &State) -> bool {
        for (region, import) in &state.imports {
            let waiting = import.superseded.iter();
            let mut waiting: Vec<&str> = waiting
                .filter(|old| old.detached_since(self.clock.now()).is_none())
                .map(|old| old.arn.as_str())
                .filter(|arn| !state.targets.iter().any(|target| target.standby.holds(arn)))
                .collect();
            for target in &wanted.targets {
                let Target::Listener { at, .. } = target else {
                    continue;
                };
                if waiting.is_empty() || at.region() != region {
                    continue;
                }
                let Some(listener) = state.listener(at) else {
                    waiting.clear();
                    continue;
                };
                match self.holding_seen(listener).await {
                    Ok(holding) => waiting.retain(|arn| !holding.has(arn)),
                    Err(_) => waiting.clear(),
                }
            }
            if !waiting.is_empty() {
                return true;
            }
        }
        false
    }
}

impl<P: Ports> Work<'_, '_, P> {
    /// Puts the certificate of the vault on all its targets and takes everything else of ours off.
    pub(crate) async fn deploy(&mut self) -> Result<Deployed, Halt> {
        let mut deployed = Deployed::default();
        let Some(serial) = self
            .state
            .certificate
            .as_ref()
            .map(|held| held.serial.clone())
        else {
            return Ok(deployed);
        };
        if !self.wanted.targets.is_empty() {
            let Some(issued) = self.issued(&serial).await? else {
                self.note("vault entry lost", serial.clone());
                self.state.certificate = None;
                let detail = format!(
                    "the vault does not hold {serial} any more; a new certificate will be ordered"
                );
                return Err(Problem::ours(Ours::VaultEntryLost, detail).into());
            };
            for region in regions(&self.wanted, &self.cycle.home) {
                self.deploy_in(&region, &issued, &mut deployed).await?;
            }
        }
        self.forget_listeners();
        // What is served elsewhere stays there until it stands where it is wanted: never remove before add.
        if deployed.problem.is_none() {
            self.take_off_strays(&mut deployed).await?;
        }
        self.delete_superseded(&mut deployed).await;
        Ok(deployed)
    }

    async fn deploy_in(
        &mut self,
        region: &str,
        issued: &Issued,
        deployed: &mut Deployed,
    ) -> Result<(), Halt> {
        let home = self.cycle.home.clone();
        let targets: Vec<Target> = self
            .wanted
            .targets
            .iter()
            .filter(|target| target_region(target, &home) == region)
            .cloned()
            .collect();
        let others_hold_arn = targets
            .iter()
            .any(|target| matches!(target, Target::CertificateManager { .. }));
        let (arn, how) = match self.import(region, issued, others_hold_arn).await {
            Ok(imported) => imported,
            Err(Halt::Failed(failing)) => {
                for target in &targets {
                    let (kind, id) = target_id(target, &self.state, &home);
                    let record = self.state.target_mut(kind, &id);
                    // What it held before it goes on holding.
                    if record.certificate_arn.is_none() {
                        record.state = TargetState::Failed;
                    }
                    record.detail = Some(failing.problem.detail.clone());
                }
                deployed.note(failing.problem);
                return Ok(());
            }
            Err(halt) => return Err(halt),
        };
        deployed.changed |= how != Imported::Before;
        let mut unproved = false;
        for target in &targets {
            match target {
                Target::CertificateManager { .. } => {
                    let (kind, id) = target_id(target, &self.state, &home);
                    let record = self.state.target_mut(kind, &id);
                    deployed.changed |= record.state != TargetState::Imported;
                    record.state = TargetState::Imported;
                    record.certificate_arn = Some(arn.clone());
                    record.serial = Some(issued.leaf().serial.clone());
                    record.proved = None;
                    record.checked_at = Some(crate::report::whole_seconds(self.cycle.clock.now()));
                    record.detail = None;
                }
                Target::Listener { at, placement } => {
                    let placed = match self.listener_at(at, &arn).await {
                        Ok((listener, made)) => {
                            let changed_in_place = how == Imported::Over;
                            let placed = self
                                .place_on(
                                    &listener,
                                    *placement,
                                    &arn,
                                    issued,
                                    changed_in_place,
                                    deployed,
                                )
                                .await;
                            let record =
                                (self.state).target_mut(TargetKind::Listener, listener.as_str());
                            if made && record.proved.is_none() {
                                // It takes a while before it answers: the next pass looks again.
                                record.checked_at = None;
                            }
                            placed
                        }
                        Err(halt) => Err(halt),
                    };
                    match placed {
                        Ok(proved) => unproved |= !proved,
                        Err(Halt::Failed(failing)) => {
                            let (kind, id) = target_id(target, &self.state, &home);
                            let record = self.state.target_mut(kind, &id);
                            record.state = TargetState::Failed;
                            record.detail = Some(failing.problem.detail.clone());
                            deployed.note(failing.problem);
                        }
                        Err(halt) => return Err(halt),
                    }
                }
            }
        }
        let replaced = (self.state.imports.get(region)).and_then(|import| import.replaced.clone());
        if let Some(before) = replaced.filter(|_| unproved)
            && self.cycle.settings.proof.mode == CheckMode::Require
            && !self.replaces_revoked()
        {
            if !self.import_back(region, &arn, &before).await? {
                self.note("not undone", format!("{arn}: {before} cannot be put back"));
            }
            for target in &targets {
                let (kind, id) = target_id(target, &self.state, &home);
                self.state.target_mut(kind, &id).checked_at = None;
            }
        }
        if deployed.problem.is_none()
            && let Some(import) = self.state.imports.get_mut(region)
        {
            import.replaced = None;
        }
        self.mark_detached(region).await
    }
}
