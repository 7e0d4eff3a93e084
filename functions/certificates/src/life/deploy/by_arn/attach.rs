//! Puts a certificate on one listener: look, decide what stays, set aside, establish, clear, note,
//! prove. Goes back where the proof fails (rule 3).

use std::collections::BTreeSet;
use std::time::Duration;

use crate::contract::report::{TargetKind, TargetState};
use crate::contract::settings::CheckMode;
use crate::contract::target::Placement;
use crate::life::deploy::by_arn::change::Applied;
use crate::life::deploy::by_arn::import::Arrived;
use crate::life::deploy::by_arn::placing::{ProofOutcome, Switch, Switched, placing, says_default};
use crate::life::deploy::by_arn::prove::{ProofVerdict, ToProve};
use crate::life::work::Work;
use crate::pass::contention::MayNot;
use crate::pass::stop::Stop;
use crate::ports::Ports;
use crate::ports::load_balancer::{Holding, Listener, LoadBalancer};
use crate::records::deployment::ToRestore;
use crate::rules::listener::{self, Change, listener_gone, not_https};
use crate::values::arn::{CertificateArn, ListenerArn};
use crate::values::instant::whole_seconds;
use crate::values::problem::{Problem, ServiceError};
use crate::values::problem_types::ProblemType;

impl<P: Ports> Work<'_, '_, P> {
    /// Puts the certificate on one listener; returns whether the proof accepted it.
    #[tracing::instrument(name = "attach", level = "error", skip_all, fields(listener = %at))]
    pub(super) async fn place_on(
        &mut self,
        at: &ListenerArn,
        placement: Placement,
        arrived: &Arrived<'_>,
    ) -> Result<ProofOutcome, Stop> {
        self.time_for("switching a listener", LEAST_TO_SWITCH, LEAST_TO_SWITCH)?;
        let (listener, before) = self.look_at(at).await?;
        let has_stood = self.note_found(at, &before, &arrived.arn);
        self.may_stand_there(at, &before, has_stood, arrived)
            .await?;
        let mut switch = self
            .decide_switch(at, placement, arrived, (listener, before))
            .await?;
        self.set_aside(&switch).await?;
        let held = self.establish(&switch).await?;
        // Ours is there now: only from here on does anything leave the list. A default has left its
        // place already, since a listener has one; where others may need it, it is in the list.
        let undetachable = self.clear(&mut switch, &held).await?;
        let switched = self.note_attached(&mut switch, &held, undetachable);
        let to_prove = ToProve {
            listener: &switch.listener,
            at,
            issued: arrived.issued,
            is_touched: switched.is_touched,
        };
        match self.prove(&to_prove).await? {
            ProofVerdict::NotProved(why) => {
                self.not_proved(&switch, switched.previously, why).await?;
                Ok(ProofOutcome::Failed)
            }
            ProofVerdict::Passed => {
                self.note_passed(switch, &held);
                Ok(ProofOutcome::Passed)
            }
        }
    }

    /// Reads a listener and what it holds.
    async fn look_at(&self, at: &ListenerArn) -> Result<(Listener, Holding), Stop> {
        let balancer = self.cycle.ports.load_balancer(at.region());
        let failed =
            |error: ServiceError| Stop::from(error.problem(ProblemType::LoadBalancer, at.as_str()));
        let found = balancer.listener(at).await.map_err(failed)?;
        let listener = found.ok_or_else(|| listener_gone(at))?;
        if listener.protocol != "HTTPS" {
            return Err(not_https(at, &listener).into());
        }
        let before = balancer.certificates(at).await.map_err(failed)?;
        self.cycle.note_holding(at, &before);
        Ok((listener, before))
    }

    /// Notes what others did to a listener since it was known to hold ours. Returns whether it was
    /// known to hold ours.
    fn note_found(&mut self, at: &ListenerArn, before: &Holding, ours: &CertificateArn) -> bool {
        let record = self
            .state
            .deployment
            .target_mut(TargetKind::Listener, at.as_str());
        let has_stood = record.certificate_arn.is_some() || record.checked_at.is_some();
        // What an unfinished switch took off may still come back.
        let may_come_back = |held: &CertificateArn| record.to_restore.holds(held.as_str());
        if record
            .certificate_arn
            .as_ref()
            .is_some_and(|held| !before.has(held.as_str()) && !may_come_back(held))
        {
            // Somebody took it off: the listener does not serve it any more.
            record.took_off();
        }
        let held = record.certificate_arn.as_ref().map(CertificateArn::as_str);
        if before.default.as_deref() != held && before.default.as_deref() != Some(ours.as_str()) {
            // Another certificate is the default by now.
            record.default_since = None;
        }
        has_stood
    }

