//! Traits for the outside world, one per thing, in our own types. Imports `records` and above.

pub mod authority;
pub mod certificate_manager;
pub mod dns;
pub mod load_balancer;
pub mod probe;
pub mod store;

use std::net::SocketAddr;
use std::time::Duration;

use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::contract::message::Message;
use crate::contract::settings::Channel;
use crate::ports::authority::Authorities;
use crate::ports::certificate_manager::CertificateManager;
use crate::ports::dns::Resolver;
use crate::ports::load_balancer::LoadBalancer;
use crate::ports::probe::{Fetched, Proven, Question};
use crate::ports::store::Store;
use crate::values::key::{KeyType, PrivateKey};
use crate::values::names::DnsName;
use crate::values::problem::ServiceError;

/// Everything outside that a pass uses.
#[allow(async_fn_in_trait)] // one task drives a whole pass, so no future has to be `Send`
pub trait Ports {
    /// Its bucket.
    type Store: Store;
    /// Its certificate authorities.
    type Authorities: Authorities;
    /// Its certificate manager of a region.
    type CertificateManager: CertificateManager;
    /// Its load balancers of a region.
    type LoadBalancer: LoadBalancer;
    /// Its DNS.
    type Resolver: Resolver;

    /// Returns the bucket.
    fn store(&self) -> &Self::Store;
    /// Returns the authorities.
    fn authorities(&self) -> &Self::Authorities;
    /// Returns the certificate manager of a region.
    fn certificate_manager(&self, region: &str) -> Self::CertificateManager;
    /// Returns the load balancers of a region.
    fn load_balancer(&self, region: &str) -> Self::LoadBalancer;
    /// Returns the DNS as these servers answer it; `None` asks the system's servers.
    fn resolver(&self, servers: Option<&[SocketAddr]>) -> Self::Resolver;
    /// Generates a private key. Large RSA keys take seconds; meanwhile the other certificates of
    /// the pass go on.
    async fn new_key(&self, key_type: KeyType) -> Result<PrivateKey, String>;
    /// Reads a secret by its ARN.
    async fn secret(&self, arn: &str) -> Result<Zeroizing<String>, ServiceError>;
    /// Fetches a challenge in the same way as the authority.
    async fn fetch(
        &self,
        name: &DnsName,
        token: &str,
        key_authorization: &str,
        connect_to: Option<&str>,
        limit: Duration,
    ) -> Fetched;
    /// Returns whether an issued chain leads to a trust root of the platform for this name. `None`
    /// when that cannot be decided.
    fn is_public(&self, chain_pem: &str, name: &str, at: OffsetDateTime) -> Option<bool>;
    /// Sends a message. The error says in words why the channel did not accept it; it never names a
    /// secret.
    async fn send(&self, channel: &Channel, message: &Message) -> Result<(), String>;
    /// Checks what a listener serves.
    async fn handshake(&self, question: &Question<'_>, limit: Duration) -> Proven;
}
