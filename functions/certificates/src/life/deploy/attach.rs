//! Putting a certificate on one listener, and taking it back if the proof fails (rule 3).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use time::OffsetDateTime;

use crate::contract::certificate::Wanted;
use crate::contract::report::{TargetKind, TargetState};
use crate::contract::settings::CheckMode;
use crate::contract::target::{Placement, Target};
use crate::life::deploy::import::Issued;
use crate::life::deploy::prove::Verdict;
use crate::life::work::Work;
use crate::pass::contention::MayNot;
use crate::pass::halt::Halt;
use crate::ports::Ports;
use crate::ports::certificate_manager::CertificateManager;
use crate::ports::load_balancer::{AttachError, Holding, LoadBalancer};
use crate::records::deployment::Standby;
use crate::records::state::State;
use crate::rules::listener::{self, Change, Wish, listener_gone, not_https};
use crate::rules::takeover;
use crate::rules::targets::Deployed;
use crate::values::arn::{CertificateArn, ListenerArn};
use crate::values::chain::{Chain, Leaf};
use crate::values::problem::{Problem, ServiceError};
use crate::values::problem_types::Ours;

/// What is to be attached where, and what it takes over from.
pub(crate) struct Placing {
    placement: Placement,
    ours: CertificateArn,
    /// Ours that it takes over from.
    old: Vec<String>,
    /// Others' that it takes over from: those that the document supersedes, and what was ours
    /// until it lost its tags.
    supersedes: Vec<String>,
}

impl Placing {
    pub(crate) fn wish(&self) -> Wish<'_> {
        Wish {
            ours: self.ours.as_str(),
            placement: self.placement,
            old: &self.old,
            supersedes: &self.supersedes,
        }
    }
}

impl Placing {
    /// A default of others that came there since is not replaced for a document's former word.
    pub(crate) fn leaves_others_default(&mut self, holding: &Holding) {
        let is_ours =
            |default: &String| *default == *self.ours.as_str() || self.old.contains(default);
        if holding
            .default
            .as_ref()
            .is_some_and(|default| !is_ours(default))
        {
            self.placement = Placement::Sni;
        }
    }
}

/// Whether a document itself says that its certificate is the default of a listener.
pub(crate) fn says_default(
    document: &Wanted,
    state: &State,
    listener: &ListenerArn,
    home: &str,
) -> bool {
    let is_it = |target: &&Target| target.id(state, home) == listener.as_str();
    let target = document.targets.iter().find(is_it);
    target.is_some_and(Target::wants_default)
}

/// What becomes of a default whose place ours takes.
struct Displaced {
    /// It moves to the certificate list: others may need it. Not if it is self-signed, expired, superseded or wholly
    /// covered by ours.
    keep: bool,
    /// It comes back if ours is not proved. Not if it is self-signed or expired.
    restore: bool,
}

/// What came of one change of a listener.
enum Applied {
    Done,
    /// A removal that the load balancer does not allow as things are.
    Refused,
}

