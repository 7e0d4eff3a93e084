//! The port to a certificate authority (RFC 8555's "CA"): accounts, orders, authorizations.
//!
//! The adapter over instant-acme is [`acme`](crate::adapters::acme); nothing else names that
//! library.

use std::time::Duration;

use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::contract::settings;
use crate::values::names::DnsName;
use crate::values::problem::AcmeError;
use crate::values::revocation_reason::Reason;

/// The calls that a pass makes to certificate authorities.
#[allow(async_fn_in_trait)] // one task drives a whole pass, so no future has to be `Send`
pub trait Authorities {
    /// A signed-in account.
    type Account: Account;

    /// Generates an account key.
    fn new_key(&self) -> Result<AccountKey, AcmeError>;

    /// Registers the key as an account, or finds the account that the key already has (RFC 8555
    /// section 7.3.1). With `binding`, the account is bound to an external account (section 7.3.4).
    async fn register(
        &self,
        authority: &settings::Authority,
        key: &AccountKey,
        contact: &[String],
        binding: Option<&ExternalBinding>,
    ) -> Result<Registered, AcmeError>;

    /// Signs in to an existing account. Asks the authority for its directory at most.
    async fn sign_in(
        &self,
        authority: &settings::Authority,
        key: &AccountKey,
        url: &str,
    ) -> Result<Self::Account, AcmeError>;

    /// Asks when a certificate should be renewed (RFC 9773 section 4.1). `certificate` is its
    /// unique identifier. `None` when the directory offers no renewal information.
    async fn renewal_information(
        &self,
        authority: &settings::Authority,
        certificate: &str,
    ) -> Result<Option<Suggested>, AcmeError>;

    /// Returns the domains by which CAA records name the authority, from its directory (RFC 8555
    /// section 7.1.1). Empty when the directory has none.
    async fn caa_identities(
        &self,
        authority: &settings::Authority,
    ) -> Result<Vec<String>, AcmeError>;
}

/// What an authority suggests for a renewal (RFC 9773 section 4.2). Nothing in it is checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggested {
    /// Start of the window.
    pub start: OffsetDateTime,
    /// End of the window.
    pub end: OffsetDateTime,
    /// A page for people that gives the reason.
    pub explanation_url: Option<String>,
    /// When to ask again; `None` when the answer does not say it in a valid form.
    pub retry_after: Option<Duration>,
}

/// An account's private key: PKCS#8 DER in base64url. It is wiped when dropped and never printed.
#[derive(Clone)]
pub struct AccountKey(pub Zeroizing<String>);

/// An external account that an authority gave us (RFC 8555 section 7.3.4).
pub struct ExternalBinding {
    /// Its key identifier.
    pub key_id: String,
    /// Its HMAC key in base64url.
    pub hmac: Zeroizing<String>,
}

/// A registered account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Its URL.
    pub url: String,
    /// Whether the authority made it now, with these contacts. It had the key already if not.
    pub is_new: bool,
}

/// What it takes to sign in to an account.
#[derive(Clone)]
pub struct Opened {
    /// Its key.
    pub key: AccountKey,
    /// Its URL.
    pub url: String,
}

/// An account of ours at an authority.
#[allow(async_fn_in_trait)]
pub trait Account {
    /// An order of this account.
    type Order: Order;

    /// Returns the profiles in the directory; empty when there are none.
    fn profiles(&self) -> Vec<String>;

    /// Replaces the account's contacts (RFC 8555 section 7.3.2).
    async fn set_contact(&self, contact: &[String]) -> Result<(), AcmeError>;

    /// Makes an order. `replaces` is the unique identifier of the certificate that the new one
    /// replaces (RFC 9773 section 5).
    async fn new_order(
        &self,
        names: &[DnsName],
        profile: Option<&str>,
        replaces: Option<&str>,
    ) -> Result<Self::Order, AcmeError>;

    /// Reads an existing order by its URL.
    async fn order(&self, url: &str) -> Result<Self::Order, AcmeError>;

    /// Revokes a certificate, given its leaf in DER (RFC 8555 section 7.6).
    async fn revoke(&self, certificate: &[u8], reason: Reason) -> Result<(), AcmeError>;
}

/// The status of an order, as the authority last reported it (RFC 8555 section 7.1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderStatus {
    /// Authorizations are missing.
    Pending,
    /// All authorizations are valid; the order waits for a CSR.
    Ready,
    /// The certificate is being issued.
    Processing,
    /// The certificate can be downloaded.
    Valid,
    /// The order has failed for good.
    Invalid,
}

/// An order: a stable identity, and the status that the authority last reported.
#[allow(async_fn_in_trait)]
pub trait Order {
    /// Returns the order's URL.
    fn url(&self) -> &str;

    /// Returns the last reported status, without a request.
    fn status(&self) -> OrderStatus;

    /// Returns the order's own error, where it has one.
    fn error(&self) -> Option<AcmeError>;

    /// Whether this is a new order that does not replace the certificate that was asked for: the
    /// authority made it all the same (RFC 9773 section 5).
    fn ignores_replaces(&self) -> bool {
        false
    }

    /// Reads the order again. Returns how long the authority wants us to wait before the next read.
    async fn refresh(&mut self) -> Result<Option<Duration>, AcmeError>;

    /// Returns the order's authorizations; with `fresh`, reads them again.
    async fn authorizations(&mut self, fresh: bool) -> Result<Vec<Authorization>, AcmeError>;

    /// Answers every pending http-01 challenge of every pending authorization.
    async fn answer(&mut self) -> Result<(), AcmeError>;

    /// Sends the CSR (DER). Returns how long the authority wants us to wait before the next read.
    async fn finalize(&mut self, csr: &[u8]) -> Result<Option<Duration>, AcmeError>;

    /// Downloads the default chain as PEM.
    async fn certificate(&mut self) -> Result<String, AcmeError>;
}

/// An authorization of an order (RFC 8555 section 7.1.4).
pub struct Authorization {
    /// The identifier's value.
    pub identifier: String,
    /// What we must do about it.
    pub status: AuthorizationStatus,
    /// Its http-01 challenge, if it offers one.
    pub http01: Option<Http01>,
}

/// What an authorization's status means for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthorizationStatus {
    /// A challenge is pending: unanswered, or answered and in validation.
    Pending,
    /// There is nothing to do.
    Valid,
    /// It failed, expired or was revoked.
    Final,
}

impl Authorization {
    /// Whether it can never become valid, by its own status or that of its challenge. Some
    /// authorities let the authorization and the order of a failed challenge pend.
    pub fn has_failed(&self) -> bool {
        match self.status {
            AuthorizationStatus::Valid => false,
            AuthorizationStatus::Final => true,
            AuthorizationStatus::Pending => (self.http01.as_ref())
                .is_some_and(|challenge| challenge.status == ChallengeStatus::Invalid),
        }
    }
}

/// The status of a challenge (RFC 8555 section 7.1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChallengeStatus {
    /// It has no answer yet.
    Pending,
    /// The authority validates it.
    Processing,
    /// It has succeeded.
    Valid,
    /// It has failed.
    Invalid,
}

/// An http-01 challenge (RFC 8555 section 8.3).
pub struct Http01 {
    /// The token: the last part of the requested path.
    pub token: String,
    /// The content that the authority expects there. A secret until the challenge is final: no
    /// `Debug`.
    pub key_authorization: String,
    /// How far it is.
    pub status: ChallengeStatus,
    /// Why it failed.
    pub error: Option<AcmeError>,
}
