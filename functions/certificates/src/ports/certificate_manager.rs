//! The port to AWS Certificate Manager in one region: import, describe, delete.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use crate::values::arn::CertificateArn;
use crate::values::problem::ServiceError;

/// The calls that a pass makes to the certificate manager of one region.
#[allow(async_fn_in_trait)] // one task drives a whole pass, so no future has to be `Send`
pub trait CertificateManager {
    /// Imports as a new certificate and returns its ARN. Waits while the service throttles. Returns
    /// any other failure at once and MUST NOT retry it: after a lost answer, a retry would leave a
    /// second certificate ([`ServiceError::may_have_happened`]).
    async fn import_new(
        &self,
        material: &Material<'_>,
        tags: &BTreeMap<String, String>,
    ) -> Result<CertificateArn, ServiceError>;

    /// Imports over an existing certificate. This is safe to repeat, so transient failures are
    /// retried here.
    async fn import_over(
        &self,
        arn: &CertificateArn,
        material: &Material<'_>,
    ) -> Result<(), ServiceError>;

    /// Describes a certificate. `None` when the service says that it does not exist.
    async fn describe(&self, arn: &CertificateArn) -> Result<Option<Described>, ServiceError>;

    /// Returns a certificate's tags. `None` when the service says that the certificate does not
    /// exist.
    async fn tags(
        &self,
        arn: &CertificateArn,
    ) -> Result<Option<BTreeMap<String, String>>, ServiceError>;

    /// Takes these tags away, then sets the others. Safe to repeat.
    async fn change_tags(
        &self,
        arn: &CertificateArn,
        gone: &[String],
        set: &BTreeMap<String, String>,
    ) -> Result<(), ServiceError>;

    /// Returns the leaf's PEM. `None` when the service says that the certificate does not exist.
    async fn leaf_pem(&self, arn: &CertificateArn) -> Result<Option<String>, ServiceError>;

    /// Lists all imported certificates, of every key type, to the last page.
    async fn list(&self) -> Result<Vec<Listed>, ServiceError>;

    /// Deletes a certificate. It succeeds when the certificate does not exist; one in use is
    /// [`Deletion::InUse`].
    async fn delete(&self, arn: &CertificateArn) -> Result<Deletion, ServiceError>;
}

/// The content of an import, split as `ImportCertificate` requires.
pub struct Material<'a> {
    /// The leaf alone, PEM.
    pub certificate: &'a str,
    /// The certificates after the leaf, in order, PEM; empty for none.
    pub chain: &'a str,
    /// The unencrypted PKCS#8 key, PEM.
    pub private_key: &'a str,
}

/// A certificate as `DescribeCertificate` returns it.
#[derive(Clone, Debug)]
pub struct Described {
    /// Lower-case hex without separators, as [`Leaf::serial`](crate::values::chain::Leaf) has it.
    pub serial: Option<String>,
    /// The load balancers and other resources that hold it. The service updates this with a delay.
    pub in_use_by: Vec<String>,
    /// Names, lower-case.
    pub names: Vec<String>,
    /// The time of the last import.
    pub imported_at: Option<OffsetDateTime>,
    /// End of its validity.
    pub not_after: Option<OffsetDateTime>,
    /// Its issuer.
    pub issuer: Option<String>,
}

/// A certificate as `ListCertificates` returns it. A field that the service left out is `None`:
/// then the certificate must be described.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its ARN.
    pub arn: CertificateArn,
    /// The names, lower-case; `None` when the list may be incomplete.
    pub names: Option<Vec<String>>,
    /// The time of the last import.
    pub imported_at: Option<OffsetDateTime>,
}

/// The result of a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// It is gone.
    Done,
    /// Something still holds it (`ResourceInUseException`).
    InUse,
}
