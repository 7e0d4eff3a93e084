//! Revokes a certificate at the authority that issued it (RFC 8555 section 7.6).

use time::OffsetDateTime;

use crate::life::rollback::leaf_of_ours;
use crate::life::work::Work;
use crate::pass::context::Cycle;
use crate::pass::stop::Stop;
use crate::ports::Ports;
use crate::ports::authority::Account;
use crate::ports::certificate_manager::CertificateManager;
use crate::records::certificate::IssuedCertificate;
use crate::records::revocation::Revocation;
use crate::records::state::State;
use crate::values::chain::same_serial;
use crate::values::instant::{rfc3339, whole_seconds};
use crate::values::problem::{self, Problem, ServiceError};
use crate::values::problem_types::{ProblemType, Retry};
use crate::values::revocation_reason::Reason;

impl State {
    /// Returns the serial that a revocation without a serial means: that of the served certificate,
    /// or where that is unknown, of the one that should be served.
    ///
    /// # Errors
    ///
    /// There is no certificate. Or nobody can know which one is served, because one that may still
    /// be on a listener lost our tags: revoking the wrong one would leave a leaked key in use.
    pub(crate) fn serial_to_revoke(&self) -> Result<String, Problem> {
        if let Some(served) = &self.deployment.served {
            return Ok(served.serial.clone());
        }
        let held = self.certificate.as_ref().ok_or_else(|| {
            let detail = "there is no certificate to revoke";
            Problem::ours(ProblemType::NoCertificate, detail)
        })?;
        let imports = self.deployment.imports.values();
        let untagged = imports.flat_map(|import| &import.untagged);
        let lost: Vec<&str> = untagged.map(|lost| lost.serial.as_str()).collect();
        if lost.is_empty() {
            return Ok(held.serial.clone());
        }
        let detail = format!(
            "certloop does not know which certificate is served: {} should be, and {} lost our \
             tags and may be served; name the serial",
            held.serial,
            lost.join(", ")
        );
        Err(Problem::ours(ProblemType::TagsLost, detail))
    }

