//! Releases what the document no longer needs: listeners, regions, and certificates that have a
//! successor.

use std::collections::BTreeSet;

use time::OffsetDateTime;

use crate::contract::report::{TargetKind, TargetState};
use crate::contract::target::Target;
use crate::life::deploy::deployment::may_delete;
use crate::life::work::Work;
use crate::pass::context::Cycle;
use crate::pass::stop::Stop;
use crate::ports::Ports;
use crate::ports::certificate_manager::{CertificateManager, Deletion};
use crate::ports::load_balancer::LoadBalancer;
use crate::records::deployment::{Superseded, Untagged};
use crate::rules::targets::{stray_targets, uses_region};
use crate::values::arn::{CertificateArn, ListenerArn};
use crate::values::names::CertificateName;
use crate::values::problem::ServiceError;
use crate::values::problem_types::ProblemType;

/// What a listener still holds of ours.
enum OnListener {
    Gone,
    /// The default, since a listener must have one.
    Default(String),
}

/// Whether a certificate that had lost our tags has them again or is gone. Where this is unknown,
/// nothing changes.
pub(crate) async fn is_settled<P: Ports>(
    cycle: &Cycle<'_, P>,
    region: &str,
    lost: &Untagged,
    name: &CertificateName,
) -> bool {
    let tags = cycle
        .ports
        .certificate_manager(region)
        .tags(&lost.arn)
        .await;
    match tags {
        Ok(None) => true,
        Ok(Some(tags)) => cycle.is_ours(&tags, name),
        Err(_) => false,
    }
}

impl<P: Ports> Work<'_, '_, P> {
    /// Records those that have our tags again as superseded, and forgets those that are gone.
    pub(crate) async fn settle_untagged(&mut self) {
        for (region, mut import) in self.state.deployment.imports.clone() {
            let lost = std::mem::take(&mut import.untagged);
            for lost in lost {
                if !is_settled(self.cycle, &region, &lost, &self.wanted.name).await {
                    continue;
                }
                self.note("tags settled", lost.arn.to_string());
                let targets = &self.state.deployment.targets;
                let Some(import) = self.state.deployment.imports.get_mut(&region) else {
                    continue;
                };
                import.untagged.retain(|known| known.arn != lost.arn);
                let holding = |arn: &CertificateArn| {
                    let mut holding = targets.iter().filter(|target| target.holds_ours());
                    holding.any(|target| target.certificate_arn.as_ref() == Some(arn))
                };
                // No listener holds its replacement: it is imported over again.
                let comes_back =
                    holding(&lost.arn) && import.arn.as_ref().is_some_and(|arn| !holding(arn));
                if comes_back && let Some(arn) = import.arn.replace(lost.arn.clone()) {
                    import.serial = Some(lost.serial);
                    import.superseded.push(Superseded {
                        arn,
                        detached_at: None,
                    });
                } else if import.arn.as_ref() != Some(&lost.arn) {
                    import.superseded.push(Superseded {
                        arn: lost.arn,
                        detached_at: None,
                    });
                }
            }
        }
    }

