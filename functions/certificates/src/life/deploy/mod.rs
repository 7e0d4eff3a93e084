//! From "in the vault" to "served, and seen to be": import, attach, prove, take over, clean up (rules 3 and 4, Proof).
//!
//! A deployment can be repeated from any point. It never needs the authority.

pub mod attach;
pub mod clean_up;
pub mod create_listener;
pub mod import;
pub mod prove;

use crate::contract::certificate::Wanted;
use crate::contract::report::{TargetKind, TargetState};
use crate::contract::settings::CheckMode;
use crate::contract::target::{Placement, Target};
use crate::contract::word::Word;
use crate::life::deploy::attach::{placing, says_default};
use crate::life::deploy::clean_up::{is_settled, may_delete};
use crate::life::deploy::import::{Imported, Issued};
use crate::life::deploy::prove::{is_old, proof_is_due};
use crate::life::work::Work;
use crate::pass::context::Cycle;
use crate::pass::halt::Halt;
use crate::ports::Ports;
use crate::ports::certificate_manager::CertificateManager;
use crate::records::certificate::Held;
use crate::records::state::State;
use crate::rules::listener;
use crate::rules::renewal;
use crate::rules::targets::{
    Deployed, regions, stray_targets, target_id, target_region, uses_region,
};
use crate::values::arn::{CertificateArn, ListenerArn};
use crate::values::chain::{Chain, Leaf, same_serial};
use crate::values::instant::rfc3339;
use crate::values::problem::Problem;
use crate::values::problem_types::Ours;

/// Returns why a deployment is needed, or `None` when everything is as wanted. Reads each listener once per pass.
pub(crate) async fn deployment_needed<P: Ports>(
    cycle: &Cycle<'_, P>,
    wanted: &Wanted,
    state: &State,
) -> Option<String> {
    let held = state.certificate.as_ref()?;
    let document = wanted;
    let wanted = &*state.in_force(wanted, &cycle.judge().directories(wanted), &cycle.home);
    let now = cycle.clock.now();
    for target in &wanted.targets {
        let (_, id) = target_id(target, state, &cycle.home);
        let region = target_region(target, &cycle.home);
        let import = state
            .imports
            .get(region)
            .filter(|import| import.serial.as_ref() == Some(&held.serial));
        let Some(arn) = import.and_then(|import| import.arn.as_ref()) else {
            return Some(format!("the certificate is not yet imported in {region}"));
        };
        if state.contended.contains_key(&id) {
            if has_a_place_still(cycle, state, &id, arn).await {
                return Some(format!("one that is superseded is still on {id}"));
            }
            continue;
        }
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
        let Ok(holding) = cycle.holding_seen(listener).await else {
            return Some(format!("{listener} could not be read"));
        };
        if record.stays_are_old(now) {
            return Some(format!("what stays on {listener} is looked at again"));
        }
        let mut names = state.names_in_force(wanted).iter();
        let lacks_names = names.any(|name| !held.domains.contains(name));
        let keeps_default = lacks_names
            && (holding.default.as_ref()).is_some_and(|default| record.stays.contains_key(default));
        let placement = match keeps_default {
            true => Placement::Sni,
            false => *placement,
        };
        let mut placing = placing(wanted, state, listener, placement, arn.clone(), now);
        if !says_default(document, state, listener, &cycle.home) {
            placing.leaves_others_default(&holding);
        }
        let holding = holding.without(&record.stuck);
        let holding = holding.without(&record.stays.keys().cloned().collect());
        if !listener::is_as_wanted(&holding, &placing.wish()) {
            return Some(format!("{listener} does not hold what it should"));
        }
        if !record.standby.is_empty() {
            return Some(format!("a switch on {listener} is not finished"));
        }
        if proof_is_due(cycle.settings.proof.mode, record, now) {
            return Some(format!("a proof of {listener} is due"));
        }
    }
    if state.deployment_failure.is_some() {
        return Some("the last deployment did not succeed".to_owned());
    }
    if state.still_served.is_some() {
        return Some("the last deployment was not finished".to_owned());
    }
    if let Some(stray) = stray_targets(wanted, state, &cycle.home).first() {
        return Some(format!("the document does not name {stray} any more"));
    }
    for (region, import) in &state.imports {
        for lost in &import.untagged {
            if is_settled(cycle, region, lost, &wanted.name).await {
                return Some(format!("{} has its tags again, or is gone", lost.arn));
            }
        }
    }
    if has_let_go(cycle, wanted, state).await {
        return Some("a superseded certificate is on no listener any more".to_owned());
    }
    let due = state
        .imports
        .values()
        .flat_map(|import| &import.superseded)
        .any(|old| may_delete(cycle, old));
    if due
        || state.imports.iter().any(|(region, import)| {
            (import.arn.is_some() || import.importing.is_some())
                && !uses_region(wanted, region, &cycle.home)
        })
    {
        return Some("superseded certificates are to be deleted".to_owned());
    }
    None
}

