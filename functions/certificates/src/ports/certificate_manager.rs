//! The port to AWS Certificate Manager in one region: import, look at, delete.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use crate::values::arn::CertificateArn;
use crate::values::problem::ServiceError;

/// The calls a pass makes to the certificate manager of one region.
#[allow(async_fn_in_trait)] // one task drives a whole pass, so no future has to be `Send`
pub trait CertificateManager {
    /// Imports as a new certificate and returns its ARN. Throttling is waited out; any other failure is returned at once and
    /// MUST NOT be retried within, since a lost answer would leave a second certificate ([`ServiceError::may_have_happened`]).
    async fn import_new(
        &self,
        material: &Material<'_>,
        tags: &BTreeMap<String, String>,
    ) -> Result<CertificateArn, ServiceError>;

    /// Imports over a certificate that exists; safe to repeat, so transient failures are retried within.
    async fn import_over(
        &self,
        arn: &CertificateArn,
        material: &Material<'_>,
    ) -> Result<(), ServiceError>;

    /// Returns what is known of a certificate, or `None` when the service said that there is none.
    async fn describe(&self, arn: &CertificateArn) -> Result<Option<Described>, ServiceError>;

    /// Returns a certificate's tags, or `None` when the service said that there is no such certificate.
    async fn tags(
        &self,
        arn: &CertificateArn,
    ) -> Result<Option<BTreeMap<String, String>>, ServiceError>;

    /// Returns the leaf's PEM, or `None` when the service said that there is no such certificate.
    async fn leaf_pem(&self, arn: &CertificateArn) -> Result<Option<String>, ServiceError>;

    /// Lists all imported certificates, of every key type, to the last page.
    async fn list(&self) -> Result<Vec<Listed>, ServiceError>;

    /// Deletes a certificate. Deleting what is not there succeeds; one in use is [`Deletion::InUse`].
    async fn delete(&self, arn: &CertificateArn) -> Result<Deletion, ServiceError>;
}

/// What an import carries, split as `ImportCertificate` wants it.
pub struct Material<'a> {
    /// The leaf alone, PEM.
    pub certificate: &'a str,
    /// What follows the leaf, in order, PEM; empty for none.
    pub chain: &'a str,
    /// The unencrypted PKCS#8 key, PEM.
    pub private_key: &'a str,
}

/// A certificate as `DescribeCertificate` tells it.
#[derive(Clone, Debug)]
pub struct Described {
    /// Lower-case hex without separators, as [`Leaf::serial`](crate::values::chain::Leaf) has it.
    pub serial: Option<String>,
    /// The load balancers and other resources that hold it; lags behind.
    pub in_use_by: Vec<String>,
    /// Names, lower-case.
    pub names: Vec<String>,
    /// When it was imported last.
    pub imported_at: Option<OffsetDateTime>,
    /// When it ends.
    pub not_after: Option<OffsetDateTime>,
    /// Who issued it.
    pub issuer: Option<String>,
}

/// A certificate as `ListCertificates` tells it. What the service left out is `None`: then it has to be described.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its ARN.
    pub arn: CertificateArn,
    /// The names, lower-case; `None` when the list may be incomplete.
    pub names: Option<Vec<String>>,
    /// When it was imported last.
    pub imported_at: Option<OffsetDateTime>,
}

/// What came of a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// It is gone.
    Done,
    /// Something still holds it (`ResourceInUseException`).
    InUse,
}