    /// Takes our certificate off the listeners that the document no longer names, and releases what
    /// is in regions without targets. A failure at one listener does not stop the others.
    pub(crate) async fn take_off_by_arn(&mut self) -> Result<(), Stop> {
        for id in stray_targets(&self.in_force, &self.state, &self.cycle.home) {
            let Ok(listener) = id.parse::<ListenerArn>() else {
                // An import that nothing needs any more is handled below, by region.
                self.state
                    .deployment
                    .targets
                    .retain(|target| target.id != id);
                continue;
            };
            match self.give_back(&listener).await {
                Ok(()) => {}
                // Ours leaves once the certificate that it replaced is back.
                Err(Stop::Failed(failing)) => {
                    self.deployed.note(failing.problem);
                    continue;
                }
                Err(stop) => return Err(stop),
            }
            match self.take_off(&listener).await {
                // Others may move it to the list when they choose another default. A removal looks
                // again until it is gone.
                Ok(OnListener::Default(_)) if self.state.removing.is_some() => {}
                Ok(on_listener) => {
                    let record = self.state.deployment.target_mut(TargetKind::Listener, &id);
                    record.undetachable = match on_listener {
                        OnListener::Default(ours) => [ours].into(),
                        OnListener::Gone => BTreeSet::new(),
                    };
                    record.state = TargetState::Detached;
                    record.proved = None;
                    self.note("detached", id);
                }
                Err(error) => self
                    .deployed
                    .note(error.problem(ProblemType::LoadBalancer, &id)),
            }
        }
        // A region without targets keeps nothing of ours.
        let unused: Vec<String> = self
            .state
            .deployment
            .imports
            .keys()
            .filter(|region| !uses_region(&self.in_force, region, &self.cycle.home))
            .cloned()
            .collect();
        let now = self.cycle.clock.now();
        for region in unused {
            self.leave_region(&region, now).await?;
        }
        Ok(())
    }

    /// Releases the certificates of a region.
    async fn leave_region(&mut self, region: &str, now: OffsetDateTime) -> Result<(), Stop> {
        let import = self.state.deployment.imports.get(region);
        if import.is_some_and(|import| import.importing.is_some()) {
            self.gather(region, None, None).await?;
        }
        if let Some(import) = self.state.deployment.imports.get_mut(region) {
            if let Some(arn) = import.arn.take() {
                import.superseded.push(Superseded {
                    arn,
                    detached_at: Some(now),
                });
                import.serial = None;
            }
            import.importing = None;
            for old in &mut import.superseded {
                old.detached_at.get_or_insert(now);
            }
        }
        Ok(())
    }

    /// Takes everything of ours off a listener, if it is still there.
    async fn take_off(&mut self, listener: &ListenerArn) -> Result<OnListener, ServiceError> {
        let ours = self.state.deployment.ours_in(listener.region());
        let balancer = self.cycle.ports.load_balancer(listener.region());
        if balancer.listener(listener).await?.is_none() {
            return Ok(OnListener::Gone);
        }
        let held = balancer.certificates(listener).await?;
        for certificate in held.list.iter().filter(|held| ours.contains(held)) {
            match balancer.remove(listener, certificate).await {
                Ok(()) => {
                    self.deployed.changed = true;
                    self.state
                        .deployment
                        .note_removal(listener.region(), certificate);
                }
                // It is also the default: reported below.
                Err(error) if error.code.as_deref() == Some("OperationNotPermitted") => {}
                Err(error) => return Err(error),
            }
        }
        if let Some(default) = held.default.filter(|default| ours.contains(default)) {
            self.deployed
                .still_default
                .push(format!("{default} stays the default of {listener}"));
            self.deployed.remarks.push(format!(
                "{default} stays the default of {listener}, since a listener must have one; \
                 set another default there before it expires"
            ));
            return Ok(OnListener::Default(default));
        }
        Ok(OnListener::Gone)
    }

    /// Notes since when no target of ours holds a superseded certificate. Clears that note for one
    /// that came back.
    pub(super) async fn mark_detached(&mut self, region: &str) -> Result<(), Stop> {
        let import = self.state.deployment.imports.get(region);
        let superseded: Vec<String> = import
            .into_iter()
            .flat_map(|import| &import.superseded)
            .map(|old| old.arn.to_string())
            .collect();
        if superseded.is_empty() {
            return Ok(());
        }
        let Some(on_listeners) = self.held_by_listeners(region).await else {
            return Ok(());
        };
        // What this pass put back is there, even if the listener does not list it yet.
        let mut held: Vec<String> = self.put_back.iter().cloned().collect();
        held.extend(on_listeners);
        for target in &self.state.deployment.targets {
            // A certificate that may have to come back is kept.
            let stands_by = |old: &&String| target.to_restore.holds(old);
            held.extend(superseded.iter().filter(stands_by).cloned());
        }
        let now = self.cycle.clock.now();
        if let Some(import) = self.state.deployment.imports.get_mut(region) {
            for old in &mut import.superseded {
                old.detached_at = match held.iter().any(|arn| arn == old.arn.as_str()) {
                    true => None,
                    false => old.detached_since(now).or(Some(now)),
                };
            }
        }
        self.save().await
    }

