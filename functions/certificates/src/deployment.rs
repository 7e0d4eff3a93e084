//! From "in the vault" to "served, and seen to be": import, attach, prove, take over, clean up (rules 3 and 4, Proof).
//!
//! A deployment can be repeated from any point. It never needs the authority.

use std::time::Duration;

use time::OffsetDateTime;

use crate::arn::{CertificateArn, ListenerArn};
use crate::certificate::Chain;
use crate::certificate_manager::{CertificateManager, Deletion};
use crate::cycle::{Cycle, Failing, Halt, Ports, Work};
use crate::document::{Placement, Target, Wanted};
use crate::import::{Imported, Issued};
use crate::listener::{self, Change, Wish};
use crate::load_balancer::{AttachError, Holding, Listener, LoadBalancer};
use crate::network::trust_roots;
use crate::problem::{Problem, Retry, ServiceError};
use crate::proof::{Proven, Question};
use crate::report::target_id;
use crate::settings::CheckMode;
use crate::state::{Standby, State, Superseded, TargetKind, TargetRecord, TargetState};

/// What a deployment did.
#[derive(Debug, Default)]
pub(crate) struct Deployed {
    /// Whether a target was changed.
    pub(crate) changed: bool,
    /// What a person should know although nothing failed.
    pub(crate) remarks: Vec<String>,
    /// The first thing that went wrong; the other targets were dealt with all the same.
    pub(crate) problem: Option<Problem>,
}

/// What is to be attached where, and what it takes over from.
struct Placing {
    placement: Placement,
    ours: CertificateArn,
    old: Vec<String>,
    supersedes: Vec<String>,
}

impl Placing {
    fn wish(&self) -> Wish<'_> {
        Wish {
            ours: self.ours.as_str(),
            placement: self.placement,
            old: &self.old,
            supersedes: &self.supersedes,
        }
    }
}

/// What becomes of a default whose place ours takes.
struct Displaced {
    /// It moves to the certificate list: others may need it. Not if it is self-signed, expired, superseded or wholly
    /// covered by ours.
    keep: bool,
    /// It comes back if ours is not proved. Not if it is self-signed or expired.
    restore: bool,
}

/// How a certificate stands on a listener.
enum Placed {
    /// The proof let it pass.
    Passed,
    /// It did not; `replaced` is the serial that stood under the same ARN there before.
    NotProved { replaced: Option<String> },
}

/// What a look at a listener's port showed.
enum Verdict {
    /// Proved, not looked at, or nothing could be seen and the mode lets that pass.
    Passed,
    NotProved(String),
}

