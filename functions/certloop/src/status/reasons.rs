//! Pure: what is wrong with a certificate, in sentences, and the command that helps.

use certificates::contract::report::{TargetEntry, TargetKind};
use certificates::invocation::status::Standing;
use certificates::rules::remedy;
use time::OffsetDateTime;

use super::health::{Health, is_running_out};
use super::serving::{Serving, helps};
use crate::words::minute;

/// Says what is wrong with a certificate and what it waits for: the same for all with one cause.
pub(crate) fn lines(health: Health, standing: &Standing, now: OffsetDateTime) -> Vec<String> {
    let mut lines = what_is_wrong(standing);
    if is_running_out(standing, now) && standing.problem.is_none() {
        let words = if standing.paused {
            "it is paused, and little of its lifetime is left"
        } else {
            "its renewal is overdue, and no pass has said why: does the schedule run?"
        };
        lines.push(words.to_owned());
    }
    lines.extend(why_not_served_yet(health, standing, Serving::of(standing)));
    lines
}

/// Says what is known to be wrong with a certificate, its names, its targets and those before it.
fn what_is_wrong(standing: &Standing) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(problem) = &standing.problem {
        // The word by which the page for the person on call has it.
        let class = problem.kind.rsplit(':').next().unwrap_or_default();
        lines.push(format!("{class}: {}", problem.detail));
    }
    for missing in &standing.missing {
        let (domain, next) = (&missing.domain, minute(missing.next_attempt));
        let detail = &missing.problem.detail;
        lines.push(format!("without {domain}: {detail} (next attempt {next})"));
    }
    let said = standing.problem.as_ref();
    let said = said.map_or("", |problem| problem.detail.as_str());
    for target in &standing.targets {
        if let Some(detail) = &target.detail
            && !said.contains(detail.as_str())
        {
            lines.push(format!("{}: {detail}", name_of(&target.entry)));
        }
    }
    if !standing.revoking.is_empty() {
        let serials = standing.revoking.join(", ");
        lines.push(format!("not revoked yet: {serials}"));
    }
    lines
}

/// Says why a certificate is not served yet, or not known to be, where no problem says so.
fn why_not_served_yet(health: Health, standing: &Standing, serving: Serving<'_>) -> Option<String> {
    match health {
        Health::Working if standing.problem.is_none() => {
            Some(match (&standing.under_way, serving) {
                (Some(order), _) => format!("being ordered: {}", order.reason),
                (None, Serving::Nothing) => "not issued yet: the next pass orders it".to_owned(),
                (None, _) => "the next pass puts it on its targets".to_owned(),
            })
        }
        Health::Unserved => Some(match serving {
            Serving::Unknown => {
                "no pass has looked at what is served since then: a pass looks once a day"
                    .to_owned()
            }
            _ => "it was paused before there was a certificate".to_owned(),
        }),
        _ => None,
    }
}

/// Returns the command that helps most with a certificate that is not fine, where there is one.
pub(crate) fn command(health: Health, standing: &Standing) -> Option<String> {
    let problem = standing.problem.as_ref();
    let missing = standing.missing.first();
    (problem.and_then(|problem| helps(problem, &standing.name)))
        .or_else(|| missing.and_then(|missing| remedy::command(&missing.problem, &standing.name)))
        .or_else(|| match health {
            Health::NeedsPerson | Health::Unserved if standing.paused => {
                Some(format!("certloop resume {}", standing.name))
            }
            Health::NeedsPerson if problem.is_none() => Some("certloop doctor".to_owned()),
            _ => None,
        })
}

/// Returns a target in few words: `listener app/web`, `certificate manager of eu-west-1`.
pub(crate) fn name_of(target: &TargetEntry) -> String {
    let arn = target.arn.as_deref();
    let arn = arn
        .or(target.certificate_arn.as_deref())
        .unwrap_or_default();
    let region = arn.split(':').nth(3).unwrap_or_default();
    match target.kind {
        TargetKind::CertificateManager if region.is_empty() => "certificate manager".to_owned(),
        TargetKind::CertificateManager => format!("certificate manager of {region}"),
        TargetKind::Listener => {
            let mut parts = arn.split('/').skip(1).take(2);
            match (parts.next(), parts.next()) {
                (Some(kind), Some(balancer)) => format!("listener of {kind}/{balancer} ({region})"),
                _ => "listener that is not made yet".to_owned(),
            }
        }
    }
}
