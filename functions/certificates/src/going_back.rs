//! Going back to the certificate before, and having one revoked.

use time::OffsetDateTime;

use crate::arn::CertificateArn;
use crate::authority::Account;
use crate::certificate::{Chain, Leaf};
use crate::certificate_manager::{CertificateManager, same_serial};
use crate::classes::{self, Ours};
use crate::cycle::{Cycle, Halt, Ports, Work};
use crate::names::CertificateName;
use crate::problem::{Problem, Retry, ServiceError};
use crate::renewal::{self, rfc3339};
use crate::report::whole_seconds;
use crate::state::{Held, Reason, Revocation, RolledBack, State, VaultEntry};
use crate::store::{self, read_record};

impl State {
    /// Makes the certificate before the one to be served again; `to` names it by its serial. Returns what changed, in words, or `None`
    /// where that has been done already: twice is once.
    ///
    /// # Errors
    ///
    /// There is no such certificate, or it could not be served for long.
    pub fn roll_back(
        &mut self,
        to: Option<&str>,
        document: &str,
        now: OffsetDateTime,
    ) -> Result<Option<String>, Problem> {
        let refused = |detail: String| Problem::ours(Ours::NoPrevious, detail);
        let Some(current) = &self.certificate else {
            return Err(refused("there is no certificate yet".to_owned()));
        };
        if to.is_some_and(|serial| serial == current.serial) {
            return Ok(None);
        }
        let (word, holds) = (self.says.clone(), self.held_back().is_some());
        if let (None, Some(back)) = (to, &mut self.rolled_back) {
            // It is gone back from already. An edit since then ended that: from here on it holds again.
            let ended = !holds;
            document.clone_into(&mut back.document);
            back.word = word;
            return Ok(ended.then(|| format!("from {} again", back.from)));
        }
        let previous = self.previous_held.as_deref();
        let previous = previous.filter(|held| to.is_none_or(|serial| serial == held.serial));
        let previous = previous.cloned().ok_or_else(|| {
            refused(match to {
                Some(serial) => format!("the vault does not hold {serial}; the serial is one that status or the history shows"),
                None => "the vault does not hold a certificate before this one".to_owned(),
            })
        })?;
        let serial = &previous.serial;
        let is_served_here = !self.targets.is_empty();
        if to.is_none() && is_served_here && previous.was_served == Some(false) {
            return Err(refused(format!(
                "the certificate before this one, {serial}, was never served: name its serial to go to it all the same"
            )));
        }
        if let Some(at) = previous.revoked_at {
            return Err(refused(format!("{serial} was revoked at {}", rfc3339(at))));
        }
        if previous.is_urgent(now) {
            let ends = rfc3339(previous.not_after);
            return Err(refused(format!(
                "{serial} ends at {ends}, too soon to be served again; renew instead ({{\"action\":\"reconcile\", ..., \"force\":true}})"
            )));
        }
        let words = format!("from {} to {serial}", current.serial);
        let goes_on = (self.rolled_back.as_ref()).is_some_and(|back| back.from == *serial);
        self.rolled_back = (!goes_on).then(|| RolledBack {
            from: current.serial.clone(),
            at: whole_seconds(now),
            document: document.to_owned(),
            word,
        });
        self.still_served = Some(current.validity());
        if let Some(left) = self.certificate.replace(previous) {
            self.previous = Some(left.serial.clone());
            self.previous_held = Some(Box::new(left));
        }
        self.deployment_failure = None;
        self.note(whole_seconds(now), "rolled back", words.clone());
        Ok(Some(words))
    }

    /// Returns the serial that a revocation without one means: what is served, or where that is
    /// not known what is to be served.
    pub(crate) fn serial_to_revoke(&self) -> Option<String> {
        let served = self.served.as_ref().map(|served| &served.serial);
        served
            .or(self.certificate.as_ref().map(|held| &held.serial))
            .cloned()
    }