    /// Stops where ours must not come: it serves nobody, or visitors would get it instead of one
    /// that they trust.
    async fn may_stand_there(
        &self,
        at: &ListenerArn,
        before: &Holding,
        has_stood: bool,
        arrived: &Arrived<'_>,
    ) -> Result<(), Stop> {
        let ours = &arrived.arn;
        if !before.has(ours.as_str())
            && let Some(problem) = self.serves_nobody()
        {
            return Err(problem.into());
        }
        match self.shadows(at, before, has_stood, arrived).await {
            Some(problem) => Err(problem.into()),
            None => Ok(()),
        }
    }

    /// Decides what stays on a listener, and what changes there.
    async fn decide_switch<'s>(
        &self,
        at: &'s ListenerArn,
        placement: Placement,
        arrived: &'s Arrived<'s>,
        (listener, before): (Listener, Holding),
    ) -> Result<Switch<'s>, Stop> {
        let (now, ours, leaf) = (
            self.cycle.clock.now(),
            arrived.arn.clone(),
            arrived.issued.leaf(),
        );
        let mut placing = placing(&self.in_force, &self.state, at, placement, ours, now);
        if !says_default(&self.wanted, &self.state, at, &self.cycle.home) {
            placing.leaves_others_default(&before);
        }
        let region = at.region();
        let stays = self.what_stays(region, &before, &placing, leaf).await;
        placing.leaves(&stays);
        let displaced = self.displaced(region, &before, &placing, leaf).await;
        let mut switch = Switch {
            at,
            arrived,
            listener,
            before,
            placing,
            stays,
            displaced,
            changes: Vec::new(),
            refused: None,
        };
        self.spare_the_default(&mut switch);
        switch.decide_changes();
        self.heed_the_holder(&mut switch).await?;
        Ok(switch)
    }

    /// A certificate that lacks names does not replace a default that may serve them.
    fn spare_the_default(&self, switch: &mut Switch<'_>) {
        let at = switch.at;
        if let Some(default) = switch.before.default.as_ref()
            && switch.displaced.keep
            && self.lacks_names(switch.leaf())
        {
            let detail = format!(
                "{default} stays the default of {at} until the certificate holds all names of \
                 the document"
            );
            let problem = Problem::ours(ProblemType::Supersedes, detail);
            switch.stays.insert(default.clone(), problem);
            switch.placing.placement = Placement::Sni;
        }
    }

    /// A default that another document holds, or that must stay, is not replaced: ours goes into
    /// the list.
    async fn heed_the_holder(&self, switch: &mut Switch<'_>) -> Result<(), Stop> {
        let Some(default) = &switch.before.default else {
            return Ok(());
        };
        if !switch.replaces_default() || switch.placing.old.contains(default) {
            return Ok(());
        }
        let displacing = (self.cycle).may_displace(&self.wanted, &self.state, switch.at, default);
        match displacing.await {
            Ok(()) => return Ok(()),
            Err(MayNot::Contended(problem)) => return Err(problem.into()),
            // Its names are still served to clients that send SNI.
            Err(MayNot::Stays(problem)) => switch.refused = Some(problem),
        }
        switch.placing.placement = Placement::Sni;
        switch.decide_changes();
        Ok(())
    }

    /// Writes down what is about to be taken off, so that it can come back even after a stop.
    async fn set_aside(&mut self, switch: &Switch<'_>) -> Result<(), Stop> {
        let ours = switch.arrived.arn.as_str();
        let (at, before) = (switch.at.as_str(), &switch.before);
        let record = self.state.deployment.target_mut(TargetKind::Listener, at);
        let known = record.to_restore.clone();
        for removal in listener::clear(before, &switch.placing.wish()) {
            if let Change::Remove(certificate) = removal {
                record.to_restore.list.insert(certificate);
            }
        }
        if switch.replaces_default() && switch.displaced.restore {
            record.to_restore.default.clone_from(&before.default);
        }
        record.to_restore.list.remove(ours);
        record.to_restore.default.take_if(|default| default == ours);
        if record.to_restore == known {
            return Ok(());
        }
        self.save().await
    }

    /// Puts ours in its place; returns what the listener holds then.
    async fn establish(&self, switch: &Switch<'_>) -> Result<Holding, Stop> {
        for change in &switch.changes {
            self.apply(switch.at, change).await?;
        }
        let held = match switch.changes.is_empty() {
            true => switch.before.clone(),
            false => self.wait_until_listed(switch.at, &switch.placing).await?,
        };
        self.cycle.note_holding(switch.at, &held);
        Ok(held)
    }

    /// Takes off what ours replaces; returns what the load balancer does not allow to take off.
    async fn clear(
        &mut self,
        switch: &mut Switch<'_>,
        held: &Holding,
    ) -> Result<BTreeSet<String>, Stop> {
        let mut undetachable = BTreeSet::new();
        for removal in listener::clear(held, &switch.placing.wish()) {
            match (self.apply(switch.at, &removal).await?, removal) {
                (Applied::Refused, Change::Remove(certificate)) => {
                    undetachable.insert(certificate);
                }
                (_, removal) => {
                    if let Change::Remove(certificate) = &removal {
                        self.state
                            .deployment
                            .note_removal(switch.at.region(), certificate);
                    }
                    switch.changes.push(removal);
                }
            }
        }
        Ok(undetachable)
    }

    /// Notes that the listener holds ours.
    fn note_attached(
        &mut self,
        switch: &mut Switch<'_>,
        held: &Holding,
        undetachable: BTreeSet<String>,
    ) -> Switched {
        let now = whole_seconds(self.cycle.clock.now());
        let (at, ours) = (switch.at, &switch.arrived.arn);
        let record = self
            .state
            .deployment
            .target_mut(TargetKind::Listener, at.as_str());
        let previously = (record.certificate_arn.clone(), record.serial.clone());
        let is_touched = switch.has_changed_anything(record);
        // An earlier pass may have made the change and stopped before it could report it. Then the
        // pass that completes it reports it.
        let unseen =
            record.checked_at.is_none() && self.cycle.settings.proof.mode != CheckMode::Off;
        self.deployed.changed |= is_touched || unseen;
        record.undetachable = undetachable;
        record.stays_seen_at = (!switch.stays.is_empty()).then_some(now);
        record.stays = std::mem::take(&mut switch.stays);
        if !record.holds_ours() {
            (record.since, record.default_since) = (Some(now), None);
        }
        let is_default = held.default.as_deref() == Some(ours.as_str());
        record.default_since = is_default.then(|| record.default_since.unwrap_or(now));
        record.state = TargetState::Attached;
        record.certificate_arn = Some(ours.clone());
        record.serial = Some(switch.arrived.issued.leaf().serial.clone());
        record.detail = None;
        if is_touched {
            // What was seen before says nothing about what is served now.
            (record.proved, record.trusted, record.checked_at) = (None, None, None);
        }
        if !switch.changes.is_empty() {
            self.note("attached", format!("{} on {at}", ours.as_str()));
        }
        Switched {
            previously,
            is_touched,
        }
    }

    /// Notes that the proof accepted ours, and what a person should know of the listener.
    fn note_passed(&mut self, switch: Switch<'_>, held: &Holding) {
        let failure = self.state.deployment.failure.as_ref();
        let was_unproved =
            failure.is_some_and(|failure| failure.problem.kind == "certloop:unproved");
        let at = switch.at;
        let record = self
            .state
            .deployment
            .target_mut(TargetKind::Listener, at.as_str());
        record.to_restore = ToRestore::default();
        record.undone = None;
        // The last proof failed and this one passed: report a change even though the listener
        // needed none.
        self.deployed.changed |= was_unproved;
        if record.trusted == Some(false)
            && let Some(why) = &record.detail
        {
            self.deployed.remarks.push(why.clone());
        }
        if let Some(problem) = switch.refused {
            self.deployed.note(problem);
        }
        if let Some(default) = listener::stays_as_default(held, &switch.placing.wish()) {
            self.deployed.remarks.push(format!(
                "{default} is superseded but stays the default of {at}; \
                 its owner must choose another default, or set \"as\": \"default\" here"
            ));
        }
    }
}

/// A switch does not start with less time than this.
const LEAST_TO_SWITCH: Duration = Duration::from_secs(5);