/// Whether a listener that another document contends still holds a superseded one of ours, of
/// the same kind of key, and not the one that follows it: nobody else renews that place.
pub(crate) async fn has_a_place_still<P: Ports>(
    cycle: &Cycle<'_, P>,
    state: &State,
    listener: &str,
    arn: &CertificateArn,
) -> bool {
    let Ok(listener) = listener.parse::<ListenerArn>() else {
        return false;
    };
    let Ok(holding) = cycle.holding_seen(&listener).await else {
        return false;
    };
    let kind = |held: &Held| held.key_type.is_ecdsa();
    let current = state.certificate.as_ref().map(kind);
    let is_of_a_kind = state.previous_held.as_deref().map(kind) == current;
    let is_default_only = (state.contended.get(listener.as_str()))
        .is_some_and(|contended| contended.is_about_default());
    let stays = state.target(listener.as_str()).map(|record| &record.stays);
    let superseded = (state.imports.get(listener.region()).into_iter())
        .flat_map(|import| &import.superseded)
        .map(|old| old.arn.as_str())
        .filter(|old| stays.is_none_or(|stays| !stays.contains_key(*old)));
    (is_default_only || is_of_a_kind)
        && !holding.has(arn.as_str())
        && superseded.into_iter().any(|old| holding.has(old))
}

