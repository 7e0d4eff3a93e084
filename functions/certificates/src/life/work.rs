//! The work on one certificate under its lease: take the lease, save the record, give the lease
//! back.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::contract::certificate::Wanted;
use crate::pass::context::Cycle;
use crate::pass::patience::within;
use crate::pass::stop::{Failing, Stop};
use crate::ports::Ports;
use crate::ports::store::{self, Condition, StoreError, write_record};
use crate::records::certificate::IssuedCertificate;
use crate::records::state::{LONGEST_LEASE, Lease, State};
use crate::rules::targets::Deployed;
use crate::values::instant::whole_seconds;
use crate::values::lifetime;
use crate::values::problem::{AcmeError, Failure, backoff};

/// The work on one certificate, under its lease.
pub(crate) struct Work<'c, 'p, P: Ports> {
    pub(crate) cycle: &'c Cycle<'p, P>,
    pub(crate) wanted: Wanted,
    /// What is in force for the certificate: the document's content, once that counts (rule 12).
    pub(crate) in_force: Wanted,
    pub(crate) document: String,
    pub(crate) state: State,
    /// What the current deployment has done so far.
    pub(crate) deployed: Deployed,
    /// What a person should know of a new certificate although nothing failed.
    pub(crate) remarks: Vec<String>,
    /// What this pass put back in its place. The listener may not list it for a while.
    pub(crate) put_back: BTreeSet<String>,
    /// Whether a person asked for this work: then a failure does not lengthen the wait.
    pub(crate) by_hand: bool,
    etag: Option<String>,
}

