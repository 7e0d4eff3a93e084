//! The certificates that are not ours: those of the certificate manager in our regions, and those
//! on the listeners that hold one of ours. Also those with our tag that no record knows. Read only
//! when `status` asks for them.

use std::collections::BTreeMap;

use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::pass::context::{Cycle, TAG_CERTIFICATE, TAG_INSTALLATION};
use crate::pass::strays::{KnownArns, Places};
use crate::ports::Ports;
use crate::ports::certificate_manager::CertificateManager;
use crate::values::arn::CertificateArn;
use crate::values::instant::whole_seconds;
use crate::values::problem::{Problem, ServiceError};
use crate::values::problem_types::ProblemType;

/// A certificate that is not ours, or that no record knows any more.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Unmanaged {
    /// Its ARN; that of an IAM server certificate has another shape.
    pub arn: String,
    /// Its names; none where they are unknown.
    pub domains: Vec<String>,
    /// End of its validity.
    #[serde(with = "time::serde::rfc3339::option")]
    pub not_after: Option<OffsetDateTime>,
    /// The listeners of ours that hold it, then what else the certificate manager says.
    pub in_use_by: Vec<String>,
    /// Who issued it.
    pub issuer: Option<String>,
    /// The name in its certificate tag, if it carries our installation's tag and no record knows
    /// it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stray: Option<String>,
}

/// Returns the certificates that are not ours, by ARN, at most [`MOST`] of them.
pub(crate) async fn unmanaged<P: Ports>(cycle: &Cycle<'_, P>) -> Result<Vec<Unmanaged>, Problem> {
    let Places {
        listeners,
        mut regions,
        known,
    } = cycle.places().await?;
    regions.insert(cycle.home.clone());
    let mut found = BTreeMap::<String, Vec<String>>::new();
    for region in &regions {
        let listed = cycle.listing(region, None).await;
        for listed in listed.map_err(|error| could_not(region, &error))?.iter() {
            found.entry(listed.arn.to_string()).or_default();
        }
    }
    for listener in &listeners {
        // A listener that is gone holds nothing; its certificate's own entry reports the loss.
        let Ok(holding) = cycle.holding_seen(listener).await else {
            continue;
        };
        for arn in holding.list.into_iter().chain(holding.default) {
            let users = found.entry(arn).or_default();
            if !users.iter().any(|user| user == listener.as_str()) {
                users.push(listener.to_string());
            }
        }
    }
    let looked: Vec<Result<Option<Unmanaged>, Problem>> = stream::iter(found)
        .map(|(arn, users)| if_not_ours(cycle, arn, users, &known))
        .buffered(AT_ONCE)
        .take(MOST)
        .collect()
        .await;
    let looked: Result<Vec<Option<Unmanaged>>, Problem> = looked.into_iter().collect();
    Ok(looked?.into_iter().flatten().collect())
}

async fn if_not_ours<P: Ports>(
    cycle: &Cycle<'_, P>,
    arn: String,
    in_use_by: Vec<String>,
    known: &KnownArns,
) -> Result<Option<Unmanaged>, Problem> {
    let unknown = Unmanaged {
        arn: arn.clone(),
        in_use_by: in_use_by.clone(),
        ..Unmanaged::default()
    };
    let Ok(parsed) = arn.parse::<CertificateArn>() else {
        return Ok(Some(unknown));
    };
    let manager = cycle.ports.certificate_manager(parsed.region());
    let failed = |error: ServiceError| could_not(&arn, &error);
    let tags = manager.tags(&parsed).await.map_err(failed)?;
    let Some(tags) = tags else {
        return Ok(None);
    };
    let is_ours = tags.get(TAG_INSTALLATION) == Some(&cycle.installation);
    if is_ours && known.may_hold(&arn, &tags) {
        return Ok(None);
    }
    let Some(described) = manager.describe(&parsed).await.map_err(failed)? else {
        return Ok(None);
    };
    let mut users = in_use_by;
    for user in described.in_use_by {
        // The load balancer adds nothing to its listener.
        let is_told = users.iter().any(|known| is_listener_of(known, &user));
        if !is_told {
            users.push(user);
        }
    }
    Ok(Some(Unmanaged {
        // A common name need not be a domain.
        domains: (described.names.into_iter())
            .filter(|name| name.contains('.') && !name.contains(' '))
            .collect(),
        not_after: described.not_after.map(whole_seconds),
        issuer: described.issuer,
        in_use_by: users,
        stray: is_ours.then(|| tags.get(TAG_CERTIFICATE).cloned().unwrap_or_default()),
        ..unknown
    }))
}

fn is_listener_of(listener: &str, balancer: &str) -> bool {
    let of = listener.replacen(":listener/", ":loadbalancer/", 1);
    of.rsplit_once('/').is_some_and(|(of, _)| of == balancer)
}

fn could_not(what: &str, error: &ServiceError) -> Problem {
    let about = format!("{what}: its certificates that are not ours cannot be listed");
    error.problem(ProblemType::CertificateManager, &about)
}

/// A longer list would take too long: the certificate manager answers about ten questions a second.
const MOST: usize = 500;
const AT_ONCE: usize = 4;
