//! Brings the certificate of the vault into the certificate manager of a region (rule 4).
//!
//! The same ARN where the certificate manager allows it, else a new one. An answer or a state may
//! be lost, and an ARN with it. That ARN is found again before another certificate is imported.

use std::collections::BTreeSet;
use std::time::Duration;

use time::OffsetDateTime;

use crate::life::deploy::issued::Issued;
use crate::life::work::Work;
use crate::pass::patience::within;
use crate::pass::stop::Stop;
use crate::ports::Ports;
use crate::ports::certificate_manager::{CertificateManager, Listed, Material};
use crate::records::deployment::{Import, Importing, Superseded, Untagged};
use crate::rules::takeover;
use crate::values::arn::CertificateArn;
use crate::values::chain::{Chain, Leaf, may_reimport, same_serial};
use crate::values::instant::{rfc3339, whole_seconds};
use crate::values::lifetime;
use crate::values::problem::{Problem, ServiceError};
use crate::values::problem_types::{ProblemType, Retry};

/// How the certificate manager came to hold a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Imported {
    /// It held the certificate already.
    Before,
    /// As a new certificate.
    New,
    /// Over another certificate.
    Over,
    /// Not at all: it holds a newer certificate of ours, which no record knows.
    Newer(Box<Leaf>),
}

/// A region as it is before an import.
pub(super) struct Region<'r> {
    pub(super) name: &'r str,
    /// Whether services that certloop does not know follow the ARN there, so that it must not
    /// change.
    pub(super) is_followed_by_others: bool,
    /// Whether another certificate of ours, which no record knows, may hold the place of this one.
    pub(super) has_lost_a_place: bool,
}

/// A certificate in the certificate manager of a region, on its way to its places.
pub(super) struct Arrived<'i> {
    pub(super) arn: CertificateArn,
    pub(super) how: Imported,
    pub(super) issued: &'i Issued,
}

/// The result of an import over an ARN.
enum Over {
    /// The ARN holds the wanted certificate, or a newer one.
    Stands(Imported),
    /// The ARN holds nothing of ours any more: look for other certificates of ours.
    Lost,
    /// A new ARN is needed; `urgent`: to replace a certificate that is about to end.
    Refused { urgent: bool },
}

/// A certificate of ours that a region's list shows and no record names.
struct Stray {
    /// Whether it is the current certificate, or a newer one.
    is_right: bool,
    imported_at: Option<OffsetDateTime>,
    arn: CertificateArn,
    /// The serial that it holds.
    holds: String,
}

/// What is known about the certificate under an ARN.
enum UnderArn {
    Gone,
    NotOurs,
    Right,
    Other(Box<Leaf>),
}

impl<P: Ports> Work<'_, '_, P> {
    /// Makes the certificate manager of a region hold this certificate; returns its ARN.
    pub(super) async fn import(
        &mut self,
        region: &Region<'_>,
        issued: &Issued,
    ) -> Result<(CertificateArn, Imported), Stop> {
        let recorded = self.state.deployment.imports.get(region.name);
        let recorded = recorded.and_then(|import| import.serial.clone());
        let mut gathered = false;
        let urgent = loop {
            let record = self.state.deployment.imports.get(region.name);
            let record = record.cloned().unwrap_or_default();
            // The answer of an earlier import may be lost. Find out what it did before importing
            // again.
            let is_in_doubt =
                record.arn.is_none() || record.importing.is_some() || region.has_lost_a_place;
            if !gathered && is_in_doubt {
                gathered = true;
                self.gather_lost(region.name, issued.leaf(), None).await?;
                continue;
            }
            let Some(arn) = record.arn else {
                break false;
            };
            let over = self.import_over(region, &arn, issued, recorded.as_deref());
            match over.await? {
                Over::Stands(how) => return Ok((arn, how)),
                Over::Lost => {}
                Over::Refused { urgent } => break urgent,
            }
        };
        if let Some(problem) = self.serves_nobody() {
            return Err(problem.into());
        }
        if let Some(revived) = self.revive(region.name, issued).await? {
            return Ok(revived);
        }
        let arn = self.import_new(region.name, issued, urgent).await?;
        Ok((arn, Imported::New))
    }