    /// Writes down that a certificate must be revoked. `found`: what is known of it where the
    /// record no longer names it.
    ///
    /// # Errors
    ///
    /// There is no such certificate.
    pub(crate) fn ask_for_revocation(
        &mut self,
        serial: &str,
        found: Option<&IssuedCertificate>,
        reason: Reason,
        now: OffsetDateTime,
    ) -> Result<(), Problem> {
        let refused = |detail: String| Problem::ours(ProblemType::NoCertificate, detail);
        let mut pending = self.revocations.pending.iter_mut();
        if let Some(pending) = pending.find(|known| known.serial == serial) {
            pending.reason = reason;
            // What the authority asked for stays.
            pending.failure.take_if(|failure| !failure.binding);
            return Ok(());
        }
        let held = self.held(serial).or(found).ok_or_else(|| {
            refused(format!(
                "neither the vault nor the certificate manager holds {serial} under our tags: \
                 only what they hold can be revoked"
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
        self.revocations.pending.push(revocation);
        Ok(())
    }
}

/// Returns what AWS holds otherwise than the record says, in words; `None` where it is as recorded.
pub(crate) async fn unlike_the_record<P: Ports>(
    cycle: &Cycle<'_, P>,
    state: &State,
) -> Result<Option<String>, Problem> {
    for (region, import) in &state.deployment.imports {
        let (Some(arn), Some(serial)) = (&import.arn, &import.serial) else {
            continue;
        };
        let described = cycle.ports.certificate_manager(region).describe(arn).await;
        let failed =
            |error: ServiceError| error.problem(ProblemType::CertificateManager, arn.as_str());
        let Some(described) = described.map_err(failed)? else {
            return Ok(Some(format!("{arn}, which should hold {serial}, is gone")));
        };
        if let Some(held) = described.serial
            && !same_serial(&held, serial)
        {
            return Ok(Some(format!("{arn} holds {held} and not {serial}")));
        }
    }
    for target in &state.deployment.targets {
        let (Some(arn), Ok(listener)) = (&target.certificate_arn, target.id.parse()) else {
            continue;
        };
        let holding = cycle.holding_seen(&listener).await;
        let failed = |error: ServiceError| error.problem(ProblemType::LoadBalancer, &target.id);
        if target.holds_ours() && !holding.map_err(failed)?.has(arn.as_str()) {
            return Ok(Some(format!("{listener} does not hold {arn} any more")));
        }
    }
    Ok(None)
}

impl<P: Ports> Work<'_, '_, P> {
    /// Revokes all certificates whose revocation is pending and may be tried now; returns the
    /// serials. A failure is remembered and tried again.
    pub(crate) async fn revoke(&mut self) -> Result<Vec<String>, Stop> {
        let now = self.cycle.clock.now();
        let (mut revoked, mut failed) = (Vec::new(), None);
        let due = (self.state.revocations.pending.iter())
            .filter(|revocation| revocation.waits(now).is_none());
        for revocation in due.cloned().collect::<Vec<_>>() {
            match self.revoke_or_remember(&revocation).await {
                Ok(true) => revoked.push(revocation.serial),
                Ok(false) => {}
                Err(Stop::Failed(failing)) => failed = failed.or(Some(failing)),
                Err(stop) => return Err(stop),
            }
        }
        match failed {
            Some(failing) => Err(Stop::Failed(failing)),
            None => Ok(revoked),
        }
    }

    async fn revoke_or_remember(&mut self, revocation: &Revocation) -> Result<bool, Stop> {
        let mut outcome = self.revoke_held(revocation).await;
        if let Err(Stop::Failed(failing)) = &mut outcome {
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
            let mut known = self.state.revocations.pending.iter_mut();
            if let Some(known) = known.find(|known| known.serial == *serial) {
                known.failure = Some(failure);
            }
        }
        outcome
    }

    /// Revokes a certificate; returns false where it has ended by itself.
    async fn revoke_held(&mut self, revocation: &Revocation) -> Result<bool, Stop> {
        let Revocation {
            serial,
            directory,
            not_after,
            reason,
            ..
        } = revocation;
        let gone = || {
            let detail = "neither the vault nor the certificate manager holds it any more, \
                          so it cannot be revoked from here";
            Stop::from(Problem::ours(ProblemType::NoCertificate, detail))
        };
        let mut authorities = self.cycle.settings.authorities.values();
        let authority = authorities.find(|authority| authority.directory == *directory);
        let authority = authority.ok_or_else(|| {
            let detail = format!(
                "it was issued by {directory}, which settings.json no longer lists as an \
                 authority; add it there again"
            );
            Problem::ours(ProblemType::Settings, detail)
        })?;
        let name = &self.wanted.name;
        let leaf = leaf_of_ours(self.cycle, name, &self.state, serial).await?;
        let leaf = leaf.ok_or_else(gone)?;
        self.time_for("revoking", LEAST, LEAST)?;
        let account = self.cycle.accounts.account(authority).await?;
        let asked = account.revoke(&leaf.der, *reason);
        match self.within_time(asked).await {
            Ok(()) => {}
            // An earlier visit revoked it and its answer was lost, or somebody else revoked it.
            Err(refusal) if refusal.word() == "alreadyRevoked" => {}
            // Our clock alone does not decide that it has ended.
            Err(refusal)
                if *not_after <= self.cycle.clock.now() && !problem::is_unavailable(&refusal) =>
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
        (self.state.orders.failure).take_if(|failure| !failure.binding);
        self.note("revoked", format!("{serial}: {reason:?}"));
        self.save().await?;
        Ok(true)
    }
}

const LEAST: std::time::Duration = std::time::Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A record of the certificate `01`, with what else it says.
    fn record(served: serde_json::Value, untagged: serde_json::Value) -> State {
        let arn = "arn:aws:acm:eu-central-1:123456789012:certificate/new";
        serde_json::from_value(json!({
            "version": 1, "writeId": "0", "served": served,
            "certificate": {
                "serial": "01", "fingerprint": "", "notBefore": "2026-11-01T00:00:00Z",
                "notAfter": "2027-01-30T00:00:00Z", "domains": ["a.example.com"],
                "keyType": "ecdsa-p256", "authority": "a", "directory": "https://a.example/",
                "renewal": {"at": "2027-01-01T00:00:00Z"},
            },
            "imports": {"eu-central-1": {"arn": arn, "serial": "01", "untagged": untagged}},
        }))
        .unwrap()
    }

    #[test]
    fn what_is_served_is_meant_and_never_guessed() {
        let old = "arn:aws:acm:eu-central-1:123456789012:certificate/old";
        let lost = json!([{"arn": old, "serial": "02"}]);
        let served = json!({
            "serial": "02", "notAfter": "2027-01-01T00:00:00Z", "by": "held",
            "at": "2026-11-02T00:00:00Z",
        });

        let known = record(served, lost.clone()).serial_to_revoke();
        assert_eq!(known.unwrap(), "02");
        let alone = record(json!(null), json!([])).serial_to_revoke();
        assert_eq!(alone.unwrap(), "01");
        let guess = record(json!(null), lost).serial_to_revoke().unwrap_err();
        assert_eq!(guess.kind, "certloop:tagsLost");
        assert!(
            guess.detail.contains("01") && guess.detail.contains("02"),
            "{guess:?}"
        );
        assert!(State::default().serial_to_revoke().is_err());
    }
}
