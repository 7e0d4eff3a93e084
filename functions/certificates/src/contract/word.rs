//! The intent of a document: what to certify, and where the certificate goes.

use serde::{Deserialize, Serialize};

use crate::contract::certificate::Wanted;
use crate::contract::target::Target;
use crate::values::arn::CertificateArn;
use crate::values::key::KeyType;
use crate::values::names::DnsName;

/// The intent of a document: what to certify, and where the certificate goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Word {
    /// The names, sorted.
    pub domains: Vec<DnsName>,
    /// Keys of the authorities, in order of preference.
    pub authorities: Vec<String>,
    /// The profile.
    #[serde(default)]
    pub profile: Option<String>,
    /// The kind of key.
    pub key_type: KeyType,
    /// Where the certificate goes.
    #[serde(default)]
    pub targets: Vec<Target>,
    /// The certificates that it takes over from.
    #[serde(default)]
    pub supersedes: Vec<CertificateArn>,
}

impl From<&Wanted> for Word {
    fn from(wanted: &Wanted) -> Self {
        Self {
            domains: wanted.domains.clone(),
            authorities: wanted.authorities.clone(),
            profile: wanted.profile.clone(),
            key_type: wanted.key_type,
            targets: wanted.targets.clone(),
            supersedes: wanted.supersedes.clone(),
        }
    }
}

impl Word {
    /// Returns the names of the fields in which another intent differs.
    pub fn changed(&self, other: &Self) -> Vec<&'static str> {
        let fields = [
            ("domains", self.domains == other.domains),
            ("authority", self.authorities == other.authorities),
            ("profile", self.profile == other.profile),
            ("keyType", self.key_type == other.key_type),
            ("targets", self.targets == other.targets),
            ("supersedes", self.supersedes == other.supersedes),
        ];
        let changed = fields.into_iter().filter(|(_, same)| !same);
        changed.map(|(field, _)| field).collect()
    }
}