    /// Makes the ARN of a region's record hold this certificate, where possible.
    ///
    /// `recorded`: the serial of that record before anything was read.
    async fn import_over(
        &mut self,
        region: &Region<'_>,
        arn: &CertificateArn,
        issued: &Issued,
        recorded: Option<&str>,
    ) -> Result<Over, Stop> {
        let serial = &issued.leaf().serial;
        let record = self.state.deployment.imports.get(region.name);
        let held = record.and_then(|import| import.serial.clone());
        match self.standing(region.name, arn, serial).await? {
            UnderArn::Right => {
                self.adopt(region.name, arn.clone(), serial);
                let is_recorded = held.is_none_or(|recorded| same_serial(&recorded, serial));
                Ok(Over::Stands(match is_recorded {
                    true => Imported::Before,
                    false => Imported::Over,
                }))
            }
            UnderArn::Other(old) if self.is_newer(&old, issued.leaf(), recorded) => {
                Ok(Over::Stands(Imported::Newer(old)))
            }
            UnderArn::Other(old) => {
                if let Some(problem) = self.loses_by(arn, &old, issued.leaf()) {
                    return Err(problem.into());
                }
                let now = self.cycle.clock.now();
                let urgent = lifetime::urgent(old.not_before, old.not_after, now);
                let refused = self.import_in_place(region.name, arn, &old, issued);
                let Some(why) = refused.await? else {
                    return Ok(Over::Stands(Imported::Over));
                };
                if region.is_followed_by_others {
                    return Err(arn_would_change(arn, &why));
                }
                self.note("new ARN needed", why);
                Ok(Over::Refused { urgent })
            }
            UnderArn::Gone => {
                self.note("ARN lost", format!("{arn} does not exist any more"));
                self.forget(region.name);
                Ok(Over::Lost)
            }
            UnderArn::NotOurs => {
                let why = "it does not carry our tags any more and is left alone";
                self.note("ARN lost", format!("{arn}: {why}"));
                if region.is_followed_by_others {
                    return Err(arn_would_change(arn, why));
                }
                self.forget(region.name);
                self.note_untagged(region.name, arn.clone(), held);
                Ok(Over::Lost)
            }
        }
    }

    /// Uses a superseded certificate of ours again where it can hold this one: a change that was
    /// undone needs no third ARN.
    async fn revive(
        &mut self,
        region: &str,
        issued: &Issued,
    ) -> Result<Option<(CertificateArn, Imported)>, Stop> {
        let record = self
            .state
            .deployment
            .imports
            .get(region)
            .cloned()
            .unwrap_or_default();
        let recorded = record.serial.as_deref();
        for Superseded { arn, .. } in record.superseded {
            let serial = &issued.leaf().serial;
            match self.standing(region, &arn, serial).await? {
                // An earlier pass revived it and stopped before it could record that.
                UnderArn::Right => {
                    self.adopt(region, arn.clone(), serial);
                    self.save().await?;
                    return Ok(Some((arn, Imported::Over)));
                }
                UnderArn::Other(old) if self.is_newer(&old, issued.leaf(), recorded) => {
                    return Ok(Some((arn, Imported::Newer(old))));
                }
                UnderArn::Other(old) if self.loses_by(&arn, &old, issued.leaf()).is_none() => {
                    let refused = self.import_in_place(region, &arn, &old, issued).await?;
                    if refused.is_none() {
                        return Ok(Some((arn, Imported::Over)));
                    }
                }
                UnderArn::Other(_) | UnderArn::Gone | UnderArn::NotOurs => {}
            }
        }
        Ok(None)
    }

    /// Whether the certificate that the certificate manager holds under our tags is newer than the
    /// vault's, and no record knows it: then the bucket is an older copy. Such a certificate is
    /// neither overwritten nor released: where the document wants other names, a new order follows.
    /// `recorded`: the serial of the region's record.
    fn is_newer(&self, theirs: &Leaf, ours: &Leaf, recorded: Option<&str>) -> bool {
        let serial = &theirs.serial;
        let is_known = self.state.held(serial).is_some()
            || recorded == Some(serial)
            || (self.state.deployment.imports.values())
                .any(|import| import.replaced.as_ref() == Some(serial));
        !is_known && !takeover::may_follow(ours, theirs, self.cycle.clock.now())
    }

