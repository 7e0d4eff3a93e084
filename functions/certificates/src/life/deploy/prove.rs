//! Seeing what a listener serves: after each change, and once a day.

use std::time::Duration;

use time::OffsetDateTime;

use crate::contract::report::TargetKind;
use crate::contract::settings::CheckMode;
use crate::life::deploy::import::Issued;
use crate::life::work::Work;
use crate::pass::halt::Halt;
use crate::ports::Ports;
use crate::ports::load_balancer::Listener;
use crate::ports::probe::{Proven, Question};
use crate::records::deployment::TargetRecord;
use crate::values::arn::ListenerArn;

/// What a look at a listener's port showed.
pub(crate) enum Verdict {
    /// Proved, not looked at, or nothing could be seen and the mode lets that pass.
    Passed,
    NotProved(String),
}

impl<P: Ports> Work<'_, '_, P> {
    /// Looks at what the listener serves, when something was changed or the daily look is due.
    pub(crate) async fn prove(
        &mut self,
        listener: &Listener,
        arn: &ListenerArn,
        issued: &Issued,
        touched: bool,
    ) -> Result<Verdict, Halt> {
        let settings = &self.cycle.settings.proof;
        let now = self.cycle.clock.now();
        let Some(held) = self.state.certificate.clone() else {
            return Ok(Verdict::Passed);
        };
        let record = self.state.target_mut(TargetKind::Listener, arn.as_str());
        if settings.mode == CheckMode::Off {
            record.proved = None;
            record.trusted = None;
            return Ok(Verdict::Passed);
        }
        if !touched && !proof_is_due(settings.mode, record, now) {
            return Ok(Verdict::Passed);
        }
        let authority = self.cycle.settings.authority(&held.authority).ok();
        let roots = authority.and_then(|authority| authority.root_certificate.clone());
        let patience = self.grant("the proof", LEAST, Duration::from_secs(settings.seconds))?;
        let until = tokio::time::Instant::now() + patience;
        let mut pause = Duration::from_millis(500);
        let mut blind = 0;
        let proven = loop {
            let proven = if !listener.internet_facing && settings.connect_to.is_none() {
                Proven::CouldNotTell(format!("{} is internal", listener.host))
            } else {
                let question = Question {
                    host: &listener.host,
                    port: listener.port,
                    connect_to: settings.connect_to.as_deref(),
                    names: &held.domains,
                    leaf_der: &issued.leaf().der,
                    key_type: held.key_type,
                    roots: roots.as_deref(),
                    now: self.cycle.clock.now(),
                };
                self.cycle
                    .ports
                    .handshake(
                        &question,
                        until.saturating_duration_since(tokio::time::Instant::now()),
                    )
                    .await
            };
            // The new certificate takes a while to reach all of the load balancer; what cannot be seen mostly stays unseen.
            blind += u32::from(matches!(proven, Proven::CouldNotTell(_)));
            let again = match proven {
                Proven::Yes { .. } => false,
                Proven::Wrong(_) => true,
                Proven::CouldNotTell(_) => {
                    listener.internet_facing
                        && (settings.mode == CheckMode::Require || blind < LOOKS_WHEN_BLIND)
                }
            };
            if !again || tokio::time::Instant::now() + pause >= until {
                break proven;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        };
        let enough = Duration::from_secs(settings.seconds).min(LEAST_FOR_A_VERDICT);
        if patience < enough && !matches!(proven, Proven::Yes { .. }) {
            return Err(self.out_of_time("the proof"));
        }
        let mode = settings.mode;
        let now = crate::values::instant::whole_seconds(self.cycle.clock.now());
        let record = self.state.target_mut(TargetKind::Listener, arn.as_str());
        record.checked_at = Some(now);
        let (proved, trusted, detail, verdict) = match proven {
            Proven::Yes { trusted } => {
                let detail = trusted
                    .as_ref()
                    .err()
                    .map(|why| format!("the served chain is not trusted: {why}"));
                (Some(true), Some(trusted.is_ok()), detail, Verdict::Passed)
            }
            Proven::Wrong(why) => (
                Some(false),
                None,
                Some(why.clone()),
                Verdict::NotProved(why),
            ),
            Proven::CouldNotTell(why) if mode == CheckMode::Require => {
                (None, None, Some(why.clone()), Verdict::NotProved(why))
            }
            Proven::CouldNotTell(why) => (None, None, Some(why), Verdict::Passed),
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
            detail.map_or_else(|| arn.to_string(), |detail| format!("{arn}: {detail}")),
        );
        Ok(verdict)
    }
}

/// Whether a listener is to be looked at: once a day, and again where the last look did not end as it must.
pub(crate) fn proof_is_due(mode: CheckMode, record: &TargetRecord, now: OffsetDateTime) -> bool {
    let proved = match mode {
        CheckMode::Off => return false,
        CheckMode::Warn => record.proved != Some(false),
        CheckMode::Require => record.proved == Some(true),
    };
    !proved || is_old(record.checked_at, now)
}

/// Whether the last look was a day ago, or is dated by a clock that was wrong.
pub(crate) fn is_old(checked_at: Option<OffsetDateTime>, now: OffsetDateTime) -> bool {
    checked_at.is_none_or(|at| now - at >= PROOF_AGE || at - now >= PROOF_AGE)
}

/// A proof is made anew after this time.
const PROOF_AGE: time::Duration = time::Duration::hours(24);
/// A proof that was given less time than this says nothing against the certificate.
const LEAST_FOR_A_VERDICT: Duration = Duration::from_secs(15);
/// How often a listener is looked at that cannot be seen, where the mode lets that pass.
const LOOKS_WHEN_BLIND: u32 = 2;
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const LEAST: Duration = Duration::from_secs(2);
