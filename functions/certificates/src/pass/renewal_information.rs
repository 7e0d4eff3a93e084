//! Asks authorities when certificates should be renewed (RFC 9773). A missing answer is never a
//! failure: then the lifetime decides.

use std::time::Duration;

use crate::pass::context::Cycle;
use crate::ports::Ports;
use crate::ports::authority::Authorities;
use crate::records::certificate::{IssuedCertificate, RenewalInformation};
use crate::records::state::State;
use crate::rules::renewal::information_after;
use crate::values::instant::rfc3339;
use crate::values::problem::AcmeError;

impl<P: Ports> Cycle<'_, P> {
    /// Asks about a certificate if the stored Retry-After is past; `None` when nothing was asked.
    async fn ask_about(&self, held: &IssuedCertificate) -> Option<RenewalInformation> {
        let now = self.clock.now();
        let identifier = held.identifier.as_ref()?;
        let authority = self.settings.authorities.get(&held.authority)?;
        if !held.is_to_be_asked_about(now) || authority.directory != held.directory {
            return None;
        }
        // If an authority does not answer, the other certificates of the pass do not wait for it.
        if self.silent.borrow().contains(&held.directory) {
            return None;
        }
        let limit = self.clock.grant(LEAST, LONGEST)?.min(self.clock.left() / 4);
        let asking = self
            .ports
            .authorities()
            .renewal_information(authority, identifier);
        let answer = tokio::time::timeout(limit, asking)
            .await
            .unwrap_or_else(|_| Err(AcmeError::no_answer(limit)));
        if let Err(refusal) = &answer {
            tracing::warn!(
                authority = %authority.key,
                problem.type = %refusal.kind,
                problem.detail = %refusal.detail,
                "no renewal information"
            );
            if refusal
                .status
                .is_none_or(|status| status == 429 || status >= 500)
            {
                self.silent.borrow_mut().insert(held.directory.clone());
            }
        }
        Some(information_after(held, answer, now, fastrand::f64()))
    }

    /// Updates what is known of a certificate's renewal; returns whether the authority was asked.
    pub(crate) async fn update_renewal(&self, state: &mut State) -> bool {
        let Some(held) = &mut state.certificate else {
            return false;
        };
        let Some(information) = self.ask_about(held).await else {
            return false;
        };
        let before = held.window().cloned();
        held.renewal.information = Some(information);
        let now_known = held.window().cloned();
        if before != now_known
            && let Some(window) = now_known
        {
            let why = window.explanation_url.as_deref().unwrap_or_default();
            let detail = format!(
                "{} to {}, renewal at {} {why}",
                rfc3339(window.start),
                rfc3339(window.end),
                rfc3339(held.renew_at())
            );
            let at = crate::values::instant::whole_seconds(self.clock.now());
            state.note(at, "window suggested", detail.trim_end());
        }
        true
    }
}

const LEAST: Duration = Duration::from_secs(2);
/// The time limit for an answer. After that a later pass asks again.
const LONGEST: Duration = Duration::from_secs(10);