    /// Returns what the listeners in force hold in a region; `None` where one cannot be read.
    async fn held_by_listeners(&self, region: &str) -> Option<Vec<String>> {
        let named = self.in_force.targets.iter().filter_map(Target::listener_at);
        // It is unknown what a listener holds that was neither found nor created.
        let listeners: Vec<&ListenerArn> = named
            .filter(|at| at.region() == region)
            .map(|at| self.state.deployment.listener(at))
            .collect::<Option<_>>()?;
        let balancer = self.cycle.ports.load_balancer(region);
        let mut held = Vec::new();
        for arn in listeners {
            // It could not be read: then the certificate does not count as detached.
            let holding = balancer.certificates(arn).await.ok()?;
            held.extend(holding.list.into_iter().chain(holding.default));
        }
        Some(held)
    }

    /// Deletes superseded certificates whose overlap is over and that nothing uses. Reads their
    /// tags again before that.
    pub(crate) async fn delete_superseded_by_arn(&mut self) {
        let due: Vec<(String, CertificateArn)> = self
            .state
            .deployment
            .imports
            .iter()
            .flat_map(|(region, import)| import.superseded.iter().map(move |old| (region, old)))
            .filter(|(_, old)| may_delete(self.cycle, old))
            .map(|(region, old)| (region.clone(), old.arn.clone()))
            .collect();
        for (region, arn) in due {
            let users = match self.delete_unused(&region, &arn).await {
                Ok(users) => users,
                Err(error) => {
                    let problem = error.problem(ProblemType::CertificateManager, arn.as_str());
                    self.deployed.note(problem);
                    continue;
                }
            };
            let now = self.cycle.clock.now();
            if let Some(import) = self.state.deployment.imports.get_mut(&region) {
                if users.is_none() {
                    import.superseded.retain(|old| old.arn != arn);
                }
                // Still in use, or the load balancer has not noticed yet: the next look follows
                // after another overlap.
                for old in import.superseded.iter_mut().filter(|old| old.arn == arn) {
                    old.detached_at = Some(now);
                }
            }
            match users {
                None => self.note("deleted", arn.to_string()),
                Some(users) => self
                    .deployed
                    .still_default
                    .push(format!("{arn} is still in use by {}", users.join(", "))),
            }
        }
        let is_going = self.state.removing.is_some();
        self.state.deployment.imports.retain(|_, import| {
            import.arn.is_some()
                || import.importing.is_some()
                || !import.superseded.is_empty()
                || !(import.untagged.is_empty() || is_going)
        });
    }

    /// Deletes a certificate of ours that nothing uses; returns what uses it, or `None` where it no
    /// longer concerns us.
    async fn delete_unused(
        &self,
        region: &str,
        arn: &CertificateArn,
    ) -> Result<Option<Vec<String>>, ServiceError> {
        let manager = self.cycle.ports.certificate_manager(region);
        match manager.describe(arn).await? {
            None => return Ok(None),
            Some(described) if !described.in_use_by.is_empty() => {
                return Ok(Some(described.in_use_by));
            }
            Some(_) => {}
        }
        let tags = manager.tags(arn).await?.unwrap_or_default();
        if !self.cycle.is_ours(&tags, &self.wanted.name) {
            return Ok(None);
        }
        match manager.delete(arn).await? {
            Deletion::Done => Ok(None),
            Deletion::InUse => Ok(Some(vec!["something that AWS does not name".to_owned()])),
        }
    }
}