    /// Why the current certificate is deployed nowhere: it was revoked, or has ended.
    pub(crate) fn serves_nobody(&self) -> Option<Problem> {
        let held = self.state.certificate.as_ref()?;
        let serial = &held.serial;
        let stays = "so it is deployed nowhere: what is there stays until a new one is issued";
        if let Some(at) = held.revoked_at {
            let detail = format!("{serial} was revoked at {}, {stays}", rfc3339(at));
            return Some(Problem::ours(ProblemType::Revoked, detail));
        }
        let has_ended = held.not_after <= self.cycle.clock.now();
        has_ended.then(|| {
            let detail = format!("{serial} ended at {}, {stays}", rfc3339(held.not_after));
            Problem::ours(ProblemType::Supersedes, detail)
        })
    }

    /// Why one of ours is not replaced (rule 12): the new one serves nobody, or it lacks names that
    /// the document wants and that the old one serves, for longer than its last tenth.
    ///
    /// A person who goes back to an earlier certificate has decided that already.
    pub(crate) fn loses_by(&self, arn: &CertificateArn, old: &Leaf, new: &Leaf) -> Option<Problem> {
        let now = self.cycle.clock.now();
        let is_valid = !old.self_signed
            && old.not_before <= now
            && now < old.not_after
            && self.state.revoked_at(&old.serial).is_none();
        let went_back = (self.state.previous.rolled_back.as_ref())
            .is_some_and(|back| same_serial(&back.from, &old.serial));
        if !is_valid || went_back {
            return None;
        }
        if let Some(problem) = self.serves_nobody() {
            return Some(problem);
        }
        if old.not_after - now <= (old.not_after - old.not_before) / 10 {
            return None;
        }
        let lost = takeover::lost_of_ours(old, new, &self.wanted.domains, self.wanted.key_type);
        let ends = rfc3339(old.not_after);
        (!lost.is_empty()).then(|| {
            let detail = format!(
                "{arn} keeps {}, which serves {} until {ends}: {}, which should replace it, \
                 does not serve that with the key type {}; a new certificate is ordered",
                old.serial,
                lost.join(", "),
                new.serial,
                self.wanted.key_type
            );
            Problem::ours(ProblemType::Supersedes, detail)
        })
    }

    /// Remembers a certificate that we imported and that lost its tags, so that we can report it.
    fn note_untagged(&mut self, region: &str, arn: CertificateArn, serial: Option<String>) {
        let Some(serial) = serial else {
            return;
        };
        let import = self
            .state
            .deployment
            .imports
            .entry(region.to_owned())
            .or_default();
        import.superseded.retain(|old| old.arn != arn);
        import.untagged.retain(|known| known.arn != arn);
        import.untagged.push(Untagged { arn, serial });
    }

    /// Counts an import before it is made, since the certificate manager has a yearly quota. It is
    /// made in any case if it replaces a certificate that is about to end or that the authority
    /// wanted replaced at once: whether an import over another counts is not documented.
    async fn count_import(&self, region: &str, urgent: bool) -> Result<(), Stop> {
        match self.cycle.ledgers.reserve_import(region, urgent).await? {
            Ok(()) => Ok(()),
            Err(blocked) => Err(blocked.problem().into()),
        }
    }

    /// Takes back the count of an import that certainly did not happen.
    async fn uncount_import(&self, region: &str, error: &ServiceError) {
        if !error.may_have_happened() {
            self.cycle.ledgers.refund_import(region).await;
        }
    }

    fn forget(&mut self, region: &str) {
        if let Some(import) = self.state.deployment.imports.get_mut(region) {
            import.arn = None;
            import.serial = None;
        }
    }

    /// Records the ARN that holds the serial; an ARN recorded before is superseded.
    fn adopt(&mut self, region: &str, arn: CertificateArn, serial: &str) {
        let import = self
            .state
            .deployment
            .imports
            .entry(region.to_owned())
            .or_default();
        import.superseded.retain(|old| old.arn != arn);
        if let Some(old) = import.arn.replace(arn.clone()).filter(|old| *old != arn) {
            import.superseded.push(Superseded {
                arn: old,
                detached_at: None,
            });
            import.replaced = None;
        }
        import.serial = Some(serial.to_owned());
        import.importing = None;
        import
            .replaced
            .take_if(|replaced| same_serial(replaced, serial));
        if let Some(held) = &mut self.state.certificate
            && same_serial(&held.serial, serial)
        {
            held.refused_at = None;
        }
    }