impl<'c, 'p, P: Ports> Work<'c, 'p, P> {
    /// Takes the lease, or returns `None` when another invocation was faster.
    pub(crate) async fn begin(
        cycle: &'c Cycle<'p, P>,
        wanted: Wanted,
        document: String,
        state: State,
        etag: Option<String>,
    ) -> Result<Option<Self>, StoreError> {
        let mut work = Self {
            cycle,
            in_force: wanted.clone(),
            wanted,
            document,
            state,
            deployed: Deployed::default(),
            remarks: Vec::new(),
            put_back: BTreeSet::new(),
            by_hand: false,
            etag,
        };
        if work.state.told.is_none() {
            // A record from before there were messages: it reports nothing of what it already
            // holds.
            work.state.told = Some(work.state.told());
        }
        work.state.lease = Some(Lease {
            owner: cycle.owner.clone(),
            until: cycle
                .clock
                .deadline()
                .min(cycle.clock.now() + LONGEST_LEASE),
        });
        match work.write().await {
            Ok(()) => Ok(Some(work)),
            Err(StoreError::ConditionFailed { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn write(&mut self) -> Result<(), StoreError> {
        let condition = match &self.etag {
            Some(etag) => Condition::Matches(etag),
            None => Condition::Absent,
        };
        let key = store::state_key(&self.wanted.name);
        self.etag =
            Some(write_record(self.cycle.ports.store(), &key, &mut self.state, condition).await?);
        Ok(())
    }

    /// Saves the state: the intent before an act, or its result.
    pub(crate) async fn save(&mut self) -> Result<(), Stop> {
        match self.write().await {
            Ok(()) => Ok(()),
            Err(StoreError::ConditionFailed { .. }) => Err(Stop::LeaseLost),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives the lease back and saves everything not yet saved.
    pub(crate) async fn end(&mut self) -> Result<(), Stop> {
        self.state.lease = None;
        if !self.document.is_empty() {
            let now = whole_seconds(self.cycle.clock.now());
            self.state.note_unserved(now);
        }
        match self.save().await {
            Err(Stop::LeaseLost) => {}
            outcome => return outcome,
        }
        // Our write may have succeeded although its answer was lost. Then the lease in the record
        // is still ours.
        let key = store::state_key(&self.wanted.name);
        match store::read_record::<State>(self.cycle.ports.store(), &key).await? {
            Some((
                State {
                    lease: Some(lease), ..
                },
                etag,
            )) if lease.owner == self.cycle.owner => {
                self.etag = Some(etag);
                self.save().await
            }
            _ => Err(Stop::LeaseLost),
        }
    }

    /// Adds a step to the history.
    pub(crate) fn note(&mut self, step: &str, detail: impl Into<String>) {
        let detail = detail.into();
        tracing::info!(step, detail, "step");
        self.state
            .note(whole_seconds(self.cycle.clock.now()), step, detail);
    }

    /// Returns the failure to remember after this one (rule 7). `directory`: that of the authority
    /// where it happened, empty for none.
    pub(crate) fn failure(
        &self,
        failing: &Failing,
        before: Option<&Failure>,
        directory: &str,
    ) -> Failure {
        let now = self.cycle.clock.now();
        // What a person asks for, also by an edit, does not delay our own next attempt.
        let asked_for = before.filter(|before| self.by_hand || before.document != self.document);
        let attempts = match asked_for {
            Some(before) => before.attempts.max(1),
            None => before.map_or(0, |failure| failure.attempts) + 1,
        };
        // Until a new certificate is deployed, listeners may still serve the one before it.
        let held = self
            .state
            .certificate
            .as_ref()
            .map(IssuedCertificate::validity);
        let urgent = [held, self.state.deployment.still_served]
            .into_iter()
            .flatten()
            .any(|valid| lifetime::urgent(valid.not_before, valid.not_after, now));
        let held = self.state.certificate.as_ref();
        let urgent = urgent
            || failing.problem.costs_nobody()
            || held.is_some_and(|held| held.revoked_at.is_some());
        // Paused: the authority does not say until when, only that somebody must act. We ask once a
        // day.
        let paused = failing.paused;
        let ours = if paused {
            now + backoff(u32::MAX, false, fastrand::f64())
        } else {
            now + backoff(attempts, urgent, fastrand::f64())
        };
        let planned = asked_for.filter(|before| before.is_planned(now));
        let ours = planned.map_or(ours, |before| before.next_attempt.min(ours));
        // The authority's wait always overrides our own.
        let next_attempt = failing.not_before.map_or(ours, |instant| instant.max(now));
        Failure {
            problem: failing.problem.clone(),
            attempts,
            at: whole_seconds(now),
            next_attempt: whole_seconds(next_attempt) + Duration::from_secs(1),
            identifiers: failing.identifiers.clone(),
            binding: failing.not_before.is_some() || paused,
            document: self.document.clone(),
            directory: directory.to_owned(),
            unavailable: failing.unavailable,
        }
    }

    /// Waits for an authority's answer, but keeps enough time to save that no answer came. Without
    /// that record each pass would ask again.
    pub(crate) async fn within_time<T>(
        &self,
        asked: impl Future<Output = Result<T, AcmeError>>,
    ) -> Result<T, AcmeError> {
        let limit = self.cycle.clock.left().saturating_sub(TO_REMEMBER);
        // A limit this short says nothing about the authority. Then the end of the invocation cuts
        // the call off.
        if limit < ENOUGH_FOR_AN_ANSWER {
            return asked.await;
        }
        let answered = within(limit, asked).await;
        answered.unwrap_or_else(|| Err(AcmeError::no_answer(limit)))
    }

    /// Returns the time limit for a step. Stops the work when too little time is left for it (rule
    /// 11).
    pub(crate) fn time_for(
        &self,
        step: &str,
        least: Duration,
        wish: Duration,
    ) -> Result<Duration, Stop> {
        self.cycle
            .clock
            .grant(least, wish)
            .ok_or_else(|| self.out_of_time(step))
    }

    /// Returns the stop that says that the time ran out.
    pub(crate) fn out_of_time(&self, step: &str) -> Stop {
        Stop::Waiting {
            reason: format!("ran out of time before {step}; the next pass continues"),
            until: self.cycle.clock.now(),
            problem: None,
        }
    }

    /// Asks the authority when to renew the certificate that was just issued.
    pub(crate) async fn ask_about_new(&mut self) {
        self.cycle.update_renewal(&mut self.state).await;
    }
}

const TO_REMEMBER: Duration = Duration::from_secs(1);
const ENOUGH_FOR_AN_ANSWER: Duration = Duration::from_secs(10);
