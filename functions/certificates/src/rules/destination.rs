//! Pure: the questions about one destination, answered from its document and its record. Nothing
//! outside is read or changed. A new destination gives its answers here, and the compiler lists
//! each missing answer.
//!
//! `life::deploy::destination` does the work at destinations, by kind.

use crate::contract::report::TargetKind;
use crate::contract::target::{ListenerAt, Placement, Target};
use crate::records::state::State;
use crate::values::arn::{ListenerArn, LoadBalancerArn};

impl Target {
    /// The kind of target.
    pub(crate) fn kind(&self) -> TargetKind {
        match self {
            Self::Listener { .. } => TargetKind::Listener,
            Self::CertificateManager { .. } => TargetKind::CertificateManager,
        }
    }

    /// The id of its record in the state.
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

    /// Its region.
    pub(crate) fn region<'t>(&'t self, home: &'t str) -> &'t str {
        match self {
            Self::Listener { at, .. } => at.region(),
            Self::CertificateManager { region } => region.as_deref().unwrap_or(home),
        }
    }

    /// Whether the ARN must not change, because services that certloop does not know may use it.
    pub(crate) fn is_followed_by_others(&self) -> bool {
        match self {
            Self::Listener { .. } => false,
            Self::CertificateManager { .. } => true,
        }
    }

    /// The listener that holds the certificate; `None` if it is another kind of target. A listener
    /// may hold certificates of others as well: in its list, or as its default.
    pub(crate) fn listener_at(&self) -> Option<&ListenerAt> {
        match self {
            Self::Listener { at, .. } => Some(at),
            Self::CertificateManager { .. } => None,
        }
    }

    /// Whether the certificate should be the default: the one for clients that send no name.
    pub(crate) fn wants_default(&self) -> bool {
        match self {
            Self::Listener { placement, .. } => *placement == Placement::Default,
            Self::CertificateManager { .. } => false,
        }
    }

    /// Its load balancer, if it belongs to one.
    pub(crate) fn balancer(&self) -> Option<LoadBalancerArn> {
        match self.listener_at()? {
            ListenerAt::Arn(arn) => arn.load_balancer(),
            ListenerAt::Port(new) => Some(new.load_balancer.clone()),
        }
    }

    /// Returns the same target, without the wish to be its default.
    pub(crate) fn beside_others(&self) -> Self {
        match self {
            Self::Listener { at, .. } => Self::Listener {
                at: at.clone(),
                placement: Placement::Sni,
            },
            Self::CertificateManager { .. } => self.clone(),
        }
    }

    /// Returns the target of a record that no document names, from its kind and id in the state.
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

/// Returns the ARN of a target. `certificate` is the ARN of the certificate that it holds.
pub(crate) fn arn_of_place(
    kind: TargetKind,
    id: &str,
    certificate: Option<&str>,
) -> Option<String> {
    match kind {
        // A listener that does not exist yet has none.
        TargetKind::Listener => id.parse::<ListenerArn>().is_ok().then(|| id.to_owned()),
        TargetKind::CertificateManager => certificate.map(str::to_owned),
    }
}
