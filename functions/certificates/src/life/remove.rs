//! Removal: takes our certificate off every target, deletes it where nothing uses it, and forgets
//! it a week later.

use time::{Duration, OffsetDateTime};

use crate::contract::certificate::Wanted;
use crate::contract::report::TargetState;
use crate::life::work::Work;
use crate::pass::preflight;
use crate::pass::stop::Stop;
use crate::ports::Ports;
use crate::ports::store::{self, Store, StoreError, StoredObject};
use crate::records::state::{Removal, State};
use crate::rules::targets::Deployed;
use crate::values::instant::whole_seconds;
use crate::values::key::KeyType;
use crate::values::names::CertificateName;
use crate::values::problem::Problem;
use crate::values::problem_types::ProblemType;

/// The result of one visit to a removal.
pub(crate) enum Removed {
    /// Something of ours still exists, if only in the vault.
    NotYet(Deployed),
    /// Nothing is left, not even the record.
    Wholly,
    /// A new document of this name was put: the certificate is kept.
    Revived,
}

impl Removal {
    /// Whether its instant is in the future: then a wrong clock wrote it.
    fn is_to_come(&self, now: OffsetDateTime) -> bool {
        self.at > now + Duration::HOUR
    }
}

impl State {
    /// Whether a removal has work to do now.
    pub(crate) fn is_to_be_taken_away(
        &self,
        now: OffsetDateTime,
        may_delete: impl Fn(&crate::records::deployment::Superseded) -> bool,
    ) -> bool {
        let Some(removing) = &self.removing else {
            return false;
        };
        let imports = || self.deployment.imports.values();
        removing.document.is_some()
            || removing.is_to_come(now)
            || self.orders.current.is_some()
            || !self.leftovers.is_empty(now)
            || (self.deployment.targets.iter()).any(|target| target.state != TargetState::Detached)
            || imports().any(|import| import.arn.is_some() || import.importing.is_some())
            || imports()
                .flat_map(|import| &import.superseded)
                .any(may_delete)
            || self.is_to_revoke(now)
            || self.is_to_be_forgotten(now)
    }

    /// Whether a revocation is pending and may be tried now.
    pub(crate) fn is_to_revoke(&self, now: OffsetDateTime) -> bool {
        let mut revocations = self.revocations.pending.iter();
        revocations.any(|revocation| revocation.waits(now).is_none())
    }

    fn is_to_be_forgotten(&self, now: OffsetDateTime) -> bool {
        let removing = self.removing.as_ref();
        self.deployment.imports.is_empty()
            && self.revocations.pending.is_empty()
            && removing.is_some_and(|removing| removing.at + KEPT <= now)
    }

    /// Whether there is no certificate, here or in AWS: then nobody misses it without its document.
    pub(crate) fn has_no_certificate(&self) -> bool {
        self.certificate.is_none()
            && self.deployment.imports.is_empty()
            && (self.deployment.targets.iter()).all(|target| target.certificate_arn.is_none())
    }
}

/// Returns the wish for a certificate without a document: to be nowhere.
pub(crate) fn wanted_nowhere(name: &CertificateName, state: &State) -> Wanted {
    let held = state.certificate.as_ref();
    Wanted {
        name: name.clone(),
        domains: held.map(|held| held.domains.clone()).unwrap_or_default(),
        authorities: held
            .map(|held| held.authority.clone())
            .into_iter()
            .collect(),
        profile: None,
        partial: false,
        key_type: held.map_or(KeyType::EcdsaP256, |held| held.key_type),
        targets: Vec::new(),
        supersedes: Vec::new(),
        paused: false,
        tags: Default::default(),
    }
}