impl<P: Ports> Work<'_, '_, P> {
    /// Puts the certificate on one listener; returns whether the proof let it pass.
    pub(crate) async fn place_on(
        &mut self,
        arn: &ListenerArn,
        placement: Placement,
        ours: &CertificateArn,
        issued: &Issued,
        changed_in_place: bool,
        deployed: &mut Deployed,
    ) -> Result<bool, Halt> {
        self.grant("switching a listener", LEAST_TO_SWITCH, LEAST_TO_SWITCH)?;
        let balancer = self.cycle.ports.load_balancer(arn.region());
        let failed =
            |error: ServiceError| Halt::from(error.problem(Ours::LoadBalancer, arn.as_str()));
        let found = balancer.listener(arn).await.map_err(failed)?;
        let listener = found.ok_or_else(|| listener_gone(arn))?;
        if listener.protocol != "HTTPS" {
            return Err(not_https(arn, &listener).into());
        }
        let before = balancer.certificates(arn).await.map_err(failed)?;
        self.cycle.note_holding(arn, &before);
        let record = self.state.target_mut(TargetKind::Listener, arn.as_str());
        // What was taken off for a switch that is not finished may still come back.
        let may_come_back = |held: &CertificateArn| record.standby.holds(held.as_str());
        if record
            .certificate_arn
            .as_ref()
            .is_some_and(|held| !before.has(held.as_str()) && !may_come_back(held))
        {
            // Somebody took it off: it is not served there any more.
            record.took_off();
        }
        let held = record.certificate_arn.as_ref().map(CertificateArn::as_str);
        if before.default.as_deref() != held && before.default.as_deref() != Some(ours.as_str()) {
            // Another one is the default by now.
            record.default_since = None;
        }
        if !before.has(ours.as_str())
            && let Some(problem) = self.serves_nobody()
        {
            return Err(problem.into());
        }
        if let Some(problem) = self.shadows(arn, &before, ours, issued.leaf()).await {
            return Err(problem.into());
        }
        let now = self.cycle.clock.now();
        let mut placing = placing(
            &self.in_force,
            &self.state,
            arn,
            placement,
            ours.clone(),
            now,
        );
        if !says_default(&self.wanted, &self.state, arn, &self.cycle.home) {
            placing.leaves_others_default(&before);
        }
        let mut stays = self
            .what_stays(arn.region(), &before, &placing, issued.leaf())
            .await;
        placing
            .supersedes
            .retain(|theirs| !stays.contains_key(theirs));
        placing.old.retain(|old| !stays.contains_key(old));
        let displaced = self
            .displaced(arn.region(), &before, &placing, issued.leaf())
            .await;
        if let Some(default) = before.default.as_ref().filter(|_| displaced.keep)
            && self.lacks_names(issued.leaf())
        {
            // What lacks names does not displace a default that may serve them.
            let detail = format!(
                "{default} stays the default of {arn} until the certificate holds all names of the document"
            );
            stays.insert(default.clone(), Problem::ours(Ours::Supersedes, detail));
            placing.placement = Placement::Sni;
        }
        let mut changes = listener::establish(&before, &placing.wish(), displaced.keep);
        let replaces = |change: &Change| matches!(change, Change::SetDefault(_));
        let mut refused = None;
        if let Some(default) = &before.default
            && changes.iter().any(replaces)
            && !placing.old.contains(default)
            && let Err(why_not) = (self.cycle)
                .may_displace(&self.wanted, &self.state, arn, default)
                .await
        {
            // Its names are served all the same, to those who say them.
            match why_not {
                MayNot::Contended(problem) => return Err(problem.into()),
                MayNot::Stays(problem) => refused = Some(problem),
            }
            placing.placement = Placement::Sni;
            changes = listener::establish(&before, &placing.wish(), displaced.keep);
        }
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
        self.cycle.note_holding(arn, &now_held);
        // Ours is there now: only from here on is anything taken off.
        let mut stuck = BTreeSet::new();
        for removal in listener::clear(&now_held, &placing.wish()) {
            match (self.apply(&balancer, arn, &removal).await?, removal) {
                (Applied::Refused, Change::Remove(certificate)) => {
                    stuck.insert(certificate);
                }
                (_, removal) => {
                    if let Change::Remove(certificate) = &removal {
                        self.state.note_removal(arn.region(), certificate);
                    }
                    changes.push(removal);
                }
            }
        }
        let unproved = self
            .state
            .deployment_failure
            .as_ref()
            .is_some_and(|failure| failure.problem.kind == "certloop:unproved");
        let clock = self.cycle.clock.now();
        let record = self.state.target_mut(TargetKind::Listener, arn.as_str());
        let previously = (record.certificate_arn.clone(), record.serial.clone());
        let now = (Some(ours.clone()), Some(issued.leaf().serial.clone()));
        // Also after a stop between a change and its proof.
        let touched = !changes.is_empty()
            || changed_in_place
            || !record.standby.is_empty()
            || previously != now;
        // A change that an earlier pass could not tell of is told by the one that sees it through.
        let unseen =
            record.checked_at.is_none() && self.cycle.settings.proof.mode != CheckMode::Off;
        deployed.changed |= touched || unseen;
        record.stuck = stuck;
        record.stays_seen_at =
            (!stays.is_empty()).then(|| crate::values::instant::whole_seconds(clock));
        record.stays = stays;
        if !record.holds_ours() {
            (record.since, record.default_since) =
                (Some(crate::values::instant::whole_seconds(clock)), None);
        }
        let is_default = now_held.default.as_deref() == Some(ours.as_str());
        record.default_since = is_default.then(|| {
            (record.default_since).unwrap_or_else(|| crate::values::instant::whole_seconds(clock))
        });
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
            self.not_proved(&balancer, arn, issued, (ours, previously), why, deployed)
                .await?;
            return Ok(false);
        }
        let record = self.state.target_mut(TargetKind::Listener, arn.as_str());
        record.standby = Standby::default();
        record.undone = None;
        // What had not come off has now, even if there was nothing left to change.
        deployed.changed |= unproved;
        if record.trusted == Some(false)
            && let Some(why) = &record.detail
        {
            deployed.remarks.push(why.clone());
        }
        if let Some(problem) = refused {
            deployed.note(problem);
        }
        if let Some(default) = listener::stays_as_default(&now_held, &placing.wish()) {
            deployed.remarks.push(format!(
                "{default} is superseded but stays the default of {arn}; whoever made it default has to choose another, or set \"as\": \"default\" here"
            ));
        }
        Ok(true)
    }

    /// After a proof that failed: what was there before comes back, once for one leaf, and only
    /// what lasts until a person has had time to look. Else ours stays, and a person is needed.
    async fn not_proved(
        &mut self,
        balancer: &P::LoadBalancer,
        arn: &ListenerArn,
        issued: &Issued,
        (ours, previously): (&CertificateArn, (Option<CertificateArn>, Option<String>)),
        why: String,
        deployed: &mut Deployed,
    ) -> Result<(), Halt> {
        let serial = issued.leaf().serial.clone();
        let ends_soon = self.those_that_end_soon(arn).await;
        let revoked = self.state.replaces_revoked();
        let record = self.state.target_mut(TargetKind::Listener, arn.as_str());
        // What is about to end is never served again.
        record.standby.list.retain(|arn| !ends_soon.contains(arn));
        (record.standby.default).take_if(|default| ends_soon.contains(default));
        let was_undone = record.undone.as_ref() == Some(&serial);
        if revoked || was_undone {
            record.standby = Standby::default();
        }
        let comes_back = !record.standby.is_empty();
        if comes_back {
            record.undone = Some(serial);
            // Also tells whether somebody else has the lease by now.
            self.save().await?;
        }
        let held = self.put_back(balancer, arn, ours).await?;
        let detail = format!("{arn}: {why}");
        let record = self.state.target_mut(TargetKind::Listener, arn.as_str());
        if !held.has(ours.as_str()) {
            record.state = TargetState::Failed;
            (record.certificate_arn, record.serial) = previously;
        }
        let stands = record.certificate_arn.as_ref().map(CertificateArn::as_str);
        if held.default.as_deref() != stands {
            record.default_since = None;
        }
        record.detail = Some(detail.clone());
        deployed.note(Problem::ours(Ours::Unproved, detail));
        if was_undone {
            deployed.stays_unproved();
        }
        Ok(())
    }

    /// Returns which of those that stand by for a listener end before a person has had time to
    /// look, as the certificate manager holds them. Of one that cannot be read the record decides,
    /// where it is ours; one of others comes back.
    async fn those_that_end_soon(&self, listener: &ListenerArn) -> BTreeSet<String> {
        let region = listener.region();
        let import = self.state.imports.get(region);
        let superseded = import.into_iter().flat_map(|import| &import.superseded);
        let ours: BTreeSet<&str> = superseded.map(|old| old.arn.as_str()).collect();
        let record = self.state.target(listener.as_str());
        let mut ends_soon = BTreeSet::new();
        for stood in record.into_iter().flat_map(|it| it.standby.all()) {
            let lasts = match self.leaf_under(region, stood).await {
                Some(leaf) => {
                    self.state
                        .outlasts_attempts(leaf.not_after, self.cycle.clock.now())
                        && self.state.revoked_at(&leaf.serial).is_none()
                }
                None if ours.contains(stood) => {
                    (self.state.previous.as_deref()).is_some_and(|previous| {
                        self.state
                            .lasts_long_enough(previous, self.cycle.clock.now())
                    })
                }
                None => true,
            };
            if !lasts {
                ends_soon.insert(stood.to_owned());
            }
        }
        ends_soon
    }

    /// Whether a leaf lacks names that the document wants (`partial`).
    fn lacks_names(&self, leaf: &Leaf) -> bool {
        let mut names = self.state.names_in_force(&self.in_force).iter();
        names.any(|name| !leaf.names.iter().any(|held| held.covers(name)))
    }

    /// Returns which of the certificates that ours would take over from stay on a listener, each
    /// with why: what carries our tags, what cannot be read, and what visitors would lose.
    async fn what_stays(
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
            let leaf = self.leaf_under(region, old).await;
            if let (Some(leaf), Ok(arn)) = (leaf, old.parse())
                && let Some(problem) = self.loses_by(&arn, &leaf, ours)
            {
                stays.insert(old.clone(), problem);
            }
        }
        stays
    }

    /// Why a certificate that the public does not trust is not put on a listener: another one
    /// there, which it may trust, serves a name of it, and visitors might get this one instead.
    async fn shadows(
        &self,
        listener: &ListenerArn,
        holding: &Holding,
        arn: &CertificateArn,
        ours: &Leaf,
    ) -> Option<Problem> {
        let held = self.state.certificate.as_ref()?;
        if !self.cycle.judge().is_distrusted(held) || holding.has(arn.as_str()) {
            return None;
        }
        let region = listener.region();
        let import = self.state.imports.get(region);
        let own: BTreeSet<&str> = import
            .into_iter()
            .flat_map(|import| &import.superseded)
            .map(|old| old.arn.as_str())
            .collect();
        let now = self.cycle.clock.now();
        let others = holding.list.iter().chain(&holding.default);
        for other in others.filter(|other| !own.contains(other.as_str())) {
            let Some(leaf) = self.leaf_under(region, other).await else {
                continue;
            };
            if let Some(name) = takeover::shared_name(&leaf, ours, now) {
                let detail = format!(
                    "{} of {} is trusted by no public root, and {other} serves {name} on {listener}: \
                     nothing is changed there; name another authority in the document, or set \
                     authorities.{}.private to true if only machines of your own are to trust it",
                    held.serial, held.directory, held.authority
                );
                return Some(Problem::ours(Ours::Untrusted, detail));
            }
        }
        None
    }

    async fn why_it_stays(&self, region: &str, theirs: &str, ours: &Leaf) -> Option<Problem> {
        if let Ok(arn) = theirs.parse()
            && let Err(problem) = self.cycle.may_supersede(&self.in_force, &arn).await
        {
            return Some(problem);
        }
        let stays = |why: String| Some(Problem::ours(Ours::Supersedes, why));
        let Some(leaf) = self.leaf_under(region, theirs).await else {
            return stays(format!(
                "{theirs} stays on the listener: it cannot be read, so nobody knows whom it serves; \
                 take it off by hand if it serves nobody"
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
                    "{names}, if they speak {kind} alone, as its key does and ours does not; have a document with a \
                 key type of that kind as well, or take it off by hand"
                ),
                (false, None) => {
                    format!("{names}: its key is of a kind that certloop does not know")
                }
            },
        )
    }

    /// Returns a leaf as the certificate manager holds it; `None` where it cannot be read.
    async fn leaf_under(&self, region: &str, arn: &str) -> Option<Leaf> {
        let arn = arn.parse::<CertificateArn>().ok()?;
        let manager = self.cycle.ports.certificate_manager(region);
        let pem = manager.leaf_pem(&arn).await.ok()??;
        Some(Chain::parse(&pem).ok()?.leaf().clone())
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

    async fn apply(
        &self,
        balancer: &P::LoadBalancer,
        arn: &ListenerArn,
        change: &Change,
    ) -> Result<Applied, Halt> {
        let certificate = match change {
            Change::Remove(certificate) => {
                return match balancer.remove(arn, certificate).await {
                    Ok(()) => Ok(Applied::Done),
                    // It is the default as well, and goes only when somebody sets another.
                    Err(error) if error.code.as_deref() == Some("OperationNotPermitted") => {
                        Ok(Applied::Refused)
                    }
                    Err(error) => Err(error.problem(Ours::LoadBalancer, arn.as_str()).into()),
                };
            }
            Change::Add(certificate) | Change::SetDefault(certificate) => certificate,
        };
        let attach = async || match change {
            Change::SetDefault(_) => balancer.set_default(arn, certificate).await,
            _ => balancer.add(arn, certificate).await,
        };
        match self.until_known(attach).await? {
            Ok(()) => Ok(Applied::Done),
            Err(AttachError::Full(error)) => {
                self.cycle.note_full(arn);
                Err(Problem::ours(
                Ours::ListenerFull,
                format!("{arn} has no room for {certificate} ({error}); nothing was taken off for it: raise the listener's certificate quota or take one off"),
                )
                .into())
            }
            Err(AttachError::NotYetKnown(error) | AttachError::Service(error)) => Err(error
                .problem(Ours::LoadBalancer, &format!("{certificate} on {arn}"))
                .into()),
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
                .map_err(|error| error.problem(Ours::LoadBalancer, arn.as_str()))?;
            if listener::establish(&held, &placing.wish(), false).is_empty() {
                return Ok(held);
            }
            if tokio::time::Instant::now() + LISTING_PAUSE >= until {
                let detail = format!(
                    "{arn} does not list {} although it was accepted; nothing was taken off",
                    placing.ours
                );
                return Err(Problem::ours(Ours::NotListed, detail).into());
            }
            tokio::time::sleep(LISTING_PAUSE).await;
        }
    }

    /// Puts back what a switch that was not finished took off, of others: ours goes as well.
    pub(crate) async fn give_back(
        &mut self,
        arn: &ListenerArn,
        ours: &[String],
    ) -> Result<(), Halt> {
        let region = arn.region();
        let record = self.state.target_mut(TargetKind::Listener, arn.as_str());
        record.standby.list.retain(|stood| !ours.contains(stood));
        (record.standby.default).take_if(|stood| ours.contains(stood));
        if record.standby.is_empty() {
            return Ok(());
        }
        let import = self.state.imports.get(region);
        let Some(current) = import.and_then(|import| import.arn.clone()) else {
            return Ok(());
        };
        let balancer = self.cycle.ports.load_balancer(region);
        self.put_back(&balancer, arn, &current).await?;
        Ok(())
    }

    /// After a proof that failed: what was taken off is put back, so that what was served is served. Returns what the
    /// listener holds then.
    async fn put_back(
        &mut self,
        balancer: &P::LoadBalancer,
        arn: &ListenerArn,
        ours: &CertificateArn,
    ) -> Result<Holding, Halt> {
        let failed =
            |error: ServiceError| Halt::from(error.problem(Ours::LoadBalancer, arn.as_str()));
        let mut held = balancer.certificates(arn).await.map_err(failed)?;
        let record = self.state.target_mut(TargetKind::Listener, arn.as_str());
        let standby = record.standby.clone();
        let missing = standby.list.into_iter();
        let missing = missing.filter(|was| !held.list.contains(was));
        let mut changes: Vec<Change> = missing.map(Change::Add).collect();
        // Somebody else may have chosen another default since: that one stays.
        let is_ours = held.default.as_deref() == Some(ours.as_str());
        if let Some(default) = standby.default.filter(|_| is_ours) {
            changes.push(Change::SetDefault(default));
        }
        for change in &changes {
            if let Change::SetDefault(back) | Change::Add(back) = change {
                self.put_back.insert(back.clone());
            }
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
}

/// Returns what this document wants of a listener. A certificate of ours that has ended or was
/// revoked takes nobody's place.
pub(crate) fn placing(
    wanted: &Wanted,
    state: &State,
    listener: &ListenerArn,
    placement: Placement,
    ours: CertificateArn,
    now: OffsetDateTime,
) -> Placing {
    let held = state.certificate.as_ref();
    let has_ended = held.is_some_and(|held| held.not_after <= now || held.revoked_at.is_some());
    let old = (state.imports.get(listener.region()).into_iter())
        .flat_map(|import| &import.superseded)
        .map(|old| old.arn.to_string())
        .filter(|old| *old != ours.as_str() && !has_ended)
        .collect();
    let untagged = state.imports.get(listener.region());
    let untagged = untagged.into_iter().flat_map(|import| &import.untagged);
    let supersedes = (wanted.supersedes.iter())
        .chain(untagged.map(|lost| &lost.arn))
        .filter(|_| !has_ended);
    let supersedes = supersedes.map(ToString::to_string).collect();
    Placing {
        placement: match has_ended {
            true => Placement::Sni,
            false => placement,
        },
        ours,
        old,
        supersedes,
    }
}

const BECOMES_LISTED: Duration = Duration::from_secs(60);
const LISTING_PAUSE: Duration = Duration::from_secs(1);
const LEAST: Duration = Duration::from_secs(2);
/// A switch is not begun with less than this left.
const LEAST_TO_SWITCH: Duration = Duration::from_secs(5);