    /// Writes down that a certificate is to be revoked. `found`: what is known of it where the
    /// record names it no more.
    ///
    /// # Errors
    ///
    /// There is no such certificate.
    pub(crate) fn ask_for_revocation(
        &mut self,
        serial: &str,
        found: Option<&Held>,
        reason: Reason,
        now: OffsetDateTime,
    ) -> Result<(), Problem> {
        let refused = |detail: String| Problem::ours(Ours::NoCertificate, detail);
        let mut pending = self.revoking.iter_mut();
        if let Some(pending) = pending.find(|known| known.serial == serial) {
            pending.reason = reason;
            // What the authority asked for stays.
            pending.failure.take_if(|failure| !failure.binding);
            return Ok(());
        }
        let held = self.held(serial).or(found).ok_or_else(|| {
            refused(format!(
                "neither the vault nor the certificate manager holds {serial} under our tags: only what they hold can be revoked"
            ))
        })?;
        if held.revoked_at.is_some() {
            return Ok(());
        }
        if held.not_after <= now {
            let ended = rfc3339(held.not_after);
            return Err(refused(format!(
                "{} ended at {ended}: nobody trusts it any more, and there is nothing to revoke",
                held.serial
            )));
        }
        let revocation = Revocation {
            serial: held.serial.clone(),
            directory: held.directory.clone(),
            not_after: held.not_after,
            reason,
            at: whole_seconds(now),
            failure: None,
        };
        let words = format!("{}: {reason:?}", revocation.serial);
        self.note(whole_seconds(now), "to be revoked", words);
        self.revoking.push(revocation);
        Ok(())
    }
}

impl<P: Ports> Cycle<'_, P> {
    /// Fills in what an older record does not tell of the certificate before, from the vault.
    pub(crate) async fn look_up_previous(
        &self,
        name: &CertificateName,
        state: &mut State,
    ) -> Result<(), Problem> {
        let (Some(serial), None, Some(current)) =
            (&state.previous, &state.previous_held, &state.certificate)
        else {
            return Ok(());
        };
        let Some(leaf) = self.leaf_in_vault(name, serial).await? else {
            return Ok(());
        };
        let held = current.like(&leaf, self.clock.now());
        state.previous_held = held.map(Box::new);
        Ok(())
    }

    async fn leaf_in_vault(
        &self,
        name: &CertificateName,
        serial: &str,
    ) -> Result<Option<Leaf>, Problem> {
        let object = store::vault_key(name, serial);
        let read = read_record::<VaultEntry>(self.ports.store(), &object).await;
        let entry = read.map_err(|error| crate::cycle::store_problem(&error))?;
        let chain = entry.and_then(|(entry, _)| Chain::parse(&entry.chain).ok());
        Ok(chain.map(|chain| chain.leaf().clone()))
    }

    /// Returns a leaf of ours by its serial, from the vault or as a certificate manager holds it
    /// under our tags. What has no key any more can still be revoked.
    pub(crate) async fn leaf_of_ours(
        &self,
        name: &CertificateName,
        state: &State,
        serial: &str,
    ) -> Result<Option<Leaf>, Problem> {
        if let Some(leaf) = self.leaf_in_vault(name, serial).await? {
            return Ok(Some(leaf));
        }
        for (region, import) in &state.imports {
            let superseded = import.superseded.iter().map(|old| &old.arn);
            for arn in import.arn.iter().chain(superseded) {
                let leaf = self
                    .leaf_in_certificate_manager(name, region, arn, serial)
                    .await;
                let failed =
                    |error: ServiceError| error.problem(Ours::CertificateManager, arn.as_str());
                if let Some(leaf) = leaf.map_err(failed)? {
                    return Ok(Some(leaf));
                }
            }
        }
        Ok(None)
    }

    async fn leaf_in_certificate_manager(
        &self,
        name: &CertificateName,
        region: &str,
        arn: &CertificateArn,
        serial: &str,
    ) -> Result<Option<Leaf>, ServiceError> {
        let manager = self.ports.certificate_manager(region);
        let described = manager.describe(arn).await?;
        let held = described.and_then(|described| described.serial);
        if held.is_none_or(|held| !same_serial(&held, serial)) {
            return Ok(None);
        }
        let tags = manager.tags(arn).await?.unwrap_or_default();
        if !self.is_ours(&tags, name) {
            return Ok(None);
        }
        let pem = manager.leaf_pem(arn).await?;
        let chain = pem.and_then(|pem| Chain::parse(&pem).ok());
        Ok(chain.map(|chain| chain.leaf().clone()))
    }
}

