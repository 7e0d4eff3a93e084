//! Pure: what is asked of one destination, by what its document and the record say of it; nothing
//! outside is read or changed. A new one answers here, and the compiler names each question that it
//! has not answered yet.
//!
//! What is done at destinations is in `life::deploy::destination`, by family.

use crate::contract::report::TargetKind;
use crate::contract::target::{ListenerAt, Placement, Target};
use crate::records::state::State;
use crate::values::arn::{ListenerArn, LoadBalancerArn};

impl Target {
    /// Returns what kind of place it is.
    pub(crate) fn kind(&self) -> TargetKind {
        match self {
            Self::Listener { .. } => TargetKind::Listener,
            Self::CertificateManager { .. } => TargetKind::CertificateManager,
        }
    }

    /// Returns the id under which the state keeps it.
    pub(crate) fn id(&self, state: &State, home: &str) -> String {
        match self {
            Self::Listener { at, .. } => match (state.deployment.listener(at), at) {
                (Some(arn), _) | (None, ListenerAt::Arn(arn)) => arn.to_string(),
                (None, ListenerAt::Port(new)) => new.key(),
            },
            Self::CertificateManager { .. } => {
                format!("certificateManager:{}", self.region(home))
            }
        }
    }

    /// Returns the region it is in.
    pub(crate) fn region<'t>(&'t self, home: &'t str) -> &'t str {
        match self {
            Self::Listener { at, .. } => at.region(),
            Self::CertificateManager { region } => region.as_deref().unwrap_or(home),
        }
    }

    /// Whether others that certloop does not know follow the ARN, so that it must not change.
    pub(crate) fn is_followed_by_others(&self) -> bool {
        match self {
            Self::Listener { .. } => false,
            Self::CertificateManager { .. } => true,
        }
    }

    /// Returns which listener holds the certificate, where the place is one. Others may hold
    /// certificates there as well: in its list, or as its default.
    pub(crate) fn listener_at(&self) -> Option<&ListenerAt> {
        match self {
            Self::Listener { at, .. } => Some(at),
            Self::CertificateManager { .. } => None,
        }
    }

    /// Whether the certificate is to be the one for visitors who say no name.
    pub(crate) fn wants_default(&self) -> bool {
        match self {
            Self::Listener { placement, .. } => *placement == Placement::Default,
            Self::CertificateManager { .. } => false,
        }
    }

    /// Returns the load balancer that it belongs to, where it belongs to one.
    pub(crate) fn balancer(&self) -> Option<LoadBalancerArn> {
        match self.listener_at()? {
            ListenerAt::Arn(arn) => arn.load_balancer(),
            ListenerAt::Port(new) => Some(new.load_balancer.clone()),
        }
    }

    /// Returns the same place, with no wish to be its default.
    pub(crate) fn beside_others(&self) -> Self {
        match self {
            Self::Listener { at, .. } => Self::Listener {
                at: at.clone(),
                placement: Placement::Sni,
            },
            Self::CertificateManager { .. } => self.clone(),
        }
    }

    /// Returns the place of a record that no document names, by what the state keeps of it.
    pub(crate) fn of_record(kind: TargetKind, id: &str) -> Option<Self> {
        Some(match kind {
            TargetKind::Listener => Self::Listener {
                at: ListenerAt::Arn(id.parse().ok()?),
                placement: Placement::Sni,
            },
            TargetKind::CertificateManager => Self::CertificateManager {
                region: id.split_once(':').map(|(_, region)| region.to_owned()),
            },
        })
    }
}

/// Returns the ARN of a place; `certificate`: of what it holds.
pub(crate) fn arn_of_place(
    kind: TargetKind,
    id: &str,
    certificate: Option<&str>,
) -> Option<String> {
    match kind {
        // A listener that is yet to be made has none.
        TargetKind::Listener => id.parse::<ListenerArn>().is_ok().then(|| id.to_owned()),
        TargetKind::CertificateManager => certificate.map(str::to_owned),
    }
}
