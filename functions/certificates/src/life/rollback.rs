//! Going back to the previous certificate.

use time::OffsetDateTime;

use crate::pass::context::Cycle;
use crate::ports::Ports;
use crate::ports::certificate_manager::CertificateManager;
use crate::ports::store::{self, read_record};
use crate::records::certificate::IssuedCertificate;
use crate::records::previous::RolledBack;
use crate::records::state::State;
use crate::records::vault::VaultEntry;
use crate::rules::renewal;
use crate::values::arn::CertificateArn;
use crate::values::chain::{Chain, Leaf, same_serial};
use crate::values::instant::{rfc3339, whole_seconds};
use crate::values::names::CertificateName;
use crate::values::problem::{Problem, ServiceError};
use crate::values::problem_types::ProblemType;

impl State {
    /// Makes the previous certificate the current one again; `to` names it by its serial. Returns
    /// what changed, in words, or `None` where that has been done already.
    ///
    /// # Errors
    ///
    /// There is no such certificate, or too little of its lifetime is left.
    pub fn roll_back(
        &mut self,
        to: Option<&str>,
        document: &str,
        now: OffsetDateTime,
    ) -> Result<Option<String>, Problem> {
        let Some(current) = &self.certificate else {
            let detail = "there is no certificate yet";
            return Err(Problem::ours(ProblemType::NoPrevious, detail));
        };
        if to.is_some_and(|serial| serial == current.serial) {
            return Ok(None);
        }
        let (word, holds) = (self.says.clone(), self.held_back().is_some());
        if let (None, Some(back)) = (to, &mut self.previous.rolled_back) {
            // A rollback from this certificate was made already. If an edit has ended that one
            // since, it holds again from now on.
            let ended = !holds;
            document.clone_into(&mut back.document);
            back.word = word;
            return Ok(ended.then(|| format!("from {} again", back.from)));
        }
        let current = current.clone();
        let previous = self.may_go_back(to, now)?.clone();
        let words = format!("from {} to {}", current.serial, previous.serial);
        let goes_on =
            (self.previous.rolled_back.as_ref()).is_some_and(|back| back.from == previous.serial);
        self.previous.rolled_back = (!goes_on).then(|| RolledBack {
            from: current.serial.clone(),
            at: whole_seconds(now),
            document: document.to_owned(),
            word,
        });
        self.deployment.still_served = Some(current.validity());
        self.certificate = Some(previous);
        self.previous.serial = Some(current.serial.clone());
        self.previous.certificate = Some(Box::new(current));
        self.deployment.failure = None;
        self.note(whole_seconds(now), "rolled back", words.clone());
        Ok(Some(words))
    }

    /// Returns the certificate to go back to, if enough of its lifetime is left.
    fn may_go_back(
        &self,
        to: Option<&str>,
        now: OffsetDateTime,
    ) -> Result<&IssuedCertificate, Problem> {
        let refused = |detail: String| Problem::ours(ProblemType::NoPrevious, detail);
        let previous = self.previous.certificate.as_deref();
        let previous = previous.filter(|held| to.is_none_or(|serial| serial == held.serial));
        let previous = previous.ok_or_else(|| {
            refused(match to {
                Some(serial) => format!(
                    "the vault does not hold {serial}; \
                     use a serial that status or the history shows"
                ),
                None => "the vault does not hold a certificate before this one".to_owned(),
            })
        })?;
        let serial = &previous.serial;
        let is_served_here = !self.deployment.targets.is_empty();
        if to.is_none() && is_served_here && previous.was_served == Some(false) {
            return Err(refused(format!(
                "the certificate before this one, {serial}, was never served: \
                 name its serial to go back to it nevertheless"
            )));
        }
        if let Some(at) = previous.revoked_at {
            return Err(refused(format!("{serial} was revoked at {}", rfc3339(at))));
        }
        if previous.is_urgent(now) {
            let ends = rfc3339(previous.not_after);
            return Err(refused(format!(
                "{serial} ends at {ends}, too soon to be served again; renew instead \
                 ({{\"action\":\"reconcile\", ..., \"force\":true}})"
            )));
        }
        Ok(previous)
    }
}

/// Fills in, from the vault, what an older record lacks about the previous certificate.
pub(crate) async fn look_up_previous<P: Ports>(
    cycle: &Cycle<'_, P>,
    name: &CertificateName,
    state: &mut State,
) -> Result<(), Problem> {
    let (Some(serial), None, Some(current)) = (
        &state.previous.serial,
        &state.previous.certificate,
        &state.certificate,
    ) else {
        return Ok(());
    };
    let Some(leaf) = leaf_in_vault(cycle, name, serial).await? else {
        return Ok(());
    };
    let held = current.like(&leaf, cycle.clock.now());
    state.previous.certificate = held.map(Box::new);
    Ok(())
}

async fn leaf_in_vault<P: Ports>(
    cycle: &Cycle<'_, P>,
    name: &CertificateName,
    serial: &str,
) -> Result<Option<Leaf>, Problem> {
    let object = store::vault_key(name, serial);
    let read = read_record::<VaultEntry>(cycle.ports.store(), &object).await;
    let entry = read.map_err(|error| crate::pass::stop::store_problem(&error))?;
    let chain = entry.and_then(|(entry, _)| Chain::parse(&entry.chain).ok());
    Ok(chain.map(|chain| chain.leaf().clone()))
}

/// Returns a leaf of ours by its serial, from the vault or as a certificate manager holds it under
/// our tags. A certificate without a key can still be revoked.
pub(crate) async fn leaf_of_ours<P: Ports>(
    cycle: &Cycle<'_, P>,
    name: &CertificateName,
    state: &State,
    serial: &str,
) -> Result<Option<Leaf>, Problem> {
    if let Some(leaf) = leaf_in_vault(cycle, name, serial).await? {
        return Ok(Some(leaf));
    }
    for (region, import) in &state.deployment.imports {
        let superseded = import.superseded.iter().map(|old| &old.arn);
        for arn in import.arn.iter().chain(superseded) {
            let leaf = leaf_in_certificate_manager(cycle, name, region, arn, serial).await;
            let failed =
                |error: ServiceError| error.problem(ProblemType::CertificateManager, arn.as_str());
            if let Some(leaf) = leaf.map_err(failed)? {
                return Ok(Some(leaf));
            }
        }
    }
    Ok(None)
}

async fn leaf_in_certificate_manager<P: Ports>(
    cycle: &Cycle<'_, P>,
    name: &CertificateName,
    region: &str,
    arn: &CertificateArn,
    serial: &str,
) -> Result<Option<Leaf>, ServiceError> {
    let manager = cycle.ports.certificate_manager(region);
    let described = manager.describe(arn).await?;
    let held = described.and_then(|described| described.serial);
    if held.is_none_or(|held| !same_serial(&held, serial)) {
        return Ok(None);
    }
    let tags = manager.tags(arn).await?.unwrap_or_default();
    if !cycle.is_ours(&tags, name) {
        return Ok(None);
    }
    let pem = manager.leaf_pem(arn).await?;
    let chain = pem.and_then(|pem| Chain::parse(&pem).ok());
    Ok(chain.map(|chain| chain.leaf().clone()))
}

impl IssuedCertificate {
    /// Returns what is known of another leaf of the same certificate; `None` for a kind of key that
    /// certloop does not use.
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
            kept_under: None,
            was_served: None,
            revoked_at: None,
            refused_at: None,
            refused_before: false,
            ..self.clone()
        })
    }
}