impl<P: Ports> Cycle<'_, P> {
    /// Returns why a deployment is needed, or `None` when everything is as wanted. Reads each listener once per pass.
    pub(crate) async fn deployment_needed(&self, wanted: &Wanted, state: &State) -> Option<String> {
        let Some(held) = &state.certificate else {
            return None;
        };
        let now = self.clock.now();
        for target in &wanted.targets {
            let (_, id) = target_id(target, &self.home);
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
            let Target::Listener {
                arn: listener,
                placement,
            } = target
            else {
                if is_old(record.checked_at, now) {
                    return Some(format!(
                        "the daily look at the certificate manager of {region} is due"
                    ));
                }
                continue;
            };
            // Could not tell: the deployment reads it again, says what is wrong and remembers that.
            let Ok(holding) = self.holding_seen(listener).await else {
                return Some(format!("{listener} could not be read"));
            };
            let placing = placing(wanted, state, listener, *placement, arn.clone());
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
        if let Some(stray) = stray_targets(wanted, state, &self.home).first() {
            return Some(format!("the document does not name {stray} any more"));
        }
        let due = state
            .imports
            .values()
            .flat_map(|import| &import.superseded)
            .any(|old| self.may_delete(old));
        if due
            || state.imports.iter().any(|(region, import)| {
                import.arn.is_some() && !uses_region(wanted, region, &self.home)
            })
        {
            return Some("superseded certificates are to be deleted".to_owned());
        }
        None
    }

    fn may_delete(&self, old: &Superseded) -> bool {
        // Not in the pass that detached it: what the load balancer says about its use lags behind.
        let overlap = Duration::from_secs(self.settings.limits.overlap_seconds);
        old.detached_at
            .is_some_and(|at| at < self.clock.received() && at + overlap <= self.clock.now())
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
                return Err(Problem::ours("vaultEntryLost", Retry::Soon, detail).into());
            };
            for region in regions(&self.wanted, &self.cycle.home) {
                self.deploy_in(&region, &issued, &mut deployed).await?;
            }
        }
        self.take_off_strays(&mut deployed).await?;
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
                    let (kind, id) = target_id(target, &home);
                    let record = self.state.target_mut(kind, &id);
                    // What it held before it goes on holding.
                    if record.certificate_arn.is_none() {
                        record.state = TargetState::Failed;
                    }
                    record.detail = Some(failing.problem.detail.clone());
                }
                note_problem(deployed, failing);
                return Ok(());
            }
            Err(halt) => return Err(halt),
        };
        deployed.changed |= how != Imported::Before;
        let mut unproved = false;
        // What stood under the same ARN before: also when this was begun by a pass that was stopped.
        let mut undo = match how {
            Imported::Over(ref before) => before.clone(),
            Imported::Before | Imported::New => None,
        };
        for target in &targets {
            let (kind, id) = target_id(target, &home);
            match target {
                Target::CertificateManager { .. } => {
                    let record = self.state.target_mut(kind, &id);
                    deployed.changed |= record.state != TargetState::Imported;
                    record.state = TargetState::Imported;
                    record.certificate_arn = Some(arn.clone());
                    record.serial = Some(issued.leaf().serial.clone());
                    record.proved = None;
                    record.checked_at = Some(crate::report::whole_seconds(self.cycle.clock.now()));
                    record.detail = None;
                }
                Target::Listener {
                    arn: listener,
                    placement,
                } => {
                    let changed_in_place = matches!(how, Imported::Over(_));
                    match self
                        .place_on(
                            listener,
                            *placement,
                            &arn,
                            issued,
                            changed_in_place,
                            deployed,
                        )
                        .await
                    {
                        Ok(Placed::Passed) => {}
                        Ok(Placed::NotProved { replaced }) => {
                            unproved = true;
                            undo = undo.or(replaced);
                        }
                        Err(Halt::Failed(failing)) => {
                            let record = self.state.target_mut(kind, &id);
                            record.state = TargetState::Failed;
                            record.detail = Some(failing.problem.detail.clone());
                            note_problem(deployed, failing);
                        }
                        Err(halt) => return Err(halt),
                    }
                }
            }
        }
        if let Some(before) = undo.filter(|_| unproved)
            && self.cycle.settings.proof.mode == CheckMode::Require
        {
            if !self.import_back(region, &arn, &before).await? {
                self.note("not undone", format!("{arn}: {before} cannot be put back"));
            }
            for (kind, id) in targets.iter().map(|target| target_id(target, &home)) {
                self.state.target_mut(kind, &id).checked_at = None;
            }
        }
        self.mark_detached(region).await
    }

    /// Puts the certificate on one listener and proves it.
    async fn place_on(
        &mut self,
        arn: &ListenerArn,
        placement: Placement,
        ours: &CertificateArn,
        issued: &Issued,
        changed_in_place: bool,
        deployed: &mut Deployed,
    ) -> Result<Placed, Halt> {
        self.grant("switching a listener", LEAST_TO_SWITCH, LEAST_TO_SWITCH)?;
        let balancer = self.cycle.ports.load_balancer(arn.region());
        let failed = |error: ServiceError| Halt::from(error.problem("loadBalancer", arn.as_str()));
        let listener = balancer.listener(arn).await.map_err(failed)?.ok_or_else(|| {
            Problem::ours("listenerGone", Retry::Person, format!("{arn} does not exist; name an existing listener in targets or remove it there"))
        })?;
        if listener.protocol != "HTTPS" {
            let detail = format!(
                "{arn} speaks {} and holds no certificates; name an HTTPS listener in targets",
                listener.protocol
            );
            return Err(Problem::ours("listenerNotHttps", Retry::Person, detail).into());
        }
        let before = balancer.certificates(arn).await.map_err(failed)?;
        let placing = placing(&self.wanted, &self.state, arn, placement, ours.clone());
        let displaced = self.displaced(arn.region(), &before, &placing).await?;
        let mut changes = listener::establish(&before, &placing.wish(), displaced.keep);
        self.set_aside(arn, &before, &placing, &displaced, &changes)
            .await?;
        for change in &changes {
            self.apply(&balancer, arn, change).await?;
        }
        let now_held = if changes.is_empty() {
            before
        } else {
            self.wait_until_listed(&balancer, arn, &placing).await?
        };
        // Ours is there now: only from here on is anything taken off.
        let removals = listener::clear(&now_held, &placing.wish());
        for change in &removals {
            self.apply(&balancer, arn, change).await?;
        }
        changes.extend(removals);
        deployed.changed |= !changes.is_empty() || changed_in_place;

        let unproved = self
            .state
            .deployment_failure
            .as_ref()
            .is_some_and(|failure| failure.problem.kind == "certloop:unproved");
        let record = self.state.target_mut(TargetKind::Listener, arn.as_str());
        let previously = (record.certificate_arn.clone(), record.serial.clone());
        let now = (Some(ours.clone()), Some(issued.leaf().serial.clone()));
        // Also after a stop between a change and its proof.
        let touched = !changes.is_empty()
            || changed_in_place
            || !record.standby.is_empty()
            || previously != now;
        record.state = TargetState::Attached;
        (record.certificate_arn, record.serial) = now;
        record.detail = None;
        if touched {
            // What was seen before says nothing about what is served now.
            (record.proved, record.trusted, record.checked_at) = (None, None, None);
        }
        if !changes.is_empty() {
            self.note("attached", format!("{} on {arn}", ours.as_str()));
        }
        if let Verdict::NotProved(why) = self.prove(&listener, arn, issued, touched).await? {
            let held = self.put_back(&balancer, arn).await?;
            let detail = format!("{arn}: {why}");
            let record = self.state.target_mut(TargetKind::Listener, arn.as_str());
            record.detail = Some(detail.clone());
            let replaced = previously
                .1
                .clone()
                .filter(|_| previously.0.as_ref() == Some(ours) && previously.1 != record.serial);
            if !held.has(ours.as_str()) {
                record.state = TargetState::Failed;
                (record.certificate_arn, record.serial) = previously;
            }
            note_problem(
                deployed,
                Problem::ours("unproved", Retry::Soon, detail).into(),
            );
            return Ok(Placed::NotProved { replaced });
        }
        let record = self.state.target_mut(TargetKind::Listener, arn.as_str());
        record.standby = Standby::default();
        // What had not come off has now, even if there was nothing left to change.
        deployed.changed |= unproved;
        if record.trusted == Some(false)
            && let Some(why) = &record.detail
        {
            deployed.remarks.push(why.clone());
        }
        if let Some(default) = listener::stays_as_default(&now_held, &placing.wish()) {
            deployed.remarks.push(format!(
                "{default} is superseded but stays the default of {arn}; whoever made it default has to choose another, or set \"as\": \"default\" here"
            ));
        }
        Ok(Placed::Passed)
    }

    /// Writes down what is about to be taken off, so that it can come back even after a stop.
    async fn set_aside(
        &mut self,
        arn: &ListenerArn,
        before: &Holding,
        placing: &Placing,
        displaced: &Displaced,
        changes: &[Change],
    ) -> Result<(), Halt> {
        let ours = placing.ours.as_str();
        let record = self.state.target_mut(TargetKind::Listener, arn.as_str());
        let known = record.standby.clone();
        for removal in listener::clear(before, &placing.wish()) {
            if let Change::Remove(certificate) = removal {
                record.standby.list.insert(certificate);
            }
        }
        let replaced = changes
            .iter()
            .any(|change| matches!(change, Change::SetDefault(_)));
        if replaced && displaced.restore {
            record.standby.default.clone_from(&before.default);
        }
        record.standby.list.remove(ours);
        record.standby.default.take_if(|default| default == ours);
        if record.standby == known {
            return Ok(());
        }
        self.save().await
    }

    /// What becomes of the present default where ours takes its place. What cannot be told must stay.
    async fn displaced(
        &self,
        region: &str,
        holding: &Holding,
        placing: &Placing,
    ) -> Result<Displaced, Halt> {
        let must_stay = Displaced {
            keep: true,
            restore: true,
        };
        let gives_way = |restore| Displaced {
            keep: false,
            restore,
        };
        let Some(default) = &holding.default else {
            return Ok(gives_way(false));
        };
        if placing.placement == Placement::Sni
            || *default == *placing.ours.as_str()
            || placing.old.contains(default)
            || placing.supersedes.contains(default)
        {
            return Ok(gives_way(true));
        }
        let Ok(arn) = default.parse::<CertificateArn>() else {
            return Ok(must_stay);
        };
        let manager = self.cycle.ports.certificate_manager(region);
        let pem = match manager.leaf_pem(&arn).await {
            Ok(Some(pem)) => pem,
            Ok(None) | Err(_) => return Ok(must_stay),
        };
        let Ok(chain) = Chain::parse(&pem) else {
            return Ok(must_stay);
        };
        let leaf = chain.leaf();
        if leaf.self_signed || leaf.not_after <= self.cycle.clock.now() {
            return Ok(gives_way(false));
        }
        let covered = !leaf.names.is_empty()
            && leaf.other_names.is_empty()
            && leaf
                .names
                .iter()
                .all(|name| self.wanted.domains.iter().any(|ours| ours.covers(name)));
        Ok(if covered { gives_way(true) } else { must_stay })
    }

    async fn apply(
        &self,
        balancer: &P::LoadBalancer,
        arn: &ListenerArn,
        change: &Change,
    ) -> Result<(), Halt> {
        let certificate = match change {
            Change::Remove(certificate) => {
                return match balancer.remove(arn, certificate).await {
                    Ok(()) => Ok(()),
                    // It is the default as well, and goes only when somebody sets another.
                    Err(error) if error.code.as_deref() == Some("OperationNotPermitted") => Ok(()),
                    Err(error) => Err(error.problem("loadBalancer", arn.as_str()).into()),
                };
            }
            Change::Add(certificate) | Change::SetDefault(certificate) => certificate,
        };
        let patience = self.grant("attaching", LEAST, BECOMES_KNOWN)?;
        let until = tokio::time::Instant::now() + patience;
        loop {
            let outcome = match change {
                Change::SetDefault(_) => balancer.set_default(arn, certificate).await,
                _ => balancer.add(arn, certificate).await,
            };
            return match outcome {
                Ok(()) => Ok(()),
                // Also said of a certificate that was imported a moment ago.
                Err(AttachError::NotYetKnown(_)) if tokio::time::Instant::now() + LISTING_PAUSE < until => {
                    tokio::time::sleep(LISTING_PAUSE).await;
                    continue;
                }
                Err(AttachError::Full(error)) => Err(Problem::ours(
                    "listenerFull",
                    Retry::Person,
                    format!("{arn} has no room for {certificate} ({error}); it serves what it served: raise the listener's certificate quota or take one off"),
                )
                .into()),
                Err(AttachError::NotYetKnown(error) | AttachError::Service(error)) => {
                    Err(error.problem("loadBalancer", &format!("{certificate} on {arn}")).into())
                }
            };
        }
    }

    async fn wait_until_listed(
        &self,
        balancer: &P::LoadBalancer,
        arn: &ListenerArn,
        placing: &Placing,
    ) -> Result<Holding, Halt> {
        let patience = self.grant("waiting for the listener", LEAST, BECOMES_LISTED)?;
        let until = tokio::time::Instant::now() + patience;
        loop {
            let held = balancer
                .certificates(arn)
                .await
                .map_err(|error| error.problem("loadBalancer", arn.as_str()))?;
            if listener::establish(&held, &placing.wish(), false).is_empty() {
                return Ok(held);
            }
            if tokio::time::Instant::now() + LISTING_PAUSE >= until {
                let detail = format!(
                    "{arn} does not list {} although it was accepted; nothing was taken off",
                    placing.ours
                );
                return Err(Problem::ours("notListed", Retry::Soon, detail).into());
            }
            tokio::time::sleep(LISTING_PAUSE).await;
        }
    }

    /// After a proof that failed: what was taken off is put back, so that what was served is served. Returns what the
    /// listener holds then.
    async fn put_back(
        &mut self,
        balancer: &P::LoadBalancer,
        arn: &ListenerArn,
    ) -> Result<Holding, Halt> {
        let failed = |error: ServiceError| Halt::from(error.problem("loadBalancer", arn.as_str()));
        let mut held = balancer.certificates(arn).await.map_err(failed)?;
        let record = self.state.target_mut(TargetKind::Listener, arn.as_str());
        let standby = record.standby.clone();
        let missing = standby.list.into_iter();
        let missing = missing.filter(|was| !held.list.contains(was));
        let mut changes: Vec<Change> = missing.map(Change::Add).collect();
        if let Some(default) = standby
            .default
            .filter(|was| held.default.as_ref() != Some(was))
        {
            changes.push(Change::SetDefault(default));
        }
        for change in &changes {
            self.apply(balancer, arn, change).await?;
            self.note("put back", format!("{change:?} on {arn}"));
            match change {
                Change::SetDefault(default) => held.default = Some(default.clone()),
                Change::Add(certificate) => held.list.push(certificate.clone()),
                Change::Remove(_) => {}
            }
        }
        self.state
            .target_mut(TargetKind::Listener, arn.as_str())
            .standby = Standby::default();
        Ok(held)
    }

    /// Looks at what the listener serves, when something was changed or the daily look is due.
    async fn prove(
        &mut self,
        listener: &Listener,
        arn: &ListenerArn,
        issued: &Issued,
        touched: bool,
    ) -> Result<Verdict, Halt> {
        let settings = &self.cycle.settings.proof;
        let now = self.cycle.clock.now();
        let Some(held) = self.state.certificate.clone() else {
            return Ok(Verdict::Passed);
        };
        let record = self.state.target_mut(TargetKind::Listener, arn.as_str());
        if settings.mode == CheckMode::Off {
            record.proved = None;
            record.trusted = None;
            return Ok(Verdict::Passed);
        }
        if !touched && !proof_is_due(settings.mode, record, now) {
            return Ok(Verdict::Passed);
        }
        let authority = self.cycle.authority(&held.authority).ok();
        let roots =
            trust_roots(authority.and_then(|authority| authority.root_certificate.as_deref()));
        let patience = self.grant("the proof", LEAST, Duration::from_secs(settings.seconds))?;
        let until = tokio::time::Instant::now() + patience;
        let mut pause = Duration::from_millis(500);
        let mut blind = 0;
        let proven = loop {
            let proven = if !listener.internet_facing && settings.connect_to.is_none() {
                Proven::CouldNotTell(format!("{} is internal", listener.host))
            } else {
                let question = Question {
                    host: &listener.host,
                    port: listener.port,
                    connect_to: settings.connect_to.as_deref(),
                    names: &held.domains,
                    leaf_der: &issued.leaf().der,
                    key_type: held.key_type,
                    roots: &roots,
                    now: OffsetDateTime::now_utc(),
                };
                self.cycle
                    .ports
                    .handshake(
                        &question,
                        until.saturating_duration_since(tokio::time::Instant::now()),
                    )
                    .await
            };
            // The new certificate takes a while to reach all of the load balancer; what cannot be seen mostly stays unseen.
            blind += u32::from(matches!(proven, Proven::CouldNotTell(_)));
            let again = match proven {
                Proven::Yes { .. } => false,
                Proven::Wrong(_) => true,
                Proven::CouldNotTell(_) => {
                    listener.internet_facing
                        && (settings.mode == CheckMode::Require || blind < LOOKS_WHEN_BLIND)
                }
            };
            if !again || tokio::time::Instant::now() + pause >= until {
                break proven;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        };
        let enough = Duration::from_secs(settings.seconds).min(LEAST_FOR_A_VERDICT);
        if patience < enough && !matches!(proven, Proven::Yes { .. }) {
            return Err(self.out_of_time("the proof"));
        }
        let mode = settings.mode;
        let now = crate::report::whole_seconds(self.cycle.clock.now());
        let record = self.state.target_mut(TargetKind::Listener, arn.as_str());
        record.checked_at = Some(now);
        let (proved, trusted, detail, verdict) = match proven {
            Proven::Yes { trusted } => {
                let detail = trusted
                    .as_ref()
                    .err()
                    .map(|why| format!("the served chain is not trusted: {why}"));
                (Some(true), Some(trusted.is_ok()), detail, Verdict::Passed)
            }
            Proven::Wrong(why) => (
                Some(false),
                None,
                Some(why.clone()),
                Verdict::NotProved(why),
            ),
            Proven::CouldNotTell(why) if mode == CheckMode::Require => {
                (None, None, Some(why.clone()), Verdict::NotProved(why))
            }
            Proven::CouldNotTell(why) => (None, None, Some(why), Verdict::Passed),
        };
        record.proved = proved;
        record.trusted = trusted;
        record.detail.clone_from(&detail);
        let step = match proved {
            Some(true) => "proved",
            Some(false) => "not proved",
            None => "proof could not tell",
        };
        self.note(
            step,
            detail.map_or_else(|| arn.to_string(), |detail| format!("{arn}: {detail}")),
        );
        Ok(verdict)
    }

    /// Takes ours off the listeners that the document does not name any more, and lets go of what stands in regions without
    /// targets. One listener that cannot be dealt with stops no other.
    async fn take_off_strays(&mut self, deployed: &mut Deployed) -> Result<(), Halt> {
        for id in stray_targets(&self.wanted, &self.state, &self.cycle.home) {
            let Ok(listener) = id.parse::<ListenerArn>() else {
                // An import nobody asks for any more is dealt with below, by region.
                self.state.targets.retain(|target| target.id != id);
                continue;
            };
            match self.take_off(&listener, deployed).await {
                Ok(()) => {
                    let record = self.state.target_mut(TargetKind::Listener, &id);
                    record.state = TargetState::Detached;
                    record.proved = None;
                    self.note("detached", id);
                }
                Err(error) => note_problem(deployed, error.problem("loadBalancer", &id).into()),
            }
        }
        // A region without targets keeps nothing of ours.
        let unused: Vec<String> = self
            .state
            .imports
            .keys()
            .filter(|region| !uses_region(&self.wanted, region, &self.cycle.home))
            .cloned()
            .collect();
        let now = self.cycle.clock.now();
        for region in unused {
            let undecided = self
                .state
                .imports
                .get(&region)
                .is_some_and(|import| import.importing.is_some());
            if undecided {
                self.gather_lost(&region, "", None).await?;
            }
            if let Some(import) = self.state.imports.get_mut(&region) {
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
        }
        Ok(())
    }

    /// Takes everything of ours off a listener, if it is still there.
    async fn take_off(
        &self,
        listener: &ListenerArn,
        deployed: &mut Deployed,
    ) -> Result<(), ServiceError> {
        let import = self.state.imports.get(listener.region());
        let ours: Vec<String> = import
            .into_iter()
            .flat_map(|import| {
                let old = import.superseded.iter().map(|old| &old.arn);
                import.arn.iter().chain(old).map(ToString::to_string)
            })
            .collect();
        let balancer = self.cycle.ports.load_balancer(listener.region());
        if balancer.listener(listener).await?.is_none() {
            return Ok(());
        }
        let held = balancer.certificates(listener).await?;
        for certificate in held.list.iter().filter(|held| ours.contains(held)) {
            balancer.remove(listener, certificate).await?;
            deployed.changed = true;
        }
        if let Some(default) = held.default.filter(|default| ours.contains(default)) {
            deployed.remarks.push(format!(
                "{default} stays the default of {listener}, since a listener must have one; set another default there before it expires"
            ));
        }
        Ok(())
    }

    /// Notes since when no target of ours holds a superseded certificate.
    async fn mark_detached(&mut self, region: &str) -> Result<(), Halt> {
        let pending: Vec<String> = match self.state.imports.get(region) {
            Some(import) => import
                .superseded
                .iter()
                .filter(|old| old.detached_at.is_none())
                .map(|old| old.arn.to_string())
                .collect(),
            None => return Ok(()),
        };
        if pending.is_empty() {
            return Ok(());
        }
        let mut held = Vec::new();
        for target in &self.state.targets {
            // What may have to come back is not let go of.
            held.extend(
                pending
                    .iter()
                    .filter(|old| target.standby.holds(old))
                    .cloned(),
            );
        }
        let listeners: Vec<ListenerArn> = self
            .wanted
            .targets
            .iter()
            .filter_map(|target| match target {
                Target::Listener { arn, .. } if arn.region() == region => Some(arn.clone()),
                _ => None,
            })
            .collect();
        for arn in listeners {
            match self
                .cycle
                .ports
                .load_balancer(region)
                .certificates(&arn)
                .await
            {
                Ok(holding) => held.extend(holding.list.into_iter().chain(holding.default)),
                // Could not tell: then it is not detached.
                Err(_) => return Ok(()),
            }
        }
        let now = self.cycle.clock.now();
        if let Some(import) = self.state.imports.get_mut(region) {
            for old in import
                .superseded
                .iter_mut()
                .filter(|old| old.detached_at.is_none())
            {
                if !held.iter().any(|arn| arn == old.arn.as_str()) {
                    old.detached_at = Some(now);
                }
            }
        }
        self.save().await
    }

    /// Deletes superseded certificates whose overlap is over and that nothing uses, after reading their tags again.
    async fn delete_superseded(&mut self, deployed: &mut Deployed) {
        let due: Vec<(String, CertificateArn)> = self
            .state
            .imports
            .iter()
            .flat_map(|(region, import)| import.superseded.iter().map(move |old| (region, old)))
            .filter(|(_, old)| self.cycle.may_delete(old))
            .map(|(region, old)| (region.clone(), old.arn.clone()))
            .collect();
        for (region, arn) in due {
            let gone = match self.delete_unused(&region, &arn).await {
                Ok(gone) => gone,
                Err(error) => {
                    let problem = error.problem("certificateManager", arn.as_str());
                    note_problem(deployed, problem.into());
                    continue;
                }
            };
            let now = self.cycle.clock.now();
            if let Some(import) = self.state.imports.get_mut(&region) {
                if gone {
                    import.superseded.retain(|old| old.arn != arn);
                }
                // Still in use, or the load balancer has not noticed yet: another overlap goes by before the next look.
                for old in import.superseded.iter_mut().filter(|old| old.arn == arn) {
                    old.detached_at = Some(now);
                }
            }
            if gone {
                self.note("deleted", arn.to_string());
            }
        }
        self.state.imports.retain(|_, import| {
            import.arn.is_some() || import.importing.is_some() || !import.superseded.is_empty()
        });
    }

    /// Deletes a certificate of ours that nothing uses; returns whether it is no concern of ours any more.
    async fn delete_unused(
        &self,
        region: &str,
        arn: &CertificateArn,
    ) -> Result<bool, ServiceError> {
        let manager = self.cycle.ports.certificate_manager(region);
        match manager.describe(arn).await? {
            None => return Ok(true),
            Some(described) if !described.in_use_by.is_empty() => return Ok(false),
            Some(_) => {}
        }
        let tags = manager.tags(arn).await?.unwrap_or_default();
        if !self.cycle.is_ours(&tags, &self.wanted.name) {
            return Ok(true);
        }
        Ok(manager.delete(arn).await? == Deletion::Done)
    }
}

/// Whether a listener is to be looked at: once a day, and again where the last look did not end as it must.
fn proof_is_due(mode: CheckMode, record: &TargetRecord, now: OffsetDateTime) -> bool {
    let proved = match mode {
        CheckMode::Off => return false,
        CheckMode::Warn => record.proved != Some(false),
        CheckMode::Require => record.proved == Some(true),
    };
    !proved || is_old(record.checked_at, now)
}

/// Whether the last look was a day ago, or is dated by a clock that was wrong.
fn is_old(checked_at: Option<OffsetDateTime>, now: OffsetDateTime) -> bool {
    checked_at.is_none_or(|at| now - at >= PROOF_AGE || at - now >= PROOF_AGE)
}

fn note_problem(deployed: &mut Deployed, failing: Failing) {
    deployed.problem.get_or_insert(failing.problem);
}

fn placing(
    wanted: &Wanted,
    state: &State,
    listener: &ListenerArn,
    placement: Placement,
    ours: CertificateArn,
) -> Placing {
    let old = state
        .imports
        .get(listener.region())
        .map(|import| {
            import
                .superseded
                .iter()
                .map(|old| old.arn.to_string())
                .filter(|old| *old != ours.as_str())
                .collect()
        })
        .unwrap_or_default();
    let supersedes = wanted.supersedes.iter().map(ToString::to_string).collect();
    Placing {
        placement,
        ours,
        old,
        supersedes,
    }
}

fn target_region<'t>(target: &'t Target, home: &'t str) -> &'t str {
    match target {
        Target::Listener { arn, .. } => arn.region(),
        Target::CertificateManager { region } => region.as_deref().unwrap_or(home),
    }
}

fn uses_region(wanted: &Wanted, region: &str, home: &str) -> bool {
    wanted
        .targets
        .iter()
        .any(|target| target_region(target, home) == region)
}

fn regions(wanted: &Wanted, home: &str) -> Vec<String> {
    let mut regions: Vec<String> = wanted
        .targets
        .iter()
        .map(|target| target_region(target, home).to_owned())
        .collect();
    regions.sort();
    regions.dedup();
    regions
}

/// Returns the ids of targets that hold ours although the document does not name them any more.
fn stray_targets(wanted: &Wanted, state: &State, home: &str) -> Vec<String> {
    let named: Vec<String> = wanted
        .targets
        .iter()
        .map(|target| target_id(target, home).1)
        .collect();
    state
        .targets
        .iter()
        .filter(|target| target.state != TargetState::Detached && !named.contains(&target.id))
        .map(|target| target.id.clone())
        .collect()
}

/// A proof is made anew after this time.
const PROOF_AGE: time::Duration = time::Duration::hours(24);
/// A proof that was given less time than this says nothing against the certificate.
const LEAST_FOR_A_VERDICT: Duration = Duration::from_secs(15);
/// How often a listener is looked at that cannot be seen, where the mode lets that pass.
const LOOKS_WHEN_BLIND: u32 = 2;
/// `CertificateNotFound` and `UnsupportedCertificate` are waited out this long after an import.
const BECOMES_KNOWN: Duration = Duration::from_secs(120);
const BECOMES_LISTED: Duration = Duration::from_secs(60);
const LISTING_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const LEAST: Duration = Duration::from_secs(2);
/// A switch is not begun with less than this left.
const LEAST_TO_SWITCH: Duration = Duration::from_secs(5);
