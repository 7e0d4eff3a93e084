//! Checks what a listener serves: after each change, and once a day.

use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::Instant;

use crate::contract::report::TargetKind;
use crate::contract::settings::CheckMode;
use crate::life::deploy::issued::Issued;
use crate::life::work::Work;
use crate::pass::patience::{Looked, Pauses, poll_until};
use crate::pass::stop::Stop;
use crate::ports::Ports;
use crate::ports::load_balancer::Listener;
use crate::ports::probe::{Proven, Question};
use crate::records::certificate::IssuedCertificate;
use crate::records::deployment::TargetRecord;
use crate::values::arn::ListenerArn;
use crate::values::instant::whole_seconds;

/// The result of a look at a listener's port.
pub(crate) enum ProofVerdict {
    /// It was proved, it was not looked at, or it could not be seen and the mode accepts that.
    Passed,
    NotProved(String),
}

/// A listener that must be proved.
pub(super) struct ToProve<'l> {
    pub(super) listener: &'l Listener,
    pub(super) at: &'l ListenerArn,
    /// What it must serve.
    pub(super) issued: &'l Issued,
    /// Whether anything was changed since the last proof.
    pub(super) is_touched: bool,
}

impl<P: Ports> Work<'_, '_, P> {
    /// Looks at what the listener serves, after a change or when the daily look is due.
    pub(super) async fn prove(&mut self, asked: &ToProve<'_>) -> Result<ProofVerdict, Stop> {
        let settings = &self.cycle.settings.proof;
        let now = self.cycle.clock.now();
        let Some(held) = self.state.certificate.clone() else {
            return Ok(ProofVerdict::Passed);
        };
        let record = self
            .state
            .deployment
            .target_mut(TargetKind::Listener, asked.at.as_str());
        if settings.mode == CheckMode::Off {
            record.proved = None;
            record.trusted = None;
            return Ok(ProofVerdict::Passed);
        }
        if !asked.is_touched && !proof_is_due(settings.mode, record, now) {
            return Ok(ProofVerdict::Passed);
        }
        let wish = Duration::from_secs(settings.seconds);
        let patience = self.time_for("the proof", LEAST, wish)?;
        let proven = self.look_until_proved(asked, &held, patience).await;
        let enough = wish.min(LEAST_FOR_A_VERDICT);
        if patience < enough && !matches!(proven, Proven::Yes { .. }) {
            return Err(self.out_of_time("the proof"));
        }
        Ok(self.note_proof(asked.at, proven))
    }

    /// Looks until the right leaf is served everywhere. The new certificate takes a while to reach
    /// the whole load balancer. A listener that cannot be seen mostly stays unseen.
    async fn look_until_proved(
        &self,
        asked: &ToProve<'_>,
        held: &IssuedCertificate,
        patience: Duration,
    ) -> Proven {
        let mode = self.cycle.settings.proof.mode;
        let until = Instant::now() + patience;
        let mut blind = 0;
        let looks = poll_until(until, PAUSES, async || {
            let proven = self.look_at_what_is_served(asked, held, until).await;
            blind += u32::from(matches!(proven, Proven::CouldNotTell(_)));
            let again = match proven {
                Proven::Yes { .. } => false,
                Proven::Wrong(_) => true,
                Proven::CouldNotTell(_) => {
                    asked.listener.internet_facing
                        && (mode == CheckMode::Require || blind < LOOKS_WHEN_BLIND)
                }
            };
            match again {
                true => Looked::Again(proven),
                false => Looked::Enough(proven),
            }
        });
        looks.await
    }

    async fn look_at_what_is_served(
        &self,
        asked: &ToProve<'_>,
        held: &IssuedCertificate,
        until: Instant,
    ) -> Proven {
        let settings = &self.cycle.settings.proof;
        let listener = asked.listener;
        if !listener.internet_facing && settings.connect_to.is_none() {
            return Proven::CouldNotTell(format!("{} is internal", listener.host));
        }
        let authority = self.cycle.settings.authority(&held.authority).ok();
        let roots = authority.and_then(|authority| authority.root_certificate.as_deref());
        let question = Question {
            host: &listener.host,
            port: listener.port,
            connect_to: settings.connect_to.as_deref(),
            names: &held.domains,
            leaf_der: &asked.issued.leaf().der,
            key_type: held.key_type,
            roots,
            now: self.cycle.clock.now(),
        };
        let limit = until.saturating_duration_since(Instant::now());
        self.cycle.ports.handshake(&question, limit).await
    }

    /// Notes what was seen, and returns whether that accepts the certificate.
    fn note_proof(&mut self, at: &ListenerArn, proven: Proven) -> ProofVerdict {
        let mode = self.cycle.settings.proof.mode;
        let now = whole_seconds(self.cycle.clock.now());
        let record = self
            .state
            .deployment
            .target_mut(TargetKind::Listener, at.as_str());
        record.checked_at = Some(now);
        let (proved, trusted, detail, verdict) = match proven {
            Proven::Yes { trusted } => {
                let detail = trusted
                    .as_ref()
                    .err()
                    .map(|why| format!("the served chain is not trusted: {why}"));
                (
                    Some(true),
                    Some(trusted.is_ok()),
                    detail,
                    ProofVerdict::Passed,
                )
            }
            Proven::Wrong(why) => (
                Some(false),
                None,
                Some(why.clone()),
                ProofVerdict::NotProved(why),
            ),
            Proven::CouldNotTell(why) if mode == CheckMode::Require => {
                (None, None, Some(why.clone()), ProofVerdict::NotProved(why))
            }
            Proven::CouldNotTell(why) => (None, None, Some(why), ProofVerdict::Passed),
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
            detail.map_or_else(|| at.to_string(), |detail| format!("{at}: {detail}")),
        );
        verdict
    }
}

/// Whether a listener must be looked at: once a day, and again if the last look did not end as it
/// must.
pub(crate) fn proof_is_due(mode: CheckMode, record: &TargetRecord, now: OffsetDateTime) -> bool {
    let proved = match mode {
        CheckMode::Off => return false,
        CheckMode::Warn => record.proved != Some(false),
        CheckMode::Require => record.proved == Some(true),
    };
    !proved || is_old(record.checked_at, now)
}

/// Whether the last look was a day ago, or a wrong clock dated it.
pub(crate) fn is_old(checked_at: Option<OffsetDateTime>, now: OffsetDateTime) -> bool {
    checked_at.is_none_or(|at| now - at >= PROOF_AGE || at - now >= PROOF_AGE)
}

/// A proof is repeated after this time.
const PROOF_AGE: time::Duration = time::Duration::hours(24);
/// A proof that had less time than this says nothing against the certificate.
const LEAST_FOR_A_VERDICT: Duration = Duration::from_secs(15);
/// How often a listener is looked at that cannot be seen, where the mode accepts that.
const LOOKS_WHEN_BLIND: u32 = 2;
const PAUSES: Pauses = Pauses {
    first: Duration::from_millis(500),
    longest: Duration::from_secs(5),
};
const LEAST: Duration = Duration::from_secs(2);