/// Whether a superseded certificate that was still listed after its switch has left the listeners since.
async fn has_let_go<P: Ports>(cycle: &Cycle<'_, P>, wanted: &Wanted, state: &State) -> bool {
    for (region, import) in &state.imports {
        let waiting = import.superseded.iter();
        let mut waiting: Vec<&str> = waiting
            .filter(|old| old.detached_since(cycle.clock.now()).is_none())
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
            match cycle.holding_seen(listener).await {
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

/// What came of bringing a certificate to its regions.
enum Brought {
    /// It stands where it can stand.
    Done,
    /// A newer one of ours was found and taken over: that one is to be served.
    Adopted,
}

impl<P: Ports> Work<'_, '_, P> {
    /// Puts the certificate that is to be served on all targets in force and takes everything else of ours off.
    pub(crate) async fn deploy(&mut self) -> Result<Deployed, Halt> {
        let mut deployed = Deployed::default();
        self.take_the_documents_word();
        let outcome = self.deploy_in_force(&mut deployed).await;
        self.state
            .note_served(crate::values::instant::whole_seconds(
                self.cycle.clock.now(),
            ));
        outcome.map(|()| deployed)
    }

    /// From here on the document's word is in force, if a leaf for it is issued (rule 12).
    pub(crate) fn take_the_documents_word(&mut self) {
        let directories = self.cycle.judge().directories(&self.wanted);
        if self.state.is_for(&self.wanted, &directories) {
            self.state.in_force = Some(Box::new(Word::from(&self.wanted)));
        }
        let in_force = (self.state).in_force(&self.wanted, &directories, &self.cycle.home);
        self.in_force = in_force.into_owned();
    }

    async fn deploy_in_force(&mut self, deployed: &mut Deployed) -> Result<(), Halt> {
        if self.state.certificate.is_none() {
            return Ok(());
        }
        if let Some(problem) = self.cycle.judge().distrusts(&self.in_force, &self.state) {
            deployed.note(problem);
            return Ok(());
        }
        self.settle_untagged().await;
        for _ in 0..MOST_ADOPTIONS {
            match self.bring_to_regions(deployed).await? {
                Brought::Done => break,
                Brought::Adopted => {}
            }
        }
        self.forget_listeners();
        // What is served elsewhere stays there until it stands where it is wanted: never remove before add.
        if deployed.problem.is_none() {
            self.take_off_strays(deployed).await?;
        }
        self.delete_superseded(deployed).await;
        Ok(())
    }

    async fn bring_to_regions(&mut self, deployed: &mut Deployed) -> Result<Brought, Halt> {
        if self.in_force.targets.is_empty() {
            return Ok(Brought::Done);
        }
        let Some(held) = self.state.certificate.clone() else {
            return Ok(Brought::Done);
        };
        let serial = &held.serial;
        let issued = match self.issued(serial).await? {
            None if held.adopted => self.issued_in_use(serial).await?,
            issued => issued,
        };
        let Some(issued) = issued else {
            self.note("vault entry lost", serial.clone());
            self.state.certificate = None;
            let detail = format!(
                "the vault does not hold {serial} any more; a new certificate will be ordered"
            );
            return Err(Problem::ours(Ours::VaultEntryLost, detail).into());
        };
        for region in regions(&self.in_force, &self.cycle.home) {
            if let Brought::Adopted = self.deploy_in(&region, &issued, deployed).await? {
                return Ok(Brought::Adopted);
            }
        }
        Ok(Brought::Done)
    }

    /// Returns a certificate without its key, as the certificate manager of a region holds it.
    async fn issued_in_use(&self, serial: &str) -> Result<Option<Issued>, Halt> {
        for (region, import) in &self.state.imports {
            if import.serial.as_deref() != Some(serial) {
                continue;
            }
            let Some(arn) = &import.arn else { continue };
            let manager = self.cycle.ports.certificate_manager(region);
            let pem = manager.leaf_pem(arn).await;
            let pem = pem.map_err(|error| error.problem(Ours::CertificateManager, arn.as_str()))?;
            let chain = pem.and_then(|pem| Chain::parse(&pem).ok());
            if let Some(chain) = chain.filter(|chain| same_serial(&chain.leaf().serial, serial)) {
                return Ok(Some(Issued::without_key(chain)));
            }
        }
        Ok(None)
    }

    /// Takes over a newer certificate of ours that the certificate manager holds and no record
    /// knows: it is served on, its key is not needed for that, and a new order follows in time.
    async fn adopt_newer(
        &mut self,
        region: &str,
        arn: &CertificateArn,
        leaf: Leaf,
    ) -> Result<(), Halt> {
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
        self.state.certificate = Some(Held {
            adopted: true,
            renewal: renewal::draw(leaf.not_before, leaf.not_after, None, now, fastrand::f64()),
            ..held
        });
        self.state.supersede(before);
        self.state.rolled_back = None;
        let import = self.state.imports.entry(region.to_owned()).or_default();
        import.arn = Some(arn.clone());
        import.serial = Some(leaf.serial);
        import.importing = None;
        import.replaced = None;
        import.superseded.retain(|old| old.arn != *arn);
        self.save().await
    }

    async fn deploy_in(
        &mut self,
        region: &str,
        issued: &Issued,
        deployed: &mut Deployed,
    ) -> Result<Brought, Halt> {
        let home = self.cycle.home.clone();
        let targets: Vec<Target> = self
            .in_force
            .targets
            .iter()
            .filter(|target| target_region(target, &home) == region)
            .cloned()
            .collect();
        let others_hold_arn = targets
            .iter()
            .any(|target| matches!(target, Target::CertificateManager { .. }));
        let lost_a_place = self.lost_a_place(region, &targets).await;
        let imported = self.import(region, issued, others_hold_arn, lost_a_place);
        let (arn, how) = match imported.await {
            Ok((arn, Imported::Newer(leaf))) => {
                deployed.changed = true;
                deployed.remarks.push(format!(
                    "{arn} holds {}, a newer certificate of ours that the bucket did not know: it was adopted",
                    leaf.serial
                ));
                self.adopt_newer(region, &arn, *leaf).await?;
                return Ok(Brought::Adopted);
            }
            Ok(imported) => imported,
            Err(Halt::Failed(failing)) => {
                if failing.problem.kind == Problem::kind_of(Ours::VaultEntryLost)
                    && let Some(held) = &mut self.state.certificate
                {
                    // Without its key it stands where it stands: another one is due now.
                    held.renewal.at = crate::values::instant::whole_seconds(self.cycle.clock.now());
                }
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
                return Ok(Brought::Done);
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
                    record.checked_at = Some(crate::values::instant::whole_seconds(
                        self.cycle.clock.now(),
                    ));
                    record.detail = None;
                }
                Target::Listener { .. } if self.is_contended(target, &arn).await => {
                    // What is there goes on being renewed there.
                    let (kind, id) = target_id(target, &self.state, &home);
                    let is_gone = match id.parse() {
                        Ok(listener) => (self.cycle.holding_seen(&listener).await)
                            .is_ok_and(|holding| !holding.has(arn.as_str())),
                        Err(_) => false,
                    };
                    let record = self.state.target_mut(kind, &id);
                    if record.certificate_arn.as_ref() == Some(&arn) {
                        record.serial = Some(issued.leaf().serial.clone());
                        if is_gone {
                            record.took_off();
                        }
                    }
                }
                Target::Listener { at, placement } => {
                    let (_, id) = target_id(target, &self.state, &home);
                    let placement = match self.state.contended.contains_key(&id) {
                        true => Placement::Sni,
                        false => *placement,
                    };
                    let placed = match self.listener_at(at, &arn).await {
                        Ok((listener, made)) => {
                            let changed_in_place = how == Imported::Over;
                            let placed = self
                                .place_on(
                                    &listener,
                                    placement,
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
                            if failing.problem.kind == Problem::kind_of(Ours::ListenerGone) {
                                // What it held nobody is served any more.
                                (record.certificate_arn, record.serial) = (None, None);
                            }
                            record.detail = Some(failing.problem.detail.clone());
                            deployed.note(failing.problem);
                        }
                        Err(halt) => return Err(halt),
                    }
                }
            }
        }
        if unproved {
            self.undo_import(region, &arn, &targets, deployed).await?;
        }
        if deployed.problem.is_none()
            && let Some(import) = self.state.imports.get_mut(region)
        {
            import.replaced = None;
            import.undone = None;
        }
        self.mark_detached(region).await?;
        Ok(Brought::Done)
    }

    /// Whether a listener does not hold what the record says it does, or not in its place.
    async fn lost_a_place(&self, region: &str, targets: &[Target]) -> bool {
        let import = self.state.imports.get(region);
        let Some(arn) = import.and_then(|import| import.arn.as_ref()) else {
            return false;
        };
        for target in targets {
            let id = target_id(target, &self.state, &self.cycle.home).1;
            let (Some(record), Ok(listener)) = (self.state.target(&id), id.parse()) else {
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

    /// Whether another document holds the place on a listener: then it is left as it is, but for
    /// an older one of ours that stands there and needs an heir.
    async fn is_contended(&self, target: &Target, arn: &CertificateArn) -> bool {
        let id = target_id(target, &self.state, &self.cycle.home).1;
        self.state.contended.contains_key(&id)
            && !(has_a_place_still(self.cycle, &self.state, &id, arn)).await
    }

    /// Puts back what stood under the ARN before, where the proof has to succeed and did not: once
    /// for one leaf, and only what lasts until a person has had time to look.
    async fn undo_import(
        &mut self,
        region: &str,
        arn: &CertificateArn,
        targets: &[Target],
        deployed: &mut Deployed,
    ) -> Result<(), Halt> {
        let import = self.state.imports.get(region);
        let Some(before) = import.and_then(|import| import.replaced.clone()) else {
            return Ok(());
        };
        let new = import.and_then(|import| import.serial.clone());
        let was_undone = new.is_some() && import.is_some_and(|import| import.undone == new);
        if self.cycle.settings.proof.mode != CheckMode::Require || self.state.replaces_revoked() {
            return Ok(());
        }
        let was_revoked = self.state.revoked_at(&before).is_some();
        if was_undone
            || was_revoked
            || !self
                .state
                .lasts_long_enough(&before, self.cycle.clock.now())
        {
            deployed.stays_unproved();
            return Ok(());
        }
        if !self.import_back(region, arn, &before).await? {
            self.note("not undone", format!("{arn}: {before} cannot be put back"));
            return Ok(());
        }
        if let Some(import) = self.state.imports.get_mut(region) {
            import.undone = new;
            import.replaced = None;
        }
        for target in targets {
            let (kind, id) = target_id(target, &self.state, &self.cycle.home);
            let record = self.state.target_mut(kind, &id);
            record.checked_at = None;
            if record.certificate_arn.as_ref() == Some(arn) {
                record.serial = Some(before.clone());
            }
        }
        Ok(())
    }
}

/// A newer certificate may stand in each of a few regions.
const MOST_ADOPTIONS: usize = 4;
