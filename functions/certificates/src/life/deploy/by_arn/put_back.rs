//! After a failed proof, or a switch that did not finish: puts back what was taken off.

use std::collections::BTreeSet;

use crate::contract::report::{TargetKind, TargetState};
use crate::life::deploy::by_arn::placing::{Previously, Switch};
use crate::life::work::Work;
use crate::pass::stop::Stop;
use crate::ports::Ports;
use crate::ports::certificate_manager::CertificateManager;
use crate::ports::load_balancer::{Holding, LoadBalancer};
use crate::records::deployment::ToRestore;
use crate::rules::listener::Change;
use crate::values::arn::{CertificateArn, ListenerArn};
use crate::values::problem::{Problem, ServiceError};
use crate::values::problem_types::ProblemType;

impl<P: Ports> Work<'_, '_, P> {
    /// After a failed proof: puts back what was there before, once for each leaf. Puts nothing back
    /// that ends before a person has had time to look. Then ours stays, and a person must act.
    pub(super) async fn not_proved(
        &mut self,
        switch: &Switch<'_>,
        previously: Previously,
        why: String,
    ) -> Result<(), Stop> {
        let (arn, ours) = (switch.at, switch.arrived.arn.to_string());
        let serial = switch.leaf().serial.clone();
        let ends_soon = self.those_that_end_soon(arn).await;
        let revoked = self.state.previous.is_revoked();
        let record = self
            .state
            .deployment
            .target_mut(TargetKind::Listener, arn.as_str());
        // A certificate that is about to end is never served again.
        record
            .to_restore
            .list
            .retain(|arn| !ends_soon.contains(arn));
        (record.to_restore.default).take_if(|default| ends_soon.contains(default));
        let was_undone = record.undone.as_ref() == Some(&serial);
        if revoked || was_undone {
            record.to_restore = ToRestore::default();
        }
        let comes_back = !record.to_restore.is_empty();
        if comes_back {
            record.undone = Some(serial);
            // This also shows whether another invocation has the lease by now.
            self.save().await?;
        }
        let held = self.put_back(arn, std::slice::from_ref(&ours)).await?;
        let detail = format!("{arn}: {why}");
        let record = self
            .state
            .deployment
            .target_mut(TargetKind::Listener, arn.as_str());
        if !held.has(&ours) {
            record.state = TargetState::Failed;
            (record.certificate_arn, record.serial) = previously;
        }
        let stands = record.certificate_arn.as_ref().map(CertificateArn::as_str);
        if held.default.as_deref() != stands {
            record.default_since = None;
        }
        record.detail = Some(detail.clone());
        self.deployed
            .note(Problem::ours(ProblemType::Unproved, detail));
        if was_undone {
            self.deployed.stays_unproved();
        }
        Ok(())
    }

    /// Returns which of a listener's certificates to restore end before a person has had time to
    /// look, as the certificate manager holds them. For one that cannot be read the record decides,
    /// if it is ours; one of others is put back.
    async fn those_that_end_soon(&self, listener: &ListenerArn) -> BTreeSet<String> {
        let region = listener.region();
        let import = self.state.deployment.imports.get(region);
        let superseded = import.into_iter().flat_map(|import| &import.superseded);
        let ours: BTreeSet<&str> = superseded.map(|old| old.arn.as_str()).collect();
        let record = self.state.deployment.target(listener.as_str());
        let mut ends_soon = BTreeSet::new();
        for stood in record.into_iter().flat_map(|it| it.to_restore.all()) {
            let lasts = match self.leaf_under(region, stood).await {
                Some(leaf) => {
                    self.state
                        .outlasts_attempts(leaf.not_after, self.cycle.clock.now())
                        && self.state.revoked_at(&leaf.serial).is_none()
                }
                None if ours.contains(stood) => (self.state.previous.serial.as_deref())
                    .is_some_and(|previous| {
                        self.state
                            .lasts_long_enough(previous, self.cycle.clock.now())
                    }),
                None => true,
            };
            if !lasts {
                ends_soon.insert(stood.to_owned());
            }
        }
        ends_soon
    }

