//! Going back to the certificate before, and having one revoked.

use time::OffsetDateTime;

use crate::authority::Account;
use crate::certificate::Chain;
use crate::classes::Ours;
use crate::cycle::{Cycle, Halt, Ports, Work};
use crate::names::CertificateName;
use crate::problem::{Problem, Retry};
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
        if let (None, Some(back)) = (to, &mut self.rolled_back) {
            // It is gone back from already. An edit since then ended that: from here on it holds again.
            let ended = back.document != document;
            document.clone_into(&mut back.document);
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

    /// Writes down that a certificate is to be revoked, the one to be served where no serial is given. Returns whether there is anything to do.
    ///
    /// # Errors
    ///
    /// There is no such certificate.
    pub fn ask_for_revocation(
        &mut self,
        serial: Option<&str>,
        reason: Reason,
        now: OffsetDateTime,
    ) -> Result<bool, Problem> {
        let held = match serial {
            None => self.certificate.as_ref(),
            Some(serial) => self.held(serial),
        };
        let held = held.ok_or_else(|| {
            let detail = match serial {
                Some(serial) => format!("the vault does not hold {serial}; only the certificate to be served and the one before can be revoked"),
                None => "there is no certificate to revoke".to_owned(),
            };
            Problem::ours(Ours::NoCertificate, detail)
        })?;
        if held.revoked_at.is_some() {
            return Ok(false);
        }
        let serial = held.serial.clone();
        if held.not_after <= now {
            let detail = format!(
                "{serial} ended at {}: nobody trusts it any more, and there is nothing to revoke",
                rfc3339(held.not_after)
            );
            return Err(Problem::ours(Ours::NoCertificate, detail));
        }
        let words = format!("{serial}: {reason:?}");
        let mut known = self.revoking.iter_mut();
        match known.find(|revocation| revocation.serial == serial) {
            Some(known) => {
                known.reason = reason;
                // What the authority asked for stays.
                known.failure.take_if(|failure| !failure.binding);
            }
            None => self.revoking.push(Revocation {
                serial,
                reason,
                at: whole_seconds(now),
                failure: None,
            }),
        }
        self.note(whole_seconds(now), "to be revoked", words);
        Ok(true)
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
        let object = store::vault_key(name, serial);
        let read = read_record::<VaultEntry>(self.ports.store(), &object).await;
        let entry = read.map_err(|error| crate::cycle::store_problem(&error))?;
        let Some(chain) = entry.and_then(|(entry, _)| Chain::parse(&entry.chain).ok()) else {
            return Ok(());
        };
        let leaf = chain.leaf();
        let Some(key_type) = leaf.key_type else {
            return Ok(());
        };
        state.previous_held = Some(Box::new(Held {
            serial: leaf.serial.clone(),
            fingerprint: leaf.fingerprint.clone(),
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            domains: leaf.names.clone(),
            key_type,
            identifier: leaf.identifier(),
            renewal: renewal::draw(leaf.not_before, leaf.not_after, None, self.clock.now(), 0.0),
            public: None,
            revoked_at: None,
            ..current.clone()
        }));
        Ok(())
    }
}

impl<P: Ports> Work<'_, '_, P> {
    /// Has all revoked that is to be and may be tried now; returns whether any was. What fails is remembered and tried again.
    pub(crate) async fn revoke(&mut self) -> Result<bool, Halt> {
        let now = self.cycle.clock.now();
        let (mut any, mut failed) = (false, None);
        let due = (self.state.revoking.iter()).filter(|revocation| revocation.waits(now).is_none());
        for revocation in due.cloned().collect::<Vec<_>>() {
            match self.revoke_or_remember(&revocation).await {
                Ok(revoked) => any |= revoked,
                Err(Halt::Failed(failing)) => failed = failed.or(Some(failing)),
                Err(halt) => return Err(halt),
            }
        }
        match failed {
            Some(failing) => Err(Halt::Failed(failing)),
            None => Ok(any),
        }
    }

    async fn revoke_or_remember(&mut self, revocation: &Revocation) -> Result<bool, Halt> {
        let held = self.state.held(&revocation.serial).cloned();
        let directory = held.as_ref().map_or("", |held| &held.directory);
        let outcome = self.revoke_held(revocation, held.as_ref()).await;
        if let Err(Halt::Failed(failing)) = &outcome {
            let is_final = failing.problem.retry == Retry::Never;
            self.note(
                if is_final {
                    "not revoked"
                } else {
                    "not yet revoked"
                },
                format!("{}: {}", revocation.serial, failing.problem.detail),
            );
            let failure = self.failure(failing, revocation.failure.as_ref(), directory);
            self.state.revoking.retain_mut(|known| {
                let is_it = known.serial == revocation.serial;
                if is_it {
                    known.failure = Some(failure.clone());
                }
                !(is_it && is_final)
            });
        }
        outcome
    }

    async fn revoke_held(
        &mut self,
        revocation: &Revocation,
        held: Option<&Held>,
    ) -> Result<bool, Halt> {
        let Revocation { serial, reason, .. } = revocation;
        let gone = || {
            let detail = format!(
                "the vault does not hold {serial} any more, so it cannot be revoked from here"
            );
            Halt::from(Problem::ours(Ours::NoCertificate, detail))
        };
        let held = held.ok_or_else(gone)?;
        if held.not_after <= self.cycle.clock.now() {
            self.note("not revoked", format!("{serial}: it has ended"));
            (self.state.revoking).retain(|known| known.serial != *serial);
            self.save().await?;
            return Ok(false);
        }
        let mut authorities = self.cycle.settings.authorities.values();
        let authority = authorities.find(|authority| authority.directory == held.directory);
        let authority = authority.ok_or_else(|| {
            let detail = format!(
                "{serial} was issued by {}, which is no authority of settings.json any more; add it there again",
                held.directory
            );
            Problem::ours(Ours::Settings, detail)
        })?;
        let issued = self.issued(serial).await?.ok_or_else(gone)?;
        self.grant("revoking", LEAST, LEAST)?;
        let account = self.cycle.account(authority).await?;
        let asked = account.revoke(&issued.leaf().der, *reason);
        match self.answered(asked).await {
            Ok(()) => {}
            // By an earlier visit whose answer was lost, or by somebody else.
            Err(refusal) if refusal.word() == "alreadyRevoked" => {}
            Err(refusal) => return Err(refusal.into()),
        }
        let now = whole_seconds(self.cycle.clock.now());
        let previous = self.state.previous_held.as_deref_mut();
        let both = self.state.certificate.iter_mut().chain(previous);
        for held in both.filter(|held| held.serial == *serial) {
            held.revoked_at = Some(now);
        }
        (self.state.revoking).retain(|known| known.serial != *serial);
        // Its replacement does not wait for what failed before.
        (self.state.order_failure).take_if(|failure| !failure.binding);
        self.note("revoked", format!("{serial}: {reason:?}"));
        self.save().await?;
        Ok(true)
    }
}

const LEAST: std::time::Duration = std::time::Duration::from_secs(2);