impl Held {
    /// Returns what is known of another leaf of the same certificate; `None` for a kind of key that
    /// is none of ours.
    pub(crate) fn like(&self, leaf: &Leaf, now: OffsetDateTime) -> Option<Self> {
        Some(Self {
            serial: leaf.serial.clone(),
            fingerprint: leaf.fingerprint.clone(),
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            domains: leaf.names.clone(),
            key_type: leaf.key_type?,
            identifier: leaf.identifier(),
            renewal: renewal::draw(leaf.not_before, leaf.not_after, None, now, 0.0),
            public: None,
            adopted: false,
            was_served: None,
            revoked_at: None,
            ..self.clone()
        })
    }
}

impl<P: Ports> Work<'_, '_, P> {
    /// Has all revoked that is to be and may be tried now; returns the serials. What fails is remembered and tried again.
    pub(crate) async fn revoke(&mut self) -> Result<Vec<String>, Halt> {
        let now = self.cycle.clock.now();
        let (mut revoked, mut failed) = (Vec::new(), None);
        let due = (self.state.revoking.iter()).filter(|revocation| revocation.waits(now).is_none());
        for revocation in due.cloned().collect::<Vec<_>>() {
            match self.revoke_or_remember(&revocation).await {
                Ok(true) => revoked.push(revocation.serial),
                Ok(false) => {}
                Err(Halt::Failed(failing)) => failed = failed.or(Some(failing)),
                Err(halt) => return Err(halt),
            }
        }
        match failed {
            Some(failing) => Err(Halt::Failed(failing)),
            None => Ok(revoked),
        }
    }

    async fn revoke_or_remember(&mut self, revocation: &Revocation) -> Result<bool, Halt> {
        let mut outcome = self.revoke_held(revocation).await;
        if let Err(Halt::Failed(failing)) = &mut outcome {
            let Revocation {
                serial,
                directory,
                failure,
                ..
            } = revocation;
            let detail = format!("{serial}: {}", failing.problem.detail);
            failing.problem.detail.clone_from(&detail);
            if failing.problem.retry == Retry::Never {
                self.note("not revoked", detail);
                self.state.end_revocation(serial);
                return outcome;
            }
            self.note("not yet revoked", detail);
            let failure = self.failure(failing, failure.as_ref(), directory);
            let mut known = self.state.revoking.iter_mut();
            if let Some(known) = known.find(|known| known.serial == *serial) {
                known.failure = Some(failure);
            }
        }
        outcome
    }

    /// Has a certificate revoked; returns false where it has ended by itself.
    async fn revoke_held(&mut self, revocation: &Revocation) -> Result<bool, Halt> {
        let Revocation {
            serial,
            directory,
            not_after,
            reason,
            ..
        } = revocation;
        let gone = || {
            let detail = "neither the vault nor the certificate manager holds it any more, so it cannot be revoked from here";
            Halt::from(Problem::ours(Ours::NoCertificate, detail))
        };
        let mut authorities = self.cycle.settings.authorities.values();
        let authority = authorities.find(|authority| authority.directory == *directory);
        let authority = authority.ok_or_else(|| {
            let detail = format!(
                "it was issued by {directory}, which is no authority of settings.json any more; add it there again"
            );
            Problem::ours(Ours::Settings, detail)
        })?;
        let name = &self.wanted.name;
        let leaf = self.cycle.leaf_of_ours(name, &self.state, serial).await?;
        let leaf = leaf.ok_or_else(gone)?;
        self.grant("revoking", LEAST, LEAST)?;
        let account = self.cycle.account(authority).await?;
        let asked = account.revoke(&leaf.der, *reason);
        match self.answered(asked).await {
            Ok(()) => {}
            // By an earlier visit whose answer was lost, or by somebody else.
            Err(refusal) if refusal.word() == "alreadyRevoked" => {}
            // Our clock alone does not decide that it has ended.
            Err(refusal)
                if *not_after <= self.cycle.clock.now() && !classes::is_unavailable(&refusal) =>
            {
                self.note("not revoked", format!("{serial}: it has ended"));
                self.state.end_revocation(serial);
                self.save().await?;
                return Ok(false);
            }
            Err(refusal) => return Err(refusal.into()),
        }
        let now = whole_seconds(self.cycle.clock.now());
        self.state.note_revoked(serial, *not_after, now);
        self.state.end_revocation(serial);
        // Its replacement does not wait for what failed before.
        (self.state.order_failure).take_if(|failure| !failure.binding);
        self.note("revoked", format!("{serial}: {reason:?}"));
        self.save().await?;
        Ok(true)
    }
}

const LEAST: std::time::Duration = std::time::Duration::from_secs(2);