    async fn standing(
        &self,
        region: &str,
        arn: &CertificateArn,
        serial: &str,
    ) -> Result<UnderArn, Stop> {
        let manager = self.cycle.ports.certificate_manager(region);
        let failed = |error: ServiceError| {
            Stop::from(error.problem(ProblemType::CertificateManager, arn.as_str()))
        };
        let Some(described) = manager.describe(arn).await.map_err(failed)? else {
            return Ok(UnderArn::Gone);
        };
        if described
            .serial
            .is_some_and(|held| same_serial(&held, serial))
        {
            return Ok(UnderArn::Right);
        }
        let Some(tags) = manager.tags(arn).await.map_err(failed)? else {
            return Ok(UnderArn::Gone);
        };
        if !self.cycle.is_ours(&tags, &self.wanted.name) {
            return Ok(UnderArn::NotOurs);
        }
        let Some(pem) = manager.leaf_pem(arn).await.map_err(failed)? else {
            return Ok(UnderArn::Gone);
        };
        let chain = Chain::parse(&pem).map_err(|error| {
            Problem::ours(
                ProblemType::CertificateManager,
                format!("{arn} holds a certificate that cannot be read: {error}"),
            )
        })?;
        Ok(UnderArn::Other(Box::new(chain.leaf().clone())))
    }

    /// Imports again under the same ARN; returns why that is not allowed, or `None`.
    async fn import_in_place(
        &mut self,
        region: &str,
        arn: &CertificateArn,
        old: &Leaf,
        issued: &Issued,
    ) -> Result<Option<String>, Stop> {
        if let Err(why) = may_reimport(old, issued.leaf()) {
            return Ok(Some(why));
        }
        let material = material(issued)?;
        let left = self.time_for("importing", LEAST, LONGEST)?;
        // The certificate manager cannot undo an import: write down first what is replaced.
        let record = self
            .state
            .deployment
            .imports
            .entry(region.to_owned())
            .or_default();
        if record.arn.as_ref() == Some(arn) && record.replaced.is_none() {
            record.replaced = Some(old.serial.clone());
            self.save().await?;
        }
        let now = self.cycle.clock.now();
        let held = self.state.certificate.as_ref();
        let urgent = lifetime::urgent(old.not_before, old.not_after, now)
            || held.is_some_and(|held| held.renewal.early_windows > 0)
            || self.state.previous.is_revoked();
        self.count_import(region, urgent).await?;
        let import = self.cycle.ports.certificate_manager(region);
        match within(left, import.import_over(arn, &material)).await {
            None => Err(self.out_of_time("the import's answer")),
            Some(Ok(())) => {
                self.adopt(region, arn.clone(), &issued.leaf().serial);
                self.note(
                    "imported",
                    format!("{} over {} into {arn}", issued.leaf().serial, old.serial),
                );
                self.save().await?;
                Ok(None)
            }
            // Our prediction was wrong, or the rules have changed: a new ARN always works.
            Some(Err(error)) => {
                self.uncount_import(region, &error).await;
                match is_refusal(&error) {
                    true => Ok(Some(error.message)),
                    false => Err(error.problem(ProblemType::Import, arn.as_str()).into()),
                }
            }
        }
    }

    /// Records every certificate of ours that no record names: all key types, all pages, a shared
    /// name, then both tags.
    ///
    /// The one with the serial becomes the current one. Without it, and without a record, the one
    /// imported last does. All others are superseded.
    pub(crate) async fn gather_lost(
        &mut self,
        region: &str,
        leaf: &Leaf,
        listed_since: Option<OffsetDateTime>,
    ) -> Result<(), Stop> {
        self.gather(region, Some(leaf), listed_since).await
    }

    /// Does the same without a current certificate: all that it finds is superseded.
    pub(crate) async fn gather(
        &mut self,
        region: &str,
        leaf: Option<&Leaf>,
        listed_since: Option<OffsetDateTime>,
    ) -> Result<(), Stop> {
        let since = listed_since.or_else(|| {
            let import = self.state.deployment.imports.get(region)?;
            import.importing.as_ref().map(|intent| intent.at)
        });
        let listing = self.cycle.listing(region, since).await;
        let listing = listing.map_err(|error| not_gathered(region, &error))?;
        let strays = self.strays_among(&listing, region, leaf).await?;
        if strays.is_empty() {
            return Ok(());
        }
        self.take_up_strays(region, strays);
        self.save().await
    }