    /// Puts back the others' certificates that an unfinished switch took off: ours leaves as well.
    /// Those that have ended by now stay off. The record of the region may be empty already.
    pub(super) async fn give_back(&mut self, arn: &ListenerArn) -> Result<(), Stop> {
        let region = arn.region();
        let ours = self.state.deployment.ours_in(region);
        let ended = self.those_that_ended(arn).await;
        let record = self
            .state
            .deployment
            .target_mut(TargetKind::Listener, arn.as_str());
        let goes = |stood: &String| ours.contains(stood) || ended.contains(stood);
        record.to_restore.list.retain(|stood| !goes(stood));
        record.to_restore.default.take_if(|stood| goes(stood));
        if record.to_restore.is_empty() {
            return Ok(());
        }
        let balancer = self.cycle.ports.load_balancer(region);
        let found = balancer.listener(arn).await;
        let found =
            found.map_err(|error| error.problem(ProblemType::LoadBalancer, arn.as_str()))?;
        // A listener that is gone gets nothing back.
        if found.is_some() {
            self.put_back(arn, &ours).await?;
        }
        Ok(())
    }

    /// Returns which of a listener's certificates to restore have ended, as the certificate manager
    /// holds them.
    async fn those_that_ended(&self, listener: &ListenerArn) -> BTreeSet<String> {
        let now = self.cycle.clock.now();
        let record = self.state.deployment.target(listener.as_str());
        let mut ended = BTreeSet::new();
        for stood in record.into_iter().flat_map(|it| it.to_restore.all()) {
            let leaf = self.leaf_under(listener.region(), stood).await;
            if leaf.is_some_and(|leaf| leaf.not_after <= now) {
                ended.insert(stood.to_owned());
            }
        }
        ended
    }

    /// Puts back what was taken off, so that visitors get what they got before. A default comes
    /// back where one of `ours` has its place. Returns what the listener holds then.
    async fn put_back(&mut self, arn: &ListenerArn, ours: &[String]) -> Result<Holding, Stop> {
        let balancer = self.cycle.ports.load_balancer(arn.region());
        let failed = |error: ServiceError| {
            Stop::from(error.problem(ProblemType::LoadBalancer, arn.as_str()))
        };
        self.forget_deleted(arn).await;
        let mut held = balancer.certificates(arn).await.map_err(failed)?;
        let record = self
            .state
            .deployment
            .target_mut(TargetKind::Listener, arn.as_str());
        let to_restore = record.to_restore.clone();
        let missing = to_restore.list.into_iter();
        let missing = missing.filter(|was| !held.list.contains(was));
        let mut changes: Vec<Change> = missing.map(Change::Add).collect();
        // Somebody else may have chosen another default since: that one stays.
        let is_ours = (held.default.as_ref()).is_some_and(|default| ours.contains(default));
        if let Some(default) = to_restore.default.filter(|_| is_ours) {
            changes.push(Change::SetDefault(default));
        }
        for change in &changes {
            if let Change::SetDefault(back) | Change::Add(back) = change {
                self.put_back.insert(back.clone());
            }
            self.apply(arn, change).await?;
            self.note("put back", format!("{change:?} on {arn}"));
            match change {
                Change::SetDefault(default) => held.default = Some(default.clone()),
                Change::Add(certificate) => held.list.push(certificate.clone()),
                Change::Remove(_) => {}
            }
        }
        self.state
            .deployment
            .target_mut(TargetKind::Listener, arn.as_str())
            .to_restore = ToRestore::default();
        Ok(held)
    }

    /// Removes from the certificates to restore those that their owner has deleted: they can never
    /// come back.
    async fn forget_deleted(&mut self, listener: &ListenerArn) {
        let manager = self.cycle.ports.certificate_manager(listener.region());
        let record = self.state.deployment.target(listener.as_str());
        let mut deleted = BTreeSet::new();
        for stood in record.into_iter().flat_map(|it| it.to_restore.all()) {
            // Another kind of ARN, or one of another account: the listener will accept or refuse
            // it.
            let Ok(certificate) = stood.parse::<CertificateArn>() else {
                continue;
            };
            if matches!(manager.leaf_pem(&certificate).await, Ok(None)) {
                deleted.insert(stood.to_owned());
            }
        }
        if deleted.is_empty() {
            return;
        }
        for certificate in &deleted {
            self.note(
                "put back",
                format!("{certificate} was deleted, and cannot come back"),
            );
        }
        let record = self
            .state
            .deployment
            .target_mut(TargetKind::Listener, listener.as_str());
        record
            .to_restore
            .list
            .retain(|stood| !deleted.contains(stood));
        (record.to_restore.default).take_if(|default| deleted.contains(default));
    }
}
