//! Why what is deployed by ARN is not as wanted, and which certificates of ours must be released.

use crate::contract::report::TargetState;
use crate::contract::target::{Placement, Target};
use crate::life::deploy::by_arn::clean_up::is_settled;
use crate::life::deploy::by_arn::placing::{placing, says_default};
use crate::life::deploy::by_arn::prove::{is_old, proof_is_due};
use crate::life::deploy::deployment::{Deployment, may_delete};
use crate::pass::context::Cycle;
use crate::ports::Ports;
use crate::records::certificate::IssuedCertificate;
use crate::records::deployment::TargetRecord;
use crate::records::state::State;
use crate::rules::listener;
use crate::rules::targets::uses_region;
use crate::values::arn::{CertificateArn, ListenerArn};

impl<P: Ports> Deployment<'_, '_, P> {
    /// Returns why a place is not as wanted, or `None`. Reads each listener once per pass.
    pub(crate) async fn by_arn_not_as_wanted(&self) -> Option<String> {
        for target in &self.wanted.targets {
            if let Some(why) = self.place_not_as_wanted(target).await {
                return Some(why);
            }
        }
        None
    }

    async fn place_not_as_wanted(&self, target: &Target) -> Option<String> {
        let (state, serial) = (self.state, &self.held.serial);
        let id = target.id(state, &self.cycle.home);
        let region = target.region(&self.cycle.home);
        let import = state
            .deployment
            .imports
            .get(region)
            .filter(|import| import.serial.as_ref() == Some(serial));
        let Some(arn) = import.and_then(|import| import.arn.as_ref()) else {
            return Some(format!("the certificate is not yet imported in {region}"));
        };
        if import.is_some_and(|import| import.wants_tags(&self.wanted.tags, self.now)) {
            return Some(format!("the document's tags are not yet those of {arn}"));
        }
        if state.deployment.contended.contains_key(&id) {
            let has_one = has_a_place_still(self.cycle, state, &id, arn).await;
            return has_one.then(|| format!("a superseded certificate is still on {id}"));
        }
        let Some(record) = state.deployment.target(&id).filter(|record| {
            record.serial.as_ref() == Some(serial)
                && record.certificate_arn.as_ref() == Some(arn)
                && matches!(record.state, TargetState::Attached | TargetState::Imported)
        }) else {
            return Some(format!("the certificate is not yet on {id}"));
        };
        match target {
            Target::CertificateManager { .. } => is_old(record.checked_at, self.now)
                .then(|| format!("the daily look at the certificate manager of {region} is due")),
            Target::Listener { at, placement } => match state.deployment.listener(at) {
                None => Some(format!("{id} is not yet known to have a listener")),
                Some(listener) => {
                    self.listener_not_as_wanted(listener, *placement, arn, record)
                        .await
                }
            },
        }
    }

    async fn listener_not_as_wanted(
        &self,
        listener: &ListenerArn,
        placement: Placement,
        ours: &CertificateArn,
        record: &TargetRecord,
    ) -> Option<String> {
        // It could not be read: the deployment reads it again, reports the error and remembers it.
        let Ok(holding) = self.cycle.holding_seen(listener).await else {
            return Some(format!("{listener} could not be read"));
        };
        if record.stays_are_old(self.now) {
            return Some(format!(
                "it is time to check again what stays on {listener}"
            ));
        }
        let mut names = self.state.names_in_force(self.wanted).iter();
        let lacks_names = names.any(|name| !self.held.domains.contains(name));
        let keeps_default = lacks_names
            && (holding.default.as_ref()).is_some_and(|default| record.stays.contains_key(default));
        let placement = match keeps_default {
            true => Placement::Sni,
            false => placement,
        };
        let state = self.state;
        let mut placing = placing(
            self.wanted,
            state,
            listener,
            placement,
            ours.clone(),
            self.now,
        );
        if !says_default(self.document, state, listener, &self.cycle.home) {
            placing.leaves_others_default(&holding);
        }
        let holding = holding.without(&record.undetachable);
        let holding = holding.without(&record.stays.keys().cloned().collect());
        if !listener::is_as_wanted(&holding, &placing.wish()) {
            return Some(format!("{listener} does not hold what it should"));
        }
        if !record.to_restore.is_empty() {
            return Some(format!("a switch on {listener} is not finished"));
        }
        proof_is_due(self.cycle.settings.proof.mode, record, self.now)
            .then(|| format!("a proof of {listener} is due"))
    }

    /// Returns which certificate of ours must be released, or `None`.
    pub(crate) async fn by_arn_left_over(&self) -> Option<String> {
        let (cycle, state, wanted) = (self.cycle, self.state, self.wanted);
        for (region, import) in &state.deployment.imports {
            for lost in &import.untagged {
                if is_settled(cycle, region, lost, &wanted.name).await {
                    return Some(format!("{} has its tags again, or is gone", lost.arn));
                }
            }
        }
        if self.has_let_go().await {
            return Some("a superseded certificate is on no listener any more".to_owned());
        }
        let due = state
            .deployment
            .imports
            .values()
            .flat_map(|import| &import.superseded)
            .any(|old| may_delete(cycle, old));
        let is_unused = || {
            state.deployment.imports.iter().any(|(region, import)| {
                (import.arn.is_some() || import.importing.is_some())
                    && !uses_region(wanted, region, &cycle.home)
            })
        };
        (due || is_unused()).then(|| "superseded certificates can be deleted".to_owned())
    }

    /// Whether a superseded certificate has left the listeners that still listed it after its
    /// switch.
    async fn has_let_go(&self) -> bool {
        let (cycle, state, wanted) = (self.cycle, self.state, self.wanted);
        for (region, import) in &state.deployment.imports {
            let waiting = import.superseded.iter();
            let mut waiting: Vec<&str> = waiting
                .filter(|old| old.detached_since(cycle.clock.now()).is_none())
                .map(|old| old.arn.as_str())
                .filter(|arn| {
                    !state
                        .deployment
                        .targets
                        .iter()
                        .any(|target| target.to_restore.holds(arn))
                })
                .collect();
            for target in &wanted.targets {
                let Some(at) = target.listener_at() else {
                    continue;
                };
                if waiting.is_empty() || at.region() != region {
                    continue;
                }
                let Some(listener) = state.deployment.listener(at) else {
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
}

/// Whether a listener that another document contends still holds a superseded certificate of ours,
/// of the same key type, and not its successor: nobody else renews that place.
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
    let kind = |held: &IssuedCertificate| held.key_type.is_ecdsa();
    let current = state.certificate.as_ref().map(kind);
    let is_of_a_kind = state.previous.certificate.as_deref().map(kind) == current;
    let is_default_only = (state.deployment.contended.get(listener.as_str()))
        .is_some_and(|contended| contended.is_about_default());
    let stays = state
        .deployment
        .target(listener.as_str())
        .map(|record| &record.stays);
    let superseded = (state.deployment.imports.get(listener.region()).into_iter())
        .flat_map(|import| &import.superseded)
        .map(|old| old.arn.as_str())
        .filter(|old| stays.is_none_or(|stays| !stays.contains_key(*old)));
    (is_default_only || is_of_a_kind)
        && !holding.has(arn.as_str())
        && superseded.into_iter().any(|old| holding.has(old))
}