    /// Returns the certificates of a region's list that are ours and that no record names. The
    /// current one comes last.
    async fn strays_among(
        &self,
        listing: &[Listed],
        region: &str,
        leaf: Option<&Leaf>,
    ) -> Result<Vec<Stray>, Stop> {
        let serial = leaf.map_or("", |leaf| leaf.serial.as_str());
        let record = self
            .state
            .deployment
            .imports
            .get(region)
            .cloned()
            .unwrap_or_default();
        let manager = self.cycle.ports.certificate_manager(region);
        let names = self.names_to_look_for(&record).await?;
        let mut strays = Vec::new();
        for listed in listing {
            let known = record.arn.as_ref() == Some(&listed.arn)
                || record.superseded.iter().any(|old| old.arn == listed.arn);
            let shares_a_name = (listed.names.as_ref())
                .is_none_or(|held| held.iter().any(|held| names.contains(held)));
            if known || !shares_a_name {
                continue;
            }
            let tags = manager.tags(&listed.arn).await;
            let tags = tags.map_err(|error| not_gathered(region, &error))?;
            if !tags.is_some_and(|tags| self.cycle.is_ours(&tags, &self.wanted.name)) {
                continue;
            }
            let (is_right, holds) = match self.standing(region, &listed.arn, serial).await? {
                UnderArn::Right => (true, serial.to_owned()),
                // A newer certificate is never released for one that ends before it.
                UnderArn::Other(old) => (
                    leaf.is_some_and(|leaf| self.is_newer(&old, leaf, record.serial.as_deref())),
                    old.serial,
                ),
                UnderArn::Gone | UnderArn::NotOurs => continue,
            };
            strays.push(Stray {
                is_right,
                imported_at: listed.imported_at,
                arn: listed.arn.clone(),
                holds,
            });
        }
        strays.sort_by_key(|stray| (stray.is_right, stray.imported_at));
        Ok(strays)
    }

    /// Returns the names that a lost certificate of ours may have.
    async fn names_to_look_for(&self, record: &Import) -> Result<BTreeSet<String>, Stop> {
        // The import of a pass that stopped may have had other names than the document wants now.
        let intended = match &record.importing {
            Some(intent) => self.issued(&intent.serial).await?,
            None => None,
        };
        let intended = intended.iter().flat_map(|issued| &issued.leaf().names);
        // The document may have other names by now than the certificate that is being deployed.
        let held = self.state.certificate.iter().flat_map(|held| &held.domains);
        let names = self.wanted.domains.iter().chain(intended).chain(held);
        Ok(names.map(ToString::to_string).collect())
    }

    /// Makes the last stray the current one, where it is right or there is no other. The rest is
    /// superseded.
    fn take_up_strays(&mut self, region: &str, strays: Vec<Stray>) {
        let import = self.state.deployment.imports.get(region);
        let has_none = import.is_none_or(|import| import.arn.is_none());
        let last = strays.len();
        for (n, stray) in (1..).zip(strays) {
            let Stray { arn, holds, .. } = stray;
            self.note("ARN found", format!("{arn} is ours and holds {holds}"));
            if n == last && (stray.is_right || has_none) {
                self.adopt(region, arn, &holds);
            } else {
                let import = self
                    .state
                    .deployment
                    .imports
                    .entry(region.to_owned())
                    .or_default();
                import.superseded.push(Superseded {
                    arn,
                    detached_at: None,
                });
            }
        }
    }