impl<P: Ports> Work<'_, '_, P> {
    /// Takes the next steps of a removal. Each step can be repeated after a stop.
    pub(crate) async fn take_away(&mut self) -> Result<Removed, Stop> {
        let now = self.cycle.clock.now();
        let removing = self.state.removing.as_mut();
        if let Some(removing) = removing.filter(|removing| removing.is_to_come(now)) {
            removing.at = whole_seconds(now);
        }
        if self.delete_document().await? {
            return Ok(Removed::Revived);
        }
        if self.state.orders.current.is_some() {
            self.abandon_unneeded().await?;
        }
        match self.revoke().await {
            // A failed revocation is remembered. It does not stop the removal of what is served.
            Ok(_) | Err(Stop::Failed(_)) => {}
            Err(stop) => return Err(stop),
        }
        // A certificate that was a default may be anywhere by now.
        let was_default = Problem::kind_of(ProblemType::StillDefault);
        let failure = self.state.deployment.failure.as_ref();
        if failure.is_some_and(|failure| failure.problem.kind == was_default) {
            for target in &mut self.state.deployment.targets {
                target.state = TargetState::Pending;
            }
        }
        self.deployed = Deployed::default();
        self.take_off_strays().await?;
        self.delete_superseded().await;
        self.sweep().await?;
        let mut deployed = std::mem::take(&mut self.deployed);
        if !deployed.still_default.is_empty() {
            let detail = format!(
                "{}; set another default there, then a later pass removes this one",
                deployed.still_default.join("; ")
            );
            deployed.note(Problem::ours(ProblemType::StillDefault, detail));
        }
        let now = self.cycle.clock.now();
        if deployed.problem.is_some() || !self.state.is_to_be_forgotten(now) {
            return Ok(Removed::NotYet(deployed));
        }
        // A message about the end of a problem goes out before the record is forgotten. A channel
        // that takes nothing delays that by a week at most.
        let waits_for_channels = self.state.removing.as_ref();
        let waits_for_channels =
            waits_for_channels.is_some_and(|removing| removing.at + KEPT * 2 > now);
        if waits_for_channels && self.state.has_to_tell(&self.cycle.settings.notify, now) {
            deployed.changed = true;
            return Ok(Removed::NotYet(deployed));
        }
        let store = self.cycle.ports.store();
        let name = self.wanted.name.clone();
        for entry in store.list(&store::vault_prefix(&name)).await? {
            store.delete(&entry.key).await?;
        }
        for probe in preflight::probes(&name) {
            store.delete(&probe).await?;
        }
        store.delete(&store::state_key(&name)).await?;
        Ok(Removed::Wholly)
    }

    /// Deletes the document that was there when the removal was asked for. Returns whether a new
    /// document was put since.
    async fn delete_document(&mut self) -> Result<bool, Stop> {
        let removing = self.state.removing.as_ref();
        let asked_for = removing.and_then(|removing| removing.document.clone());
        let key = store::certificate_key(&self.wanted.name);
        let store = self.cycle.ports.store();
        // The same document may have been put again after an earlier pass deleted it and died.
        let is_later = |object: &StoredObject| {
            let known = removing.and_then(|removing| removing.document_modified);
            (known.zip(object.modified)).is_some_and(|(known, modified)| modified > known)
        };
        // This runs under the lease, since a document may have been put after the look that led
        // here.
        let there = store.read(&key).await?;
        let deleted = match (&there, &asked_for) {
            (None, None) => return Ok(false),
            (None, Some(_)) => Ok(()),
            (Some(object), Some(etag)) if object.etag == *etag && !is_later(object) => {
                store.delete_matching(&key, etag).await
            }
            (Some(_), _) => Err(StoreError::ConditionFailed { key: key.clone() }),
        };
        match deleted {
            Ok(()) => {}
            Err(StoreError::ConditionFailed { .. }) => {
                self.state.removing = None;
                self.note("removal ended", "a new document was put");
                self.save().await?;
                return Ok(true);
            }
            Err(error) => return Err(error.into()),
        }
        if let Some(removing) = &mut self.state.removing {
            removing.document = None;
        }
        self.note("document deleted", key);
        self.save().await?;
        Ok(false)
    }
}

/// The vault keeps a removed certificate for this long.
const KEPT: Duration = Duration::days(7);
