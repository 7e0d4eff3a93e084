//! One change of a listener, and what the listener shows some time later.

use std::time::Duration;

use tokio::time::Instant;

use crate::life::deploy::by_arn::placing::Placing;
use crate::life::work::Work;
use crate::pass::patience::{Looked, Pauses, poll_until};
use crate::pass::stop::Stop;
use crate::ports::Ports;
use crate::ports::load_balancer::{AttachError, Holding, LoadBalancer};
use crate::rules::listener::{self, Change};
use crate::values::arn::ListenerArn;
use crate::values::problem::{Problem, ServiceError};
use crate::values::problem_types::ProblemType;

/// The result of one change of a listener.
pub(super) enum Applied {
    Done,
    /// The load balancer does not allow this removal at present.
    Refused,
}

impl<P: Ports> Work<'_, '_, P> {
    /// Makes one change of a listener.
    pub(super) async fn apply(&self, arn: &ListenerArn, change: &Change) -> Result<Applied, Stop> {
        let balancer = self.cycle.ports.load_balancer(arn.region());
        let certificate = match change {
            Change::Remove(certificate) => {
                return match balancer.remove(arn, certificate).await {
                    Ok(()) => Ok(Applied::Done),
                    // It is also the default, and can only be removed when somebody sets another
                    // default.
                    Err(error) if error.code.as_deref() == Some("OperationNotPermitted") => {
                        Ok(Applied::Refused)
                    }
                    Err(error) => Err(error
                        .problem(ProblemType::LoadBalancer, arn.as_str())
                        .into()),
                };
            }
            Change::Add(certificate) | Change::SetDefault(certificate) => certificate,
        };
        let attach = async || match change {
            Change::SetDefault(_) => balancer.set_default(arn, certificate).await,
            _ => balancer.add(arn, certificate).await,
        };
        match self.until_known(attach).await? {
            Ok(()) => Ok(Applied::Done),
            Err(AttachError::Full(error)) => {
                self.cycle.note_full(arn);
                Err(Problem::ours(
                ProblemType::ListenerFull,
                format!(
                    "{arn} has no room for {certificate} ({error}); nothing was taken off for it: \
                     raise the listener's certificate quota or take one off"
                ),
                )
                .into())
            }
            Err(AttachError::NotYetKnown(error) | AttachError::Service(error)) => Err(error
                .problem(
                    ProblemType::LoadBalancer,
                    &format!("{certificate} on {arn}"),
                )
                .into()),
        }
    }

    /// Waits until a listener lists what it was given; returns what the listener holds then.
    pub(super) async fn wait_until_listed(
        &self,
        arn: &ListenerArn,
        placing: &Placing,
    ) -> Result<Holding, Stop> {
        let balancer = self.cycle.ports.load_balancer(arn.region());
        let patience = self.time_for("waiting for the listener", LEAST, BECOMES_LISTED)?;
        let until = Instant::now() + patience;
        let listed = poll_until(until, Pauses::of(PAUSE), async || {
            match balancer.certificates(arn).await {
                Ok(held) if listener::establish(&held, &placing.wish(), false).is_empty() => {
                    Looked::Enough(Ok(Some(held)))
                }
                Ok(_) => Looked::Again(Ok(None)),
                Err(error) => Looked::Enough(Err(error)),
            }
        });
        let listed = listed.await;
        let held = listed.map_err(|error: ServiceError| {
            Stop::from(error.problem(ProblemType::LoadBalancer, arn.as_str()))
        })?;
        held.ok_or_else(|| {
            let detail = format!(
                "{arn} does not list {} although it was accepted; nothing was taken off",
                placing.ours
            );
            Problem::ours(ProblemType::NotListed, detail).into()
        })
    }

    /// Repeats a call while the load balancer does not know the certificate. That may last a while
    /// after an import.
    pub(super) async fn until_known<T>(
        &self,
        call: impl AsyncFn() -> Result<T, AttachError>,
    ) -> Result<Result<T, AttachError>, Stop> {
        let patience = self.time_for("attaching", LEAST, BECOMES_KNOWN)?;
        let until = Instant::now() + patience;
        let attempts = poll_until(until, Pauses::of(PAUSE), async || match call().await {
            Err(error @ AttachError::NotYetKnown(_)) => Looked::Again(Err(error)),
            outcome => Looked::Enough(outcome),
        });
        Ok(attempts.await)
    }
}

/// `CertificateNotFound` and `UnsupportedCertificate` are waited out for this long after an import.
const BECOMES_KNOWN: Duration = Duration::from_secs(120);
const BECOMES_LISTED: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(1);
const LEAST: Duration = Duration::from_secs(2);