    async fn import_new(
        &mut self,
        region: &str,
        issued: &Issued,
        urgent: bool,
    ) -> Result<CertificateArn, Stop> {
        let serial = issued.leaf().serial.clone();
        let material = material(issued)?;
        let left = self.time_for("importing", LEAST, LONGEST)?;
        self.count_import(region, urgent).await?;
        let at = whole_seconds(self.cycle.clock.now());
        self.state
            .deployment
            .imports
            .entry(region.to_owned())
            .or_default()
            .importing = Some(Importing {
            serial: serial.clone(),
            at,
        });
        self.save().await?;
        let tags = self.cycle.tags(&self.wanted);
        let manager = self.cycle.ports.certificate_manager(region);
        let arn = match within(left, manager.import_new(&material, &tags)).await {
            Some(Ok(arn)) => arn,
            Some(Err(error)) if error.may_have_happened() => {
                // It may have happened. If it is not found now, the next pass looks for it: the
                // intent stays in the record.
                self.gather_lost(region, issued.leaf(), Some(self.cycle.clock.now()))
                    .await?;
                let import = self.state.deployment.imports.get(region);
                let holds_it = |import: &&Import| import.serial.as_ref() == Some(&serial);
                match import
                    .filter(holds_it)
                    .and_then(|import| import.arn.clone())
                {
                    Some(arn) => arn,
                    None => {
                        let about = format!("first import in {region}");
                        return Err(error.problem(ProblemType::Import, &about).into());
                    }
                }
            }
            Some(Err(error)) => {
                // It did not happen: there is nothing to look for.
                self.uncount_import(region, &error).await;
                if let Some(import) = self.state.deployment.imports.get_mut(region) {
                    import.importing = None;
                }
                let problem =
                    error.problem(ProblemType::Import, &format!("first import in {region}"));
                return Err(self.refused_import(problem, &error).into());
            }
            None => return Err(self.out_of_time("the import's answer")),
        };
        self.adopt(region, arn.clone(), &serial);
        self.note("imported", format!("{serial} as {arn}"));
        // The ARN is written down before it is attached anywhere.
        self.save().await?;
        Ok(arn)
    }

    /// Remembers that the certificate manager does not take the current certificate. The same one
    /// is tried again until it is a day old: perhaps it is not valid yet.
    fn refused_import(&mut self, mut problem: Problem, error: &ServiceError) -> Problem {
        if is_refusal(error)
            && let Some(held) = &mut self.state.certificate
        {
            held.refused_at = Some(whole_seconds(self.cycle.clock.now()));
            match held.refused_before {
                true => {
                    problem.retry = Retry::Person;
                    problem.detail += "; it refused the certificate before as well, so no other \
                                       one is ordered: find out what it does not take";
                }
                false => {
                    problem.detail += "; a new certificate is ordered when this one is a day old";
                }
            }
        }
        problem
    }

    /// Puts an earlier certificate back under its ARN.
    pub(crate) async fn import_back(
        &mut self,
        region: &str,
        arn: &CertificateArn,
        serial: &str,
    ) -> Result<bool, Stop> {
        let Some(issued) = self.issued(serial).await? else {
            return Ok(false);
        };
        let manager = self.cycle.ports.certificate_manager(region);
        let failed =
            |error: ServiceError| Stop::from(error.problem(ProblemType::Import, arn.as_str()));
        let tags = manager.tags(arn).await.map_err(failed)?.unwrap_or_default();
        if !self.cycle.is_ours(&tags, &self.wanted.name) {
            return Ok(false);
        }
        self.count_import(region, true).await?;
        manager
            .import_over(arn, &material(&issued)?)
            .await
            .map_err(failed)?;
        self.adopt(region, arn.clone(), serial);
        self.note("undone", format!("{arn} holds {serial} again"));
        self.save().await?;
        Ok(true)
    }
}

/// Returns the parts of an issued certificate that the certificate manager receives.
fn material(issued: &Issued) -> Result<Material<'_>, Stop> {
    let private_key = issued.private_key()?;
    Ok(Material {
        certificate: issued.chain.leaf_pem(),
        chain: &issued.intermediates,
        private_key,
    })
}

fn not_gathered(region: &str, error: &ServiceError) -> Stop {
    let about = format!("looking for a lost ARN in {region}");
    error
        .problem(ProblemType::CertificateManager, &about)
        .into()
}

fn arn_would_change(arn: &CertificateArn, why: &str) -> Stop {
    let detail = format!(
        "{arn} cannot take the new certificate ({why}) and others hold this ARN; \
         what is there stays: undo the change, or take the certificateManager target \
         out of the document and point its holders at the new ARN"
    );
    Problem::ours(ProblemType::ArnWouldChange, detail).into()
}

/// Whether the certificate manager refuses this certificate for this ARN, and not only at this time
/// or from us.
fn is_refusal(error: &ServiceError) -> bool {
    matches!(
        error.code.as_deref(),
        Some(
            "ValidationException"
                | "InvalidParameterException"
                | "InvalidParameterCombinationException"
        )
    )
}

const LEAST: Duration = Duration::from_secs(3);
const LONGEST: Duration = Duration::from_secs(300);
